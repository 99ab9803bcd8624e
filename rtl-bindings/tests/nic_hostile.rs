//! Rings that break the rules, memory that answers with errors, resets at bad moments: nothing hangs, nothing
//! is corrupted, the driver is told.

mod nic;

use std::ops::Range;

use nic::{
    AVAIL, BASE, Bench, CSUM, EVENT_IDX, GUEST_CSUM, INDIRECT, MEMORY_LEN, MRG_RXBUF, NEXT,
    RING_RESET, RX, Random, TX, USED, WRITE, broadcast, header,
};
use tandem_contract::layout::common;
use tandem_contract::nic::{FunctionControl, Nic};
use tandem_contract::trace::{Broken, Kind, Reset};

const DATA: u64 = BASE + 0x4_0000;

/// Starts, lets `spoil` write the ring, kicks; the code with which the queue broke.
fn breaks(queue: u16, size: u16, spoil: impl FnOnce(&mut Bench)) -> u8 {
    let mut b = Bench::new(64);
    b.start(MRG_RXBUF | EVENT_IDX, size);
    b.settle();
    spoil(&mut b);
    b.kick(queue);
    b.settle();
    // DEVICE_NEEDS_RESET, and a configuration interrupt (virtio 1.3, 2.1.2).
    assert_eq!(b.status(), 15 | 64);
    assert!(b.mem.messages.contains(&(0xFEE0_0000, 0x100)), "the driver is told");
    let events = b.events(Kind::QueueBroken);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(u16::from(events[0].queue), queue);
    // A reset brings it back, and it works.
    b.mem.bad.clear();
    b.start(0, 8);
    b.settle();
    let mut bytes = header(0, 0, 0, 0).to_vec();
    bytes.extend_from_slice(&[0x77; 70]);
    b.mem.write(DATA, &bytes);
    b.tx.add(&mut b.mem, 1, &[(DATA, 82)], 0);
    b.rx.add(&mut b.mem, 2, &[(DATA + 0x1000, 2048)], WRITE);
    b.kick(TX);
    b.kick(RX);
    b.settle();
    b.arrive(vec![0xFF; 64]);
    b.settle();
    assert_eq!(b.wire.departed.last().expect("a frame").1, [0x77; 70]);
    assert!(b.tx.take(&b.mem).is_some() && b.rx.take(&b.mem).is_some());
    events[0].code
}

#[test]
fn each_broken_rule_has_its_code() {
    let one = |addr: u64, len: u32, extra: u16| {
        move |b: &mut Bench| b.tx.add(&mut b.mem, 0, &[(addr, len)], extra)
    };
    assert_eq!(breaks(TX, 8, one(DATA, 100, WRITE)), Broken::WrongDirection as u8);
    assert_eq!(breaks(TX, 8, one(DATA, 100, INDIRECT)), Broken::BadFlags as u8);
    assert_eq!(breaks(TX, 8, one(DATA, 0, 0)), Broken::ZeroLength as u8);
    assert_eq!(breaks(TX, 8, one(DATA, 11, 0)), Broken::BadLength as u8);
    assert_eq!(breaks(TX, 8, one(DATA, 9234 + 13, 0)), Broken::BadLength as u8);
    assert_eq!(breaks(TX, 8, one(DATA, u32::MAX, 0)), Broken::BadLength as u8);
    assert_eq!(breaks(TX, 8, one(DATA, 100, NEXT)), Broken::ChainNotAvailable as u8);
    assert_eq!(breaks(TX, 8, one(0, 100, 0)), Broken::BusError as u8);
    assert_eq!(breaks(TX, 8, one(u64::MAX - 50, 100, 0)), Broken::BusError as u8);
    assert_eq!(
        breaks(RX, 8, |b| b.rx.add(&mut b.mem, 0, &[(DATA, 100)], 0)),
        Broken::WrongDirection as u8
    );
    // Lengths that add up beyond 32 bits.
    assert_eq!(
        breaks(TX, 8, |b| {
            let chain = [(DATA, u32::MAX), (DATA, u32::MAX), (DATA, 20)];
            b.tx.add(&mut b.mem, 0, &chain, 0);
        }),
        Broken::BadLength as u8
    );
    // All descriptors in one chain that goes on.
    for size in [2, 5, 8] {
        assert_eq!(
            breaks(TX, size, |b| {
                let chain: Vec<(u64, u32)> = (0..size).map(|_| (DATA, 20)).collect();
                b.tx.add(&mut b.mem, 0, &chain, 0);
                for slot in 0..size {
                    b.tx.put_raw(&mut b.mem, slot, DATA, 20, 0, AVAIL | NEXT);
                }
            }),
            Broken::ChainTooLong as u8
        );
    }
}

