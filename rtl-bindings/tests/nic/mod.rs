//! A bench for the whole NIC: host memory, a wire, and the driver's half of the packed ring, each as small
//! as the tests need and written from the standard.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::collections::{HashMap, VecDeque};

use tandem_contract::features::bit;
use tandem_contract::layout::{self, common};
use tandem_contract::nic::{
    Arrival, Bus, Cycle, DmaKind, DmaRequest, DmaResponse, FunctionControl, HostPort, Nic,
    NicError, Width, WirePort,
};
use tandem_contract::trace::{Event, Kind};
use tandem_rtl_bindings::{Rtl, RtlOptions, Stalls};

/// Descriptor flags (virtio 1.3, 2.8.6, 2.8.1).
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;
pub(crate) const AVAIL: u16 = 1 << 7;
pub(crate) const USED: u16 = 1 << 15;

/// Where memory lies: above 4 GiB, so that the upper address half counts.
pub(crate) const BASE: u64 = 0x12_3400_0000;
pub(crate) const MEMORY_LEN: usize = 4 << 20;

pub(crate) const RX: u16 = 0;
pub(crate) const TX: u16 = 1;

/// xorshift64: results repeat.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

#[derive(Debug)]
struct Pending {
    due: Cycle,
    kind: DmaKind,
    id: u16,
    addr: u64,
    data: Vec<u8>,
    error: bool,
}

/// Host memory with latency, reordering between identifiers, and errors.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) latency: Cycle,
    /// Added to the latency, at most, at random.
    pub(crate) jitter: Cycle,
    random: Random,
    pending: Vec<Pending>,
    /// Requests that touch any of these addresses fail.
    pub(crate) bad: Vec<std::ops::Range<u64>>,
    /// MSI-X messages: writes outside memory, address and data.
    pub(crate) messages: Vec<(u64, u32)>,
    /// Addresses outside memory that take writes.
    pub(crate) message_window: std::ops::Range<u64>,
    pub(crate) requests: u64,
    /// Bytes read and written.
    pub(crate) traffic: u64,
}

impl Memory {
    fn new() -> Self {
        Self {
            bytes: vec![0; MEMORY_LEN],
            latency: 20,
            jitter: 0,
            random: Random::new(1),
            pending: Vec::new(),
            bad: Vec::new(),
            messages: Vec::new(),
            message_window: 0xFEE0_0000..0xFEE0_1000,
            requests: 0,
            traffic: 0,
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.pending.len()
    }

    fn range(&self, addr: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(addr.checked_sub(BASE)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    pub(crate) fn read(&self, addr: u64, len: usize) -> &[u8] {
        &self.bytes[self.range(addr, len).expect("inside memory")]
    }

    pub(crate) fn write(&mut self, addr: u64, data: &[u8]) {
        let range = self.range(addr, data.len()).expect("inside memory");
        self.bytes[range].copy_from_slice(data);
    }

    pub(crate) fn u16(&self, addr: u64) -> u16 {
        u16::from_le_bytes(self.read(addr, 2).try_into().unwrap())
    }

    pub(crate) fn u32(&self, addr: u64) -> u32 {
        u32::from_le_bytes(self.read(addr, 4).try_into().unwrap())
    }
}

impl HostPort for Memory {
    fn request(&mut self, cycle: Cycle, request: DmaRequest<'_>) {
        assert!(request.len >= 1);
        assert!(
            (request.addr & 0xFFF) + u64::from(request.len) <= 4096,
            "burst crosses 4 KiB: {request:?}"
        );
        self.requests += 1;
        self.traffic += u64::from(request.len);
        let extra = if self.jitter == 0 { 0 } else { self.random.below(self.jitter + 1) };
        let addresses = request.addr..request.addr.saturating_add(u64::from(request.len));
        let message = self.message_window.contains(&request.addr);
        let error = self.bad.iter().any(|b| b.start < addresses.end && addresses.start < b.end)
            || (!message && self.range(request.addr, request.len as usize).is_none());
        let data = match request.kind {
            DmaKind::Read => vec![0; request.len as usize],
            DmaKind::Write => request.data.to_vec(),
        };
        self.pending.push(Pending {
            due: cycle + self.latency + extra,
            kind: request.kind,
            id: request.id,
            addr: request.addr,
            data,
            error,
        });
    }

    fn response(&mut self, cycle: Cycle, response: &mut DmaResponse) -> bool {
        // Of each identifier and direction only the oldest may answer.
        let mut seen: Vec<(bool, u16)> = Vec::new();
        let mut found = None;
        for (i, p) in self.pending.iter().enumerate() {
            let key = (p.kind == DmaKind::Write, p.id);
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            if p.due <= cycle {
                found = Some(i);
                break;
            }
        }
        let Some(i) = found else { return false };
        let mut p = self.pending.remove(i);
        response.write = p.kind == DmaKind::Write;
        response.id = p.id;
        response.error = p.error;
        response.data.clear();
        if p.error {
            return true;
        }
        match p.kind {
            DmaKind::Read => {
                let range = self.range(p.addr, p.data.len()).expect("checked");
                response.data.extend_from_slice(&self.bytes[range]);
            }
            DmaKind::Write if self.message_window.contains(&p.addr) => {
                self.messages.push((p.addr, u32::from_le_bytes(p.data[..4].try_into().unwrap())));
            }
            DmaKind::Write => {
                let range = self.range(p.addr, p.data.len()).expect("checked");
                self.bytes[range].swap_with_slice(&mut p.data);
            }
        }
        true
    }

    fn next_response_at(&self) -> Option<Cycle> {
        let mut first: HashMap<(bool, u16), Cycle> = HashMap::new();
        for p in &self.pending {
            first.entry((p.kind == DmaKind::Write, p.id)).or_insert(p.due);
        }
        first.into_values().min()
    }
}

/// The wire: frames to come, frames that left.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) arriving: VecDeque<(Cycle, Vec<u8>, bool)>,
    pub(crate) departed: Vec<(Cycle, Vec<u8>)>,
    /// Not ready while set.
    pub(crate) blocked: bool,
}

impl WirePort for Wire {
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        if self.arriving.front()?.0 > cycle {
            return None;
        }
        let (_, bytes, error) = self.arriving.pop_front()?;
        frame.clear();
        frame.extend_from_slice(&bytes);
        Some(Arrival { error })
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        self.arriving.front().map(|a| a.0)
    }

    fn ready(&mut self, _: Cycle) -> bool {
        !self.blocked
    }

    fn departed(&mut self, cycle: Cycle, frame: &[u8]) {
        self.departed.push((cycle, frame.to_vec()));
    }
}

/// One used element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) id: u16,
    pub(crate) len: u32,
    pub(crate) flags: u16,
}

