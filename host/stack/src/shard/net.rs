//! A namespace as one shard sees it: its snapshot of the tables, its interfaces' queues, and the way
//! of a packet from a network header to a device's queue.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use tandem_device::{Batch, Caps, Csum, FRAGS_MAX, Frame, GsoKind, OperState};
use tandem_offload::{Offload, Plan, Policy, Who, checksum};
use tandem_packet::ethernet::ETHERNET_HEADER_LEN;
use tandem_packet::ipv4::IPV4_HEADER_LEN;
use tandem_packet::ipv6::IPV6_HEADER_LEN;
use tandem_packet::{EtherType, EthernetRepr, FourTuple, IpProtocol, Ipv4Repr, Ipv6Repr, MacAddr};

use super::stream::Flows;
use super::{Core, Timer};
use crate::event::SocketHandle;
use crate::limits;
use crate::mesh::Mail;
use crate::namespace::{IfaceId, IfaceKind, Interface, Shared, Tables, is_link_local};
use crate::neighbour::{Evicted, Evidence, Expiry, NeighbourRef, Neighbours, Way};
use crate::random::{Purpose, Random, keyed};
use crate::stats::NamespaceStats;
use crate::tcp::OutputLimits;
use crate::time::Instant;

/// What an interface's device is and can do now; told by [`crate::Shard::changed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Station address.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Whether frames can be carried.
    pub state: OperState,
    /// Capabilities.
    pub caps: Caps,
    /// What is wanted of offloads where the device leaves a choice.
    pub policy: Policy,
}

impl Link {
    /// A device that is up, with offloads wherever they can be had.
    pub fn up(mac: MacAddr, mtu: u32, caps: Caps) -> Self {
        Self { mac, mtu, state: OperState::Up, caps, policy: Policy::default() }
    }
}

/// Where a flow's packets go, as long as `generation` is that of the namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Egress {
    generation: u32,
    pub(crate) iface: u16,
    pub(crate) src: IpAddr,
    pub(crate) hop: Hop,
    /// Largest IP packet in bytes.
    pub(crate) mtu: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Hop {
    Loopback,
    /// A group, or everybody.
    Station(MacAddr),
    Neighbour(NeighbourRef),
}

/// One shard's side of an interface.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) is_loopback: bool,
    pub(crate) up: bool,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u32,
    pub(crate) trusted: bool,
    pub(crate) offload: Option<Offload>,
    limits_v4: OutputLimits,
    limits_v6: OutputLimits,
    /// Frames that wait for the device, or in the loopback.
    pub(crate) tx: Batch,
    /// Connections that want to send by this interface.
    pub(crate) ready: VecDeque<SocketHandle>,
    /// Of them, those whose neighbour must answer first.
    pub(crate) blocked: VecDeque<SocketHandle>,
    /// Datagram sockets that found the queue full; each once.
    pub(crate) writers: VecDeque<SocketHandle>,
}

impl Port {
    fn new(interface: &Interface) -> Self {
        let is_loopback = interface.kind == IfaceKind::Loopback;
        Self {
            is_loopback,
            up: is_loopback,
            mac: interface.mac,
            mtu: interface.mtu,
            trusted: true,
            offload: None,
            limits_v4: OutputLimits::FULL,
            limits_v6: OutputLimits::FULL,
            tx: Batch::new(),
            ready: VecDeque::new(),
            blocked: VecDeque::new(),
            writers: VecDeque::new(),
        }
    }

    /// What one frame to the device may be.
    pub(crate) fn output_limits(&self, is_v4: bool) -> OutputLimits {
        if is_v4 { self.limits_v4 } else { self.limits_v6 }
    }

    /// Takes over what the device is now.
    fn set_link(&mut self, link: &Link, core: &Core) {
        self.up = link.state == OperState::Up;
        self.mac = link.mac;
        self.mtu = link.mtu;
        self.trusted = link.caps.trusted;
        match &mut self.offload {
            // Its counters go on with another device.
            Some(offload) if *offload.plan().policy() == link.policy => {
                offload.set_caps(link.caps.clone());
            }
            _ => {
                let plan = Plan::new(link.caps.clone(), link.policy);
                self.offload = Some(Offload::new(plan, core.frames.clone()));
            }
        }
        if let Some(offload) = &self.offload {
            self.limits_v4 = output_limits(offload.plan(), GsoKind::Tcp4);
            self.limits_v6 = output_limits(offload.plan(), GsoKind::Tcp6);
        }
    }
}

