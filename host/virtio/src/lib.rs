//! Driver side of virtio-net over a PCI transport trait: rings, negotiation, control.
//!
//! [`VirtioNet`] is a [`tandem_device::Device`] on any virtio 1.x network function that is reached
//! through a [`PciTransport`]. It takes packed or split rings, checksum and segmentation offload,
//! coalescing and mergeable buffers, as far as they are offered and [`VirtioConfig`] lets it.
//!
//! The device is not trusted: whatever it writes to its registers, rings or buffers, the driver
//! neither panics nor hangs nor gives out memory that the device still has. It ends in
//! [`tandem_device::DeviceError::NeedsReset`] or [`tandem_device::DeviceError::Gone`].
//!
//! Not here yet: the control queue (station address, receive modes, several queue pairs), indirect
//! descriptors, HASH_REPORT.
#![forbid(unsafe_code)]

mod features;
pub mod header;
mod layout;
mod net;
mod queue;
mod registers;
mod ring;
mod session;
#[cfg(test)]
mod testing;
mod transport;

pub use features::Features;
pub use layout::{Block, Layout, LayoutError};
pub use net::{VirtioConfig, VirtioNet};
pub use queue::RX_BUFFERS_MAX;
pub use registers::{RESET_POLLS_MAX, SetupError};
pub use session::REGIONS_MAX;
pub use transport::{PciTransport, TransportError, Width};
