//! Sockets of one shard: a slab with generations, and the list of what happened to them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use slab::Slab;
use tandem_device::Frame;
use tandem_packet::FourTuple;

use crate::error::{IoError, OpenError};
use crate::event::{Event, Readiness, SocketHandle};
use crate::flow::FlowKey;
use crate::limits;
use crate::namespace::Backlog;
use crate::shard::Egress;
use crate::tcp::Connection;
use crate::time::Instant;
use crate::wheel::TimerId;

/// A received datagram: the frame holds nothing but its payload.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: IpAddr,
    pub(crate) frame: Frame,
}

/// A datagram or echo socket.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    /// Local address, perhaps unspecified, and port (for echo: identifier).
    pub(crate) local: SocketAddr,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) queue: VecDeque<Datagram>,
    pub(crate) queue_bytes: usize,
    /// Datagrams that found the queue full.
    pub(crate) refused: u64,
    /// What an ICMP error said; told by the next call (RFC 1122 section 4.1.3.3).
    pub(crate) error: Option<IoError>,
    /// It is told when the interface's queue has room again.
    pub(crate) waits: bool,
    /// The way to the last peer that was sent to.
    pub(crate) way: Option<(SocketAddr, Egress)>,
}

impl DatagramSocket {
    pub(crate) fn new(local: SocketAddr) -> Self {
        Self {
            local,
            peer: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            refused: 0,
            error: None,
            waits: false,
            way: None,
        }
    }

    /// Whether there is room for so many bytes more.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.queue.len() < limits::DATAGRAM_QUEUE_LEN_MAX
            && self.queue_bytes + len <= limits::DATAGRAM_QUEUE_BYTES_MAX
    }

    pub(crate) fn take_error(&mut self) -> Result<(), IoError> {
        self.error.take().map_or(Ok(()), Err)
    }
}

/// A connection with its place in the tables.
#[derive(Debug)]
pub(crate) struct StreamSocket {
    pub(crate) connection: Connection,
    /// As this end sends: `src` is local.
    pub(crate) tuple: FourTuple,
    pub(crate) key: FlowKey,
    pub(crate) egress: Option<Egress>,
    /// The timer that is armed, and for when.
    pub(crate) timer: Option<(TimerId, Instant)>,
    /// It stands in a list of connections that want to send.
    pub(crate) listed: bool,
    /// The application closed it; it goes when its connection has ended.
    pub(crate) orphan: bool,
    /// The listener that began it, until it is accepted.
    pub(crate) parent: Option<Parent>,
    /// Interface that the peer's link-local address belongs to; 0 when there is none.
    pub(crate) scope: u16,
    /// When the neighbour was confirmed last.
    pub(crate) confirmed: Instant,
    /// Writes by reference that were acknowledged and not yet asked for.
    pub(crate) completed: u64,
}

impl StreamSocket {
    pub(crate) fn new(
        connection: Connection,
        tuple: FourTuple,
        egress: Egress,
        scope: u16,
        parent: Option<Parent>,
    ) -> Self {
        Self {
            connection,
            tuple,
            key: FlowKey::sent(&tuple),
            egress: Some(egress),
            timer: None,
            listed: false,
            orphan: false,
            parent,
            scope,
            confirmed: Instant::ZERO,
            completed: 0,
        }
    }
}

/// What ties a connection to its listener.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) listener: SocketHandle,
    pub(crate) budget: Arc<Backlog>,
    /// Counts in the half-open budget, else in the accept budget.
    pub(crate) half_open: bool,
}

/// One shard's clone of a listener.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    pub(crate) local: SocketAddr,
    pub(crate) budget: Arc<Backlog>,
    /// Set up and waiting to be accepted.
    pub(crate) queue: VecDeque<SocketHandle>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Udp(DatagramSocket),
    Echo(DatagramSocket),
    Stream(Box<StreamSocket>),
    Listen(ListenSocket),
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    net: u16,
    ready: Readiness,
    kind: Kind,
}

/// The sockets of one shard.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    slab: Slab<Entry>,
    generation: u32,
    /// Sockets with news, each once, so that there are never more than sockets.
    events: VecDeque<SocketHandle>,
}

impl Sockets {
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn insert(&mut self, net: u16, kind: Kind) -> Result<SocketHandle, OpenError> {
        if self.slab.len() >= limits::SOCKETS_MAX {
            return Err(OpenError::TooManySockets(limits::SOCKETS_MAX));
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index =
            self.slab.insert(Entry { generation, net, ready: Readiness::empty(), kind }) as u32;
        Ok(SocketHandle { index, generation })
    }

    fn entry(&self, handle: SocketHandle) -> Option<&Entry> {
        self.slab.get(handle.index as usize).filter(|entry| entry.generation == handle.generation)
    }

    fn entry_mut(&mut self, handle: SocketHandle) -> Option<&mut Entry> {
        self.slab
            .get_mut(handle.index as usize)
            .filter(|entry| entry.generation == handle.generation)
    }

    pub(crate) fn net(&self, handle: SocketHandle) -> Option<u16> {
        self.entry(handle).map(|entry| entry.net)
    }

    pub(crate) fn get(&self, handle: SocketHandle) -> Option<&Kind> {
        self.entry(handle).map(|entry| &entry.kind)
    }

    pub(crate) fn get_mut(&mut self, handle: SocketHandle) -> Option<&mut Kind> {
        self.entry_mut(handle).map(|entry| &mut entry.kind)
    }

    pub(crate) fn stream(&mut self, handle: SocketHandle) -> Option<&mut StreamSocket> {
        match self.get_mut(handle) {
            Some(Kind::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn listener(&mut self, handle: SocketHandle) -> Option<&mut ListenSocket> {
        match self.get_mut(handle) {
            Some(Kind::Listen(listener)) => Some(listener),
            _ => None,
        }
    }

    /// UDP and echo sockets alike.
    pub(crate) fn datagram(&mut self, handle: SocketHandle) -> Option<&mut DatagramSocket> {
        match self.get_mut(handle) {
            Some(Kind::Udp(socket) | Kind::Echo(socket)) => Some(socket),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, handle: SocketHandle) -> Option<Kind> {
        self.entry(handle)?;
        Some(self.slab.remove(handle.index as usize).kind)
    }

    /// Notes that a socket became ready; it is listed once however often that happens.
    pub(crate) fn signal(&mut self, handle: SocketHandle, ready: Readiness) {
        let Some(entry) = self.entry_mut(handle) else { return };
        let quiet = entry.ready.is_empty();
        entry.ready |= ready;
        if quiet && !ready.is_empty() {
            // Sockets that went without being asked after leave their names behind.
            if self.events.len() > 2 * self.slab.len() + 64 {
                let slab = &self.slab;
                self.events.retain(|handle| {
                    slab.get(handle.index as usize)
                        .is_some_and(|entry| entry.generation == handle.generation)
                });
            }
            self.events.push_back(handle);
        }
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        while let Some(handle) = self.events.pop_front() {
            // Sockets that went meanwhile have no news.
            if let Some(entry) = self.entry_mut(handle) {
                let ready = std::mem::take(&mut entry.ready);
                if !ready.is_empty() {
                    return Some(Event { socket: handle, ready });
                }
            }
        }
        None
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }
}