/// What a plan makes of super-segments.
fn output_limits(plan: &Plan, kind: GsoKind) -> OutputLimits {
    /// Ethernet, IP and TCP headers at their longest.
    const HEADERS_LEN: u32 = 14 + 60 + 60;
    let caps = plan.caps();
    let cut_by = if kind == GsoKind::Tcp4 { plan.tx.tso4 } else { plan.tx.tso6 };
    let segments = match cut_by {
        Who::Hardware => caps.gso_segments_max,
        _ => OutputLimits::FULL.gso_segments_max,
    };
    let pieces = caps.pieces_max.saturating_sub(1).clamp(1, FRAGS_MAX as u16);
    if caps.pieces_max < 2 {
        // A device that wants everything in one piece gets no more than fits one.
        return OutputLimits::SINGLE;
    }
    OutputLimits {
        gso_bytes_max: plan.gso_bytes_max(kind).saturating_sub(HEADERS_LEN),
        gso_segments_max: segments,
        pieces_max: pieces,
    }
}

/// A bucket of permissions that fills with time.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// Thousandths of a permission.
    level: u64,
    since: Instant,
}

impl TokenBucket {
    fn new() -> Self {
        Self { level: u64::from(limits::ICMP_BURST) * 1000, since: Instant::ZERO }
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.since(self.since);
        let gain = passed.as_micros() as u64 * u64::from(limits::ICMP_PER_SECOND) / 1000;
        if gain > 0 {
            self.level = (self.level + gain).min(u64::from(limits::ICMP_BURST) * 1000);
            self.since = now;
        }
        if self.level < 1000 {
            return false;
        }
        self.level -= 1000;
        true
    }
}

/// Why a packet has no way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoute;

/// A namespace on one shard.
#[derive(Debug)]
pub(crate) struct Net {
    /// Its index in the shard.
    pub(crate) slot: u16,
    pub(crate) shared: Arc<Shared>,
    generation: u64,
    pub(crate) tables: Arc<Tables>,
    pub(crate) ports: Vec<Port>,
    pub(crate) neighbours: Neighbours,
    pub(crate) flows: Flows,
    /// Connections that want to send and have no way out.
    pub(crate) stranded: VecDeque<SocketHandle>,
    pub(crate) listeners: HashMap<(IpAddr, u16), SocketHandle, FixedState>,
    pub(crate) udp: HashMap<(IpAddr, u16), SocketHandle, FixedState>,
    pub(crate) echoes: HashMap<u16, SocketHandle, FixedState>,
    pub(crate) icmp_tokens: TokenBucket,
    pub(crate) reset_tokens: TokenBucket,
    egress_generation: u32,
    pub(crate) port_counters: [u16; 64],
    ip_id: u16,
    pub(crate) stats: NamespaceStats,
    /// The destination that was found to be ours last.
    last_local: IpAddr,
}

impl Net {
    pub(crate) fn new(slot: u16, shared: Arc<Shared>, core: &mut Core) -> Self {
        let zero = FourTuple {
            src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            src_port: 0,
            dst_port: core.index,
        };
        let mut seeds = Random::new(shared.secret);
        let seed = keyed(&shared.secret, Purpose::TableSeed, &zero) ^ seeds.next_u64();
        let table = |n: u64| FixedState::with_seed(seed.rotate_left(n as u32 * 7));
        let mut net = Self {
            slot,
            generation: 0,
            tables: Arc::default(),
            ports: Vec::new(),
            neighbours: Neighbours::new(seed ^ core.random.next_u64()),
            flows: Flows::new(table(1)),
            stranded: VecDeque::new(),
            listeners: HashMap::with_hasher(table(3)),
            udp: HashMap::with_hasher(table(4)),
            echoes: HashMap::with_hasher(table(6)),
            icmp_tokens: TokenBucket::new(),
            reset_tokens: TokenBucket::new(),
            egress_generation: 0,
            port_counters: std::array::from_fn(|_| core.random.next_u32() as u16),
            ip_id: core.random.next_u32() as u16,
            stats: NamespaceStats::default(),
            last_local: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            shared,
        };
        net.refresh(core);
        net
    }

