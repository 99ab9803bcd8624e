//! Our driver on a cosimulated NIC, with traffic: for benches, and for tests that want a working whole.

#![forbid(unsafe_code)]

mod rig;

pub use rig::{Carried, FRAME_LEN_MIN, Rig, RigError, Simulated};
