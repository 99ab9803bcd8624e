//! Connections of a namespace on one shard: segments in, segments out, and what ties a
//! [`Connection`] to tables, timers and routes. The application's requests are in `request`.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;
use slab::Slab;
use tandem_device::{Batch, Frame, Gso, GsoKind};
use tandem_packet::tcp::TCP_CHECKSUM_OFFSET;
use tandem_packet::{Ecn, FourTuple, IpProtocol, SeqNumber, TcpRepr};

use super::icmp::News;
use super::input::{Fate, Packet};
use super::net::{Egress, HOP_LIMIT, Hop, IpHeader, Net};
use super::{Core, Timer};
use crate::event::{Readiness, SocketHandle};
use crate::flow::FlowKey;
use crate::limits;
use crate::random::{Purpose, initial_sequence, keyed};
use crate::socket::{Kind, ListenSocket, Parent, StreamSocket};
use crate::stats::DropReason;
use crate::tcp::listen::{self, ListenVerdict};
use crate::tcp::{
    Changes, Connection, Family, Initial, Outgoing, OutputLimits, Path, Segment, State, SynInfo,
    TimeWait, TimeWaitVerdict,
};
use crate::time::Instant;
use crate::wheel::TimerId;

/// Whom a segment is for.
#[derive(Debug, Clone, Copy)]
enum Flow {
    Stream(SocketHandle),
    TimeWait(u32),
}

#[derive(Debug)]
struct TimeWaitEntry {
    key: FlowKey,
    state: TimeWait,
}

/// All flows of a namespace, with connections in TIME-WAIT as small entries of their own.
#[derive(Debug)]
pub(crate) struct Flows {
    table: HashMap<FlowKey, Flow, FixedState>,
    time_waits: Slab<TimeWaitEntry>,
    /// In the order in which they came; all stay for the same time, unless their FIN came again.
    order: VecDeque<u32>,
    timer: Option<(TimerId, Instant)>,
}

impl Flows {
    pub(crate) fn new(hasher: FixedState) -> Self {
        Self {
            table: HashMap::with_hasher(hasher),
            time_waits: Slab::new(),
            order: VecDeque::new(),
            timer: None,
        }
    }

    pub(crate) fn contains(&self, key: &FlowKey) -> bool {
        self.table.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: FlowKey, handle: SocketHandle) {
        self.table.insert(key, Flow::Stream(handle));
    }

    fn stream(&self, key: &FlowKey) -> Option<SocketHandle> {
        match self.table.get(key) {
            Some(&Flow::Stream(handle)) => Some(handle),
            _ => None,
        }
    }

    /// Removes an entry whose name is not in `order` any more.
    fn remove_time_wait(&mut self, index: u32) {
        let entry = self.time_waits.remove(index as usize);
        self.table.remove(&entry.key);
    }

    /// Connections in TIME-WAIT.
    pub(crate) fn time_waits(&self) -> usize {
        self.time_waits.len()
    }
}

