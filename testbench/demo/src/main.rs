//! The demo's program; `cargo xtask demo` builds and calls it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tandem_demo::nic::{Model, Wave};
use tandem_demo::peer::{self, Privilege, WebServer};
use tandem_demo::rows::{Row, table};
use tandem_demo::trace;
use tandem_demo::transfer::{Carrier, Family, Link};

#[derive(Debug, Parser)]
#[command(name = "tandem-demo", about = "Fetches files from a Linux web server through our NIC")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run stages of the demo.
    Run(Run),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Plain TAP, offloads in software.
    Tap,
    /// The verilated NIC, checksum offload on and off.
    Rtl,
    /// The reference NIC.
    Reference,
    /// The verilated NIC, pulled out half-way.
    Removal,
}

#[derive(Debug, Args)]
struct Run {
    /// Which stages, in order.
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    stages: Vec<Stage>,
    /// Rows of earlier stages, for the table.
    #[arg(long)]
    earlier: Option<PathBuf>,
    /// Write the rows here as JSON.
    #[arg(long)]
    rows: PathBuf,
    /// Folder for files, capture and wave.
    #[arg(long)]
    out: PathBuf,
    /// Divide all file sizes by this, for tests.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    shrink: u64,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let done = match Cli::parse().command {
        Command::Run(run) => stages(&run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const MIB: u64 = 1 << 20;
/// The wave begins before this departure...
const WAVE_FROM: u64 = 20;
/// ...and has so many cycles.
const WAVE_CYCLES: u64 = 4_000;

fn stages(options: &Run) -> Result<()> {
    let mut rows: Vec<Row> = match &options.earlier {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} has no rows", path.display()))?
        }
        None => Vec::new(),
    };
    let www = options.out.join("www");
    fs::create_dir_all(&www).with_context(|| format!("cannot make {}", www.display()))?;
    if peer::enter_namespace()? == Privilege::UserNamespace {
        println!("not root: in a user namespace of our own");
    }
    let small = peer::generate(&www, "small.bin", 8 * MIB / options.shrink, 1)?;
    let large = peer::generate(&www, "large.bin", 32 * MIB / options.shrink, 2)?;
    let _server = WebServer::start(&www, &options.out.join("http.log"))?;
    let capture = options.out.join("demo.pcapng");
    let nic = |model, offload| Carrier::Nic { model, offload, pull_out_after: None, wave: None };
    let first = rows.len();
    for stage in &options.stages {
        let plan: Vec<(Carrier, Family)> = match stage {
            Stage::Tap => Family::BOTH.map(|family| (Carrier::Tap, family)).into(),
            Stage::Rtl => Family::BOTH
                .into_iter()
                .flat_map(|family| [true, false].map(|offload| (nic(Model::Rtl, offload), family)))
                .collect(),
            Stage::Reference => {
                Family::BOTH.map(|family| (nic(Model::Reference, true), family)).into()
            }
            Stage::Removal => {
                let removal = Carrier::Nic {
                    model: Model::Rtl,
                    offload: true,
                    pull_out_after: Some(large.len / 2),
                    wave: None,
                };
                vec![(removal, Family::V4)]
            }
        };
        let file = if matches!(stage, Stage::Tap | Stage::Removal) { &large } else { &small };
        for (carrier, family) in plan {
            let mut link = Link::new(&carrier, None)?;
            let row = link.fetch(&carrier, family, file)?;
            println!(
                "   {} over {}, offload {}: {} KiB, {}",
                row.family,
                row.backend,
                row.offload,
                row.bytes / 1024,
                if row.sha256_ok { "sha256 ok" } else { "WRONG SHA-256" }
            );
            for failover in &link.drive.failovers {
                println!(
                    "   {} was pulled out ({}); {} took over in software, {} segments were sent again, \
                     the connection went on",
                    failover.lost,
                    failover.reason,
                    failover.successor.as_deref().unwrap_or("nothing"),
                    row.retransmissions
                );
            }
            rows.push(row);
        }
        if *stage == Stage::Rtl {
            let carrier = Carrier::Nic {
                model: Model::Rtl,
                offload: true,
                pull_out_after: None,
                wave: Some(Wave {
                    path: options.out.join("demo.fst"),
                    from_departure: WAVE_FROM,
                    cycles: WAVE_CYCLES,
                }),
            };
            let short = peer::generate(&www, "short.bin", 256 * 1024, 3)?;
            let mut link = Link::new(&carrier, Some(&capture))?;
            for family in Family::BOTH {
                let row = link.fetch(&carrier, family, &short)?;
                ensure!(row.sha256_ok, "the traced transfer's hash is wrong");
            }
            let ways = link.finish_capture()?;
            let trace = trace::from_events(&ways, Some(("demo.fst", WAVE_FROM, WAVE_CYCLES)));
            fs::write(options.out.join("trace.json"), serde_json::to_string(&trace)? + "\n")?;
            println!(
                "   capture: {} ({} frames named); waves: {}; one frame's way: tandem trace tx20 --file {}",
                capture.display(),
                trace.ways.len(),
                options.out.join("demo.fst").display(),
                options.out.join("trace.json").display(),
            );
        }
    }
    fs::write(&options.rows, serde_json::to_string_pretty(&rows)? + "\n")
        .with_context(|| format!("cannot write {}", options.rows.display()))?;
    println!("\n{}", table(&rows));
    let wrong = rows[first..].iter().filter(|row| !row.sha256_ok).count();
    ensure!(wrong == 0, "{wrong} transfers brought other bytes than were sent");
    Ok(())
}
