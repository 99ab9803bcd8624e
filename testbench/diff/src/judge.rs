//! Follows the NIC's decision trace, asks of each decision whether it is legal where it stands, computes
//! with the reference's parts the bytes that must follow from it, and compares.
//!
//! The trace, the finished DMA requests and the frames that left are merged by cycle. Two memories are kept
//! beside the NIC's own: `memory` holds what must be there by what was decided and told so far; `effects`
//! holds what the NIC's writes have made of it, which runs ahead. So order can be judged too: a frame must
//! have taken effect when it is announced, a used element when it is traced.

mod notify;
mod queue;
mod receive;
mod transmit;

use std::collections::{BTreeMap, VecDeque};

use tandem_contract::features::bit;
use tandem_contract::nic::{Cycle, DmaKind, NicParams};
use tandem_contract::trace::{Broken, Event, Kind, Reset};
use tandem_cosim::{MSI_BASE, MSI_END};
use tandem_reference::memory::Memory;
use tandem_reference::ring::{Chain, Direction, Fetched, PackedRing, Place};
use thiserror::Error;

use crate::memory::{Dma, Host, Shadow};
use crate::wire::Wire;
use notify::Notifier;
use queue::Queue;
use receive::Receive;
use transmit::Transmit;

/// The receive queue.
pub const RX: u16 = 0;
/// The transmit queue.
pub const TX: u16 = 1;

/// Cycles by which an event of the trace may stand behind what it tells of.
pub(crate) const TRACE_LAG: Cycle = 4;

/// What the NIC did that it may not do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cycle {cycle}: {what}")]
pub struct Illegal {
    /// When.
    pub cycle: Cycle,
    /// What.
    pub what: String,
}

/// An MSI-X vector as the driver set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vector {
    /// Message address.
    pub addr: u64,
    /// Message data.
    pub data: u32,
    /// Causes that no message has answered.
    credit: u32,
    /// When the last cause came.
    caused_at: Option<Cycle>,
    /// When the last message was asked to be written.
    sent_at: Option<Cycle>,
    /// Messages that took effect and were not traced.
    effective: u32,
}

/// The judge.
pub struct Judge {
    params: NicParams,
    /// What must be in memory.
    pub memory: Shadow,
    /// What the NIC's writes made of it.
    effects: Shadow,
    features: u64,
    msix: bool,
    queues: [Option<Queue>; 2],
    /// MSI-X vector of each cause: queues, then configuration.
    causes: [u16; 3],
    vectors: Vec<Vector>,
    /// ISR bits that a read must show.
    isr: u8,
    /// ISR bits of which that is not known.
    isr_unsure: u8,
    rx: Receive,
    tx: Transmit,
    /// Resets that were asked for and have not begun, with their queue.
    asked: Vec<(Reset, u16)>,
    /// The one that is under way.
    under_way: Option<(Reset, u16)>,
    /// Decisions judged, by kind and code.
    pub decisions: BTreeMap<(u8, u8), u64>,
    /// Resets that were seen through.
    pub resets: u64,
    /// Queues that were declared broken.
    pub breaks: u64,
    recent: VecDeque<Event>,
}

/// Events kept for messages.
const RECENT_MAX: usize = 32;

impl Judge {
    /// A judge of a NIC with these facts, over a copy of its memory.
    pub fn new(params: NicParams, memory: Shadow) -> Self {
        Self {
            rx: Receive::default(),
            tx: Transmit::default(),
            features: 0,
            msix: true,
            queues: [None, None],
            causes: [u16::MAX; 3],
            vectors: vec![Vector::default(); params.msix_vectors.into()],
            isr: 0,
            isr_unsure: 0,
            asked: Vec::new(),
            under_way: None,
            decisions: BTreeMap::new(),
            resets: 0,
            breaks: 0,
            recent: VecDeque::new(),
            effects: memory.clone(),
            memory,
            params,
        }
    }

    /// The driver writes memory. All that the NIC did before must have been followed.
    pub fn poke(&mut self, addr: u64, bytes: &[u8]) {
        self.memory.poke(addr, bytes);
        self.effects.poke(addr, bytes);
    }

