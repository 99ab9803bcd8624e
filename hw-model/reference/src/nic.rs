//! The NIC: registers, rings and wire, one thing after the other.
//!
//! Each DMA request is made alone and waited for, so nothing is ever outstanding between two calls, and
//! a reset finds nothing to drain. A cycle here is no more than a step of the loop or a cycle of
//! waiting for the host: the reference says what happens, never how long it takes.

use std::collections::VecDeque;

use tandem_contract::features::bit;
use tandem_contract::layout;
use tandem_contract::nic::{
    Bus, Cycle, DmaKind, DmaRequest, DmaResponse, FunctionControl, HostPort, Nic, NicError,
    NicParams, Run, Width,
};
use tandem_contract::trace::{Broken, Drop, Event, Kind, Reset, Verdict};

use crate::config::Config;
use crate::counters::Counters;
use crate::memory::{BusError, Memory};
use crate::msix::Msix;
use crate::receive;
use crate::registers::{Action, Registers};
use crate::ring::{Chain, Direction, Fetched, PackedRing, Place};
use crate::transmit::{self, HEADER_LEN};

/// The host must answer a DMA request within so many cycles.
const RESPONSE_CYCLES_MAX: Cycle = 1_000_000;
/// Events kept when nobody drains the trace; older ones are forgotten.
const TRACE_MAX: usize = 1 << 20;

/// Bytes that the counters have in BAR 0, those that are not used yet included.
const COUNTERS_PAGE: u32 = 0x1000;

const RX: u16 = 0;
const TX: u16 = 1;

/// The reference NIC. One pair of queues.
#[derive(Debug)]
pub struct ReferenceNic {
    params: NicParams,
    now: Cycle,
    control: FunctionControl,
    registers: Registers,
    config: Config,
    msix: Msix,
    counters: Counters,
    latched_high: u32,
    rings: [Option<PackedRing>; 2],
    broken: [bool; 2],
    /// Chains of the receive queue that were fetched and not yet used.
    at_hand: VecDeque<Chain>,
    /// A doorbell came, or a queue was enabled: the transmit ring may have something.
    kicked: bool,
    frame_number: u32,
    frame: Vec<u8>,
    trace: VecDeque<Event>,
}

/// The host's memory, one request at a time.
struct Dma<'a> {
    host: &'a mut dyn HostPort,
    now: &'a mut Cycle,
    allowed: bool,
    errors: &'a mut u64,
    hang: Option<NicError>,
    response: DmaResponse,
}

impl Dma<'_> {
    fn transfer(
        &mut self,
        kind: DmaKind,
        addr: u64,
        data: &[u8],
        len: u32,
    ) -> Result<(), BusError> {
        let error = BusError { addr };
        if !self.allowed || self.hang.is_some() {
            return Err(error);
        }
        self.host.request(*self.now, DmaRequest { kind, id: 0, function: 0, addr, len, data });
        let since = *self.now;
        while !self.host.response(*self.now, &mut self.response) {
            match self.host.next_response_at() {
                Some(at) if at > *self.now => *self.now = at,
                _ => *self.now += 1,
            }
            if *self.now - since > RESPONSE_CYCLES_MAX {
                self.hang = Some(NicError::Hang {
                    what: "a DMA request",
                    cycles: RESPONSE_CYCLES_MAX,
                    at: *self.now,
                });
                return Err(error);
            }
        }
        if self.response.error {
            *self.errors += 1;
            return Err(error);
        }
        Ok(())
    }
}

/// Bytes from `addr` up to the next 4 KiB border, at most `len`.
fn burst(addr: u64, len: usize) -> usize {
    len.min(4096 - (addr % 4096) as usize)
}