#[test]
fn memory_errors_break_only_the_queue_they_hit() {
    let good = |b: &mut Bench| {
        let mut bytes = header(0, 0, 0, 0).to_vec();
        bytes.extend_from_slice(&[0x44; 100]);
        b.mem.write(DATA, &bytes);
        b.tx.add(&mut b.mem, 0, &[(DATA, 112)], 0);
    };
    // Descriptors, payload, driver's event area.
    let spots: [fn(&Bench) -> Range<u64>; 3] =
        [|b| b.tx.desc..b.tx.desc + 16, |_| DATA + 64..DATA + 65, |b| b.tx.driver..b.tx.driver + 1];
    for spot in spots {
        let code = breaks(TX, 8, |b| {
            good(b);
            let bad = spot(b);
            b.mem.bad.push(bad);
        });
        assert_eq!(code, Broken::BusError as u8);
    }
    // The receive side's write.
    let code = breaks(RX, 8, |b| {
        b.rx.add(&mut b.mem, 0, &[(DATA + 0x1000, 2000)], WRITE);
        b.mem.bad.push(DATA + 0x1100..DATA + 0x1101);
        b.kick(RX);
        b.settle();
        b.arrive(vec![0xFF; 1000]);
        b.settle();
    });
    assert_eq!(code, Broken::BusError as u8);
}

#[test]
fn frames_before_a_failing_one_leave_and_later_ones_do_not() {
    let mut b = Bench::new(512);
    b.start(0, 16);
    for id in 0..6u64 {
        let mut bytes = header(0, 0, 0, 0).to_vec();
        bytes.extend_from_slice(&[id as u8; 200]);
        b.mem.write(DATA + 0x1000 * id, &bytes);
        b.tx.add(&mut b.mem, id as u16, &[(DATA + 0x1000 * id, 212)], 0);
    }
    b.mem.bad.push(DATA + 0x3040..DATA + 0x3041);
    b.kick(TX);
    b.settle();
    let left: Vec<u8> = b.wire.departed.iter().map(|f| f.1[0]).collect();
    assert_eq!(left, [0, 1, 2]);
    for id in 0..3 {
        assert_eq!(b.tx.take(&b.mem).expect("used").id, id);
    }
    assert_eq!(b.tx.take(&b.mem), None);
    assert_eq!(b.status() & 64, 64);
    assert!(b.counter("dma_errors") >= 1);
}

#[test]
fn nothing_is_issued_without_bus_mastering() {
    let mut b = Bench::new(64);
    let on = FunctionControl { bus_master: true, msix_enable: true, msix_function_mask: false };
    b.start(0, 8);
    b.settle();
    b.nic.set_control(FunctionControl { bus_master: false, ..on });
    let before = b.mem.requests;
    let mut bytes = header(0, 0, 0, 0).to_vec();
    bytes.extend_from_slice(&[0x44; 100]);
    b.mem.write(DATA, &bytes);
    b.tx.add(&mut b.mem, 0, &[(DATA, 112)], 0);
    b.kick(TX);
    b.settle();
    assert_eq!(b.mem.requests, before);
    b.nic.set_control(on);
    b.settle();
    assert_eq!(b.wire.departed.len(), 1);
    assert!(b.tx.take(&b.mem).is_some());
}