    /// The driver set the function up: features, MSI-X, vectors of the queues and of the configuration.
    pub fn negotiated(&mut self, features: u64, msix: bool, causes: [u16; 3]) {
        self.features = features;
        self.msix = msix;
        self.causes = causes;
    }

    /// The driver wrote an entry of the MSI-X table; nothing of it is under way.
    pub fn set_vector(&mut self, vector: u16, addr: u64, data: u32) {
        let entry = &mut self.vectors[usize::from(vector)];
        entry.addr = addr;
        entry.data = data;
    }

    /// A queue is about to be enabled.
    pub fn enable(&mut self, queue: u16, desc: u64, driver: u64, device: u64, size: u16) {
        let direction = if queue == RX { Direction::Writable } else { Direction::Readable };
        self.queues[usize::from(queue)] = Some(Queue {
            ring: PackedRing::new(desc, driver, size, direction),
            area: device,
            due: VecDeque::new(),
            broken: None,
            cut: false,
            errors: 0,
            notifier: Notifier::new(size),
        });
    }

    /// Frames may be accepted from now on; DRIVER_OK is about to be written.
    pub fn may_receive(&mut self) {
        self.rx.may_accept = true;
    }

    /// Frames that begin at `cycle` or later must be accepted, until something changes.
    pub fn must_receive(&mut self, cycle: Cycle) {
        let broken = self.queues[usize::from(RX)].as_ref().is_none_or(|q| q.broken.is_some());
        self.rx.on_since = (!broken).then_some(cycle);
    }

    /// The driver is about to ask for a reset.
    pub fn asks_reset(&mut self, kind: Reset, queue: u16) {
        self.asked.push((kind, queue));
        if kind != Reset::Queue || queue == RX {
            self.rx.on_since = None;
        }
    }

    /// Whether a reset was asked for and is not done.
    pub fn resetting(&self) -> bool {
        !self.asked.is_empty() || self.under_way.is_some()
    }

    /// The driver made `chains` more chains of the receive ring available, and the NIC must know of them
    /// from `cycle` on.
    pub fn posted_rx(&mut self, chains: u64, cycle: Cycle) {
        self.rx.posted(chains, cycle);
    }

    /// All chains that were made available on `queue` so far must be known to the NIC from `cycle` on.
    pub fn known_rx(&mut self, queue: u16, cycle: Cycle) {
        if queue == RX {
            self.rx.known_from(cycle);
        }
    }

    /// Why the queue is broken, if it is.
    pub fn broken(&self, queue: u16) -> Option<Broken> {
        self.queues[usize::from(queue)].as_ref().and_then(|queue| queue.broken)
    }

    /// The last events, for messages.
    pub fn recent(&self) -> String {
        self.recent.iter().map(|event| format!("  {event:?}\n")).collect()
    }

    /// Follows what the NIC did up to now.
    ///
    /// # Errors
    /// [`Illegal`]: the first thing that it may not do.
    pub fn follow(
        &mut self,
        events: &mut Vec<Event>,
        host: &mut Host,
        wire: &mut Wire,
        now: Cycle,
    ) -> Result<(), Illegal> {
        if let Some(what) = host.malformed.take() {
            return Err(Illegal { cycle: now, what: format!("malformed request: {what}") });
        }
        let mut departed = std::mem::take(&mut wire.departed).into_iter().peekable();
        let mut dmas = std::mem::take(&mut host.log).into_iter().peekable();
        for event in events.drain(..) {
            while let Some(dma) = dmas.next_if(|dma| dma.cycle <= event.cycle) {
                self.dma(&dma).map_err(|what| Illegal {
                    cycle: dma.cycle,
                    what: format!("{what}: {:?} of {} bytes at {:#x}", dma.kind, dma.len, dma.addr),
                })?;
            }
            while let Some((_, frame)) = departed.next_if(|frame| frame.0 <= event.cycle) {
                self.tx.departed.push_back(frame);
            }
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(event);
            *self.decisions.entry((event.kind as u8, event.code)).or_default() += 1;
            self.event(&event, wire).map_err(|what| Illegal {
                cycle: event.cycle,
                what: format!("{what}: {event:?}"),
            })?;
        }
        for dma in dmas {
            self.dma(&dma).map_err(|what| Illegal {
                cycle: dma.cycle,
                what: format!("{what}: {:?} of {} bytes at {:#x}", dma.kind, dma.len, dma.addr),
            })?;
        }
        self.tx.departed.extend(departed.map(|(_, frame)| frame));
        Ok(())
    }

