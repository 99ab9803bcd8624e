//! Host memory behind the NIC's DMA, with the manners of a real one.
//!
//! A request first waits for its direction's bandwidth, then for a latency drawn from a distribution;
//! responses of one identifier stay in order, those of different ones may overtake. Reads see memory,
//! and writes change it, at the moment of their response and no sooner, so a NIC that announces data
//! before it has the response is found out. All of it repeats for the same seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::ops::Range;

use tandem_contract::nic::{Cycle, DmaKind, DmaRequest, DmaResponse, HostPort};

use crate::random::Random;
use crate::regions::{AddressSpace, RegionTable};

/// Where MSI-X messages go, as on x86: [`MSI_BASE`] + 16 × vector, the vector as data.
pub const MSI_BASE: u64 = 0xFEE0_0000;

/// End of the addresses that are interrupts.
pub const MSI_END: u64 = 0xFEF0_0000;

/// Vectors that can be told apart.
pub const VECTORS_MAX: u16 = 64;

/// Requests in flight; a NIC that goes beyond gets errors, and a counter tells.
pub const IN_FLIGHT_MAX: usize = 4096;

/// How long a request takes, in cycles, bandwidth apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// Always the same.
    Fixed(Cycle),
    /// Evenly between two bounds, both included.
    Uniform {
        /// Shortest.
        min: Cycle,
        /// Longest.
        max: Cycle,
    },
    /// Mostly `usual`, sometimes up to `max`: a memory that refreshes, a page walk.
    Tail {
        /// What most take.
        usual: Cycle,
        /// The longest of the others.
        max: Cycle,
        /// How many in a thousand are the others.
        per_mille: u16,
    },
}

impl Latency {
    fn draw(self, random: &mut Random) -> Cycle {
        match self {
            Latency::Fixed(cycles) => cycles,
            Latency::Uniform { min, max } => random.between(min, max),
            Latency::Tail { usual, max, per_mille } => {
                if random.chance(per_mille.into(), 1000) {
                    random.between(usual, max)
                } else {
                    usual
                }
            }
        }
    }
}

/// Manners of a [`HostMemory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Latency of reads: request to the response's last byte.
    pub read_latency: Latency,
    /// Latency of writes: last byte to response.
    pub write_latency: Latency,
    /// Bytes a cycle that reads carry; 0 for no bound.
    pub read_bytes_per_cycle: u32,
    /// Bytes a cycle that writes carry; 0 for no bound.
    pub write_bytes_per_cycle: u32,
    /// Bytes of bandwidth that a request costs beside its data, such as a TLP header.
    pub overhead_bytes: u32,
    /// Lets responses of different identifiers overtake each other.
    pub reorder: bool,
    /// Addresses that answer with an error.
    pub error_ranges: Vec<Range<u64>>,
    /// Requests in a million that fail anyhow.
    pub errors_per_million: u32,
    /// Fixes latencies and errors.
    pub seed: u64,
}

impl Default for MemoryConfig {
    /// A quiet desktop: 1 µs round trip for reads (250 cycles of 4 ns), nothing bounded or wrong.
    fn default() -> Self {
        Self {
            read_latency: Latency::Fixed(250),
            write_latency: Latency::Fixed(250),
            read_bytes_per_cycle: 0,
            write_bytes_per_cycle: 0,
            overhead_bytes: 0,
            reorder: false,
            error_ranges: Vec::new(),
            errors_per_million: 0,
            seed: 1,
        }
    }
}

impl MemoryConfig {
    /// Answers after one cycle: for tests that do not care.
    pub fn ideal() -> Self {
        Self {
            read_latency: Latency::Fixed(1),
            write_latency: Latency::Fixed(1),
            ..Self::default()
        }
    }

    /// Everything at once but errors: what finds bugs.
    pub fn rough(seed: u64) -> Self {
        Self {
            read_latency: Latency::Tail { usual: 60, max: 900, per_mille: 150 },
            write_latency: Latency::Uniform { min: 1, max: 400 },
            read_bytes_per_cycle: 32,
            write_bytes_per_cycle: 32,
            overhead_bytes: 24,
            reorder: true,
            seed,
            ..Self::default()
        }
    }
}

/// What a [`HostMemory`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryStats {
    /// Read requests.
    pub reads: u64,
    /// Bytes that they asked for.
    pub read_bytes: u64,
    /// Write requests, interrupts among them.
    pub writes: u64,
    /// Bytes that they carried.
    pub write_bytes: u64,
    /// MSI-X messages.
    pub messages: u64,
    /// Requests that were answered with an error on purpose.
    pub errors_injected: u64,
    /// Requests to addresses that are not mapped.
    pub unmapped: u64,
    /// Requests beyond [`IN_FLIGHT_MAX`], answered with an error.
    pub refused: u64,
    /// Requests that crossed 4 KiB; none may.
    pub crossed_page: u64,
}