    pub(crate) fn id(&self, iface: u16) -> IfaceId {
        IfaceId { namespace: self.shared.id, index: iface }
    }

    /// Takes the newest snapshot of the tables. One atomic load when nothing changed.
    #[inline]
    pub(crate) fn refresh(&mut self, core: &mut Core) {
        if self.shared.generation() != self.generation {
            self.take_snapshot(core);
        }
    }

    #[cold]
    fn take_snapshot(&mut self, core: &mut Core) {
        let (generation, tables) = self.shared.snapshot();
        self.generation = generation;
        let old = std::mem::replace(&mut self.tables, tables);
        let tables = self.tables.clone();
        for interface in &tables.interfaces[self.ports.len()..] {
            self.ports.push(Port::new(interface));
        }
        for (&(iface, address), &mac) in tables.neighbours.iter() {
            if let Some(name) = self.neighbour(core, iface, address) {
                self.neighbours.set_permanent(name, mac);
            }
        }
        self.refresh_listeners(core);
        // Listeners and bound ports come and go without touching routes.
        let same = Arc::ptr_eq(&old.routes, &tables.routes)
            && Arc::ptr_eq(&old.locals, &tables.locals)
            && old.interfaces.len() == tables.interfaces.len();
        if !same {
            self.routes_changed();
        }
    }

    /// What was cached about ways out is void.
    fn routes_changed(&mut self) {
        self.egress_generation = self.egress_generation.wrapping_add(1);
        self.last_local = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        // Whoever wants to send finds its way anew: the loopback's turn lists it where it belongs now,
        // even when nobody asks its old interface for frames any more.
        let mut moved = std::mem::take(&mut self.stranded);
        for port in &mut self.ports {
            moved.append(&mut port.ready);
            moved.append(&mut port.blocked);
        }
        if let Some(loopback) = self.ports.first_mut() {
            loopback.ready = moved;
        }
    }

    /// The device of an interface changed, or is another one. Returns whether its station address did.
    pub(crate) fn set_link(&mut self, core: &mut Core, iface: u16, link: &Link) -> bool {
        let port = &mut self.ports[usize::from(iface)];
        let other_mac = port.mac != link.mac;
        let was_up = port.up;
        port.set_link(link, core);
        if other_mac {
            for frame in &mut port.tx {
                if let Some(src) = frame.head_mut().get_mut(6..12) {
                    src.copy_from_slice(&link.mac.0);
                }
            }
        }
        if was_up && !port.up {
            // What waits for a device that is gone would only be stale when another one comes.
            port.tx.clear();
        }
        if other_mac || !was_up {
            // RFC 4861 section 7.2.6 and appendix C: what was learnt on another link does not hold.
            let stats = &mut self.stats;
            let wheel = &mut core.wheel;
            self.neighbours.flush(iface, |Evicted { dropped, timer }| {
                stats.neighbour_pending_dropped += dropped as u64;
                if let Some(timer) = timer {
                    wheel.cancel(timer);
                }
            });
        }
        self.routes_changed();
        other_mac
    }

    /// Whether this address is one of ours on any interface.
    #[inline]
    pub(crate) fn is_local(&mut self, address: IpAddr) -> bool {
        if address == self.last_local {
            return true;
        }
        let found = self.tables.locals.contains_key(&address);
        if found {
            self.last_local = address;
        }
        found
    }

    /// The interface's configuration.
    pub(crate) fn interface(&self, iface: u16) -> &Interface {
        &self.tables.interfaces[usize::from(iface)]
    }

    fn is_up(&self, iface: u16) -> bool {
        self.ports.get(usize::from(iface)).is_some_and(|port| port.up)
    }

