//! From a frame to whom it is for: link layer, IP, and the one look-up of the upper layer.

use std::net::{IpAddr, Ipv4Addr};

use tandem_device::{Batch, Frame};
use tandem_offload::checksum;
use tandem_packet::ipv6_ext::UnknownAction;
use tandem_packet::{
    ExtHeader, Headers, IpProtocol, Ipv4View, Ipv6View, MacAddr, Network, Transport,
};

use super::Core;
use super::icmp::Complaint;
use super::net::Net;
use crate::flow;
use crate::limits;
use crate::mesh::Mail;
use crate::stats::DropReason;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A socket has it, or the stack answered.
    Delivered,
    /// Its home shard has it.
    HandedOver,
    Dropped(DropReason),
}

/// A received packet's addresses and what the link said of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) headers: Headers,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    /// Type of service or traffic class.
    pub(crate) tos: u8,
    pub(crate) hop_limit: u8,
    pub(crate) iface: u16,
    /// It came as a link-layer broadcast or multicast.
    pub(crate) link_group: bool,
    /// Its IP destination is a broadcast or multicast address.
    pub(crate) to_group: bool,
    /// It came by mailbox.
    pub(crate) mailed: bool,
}

impl Packet {
    /// Interface that a link-local source belongs to, for answers.
    pub(crate) fn scope(&self) -> u16 {
        if crate::namespace::is_link_local(self.src) || self.to_group { self.iface } else { 0 }
    }
}

impl Net {
    /// Takes in a batch of one interface.
    pub(crate) fn receive(
        &mut self,
        core: &mut Core,
        iface: u16,
        batch: &mut Batch,
        scratch: &mut Batch,
    ) {
        let port = &mut self.ports[usize::from(iface)];
        let up = port.up;
        let Some(offload) = port.offload.as_mut().filter(|_| up) else {
            let count = batch.len() as u64;
            self.stats.rx_frames += count;
            for _ in 0..count {
                self.stats.drop(DropReason::InterfaceDown);
            }
            batch.clear();
            return;
        };
        let before = offload.counters().drops.bad_checksum;
        offload.receive(batch, scratch);
        let bad = offload.counters().drops.bad_checksum - before;
        self.stats.rx_frames += bad;
        for _ in 0..bad {
            self.stats.drop(DropReason::BadChecksum);
        }
        for frame in scratch.drain(..) {
            self.stats.rx_frames += 1;
            let fate = self.input(core, iface, frame, false);
            self.account(fate);
        }
    }

    /// Takes in a frame that another shard handed over.
    pub(crate) fn input_mail(&mut self, core: &mut Core, iface: u16, frame: Frame) {
        self.stats.mail_frames += 1;
        let fate = self.input(core, iface, frame, true);
        self.account(fate);
    }

    /// Lets the loopback carry frames: first what connections want to send, then what lies in it.
    pub(crate) fn run_loopback(&mut self, core: &mut Core, budget: usize) -> usize {
        let mut done = 0;
        while done < budget {
            if self.ports[0].tx.is_empty() && !self.build_one(core, 0) {
                break;
            }
            let Some(frame) = self.ports[0].tx.pop_front() else { continue };
            done += 1;
            self.stats.rx_frames += 1;
            let fate = self.input(core, 0, frame, false);
            self.account(fate);
        }
        done
    }

    pub(crate) fn loopback_wants_more(&self) -> bool {
        !self.ports[0].tx.is_empty() || !self.ports[0].ready.is_empty()
    }

    fn account(&mut self, fate: Fate) {
        match fate {
            Fate::Delivered => self.stats.delivered += 1,
            Fate::HandedOver => self.stats.handed_over += 1,
            Fate::Dropped(reason) => self.stats.drop(reason),
        }
    }

    /// Hands a frame to its home shard.
    pub(crate) fn hand_over(
        &mut self,
        core: &mut Core,
        shard: u16,
        iface: u16,
        frame: Frame,
    ) -> Fate {
        let iface = self.id(iface);
        match core.post(shard, Mail::Frame { iface, frame }) {
            Ok(()) => Fate::HandedOver,
            Err(_) => Fate::Dropped(DropReason::MailboxFull),
        }
    }

