//! `tx_checksum` against a naive twin, in both widths: what it inserts, what it refuses, the order in
//! which it reports, and that it keeps up with one beat a cycle.
//!
//! The twin is written from `hw-model/rtl/README.md`, "What the transmit side inserts".

mod block;

use std::collections::VecDeque;

use block::{Bench, Mood, Rng, keep, kept, ones_sum, seed};
use tandem_rtl_bindings::{ModelDef, Port, models};

/// `FrameLenMax` of the models, as in `hw-model/rtl/tops/blocks.list`.
const FRAME_LEN_MAX: usize = 1600;
const DROP_TOO_LONG: u64 = 5;
const DROP_BAD_REQUEST: u64 = 8;

#[derive(Clone, Default)]
struct Frame {
    bytes: Vec<u8>,
    csum: Option<(u16, u16)>,
    abort: bool,
    tag: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Done {
    tag: u32,
    len: usize,
    inserted: bool,
    dropped: bool,
    aborted: bool,
    reason: u64,
}

/// What must come of a frame: its bytes on the wire, or nothing, and the report.
fn twin(frame: &Frame) -> (Option<Vec<u8>>, Done) {
    let n = frame.bytes.len();
    let mut done = Done {
        tag: frame.tag,
        len: n.min(0xFFFF),
        inserted: false,
        dropped: true,
        aborted: frame.abort,
        reason: 0,
    };
    if frame.abort {
        return (None, done);
    }
    if n > FRAME_LEN_MAX {
        done.reason = DROP_TOO_LONG;
        return (None, done);
    }
    let mut bytes = frame.bytes.clone();
    if let Some((start, offset)) = frame.csum {
        let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
        if field + 2 > n {
            done.reason = DROP_BAD_REQUEST;
            return (None, done);
        }
        let checksum = match !ones_sum(0, &bytes[start..]) {
            0 => 0xFFFF,
            c => c,
        };
        bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        done.inserted = true;
    }
    done.dropped = false;
    (Some(bytes), done)
}

struct Tx {
    bench: Bench,
    rng: Rng,
    lanes: usize,
    source: Mood,
    sink: Mood,
    in_valid: Port,
    in_ready: Port,
    in_data: Port,
    in_keep: Port,
    in_last: Port,
    in_abort: Port,
    csum_en: Port,
    csum_start: Port,
    csum_offset: Port,
    tag: Port,
    out_valid: Port,
    out_ready: Port,
    out_data: Port,
    out_keep: Port,
    out_last: Port,
    done: [Port; 7],
    busy: Port,
    /// What must come, in order.
    wire: VecDeque<Vec<u8>>,
    dones: VecDeque<Done>,
    /// The frame that is coming out.
    coming: Vec<u8>,
    tags: u32,
    sent: usize,
    dropped: usize,
}

impl Tx {
    fn new(def: &'static ModelDef, seed: u64, always: bool) -> Self {
        let bench = Bench::new(def, seed);
        let p = |name| bench.port(name);
        Self {
            lanes: bench.bits(p("in_keep_i")),
            rng: Rng::new(seed),
            source: Mood::new(always),
            sink: Mood::new(always),
            in_valid: p("in_valid_i"),
            in_ready: p("in_ready_o"),
            in_data: p("in_data_i"),
            in_keep: p("in_keep_i"),
            in_last: p("in_last_i"),
            in_abort: p("in_abort_i"),
            csum_en: p("csum_en_i"),
            csum_start: p("csum_start_i"),
            csum_offset: p("csum_offset_i"),
            tag: p("tag_i"),
            out_valid: p("out_valid_o"),
            out_ready: p("out_ready_i"),
            out_data: p("out_data_o"),
            out_keep: p("out_keep_o"),
            out_last: p("out_last_o"),
            done: [
                "done_valid_o",
                "done_tag_o",
                "done_len_o",
                "done_inserted_o",
                "done_dropped_o",
                "done_aborted_o",
                "done_reason_o",
            ]
            .map(p),
            busy: p("busy_o"),
            wire: VecDeque::new(),
            dones: VecDeque::new(),
            coming: Vec::new(),
            tags: 0,
            sent: 0,
            dropped: 0,
            bench,
        }
    }