    /// The first Ethernet interface that is up; where packets without a scope go.
    fn default_iface(&self) -> Option<u16> {
        self.ports.iter().position(|port| port.up && !port.is_loopback).map(|index| index as u16)
    }

    #[inline]
    pub(crate) fn is_current(&self, egress: &Egress) -> bool {
        egress.generation == self.egress_generation
            && match egress.hop {
                Hop::Neighbour(name) => self.neighbours.is_live(name),
                _ => true,
            }
    }

    /// The cache's entry for a neighbour.
    fn neighbour(&mut self, core: &mut Core, iface: u16, address: IpAddr) -> Option<NeighbourRef> {
        match self.neighbours.find_or_add(iface, address) {
            Some((name, None)) => Some(name),
            Some((name, Some(evicted))) => {
                self.stats.neighbours_evicted += 1;
                self.stats.neighbour_pending_dropped += evicted.dropped as u64;
                if let Some(timer) = evicted.timer {
                    core.wheel.cancel(timer);
                }
                Some(name)
            }
            None => {
                self.stats.neighbours_refused += 1;
                None
            }
        }
    }

    /// The cache's entry for a neighbour that has spoken: made only when it talks to us.
    pub(crate) fn neighbour_that_spoke(
        &mut self,
        core: &mut Core,
        iface: u16,
        address: IpAddr,
        make: bool,
    ) -> Option<NeighbourRef> {
        match self.neighbours.find(iface, address) {
            Some(name) => Some(name),
            None if make => self.neighbour(core, iface, address),
            None => None,
        }
    }

    /// Finds the way to a destination. `scope` names the interface of a link-local destination or a
    /// group; 0 leaves the choice.
    pub(crate) fn route(
        &mut self,
        core: &mut Core,
        dst: IpAddr,
        src: Option<IpAddr>,
        scope: u16,
    ) -> Result<Egress, NoRoute> {
        let generation = self.egress_generation;
        if dst.is_loopback() || self.is_local(dst) {
            // RFC 1122 section 3.2.1.3 (g): 127/8 must not appear outside a host.
            let src = src.unwrap_or(dst);
            let mtu = self.ports[0].mtu;
            return Ok(Egress { generation, iface: 0, src, hop: Hop::Loopback, mtu });
        }
        let (iface, next_hop) =
            if dst.is_multicast() || dst == IpAddr::V4(Ipv4Addr::BROADCAST) || is_link_local(dst) {
                let iface = match scope {
                    0 => self.default_iface().ok_or(NoRoute)?,
                    scope if self.is_up(scope) => scope,
                    _ => return Err(NoRoute),
                };
                (iface, dst)
            } else {
                let route = self
                    .tables
                    .routes
                    .lookup(dst, |route| self.is_up(route.iface.index))
                    .ok_or(NoRoute)?;
                (route.iface.index, route.gateway.unwrap_or(dst))
            };
        if self.ports[usize::from(iface)].is_loopback {
            // A route that leads into the loopback prefix beyond our addresses.
            return Err(NoRoute);
        }
        let src = match src {
            Some(src) => src,
            None => self.source(iface, dst, next_hop).ok_or(NoRoute)?,
        };
        let hop = match next_hop {
            IpAddr::V4(address) if address.is_multicast() => {
                Hop::Station(MacAddr::from_ipv4_multicast(address))
            }
            IpAddr::V6(address) if address.is_multicast() => {
                Hop::Station(MacAddr::from_ipv6_multicast(address))
            }
            IpAddr::V4(address)
                if address.is_broadcast() || self.interface(iface).is_subnet_broadcast(address) =>
            {
                Hop::Station(MacAddr::BROADCAST)
            }
            next_hop => Hop::Neighbour(self.neighbour(core, iface, next_hop).ok_or(NoRoute)?),
        };
        let mtu = self.ports[usize::from(iface)].mtu;
        Ok(Egress { generation, iface, src, hop, mtu })
    }

