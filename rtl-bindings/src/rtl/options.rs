//! How an [`Rtl`](super::Rtl) is made.

use std::path::PathBuf;

use tandem_contract::nic::{Cycle, NicParams};
use thiserror::Error;

use super::RtlStats;
use crate::{ModelDef, ModelError, ModelOptions, models};

/// When waves begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveStart {
    /// At this cycle.
    AtCycle(Cycle),
    /// When the frame with this number, counted from 0, begins to arrive from the wire.
    AtArrival(u64),
    /// When the frame with this number, counted from 0, is the next to leave to the wire: after its
    /// predecessor's last beat, so that its way through the NIC is seen.
    AtDeparture(u64),
}

/// A piece of waves to write, as FST. The time in it is 4 ns a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveRequest {
    /// File to write.
    pub path: PathBuf,
    /// First cycle.
    pub start: WaveStart,
    /// Evaluated cycles to write; the file is closed after them.
    pub cycles: u64,
}

/// Random pauses of the memory side: the ready inputs fall and responses come late, which finds masters
/// that count on being served at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stalls {
    per_256: u8,
    state: u64,
}

impl Stalls {
    /// Pauses each channel with probability `per_256` / 256 a cycle. Results repeat for the same seed.
    pub fn new(per_256: u8, seed: u64) -> Self {
        // xorshift64 must not start at 0.
        Self { per_256, state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    #[inline]
    pub(super) fn roll(&mut self) -> bool {
        if self.per_256 == 0 {
            return false;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 32) as u8) < self.per_256
    }
}

/// How to make an [`Rtl`](super::Rtl).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtlOptions {
    /// Width of the data path in bits: one for which `models.list` has a line.
    pub data_w_bits: u32,
    /// Waves to write; takes the slower, traced model (feature `waves`).
    pub waves: Option<WaveRequest>,
    /// Takes the traced model although no waves are asked for yet.
    pub traced: bool,
    /// Fills all registers with random values before reset.
    pub random_state: Option<u32>,
    /// Pauses of the memory side.
    pub stalls: Stalls,
    /// Takes the model with planted bugs (feature `mutants`) and switches on the one of this number in
    /// `mutants.list`; 0 is none.
    pub bug: Option<u8>,
}

impl RtlOptions {
    /// The fast model of this width, with nothing special.
    pub fn new(data_w_bits: u32) -> Self {
        Self {
            data_w_bits,
            waves: None,
            traced: false,
            random_state: None,
            stalls: Stalls::default(),
            bug: None,
        }
    }

    pub(super) fn model(&self) -> Result<&'static ModelDef, RtlError> {
        let traced = self.traced || self.waves.is_some();
        let suffix = match (traced, self.bug) {
            (_, Some(_)) => "_bugs",
            (true, None) => "_waves",
            (false, None) => "",
        };
        let name = format!("nic{}{suffix}", self.data_w_bits);
        models::by_name(&name).ok_or(RtlError::NoModel(name))
    }

    pub(super) fn model_options(&self) -> ModelOptions {
        ModelOptions { random_state: self.random_state }
    }
}

/// Why an [`Rtl`](super::Rtl) could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RtlError {
    /// No line in `models.list`, or its feature is off.
    #[error(
        "this build has no model `{0}` (models with `_waves` and `_bugs` need the features `waves` \
         and `mutants` of tandem-rtl-bindings)"
    )]
    NoModel(String),
    /// The RTL of this model has no `bug_i`.
    #[error("the RTL of model {0} has no port `bug_i`, so no bugs are planted in it")]
    NoBugs(&'static str),
    /// A parameter of the model is not a number.
    #[error("model {model}: parameter {parameter} cannot be read")]
    Parameter {
        /// Model.
        model: &'static str,
        /// The word in the list.
        parameter: String,
    },
    /// The model itself.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The facts of a model: the RTL's defaults, which are those of the contract, and what its line pins.
pub(super) fn params(def: &'static ModelDef, data_w_bits: u32) -> Result<NicParams, RtlError> {
    let mut params = NicParams { model: "rtl", data_w_bits, ..NicParams::default() };
    for word in def.parameters.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else { continue };
        let bad = || RtlError::Parameter { model: def.name, parameter: word.to_owned() };
        let number: u64 = value.parse().map_err(|_| bad())?;
        let small = u16::try_from(number).map_err(|_| bad());
        match key {
            "QueuePairs" => params.queue_pairs = small?,
            "QueueSizeMax" => params.queue_size_max = small?,
            "MsixVectors" => params.msix_vectors = small?,
            "Mtu" => params.mtu = small?,
            "FrameLenMax" => params.frame_len_max = u32::try_from(number).map_err(|_| bad())?,
            "Mac" => params.mac.copy_from_slice(&number.to_be_bytes()[2..]),
            _ => {}
        }
    }
    Ok(params)
}

/// Waves that were asked for.
pub(super) struct Waves {
    pub(super) request: WaveRequest,
    /// First cycle written.
    pub(super) first: Option<Cycle>,
}

impl Waves {
    pub(super) fn new(request: WaveRequest) -> Self {
        Self { request, first: None }
    }

    pub(super) fn due(&self, now: Cycle, stats: &RtlStats) -> bool {
        match self.request.start {
            WaveStart::AtCycle(cycle) => now >= cycle,
            WaveStart::AtArrival(number) => stats.frames_in > number,
            WaveStart::AtDeparture(number) => stats.frames_out >= number,
        }
    }
}
