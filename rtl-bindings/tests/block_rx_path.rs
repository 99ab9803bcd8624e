//! `rx_path` against an independent twin, in both widths: drop reasons, verdicts, numbers, bytes, what
//! a full FIFO loses, and what a reset cuts.
//!
//! The twin is written from `hw-model/rtl/README.md`, "What the receive side judges".

mod block;

use std::collections::VecDeque;

use block::{Bench, Mood, Rng, keep, kept, ones_sum, seed};
use tandem_rtl_bindings::{ModelDef, Port, models};

/// Parameters of the models, as in `hw-model/rtl/tops/blocks.list`.
const FRAME_LEN_MAX: usize = 1600;
const FIFO_BYTES: usize = 4096;
const FRAMES_MAX: usize = 24;

const STATION: [u8; 6] = [0x02, 0x54, 0x4E, 0x44, 0x4D, 0x01];

const NOT_JUDGED: u64 = 0;
const VALID: u64 = 1;
const BAD: u64 = 2;

const DROP_FIFO_FULL: u64 = 1;
const DROP_MAC_ERROR: u64 = 3;
const DROP_RUNT: u64 = 4;
const DROP_TOO_LONG: u64 = 5;
const DROP_FILTER: u64 = 6;
const DROP_NOT_READY: u64 = 7;

// -------------------------------------------------------------------------------------------------
// The twin.

fn be16(p: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*p.get(at)?, *p.get(at + 1)?])))
}

/// Rules 1 to 7; `None` is NotJudged.
fn judge(p: &[u8]) -> Option<bool> {
    let (mut l3, mut ethertype) = (14, be16(p, 12)?);
    for _ in 0..2 {
        if ethertype == 0x8100 || ethertype == 0x88A8 {
            ethertype = be16(p, l3 + 2)?;
            l3 += 4;
        }
    }
    let (l4, end, protocol, addresses) = match ethertype {
        0x0800 => {
            let header = p.get(l3..l3 + 20)?;
            let len = usize::from(header[0] & 15) * 4;
            if header[0] >> 4 != 4 || len < 20 || be16(header, 6)? & 0x3FFF != 0 {
                return None;
            }
            if ones_sum(0, p.get(l3..l3 + len)?) != 0xFFFF {
                return None;
            }
            (l3 + len, l3 + be16(header, 2)?, header[9], &header[12..20])
        }
        0x86DD => {
            let header = p.get(l3..l3 + 40)?;
            if header[0] >> 4 != 6 {
                return None;
            }
            (l3 + 40, l3 + 40 + be16(header, 4)?, header[6], &header[8..40])
        }
        _ => return None,
    };
    if end < l4 {
        return None;
    }
    let segment = p.get(l4..end)?;
    match protocol {
        6 if segment.len() >= 20 => {}
        17 if segment.len() >= 8 => {
            if be16(segment, 4)? != segment.len() || be16(segment, 6)? == 0 {
                return None;
            }
        }
        _ => return None,
    }
    let mut sum = ones_sum(0, addresses);
    sum = ones_sum(sum, &[0, protocol]);
    sum = ones_sum(sum, &(segment.len() as u16).to_be_bytes());
    Some(ones_sum(sum, segment) == 0xFFFF)
}

/// The verdict, or why it is dropped whatever the FIFO says.
fn twin(frame: &Frame) -> Result<u64, u64> {
    let p = &frame.bytes;
    if frame.error {
        Err(DROP_MAC_ERROR)
    } else if p.len() > FRAME_LEN_MAX {
        Err(DROP_TOO_LONG)
    } else if p.len() < 14 {
        Err(DROP_RUNT)
    } else if p[0] & 1 == 0 && p[..6] != STATION {
        Err(DROP_FILTER)
    } else {
        Ok(match judge(p) {
            None => NOT_JUDGED,
            Some(true) => VALID,
            Some(false) => BAD,
        })
    }
}