impl Net {
    /// A TCP segment that passed all checks below.
    pub(crate) fn input_tcp(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        repr: &TcpRepr,
        mut frame: Frame,
    ) -> Fate {
        // RFC 9293 section 3.9.2.3 (MUST-57): silently discard what is for a group.
        if packet.to_group || packet.link_group {
            return Fate::Dropped(DropReason::NoConnection);
        }
        let tuple = FourTuple {
            src: packet.src,
            dst: packet.dst,
            src_port: repr.src_port,
            dst_port: repr.dst_port,
        };
        let key = FlowKey::received(&tuple);
        let found = self.flows.table.get(&key).copied();
        if found.is_none()
            && let Some(shard) = self.elsewhere(core, packet, &tuple, &frame)
        {
            return self.hand_over(core, shard, packet.iface, frame);
        }
        let wire_segments = frame.meta().segments.max(1);
        frame.truncate(packet.headers.payload_end as usize);
        frame.trim_front(usize::from(packet.headers.payload_offset).min(frame.len()));
        let segment = Segment {
            repr,
            len: frame.len() as u32,
            wire_segments,
            ecn: Ecn::from_tos(packet.tos),
        };
        match found {
            Some(Flow::Stream(handle)) => {
                let Some(stream) = core.sockets.stream(handle) else {
                    return Fate::Dropped(DropReason::NoConnection);
                };
                let samples = stream.connection.stats().rtt_samples;
                let now = core.now;
                let changes = stream.connection.input(now, &segment, Some(frame));
                // RFC 4861 section 7.3.1: new acknowledgements are a hint that the neighbour is there.
                if stream.connection.stats().rtt_samples != samples
                    && let Some(Egress { hop: Hop::Neighbour(name), .. }) = stream.egress
                    && now.since(stream.confirmed).as_secs() >= 1
                {
                    stream.confirmed = now;
                    if let Some(timer) = self.neighbours.confirm(name, now) {
                        core.wheel.cancel(timer);
                    }
                }
                self.settle(core, handle, changes);
                Fate::Delivered
            }
            Some(Flow::TimeWait(index)) => {
                self.input_time_wait(core, packet, &tuple, index, &segment)
            }
            None => self.input_unknown(core, packet, &tuple, &segment, None),
        }
    }

    fn input_time_wait(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        tuple: &FourTuple,
        index: u32,
        segment: &Segment<'_>,
    ) -> Fate {
        match self.flows.time_waits[index as usize].state.input(core.now, segment) {
            TimeWaitVerdict::Drop => Fate::Dropped(DropReason::TimeWait),
            TimeWaitVerdict::Reply(reply) => {
                if self.send_segment(core, packet, tuple, reply) {
                    Fate::Delivered
                } else {
                    Fate::Dropped(DropReason::NoBuffers)
                }
            }
            TimeWaitVerdict::Reopen { iss_floor, .. } => {
                if self.listener_for(tuple).is_none() {
                    return Fate::Dropped(DropReason::TimeWait);
                }
                self.flows.order.retain(|&other| other != index);
                self.flows.remove_time_wait(index);
                self.input_unknown(core, packet, tuple, segment, Some(iss_floor))
            }
        }
    }

    fn listener_for(&self, tuple: &FourTuple) -> Option<SocketHandle> {
        let any = super::datagram::unspecified_like(tuple.dst);
        self.listeners
            .get(&(tuple.dst, tuple.dst_port))
            .or_else(|| self.listeners.get(&(any, tuple.dst_port)))
            .copied()
    }

    /// A segment without a connection: for a listener, or for nobody.
    fn input_unknown(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        tuple: &FourTuple,
        segment: &Segment<'_>,
        iss_floor: Option<SeqNumber>,
    ) -> Fate {
        let Some(listener) = self.listener_for(tuple) else {
            // RFC 9293 section 3.10.7.1.
            if let Some(reset) = listen::reset_for(segment) {
                self.reset(core, packet, tuple, reset);
            }
            return Fate::Dropped(DropReason::NoConnection);
        };
        match listen::judge(segment) {
            ListenVerdict::Ignore => Fate::Dropped(DropReason::NoConnection),
            ListenVerdict::Reset(reset) => {
                self.reset(core, packet, tuple, reset);
                Fate::Dropped(DropReason::NoConnection)
            }
            ListenVerdict::Open(syn) => {
                let opened = self.open_passive(core, packet, tuple, listener, &syn, iss_floor);
                if opened { Fate::Delivered } else { Fate::Dropped(DropReason::SynRefused) }
            }
        }
    }

    fn reset(&mut self, core: &mut Core, packet: &Packet, tuple: &FourTuple, reset: TcpRepr) {
        if !self.reset_tokens.take(core.now) {
            self.stats.resets_limited += 1;
        } else if self.send_segment(core, packet, tuple, reset) {
            self.stats.resets_sent += 1;
        }
    }

