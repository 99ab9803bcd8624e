//! Generators that the tests of this crate share.
#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tandem_packet::*;

/// Addresses, flags and lengths of one generated frame, and its bytes without any checksum.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) ethernet: EthernetRepr,
    pub(crate) frame: Vec<u8>,
    pub(crate) payload_len: usize,
}

pub(crate) fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

pub(crate) fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 4]>().prop_map(Ipv4Addr::from)
}

pub(crate) fn v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<[u8; 16]>().prop_map(Ipv6Addr::from)
}

pub(crate) fn tags() -> impl Strategy<Value = VlanTags> {
    let tag = any::<u16>().prop_map(|tci| VlanTag { tpid: EtherType::VLAN, tci });
    prop_oneof![
        Just(VlanTags::NONE),
        tag.clone().prop_map(VlanTags::one),
        (any::<u16>(), tag).prop_map(|(tci, inner)| {
            VlanTags::two(VlanTag { tpid: EtherType::SERVICE_VLAN, tci }, inner)
        }),
    ]
}

pub(crate) fn ethernet() -> impl Strategy<Value = EthernetRepr> {
    (mac(), mac(), tags()).prop_map(|(dst, src, tags)| EthernetRepr {
        dst,
        src,
        tags,
        ether_type: EtherType(0),
    })
}

