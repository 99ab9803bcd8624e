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
use tandem_contract::trace::Event;
use tandem_cosim::wire::{Capture, LineRate, TapPort};
use tandem_cosim::{InProcess, Until, Wire};
use tandem_device::{Device, PoolConfig};
use tandem_offload::Policy;
use tandem_stack::{IfaceId, Instant};
use tandem_virtio::{Features, VirtioConfig, VirtioNet};

use crate::http::{self, Response};
use crate::nic::{self, AnyNic, Model, Wave};
use crate::peer::{self, Generated, HTTP_PORT, OURS4, OURS6, PEER4, PEER6};
use crate::rows::Row;

/// Name of the TAP device.
pub const TAP: &str = "td0";
/// MTU of the link.
const MTU: u32 = 1_500;
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

    fn peer(self) -> IpAddr {
        match self {
            Self::V4 => PEER4.into(),
            Self::V6 => PEER6.into(),
        }
    }
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
        /// Pull the NIC out after this many bytes of body; a standby TAP takes over.
        pull_out_after: Option<u64>,
        /// Write a wave.
        wave: Option<Wave>,
    },
}

/// What drives the run: real time, and the NIC's clock.
pub struct Drive {
    clock: WallClock,
    nic: Option<InProcess<AnyNic>>,
    /// Devices lost, as told.
    pub failovers: Vec<Failover>,
}

impl Driver for Drive {
    fn now(&mut self) -> Instant {
        self.clock.now()
    }

    fn step(&mut self) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let Some(nic) = &self.nic else { return Ok(false) };
        let mut cosim = nic.lock();
        let start = cosim.now();
        cosim.run_until(Until::Idle(start + SLICE_CYCLES))?;
        Ok(cosim.now() > start)
    }

    fn failover(&mut self, failover: Failover) {
        self.failovers.push(failover);
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

impl Link {
    /// Makes the TAP, configures the kernel's end, and attaches the carrier.
    ///
    /// # Errors
    /// With what could not be made.
    pub fn new(carrier: &Carrier, capture: Option<&Path>) -> Result<Self> {
        let mut config = RuntimeConfig::new(secret());
        config.frames = PoolConfig { buffers: 8192, ..PoolConfig::frames(0) };
        let mut runtime = Runtime::new(config).context("no memory for buffers")?;
        let clock = WallClock::new();
        let pool = runtime.frames().clone();
        let mut drive = Drive { clock, nic: None, failovers: Vec::new() };
        let mut standby: Option<Box<dyn Device>> = None;
        let device: Box<dyn Device> = match carrier {
            Carrier::Tap => {
                let config = TapConfig { offloads: false, ..TapConfig::default() };
                let tap = Tap::create(TAP, pool, &config)?;
                peer::configure(TAP, MTU)?;
                Box::new(tap)
            }
            Carrier::Nic { model, offload, pull_out_after, wave } => {
                let nic = nic::nic(*model, wave.as_ref())?;
                let fd: OwnedFd = Tap::open_queue(TAP)?;
                peer::configure(TAP, MTU)?;
                if pull_out_after.is_some() {
                    let mac = nic.params().mac.into();
                    let spare = vec![fd.try_clone()?];
                    standby = Some(Box::new(Tap::from_fds(spare, mac, MTU, pool.clone(), false)?));
                }
                let port =
                    TapPort::new(fd, VNET_HDR_LEN).context("cannot use the TAP as a wire")?;
                let mut wire = Wire::new(Box::new(port), LineRate::mbit_s(100_000));
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
        let iface = runtime.attach(now, "eth0", device, &addresses(), Policy::default())?;
        if let Some(standby) = standby {
            runtime.set_standby(iface, standby)?;
        }
        let start_cycle = drive.nic.as_ref().map_or(0, |nic| nic.lock().now());
        Ok(Self { runtime, drive, iface, start_cycle })
    }

    /// The NIC, when the carrier has one.
    pub fn nic(&self) -> Option<&InProcess<AnyNic>> {
        self.drive.nic.as_ref()
    }

    /// Fetches a file and checks it.
    ///
    /// # Errors
    /// With why the connection or the response failed. A wrong hash is no error but in the row.
    pub fn fetch(&mut self, carrier: &Carrier, family: Family, file: &Generated) -> Result<Row> {
        let peer = SocketAddr::new(family.peer(), HTTP_PORT);
        let began = std::time::Instant::now();
        let stream = TcpStream::connect(&mut self.runtime, &mut self.drive, peer, PATIENCE)?;
        let request = http::get("peer", &format!("/{}", file.name));
        stream.write_all(&mut self.runtime, &mut self.drive, &request)?;
        let mut response = Response::default();
        let mut buffer = vec![0; 256 * 1024];
        let mut pull_out_after = match carrier {
            Carrier::Nic { pull_out_after, .. } => *pull_out_after,
            Carrier::Tap => None,
        };
        loop {
            let len = stream.read(&mut self.runtime, &mut self.drive, &mut buffer)?;
            if len == 0 {
                break;
            }
            response.push(&buffer[..len])?;
            if pull_out_after.is_some_and(|bytes| response.got() >= bytes)
                && let Some(nic) = &self.drive.nic
            {
                nic.pull_out();
                pull_out_after = None;
            }
        }
        let took = began.elapsed().as_secs_f64();
        ensure!(
            response.complete(),
            "the server closed after {} of {:?} bytes",
            response.got(),
            response.length()
        );
        let info = self.runtime.shard().tcp_info(stream.handle());
        let retransmissions = info.map_or(0, |info| u64::from(info.stats.retransmissions));
        stream.close(&mut self.runtime, &mut self.drive)?;
        self.row(carrier, family, file, response, took, retransmissions)
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
        response: Response,
        took: f64,
        retransmissions: u64,
    ) -> Result<Row> {
        let stats = self.runtime.stats(self.iface)?;
        let shard = self.runtime.shard();
        let (_, counters) = shard.offload(self.iface).context("the interface has no plan")?;
        let bytes = response.got();
        let cycles = self.drive.nic.as_ref().map(|nic| nic.lock().now() - self.start_cycle);
        let (backend, offload) = match carrier {
            Carrier::Tap => ("tap".to_owned(), "none"),
            Carrier::Nic { model, offload, pull_out_after, .. } => {
                let tail = if pull_out_after.is_some() { " then tap" } else { "" };
                let offload = if *offload { "checksum" } else { "none" };
                (format!("{}{tail}", model.name()), offload)
            }
        };
        Ok(Row {
            backend,
            role: "client".into(),
            family: family.name().into(),
            offload: offload.into(),
            bytes,
            sha256_ok: bytes == file.len && response.sha256() == file.sha256,
            goodput_wall_bit_s: bytes as f64 * 8.0 / took,
            goodput_sim_bit_s: None,
            cycles,
            bytes_per_cycle: cycles.map(|cycles| bytes as f64 / cycles.max(1) as f64),
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
