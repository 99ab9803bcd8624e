//! UDP and echo sockets: requests of the application, and what comes in for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use tandem_device::{Frame, GsoKind, Payload};
use tandem_packet::icmpv4::ICMPV4_HEADER_LEN;
use tandem_packet::udp::{UDP_CHECKSUM_OFFSET, UDP_HEADER_LEN};
use tandem_packet::{FourTuple, Icmpv4Repr, Icmpv6Repr, IpProtocol, UdpRepr};

use super::icmp::{Complaint, News, datagram_error};
use super::input::{Fate, Packet};
use super::net::{Egress, HOP_LIMIT, IpHeader, Net};
use super::{Core, Shard};
use crate::error::{IoError, OpenError};
use crate::event::{Readiness, SocketHandle};
use crate::limits;
use crate::namespace::{NamespaceId, is_link_local};
use crate::socket::{Datagram, DatagramSocket, Kind};
use crate::stats::DropReason;
use crate::time::Instant;

/// A datagram that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes that were copied.
    pub len: usize,
    /// Who sent it. For an echo reply the port is the sequence number.
    pub from: SocketAddr,
    /// The address of ours, or the group, that it was sent to.
    pub to: IpAddr,
    /// Whether it was longer than the buffer; what did not fit is lost.
    pub truncated: bool,
}

/// An address and a port; the scope of a link-local address is the index of its interface.
pub(crate) fn socket_addr(address: IpAddr, port: u16, scope: u16) -> SocketAddr {
    match address {
        IpAddr::V4(address) => SocketAddrV4::new(address, port).into(),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope.into()).into(),
    }
}

/// The interface that an address names by its scope; 0 when it names none.
pub(crate) fn scope_of(address: &SocketAddr) -> u16 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => u16::try_from(address.scope_id()).unwrap_or(0),
    }
}

pub(crate) fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whether datagrams can be sent to this address and port.
fn is_peer(peer: &SocketAddr) -> bool {
    peer.port() != 0 && !peer.ip().is_unspecified()
}

impl Net {
    /// Whether a socket may be bound to an address.
    pub(crate) fn can_bind(&mut self, address: IpAddr) -> Result<(), OpenError> {
        let v4_loopback = matches!(address, IpAddr::V4(address) if address.is_loopback());
        if address.is_unspecified() || v4_loopback || self.is_local(address) {
            Ok(())
        } else {
            Err(OpenError::NotLocal(address))
        }
    }

    pub(crate) fn input_udp(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        src_port: u16,
        dst_port: u16,
        mut frame: Frame,
    ) -> Fate {
        let any = unspecified_like(packet.dst);
        let found = self
            .udp
            .get(&(packet.dst, dst_port))
            .or_else(|| self.udp.get(&(any, dst_port)))
            .copied();
        let Some(handle) = found else {
            if let Some(shard) = self.udp_home(core, packet, dst_port) {
                return self.hand_over(core, shard, packet.iface, frame);
            }
            // RFC 1122 section 4.1.3.1: port unreachable.
            self.complain(core, packet, &frame, Complaint::Port);
            return Fate::Dropped(DropReason::NoSocket);
        };
        let Some(socket) = core.sockets.datagram(handle) else {
            return Fate::Dropped(DropReason::NoSocket);
        };
        let from = socket_addr(packet.src, src_port, packet.scope());
        if socket.peer.is_some_and(|peer| peer.ip() != from.ip() || peer.port() != src_port) {
            return Fate::Dropped(DropReason::NoSocket);
        }
        let uso = frame.meta().gso.filter(|gso| gso.kind == GsoKind::UdpL4);
        frame.truncate(packet.headers.payload_end as usize);
        frame.trim_front(usize::from(packet.headers.payload_offset));
        if let Some(gso) = uso {
            return split_datagrams(core, handle, from, packet.dst, &mut frame, gso.size);
        }
        deliver(core, handle, Datagram { from, to: packet.dst, frame })
    }

