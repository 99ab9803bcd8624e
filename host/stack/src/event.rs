//! Names of sockets, and what happened to them.

use std::fmt;

use bitflags::bitflags;

/// Names a socket of one shard. A handle of a closed socket never names a later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketHandle {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SocketHandle {
    /// One number, for a poll loop's own tables.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The handle that [`SocketHandle::to_bits`] made the number of.
    pub fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl fmt::Debug for SocketHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}.{}", self.index, self.generation)
    }
}

bitflags! {
    /// What a socket is ready for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct Readiness: u16 {
        /// A read makes progress: bytes or a datagram wait, or the end of the stream was reached.
        const READABLE = 1;
        /// A write makes progress after one that could not.
        const WRITABLE = 1 << 1;
        /// The connection is set up.
        const CONNECTED = 1 << 2;
        /// A connection waits to be accepted.
        const ACCEPT = 1 << 3;
        /// The peer sends no more.
        const PEER_CLOSED = 1 << 4;
        /// The connection ended, or an error waits to be fetched by the next call.
        const ERROR = 1 << 5;
        /// Both directions are closed and everything was acknowledged.
        const CLOSED = 1 << 6;
        /// A zero-copy send is done: the device no longer uses the payload.
        const SENT = 1 << 7;
    }
}

/// One socket's news since its last event. Readiness is edge-triggered: a flag comes once for each
/// change, so a caller reads or writes until it is told [`crate::IoError::WouldBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Which socket.
    pub socket: SocketHandle,
    /// What it became ready for.
    pub ready: Readiness,
}
