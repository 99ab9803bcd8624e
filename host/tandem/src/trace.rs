//! The way of a frame through a cosimulated NIC, as a run left it on disk.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One moment on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Clock cycle of the NIC.
    pub cycle: u64,
    /// What happened.
    pub what: String,
}

/// The way of one frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Name as in the capture's comment: `tx 5`, `rx 12`.
    pub name: String,
    /// Ring entry: function, queue, wrap, descriptor.
    pub identity: String,
    /// Bytes at the MAC.
    pub bytes: u32,
    /// In order.
    pub steps: Vec<Step>,
}

/// All frames of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Which NIC.
    pub model: String,
    /// Nanoseconds that a cycle stands for.
    pub ns_per_cycle: u64,
    /// File with waves, beside this one.
    pub wave: Option<String>,
    /// First and last cycle in it.
    pub wave_cycles: Option<(u64, u64)>,
    /// Frames.
    pub ways: Vec<Way>,
}

/// Why a frame's way cannot be told.
#[derive(Debug, Error)]
pub enum TraceError {
    /// No file.
    #[error("cannot read {path}; `cargo xtask demo` leaves one")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not a trace.
    #[error("{path} is not a trace")]
    Parse {
        /// Which.
        path: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Too long.
    #[error("{path} has {len} bytes; at most {FILE_BYTES_MAX} are read")]
    TooLong {
        /// Which.
        path: String,
        /// Its length.
        len: u64,
    },
    /// Not in it.
    #[error("no frame is called {wanted:?}; there are {has}")]
    NoFrame {
        /// What was asked for.
        wanted: String,
        /// What there is.
        has: String,
    },
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let name = || path.display().to_string();
        let read = |source| TraceError::Read { path: name(), source };
        let len = std::fs::metadata(path).map_err(read)?.len();
        if len > FILE_BYTES_MAX {
            return Err(TraceError::TooLong { path: name(), len });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        serde_json::from_str(&text).map_err(|source| TraceError::Parse { path: name(), source })
    }

    /// The frame called `name`, with or without the space (`tx5`).
    ///
    /// # Errors
    /// [`TraceError::NoFrame`].
    pub fn find(&self, name: &str) -> Result<&Way, TraceError> {
        let plain = |text: &str| text.split_whitespace().collect::<String>();
        let wanted = plain(name);
        self.ways.iter().find(|way| plain(&way.name) == wanted).ok_or_else(|| {
            let ends = |prefix: &str| {
                let mut of = self.ways.iter().filter(|way| way.name.starts_with(prefix));
                let first = of.next()?;
                let last = of.next_back().unwrap_or(first);
                Some(format!("{} to {}", plain(&first.name), plain(&last.name)))
            };
            let has: Vec<String> = [ends("tx"), ends("rx")].into_iter().flatten().collect();
            let has = if has.is_empty() { "none".into() } else { has.join(" and ") };
            TraceError::NoFrame { wanted: name.into(), has }
        })
    }

    /// The way of a frame for people; `folder` is where the trace was read from.
    pub fn describe(&self, way: &Way, folder: &Path) -> String {
        let mut out = format!(
            "{} of the {} NIC: {}, {} bytes at the MAC\n",
            way.name, self.model, way.identity, way.bytes
        );
        let start = way.steps.first().map_or(0, |step| step.cycle);
        for step in &way.steps {
            let after = step.cycle.saturating_sub(start);
            let _ = writeln!(
                out,
                "  cycle {:>10}  +{:>6} cycles  {:>8} ns  {}",
                step.cycle,
                after,
                after * self.ns_per_cycle,
                step.what
            );
        }
        if let Some(wave) = &self.wave {
            let path = folder.join(wave);
            let within =
                self.wave_cycles.is_some_and(|(first, last)| start >= first && start <= last);
            let _ = if within {
                writeln!(
                    out,
                    "Waves: gtkwave {}   (this frame begins at {} ns)",
                    path.display(),
                    start * self.ns_per_cycle
                )
            } else {
                writeln!(out, "Waves: {} does not reach this frame", path.display())
            };
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let way = |name: &str, cycle| Way {
            name: name.into(),
            identity: "function 0 queue 1 wrap 1 descriptor 4".into(),
            bytes: 60,
            steps: vec![
                Step { cycle, what: "fetched".into() },
                Step { cycle: cycle + 10, what: "left".into() },
            ],
        };
        Trace {
            model: "rtl".into(),
            ns_per_cycle: 4,
            wave: Some("demo.fst".into()),
            wave_cycles: Some((100, 200)),
            ways: vec![way("tx 0", 50), way("tx 1", 150), way("rx 0", 120)],
        }
    }

    #[test]
    fn frames_are_found_by_name() {
        let trace = trace();
        assert_eq!(trace.find("tx1").unwrap().name, "tx 1");
        assert_eq!(trace.find("rx 0").unwrap().name, "rx 0");
        let error = trace.find("tx9").unwrap_err().to_string();
        assert!(error.contains("tx0 to tx1 and rx0 to rx0"), "{error}");
    }

    #[test]
    fn a_way_says_when_the_wave_reaches_it() {
        let trace = trace();
        let text = trace.describe(trace.find("tx1").unwrap(), Path::new("d"));
        assert!(text.contains("gtkwave d/demo.fst   (this frame begins at 600 ns)"), "{text}");
        assert!(text.contains("+    10 cycles        40 ns  left"), "{text}");
        let text = trace.describe(trace.find("tx0").unwrap(), Path::new("d"));
        assert!(text.contains("does not reach"), "{text}");
    }

    #[test]
    fn what_is_no_trace_is_an_error() {
        let folder = std::env::temp_dir().join(format!("tandem-trace-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("x");
        assert!(matches!(Trace::read(&path), Err(TraceError::Read { .. })));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(Trace::read(&path), Err(TraceError::Parse { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
