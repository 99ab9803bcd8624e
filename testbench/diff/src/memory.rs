//! Host memory three times: as the NIC has it, as the judge expects it, and as the log of writes makes it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use tandem_contract::nic::{Cycle, DmaKind, DmaRequest, DmaResponse, HostPort};
use tandem_cosim::{AddressSpace, HostMemory, MemoryConfig};
use tandem_reference::memory::{BusError, Memory};

/// First address: above 4 GiB, so that the upper half of addresses counts.
pub const BASE: u64 = 0x12_3400_0000;
/// Length in bytes.
pub const LEN: usize = 1 << 20;

/// Bytes of a read that are kept for the judge: enough for an event suppression area with what a beat
/// reads beyond it.
const READ_KEPT_MAX: usize = 64;

fn range(addr: u64, len: usize) -> Option<Range<usize>> {
    let from = usize::try_from(addr.checked_sub(BASE)?).ok()?;
    let to = from.checked_add(len)?;
    (to <= LEN).then_some(from..to)
}

/// The memory behind the NIC's DMA.
#[derive(Debug)]
pub struct Arena(RefCell<Vec<u8>>);

impl AddressSpace for Arena {
    fn read(&self, addr: u64, out: &mut [u8]) -> bool {
        let Some(range) = range(addr, out.len()) else { return false };
        out.copy_from_slice(&self.0.borrow()[range]);
        true
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> bool {
        let Some(range) = range(addr, bytes.len()) else { return false };
        self.0.borrow_mut()[range].copy_from_slice(bytes);
        true
    }
}

/// A copy that the judge writes: plain bytes, errors where the bus has them.
#[derive(Debug, Clone)]
pub struct Shadow {
    bytes: Vec<u8>,
    /// Addresses that answer with an error.
    pub bad: Vec<Range<u64>>,
}

impl Shadow {
    fn reach(&self, addr: u64, len: usize) -> Result<Range<usize>, BusError> {
        let end = addr.saturating_add(len as u64);
        if self.bad.iter().any(|bad| bad.start < end && addr < bad.end) {
            return Err(BusError { addr });
        }
        range(addr, len).ok_or(BusError { addr })
    }

    /// The bytes at `addr`, whether the bus would answer or not; `None` outside of memory.
    pub fn peek(&self, addr: u64, len: usize) -> Option<&[u8]> {
        range(addr, len).map(|range| &self.bytes[range])
    }

    /// Sets bytes as the host's processor does, to which no bus error happens.
    ///
    /// # Panics
    /// Outside of memory.
    pub fn poke(&mut self, addr: u64, bytes: &[u8]) {
        let range = range(addr, bytes.len()).expect("inside memory");
        self.bytes[range].copy_from_slice(bytes);
    }

    /// First address at which it differs from `other`.
    pub fn differs_from(&self, other: &Self) -> Option<u64> {
        self.differs_at(&other.bytes)
    }

    fn differs_at(&self, other: &[u8]) -> Option<u64> {
        if self.bytes == other {
            return None;
        }
        let at = self.bytes.iter().zip(other).position(|(a, b)| a != b);
        at.map(|at| BASE + at as u64)
    }
}

impl Memory for Shadow {
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), BusError> {
        let range = self.reach(addr, out.len())?;
        out.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), BusError> {
        let range = self.reach(addr, bytes.len())?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }
}

/// One finished request of the NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dma {
    /// When it was asked.
    pub requested_at: Cycle,
    /// When it took effect.
    pub cycle: Cycle,
    /// Direction.
    pub kind: DmaKind,
    /// First byte.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// Answered with an error.
    pub error: bool,
    /// Bytes written, or the first bytes of a short read.
    pub data: Vec<u8>,
}

impl Dma {
    /// Whether it touches `len` bytes at `addr`.
    pub fn touches(&self, addr: u64, len: u64) -> bool {
        self.addr < addr.saturating_add(len) && addr < self.addr.saturating_add(u64::from(self.len))
    }
}

/// The host's side of the bus: memory with manners, and a log of all that took effect.
pub struct Host {
    memory: HostMemory<Arena>,
    /// Requests in flight by direction and identifier, answers to come.
    asked: HashMap<(bool, u16), VecDeque<Dma>>,
    /// Finished requests, in the order in which they took effect.
    pub log: Vec<Dma>,
    /// Requests that crossed a 4 KiB border, named another function or were empty: none may.
    pub malformed: Option<String>,
}

impl Host {
    /// Memory with this content and these manners.
    ///
    /// # Panics
    /// When `bytes` is not [`LEN`] long.
    pub fn new(bytes: Vec<u8>, config: MemoryConfig) -> Self {
        assert_eq!(bytes.len(), LEN);
        Self {
            memory: HostMemory::new(Arena(RefCell::new(bytes)), config),
            asked: HashMap::new(),
            log: Vec::new(),
            malformed: None,
        }
    }

    /// A copy for the judge.
    pub fn shadow(&self) -> Shadow {
        Shadow { bytes: self.memory.space().0.borrow().clone(), bad: Vec::new() }
    }

    /// First address at which the NIC's memory differs from `shadow`.
    pub fn differs_from(&self, shadow: &Shadow) -> Option<u64> {
        shadow.differs_at(&self.memory.space().0.borrow())
    }

    /// One byte, for messages.
    pub fn byte(&self, addr: u64) -> Option<u8> {
        range(addr, 1).map(|range| self.memory.space().0.borrow()[range.start])
    }

    /// Writes as the host's processor does.
    ///
    /// # Panics
    /// Outside of memory.
    pub fn poke(&mut self, addr: u64, bytes: &[u8]) {
        assert!(self.memory.space().write(addr, bytes), "inside memory");
    }

    /// Changes manners for requests to come.
    pub fn set_config(&mut self, config: MemoryConfig) {
        self.memory.set_config(config);
    }

    /// Manners.
    pub fn config(&self) -> &MemoryConfig {
        self.memory.config()
    }

    /// Requests in flight.
    pub fn outstanding(&self) -> usize {
        self.memory.outstanding()
    }
}

impl HostPort for Host {
    fn request(&mut self, cycle: Cycle, request: DmaRequest<'_>) {
        let DmaRequest { kind, id, function, addr, len, data } = request;
        if len == 0 || function != 0 || (addr & 0xFFF) + u64::from(len) > 4096 {
            self.malformed = Some(format!("{kind:?} of {len} bytes at {addr:#x} for {function}"));
        }
        let asked = self.asked.entry((kind == DmaKind::Write, id)).or_default();
        let (requested_at, data) = (cycle, data.to_vec());
        asked.push_back(Dma { requested_at, cycle, kind, addr, len, error: false, data });
        self.memory.request(cycle, request);
    }

    fn response(&mut self, cycle: Cycle, response: &mut DmaResponse) -> bool {
        if !self.memory.response(cycle, response) {
            return false;
        }
        let asked = self.asked.get_mut(&(response.write, response.id));
        let mut done = asked.and_then(VecDeque::pop_front).expect("an answer has its request");
        if !response.write && response.data.len() <= READ_KEPT_MAX {
            done.data.clone_from(&response.data);
        }
        done.cycle = cycle;
        done.error = response.error;
        self.log.push(done);
        true
    }

    fn next_response_at(&self) -> Option<Cycle> {
        self.memory.next_response_at()
    }
}
