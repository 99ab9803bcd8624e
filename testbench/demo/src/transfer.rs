//! One transfer after the other: a device, a runtime, a connection, a file.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tandem::blocking::{Driver, TcpStream};
use tandem::{Address, Failover, Runtime, RuntimeConfig, WallClock};
use tandem_backends::tap::{Tap, TapConfig};
use tandem_contract::nic::NicParams;
use tandem_contract::trace::Event;
use tandem_cosim::wire::{Capture, FramePort, LineRate, TapPort};
use tandem_cosim::{InProcess, Until, Wire};
use tandem_device::{Device, PoolConfig};
use tandem_offload::{Choice, Policy};
use tandem_stack::{IfaceId, Instant};
use tandem_virtio::{Features, VirtioConfig, VirtioNet};

use crate::http::{self, Response};
use crate::local::{LocalPeer, PairPort};
use crate::nic::{self, AnyNic, Model, Wave};
use crate::peer::{self, Generated, HTTP_PORT, OURS4, OURS6, PEER4, PEER6};
use crate::rows::{IN_PROCESS, Row};
use crate::server::Page;

/// Name of the TAP device.
pub const TAP: &str = "td0";
/// MTU of the link.
pub const MTU: u32 = 1_500;
/// Bytes of virtio-net header in front of each frame on the TAP.
const VNET_HDR_LEN: usize = 12;
/// Cycles that the NIC may run between two polls of the host.
const SLICE_CYCLES: u64 = 2_000;
/// How long the demo waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The peer's address.
    pub fn peer(self) -> IpAddr {
        match self {
            Self::V4 => PEER4.into(),
            Self::V6 => PEER6.into(),
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum World {
    /// Linux, behind a TAP in the network namespace that this process is in.
    Linux,
    /// A second stack of ours in this process, which serves these pages.
    InProcess(Vec<Page>),
}

/// When to pull the NIC out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullOut {
    /// After this many bytes of body.
    AfterBytes(u64),
    /// When its clock has run for this many cycles, whatever is under way then.
    AtCycle(u64),
}

/// What carries a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// A TAP device, everything in software.
    Tap,
    /// A NIC whose MAC port is on the TAP.
    Nic {
        /// Model.
        model: Model,
        /// Checksum offload.
        offload: bool,
        /// Pull the NIC out; a standby in software takes over.
        pull_out: Option<PullOut>,
        /// Write a wave.
        wave: Option<Wave>,
    },
}

impl Carrier {
    /// A NIC that stays.
    pub fn nic(model: Model, offload: bool) -> Self {
        Self::Nic { model, offload, pull_out: None, wave: None }
    }
}

/// What drives the run: real time, the NIC's clock, and the peer where it is in this process.
pub struct Drive {
    clock: WallClock,
    nic: Option<InProcess<AnyNic>>,
    local: Option<LocalPeer>,
    /// Cycle in which the NIC is to be pulled out.
    pull_out_at: Option<u64>,
    /// Nothing moved in the last step.
    quiet: bool,
    /// Devices lost, as told.
    pub failovers: Vec<Failover>,
}

impl Driver for Drive {
    fn now(&mut self) -> Instant {
        self.clock.now()
    }

    fn step(&mut self) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let mut moved = false;
        if let Some(nic) = &self.nic {
            let mut cosim = nic.lock();
            let start = cosim.now();
            let end = (start + SLICE_CYCLES).min(self.pull_out_at.unwrap_or(u64::MAX));
            cosim.run_until(Until::Idle(end))?;
            moved |= cosim.now() > start;
            if self.pull_out_at.is_some_and(|at| cosim.now() >= at) {
                self.pull_out_at = None;
                cosim.pull_out();
            }
        }
        if let Some(local) = &mut self.local {
            moved |= local.step(self.clock.now())?;
        }
        self.quiet = !moved;
        Ok(moved)
    }

    fn failover(&mut self, failover: Failover) {
        self.failovers.push(failover);
        let now = self.clock.now();
        if let Some(local) = &mut self.local
            && let Err(error) = local.take_over(now)
        {
            tracing::warn!("the in-process peer lost its cable: {error:#}");
        }
    }
}

/// A runtime on one carrier, ready for connections.
pub struct Link {
    /// The poll loop.
    pub runtime: Runtime,
    /// Time.
    pub drive: Drive,
    iface: IfaceId,
    start_cycle: u64,
}

fn addresses() -> [Address; 2] {
    [
        Address { address: OURS4.into(), prefix_len: 24 },
        Address { address: OURS6.into(), prefix_len: 64 },
    ]
}

/// What came of one request.
pub struct Fetched {
    /// The response.
    pub response: Response,
    /// Seconds of real time.
    pub took_s: f64,
    /// TCP segments that we sent again.
    pub retransmissions: u64,
}

impl Link {
    /// Makes the TAP and configures the kernel's end, or makes the peer, and attaches the carrier.
    ///
    /// # Errors
    /// With what could not be made.
    pub fn new(carrier: &Carrier, world: &World, capture: Option<&Path>) -> Result<Self> {
        Self::make(carrier, world, TAP, capture)
    }

