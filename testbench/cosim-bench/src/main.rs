//! `cargo xtask bench cosim`: cycles and frames a second, share of time in Verilator, bytes a cycle.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use serde_json::{Value, json};
use tandem_contract::nic::NicParams;
use tandem_cosim::{LineRate, MemoryConfig};
use tandem_cosim_bench::{Carried, Rig, Simulated};
use tandem_reference::ReferenceNic;

/// Latency of host memory in cycles of 4 ns: a round trip of 1 µs.
const LATENCY_CYCLES: u64 = 250;

/// Speed of the simulation, and what the simulated NIC carries in a cycle.
#[derive(Debug, Parser)]
struct Options {
    /// Fewer frames and one repetition.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A row of the results; the schema is that of `cargo xtask bench`.
#[derive(Debug, Serialize)]
struct Row {
    suite: &'static str,
    case: String,
    params: BTreeMap<&'static str, Value>,
    subject: String,
    metric: &'static str,
    unit: &'static str,
    value: f64,
    low: f64,
    high: f64,
    command: &'static str,
}

/// Frames each way, and their length without FCS.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    out: bool,
    inward: bool,
    frame_bytes: usize,
}

/// An Ethernet frame of 1,518 bytes has 4 of FCS.
const CASES: [Case; 4] = [
    Case { name: "transmit", out: true, inward: false, frame_bytes: 1_514 },
    Case { name: "receive", out: false, inward: true, frame_bytes: 1_514 },
    Case { name: "both ways", out: true, inward: true, frame_bytes: 1_514 },
    Case { name: "both ways, short", out: true, inward: true, frame_bytes: 60 },
];

fn main() -> Result<()> {
    let options = Options::parse();
    let mut rows = Vec::new();
    for data_w_bits in [64, 512] {
        measure("reference", &options, &mut rows, data_w_bits, || {
            let params = NicParams { model: "reference", data_w_bits, ..NicParams::default() };
            Ok(ReferenceNic::new(params))
        })?;
        #[cfg(feature = "rtl")]
        measure("rtl", &options, &mut rows, data_w_bits, || {
            let options = tandem_rtl_bindings::RtlOptions::new(data_w_bits);
            Ok(tandem_rtl_bindings::Rtl::new(options)?)
        })?;
    }
    for row in &rows {
        println!(
            "{:<10} {:<18} {:<14} {:<24} {:>14.3} {}",
            row.subject, row.case, row.params["data_w_bits"], row.metric, row.value, row.unit
        );
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&rows)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// This thread's processor time: a busy machine must not make the simulator look slow.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn measure<N: Simulated + 'static>(
    subject: &str,
    options: &Options,
    rows: &mut Vec<Row>,
    data_w_bits: u32,
    make: impl Fn() -> Result<N>,
) -> Result<()> {
    let (frames, repetitions) = if options.quick { (2_000, 1) } else { (10_000, 5) };
    for case in CASES {
        let context = || format!("{subject}, {data_w_bits} bits, {}", case.name);
        let mut samples: Vec<(Carried, f64)> = Vec::new();
        for _ in 0..repetitions {
            let mut rig = Rig::new(make()?, MemoryConfig::default(), LineRate::UNLIMITED)
                .with_context(context)?;
            // Rings full, caches warm.
            let out = |count| if case.out { count } else { 0 };
            let inward = |count| if case.inward { count } else { 0 };
            rig.carry(out(500), inward(500), case.frame_bytes).with_context(context)?;
            let start = cpu_seconds();
            let carried =
                rig.carry(out(frames), inward(frames), case.frame_bytes).with_context(context)?;
            samples.push((carried, cpu_seconds() - start));
        }
        let mut add = |metric, unit, of: &dyn Fn(&Carried, f64) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(|(c, s)| of(c, *s)).collect();
            values.sort_by(f64::total_cmp);
            rows.push(Row {
                suite: "cosim",
                case: case.name.to_owned(),
                params: BTreeMap::from([
                    ("data_w_bits", json!(data_w_bits)),
                    ("frame_bytes", json!(case.frame_bytes)),
                    ("frames", json!(frames)),
                    ("memory_latency_cycles", json!(LATENCY_CYCLES)),
                    ("repetitions", json!(repetitions)),
                ]),
                subject: subject.to_owned(),
                metric,
                unit,
                value: values[values.len() / 2],
                low: values[0],
                high: values[values.len() - 1],
                command: "cargo xtask bench cosim",
            });
        };
        let frames_of = |c: &Carried| (c.sent + c.received) as f64;
        let bytes = case.frame_bytes as f64;
        add("frame rate", "frames/s of CPU time", &|c, s| frames_of(c) / s);
        add("clock rate", "cycles/s of CPU time", &|c, s| c.cycles as f64 / s);
        if samples[0].0.evaluated > 0 {
            add("busy clock rate", "cycles/s of CPU time", &|c, s| c.evaluated as f64 / s);
            add("clock rate inside Verilator", "cycles/s of CPU time", &|c, _| {
                c.evaluated as f64 / c.eval_ns as f64 * 1e9
            });
            add("share of time in Verilator", "1", &|c, s| c.eval_ns as f64 / 1e9 / s);
        }
        if case.out {
            add("transmitted", "bytes/cycle", &|c, _| c.sent as f64 * bytes / c.cycles as f64);
        }
        if case.inward {
            add("received", "bytes/cycle", &|c, _| c.received as f64 * bytes / c.cycles as f64);
            add("dropped of what arrived", "1", &|c, _| {
                c.dropped as f64 / (c.dropped + c.received) as f64
            });
        }
        add("bound of the data path, each way", "bytes/cycle", &|_, _| {
            f64::from(data_w_bits) / 8.0
        });
        // Little's law: what is in flight is rate times latency.
        add("reads in flight, mean", "bytes", &|c, _| {
            c.memory.read_bytes as f64 / c.cycles as f64 * LATENCY_CYCLES as f64
        });
        add("writes in flight, mean", "bytes", &|c, _| {
            c.memory.write_bytes as f64 / c.cycles as f64 * LATENCY_CYCLES as f64
        });
    }
    Ok(())
}
