//! ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861): what is heard and what is said.
//!
//! Not done yet: duplicate address detection (addresses are taken as configured; a conflict is
//! counted, RFC 5227 section 2.4 (a) without defence), router discovery, redirects, and joining
//! multicast groups by IGMP or MLD. Router solicitations and advertisements and redirects are dropped
//! as [`DropReason::NdpIgnored`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tandem_packet::icmpv6::ICMPV6_CHECKSUM_OFFSET;
use tandem_packet::{
    ArpOperation, ArpRepr, ArpView, EtherType, Icmpv6View, IpProtocol, MacAddr, NdpOptions,
    NdpRepr, ndp,
};

use super::Core;
use super::input::{Fate, Packet};
use super::net::{IpHeader, Net};
use crate::limits;
use crate::neighbour::{Evidence, NeighbourRef};
use crate::stats::DropReason;

const IGNORED: Fate = Fate::Dropped(DropReason::NdpIgnored);

/// RFC 4861 section 7.1: hop limit of all neighbour discovery, which no router lets through.
const NDP_HOP_LIMIT: u8 = 255;
/// All nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Net {
    pub(crate) fn input_arp(&mut self, core: &mut Core, iface: u16, bytes: &[u8]) -> Fate {
        const ARP_IGNORED: Fate = Fate::Dropped(DropReason::ArpIgnored);
        let message = ArpView::new(bytes).and_then(|view| ArpRepr::parse(&view));
        let Ok(message) = message else { return Fate::Dropped(DropReason::Malformed) };
        let ArpRepr { operation, sender_mac, sender_ip, target_ip, .. } = message;
        if !sender_mac.is_unicast() || sender_ip.is_multicast() || sender_ip.is_broadcast() {
            return ARP_IGNORED;
        }
        let ours = self.interface(iface).has_address(target_ip.into());
        if self.interface(iface).has_address(sender_ip.into()) {
            // RFC 5227 section 2.4: somebody else says that our address is its own.
            if sender_mac != self.ports[usize::from(iface)].mac {
                self.stats.address_conflicts += 1;
            }
            return ARP_IGNORED;
        }
        // RFC 5227 section 1.1: a probe has no sender address, and nothing is learnt of it.
        let is_probe = sender_ip.is_unspecified();
        if !is_probe {
            // RFC 826: update what is known; add only when it is us who are asked.
            let evidence = match operation {
                ArpOperation::Reply if ours => Evidence::Answer { overrides: true },
                ArpOperation::Reply | ArpOperation::Request if sender_ip == target_ip => {
                    Evidence::Announced { overrides: true }
                }
                _ => Evidence::Observed,
            };
            let make = ours && operation == ArpOperation::Request;
            self.heard(core, iface, sender_ip.into(), Some(sender_mac), evidence, make);
        }
        if !ours {
            return if sender_ip == target_ip { Fate::Delivered } else { ARP_IGNORED };
        }
        if operation == ArpOperation::Request {
            let reply = ArpRepr {
                operation: ArpOperation::Reply,
                sender_mac: self.ports[usize::from(iface)].mac,
                sender_ip: target_ip,
                target_mac: sender_mac,
                target_ip: sender_ip,
            };
            if !self.send_arp(core, iface, sender_mac, &reply) {
                return Fate::Dropped(DropReason::NoBuffers);
            }
        }
        Fate::Delivered
    }

    /// Takes in what was heard of a neighbour, and tells the other shards when it is news to this one:
    /// an answer lands on one shard, whichever of them asked.
    fn heard(
        &mut self,
        core: &mut Core,
        iface: u16,
        address: IpAddr,
        mac: Option<MacAddr>,
        evidence: Evidence,
        make: bool,
    ) -> Option<NeighbourRef> {
        let (name, is_news) = match self.learn(core, iface, address, mac, evidence, make) {
            Some((name, is_news)) => (Some(name), is_news),
            None => (None, true),
        };
        if self.shared.shards > 1 && is_news {
            self.spread(core, iface, address, mac, evidence);
        }
        name
    }

    /// Takes in what was heard of a neighbour; what waited for it goes. Tells whether it was news.
    pub(crate) fn learn(
        &mut self,
        core: &mut Core,
        iface: u16,
        address: IpAddr,
        mac: Option<MacAddr>,
        evidence: Evidence,
        make: bool,
    ) -> Option<(NeighbourRef, bool)> {
        let name = self.neighbour_that_spoke(core, iface, address, make)?;
        let learnt = self.neighbours.learn(name, mac, evidence, core.now);
        if let Some(timer) = learnt.disarm {
            core.wheel.cancel(timer);
        }
        if learnt.resolved {
            self.resolved(name);
        }
        Some((name, learnt.is_news || matches!(evidence, Evidence::Answer { .. })))
    }

    /// Asks for a neighbour's address: everybody, or the station that had it.
    pub(crate) fn solicit(
        &mut self,
        core: &mut Core,
        iface: u16,
        address: IpAddr,
        unicast: Option<MacAddr>,
    ) {
        self.stats.solicits_sent += 1;
        let mac = self.ports[usize::from(iface)].mac;
        match address {
            IpAddr::V4(target_ip) => {
                let Some(sender_ip) = self.own_v4(iface, target_ip) else {
                    self.stats.tx_no_route += 1;
                    return;
                };
                let request = ArpRepr {
                    operation: ArpOperation::Request,
                    sender_mac: mac,
                    sender_ip,
                    target_mac: MacAddr::ZERO,
                    target_ip,
                };
                let to = unicast.unwrap_or(MacAddr::BROADCAST);
                self.send_arp(core, iface, to, &request);
            }
            IpAddr::V6(target) => {
                let Some(src) = self.own_v6(iface, target) else {
                    self.stats.tx_no_route += 1;
                    return;
                };
                let options = source_options(mac);
                let message = NdpRepr::NeighborSolicit { target, options };
                // RFC 4861 section 7.2.2: to the solicited-node group, or to the neighbour itself.
                let (dst, to) = match unicast {
                    Some(mac) => (target, mac),
                    None => {
                        let group = ndp::solicited_node(target);
                        (group, MacAddr::from_ipv6_multicast(group))
                    }
                };
                self.send_ndp(core, iface, to, src, dst, &message);
            }
        }
    }

    /// The address that we ask for `target` with: one whose prefix has it, else the first.
    fn own_v4(&self, iface: u16, target: Ipv4Addr) -> Option<Ipv4Addr> {
        let addresses = self.interface(iface).addresses.iter();
        addresses
            .filter_map(|net| match net {
                ipnet::IpNet::V4(net) => Some((net.contains(&target), net.addr())),
                ipnet::IpNet::V6(_) => None,
            })
            .max_by_key(|&(contains, _)| contains)
            .map(|(_, address)| address)
    }

    fn own_v6(&self, iface: u16, target: Ipv6Addr) -> Option<Ipv6Addr> {
        let addresses = self.interface(iface).addresses.iter();
        addresses
            .filter_map(|net| match net {
                ipnet::IpNet::V6(net) => Some((net.contains(&target), net.addr())),
                ipnet::IpNet::V4(_) => None,
            })
            .max_by_key(|&(contains, _)| contains)
            .map(|(_, address)| address)
    }

    /// Returns false when there was no buffer.
    fn send_arp(&mut self, core: &mut Core, iface: u16, to: MacAddr, message: &ArpRepr) -> bool {
        let Ok(mut frame) = core.frames.alloc() else {
            self.stats.tx_no_buffers += 1;
            return false;
        };
        frame.reserve_headroom(limits::HEADROOM);
        let Ok(bytes) = frame.push_back(message.header_len()) else { return false };
        message.emit(bytes);
        self.send_to(iface, to, EtherType::ARP, frame);
        true
    }

    /// Returns false when there was no buffer.
    fn send_ndp(
        &mut self,
        core: &mut Core,
        iface: u16,
        to: MacAddr,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        message: &NdpRepr,
    ) -> bool {
        let Ok(mut frame) = core.frames.alloc() else {
            self.stats.tx_no_buffers += 1;
            return false;
        };
        frame.reserve_headroom(limits::HEADROOM);
        let len = message.header_len();
        let Ok(bytes) = frame.push_back(len) else { return false };
        message.emit(bytes);
        let seed = Self::seed(src.into(), dst.into(), IpProtocol::ICMPV6, len);
        bytes[ICMPV6_CHECKSUM_OFFSET..ICMPV6_CHECKSUM_OFFSET + 2]
            .copy_from_slice(&seed.to_be_bytes());
        let header = IpHeader {
            src: src.into(),
            dst: dst.into(),
            protocol: IpProtocol::ICMPV6,
            tos: 0,
            hop_limit: NDP_HOP_LIMIT,
        };
        if self.push_ip(&mut frame, &header, ICMPV6_CHECKSUM_OFFSET as u16, 1).is_err() {
            self.stats.tx_no_buffers += 1;
            return false;
        }
        self.send_to(iface, to, EtherType::IPV6, frame);
        true
    }

    /// Says to everybody which station our addresses are at now.
    pub(crate) fn announce(&mut self, core: &mut Core, iface: u16) {
        let port = &self.ports[usize::from(iface)];
        if !port.up || port.is_loopback {
            return;
        }
        let mac = self.ports[usize::from(iface)].mac;
        let tables = self.tables.clone();
        for net in &tables.interfaces[usize::from(iface)].addresses {
            self.stats.announcements_sent += 1;
            match net.addr() {
                IpAddr::V4(address) => {
                    // RFC 5227 section 3: a request for our own address, which updates caches
                    // without asking for answers.
                    let message = ArpRepr {
                        operation: ArpOperation::Request,
                        sender_mac: mac,
                        sender_ip: address,
                        target_mac: MacAddr::ZERO,
                        target_ip: address,
                    };
                    self.send_arp(core, iface, MacAddr::BROADCAST, &message);
                }
                IpAddr::V6(address) => {
                    // RFC 4861 section 7.2.6: unsolicited, to all nodes, with the override flag.
                    let options = target_options(mac);
                    let message = NdpRepr::NeighborAdvert {
                        router: false,
                        solicited: false,
                        override_cache: true,
                        target: address,
                        options,
                    };
                    let to = MacAddr::from_ipv6_multicast(ALL_NODES);
                    self.send_ndp(core, iface, to, address, ALL_NODES, &message);
                }
            }
        }
    }

    pub(crate) fn input_ndp(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        view: &Icmpv6View<'_>,
    ) -> Fate {
        // RFC 4861 section 7.1.1 and 7.1.2: hop limit 255, code 0 (judged by the parser), and
        // extension headers are allowed.
        if packet.hop_limit != NDP_HOP_LIMIT {
            return IGNORED;
        }
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src, packet.dst) else { return IGNORED };
        match NdpRepr::parse(view) {
            Ok(NdpRepr::NeighborSolicit { target, options }) => {
                self.input_solicit(core, packet.iface, src, dst, target, &options)
            }
            Ok(NdpRepr::NeighborAdvert { solicited, override_cache, target, options, .. }) => {
                let (solicited, overrides) = (solicited, override_cache);
                // Section 7.1.2: a multicast target, or a solicited answer to everybody.
                if target.is_multicast() || solicited && dst.is_multicast() {
                    return IGNORED;
                }
                if self.interface(packet.iface).has_address(target.into()) {
                    self.stats.address_conflicts += 1;
                    return IGNORED;
                }
                let evidence = if solicited {
                    Evidence::Answer { overrides }
                } else {
                    Evidence::Announced { overrides }
                };
                let mac = options.target_link_address.filter(|mac| mac.is_unicast());
                // Section 7.2.5: silently discard when there is no entry.
                match self.heard(core, packet.iface, target.into(), mac, evidence, false) {
                    Some(_) => Fate::Delivered,
                    None => IGNORED,
                }
            }
            Ok(_) => IGNORED,
            Err(_) => Fate::Dropped(DropReason::Malformed),
        }
    }

    fn input_solicit(
        &mut self,
        core: &mut Core,
        iface: u16,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        target: Ipv6Addr,
        options: &NdpOptions,
    ) -> Fate {
        let source_mac = options.source_link_address.filter(|mac| mac.is_unicast());
        // RFC 4861 section 7.1.1: no multicast target; from the unspecified address only to a
        // solicited-node group and without the option.
        let is_probe = src.is_unspecified();
        let bad_probe = is_probe && (options.source_link_address.is_some() || !dst.is_multicast());
        if target.is_multicast() || bad_probe {
            return IGNORED;
        }
        if !self.interface(iface).has_address(target.into()) {
            return IGNORED;
        }
        if !is_probe && let Some(mac) = source_mac {
            self.heard(core, iface, src.into(), Some(mac), Evidence::Observed, true);
        }
        let mac = self.ports[usize::from(iface)].mac;
        let options = target_options(mac);
        let message = NdpRepr::NeighborAdvert {
            router: false,
            solicited: !is_probe,
            override_cache: true,
            target,
            options,
        };
        // Section 7.2.4: to all nodes when the question came from nobody.
        if is_probe {
            let to = MacAddr::from_ipv6_multicast(ALL_NODES);
            if !self.send_ndp(core, iface, to, target, ALL_NODES, &message) {
                return Fate::Dropped(DropReason::NoBuffers);
            }
            return Fate::Delivered;
        }
        let to = source_mac.or_else(|| {
            let name = self.neighbours.find(iface, src.into())?;
            self.neighbours.mac(name)
        });
        match to {
            Some(to) if self.send_ndp(core, iface, to, target, src, &message) => Fate::Delivered,
            Some(_) => Fate::Dropped(DropReason::NoBuffers),
            // It would have to be asked for its address first; it will ask again with it.
            None => IGNORED,
        }
    }
}

/// The options of a question.
#[allow(clippy::field_reassign_with_default, reason = "not all fields are public")]
fn source_options(mac: MacAddr) -> NdpOptions {
    let mut options = NdpOptions::default();
    options.source_link_address = Some(mac);
    options
}

/// The options of an answer.
#[allow(clippy::field_reassign_with_default, reason = "not all fields are public")]
fn target_options(mac: MacAddr) -> NdpOptions {
    let mut options = NdpOptions::default();
    options.target_link_address = Some(mac);
    options
}
