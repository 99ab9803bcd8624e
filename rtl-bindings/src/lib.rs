//! Verilated RTL as safe Rust.
//!
//! [`Model`] is one instance of any verilated top: it gives access to the ports by name and evaluates.
//! Which tops there are is said in `models.list` and in the RTL's `tops/blocks.list`; [`models`] holds
//! one constant for each. [`Rtl`] drives the whole NIC and implements
//! [`tandem_contract::nic::Nic`](tandem_contract::nic::Nic): it turns the handshakes of AXI4,
//! AXI4-Lite and AXI4-Stream into bursts, accesses and frames, and holds the NIC to their rules.

mod model;
mod rtl;

pub use model::{Model, ModelDef, ModelError, ModelOptions, Port, PortDef};
pub use rtl::{
    ACCESS_CYCLES_MAX, HANG_CYCLES, NS_PER_CYCLE, Rtl, RtlError, RtlOptions, RtlStats, Stalls,
    TRACE_EVENTS_MAX, WaveRequest, WaveStart,
};

/// The models of this build; one constant each, and [`ALL`](models::ALL).
pub mod models {
    use crate::model::{ModelDef, PortDef};
    use std::ffi::{c_uint, c_void};

    include!(concat!(env!("OUT_DIR"), "/models.rs"));

    /// The model of this name, if the crate's features include it.
    pub fn by_name(name: &str) -> Option<&'static ModelDef> {
        ALL.iter().copied().find(|model| model.name == name)
    }
}