// -------------------------------------------------------------------------------------------------
// Frames of every kind.

#[derive(Clone)]
struct Frame {
    bytes: Vec<u8>,
    error: bool,
}

/// One of `cases` faults (numbered from 0) with the chance of one in each; `cases` where all is well.
struct Faults(bool);

impl Faults {
    fn draw(&self, rng: &mut Rng, cases: usize) -> usize {
        if self.0 { rng.below(cases) } else { cases }
    }
}

fn transport(rng: &mut Rng, faults: &Faults, protocol: u8, len: usize) -> Vec<u8> {
    let mut segment = vec![0; len];
    match rng.below(10) {
        0 => {}
        1 => segment.fill(0xFF),
        _ => rng.fill(&mut segment),
    }
    if protocol == 17 && len >= 8 {
        let stated = match faults.draw(rng, 12) {
            0 => rng.next() as usize,
            1 => len - 1,
            2 => len + 1,
            _ => len,
        };
        segment[4..6].copy_from_slice(&(stated as u16).to_be_bytes());
    }
    segment
}

/// Writes the right checksum, mostly.
fn seal(rng: &mut Rng, faults: &Faults, protocol: u8, addresses: &[u8], segment: &mut [u8]) {
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => return,
    };
    if segment.len() < at + 2 {
        return;
    }
    segment[at..at + 2].fill(0);
    let mut sum = ones_sum(0, addresses);
    sum = ones_sum(sum, &[0, protocol]);
    sum = ones_sum(sum, &(segment.len() as u16).to_be_bytes());
    let checksum = !ones_sum(sum, segment);
    let written = match faults.draw(rng, 8) {
        0 => rng.next() as u16,
        1 => checksum.wrapping_add(1),
        2 => checksum.swap_bytes(),
        3 => 0,
        4 => 0xFFFF,
        // UDP has no zero; where the sum is zero, half of the others have it in its other form too.
        _ if checksum == 0 && (protocol == 17 || rng.chance(50)) => 0xFFFF,
        _ => checksum,
    };
    segment[at..at + 2].copy_from_slice(&written.to_be_bytes());
}

fn ipv4(rng: &mut Rng, faults: &Faults, len: usize) -> Vec<u8> {
    let protocol = if rng.chance(90) { rng.pick(&[6, 17]) } else { rng.pick(&[1, 136, 4, 22]) };
    let words = if rng.chance(60) { 5 } else { rng.between(5, 15) };
    let mut packet = vec![0; words * 4];
    rng.fill(&mut packet);
    packet[0] = 0x40 | words as u8;
    let fragment = match faults.draw(rng, 12) {
        0 => 0x2000,
        1 => 1 << rng.below(14),
        2 => 0x8000,
        3 => 0xC000,
        _ => 0x4000,
    };
    packet[6..8].copy_from_slice(&u16::to_be_bytes(fragment));
    packet[9] = protocol;
    match faults.draw(rng, 60) {
        0 => packet[0] = 0x50 | words as u8,
        1 => packet[0] = 0x40 | rng.below(5) as u8,
        2 => packet[0] = 0x40 | rng.between(5, 15) as u8,
        _ => {}
    }
    let mut segment = transport(rng, faults, protocol, len);
    let addresses = packet[12..20].to_vec();
    seal(rng, faults, protocol, &addresses, &mut segment);
    let total = packet.len() + segment.len();
    let total = match faults.draw(rng, 40) {
        0 => rng.next() as usize,
        1 => total - 1,
        2 => total + 1,
        3 => packet.len() + rng.below(30),
        4 => rng.below(packet.len() + 1),
        _ => total,
    };
    packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    packet[10..12].fill(0);
    let checksum = match faults.draw(rng, 20) {
        0 => rng.next() as u16,
        1 => (!ones_sum(0, &packet)).wrapping_sub(1),
        _ => !ones_sum(0, &packet),
    };
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(segment);
    packet
}

