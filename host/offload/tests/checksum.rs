//! The wide sum against a naive one, etherparse, and the documents' own examples.

mod support;

use proptest::prelude::*;
use support::*;
use tandem_device::Csum;
use tandem_offload::checksum::{self, CompleteError, Sum, Verdict};
use tandem_packet::Headers;

#[test]
fn rfc_1071_section_3_example() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    let mut sum = Sum::new();
    sum.add(&bytes);
    assert_eq!(sum.folded(), 0xddf2);
    assert_eq!(checksum::checksum(&bytes), 0x220d);
}

#[test]
fn rfc_1624_section_4_example() {
    // The case that RFC 1141's equation got wrong: 0xdd2f, 0x5555 becoming 0x3285.
    assert_eq!(checksum::update(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn ipv4_header_example() {
    let mut header = [
        0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0xb1, 0xe6, 0xac, 0x10, 0x0a,
        0x63, 0xac, 0x10, 0x0a, 0x0c,
    ];
    assert!(checksum::verify_ipv4_header(&header));
    let right = header;
    header[10..12].fill(0xee);
    assert!(!checksum::verify_ipv4_header(&header));
    checksum::fill_ipv4_header(&mut header);
    assert_eq!(header, right);
}

#[test]
fn every_length_and_alignment_about_a_block() {
    let bytes: Vec<u8> = (0..200u32).map(|i| (i * 151 + 17) as u8).collect();
    for start in 0..9 {
        for end in start..bytes.len() {
            let slice = &bytes[start..end];
            assert_eq!(checksum::checksum(slice), !naive_sum(slice), "{start}..{end}");
        }
    }
    // All ones is the one value whose carries never end.
    for len in 0..200 {
        let ones = vec![0xff; len];
        assert_eq!(checksum::checksum(&ones), !naive_sum(&ones), "{len}");
    }
}

#[test]
fn partial_checksum_requests_are_checked() {
    let mut frame = received(&POOL, &[0; 60]);
    for (start, offset) in [(60, 0), (59, 0), (0, 59), (u16::MAX, u16::MAX), (34, 25)] {
        frame.meta_mut().csum = Csum::Partial { start, offset };
        let error = CompleteError::OutOfFrame { start, offset, len: 60 };
        assert_eq!(checksum::complete(&mut frame), Err(error));
    }
    frame.meta_mut().csum = Csum::Partial { start: 34, offset: 16 };
    frame.share(40..60, drop);
    assert_eq!(checksum::complete(&mut frame), Err(CompleteError::Shared));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn wide_is_naive(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert_eq!(checksum::checksum(&bytes), !naive_sum(&bytes));
    }

    #[test]
    fn pieces_of_any_parity_sum_as_one(bytes in prop::collection::vec(any::<u8>(), 0..600),
                                       cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut sum = Sum::new();
        let mut at = 0;
        for cut in cuts {
            sum.add(&bytes[at..cut]);
            at = cut;
        }
        prop_assert_eq!(sum.folded(), naive_sum(&bytes));
    }

    #[test]
    fn incremental_update_is_recomputation(mut bytes in prop::collection::vec(any::<u8>(), 2..200),
                                           at in any::<prop::sample::Index>(), new: [u8; 4]) {
        bytes.resize(bytes.len().next_multiple_of(2) + 4, 7);
        let at = at.index(bytes.len() / 2 - 1) * 2;
        let before = checksum::checksum(&bytes);
        let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
        bytes[at..at + 4].copy_from_slice(&new);
        let after = checksum::checksum(&bytes);
        let word = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
        let first = checksum::update(before, word(&old), word(&new));
        let both = checksum::update(first, word(&old[2..]), word(&new[2..]));
        // RFC 1624 section 3: the update may give 0x0000 for data whose sum is zero, 0xffff; the
        // two mean the same, and no real packet sums to zero.
        let same = |a: u16, b: u16| a == b || (a ^ b == 0xffff && (a == 0 || b == 0));
        prop_assert!(same(both, after), "{both:#x} {after:#x}");
        prop_assert!(same(checksum::update_bytes(before, &old, &new), after));
    }

    /// Completing a seed gives what etherparse computes, and verifying accepts just that.
    #[test]
    fn complete_and_verify(mut spec in spec(), payload in prop::collection::vec(any::<u8>(), 0..1200),
                           is_udp: bool, sizes in prop::collection::vec(1usize..300, 1..4),
                           damage in any::<(prop::sample::Index, u8)>()) {
        spec.payload = payload;
        if is_udp {
            spec.transport = L4::Udp { src_port: 7, dst_port: 9 };
        }
        let (bytes, header_len) = spec.build(Field::Seed);
        let mut frame = built(&POOL, &bytes, header_len, &sizes);
        let headers = Headers::parse(&bytes).unwrap();
        let offset = if is_udp { 6 } else { 16 };
        frame.meta_mut().csum = Csum::Partial { start: headers.l4_offset, offset };
        checksum::complete(&mut frame).unwrap();
        prop_assert_eq!(frame.meta().csum, Csum::None);
        let done = frame.to_vec();
        prop_assert_eq!(&done, &spec.build(Field::Finished).0);

        let l4 = usize::from(headers.l4_offset);
        let expected = match etherparse::PacketHeaders::from_ethernet_slice(&done) {
            Ok(etherparse::PacketHeaders {
                net: Some(etherparse::NetHeaders::Ipv4(ip, _)),
                transport: Some(transport), payload, ..
            }) => transport_sum_v4(&transport, &ip, payload.slice()),
            Ok(etherparse::PacketHeaders {
                net: Some(etherparse::NetHeaders::Ipv6(ip, _)),
                transport: Some(transport), payload, ..
            }) => transport_sum_v6(&transport, &ip, payload.slice()),
            other => panic!("{other:?}"),
        };
        let field = l4 + usize::from(offset);
        prop_assert_eq!(u16::from_be_bytes([done[field], done[field + 1]]), expected);
        prop_assert_eq!(checksum::verify(&frame, &headers), Verdict::Valid);

        // One changed byte behind the ports is noticed, whichever it is.
        let mut broken = done.clone();
        let from = l4 + 4;
        let at = from + damage.0.index(broken.len() - from);
        broken[at] ^= damage.1.max(1);
        if let Ok(headers) = Headers::parse(&broken) {
            let field_gone = is_udp && broken[field..field + 2] == [0, 0];
            let verdict = checksum::verify(&built(&POOL, &broken, header_len, &sizes), &headers);
            if !field_gone {
                prop_assert_eq!(verdict, Verdict::Bad);
            } else {
                let none = if spec.is_v4() { Verdict::Absent } else { Verdict::Bad };
                prop_assert_eq!(verdict, none);
            }
        }
    }
}

fn transport_sum_v4(
    transport: &etherparse::TransportHeader,
    ip: &etherparse::Ipv4Header,
    payload: &[u8],
) -> u16 {
    match transport {
        etherparse::TransportHeader::Tcp(tcp) => tcp.calc_checksum_ipv4(ip, payload).unwrap(),
        etherparse::TransportHeader::Udp(udp) => udp.calc_checksum_ipv4(ip, payload).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn transport_sum_v6(
    transport: &etherparse::TransportHeader,
    ip: &etherparse::Ipv6Header,
    payload: &[u8],
) -> u16 {
    match transport {
        etherparse::TransportHeader::Tcp(tcp) => tcp.calc_checksum_ipv6(ip, payload).unwrap(),
        etherparse::TransportHeader::Udp(udp) => udp.calc_checksum_ipv6(ip, payload).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_udp_sum_of_zero_is_sent_as_all_ones() {
    // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
    let mut spec = Spec {
        tags: tandem_packet::VlanTags::NONE,
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        tos: 0,
        ttl: 64,
        id: 1,
        dont_fragment: true,
        flow_label: 0,
        transport: L4::Udp { src_port: 7, dst_port: 9 },
        payload: vec![0, 0],
    };
    // With its own checksum as payload, the datagram sums to all ones.
    let (bytes, _) = spec.build(Field::Finished);
    spec.payload = bytes[40..42].to_vec();
    let (bytes, header_len) = spec.build(Field::Seed);
    let mut frame = built(&POOL, &bytes, header_len, &[1]);
    frame.meta_mut().csum = Csum::Partial { start: 34, offset: 6 };
    checksum::complete(&mut frame).unwrap();
    let done = frame.to_vec();
    assert_eq!(done[40..42], [0xff, 0xff]);
    assert_eq!(checksum::verify(&frame, &Headers::parse(&done).unwrap()), Verdict::Valid);
}