    /// As [`Link::new`] with Linux at the other end of a TAP of this name.
    ///
    /// # Errors
    /// With what could not be made.
    pub fn on_tap(carrier: &Carrier, tap: &str) -> Result<Self> {
        Self::make(carrier, &World::Linux, tap, None)
    }

    fn make(
        carrier: &Carrier,
        world: &World,
        tap_name: &str,
        capture: Option<&Path>,
    ) -> Result<Self> {
        let mut config = RuntimeConfig::new(secret());
        config.frames = PoolConfig { buffers: 8192, ..PoolConfig::frames(0) };
        let mut runtime = Runtime::new(config).context("no memory for buffers")?;
        let clock = WallClock::new();
        let mut drive = Drive {
            clock,
            nic: None,
            local: None,
            pull_out_at: None,
            quiet: false,
            failovers: Vec::new(),
        };
        let pair = match world {
            World::Linux => None,
            World::InProcess(pages) => {
                let (now, csum) = (clock.now(), Choice::Software);
                let (local, pair) = LocalPeer::new(now, MTU, secret(), csum, pages.clone())?;
                let pool = local.pool().clone();
                drive.local = Some(local);
                Some((pair, pool))
            }
        };
        let pool = runtime.frames().clone();
        let mut standby: Option<Box<dyn Device>> = None;
        let mut policy = Policy::default();
        let device: Box<dyn Device> = match (carrier, pair) {
            (Carrier::Tap, None) => {
                let config = TapConfig { offloads: false, ..TapConfig::default() };
                let tap = Tap::create(tap_name, pool, &config)?;
                peer::configure(tap_name, MTU)?;
                Box::new(tap)
            }
            (Carrier::Tap, Some((mut pair, _))) => {
                pair.set_mac(NicParams::default().mac.into())?;
                policy.tx_csum = Choice::Software;
                policy.rx_csum = Choice::Software;
                Box::new(pair)
            }
            (Carrier::Nic { model, offload, pull_out, wave }, pair) => {
                let nic = nic::nic(*model, wave.as_ref())?;
                let port: Box<dyn FramePort + Send> = match pair {
                    Some((pair, pair_pool)) => {
                        if let (Some(local), true) = (&mut drive.local, pull_out.is_some()) {
                            let mac = nic.params().mac.into();
                            standby = Some(Box::new(local.standby(MTU, mac)?));
                        }
                        Box::new(PairPort::new(pair, pair_pool)?)
                    }
                    None => {
                        let fd: OwnedFd = Tap::open_queue(tap_name)?;
                        peer::configure(tap_name, MTU)?;
                        if pull_out.is_some() {
                            let mac = nic.params().mac.into();
                            let spare = vec![fd.try_clone()?];
                            let tap = Tap::from_fds(spare, mac, MTU, pool.clone(), false)?;
                            standby = Some(Box::new(tap));
                        }
                        let port = TapPort::new(fd, VNET_HDR_LEN);
                        Box::new(port.context("cannot use the TAP as a wire")?)
                    }
                };
                let mut wire = Wire::new(port, LineRate::mbit_s(100_000));
                if let Some(path) = capture {
                    let name = format!("{} mac0", model.name());
                    wire.set_capture(Some(Capture::create(path, &name)?));
                }
                let cosim = nic::wall_coupled(nic, wire);
                if capture.is_some() {
                    cosim.lock().keep_events(true);
                }
                drive.nic = Some(cosim.clone());
                let mut config = VirtioConfig { trusted: true, ..VirtioConfig::default() };
                if !offload {
                    config.features.remove(Features::CSUM | Features::GUEST_CSUM);
                }
                Box::new(VirtioNet::probe(Arc::new(cosim), pool, config)?)
            }
        };
        let now = drive.now();
        let iface = runtime.attach(now, "eth0", device, &addresses(), policy)?;
        if let Some(standby) = standby {
            runtime.set_standby(iface, standby)?;
        }
        let start_cycle = drive.nic.as_ref().map_or(0, |nic| nic.lock().now());
        if let Carrier::Nic { pull_out: Some(PullOut::AtCycle(cycle)), .. } = carrier {
            drive.pull_out_at = Some(start_cycle + cycle);
        }
        Ok(Self { runtime, drive, iface, start_cycle })
    }

    /// The NIC, when the carrier has one.
    pub fn nic(&self) -> Option<&InProcess<AnyNic>> {
        self.drive.nic.as_ref()
    }

