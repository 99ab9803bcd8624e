//! The stream primitives against queues: nothing lost, nothing invented, nothing out of order, and full
//! rate where their headers promise it.

mod block;

use std::collections::VecDeque;

use block::{Bench, Mood, Rng, seed};
use tandem_rtl_bindings::{Port, models};

/// Parameters of the model, as `tb_primitives` has them.
const FIFO_DEPTH: usize = 5;
const STREAM_DEPTH: usize = 16;
const REQUESTERS: usize = 5;

const CYCLES: u64 = 200_000;

/// valid, ready and data of one side of a stream.
fn stream(bench: &Bench, prefix: &str, ends: [&str; 3]) -> [Port; 3] {
    ends.map(|end| bench.port(&format!("{prefix}{end}")))
}

const IN: [&str; 3] = ["in_valid_i", "in_ready_o", "in_data_i"];
const OUT: [&str; 3] = ["out_valid_o", "out_ready_i", "out_data_o"];

/// A queue between two streams. `capacity` words fit; `clear` empties it.
fn queue(prefix: &str, capacity: usize, clear: Option<&str>, always: bool) {
    let seed = seed("--test block_primitives");
    let mut b = Bench::new(&models::PRIMITIVES, seed);
    let mut rng = Rng::new(seed);
    let [in_valid, in_ready, in_data] = stream(&b, prefix, IN);
    let [out_valid, out_ready, out_data] = stream(&b, prefix, OUT);
    let clear = clear.map(|name| b.port(name));
    let (mut source, mut sink) = (Mood::new(always), Mood::new(always));
    let mut inside = VecDeque::new();
    let mut offered: Option<u64> = None;
    let (mut passed, mut fullest) = (0u64, 0);
    for _ in 0..CYCLES {
        // An offer stands until it is taken.
        if offered.is_none() && source.willing(&mut rng) {
            offered = Some(rng.next() & 0xFFFF);
        }
        let ready = sink.willing(&mut rng);
        b.set(in_valid, u64::from(offered.is_some()));
        b.set(in_data, offered.unwrap_or_else(|| rng.next() & 0xFFFF));
        b.set(out_ready, u64::from(ready));
        let clearing = clear.is_some() && rng.below(500) == 0;
        if let Some(clear) = clear {
            b.set(clear, u64::from(clearing));
        }
        b.settle();
        if b.is_set(out_valid) {
            assert_eq!(inside.front(), Some(&b.get(out_data)), "cycle {}", b.now());
            if ready {
                inside.pop_front();
                passed += 1;
            }
        } else {
            assert!(inside.is_empty(), "cycle {}: hidden words", b.now());
        }
        if b.is_set(in_ready) && !clearing {
            inside.extend(offered.take());
        }
        if clearing {
            inside.clear();
        }
        fullest = fullest.max(inside.len());
        b.edge();
    }
    assert!(fullest <= capacity, "{fullest} words in a place for {capacity}");
    if always {
        assert!(passed >= CYCLES - 4, "{passed} words in {CYCLES} cycles");
    } else {
        assert_eq!(fullest, capacity, "never full");
        assert!(passed > CYCLES / 4);
    }
}

#[test]
fn skid_buffer_keeps_order() {
    queue("skid_", 2, None, false);
}

#[test]
fn skid_buffer_has_full_rate() {
    queue("skid_", 2, None, true);
}

#[test]
fn sync_fifo_keeps_order() {
    queue("fifo_", FIFO_DEPTH, Some("fifo_clear_i"), false);
}

#[test]
fn sync_fifo_has_full_rate() {
    queue("fifo_", FIFO_DEPTH, None, true);
}