    /// Places in `queue` at which its reader may stand: before, between and behind available chains.
    fn reader_places(&mut self, queue: u16) -> Vec<Place> {
        let Some(q) = &self.queues[usize::from(queue)] else { return Vec::new() };
        let mut ring = q.ring.clone();
        // What is at hand here may not have been fetched there.
        let mut places = if queue == RX { self.rx.places() } else { Vec::new() };
        places.push(ring.next);
        for _ in 0..=ring.size {
            match ring.fetch(&mut self.memory) {
                Ok(Fetched::Chain(_)) => places.push(ring.next),
                _ => break,
            }
        }
        places
    }

    fn dma(&mut self, dma: &Dma) -> Result<(), String> {
        let write = dma.kind == DmaKind::Write;
        if write && (MSI_BASE..MSI_END).contains(&dma.addr) {
            return self.message(dma);
        }
        for index in [RX, TX] {
            let Some(queue) = &mut self.queues[usize::from(index)] else { continue };
            let event_idx = self.features >> bit::EVENT_IDX & 1 == 1;
            if !write || dma.error {
                // What a request was made for is told by where it begins.
                let ring = queue.ring_begins(dma);
                let driver = !write && dma.addr == queue.ring.driver_area;
                let device = write && dma.addr == queue.area;
                if ring || driver || device {
                    queue.errors += u32::from(dma.error);
                    if driver && !dma.error {
                        let area = dma.data.get(..4).ok_or("the event area was read in part")?;
                        let area = [area[0], area[1], area[2], area[3]];
                        let asked_at = dma.requested_at;
                        let (ring, done_at) = (&queue.ring, dma.cycle);
                        if let Some(at) =
                            queue.notifier.read(asked_at, done_at, area, ring, event_idx)?
                        {
                            self.raise(index, at);
                        }
                    }
                    return Ok(());
                }
                continue;
            }
            let ring = queue.in_ring(dma);
            let driver = dma.touches(queue.ring.driver_area, 4);
            let device = dma.touches(queue.area, 4);
            if driver {
                return Err("a write to the driver's event area".to_owned());
            }
            if ring {
                queue.used_effect(dma)?;
                self.effects.poke(dma.addr, &dma.data);
                return Ok(());
            }
            if device {
                if dma.addr != queue.area {
                    return Err("a write beside the event area".to_owned());
                }
                let places = self.reader_places(index);
                if let Some(queue) = &self.queues[usize::from(index)] {
                    queue.event_area(dma, event_idx, &places)?;
                }
                self.effects.poke(dma.addr, &dma.data);
                self.memory.poke(dma.addr, &dma.data);
                return Ok(());
            }
        }
        let payload = if write { RX } else { TX };
        let Some(queue) = &mut self.queues[usize::from(payload)] else {
            return Err("a request for a queue that is not enabled".to_owned());
        };
        if dma.error {
            queue.errors += 1;
            return Ok(());
        }
        if !write {
            let beat = u64::from(self.params.data_w_bits / 8);
            if !self.tx.holds(dma, beat) {
                return Err("a read outside of every buffer".to_owned());
            }
            return Ok(());
        }
        if !self.rx.holds(queue, &mut self.memory, dma) {
            return Err("a write outside of every buffer".to_owned());
        }
        self.effects.poke(dma.addr, &dma.data);
        Ok(())
    }

    /// An MSI-X message took effect, or failed.
    fn message(&mut self, dma: &Dma) -> Result<(), String> {
        let found = self.vectors.iter_mut().find(|vector| vector.addr == dma.addr);
        let vector = found.ok_or("a message to no vector's address")?;
        if dma.data != vector.data.to_le_bytes() {
            return Err(format!("a message with {:02x?}, not {:#x}", dma.data, vector.data));
        }
        vector.effective += 1;
        vector.sent_at = Some(dma.requested_at);
        Ok(())
    }

