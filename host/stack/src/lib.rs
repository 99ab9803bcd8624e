//! Sans-I/O TCP/IP: shards, namespaces, interfaces, neighbours, routes, IP, ICMP, UDP, TCP, sockets.
//!
//! The stack is a pure function of its inputs. A [`Shard`] does no I/O, reads no clock and no random
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
//!
//! # Example
//!
//! A host that connects to itself. With a device the only difference is `receive` and `transmit`.
//!
//! ```
//! use tandem_device::{Pool, PoolConfig};
//! use tandem_stack::{
//!     ConnectOptions, Instant, Namespace, NamespaceConfig, NamespaceId, Readiness, Shard, ShardConfig,
//! };
//!
//! let id = NamespaceId(0);
//! // Secret and seed: from the system's random source in earnest.
//! let namespace = Namespace::new(NamespaceConfig { id, secret: [7; 16], shards: 1 });
//! let frames = Pool::new(PoolConfig::frames(256))?;
//! let payload = Pool::new(PoolConfig::payload(16))?;
//! let mut shard = Shard::new(ShardConfig::single(frames, payload, [9; 16]));
//! shard.join(&namespace);
//!
//! let mut now = Instant::from_millis(1);
//! let listener = shard.tcp_listen(id, "127.0.0.1:80".parse()?, 8)?;
//! let client =
//!     shard.tcp_connect(now, id, "127.0.0.1:80".parse()?, &ConnectOptions::default())?;
//! let mut greeting = [0; 5];
//! let mut read = 0;
//! while read < greeting.len() {
//!     shard.turn(now, 64);
//!     while let Some(event) = shard.next_event() {
//!         if event.socket == listener {
//!             let (server, _peer) = shard.tcp_accept(listener)?;
//!             shard.tcp_write(now, server, b"hello")?;
//!         } else if event.ready.contains(Readiness::READABLE) {
//!             read += shard.tcp_read(now, client, &mut greeting[read..])?;
//!         }
//!     }
//!     if !shard.wants_turn() && read < greeting.len() {
//!         now = shard.next_deadline().expect("a timer, since nothing else is left to wait for");
//!     }
//! }
//! assert_eq!(&greeting, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