    /// Hands in a frame beat by beat, watching what comes out meanwhile.
    fn send(&mut self, mut frame: Frame) {
        self.tags = self.tags.wrapping_add(0x9E37_79B9);
        frame.tag = self.tags;
        let (wire, done) = twin(&frame);
        match wire {
            Some(bytes) => {
                self.wire.push_back(bytes);
                self.sent += 1;
            }
            None => self.dropped += 1,
        }
        self.dones.push_back(done);
        let beats = frame.bytes.len().div_ceil(self.lanes).max(1);
        for beat in 0..beats {
            while !self.source.willing(&mut self.rng) {
                self.bench.set(self.in_valid, 0);
                self.cycle();
            }
            let at = beat * self.lanes;
            let bytes = &frame.bytes[at..frame.bytes.len().min(at + self.lanes)];
            // Lanes beyond the frame, and the request beyond the first beat, are anybody's guess.
            let mut data = [0u8; 64];
            self.rng.fill(&mut data[..self.lanes]);
            data[..bytes.len()].copy_from_slice(bytes);
            self.bench.write(self.in_data, &data[..self.lanes]);
            self.bench.write(self.in_keep, &keep(bytes.len()));
            self.bench.set(self.in_last, u64::from(beat + 1 == beats));
            self.bench.set(self.in_abort, u64::from(beat + 1 == beats && frame.abort));
            if beat == 0 {
                let (start, offset) = frame.csum.unwrap_or_else(|| {
                    let junk = self.rng.next();
                    (junk as u16, (junk >> 16) as u16)
                });
                self.bench.set(self.csum_en, u64::from(frame.csum.is_some()));
                self.bench.set(self.csum_start, u64::from(start));
                self.bench.set(self.csum_offset, u64::from(offset));
                self.bench.set(self.tag, u64::from(frame.tag));
            } else if beat == 1 {
                let junk = self.rng.next();
                self.bench.set(self.csum_en, junk & 1);
                self.bench.set(self.csum_start, junk >> 8 & 0xFFFF);
                self.bench.set(self.csum_offset, junk >> 24 & 0xFFFF);
                self.bench.set(self.tag, junk >> 32);
            }
            self.bench.set(self.in_valid, 1);
            let mut waited = 0;
            while !self.cycle() {
                waited += 1;
                assert!(waited < 100_000, "cycle {}: input hangs", self.bench.now());
            }
        }
        self.bench.set(self.in_valid, 0);
    }

    /// One cycle; whether the input was ready.
    fn cycle(&mut self) -> bool {
        let b = &mut self.bench;
        let ready = self.sink.willing(&mut self.rng);
        b.set(self.out_ready, u64::from(ready));
        b.settle();
        let taken = b.is_set(self.in_ready);
        let now = b.now();
        let valid = b.is_set(self.out_valid);
        assert!(valid || self.coming.is_empty(), "cycle {now}: a gap inside a frame");
        if valid && ready {
            let count = kept(b.get(self.out_keep));
            self.coming.extend_from_slice(&b.bytes(self.out_data)[..count]);
            let last = b.is_set(self.out_last);
            assert!(last || count == self.lanes, "cycle {now}: a short beat inside a frame");
            if last {
                let expected = self.wire.pop_front();
                assert_eq!(Some(&self.coming), expected.as_ref(), "cycle {now}: other bytes");
                self.coming.clear();
            }
        }
        let [valid, tag, len, inserted, dropped, aborted, reason] = self.done;
        if b.is_set(valid) {
            let mut done = Done {
                tag: b.get(tag) as u32,
                len: b.get(len) as usize,
                inserted: b.is_set(inserted),
                dropped: b.is_set(dropped),
                aborted: b.is_set(aborted),
                reason: b.get(reason),
            };
            if !done.dropped || done.aborted {
                done.reason = 0;
            }
            let expected = self.dones.pop_front();
            assert_eq!(Some(done), expected, "cycle {now}");
            let unsent = self.dones.iter().filter(|d| !d.dropped).count();
            assert!(self.wire.len() <= unsent, "cycle {now}: done before the last beat");
        }
        b.edge();
        taken
    }

