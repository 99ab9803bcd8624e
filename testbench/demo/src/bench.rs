//! `tandem-demo bench-offload`: the same transfer with checksums in hardware, in software, or absent.
//!
//! Everything is simulated and one clock governs it: the NIC's, free-running, with 1 µs of memory
//! latency and a line of 100 Gbit/s. The peer is a second stack at the other end of the line, with no
//! delay of its own. Runs repeat to the cycle.

mod careless;
mod instructions;
mod plot;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tandem::{Address, Runtime, RuntimeConfig};
use tandem_contract::nic::NicParams;
use tandem_cosim::wire::LineRate;
use tandem_cosim::{Clock, Cosim, HostMemory, InProcess, MemoryConfig, RegionTable, Until, Wire};
use tandem_device::{Device, PoolConfig};
use tandem_offload::{Choice, Policy};
use tandem_stack::{ConnectOptions, Instant, IoError, NamespaceId, SocketHandle};
use tandem_virtio::{Features, VirtioConfig, VirtioNet};

use self::careless::Careless;
use self::instructions::Excluded;
use crate::http::{self, Response};
use crate::local::{LocalPeer, PairPort};
use crate::nic::{self, AnyNic, Model};
use crate::peer::{HTTP_PORT, OURS4, PEER4};
use crate::server::{Page, Server};
use crate::transfer::MTU;

/// Cycles between two turns of the host: 1 µs.
const TURN_CYCLES: u64 = 250;
/// Turns after which a transfer that is not through counts as stuck: 1 s of simulated time.
const TURNS_MAX: u64 = 1_000_000;

/// Options of `bench-offload`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Write the rows here; the plot goes beside it.
    #[arg(long)]
    pub json: PathBuf,
    /// A quarter of the bytes.
    #[arg(long)]
    pub quick: bool,
}

/// Options of `bench-offload-one`: one transfer, for the counting of instructions.
#[derive(Debug, Args)]
pub struct One {
    /// Who does the checksums.
    #[arg(long, value_enum)]
    pub offload: Offload,
    /// Which way.
    #[arg(long, value_enum)]
    pub way: Way,
    /// Bytes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 26))]
    pub bytes: u32,
}

/// Who does the checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Offload {
    /// The NIC.
    Hardware,
    /// The stack.
    Software,
    /// Nobody, at either end.
    Absent,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// To our stack.
    Receive,
    /// From our stack.
    Send,
}

/// What a transfer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// Cycles from the request to the last byte.
    pub cycles: u64,
    /// Nanoseconds of simulated time.
    pub ns: u64,
}

/// A row of the schema that all benches share (`testbench/xtask/src/results.rs`).
#[derive(Debug, Clone, Serialize)]
struct BenchRow {
    suite: &'static str,
    case: String,
    params: BTreeMap<&'static str, serde_json::Value>,
    subject: String,
    metric: &'static str,
    unit: &'static str,
    value: f64,
    command: &'static str,
}

struct Rig {
    runtime: Runtime,
    nic: InProcess<AnyNic>,
    peer: LocalPeer,
    now: Instant,
}

