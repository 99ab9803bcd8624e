//! The plan, and the one place where it is carried out: whatever a device offers, the wire carries
//! the same bytes.

mod support;

use proptest::prelude::*;
use support::*;
use tandem_device::{
    Batch, Caps, Csum, Frame, Gso, GsoKind, Pool, PoolConfig, RxOffloads, TxOffloads,
};
use tandem_offload::{Choice, Offload, Plan, Policy, SegmentSum, Who, checksum, segment};
use tandem_packet::*;

/// A device's capabilities with these transmit offloads, as a virtio NIC would offer them.
fn caps(tx: TxOffloads) -> Caps {
    Caps { tx, gso_bytes_max: 65_535, gso_segments_max: 128, ..Caps::plain(1500) }
}

fn offload(caps: Caps) -> Offload {
    Offload::new(Plan::new(caps, Policy::default()), POOL.clone())
}

fn segment_of(payload: usize, kind: GsoKind) -> (Spec, Gso) {
    let v4 = kind == GsoKind::Tcp4;
    let spec = Spec {
        tags: VlanTags::NONE,
        src: if v4 { [10, 0, 0, 1].into() } else { [0xfd; 16].into() },
        dst: if v4 { [10, 0, 0, 2].into() } else { [0xfc; 16].into() },
        tos: 0,
        ttl: 64,
        id: 40,
        dont_fragment: true,
        flow_label: 5,
        transport: match kind {
            GsoKind::UdpL4 => L4::Udp { src_port: 1, dst_port: 2 },
            _ => {
                let flags = TcpFlags::ACK | TcpFlags::PSH;
                L4::Tcp(TcpRepr { src_port: 1, dst_port: 2, flags, ..TcpRepr::default() })
            }
        },
        payload: (0..payload).map(|i| (i % 251) as u8).collect(),
    };
    (spec, Gso { kind, size: 1400, ecn: false, fixed_id: false })
}

/// The frame as the stack builds it: payload by reference, checksum partial.
fn requested(pool: &Pool, spec: &Spec, gso: Option<Gso>) -> Frame {
    let (bytes, header_len) = spec.build(Field::Seed);
    let headers = Headers::parse(&bytes).unwrap();
    let mut frame = built(pool, &bytes, header_len, &[2000]);
    let offset = if matches!(spec.transport, L4::Tcp(_)) { 16 } else { 6 };
    let meta = frame.meta_mut();
    meta.csum = Csum::Partial { start: headers.l4_offset, offset };
    meta.gso = gso;
    meta.header_len = header_len as u16;
    frame
}

/// What a device with these capabilities puts on the wire: does the rest as hardware would.
fn wire(out: Batch) -> Vec<Vec<u8>> {
    let mut sent = Batch::new();
    for mut frame in out {
        if frame.meta().gso.is_some() {
            segment(&mut frame, &POOL, SegmentSum::Complete, &mut sent).unwrap();
        } else {
            checksum::complete(&mut frame).unwrap();
            sent.push_back(frame);
        }
    }
    sent.iter().map(|frame| frame.to_vec()).collect()
}

#[test]
fn a_plan_follows_capabilities_and_policy() {
    let all = TxOffloads::all();
    let plan = Plan::new(caps(all), Policy::default());
    assert_eq!(
        (plan.tx.csum, plan.tx.tso4, plan.tx.uso),
        (Who::Hardware, Who::Hardware, Who::Hardware)
    );
    assert_eq!((plan.rx.csum, plan.rx.gro4), (Who::Software, Who::Software));

    // virtio 1.3 section 5.1.3.1: segmentation depends on checksum.
    let plan = Plan::new(caps(all - TxOffloads::CSUM), Policy::default());
    assert_eq!(
        (plan.tx.csum, plan.tx.tso4, plan.tx.tso6),
        (Who::Software, Who::Software, Who::Software)
    );
    let gro_only = Caps { rx: RxOffloads::GRO4, ..caps(all) };
    assert_eq!(Plan::new(gro_only, Policy::default()).rx.gro4, Who::Software);
    let judging = Caps { rx: RxOffloads::GRO4 | RxOffloads::CSUM, ..caps(all) };
    let plan = Plan::new(judging, Policy::default());
    assert_eq!(
        (plan.rx.csum, plan.rx.gro4, plan.rx.gro6),
        (Who::Hardware, Who::Hardware, Who::Software)
    );

    let policy = Policy { tso: Choice::Off, gro: Choice::Software, ..Policy::default() };
    let plan = Plan::new(gso_caps_of(&plan), policy);
    assert_eq!((plan.tx.tso4, plan.rx.gro4), (Who::NotNeeded, Who::Software));
    assert_eq!(plan.gso_bytes_max(GsoKind::Tcp4), 0);
    assert_eq!(plan.gso_bytes_max(GsoKind::UdpL4), 65_535);

    // A replacement without anything: the same policy, software throughout.
    let plan = plan.with_caps(Caps::plain(1500));
    assert_eq!(
        (plan.tx.csum, plan.tx.tso4, plan.tx.uso),
        (Who::Software, Who::NotNeeded, Who::Software)
    );
}

