//! The NIC as plain Rust: the twin against which the RTL is judged, and a device to run without it.
//!
//! Written from the virtio standard and from the words in `hw-model/rtl/README.md`, not from the RTL, with
//! arithmetic of its own. What it decides is spread over small pure parts, so that a checker can take
//! the decisions from another model's trace and still compute the bytes here:
//!
//! - [`receive`]: filter and checksum verdict of a frame from the wire;
//! - [`transmit`]: the checksum that a frame asks for;
//! - [`ring`]: the device's side of a packed virtqueue over any [`memory::Memory`];
//! - [`registers`], [`msix`], [`config`]: what the driver sees of the function;
//! - [`ReferenceNic`]: all of it behind the `Nic` trait, one thing after the other.

#![forbid(unsafe_code)]

pub mod config;
mod counters;
pub mod memory;
pub mod msix;
mod nic;
pub mod receive;
pub mod registers;
pub mod ring;
mod sum;
pub mod transmit;

pub use counters::Counters;
pub use nic::ReferenceNic;
