//! The driver's half: registers, rings and buffers, with the means to break the rules.

use std::collections::VecDeque;

use tandem_contract::features;
use tandem_contract::layout::{self, common};
use tandem_contract::nic::{Bus, Cycle, FunctionControl, Nic, NicError, Width};
use tandem_contract::trace::{Event, Reset};
use tandem_cosim::{MSI_BASE, MemoryConfig, Random};
use tandem_reference::ring::{AVAIL, NEXT, Place, USED, WRITE};
use thiserror::Error;

use crate::judge::{Illegal, Judge, RX, TX};
use crate::memory::{BASE, Host, LEN};
use crate::traffic;
use crate::wire::Wire;

/// Why a scenario failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The judge's verdict.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The model hangs, broke a rule of a bus, or failed an assertion of its own.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// Something that must end does not.
    #[error("cycle {cycle}: {what} does not end")]
    Endless {
        /// What was waited for.
        what: &'static str,
        /// When it was given up.
        cycle: Cycle,
    },
    /// A register says something that it may not.
    #[error("cycle {cycle}: {what}")]
    Register {
        /// What it says.
        what: String,
        /// When.
        cycle: Cycle,
    },
}

/// Cycles, waiting for memory included, in which the NIC must come to rest when nothing new comes.
const REST_CYCLES_MAX: Cycle = 3_000_000;
/// Cycles in which a reset must have drained.
const RESET_CYCLES_MAX: Cycle = 200_000;
/// Cycles after a register write in which it may not have worked everywhere.
const SETTLE: Cycle = 8;

/// Where rings and event areas lie.
const RINGS: u64 = BASE;
const RINGS_LEN: u64 = 0x8000;
const TX_BUFFERS: u64 = BASE + 0x1_0000;
const RX_BUFFERS: u64 = BASE + 0x6_0000;
/// One buffer of unbelievable length for the receive side, with nothing behind it.
const HUGE_BUFFER: u64 = BASE + LEN as u64 - 0x4000;
const END: u64 = BASE + LEN as u64;

/// Buffers in the order in which they are given back.
#[derive(Debug)]
struct Buffers {
    start: u64,
    end: u64,
    head: u64,
    live: VecDeque<(u64, u64)>,
}

impl Buffers {
    fn new(start: u64, end: u64) -> Self {
        Self { start, end, head: start, live: VecDeque::new() }
    }

    fn take(&mut self, len: u64) -> Option<u64> {
        let at = match self.live.front() {
            None => {
                self.head = self.start;
                (len <= self.end - self.start).then_some(self.start)
            }
            Some(&(tail, _)) if self.head > tail => {
                if len <= self.end - self.head {
                    Some(self.head)
                } else {
                    (len < tail - self.start).then_some(self.start)
                }
            }
            Some(&(tail, _)) => (len < tail - self.head).then_some(self.head),
        }?;
        self.head = at + len;
        self.live.push_back((at, len));
        Some(at)
    }

    fn give(&mut self) {
        self.live.pop_front();
    }
}

/// The driver's view of a ring.
#[derive(Debug)]
pub struct DriverRing {
    queue: u16,
    /// Descriptors.
    pub size: u16,
    desc: u64,
    driver: u64,
    device: u64,
    next: Place,
    used: Place,
    /// Descriptors that are free.
    pub free: u16,
    /// Identifier and descriptors of each chain in flight.
    flying: VecDeque<(u16, u16)>,
    buffers: Buffers,
    /// The ring was spoilt: nothing is added any more.
    pub spoilt: bool,
    /// Where the driver's last doorbell stood.
    kicked: Place,
    /// Descriptors added since then.
    since_kick: u16,
}

/// One descriptor to be.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Address.
    pub addr: u64,
    /// Length.
    pub len: u32,
}

/// Which rule a chain breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// A descriptor of length zero.
    ZeroLength,
    /// A descriptor for the other direction.
    Direction,
    /// INDIRECT, which was not negotiated.
    Indirect,
    /// The chain goes on into descriptors that are not available.
    Unavailable,
    /// All descriptors of the ring are one chain that goes on.
    Loop,
    /// Far too long.
    Huge,
    /// Shorter than the header.
    Short,
    /// Memory that is not there.
    NoMemory,
}