    /// Answers a segment without a connection's help; `reply` has no ports.
    fn send_segment(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        tuple: &FourTuple,
        mut reply: TcpRepr,
    ) -> bool {
        let answer = tuple.reversed();
        reply.src_port = answer.src_port;
        reply.dst_port = answer.dst_port;
        let Ok(egress) = self.route(core, answer.dst, Some(answer.src), packet.scope()) else {
            self.stats.tx_no_route += 1;
            return false;
        };
        let Ok(frame) = core.frames.alloc() else {
            self.stats.tx_no_buffers += 1;
            return false;
        };
        let outgoing = Outgoing {
            repr: reply,
            payload: Default::default(),
            payload_len: 0,
            segment_size: 1,
            ecn: Ecn::NotEct,
            is_retransmission: false,
        };
        self.send_tcp(core, &egress, &answer, frame, outgoing)
    }

    /// Makes a frame of a segment, and sends it. `frame` is empty.
    fn send_tcp(
        &mut self,
        core: &mut Core,
        egress: &Egress,
        tuple: &FourTuple,
        mut frame: Frame,
        outgoing: Outgoing,
    ) -> bool {
        frame.reserve_headroom(limits::HEADROOM + 40);
        let super_segment = outgoing.is_super_segment();
        let wire_segments = outgoing.wire_segments();
        let Outgoing { mut repr, payload, payload_len, segment_size, ecn, .. } = outgoing;
        let header_len = repr.header_len();
        let len = header_len + payload_len as usize;
        repr.checksum = Self::seed(egress.src, tuple.dst, IpProtocol::TCP, len);
        let header = IpHeader {
            src: egress.src,
            dst: tuple.dst,
            protocol: IpProtocol::TCP,
            tos: ecn as u8,
            hop_limit: HOP_LIMIT,
        };
        let mut built = frame.push_back(header_len).map(|bytes| repr.emit(bytes));
        for piece in payload {
            built = built.and_then(|()| frame.push_payload(piece));
        }
        let built = built.and_then(|()| {
            self.push_ip(&mut frame, &header, TCP_CHECKSUM_OFFSET as u16, wire_segments)
        });
        if built.is_err() {
            self.stats.tx_no_buffers += 1;
            return false;
        }
        let meta = frame.meta_mut();
        meta.header_len = meta.transport_offset + header_len as u16;
        if super_segment {
            let kind = if tuple.dst.is_ipv4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
            meta.gso = Some(Gso { kind, size: segment_size, ecn: false, fixed_id: false });
            meta.segments = wire_segments as u16;
        }
        self.send(core, egress, frame);
        true
    }

    fn path(egress: &Egress) -> Path {
        let family = if egress.src.is_ipv4() { Family::V4 } else { Family::V6 };
        Path { family, mtu: egress.mtu }
    }

    /// Numbers that a peer must not guess.
    fn initial(&self, now: Instant, tuple: &FourTuple) -> Initial {
        let secret = &self.shared.secret;
        let iss = initial_sequence(secret, now, tuple);
        Initial::new(SeqNumber(iss), keyed(secret, Purpose::TimestampOffset, tuple) as u32)
    }

    fn open_passive(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        tuple: &FourTuple,
        listener: SocketHandle,
        syn: &SynInfo,
        iss_floor: Option<SeqNumber>,
    ) -> bool {
        let Some(socket) = core.sockets.listener(listener) else { return false };
        let budget = socket.budget.clone();
        let tuple = tuple.reversed();
        let Ok(egress) = self.route(core, tuple.dst, Some(tuple.src), packet.scope()) else {
            self.stats.tx_no_route += 1;
            return false;
        };
        // A flood of SYNs takes no more than this, and nobody is answered who could not be accepted.
        if budget.is_full() || !budget.take_half_open() {
            self.stats.syn_overflows += 1;
            return false;
        }
        let mut initial = self.initial(core.now, &tuple);
        if let Some(floor) = iss_floor
            && initial.iss.le(floor)
        {
            // RFC 9293 section 3.4.1 MAY-2: after everything that the old incarnation sent.
            initial.iss = floor + 1 + (core.random.next_u32() & 0x00ff_ffff);
        }
        let connection = Connection::accept(core.now, &core.tcp, Self::path(&egress), initial, syn);
        let parent = Parent { listener, budget: budget.clone(), half_open: true };
        let stream = StreamSocket::new(connection, tuple, egress, packet.scope(), Some(parent));
        match self.add_stream(core, stream) {
            Some(_) => true,
            None => {
                budget.return_half_open();
                self.stats.syn_overflows += 1;
                false
            }
        }
    }

