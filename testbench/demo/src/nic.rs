//! Making a NIC of either model in its cosimulation.

use std::path::PathBuf;

use anyhow::Result;
use tandem_contract::nic::{Nic, NicParams};
use tandem_cosim::{Clock, Cosim, HostMemory, InProcess, MemoryConfig, RegionTable, Wire};
use tandem_reference::ReferenceNic;

/// A NIC of either model.
pub type AnyNic = Box<dyn Nic + Send>;

/// Which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// The verilated RTL.
    Rtl,
    /// The plain Rust reference.
    Reference,
}

impl Model {
    /// The RTL where this program was built with it, else the reference.
    pub fn best() -> Self {
        if cfg!(feature = "rtl") { Self::Rtl } else { Self::Reference }
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtl => "rtl",
            Self::Reference => "reference",
        }
    }
}

/// A short wave to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// File.
    pub path: PathBuf,
    /// From the departure of this frame on, counted from 0.
    pub from_departure: u64,
    /// Cycles.
    pub cycles: u64,
}

/// Makes a NIC with a 512-bit data path.
///
/// # Errors
/// When this program was built without the RTL, or the model cannot be made.
pub fn nic(model: Model, wave: Option<&Wave>) -> Result<AnyNic> {
    match model {
        Model::Reference => Ok(Box::new(ReferenceNic::new(NicParams::default()))),
        #[cfg(feature = "rtl")]
        Model::Rtl => {
            use tandem_rtl_bindings::{Rtl, RtlOptions, WaveRequest, WaveStart};
            let mut options = RtlOptions::new(512);
            options.waves = wave.map(|wave| WaveRequest {
                path: wave.path.clone(),
                start: WaveStart::AtDeparture(wave.from_departure),
                cycles: wave.cycles,
            });
            Ok(Box::new(Rtl::new(options)?))
        }
        #[cfg(not(feature = "rtl"))]
        Model::Rtl => {
            let _ = wave;
            anyhow::bail!(
                "this program was built without the RTL; `cargo xtask demo` builds it with it"
            )
        }
    }
}

/// Puts a NIC into a cosimulation on a wire: 1 µs of memory latency, the clock runs when there is work.
pub fn wall_coupled(nic: AnyNic, wire: Wire) -> InProcess<AnyNic> {
    let memory = HostMemory::new(RegionTable::new(), MemoryConfig::default());
    InProcess::new(Cosim::new(nic, memory, wire, Clock::WallCoupled))
}