    /// The source address for a destination: of the interface, of the destination's scope, with the
    /// longest common prefix (RFC 6724 section 5, rules 2 and 8; RFC 1122 section 3.3.4.3).
    fn source(&self, iface: u16, dst: IpAddr, next_hop: IpAddr) -> Option<IpAddr> {
        let addresses = &self.interface(iface).addresses;
        match dst {
            IpAddr::V4(_) => addresses
                .iter()
                .filter(|net| net.addr().is_ipv4())
                .max_by_key(|net| (net.contains(&next_hop), !is_link_local(net.addr())))
                .map(|net| net.addr()),
            IpAddr::V6(dst) => {
                let link_scope = dst.is_unicast_link_local()
                    || dst.is_multicast() && dst.octets()[1] & 0x0f <= 2;
                addresses
                    .iter()
                    .filter_map(|net| match net.addr() {
                        IpAddr::V6(address) => Some(address),
                        IpAddr::V4(_) => None,
                    })
                    .max_by_key(|address| {
                        let common = (address.to_bits() ^ dst.to_bits()).leading_zeros();
                        (address.is_unicast_link_local() == link_scope, common)
                    })
                    .map(IpAddr::V6)
            }
        }
    }

    /// Seed of a transport checksum: the folded pseudo-header sum.
    pub(crate) fn seed(src: IpAddr, dst: IpAddr, protocol: IpProtocol, len: usize) -> u16 {
        checksum::Sum::pseudo_header(src, dst, protocol, len as u32).folded()
    }

