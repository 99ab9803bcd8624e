//! Everything that a peer, a guest or a caller can make grow, and how far.
//!
//! Beside each limit stands the counter of [`crate::NamespaceStats`] or [`crate::DropReason`] that
//! tells how often it refused.

use std::time::Duration;

/// Interfaces of a namespace. Refused with [`crate::ConfigError::TooMany`].
pub const INTERFACES_MAX: usize = 64;
/// Addresses of an interface. Refused with [`crate::ConfigError::TooMany`].
pub const ADDRESSES_MAX: usize = 32;
/// Routes of a namespace. Refused with [`crate::ConfigError::TooMany`].
pub const ROUTES_MAX: usize = 1 << 20;
/// Permanent neighbours of a namespace. Refused with [`crate::ConfigError::TooMany`].
pub const STATIC_NEIGHBOURS_MAX: usize = 4096;

/// Sockets of all kinds on one shard. Refused with [`crate::OpenError::TooManySockets`].
pub const SOCKETS_MAX: usize = 1 << 20;
/// Bytes of payload that wait in one datagram socket's receive queue ([`crate::DropReason::SocketFull`]).
pub const DATAGRAM_QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Datagrams that wait in one socket's receive queue ([`crate::DropReason::SocketFull`]).
pub const DATAGRAM_QUEUE_LEN_MAX: usize = 512;
/// Largest backlog of a listener: connections set up and not yet accepted, all shards together
/// (`accept_overflows`).
pub const BACKLOG_MAX: u32 = 4096;
/// Connections of one listener that are still in their handshake, all shards together
/// (`syn_overflows`).
pub const HALF_OPEN_MAX: u32 = 1024;
/// Connections in TIME-WAIT of one namespace on one shard (`time_wait_evicted`).
pub const TIME_WAIT_MAX: usize = 16 * 1024;

/// Neighbours of one namespace on one shard (`neighbours_evicted`, `neighbours_refused`).
pub const NEIGHBOURS_MAX: usize = 1024;
/// Packets that wait for one neighbour's address ([`crate::DropReason::NeighbourQueueFull`]).
pub const NEIGHBOUR_PENDING_MAX: usize = 8;
/// Slots that are looked at to find a neighbour to evict.
pub const NEIGHBOUR_EVICT_SCAN: usize = 32;

/// Frames that wait for one interface's device ([`crate::NamespaceStats::tx_queue_full`]).
pub const TX_QUEUE_MAX: usize = 1024;
/// Frames that wait in the loopback of one shard ([`crate::NamespaceStats::tx_queue_full`]).
pub const LOOPBACK_QUEUE_MAX: usize = 1024;
/// Items in one shard's mailbox ([`crate::DropReason::MailboxFull`]).
pub const MAILBOX_MAX: usize = 4096;
/// Shards of a mesh.
pub const SHARDS_MAX: u16 = 256;

/// Ports tried for one active open before [`crate::OpenError::NoPort`].
pub const PORT_TRIES_MAX: u32 = 4096;
/// First ephemeral port (RFC 6335 section 6).
pub const EPHEMERAL_PORT_MIN: u16 = 49152;

/// ICMP errors that may be sent at once (`icmp_errors_limited`).
pub const ICMP_BURST: u32 = 50;
/// ICMP errors per second in the long run (`icmp_errors_limited`).
pub const ICMP_PER_SECOND: u32 = 1000;

/// Bytes of headers that are copied out of frames of an untrusted device before parsing. Longer
/// headers count as malformed.
pub const HEADER_COPY_LEN: usize = 192;
/// Free bytes in front of what the stack builds: an Ethernet header with two tags, and what drivers
/// put before it.
pub const HEADROOM: usize = 64;
/// Largest super-segment in bytes, IP header included: what a 16-bit length can say.
pub const GSO_BYTES_MAX: usize = 65_535;

/// How long a neighbour counts as reachable after a confirmation (RFC 4861 section 10,
/// REACHABLE_TIME); spread by 0.5 to 1.5 (MIN_RANDOM_FACTOR, MAX_RANDOM_FACTOR).
pub const REACHABLE_TIME: Duration = Duration::from_secs(30);
/// From the first use of a stale neighbour to the first probe (DELAY_FIRST_PROBE_TIME).
pub const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// Between solicitations (RETRANS_TIMER).
pub const RETRANS_TIMER: Duration = Duration::from_secs(1);
/// Solicitations before a neighbour counts as unreachable (MAX_MULTICAST_SOLICIT,
/// MAX_UNICAST_SOLICIT).
pub const SOLICITS_MAX: u8 = 3;
