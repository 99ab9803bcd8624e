//! Whole packets as documents and captures show them, field by field.

use std::net::Ipv4Addr;

use tandem_packet::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A SYN laid out as Linux does: MSS, SACK permitted, timestamps, NOP, window scale. Its checksums
/// are arbitrary, which this crate must not mind.
const LINUX_SYN: &str = "
    52540012 34565254 00abcdef 0800
    4500003c 1c464000 40069cac c0a80001 c0a800c7
    b4f80050 8f3cbd6a 00000000 a002faf0 fe300000
    020405b4 0402080a 87654321 00000000 01030307";

#[test]
fn linux_syn() {
    let frame = hex(LINUX_SYN);
    let headers = Headers::parse(&frame).unwrap();
    assert_eq!((headers.l3_offset, headers.l4_offset, headers.payload_offset), (14, 34, 74));
    assert_eq!(headers.payload_len(), 0);
    assert_eq!(headers.four_tuple().unwrap().to_string(), "192.168.0.1:46328 -> 192.168.0.199:80");

    let ethernet = EthernetView::new(&frame).unwrap();
    let ip = Ipv4View::new(ethernet.payload()).unwrap();
    let ip_repr = Ipv4Repr::parse(&ip).unwrap();
    assert_eq!(
        ip_repr,
        Ipv4Repr {
            src: Ipv4Addr::new(192, 168, 0, 1),
            dst: Ipv4Addr::new(192, 168, 0, 199),
            protocol: IpProtocol::TCP,
            id: 0x1c46,
            dont_fragment: true,
            checksum: 0x9cac,
            payload_len: 40,
            ..Ipv4Repr::default()
        }
    );
    let tcp = TcpView::new(ip.payload()).unwrap();
    let tcp_repr = TcpRepr::parse(&tcp).unwrap();
    assert_eq!(
        tcp_repr,
        TcpRepr {
            src_port: 46328,
            dst_port: 80,
            seq: SeqNumber(0x8f3c_bd6a),
            ack: SeqNumber(0),
            flags: TcpFlags::SYN,
            window: 64240,
            checksum: 0xfe30,
            urgent: 0,
            options: TcpOptions {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some(TcpTimestamps { value: 0x8765_4321, echo: 0 }),
                ..TcpOptions::default()
            },
        }
    );
    // Our own layout of a SYN is Linux's, byte for byte.
    let mut again = frame.clone();
    again[14..].fill(0);
    ip_repr.emit(&mut again[14..]);
    tcp_repr.emit(&mut again[34..]);
    assert_eq!(again, frame);
}

#[test]
fn data_segment_timestamps_stand_on_words() {
    // RFC 7323 appendix A: NOP NOP before the timestamps.
    let options = TcpOptions {
        timestamps: Some(TcpTimestamps { value: 1, echo: 2 }),
        ..TcpOptions::default()
    };
    let mut out = [0; 12];
    assert_eq!(options.emit(&mut out), 12);
    assert_eq!(out[..], hex("0101080a 00000001 00000002"));
}

#[test]
fn sack_blocks_are_cut_to_what_fits_beside_timestamps() {
    // RFC 2018 section 3: with timestamps, at most three blocks.
    let mut options = TcpOptions {
        timestamps: Some(TcpTimestamps { value: 1, echo: 2 }),
        ..TcpOptions::default()
    };
    for at in 0..4u32 {
        let block = SackBlock { left: SeqNumber(at * 100), right: SeqNumber(at * 100 + 50) };
        assert!(options.sack.push(block));
    }
    let mut out = [0; 40];
    let len = options.emit(&mut out);
    let parsed = TcpOptions::parse(&out[..len]).unwrap();
    assert_eq!(parsed.timestamps, options.timestamps);
    assert_eq!(parsed.sack.as_slice(), &options.sack.as_slice()[..3]);
}