fn gso_caps_of(plan: &Plan) -> Caps {
    plan.caps().clone()
}

#[test]
fn the_device_gets_what_it_can_do_untouched() {
    let (spec, gso) = segment_of(10_000, GsoKind::Tcp4);
    let mut offload = offload(caps(TxOffloads::all()));
    let frame = requested(&POOL, &spec, Some(gso));
    let before = (frame.to_vec(), *frame.meta());
    let mut out = Batch::new();
    offload.transmit(frame, &mut out);
    assert_eq!((out[0].to_vec(), *out[0].meta()), before);
    assert_eq!((offload.counters().supers_hw, offload.counters().tx_csum_hw), (1, 1));
    assert_eq!((offload.counters().supers_sw, offload.counters().tx_csum_sw), (0, 0));
}

#[test]
fn what_exceeds_the_device_is_cut_in_software() {
    let (spec, gso) = segment_of(10_000, GsoKind::Tcp4);
    let all = caps(TxOffloads::all());
    for small in [
        Caps { gso_bytes_max: 9000, ..all.clone() },
        Caps { gso_segments_max: 7, ..all.clone() },
        Caps { tx: TxOffloads::all() - TxOffloads::TSO4, ..all.clone() },
    ] {
        let mut offload = offload(small);
        let mut out = Batch::new();
        offload.transmit(requested(&POOL, &spec, Some(gso)), &mut out);
        assert_eq!(out.len(), 8);
        assert!(out.iter().all(|frame| matches!(frame.meta().csum, Csum::Partial { .. })));
        let counters = offload.counters();
        assert_eq!((counters.supers_sw, counters.segments), (1, 8));
        assert_eq!((counters.tx_csum_hw, counters.tx_csum_sw), (8, 0));
    }
    // Requests that some devices cannot express.
    for (special, missing) in [
        (Gso { ecn: true, ..gso }, TxOffloads::TSO_ECN),
        (Gso { fixed_id: true, ..gso }, TxOffloads::FIXED_ID),
    ] {
        let mut offload = offload(caps(TxOffloads::all() - missing));
        let mut out = Batch::new();
        offload.transmit(requested(&POOL, &spec, Some(special)), &mut out);
        assert_eq!(out.len(), 8, "{missing:?}");
    }
}

#[test]
fn few_pieces_mean_a_copy() {
    let (spec, _) = segment_of(1000, GsoKind::Tcp4);
    let mut offload = offload(Caps { pieces_max: 1, ..Caps::plain(1500) });
    let mut out = Batch::new();
    offload.transmit(requested(&POOL, &spec, None), &mut out);
    assert_eq!((out[0].piece_count(), offload.counters().linearized), (1, 1));
    assert_eq!(out[0].to_vec(), spec.build(Field::Finished).0);
}

#[test]
fn shared_headers_are_not_written() {
    let (spec, _) = segment_of(1000, GsoKind::Tcp4);
    let mut frame = requested(&POOL, &spec, None);
    let mut keeper = Vec::new();
    frame.share(20..frame.len(), |payload| keeper.push(payload));
    let kept: Vec<u8> = keeper.iter().flat_map(|payload| payload.bytes().to_vec()).collect();
    let mut out = Batch::new();
    offload(Caps::plain(1500)).transmit(frame, &mut out);
    assert_eq!(out[0].to_vec(), spec.build(Field::Finished).0);
    let now: Vec<u8> = keeper.iter().flat_map(|payload| payload.bytes().to_vec()).collect();
    assert_eq!(now, kept);
}