    /// The shard that has the socket of a port, when it is not this one.
    fn udp_home(&self, core: &Core, packet: &Packet, port: u16) -> Option<u16> {
        if packet.mailed || self.shared.shards == 1 {
            return None;
        }
        let bound = &self.tables.datagrams;
        let any = unspecified_like(packet.dst);
        let home = bound.get(&(packet.dst, port)).or_else(|| bound.get(&(any, port)));
        home.copied().filter(|&shard| shard != core.index)
    }

    /// The shard that has the socket of a flow that an ICMP error quotes.
    pub(crate) fn udp_home_of(&self, tuple: &FourTuple) -> Option<u16> {
        let bound = &self.tables.datagrams;
        let any = unspecified_like(tuple.src);
        bound
            .get(&(tuple.src, tuple.src_port))
            .or_else(|| bound.get(&(any, tuple.src_port)))
            .copied()
    }

    /// An ICMP error quotes a datagram of ours.
    pub(crate) fn udp_news(&mut self, core: &mut Core, tuple: &FourTuple, news: News) -> bool {
        let any = unspecified_like(tuple.src);
        let found = self
            .udp
            .get(&(tuple.src, tuple.src_port))
            .or_else(|| self.udp.get(&(any, tuple.src_port)));
        let Some(&handle) = found else { return false };
        let Some(socket) = core.sockets.datagram(handle) else { return false };
        // Only a connected socket is told: the others could not say to whom it applies.
        let Some(peer) = socket.peer else { return false };
        if peer.ip() != tuple.dst || peer.port() != tuple.dst_port {
            return false;
        }
        if let Some(error) = datagram_error(news) {
            socket.error = Some(error);
            core.sockets.signal(handle, Readiness::ERROR);
        }
        true
    }

    /// An echo reply.
    pub(crate) fn input_echo(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        mut frame: Frame,
        id: u16,
    ) -> Fate {
        let Some(&handle) = self.echoes.get(&id) else {
            let home = id % self.shared.shards;
            if home != core.index && !packet.mailed {
                return self.hand_over(core, home, packet.iface, frame);
            }
            return Fate::Dropped(DropReason::IcmpUnmatched);
        };
        let l4 = usize::from(packet.headers.l4_offset);
        let mut seq = [0; 2];
        frame.copy_to(l4 + 6, &mut seq);
        let from = socket_addr(packet.src, u16::from_be_bytes(seq), packet.scope());
        frame.truncate(packet.headers.packet_end as usize);
        frame.trim_front((l4 + ICMPV4_HEADER_LEN).min(frame.len()));
        deliver(core, handle, Datagram { from, to: packet.dst, frame })
    }

    /// The way to a peer, from the socket's cache when that is current.
    fn datagram_way(
        &mut self,
        core: &mut Core,
        handle: SocketHandle,
        peer: SocketAddr,
    ) -> Result<Egress, IoError> {
        let socket = core.sockets.datagram(handle).ok_or(IoError::BadHandle)?;
        if let Some((cached, egress)) = socket.way
            && cached == peer
            && self.is_current(&egress)
        {
            return Ok(egress);
        }
        let local = socket.local.ip();
        let src = (!local.is_unspecified()).then_some(local);
        let scope = match scope_of(&peer) {
            0 => scope_of(&socket.local),
            scope => scope,
        };
        let Ok(egress) = self.route(core, peer.ip(), src, scope) else {
            self.stats.tx_no_route += 1;
            return Err(IoError::NoRoute);
        };
        if let Some(socket) = core.sockets.datagram(handle) {
            socket.way = Some((peer, egress));
        }
        Ok(egress)
    }

    /// Whether the way's queue takes one more; a socket that may not is told when it does.
    fn queue_room(
        &mut self,
        core: &mut Core,
        handle: SocketHandle,
        egress: &Egress,
    ) -> Result<(), IoError> {
        let port = &mut self.ports[usize::from(egress.iface)];
        if port.tx.len() < limits::TX_QUEUE_MAX {
            return Ok(());
        }
        if let Some(socket) = core.sockets.datagram(handle)
            && !std::mem::replace(&mut socket.waits, true)
        {
            port.writers.push_back(handle);
        }
        Err(IoError::WouldBlock)
    }

