//! Packet formats: per protocol a checked view over bytes and a plain-data `Repr` of what they mean.
//!
//! The crate does no I/O, allocates nothing and knows no checksum arithmetic: a `Repr` emits the
//! checksum field that it is given (zero by default), and `tandem-offload` completes or verifies it.
//!
//! # The panic contract, once for all modules
//!
//! - `View::new` checks every length and every discriminating field (version, header length,
//!   length fields against the buffer). It never panics. After it succeeded no accessor panics.
//! - `Repr::parse` never panics; it refuses with a [`ParseError`] that names protocol and field.
//! - Iterators over options and extension headers end after a bounded number of items and yield at
//!   most one error, as their last item.
//! - `Repr::emit` panics when the buffer is shorter than `header_len()`, or when a value does not
//!   fit its field on the wire (each such field says so). It writes exactly `header_len()` bytes.
//!
//! # Views, raw headers and the walker
//!
//! The raw fixed headers ([`Ipv4Header`], [`TcpHeader`], ...) are `zerocopy` structs with public
//! fields in network order; `Ipv4Header::mut_from_prefix(bytes)` edits a header in place.
//! [`Headers::parse`] walks a whole Ethernet frame once and yields offsets, kinds, addresses and
//! ports; it is what demultiplexing, offload and the reference NIC begin with.
#![no_std]
#![forbid(unsafe_code)]

mod address;
pub mod arp;
mod error;
pub mod ethernet;
pub mod headers;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_ext;
pub mod ndp;
mod number;
pub mod tcp;
pub mod tcp_options;
pub mod udp;
pub mod virtio_net_hdr;
pub mod vlan;

pub use address::{FourTuple, MacAddr};
pub use arp::{ArpHeader, ArpOperation, ArpRepr, ArpView};
pub use error::{ParseError, Protocol, Result};
pub use ethernet::{EthernetHeader, EthernetRepr, EthernetView};
pub use headers::{Fragment, Headers, Network, Transport};
pub use icmpv4::{Icmpv4Header, Icmpv4Repr, Icmpv4View};
pub use icmpv6::{Icmpv6Header, Icmpv6Repr, Icmpv6View};
pub use ipv4::{Ipv4Header, Ipv4Options, Ipv4Repr, Ipv4View};
pub use ipv6::{Ipv6Header, Ipv6Repr, Ipv6View};
pub use ipv6_ext::{ExtHeader, ExtHeaders, FragmentRepr, Ipv6Option, Ipv6Options};
pub use ndp::{NdpOption, NdpOptions, NdpRepr, PrefixInformation};
pub use number::{Ecn, EtherType, IpProtocol};
pub use tcp::{SeqNumber, TcpFlags, TcpHeader, TcpRepr, TcpView};
pub use tcp_options::{
    AccEcn, AccEcnOrder, FastOpenCookie, SackBlock, SackBlocks, TcpOption, TcpOptionIter,
    TcpOptions, TcpTimestamps,
};
pub use udp::{UdpHeader, UdpRepr, UdpView};
pub use virtio_net_hdr::{GsoType, VirtioNetFlags, VirtioNetHeader, VirtioNetRepr, VirtioNetView};
pub use vlan::{VlanTag, VlanTags};

/// The raw headers are `zerocopy` types; the traits to read and edit them in place come from here.
pub use zerocopy;