impl Memory for Dma<'_> {
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), BusError> {
        let mut done = 0;
        while done < out.len() {
            let at = addr.wrapping_add(done as u64);
            let len = burst(at, out.len() - done);
            self.transfer(DmaKind::Read, at, &[], len as u32)?;
            let data = self.response.data.get(..len).ok_or(BusError { addr: at })?;
            out[done..done + len].copy_from_slice(data);
            done += len;
        }
        Ok(())
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), BusError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr.wrapping_add(done as u64);
            let len = burst(at, bytes.len() - done);
            self.transfer(DmaKind::Write, at, &bytes[done..done + len], len as u32)?;
            done += len;
        }
        Ok(())
    }
}

impl ReferenceNic {
    /// A NIC after the chip's reset.
    ///
    /// # Panics
    /// When `params` has other than one pair of queues, or a queue size outside 1 to 32768.
    pub fn new(params: NicParams) -> Self {
        assert_eq!(params.queue_pairs, 1, "the reference has one pair of queues");
        assert!(
            (1..=32_768).contains(&params.queue_size_max),
            "2.8.10.1: at most 32768 descriptors"
        );
        let params = NicParams { model: "reference", ..params };
        Self {
            now: 0,
            control: FunctionControl::default(),
            registers: Registers::new(params.clone()),
            config: Config::new(2 * params.queue_pairs),
            msix: Msix::new(params.msix_vectors),
            counters: Counters::default(),
            latched_high: 0,
            rings: [None, None],
            broken: [false; 2],
            at_hand: VecDeque::new(),
            kicked: false,
            frame_number: 0,
            frame: Vec::new(),
            trace: VecDeque::new(),
            params,
        }
    }