    /// A frame whose head is empty and whose payload is a copy of `data`.
    fn copy_in(&mut self, core: &mut Core, data: &[u8], head: usize) -> Result<Frame, IoError> {
        let no_buffers = |_| IoError::NoBuffers;
        let mut frame = core.frames.alloc().map_err(no_buffers)?;
        frame.reserve_headroom(limits::HEADROOM + head);
        if data.len() <= frame.tailroom() {
            frame.append(data).map_err(|_| IoError::NoBuffers)?;
            return Ok(frame);
        }
        // Too long for a frame's own buffer: by reference, in pieces.
        let mut rest = data;
        while !rest.is_empty() {
            let mut filler = core.payload.filler().map_err(no_buffers)?;
            let len = filler.write(rest);
            frame.push_payload(filler.payload(0..len)).map_err(|_| IoError::NoBuffers)?;
            rest = &rest[len..];
        }
        Ok(frame)
    }

    /// Puts the UDP header before a frame that holds the payload, and sends it.
    fn send_udp(
        &mut self,
        core: &mut Core,
        egress: &Egress,
        src_port: u16,
        peer: SocketAddr,
        mut frame: Frame,
    ) -> Result<(), IoError> {
        let payload_len = frame.len();
        let seed = Self::seed(egress.src, peer.ip(), IpProtocol::UDP, payload_len + UDP_HEADER_LEN);
        let repr = UdpRepr {
            src_port,
            dst_port: peer.port(),
            payload_len: payload_len as u16,
            checksum: seed,
        };
        let header = IpHeader {
            src: egress.src,
            dst: peer.ip(),
            protocol: IpProtocol::UDP,
            tos: 0,
            hop_limit: HOP_LIMIT,
        };
        repr.emit(frame.push_front(UDP_HEADER_LEN).map_err(|_| IoError::NoBuffers)?);
        self.push_ip(&mut frame, &header, UDP_CHECKSUM_OFFSET as u16, 1)
            .map_err(|_| IoError::NoBuffers)?;
        let meta = frame.meta_mut();
        meta.header_len = meta.transport_offset + UDP_HEADER_LEN as u16;
        self.send(core, egress, frame);
        Ok(())
    }

    /// Sockets that waited for room in an interface's queue.
    pub(crate) fn wake_writers(&mut self, core: &mut Core, iface: u16) {
        let port = &mut self.ports[usize::from(iface)];
        if port.writers.is_empty() || port.tx.len() > limits::TX_QUEUE_MAX / 2 {
            return;
        }
        for handle in port.writers.drain(..) {
            if let Some(socket) = core.sockets.datagram(handle) {
                socket.waits = false;
                core.sockets.signal(handle, Readiness::WRITABLE);
            }
        }
    }
}

/// Largest payload of a datagram in bytes.
fn datagram_len_max(egress: &Egress, peer: &SocketAddr) -> usize {
    let headers = if peer.is_ipv4() { 20 } else { 40 } + UDP_HEADER_LEN;
    (egress.mtu as usize).min(65_535).saturating_sub(headers)
}

fn deliver(core: &mut Core, handle: SocketHandle, datagram: Datagram) -> Fate {
    let Some(socket) = core.sockets.datagram(handle) else {
        return Fate::Dropped(DropReason::NoSocket);
    };
    let len = datagram.frame.len();
    if !socket.has_room(len) {
        socket.refused += 1;
        return Fate::Dropped(DropReason::SocketFull);
    }
    socket.queue_bytes += len;
    socket.queue.push_back(datagram);
    core.sockets.signal(handle, Readiness::READABLE);
    Fate::Delivered
}