    /// Puts the IP header before a frame that begins with the upper layer's, and asks for the checksum
    /// at `csum_offset` of that.
    pub(crate) fn push_ip(
        &mut self,
        frame: &mut Frame,
        header: &IpHeader,
        csum_offset: u16,
        wire_frames: u32,
    ) -> Result<(), tandem_device::FrameError> {
        let len = frame.len();
        let ip_len = match (header.src, header.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let repr = Ipv4Repr {
                    src,
                    dst,
                    protocol: header.protocol,
                    tos: header.tos,
                    ttl: header.hop_limit,
                    id: self.ip_id,
                    dont_fragment: true,
                    payload_len: len as u16,
                    ..Ipv4Repr::default()
                };
                // A super-segment's identification rises by one with each segment.
                self.ip_id = self.ip_id.wrapping_add(wire_frames as u16);
                let bytes = frame.push_front(IPV4_HEADER_LEN)?;
                repr.emit(bytes);
                checksum::fill_ipv4_header(bytes);
                IPV4_HEADER_LEN
            }
            (src, dst) => {
                let v6 = |address| match address {
                    IpAddr::V6(address) => address,
                    IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address),
                };
                let (src, dst): (Ipv6Addr, Ipv6Addr) = (v6(src), v6(dst));
                let repr = Ipv6Repr {
                    src,
                    dst,
                    next_header: header.protocol,
                    hop_limit: header.hop_limit,
                    traffic_class: header.tos,
                    flow_label: 0,
                    payload_len: len as u16,
                };
                repr.emit(frame.push_front(IPV6_HEADER_LEN)?);
                IPV6_HEADER_LEN
            }
        };
        let meta = frame.meta_mut();
        meta.network_offset = ETHERNET_HEADER_LEN as u16;
        meta.transport_offset = (ETHERNET_HEADER_LEN + ip_len) as u16;
        meta.csum = Csum::Partial { start: meta.transport_offset, offset: csum_offset };
        Ok(())
    }

    /// Sends a frame that begins with its IP header.
    pub(crate) fn send(&mut self, core: &mut Core, egress: &Egress, frame: Frame) {
        let ether_type = if frame.head()[0] >> 4 == 4 { EtherType::IPV4 } else { EtherType::IPV6 };
        let mac = match egress.hop {
            Hop::Loopback => MacAddr::ZERO,
            Hop::Station(mac) => mac,
            Hop::Neighbour(name) => {
                let way = self.neighbours.way(name, core.now);
                match way {
                    Way::Send(mac) => mac,
                    Way::SendAndArm(mac, time) => {
                        self.arm_neighbour(core, name, time);
                        mac
                    }
                    Way::Solicit(time) => {
                        self.hold(name, frame);
                        self.arm_neighbour(core, name, time);
                        if let Some((iface, address)) = self.neighbours.address(name) {
                            self.solicit(core, iface, address, None);
                        }
                        return;
                    }
                    Way::Wait => {
                        self.hold(name, frame);
                        return;
                    }
                    Way::Gone => {
                        self.stats.tx_no_route += 1;
                        return;
                    }
                }
            }
        };
        self.send_to(egress.iface, mac, ether_type, frame);
    }

    fn hold(&mut self, name: NeighbourRef, frame: Frame) {
        if self.neighbours.hold(name, frame) {
            self.stats.neighbour_pending_dropped += 1;
        }
    }

    fn arm_neighbour(&mut self, core: &mut Core, name: NeighbourRef, time: Duration) {
        let timer = core.wheel.arm(core.now + time, Timer::Neighbour { net: self.slot, name });
        if let Some(old) = self.neighbours.set_timer(name, timer) {
            core.wheel.cancel(old);
        }
    }

    /// Puts the Ethernet header before a frame and the frame into the interface's queue.
    pub(crate) fn send_to(
        &mut self,
        iface: u16,
        dst: MacAddr,
        ether_type: EtherType,
        mut frame: Frame,
    ) {
        let port = &mut self.ports[usize::from(iface)];
        let limit =
            if port.is_loopback { limits::LOOPBACK_QUEUE_MAX } else { limits::TX_QUEUE_MAX };
        if port.tx.len() >= limit || !port.up {
            self.stats.tx_queue_full += 1;
            return;
        }
        let repr = EthernetRepr { dst, src: port.mac, ether_type, ..EthernetRepr::default() };
        match frame.push_front(ETHERNET_HEADER_LEN) {
            Ok(bytes) => repr.emit(bytes),
            Err(_) => {
                self.stats.tx_no_buffers += 1;
                return;
            }
        }
        self.stats.tx_frames += 1;
        port.tx.push_back(frame);
    }

    /// A neighbour answered: what waited for it goes.
    pub(crate) fn resolved(&mut self, name: NeighbourRef) {
        if let Some((iface, _)) = self.neighbours.address(name) {
            while let Some((mac, frame)) = self.neighbours.take_pending(name) {
                let ether_type =
                    if frame.head()[0] >> 4 == 4 { EtherType::IPV4 } else { EtherType::IPV6 };
                self.send_to(iface, mac, ether_type, frame);
            }
            let port = &mut self.ports[usize::from(iface)];
            port.ready.append(&mut port.blocked);
        }
    }

    /// A neighbour's timer fired.
    pub(crate) fn neighbour_expired(&mut self, core: &mut Core, name: NeighbourRef) {
        let place = self.neighbours.address(name);
        match self.neighbours.expire(name) {
            Expiry::Nothing => {}
            Expiry::Solicit { iface, address, unicast, again } => {
                self.arm_neighbour(core, name, again);
                self.solicit(core, iface, address, unicast);
            }
            Expiry::Failed { pending } => {
                self.stats.neighbour_unreachable += pending.len() as u64;
                for frame in pending {
                    self.undeliverable(core, &frame);
                }
                if let Some((iface, _)) = place {
                    // They find that the entry is gone, and begin anew; their own time-outs end it.
                    let port = &mut self.ports[usize::from(iface)];
                    port.ready.append(&mut port.blocked);
                }
            }
        }
    }

    /// Tells the other shards what was heard of a neighbour: the answer to their question may land here.
    pub(crate) fn spread(
        &mut self,
        core: &mut Core,
        iface: u16,
        address: IpAddr,
        mac: Option<MacAddr>,
        evidence: Evidence,
    ) {
        for shard in 0..self.shared.shards {
            if shard != core.index {
                let iface = self.id(iface);
                let mail = Mail::Neighbour { iface, address, mac, evidence };
                if core.post(shard, mail).is_err() {
                    self.stats.mail_refused += 1;
                }
            }
        }
    }
}

/// What an IP header of ours says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpHeader {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: IpProtocol,
    pub(crate) tos: u8,
    pub(crate) hop_limit: u8,
}

/// Hop limit of what we send (RFC 1700; IANA's recommended default).
pub(crate) const HOP_LIMIT: u8 = 64;