    /// Puts a new connection into the tables, with its first segment to be sent.
    pub(crate) fn add_stream(
        &mut self,
        core: &mut Core,
        stream: StreamSocket,
    ) -> Option<SocketHandle> {
        let key = stream.key;
        let handle = core.sockets.insert(self.slot, Kind::Stream(Box::new(stream))).ok()?;
        self.flows.insert(key, handle);
        self.stats.tcp_opened += 1;
        self.settle(core, handle, Changes::empty());
        Some(handle)
    }

    /// An active open on a tuple that is free.
    pub(crate) fn open_active(
        &mut self,
        core: &mut Core,
        tuple: FourTuple,
        egress: Egress,
        scope: u16,
    ) -> Option<SocketHandle> {
        let initial = self.initial(core.now, &tuple);
        let connection = Connection::connect(core.now, &core.tcp, Self::path(&egress), initial);
        self.add_stream(core, StreamSocket::new(connection, tuple, egress, scope, None))
    }

    /// After anything that happened to a connection: tells its owner, arms its timer, lists it for
    /// output, and lets go of it when it has ended.
    pub(crate) fn settle(&mut self, core: &mut Core, handle: SocketHandle, changes: Changes) {
        let Some(stream) = core.sockets.stream(handle) else { return };
        if changes.contains(Changes::ESTABLISHED)
            && let Some(parent) = &mut stream.parent
            && parent.half_open
        {
            parent.budget.return_half_open();
            parent.half_open = false;
            let (listener, budget) = (parent.listener, parent.budget.clone());
            let room = budget.take_waiting();
            let queued = match core.sockets.listener(listener) {
                Some(socket) if room => {
                    socket.queue.push_back(handle);
                    true
                }
                _ => false,
            };
            if queued {
                core.sockets.signal(listener, Readiness::ACCEPT);
            } else {
                if room {
                    budget.return_waiting();
                }
                self.stats.accept_overflows += 1;
                // It counts in no budget any more.
                if let Some(stream) = core.sockets.stream(handle) {
                    stream.parent = None;
                }
                self.abandon(core, handle);
                return;
            }
        }
        let Some(stream) = core.sockets.stream(handle) else { return };
        let mut ready = Readiness::empty();
        if !changes.is_empty() {
            let now = stream.connection.readiness();
            use crate::tcp::Readiness as Tcp;
            ready.set(Readiness::CONNECTED, changes.contains(Changes::ESTABLISHED));
            ready.set(Readiness::READABLE, changes.contains(Changes::READABLE));
            ready.set(Readiness::WRITABLE, changes.contains(Changes::WRITABLE));
            ready.set(
                Readiness::PEER_CLOSED,
                changes.contains(Changes::READABLE) && now.contains(Tcp::READ_CLOSED),
            );
            let ended = changes.intersects(Changes::CLOSED | Changes::TIME_WAIT);
            ready.set(Readiness::CLOSED, ended);
            ready.set(Readiness::ERROR, now.contains(Tcp::ERROR));
            if changes.contains(Changes::COMPLETED) {
                while let Some(_token) = stream.connection.pop_completed() {
                    stream.completed += 1;
                }
                ready |= Readiness::SENT;
            }
        }
        if stream.orphan {
            ready = Readiness::empty();
        }
        let half_open = stream.parent.as_ref().is_some_and(|parent| parent.half_open);
        let wants_output = stream.connection.wants_output();
        let state = stream.connection.state();
        if (stream.orphan || half_open) && !wants_output {
            match state {
                State::Closed => return self.remove_stream(core, handle, None),
                State::TimeWait => {
                    let rest = stream.connection.time_wait();
                    return self.remove_stream(core, handle, rest);
                }
                _ => {}
            }
        }
        core.sockets.signal(handle, ready);
        self.arm_stream(core, handle);
        if wants_output {
            self.list(core, handle);
        }
    }

