//! ICMP and ICMPv6: echo, errors that are sent, errors that are heard.

use std::net::IpAddr;

use tandem_device::Frame;
use tandem_packet::icmpv4::{self, ICMPV4_CHECKSUM_OFFSET, ICMPV4_HEADER_LEN};
use tandem_packet::icmpv6::{self, ICMPV6_CHECKSUM_OFFSET, ICMPV6_HEADER_LEN};
use tandem_packet::ipv4::IPV4_HEADER_LEN;
use tandem_packet::ipv6::{IPV6_HEADER_LEN, IPV6_MTU_MIN};
use tandem_packet::{
    FourTuple, Icmpv4Repr, Icmpv4View, Icmpv6Repr, Icmpv6View, IpProtocol, Ipv4View, Ipv6View,
    SeqNumber, Transport,
};

use super::Core;
use super::input::{Fate, Packet};
use super::net::{Egress, HOP_LIMIT, IpHeader, Net};
use crate::error::IoError;
use crate::flow;
use crate::limits;
use crate::stats::DropReason;

/// Bytes of an ICMP message that are looked at: headers of the message and of a quoted packet.
const LOOK_LEN: usize = 256;
/// Longest ICMPv4 error in bytes with its IP header (RFC 1812 section 4.3.2.3).
const ICMPV4_ERROR_LEN_MAX: usize = 576;

/// What is wrong with a packet, for an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Nothing on that port.
    Port,
    /// Nothing for that protocol.
    Protocol,
    /// An IPv6 header field, at this offset.
    Field(u32),
    /// An IPv6 option, at this offset.
    Option(u32),
}

/// What an ICMP error says to the flow that it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Next-hop MTU, bytes.
    TooBig(u32),
    /// The destination will not take it: port or protocol unreachable, or prohibited.
    Refused,
    /// It could not be brought there now.
    Unreachable,
    /// The neighbour on its way does not answer.
    NoNeighbour,
}

impl Net {
    /// ICMP for IPv4 or IPv6, by the packet's family.
    pub(crate) fn input_icmp(&mut self, core: &mut Core, packet: &Packet, frame: Frame) -> Fate {
        let l4 = usize::from(packet.headers.l4_offset);
        let end = packet.headers.packet_end as usize;
        let mut bytes = [0; LOOK_LEN];
        let len = frame.copy_to(l4, &mut bytes).min(end.saturating_sub(l4));
        let bytes = &bytes[..len];
        let quoted = match packet.src {
            IpAddr::V4(_) => {
                let Ok(view) = Icmpv4View::new(bytes) else {
                    return Fate::Dropped(DropReason::Malformed);
                };
                match Icmpv4Repr::parse(&view) {
                    // RFC 1122 section 3.2.2.6: an echo request to a group may be discarded.
                    Ok(Icmpv4Repr::EchoRequest { id, seq }) if !packet.to_group => {
                        return self.reply(core, packet, frame, id, seq);
                    }
                    Ok(Icmpv4Repr::EchoReply { id, .. }) => {
                        return self.input_echo(core, packet, frame, id);
                    }
                    Ok(Icmpv4Repr::DestinationUnreachable { code, mtu }) => {
                        let news = match code {
                            icmpv4::unreachable::FRAGMENTATION_NEEDED => News::TooBig(mtu.into()),
                            icmpv4::unreachable::PROTOCOL | icmpv4::unreachable::PORT => {
                                News::Refused
                            }
                            _ => News::Unreachable,
                        };
                        self.quoted_v4(core, packet, view.payload(), news)
                    }
                    Ok(Icmpv4Repr::TimeExceeded { .. }) => {
                        self.quoted_v4(core, packet, view.payload(), News::Unreachable)
                    }
                    // Redirects only matter with routers to choose from (RFC 1122 section 3.2.2.2);
                    // routes are static.
                    _ => return Fate::Dropped(DropReason::IcmpIgnored),
                }
            }
            IpAddr::V6(_) => {
                let Ok(view) = Icmpv6View::new(bytes) else {
                    return Fate::Dropped(DropReason::Malformed);
                };
                if view.is_ndp() {
                    return self.input_ndp(core, packet, &view);
                }
                match Icmpv6Repr::parse(&view) {
                    Ok(Icmpv6Repr::EchoRequest { id, seq }) => {
                        return self.reply(core, packet, frame, id, seq);
                    }
                    Ok(Icmpv6Repr::EchoReply { id, .. }) => {
                        return self.input_echo(core, packet, frame, id);
                    }
                    Ok(Icmpv6Repr::PacketTooBig { mtu }) => {
                        self.quoted_v6(core, packet, view.payload(), News::TooBig(mtu))
                    }
                    Ok(Icmpv6Repr::DestinationUnreachable { code }) => {
                        let news = match code {
                            icmpv6::unreachable::PORT => News::Refused,
                            _ => News::Unreachable,
                        };
                        self.quoted_v6(core, packet, view.payload(), news)
                    }
                    Ok(Icmpv6Repr::ParameterProblem {
                        code: icmpv6::problem::NEXT_HEADER, ..
                    }) => self.quoted_v6(core, packet, view.payload(), News::Refused),
                    Ok(Icmpv6Repr::TimeExceeded { .. } | Icmpv6Repr::ParameterProblem { .. }) => {
                        self.quoted_v6(core, packet, view.payload(), News::Unreachable)
                    }
                    Err(_) => return Fate::Dropped(DropReason::IcmpIgnored),
                }
            }
        };
        match quoted {
            Quoted::Told => Fate::Delivered,
            Quoted::Unmatched => Fate::Dropped(DropReason::IcmpUnmatched),
            Quoted::Malformed => Fate::Dropped(DropReason::Malformed),
            Quoted::At(shard) => self.hand_over(core, shard, packet.iface, frame),
        }
    }

