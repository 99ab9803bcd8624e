//! Project automation, called as `cargo xtask`.
//!
//! Builds without Verilator: what needs the RTL is built by it, not into it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod demo;
mod lab;
mod lint;
mod process;
mod results;
mod setup;
mod test;

use setup::Consent;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Tandem's project automation")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the RTL, the lints and the lab need; says what and how first.
    Setup {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Only what building the RTL needs.
        #[arg(long)]
        rtl: bool,
    },
    /// A Linux web server seen through our NIC: the first thing to run.
    Demo(demo::Options),
    /// Run the tests of a tier and all tiers below it.
    Test {
        /// How much: quick while typing, full before a merge, night for long runs.
        #[arg(long, value_enum, default_value = "full")]
        tier: test::Tier,
    },
    /// rustfmt, clippy, dependency direction, cargo-deny, Verilator -Wall, Verible.
    Lint,
    /// Format Rust and SystemVerilog as `lint` wants them.
    Fmt,
    /// Measure; figures as a table, or as JSON with --json.
    Bench {
        /// Suites, all when none is named.
        #[arg(value_enum)]
        suites: Vec<bench::Suite>,
        /// Fewer and shorter runs.
        #[arg(long)]
        quick: bool,
        /// Write the figures here.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Guests under QEMU that drive our NIC.
    Lab {
        #[command(subcommand)]
        what: LabTask,
    },
}

#[derive(Debug, Subcommand)]
enum LabTask {
    /// Linux's own virtio_net probes the served NIC, pings and transfers.
    Smoke(lab::Smoke),
}

fn main() -> ExitCode {
    let consent = |yes| if yes { Consent::Given } else { Consent::Ask };
    let done = match Cli::parse().command {
        Task::Setup { yes, rtl: true } => setup::run(consent(yes)).and_then(|()| ready()),
        Task::Setup { yes, rtl: false } => setup::run_all(consent(yes)).and_then(|()| ready()),
        Task::Demo(options) => demo::run(&options),
        Task::Test { tier } => test::run(tier),
        Task::Lint => lint::run(),
        Task::Fmt => lint::format(),
        Task::Bench { suites, quick, json } => bench::run(&suites, quick, json.as_deref()),
        Task::Lab { what: LabTask::Smoke(options) } => lab::smoke(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ready() -> anyhow::Result<()> {
    println!("Ready: {}", setup::verilator_version()?);
    Ok(())
}
