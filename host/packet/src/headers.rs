//! One pass over an Ethernet frame: where each header stands, what it is, and the fields that
//! demultiplexing, offload and steering ask for.

use core::net::IpAddr;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use crate::address::FourTuple;
use crate::error::{ParseError, Protocol, Result};
use crate::ethernet::EthernetView;
use crate::ipv4::Ipv4View;
use crate::ipv6::{IPV6_HEADER_LEN, Ipv6View};
use crate::ipv6_ext::ExtHeader;
use crate::number::{EtherType, IpProtocol};
use crate::tcp::{TcpFlags, TcpView};
use crate::udp::{UDP_HEADER_LEN, UdpView};
use crate::vlan::VlanTags;

/// The network layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// IPv4.
    Ipv4 {
        /// Source.
        src: Ipv4Addr,
        /// Destination.
        dst: Ipv4Addr,
    },
    /// IPv6.
    Ipv6 {
        /// Source.
        src: Ipv6Addr,
        /// Destination.
        dst: Ipv6Addr,
    },
    /// ARP, not looked into.
    Arp,
    /// Something else, not looked into.
    Other,
}

/// The transport layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Control bits.
        flags: TcpFlags,
        /// Bytes of the header with options.
        header_len: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// ICMPv4 or ICMPv6, by [`Headers::protocol`].
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A protocol that is not looked into, a fragment that is not the first, or no IP at all.
    None,
}

/// How a packet is a part of a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Where its payload stands in the whole.
    pub offset_bytes: u16,
    /// Whether more follows.
    pub more: bool,
    /// Identification (16 bits in IPv4).
    pub id: u32,
}

/// What one pass over a frame found. Offsets count from the frame's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// VLAN tags, outermost first.
    pub tags: VlanTags,
    /// Type behind the tags.
    pub ether_type: EtherType,
    /// Network layer.
    pub network: Network,
    /// Transport layer.
    pub transport: Transport,
    /// Protocol of the transport layer (behind IPv6 extension headers); 0 when there is no IP.
    pub protocol: IpProtocol,
    /// Whether IPv4 options or IPv6 extension headers stand between the layers.
    pub has_l3_options: bool,
    /// Set when the packet is a part of a larger one; an atomic IPv6 fragment (RFC 6946) has it
    /// too, with offset 0 and nothing more to come.
    pub fragment: Option<Fragment>,
    /// Bytes of the link layer; where the network layer begins.
    pub l3_offset: u16,
    /// Where the transport layer begins; the network header's end.
    pub l4_offset: u16,
    /// Where the payload of the innermost parsed layer begins.
    pub payload_offset: u16,
    /// Where the packet ends by its IP length, before any link padding; else the frame's end.
    pub packet_end: u32,
    /// Where the payload of the innermost parsed layer ends: `packet_end`, or earlier when a UDP
    /// length says so.
    pub payload_end: u32,
}

impl Headers {
    /// Walks a frame that lies in one piece.
    ///
    /// # Errors
    /// As [`Self::parse_split`].
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self> {
        Self::parse_split(frame, frame.len())
    }

    /// Walks a frame of `frame_len` bytes of which only the first are at hand, all headers among
    /// them (a frame whose payload is attached by reference, or copied-out headers).
    ///
    /// # Errors
    /// When a header is cut off or malformed, or a length field exceeds `frame_len`. Frames that
    /// are not IP never fail behind the link layer.
    #[inline]
    pub fn parse_split(head: &[u8], frame_len: usize) -> Result<Self> {
        let ethernet = EthernetView::new(head)?;
        let l3_offset = ethernet.header_len();
        let l3_len = frame_len.saturating_sub(l3_offset);
        let mut headers = Self {
            tags: ethernet.tags(),
            ether_type: ethernet.ether_type(),
            network: Network::Other,
            transport: Transport::None,
            protocol: IpProtocol(0),
            has_l3_options: false,
            fragment: None,
            l3_offset: l3_offset as u16,
            l4_offset: l3_offset as u16,
            payload_offset: l3_offset as u16,
            packet_end: u32::try_from(frame_len).unwrap_or(u32::MAX),
            payload_end: u32::try_from(frame_len).unwrap_or(u32::MAX),
        };
        match ethernet.ether_type() {
            EtherType::IPV4 => headers.walk_ipv4(ethernet.payload(), l3_len)?,
            EtherType::IPV6 => headers.walk_ipv6(ethernet.payload(), l3_len)?,
            EtherType::ARP => headers.network = Network::Arp,
            _ => {}
        }
        Ok(headers)
    }