#[test]
fn rr_arbiter_is_fair_and_steady() {
    let seed = seed("--test block_primitives rr_arbiter");
    let mut b = Bench::new(&models::PRIMITIVES, seed);
    let mut rng = Rng::new(seed);
    let [req, gnt, idx, valid, ready] =
        ["arb_req_i", "arb_gnt_o", "arb_idx_o", "arb_valid_o", "arb_ready_i"].map(|p| b.port(p));
    let mut sink = Mood::new(false);
    let mut up = [false; REQUESTERS];
    let mut grants_to_others = [0usize; REQUESTERS];
    let mut total = [0u64; REQUESTERS];
    let mut held = None;
    for cycle in 0..CYCLES {
        // For the last quarter everybody always asks.
        let eager = cycle > CYCLES / 4 * 3;
        for asks in &mut up {
            *asks |= eager || rng.chance(20);
        }
        let willing = sink.willing(&mut rng);
        let bits = up.iter().rev().fold(0, |bits, &asks| bits << 1 | u64::from(asks));
        b.set(req, bits);
        b.set(ready, u64::from(willing));
        b.settle();
        assert_eq!(b.is_set(valid), bits != 0);
        if bits != 0 {
            let winner = b.get(idx) as usize;
            assert_eq!(b.get(gnt), 1 << winner);
            assert!(up[winner], "cycle {cycle}: granted to one who does not ask");
            if let Some(held) = held {
                assert_eq!(winner, held, "cycle {cycle}: the grant moved while it waited");
            }
            held = (!willing).then_some(winner);
            if willing {
                for other in (0..REQUESTERS).filter(|&other| up[other] && other != winner) {
                    grants_to_others[other] += 1;
                    assert!(grants_to_others[other] < REQUESTERS, "{other} starves");
                }
                grants_to_others[winner] = 0;
                up[winner] = false;
                total[winner] += 1;
            }
        } else {
            assert_eq!(b.get(gnt), 0);
        }
        b.edge();
    }
    println!("grants {total:?}");
    assert!(total.iter().all(|&n| n > CYCLES / 20));
}

/// Commits, rollbacks and flushes at random against two queues: what is public and what is not yet.
#[test]
fn stream_fifo_commits_and_rolls_back() {
    let seed = seed("--test block_primitives stream_fifo");
    let mut b = Bench::new(&models::PRIMITIVES, seed);
    let mut rng = Rng::new(seed);
    let [flush, wr, data, commit, rollback] =
        ["flush_i", "wr_valid_i", "wr_data_i", "wr_commit_i", "wr_rollback_i"]
            .map(|name| b.port(&format!("stream_{name}")));
    let [full, used, empty, rd_valid, rd_ready, rd_data] =
        ["wr_full_o", "wr_used_o", "empty_o", "rd_valid_o", "rd_ready_i", "rd_data_o"]
            .map(|name| b.port(&format!("stream_{name}")));
    let (mut source, mut sink) = (Mood::new(false), Mood::new(false));
    let mut public: VecDeque<u64> = VecDeque::new();
    let mut private: Vec<u64> = Vec::new();
    let (mut committed, mut rolled_back, mut flushed, mut was_full) = (0, 0, 0, 0);
    let mut waits = 0;
    for _ in 0..2 * CYCLES {
        let willing = sink.willing(&mut rng);
        b.set(rd_ready, u64::from(willing));
        b.settle();
        // The writer sees full as a register and obeys it.
        let writes = !b.is_set(full) && source.willing(&mut rng);
        let word = rng.next() & 0xFFFF;
        let closes = rng.chance(15) || b.is_set(full);
        let commits = closes && rng.chance(70);
        let flushes = rng.below(1000) == 0;
        b.set(wr, u64::from(writes));
        b.set(data, word);
        b.set(commit, u64::from(commits));
        b.set(rollback, u64::from(closes && !commits));
        b.set(flush, u64::from(flushes));
        b.settle();
        was_full += u64::from(b.is_set(full));
        // Everything is in the RAM but for one word or two that wait at its output.
        let inside = public.len() + private.len();
        let in_ram = b.get(used) as usize;
        let outside = usize::from(b.is_set(rd_valid));
        assert!((outside..=outside + 1).contains(&(inside - in_ram)), "cycle {}", b.now());
        assert_eq!(b.is_set(full), in_ram == STREAM_DEPTH);
        assert_eq!(b.is_set(empty), inside == 0);
        if b.is_set(rd_valid) {
            assert_eq!(public.front(), Some(&b.get(rd_data)), "cycle {}", b.now());
            waits = 0;
            if willing {
                public.pop_front();
            }
        } else {
            waits = if public.is_empty() { 0 } else { waits + 1 };
            assert!(waits <= 2, "cycle {}: a gap in what is public", b.now());
        }
        if writes {
            private.push(word);
        }
        if flushes {
            public.clear();
            private.clear();
            waits = 0;
            flushed += 1;
        } else if commits {
            committed += private.len();
            public.extend(private.drain(..));
        } else if closes {
            rolled_back += private.len();
            private.clear();
        }
        b.edge();
    }
    println!("{committed} words committed, {rolled_back} rolled back, {flushed} flushes");
    assert!(committed > 50_000 && rolled_back > 10_000 && flushed > 100 && was_full > 1_000);
}
