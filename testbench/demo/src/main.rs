//! The demo's program; `cargo xtask demo` builds and calls it.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tandem_demo::{bench, fetch, stages};

#[derive(Debug, Parser)]
#[command(name = "tandem-demo", about = "Fetches files from a Linux web server through our NIC")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run stages of the demo.
    Run(stages::Run),
    /// Fetch one file by URL over a device of choice, and print its SHA-256.
    Fetch(fetch::Fetch),
    /// Measure the same transfer with checksums in hardware, in software, and absent.
    BenchOffload(bench::Bench),
    /// One transfer over the reference NIC, for the counting of instructions.
    #[command(hide = true)]
    BenchOffloadOne(bench::One),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    // A wrong option is an error like any other: one exit code for all.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.kind() == ErrorKind::ValueValidation {
                // One line that says it all; the usage would only hide it.
                eprintln!("{}", error.to_string().lines().next().unwrap_or_default());
                return ExitCode::FAILURE;
            }
            // Nothing is left to be done when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Run(run) => stages::run(&run),
        Command::Fetch(options) => fetch::run(&options),
        Command::BenchOffload(options) => bench::run(&options),
        Command::BenchOffloadOne(options) => bench::one(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
