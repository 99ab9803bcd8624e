//! The `tandem` command. What it does not know itself it looks for as `tandem-<word>`, beside itself and
//! on PATH, as git does: `tandem nic` is the program `tandem-nic`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tandem::trace::Trace;

#[derive(Debug, Parser)]
#[command(name = "tandem", version, about = "A TCP/IP stack co-designed with its NIC")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Print one frame's way through the NIC, from ring to MAC, in cycles.
    Trace {
        /// Name as in the capture's comment: tx5, rx12.
        frame: String,
        /// Trace that a run left.
        #[arg(long, default_value = "target/demo/trace.json")]
        file: PathBuf,
    },
    /// Any other word runs the program `tandem-<word>`; `nic` serves a NIC on a socket.
    #[command(external_subcommand)]
    Sibling(Vec<OsString>),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Trace { frame, file } => trace(&frame, &file),
        Task::Sibling(words) => sibling(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trace(frame: &str, file: &std::path::Path) -> Result<()> {
    let trace = Trace::read(file)?;
    let way = trace.find(frame)?;
    let folder = file.parent().unwrap_or(std::path::Path::new("."));
    print!("{}", trace.describe(way, folder));
    Ok(())
}

/// Becomes the sibling program; returns only when that fails.
fn sibling(words: &[OsString]) -> Result<()> {
    let (word, rest) = words.split_first().context("no command was given")?;
    let word = word.to_str().context("the command is not text")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if word.is_empty() || !word.chars().all(plain) {
        bail!("{word:?} is no command; `tandem --help` lists them");
    }
    let name = format!("tandem-{word}");
    let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join(&name)));
    let program = match beside {
        Some(path) if path.is_file() => path,
        _ => PathBuf::from(&name),
    };
    let error = Command::new(&program).args(rest).exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        bail!(
            "there is no command {word:?}: {name} is neither beside `tandem` nor on PATH \
             (`tandem nic` is built by `cargo build -p tandem-nic-server`)"
        );
    }
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
