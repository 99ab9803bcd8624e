//! `cargo xtask bench`: builds and runs the suites, gathers their rows under one schema.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::process::{cargo, root, step};
use crate::results::{Report, Row};
use crate::setup;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// The same transfer with each offload in hardware, in software, or absent.
    Offload,
    /// Speed of the simulation: cycles/s, frames/s, share of time in Verilator.
    Cosim,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Suite::Offload => "offload",
            Suite::Cosim => "cosim",
        }
    }

    /// The program that measures it: package, binary, leading arguments.
    fn program(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Suite::Offload => ("tandem-demo", "tandem-demo", &["bench-offload"]),
            Suite::Cosim => ("tandem-cosim-bench", "tandem-cosim-bench", &[]),
        }
    }
}

/// Runs the suites.
pub(crate) fn run(suites: &[Suite], quick: bool, json: Option<&Path>) -> Result<()> {
    setup::run(setup::Consent::Ask)?;
    let all = Suite::value_variants();
    let suites = if suites.is_empty() { all } else { suites };
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let mut rows: Vec<Row> = Vec::new();
    for suite in suites {
        let (package, binary, args) = suite.program();
        let file = folder.join(format!("{}.json", suite.name()));
        let mut command = cargo();
        command
            .args(["run", "--release", "-p", package, "--bin", binary, "--features"])
            .arg(format!("{package}/rtl"))
            .arg("--")
            .args(args)
            .arg("--json")
            .arg(&file);
        if quick {
            command.arg("--quick");
        }
        step(&format!("bench {}", suite.name()), &mut command)?;
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("the suite left no {}", file.display()))?;
        let measured: Vec<Row> = serde_json::from_str(&text)
            .with_context(|| format!("{} does not follow the schema", file.display()))?;
        rows.extend(measured);
    }
    let report = Report::new(rows);
    report.print();
    if let Some(path) = json {
        report.write(path)?;
    }
    Ok(())
}
