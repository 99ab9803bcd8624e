//! One scenario: a NIC from power-on through a few lives between resets, all drawn from one seed.

use std::collections::BTreeMap;

use tandem_contract::features::bit;
use tandem_contract::layout;
use tandem_contract::nic::{Nic, Width};
use tandem_cosim::{Latency, MemoryConfig, Random};
use tandem_rtl_bindings::{Rtl, RtlOptions, Stalls};

use crate::driver::{Bench, Failure, Setup, Spoil};
use crate::judge::{RX, TX};
use crate::memory::{BASE, LEN};
use crate::traffic::{self, Kinds};
use crate::wire::Arrived;

/// What a scenario went through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Chains that the transmit side completed.
    pub tx_frames: u64,
    /// Frames that the receive side decided about.
    pub rx_frames: u64,
    /// Events of the trace that were judged, by kind and code as the trace has them.
    pub decisions: BTreeMap<(u8, u8), u64>,
    /// Resets of all kinds.
    pub resets: u64,
    /// Queues that broke.
    pub breaks: u64,
    /// Cycles, waiting included.
    pub cycles: u64,
}

impl Summary {
    /// Frames both ways.
    pub fn frames(&self) -> u64 {
        self.tx_frames + self.rx_frames
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.tx_frames += other.tx_frames;
        self.rx_frames += other.rx_frames;
        for (decision, count) in &other.decisions {
            *self.decisions.entry(*decision).or_default() += count;
        }
        self.resets += other.resets;
        self.breaks += other.breaks;
        self.cycles += other.cycles;
    }
}

/// A failure with the last events before it.
#[derive(Debug)]
pub struct Report {
    /// What.
    pub failure: Failure,
    /// The last events.
    pub recent: String,
}

fn manners(random: &mut Random) -> MemoryConfig {
    let seed = random.next_u64();
    match random.below(4) {
        0 => MemoryConfig { seed, ..MemoryConfig::ideal() },
        1 => MemoryConfig {
            read_latency: Latency::Uniform { min: 1, max: 1 + random.below(100) },
            write_latency: Latency::Uniform { min: 1, max: 1 + random.below(100) },
            reorder: true,
            seed,
            ..MemoryConfig::default()
        },
        _ => MemoryConfig::rough(seed),
    }
}

fn setup(random: &mut Random, queue_size_max: u16) -> Setup {
    let mut features = 0;
    for feature in [
        bit::CSUM,
        bit::GUEST_CSUM,
        bit::MRG_RXBUF,
        bit::EVENT_IDX,
        bit::RING_RESET,
        bit::ACCESS_PLATFORM,
        bit::IN_ORDER,
        bit::NOTIFICATION_DATA,
    ] {
        if random.chance(2, 3) {
            features |= 1 << feature;
        }
    }
    let max = queue_size_max.into();
    let mut size = || match random.below(6) {
        0 => 1 + random.below(4) as u16,
        1 => 1 << random.below(9),
        2 => max as u16,
        _ => 1 + random.below(max) as u16,
    };
    let sizes = [size().min(queue_size_max), size().min(queue_size_max)];
    let mut cause = || [0, 1, 2, 2, 1, 0, u16::MAX][random.below(7) as usize];
    Setup {
        features,
        sizes,
        causes: [cause(), cause(), cause()],
        msix: random.chance(5, 6),
        odd_rings: random.chance(3, 4),
        polite: random.chance(1, 2),
    }
}

struct Scenario<N> {
    bench: Bench<N>,
    random: Random,
    kinds: Kinds,
    setup: Setup,
}