#[test]
fn drops_say_why() {
    let (spec, gso) = segment_of(5000, GsoKind::Tcp4);
    let mut out = Batch::new();

    let mut long = offload(Caps::plain(1500));
    long.transmit(requested(&POOL, &spec, None), &mut out);
    assert_eq!(long.counters().drops.too_long, 1);
    // Segments too long for the exit are as bad.
    long.transmit(requested(&POOL, &spec, Some(Gso { size: 2000, ..gso })), &mut out);
    assert_eq!((long.counters().drops.too_long, out.len()), (3, 1));
    out.clear();

    let mut bad = offload(Caps::plain(1500));
    let mut frame = received(&POOL, &[0; 60]);
    frame.meta_mut().csum = Csum::Partial { start: 59, offset: 0 };
    bad.transmit(frame, &mut out);
    assert_eq!(bad.counters().drops.bad_request, 1);

    let frame = requested(&POOL, &spec, Some(Gso { kind: GsoKind::Tcp6, ..gso }));
    bad.transmit(frame, &mut out);
    assert_eq!(bad.counters().drops.not_segmentable, 1);

    let small = Pool::new(PoolConfig { buffers: 1, buffer_len: 512, headroom: 128 }).unwrap();
    let plan = Plan::new(Caps::plain(1500), Policy::default());
    let mut starved = Offload::new(plan, small);
    starved.transmit(requested(&POOL, &spec, Some(gso)), &mut out);
    assert_eq!(starved.counters().drops.no_buffer, 1);
    assert!(out.is_empty());

    let (mut bytes, _) = segment_of(100, GsoKind::Tcp4).0.build(Field::Finished);
    bytes[60] ^= 1;
    let mut batch: Batch = [received(&POOL, &bytes)].into();
    starved.receive(&mut batch, &mut out);
    assert_eq!((starved.counters().drops.bad_checksum, out.len()), (1, 0));
}

#[test]
fn what_the_device_judged_is_believed() {
    let (mut bytes, _) = segment_of(100, GsoKind::Tcp4).0.build(Field::Finished);
    bytes[60] ^= 1;
    let mut offload = offload(Caps { rx: RxOffloads::CSUM, ..Caps::plain(1500) });
    let mut frame = received(&POOL, &bytes);
    frame.meta_mut().csum = Csum::Valid;
    let mut out = Batch::new();
    offload.receive(&mut [frame].into(), &mut out);
    assert_eq!((out.len(), offload.counters().rx_csum_hw), (1, 1));
    // What it left unjudged is not.
    offload.receive(&mut [received(&POOL, &bytes)].into(), &mut out);
    assert_eq!((out.len(), offload.counters().drops.bad_checksum), (1, 1));
}

#[test]
fn hostile_bytes_pass_without_panic() {
    let mut offload = offload(Caps { trusted: false, ..Caps::plain(1500) });
    let mut out = Batch::new();
    for len in 0..80 {
        offload.receive(&mut [received(&POOL, &vec![0x45; len])].into(), &mut out);
    }
    assert_eq!(out.len(), 80);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    /// Whatever the device offers, the wire carries the same bytes.
    #[test]
    fn the_wire_is_the_same_under_all_capabilities(
        tx in any::<u32>(), kind in 0usize..3, len in 0usize..20_000,
        ecn: bool, fixed_id: bool, tag in prop::option::of(0u16..0x1000),
        limits in (2_000u32..65_536, 1u16..20, 1u16..19),
        spec in spec(),
    ) {
        let kind = [GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::UdpL4][kind];
        let (plain, gso) = segment_of(len, kind);
        let mut spec = Spec { src: plain.src, dst: plain.dst, payload: plain.payload, ..spec };
        if kind == GsoKind::UdpL4 {
            spec.transport = plain.transport;
        } else if let L4::Tcp(tcp) = &mut spec.transport {
            tcp.flags |= TcpFlags::PSH | if ecn { TcpFlags::CWR } else { TcpFlags::empty() };
        }
        let gso = Gso { ecn, fixed_id, ..gso };
        let send = |caps: Caps| {
            let mut frame = requested(&POOL, &spec, Some(gso));
            frame.meta_mut().vlan = tag;
            let mut offload = offload(caps);
            let mut out = Batch::new();
            offload.transmit(frame, &mut out);
            // What the hardware would insert.
            let mut sent = Batch::new();
            let mut hardware = self::offload(Caps {
                tx: TxOffloads::all() - TxOffloads::VLAN, frame_len_max: 70_000, ..caps_max()
            });
            for frame in out {
                hardware.transmit(frame, &mut sent);
            }
            (wire(sent), *offload.counters())
        };
        let (gso_bytes_max, gso_segments_max, pieces_max) = limits;
        let offered = Caps {
            tx: TxOffloads::from_bits_truncate(tx),
            gso_bytes_max,
            gso_segments_max,
            pieces_max,
            ..Caps::plain(1500)
        };
        let (by_device, counters) = send(offered);
        let (by_software, _) = send(Caps::plain(1500));
        // A super-segment for a device with few pieces and small buffers has to be dropped.
        if counters.drops.total() == 0 {
            prop_assert_eq!(by_device, by_software);
        } else {
            prop_assert!(pieces_max < 18 && counters.drops.too_long > 0, "{:?}", counters);
        }
    }
}

fn caps_max() -> Caps {
    caps(TxOffloads::all())
}