    /// Keeps one timer of the wheel at or before the connection's next deadline.
    fn arm_stream(&mut self, core: &mut Core, handle: SocketHandle) {
        let Some(stream) = core.sockets.stream(handle) else { return };
        match (stream.connection.next_deadline(), stream.timer) {
            (None, None) => {}
            (None, Some((timer, _))) => {
                core.wheel.cancel(timer);
                stream.timer = None;
            }
            // One that fires too early costs less than moving it with each acknowledgement.
            (Some(deadline), Some((_, armed))) if armed <= deadline => {}
            (Some(deadline), old) => {
                if let Some((timer, _)) = old {
                    core.wheel.cancel(timer);
                }
                let timer = core.wheel.arm(deadline, Timer::Stream(handle));
                stream.timer = Some((timer, deadline));
            }
        }
    }

    /// A connection's timer fired.
    pub(crate) fn stream_deadline(&mut self, core: &mut Core, handle: SocketHandle) {
        let now = core.now;
        let Some(stream) = core.sockets.stream(handle) else { return };
        stream.timer = None;
        let due = stream.connection.next_deadline().is_some_and(|deadline| deadline <= now);
        let changes = if due { stream.connection.on_deadline(now) } else { Changes::empty() };
        let stranded = stream.listed && stream.egress.is_none();
        self.settle(core, handle, changes);
        if due && stranded {
            // It goes on counting while there is no way out, so that it gives up in the end.
            self.lose_output(core, handle);
        }
    }

    /// Lets a connection send into the void, so that its timers run.
    fn lose_output(&mut self, core: &mut Core, handle: SocketHandle) {
        let now = core.now;
        let Some(stream) = core.sockets.stream(handle) else { return };
        if stream.connection.output(now, &OutputLimits::SINGLE).is_some() {
            self.stats.tx_no_route += 1;
        }
        self.arm_stream(core, handle);
    }

    /// Lists a connection that wants to send at the interface that it sends by.
    fn list(&mut self, core: &mut Core, handle: SocketHandle) {
        let Some(stream) = core.sockets.stream(handle) else { return };
        if stream.listed {
            return;
        }
        stream.listed = true;
        if let Some(egress) = self.stream_way(core, handle) {
            self.ports[usize::from(egress.iface)].ready.push_back(handle);
            return;
        }
        // No way out now. When routes change it is looked at again.
        self.stranded.push_back(handle);
        let idle =
            core.sockets.stream(handle).is_some_and(|s| s.connection.next_deadline().is_none());
        if idle {
            self.lose_output(core, handle);
        }
    }

    /// The way of a connection's packets, looked up anew when something changed.
    fn stream_way(&mut self, core: &mut Core, handle: SocketHandle) -> Option<Egress> {
        let stream = core.sockets.stream(handle)?;
        if let Some(egress) = stream.egress
            && self.is_current(&egress)
        {
            return Some(egress);
        }
        let (tuple, scope) = (stream.tuple, stream.scope);
        let egress = self.route(core, tuple.dst, Some(tuple.src), scope).ok();
        let now = core.now;
        let stream = core.sockets.stream(handle)?;
        if let Some(egress) = egress
            && stream.egress.is_some_and(|old| old.mtu != egress.mtu)
        {
            stream.connection.path_changed(now, egress.mtu);
        }
        stream.egress = egress;
        egress
    }

