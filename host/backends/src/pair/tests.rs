use proptest::prelude::*;
use tandem_device::{Gso, GsoKind, PoolConfig};

use super::*;

fn pool() -> Pool {
    Pool::new(PoolConfig { buffers: 256, buffer_len: 2048, headroom: 64 }).unwrap()
}

fn frame(pool: &Pool, len: usize, seed: u8) -> Frame {
    let mut frame = pool.alloc().unwrap();
    let bytes: Vec<_> = (0..len).map(|i| i as u8 ^ seed).collect();
    frame.append(&bytes).unwrap();
    frame
}

fn connected(pool: &Pool, capacity: usize) -> (PairDevice, PairDevice) {
    let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
    pair(["a", "b"], macs, 1500, capacity, pool).unwrap()
}

#[test]
fn the_carrier_needs_both_ends() {
    let pool = pool();
    let (mut a, mut b) = connected(&pool, 4);
    assert_eq!(a.oper_state(), OperState::Down);
    assert!(a.take_queue(0).is_err());
    a.open().unwrap();
    assert_eq!(a.oper_state(), OperState::Dormant);
    let mut queue = a.take_queue(0).unwrap();
    assert!(a.take_queue(0).is_err());
    let mut batch = Batch::from([frame(&pool, 60, 1)]);
    queue.transmit(&mut batch).unwrap();
    assert_eq!(queue.stats().tx_dropped, 1, "no carrier");
    b.open().unwrap();
    assert_eq!((a.oper_state(), b.oper_state()), (OperState::Up, OperState::Up));
    drop(b);
    assert_eq!(a.oper_state(), OperState::Dormant);
}

#[test]
fn requests_travel_with_the_frame() {
    let pool = pool();
    let (mut a, mut b) = connected(&pool, 4);
    a.open().unwrap();
    b.open().unwrap();
    let (mut a, mut b) = (a.take_queue(0).unwrap(), b.take_queue(0).unwrap());
    let mut sent = frame(&pool, 1000, 1);
    sent.meta_mut().csum = Csum::Partial { start: 34, offset: 16 };
    let gso = Gso { kind: GsoKind::Tcp4, size: 100, ecn: false, fixed_id: true };
    sent.meta_mut().gso = Some(gso);
    sent.meta_mut().segments = 10;
    sent.meta_mut().mark = 9;
    let before = pool.stats().free;
    a.transmit(&mut Batch::from([sent])).unwrap();
    let mut got = Batch::new();
    assert_eq!(b.receive(10, &mut got).unwrap(), 1);
    assert_eq!(pool.stats().free, before, "by reference");
    let meta = got[0].meta();
    assert_eq!((meta.gso, meta.csum), (Some(gso), Csum::Partial { start: 34, offset: 16 }));
    assert_eq!(meta.mark, 0, "a mark does not leave its host");
    assert_eq!((a.stats().tx_packets, b.stats().rx_packets), (10, 10));
}

#[test]
fn a_token_comes_back_at_once_and_the_memory_is_free() {
    let pool = pool();
    let payload = Pool::new(PoolConfig::payload(2)).unwrap();
    let (mut a, mut b) = connected(&pool, 4);
    a.open().unwrap();
    b.open().unwrap();
    let (mut a, mut b) = (a.take_queue(0).unwrap(), b.take_queue(0).unwrap());
    let mut filler = payload.filler().unwrap();
    filler.write(&[7; 9000]);
    let mut sent = frame(&pool, 54, 1);
    sent.push_payload(filler.payload(0..9000)).unwrap();
    sent.meta_mut().token = Some(5);
    sent.meta_mut().gso =
        Some(Gso { kind: GsoKind::Tcp6, size: 1000, ecn: false, fixed_id: false });
    let bytes = sent.to_vec();
    a.transmit(&mut Batch::from([sent])).unwrap();
    drop(filler);
    assert_eq!(payload.stats().free, 2);
    let mut tokens = Vec::new();
    a.completed(&mut tokens).unwrap();
    assert_eq!(tokens, [5]);
    let mut got = Batch::new();
    b.receive(1, &mut got).unwrap();
    assert_eq!(got[0].to_vec(), bytes);
}

#[test]
fn arming_wakes_once_across_threads() {
    let pool = pool();
    let mut device = loopback("lo", MacAddr::ZERO, 1500, 8, &pool).unwrap();
    device.open().unwrap();
    let mut queue = device.take_queue(0).unwrap();
    assert!(queue.arm().unwrap());
    queue.transmit(&mut Batch::from([frame(&pool, 60, 1)])).unwrap();
    assert!(!queue.arm().unwrap(), "there is a frame");
    assert_eq!(queue.receive(9, &mut Batch::new()).unwrap(), 1);

    // One sends 2000 frames one by one, the other sleeps whenever there is nothing: it must end.
    let (mut a, mut b) = connected(&pool, 8);
    a.open().unwrap();
    b.open().unwrap();
    let (mut a, mut b) = (a.take_queue(0).unwrap(), b.take_queue(0).unwrap());
    let sender = std::thread::spawn({
        let pool = pool.clone();
        move || {
            for i in 0..2000usize {
                let mut batch = Batch::from([frame(&pool, 60, i as u8)]);
                while !batch.is_empty() {
                    a.transmit(&mut batch).unwrap();
                    std::thread::yield_now();
                }
            }
        }
    });
    let mut got = Batch::new();
    let mut count = 0usize;
    while count < 2000 {
        for _ in 0..b.receive(16, &mut got).unwrap() {
            let frame = got.pop_front().unwrap();
            assert_eq!(frame.head()[0], count as u8, "in order");
            count += 1;
        }
        if b.arm().unwrap() && count < 2000 {
            let handle = b.wait_handle().unwrap();
            let mut fds = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
            let ready = rustix::event::poll(&mut fds, Some(&limit)).unwrap();
            assert_eq!(ready, 1, "a wake-up was lost after {count} frames");
        }
    }
    sender.join().unwrap();
}

proptest! {
    #[test]
    fn nothing_is_lost_or_reordered(
        capacity in 1usize..20,
        steps in proptest::collection::vec((0usize..30, 0usize..30), 1..50),
    ) {
        let pool = pool();
        let (mut a, mut b) = connected(&pool, capacity);
        a.open().unwrap();
        b.open().unwrap();
        let (mut a, mut b) = (a.take_queue(0).unwrap(), b.take_queue(0).unwrap());
        let (mut waiting, mut got) = (Batch::new(), Batch::new());
        let (mut made, mut seen) = (0u8, 0u8);
        for (outs, budget) in steps {
            for _ in 0..outs {
                if waiting.len() < 100 {
                    waiting.push_back(frame(&pool, 60, made));
                    made = made.wrapping_add(1);
                }
            }
            let before = waiting.len();
            let outcome = a.transmit(&mut waiting).unwrap();
            prop_assert_eq!(outcome.taken + waiting.len(), before);
            prop_assert_eq!(outcome.full, !waiting.is_empty());
            let count = b.receive(budget, &mut got).unwrap();
            prop_assert!(count <= budget);
            for frame in got.drain(..) {
                prop_assert_eq!(frame.head()[0], seen);
                seen = seen.wrapping_add(1);
            }
        }
    }
}
