//! RTL against reference.
//!
//! A scenario, drawn from a seed, is a driver and a network that behave well, badly or out of their minds:
//! frames of all kinds, rings of all sizes and shapes, hostile descriptors, memory with errors, resets at any
//! moment. The RTL runs it; [`judge::Judge`] follows its decision trace, its DMA requests and its frames,
//! asks of each decision whether the standard and `hw-model/rtl/README.md` allow it there, computes the
//! bytes with the parts of `tandem_reference`, and compares. [`registers`] puts the same register accesses to
//! both models.
//!
//! A failure names the seed and the command that replays it.

#![forbid(unsafe_code)]

pub mod campaign;
pub mod driver;
pub mod judge;
pub mod memory;
pub mod registers;
pub mod scenario;
pub mod traffic;
pub mod wire;
