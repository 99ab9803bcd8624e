//! Segmentation and coalescing are exact: each is the other's inverse, byte for byte, and what they
//! make is what an independent cut makes.

mod support;

use std::collections::HashMap;
use std::net::IpAddr;

use proptest::prelude::*;
use support::*;
use tandem_device::{Batch, Caps, Csum, Gso, GsoKind, Pool, PoolConfig};
use tandem_offload::{Offload, Plan, Policy, SegmentError, SegmentSum, segment};
use tandem_packet::*;

fn offload() -> Offload {
    Offload::new(Plan::new(Caps::plain(1500), Policy::default()), POOL.clone())
}

/// A super-segment's headers, payload and request.
#[derive(Debug, Clone)]
struct Big {
    spec: Spec,
    gso: Gso,
    sizes: Vec<usize>,
}

fn gso_kind(spec: &Spec) -> GsoKind {
    match (&spec.transport, spec.is_v4()) {
        (L4::Udp { .. }, _) => GsoKind::UdpL4,
        (_, true) => GsoKind::Tcp4,
        (_, false) => GsoKind::Tcp6,
    }
}

fn big() -> impl Strategy<Value = Big> {
    (
        spec(),
        (1u16..1400, 0usize..18, any::<prop::sample::Index>()),
        any::<(bool, bool, bool, bool, bool, bool)>(),
        prop::collection::vec(1usize..2048, 1..5),
    )
        .prop_map(|(mut spec, (size, whole, rest), bits, sizes)| {
            let (psh, fin, cwr, ecn, is_udp, fixed) = bits;
            let len = whole * usize::from(size) + rest.index(usize::from(size) + 1);
            spec.payload = (0..len).map(|i| (i * 31 + i / 251) as u8).collect();
            if let L4::Tcp(tcp) = &mut spec.transport {
                for (set, flag) in
                    [(psh, TcpFlags::PSH), (fin, TcpFlags::FIN), (cwr, TcpFlags::CWR)]
                {
                    tcp.flags.set(flag, set);
                }
            }
            if is_udp {
                spec.transport = L4::Udp { src_port: 5004, dst_port: 5005 };
            }
            let fixed_id = fixed && spec.dont_fragment && spec.is_v4();
            let gso = Gso { kind: gso_kind(&spec), size, ecn, fixed_id };
            Big { spec, gso, sizes }
        })
}

/// What the wire carries for a super-segment, said with Reprs and the naive sum only.
fn naive_cut(big: &Big) -> Vec<Vec<u8>> {
    let size = usize::from(big.gso.size);
    let payload = &big.spec.payload;
    let chunks: Vec<&[u8]> =
        if payload.is_empty() { vec![&[]] } else { payload.chunks(size).collect() };
    let last = chunks.len() - 1;
    let cut = |(index, chunk): (usize, &&[u8])| {
        let mut spec = big.spec.clone();
        spec.payload = chunk.to_vec();
        if !big.gso.fixed_id {
            spec.id = spec.id.wrapping_add(index as u16);
        }
        if let L4::Tcp(tcp) = &mut spec.transport {
            tcp.seq += (index * size) as u32;
            if index != last {
                tcp.flags.remove(TcpFlags::PSH | TcpFlags::FIN);
            }
            if index != 0 && big.gso.ecn {
                tcp.flags.remove(TcpFlags::CWR);
            }
        }
        spec.build(Field::Finished).0
    };
    chunks.iter().enumerate().map(cut).collect()
}

