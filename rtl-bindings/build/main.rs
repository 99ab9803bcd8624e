//! Verilates the RTL and compiles it: one static library per model, and one Rust table of them all.
//!
//! Verilator is found, never installed, by `tandem-verilator-runtime`. A model is a line in
//! `models.list` or in the RTL's own `tops/blocks.list`. Its ports are read from the header that
//! Verilator writes, so a new top needs nothing but its line. Finished libraries are kept under
//! `target/verilated`, named by a hash of everything that went in, and so are shared by all profiles
//! and target folders: a model is compiled when its own sources change, and only then.

mod compile;
mod list;
mod mutants;
mod shim;
mod sources;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use compile::Built;
use list::Model;
use sources::Sources;

/// What went wrong, for the user; the compilers' own words are part of it.
type Result<T> = std::result::Result<T, String>;

fn main() {
    if let Err(message) = run() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the crate has no parent folder")?;
    let rtl = workspace.join("hw-model/rtl");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let cache = match env::var_os("TANDEM_VERILATED") {
        Some(folder) => PathBuf::from(folder),
        None => workspace.join("target/verilated"),
    };
    println!("cargo::rerun-if-env-changed=TANDEM_VERILATED");
    println!("cargo::rerun-if-env-changed=CXX");
    println!("cargo::rerun-if-changed=build");

    let mut models = list::read(&manifest.join("models.list"), None)?;
    let blocks = rtl.join("tops/blocks.list");
    println!("cargo::rerun-if-changed={}", blocks.display());
    if blocks.is_file() {
        models.extend(list::read(&blocks, Some("blocks"))?);
    }
    list::refuse_duplicates(&models)?;
    models.retain(Model::enabled);

    let sources = Sources::scan(&[rtl.clone(), manifest.join("tests/rtl")])?;
    let tools = compile::Tools::find(&manifest, &rtl, &out, &cache)?;
    let built = build_all(&tools, &sources, &models)?;

    for folder in sources.folders() {
        // A new file may stand in for a missing one.
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    for model in &built {
        for file in &model.inputs {
            println!("cargo::rerun-if-changed={}", file.display());
        }
        println!("cargo::rustc-link-lib=static=tandem_rtl_{}", model.name);
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    let table = shim::rust_table(&built);
    std::fs::write(out.join("models.rs"), table).map_err(|e| format!("models.rs: {e}"))?;
    compile::prune(&cache, &built);
    Ok(())
}

/// Builds the models, two or more at a time: Verilator itself is single-threaded.
fn build_all(tools: &compile::Tools, sources: &Sources, models: &[Model]) -> Result<Vec<Built>> {
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(2).max(1);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<Built>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..models.len().min(jobs) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(model) = models.get(index) else { break };
                    let result = tools.build(model, sources);
                    let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
                    results.push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
    results.sort_by_key(|(index, _)| *index);
    let mut built = Vec::new();
    let mut errors = Vec::new();
    for (_, result) in results {
        match result {
            Ok(one) => built.push(one),
            Err(message) => errors.push(message),
        }
    }
    if errors.is_empty() { Ok(built) } else { Err(errors.join("\n")) }
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|_| format!("{name} is not set; this is run by cargo"))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
