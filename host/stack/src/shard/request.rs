//! What applications ask of TCP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tandem_device::{Frame, Payload};
use tandem_packet::FourTuple;

use super::datagram::{scope_of, socket_addr};
use super::net::Net;
use super::{Core, Shard};
use crate::error::{IoError, OpenError};
use crate::event::SocketHandle;
use crate::flow::{self, FlowKey};
use crate::limits;
use crate::namespace::{Backlog, ListenerEntry, NamespaceId};
use crate::random::{Purpose, keyed};
use crate::socket::{Kind, StreamSocket};
use crate::tcp::{Changes, ConnectionError, Info, ReadError, State, WriteError};
use crate::time::Instant;

/// Wishes for an active open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectOptions {
    /// Local address, unspecified to leave the choice; port 0 likewise.
    pub local: Option<SocketAddr>,
}

impl From<ConnectionError> for IoError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Refused => Self::Refused,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Unreachable => Self::Unreachable,
            ConnectionError::Aborted => Self::Aborted,
        }
    }
}

impl From<ReadError> for IoError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::WouldBlock => Self::WouldBlock,
            ReadError::Connection(error) => error.into(),
        }
    }
}

impl From<WriteError> for IoError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::WouldBlock => Self::WouldBlock,
            WriteError::Pool(_) => Self::NoBuffers,
            WriteError::Closed => Self::SendClosed,
            WriteError::Connection(error) => error.into(),
        }
    }
}

/// Requests to TCP sockets.
impl Shard {
    /// Opens a connection. [`crate::Readiness::CONNECTED`] tells when it is set up,
    /// [`crate::Readiness::ERROR`] that it failed; the next read or write says why.
    ///
    /// # Errors
    /// See [`OpenError`]. [`OpenError::WrongShard`] only with a port of the caller's choice; otherwise a
    /// port is picked whose answers come to this shard.
    pub fn tcp_connect(
        &mut self,
        now: Instant,
        namespace: NamespaceId,
        remote: SocketAddr,
        options: &ConnectOptions,
    ) -> Result<SocketHandle, OpenError> {
        self.core.at(now);
        let (net, core) = self.net(namespace).ok_or(OpenError::NotJoined(namespace.0))?;
        let broadcast = matches!(remote.ip(), IpAddr::V4(address) if address.is_broadcast());
        if remote.port() == 0
            || remote.ip().is_unspecified()
            || remote.ip().is_multicast()
            || broadcast
        {
            return Err(OpenError::BadPeer(remote));
        }
        let wanted = options.local.filter(|local| !local.ip().is_unspecified());
        if let Some(local) = wanted {
            if local.is_ipv4() != remote.is_ipv4() {
                return Err(OpenError::BadPeer(remote));
            }
            net.can_bind(local.ip())?;
        }
        let scope = scope_of(&remote);
        let src = wanted.map(|local| local.ip());
        let egress = net
            .route(core, remote.ip(), src, scope)
            .map_err(|_| OpenError::NoRoute(remote.ip()))?;
        let port = options.local.map_or(0, |local| local.port());
        let tuple = FourTuple {
            src: egress.src,
            dst: remote.ip(),
            src_port: port,
            dst_port: remote.port(),
        };
        let tuple = if port == 0 {
            net.free_port(core, tuple).ok_or(OpenError::NoPort(remote))?
        } else {
            let local = SocketAddr::from((tuple.src, port));
            let home = flow::home(&tuple.reversed(), None, net.shared.shards);
            if home != core.index {
                return Err(OpenError::WrongShard { local, remote, home });
            }
            if net.flows.contains(&FlowKey::sent(&tuple)) {
                return Err(OpenError::InUse(local));
            }
            tuple
        };
        net.open_active(core, tuple, egress, scope)
            .ok_or(OpenError::TooManySockets(limits::SOCKETS_MAX))
    }