/// The driver's half of a packed ring.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    pub(crate) queue: u16,
    pub(crate) size: u16,
    pub(crate) desc: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
    pub(crate) next: u16,
    pub(crate) wrap: bool,
    pub(crate) used_next: u16,
    pub(crate) used_wrap: bool,
    /// Descriptors of each buffer in flight, by identifier.
    pub(crate) counts: HashMap<u16, u16>,
}

impl Ring {
    fn new(queue: u16, size: u16, at: u64) -> Self {
        Self {
            queue,
            size,
            desc: at,
            driver: at + 0x8000,
            device: at + 0x8004,
            next: 0,
            wrap: true,
            used_next: 0,
            used_wrap: true,
            counts: HashMap::new(),
        }
    }

    /// Writes one descriptor as it is given.
    pub(crate) fn put_raw(
        &self,
        mem: &mut Memory,
        slot: u16,
        addr: u64,
        len: u32,
        id: u16,
        flags: u16,
    ) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&addr.to_le_bytes());
        raw[8..12].copy_from_slice(&len.to_le_bytes());
        raw[12..14].copy_from_slice(&id.to_le_bytes());
        raw[14..].copy_from_slice(&flags.to_le_bytes());
        mem.write(self.desc + 16 * u64::from(slot), &raw);
    }

    /// Makes a chain available; `extra` flags go to every descriptor. Its head is written last.
    pub(crate) fn add(&mut self, mem: &mut Memory, id: u16, chain: &[(u64, u32)], extra: u16) {
        let (mut slot, mut wrap) = (self.next, self.wrap);
        let mut head = None;
        for (i, &(addr, len)) in chain.iter().enumerate() {
            let ring = if wrap { AVAIL } else { USED };
            let next = if i + 1 < chain.len() { NEXT } else { 0 };
            if i == 0 {
                head = Some((slot, addr, len, ring | next | extra));
            } else {
                self.put_raw(mem, slot, addr, len, id, ring | next | extra);
            }
            slot += 1;
            if slot == self.size {
                slot = 0;
                wrap = !wrap;
            }
        }
        let (at, addr, len, flags) = head.expect("a chain has a descriptor");
        self.put_raw(mem, at, addr, len, id, flags);
        self.next = slot;
        self.wrap = wrap;
        self.counts.insert(id, chain.len() as u16);
    }

    /// The next used element, if there is one.
    pub(crate) fn take(&mut self, mem: &Memory) -> Option<Used> {
        let at = self.desc + 16 * u64::from(self.used_next);
        let flags = mem.u16(at + 14);
        let (avail, used) = (flags & AVAIL != 0, flags & USED != 0);
        if avail != used || used != self.used_wrap {
            return None;
        }
        let used = Used { id: mem.u16(at + 12), len: mem.u32(at + 8), flags };
        let count = self.counts.remove(&used.id).expect("a buffer of ours");
        self.used_next += count;
        if self.used_next >= self.size {
            self.used_next -= self.size;
            self.used_wrap = !self.used_wrap;
        }
        Some(used)
    }
}

