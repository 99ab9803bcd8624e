//! Sans-I/O TCP/IP: shards, namespaces, interfaces, neighbours, routes, IP, ICMP, UDP, TCP, sockets.
//!
//! The stack is a pure function of its inputs. A `Shard` does no I/O, reads no clock and no random
//! source and starts no thread: frames, time, device capabilities and a seed are passed in; frames,
//! events and the next deadline come out. One shard is for one core; shards share a [`Namespace`]
//! (configuration and secrets) and hand each other, through bounded mailboxes, what landed on the
//! wrong one. Who owns what, and when, is in `docs/architecture/ownership.md`.
//!
//! # Shape of a poll loop
//!
//! ```text
//! loop {
//!     queue.receive(budget, &mut rx)?;            shard.receive(now, iface, &mut rx);
//!     queue.completed(&mut tokens)?;              shard.completed(&mut tokens);
//!     shard.turn(now, budget);                    // mail, timers, loopback
//!     while let Some(event) = shard.next_event() { ... call-style requests ... }
//!     shard.transmit(now, iface, room, &mut tx);  queue.transmit(&mut tx)?;
//!     for peer in shard.take_wakes() { wake that shard's thread }
//!     sleep until shard.next_deadline() unless there is work
//! }
//! ```
#![forbid(unsafe_code)]

mod error;
mod event;
mod flow;
pub mod limits;
mod mesh;
mod namespace;
mod neighbour;
mod random;
mod route;
mod shard;
mod socket;
mod stats;
pub mod tcp;
mod time;
mod wheel;

pub use error::{ConfigError, IoError, OpenError};
pub use event::{Event, Readiness, SocketHandle};
pub use mesh::Mesh;
pub use namespace::{
    IfaceId, IfaceKind, Interface, InterfaceConfig, Namespace, NamespaceConfig, NamespaceId,
};
pub use route::Route;
pub use shard::{ConnectOptions, Link, Received, Shard, ShardConfig, Turn};
pub use stats::{DropReason, NamespaceStats};
pub use time::Instant;