    /// Answers an echo request with its own payload, by reference.
    fn reply(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        mut frame: Frame,
        id: u16,
        seq: u16,
    ) -> Fate {
        // RFC 4443 section 4.2: an answer to a group's echo comes from an address of ours.
        let src = (!packet.to_group).then_some(packet.dst);
        if !can_be_answered(packet.src) {
            return Fate::Dropped(DropReason::BadSource);
        }
        let Ok(egress) = self.route(core, packet.src, src, packet.scope()) else {
            self.stats.tx_no_route += 1;
            return Fate::Dropped(DropReason::IcmpIgnored);
        };
        let Ok(mut answer) = core.frames.alloc() else {
            return Fate::Dropped(DropReason::NoBuffers);
        };
        answer.reserve_headroom(limits::HEADROOM);
        let Ok(head) = answer.push_back(ICMPV4_HEADER_LEN) else {
            return Fate::Dropped(DropReason::NoBuffers);
        };
        match packet.src {
            IpAddr::V4(_) => Icmpv4Repr::EchoReply { id, seq }.emit(head),
            IpAddr::V6(_) => Icmpv6Repr::EchoReply { id, seq }.emit(head),
        }
        let data = usize::from(packet.headers.l4_offset) + ICMPV4_HEADER_LEN;
        let end = packet.headers.packet_end as usize;
        let mut fits = true;
        frame.share(data.min(end)..end, |payload| fits &= answer.push_payload(payload).is_ok());
        if !fits || !self.send_icmp(core, &egress, packet.src, packet.tos, answer) {
            return Fate::Dropped(DropReason::NoBuffers);
        }
        self.stats.echo_replies_sent += 1;
        Fate::Delivered
    }

    /// Completes and sends a frame that begins with an ICMP header of the destination's family.
    pub(crate) fn send_icmp(
        &mut self,
        core: &mut Core,
        egress: &Egress,
        dst: IpAddr,
        tos: u8,
        mut frame: Frame,
    ) -> bool {
        let (protocol, offset) = match dst {
            // No pseudo-header in ICMP for IPv4 (RFC 792): the seed stays zero.
            IpAddr::V4(_) => (IpProtocol::ICMPV4, ICMPV4_CHECKSUM_OFFSET),
            IpAddr::V6(_) => {
                let seed = Self::seed(egress.src, dst, IpProtocol::ICMPV6, frame.len());
                frame.head_mut()[ICMPV6_CHECKSUM_OFFSET..ICMPV6_CHECKSUM_OFFSET + 2]
                    .copy_from_slice(&seed.to_be_bytes());
                (IpProtocol::ICMPV6, ICMPV6_CHECKSUM_OFFSET)
            }
        };
        let header = IpHeader { src: egress.src, dst, protocol, tos, hop_limit: HOP_LIMIT };
        if self.push_ip(&mut frame, &header, offset as u16, 1).is_err() {
            self.stats.tx_no_buffers += 1;
            return false;
        }
        self.send(core, egress, frame);
        true
    }