/// How the queues are set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Features to negotiate.
    pub features: u64,
    /// Ring sizes.
    pub sizes: [u16; 2],
    /// MSI-X, else ISR.
    pub msix: bool,
    /// Vectors of receive, transmit, configuration.
    pub causes: [u16; 3],
    /// Rings anywhere, else at the start of a page.
    pub odd_rings: bool,
    /// Doorbells only when the device's event area asks for them.
    pub polite: bool,
}

/// The NIC with all that is around it.
pub struct Bench<N> {
    /// The model.
    pub nic: N,
    /// Memory.
    pub host: Host,
    /// Wire.
    pub wire: Wire,
    /// Judge.
    pub judge: Judge,
    events: Vec<Event>,
    /// Rings: receive, transmit.
    pub rings: [DriverRing; 2],
    /// Whether a queue is enabled.
    pub enabled: [bool; 2],
    setup: Setup,
    control: FunctionControl,
    masked: bool,
    random: Random,
}

impl<N: Nic> Bench<N> {
    /// A fresh NIC over memory of random content.
    pub fn new(nic: N, seed: u64, config: MemoryConfig) -> Self {
        let mut random = Random::new(seed);
        let host = Host::new(traffic::noise(&mut random, LEN), config);
        let judge = Judge::new(nic.params().clone(), host.shadow());
        let ring = |queue, buffers| DriverRing {
            queue,
            size: 1,
            desc: RINGS,
            driver: RINGS,
            device: RINGS,
            next: Place::START,
            used: Place::START,
            free: 0,
            flying: VecDeque::new(),
            buffers,
            spoilt: false,
            kicked: Place::START,
            since_kick: 0,
        };
        Self {
            rings: [
                ring(RX, Buffers::new(RX_BUFFERS, HUGE_BUFFER)),
                ring(TX, Buffers::new(TX_BUFFERS, RX_BUFFERS)),
            ],
            enabled: [false; 2],
            setup: Setup {
                features: 0,
                sizes: [1; 2],
                msix: true,
                causes: [u16::MAX; 3],
                odd_rings: false,
                polite: false,
            },
            control: FunctionControl::default(),
            masked: false,
            events: Vec::new(),
            wire: Wire::new(random.next_u64()),
            random,
            judge,
            host,
            nic,
        }
    }

    /// Follows what was done so far.
    ///
    /// # Errors
    /// [`Failure::Illegal`].
    pub fn follow(&mut self) -> Result<(), Failure> {
        self.nic.drain_trace(&mut self.events);
        let now = self.nic.now();
        self.judge.follow(&mut self.events, &mut self.host, &mut self.wire, now)?;
        Ok(())
    }

