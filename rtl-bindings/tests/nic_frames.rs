//! Frames through the whole NIC, both ways.

mod nic;

use nic::{
    BASE, Bench, CSUM, EVENT_IDX, GUEST_CSUM, MRG_RXBUF, RX, Random, TX, WRITE, broadcast, header,
};
use tandem_contract::layout;
use tandem_contract::trace::{Drop, Kind, Verdict};

const DATA: u64 = BASE + 0x4_0000;

/// Lays `bytes` down in `parts` buffers at awkward addresses; the chain.
fn scatter(b: &mut Bench, at: u64, bytes: &[u8], parts: &[usize]) -> Vec<(u64, u32)> {
    let mut chain = Vec::new();
    let (mut at, mut done) = (at, 0);
    for (i, &part) in parts.iter().enumerate() {
        let end = if i + 1 == parts.len() { bytes.len() } else { (done + part).min(bytes.len()) };
        if end == done {
            continue;
        }
        b.mem.write(at, &bytes[done..end]);
        chain.push((at, (end - done) as u32));
        at += (end - done) as u64 + 37;
        done = end;
    }
    chain
}

fn transmit_all(width: u32, latency: u64, jitter: u64, features: u64) {
    let mut b = Bench::stalled(width, 40, u64::from(width) + latency);
    b.mem.latency = latency;
    b.mem.jitter = jitter;
    b.start(CSUM | features, 23);
    let mut random = Random::new(latency + 7);
    let mut sent = Vec::new();
    let mut done = 0;
    for i in 0..120u64 {
        let len = match i % 6 {
            0 => 14 + random.below(60),
            1 => 60,
            2 => 1500 + random.below(100),
            3 => 9234,
            4 => 4000 + random.below(300),
            _ => 15 + random.below(9220),
        } as usize;
        let frame = random.bytes(len);
        let mut bytes = header(0, 0, 0, 0).to_vec();
        bytes.extend_from_slice(&frame);
        let parts: Vec<usize> = match i % 4 {
            0 => vec![0],
            1 => vec![12, 0],
            2 => vec![5, 3, 40, 0],
            _ => vec![12, 1, 2, 3, 1000, 0],
        };
        let at = DATA + (i % 8) * 0x4000 + random.below(4096);
        // The buffers of eight frames ago must be free again.
        while sent.len() - done >= 4 {
            b.run(2000);
            while let Some(used) = b.tx.take(&b.mem) {
                assert_eq!(used.id, done as u16, "in order");
                done += 1;
            }
        }
        let chain = scatter(&mut b, at, &bytes, &parts);
        b.tx.add(&mut b.mem, i as u16, &chain, 0);
        b.kick(TX);
        sent.push(frame);
    }
    b.settle();
    while let Some(used) = b.tx.take(&b.mem) {
        assert_eq!((used.id, used.len), (done as u16, 0));
        done += 1;
    }
    assert_eq!(done, sent.len());
    assert_eq!(b.wire.departed.len(), sent.len());
    for (i, (frame, (_, left))) in sent.iter().zip(&b.wire.departed).enumerate() {
        assert!(frame == left, "frame {i} of {} bytes differs", frame.len());
    }
    assert_eq!(b.events(Kind::TxFetch).len(), sent.len());
    assert_eq!(b.events(Kind::TxFrame).len(), sent.len());
    assert_eq!(b.counter("tx_frames"), sent.len() as u64);
    assert_eq!(b.counter("tx_bytes"), sent.iter().map(|f| f.len() as u64).sum::<u64>());
    assert_eq!(b.mem.outstanding(), 0);
    assert!(b.mem.messages.contains(&(0xFEE0_0008, 0x102)));
}

#[test]
fn transmit_64() {
    transmit_all(64, 1, 0, 0);
    transmit_all(64, 250, 100, EVENT_IDX);
}

#[test]
fn transmit_512() {
    transmit_all(512, 1, 0, EVENT_IDX);
    transmit_all(512, 250, 100, 0);
}