/// Takes apart what the device coalesced: datagrams keep their borders.
fn split_datagrams(
    core: &mut Core,
    handle: SocketHandle,
    from: SocketAddr,
    to: IpAddr,
    frame: &mut Frame,
    size: u16,
) -> Fate {
    let mut fate = Fate::Delivered;
    let size = usize::from(size.max(1));
    let mut at = 0;
    while at < frame.len() {
        let Ok(mut part) = frame.try_clone(&core.frames, 0) else {
            return Fate::Dropped(DropReason::NoBuffers);
        };
        part.trim_front(at);
        part.truncate(size);
        at += size;
        if let dropped @ Fate::Dropped(_) =
            deliver(core, handle, Datagram { from, to, frame: part })
        {
            fate = dropped;
        }
    }
    fate
}

/// Requests to UDP sockets.
impl Shard {
    /// Opens a UDP socket on a local address (or the unspecified one) and port; port 0 picks one. IPv6
    /// sockets take no IPv4 datagrams.
    ///
    /// With several shards the socket lives on this one, and the others hand its datagrams over.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn udp_bind(
        &mut self,
        namespace: NamespaceId,
        local: SocketAddr,
    ) -> Result<SocketHandle, OpenError> {
        let (net, core) = self.net(namespace).ok_or(OpenError::NotJoined(namespace.0))?;
        net.can_bind(local.ip())?;
        let start = core.random.next_u32();
        let span = u32::from(u16::MAX - limits::EPHEMERAL_PORT_MIN) + 1;
        let tries = if local.port() == 0 { limits::PORT_TRIES_MAX } else { 1 };
        for n in 0..tries {
            let mut local = local;
            if local.port() == 0 {
                let offset = start.wrapping_add(n) % span;
                local.set_port(limits::EPHEMERAL_PORT_MIN + offset as u16);
            }
            let place = (local.ip(), local.port());
            if net.udp.contains_key(&place) {
                continue;
            }
            let index = core.index;
            let several = net.shared.shards > 1;
            if several {
                let claimed = net.shared.change(|tables| {
                    let bound = std::sync::Arc::make_mut(&mut tables.datagrams);
                    if bound.contains_key(&place) {
                        return Err(());
                    }
                    bound.insert(place, index);
                    Ok(())
                });
                if claimed.is_err() {
                    continue;
                }
            }
            let socket = Kind::Udp(DatagramSocket::new(local));
            let handle = core.sockets.insert(net.slot, socket);
            match handle {
                Ok(handle) => _ = net.udp.insert(place, handle),
                Err(_) if several => net.release_udp(place),
                Err(_) => {}
            }
            return handle;
        }
        if local.port() == 0 { Err(OpenError::NoPort(local)) } else { Err(OpenError::InUse(local)) }
    }

    /// Fixes the peer: only its datagrams are taken, only its ICMP errors told, and sends need no
    /// address. `None` undoes that.
    ///
    /// # Errors
    /// [`IoError::BadHandle`], [`IoError::BadPeer`], [`IoError::NoRoute`].
    pub fn udp_connect(
        &mut self,
        handle: SocketHandle,
        peer: Option<SocketAddr>,
    ) -> Result<(), IoError> {
        let (net, core) = self.net_of(handle).ok_or(IoError::BadHandle)?;
        let Some(Kind::Udp(socket)) = core.sockets.get_mut(handle) else {
            return Err(IoError::BadHandle);
        };
        if let Some(peer) = peer {
            if !is_peer(&peer) || peer.is_ipv4() != socket.local.is_ipv4() {
                return Err(IoError::BadPeer);
            }
            net.datagram_way(core, handle, peer)?;
        }
        if let Some(socket) = core.sockets.datagram(handle) {
            socket.peer = peer;
        }
        Ok(())
    }

    /// Sends a datagram by copy, to `to` or the connected peer. Datagrams that exceed the path are
    /// refused, not fragmented.
    ///
    /// # Errors
    /// See [`IoError`]. After [`IoError::WouldBlock`], [`Readiness::WRITABLE`] tells when the
    /// interface's queue has room again. An error that an ICMP message told is returned once, and
    /// nothing is sent then.
    pub fn udp_send(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        to: Option<SocketAddr>,
        data: &[u8],
    ) -> Result<(), IoError> {
        self.core.at(now);
        let (net, core, src_port, peer) = self.udp_peer(handle, to)?;
        let egress = net.datagram_way(core, handle, peer)?;
        let max = datagram_len_max(&egress, &peer);
        if data.len() > max {
            return Err(IoError::TooLong { len: data.len(), max });
        }
        net.queue_room(core, handle, &egress)?;
        let frame = net.copy_in(core, data, UDP_HEADER_LEN + 40)?;
        net.send_udp(core, &egress, src_port, peer, frame)
    }

    /// Sends a datagram by reference. The socket gets [`Readiness::SENT`] when a device is done with
    /// it, unless it never left this host.
    ///
    /// # Errors
    /// As [`Shard::udp_send`].
    pub fn udp_send_payload(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        to: Option<SocketAddr>,
        payload: Payload,
    ) -> Result<(), IoError> {
        self.core.at(now);
        let (net, core, src_port, peer) = self.udp_peer(handle, to)?;
        let egress = net.datagram_way(core, handle, peer)?;
        let max = datagram_len_max(&egress, &peer);
        if payload.len() > max {
            return Err(IoError::TooLong { len: payload.len(), max });
        }
        net.queue_room(core, handle, &egress)?;
        let mut frame = net.copy_in(core, &[], UDP_HEADER_LEN + 40)?;
        frame.push_payload(payload).map_err(|_| IoError::NoBuffers)?;
        frame.meta_mut().token = Some(handle.to_bits());
        net.send_udp(core, &egress, src_port, peer, frame)
    }

    /// What every send begins with: the pending error, the port, the peer.
    fn udp_peer(
        &mut self,
        handle: SocketHandle,
        to: Option<SocketAddr>,
    ) -> Result<(&mut Net, &mut Core, u16, SocketAddr), IoError> {
        let (net, core) = self.net_of(handle).ok_or(IoError::BadHandle)?;
        let Some(Kind::Udp(socket)) = core.sockets.get_mut(handle) else {
            return Err(IoError::BadHandle);
        };
        socket.take_error()?;
        let peer = to.or(socket.peer).ok_or(IoError::NotConnected)?;
        if !is_peer(&peer) || peer.is_ipv4() != socket.local.is_ipv4() {
            return Err(IoError::BadPeer);
        }
        let port = socket.local.port();
        Ok((net, core, port, peer))
    }

    /// Reads a datagram by copy.
    ///
    /// # Errors
    /// [`IoError::WouldBlock`] when there is none; an error that an ICMP message told, once;
    /// [`IoError::BadHandle`].
    pub fn udp_recv(
        &mut self,
        handle: SocketHandle,
        buffer: &mut [u8],
    ) -> Result<Received, IoError> {
        let (from, to, frame) = self.udp_recv_frame(handle)?;
        let len = frame.copy_to(0, buffer);
        Ok(Received { len, from, to, truncated: len < frame.len() })
    }

    /// Takes a datagram out as the frame that it came in, with nothing but its payload: sender, our
    /// address, frame.
    ///
    /// # Errors
    /// As [`Shard::udp_recv`].
    pub fn udp_recv_frame(
        &mut self,
        handle: SocketHandle,
    ) -> Result<(SocketAddr, IpAddr, Frame), IoError> {
        let socket = self.core.sockets.datagram(handle).ok_or(IoError::BadHandle)?;
        let Some(Datagram { from, to, frame }) = socket.queue.pop_front() else {
            socket.take_error()?;
            return Err(IoError::WouldBlock);
        };
        socket.queue_bytes -= frame.len();
        Ok((from, to, frame))
    }

    /// Opens a socket for echo requests (ping).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn echo_open(&mut self, namespace: NamespaceId) -> Result<SocketHandle, OpenError> {
        let (net, core) = self.net(namespace).ok_or(OpenError::NotJoined(namespace.0))?;
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let shards = u32::from(net.shared.shards);
        let start = core.random.next_u32();
        let count = 0x1_0000 / shards;
        for n in 0..count.min(limits::PORT_TRIES_MAX) {
            // An identifier tells the shard that it belongs to.
            let id = start.wrapping_add(n) % count * shards + u32::from(core.index);
            let id = id as u16;
            if !net.echoes.contains_key(&id) {
                let mut local = local;
                local.set_port(id);
                let socket = Kind::Echo(DatagramSocket::new(local));
                let handle = core.sockets.insert(net.slot, socket)?;
                net.echoes.insert(id, handle);
                return Ok(handle);
            }
        }
        Err(OpenError::NoPort(local))
    }

    /// Sends an echo request. Replies are read by [`Shard::udp_recv`]; the port of their sender is the
    /// sequence number.
    ///
    /// # Errors
    /// See [`IoError`].
    pub fn echo_send(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        to: IpAddr,
        seq: u16,
        data: &[u8],
    ) -> Result<(), IoError> {
        self.core.at(now);
        let (net, core) = self.net_of(handle).ok_or(IoError::BadHandle)?;
        let Some(Kind::Echo(socket)) = core.sockets.get_mut(handle) else {
            return Err(IoError::BadHandle);
        };
        let id = socket.local.port();
        if to.is_unspecified() {
            return Err(IoError::BadPeer);
        }
        let scope = if is_link_local(to) { scope_of(&socket.local) } else { 0 };
        let egress = net.route(core, to, None, scope).map_err(|_| IoError::NoRoute)?;
        let peer = SocketAddr::from((to, 1));
        // An ICMP header is as long as a UDP header.
        let max = datagram_len_max(&egress, &peer);
        if data.len() > max {
            return Err(IoError::TooLong { len: data.len(), max });
        }
        net.queue_room(core, handle, &egress)?;
        let mut frame = net.copy_in(core, data, ICMPV4_HEADER_LEN + 40)?;
        let head = frame.push_front(ICMPV4_HEADER_LEN).map_err(|_| IoError::NoBuffers)?;
        match to {
            IpAddr::V4(_) => Icmpv4Repr::EchoRequest { id, seq }.emit(head),
            IpAddr::V6(_) => Icmpv6Repr::EchoRequest { id, seq }.emit(head),
        }
        if net.send_icmp(core, &egress, to, 0, frame) { Ok(()) } else { Err(IoError::NoBuffers) }
    }

    /// The local address and port of a socket of any kind; of a connection, with the address that it
    /// uses.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn local_addr(&self, handle: SocketHandle) -> Result<SocketAddr, IoError> {
        match self.core.sockets.get(handle) {
            Some(Kind::Udp(socket) | Kind::Echo(socket)) => Ok(socket.local),
            Some(Kind::Listen(socket)) => Ok(socket.local),
            Some(Kind::Stream(socket)) if !socket.orphan => {
                Ok(socket_addr(socket.tuple.src, socket.tuple.src_port, socket.scope))
            }
            _ => Err(IoError::BadHandle),
        }
    }

    /// The peer of a connection or a connected UDP socket.
    ///
    /// # Errors
    /// [`IoError::BadHandle`], [`IoError::NotConnected`].
    pub fn peer_addr(&self, handle: SocketHandle) -> Result<SocketAddr, IoError> {
        match self.core.sockets.get(handle) {
            Some(Kind::Udp(socket)) => socket.peer.ok_or(IoError::NotConnected),
            Some(Kind::Stream(socket)) if !socket.orphan => {
                Ok(socket_addr(socket.tuple.dst, socket.tuple.dst_port, socket.scope))
            }
            _ => Err(IoError::BadHandle),
        }
    }

    /// Datagrams that a socket refused since its queue was full.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn udp_refused(&mut self, handle: SocketHandle) -> Result<u64, IoError> {
        self.core.sockets.datagram(handle).map(|socket| socket.refused).ok_or(IoError::BadHandle)
    }
}

impl Net {
    /// Gives a port back that was claimed for all shards.
    pub(crate) fn release_udp(&mut self, place: (IpAddr, u16)) {
        let released = self.shared.change(|tables| {
            std::sync::Arc::make_mut(&mut tables.datagrams).remove(&place).ok_or(())
        });
        debug_assert!(released.is_ok(), "a bound port was not claimed");
    }
}
