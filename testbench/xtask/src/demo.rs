//! `cargo xtask demo`: builds the demo in two steps and runs it in two, so that something moves while
//! the RTL is still being compiled.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{cargo, root, shown, step};
use crate::setup::{self, Consent};

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Install what is missing without asking.
    #[arg(long)]
    yes: bool,
    /// Write the table's rows here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Afterwards serve a page from our stack until interrupted, and print the curl command for it.
    #[arg(long)]
    serve: bool,
    /// Where the capture and the wave go.
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
}

/// Runs the demo.
pub(crate) fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let consent = if options.yes { Consent::Given } else { Consent::Ask };
    setup::run(consent)?;
    setup::programs(&[("ip", "iproute2")], consent)?;
    let out =
        if options.out.is_absolute() { options.out.clone() } else { root().join(&options.out) };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;

    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let built = target.join("release/tandem-demo");
    step(
        "building the host side (no RTL yet)",
        cargo().args(["build", "--release", "-p", "tandem-demo"]),
    )?;
    let host_only = out.join("tandem-demo-host");
    fs::copy(&built, &host_only).with_context(|| format!("cannot copy {}", built.display()))?;

    // Compile the RTL while the first transfers run.
    let log = out.join("rtl-build.log");
    let mut command = cargo();
    command
        .args(["build", "--release", "-p", "tandem-demo", "--features", "rtl"])
        .stdout(fs::File::create(&log)?)
        .stderr(fs::File::options().append(true).open(&log)?);
    println!(
        "== verilating and compiling the RTL in the background (a few minutes the first time)"
    );
    println!("   {}; its log: {}", shown(&command), log.display());
    let mut rtl = command.spawn().context("cannot run cargo")?;
    let early = out.join("rows-host.json");
    let first = step(
        "transfers over TAP, offloads in software",
        std::process::Command::new(&host_only)
            .args(["run", "--stages", "tap"])
            .arg("--rows")
            .arg(&early)
            .arg("--out")
            .arg(&out),
    );
    if first.is_err() {
        let _ = rtl.kill();
    } else {
        println!("== waiting for the RTL");
    }
    let status = rtl.wait()?;
    first?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        bail!(
            "the RTL did not compile; the end of {}:\n{}",
            log.display(),
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
    }
    let mut command = std::process::Command::new(&built);
    command
        .args(["run", "--stages", "rtl,reference,removal"])
        .arg("--earlier")
        .arg(&early)
        .arg("--out")
        .arg(&out);
    let rows = options.json.clone().unwrap_or_else(|| out.join("rows.json"));
    command.arg("--rows").arg(&rows);
    if options.serve {
        command.arg("--serve");
    }
    step("transfers through the NIC", &mut command)?;
    println!("== the demo took {:.0} s; rows: {}", start.elapsed().as_secs_f64(), rows.display());
    Ok(())
}