fn receive_all(width: u32, latency: u64, features: u64, buffer: u32, per_chain: usize) {
    let mut b = Bench::stalled(width, 40, u64::from(width) + latency);
    b.mem.latency = latency;
    b.mem.jitter = latency / 2;
    b.start(features, 40);
    let mut random = Random::new(latency + 9);
    // Identifier i owns one area of memory, cut into `per_chain` odd pieces.
    let area = |id: u16| DATA + u64::from(id) * 0x4000 + u64::from(id) * 3;
    let post = |b: &mut Bench, id: u16| {
        let mut chain = Vec::new();
        let mut at = area(id);
        for i in 0..per_chain {
            let len = buffer / per_chain as u32 + i as u32;
            chain.push((at, len));
            at += u64::from(len);
        }
        b.rx.add(&mut b.mem, id, &chain, WRITE);
    };
    for id in 0..12 {
        post(&mut b, id);
    }
    b.kick(RX);
    b.settle();
    let mut expected = Vec::new();
    let mut got = 0;
    let mut due = 0;
    let mut partial: Vec<u8> = Vec::new();
    let mut parts_left = 0;
    for i in 0..80u64 {
        let max = if features & MRG_RXBUF != 0 { 9000 } else { u64::from(buffer) - 12 };
        let len = match i % 3 {
            0 => 14 + random.below(100),
            1 => 60,
            _ => 14 + random.below(max - 14),
        } as usize;
        let frame = broadcast(&mut random, len);
        b.arrive(frame.clone());
        expected.push(frame);
        due += 1;
        if i % 4 != 3 {
            continue;
        }
        b.settle();
        while let Some(used) = b.rx.take(&b.mem) {
            assert_eq!(used.flags & WRITE, WRITE);
            let bytes = b.mem.read(area(used.id), used.len as usize).to_vec();
            if parts_left == 0 {
                let parts = u16::from_le_bytes([bytes[10], bytes[11]]);
                assert!(parts >= 1);
                parts_left = parts;
                partial.clear();
                assert!(bytes[..10].iter().all(|b| *b == 0));
            }
            partial.extend_from_slice(&bytes);
            parts_left -= 1;
            if parts_left == 0 {
                assert!(partial[12..] == expected[got], "frame {got} differs");
                got += 1;
            }
            post(&mut b, used.id);
        }
        b.kick(RX);
        assert_eq!(got, due, "all have come");
        assert_eq!(parts_left, 0);
    }
    assert_eq!(b.counter("rx_frames"), 80);
    assert_eq!(b.counter("rx_bytes"), expected.iter().map(|f| f.len() as u64).sum::<u64>());
    assert_eq!(b.events(Kind::RxAccept).len(), 80);
    assert_eq!(b.events(Kind::RxPlace).len(), 80);
    assert_eq!(b.events(Kind::RxDrop), []);
}

#[test]
fn receive_into_single_buffers() {
    receive_all(64, 1, 0, 9300, 1);
    receive_all(512, 200, EVENT_IDX, 9300, 1);
}

#[test]
fn receive_into_chains() {
    receive_all(64, 30, EVENT_IDX, 9300, 3);
    receive_all(512, 1, 0, 9300, 3);
}

#[test]
fn receive_into_several_buffers() {
    receive_all(64, 1, MRG_RXBUF, 4096, 1);
    receive_all(512, 90, MRG_RXBUF | EVENT_IDX, 4001, 2);
}

/// An IPv4 UDP frame with the right checksum.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut f = vec![0x02, 0x54, 0x4E, 0x44, 0x4D, 0x01, 2, 0, 0, 0, 0, 9, 8, 0];
    let total = (28 + payload.len()) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&total.to_be_bytes());
    ip.extend_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = !fold(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = vec![0x12, 0x34, 0x56, 0x78];
    udp.extend_from_slice(&(total - 20).to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);
    let mut pseudo = ip[12..20].to_vec();
    pseudo.extend_from_slice(&[0, 17]);
    pseudo.extend_from_slice(&(total - 20).to_be_bytes());
    pseudo.extend_from_slice(&udp);
    let sum = !fold(&pseudo);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    f.extend_from_slice(&ip);
    f.extend_from_slice(&udp);
    f
}

