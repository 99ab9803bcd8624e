//! The vfio-user protocol, both ends: messages, client, server.
//!
//! vfio-user presents a PCI device that one process implements to another process, over a UNIX socket: region
//! accesses and interrupts travel as messages and eventfds, and the client's memory is shared as files that the
//! server maps, or moved by messages where there is no file. QEMU's `vfio-user-pci` (10.1 and newer) speaks it.
//!
//! * [`server::Server`] with a [`server::Device`] behind it: the device's end.
//! * [`client::Client`]: the driver's end.
//! * [`message`]: the layouts, for both.
//!
//! Both ends can be polled and neither trusts the other: sizes, descriptors, queues and waiting are bounded, and
//! each bound has a name and a counter.
//!
//! Of the protocol these are not implemented: migration and dirty pages, the twin socket, ioeventfds for parts of
//! regions, eventfds that report masking.

pub mod client;
pub mod dma;
pub mod irq;
pub mod memory;
pub mod message;
pub mod pci;
pub mod server;
pub mod socket;

pub use rustix::io::Errno;