    fn input(&mut self, core: &mut Core, iface: u16, frame: Frame, mailed: bool) -> Fate {
        let port = &self.ports[usize::from(iface)];
        let (mac, is_loopback) = (port.mac, port.is_loopback);
        let mut copy = [0; limits::HEADER_COPY_LEN];
        let in_place = port.trusted
            && (frame.frags().is_empty() || frame.head().len() >= limits::HEADER_COPY_LEN);
        let head: &[u8] = if in_place {
            frame.head()
        } else {
            // A device that is not trusted could change headers under the parser.
            let len = frame.copy_to(0, &mut copy);
            &copy[..len]
        };
        let Ok(headers) = Headers::parse_split(head, frame.len()) else {
            return Fate::Dropped(DropReason::Malformed);
        };
        let dst_mac = MacAddr(head[..6].try_into().expect("an Ethernet header was parsed"));
        if !is_loopback && dst_mac != mac && !dst_mac.is_multicast() {
            return Fate::Dropped(DropReason::NotOurStation);
        }
        // A VLAN's frames belong to an interface of that VLAN, and there are none yet. Priority tags
        // are fine.
        let in_vlan = headers.tags.as_slice().iter().any(|tag| tag.vid() != 0)
            || frame.meta().vlan.is_some_and(|tci| tci & 0xfff != 0);
        if in_vlan {
            return Fate::Dropped(DropReason::UnknownEtherType);
        }
        let l3 = usize::from(headers.l3_offset);
        let l4 = usize::from(headers.l4_offset);
        let (src, dst, tos, hop_limit) = match headers.network {
            Network::Ipv4 { src, dst } => {
                let Ok(view) = Ipv4View::new_truncated(&head[l3..]) else {
                    return Fate::Dropped(DropReason::Malformed);
                };
                // RFC 1122 section 3.2.1.2: verify, and silently discard on error.
                if !is_loopback && !mailed && !checksum::verify_ipv4_header(view.header_bytes()) {
                    return Fate::Dropped(DropReason::BadHeaderChecksum);
                }
                let header = view.header();
                (IpAddr::V4(src), IpAddr::V4(dst), header.tos, header.ttl)
            }
            Network::Ipv6 { src, dst } => {
                let Ok(view) = Ipv6View::new_truncated(&head[l3..]) else {
                    return Fate::Dropped(DropReason::Malformed);
                };
                let header = view.header();
                (IpAddr::V6(src), IpAddr::V6(dst), header.traffic_class(), header.hop_limit)
            }
            Network::Arp => {
                if is_loopback {
                    return Fate::Dropped(DropReason::ArpIgnored);
                }
                let mut bytes = [0; tandem_packet::arp::ARP_LEN];
                let len = frame.copy_to(l3, &mut bytes);
                return self.input_arp(core, iface, &bytes[..len]);
            }
            Network::Other => return Fate::Dropped(DropReason::UnknownEtherType),
        };
        let mut packet = Packet {
            headers,
            src,
            dst,
            tos,
            hop_limit,
            iface,
            link_group: !is_loopback && dst_mac.is_multicast(),
            to_group: false,
            mailed,
        };
        if let Err(reason) = self.check_addresses(&mut packet, is_loopback) {
            return Fate::Dropped(reason);
        }
        if headers.is_fragment() {
            return Fate::Dropped(DropReason::Fragment);
        }
        if headers.has_l3_options
            && let Network::Ipv6 { .. } = headers.network
        {
            // The options' own bytes, which the walk above has passed over.
            let mut options = [0; limits::HEADER_COPY_LEN];
            let len = (l4 - l3).min(options.len());
            options[..len].copy_from_slice(&head[l3..l3 + len]);
            if let Err(fate) = self.check_extensions(core, &packet, &options[..len], &frame) {
                return fate;
            }
        }
        match headers.transport {
            Transport::Tcp { .. } => {
                let end = usize::from(headers.payload_offset);
                let segment = tandem_packet::TcpView::new(&head[l4..end])
                    .and_then(|view| tandem_packet::TcpRepr::parse(&view));
                match segment {
                    Ok(repr) => self.input_tcp(core, &packet, &repr, frame),
                    Err(_) => Fate::Dropped(DropReason::Malformed),
                }
            }
            Transport::Udp { src_port, dst_port } => {
                self.input_udp(core, &packet, src_port, dst_port, frame)
            }
            Transport::Icmp { .. } => match (headers.protocol, dst) {
                (IpProtocol::ICMPV4, IpAddr::V4(_)) => self.input_icmp(core, &packet, frame),
                (IpProtocol::ICMPV6, IpAddr::V6(_)) => self.input_icmp(core, &packet, frame),
                _ => self.unknown_protocol(core, &packet, &frame),
            },
            Transport::None => self.unknown_protocol(core, &packet, &frame),
        }
    }

    fn unknown_protocol(&mut self, core: &mut Core, packet: &Packet, frame: &Frame) -> Fate {
        if packet.headers.protocol != IpProtocol::NO_NEXT_HEADER {
            self.complain(core, packet, frame, Complaint::Protocol);
        }
        Fate::Dropped(DropReason::UnknownProtocol)
    }

