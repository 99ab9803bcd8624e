//! Bytes a cycle of the whole NIC. A cycle count is a property of the design, not of the machine that runs it.
//!
//! The host link takes one beat of the data path's width a cycle each way and answers after 250 cycles
//! (1 µs at 4 ns). Its bound for 1,518-byte frames: the beats of header and frame, plus what the rings cost.

mod nic;

use tandem_contract::nic::Nic;

use nic::{BASE, Bench, EVENT_IDX, IN_ORDER, MRG_RXBUF, RX, TX, WRITE, broadcast, header};

const DATA: u64 = BASE + 0x4_0000;
const FRAME: usize = 1518;
const SLOT: u64 = 2048;

struct Rate {
    tx: f64,
    rx: f64,
    dropped: u64,
}

/// `frames` each way as asked; bytes of frames a cycle, over the middle of the run.
fn measure(width: u32, frames: u16, tx: bool, rx: bool) -> Rate {
    let mut b = Bench::new(width);
    b.mem.latency = 250;
    b.start(MRG_RXBUF | EVENT_IDX | IN_ORDER, 256);
    b.settle();
    let mut random = nic::Random::new(3);
    let ring = 240u16;
    let place = |id: u16, rx: bool| DATA + SLOT * (u64::from(id % ring) + if rx { 512 } else { 0 });
    for id in 0..ring {
        let mut bytes = header(0, 0, 0, 0).to_vec();
        bytes.extend_from_slice(&random.bytes(FRAME));
        b.mem.write(place(id, false), &bytes);
    }
    let (mut tx_added, mut tx_done, mut rx_added, mut rx_done) = (0, 0, 0u16, 0u16);
    let beats = FRAME.div_ceil(width as usize / 8) as u64;
    if rx {
        while rx_added < ring {
            b.rx.add(&mut b.mem, rx_added, &[(place(rx_added, true), SLOT as u32)], WRITE);
            rx_added += 1;
        }
        b.kick(RX);
        b.settle();
        // Back to back, as the MAC's bus can bring them.
        let now = b.nic.now() + 500;
        for i in 0..u64::from(frames) {
            let frame = broadcast(&mut random, FRAME);
            b.wire.arriving.push_back((now + i * beats, frame, false));
        }
    }
    let mut rx_times = Vec::new();
    for _ in 0..20_000 {
        let mut kick = (false, false);
        while tx && tx_added < frames && tx_added - tx_done < ring {
            b.tx.add(&mut b.mem, tx_added, &[(place(tx_added, false), 12 + FRAME as u32)], 0);
            tx_added += 1;
            kick.0 = true;
        }
        while let Some(used) = b.tx.take(&b.mem) {
            assert_eq!(used.id, tx_done);
            tx_done += 1;
        }
        while let Some(used) = b.rx.take(&b.mem) {
            assert_eq!(used.len as usize, FRAME + 12);
            rx_times.push(b.nic.now());
            b.rx.add(&mut b.mem, used.id, &[(place(used.id, true), SLOT as u32)], WRITE);
            rx_done += 1;
            kick.1 = true;
        }
        // A kick is what the device asked for; asking always is simpler and costs register accesses.
        if kick.0 {
            b.kick(TX);
        }
        if kick.1 {
            b.kick(RX);
        }
        let dropped = b.trace.iter().filter(|e| e.kind as u8 == 5).count();
        if (!tx || tx_done == frames) && (!rx || usize::from(rx_done) + dropped >= frames.into()) {
            break;
        }
        if b.run(100)
            && let Some(&(at, _, _)) = b.wire.arriving.front()
        {
            b.nic.skip_to(at);
        }
    }
    let middle = |times: &[u64]| {
        if times.len() < 40 {
            return 0.0;
        }
        let (a, z) = (times.len() / 4, times.len() - 1 - times.len() / 8);
        ((z - a) * FRAME) as f64 / (times[z] - times[a]) as f64
    };
    let tx_times: Vec<u64> = b.wire.departed.iter().map(|d| d.0).collect();
    assert!(b.wire.departed.iter().all(|d| d.1.len() == FRAME));
    let dropped = b.counter("rx_dropped_fifo") + b.counter("rx_dropped_no_buffer");
    Rate { tx: middle(&tx_times), rx: middle(&rx_times), dropped }
}

#[test]
fn full_frames_keep_the_link_busy() {
    // The MAC's bound is 63.25 bytes a cycle at 512 bits (24 beats a frame) and 7.99 at 64 bits.
    for (width, tx, rx, floor) in [
        (512, true, false, 60.0),
        (512, false, true, 60.0),
        (512, true, true, 57.0),
        (64, true, true, 7.0),
    ] {
        let rate = measure(width, 600, tx, rx);
        println!(
            "{width} bits, tx {tx}, rx {rx}: tx {:.2} B/cycle, rx {:.2} B/cycle, {} dropped",
            rate.tx, rate.rx, rate.dropped
        );
        assert!(!tx || rate.tx >= floor, "transmit {:.2}", rate.tx);
        assert!(!rx || rate.rx >= floor, "receive {:.2}", rate.rx);
    }
}