fn fold(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn a_transmit_checksum_is_inserted_and_one_received_is_validated() {
    for width in [64, 512] {
        let mut b = Bench::new(width);
        b.start(CSUM | GUEST_CSUM, 8);
        let good = udp(b"odd length payload!");
        // Transmit: the driver leaves the pseudo-header's sum in the field.
        let mut frame = good.clone();
        let mut pseudo = good[26..34].to_vec();
        pseudo.extend_from_slice(&[0, 17]);
        pseudo.extend_from_slice(&good[38..40]);
        frame[40..42].copy_from_slice(&fold(&pseudo).to_be_bytes());
        let mut bytes = header(1, 0, 34, 6).to_vec();
        bytes.extend_from_slice(&frame);
        let chain = scatter(&mut b, DATA + 5, &bytes, &[0]);
        b.tx.add(&mut b.mem, 3, &chain, 0);
        b.kick(TX);
        b.settle();
        assert_eq!(b.wire.departed[0].1, good);
        assert_eq!(b.events(Kind::TxFrame)[0].code, 1);
        assert_eq!(b.counter("tx_csum"), 1);

        // Receive: valid, wrong, without.
        for id in 0..3 {
            b.rx.add(&mut b.mem, id, &[(DATA + 0x1000 * u64::from(id + 1), 2048)], WRITE);
        }
        b.kick(RX);
        b.settle();
        let mut bad = good.clone();
        bad[45] ^= 1;
        let mut none = good.clone();
        none[40..42].fill(0);
        for frame in [&good, &bad, &none] {
            b.arrive(frame.clone());
        }
        b.settle();
        let verdicts: Vec<u8> = b.events(Kind::RxAccept).iter().map(|e| e.code).collect();
        assert_eq!(verdicts, [Verdict::Valid as u8, Verdict::Bad as u8, Verdict::NotJudged as u8]);
        for (id, flags) in [(0, 2), (1, 0), (2, 0)] {
            let used = b.rx.take(&b.mem).expect("a frame");
            assert_eq!(used.id, id);
            assert_eq!(used.len as usize, 12 + good.len());
            let hdr = b.mem.read(DATA + 0x1000 * u64::from(id + 1), 12);
            assert_eq!(hdr, [flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        }
        assert_eq!((b.counter("rx_csum_valid"), b.counter("rx_csum_bad")), (1, 1));
    }
}

#[test]
fn frames_are_dropped_and_counted_when_there_is_no_room_or_no_reason() {
    let mut b = Bench::new(64);
    let mut random = Random::new(5);
    // Before the driver is ready.
    b.arrive(broadcast(&mut random, 60));
    b.settle();
    b.start(0, 8);
    b.settle();
    // No buffer.
    b.arrive(broadcast(&mut random, 60));
    b.settle();
    // One that is too short: the frame is dropped, the buffer stays.
    b.rx.add(&mut b.mem, 0, &[(DATA, 100)], WRITE);
    b.kick(RX);
    b.settle();
    b.arrive(broadcast(&mut random, 89));
    b.arrive(broadcast(&mut random, 88));
    b.settle();
    let used = b.rx.take(&b.mem).expect("the second fits");
    assert_eq!(used.len, 100);
    // Damaged, runt, too long, not ours.
    let now = 0;
    b.wire.arriving.push_back((now, broadcast(&mut random, 60), true));
    b.arrive(vec![0xFF; 13]);
    b.arrive(vec![0xFF; 9235]);
    b.arrive(vec![0x02; 60]);
    b.settle();
    let codes: Vec<u8> = b.events(Kind::RxDrop).iter().map(|e| e.code).collect();
    assert_eq!(
        codes,
        [
            Drop::NotReady,
            Drop::NoBuffer,
            Drop::BufferTooShort,
            Drop::MacError,
            Drop::Runt,
            Drop::TooLong,
            Drop::Filter
        ]
        .map(|d| d as u8)
    );
    assert_eq!(b.counter("rx_dropped_no_buffer"), 2);
    assert_eq!(b.counter("rx_dropped_error"), 3);
    assert_eq!(b.counter("rx_dropped_filter"), 1);
    assert_eq!(b.counter("rx_dropped_not_ready"), 1);
}

#[test]
fn malformed_transmit_requests_are_dropped_and_the_ring_goes_on() {
    for width in [64, 512] {
        let mut b = Bench::new(width);
        b.start(0, 16);
        let frame = vec![0x55; 60];
        // NEEDS_CSUM without the feature; segmentation without the feature; no frame at all; a good one.
        for (id, hdr, payload) in [
            (0, header(1, 0, 14, 2), &frame[..]),
            (1, header(0, 1, 0, 0), &frame[..]),
            (2, header(0, 0, 0, 0), &[][..]),
            (3, header(0, 0, 0, 0), &frame[..]),
        ] {
            let mut bytes = hdr.to_vec();
            bytes.extend_from_slice(payload);
            let chain = scatter(&mut b, DATA + 0x100 * id, &bytes, &[12, 0]);
            b.tx.add(&mut b.mem, id as u16, &chain, 0);
        }
        b.kick(TX);
        b.settle();
        for id in 0..4 {
            assert_eq!(b.tx.take(&b.mem).expect("used").id, id);
        }
        assert_eq!(b.wire.departed.len(), 1);
        let drops = b.events(Kind::TxDrop);
        assert_eq!(drops.len(), 3);
        assert!(drops.iter().all(|d| d.code == Drop::BadRequest as u8));
        // csum_start + csum_offset beyond the frame, with the feature.
        b.start(CSUM, 16);
        let mut bytes = header(1, 0, 59, 0).to_vec();
        bytes.extend_from_slice(&frame);
        let chain = scatter(&mut b, DATA, &bytes, &[0]);
        b.tx.add(&mut b.mem, 0, &chain, 0);
        b.kick(TX);
        b.settle();
        assert_eq!(b.counter("tx_dropped"), 4);
        assert!(b.tx.take(&b.mem).is_some());
        assert_eq!(b.status(), 15);
    }
}

#[test]
fn without_msix_the_isr_tells() {
    use tandem_contract::nic::{FunctionControl, Nic};
    let mut b = Bench::new(64);
    b.nic.set_control(FunctionControl { bus_master: true, ..FunctionControl::default() });
    b.start(0, 8);
    let mut bytes = header(0, 0, 0, 0).to_vec();
    bytes.extend_from_slice(&[0x33; 64]);
    let chain = scatter(&mut b, DATA, &bytes, &[0]);
    b.tx.add(&mut b.mem, 0, &chain, 0);
    b.kick(TX);
    b.settle();
    assert_eq!(b.mem.messages, []);
    assert_eq!(b.r8(layout::ISR_BASE), 1);
    assert_eq!(b.r8(layout::ISR_BASE), 0);
}

#[test]
fn masked_vectors_stay_pending_until_unmasked() {
    use tandem_contract::nic::{FunctionControl, Nic};
    let mut b = Bench::new(64);
    b.start(0, 8);
    let control =
        FunctionControl { bus_master: true, msix_enable: true, msix_function_mask: false };
    let mut bytes = header(0, 0, 0, 0).to_vec();
    bytes.extend_from_slice(&[0x33; 64]);
    let send = |b: &mut Bench, id: u16| {
        let chain = scatter(b, DATA, &bytes, &[0]);
        b.tx.add(&mut b.mem, id, &chain, 0);
        b.kick(TX);
        b.settle();
    };
    b.w32(layout::MSIX_TABLE_BASE + 0x2C, 1);
    send(&mut b, 0);
    send(&mut b, 1);
    assert_eq!(b.mem.messages, []);
    assert_eq!(b.r32(layout::MSIX_PBA_BASE), 4);
    b.w32(layout::MSIX_TABLE_BASE + 0x2C, 0);
    b.settle();
    assert_eq!(b.mem.messages, [(0xFEE0_0008, 0x102)]);
    assert_eq!(b.r32(layout::MSIX_PBA_BASE), 0);
    b.nic.set_control(FunctionControl { msix_function_mask: true, ..control });
    send(&mut b, 2);
    assert_eq!(b.mem.messages.len(), 1);
    assert_eq!(b.r32(layout::MSIX_PBA_BASE), 4);
    b.nic.set_control(control);
    b.settle();
    assert_eq!(b.mem.messages.len(), 2);
    let irqs = b.events(Kind::Irq);
    assert_eq!(irqs.len(), 2);
    assert_eq!((irqs[0].queue, irqs[0].code, irqs[0].arg), (1, 0, 2));
}

#[test]
fn a_notification_with_data_is_a_kick() {
    use tandem_contract::features::bit;
    let mut b = Bench::new(64);
    b.start(1 << bit::NOTIFICATION_DATA, 8);
    b.settle();
    let mut bytes = header(0, 0, 0, 0).to_vec();
    bytes.extend_from_slice(&[0x33; 64]);
    let chain = scatter(&mut b, DATA, &bytes, &[0]);
    b.tx.add(&mut b.mem, 0, &chain, 0);
    b.settle();
    assert_eq!(b.wire.departed.len(), 0, "the device rests until it is kicked");
    // Queue, next slot, wrap (virtio 1.3, 4.1.5.2).
    b.w32(layout::NOTIFY_BASE + 4, 0x8001_0001);
    b.settle();
    assert_eq!(b.wire.departed.len(), 1);
}

#[test]
fn event_suppression_is_obeyed_both_ways() {
    let mut b = Bench::new(64);
    b.start(EVENT_IDX, 8);
    b.settle();
    // The device asks to be kicked at the slot it waits for.
    assert_eq!(b.mem.u32(b.tx.device), 0x0002_8000);
    let mut bytes = header(0, 0, 0, 0).to_vec();
    bytes.extend_from_slice(&[0x33; 64]);
    let mut id = 0;
    let mut send = |b: &mut Bench| {
        let chain = scatter(b, DATA, &bytes, &[0]);
        b.tx.add(&mut b.mem, id, &chain, 0);
        id += 1;
        b.kick(TX);
        b.settle();
        assert!(b.tx.take(&b.mem).is_some());
    };
    // Disabled.
    b.mem.write(b.tx.driver, &0x0001_0000u32.to_le_bytes());
    send(&mut b);
    assert_eq!(b.mem.messages.len(), 0);
    assert_eq!(b.mem.u32(b.tx.device), 0x0002_8001);
    // At slot 3 of this lap: elements 1 and 2 pass silently.
    b.mem.write(b.tx.driver, &0x0002_8003u32.to_le_bytes());
    send(&mut b);
    send(&mut b);
    assert_eq!(b.mem.messages.len(), 0);
    send(&mut b);
    assert_eq!(b.mem.messages.len(), 1);
    // At slot 1 of the next lap.
    b.mem.write(b.tx.driver, &0x0002_0001u32.to_le_bytes());
    for _ in 4..9 {
        send(&mut b);
        assert_eq!(b.mem.messages.len(), 1);
    }
    send(&mut b);
    assert_eq!(b.mem.messages.len(), 2);
    assert_eq!(b.mem.u32(b.tx.device), 0x0002_0002);
    assert_eq!(b.events(Kind::IrqSuppressed).len(), 8);
}