/// What is in memory outside what the driver gave to the device.
fn guard_intact(b: &Bench, given: &Range<u64>) {
    for (i, byte) in b.mem.bytes.iter().enumerate() {
        let addr = BASE + i as u64;
        if addr >= DATA && !given.contains(&addr) {
            assert_eq!(*byte, 0xA5, "byte at {addr:#x} was written");
        }
    }
}

/// Rings of random content, kicks, frames, resets at random moments.
fn storm(width: u32, seed: u64, rounds: u32) {
    let mut random = Random::new(seed);
    let mut b = Bench::stalled(width, (random.below(3) * 30) as u8, seed);
    b.mem.latency = 1 + random.below(60);
    b.mem.jitter = random.below(60);
    let guard = DATA..BASE + MEMORY_LEN as u64;
    let given = DATA..DATA + 0x2_0000;
    b.mem.write(guard.start, &vec![0xA5; (guard.end - guard.start) as usize]);
    for round in 0..rounds {
        let features = [0, MRG_RXBUF, EVENT_IDX, CSUM | GUEST_CSUM][random.below(4) as usize]
            | if random.below(2) == 0 { RING_RESET } else { 0 };
        let size = 1 + random.below(20) as u16;
        b.start(features, size);
        b.mem.bad.clear();
        if random.below(4) == 0 {
            let at = BASE + random.below(0x6_0000);
            b.mem.bad.push(at..at + 1 + random.below(64));
        }
        for _ in 0..1 + random.below(6) {
            match random.below(7) {
                0 | 1 => {
                    // Anything at all in a ring.
                    let ring = if random.below(2) == 0 { b.rx.clone() } else { b.tx.clone() };
                    for slot in 0..size {
                        let len = match random.below(5) {
                            0 => random.below(20) as u32,
                            1 => random.next() as u32,
                            _ => 1 + random.below(3000) as u32,
                        };
                        let addr = DATA + random.below(0x1_0000);
                        let len = if ring.queue == RX { len.min(0x1_0000) } else { len };
                        let legal = [AVAIL, USED, 0, AVAIL | USED][random.below(4) as usize];
                        let way = if ring.queue == RX { WRITE } else { 0 };
                        let odd = [0, 0, 0, NEXT, NEXT, WRITE, INDIRECT][random.below(7) as usize];
                        ring.put_raw(&mut b.mem, slot, addr, len, slot, legal | way | odd);
                    }
                }
                2 => {
                    let area = if random.below(2) == 0 { b.rx.driver } else { b.tx.driver };
                    let value = random.next() as u32 & 0x0003_FFFF;
                    b.mem.write(area, &value.to_le_bytes());
                }
                3 | 4 => {
                    for _ in 0..random.below(4) {
                        let len = 14 + random.below(2000) as usize;
                        let frame = broadcast(&mut random, len);
                        b.arrive(frame);
                    }
                }
                5 => {
                    b.run(random.below(400));
                    b.w16(common::QUEUE_SELECT, random.below(3) as u32);
                    b.w16(common::QUEUE_RESET, 1);
                }
                _ => {
                    b.run(random.below(300));
                    b.function_reset().unwrap();
                    break;
                }
            }
            b.kick(RX);
            b.kick(TX);
            b.run(random.below(600));
        }
        match random.below(4) {
            0 => b.settle(),
            1 => b.function_reset().unwrap(),
            _ => b.set_status(0),
        }
        let mut polls = 0;
        while b.status() != 0 && polls < 2000 {
            if b.status() & 15 == 15 {
                b.set_status(0);
            }
            polls += 1;
        }
        assert_eq!(b.status(), 0, "seed {seed} round {round}: reset does not end");
        assert_eq!(b.mem.outstanding(), 0, "seed {seed} round {round}: reset did not drain");
        b.wire.arriving.clear();
    }
    guard_intact(&b, &given);
    // Resets come in pairs.
    let starts = b.events(Kind::ResetStart).len();
    assert_eq!(starts, b.events(Kind::ResetDone).len());
    assert!(starts > 0);
    // And it still works.
    b.mem.bad.clear();
    b.start(0, 8);
    b.settle();
    let mut bytes = header(0, 0, 0, 0).to_vec();
    bytes.extend_from_slice(&[0x66; 300]);
    b.mem.write(DATA, &bytes);
    b.tx.add(&mut b.mem, 0, &[(DATA, 312)], 0);
    b.rx.add(&mut b.mem, 0, &[(DATA + 0x1000, 2048)], WRITE);
    b.kick(RX);
    b.kick(TX);
    b.settle();
    let frame = broadcast(&mut random, 500);
    b.arrive(frame.clone());
    b.settle();
    assert_eq!(b.wire.departed.last().expect("a frame").1, [0x66; 300], "seed {seed}");
    let used = b.rx.take(&b.mem).expect("a frame");
    assert_eq!(b.mem.read(DATA + 0x1000 + 12, used.len as usize - 12), frame, "seed {seed}");
}