fn bytes_of(batch: &Batch) -> Vec<Vec<u8>> {
    batch.iter().map(|frame| frame.to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn a_cut_is_the_naive_cut(big in big(), partial: bool) {
        let (bytes, header_len) = big.spec.build(Field::Seed);
        let mut frame = built(&POOL, &bytes, header_len, &big.sizes);
        frame.meta_mut().gso = Some(big.gso);
        frame.meta_mut().token = Some(77);
        let mut out = Batch::new();
        let sum = if partial { SegmentSum::Partial } else { SegmentSum::Complete };
        let count = segment(&mut frame, &POOL, sum, &mut out).unwrap();
        prop_assert_eq!(count, out.len());
        for segment in &mut out {
            if partial {
                tandem_offload::checksum::complete(segment).unwrap();
            }
            prop_assert_eq!(segment.meta().csum, Csum::None);
            prop_assert_eq!(segment.meta().gso, None);
        }
        let tokens: Vec<_> = out.iter().filter_map(|segment| segment.meta().token).collect();
        prop_assert_eq!(tokens, [77]);
        prop_assert_eq!(out.back().unwrap().meta().token, Some(77));
        prop_assert_eq!(bytes_of(&out), naive_cut(&big));
        prop_assert_eq!(frame.to_vec(), bytes, "the super-segment itself is unchanged");
    }

    /// coalesce(segment(super)) is super, metadata included.
    #[test]
    fn what_was_cut_is_put_together_again(mut big in big()) {
        // UDP is not coalesced, pure acknowledgements neither, and CWR stays by itself.
        if let L4::Udp { .. } = big.spec.transport {
            let flags = TcpFlags::ACK;
            big.spec.transport = L4::Tcp(TcpRepr { flags, ..TcpRepr::default() });
            big.gso.kind = gso_kind(&big.spec);
        }
        if let L4::Tcp(tcp) = &mut big.spec.transport {
            tcp.flags.remove(TcpFlags::CWR);
        }
        if big.spec.payload.is_empty() {
            big.spec.payload.push(1);
        }
        big.gso.ecn = false;
        let wire = naive_cut(&big);
        let mut batch: Batch = wire.iter().map(|bytes| received(&POOL, bytes)).collect();
        let (mut out, mut offload) = (Batch::new(), offload());
        offload.receive(&mut batch, &mut out);
        prop_assert_eq!(out.len(), 1);
        let merged = &out[0];
        if wire.len() == 1 {
            prop_assert_eq!(&merged.to_vec(), &wire[0]);
            prop_assert_eq!((merged.meta().gso, merged.meta().csum), (None, Csum::Valid));
        } else {
            let (bytes, header_len) = big.spec.build(Field::Seed);
            prop_assert_eq!(merged.to_vec(), bytes);
            prop_assert_eq!(merged.meta().gso, Some(big.gso));
            prop_assert_eq!(usize::from(merged.meta().segments), wire.len());
            prop_assert_eq!(usize::from(merged.meta().header_len), header_len);
            prop_assert_eq!(offload.counters().merged, wire.len() as u64);
        }
    }
}

/// One step of an adversarial stream: what is done to the flow's next packet.
#[derive(Debug, Clone)]
enum Twist {
    /// As TCP would send it.
    None,
    Flags(TcpFlags),
    Seq(u32),
    Id(u16),
    /// Leaves the identification where it was.
    SameId,
    DontFragment,
    Ttl,
    Tos,
    Flow,
    Ack,
    Window,
    Stamps,
    Tag,
    Urgent,
    /// Bytes behind the packet.
    Padding(usize),
    /// Overwrites a byte anywhere after the checksums are made.
    Damage(prop::sample::Index, u8),
    /// A zero checksum in its other form.
    OtherZero,
    IpOptions,
    Fragment,
    Arp,
}

#[derive(Debug, Clone)]
struct Sent {
    flow: usize,
    len: usize,
    twist: Twist,
}

fn sent() -> impl Strategy<Value = Sent> {
    let twist = prop_oneof![
        30 => Just(Twist::None),
        2 => Just(Twist::Flags(TcpFlags::ACK | TcpFlags::PSH)),
        1 => Just(Twist::Flags(TcpFlags::ACK | TcpFlags::FIN)),
        2 => (0u16..0x200).prop_map(|bits| Twist::Flags(TcpFlags::from_bits_truncate(bits))),
        1 => any::<u32>().prop_map(Twist::Seq),
        1 => any::<u16>().prop_map(Twist::Id),
        3 => Just(Twist::SameId),
        1 => Just(Twist::DontFragment),
        1 => Just(Twist::Ttl),
        1 => Just(Twist::Tos),
        1 => Just(Twist::Flow),
        1 => Just(Twist::Ack),
        1 => Just(Twist::Window),
        1 => Just(Twist::Stamps),
        1 => Just(Twist::Tag),
        1 => Just(Twist::Urgent),
        1 => (1usize..9).prop_map(Twist::Padding),
        2 => (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Twist::Damage(at, bits)),
        1 => Just(Twist::OtherZero),
        1 => Just(Twist::IpOptions),
        1 => Just(Twist::Fragment),
        1 => Just(Twist::Arp),
    ];
    let len = prop_oneof![12 => Just(100usize), 1 => Just(99usize), 1 => Just(101usize),
                          1 => Just(0usize), 1 => 1usize..120];
    (0usize..3, len, twist).prop_map(|(flow, len, twist)| Sent { flow, len, twist })
}

/// Makes the stream's packets. Half of the flows begin near the wraps of their counters.
fn stream(flows: &[Spec], packets: &[Sent]) -> Vec<Vec<u8>> {
    let mut flows = flows.to_vec();
    for (index, flow) in flows.iter_mut().enumerate() {
        if let L4::Tcp(tcp) = &mut flow.transport
            && index % 2 == 0
        {
            tcp.seq = SeqNumber(u32::MAX - 250);
            flow.id = u16::MAX - 2;
        }
    }
    let mut wire = Vec::new();
    for Sent { flow, len, twist } in packets {
        let flow = &mut flows[*flow];
        let mut spec = flow.clone();
        spec.payload = (0..*len).map(|i| (i * 7 + wire.len()) as u8).collect();
        let L4::Tcp(tcp) = &mut spec.transport else { unreachable!("flows are TCP") };
        match twist {
            Twist::Flags(flags) => tcp.flags = *flags,
            Twist::Seq(seq) => tcp.seq = SeqNumber(*seq),
            Twist::Id(id) => spec.id = *id,
            Twist::SameId => {
                flow.id = flow.id.wrapping_sub(1);
                spec.id = flow.id;
            }
            Twist::DontFragment => spec.dont_fragment ^= true,
            Twist::Ttl => spec.ttl ^= 1,
            Twist::Tos => spec.tos ^= 4,
            Twist::Flow => spec.flow_label ^= 1,
            Twist::Ack => tcp.ack += 1,
            Twist::Window => tcp.window ^= 1,
            Twist::Stamps => {
                tcp.options.timestamps = Some(TcpTimestamps { value: 1, echo: 1 });
            }
            Twist::Tag => spec.tags = VlanTags::one(VlanTag::customer(7)),
            Twist::Urgent => tcp.urgent = 1,
            _ => {}
        }
        let next = tcp.seq + *len as u32;
        let (mut bytes, header_len) = spec.build(Field::Finished);
        let l3 = 14 + spec.tags.header_len();
        match twist {
            Twist::Padding(len) => bytes.resize(bytes.len() + len, 0),
            Twist::Damage(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            // Chooses the payload so that the sum is zero, then writes the other zero.
            Twist::OtherZero if *len >= 2 => {
                let l4 = l3 + if spec.is_v4() { 20 } else { 40 };
                let field = u16::from_be_bytes([bytes[l4 + 16], bytes[l4 + 17]]);
                let word = u16::from_be_bytes([bytes[header_len], bytes[header_len + 1]]);
                let (sum, carry) = word.overflowing_add(field);
                let word = sum + u16::from(carry);
                bytes[header_len..header_len + 2].copy_from_slice(&word.to_be_bytes());
                bytes[l4 + 16..l4 + 18].fill(0xff);
            }
            Twist::IpOptions if spec.is_v4() => {
                bytes[l3] += 1;
                let total = u16::from_be_bytes([bytes[l3 + 2], bytes[l3 + 3]]) + 4;
                bytes[l3 + 2..l3 + 4].copy_from_slice(&total.to_be_bytes());
                bytes.splice(l3 + 20..l3 + 20, [1, 1, 1, 1]);
                bytes[l3 + 10..l3 + 12].fill(0);
                let sum = !naive_sum(&bytes[l3..l3 + 24]);
                bytes[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
            }
            Twist::Fragment if spec.is_v4() => {
                bytes[l3 + 6] |= 0x20;
                bytes[l3 + 10..l3 + 12].fill(0);
                let sum = !naive_sum(&bytes[l3..l3 + 20]);
                bytes[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
            }
            Twist::Arp => bytes[12..14].copy_from_slice(&[8, 6]),
            _ => {}
        }
        wire.push(bytes);
        flow.id = flow.id.wrapping_add(1);
        if let L4::Tcp(tcp) = &mut flow.transport {
            tcp.seq = next;
        }
    }
    wire
}

/// Whether a receiver must drop this frame: its transport checksum can be judged and is wrong.
fn is_bad(bytes: &[u8]) -> bool {
    let Ok(headers) = Headers::parse(bytes) else { return false };
    let Some((src, dst)) = headers.addresses() else { return false };
    if headers.is_fragment() {
        return false;
    }
    let l4 = &bytes[usize::from(headers.l4_offset)..headers.payload_end as usize];
    let bad = |protocol: u8| {
        let mut summed = pseudo_header(src, dst, protocol, l4.len());
        summed.extend(l4);
        naive_sum(&summed) != 0xffff
    };
    match headers.transport {
        Transport::Tcp { .. } => bad(6),
        Transport::Udp { .. } if l4[6..8] == [0, 0] => src.is_ipv6(),
        Transport::Udp { .. } => bad(17),
        Transport::Icmp { .. } => match (src, headers.protocol) {
            (IpAddr::V4(_), IpProtocol::ICMPV4) => naive_sum(l4) != 0xffff,
            (IpAddr::V6(_), IpProtocol::ICMPV6) => bad(58),
            _ => false,
        },
        Transport::None => false,
    }
}

/// Frames by flow, in order; what has no flow is one of its own.
fn by_flow(frames: impl IntoIterator<Item = Vec<u8>>) -> HashMap<Option<FourTuple>, Vec<Vec<u8>>> {
    let mut flows: HashMap<_, Vec<_>> = HashMap::new();
    for bytes in frames {
        let tuple = Headers::parse(&bytes).ok().and_then(|headers| headers.four_tuple());
        flows.entry(tuple).or_default().push(bytes);
    }
    flows
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    /// segment(coalesce(packets)) is packets, byte for byte and in each flow's order.
    #[test]
    fn what_was_put_together_cuts_into_what_came(
        flows in prop::collection::vec(spec(), 3),
        packets in prop::collection::vec(sent(), 1..60),
        batch_len in 1usize..64,
        device_judged: bool,
        // Mergeable receive buffers may break a frame anywhere, even in its headers.
        head_len in prop_oneof![Just(2048usize), 60usize..140],
    ) {
        let wire = stream(&flows, &packets);
        let good: Vec<Vec<u8>> = wire.iter().filter(|bytes| !is_bad(bytes)).cloned().collect();
        let mut offload = offload();
        let mut out = Batch::new();
        // A device that judges drops the bad ones itself and marks the others.
        let arriving = if device_judged { &good } else { &wire };
        for batch in arriving.chunks(batch_len) {
            let pieces = |bytes: &Vec<u8>| built(&POOL, bytes, head_len.min(bytes.len()), &[40]);
            let mut batch: Batch = batch.iter().map(pieces).collect();
            for frame in &mut batch {
                let judged = Headers::parse(&frame.to_vec())
                    .is_ok_and(|h| matches!(h.transport, Transport::Tcp { .. }) && !h.is_fragment());
                if device_judged && judged {
                    frame.meta_mut().csum = Csum::Valid;
                }
            }
            offload.receive(&mut batch, &mut out);
        }
        let counters = *offload.counters();
        prop_assert_eq!(counters.drops.total(), (arriving.len() - good.len()) as u64);
        let mut again = Batch::new();
        let mut merged = 0;
        for mut frame in out {
            if frame.meta().gso.is_some() {
                let count = segment(&mut frame, &POOL, SegmentSum::Complete, &mut again).unwrap();
                prop_assert_eq!(count, usize::from(frame.meta().segments));
                merged += count as u64;
            } else {
                again.push_back(frame);
            }
        }
        prop_assert_eq!(counters.merged, merged);
        prop_assert_eq!(by_flow(bytes_of(&again)), by_flow(good));
    }
}

fn plain_flow() -> Spec {
    Spec {
        tags: VlanTags::NONE,
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        tos: 0,
        ttl: 64,
        id: 1,
        dont_fragment: true,
        flow_label: 0,
        transport: L4::Tcp(TcpRepr {
            src_port: 1,
            dst_port: 2,
            flags: TcpFlags::ACK,
            ..TcpRepr::default()
        }),
        payload: Vec::new(),
    }
}

/// Receives a stream of one flow in one batch, and tells how many segments each frame stands for.
fn shape(packets: &[Sent]) -> Vec<u32> {
    let wire = stream(&[plain_flow(), plain_flow(), plain_flow()], packets);
    let mut batch: Batch = wire.iter().map(|bytes| received(&POOL, bytes)).collect();
    let mut out = Batch::new();
    offload().receive(&mut batch, &mut out);
    out.iter().map(|frame| frame.meta().wire_frames()).collect()
}

fn plain(len: usize) -> Sent {
    Sent { flow: 1, len, twist: Twist::None }
}

fn twisted(twist: Twist) -> Sent {
    Sent { flow: 1, len: 100, twist }
}

#[test]
fn merging_goes_as_far_as_it_can() {
    // One piece in the head and FRAGS_MAX behind it.
    let most = tandem_device::FRAGS_MAX as u32 + 1;
    assert_eq!(shape(&vec![plain(100); 40]), [most, most, 40 - 2 * most]);
}

#[test]
fn what_ends_a_flow() {
    let three = |middle: Sent| shape(&[plain(100), middle, plain(100), plain(100)]);
    assert_eq!(three(plain(100)), [4]);
    assert_eq!(three(plain(60)), [2, 2], "a short segment is the last");
    assert_eq!(three(plain(101)), [1, 2, 1], "a longer one begins anew");
    assert_eq!(three(twisted(Twist::Flags(TcpFlags::ACK | TcpFlags::PSH))), [2, 2]);
    assert_eq!(three(twisted(Twist::Flags(TcpFlags::ACK | TcpFlags::FIN))), [2, 2]);
    assert_eq!(three(plain(0)), [1, 1, 2], "a pure acknowledgement stays alone, and in order");
    assert_eq!(three(twisted(Twist::Seq(99))), [1, 3], "a gap");
    let alone = [1, 1, 2];
    for twist in [
        Twist::Flags(TcpFlags::ACK | TcpFlags::CWR),
        Twist::Flags(TcpFlags::ACK | TcpFlags::ECE),
        Twist::Flags(TcpFlags::ACK | TcpFlags::AE),
        Twist::Flags(TcpFlags::ACK | TcpFlags::URG),
        Twist::Ttl,
        Twist::Tos,
        Twist::Ack,
        Twist::Window,
        Twist::Stamps,
        Twist::Tag,
        Twist::DontFragment,
        Twist::Padding(3),
        Twist::OtherZero,
        Twist::IpOptions,
        Twist::Id(900),
    ] {
        assert_eq!(three(twisted(twist.clone())), alone, "{twist:?}");
    }
}

#[test]
fn identifications_rise_or_stay_but_not_both() {
    let same = || twisted(Twist::SameId);
    assert_eq!(shape(&[plain(100), same(), same(), same()]), [4], "fixed, with DF");
    assert_eq!(shape(&[plain(100), same(), plain(100), plain(100)]), [2, 2], "fixed, then rising");
    assert_eq!(shape(&[plain(100), plain(100), same(), plain(100)]), [2, 2], "rising, then fixed");
}

#[test]
fn requests_that_cannot_be_cut_are_refused_and_leave_nothing() {
    let spec = Spec { payload: vec![1; 5000], ..plain_flow() };
    let gso = Gso { kind: GsoKind::Tcp4, size: 1000, ecn: false, fixed_id: false };
    let attempt = |spec: &Spec, gso: Option<Gso>, extra: usize| {
        let (mut bytes, header_len) = spec.build(Field::Seed);
        bytes.resize(bytes.len() + extra, 0);
        let mut frame = built(&POOL, &bytes, header_len, &[2000]);
        frame.meta_mut().gso = gso;
        let mut out = Batch::new();
        let result = segment(&mut frame, &POOL, SegmentSum::Complete, &mut out);
        assert_eq!(out.len(), *result.as_ref().unwrap_or(&0));
        result
    };
    assert_eq!(attempt(&spec, Some(gso), 0), Ok(5));
    assert_eq!(attempt(&spec, None, 0), Err(SegmentError::NoSize));
    assert_eq!(attempt(&spec, Some(Gso { size: 0, ..gso }), 0), Err(SegmentError::NoSize));
    assert_eq!(
        attempt(&spec, Some(Gso { size: 1, ..gso }), 0),
        Err(SegmentError::TooMany { segments: 5000 })
    );
    assert_eq!(attempt(&spec, Some(gso), 3), Err(SegmentError::Padded { extra_bytes: 3 }));
    for kind in [GsoKind::Tcp6, GsoKind::UdpL4] {
        let error = SegmentError::WrongKind { kind };
        assert_eq!(attempt(&spec, Some(Gso { kind, ..gso }), 0), Err(error));
    }
    for flag in [TcpFlags::SYN, TcpFlags::RST, TcpFlags::URG] {
        let flags = TcpFlags::ACK | flag;
        let tcp = TcpRepr { flags, ..TcpRepr::default() };
        let spec = Spec { transport: L4::Tcp(tcp), ..spec.clone() };
        assert_eq!(attempt(&spec, Some(gso), 0), Err(SegmentError::Flags { flags }));
    }
}

#[test]
fn an_exhausted_pool_leaves_nothing_half_sent() {
    let spec = Spec { payload: vec![1; 5000], ..plain_flow() };
    let (bytes, header_len) = spec.build(Field::Seed);
    let mut frame = built(&POOL, &bytes, header_len, &[2000]);
    frame.meta_mut().gso =
        Some(Gso { kind: GsoKind::Tcp4, size: 1000, ecn: false, fixed_id: false });
    let small = Pool::new(PoolConfig { buffers: 3, buffer_len: 256, headroom: 64 }).unwrap();
    let mut out = Batch::new();
    let error = segment(&mut frame, &small, SegmentSum::Complete, &mut out).unwrap_err();
    assert!(matches!(error, SegmentError::Frame(_)), "{error}");
    assert!(out.is_empty());
    assert_eq!(small.stats().free, 3);
}

#[test]
fn more_flows_than_places_are_handed_on_oldest_first() {
    let mut batch = Batch::new();
    for round in 0..2u32 {
        for port in 0..20u16 {
            let spec = Spec {
                id: round as u16,
                transport: L4::Tcp(TcpRepr {
                    src_port: port,
                    seq: SeqNumber(round * 10),
                    flags: TcpFlags::ACK,
                    ..TcpRepr::default()
                }),
                payload: vec![0; 10],
                ..plain_flow()
            };
            let (bytes, _) = spec.build(Field::Finished);
            batch.push_back(received(&POOL, &bytes));
        }
    }
    let (mut out, mut offload) = (Batch::new(), offload());
    offload.receive(&mut batch, &mut out);
    // Twenty flows in sixteen places, in the worst order for that: none is still held when its
    // second packet comes.
    assert_eq!(out.len(), 40);
    assert_eq!(offload.counters().flushes.evicted, 24);
    assert_eq!(offload.counters().flushes.batch_end, 16);
}

/// Receives packets in one batch, each after `prepare`, and tells how many frames come out.
fn frames_out(specs: &[Spec], mut prepare: impl FnMut(usize, &mut tandem_device::Frame)) -> usize {
    let mut batch = Batch::new();
    for (index, spec) in specs.iter().enumerate() {
        let mut frame = received(&POOL, &spec.build(Field::Finished).0);
        prepare(index, &mut frame);
        batch.push_back(frame);
    }
    let mut out = Batch::new();
    offload().receive(&mut batch, &mut out);
    out.len()
}

fn two_of(flow: &Spec, same_id: bool) -> [Spec; 2] {
    let first = Spec { payload: vec![1; 50], ..flow.clone() };
    let mut second = first.clone();
    second.id = first.id.wrapping_add(u16::from(!same_id));
    if let L4::Tcp(tcp) = &mut second.transport {
        tcp.seq += 50;
    }
    [first, second]
}

#[test]
fn what_travels_beside_the_frame_must_be_equal_too() {
    let two = two_of(&plain_flow(), false);
    assert_eq!(frames_out(&two, |_, _| {}), 1);
    assert_eq!(frames_out(&two, |index, frame| frame.meta_mut().vlan = Some(index as u16)), 2);
    assert_eq!(frames_out(&two, |index, frame| frame.meta_mut().mark = index as u32), 2);
    assert_eq!(frames_out(&two, |index, frame| frame.meta_mut().priority = index as u8), 2);
    let hash = |index| Some(tandem_device::FlowHash { value: index as u32, l4: true });
    assert_eq!(frames_out(&two, |index, frame| frame.meta_mut().hash = hash(index)), 2);
    // A partial checksum has not seen a wire; cut again, it would be a finished one.
    let partial = Csum::Partial { start: 34, offset: 16 };
    assert_eq!(frames_out(&two, |_, frame| frame.meta_mut().csum = partial), 2);
}

#[test]
fn one_identification_for_all_needs_dont_fragment() {
    // RFC 6864 section 4.1: only atomic packets may repeat identifications.
    assert_eq!(frames_out(&two_of(&plain_flow(), true), |_, _| {}), 1);
    let may_fragment = Spec { dont_fragment: false, ..plain_flow() };
    assert_eq!(frames_out(&two_of(&may_fragment, true), |_, _| {}), 2);
}

#[test]
fn packets_with_ip_options_stay_alone() {
    let packets: Vec<Sent> = (0..3).map(|_| twisted(Twist::IpOptions)).collect();
    assert_eq!(shape(&packets), [1, 1, 1]);
}