    /// Builds one segment or super-segment for an interface; false when no connection has one.
    pub(crate) fn build_one(&mut self, core: &mut Core, iface: u16) -> bool {
        let port = usize::from(iface);
        while let Some(handle) = self.ports[port].ready.pop_front() {
            let Some(stream) = core.sockets.stream(handle) else { continue };
            let egress = match stream.egress {
                Some(egress) if egress.iface == iface && self.is_current(&egress) => egress,
                _ => {
                    stream.listed = false;
                    self.list(core, handle);
                    continue;
                }
            };
            if let Hop::Neighbour(name) = egress.hop
                && self.neighbours.is_congested(name)
            {
                self.ports[port].blocked.push_back(handle);
                continue;
            }
            let Ok(frame) = core.frames.alloc() else {
                self.stats.tx_no_buffers += 1;
                self.ports[port].ready.push_front(handle);
                return false;
            };
            let limits = self.ports[port].output_limits(egress.src.is_ipv4());
            let now = core.now;
            let Some(outgoing) = stream.connection.output(now, &limits) else {
                stream.listed = false;
                self.settle(core, handle, Changes::empty());
                continue;
            };
            let tuple = stream.tuple;
            let mut outgoing = outgoing;
            outgoing.repr.src_port = tuple.src_port;
            outgoing.repr.dst_port = tuple.dst_port;
            stream.listed = stream.connection.wants_output();
            let listed = stream.listed;
            self.send_tcp(core, &egress, &tuple, frame, outgoing);
            if listed {
                // To the back: connections take turns.
                self.ports[port].ready.push_back(handle);
                self.arm_stream(core, handle);
            } else {
                self.settle(core, handle, Changes::empty());
            }
            return true;
        }
        false
    }

    /// See [`super::Shard::transmit`].
    pub(crate) fn transmit(
        &mut self,
        core: &mut Core,
        iface: u16,
        budget: usize,
        out: &mut Batch,
    ) -> usize {
        let before = out.len();
        let index = usize::from(iface);
        if self.ports[index].is_loopback || !self.ports[index].up {
            return 0;
        }
        while out.len() - before < budget {
            match self.ports[index].tx.pop_front() {
                Some(frame) => {
                    if let Some(offload) = &mut self.ports[index].offload {
                        offload.transmit(frame, out);
                    }
                }
                None if self.build_one(core, iface) => {}
                None => break,
            }
        }
        self.wake_writers(core, iface);
        out.len() - before
    }

    /// Ends a connection with a reset and without an owner.
    pub(crate) fn abandon(&mut self, core: &mut Core, handle: SocketHandle) {
        let now = core.now;
        let Some(stream) = core.sockets.stream(handle) else { return };
        stream.orphan = true;
        let changes = stream.connection.abort(now);
        self.settle(core, handle, changes);
    }

    /// Takes a connection out of the tables; what is left of it in TIME-WAIT stays as an entry.
    pub(crate) fn remove_stream(
        &mut self,
        core: &mut Core,
        handle: SocketHandle,
        rest: Option<TimeWait>,
    ) {
        let Some(Kind::Stream(stream)) = core.sockets.remove(handle) else { return };
        self.stats.tcp_closed += 1;
        if let Some((timer, _)) = stream.timer {
            core.wheel.cancel(timer);
        }
        if let Some(parent) = stream.parent {
            if parent.half_open {
                parent.budget.return_half_open();
            } else {
                parent.budget.return_waiting();
                if let Some(listener) = core.sockets.listener(parent.listener) {
                    listener.queue.retain(|&queued| queued != handle);
                }
            }
        }
        if self.flows.stream(&stream.key) == Some(handle) {
            self.flows.table.remove(&stream.key);
        }
        if let Some(state) = rest {
            self.add_time_wait(core, stream.key, state);
        }
    }