/// `count` seeds from `first` on, or the ones of `TANDEM_STORM=FIRST..END`: one replays a failure, many make
/// a long run.
fn storm_seeds(first: u64, count: u64) -> Range<u64> {
    let Ok(text) = std::env::var("TANDEM_STORM") else { return first..first + count };
    let (from, to) = text.split_once("..").expect("TANDEM_STORM=FIRST..END");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn storms_64() {
    for seed in storm_seeds(0, 60) {
        storm(64, seed, 8);
    }
}

#[test]
fn storms_512() {
    for seed in storm_seeds(1_000_000, 40) {
        storm(512, seed, 8);
    }
}

#[test]
fn a_reset_finishes_the_frame_at_the_mac_and_drains() {
    for queue_only in [false, true] {
        let mut b = Bench::new(64);
        b.start(RING_RESET, 16);
        b.mem.latency = 300;
        for id in 0..4u64 {
            let mut bytes = header(0, 0, 0, 0).to_vec();
            bytes.extend_from_slice(&[id as u8 + 1; 1500]);
            b.mem.write(DATA + 0x1000 * id, &bytes);
            b.tx.add(&mut b.mem, id as u16, &[(DATA + 0x1000 * id, 1512)], 0);
        }
        b.kick(TX);
        while b.mem.requests < 6 || b.nic.stats().frames_out < 1 {
            b.run(10);
        }
        b.run(30);
        b.wire.blocked = true;
        b.run(50);
        if queue_only {
            b.w16(common::QUEUE_SELECT, TX.into());
            b.w16(common::QUEUE_RESET, 1);
            assert_eq!(b.r16(common::QUEUE_RESET), 1);
        } else {
            b.set_status(0);
            assert_ne!(b.status(), 0, "the MAC holds a frame");
        }
        b.run(2000);
        b.wire.blocked = false;
        b.run(5000);
        assert_eq!(b.mem.outstanding(), 0);
        if queue_only {
            assert_eq!(b.r16(common::QUEUE_RESET), 0);
        } else {
            assert_eq!(b.status(), 0);
        }
        // Whole frames only, and not all of them.
        let count = b.wire.departed.len();
        assert!((1..4).contains(&count), "{count} frames");
        assert!(b.wire.departed.iter().all(|f| f.1.len() == 1500));
        let code = if queue_only { Reset::Queue } else { Reset::Device } as u8;
        assert_eq!(b.events(Kind::ResetStart).last().unwrap().code, code);
        assert_eq!(b.trace.last().unwrap().kind, Kind::ResetDone);
    }
}
