//! Many scenarios, until enough frames were judged.

use tandem_cosim::Random;

use crate::scenario::{self, Report, Summary};

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// First seed; others are drawn from it, so that each alone replays its scenario.
    pub seed: u64,
    /// Frames to judge.
    pub frames: u64,
    /// The seed is a scenario's own: run only that.
    pub replay: bool,
}

/// Seed of the runs that must repeat.
const SEED: u64 = 0x7A4D_E001;

impl Plan {
    /// From the environment: `TANDEM_FRAMES` frames, else `frames`, or twenty times as many when
    /// `TANDEM_TIER` is `night`; `TANDEM_SEED` replays one scenario.
    ///
    /// # Panics
    /// When a variable is not a number.
    pub fn from_env(frames: u64) -> Self {
        let number = |name: &str| {
            let value = std::env::var(name).ok()?;
            let parsed = match value.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => value.parse(),
            };
            Some(parsed.unwrap_or_else(|e| panic!("{name}={value}: {e}")))
        };
        let night = std::env::var("TANDEM_TIER").is_ok_and(|tier| tier == "night");
        let replay = number("TANDEM_SEED");
        Self {
            seed: replay.unwrap_or(SEED),
            frames: number("TANDEM_FRAMES").unwrap_or(if night { 20 * frames } else { frames }),
            replay: replay.is_some(),
        }
    }
}

/// A failure with its seed.
#[derive(Debug)]
pub struct Found {
    /// Seed of the scenario.
    pub seed: u64,
    /// What happened.
    pub report: Box<Report>,
    /// What went well before.
    pub before: Summary,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, report, before } = self;
        writeln!(f, "seed {seed:#x}, after {} frames: {}", before.frames(), report.failure)?;
        write!(f, "the last events:\n{}", report.recent)
    }
}

/// Runs scenarios on the RTL until the plan's number of frames was judged.
///
/// # Errors
/// [`Found`]: the first failure.
pub fn run(data_w_bits: u32, bug: Option<u8>, plan: Plan) -> Result<Summary, Found> {
    let mut seeds = Random::new(plan.seed ^ u64::from(data_w_bits) << 32);
    let mut total = Summary::default();
    while total.frames() < plan.frames {
        let seed = if plan.replay { plan.seed } else { seeds.next_u64() };
        match scenario::run(data_w_bits, bug, seed) {
            Ok(summary) => total.add(&summary),
            Err(report) => return Err(Found { seed, report, before: total }),
        }
        if plan.replay {
            break;
        }
    }
    Ok(total)
}
