//! `tandem nic`: presents the simulated NIC as a PCI device on a vfio-user socket.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use tandem_nic_server::model::{ModelOptions, Wave};
use tandem_nic_server::serve::{DMA_LATENCY_DEFAULT, NicServer, ServeError, ServeOptions, Summary};

/// The simulated NIC, for programs and machines outside of the simulation.
#[derive(Parser)]
#[command(name = "tandem-nic", bin_name = "tandem nic", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Presents the NIC as a PCI device on a vfio-user socket until SIGINT or SIGTERM
    Serve(ServeArgs),
}

#[derive(Args)]
struct ServeArgs {
    /// Path of the UNIX socket to listen on
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// What the NIC's MAC is connected to: tap:NAME, pcap:FILE, pcap:FILE,replay=FILE or none
    #[arg(long, default_value = "none")]
    wire: String,
    /// Which NIC: rtl or reference
    #[arg(long, default_value = "reference")]
    model: String,
    /// Width of the NIC's data path in bits
    #[arg(long, value_name = "BITS", default_value_t = 512)]
    data_w: u32,
    /// Write an FST wave of the RTL to this file
    #[arg(long, value_name = "FILE")]
    wave: Option<PathBuf>,
    /// First cycle of the wave
    #[arg(long, value_name = "CYCLE", default_value_t = 0)]
    wave_start: u64,
    /// Cycles to write to the wave
    #[arg(long, value_name = "CYCLES", default_value_t = 200_000)]
    wave_cycles: u64,
    /// Cycles of 4 ns between a DMA request and its response
    #[arg(long, value_name = "CYCLES", default_value_t = DMA_LATENCY_DEFAULT)]
    dma_latency: u64,
    /// Remove the socket file of a server that is gone
    #[arg(long)]
    replace_stale: bool,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // Colours would end up inside of words that someone looks for in a log file.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
    let Command::Serve(args) = Cli::parse().command;
    match serve(args) {
        Ok(summary) => {
            report(&summary);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tandem nic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<Summary, ServeError> {
    let (start_cycle, cycles) = (args.wave_start, args.wave_cycles);
    let options = ServeOptions {
        socket: args.socket,
        replace_stale: args.replace_stale,
        wire: args.wire.parse()?,
        model: ModelOptions {
            kind: args.model.parse()?,
            data_w_bits: args.data_w,
            wave: args.wave.map(|path| Wave { path, start_cycle, cycles }),
        },
        dma_latency: args.dma_latency,
    };
    // Before the socket exists: a signal from then on ends cleanly.
    let stop = stop_signal()?;
    let server = NicServer::open(&options)?;
    let params = server.device().nic().params();
    let mac: Vec<String> = params.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    println!(
        "{} NIC {} on {}, wire {}",
        params.model,
        mac.join(":"),
        options.socket.display(),
        args.wire
    );
    server.run(stop.as_fd())
}

/// A descriptor that becomes readable with SIGINT or SIGTERM.
fn stop_signal() -> Result<UnixStream, ServeError> {
    let system = |error: std::io::Error| {
        ServeError::Wait(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
    };
    let (ours, signals) = UnixStream::pair().map_err(system)?;
    for signal in [SIGINT, SIGTERM] {
        let end = signals.try_clone().map_err(system)?;
        signal_hook::low_level::pipe::register(signal, end).map_err(system)?;
    }
    // The clones in the handlers keep it open.
    Ok(ours)
}

fn report(summary: &Summary) {
    let Summary { cycles, socket, dma, wire } = summary;
    println!(
        "{cycles} cycles; {} clients, {} commands, {} refused; {} DMA reads, {} writes, {} errors, {} interrupts; {} \
         frames in, {} out, {} lost",
        socket.clients,
        socket.commands,
        socket.errors,
        dma.reads,
        dma.writes,
        dma.errors,
        dma.messages,
        wire.arrived,
        wire.departed,
        wire.refused
    );
}