    /// Counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn event(&mut self, kind: Kind, queue: u16, code: u8, place: Place, len: u32, arg: u32) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        let Place { slot, wrap } = place;
        let queue = queue as u8;
        self.trace.push_back(Event {
            cycle: self.now,
            kind,
            function: 0,
            queue,
            code,
            slot,
            wrap,
            len,
            arg,
        });
    }

    /// Work on host memory; a host that never answers is the caller's error.
    fn dma<T>(
        &mut self,
        host: &mut dyn HostPort,
        work: impl FnOnce(&mut Dma<'_>) -> T,
    ) -> Result<T, NicError> {
        let mut dma = Dma {
            host,
            now: &mut self.now,
            allowed: self.control.bus_master,
            errors: &mut self.counters.dma_errors,
            hang: None,
            response: DmaResponse::default(),
        };
        let done = work(&mut dma);
        dma.hang.map_or(Ok(done), Err)
    }

    fn ready(&self, queue: u16) -> bool {
        self.control.bus_master
            && self.registers.active(queue)
            && !self.broken[usize::from(queue)]
            && self.rings[usize::from(queue)].is_some()
    }

    /// 2.1.2: a device that cannot go on says so, and tells the driver.
    fn break_queue(&mut self, queue: u16, reason: Broken, place: Place) {
        self.broken[usize::from(queue)] = true;
        self.event(Kind::QueueBroken, queue, reason as u8, place, 0, 0);
        if self.registers.needs_reset() {
            self.configuration_interrupt();
        }
    }

    fn configuration_interrupt(&mut self) {
        // 4.1.5.3: with MSI-X the ISR still shows a configuration change.
        self.registers.raise_isr(2);
        if self.control.msix_enable {
            self.msix.raise(self.registers.config_vector());
        }
    }

    fn queue_interrupt(&mut self, queue: u16) {
        if self.control.msix_enable {
            self.msix.raise(self.registers.queue(queue).vector);
        } else {
            self.registers.raise_isr(1);
        }
    }

    /// Gives chains back and tells the driver if it wants to know.
    fn complete(
        &mut self,
        host: &mut dyn HostPort,
        queue: u16,
        chains: &[(&Chain, u32)],
    ) -> Result<(), NicError> {
        let Some(mut ring) = self.rings[usize::from(queue)].take() else { return Ok(()) };
        let event_idx = self.registers.features() >> bit::EVENT_IDX & 1 == 1;
        let done = self.dma(host, |memory| {
            let from = ring.used;
            let places = ring.give_back(memory, chains)?;
            let wanted = ring.wants_event(memory, from, event_idx)?;
            Ok::<_, BusError>((places, wanted))
        });
        let at = ring.used;
        self.rings[usize::from(queue)] = Some(ring);
        match done? {
            Ok((places, wanted)) => {
                for ((chain, written), place) in chains.iter().zip(places) {
                    self.event(Kind::Used, queue, 0, place, *written, chain.id.into());
                }
                if wanted {
                    self.queue_interrupt(queue);
                } else {
                    self.event(Kind::IrqSuppressed, queue, 0, at, 0, 0);
                }
            }
            Err(_) => self.break_queue(queue, Broken::BusError, at),
        }
        Ok(())
    }

    /// The next chain of a queue, if there is one; a broken ring is declared so.
    fn fetch(&mut self, host: &mut dyn HostPort, queue: u16) -> Result<Option<Chain>, NicError> {
        let Some(mut ring) = self.rings[usize::from(queue)].take() else { return Ok(None) };
        let fetched = self.dma(host, |memory| ring.fetch(memory));
        let at = ring.next;
        self.rings[usize::from(queue)] = Some(ring);
        Ok(match fetched? {
            Ok(Fetched::Chain(chain)) => Some(chain),
            Ok(Fetched::Empty) => None,
            Ok(Fetched::Broken(reason, place)) => {
                self.break_queue(queue, reason, place);
                None
            }
            Err(_) => {
                self.break_queue(queue, Broken::BusError, at);
                None
            }
        })
    }

    /// Sends the next frame of the transmit ring; false when there is none.
    fn transmit(&mut self, bus: &mut Bus<'_>) -> Result<bool, NicError> {
        if !self.ready(TX) {
            return Ok(false);
        }
        let Some(chain) = self.fetch(bus.host, TX)? else { return Ok(false) };
        let longest = HEADER_LEN as u64 + u64::from(self.params.frame_len_max);
        if chain.len() < HEADER_LEN as u64 || chain.len() > longest {
            self.break_queue(TX, Broken::BadLength, chain.place);
            return Ok(true);
        }
        let mut bytes = vec![0; chain.len() as usize];
        let read = self.dma(bus.host, |memory| {
            let mut at = 0;
            for piece in &chain.pieces {
                let len = piece.len as usize;
                memory.read(piece.addr, &mut bytes[at..at + len])?;
                at += len;
            }
            Ok::<_, BusError>(())
        })?;
        if read.is_err() {
            self.break_queue(TX, Broken::BusError, chain.place);
            return Ok(true);
        }
        let frame = &mut bytes[HEADER_LEN..];
        let len = frame.len() as u32;
        self.event(Kind::TxFetch, TX, 0, chain.place, len, chain.descriptors().into());
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&bytes[..HEADER_LEN]);
        let frame = &mut bytes[HEADER_LEN..];
        let applied = if frame.is_empty() {
            Err(Drop::BadRequest)
        } else {
            transmit::apply(&header, frame, self.registers.features(), self.params.frame_len_max)
        };
        match applied {
            Ok(inserted) => {
                self.now += 1;
                bus.wire.departed(self.now, frame);
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += u64::from(len);
                self.counters.tx_csum += u64::from(inserted);
                self.event(Kind::TxFrame, TX, inserted.into(), chain.place, len, 0);
            }
            Err(reason) => {
                self.counters.tx_dropped += 1;
                self.event(Kind::TxDrop, TX, reason as u8, chain.place, len, 0);
            }
        }
        self.complete(bus.host, TX, &[(&chain, 0)])?;
        Ok(true)
    }

    /// Takes in a frame from the wire.
    fn receive(&mut self, host: &mut dyn HostPort, error: bool) -> Result<(), NicError> {
        let number = self.frame_number;
        self.frame_number = number.wrapping_add(1);
        let frame = std::mem::take(&mut self.frame);
        let len = frame.len().min(0xFFFF) as u32;
        let taken = match receive::admit(&frame, self.params.mac, self.params.frame_len_max, error)
        {
            Ok(_) if !self.ready(RX) => Err(Drop::NotReady),
            Ok(verdict) => {
                self.event(Kind::RxAccept, RX, verdict as u8, Place::START, len, number);
                match verdict {
                    Verdict::Valid => self.counters.rx_csum_valid += 1,
                    Verdict::Bad => self.counters.rx_csum_bad += 1,
                    Verdict::NotJudged => {}
                }
                self.place(host, &frame, verdict, number)?
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = taken {
            self.counters.drop_rx(reason);
            self.event(Kind::RxDrop, RX, reason as u8, Place::START, len, number);
        }
        self.frame = frame;
        Ok(())
    }

    /// Writes an accepted frame to buffers.
    fn place(
        &mut self,
        host: &mut dyn HostPort,
        frame: &[u8],
        verdict: Verdict,
        number: u32,
    ) -> Result<Result<(), Drop>, NicError> {
        let features = self.registers.features();
        let mergeable = features >> bit::MRG_RXBUF & 1 == 1;
        let wanted = (HEADER_LEN + frame.len()) as u64;
        // 5.1.6.4: with MRG_RXBUF as many chains as it takes, else exactly one.
        let (mut chains, mut room) = (0, 0);
        while room < wanted && (mergeable || chains == 0) {
            if chains == self.at_hand.len() {
                match self.fetch(host, RX)? {
                    Some(chain) => self.at_hand.push_back(chain),
                    None => return Ok(Err(Drop::NoBuffer)),
                }
            }
            room += self.at_hand[chains].len();
            chains += 1;
        }
        if room < wanted {
            return Ok(Err(Drop::BufferTooShort));
        }
        let used: Vec<Chain> = self.at_hand.drain(..chains).collect();
        let header =
            transmit::receive_header(verdict == Verdict::Valid, features, used.len() as u16);
        let bytes = [&header[..], frame].concat();
        let mut left = &bytes[..];
        let mut written: Vec<u32> = Vec::with_capacity(used.len());
        let result = self.dma(host, |memory| {
            for chain in &used {
                let before = left.len();
                for piece in &chain.pieces {
                    let (part, rest) = left.split_at(left.len().min(piece.len as usize));
                    memory.write(piece.addr, part)?;
                    left = rest;
                }
                written.push((before - left.len()) as u32);
            }
            Ok::<_, BusError>(())
        })?;
        let first = used[0].place;
        if result.is_err() {
            self.break_queue(RX, Broken::BusError, first);
            return Ok(Ok(()));
        }
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.len() as u64;
        self.event(Kind::RxPlace, RX, used.len() as u8, first, bytes.len() as u32, number);
        let given: Vec<(&Chain, u32)> = used.iter().zip(written).collect();
        self.complete(host, RX, &given)?;
        Ok(Ok(()))
    }

    /// Sends what interrupts may be sent.
    fn interrupt(&mut self, host: &mut dyn HostPort) -> Result<bool, NicError> {
        if !(self.control.msix_enable && self.control.bus_master) {
            return Ok(false);
        }
        let Some(message) = self.msix.next(self.control.msix_function_mask) else {
            return Ok(false);
        };
        let sent =
            self.dma(host, |memory| memory.write(message.addr, &message.data.to_le_bytes()))?;
        if sent.is_ok() {
            self.counters.irqs += 1;
            let cause = u8::from(message.vector == self.registers.config_vector());
            self.event(Kind::Irq, 0, cause, Place::START, 0, message.vector.into());
        }
        Ok(true)
    }

    fn forget_queue(&mut self, queue: u16) {
        self.rings[usize::from(queue)] = None;
        self.broken[usize::from(queue)] = false;
        if queue == RX {
            self.at_hand.clear();
        } else {
            self.kicked = false;
        }
    }

    fn reset(&mut self, kind: Reset, queue: u16) {
        self.event(Kind::ResetStart, queue, kind as u8, Place::START, 0, 0);
        match kind {
            Reset::Queue => {
                self.forget_queue(queue);
                self.registers.reset_queue(queue);
            }
            Reset::Device | Reset::Flr => {
                for queue in 0..2 {
                    self.forget_queue(queue);
                }
                self.registers.reset();
                self.msix.clear_pending();
            }
        }
        if kind == Reset::Flr {
            self.msix = Msix::new(self.params.msix_vectors);
            self.config = Config::new(2 * self.params.queue_pairs);
            self.control = FunctionControl::default();
        }
        self.event(Kind::ResetDone, queue, kind as u8, Place::START, 0, 0);
    }

    fn read_dword(&mut self, addr: u32) -> u32 {
        let msix_len = 16 * u32::from(self.params.msix_vectors);
        match addr {
            _ if (layout::MSIX_TABLE_BASE..layout::MSIX_TABLE_BASE + msix_len).contains(&addr) => {
                self.msix.table_read(addr - layout::MSIX_TABLE_BASE)
            }
            _ if (layout::MSIX_PBA_BASE..layout::MSIX_PBA_BASE + msix_len).contains(&addr) => {
                self.msix.pending_read(addr - layout::MSIX_PBA_BASE)
            }
            _ if (layout::COUNTERS_BASE..layout::COUNTERS_BASE + COUNTERS_PAGE).contains(&addr) => {
                self.read_counter(addr - layout::COUNTERS_BASE)
            }
            _ => self.registers.read(addr),
        }
    }

    /// Reading the low half latches the high half.
    fn read_counter(&mut self, offset: u32) -> u32 {
        let row = layout::COUNTERS.iter().find(|row| row.0 == offset & !7);
        if offset & 4 != 0 {
            return row.map_or(0, |_| self.latched_high);
        }
        let Some((_, name, _)) = row else {
            // A counter that is not there is zero in both halves.
            self.latched_high = 0;
            return 0;
        };
        let value = match *name {
            "id" => {
                u64::from(u32::from_le_bytes(*b"TNDM")) | u64::from(layout::COUNTERS_VERSION) << 32
            }
            "cycles" => self.now,
            name => self.counters.by_name(name).unwrap_or(0),
        };
        self.latched_high = (value >> 32) as u32;
        value as u32
    }

    fn write_dword(&mut self, addr: u32, value: u32, enable: u8) {
        if addr >= layout::MSIX_TABLE_BASE {
            let offset = addr - layout::MSIX_TABLE_BASE;
            let mask =
                (0..4).filter(|b| enable >> b & 1 == 1).fold(0, |m, b| m | 0xFF_u32 << (8 * b));
            let next = self.msix.table_read(offset) & !mask | value & mask;
            self.msix.table_write(offset, next);
            return;
        }
        match self.registers.write(addr, value, enable) {
            Action::None => {}
            Action::Reset => self.reset(Reset::Device, 0),
            Action::ResetQueue(queue) => self.reset(Reset::Queue, queue),
            Action::Enable(index) => {
                let queue = *self.registers.queue(index);
                let direction =
                    if index % 2 == 0 { Direction::Writable } else { Direction::Readable };
                self.rings[usize::from(index)] =
                    Some(PackedRing::new(queue.desc, queue.driver, queue.size, direction));
            }
            Action::Notify(TX) => self.kicked = true,
            Action::Notify(_) => {}
        }
    }

    fn access_read(&mut self, offset: u32, len: u32) -> u32 {
        let word = self.read_dword(offset & !3) >> (8 * (offset & 3));
        if len == 4 { word } else { word & ((1 << (8 * len)) - 1) }
    }

    fn access_write(&mut self, offset: u32, len: u32, value: u32) {
        let lane = offset & 3;
        let enable = ((1_u8 << len) - 1) << lane;
        self.write_dword(offset & !3, value << (8 * lane), enable);
    }
}

impl Nic for ReferenceNic {
    fn params(&self) -> &NicParams {
        &self.params
    }

    fn now(&self) -> Cycle {
        self.now
    }

    fn bar_read(&mut self, _bus: &mut Bus<'_>, offset: u32, width: Width) -> Result<u32, NicError> {
        self.now += 1;
        Ok(self.access_read(offset, width.bytes()))
    }

    fn bar_write(
        &mut self,
        _bus: &mut Bus<'_>,
        offset: u32,
        width: Width,
        value: u32,
    ) -> Result<(), NicError> {
        self.now += 1;
        self.access_write(offset, width.bytes(), value);
        Ok(())
    }

    fn config_read(&mut self, _bus: &mut Bus<'_>, offset: u16) -> Result<u32, NicError> {
        self.now += 1;
        if Config::is_data(offset) {
            let value = self.config.window().map_or(0, |w| self.access_read(w.offset, w.len));
            self.config.set_data(value);
        }
        Ok(self.config.read(offset))
    }

    fn config_write(
        &mut self,
        _bus: &mut Bus<'_>,
        offset: u16,
        value: u32,
        enable: u8,
    ) -> Result<(), NicError> {
        self.now += 1;
        if !Config::is_data(offset) {
            self.config.write(offset, value, enable);
            return Ok(());
        }
        // A write that enables no byte is none (PCI 3.0, 3.2.2.3).
        if enable == 0 {
            return Ok(());
        }
        let mask = (0..4).filter(|b| enable >> b & 1 == 1).fold(0, |m, b| m | 0xFF_u32 << (8 * b));
        self.config.set_data(self.config.data() & !mask | value & mask);
        if let Some(window) = self.config.window() {
            let keep = if window.len == 4 { u32::MAX } else { (1 << (8 * window.len)) - 1 };
            self.access_write(window.offset, window.len, self.config.data() & keep);
        }
        Ok(())
    }

    fn set_control(&mut self, control: FunctionControl) {
        // A ring that could not be read for want of bus mastering is looked at again.
        self.kicked |= control.bus_master && !self.control.bus_master;
        self.control = control;
    }

    fn function_reset(&mut self, _bus: &mut Bus<'_>) -> Result<(), NicError> {
        self.now += 1;
        self.reset(Reset::Flr, 0);
        Ok(())
    }

    fn run(&mut self, bus: &mut Bus<'_>, cycles: Cycle) -> Result<Run, NicError> {
        let start = self.now;
        loop {
            let mut worked = self.interrupt(bus.host)?;
            let mut frame = std::mem::take(&mut self.frame);
            let arrival = bus.wire.arriving(self.now, &mut frame);
            self.frame = frame;
            if let Some(arrival) = arrival {
                self.receive(bus.host, arrival.error)?;
                worked = true;
            }
            if self.kicked && bus.wire.ready(self.now) {
                let sent = self.transmit(bus)?;
                self.kicked = sent;
                worked |= sent;
            }
            worked |= self.interrupt(bus.host)?;
            let ran = self.now - start;
            if !worked && !self.kicked {
                return Ok(Run { cycles: ran, idle: true });
            }
            if ran >= cycles {
                return Ok(Run { cycles: ran, idle: false });
            }
            self.now += 1;
        }
    }

    fn skip_to(&mut self, cycle: Cycle) {
        self.now = self.now.max(cycle);
    }

    fn set_link(&mut self, up: bool) {
        if self.registers.set_link(up) {
            self.configuration_interrupt();
        }
    }

    fn drain_trace(&mut self, out: &mut Vec<Event>) {
        out.extend(self.trace.drain(..));
    }
}
