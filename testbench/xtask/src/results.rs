//! The one schema of all benches.
//!
//! `{schema, commit, machine, rows: [{suite, case, params, subject, metric, unit, value, low, high,
//! peer, ratio, ratio_low, ratio_high, command}]}`; fields are added, never changed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::{output, root};

/// Version of the schema.
const SCHEMA: u32 = 1;

/// One measured figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Suite, such as `offload`.
    pub(crate) suite: String,
    /// What was done.
    pub(crate) case: String,
    /// With which settings.
    #[serde(default)]
    pub(crate) params: BTreeMap<String, serde_json::Value>,
    /// What was measured.
    pub(crate) subject: String,
    /// Which quantity.
    pub(crate) metric: String,
    /// In which unit.
    pub(crate) unit: String,
    /// Median.
    pub(crate) value: f64,
    /// Least.
    #[serde(default)]
    pub(crate) low: Option<f64>,
    /// Most.
    #[serde(default)]
    pub(crate) high: Option<f64>,
    /// Measured in the same run for comparison.
    #[serde(default)]
    pub(crate) peer: Option<String>,
    /// Subject divided by peer.
    #[serde(default)]
    pub(crate) ratio: Option<f64>,
    /// Least ratio of a pair.
    #[serde(default)]
    pub(crate) ratio_low: Option<f64>,
    /// Greatest ratio of a pair.
    #[serde(default)]
    pub(crate) ratio_high: Option<f64>,
    /// The command that measures it.
    pub(crate) command: String,
}

/// A file of results.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Revision measured, `-dirty` when the tree was not clean.
    pub(crate) commit: String,
    /// Processor and cores.
    pub(crate) machine: String,
    /// Figures.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// A report of these rows on this machine and revision.
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { schema: SCHEMA, commit: commit(), machine: machine(), rows }
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Prints it as a table.
    pub(crate) fn print(&self) {
        println!(
            "{:<10} {:<34} {:<24} {:<26} {:>14} unit",
            "suite", "case", "subject", "metric", "value"
        );
        for row in &self.rows {
            print!(
                "{:<10} {:<34} {:<24} {:<26} {:>14.3} {}",
                row.suite, row.case, row.subject, row.metric, row.value, row.unit
            );
            match (row.ratio, &row.peer) {
                (Some(ratio), Some(peer)) => println!("  ({ratio:.2} x {peer})"),
                _ => println!(),
            }
        }
    }
}

fn commit() -> String {
    let mut git = std::process::Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(root());
    output(&mut git).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores")
}
