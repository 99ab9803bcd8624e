//! The same bytes through etherparse and smoltcp, valid and damaged: where both sides have an
//! opinion, it is the same.

mod support;

use etherparse::{LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice, VlanSlice};
use proptest::prelude::*;
use smoltcp::wire;
use support::*;
use tandem_packet::*;

/// The answer of etherparse.
struct Theirs {
    ports: Option<(u16, u16)>,
    payload_len: usize,
    /// Tag control information, outermost first.
    tags: Vec<u16>,
}

/// What etherparse says of a frame, in this crate's words.
fn by_etherparse(frame: &[u8]) -> Option<Theirs> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let mut tags = Vec::new();
    for extension in &sliced.link_exts {
        if let etherparse::LinkExtSlice::Vlan(tag) = extension {
            let tag = tag.to_header();
            let dei = if tag.drop_eligible_indicator { 0x1000 } else { 0 };
            tags.push(u16::from(tag.pcp.value()) << 13 | dei | tag.vlan_id.value());
        }
    }
    let (ports, payload_len) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            (Some((tcp.source_port(), tcp.destination_port())), tcp.payload().len())
        }
        Some(TransportSlice::Udp(udp)) => {
            (Some((udp.source_port(), udp.destination_port())), udp.payload().len())
        }
        _ => match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => (None, ip.payload().payload.len()),
            Some(NetSlice::Ipv6(ip)) => (None, ip.payload().payload.len()),
            _ => return None,
        },
    };
    Some(Theirs { ports, payload_len, tags })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn walker_against_etherparse(frame in mutated_frame()) {
        let ours = Headers::parse(&frame);
        // etherparse reads three tags, walks over an authentication header, and leaves the transport
        // header of a first fragment alone; there the two may differ.
        if let Some(theirs) = by_etherparse(&frame)
            && let Ok(headers) = ours
            && theirs.tags.len() <= vlan::VLAN_TAGS_MAX
            && headers.protocol != IpProtocol::AH
            && !headers.is_fragment()
        {
            let tcis: Vec<u16> = headers.tags.as_slice().iter().map(|tag| tag.tci).collect();
            prop_assert_eq!(tcis, theirs.tags);
            let ports = headers.four_tuple().map(|t| (t.src_port, t.dst_port));
            prop_assert_eq!(ports, theirs.ports, "{:?}", headers);
            if ports.is_some() {
                prop_assert_eq!(headers.payload_len(), theirs.payload_len);
            }
        }
    }

    #[test]
    fn walker_accepts_what_etherparse_accepts(built in frame()) {
        let theirs = by_etherparse(&built.frame).expect("valid for etherparse");
        let headers = Headers::parse(&built.frame).unwrap();
        let tuple = headers.four_tuple().unwrap();
        prop_assert_eq!(Some((tuple.src_port, tuple.dst_port)), theirs.ports);
        prop_assert_eq!(headers.payload_len(), theirs.payload_len);
    }

    #[test]
    fn ipv4_against_smoltcp(repr in ipv4(), change in prop::option::of((0usize..20, any::<u8>()))) {
        let mut bytes = vec![0; repr.header_len() + usize::from(repr.payload_len)];
        repr.emit(&mut bytes);
        if let Some((at, value)) = change {
            bytes[at] = value;
        }
        let theirs = wire::Ipv4Packet::new_checked(&bytes[..]);
        let ours = Ipv4View::new(&bytes);
        // smoltcp leaves version and a header length below 20 to its Repr.
        if let (Ok(theirs), Ok(ours)) = (&theirs, &ours) {
            prop_assert_eq!(theirs.src_addr(), ours.src());
            prop_assert_eq!(theirs.dst_addr(), ours.dst());
            prop_assert_eq!(theirs.ident(), ours.header().id.get());
            prop_assert_eq!(theirs.frag_offset(), ours.header().fragment_offset_bytes());
            prop_assert_eq!(theirs.dont_frag(), ours.header().dont_fragment());
            prop_assert_eq!(theirs.more_frags(), ours.header().more_fragments());
            prop_assert_eq!(theirs.payload(), ours.payload());
            prop_assert_eq!(theirs.hop_limit(), ours.ttl());
            prop_assert_eq!(u8::from(theirs.next_header()), ours.protocol().0);
        } else if ours.is_ok() {
            prop_assert!(theirs.is_ok(), "smoltcp refuses what we accept: {:?}", theirs.err());
        } else if let Ok(theirs) = theirs {
            prop_assert!(theirs.version() != 4 || theirs.header_len() < 20);
        }
    }

    #[test]
    fn ipv6_against_smoltcp(repr in ipv6()) {
        let mut bytes = vec![0; 40 + usize::from(repr.payload_len)];
        repr.emit(&mut bytes);
        let theirs = wire::Ipv6Packet::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(theirs.src_addr(), repr.src);
        prop_assert_eq!(theirs.dst_addr(), repr.dst);
        prop_assert_eq!(theirs.traffic_class(), repr.traffic_class);
        prop_assert_eq!(theirs.flow_label(), repr.flow_label);
        prop_assert_eq!(theirs.payload_len(), repr.payload_len);
        prop_assert_eq!(theirs.hop_limit(), repr.hop_limit);
        prop_assert_eq!(u8::from(theirs.next_header()), repr.next_header.0);
    }

    #[test]
    fn tcp_against_smoltcp(repr in tcp(), payload in prop::collection::vec(any::<u8>(), 0..50),
                           change in prop::option::of((12usize..40, any::<u8>()))) {
        let mut bytes = vec![0; repr.header_len()];
        repr.emit(&mut bytes);
        bytes.extend(payload);
        if let Some((at, value)) = change && at < bytes.len() {
            bytes[at] = value;
        }
        let theirs = wire::TcpPacket::new_checked(&bytes[..]);
        let ours = TcpView::new(&bytes);
        prop_assert_eq!(theirs.is_ok(), ours.is_ok());
        let (Ok(theirs), Ok(ours)) = (theirs, ours) else { return Ok(()) };
        prop_assert_eq!(theirs.src_port(), ours.src_port());
        prop_assert_eq!(theirs.dst_port(), ours.dst_port());
        prop_assert_eq!(theirs.seq_number().0 as u32, ours.seq().0);
        prop_assert_eq!(theirs.ack_number().0 as u32, ours.ack().0);
        prop_assert_eq!(theirs.window_len(), ours.window());
        prop_assert_eq!(theirs.header_len() as usize, ours.header_len());
        prop_assert_eq!(theirs.payload(), ours.payload());
        prop_assert_eq!(theirs.segment_len() as u32, ours.segment_len());
        let flags = ours.flags();
        prop_assert_eq!(
            [theirs.fin(), theirs.syn(), theirs.rst(), theirs.psh(), theirs.ack(), theirs.urg(),
             theirs.ece(), theirs.cwr(), theirs.ns()],
            [TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST, TcpFlags::PSH, TcpFlags::ACK,
             TcpFlags::URG, TcpFlags::ECE, TcpFlags::CWR, TcpFlags::AE].map(|f| flags.contains(f))
        );
    }

    /// The option walk against etherparse's, which knows five kinds and calls the rest an error.
    #[test]
    fn tcp_options_against_etherparse(bytes in tcp_option_bytes(),
                                      change in prop::option::of((0usize..40, any::<u8>()))) {
        use etherparse::TcpOptionElement as Theirs;
        let mut bytes = bytes;
        if let Some((at, value)) = change && at < bytes.len() {
            bytes[at] = value;
        }
        let mut ours = TcpOptionIter::new(&bytes);
        for theirs in etherparse::TcpOptionsIterator::from_slice(&bytes) {
            let mine = ours.next();
            match theirs {
                Ok(Theirs::Noop) => prop_assert_eq!(mine, Some(Ok(TcpOption::Nop))),
                Ok(Theirs::MaximumSegmentSize(mss)) =>
                    prop_assert_eq!(mine, Some(Ok(TcpOption::Mss(mss)))),
                Ok(Theirs::WindowScale(shift)) =>
                    prop_assert_eq!(mine, Some(Ok(TcpOption::WindowScale(shift)))),
                Ok(Theirs::SelectiveAcknowledgementPermitted) =>
                    prop_assert_eq!(mine, Some(Ok(TcpOption::SackPermitted))),
                Ok(Theirs::Timestamp(value, echo)) => prop_assert_eq!(
                    mine, Some(Ok(TcpOption::Timestamps(TcpTimestamps { value, echo })))),
                Ok(Theirs::SelectiveAcknowledgement(first, rest)) => {
                    let Some(Ok(TcpOption::Sack(blocks))) = mine else {
                        panic!("{mine:?} instead of SACK");
                    };
                    let expected: Vec<(u32, u32)> =
                        std::iter::once(first).chain(rest.into_iter().flatten()).collect();
                    let got: Vec<(u32, u32)> =
                        blocks.as_slice().iter().map(|b| (b.left.0, b.right.0)).collect();
                    prop_assert_eq!(got, expected);
                }
                Err(_) => {
                    // Ours must not take it for one of the kinds that etherparse knows.
                    prop_assert!(!matches!(mine, Some(Ok(TcpOption::Nop | TcpOption::Mss(_)
                        | TcpOption::WindowScale(_) | TcpOption::SackPermitted
                        | TcpOption::Sack(_) | TcpOption::Timestamps(_)))), "{:?}", mine);
                    break;
                }
            }
        }
    }

    #[test]
    fn quoted_packets_against_etherparse(built in frame(), cut in 0usize..80) {
        // What an ICMP error quotes: the network layer's first bytes.
        let start = built.ethernet.header_len();
        let quoted = &built.frame[start..(start + cut).min(built.frame.len())];
        if let Ok((lax, _)) = etherparse::LaxIpSlice::from_slice(quoted)
            && let Some(v4) = lax.ipv4()
        {
            let ours = Ipv4View::new_truncated(quoted).unwrap();
            prop_assert_eq!(v4.header().source_addr(), ours.src());
            prop_assert_eq!(v4.payload().payload.len(), ours.payload().len());
        }
        let _ = LaxSlicedPacket::from_ip(quoted);
    }
}

#[test]
fn etherparse_sees_our_tags() {
    let repr = EthernetRepr {
        tags: VlanTags::two(
            VlanTag { tpid: EtherType::SERVICE_VLAN, tci: 0x7005 },
            VlanTag::customer(42),
        ),
        ether_type: EtherType(0x1234),
        ..EthernetRepr::default()
    };
    let mut frame = [0; 60];
    repr.emit(&mut frame);
    let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(VlanSlice::DoubleVlan(both)) = sliced.vlan() else { panic!("no double tag") };
    assert_eq!(both.outer.vlan_identifier().value(), 5);
    assert_eq!(both.outer.priority_code_point().value(), 3);
    assert_eq!(both.inner.vlan_identifier().value(), 42);
}