    /// Sends an ICMP error about a packet, unless a rule forbids it.
    pub(crate) fn complain(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        frame: &Frame,
        complaint: Complaint,
    ) {
        // RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e): never about an ICMP error, a packet to
        // a group or in a link-layer group (v6: but for unknown options), a later fragment, or one
        // whose source is not a single host.
        let about_group = packet.to_group || packet.link_group;
        let about_option = matches!(complaint, Complaint::Option(_));
        if about_group && !about_option
            || self.is_icmp_error(packet)
            || packet.headers.fragment.is_some_and(|fragment| fragment.offset_bytes != 0)
            || !can_be_answered(packet.src)
        {
            return;
        }
        // RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8: limit the rate.
        if !self.icmp_tokens.take(core.now) {
            self.stats.icmp_errors_limited += 1;
            return;
        }
        let src = (!packet.to_group).then_some(packet.dst);
        let Ok(egress) = self.route(core, packet.src, src, packet.scope()) else {
            self.stats.tx_no_route += 1;
            return;
        };
        let Ok(mut error) = core.frames.alloc() else {
            self.stats.tx_no_buffers += 1;
            return;
        };
        error.reserve_headroom(limits::HEADROOM);
        let mut head = [0; ICMPV6_HEADER_LEN];
        let limit = match packet.src {
            IpAddr::V4(_) => {
                let code = match complaint {
                    Complaint::Port => icmpv4::unreachable::PORT,
                    _ => icmpv4::unreachable::PROTOCOL,
                };
                Icmpv4Repr::DestinationUnreachable { code, mtu: 0 }.emit(&mut head);
                ICMPV4_ERROR_LEN_MAX - IPV4_HEADER_LEN - ICMPV4_HEADER_LEN
            }
            IpAddr::V6(_) => {
                let problem = |code, pointer| Icmpv6Repr::ParameterProblem { code, pointer };
                let repr = match complaint {
                    Complaint::Port => {
                        Icmpv6Repr::DestinationUnreachable { code: icmpv6::unreachable::PORT }
                    }
                    // RFC 4443 section 3.4: the pointer is at the next-header field; without
                    // extension headers that is byte 6.
                    Complaint::Protocol => problem(icmpv6::problem::NEXT_HEADER, 6),
                    Complaint::Field(at) => problem(icmpv6::problem::HEADER_FIELD, at),
                    Complaint::Option(at) => problem(icmpv6::problem::OPTION, at),
                };
                repr.emit(&mut head);
                IPV6_MTU_MIN - IPV6_HEADER_LEN - ICMPV6_HEADER_LEN
            }
        };
        // As much of the packet as fits.
        let l3 = usize::from(packet.headers.l3_offset);
        let len = packet.headers.packet_end as usize - l3;
        let quoted = len.min(limit).min(error.tailroom().saturating_sub(head.len()));
        let written = error.append(&head).is_ok()
            && error.push_back(quoted).is_ok_and(|bytes| frame.copy_to(l3, bytes) == quoted);
        if written && self.send_icmp(core, &egress, packet.src, 0, error) {
            self.stats.icmp_errors_sent += 1;
        }
    }

    fn is_icmp_error(&self, packet: &Packet) -> bool {
        match (packet.headers.transport, packet.headers.protocol) {
            (Transport::Icmp { kind, .. }, IpProtocol::ICMPV4) => {
                !matches!(kind, icmpv4::kind::ECHO_REQUEST | icmpv4::kind::ECHO_REPLY)
            }
            // RFC 4443 section 2.1: types below 128; and redirects (section 2.4 (e.2)).
            (Transport::Icmp { kind, .. }, _) => kind < 128 || kind == icmpv6::kind::REDIRECT,
            _ => false,
        }
    }