pub(crate) fn ipv4() -> impl Strategy<Value = Ipv4Repr> {
    (
        (v4(), v4(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>()),
        (any::<bool>(), any::<bool>(), 0u16..0x2000, any::<u16>()),
        (prop::collection::vec(any::<u8>(), 0..=40), 0u16..60_000),
    )
        .prop_map(
            |(
                (src, dst, protocol, tos, ttl, id),
                (dont_fragment, more_fragments, offset, checksum),
                (options, payload_len),
            )| Ipv4Repr {
                src,
                dst,
                protocol: IpProtocol(protocol),
                tos,
                ttl,
                id,
                dont_fragment,
                more_fragments,
                fragment_offset_bytes: offset << 3,
                checksum,
                options: Ipv4Options::new(&options).unwrap(),
                payload_len,
            },
        )
}

pub(crate) fn ipv6() -> impl Strategy<Value = Ipv6Repr> {
    (v6(), v6(), any::<u8>(), any::<u8>(), any::<u8>(), 0u32..0x10_0000, any::<u16>()).prop_map(
        |(src, dst, next_header, hop_limit, traffic_class, flow_label, payload_len)| Ipv6Repr {
            src,
            dst,
            next_header: IpProtocol(next_header),
            hop_limit,
            traffic_class,
            flow_label,
            payload_len,
        },
    )
}

pub(crate) fn tcp_option_bytes() -> impl Strategy<Value = Vec<u8>> {
    let body = |kind: u8, len: usize| {
        prop::collection::vec(any::<u8>(), len).prop_map(move |data| {
            let mut option = vec![kind, 2 + data.len() as u8];
            option.extend(data);
            option
        })
    };
    let one = prop_oneof![
        3 => Just(vec![1u8]),
        1 => body(2, 2),
        1 => body(3, 1),
        1 => body(4, 0),
        1 => body(5, 8),
        1 => body(5, 16),
        1 => body(5, 24),
        1 => body(5, 32),
        2 => body(8, 8),
        1 => body(19, 16),
        1 => body(34, 0),
        1 => body(34, 8),
        1 => body(172, 9),
        1 => body(174, 3),
        1 => body(174, 6),
        1 => (0usize..12).prop_flat_map(move |len| (any::<u8>().prop_map(|kind| kind.max(2)), prop::collection::vec(any::<u8>(), len))).prop_map(|(kind, data)| {
            let mut option = vec![kind, 2 + data.len() as u8];
            option.extend(data);
            option
        }),
        1 => prop::collection::vec(any::<u8>(), 0..17).prop_map(|cookie| {
            let mut option = vec![254, 4 + cookie.len() as u8, 0xf9, 0x89];
            option.extend(cookie);
            option
        }),
    ];
    prop::collection::vec(one, 0..8).prop_map(|options| {
        let mut bytes = Vec::new();
        for option in options {
            if bytes.len() + option.len() <= 40 {
                bytes.extend(option);
            }
        }
        bytes
    })
}

pub(crate) fn tcp() -> impl Strategy<Value = TcpRepr> {
    (
        (any::<u16>(), any::<u16>(), any::<u32>(), any::<u32>(), 0u16..0x200),
        (any::<u16>(), any::<u16>(), any::<u16>(), tcp_option_bytes()),
    )
        .prop_map(
            |((src_port, dst_port, seq, ack, flags), (window, checksum, urgent, options))| {
                TcpRepr {
                    src_port,
                    dst_port,
                    seq: SeqNumber(seq),
                    ack: SeqNumber(ack),
                    flags: TcpFlags::from_bits_truncate(flags),
                    window,
                    checksum,
                    urgent,
                    options: TcpOptions::parse(&options).unwrap(),
                }
            },
        )
}

/// A frame with TCP or UDP over IPv4 or IPv6 (some with extension headers), some padded.
pub(crate) fn frame() -> impl Strategy<Value = Built> {
    (
        (ethernet(), ipv4(), ipv6(), tcp(), any::<bool>(), any::<bool>()),
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(
            (prop_oneof![Just(43u8), Just(60)], prop::collection::vec(any::<u8>(), 6)),
            0..3,
        ),
        0usize..20,
    )
        .prop_map(
            |(
                (mut ethernet, mut ipv4, mut ipv6, tcp, is_v4, is_tcp),
                payload,
                extensions,
                padding,
            )| {
                let udp = UdpRepr {
                    src_port: tcp.src_port,
                    dst_port: tcp.dst_port,
                    payload_len: payload.len() as u16,
                    checksum: tcp.checksum,
                };
                let (l4_len, protocol) = if is_tcp {
                    (tcp.header_len(), IpProtocol::TCP)
                } else {
                    (udp.header_len(), IpProtocol::UDP)
                };
                let l4_total = (l4_len + payload.len()) as u16;
                let mut frame = vec![0; 2048];
                let mut at = ethernet.header_len();
                if is_v4 {
                    ethernet.ether_type = EtherType::IPV4;
                    ipv4.protocol = protocol;
                    ipv4.more_fragments = false;
                    ipv4.fragment_offset_bytes = 0;
                    ipv4.payload_len = l4_total;
                    ipv4.emit(&mut frame[at..]);
                    at += ipv4.header_len();
                } else {
                    ethernet.ether_type = EtherType::IPV6;
                    ipv6.payload_len = l4_total + extensions.len() as u16 * 8;
                    let mut chain = extensions.iter().map(|(kind, _)| *kind).chain([protocol.0]);
                    ipv6.next_header = IpProtocol(chain.next().unwrap());
                    ipv6.emit(&mut frame[at..]);
                    at += ipv6.header_len();
                    for (_, data) in &extensions {
                        frame[at] = chain.next().unwrap();
                        frame[at + 1] = 0;
                        frame[at + 2..at + 8].copy_from_slice(data);
                        at += 8;
                    }
                }
                if is_tcp {
                    tcp.emit(&mut frame[at..]);
                } else {
                    udp.emit(&mut frame[at..]);
                }
                at += l4_len;
                frame[at..at + payload.len()].copy_from_slice(&payload);
                at += payload.len();
                frame.truncate(at + padding);
                ethernet.emit(&mut frame);
                Built { ethernet, frame, payload_len: payload.len() }
            },
        )
}

/// Generated frames with a few bytes overwritten and perhaps the end cut off: near enough to valid
/// to reach deep branches.
pub(crate) fn mutated_frame() -> impl Strategy<Value = Vec<u8>> {
    (
        frame(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(built, changes, cut, do_cut)| {
            let mut frame = built.frame;
            for (index, value) in changes {
                // Headers are where a change matters.
                let at = index.index(frame.len().min(110));
                frame[at] = value;
            }
            if do_cut {
                frame.truncate(cut.index(frame.len()));
            }
            frame
        })
}