    #[inline]
    fn walk_ipv4(&mut self, bytes: &[u8], l3_len: usize) -> Result<()> {
        let ip = Ipv4View::new_truncated(bytes)?;
        let total_len = usize::from(ip.total_len());
        if total_len > l3_len {
            return Err(ParseError::truncated(Protocol::Ipv4, "total length", total_len, l3_len));
        }
        self.network = Network::Ipv4 { src: ip.src(), dst: ip.dst() };
        self.protocol = ip.protocol();
        self.has_l3_options = !ip.options().is_empty();
        self.l4_offset = self.l3_offset + ip.header_len() as u16;
        self.payload_offset = self.l4_offset;
        self.packet_end = u32::from(self.l3_offset) + total_len as u32;
        self.payload_end = self.packet_end;
        let header = ip.header();
        if header.is_fragment() {
            self.fragment = Some(Fragment {
                offset_bytes: header.fragment_offset_bytes(),
                more: header.more_fragments(),
                id: header.id.get().into(),
            });
        }
        self.walk_transport(ip.payload())
    }

    #[inline]
    fn walk_ipv6(&mut self, bytes: &[u8], l3_len: usize) -> Result<()> {
        let ip = Ipv6View::new_truncated(bytes)?;
        let total_len = IPV6_HEADER_LEN + usize::from(ip.header().payload_len.get());
        if total_len > l3_len {
            return Err(ParseError::truncated(Protocol::Ipv6, "payload length", total_len, l3_len));
        }
        self.network = Network::Ipv6 { src: ip.src(), dst: ip.dst() };
        self.packet_end = u32::from(self.l3_offset) + total_len as u32;
        self.payload_end = self.packet_end;
        let mut extensions = ip.extensions();
        for extension in &mut extensions {
            self.has_l3_options = true;
            if let ExtHeader::Fragment(fragment) = extension? {
                self.fragment = Some(Fragment {
                    offset_bytes: fragment.offset_bytes,
                    more: fragment.more_fragments,
                    id: fragment.id,
                });
            }
        }
        self.protocol = extensions.next_header();
        // At most 8 headers of at most 2,048 bytes behind 62: within 16 bits.
        self.l4_offset = self.l3_offset + (IPV6_HEADER_LEN + extensions.len()) as u16;
        self.payload_offset = self.l4_offset;
        self.walk_transport(extensions.rest())
    }

    #[inline]
    fn walk_transport(&mut self, bytes: &[u8]) -> Result<()> {
        if self.fragment.is_some_and(|fragment| fragment.offset_bytes != 0) {
            return Ok(());
        }
        let l4_len = self.packet_end as usize - usize::from(self.l4_offset);
        match self.protocol {
            IpProtocol::TCP => {
                let tcp = TcpView::new(bytes)?;
                self.transport = Transport::Tcp {
                    src_port: tcp.src_port(),
                    dst_port: tcp.dst_port(),
                    flags: tcp.flags(),
                    header_len: tcp.header_len() as u8,
                };
                self.payload_offset += tcp.header_len() as u16;
            }
            IpProtocol::UDP => {
                let udp = UdpView::new_truncated(bytes)?;
                let udp_len = usize::from(udp.total_len());
                // The first fragment's length field counts the whole datagram.
                if udp_len > l4_len && self.fragment.is_none_or(|fragment| !fragment.more) {
                    return Err(ParseError::truncated(Protocol::Udp, "length", udp_len, l4_len));
                }
                self.transport =
                    Transport::Udp { src_port: udp.src_port(), dst_port: udp.dst_port() };
                self.payload_offset += UDP_HEADER_LEN as u16;
                self.payload_end = u32::from(self.l4_offset) + udp_len.min(l4_len) as u32;
            }
            IpProtocol::ICMPV4 | IpProtocol::ICMPV6 => {
                if let [kind, code, _, _, ..] = *bytes {
                    self.transport = Transport::Icmp { kind, code };
                    self.payload_offset += 4;
                } else {
                    let protocol = match self.protocol {
                        IpProtocol::ICMPV4 => Protocol::Icmpv4,
                        _ => Protocol::Icmpv6,
                    };
                    return Err(ParseError::truncated(protocol, "header", 4, bytes.len()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Addresses and ports of a TCP or UDP packet; `None` for anything else.
    #[inline]
    pub fn four_tuple(&self) -> Option<FourTuple> {
        let (src_port, dst_port) = match self.transport {
            Transport::Tcp { src_port, dst_port, .. } | Transport::Udp { src_port, dst_port } => {
                (src_port, dst_port)
            }
            _ => return None,
        };
        let (src, dst) = self.addresses()?;
        Some(FourTuple { src, dst, src_port, dst_port })
    }

    /// Source and destination of an IP packet.
    #[inline]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match self.network {
            Network::Ipv4 { src, dst } => Some((src.into(), dst.into())),
            Network::Ipv6 { src, dst } => Some((src.into(), dst.into())),
            Network::Arp | Network::Other => None,
        }
    }

    /// Where the payload of the innermost parsed layer lies in the frame, link padding excluded.
    #[inline]
    pub fn payload_range(&self) -> Range<usize> {
        usize::from(self.payload_offset)..self.payload_end as usize
    }

    /// Bytes of the payload of the innermost parsed layer.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.payload_range().len()
    }

    /// Whether the packet is a part of a larger one (an atomic IPv6 fragment is not).
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.more || fragment.offset_bytes != 0)
    }
}