    /// Listens on a local address (or the unspecified one) and port, on all shards of the namespace;
    /// each has its own queue of what it set up, and all share one backlog of 1 to
    /// [`limits::BACKLOG_MAX`]. The handle is this shard's; [`Shard::tcp_listener`] finds another's.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn tcp_listen(
        &mut self,
        namespace: NamespaceId,
        local: SocketAddr,
        backlog: u32,
    ) -> Result<SocketHandle, OpenError> {
        let (net, core) = self.net(namespace).ok_or(OpenError::NotJoined(namespace.0))?;
        net.can_bind(local.ip())?;
        if core.sockets.len() >= limits::SOCKETS_MAX {
            return Err(OpenError::TooManySockets(limits::SOCKETS_MAX));
        }
        let start = core.random.next_u32();
        let span = u32::from(u16::MAX - limits::EPHEMERAL_PORT_MIN) + 1;
        let tries = if local.port() == 0 { limits::PORT_TRIES_MAX } else { 1 };
        let budget = Arc::new(Backlog {
            limit: backlog.clamp(1, limits::BACKLOG_MAX),
            waiting: AtomicU32::new(0),
            half_open: AtomicU32::new(0),
        });
        let place = net.shared.change(|tables| {
            let listeners = Arc::make_mut(&mut tables.listeners);
            for n in 0..tries {
                let port = match local.port() {
                    0 => limits::EPHEMERAL_PORT_MIN + (start.wrapping_add(n) % span) as u16,
                    port => port,
                };
                let place = (local.ip(), port);
                if let std::collections::hash_map::Entry::Vacant(entry) = listeners.entry(place) {
                    entry.insert(ListenerEntry { budget: budget.clone() });
                    return Ok(place);
                }
            }
            Err(OpenError::InUse(local))
        })?;
        net.refresh(core);
        net.listeners.get(&place).copied().ok_or(OpenError::TooManySockets(limits::SOCKETS_MAX))
    }

    /// This shard's clone of a listener that was opened on any shard.
    pub fn tcp_listener(
        &mut self,
        namespace: NamespaceId,
        local: SocketAddr,
    ) -> Option<SocketHandle> {
        let (net, _) = self.net(namespace)?;
        net.listeners.get(&(local.ip(), local.port())).copied()
    }

    /// Takes a connection that this shard set up for a listener: its handle and its peer.
    ///
    /// # Errors
    /// [`IoError::WouldBlock`] when there is none, [`IoError::BadHandle`].
    pub fn tcp_accept(
        &mut self,
        listener: SocketHandle,
    ) -> Result<(SocketHandle, SocketAddr), IoError> {
        let sockets = &mut self.core.sockets;
        loop {
            let socket = sockets.listener(listener).ok_or(IoError::BadHandle)?;
            let handle = socket.queue.pop_front().ok_or(IoError::WouldBlock)?;
            if let Some(stream) = sockets.stream(handle) {
                if let Some(parent) = stream.parent.take() {
                    parent.budget.return_waiting();
                }
                let peer = socket_addr(stream.tuple.dst, stream.tuple.dst_port, stream.scope);
                return Ok((handle, peer));
            }
        }
    }

    /// The connection of a handle, with its namespace's part of the shard.
    fn stream(&mut self, handle: SocketHandle) -> Result<(&mut Net, &mut Core), IoError> {
        let (net, core) = self.net_of(handle).ok_or(IoError::BadHandle)?;
        match core.sockets.stream(handle) {
            Some(stream) if !stream.orphan => Ok((net, core)),
            _ => Err(IoError::BadHandle),
        }
    }

    /// Asks something of a connection, and sees to what follows.
    fn ask<T>(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        request: impl FnOnce(&mut StreamSocket, &tandem_device::Pool, Instant) -> (T, Changes),
    ) -> Result<T, IoError> {
        self.core.at(now);
        let (net, core) = self.stream(handle)?;
        let payload = core.payload.clone();
        let now = core.now;
        let stream = core.sockets.stream(handle).ok_or(IoError::BadHandle)?;
        let (answer, changes) = request(stream, &payload, now);
        net.settle(core, handle, changes);
        Ok(answer)
    }

    /// Reads by copy. 0 is the end of the stream (or an empty buffer).
    ///
    /// # Errors
    /// [`IoError::WouldBlock`], or why the connection failed, after everything that came before.
    pub fn tcp_read(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        buffer: &mut [u8],
    ) -> Result<usize, IoError> {
        let read = self
            .ask(now, handle, |stream, _, _| (stream.connection.read(buffer), Changes::empty()));
        read?.map_err(IoError::from)
    }

    /// Reads by borrowing: shows `reader` the first bytes as they lie in the frame they came in, and
    /// drops as many as it says that it took. An empty slice when there is nothing.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_read_with<T>(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        reader: impl FnOnce(&[u8]) -> (usize, T),
    ) -> Result<T, IoError> {
        self.ask(now, handle, |stream, _, _| {
            let bytes = stream.connection.read_payload();
            let len = bytes.len();
            let (taken, answer) = reader(bytes);
            stream.connection.consume(taken.min(len));
            (answer, Changes::empty())
        })
    }

    /// Reads by moving: the first frame, with nothing but payload in it. `None` at the end of the stream.
    ///
    /// # Errors
    /// As [`Shard::tcp_read`].
    pub fn tcp_read_frame(
        &mut self,
        now: Instant,
        handle: SocketHandle,
    ) -> Result<Option<Frame>, IoError> {
        let read = self
            .ask(now, handle, |stream, _, _| (stream.connection.read_frame(), Changes::empty()));
        read?.map_err(IoError::from)
    }

    /// Writes by copy; returns how many bytes were taken, at least one of a buffer that is not empty.
    ///
    /// # Errors
    /// [`IoError::WouldBlock`] ([`crate::Readiness::WRITABLE`] will tell), [`IoError::NoBuffers`] (try
    /// after the next turn), [`IoError::SendClosed`], or why the connection failed.
    pub fn tcp_write(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        bytes: &[u8],
    ) -> Result<usize, IoError> {
        let written = self.ask(now, handle, |stream, pool, _| {
            (stream.connection.write(pool, bytes), Changes::empty())
        });
        written?.map_err(IoError::from)
    }

    /// Writes by reference, all or nothing. [`crate::Readiness::SENT`] tells that one or more such writes
    /// are acknowledged; [`Shard::tcp_completed`] how many.
    ///
    /// # Errors
    /// As [`Shard::tcp_write`]; the payload comes back.
    pub fn tcp_write_payload(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        payload: Payload,
    ) -> Result<(), (IoError, Option<Payload>)> {
        let written = self.ask(now, handle, |stream, _, _| {
            (stream.connection.write_payload(payload, Some(0)), Changes::empty())
        });
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err((error, payload))) => Err((error.into(), Some(payload))),
            Err(error) => Err((error, None)),
        }
    }

    /// How many writes by reference were acknowledged since the last call.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_completed(&mut self, handle: SocketHandle) -> Result<u64, IoError> {
        let stream = self.core.sockets.stream(handle).ok_or(IoError::BadHandle)?;
        Ok(std::mem::take(&mut stream.completed))
    }

    /// Sends no more: a FIN follows what is queued. Reading goes on.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_shutdown(&mut self, now: Instant, handle: SocketHandle) -> Result<(), IoError> {
        self.ask(now, handle, |stream, _, now| ((), stream.connection.shutdown_write(now)))
    }

    /// Resets the connection and closes the handle.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_abort(&mut self, now: Instant, handle: SocketHandle) -> Result<(), IoError> {
        self.core.at(now);
        let (net, core) = self.stream(handle)?;
        net.abandon(core, handle);
        Ok(())
    }

    /// Switches the Nagle algorithm off or on.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_set_nodelay(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        nodelay: bool,
    ) -> Result<(), IoError> {
        self.ask(now, handle, |stream, _, _| {
            stream.connection.set_nodelay(nodelay);
            ((), Changes::empty())
        })
    }

    /// Sets the limits of the buffers in bytes.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_set_buffers(
        &mut self,
        now: Instant,
        handle: SocketHandle,
        send_bytes_max: u32,
        receive_bytes_max: u32,
    ) -> Result<(), IoError> {
        self.ask(now, handle, |stream, _, _| {
            stream.connection.set_send_buffer(send_bytes_max);
            stream.connection.set_receive_buffer(receive_bytes_max);
            ((), Changes::empty())
        })
    }

    /// Everything about a connection at a glance.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_info(&mut self, handle: SocketHandle) -> Result<Info, IoError> {
        let stream = self.core.sockets.stream(handle).ok_or(IoError::BadHandle)?;
        Ok(stream.connection.info())
    }

    /// State of a connection.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn tcp_state(&mut self, handle: SocketHandle) -> Result<State, IoError> {
        let stream = self.core.sockets.stream(handle).ok_or(IoError::BadHandle)?;
        Ok(stream.connection.state())
    }

    /// Connections in TIME-WAIT that have become entries of their own.
    pub fn tcp_time_waits(&self, namespace: NamespaceId) -> usize {
        self.slot(namespace).map_or(0, |slot| self.nets[slot].flows.time_waits())
    }

    /// Closes a socket of any kind. The handle names nothing afterwards. A connection still delivers
    /// what was written; a listener is closed on all shards, and who was not accepted is reset.
    ///
    /// # Errors
    /// [`IoError::BadHandle`].
    pub fn close(&mut self, now: Instant, handle: SocketHandle) -> Result<(), IoError> {
        self.core.at(now);
        let (net, core) = self.net_of(handle).ok_or(IoError::BadHandle)?;
        let now = core.now;
        match core.sockets.get_mut(handle) {
            Some(Kind::Udp(socket)) => {
                let place = (socket.local.ip(), socket.local.port());
                net.udp.remove(&place);
                core.sockets.remove(handle);
                if net.shared.shards > 1 {
                    net.release_udp(place);
                }
            }
            Some(Kind::Echo(socket)) => {
                net.echoes.remove(&socket.local.port());
                core.sockets.remove(handle);
            }
            Some(Kind::Listen(socket)) => {
                let place = (socket.local.ip(), socket.local.port());
                let closed = net.shared.change(|tables| {
                    Arc::make_mut(&mut tables.listeners).remove(&place).ok_or(IoError::BadHandle)
                });
                net.refresh(core);
                closed?;
            }
            Some(Kind::Stream(stream)) if !stream.orphan => {
                stream.orphan = true;
                let changes = stream.connection.close(now);
                net.settle(core, handle, changes);
            }
            _ => return Err(IoError::BadHandle),
        }
        Ok(())
    }
}

impl Net {
    /// A local port for an active open: the double-hash selection of RFC 6056 section 3.3.4, and with
    /// several shards one whose answers come to this one.
    fn free_port(&mut self, core: &Core, mut tuple: FourTuple) -> Option<FourTuple> {
        let secret = self.shared.secret;
        let offset = keyed(&secret, Purpose::PortOffset, &tuple) as u32;
        let counter =
            keyed(&secret, Purpose::PortIndex, &tuple) as usize % self.port_counters.len();
        let span = u32::from(u16::MAX - limits::EPHEMERAL_PORT_MIN) + 1;
        for _ in 0..limits::PORT_TRIES_MAX {
            let count = self.port_counters[counter];
            self.port_counters[counter] = count.wrapping_add(1);
            let port = offset.wrapping_add(u32::from(count)) % span;
            tuple.src_port = limits::EPHEMERAL_PORT_MIN + port as u16;
            let home = flow::home(&tuple.reversed(), None, self.shared.shards);
            if home == core.index && !self.flows.contains(&FlowKey::sent(&tuple)) {
                return Some(tuple);
            }
        }
        None
    }
}
