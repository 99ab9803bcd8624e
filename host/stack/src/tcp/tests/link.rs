//! Two ends over a link in virtual time that loses, reorders, duplicates and delays, from a seed.

use core::time::Duration;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tandem_device::Pool;
use tandem_packet::{SeqNumber, TcpFlags, TcpRepr};

use super::super::listen::{judge, reset_for};
use super::*;

/// Habits of a link and of the applications at its ends.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// Of 1000 wire segments, how many are lost.
    pub(super) loss: u32,
    /// Of 1000, how many are sent twice.
    pub(super) duplicate: u32,
    /// Of 1000, how many are held back by up to four delays.
    pub(super) reorder: u32,
    pub(super) delay: Duration,
    /// Bytes that each end sends.
    pub(super) bytes: [usize; 2],
    pub(super) configs: [Config; 2],
    pub(super) mtus: [u32; 2],
    pub(super) limits: [OutputLimits; 2],
    /// Deliver super-segments whole, as if coalesced on receive.
    pub(super) coalesce: bool,
    /// Both ends connect.
    pub(super) simultaneous: bool,
    /// Bytes that an application reads at once, at each of its turns.
    pub(super) read_max: [usize; 2],
    /// Time between an application's turns.
    pub(super) turn: Duration,
    /// Owners replace a connection in TIME-WAIT by its entry.
    pub(super) compact: bool,
}

impl Setup {
    pub(super) fn plain(seed: u64) -> Self {
        Self {
            seed,
            loss: 0,
            duplicate: 0,
            reorder: 0,
            delay: Duration::from_millis(5),
            bytes: [100_000, 50_000],
            configs: [Config::default(); 2],
            mtus: [1500; 2],
            limits: [OutputLimits::FULL; 2],
            coalesce: false,
            simultaneous: false,
            read_max: [usize::MAX; 2],
            turn: Duration::from_millis(10),
            compact: false,
        }
    }

    /// A setup whose everything comes from the seed.
    pub(super) fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5e70);
        let mut config = || {
            let mut config = Config {
                timestamps: rng.random_bool(0.7),
                window_scaling: rng.random_bool(0.7),
                nodelay: rng.random_bool(0.3),
                out_of_order_segments_max: if rng.random_bool(0.2) { 4 } else { 1024 },
                // Ten lost retransmissions in a row must not look like a dead peer.
                user_timeout: Duration::from_secs(7200),
                accept_timeout: Duration::from_secs(7200),
                connect_timeout: Duration::from_secs(7200),
                ..Config::default()
            };
            if rng.random_bool(0.5) {
                config.receive_buffer_bytes_max = rng.random_range(256..20_000);
            }
            if rng.random_bool(0.5) {
                config.send_buffer_bytes_max = rng.random_range(256..40_000);
            }
            if rng.random_bool(0.2) {
                config.delayed_ack = Duration::ZERO;
            }
            config
        };
        let configs = [config(), config()];
        let hard = rng.random_bool(0.3);
        let rate = |rng: &mut ChaCha8Rng, max| {
            if rng.random_bool(0.7) { rng.random_range(0..max) } else { 0 }
        };
        let limits = |rng: &mut ChaCha8Rng| match rng.random_range(0..3) {
            0 => OutputLimits::SINGLE,
            1 => OutputLimits {
                gso_bytes_max: rng.random_range(0..20_000),
                gso_segments_max: rng.random_range(0..20),
                pieces_max: rng.random_range(1..18),
            },
            _ => OutputLimits::FULL,
        };
        let read_max = |rng: &mut ChaCha8Rng| {
            if rng.random_bool(0.3) { rng.random_range(1..3000) } else { usize::MAX }
        };
        Self {
            seed,
            loss: rate(&mut rng, if hard { 300 } else { 50 }),
            duplicate: rate(&mut rng, 100),
            reorder: rate(&mut rng, 200),
            delay: Duration::from_micros(rng.random_range(10..100_000)),
            bytes: [rng.random_range(0..60_000), rng.random_range(0..60_000)],
            configs,
            mtus: [rng.random_range(300..3000), rng.random_range(300..3000)],
            limits: [limits(&mut rng), limits(&mut rng)],
            coalesce: rng.random_bool(0.4),
            simultaneous: rng.random_bool(0.1),
            read_max: [read_max(&mut rng), read_max(&mut rng)],
            turn: Duration::from_millis(rng.random_range(1..100)),
            compact: rng.random_bool(0.5),
        }
    }
}

