//! Device implementations: virtio over vfio-user, TAP, in-process pairs, pcap files.
//!
//! - [`tap::Tap`]: the kernel's stack on the other end, with checksum and segmentation offload.
//! - [`vfio_user::VfioUser`]: a PCI function served on a UNIX socket, for
//!   [`tandem_virtio::VirtioNet`] to drive.
//! - [`pair::pair`] and [`pair::loopback`]: frames that never leave the process.
//! - [`pcap::Pcap`]: frames from a capture file, and into one.

mod counters;
pub mod pair;
pub mod pcap;
pub mod tap;
pub mod vfio_user;