fn page(len: u32) -> Page {
    // Any bytes will do: nothing compresses, and a checksum of them is not 0.
    let body: Vec<u8> = (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    Page { path: "/".into(), kind: "application/octet-stream", body: body.into() }
}

fn moment(nic: &InProcess<AnyNic>) -> Instant {
    Instant::from_nanos(1_000_000_000 + nic.lock().now_ns())
}

impl Rig {
    fn new(model: Model, offload: Offload, pages: Vec<Page>) -> Result<Self> {
        let mut config = RuntimeConfig::new([7; 16]);
        config.frames = PoolConfig { buffers: 8192, ..PoolConfig::frames(0) };
        let mut runtime = Runtime::new(config).context("no memory for buffers")?;
        let csum = if offload == Offload::Absent { Choice::Off } else { Choice::Software };
        let start = Instant::from_nanos(1_000_000_000);
        let (peer, pair) = LocalPeer::new(start, MTU, [8; 16], csum, pages)?;
        let port = PairPort::new(pair, peer.pool().clone())?;
        let wire = Wire::new(Box::new(port), LineRate::mbit_s(100_000));
        let memory = HostMemory::new(RegionTable::new(), MemoryConfig::default());
        let nic = nic::nic(model, None)?;
        let nic = InProcess::new(Cosim::new(nic, memory, wire, Clock::FreeRunning));
        let mut config = VirtioConfig { trusted: true, ..VirtioConfig::default() };
        let mut policy = Policy::default();
        match offload {
            Offload::Hardware => {}
            Offload::Software => config.features.remove(Features::CSUM | Features::GUEST_CSUM),
            Offload::Absent => {
                // The device must neither insert nor judge, or it would not be absent.
                config.features.remove(Features::GUEST_CSUM | Features::CSUM);
                policy.tx_csum = Choice::Off;
                policy.rx_csum = Choice::Off;
            }
        }
        let transport = Arc::new(Excluded(nic.clone()));
        let device = VirtioNet::probe(transport, runtime.frames().clone(), config)?;
        let device: Box<dyn Device> = match offload {
            Offload::Absent => Box::new(Careless(device)),
            Offload::Hardware | Offload::Software => Box::new(device),
        };
        let now = moment(&nic);
        let address = [Address { address: OURS4.into(), prefix_len: 24 }];
        runtime.attach(now, "eth0", device, &address, policy)?;
        Ok(Self { runtime, nic, peer, now })
    }

    /// One microsecond: both hosts, then the NIC.
    fn turn(&mut self) -> Result<()> {
        host_poll(&mut self.runtime, self.now)?;
        self.peer.step(self.now)?;
        let next = self.nic.lock().now() + TURN_CYCLES;
        self.nic.run_until(Until::Cycle(next))?;
        self.now = moment(&self.nic);
        Ok(())
    }

    fn took(&self, since: (u64, Instant)) -> Took {
        let cycles = self.nic.lock().now() - since.0;
        Took { cycles, ns: self.now.since(since.1).as_nanos() as u64 }
    }

    fn begin(&self) -> (u64, Instant) {
        (self.nic.lock().now(), self.now)
    }
}

/// The host's part of a turn; what is inside is counted, see [`instructions`].
#[inline(never)]
fn host_poll(runtime: &mut Runtime, now: Instant) -> Result<()> {
    runtime.poll(now)?;
    while runtime.shard().next_event().is_some() {}
    Ok(())
}

/// Likewise: the copy out of the socket.
#[inline(never)]
fn host_read(
    runtime: &mut Runtime,
    now: Instant,
    handle: SocketHandle,
    buffer: &mut [u8],
) -> Result<usize, IoError> {
    runtime.shard().tcp_read(now, handle, buffer)
}

/// Likewise: the server's side of sending.
#[inline(never)]
fn host_serve(server: &mut Server, runtime: &mut Runtime, now: Instant) {
    server.step(runtime, now);
}

/// Fetches `bytes` with one of the two ends as the server.
///
/// # Errors
/// With what could not be made, or when the transfer does not end or ends wrong.
pub fn transfer(model: Model, offload: Offload, way: Way, bytes: u32) -> Result<Took> {
    let pages = vec![page(bytes)];
    let ours = SocketAddr::from((OURS4, HTTP_PORT));
    let (mut rig, mut server) = match way {
        Way::Receive => (Rig::new(model, offload, pages)?, None),
        Way::Send => {
            let mut rig = Rig::new(model, offload, Vec::new())?;
            let server = Server::listen(&mut rig.runtime, &[ours], pages)?;
            (rig, Some(server))
        }
    };
    let begin = rig.begin();
    let server_at = match way {
        Way::Receive => SocketAddr::from((PEER4, HTTP_PORT)),
        Way::Send => ours,
    };
    let options = ConnectOptions::default();
    let now = rig.now;
    let client = match way {
        Way::Receive => &mut rig.runtime,
        Way::Send => rig.peer.runtime(),
    };
    let handle = client.shard().tcp_connect(now, NamespaceId(0), server_at, &options)?;
    let mut request = http::get("bench", "/");
    let mut response = Response::default();
    let mut buffer = vec![0; 256 * 1024];
    for _ in 0..TURNS_MAX {
        rig.turn()?;
        if let Some(server) = &mut server {
            host_serve(server, &mut rig.runtime, rig.now);
        }
        let now = rig.now;
        if !request.is_empty() {
            let client = match way {
                Way::Receive => &mut rig.runtime,
                Way::Send => rig.peer.runtime(),
            };
            match client.shard().tcp_write(now, handle, &request) {
                Ok(len) => drop(request.drain(..len)),
                Err(IoError::WouldBlock | IoError::NotConnected) => continue,
                Err(error) => bail!("the request could not be sent: {error}"),
            }
        }
        let read = match way {
            Way::Receive => host_read(&mut rig.runtime, now, handle, &mut buffer),
            Way::Send => rig.peer.runtime().shard().tcp_read(now, handle, &mut buffer),
        };
        match read {
            Ok(0) => {
                ensure!(response.complete(), "the server closed after {} bytes", response.got());
            }
            Ok(len) => response.push(&buffer[..len])?,
            Err(IoError::WouldBlock) => {}
            Err(error) => bail!("the transfer failed: {error}"),
        }
        if response.complete() {
            ensure!(response.got() == u64::from(bytes), "{} bytes came", response.got());
            return Ok(rig.took(begin));
        }
    }
    bail!("{} of {bytes} bytes came in 1 s of simulated time", response.got())
}

/// One transfer over the reference NIC, with nothing printed.
///
/// # Errors
/// As for [`transfer`].
pub fn one(options: &One) -> Result<()> {
    transfer(Model::Reference, options.offload, options.way, options.bytes).map(drop)
}

/// Measures all.
///
/// # Errors
/// With what failed; a missing valgrind is none but said.
pub fn run(options: &Bench) -> Result<()> {
    let bytes: u32 = if options.quick { 512 * 1024 } else { 2 * 1024 * 1024 };
    let models: &[Model] = match Model::best() {
        Model::Rtl => &[Model::Rtl, Model::Reference],
        Model::Reference => &[Model::Reference],
    };
    let mut rows = Vec::new();
    println!(
        "{:<10} {:<8} {:<9} {:>10} {:>12} {:>14} {:>18}",
        "NIC", "way", "checksum", "cycles", "bytes/cycle", "sim. Gbit/s", "instructions/byte"
    );
    let mut uncounted = None;
    for &model in models {
        for way in [Way::Receive, Way::Send] {
            for offload in [Offload::Hardware, Offload::Software, Offload::Absent] {
                let took = transfer(model, offload, way, bytes)?;
                let instructions = match (model, &uncounted) {
                    // The host's part does not depend on the model, so it is counted once.
                    (Model::Reference, None) => match instructions::count(offload, way, bytes) {
                        Ok(count) => Some(count as f64 / f64::from(bytes)),
                        Err(error) => {
                            uncounted = Some(error);
                            None
                        }
                    },
                    _ => None,
                };
                let per_cycle = f64::from(bytes) / took.cycles as f64;
                let bit_s = f64::from(bytes) * 8.0 / (took.ns as f64 / 1e9);
                let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
                println!(
                    "{:<10} {:<8} {:<9} {:>10} {per_cycle:>12.2} {:>14.2} {:>18}",
                    model.name(),
                    word(&way),
                    word(&offload),
                    took.cycles,
                    bit_s / 1e9,
                    instructions.map_or("-".into(), |value| format!("{value:.2}"))
                );
                let params: BTreeMap<&'static str, serde_json::Value> = [
                    ("bytes", bytes.into()),
                    ("mtu", MTU.into()),
                    ("data_w", NicParams::default().data_w_bits.into()),
                    ("offload", word(&offload).into()),
                    ("direction", word(&way).into()),
                ]
                .into();
                let row = |metric, unit, value| BenchRow {
                    suite: "offload",
                    case: format!("{} checksum {}", word(&way), word(&offload)),
                    params: params.clone(),
                    subject: model.name().into(),
                    metric,
                    unit,
                    value,
                    command: "cargo xtask bench offload",
                };
                rows.push(row("cycles", "cycles", took.cycles as f64));
                rows.push(row("bytes_per_cycle", "bytes/cycle", per_cycle));
                rows.push(row("goodput_sim_bit_s", "bit/s of simulated time", bit_s));
                if let Some(value) = instructions {
                    rows.push(row("host_instructions_per_byte", "instructions/byte", value));
                }
            }
        }
    }
    if let Some(error) = uncounted {
        println!("host instructions were not counted: {error:#}");
    }
    plot::draw(&options.json.with_file_name("offload.svg"), &rows)?;
    let text = serde_json::to_string_pretty(&rows)? + "\n";
    std::fs::write(&options.json, text)
        .with_context(|| format!("cannot write {}", options.json.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_repeat_to_the_cycle_in_every_form() {
        for way in [Way::Receive, Way::Send] {
            for offload in [Offload::Hardware, Offload::Software, Offload::Absent] {
                let run = || match transfer(Model::Reference, offload, way, 100_000) {
                    Ok(took) => took,
                    Err(error) => panic!("{way:?} {offload:?}: {error:#}"),
                };
                assert_eq!(run(), run(), "{way:?} {offload:?}");
            }
        }
    }
}