pub(crate) const VERSION_1: u64 = 1 << bit::VERSION_1;
pub(crate) const RING_PACKED: u64 = 1 << bit::RING_PACKED;
pub(crate) const CSUM: u64 = 1 << bit::CSUM;
pub(crate) const GUEST_CSUM: u64 = 1 << bit::GUEST_CSUM;
pub(crate) const MRG_RXBUF: u64 = 1 << bit::MRG_RXBUF;
pub(crate) const EVENT_IDX: u64 = 1 << bit::EVENT_IDX;
pub(crate) const IN_ORDER: u64 = 1 << bit::IN_ORDER;
pub(crate) const RING_RESET: u64 = 1 << bit::RING_RESET;
pub(crate) const BASIC: u64 = VERSION_1 | RING_PACKED;

/// All of it together.
pub(crate) struct Bench {
    pub(crate) nic: Rtl,
    pub(crate) mem: Memory,
    pub(crate) wire: Wire,
    pub(crate) rx: Ring,
    pub(crate) tx: Ring,
    pub(crate) trace: Vec<Event>,
}

impl Bench {
    pub(crate) fn new(data_w_bits: u32) -> Self {
        Self::with(RtlOptions::new(data_w_bits))
    }

    pub(crate) fn stalled(data_w_bits: u32, per_256: u8, seed: u64) -> Self {
        let mut options = RtlOptions::new(data_w_bits);
        options.stalls = Stalls::new(per_256, seed);
        options.random_state = Some(seed as u32 | 1);
        Self::with(options)
    }

    pub(crate) fn with(options: RtlOptions) -> Self {
        let mut bench = Self {
            nic: Rtl::new(options).expect("a model"),
            mem: Memory::new(),
            wire: Wire::default(),
            rx: Ring::new(RX, 64, BASE),
            tx: Ring::new(TX, 64, BASE + 0x1_0000),
            trace: Vec::new(),
        };
        bench.nic.set_link(true);
        bench.nic.set_control(FunctionControl {
            bus_master: true,
            msix_enable: true,
            msix_function_mask: false,
        });
        bench
    }

    pub(crate) fn read(&mut self, offset: u32, width: Width) -> u32 {
        let mut bus = Bus { host: &mut self.mem, wire: &mut self.wire };
        self.nic.bar_read(&mut bus, offset, width).unwrap()
    }

    pub(crate) fn write(&mut self, offset: u32, width: Width, value: u32) {
        let mut bus = Bus { host: &mut self.mem, wire: &mut self.wire };
        self.nic.bar_write(&mut bus, offset, width, value).unwrap();
    }

    pub(crate) fn r8(&mut self, offset: u32) -> u32 {
        self.read(offset, Width::Byte)
    }

    pub(crate) fn r16(&mut self, offset: u32) -> u32 {
        self.read(offset, Width::Half)
    }

    pub(crate) fn r32(&mut self, offset: u32) -> u32 {
        self.read(offset, Width::Word)
    }

    pub(crate) fn w8(&mut self, offset: u32, value: u32) {
        self.write(offset, Width::Byte, value);
    }

    pub(crate) fn w16(&mut self, offset: u32, value: u32) {
        self.write(offset, Width::Half, value);
    }

    pub(crate) fn w32(&mut self, offset: u32, value: u32) {
        self.write(offset, Width::Word, value);
    }

    pub(crate) fn status(&mut self) -> u32 {
        self.r8(common::DEVICE_STATUS)
    }

    pub(crate) fn set_status(&mut self, value: u32) {
        self.w8(common::DEVICE_STATUS, value);
    }

    pub(crate) fn config_read(&mut self, offset: u16) -> u32 {
        let mut bus = Bus { host: &mut self.mem, wire: &mut self.wire };
        self.nic.config_read(&mut bus, offset).unwrap()
    }

    pub(crate) fn config_write(&mut self, offset: u16, value: u32, enable: u8) {
        let mut bus = Bus { host: &mut self.mem, wire: &mut self.wire };
        self.nic.config_write(&mut bus, offset, value, enable).unwrap();
    }

    /// Runs until idle, at most `cycles`; whether it became idle.
    pub(crate) fn run(&mut self, cycles: Cycle) -> bool {
        let mut bus = Bus { host: &mut self.mem, wire: &mut self.wire };
        let run = self.nic.run(&mut bus, cycles).unwrap();
        self.nic.drain_trace(&mut self.trace);
        run.idle
    }

