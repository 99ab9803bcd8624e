//! parse(emit(x)) is x, for every format; and emit(parse(bytes)) is bytes where the bytes are in
//! this crate's own layout.

mod support;

use std::net::Ipv6Addr;

use proptest::prelude::*;
use support::*;
use tandem_packet::*;

fn ndp_options() -> impl Strategy<Value = NdpOptions> {
    let prefix = (v6(), 0u8..=128, any::<(bool, bool, u32, u32)>()).prop_map(
        |(prefix, prefix_len, (on_link, autonomous, valid, preferred))| PrefixInformation {
            prefix,
            prefix_len,
            on_link,
            autonomous,
            valid_lifetime_s: valid,
            preferred_lifetime_s: preferred,
        },
    );
    let mac = || prop::option::of(mac());
    (mac(), mac(), any::<Option<u32>>(), prop::collection::vec(prefix, 0..=4)).prop_map(
        |(source_link_address, target_link_address, mtu, prefixes)| {
            let mut options = NdpOptions::default();
            options.source_link_address = source_link_address;
            options.target_link_address = target_link_address;
            options.mtu = mtu;
            for prefix in prefixes {
                assert!(options.push_prefix(prefix));
            }
            options
        },
    )
}

fn ndp() -> impl Strategy<Value = NdpRepr> {
    prop_oneof![
        ndp_options().prop_map(|options| NdpRepr::RouterSolicit { options }),
        (any::<(u8, bool, bool, u16, u32, u32)>(), ndp_options()).prop_map(
            |((hop_limit, managed, other_config, lifetime, reachable, retrans), options)| {
                NdpRepr::RouterAdvert {
                    hop_limit,
                    managed,
                    other_config,
                    router_lifetime_s: lifetime,
                    reachable_time_ms: reachable,
                    retrans_timer_ms: retrans,
                    options,
                }
            }
        ),
        (v6(), ndp_options())
            .prop_map(|(target, options)| NdpRepr::NeighborSolicit { target, options }),
        (any::<(bool, bool, bool)>(), v6(), ndp_options()).prop_map(
            |((router, solicited, override_cache), target, options)| NdpRepr::NeighborAdvert {
                router,
                solicited,
                override_cache,
                target,
                options,
            }
        ),
        (v6(), v6(), ndp_options()).prop_map(|(target, destination, options)| {
            NdpRepr::Redirect { target, destination, options }
        }),
    ]
}