    /// Something asks for an interrupt: a queue, or 2 for the configuration.
    fn raise(&mut self, cause: u16, at: Cycle) {
        if cause == 2 {
            // 4.1.5.3: a configuration change also shows in ISR.
            self.isr |= 2;
        }
        if !self.msix {
            if cause != 2 {
                self.isr |= 1;
            }
            return;
        }
        let vector = usize::from(self.causes[usize::from(cause)]);
        if let Some(vector) = self.vectors.get_mut(vector) {
            vector.credit += 1;
            vector.caused_at = Some(at);
        }
    }

    fn event(&mut self, event: &Event, wire: &Wire) -> Result<(), String> {
        if event.function != 0 || event.queue > 1 {
            return Err("of another function or queue".to_owned());
        }
        let index = u16::from(event.queue);
        match event.kind {
            Kind::ResetStart => return self.reset_start(event),
            Kind::ResetDone => return self.reset_done(event, wire),
            Kind::Irq => return self.irq(event),
            Kind::RxAccept => {
                let (max, mac) = (self.params.frame_len_max, self.params.mac);
                return self.rx.accepted(event, wire, mac, max);
            }
            Kind::RxDrop => {
                let queue = self.queues[usize::from(RX)].as_mut();
                let beat = (self.params.data_w_bits / 8) as usize;
                let context = receive::Context {
                    mac: self.params.mac,
                    frame_len_max: self.params.frame_len_max,
                    beat_bytes: beat,
                    mergeable: self.features >> bit::MRG_RXBUF & 1 == 1,
                };
                return self.rx.dropped(event, wire, queue, &mut self.memory, &context);
            }
            _ => {}
        }
        let Some(queue) = &mut self.queues[usize::from(index)] else {
            return Err("of a queue that is not enabled".to_owned());
        };
        match event.kind {
            Kind::TxFetch => {
                self.tx.fetched(event, queue, &mut self.memory, self.params.frame_len_max)
            }
            Kind::TxFrame | Kind::TxDrop => {
                let (features, max) = (self.features, self.params.frame_len_max);
                self.tx.completed(event, queue, &mut self.memory, features, max)
            }
            Kind::RxPlace => {
                self.rx.placed(event, queue, &mut self.memory, &self.effects, self.features)
            }
            Kind::Used => queue.used_told(event, &mut self.memory),
            Kind::IrqSuppressed => queue.notifier.suppressed(),
            Kind::QueueBroken => self.queue_broken(event),
            _ => Err("unexpected".to_owned()),
        }
    }

    fn irq(&mut self, event: &Event) -> Result<(), String> {
        let number = event.arg as u16;
        let cause = if event.code == 1 { 2 } else { u16::from(event.queue) };
        if !self.msix || event.code > 1 || self.causes[usize::from(cause)] != number {
            return Err("an interrupt that this cause does not have".to_owned());
        }
        let vector = self.vectors.get_mut(usize::from(number)).ok_or("no such vector")?;
        if vector.effective == 0 {
            return Err("an interrupt is told before its message took effect".to_owned());
        }
        vector.effective -= 1;
        if vector.credit == 0 {
            // A queue that has read the area and not said that it keeps silent has decided to speak.
            // With a common vector, the queue that the event names has asked last.
            let other = 1 - u16::from(event.queue);
            let wanted = [event.queue.into(), other].into_iter().any(|index| {
                let queue = &mut self.queues[usize::from(index)];
                self.causes[usize::from(index)] == number
                    && queue.as_mut().is_some_and(|queue| queue.notifier.speaks())
            });
            if !wanted {
                return Err("an interrupt without a cause".to_owned());
            }
        } else {
            vector.credit -= 1;
        }
        Ok(())
    }