/// Byte `offset` of what end `side` sends.
fn byte(side: usize, offset: usize) -> u8 {
    let mixed = (offset as u64 ^ (side as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

#[derive(Debug, PartialEq, Eq)]
struct Flying {
    at: Instant,
    order: u64,
    to: usize,
    repr: TcpRepr,
    bytes: Vec<u8>,
    wire_segments: u16,
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub(super) struct End {
    pub(super) connection: Option<Connection>,
    entry: Option<TimeWait>,
    written: usize,
    pub(super) read: usize,
    eof: bool,
    shut: bool,
    /// The largest right edge that was offered to this end: it must never send beyond it.
    edge: Option<SeqNumber>,
    pub(super) stats: Stats,
}

pub(super) struct Link {
    pub(super) setup: Setup,
    rng: ChaCha8Rng,
    pub(super) now: Instant,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
    pub(super) ends: [End; 2],
    pool: Pool,
    next_turn: Instant,
    steps: u64,
    pub(super) wire_segments: u64,
}

const STEPS_MAX: u64 = 2_000_000;

impl Link {
    pub(super) fn new(setup: Setup, pool: &Pool) -> Self {
        let end = || End {
            connection: None,
            entry: None,
            written: 0,
            read: 0,
            eof: false,
            shut: false,
            edge: None,
            stats: Stats::default(),
        };
        let mut link = Self {
            rng: ChaCha8Rng::seed_from_u64(setup.seed),
            now: Instant::from_millis(1000),
            flying: BinaryHeap::new(),
            order: 0,
            ends: [end(), end()],
            pool: pool.clone(),
            next_turn: Instant::from_millis(1000),
            steps: 0,
            wire_segments: 0,
            setup,
        };
        link.connect(0);
        if link.setup.simultaneous {
            link.connect(1);
        }
        link
    }

    fn path(&self, side: usize) -> Path {
        Path { family: Family::V4, mtu: self.setup.mtus[side] }
    }

    fn initial(&mut self) -> Initial {
        // Near the circle's end every other time.
        let iss =
            if self.rng.random_bool(0.5) { 0u32.wrapping_sub(5000) } else { self.rng.random() };
        Initial::new(SeqNumber(iss), self.rng.random())
    }

    fn connect(&mut self, side: usize) {
        let initial = self.initial();
        let config = self.setup.configs[side];
        let connection = Connection::connect(self.now, &config, self.path(side), initial);
        self.ends[side].connection = Some(connection);
    }

    /// Runs until both ends are done, and says when it ends otherwise.
    pub(super) fn run(&mut self) {
        let deadline = self.now + Duration::from_secs(40 * 3600);
        while !self.is_done() {
            self.step();
            self.steps += 1;
            assert!(self.steps < STEPS_MAX, "no end in sight: {}", self.describe());
            assert!(self.now < deadline, "it takes forever: {}", self.describe());
        }
        for side in [0, 1] {
            let end = &self.ends[side];
            assert_eq!(end.read, self.setup.bytes[1 - side], "end {side} read everything");
            assert!(end.eof, "end {side} saw the end of the stream");
        }
    }

    pub(super) fn describe(&self) -> String {
        let ends: Vec<String> = self
            .ends
            .iter()
            .map(|end| {
                format!(
                    "\n  read {} written {} eof {} {:?}",
                    end.read,
                    end.written,
                    end.eof,
                    end.connection.as_ref().map(Connection::info)
                )
            })
            .collect();
        format!("at {:?} {:?}{}", self.now, self.setup, ends.concat())
    }

    fn is_done(&self) -> bool {
        self.flying.is_empty()
            && self
                .ends
                .iter()
                .all(|end| end.eof && end.connection.is_none() && end.entry.is_none())
    }

    fn step(&mut self) {
        let mut next = self.next_turn;
        if let Some(Reverse(flying)) = self.flying.peek() {
            next = next.min(flying.at);
        }
        for end in &self.ends {
            let deadline = end.connection.as_ref().and_then(Connection::next_deadline);
            for at in [deadline, end.entry.map(|entry| entry.expires)].into_iter().flatten() {
                next = next.min(at);
            }
        }
        self.now = self.now.max(next);
        for side in [0, 1] {
            self.run_timers(side);
        }
        while self.flying.peek().is_some_and(|Reverse(flying)| flying.at <= self.now) {
            let Some(Reverse(flying)) = self.flying.pop() else { break };
            self.deliver(flying);
        }
        if self.next_turn <= self.now {
            for side in [0, 1] {
                self.application(side);
            }
            self.next_turn = self.now + self.setup.turn;
        }
        for side in [0, 1] {
            self.flush(side);
        }
    }

    fn run_timers(&mut self, side: usize) {
        let end = &mut self.ends[side];
        if end.entry.is_some_and(|entry| entry.expires <= self.now) {
            end.entry = None;
        }
        if let Some(connection) = &mut end.connection {
            connection.on_deadline(self.now);
            connection.check();
            let again = connection.next_deadline().is_some_and(|at| at <= self.now);
            assert!(!again, "a timer is due again at once: {:?}", connection.timers);
        }
    }

    fn deliver(&mut self, flying: Flying) {
        let Flying { to: side, repr, bytes, wire_segments, .. } = flying;
        let segment = Segment { wire_segments, ..Segment::new(&repr, bytes.len() as u32) };
        let now = self.now;
        if self.ends[side].connection.is_some() {
            let payload = (!bytes.is_empty()).then(|| frame(&self.pool, &bytes));
            let end = &mut self.ends[side];
            let connection = end.connection.as_mut().unwrap();
            connection.input(now, &segment, payload);
            connection.check();
            if repr.flags.contains(TcpFlags::ACK) {
                let syn = repr.flags.contains(TcpFlags::SYN);
                let scale = if syn { 0 } else { connection.agreed.scale_peer };
                let edge = repr.ack + (u32::from(repr.window) << scale);
                end.edge = Some(end.edge.map_or(edge, |old| old.max(edge)));
            }
        } else if let Some(entry) = &mut self.ends[side].entry {
            match entry.input(now, &segment) {
                TimeWaitVerdict::Reply(reply) => self.launch(side, reply, Vec::new(), 1),
                TimeWaitVerdict::Drop => {}
                TimeWaitVerdict::Reopen { .. } => panic!("nobody opens again"),
            }
        } else if side == 1 && !self.ends[1].eof {
            match judge(&segment) {
                ListenVerdict::Open(syn) => {
                    let initial = self.initial();
                    let config = self.setup.configs[1];
                    let path = self.path(1);
                    let connection = Connection::accept(now, &config, path, initial, &syn);
                    let offered = connection.snd.iss + u32::from(syn.window);
                    self.ends[1].edge = Some(offered + 1);
                    self.ends[1].connection = Some(connection);
                }
                ListenVerdict::Reset(reset) => self.launch(side, reset, Vec::new(), 1),
                ListenVerdict::Ignore => {}
            }
        } else if let Some(reset) = reset_for(&segment) {
            self.launch(side, reset, Vec::new(), 1);
        }
    }

    fn application(&mut self, side: usize) {
        let total = self.setup.bytes[side];
        let now = self.now;
        let end = &mut self.ends[side];
        let Some(connection) = &mut end.connection else { return };
        while end.written < total {
            let len = self.rng.random_range(1..5000).min(total - end.written);
            let bytes: Vec<u8> =
                (end.written..end.written + len).map(|offset| byte(side, offset)).collect();
            let written = if self.rng.random_bool(0.1) && len < 2000 {
                let mut filler = self.pool.filler().unwrap();
                filler.write(&bytes);
                match connection.write_payload(filler.payload(0..len), Some(end.written as u64)) {
                    Ok(()) => len,
                    Err((WriteError::WouldBlock, _)) => 0,
                    Err((error, _)) => panic!("seed {}: {error}", self.setup.seed),
                }
            } else {
                match connection.write(&self.pool, &bytes) {
                    Ok(written) => written,
                    Err(WriteError::WouldBlock) => 0,
                    Err(error) => panic!("seed {}: {error}", self.setup.seed),
                }
            };
            end.written += written;
            if written == 0 || self.rng.random_bool(0.2) {
                break;
            }
        }
        if end.written == total && !end.shut && self.rng.random_bool(0.7) {
            end.shut = true;
            connection.shutdown_write(now);
        }
        let mut budget = self.setup.read_max[side];
        while budget > 0 && !end.eof {
            let mut out = vec![0; budget.min(4096)];
            match connection.read(&mut out) {
                Ok(0) => end.eof = true,
                Ok(len) => {
                    for (offset, &got) in (end.read..).zip(&out[..len]) {
                        assert_eq!(got, byte(1 - side, offset), "byte {offset} to end {side}");
                    }
                    end.read += len;
                    budget -= len;
                    assert!(end.read <= self.setup.bytes[1 - side]);
                }
                Err(ReadError::WouldBlock) => break,
                Err(error) => panic!("seed {}: {error} at end {side}", self.setup.seed),
            }
        }
        while connection.pop_completed().is_some() {}
        connection.check();
    }

    fn flush(&mut self, side: usize) {
        for count in 0.. {
            assert!(count < 5000, "output without end");
            let now = self.now;
            let limits = self.setup.limits[side];
            let Some(connection) = &mut self.ends[side].connection else { return };
            let wanted = connection.wants_output();
            let probes = connection.stats.window_probes;
            let Some(outgoing) = connection.output(now, &limits) else {
                assert!(!connection.wants_output(), "it wants output and has none");
                break;
            };
            assert!(wanted, "it had output and did not want it");
            connection.check();
            let is_probe = connection.stats.window_probes > probes;
            let cwnd_allowance = connection.congestion.cwnd()
                + connection.recovery.limited_transmit_segments(connection.snd.una)
                    * u32::from(connection.mss());
            let flight = connection.flight();
            let bytes = payload_bytes(&outgoing);
            let repr = outgoing.repr;
            let sequence_len = bytes.len() as u32 + repr.flags.sequence_len();
            if sequence_len > 0 && !repr.flags.contains(TcpFlags::SYN) && !is_probe {
                let end = repr.seq + sequence_len;
                let edge = self.ends[side].edge.unwrap();
                assert!(end.le(edge), "sent up to {end}, offered up to {edge}");
                if !outgoing.is_retransmission && !bytes.is_empty() {
                    assert!(
                        flight <= cwnd_allowance + 1,
                        "{flight} in flight, {cwnd_allowance} allowed"
                    );
                }
            }
            assert!(outgoing.payload.len() <= usize::from(limits.pieces_max));
            let mss = usize::from(outgoing.segment_size);
            assert!(mss + 40 <= self.setup.mtus[side] as usize);
            assert!(bytes.len() <= mss.max(limits.gso_bytes_max as usize));
            assert!(outgoing.wire_segments() <= u32::from(limits.gso_segments_max.max(1)));
            self.cut(side, repr, &bytes, mss);
        }
        let end = &mut self.ends[side];
        let Some(connection) = &end.connection else { return };
        end.stats = connection.stats;
        if connection.state() == State::Closed && end.eof {
            assert_eq!(connection.error(), None, "seed {}", self.setup.seed);
            end.connection = None;
        } else if self.setup.compact
            && end.eof
            && let Some(entry) = connection.time_wait()
        {
            end.entry = Some(entry);
            end.connection = None;
        }
    }

    /// Segmentation, as a device does it.
    fn cut(&mut self, side: usize, repr: TcpRepr, bytes: &[u8], mss: usize) {
        if self.setup.coalesce || bytes.len() <= mss {
            let segments = bytes.len().div_ceil(mss).max(1) as u16;
            return self.launch(side, repr, bytes.to_vec(), segments);
        }
        let count = bytes.len().div_ceil(mss);
        for (index, chunk) in bytes.chunks(mss).enumerate() {
            let mut repr = repr;
            repr.seq += (index * mss) as u32;
            if index + 1 < count {
                repr.flags.remove(TcpFlags::FIN | TcpFlags::PSH);
            }
            self.launch(side, repr, chunk.to_vec(), 1);
        }
    }

    fn launch(&mut self, from: usize, repr: TcpRepr, bytes: Vec<u8>, wire_segments: u16) {
        self.wire_segments += u64::from(wire_segments);
        let copies = if self.rng.random_ratio(self.setup.duplicate, 1000) { 2 } else { 1 };
        for _ in 0..copies {
            if self.rng.random_ratio(self.setup.loss, 1000) {
                continue;
            }
            let mut at = self.now + self.setup.delay;
            if self.rng.random_ratio(self.setup.reorder, 1000) {
                at += self.setup.delay * self.rng.random_range(0..400) / 100;
            }
            self.order += 1;
            self.flying.push(Reverse(Flying {
                at,
                order: self.order,
                to: 1 - from,
                repr,
                bytes: bytes.clone(),
                wire_segments,
            }));
        }
    }
}