#[test]
fn acc_ecn_orders() {
    // RFC 9768 section 3.2.3: order 0 is EE0B ECEB EE1B, order 1 is EE1B ECEB EE0B.
    let zero = TcpOptions::parse(&hex("ac0b 000001 000002 000003 01")).unwrap().acc_ecn.unwrap();
    assert_eq!(
        (zero.ect0_bytes(), zero.ce_bytes(), zero.ect1_bytes()),
        (Some(1), Some(2), Some(3))
    );
    let one = TcpOptions::parse(&hex("ae08 000001 000002")).unwrap().acc_ecn.unwrap();
    assert_eq!((one.ect1_bytes(), one.ce_bytes(), one.ect0_bytes()), (Some(1), Some(2), None));
    assert!(TcpOptions::parse(&hex("ac02 0101")).unwrap().acc_ecn.unwrap().counters().is_empty());
}

#[test]
fn fast_open_both_ways() {
    let standard = TcpOptions::parse(&hex("220a 0102030405060708 0101")).unwrap();
    let cookie = standard.fast_open.unwrap();
    assert_eq!((cookie.as_slice().len(), cookie.experimental), (8, false));
    let early = TcpOptions::parse(&hex("fe0c f989 0102030405060708")).unwrap();
    assert!(early.fast_open.unwrap().experimental);
    // Another experiment under the same kind is not a cookie.
    let other = TcpOptions::parse(&hex("fe04 e2d4")).unwrap();
    assert_eq!((other.fast_open, other.unknown.as_slice()), (None, &hex("fe04e2d4")[..]));
}

#[test]
fn illegal_option_lengths() {
    // RFC 9293 MUST-7: a length of zero, of one, and one beyond the header.
    for bytes in ["0200", "0201", "0101 080a 0000", "02"] {
        let error = TcpOptions::parse(&hex(bytes)).unwrap_err();
        assert_eq!((error.protocol(), error.field()), (Protocol::Tcp, "option length"), "{bytes}");
    }
    // A known kind with a wrong length is kept as bytes.
    let parsed = TcpOptions::parse(&hex("0203 05 00")).unwrap();
    assert_eq!((parsed.mss, parsed.unknown.as_slice()), (None, &hex("020305")[..]));
}

#[test]
fn fragmentation_needed() {
    // RFC 1191 section 4: the next-hop MTU stands in the low half of the second word.
    let message = hex("0304 0000 0000 0578 4500");
    let view = Icmpv4View::new(&message).unwrap();
    let repr = Icmpv4Repr::parse(&view).unwrap();
    let code = icmpv4::unreachable::FRAGMENTATION_NEEDED;
    assert_eq!(repr, Icmpv4Repr::DestinationUnreachable { code, mtu: 1400 });
    assert!(repr.is_error());
}