    fn queue_broken(&mut self, event: &Event) -> Result<(), String> {
        let index = u16::from(event.queue);
        let Some(queue) = &mut self.queues[usize::from(index)] else {
            return Err("of a queue that is not enabled".to_owned());
        };
        let Some(reason) = BROKEN.into_iter().find(|reason| *reason as u8 == event.code) else {
            return Err("for no known reason".to_owned());
        };
        if reason == Broken::BusError {
            if queue.errors == 0 {
                return Err("a bus error that did not happen".to_owned());
            }
            queue.cut = true;
        } else {
            let mut ring = queue.ring.clone();
            let max = u64::from(self.params.frame_len_max) + 12;
            // The receive side reads ahead of what it has placed.
            let (truth, at) = loop {
                match ring.fetch(&mut self.memory).map_err(|e| e.to_string())? {
                    Fetched::Broken(reason, place) => break (reason, place),
                    Fetched::Chain(chain) if index == TX && !(12..=max).contains(&chain.len()) => {
                        break (Broken::BadLength, chain.place);
                    }
                    Fetched::Chain(_) if index == RX => {}
                    Fetched::Chain(_) => return Err("and the next chain is sound".to_owned()),
                    Fetched::Empty => return Err("and nothing is available".to_owned()),
                }
            };
            let distance = (0..=ring.size).find(|n| {
                at.advance(*n, ring.size) == Place { slot: event.slot, wrap: event.wrap }
            });
            if truth != reason || distance.is_none() {
                return Err(format!("the ring breaks by {truth:?} at {at:?}"));
            }
        }
        self.breaks += 1;
        if queue.broken.is_none() {
            queue.broken = Some(reason);
            if index == RX {
                self.rx.on_since = None;
                self.rx.broken_at = Some(event.cycle);
            }
            self.raise(2, event.cycle);
        }
        Ok(())
    }

    fn reset_start(&mut self, event: &Event) -> Result<(), String> {
        if self.under_way.is_some() {
            return Err("while another is under way".to_owned());
        }
        let at = self.asked.iter().position(|(kind, queue)| {
            *kind as u8 == event.code && (*kind != Reset::Queue || *queue == u16::from(event.queue))
        });
        let at = at.ok_or("that nobody asked for")?;
        self.under_way = Some(self.asked.remove(at));
        Ok(())
    }

