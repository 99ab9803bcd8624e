//! Why a request was refused.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

/// Why a namespace could not be configured so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No such interface.
    #[error("namespace {namespace} has no interface {index}")]
    NoInterface {
        /// Which namespace.
        namespace: u32,
        /// Which interface.
        index: u16,
    },
    /// The name is taken.
    #[error("an interface is called {name} already")]
    NameTaken {
        /// Which name.
        name: String,
    },
    /// The address is there already, or cannot be an interface's.
    #[error("{address} cannot be an address of {name}: {why}")]
    BadAddress {
        /// Which address.
        address: IpAddr,
        /// Of which interface.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A gateway must be of the prefix's family and a single station.
    #[error("{gateway} cannot be the gateway of {prefix}")]
    BadGateway {
        /// Which gateway.
        gateway: IpAddr,
        /// Of which prefix.
        prefix: ipnet::IpNet,
    },
    /// Nothing there to be removed.
    #[error("{what} is not there")]
    NotThere {
        /// What.
        what: String,
    },
    /// A limit of [`crate::limits`].
    #[error("at most {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
}

/// Why a socket could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The shard did not join this namespace.
    #[error("the shard did not join namespace {0}")]
    NotJoined(u32),
    /// Address and port are taken.
    #[error("{0} is in use already")]
    InUse(SocketAddr),
    /// The address belongs to no interface of the namespace.
    #[error("{0} is no address of this namespace")]
    NotLocal(IpAddr),
    /// No route leads to the peer.
    #[error("no route to {0}")]
    NoRoute(IpAddr),
    /// The peer cannot be that: unspecified, multicast, broadcast, or port 0.
    #[error("{0} cannot be a peer")]
    BadPeer(SocketAddr),
    /// No free ephemeral port was found.
    #[error("no free port towards {0}")]
    NoPort(SocketAddr),
    /// With this local port the connection would live on another shard; open it there.
    #[error("a connection from {local} to {remote} lives on shard {home}")]
    WrongShard {
        /// Wanted local address.
        local: SocketAddr,
        /// Peer.
        remote: SocketAddr,
        /// Where to open it.
        home: u16,
    },
    /// [`crate::limits::SOCKETS_MAX`].
    #[error("the shard has {0} sockets already")]
    TooManySockets(usize),
}

/// Why a request to a socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IoError {
    /// The handle names no socket (any more), or one of another kind.
    #[error("no such socket")]
    BadHandle,
    /// Not now; an event will tell.
    #[error("would block")]
    WouldBlock,
    /// No peer was named, and the socket has none; or the connection is not set up yet.
    #[error("not connected")]
    NotConnected,
    /// The peer cannot be that: unspecified, of another family, or port 0.
    #[error("bad peer address")]
    BadPeer,
    /// The sending side was closed by this end.
    #[error("the sending side is closed")]
    SendClosed,
    /// The peer reset the connection.
    #[error("connection reset by peer")]
    Reset,
    /// The peer refused the connection, or nothing listens on the port of a datagram.
    #[error("connection refused")]
    Refused,
    /// The peer did not answer in time.
    #[error("timed out")]
    TimedOut,
    /// The network says that the peer cannot be reached.
    #[error("host unreachable")]
    Unreachable,
    /// No route leads to the peer.
    #[error("no route to host")]
    NoRoute,
    /// The datagram does not fit the path; the stack does not fragment what it sends.
    #[error("a datagram of {len} bytes exceeds the path's {max}")]
    TooLong {
        /// Its payload in bytes.
        len: usize,
        /// Largest payload in bytes.
        max: usize,
    },
    /// The pool has no free buffer.
    #[error("no buffers")]
    NoBuffers,
    /// This end aborted the connection.
    #[error("connection aborted")]
    Aborted,
}