/// One finished request, for a checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaEvent<'a> {
    /// When it was asked.
    pub requested_at: Cycle,
    /// When it took effect.
    pub done_at: Cycle,
    /// Direction.
    pub kind: DmaKind,
    /// AXI identifier.
    pub id: u16,
    /// PCI function.
    pub function: u8,
    /// First byte.
    pub addr: u64,
    /// Answered with an error.
    pub error: bool,
    /// The bytes written or read; none for a failed read.
    pub data: &'a [u8],
}

/// Is shown every finished request, in the order in which they take effect.
pub type Observer = Box<dyn FnMut(&DmaEvent<'_>) + Send>;

#[derive(Debug)]
struct InFlight {
    requested_at: Cycle,
    kind: DmaKind,
    id: u16,
    function: u8,
    addr: u64,
    fail: bool,
    /// A write's bytes, or room for a read's.
    data: Vec<u8>,
}

/// Host memory as the NIC's DMA meets it.
pub struct HostMemory<A = RegionTable> {
    space: A,
    config: MemoryConfig,
    random: Random,
    stats: MemoryStats,
    /// When each direction's link is free, in 1/256 cycles: reads, writes.
    free_at: [u64; 2],
    /// Latest response so far by direction and identifier, so that order is kept.
    last_due: HashMap<(bool, u16), Cycle>,
    last_due_any: [Cycle; 2],
    /// (due, number) of requests in flight; the number breaks ties in order.
    due: BinaryHeap<Reverse<(Cycle, u64, usize)>>,
    in_flight: Vec<InFlight>,
    free_slots: Vec<usize>,
    sequence: u64,
    /// Messages that arrived, by vector.
    pending: u64,
    fail_next: u32,
    observer: Option<Observer>,
}

impl<A: fmt::Debug> fmt::Debug for HostMemory<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostMemory")
            .field("space", &self.space)
            .field("config", &self.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl<A: AddressSpace> HostMemory<A> {
    /// Memory at `space` with these manners.
    pub fn new(space: A, config: MemoryConfig) -> Self {
        Self {
            space,
            random: Random::new(config.seed),
            config,
            stats: MemoryStats::default(),
            free_at: [0; 2],
            last_due: HashMap::new(),
            last_due_any: [0; 2],
            due: BinaryHeap::new(),
            in_flight: Vec::new(),
            free_slots: Vec::new(),
            sequence: 0,
            pending: 0,
            fail_next: 0,
            observer: None,
        }
    }

    /// The address space.
    pub fn space(&self) -> &A {
        &self.space
    }

    /// The address space, to map and unmap.
    pub fn space_mut(&mut self) -> &mut A {
        &mut self.space
    }

    /// Changes its manners for requests to come. The random sequence goes on unless the seed differs.
    pub fn set_config(&mut self, config: MemoryConfig) {
        if config.seed != self.config.seed {
            self.random = Random::new(config.seed);
        }
        self.config = config;
    }

    /// Its manners.
    pub fn config(&self) -> &MemoryConfig {
        &self.config
    }

    /// What it has seen.
    pub fn stats(&self) -> MemoryStats {
        self.stats
    }

    /// Shows every finished request to `observer`; `None` ends that.
    pub fn observe(&mut self, observer: Option<Observer>) {
        self.observer = observer;
    }

    /// Answers the next `count` requests with an error.
    pub fn fail_next(&mut self, count: u32) {
        self.fail_next = count;
    }

    /// Takes the event of a vector: whether its message came since this was last asked.
    pub fn take_message(&mut self, vector: u16) -> bool {
        let bit = 1u64.checked_shl(vector.into()).unwrap_or(0);
        let came = self.pending & bit != 0;
        self.pending &= !bit;
        came
    }

    /// Vectors whose message came and was not taken, as bits.
    pub fn pending_messages(&self) -> u64 {
        self.pending
    }

    /// Forgets messages that came.
    pub fn clear_messages(&mut self) {
        self.pending = 0;
    }

    /// Requests in flight.
    pub fn outstanding(&self) -> usize {
        self.due.len()
    }

    /// Forgets all that is in flight: its NIC is gone.
    pub fn abandon(&mut self) {
        self.due.clear();
        self.free_slots = (0..self.in_flight.len()).collect();
    }

    fn must_fail(&mut self, addr: u64, len: u64) -> bool {
        let end = addr.saturating_add(len);
        let mut fail = self.random.chance(self.config.errors_per_million.into(), 1_000_000);
        if self.fail_next > 0 {
            self.fail_next -= 1;
            fail = true;
        }
        fail |= self.config.error_ranges.iter().any(|r| r.start < end && addr < r.end);
        self.stats.errors_injected += u64::from(fail);
        fail
    }

    /// When a request of this size, made now, is answered.
    fn schedule(&mut self, now: Cycle, kind: DmaKind, id: u16, len: u32) -> Cycle {
        let write = kind == DmaKind::Write;
        let (latency, rate) = if write {
            (self.config.write_latency, self.config.write_bytes_per_cycle)
        } else {
            (self.config.read_latency, self.config.read_bytes_per_cycle)
        };
        let direction = usize::from(write);
        let mut sent = now;
        if rate > 0 {
            let bytes = u64::from(len) + u64::from(self.config.overhead_bytes);
            let free = self.free_at[direction].max(now << 8) + (bytes << 8) / u64::from(rate);
            self.free_at[direction] = free;
            sent = free.div_ceil(256);
        }
        let mut due = (sent + latency.draw(&mut self.random)).max(now + 1);
        if self.config.reorder {
            let last = self.last_due.entry((write, id)).or_default();
            due = due.max(*last);
            *last = due;
        } else {
            due = due.max(self.last_due_any[direction]);
        }
        self.last_due_any[direction] = due.max(self.last_due_any[direction]);
        due
    }

    /// Lets a due request take effect and fills in its answer.
    fn finish(&mut self, now: Cycle, slot: usize, response: &mut DmaResponse) {
        let request = &mut self.in_flight[slot];
        response.write = request.kind == DmaKind::Write;
        response.id = request.id;
        response.data.clear();
        let message = (MSI_BASE..MSI_END).contains(&request.addr);
        let done = match request.kind {
            _ if request.fail => false,
            DmaKind::Write if message => {
                let vector = (request.addr - MSI_BASE) / 16;
                let fits = vector < VECTORS_MAX.into() && request.data.len() == 4;
                if fits {
                    self.pending |= 1 << vector;
                    self.stats.messages += 1;
                }
                fits
            }
            DmaKind::Write => self.space.write(request.addr, &request.data),
            DmaKind::Read => self.space.read(request.addr, &mut request.data),
        };
        if !done && !request.fail {
            self.stats.unmapped += 1;
        }
        response.error = !done;
        if !response.write && done {
            response.data.extend_from_slice(&request.data);
        }
        if let Some(observer) = &mut self.observer {
            let shown: &[u8] = if response.write { &request.data } else { &response.data };
            observer(&DmaEvent {
                requested_at: request.requested_at,
                done_at: now,
                kind: request.kind,
                id: request.id,
                function: request.function,
                addr: request.addr,
                error: response.error,
                data: shown,
            });
        }
    }
}

impl<A: AddressSpace> HostPort for HostMemory<A> {
    fn request(&mut self, cycle: Cycle, request: DmaRequest<'_>) {
        let len = u64::from(request.len);
        match request.kind {
            DmaKind::Read => {
                self.stats.reads += 1;
                self.stats.read_bytes += len;
            }
            DmaKind::Write => {
                self.stats.writes += 1;
                self.stats.write_bytes += len;
            }
        }
        let last = request.addr.saturating_add(len.saturating_sub(1));
        self.stats.crossed_page += u64::from(request.addr >> 12 != last >> 12);
        let refused = self.due.len() >= IN_FLIGHT_MAX;
        self.stats.refused += u64::from(refused);
        let fail = self.must_fail(request.addr, len) || refused;
        let due = self.schedule(cycle, request.kind, request.id, request.len);
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.in_flight.push(InFlight {
                requested_at: 0,
                kind: DmaKind::Read,
                id: 0,
                function: 0,
                addr: 0,
                fail: false,
                data: Vec::new(),
            });
            self.in_flight.len() - 1
        });
        let entry = &mut self.in_flight[slot];
        entry.requested_at = cycle;
        entry.kind = request.kind;
        entry.id = request.id;
        entry.function = request.function;
        entry.addr = request.addr;
        entry.fail = fail;
        entry.data.clear();
        match request.kind {
            DmaKind::Read => entry.data.resize(request.len as usize, 0),
            DmaKind::Write => entry.data.extend_from_slice(request.data),
        }
        self.sequence += 1;
        self.due.push(Reverse((due, self.sequence, slot)));
    }

    fn response(&mut self, cycle: Cycle, response: &mut DmaResponse) -> bool {
        match self.due.peek() {
            Some(&Reverse((due, _, slot))) if due <= cycle => {
                self.due.pop();
                self.finish(cycle, slot, response);
                self.free_slots.push(slot);
                true
            }
            _ => false,
        }
    }

    fn next_response_at(&self) -> Option<Cycle> {
        self.due.peek().map(|Reverse((due, ..))| *due)
    }
}