    /// Asks `peer` for `path` over a new connection and takes in the answer.
    ///
    /// # Errors
    /// With why the connection or the response failed.
    pub fn get(
        &mut self,
        peer: SocketAddr,
        path: &str,
        patience: Duration,
        mut pull_out: Option<PullOut>,
    ) -> Result<Fetched> {
        let began = std::time::Instant::now();
        let stream = TcpStream::connect(&mut self.runtime, &mut self.drive, peer, patience)?;
        let request = http::get(&peer.to_string(), path);
        stream.write_all(&mut self.runtime, &mut self.drive, &request)?;
        let mut response = Response::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let len = stream.read(&mut self.runtime, &mut self.drive, &mut buffer)?;
            if len == 0 {
                break;
            }
            response.push(&buffer[..len])?;
            if let Some(PullOut::AfterBytes(bytes)) = pull_out
                && response.got() >= bytes
                && let Some(nic) = self.drive.nic.clone()
            {
                nic.pull_out();
                pull_out = None;
            }
        }
        let took_s = began.elapsed().as_secs_f64();
        ensure!(
            response.complete(),
            "{peer} closed the connection after {} of {} bytes",
            response.got(),
            response.length().map_or("unknown".to_owned(), |len| len.to_string())
        );
        let info = self.runtime.shard().tcp_info(stream.handle());
        let retransmissions = info.map_or(0, |info| u64::from(info.stats.retransmissions));
        stream.close(&mut self.runtime, &mut self.drive)?;
        Ok(Fetched { response, took_s, retransmissions })
    }

    /// Fetches a file and checks it.
    ///
    /// # Errors
    /// With why the connection or the response failed. A wrong hash is no error but in the row.
    pub fn fetch(&mut self, carrier: &Carrier, family: Family, file: &Generated) -> Result<Row> {
        let peer = SocketAddr::new(family.peer(), HTTP_PORT);
        let pull_out = match carrier {
            Carrier::Nic { pull_out, .. } => *pull_out,
            Carrier::Tap => None,
        };
        let fetched = self.get(peer, &format!("/{}", file.name), PATIENCE, pull_out)?;
        self.row(carrier, family, file, fetched)
    }

    /// Sleeps for a moment when nothing is under way, for who serves rarely: a simulated NIC can only be
    /// polled, and would take a whole core.
    pub fn rest(&self) {
        if self.drive.quiet {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Cycles that the NIC's clock has run since the link was made.
    pub fn cycles(&self) -> Option<u64> {
        self.drive.nic.as_ref().map(|nic| nic.lock().now() - self.start_cycle)
    }

    /// Ends the capture and returns what the NIC decided.
    ///
    /// # Errors
    /// When the capture could not be written whole.
    pub fn finish_capture(&mut self) -> Result<Vec<Event>> {
        let nic = self.drive.nic.as_ref().context("there is no NIC to capture at")?;
        let mut cosim = nic.lock();
        let capture = cosim.wire_mut().set_capture(None).context("no capture was begun")?;
        capture.finish()?;
        Ok(cosim.take_events())
    }

    fn row(
        &mut self,
        carrier: &Carrier,
        family: Family,
        file: &Generated,
        Fetched { response, took_s, retransmissions }: Fetched,
    ) -> Result<Row> {
        let stats = self.runtime.stats(self.iface)?;
        // The reference says what happens, never how long it takes.
        let timed = matches!(carrier, Carrier::Nic { model: Model::Rtl, .. });
        let cycles = self.cycles().filter(|_| timed);
        let shard = self.runtime.shard();
        let (_, counters) = shard.offload(self.iface).context("the interface has no plan")?;
        let bytes = response.got();
        let local = self.drive.local.is_some();
        let software = if local { "pair" } else { "tap" };
        let (backend, offload) = match carrier {
            Carrier::Tap => (software.to_owned(), "none"),
            Carrier::Nic { model, offload, pull_out, .. } => {
                let tail = pull_out.map_or(String::new(), |_| format!(" then {software}"));
                let offload = if *offload { "checksum" } else { "none" };
                (format!("{}{tail}", model.name()), offload)
            }
        };
        Ok(Row {
            backend,
            role: if local { format!("client, {IN_PROCESS}") } else { "client".into() },
            family: family.name().into(),
            offload: offload.into(),
            bytes,
            sha256_ok: bytes == file.len && response.sha256() == file.sha256,
            goodput_wall_bit_s: bytes as f64 * 8.0 / took_s,
            goodput_sim_bit_s: None,
            cycles,
            bytes_per_cycle: cycles
                .filter(|_| self.drive.failovers.is_empty())
                .map(|cycles| bytes as f64 / cycles.max(1) as f64),
            host_instructions_per_byte: None,
            frames: stats.rx_packets + stats.tx_packets,
            csum_hw: counters.tx_csum_hw + counters.rx_csum_hw,
            csum_sw: counters.tx_csum_sw + counters.rx_csum_sw,
            retransmissions,
            failovers: self.drive.failovers.len() as u64,
        })
    }
}

/// A fresh key for sequence numbers and ports.
fn secret() -> [u8; 16] {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher is keyed by the system's random source.
    let word =
        || std::collections::hash_map::RandomState::new().build_hasher().finish().to_le_bytes();
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&word());
    secret[8..].copy_from_slice(&word());
    secret
}