/// What every Repr does: emit exactly `header_len()` bytes that parse to itself.
macro_rules! check {
    ($repr:expr, $extra:expr, $view:ident, $kind:ident) => {{
        let repr = $repr;
        let len = repr.header_len();
        let mut out = vec![0xa5; len + $extra];
        repr.emit(&mut out);
        prop_assert!(out[len..].iter().all(|&byte| byte == 0xa5), "wrote past header_len");
        let view = $view::new(&out).unwrap();
        prop_assert_eq!($kind::parse(&view).unwrap(), repr);
        // Emitting what was parsed yields the same bytes, over any ground.
        let mut again = vec![0x5a; len];
        $kind::parse(&view).unwrap().emit(&mut again);
        prop_assert_eq!(&again[..], &out[..len]);
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn ethernet_frames(repr in ethernet(), ether_type in any::<u16>()) {
        // A third tag's type would be read as such only behind two tags.
        let tagged = EtherType(ether_type).is_vlan() && repr.tags.len() < vlan::VLAN_TAGS_MAX;
        let ether_type = EtherType(if tagged { 0x0800 } else { ether_type });
        check!(EthernetRepr { ether_type, ..repr }, 9, EthernetView, EthernetRepr);
    }

    #[test]
    fn ipv4_headers(repr in ipv4()) {
        check!(repr, usize::from(repr.payload_len), Ipv4View, Ipv4Repr);
    }

    #[test]
    fn ipv6_headers(repr in ipv6()) {
        check!(repr, usize::from(repr.payload_len), Ipv6View, Ipv6Repr);
    }

    #[test]
    fn tcp_headers(repr in tcp(), extra in 0usize..40) {
        check!(repr, extra, TcpView, TcpRepr);
    }

    #[test]
    fn udp_headers(ports in any::<(u16, u16, u16)>(), payload_len in 0u16..2000) {
        let (src_port, dst_port, checksum) = ports;
        let repr = UdpRepr { src_port, dst_port, payload_len, checksum };
        check!(repr, usize::from(payload_len) + 3, UdpView, UdpRepr);
    }

    #[test]
    fn arp_messages(sender in (mac(), v4()), target in (mac(), v4()), reply in any::<bool>()) {
        let operation = if reply { ArpOperation::Reply } else { ArpOperation::Request };
        let repr = ArpRepr {
            operation,
            sender_mac: sender.0,
            sender_ip: sender.1,
            target_mac: target.0,
            target_ip: target.1,
        };
        check!(repr, 18, ArpView, ArpRepr);
    }

    #[test]
    fn icmpv4_headers(code: u8, pointer: u8, id: u16, seq: u16, gateway in v4()) {
        for repr in [
            Icmpv4Repr::EchoRequest { id, seq },
            Icmpv4Repr::EchoReply { id, seq },
            Icmpv4Repr::DestinationUnreachable { code, mtu: id },
            Icmpv4Repr::TimeExceeded { code },
            Icmpv4Repr::ParameterProblem { code, pointer },
            Icmpv4Repr::Redirect { code, gateway },
        ] {
            check!(repr, 30, Icmpv4View, Icmpv4Repr);
        }
    }

    #[test]
    fn icmpv6_headers(code: u8, word: u32, id: u16, seq: u16) {
        for repr in [
            Icmpv6Repr::DestinationUnreachable { code },
            Icmpv6Repr::PacketTooBig { mtu: word },
            Icmpv6Repr::TimeExceeded { code },
            Icmpv6Repr::ParameterProblem { code, pointer: word },
            Icmpv6Repr::EchoRequest { id, seq },
            Icmpv6Repr::EchoReply { id, seq },
        ] {
            check!(repr, 30, Icmpv6View, Icmpv6Repr);
        }
    }

    #[test]
    fn ndp_messages(repr in ndp()) {
        check!(repr, 0, Icmpv6View, NdpRepr);
    }

    #[test]
    fn virtio_headers(bytes: [u8; 12]) {
        if let Ok(repr) = VirtioNetRepr::parse(&VirtioNetView::new(&bytes).unwrap()) {
            check!(repr, 4, VirtioNetView, VirtioNetRepr);
        }
    }

    #[test]
    fn fragment_headers(next in any::<u8>(), offset in 0u16..0x2000, more: bool, id: u32) {
        let repr = FragmentRepr {
            next_header: IpProtocol(next),
            offset_bytes: offset << 3,
            more_fragments: more,
            id,
        };
        let mut out = [0; 8];
        repr.emit(&mut out);
        prop_assert_eq!(FragmentRepr::parse(&out).unwrap(), repr);
    }

    /// No option is lost between header and header, however unaligned it came.
    #[test]
    fn tcp_options_survive(bytes in tcp_option_bytes()) {
        let parsed = TcpOptions::parse(&bytes).unwrap();
        let mut out = [0; 40];
        let len = parsed.emit(&mut out);
        prop_assert!(len <= 40 && len.is_multiple_of(4));
        let again = TcpOptions::parse(&out[..len]).unwrap();
        prop_assert_eq!(again, parsed);
    }

    #[test]
    fn walker_finds_what_was_built(built in frame()) {
        let headers = Headers::parse(&built.frame).unwrap();
        prop_assert_eq!(headers.tags, built.ethernet.tags);
        prop_assert_eq!(headers.ether_type, built.ethernet.ether_type);
        prop_assert_eq!(headers.payload_len(), built.payload_len);
        prop_assert!(headers.four_tuple().is_some());
        // The headers alone give the same answer.
        let head = &built.frame[..usize::from(headers.payload_offset)];
        prop_assert_eq!(Headers::parse_split(head, built.frame.len()).unwrap(), headers);
        // Without the last byte of the packet it must refuse.
        let short = &built.frame[..headers.packet_end as usize - 1];
        prop_assert!(Headers::parse(short).is_err());
    }

    #[test]
    fn sequence_numbers_wrap(start: u32, step in 1u32..0x8000_0000) {
        let (a, b) = (SeqNumber(start), SeqNumber(start) + step);
        prop_assert!(a.lt(b) && a.le(b) && !a.gt(b) && !a.ge(b));
        prop_assert!(b.gt(a) && b.ge(a) && !b.lt(a) && !b.le(a));
        prop_assert_eq!(b - a, step);
        prop_assert_eq!(b - step, a);
        prop_assert_eq!((a.max(b), a.min(b)), (b, a));
        prop_assert!(a.is_within(a, step) && !b.is_within(a, step));
    }
}

#[test]
fn solicited_node_address() {
    // RFC 4291 section 2.7.1's example.
    let address: Ipv6Addr = "4037::01:800:200e:8c6c".parse().unwrap();
    assert_eq!(ndp::solicited_node(address), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
}
