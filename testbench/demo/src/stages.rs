//! `tandem-demo run`: one stage after the other, a row for each transfer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::local;
use crate::nic::{Model, Wave};
use crate::peer::{self, Generated, Privilege, WebServer};
use crate::rows::{Row, table};
use crate::serve;
use crate::trace;
use crate::transfer::{Carrier, Family, Link, PullOut, TAP, World};

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Plain TAP, offloads in software.
    Tap,
    /// The verilated NIC, checksum offload on and off.
    Rtl,
    /// The reference NIC.
    Reference,
    /// The verilated NIC (or the reference, in a program built without it), pulled out half-way.
    Removal,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Which stages, in order.
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    pub stages: Vec<Stage>,
    /// Rows of earlier stages, for the table.
    #[arg(long)]
    pub earlier: Option<PathBuf>,
    /// Write the rows here as JSON.
    #[arg(long)]
    pub rows: PathBuf,
    /// Folder for files, capture and wave.
    #[arg(long)]
    pub out: PathBuf,
    /// Divide all file sizes by this, for tests.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub shrink: u64,
    /// Do without Linux at the other end even where it could be had.
    #[arg(long)]
    pub in_process: bool,
    /// Afterwards serve a page from our stack until interrupted.
    #[arg(long)]
    pub serve: bool,
}

const MIB: u64 = 1 << 20;
/// The wave begins before this departure...
const WAVE_FROM: u64 = 20;
/// ...and has so many cycles.
const WAVE_CYCLES: u64 = 4_000;

/// Files, and who serves them.
struct Site {
    small: Generated,
    large: Generated,
    short: Generated,
    world: World,
    privilege: Option<Privilege>,
    _server: Option<WebServer>,
}

impl Site {
    fn new(options: &Run) -> Result<Self> {
        let www = options.out.join("www");
        fs::create_dir_all(&www).with_context(|| format!("cannot make {}", www.display()))?;
        let privilege = match options.in_process {
            true => None,
            false => match peer::enter_namespace().and_then(|privilege| {
                tandem_backends::tap::Tap::open_queue(TAP)?;
                Ok(privilege)
            }) {
                Ok(privilege) => Some(privilege),
                Err(error) => {
                    println!("no Linux at the other end, an in-process peer instead: {error:#}");
                    None
                }
            },
        };
        if privilege == Some(Privilege::UserNamespace) {
            println!("not root: in a user namespace of our own");
        }
        let small = peer::generate(&www, "small.bin", 8 * MIB / options.shrink, 1)?;
        let large = peer::generate(&www, "large.bin", 32 * MIB / options.shrink, 2)?;
        let short = peer::generate(&www, "short.bin", 256 * 1024, 3)?;
        let (world, server) = match privilege {
            Some(_) => {
                let server = WebServer::start(&www, &options.out.join("http.log"))?;
                (World::Linux, Some(server))
            }
            None => {
                let names = [&*small.name, &*large.name, &*short.name];
                (World::InProcess(local::pages(&www, &names)?), None)
            }
        };
        Ok(Self { small, large, short, world, privilege, _server: server })
    }
}

/// What a stage transfers: carrier, family and which file.
fn plan(stage: Stage, site: &Site) -> Vec<(Carrier, Family, &Generated)> {
    match stage {
        Stage::Tap => Family::BOTH.map(|family| (Carrier::Tap, family, &site.large)).into(),
        Stage::Rtl => Family::BOTH
            .into_iter()
            .flat_map(|family| {
                [true, false].map(|on| (Carrier::nic(Model::Rtl, on), family, &site.small))
            })
            .collect(),
        Stage::Reference => Family::BOTH
            .map(|family| (Carrier::nic(Model::Reference, true), family, &site.small))
            .into(),
        Stage::Removal => {
            let removal = Carrier::Nic {
                model: Model::best(),
                offload: true,
                pull_out: Some(PullOut::AfterBytes(site.large.len / 2)),
                wave: None,
            };
            vec![(removal, Family::V4, &site.large)]
        }
    }
}

/// Runs the stages.
///
/// # Errors
/// With what failed; also when a hash was wrong.
pub fn run(options: &Run) -> Result<()> {
    let mut rows: Vec<Row> = match &options.earlier {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} has no rows", path.display()))?
        }
        None => Vec::new(),
    };
    let site = Site::new(options)?;
    let first = rows.len();
    for stage in &options.stages {
        for (carrier, family, file) in plan(*stage, &site) {
            let mut link = Link::new(&carrier, &site.world, None)?;
            let row = link.fetch(&carrier, family, file)?;
            say(&row, &link);
            rows.push(row);
        }
        if *stage == Stage::Rtl {
            traced(&site, &options.out)?;
        }
    }
    fs::write(&options.rows, serde_json::to_string_pretty(&rows)? + "\n")
        .with_context(|| format!("cannot write {}", options.rows.display()))?;
    println!("\n{}", table(&rows));
    let wrong = rows[first..].iter().filter(|row| !row.sha256_ok).count();
    ensure!(wrong == 0, "{wrong} transfers brought other bytes than were sent");
    if options.serve {
        serve::run(&rows, site.privilege)?;
    }
    Ok(())
}

fn say(row: &Row, link: &Link) {
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
            "   {} was pulled out ({}); {} took over, {} segments were sent again, the connection went on",
            failover.lost,
            failover.reason,
            failover.successor.as_deref().unwrap_or("nothing"),
            row.retransmissions
        );
    }
}

/// A short transfer over the RTL with capture, wave and trace.
fn traced(site: &Site, out: &Path) -> Result<()> {
    let capture = out.join("demo.pcapng");
    let carrier = Carrier::Nic {
        model: Model::Rtl,
        offload: true,
        pull_out: None,
        wave: Some(Wave {
            path: out.join("demo.fst"),
            from_departure: WAVE_FROM,
            cycles: WAVE_CYCLES,
        }),
    };
    let mut link = Link::new(&carrier, &site.world, Some(&capture))?;
    for family in Family::BOTH {
        let row = link.fetch(&carrier, family, &site.short)?;
        ensure!(row.sha256_ok, "the traced transfer's hash is wrong");
    }
    let events = link.finish_capture()?;
    let trace = trace::from_events(&events, Some(("demo.fst", WAVE_FROM, WAVE_CYCLES)));
    fs::write(out.join("trace.json"), serde_json::to_string(&trace)? + "\n")?;
    println!(
        "   capture: {} ({} frames named); waves: {}; one frame's way: cargo run -p tandem -- trace tx20 --file {}",
        capture.display(),
        trace.ways.len(),
        out.join("demo.fst").display(),
        out.join("trace.json").display(),
    );
    Ok(())
}
