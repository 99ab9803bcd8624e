//! `cargo xtask test`: suites by tier, each with a time budget.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::process::{cargo, step_within};
use crate::{lab, setup};

/// How much to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// The host's crates and the reference NIC: what one runs while typing.
    Quick,
    /// Everything that a merge needs, RTL included.
    Full,
    /// The long runs, and the Linux guest of `cargo xtask lab smoke`.
    Night,
}

/// Fixes what proptest's strategies draw.
const SEED: &str = "PROPTEST_RNG_SEED";

struct Suite {
    name: &'static str,
    tier: Tier,
    minutes: u64,
    args: &'static [&'static str],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "host crates, reference NIC, house rules",
        tier: Tier::Quick,
        minutes: 25,
        args: &["test", "--no-fail-fast"],
    },
    // One call of cargo, so that the RTL is verilated and compiled once for all of them.
    Suite {
        name: "RTL, RTL against reference, cosimulation, NIC server, demo",
        tier: Tier::Full,
        minutes: 40,
        args: &[
            "test",
            "--no-fail-fast",
            "-p=tandem-rtl-bindings",
            "-p=tandem-cosim",
            "-p=tandem-cosim-bench",
            "-p=tandem-diff",
            "-p=tandem-nic-server",
            "-p=tandem-demo",
            "--features=tandem-rtl-bindings/waves,tandem-cosim-bench/mutants,tandem-nic-server/waves,tandem-demo/rtl",
        ],
    },
];

/// Runs every suite up to `tier`.
pub(crate) fn run(tier: Tier) -> Result<()> {
    if tier >= Tier::Full {
        setup::run(setup::Consent::Ask)?;
    }
    for suite in SUITES.iter().filter(|suite| suite.tier <= tier) {
        let mut command: Command = cargo();
        command.args(suite.args);
        // A merge is judged by the same cases each time; the night looks for new ones.
        if tier < Tier::Night && std::env::var_os(SEED).is_none() {
            command.env(SEED, "1");
        }
        command.env("TANDEM_TIER", format!("{tier:?}").to_lowercase());
        step_within(suite.name, Duration::from_secs(60 * suite.minutes), &mut command)?;
    }
    if tier >= Tier::Night {
        lab::smoke(&lab::Smoke::default())?;
    }
    println!("== all suites of tier {tier:?} passed");
    Ok(())
}
