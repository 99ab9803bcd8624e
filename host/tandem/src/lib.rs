//! Tandem for its users: a TCP/IP stack in user space over any device that carries frames.
//!
//! [`Runtime`] is a poll loop around one shard of the stack: devices are attached to it as interfaces,
//! sockets are opened on its [`Runtime::shard`], and each [`Runtime::poll`] moves frames both ways
//! once. A device that vanishes does not take connections with it: [`Runtime::replace`] puts
//! another in its place, or a standby takes over by itself.
//!
//! [`blocking`] has sockets for programs that want to wait; [`trace`] reads what a cosimulation left
//! about each frame.

#![forbid(unsafe_code)]

pub mod blocking;
mod clock;
mod runtime;
pub mod trace;

pub use clock::WallClock;
pub use runtime::{Address, AttachError, Failover, PollError, Polled, Runtime, RuntimeConfig};