fn ipv6(rng: &mut Rng, faults: &Faults, len: usize) -> Vec<u8> {
    let protocol =
        if rng.chance(90) { rng.pick(&[6, 17]) } else { rng.pick(&[58, 0, 43, 44, 60, 59]) };
    let mut packet = vec![0; 40];
    rng.fill(&mut packet);
    packet[0] = if faults.draw(rng, 50) == 0 { rng.next() as u8 } else { 0x60 | packet[0] & 15 };
    packet[6] = protocol;
    let mut segment = transport(rng, faults, protocol, len);
    let addresses = packet[8..40].to_vec();
    seal(rng, faults, protocol, &addresses, &mut segment);
    let payload = match faults.draw(rng, 40) {
        0 => rng.next() as usize,
        1 => segment.len().saturating_sub(1),
        2 => segment.len() + 1,
        3 => 0,
        _ => segment.len(),
    };
    packet[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    packet.extend(segment);
    packet
}

fn random_frame(rng: &mut Rng) -> Frame {
    let faults = Faults(rng.chance(50));
    let mut bytes = vec![0; 12];
    rng.fill(&mut bytes);
    match rng.below(12) {
        0 => bytes[..6].fill(0xFF),
        1 => bytes[0] |= 1,
        2 => bytes[0] &= !1,
        3 => {
            // One bit beside the station's address.
            bytes[..6].copy_from_slice(&STATION);
            bytes[rng.below(6)] ^= 1 << rng.below(8);
        }
        _ => bytes[..6].copy_from_slice(&STATION),
    }
    for _ in 0..rng.pick(&[0, 0, 0, 0, 1, 1, 2, 2, 3]) {
        bytes.extend(rng.pick(&[0x8100u16, 0x8100, 0x88A8, 0x9100]).to_be_bytes());
        bytes.extend((rng.next() as u16).to_be_bytes());
    }
    let len = match rng.below(20) {
        0 | 1 => rng.between(0, 30),
        2..=9 => rng.between(20, 80),
        10..=13 => rng.between(100, 140),
        14..=18 => rng.between(0, 600),
        _ => rng.between(600, 1540),
    };
    match rng.below(12) {
        0..=5 => {
            bytes.extend(0x0800u16.to_be_bytes());
            bytes.extend(ipv4(rng, &faults, len));
        }
        6..=9 => {
            bytes.extend(0x86DDu16.to_be_bytes());
            bytes.extend(ipv6(rng, &faults, len));
        }
        10 => {
            // The header of the other family.
            bytes.extend(rng.pick(&[0x0800u16, 0x86DD]).to_be_bytes());
            bytes.extend(if rng.chance(50) {
                ipv4(rng, &faults, len)
            } else {
                ipv6(rng, &faults, len)
            });
        }
        _ => {
            bytes.extend(rng.pick(&[0x0806u16, 46, 0x88CC]).to_be_bytes());
            let at = bytes.len();
            bytes.resize(at + len, 0);
            rng.fill(&mut bytes[at..]);
        }
    }
    // Padding, as every short frame has it, and not only zeros.
    if rng.chance(60) && bytes.len() < 60 {
        let at = bytes.len();
        bytes.resize(60, 0);
        if rng.chance(50) {
            rng.fill(&mut bytes[at..]);
        }
    } else if rng.chance(5) {
        bytes.resize(bytes.len() + rng.between(1, 70), 0xA5);
    }
    match rng.below(40) {
        0 | 1 => bytes.truncate(rng.between(1, bytes.len())),
        2 => bytes.truncate(rng.between(1, bytes.len().min(20))),
        3 => bytes.resize(FRAME_LEN_MAX + rng.below(4) - 1, 0),
        4 if rng.chance(5) => bytes.resize(66_000, 1),
        _ => {}
    }
    if faults.draw(rng, 8) == 0 {
        for _ in 0..rng.between(1, 3) {
            let at = rng.below(bytes.len().min(90));
            bytes[at] ^= 1 << rng.below(8);
        }
    }
    Frame { bytes, error: rng.chance(2) }
}

// -------------------------------------------------------------------------------------------------
// The driver.

/// A frame that began, until its event has come.
struct Begun {
    frame: Frame,
    number: u32,
    /// Beats and frames that had been read when it began: what a full FIFO is measured by.
    beats_read: usize,
    metas_read: usize,
    frames_read: usize,
}

#[derive(Default, Debug, Clone, Copy)]
struct Counts {
    begun: usize,
    accepted: usize,
    verdicts: [usize; 3],
    drops: [usize; 10],
    read: usize,
}

struct Rx {
    bench: Bench,
    rng: Rng,
    lanes: usize,
    source: Mood,
    sink: Mood,
    meta_sink: Mood,
    flush: Port,
    accept: Port,
    mac_valid: Port,
    mac_data: Port,
    mac_keep: Port,
    mac_last: Port,
    mac_error: Port,
    meta: [Port; 5],
    out: [Port; 5],
    event: [Port; 6],
    busy: Port,
    ready: bool,
    begun: VecDeque<Begun>,
    /// Accepted, meta or beats still to be read: number, bytes, verdict.
    metas: VecDeque<(u32, usize, u64)>,
    frames: VecDeque<Vec<u8>>,
    coming: Vec<u8>,
    number: u32,
    beats_accepted: usize,
    beats_read: usize,
    metas_read: usize,
    frames_read: usize,
    counts: Counts,
}

impl Rx {
    fn new(def: &'static ModelDef, seed: u64, always: bool) -> Self {
        let bench = Bench::new(def, seed);
        let p = |name| bench.port(name);
        let mut rx = Self {
            lanes: bench.bits(p("mac_keep_i")),
            rng: Rng::new(seed),
            source: Mood::new(always),
            sink: Mood::new(always),
            meta_sink: Mood::new(always),
            flush: p("flush_i"),
            accept: p("accept_i"),
            mac_valid: p("mac_valid_i"),
            mac_data: p("mac_data_i"),
            mac_keep: p("mac_keep_i"),
            mac_last: p("mac_last_i"),
            mac_error: p("mac_error_i"),
            meta: ["meta_valid_o", "meta_ready_i", "meta_number_o", "meta_len_o", "meta_verdict_o"]
                .map(p),
            out: ["out_valid_o", "out_ready_i", "out_data_o", "out_keep_o", "out_last_o"].map(p),
            event: [
                "event_valid_o",
                "event_number_o",
                "event_len_o",
                "event_accepted_o",
                "event_verdict_o",
                "event_reason_o",
            ]
            .map(p),
            busy: p("busy_o"),
            ready: true,
            begun: VecDeque::new(),
            metas: VecDeque::new(),
            frames: VecDeque::new(),
            coming: Vec::new(),
            number: 0,
            beats_accepted: 0,
            beats_read: 0,
            metas_read: 0,
            frames_read: 0,
            counts: Counts::default(),
            bench,
        };
        let mut mac = [0; 8];
        for (i, byte) in STATION.into_iter().enumerate() {
            mac[5 - i] = byte; // The port's highest byte is the first on the wire.
        }
        let port = rx.bench.port("mac_i");
        rx.bench.write(port, &mac[..6]);
        rx.bench.set(rx.accept, 1);
        rx
    }

    fn begin(&mut self, frame: &Frame) {
        self.begun.push_back(Begun {
            frame: frame.clone(),
            number: self.number,
            beats_read: self.beats_read,
            metas_read: self.metas_read,
            frames_read: self.frames_read,
        });
        self.number = self.number.wrapping_add(1);
        self.counts.begun += 1;
    }

    /// Puts a beat on the MAC's port, garbage where it has none.
    fn drive(&mut self, frame: &Frame, beat: usize) {
        let beats = frame.bytes.len().div_ceil(self.lanes);
        let at = beat * self.lanes;
        let bytes = &frame.bytes[at..frame.bytes.len().min(at + self.lanes)];
        let mut data = [0u8; 64];
        self.rng.fill(&mut data[..self.lanes]);
        data[..bytes.len()].copy_from_slice(bytes);
        let last = beat + 1 == beats;
        self.bench.write(self.mac_data, &data[..self.lanes]);
        self.bench.write(self.mac_keep, &keep(bytes.len()));
        self.bench.set(self.mac_last, u64::from(last));
        // Only at last does it mean anything.
        let error = if last { frame.error } else { self.rng.chance(10) };
        self.bench.set(self.mac_error, u64::from(error));
        self.bench.set(self.mac_valid, 1);
    }

    fn send(&mut self, frame: &Frame) {
        for beat in 0..frame.bytes.len().div_ceil(self.lanes) {
            while !self.source.willing(&mut self.rng) {
                self.bench.set(self.mac_valid, 0);
                self.cycle();
            }
            if beat == 0 {
                self.begin(frame);
            }
            self.drive(frame, beat);
            self.cycle();
        }
        self.bench.set(self.mac_valid, 0);
    }

    fn cycle(&mut self) {
        let (meta, out) = (self.meta, self.out);
        let meta_ready = self.meta_sink.willing(&mut self.rng);
        let out_ready = self.sink.willing(&mut self.rng);
        let b = &mut self.bench;
        b.set(meta[1], u64::from(meta_ready));
        b.set(out[1], u64::from(out_ready));
        b.settle();
        // The event comes no later than the meta, the meta no later than the beats.
        if b.is_set(self.event[0]) {
            self.event();
        }
        let b = &self.bench;
        let now = b.now();
        if b.is_set(meta[0]) && meta_ready {
            let shown = (b.get(meta[2]) as u32, b.get(meta[3]) as usize, b.get(meta[4]));
            let expected = self.metas.pop_front();
            assert_eq!(Some(shown), expected, "cycle {now}: meta");
            self.metas_read += 1;
        }
        if b.is_set(out[0]) && out_ready {
            let count = kept(b.get(out[3]));
            self.coming.extend_from_slice(&b.bytes(out[2])[..count]);
            self.beats_read += 1;
            if b.is_set(out[4]) {
                let expected = self.frames.pop_front();
                assert_eq!(Some(&self.coming), expected.as_ref(), "cycle {now}: other bytes");
                self.coming.clear();
                self.frames_read += 1;
                self.counts.read += 1;
            } else {
                assert_eq!(count, self.lanes, "cycle {now}: a short beat inside a frame");
            }
        }
        self.bench.edge();
    }

    fn event(&mut self) {
        let b = &self.bench;
        let now = b.now();
        let [_, number, len, accepted, verdict, reason] = self.event.map(|port| b.get(port));
        let begun = self.begun.pop_front().expect("an event without a frame");
        let frame = &begun.frame;
        assert_eq!(number, u64::from(begun.number), "cycle {now}: event out of order");
        assert_eq!(len as usize, frame.bytes.len().min(0xFFFF), "cycle {now}");
        let beats = frame.bytes.len().div_ceil(self.lanes);
        let said = if accepted == 1 { Ok(verdict) } else { Err(reason) };
        let full = said == Err(DROP_FIFO_FULL);
        if let Ok(expected) = twin(frame)
            && (full || said == Err(DROP_NOT_READY))
        {
            if said == Err(DROP_NOT_READY) {
                assert!(!self.ready, "cycle {now}: the function was ready ({expected})");
            } else {
                // Full, even if nothing was read since it began? One word waits outside the RAM.
                let words = self.beats_accepted - begun.beats_read + beats;
                let metas = self.counts.accepted - begun.metas_read;
                let frames = self.counts.accepted - begun.frames_read;
                assert!(
                    words > FIFO_BYTES / self.lanes || metas.max(frames) >= FRAMES_MAX,
                    "cycle {now}: {words} words, {metas} metas and {frames} frames are not full"
                );
            }
        } else {
            assert_eq!(said, twin(frame), "cycle {now}, frame {number}: {:02x?}", frame.bytes);
        }
        match said {
            Ok(verdict) => {
                self.counts.accepted += 1;
                self.counts.verdicts[verdict as usize] += 1;
                self.beats_accepted += beats;
                self.metas.push_back((begun.number, frame.bytes.len(), verdict));
                self.frames.push_back(begun.frame.bytes);
            }
            Err(reason) => self.counts.drops[reason as usize] += 1,
        }
    }

    /// Waits until every event has come and all is read.
    fn finish(&mut self) {
        let mut left = 100_000;
        while !(self.begun.is_empty() && self.metas.is_empty() && self.frames.is_empty()) {
            self.cycle();
            left -= 1;
            assert!(left > 0, "{} frames without event", self.begun.len());
        }
        for _ in 0..3 {
            self.cycle();
        }
        self.bench.settle();
        for port in [self.busy, self.meta[0], self.out[0], self.event[0]] {
            assert!(!self.bench.is_set(port), "something is left");
        }
    }

    fn report(&self) {
        println!("{:?}, {} cycles", self.counts, self.bench.now());
    }
}

// -------------------------------------------------------------------------------------------------
// The tests.

/// A reader that keeps up: every decision is the twin's, nothing is lost to a full FIFO.
fn judged(def: &'static ModelDef, frames: usize) {
    let seed = seed("--test block_rx_path judged");
    let mut rx = Rx::new(def, seed, false);
    rx.sink = Mood::new(true);
    rx.meta_sink = Mood::new(true);
    let mut rng = Rng::new(seed ^ 0xB0);
    for _ in 0..frames {
        let frame = random_frame(&mut rng);
        rx.send(&frame);
    }
    rx.finish();
    rx.report();
    let c = rx.counts;
    assert_eq!(c.drops[DROP_FIFO_FULL as usize], 0, "lost although nobody stalled");
    for reason in [DROP_MAC_ERROR, DROP_RUNT, DROP_TOO_LONG, DROP_FILTER] {
        assert!(c.drops[reason as usize] > frames / 1000, "reason {reason} was hardly met");
    }
    assert!(c.verdicts.iter().all(|&n| n > frames / 20), "{c:?}");
}

#[test]
fn judged_64() {
    judged(&models::RX64, 100_000);
}

#[test]
fn judged_512() {
    judged(&models::RX512, 100_000);
}

/// Readers that stall, meta and beats each for itself: what is lost is lost whole and with reason.
fn overflow(def: &'static ModelDef, frames: usize) {
    let seed = seed("--test block_rx_path overflow");
    let mut rx = Rx::new(def, seed, false);
    rx.source = Mood::new(true);
    let mut rng = Rng::new(seed ^ 0xC0);
    for i in 0..frames {
        let frame = random_frame(&mut rng);
        rx.send(&frame);
        if i % 500 == 0 {
            rx.finish();
            // Not ready for a while; events in flight would be ambiguous, so change when idle.
            rx.ready = i % 1000 == 0;
            rx.bench.set(rx.accept, u64::from(rx.ready));
        }
    }
    rx.finish();
    rx.report();
    let c = rx.counts;
    assert!(c.drops[DROP_FIFO_FULL as usize] > frames / 100, "the FIFO was hardly full");
    assert!(c.drops[DROP_NOT_READY as usize] > frames / 10 && c.accepted > frames / 10);
}

#[test]
fn overflow_64() {
    overflow(&models::RX64, 30_000);
}

#[test]
fn overflow_512() {
    overflow(&models::RX512, 30_000);
}

/// The smallest frames that there are, one after the other, lose nothing either.
fn line_rate(def: &'static ModelDef) {
    for len in [14, 60, 64, 65, 1514, FRAME_LEN_MAX] {
        let mut rx = Rx::new(def, 1, true);
        let start = rx.bench.now();
        let mut bytes = vec![0xFF; len];
        rx.rng.fill(&mut bytes[6..]);
        let frame = Frame { bytes, error: false };
        for _ in 0..300 {
            rx.send(&frame);
        }
        let cycles = (rx.bench.now() - start) as usize;
        assert_eq!(cycles, 300 * len.div_ceil(rx.lanes));
        rx.finish();
        assert_eq!(rx.counts.accepted, 300, "{len} bytes");
    }
}

#[test]
fn line_rate_64() {
    line_rate(&models::RX64);
}

#[test]
fn line_rate_512() {
    line_rate(&models::RX512);
}

/// Resets at any moment: what is under way is cut without an event, numbers go on, and the first whole
/// frame behind the reset is the next one.
fn flushed(def: &'static ModelDef, resets: usize) {
    let seed = seed("--test block_rx_path flushed");
    let mut rx = Rx::new(def, seed, false);
    let mut rng = Rng::new(seed ^ 0xD0);
    let mut cut_in_frame = 0;
    for _ in 0..resets {
        for _ in 0..rng.between(1, 12) {
            let frame = random_frame(&mut rng);
            rx.send(&frame);
        }
        // Reset at one beat of the next frame, for as long as it takes, frames or none coming.
        let mut frame = random_frame(&mut rng);
        let mut beats = frame.bytes.len().div_ceil(rx.lanes);
        let mut beat = 0;
        for _ in 0..rng.below(beats.min(40) + 1) {
            if beat == 0 {
                rx.begin(&frame);
            }
            rx.drive(&frame, beat);
            rx.cycle();
            beat += 1;
        }
        rx.bench.set(rx.flush, 1);
        for cycle in 0..rng.between(1, 30) {
            let beats_come = rng.chance(70);
            if beats_come {
                if beat == beats {
                    frame = random_frame(&mut rng);
                    beats = frame.bytes.len().div_ceil(rx.lanes);
                    beat = 0;
                }
                if beat == 0 {
                    rx.begin(&frame);
                }
                rx.drive(&frame, beat);
                beat += 1;
            } else {
                rx.bench.set(rx.mac_valid, 0);
            }
            // Readers hold still: what is shown in the first cycle is taken away.
            rx.bench.set(rx.meta[1], 0);
            rx.bench.set(rx.out[1], 0);
            rx.bench.settle();
            if rx.bench.is_set(rx.event[0]) {
                assert_eq!(cycle, 0, "an event after the reset began");
                rx.event();
            }
            if cycle > 0 {
                assert!(!rx.bench.is_set(rx.meta[0]) && !rx.bench.is_set(rx.out[0]));
            }
            rx.bench.edge();
        }
        rx.bench.set(rx.flush, 0);
        rx.begun.clear();
        rx.metas.clear();
        rx.frames.clear();
        rx.coming.clear();
        (rx.beats_accepted, rx.beats_read) = (0, 0);
        (rx.counts.accepted, rx.metas_read, rx.frames_read) = (0, 0, 0);
        // The rest of the frame that is cut, if one is.
        cut_in_frame += usize::from(beat > 0 && beat < beats);
        while beat > 0 && beat < beats {
            rx.drive(&frame, beat);
            rx.cycle();
            beat += 1;
        }
        rx.bench.set(rx.mac_valid, 0);
        if rng.chance(50) {
            rx.finish();
        }
    }
    rx.finish();
    assert!(cut_in_frame > resets / 10);
}

#[test]
fn flushed_64() {
    flushed(&models::RX64, 4_000);
}

#[test]
fn flushed_512() {
    flushed(&models::RX512, 4_000);
}