impl<N: Nic> Scenario<N> {
    fn chance(&mut self, parts: u64, whole: u64) -> bool {
        self.random.chance(parts, whole)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn has(&self, feature: u8) -> bool {
        self.setup.features >> feature & 1 == 1
    }

    fn post_tx(&mut self) -> Result<(), Failure> {
        let csum = self.has(bit::CSUM);
        for _ in 0..1 + self.below(24) {
            let bytes = traffic::request(&mut self.random, &self.kinds, csum);
            let most = if self.chance(1, 8) { 40 } else { 4 };
            let Some(parts) = self.bench.buffers(TX, bytes.len() as u64, most) else { break };
            self.bench.fill_parts(&parts, &bytes);
            self.bench.add(TX, &parts, None)?;
        }
        self.bench.kick(TX)
    }

    fn post_rx(&mut self) -> Result<(), Failure> {
        // Without MRG_RXBUF a driver gives whole frames room, and sometimes not.
        let mergeable = self.has(bit::MRG_RXBUF);
        for _ in 0..1 + self.below(40) {
            let len = match self.below(8) {
                0 if mergeable => 1 + self.below(24),
                1 => 1 + self.below(200),
                2 | 3 if mergeable => 1 + self.below(600),
                4 => 9_246,
                _ => 1_526 + self.below(600),
            };
            let most = if self.chance(1, 8) { 40 } else { 3 };
            let Some(parts) = self.bench.buffers(RX, len, most) else { break };
            self.bench.add(RX, &parts, None)?;
        }
        self.bench.kick(RX)
    }

    fn arrive(&mut self) {
        let mut at = self.bench.nic.now();
        let gap = [0, 0, 4, 60, 400][self.below(5) as usize];
        for _ in 0..1 + self.below(30) {
            let (frame, error) = traffic::arrival(&mut self.random, &self.kinds);
            at += self.below(gap + 1);
            let last = self.bench.wire.coming.back().map_or(0, |last| last.cycle);
            self.bench.wire.coming.push_back(Arrived { cycle: at.max(last), frame, error });
        }
    }

    /// More than the FIFO holds, in bytes or in frames.
    fn flood(&mut self) {
        let large = self.chance(1, 2);
        let now = self.bench.nic.now();
        for _ in 0..if large { 30 } else { 200 } {
            let mut frame = traffic::packet(&mut self.random, &self.kinds).frame;
            if large {
                frame.resize(1_000 + self.below(3_000) as usize, 0x5A);
            } else {
                frame.truncate(60);
            }
            let last = self.bench.wire.coming.back().map_or(now, |last| last.cycle);
            self.bench.wire.coming.push_back(Arrived { cycle: last, frame, error: false });
        }
    }

    fn spoil(&mut self) -> Result<(), Failure> {
        let queue = if self.chance(1, 2) { RX } else { TX };
        let spoil = [
            Spoil::ZeroLength,
            Spoil::Direction,
            Spoil::Indirect,
            Spoil::Unavailable,
            Spoil::Loop,
            Spoil::Huge,
            Spoil::Short,
            Spoil::NoMemory,
        ][self.below(8) as usize];
        let len = 12 + self.below(600);
        if let Some(parts) = self.bench.buffers(queue, len, 5) {
            if queue == TX {
                let bytes = traffic::noise(&mut self.random, len as usize);
                self.bench.fill_parts(&parts, &bytes);
            }
            self.bench.add(queue, &parts, Some(spoil))?;
            self.bench.kick(queue)?;
        }
        Ok(())
    }

    fn event_area(&mut self) {
        let queue = if self.chance(1, 2) { RX } else { TX };
        let size = u64::from(self.bench.rings[usize::from(queue)].size);
        let (place, flags) = match self.below(8) {
            0 => (self.random.next_u64() as u16, self.random.next_u64() as u16),
            1 => (self.random.next_u64() as u16, 2),
            2 => (0, 1),
            3 => (0, 0),
            _ => (self.below(size) as u16 | (self.below(2) as u16) << 15, 2),
        };
        self.bench.set_event_area(queue, place, flags);
    }

    /// Accesses that must change nothing.
    fn poke_registers(&mut self) -> Result<(), Failure> {
        for _ in 0..1 + self.below(4) {
            match self.below(4) {
                0 => {
                    // A doorbell of a queue that is not there.
                    let queue = 2 + self.below(60) as u32;
                    let offset = layout::NOTIFY_BASE + layout::NOTIFY_STRIDE * queue;
                    let value = self.below(0x1_0000) as u32;
                    self.bench.write(offset, Width::Half, value)?;
                }
                1 => {
                    let counter = layout::COUNTERS_BASE + 4 * self.below(40) as u32;
                    self.bench.read(counter, Width::Word)?;
                }
                2 => {
                    let offset = 4 * self.below(15) as u32;
                    self.bench.read(offset, Width::Word)?;
                }
                _ => {
                    // Registers of a queue that is enabled.
                    let queue = self.below(3) as u32;
                    self.bench.write(layout::common::QUEUE_SELECT, Width::Half, queue)?;
                    let value = self.random.next_u64() as u32;
                    let offset = layout::common::QUEUE_DESC + 4 * self.below(6) as u32;
                    self.bench.write(offset, Width::Word, value)?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Failure> {
        match self.below(100) {
            0..32 => self.post_tx()?,
            32..55 => self.post_rx()?,
            55..83 => self.arrive(),
            83..87 => self.event_area(),
            87..89 => {
                let masked = self.chance(1, 2);
                self.bench.set_mask(masked);
            }
            89..91 => self.poke_registers()?,
            91 => {
                self.bench.set_bus_master(false);
                // Nothing can be written: what comes in now fills the FIFO.
                if self.chance(1, 2) {
                    self.flood();
                    self.bench.run(9_000)?;
                } else {
                    let cycles = self.below(600);
                    self.bench.run(cycles)?;
                }
                self.bench.set_bus_master(true);
            }
            92..95 => {
                let queue = if self.chance(1, 2) { RX } else { TX };
                if self.has(bit::RING_RESET) && self.bench.enabled[usize::from(queue)] {
                    let again = self.chance(7, 8);
                    self.bench.reset_queue(queue, again)?;
                }
            }
            95 => self.bench.wire.pause_per_256 = [0, 0, 60, 220][self.below(4) as usize],
            _ => {
                self.bench.set_mask(false);
                self.bench.rest()?;
            }
        }
        let cycles = match self.below(4) {
            0 => 0,
            1 => self.below(60),
            2 => self.below(600),
            _ => self.below(4_000),
        };
        self.bench.run(cycles)?;
        self.bench.take_used()
    }

    fn life(&mut self) -> Result<(), Failure> {
        let mut config = manners(&mut self.random);
        self.setup = setup(&mut self.random, self.bench.nic.params().queue_size_max);
        self.bench.judge.memory.bad.clear();
        match self.below(12) {
            0 => config.errors_per_million = 1 + self.below(20_000) as u32,
            1 => {
                // A hole anywhere, rings and event areas too.
                let bound = if self.chance(1, 3) { 0x8000 } else { LEN as u64 };
                let at = BASE + self.below(bound);
                let hole = at..at + 1 + self.below(600);
                config.error_ranges.push(hole.clone());
                self.bench.judge.memory.bad.push(hole);
            }
            _ => {}
        }
        self.bench.host.set_config(config);
        let setup = self.setup.clone();
        self.bench.start(setup)?;
        let steps = 6 + self.below(40);
        let hostile = self.chance(1, 2);
        for step in 0..steps {
            self.step()?;
            if hostile && step + 6 >= steps && self.chance(1, 3) {
                self.spoil()?;
            }
        }
        self.bench.set_mask(false);
        if self.chance(1, 2) {
            self.bench.rest()?;
        }
        // The reset comes at any moment of what is still under way.
        if self.chance(1, 2) {
            self.arrive();
            self.post_tx()?;
            let cycles = self.below(2_000);
            self.bench.run(cycles)?;
        }
        match self.below(4) {
            0 => self.bench.reset_function(false)?,
            1 => self.bench.reset_function(true)?,
            _ => self.bench.reset_device()?,
        }
        if self.chance(1, 2) {
            self.bench.rest()?;
        }
        Ok(())
    }
}

/// Runs one scenario on a NIC.
///
/// # Errors
/// [`Report`]: what the NIC did that it may not.
pub fn on<N: Nic>(nic: N, seed: u64) -> Result<Summary, Box<Report>> {
    let mut random = Random::new(seed);
    let kinds = Kinds { mac: nic.params().mac, frame_len_max: nic.params().frame_len_max };
    let config = manners(&mut random);
    let bench = Bench::new(nic, random.next_u64(), config);
    let setup = setup(&mut random, 1);
    let mut scenario = Scenario { bench, random, kinds, setup };
    let lives = 1 + scenario.below(4);
    let outcome = (0..lives).try_for_each(|_| scenario.life());
    let bench = scenario.bench;
    outcome.map_err(|failure| Box::new(Report { failure, recent: bench.judge.recent() }))?;
    let (tx_frames, rx_frames) = bench.judge.frames();
    Ok(Summary {
        tx_frames,
        rx_frames,
        resets: bench.judge.resets,
        breaks: bench.judge.breaks,
        cycles: bench.nic.now(),
        decisions: bench.judge.decisions,
    })
}

/// Options of the RTL for a seed: stalls of the bus, and registers that hold anything before reset.
pub fn options(data_w_bits: u32, bug: Option<u8>, seed: u64) -> RtlOptions {
    let mut random = Random::new(!seed);
    let mut options = RtlOptions::new(data_w_bits);
    options.stalls = Stalls::new([0, 0, 16, 100][random.below(4) as usize], random.next_u64());
    options.random_state = Some(random.next_u64() as u32 | 1);
    options.bug = bug;
    options
}

/// Runs one scenario on the RTL.
///
/// # Errors
/// [`Report`].
///
/// # Panics
/// When this build has no such model.
pub fn run(data_w_bits: u32, bug: Option<u8>, seed: u64) -> Result<Summary, Box<Report>> {
    let nic = Rtl::new(options(data_w_bits, bug, seed)).expect("the model is built");
    on(nic, seed)
}