    /// Runs until idle; a NIC that never becomes so hangs.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200 {
            if self.run(10_000) {
                if self.wire.arriving.is_empty() {
                    return;
                }
                let at = self.wire.arriving[0].0;
                self.nic.skip_to(at);
            }
        }
        panic!("still busy: {:?}", self.trace.last());
    }

    pub(crate) fn function_reset(&mut self) -> Result<(), NicError> {
        let mut bus = Bus { host: &mut self.mem, wire: &mut self.wire };
        self.nic.function_reset(&mut bus)?;
        self.nic.drain_trace(&mut self.trace);
        Ok(())
    }

    pub(crate) fn write_features(&mut self, features: u64) {
        for half in 0..2 {
            self.w32(common::DRIVER_FEATURE_SELECT, half);
            self.w32(common::DRIVER_FEATURE, (features >> (32 * half)) as u32);
        }
    }

    /// Up to FEATURES_OK; whether it was accepted.
    pub(crate) fn negotiate(&mut self, features: u64) -> bool {
        self.set_status(0);
        let mut rounds = 0;
        while self.status() != 0 {
            rounds += 1;
            assert!(rounds < 1000, "reset does not end");
        }
        self.set_status(1);
        self.set_status(3);
        self.write_features(features);
        self.set_status(11);
        self.status() & 8 != 0
    }

    pub(crate) fn setup_queue(&mut self, ring: &Ring, vector: u32) {
        self.w16(common::QUEUE_SELECT, ring.queue.into());
        self.w16(common::QUEUE_SIZE, ring.size.into());
        self.w16(common::QUEUE_MSIX_VECTOR, vector);
        for (at, value) in [
            (common::QUEUE_DESC, ring.desc),
            (common::QUEUE_DRIVER, ring.driver),
            (common::QUEUE_DEVICE, ring.device),
        ] {
            self.w32(at, value as u32);
            self.w32(at + 4, (value >> 32) as u32);
        }
        self.w16(common::QUEUE_ENABLE, 1);
    }

    /// Fresh rings of this size, negotiated, enabled, driver ready, vectors unmasked.
    pub(crate) fn start(&mut self, features: u64, size: u16) {
        assert!(self.negotiate(features | BASIC));
        self.rx = Ring::new(RX, size, BASE);
        self.tx = Ring::new(TX, size, BASE + 0x1_0000);
        self.mem.write(BASE, &vec![0; 0x2_0000]);
        for (vector, data) in [(0, 0x100), (1, 0x101), (2, 0x102)] {
            let entry = layout::MSIX_TABLE_BASE + 16 * vector;
            self.w32(entry, 0xFEE0_0000 + 4 * vector);
            self.w32(entry + 4, 0);
            self.w32(entry + 8, data);
            self.w32(entry + 12, 0);
        }
        self.w16(common::CONFIG_MSIX_VECTOR, 0);
        let (rx, tx) = (self.rx.clone(), self.tx.clone());
        self.setup_queue(&rx, 1);
        self.setup_queue(&tx, 2);
        self.set_status(15);
        assert_eq!(self.status(), 15);
    }

    pub(crate) fn kick(&mut self, queue: u16) {
        let offset = layout::NOTIFY_BASE + layout::NOTIFY_STRIDE * u32::from(queue);
        self.w16(offset, queue.into());
    }

    pub(crate) fn counter(&mut self, name: &str) -> u64 {
        let &(offset, _, _) = layout::COUNTERS.iter().find(|c| c.1 == name).expect("a counter");
        let low = self.r32(layout::COUNTERS_BASE + offset);
        let high = self.r32(layout::COUNTERS_BASE + offset + 4);
        u64::from(high) << 32 | u64::from(low)
    }

    pub(crate) fn events(&self, kind: Kind) -> Vec<Event> {
        self.trace.iter().copied().filter(|e| e.kind == kind).collect()
    }

    pub(crate) fn arrive(&mut self, frame: Vec<u8>) {
        let now = self.nic.now();
        self.wire.arriving.push_back((now, frame, false));
    }
}

/// A virtio-net header: flags, gso_type, csum_start, csum_offset.
pub(crate) fn header(flags: u8, gso_type: u8, csum_start: u16, csum_offset: u16) -> [u8; 12] {
    let mut hdr = [0; 12];
    hdr[0] = flags;
    hdr[1] = gso_type;
    hdr[6..8].copy_from_slice(&csum_start.to_le_bytes());
    hdr[8..10].copy_from_slice(&csum_offset.to_le_bytes());
    hdr
}

/// A broadcast frame of `len` bytes with an unknown type.
pub(crate) fn broadcast(random: &mut Random, len: usize) -> Vec<u8> {
    let mut frame = random.bytes(len);
    frame[..6].fill(0xFF);
    if len >= 14 {
        frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    }
    frame
}