    /// Whether the packet may come from where it says, and is for us.
    fn check_addresses(
        &mut self,
        packet: &mut Packet,
        is_loopback: bool,
    ) -> Result<(), DropReason> {
        match (packet.src, packet.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                // RFC 1122 section 3.2.1.3: never as a source.
                if src.is_multicast() || src.is_broadcast() || src.is_unspecified() {
                    return Err(DropReason::BadSource);
                }
                if !is_loopback {
                    // (g): 127/8 must not appear outside a host.
                    if src.is_loopback() || src == dst {
                        return Err(DropReason::BadSource);
                    }
                    if dst.is_loopback() {
                        return Err(DropReason::NotOurAddress);
                    }
                    if self.interface(packet.iface).is_subnet_broadcast(src) {
                        return Err(DropReason::BadSource);
                    }
                }
                if self.is_local(packet.dst) || is_loopback && dst.is_loopback() {
                    return Ok(());
                }
                packet.to_group = dst.is_broadcast()
                    || dst == Ipv4Addr::new(224, 0, 0, 1)
                    || self.interface(packet.iface).is_subnet_broadcast(dst);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                // RFC 4291 section 2.7: multicast addresses must not be used as source.
                if src.is_multicast() {
                    return Err(DropReason::BadSource);
                }
                if !is_loopback {
                    // Section 2.5.3: the loopback address must not leave a node.
                    if src.is_loopback() || src == dst {
                        return Err(DropReason::BadSource);
                    }
                    if dst.is_loopback() {
                        return Err(DropReason::NotOurAddress);
                    }
                }
                // A link-local address is ours on its own link only.
                if dst.is_unicast_link_local() && !is_loopback {
                    return if self.interface(packet.iface).has_address(packet.dst) {
                        Ok(())
                    } else {
                        Err(DropReason::NotOurAddress)
                    };
                }
                if self.is_local(packet.dst) {
                    return Ok(());
                }
                packet.to_group = dst.is_multicast() && self.is_our_group(packet.iface, dst);
            }
            _ => return Err(DropReason::Malformed),
        }
        if packet.to_group { Ok(()) } else { Err(DropReason::NotOurAddress) }
    }

    /// All nodes, and the solicited-node groups of our addresses (RFC 4291 section 2.8).
    fn is_our_group(&self, iface: u16, group: std::net::Ipv6Addr) -> bool {
        let all_nodes =
            [0xff01, 0xff02].map(|first| std::net::Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 1));
        all_nodes.contains(&group)
            || self.interface(iface).addresses.iter().any(|net| match net.addr() {
                IpAddr::V6(address) => tandem_packet::ndp::solicited_node(address) == group,
                IpAddr::V4(_) => false,
            })
    }

    /// Looks at IPv6 extension headers; `bytes` are the IPv6 header and what stands before the upper
    /// layer, as far as it was copied.
    fn check_extensions(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        bytes: &[u8],
        frame: &Frame,
    ) -> Result<(), Fate> {
        const BAD: Fate = Fate::Dropped(DropReason::BadExtension);
        let Ok(view) = Ipv6View::new_truncated(bytes) else { return Err(BAD) };
        let mut extensions = view.extensions();
        loop {
            // Offset of this header from the IPv6 header, for Parameter Problem.
            let at = 40 + extensions.len() as u32;
            let Some(header) = extensions.next() else { return Ok(()) };
            let Ok(header) = header else { return Err(BAD) };
            match header {
                ExtHeader::HopByHop(options) | ExtHeader::DestinationOptions(options) => {
                    for option in options.iter() {
                        let Ok(option) = option else { return Err(BAD) };
                        // RFC 8200 section 4.2: what the high bits say, since we know none but the
                        // router alert, which is for routers.
                        let action = match option.kind {
                            tandem_packet::Ipv6Option::ROUTER_ALERT => UnknownAction::Skip,
                            _ => option.unknown_action(),
                        };
                        let report = match action {
                            UnknownAction::Skip => continue,
                            UnknownAction::Drop => false,
                            UnknownAction::DropAndReport => true,
                            UnknownAction::DropAndReportUnlessMulticast => !packet.to_group,
                        };
                        if report {
                            let pointer = at + 2 + u32::from(option.offset);
                            self.complain(core, packet, frame, Complaint::Option(pointer));
                        }
                        return Err(BAD);
                    }
                }
                // Section 4.4: unrecognised, with segments left: discard and report the type.
                ExtHeader::Routing { segments_left, .. } if segments_left > 0 => {
                    self.complain(core, packet, frame, Complaint::Field(at + 2));
                    return Err(BAD);
                }
                ExtHeader::Routing { .. } | ExtHeader::Fragment(_) => {}
            }
        }
    }

    /// The shard that a flow lives on when that is another one.
    pub(crate) fn elsewhere(
        &self,
        core: &Core,
        packet: &Packet,
        tuple: &tandem_packet::FourTuple,
        frame: &Frame,
    ) -> Option<u16> {
        if packet.mailed || self.shared.shards == 1 {
            return None;
        }
        // The loopback's frames carry no device's hash.
        let home = flow::home(tuple, Some(frame.meta()), self.shared.shards);
        (home != core.index).then_some(home)
    }
}
