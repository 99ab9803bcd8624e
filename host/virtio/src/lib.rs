//! Driver side of virtio-net over a PCI transport trait: rings, negotiation, control.
#![forbid(unsafe_code)]

mod transport;

pub use transport::{PciTransport, TransportError, Width};
