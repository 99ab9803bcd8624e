//! What the hardware does, and its exact twin in software: [`checksum`], segmentation
//! ([`segment`]) and coalescing ([`Coalescer`]).
//!
//! The stack always builds the offloaded form: partial checksums and super-segments. A [`Plan`],
//! made from a device's capabilities, says who turns them into what the wire carries, and
//! [`Offload`] is the one place, just above the device, where the software part happens:
//!
//! ```text
//! transmit   stack > Offload::transmit > Queue::transmit    only what the device will not do
//! receive    Queue::receive > Offload::receive > stack      only what the device did not do
//! ```
//!
//! When a device is replaced or renegotiated, [`Offload::set_caps`] makes the plan anew; frames
//! that the stack built before stay good.
//!
//! Coalescing obeys the rule of Linux's `NETIF_F_GRO_HW`: what is merged must be re-segmentable
//! into exactly the packets that arrived, byte for byte.
#![forbid(unsafe_code)]

pub mod checksum;
mod coalesce;
mod counters;
mod offload;
mod plan;
mod segment;

pub use coalesce::{Coalescer, FLOWS_MAX, Refusal};
pub use counters::{Counters, Drops, Flushes};
pub use offload::Offload;
pub use plan::{Choice, Plan, Policy, RxPlan, TxPlan, Who};
pub use segment::{HEADERS_LEN_MAX, SEGMENTS_MAX, SegmentError, SegmentSum, segment};