    /// Reads a register.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn read(&mut self, offset: u32, width: Width) -> Result<u32, Failure> {
        let mut bus = Bus { host: &mut self.host, wire: &mut self.wire };
        let value = self.nic.bar_read(&mut bus, offset, width)?;
        self.follow()?;
        Ok(value)
    }

    /// Writes a register.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn write(&mut self, offset: u32, width: Width, value: u32) -> Result<(), Failure> {
        let mut bus = Bus { host: &mut self.host, wire: &mut self.wire };
        self.nic.bar_write(&mut bus, offset, width, value)?;
        self.follow()
    }

    fn write16(&mut self, offset: u32, value: u16) -> Result<(), Failure> {
        self.write(offset, Width::Half, value.into())
    }

    fn write64(&mut self, offset: u32, value: u64) -> Result<(), Failure> {
        self.write(offset, Width::Word, value as u32)?;
        self.write(offset + 4, Width::Word, (value >> 32) as u32)
    }

    fn status(&mut self) -> Result<u8, Failure> {
        Ok(self.read(common::DEVICE_STATUS, Width::Byte)? as u8)
    }

    fn set_status(&mut self, value: u8) -> Result<(), Failure> {
        self.write(common::DEVICE_STATUS, Width::Byte, value.into())
    }

    /// Writes memory, and tells the judge.
    pub fn poke(&mut self, addr: u64, bytes: &[u8]) {
        self.host.poke(addr, bytes);
        self.judge.poke(addr, bytes);
    }

    /// Runs for at most `cycles`; true when the NIC became idle before.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run(&mut self, cycles: Cycle) -> Result<bool, Failure> {
        let mut bus = Bus { host: &mut self.host, wire: &mut self.wire };
        let run = self.nic.run(&mut bus, cycles)?;
        self.follow()?;
        Ok(run.idle)
    }

    /// Runs until all is done, and lets the judge look at the whole.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn rest(&mut self) -> Result<(), Failure> {
        let start = self.nic.now();
        loop {
            if self.run(10_000)? {
                match self.wire.coming.front() {
                    None => break,
                    Some(next) => {
                        let at = next.cycle;
                        self.nic.skip_to(at);
                    }
                }
            }
            if self.nic.now() - start > REST_CYCLES_MAX {
                return Err(Failure::Endless { what: "the NIC's work", cycle: self.nic.now() });
            }
        }
        let now = self.nic.now();
        self.judge.rest(&self.host, &self.wire, now)?;
        if !self.masked {
            self.judge.messages_sent(now)?;
        }
        let isr = self.read(layout::ISR_BASE, Width::Byte)? as u8;
        self.judge.isr_read(isr, now)?;
        let status = self.status()?;
        let broken = (RX..=TX).any(|queue| self.judge.broken(queue).is_some());
        // A queue's reset mends the queue, and only the device's reset takes the bit back.
        if status & 4 != 0 && broken && status & 64 == 0 {
            let what = format!("status {status:#x} and a queue is broken");
            return Err(Failure::Register { what, cycle: now });
        }
        self.take_used()
    }

    /// Takes back what was used.
    ///
    /// # Errors
    /// [`Failure::Register`]: a used element of no chain.
    pub fn take_used(&mut self) -> Result<(), Failure> {
        for ring in &mut self.rings {
            loop {
                let at = ring.desc + 16 * u64::from(ring.used.slot);
                let Some(bytes) = self.judge.memory.peek(at + 12, 4) else { break };
                let id = u16::from_le_bytes([bytes[0], bytes[1]]);
                let flags = u16::from_le_bytes([bytes[2], bytes[3]]);
                let (avail, used) = (flags & AVAIL != 0, flags & USED != 0);
                if ring.flying.is_empty() || avail != used || used != ring.used.wrap {
                    break;
                }
                let Some((want, count)) = ring.flying.pop_front() else { break };
                if id != want {
                    let what = format!("queue {}: {id} is used, {want} is next", ring.queue);
                    return Err(Failure::Register { what, cycle: self.nic.now() });
                }
                ring.buffers.give();
                ring.free += count;
                ring.used = ring.used.advance(count, ring.size);
            }
        }
        Ok(())
    }

    /// Negotiates, sets up both queues, and may fill the receive ring before DRIVER_OK.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start(&mut self, setup: Setup) -> Result<(), Failure> {
        self.setup = setup;
        let Setup { features, msix, causes, .. } = self.setup;
        let features = features | features::REQUIRED;
        self.set_status(1)?;
        self.set_status(3)?;
        for half in 0..2 {
            self.write(common::DRIVER_FEATURE_SELECT, Width::Word, half)?;
            self.write(common::DRIVER_FEATURE, Width::Word, (features >> (32 * half)) as u32)?;
        }
        self.set_status(11)?;
        if self.status()? != 11 {
            let what = format!("features {features:#x} were refused");
            return Err(Failure::Register { what, cycle: self.nic.now() });
        }
        for vector in 0..self.nic.params().msix_vectors {
            let entry = layout::MSIX_TABLE_BASE + 16 * u32::from(vector);
            let (addr, data) = (MSI_BASE + 16 * u64::from(vector), self.random.next_u64() as u32);
            self.judge.set_vector(vector, addr, data);
            self.write64(entry, addr)?;
            self.write(entry + 8, Width::Word, data)?;
            self.write(entry + 12, Width::Word, 0)?;
        }
        self.masked = false;
        self.control =
            FunctionControl { bus_master: true, msix_enable: msix, msix_function_mask: false };
        self.nic.set_control(self.control);
        self.judge.negotiated(features, msix, causes);
        self.write16(common::CONFIG_MSIX_VECTOR, causes[2])?;
        self.place_rings();
        for queue in [RX, TX] {
            self.enable(queue)?;
        }
        if self.random.chance(1, 2) {
            self.fill(8)?;
        }
        self.judge.may_receive();
        self.set_status(15)?;
        let now = self.nic.now() + SETTLE;
        self.judge.must_receive(now);
        self.run(SETTLE)?;
        self.kick(RX)?;
        self.kick(TX)
    }

    /// Receive chains before the device is ready.
    fn fill(&mut self, chains: u64) -> Result<(), Failure> {
        for _ in 0..self.random.below(chains) {
            let Some(parts) = self.buffers(RX, 2_048, 3) else { break };
            self.add(RX, &parts, None)?;
        }
        Ok(())
    }

    fn place_rings(&mut self) {
        let area = |at: u64, slack: u64, random: &mut Random, odd: bool| {
            at + if odd { 16 * random.below(slack / 16) } else { 0 }
        };
        let odd = self.setup.odd_rings;
        for queue in [RX, TX] {
            let i = usize::from(queue);
            let ring = &mut self.rings[i];
            ring.size = self.setup.sizes[i];
            let base = RINGS + u64::from(queue) * (RINGS_LEN / 2);
            ring.desc = area(base, 0x2000, &mut self.random, odd);
            ring.driver = base + 0x3000 + 4 * if odd { self.random.below(0x180) } else { 0 };
            ring.device = base + 0x3800 + 4 * if odd { self.random.below(0x180) } else { 0 };
        }
    }

    /// Zeroes a ring, tells the device where it is and enables it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn enable(&mut self, queue: u16) -> Result<(), Failure> {
        let i = usize::from(queue);
        let ring = &mut self.rings[i];
        let (desc, driver, device, size) = (ring.desc, ring.driver, ring.device, ring.size);
        ring.next = Place::START;
        ring.used = Place::START;
        ring.kicked = Place::START;
        ring.since_kick = 0;
        ring.free = size;
        ring.spoilt = false;
        ring.flying.clear();
        ring.buffers.live.clear();
        self.poke(desc, &vec![0; 16 * usize::from(size)]);
        self.poke(driver, &[0; 4]);
        self.poke(device, &[0; 4]);
        self.write16(common::QUEUE_SELECT, queue)?;
        self.write16(common::QUEUE_SIZE, size)?;
        self.write16(common::QUEUE_MSIX_VECTOR, self.setup.causes[i])?;
        self.write64(common::QUEUE_DESC, desc)?;
        self.write64(common::QUEUE_DRIVER, driver)?;
        self.write64(common::QUEUE_DEVICE, device)?;
        self.judge.enable(queue, desc, driver, device, size);
        self.enabled[i] = true;
        self.write16(common::QUEUE_ENABLE, 1)
    }

    /// Buffers for a chain of about `bytes` bytes in up to `parts` parts; `None` when there is no room.
    pub fn buffers(&mut self, queue: u16, bytes: u64, parts: u64) -> Option<Vec<Part>> {
        let i = usize::from(queue);
        let free = u64::from(self.rings[i].free);
        if self.rings[i].spoilt || !self.enabled[i] || free == 0 {
            return None;
        }
        let count = 1 + self.random.below(parts.min(free).min(bytes));
        let gap = [0, 1, 64, 4_096][self.random.below(4) as usize];
        let gaps: Vec<u64> = (0..count).map(|_| self.random.below(gap + 1)).collect();
        let mut cuts: Vec<u64> = (1..count).map(|_| 1 + self.random.below(bytes - 1)).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts.push(bytes);
        let total = bytes + gaps.iter().sum::<u64>();
        let mut at = self.rings[i].buffers.take(total)?;
        let mut from = 0;
        let mut list = Vec::with_capacity(cuts.len());
        for (to, gap) in cuts.into_iter().zip(gaps) {
            at += gap;
            list.push(Part { addr: at, len: (to - from) as u32 });
            at += to - from;
            from = to;
        }
        Some(list)
    }

    /// Writes bytes to the parts of a transmit chain.
    pub fn fill_parts(&mut self, parts: &[Part], bytes: &[u8]) {
        let mut at = 0;
        for part in parts {
            let to = (at + part.len as usize).min(bytes.len());
            self.poke(part.addr, &bytes[at..to]);
            at = to;
        }
    }

    /// Makes a chain available, spoilt if so asked. The device is told by [`Self::kick`].
    ///
    /// # Errors
    /// [`Failure`].
    pub fn add(&mut self, queue: u16, parts: &[Part], spoil: Option<Spoil>) -> Result<(), Failure> {
        let i = usize::from(queue);
        let way = if queue == RX { WRITE } else { 0 };
        let victim = self.random.below(parts.len() as u64) as usize;
        let id = self.random.next_u64() as u16;
        let mut parts = parts.to_vec();
        let ring = &mut self.rings[i];
        let mut loops = false;
        let mut flags = vec![way; parts.len()];
        match spoil {
            Some(Spoil::ZeroLength) => parts[victim].len = 0,
            Some(Spoil::Direction) => flags[victim] ^= WRITE,
            Some(Spoil::Indirect) => flags[victim] |= 4,
            Some(Spoil::Loop) if ring.free == ring.size => {
                parts = vec![parts[0]; ring.size.into()];
                flags = vec![way | NEXT; ring.size.into()];
                loops = true;
            }
            Some(Spoil::Unavailable | Spoil::Loop) => {
                // Behind the chain is a descriptor of the driver's, if the ring is not full.
                *flags.last_mut().expect("a part") |= NEXT;
            }
            Some(Spoil::Huge) => {
                parts[victim].len = u32::MAX - self.random.below(3) as u32;
                if queue == RX {
                    parts[victim].addr = HUGE_BUFFER + self.random.below(END - HUGE_BUFFER);
                }
            }
            Some(Spoil::Short) => {
                parts.truncate(1);
                flags.truncate(1);
                parts[0].len = 1 + self.random.below(11) as u32;
            }
            Some(Spoil::NoMemory) => {
                parts[victim].addr = match self.random.below(4) {
                    0 => u64::MAX - self.random.below(20),
                    1 => self.random.below(1 << 20),
                    2 => END - self.random.below(parts[victim].len.into()),
                    _ => self.random.next_u64(),
                }
            }
            None => {}
        }
        let mut place = ring.next;
        let mut writes = Vec::new();
        let count = parts.len();
        for (n, (part, extra)) in parts.iter().zip(flags).enumerate() {
            let turn = if place.wrap { AVAIL } else { USED };
            let next = if n + 1 < count { NEXT } else { 0 };
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&part.addr.to_le_bytes());
            bytes[8..12].copy_from_slice(&part.len.to_le_bytes());
            bytes[12..14].copy_from_slice(&id.to_le_bytes());
            bytes[14..].copy_from_slice(&(extra | turn | next).to_le_bytes());
            writes.push((ring.desc + 16 * u64::from(place.slot), bytes));
            if !loops || n + 1 < count {
                place = place.advance(1, ring.size);
            }
        }
        ring.next = place;
        ring.spoilt |= spoil.is_some();
        ring.free -= (count as u16).min(ring.free);
        ring.since_kick += count as u16;
        ring.flying.push_back((id, count as u16));
        for (addr, bytes) in writes {
            self.poke(addr, &bytes);
        }
        // Not until a doorbell must the device look; a chain that breaks the queue is no buffer.
        if queue == RX && spoil.is_none() {
            self.judge.posted_rx(1, Cycle::MAX);
        }
        Ok(())
    }

    /// Rings the doorbell, if the device wants to hear it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn kick(&mut self, queue: u16) -> Result<(), Failure> {
        let i = usize::from(queue);
        let ring = &mut self.rings[i];
        let (from, since) = (ring.kicked, ring.since_kick);
        ring.kicked = ring.next;
        ring.since_kick = 0;
        if self.setup.polite && since > 0 && !self.asks_for_doorbell(queue, from, since) {
            self.judge.known_rx(queue, self.nic.now());
            return Ok(());
        }
        let data = if self.random.chance(1, 2) { queue } else { self.random.next_u64() as u16 };
        let offset = layout::NOTIFY_BASE + layout::NOTIFY_STRIDE * u32::from(queue);
        match self.random.below(3) {
            // NOTIFICATION_DATA is a hint, and this one is a lie.
            0 => {
                let lie = self.random.next_u64() as u32;
                self.write(offset, Width::Word, lie)?;
            }
            1 => self.write(offset, Width::Half, data.into())?,
            _ => self.write(offset, Width::Word, queue.into())?,
        }
        self.judge.known_rx(queue, self.nic.now() + SETTLE);
        Ok(())
    }

    /// The driver's side of event suppression (2.8.10): whether the `since` descriptors behind `from` are
    /// to be announced.
    fn asks_for_doorbell(&self, queue: u16, from: Place, since: u16) -> bool {
        let ring = &self.rings[usize::from(queue)];
        let Some(&[off0, off1, flags0, _]) = self.judge.memory.peek(ring.device, 4) else {
            return true;
        };
        if flags0 & 3 != 2 {
            return flags0 & 3 != 1;
        }
        let off_wrap = u16::from_le_bytes([off0, off1]);
        let event = Place { slot: off_wrap & 0x7FFF, wrap: off_wrap >> 15 == 1 };
        (0..since).any(|n| from.advance(n, ring.size) == event)
    }

    /// Writes the driver's event area of a queue.
    pub fn set_event_area(&mut self, queue: u16, off_wrap: u16, flags: u16) {
        let at = self.rings[usize::from(queue)].driver;
        let [a, b] = off_wrap.to_le_bytes();
        let [c, d] = flags.to_le_bytes();
        self.poke(at, &[a, b, c, d]);
    }

    /// Masks or unmasks vectors by the function's mask.
    pub fn set_mask(&mut self, masked: bool) {
        self.masked = masked;
        self.control.msix_function_mask = masked;
        self.nic.set_control(self.control);
    }

    /// Takes bus mastering away or gives it back.
    pub fn set_bus_master(&mut self, on: bool) {
        self.control.bus_master = on;
        self.nic.set_control(self.control);
    }

    /// Resets one queue, waits for it, and sets it up again if so asked.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn reset_queue(&mut self, queue: u16, again: bool) -> Result<(), Failure> {
        self.write16(common::QUEUE_SELECT, queue)?;
        self.judge.asks_reset(Reset::Queue, queue);
        self.write16(common::QUEUE_RESET, 1)?;
        let start = self.nic.now();
        while self.read(common::QUEUE_RESET, Width::Half)? != 0 {
            self.run(40)?;
            if self.nic.now() - start > RESET_CYCLES_MAX {
                return Err(Failure::Endless { what: "the queue's reset", cycle: self.nic.now() });
            }
        }
        self.run(SETTLE)?;
        self.enabled[usize::from(queue)] = false;
        if again {
            // While other frames and resets go on.
            self.rings[usize::from(queue)].size = self.setup.sizes[usize::from(queue)];
            if queue == RX {
                self.judge.may_receive();
            }
            self.enable(queue)?;
            if queue == RX {
                let now = self.nic.now() + SETTLE;
                self.judge.must_receive(now);
            }
        }
        Ok(())
    }

    /// Resets the device by its status and waits for it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn reset_device(&mut self) -> Result<(), Failure> {
        self.judge.asks_reset(Reset::Device, 0);
        self.set_status(0)?;
        let start = self.nic.now();
        while self.status()? != 0 {
            self.run(40)?;
            if self.nic.now() - start > RESET_CYCLES_MAX {
                return Err(Failure::Endless { what: "the device's reset", cycle: self.nic.now() });
            }
        }
        self.after_reset()
    }

    /// Function-level reset, perhaps on top of a device reset.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn reset_function(&mut self, on_top: bool) -> Result<(), Failure> {
        if on_top {
            self.judge.asks_reset(Reset::Device, 0);
            self.set_status(0)?;
        }
        self.judge.asks_reset(Reset::Flr, 0);
        let mut bus = Bus { host: &mut self.host, wire: &mut self.wire };
        self.nic.function_reset(&mut bus)?;
        self.follow()?;
        self.after_reset()
    }

    fn after_reset(&mut self) -> Result<(), Failure> {
        self.enabled = [false; 2];
        self.run(SETTLE)?;
        if self.judge.resetting() {
            return Err(Failure::Endless { what: "a reset's event", cycle: self.nic.now() });
        }
        if self.host.outstanding() > 0 {
            return Err(Failure::Endless { what: "the drain", cycle: self.nic.now() });
        }
        Ok(())
    }
}