    fn reset_done(&mut self, event: &Event, wire: &Wire) -> Result<(), String> {
        let (kind, queue) = self.under_way.take().ok_or("that did not begin")?;
        if kind as u8 != event.code {
            return Err("of another kind than began".to_owned());
        }
        self.resets += 1;
        match kind {
            Reset::Queue => self.forget(queue, event.cycle, wire)?,
            Reset::Device | Reset::Flr => {
                // A device reset that the function-level reset overtook has nothing left to do.
                self.asked.retain(|(asked, _)| kind == Reset::Device && *asked == Reset::Flr);
                self.forget(RX, event.cycle, wire)?;
                self.forget(TX, event.cycle, wire)?;
                self.features = 0;
                (self.isr, self.isr_unsure) = (0, 0);
                self.causes = [u16::MAX; 3];
                for vector in &mut self.vectors {
                    (vector.credit, vector.effective) = (0, 0);
                    (vector.caused_at, vector.sent_at) = (None, None);
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self, index: u16, cycle: Cycle, wire: &Wire) -> Result<(), String> {
        let Some(mut queue) = self.queues[usize::from(index)].take() else {
            if index == RX {
                self.rx.forget(cycle, wire);
            }
            return Ok(());
        };
        if index == RX {
            self.rx.cut(&mut queue, &mut self.memory, &self.effects, self.features)?;
            self.rx.forget(cycle, wire);
        } else {
            let (features, max) = (self.features, self.params.frame_len_max);
            self.tx.cut(&mut self.memory, features, max)?;
        }
        queue.settle_effects(&mut self.memory);
        // An interrupt that was decided may still come.
        if queue.notifier.may_speak() {
            let vector = usize::from(self.causes[usize::from(index)]);
            if let Some(vector) = self.vectors.get_mut(vector) {
                vector.credit += 1;
            }
            self.isr_unsure |= 1;
        }
        Ok(())
    }

    /// The NIC is idle: nothing may be left undone, and memory must be what the decisions make of it.
    ///
    /// # Errors
    /// [`Illegal`].
    pub fn rest(&mut self, host: &Host, wire: &Wire, cycle: Cycle) -> Result<(), Illegal> {
        self.rest_inner(host, wire).map_err(|what| Illegal { cycle, what: format!("idle: {what}") })
    }

    fn rest_inner(&mut self, host: &Host, wire: &Wire) -> Result<(), String> {
        if self.resetting() {
            return Err(format!("resets {:?} and {:?} undone", self.asked, self.under_way));
        }
        if host.outstanding() != 0 {
            return Err(format!("{} requests in flight", host.outstanding()));
        }
        for index in [RX, TX] {
            let Some(queue) = &mut self.queues[usize::from(index)] else { continue };
            if queue.errors > 0 && queue.broken.is_none() {
                return Err(format!("queue {index}: a bus error went unnoticed"));
            }
            let dead = queue.cut;
            if let Some(at) = queue.notifier.resolve().map_err(|e| format!("queue {index}: {e}"))? {
                self.raise(index, at);
            }
            let Some(queue) = &mut self.queues[usize::from(index)] else { continue };
            if index == TX {
                let (features, max) = (self.features, self.params.frame_len_max);
                self.tx.rest(queue, &mut self.memory, features, max)?;
            } else if dead {
                self.rx.cut(queue, &mut self.memory, &self.effects, self.features)?;
            }
            if dead {
                queue.settle_effects(&mut self.memory);
            } else {
                if !queue.due.is_empty() {
                    return Err(format!("queue {index}: used elements missing: {:?}", queue.due));
                }
                queue.notifier.rest().map_err(|what| format!("queue {index}: {what}"))?;
            }
        }
        self.rx.rest(wire)?;
        if let Some(addr) = host.differs_from(&self.memory) {
            let want = self.memory.peek(addr, 1).map_or(0, |byte| byte[0]);
            let is = host.byte(addr).unwrap_or(0);
            return Err(format!("memory at {addr:#x} is {is:#04x}, must be {want:#04x}"));
        }
        if let Some(addr) = self.effects.differs_from(&self.memory) {
            return Err(format!("the log of writes and memory differ at {addr:#x}"));
        }
        Ok(())
    }

    /// Messages that must have been sent: the vectors are unmasked and the NIC is idle.
    ///
    /// # Errors
    /// [`Illegal`]: one is missing.
    pub fn messages_sent(&mut self, cycle: Cycle) -> Result<(), Illegal> {
        for (number, vector) in self.vectors.iter_mut().enumerate() {
            let owed = vector.caused_at.is_some() && vector.caused_at > vector.sent_at;
            if owed || vector.effective > 0 {
                let what = format!("the message of vector {number} is missing: {vector:?}");
                return Err(Illegal { cycle, what });
            }
            // Causes that came while one was pending were answered with it.
            vector.credit = 0;
        }
        Ok(())
    }
}

impl Judge {
    /// The driver has read ISR, which clears it, while the NIC was idle.
    ///
    /// # Errors
    /// [`Illegal`]: it does not show what happened.
    pub fn isr_read(&mut self, value: u8, cycle: Cycle) -> Result<(), Illegal> {
        if (value ^ self.isr) & !self.isr_unsure != 0 {
            let what = format!("ISR is {value:#x}, must be {:#x}", self.isr);
            return Err(Illegal { cycle, what });
        }
        (self.isr, self.isr_unsure) = (0, 0);
        Ok(())
    }

    /// Chains completed by the transmit side, and frames of the receive side that had an event.
    pub fn frames(&self) -> (u64, u64) {
        (self.tx.completed, self.rx.judged)
    }
}

const BROKEN: [Broken; 7] = [
    Broken::BusError,
    Broken::ChainTooLong,
    Broken::WrongDirection,
    Broken::BadFlags,
    Broken::ZeroLength,
    Broken::ChainNotAvailable,
    Broken::BadLength,
];

/// Reads all bytes of a chain.
fn gather(chain: &Chain, memory: &mut Shadow) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; chain.len() as usize];
    let mut at = 0;
    for piece in &chain.pieces {
        let len = piece.len as usize;
        memory.read(piece.addr, &mut bytes[at..at + len]).map_err(|e| e.to_string())?;
        at += len;
    }
    Ok(bytes)
}