    fn add_time_wait(&mut self, core: &mut Core, key: FlowKey, state: TimeWait) {
        if self.flows.time_waits.len() >= limits::TIME_WAIT_MAX
            && let Some(oldest) = self.flows.order.pop_front()
        {
            self.stats.time_wait_evicted += 1;
            self.flows.remove_time_wait(oldest);
        }
        let entry = TimeWaitEntry { key, state };
        let index = self.flows.time_waits.insert(entry) as u32;
        self.flows.table.insert(key, Flow::TimeWait(index));
        self.flows.order.push_back(index);
        self.arm_time_waits(core);
    }

    /// One timer for all of TIME-WAIT: that of the one which came first.
    fn arm_time_waits(&mut self, core: &mut Core) {
        let Some(&first) = self.flows.order.front() else { return };
        if self.flows.timer.is_none() {
            let expires = self.flows.time_waits[first as usize].state.expires;
            let timer = core.wheel.arm(expires, Timer::TimeWait { net: self.slot });
            self.flows.timer = Some((timer, expires));
        }
    }

    /// TIME-WAIT is over for those whose time has come.
    pub(crate) fn expire_time_waits(&mut self, core: &mut Core) {
        self.flows.timer = None;
        while let Some(&first) = self.flows.order.front() {
            let entry = &self.flows.time_waits[first as usize];
            if entry.state.expires > core.now {
                break;
            }
            self.flows.order.pop_front();
            self.flows.remove_time_wait(first);
        }
        self.arm_time_waits(core);
    }

    /// An ICMP error quotes a segment of ours; false when it is none, or not one in flight.
    pub(crate) fn stream_news(
        &mut self,
        core: &mut Core,
        tuple: &FourTuple,
        seq: SeqNumber,
        news: News,
    ) -> bool {
        let Some(handle) = self.flows.stream(&FlowKey::sent(tuple)) else { return false };
        let now = core.now;
        let Some(stream) = core.sockets.stream(handle) else { return false };
        let connection = &mut stream.connection;
        // RFC 5927 section 4.1: what is quoted must be in flight.
        if !connection.is_in_flight(seq) {
            return false;
        }
        let changes = match news {
            News::TooBig(mtu) => {
                // RFC 8201 section 4: never raises the estimate.
                let family = connection.path().family;
                let mtu = mtu.max(family.mtu_min());
                if mtu < connection.path().mtu {
                    connection.path_changed(now, mtu);
                }
                Changes::empty()
            }
            News::Refused | News::NoNeighbour => connection.unreachable(now, true),
            News::Unreachable => connection.unreachable(now, false),
        };
        self.settle(core, handle, changes);
        true
    }

    /// Makes this shard's listeners those of the tables.
    pub(crate) fn refresh_listeners(&mut self, core: &mut Core) {
        let tables = self.tables.clone();
        let gone: Vec<_> = self
            .listeners
            .iter()
            .filter(|(place, handle)| {
                let entry = tables.listeners.get(place);
                let clone = core.sockets.get(**handle);
                match (entry, clone) {
                    (Some(entry), Some(Kind::Listen(socket))) => {
                        !std::sync::Arc::ptr_eq(&entry.budget, &socket.budget)
                    }
                    _ => true,
                }
            })
            .map(|(&place, &handle)| (place, handle))
            .collect();
        for (place, handle) in gone {
            self.listeners.remove(&place);
            self.drop_listener(core, handle);
        }
        for (&place, entry) in tables.listeners.iter() {
            if self.listeners.contains_key(&place) {
                continue;
            }
            let socket = ListenSocket {
                local: place.into(),
                budget: entry.budget.clone(),
                queue: VecDeque::new(),
            };
            if let Ok(handle) = core.sockets.insert(self.slot, Kind::Listen(socket)) {
                self.listeners.insert(place, handle);
            }
        }
    }

    /// Resets whoever was not accepted.
    fn drop_listener(&mut self, core: &mut Core, handle: SocketHandle) {
        let Some(Kind::Listen(socket)) = core.sockets.remove(handle) else { return };
        for waiting in socket.queue {
            self.abandon(core, waiting);
        }
    }
}