    fn quoted_v4(&mut self, core: &mut Core, packet: &Packet, quoted: &[u8], news: News) -> Quoted {
        let Ok(ip) = Ipv4View::new_truncated(quoted) else { return Quoted::Malformed };
        if ip.header().fragment_offset_bytes() != 0 {
            return Quoted::Unmatched;
        }
        let (src, dst) = (ip.src().into(), ip.dst().into());
        let news = match news {
            // RFC 1191 section 5: a router of before says 0; take the next lower plateau.
            News::TooBig(0) => News::TooBig(plateau(ip.total_len().into())),
            news => news,
        };
        self.hear(core, packet.mailed, (src, dst), ip.protocol(), ip.payload(), news)
    }

    fn quoted_v6(&mut self, core: &mut Core, packet: &Packet, quoted: &[u8], news: News) -> Quoted {
        let Ok(ip) = Ipv6View::new_truncated(quoted) else { return Quoted::Malformed };
        // We send no extension headers, so what has some is not ours.
        let addresses = (ip.src().into(), ip.dst().into());
        self.hear(core, packet.mailed, addresses, ip.next_header(), ip.payload(), news)
    }

    /// A packet of ours, from its IP header on, did not find its neighbour: its flow is told, as by a
    /// host unreachable that we send ourselves (RFC 1122 section 2.4, RFC 4861 section 7.2.2).
    pub(crate) fn undeliverable(&mut self, core: &mut Core, frame: &Frame) {
        let mut bytes = [0; LOOK_LEN];
        let len = frame.copy_to(0, &mut bytes);
        let bytes = &bytes[..len];
        if let Ok(ip) = Ipv4View::new_truncated(bytes) {
            let addresses = (ip.src().into(), ip.dst().into());
            self.hear(core, true, addresses, ip.protocol(), ip.payload(), News::NoNeighbour);
        } else if let Ok(ip) = Ipv6View::new_truncated(bytes) {
            let addresses = (ip.src().into(), ip.dst().into());
            self.hear(core, true, addresses, ip.next_header(), ip.payload(), News::NoNeighbour);
        }
    }

    /// Tells the flow that an ICMP error quotes, or says where it lives.
    fn hear(
        &mut self,
        core: &mut Core,
        is_home: bool,
        (src, dst): (IpAddr, IpAddr),
        protocol: IpProtocol,
        quoted: &[u8],
        news: News,
    ) -> Quoted {
        // Eight bytes are all that RFC 792 promises: ports, and for TCP the sequence number.
        let Some(lead) = quoted.first_chunk::<8>() else { return Quoted::Unmatched };
        let [a, b, c, d, seq @ ..] = *lead;
        let tuple = FourTuple {
            src,
            dst,
            src_port: u16::from_be_bytes([a, b]),
            dst_port: u16::from_be_bytes([c, d]),
        };
        let (found, home) = match protocol {
            IpProtocol::TCP => {
                let seq = SeqNumber(u32::from_be_bytes(seq));
                let home = flow::home(&tuple.reversed(), None, self.shared.shards);
                (self.stream_news(core, &tuple, seq, news), Some(home))
            }
            IpProtocol::UDP => (self.udp_news(core, &tuple, news), self.udp_home_of(&tuple)),
            _ => (false, None),
        };
        match home {
            _ if found => Quoted::Told,
            Some(home) if home != core.index && !is_home => Quoted::At(home),
            _ => Quoted::Unmatched,
        }
    }
}

/// What became of an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoted {
    Told,
    Unmatched,
    Malformed,
    /// The flow lives on this shard.
    At(u16),
}

/// Whether an address is a single host's (RFC 1122 section 3.2.2).
fn can_be_answered(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // Class E counts as no host's.
            let reserved = address.octets()[0] >= 240;
            !(address.is_unspecified() || address.is_multicast() || reserved)
        }
        IpAddr::V6(address) => !(address.is_unspecified() || address.is_multicast()),
    }
}

/// The next lower plateau of RFC 1191 section 7.1, table 7-1.
fn plateau(len: u32) -> u32 {
    const PLATEAUS: [u32; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];
    PLATEAUS.into_iter().find(|&plateau| plateau < len).unwrap_or(68)
}

/// What an ICMP error means to a datagram socket.
pub(crate) fn datagram_error(news: News) -> Option<IoError> {
    match news {
        News::Refused => Some(IoError::Refused),
        News::Unreachable | News::NoNeighbour => Some(IoError::Unreachable),
        News::TooBig(_) => None,
    }
}