#[test]
fn router_advertisement() {
    // Cur hop limit 64, M and O clear, lifetime 1800 s; SLLA, MTU 1500, prefix 2001:db8::/64.
    let message = hex("8600 0000 40 00 0708 00000000 00000000
         01 01 001122334455
         05 01 0000 000005dc
         03 04 40 c0 00278d00 00093a80 00000000 20010db8000000000000000000000000");
    let NdpRepr::RouterAdvert { hop_limit, router_lifetime_s, managed, options, .. } =
        NdpRepr::parse(&Icmpv6View::new(&message).unwrap()).unwrap()
    else {
        panic!("not an advertisement");
    };
    assert_eq!((hop_limit, router_lifetime_s, managed), (64, 1800, false));
    assert_eq!(options.source_link_address, Some(MacAddr([0, 0x11, 0x22, 0x33, 0x44, 0x55])));
    assert_eq!(options.mtu, Some(1500));
    let prefixes: Vec<_> = options.prefixes().collect();
    assert_eq!(
        prefixes,
        [&PrefixInformation {
            prefix: "2001:db8::".parse().unwrap(),
            prefix_len: 64,
            on_link: true,
            autonomous: true,
            valid_lifetime_s: 2_592_000,
            preferred_lifetime_s: 604_800,
        }]
    );
    // RFC 4861 section 4.6: an option of length zero discards the message.
    let mut broken = message;
    broken[17] = 0;
    let error = NdpRepr::parse(&Icmpv6View::new(&broken).unwrap()).unwrap_err();
    assert_eq!((error.protocol(), error.field()), (Protocol::Ndp, "option length"));
}

#[test]
fn extension_chain() {
    // Hop-by-hop with router alert, routing, first fragment, destination options, UDP.
    let chain = hex("2b 00 0502 0000 0100
         2c 00 03 01 00000000
         3c 00 0001 12345678
         11 00 0104 00000000
         1234 0035 0008 0000");
    let mut walk = ExtHeaders::new(IpProtocol::HOP_BY_HOP, &chain);
    let Some(Ok(ExtHeader::HopByHop(options))) = walk.next() else { panic!("hop-by-hop") };
    let alert: Vec<_> = options.iter().collect::<Result<_>>().unwrap();
    assert_eq!(alert, [Ipv6Option { kind: Ipv6Option::ROUTER_ALERT, offset: 0, data: &[0, 0] }]);
    let Some(Ok(ExtHeader::Routing { routing_type: 3, segments_left: 1, .. })) = walk.next() else {
        panic!("routing")
    };
    let Some(Ok(ExtHeader::Fragment(fragment))) = walk.next() else { panic!("fragment") };
    assert_eq!(
        (fragment.id, fragment.offset_bytes, fragment.more_fragments),
        (0x1234_5678, 0, true)
    );
    assert!(matches!(walk.next(), Some(Ok(ExtHeader::DestinationOptions(_)))));
    assert!(walk.next().is_none());
    assert_eq!((walk.next_header(), walk.len()), (IpProtocol::UDP, 32));
}

#[test]
fn extension_chains_are_bounded() {
    let mut chain = Vec::new();
    for _ in 0..=ipv6_ext::EXT_HEADERS_MAX {
        chain.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    }
    let last = ExtHeaders::new(IpProtocol::DESTINATION_OPTIONS, &chain).last().unwrap();
    assert!(matches!(last, Err(ParseError::TooMany { field: "headers", .. })));
    // RFC 8200 section 4.1: hop-by-hop options only directly behind the fixed header.
    let misplaced = hex("00 00 0104 00000000 3b 00 0104 00000000");
    let last = ExtHeaders::new(IpProtocol::DESTINATION_OPTIONS, &misplaced).last().unwrap();
    assert!(last.is_err());
}

#[test]
fn later_fragments_have_no_transport() {
    let mut frame = hex(LINUX_SYN);
    // Offset 8 in units of 8 bytes.
    frame[20..22].copy_from_slice(&[0x20, 0x08]);
    let headers = Headers::parse(&frame).unwrap();
    assert_eq!(headers.transport, Transport::None);
    assert_eq!(headers.fragment, Some(Fragment { offset_bytes: 64, more: true, id: 0x1c46 }));
    assert_eq!(headers.payload_range(), 34..74);
}

#[test]
fn errors_name_protocol_and_field() {
    let mut frame = hex(LINUX_SYN);
    frame[46] = 0x42;
    let error = Headers::parse(&frame).unwrap_err();
    assert_eq!(error.to_string(), "TCP: data offset has the invalid value 0x4");
    let error = Headers::parse(&frame[..50]).unwrap_err();
    assert_eq!(error.to_string(), "IPv4: total length needs 60 bytes, 36 are there");
}

#[test]
fn virtio_header_of_a_super_segment() {
    let repr = VirtioNetRepr {
        flags: VirtioNetFlags::NEEDS_CSUM,
        gso_type: GsoType::TcpV4,
        ecn: true,
        hdr_len: 66,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    let mut out = [0; 12];
    repr.emit(&mut out);
    assert_eq!(out[..], hex("01 81 4200 a805 2200 1000 0000"));
    let bad = hex("00 02 0000 0000 0000 0000 0000");
    assert!(VirtioNetRepr::parse(&VirtioNetView::new(&bad).unwrap()).is_err());
}
