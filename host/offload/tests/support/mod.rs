//! Packets with right checksums, made without any code of this crate.
#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::net::IpAddr;
use std::sync::LazyLock;

use proptest::prelude::*;
use tandem_device::{Frame, Pool, PoolConfig};
use tandem_packet::*;

/// Big enough for all that one case holds at a time, on all test threads.
pub(crate) static POOL: LazyLock<Pool> = LazyLock::new(|| {
    Pool::new(PoolConfig { buffers: 8192, buffer_len: 2048, headroom: 128 }).unwrap()
});

/// RFC 1071's own formulation, a word at a time, end-around carry at each step.
pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    for pair in bytes.chunks(2) {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (next, carry) = sum.overflowing_add(word);
        sum = next + u16::from(carry);
    }
    sum
}

/// The pseudo-header's bytes, spelled out.
pub(crate) fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend([0, protocol]);
            bytes.extend((len as u16).to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend((len as u32).to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
        }
        _ => unreachable!("one family"),
    }
    bytes
}

/// One packet's headers as values.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) tags: VlanTags,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) flow_label: u32,
    pub(crate) transport: L4,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) enum L4 {
    Tcp(TcpRepr),
    Udp { src_port: u16, dst_port: u16 },
}

/// What stands in the transport checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// The finished checksum.
    Finished,
    /// The pseudo-header's sum, not complemented.
    Seed,
}

impl Spec {
    pub(crate) fn is_v4(&self) -> bool {
        self.src.is_ipv4()
    }

    /// The frame's bytes, and how many of them are headers.
    pub(crate) fn build(&self, field: Field) -> (Vec<u8>, usize) {
        let ether_type = if self.is_v4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let ethernet = EthernetRepr {
            dst: MacAddr([2, 0, 0, 0, 0, 2]),
            src: MacAddr([2, 0, 0, 0, 0, 1]),
            tags: self.tags,
            ether_type,
        };
        let (protocol, l4_header_len) = match &self.transport {
            L4::Tcp(tcp) => (IpProtocol::TCP, tcp.header_len()),
            L4::Udp { .. } => (IpProtocol::UDP, 8),
        };
        let l4_len = l4_header_len + self.payload.len();
        let mut frame = vec![0; ethernet.header_len()];
        ethernet.emit(&mut frame);
        let l3 = frame.len();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut ip = Ipv4Repr {
                    src,
                    dst,
                    protocol,
                    tos: self.tos,
                    ttl: self.ttl,
                    id: self.id,
                    dont_fragment: self.dont_fragment,
                    payload_len: l4_len as u16,
                    ..Ipv4Repr::default()
                };
                frame.resize(l3 + 20, 0);
                ip.emit(&mut frame[l3..]);
                ip.checksum = !naive_sum(&frame[l3..]);
                ip.emit(&mut frame[l3..]);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let ip = Ipv6Repr {
                    src,
                    dst,
                    next_header: protocol,
                    hop_limit: self.ttl,
                    traffic_class: self.tos,
                    flow_label: self.flow_label,
                    payload_len: l4_len as u16,
                };
                frame.resize(l3 + 40, 0);
                ip.emit(&mut frame[l3..]);
            }
            _ => unreachable!("one family"),
        }
        let l4 = frame.len();
        let mut sum_field = 0;
        let mut summed = pseudo_header(self.src, self.dst, protocol.0, l4_len);
        let seed = naive_sum(&summed);
        for round in 0..2 {
            frame.truncate(l4);
            frame.resize(l4 + l4_header_len, 0);
            match &self.transport {
                L4::Tcp(tcp) => TcpRepr { checksum: sum_field, ..*tcp }.emit(&mut frame[l4..]),
                L4::Udp { src_port, dst_port } => UdpRepr {
                    src_port: *src_port,
                    dst_port: *dst_port,
                    payload_len: self.payload.len() as u16,
                    checksum: sum_field,
                }
                .emit(&mut frame[l4..]),
            }
            frame.extend(&self.payload);
            if round == 0 {
                summed.extend(&frame[l4..]);
                sum_field = match (field, &self.transport) {
                    (Field::Seed, _) => seed,
                    (Field::Finished, L4::Udp { .. }) if naive_sum(&summed) == 0xffff => 0xffff,
                    (Field::Finished, _) => !naive_sum(&summed),
                };
            }
        }
        (frame, l4 + l4_header_len)
    }
}

/// A received frame: all bytes in the head.
pub(crate) fn received(pool: &Pool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    frame.append(bytes).unwrap();
    frame
}

/// A frame with its headers in the head and its payload in pieces of the given sizes (repeated).
pub(crate) fn built(pool: &Pool, bytes: &[u8], header_len: usize, sizes: &[usize]) -> Frame {
    let mut frame = received(pool, &bytes[..header_len]);
    let mut rest = &bytes[header_len..];
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let room = tandem_device::FRAGS_MAX - frame.frags().len();
        // The last pieces must take all that is left.
        let least = if room <= rest.len().div_ceil(2048) { 2048 } else { 1 };
        let size = (*sizes.next().unwrap()).max(least).min(rest.len()).min(2048);
        let mut filler = pool.filler().unwrap();
        assert_eq!(filler.write(&rest[..size]), size);
        frame.push_payload(filler.payload(0..size)).unwrap();
        rest = &rest[size..];
    }
    frame
}

/// A TCP segment's worth of varied header values.
pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let addresses = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(src, dst)| (src.into(), dst.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(src, dst)| (src.into(), dst.into())),
    ];
    let tags = prop_oneof![
        3 => Just(VlanTags::NONE),
        1 => (1u16..4095).prop_map(|vid| VlanTags::one(VlanTag::customer(vid))),
    ];
    let options = (any::<Option<(u32, u32)>>(), any::<bool>()).prop_map(|(stamps, sack)| {
        let mut options = TcpOptions {
            timestamps: stamps.map(|(value, echo)| TcpTimestamps { value, echo }),
            ..TcpOptions::default()
        };
        if sack {
            options.sack.push(SackBlock { left: SeqNumber(1), right: SeqNumber(9) });
        }
        options
    });
    (
        (addresses, tags, options),
        any::<(u8, u8, u16, bool, bool)>(),
        (any::<u16>(), any::<u16>(), any::<u32>(), any::<u32>(), any::<u16>(), 0u32..0x10_0000),
    )
        .prop_map(
            |(
                ((src, dst), tags, options),
                (tos, ttl, id, dont_fragment, ece),
                (src_port, dst_port, seq, ack, window, flow_label),
            )| Spec {
                tags,
                src,
                dst,
                tos,
                ttl,
                id,
                dont_fragment,
                flow_label,
                transport: L4::Tcp(TcpRepr {
                    src_port,
                    dst_port,
                    seq: SeqNumber(seq),
                    ack: SeqNumber(ack),
                    flags: TcpFlags::ACK | if ece { TcpFlags::ECE } else { TcpFlags::empty() },
                    window,
                    options,
                    ..TcpRepr::default()
                }),
                payload: Vec::new(),
            },
        )
}