    /// Waits until all has come out.
    fn finish(&mut self) {
        let mut left = 200_000;
        while !self.dones.is_empty() {
            self.cycle();
            left -= 1;
            assert!(left > 0, "{} frames never came out", self.dones.len());
        }
        assert!(self.wire.is_empty() && self.coming.is_empty());
        for _ in 0..3 {
            self.cycle();
        }
        self.bench.settle();
        assert!(!self.bench.is_set(self.busy), "busy for nothing");
        println!(
            "{} frames sent, {} dropped, {} cycles",
            self.sent,
            self.dropped,
            self.bench.now()
        );
    }
}

/// Every start and offset, in and just out of the frame, for lengths at and around beat borders.
fn every_position(def: &'static ModelDef, lengths: &[usize]) {
    let seed = seed("--test block_tx_checksum every_position");
    let mut tx = Tx::new(def, seed, false);
    let mut rng = Rng::new(seed ^ 0xE0);
    for &len in lengths {
        for start in 0..=len + 1 {
            for offset in 0..=(len + 1 - start) {
                let mut bytes = vec![0; len];
                rng.fill(&mut bytes);
                let csum = Some((start as u16, offset as u16));
                tx.send(Frame { bytes, csum, ..Frame::default() });
            }
        }
    }
    tx.finish();
    assert!(tx.sent > 10_000 && tx.dropped > 1_000);
}

#[test]
fn every_position_64() {
    every_position(&models::TX64, &(1..=66).collect::<Vec<_>>());
}

#[test]
fn every_position_512() {
    let borders = [1, 64, 128, 192].into_iter().flat_map(|b: usize| b.saturating_sub(2)..=b + 2);
    every_position(&models::TX512, &borders.filter(|&len| len > 0).collect::<Vec<_>>());
}

/// Changes a word behind the field so that the sum is 0xFFFF and the checksum would be zero.
fn make_zero(bytes: &mut [u8], start: usize) {
    let Some(last) = (start..bytes.len().saturating_sub(1)).step_by(2).next_back() else { return };
    bytes[last..last + 2].fill(0);
    let rest = !ones_sum(0, &bytes[start..]);
    bytes[last..last + 2].copy_from_slice(&rest.to_be_bytes());
    assert_eq!(ones_sum(0, &bytes[start..]), 0xFFFF);
}

fn random_frame(rng: &mut Rng, lanes: usize) -> Frame {
    let len = match rng.below(20) {
        0..=7 => rng.between(14, 130),
        8..=12 => (lanes * rng.between(1, 8) + rng.below(5)).saturating_sub(2).max(1),
        13..=17 => rng.between(60, 600),
        18 => rng.between(1, FRAME_LEN_MAX),
        _ => rng.between(FRAME_LEN_MAX - 2, FRAME_LEN_MAX + 2),
    };
    let mut bytes = vec![0; len];
    match rng.below(20) {
        0 => {}
        1 => bytes.fill(0xFF),
        _ => rng.fill(&mut bytes),
    }
    let csum = (!rng.chance(10)).then(|| match rng.below(10) {
        0 => (rng.next() as u16, rng.next() as u16),
        1 => (0xFFFF - rng.below(3) as u16, 0xFFFF - rng.below(3) as u16),
        2 => {
            // The field's end at the frame's end, one before or one behind.
            let field = (len + rng.below(3)).saturating_sub(3);
            let start = rng.below(field + 1);
            (start as u16, (field - start) as u16)
        }
        _ => {
            let start = rng.below(len);
            (start as u16, rng.below((len - start - 1).clamp(1, 40)) as u16)
        }
    });
    if let Some((start, _)) = csum
        && usize::from(start) < len
        && rng.chance(5)
    {
        make_zero(&mut bytes, usize::from(start));
    }
    Frame { bytes, csum, abort: rng.chance(1), ..Frame::default() }
}

fn random(def: &'static ModelDef, frames: usize) {
    let seed = seed("--test block_tx_checksum random");
    let mut tx = Tx::new(def, seed, false);
    let mut rng = Rng::new(seed ^ 0xA0);
    for i in 0..frames {
        let mut frame = random_frame(&mut rng, tx.lanes);
        if i % 25_000 == 24_999 {
            // Longer than any counter of it.
            frame.bytes = vec![0x5A; 70_000];
        } else if frame.abort && rng.chance(20) {
            // An abort may come without a byte.
            frame.bytes.truncate(frame.bytes.len() / tx.lanes * tx.lanes);
        }
        tx.send(frame);
    }
    tx.finish();
}

#[test]
fn random_64() {
    random(&models::TX64, 100_000);
}

#[test]
fn random_512() {
    random(&models::TX512, 100_000);
}

/// Nobody stalls: as many cycles as beats, but for the way through.
fn full_rate(def: &'static ModelDef) {
    for len in [60, 61, 64, 65, 128, 1514, FRAME_LEN_MAX] {
        let mut tx = Tx::new(def, 1, true);
        let start = tx.bench.now();
        let frames = 400;
        for i in 0..frames {
            let bytes = (0..len).map(|b| (b + i) as u8).collect();
            tx.send(Frame { bytes, csum: Some((14, 16)), ..Frame::default() });
        }
        let beats = frames * len.div_ceil(tx.lanes);
        let taken_in = (tx.bench.now() - start) as usize;
        assert!(taken_in <= beats + 4, "{len} bytes: {taken_in} cycles for {beats} beats in");
        tx.finish();
        let through = (tx.bench.now() - start) as usize;
        let frame_beats = len.div_ceil(tx.lanes);
        assert!(
            through <= beats + frame_beats + 20,
            "{len} bytes: {through} cycles, {beats} beats"
        );
    }
}

#[test]
fn full_rate_64() {
    full_rate(&models::TX64);
}

#[test]
fn full_rate_512() {
    full_rate(&models::TX512);
}
