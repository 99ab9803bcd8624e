//! A peer in this process, for where no network namespace or TAP is to be had: a second stack of ours
//! that serves the same files. It proves less than Linux does, and the rows say so.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use tandem::{Address, Runtime, RuntimeConfig};
use tandem_backends::pair::{PairDevice, pair};
use tandem_contract::nic::{Arrival, Cycle};
use tandem_cosim::wire::FramePort;
use tandem_device::{Batch, Device, DeviceError, Pool, PoolConfig, Queue};
use tandem_offload::{Choice, Policy};
use tandem_packet::MacAddr;
use tandem_stack::{IfaceId, Instant};

use crate::peer::{HTTP_PORT, PEER4, PEER6};
use crate::server::{Page, Server};

/// Frames that a pair holds in each direction.
const PAIR_FRAMES: usize = 1024;
/// The peer's station address.
const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x99]);

/// A wire's far end on a device of the pair kind: what the NIC sends comes out of the pair's other end.
pub struct PairPort {
    device: PairDevice,
    pool: Pool,
    inward: RefCell<Inward>,
    out: Batch,
}

/// To know whether a frame is there means to take it from the queue.
struct Inward {
    queue: Box<dyn Queue>,
    ahead: Batch,
}

impl Inward {
    fn look(&mut self) -> bool {
        // A pair does not fail; an error would mean no frame.
        !self.ahead.is_empty() || self.queue.receive(64, &mut self.ahead).is_ok_and(|len| len > 0)
    }
}

impl PairPort {
    /// Opens the device.
    ///
    /// # Errors
    /// As for [`Device::open`].
    pub fn new(mut device: PairDevice, pool: Pool) -> Result<Self, DeviceError> {
        device.open()?;
        let queue = device.take_queue(0)?;
        let inward = RefCell::new(Inward { queue, ahead: Batch::new() });
        Ok(Self { device, pool, inward, out: Batch::new() })
    }
}

impl Drop for PairPort {
    fn drop(&mut self) {
        // A pair's close has nothing that could fail.
        let _ = self.device.close();
    }
}

impl FramePort for PairPort {
    fn receive(&mut self, _: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        let inward = self.inward.get_mut();
        inward.look();
        let next = inward.ahead.pop_front()?;
        frame.clear();
        frame.resize(next.len(), 0);
        next.copy_to(0, frame);
        Some(Arrival { error: false })
    }

    fn next_at(&self) -> Option<Cycle> {
        self.inward.borrow_mut().look().then_some(0)
    }

    fn send(&mut self, _: Cycle, bytes: &[u8]) {
        // What there is no room for is lost, as on any wire.
        let Ok(mut frame) = self.pool.alloc() else { return };
        if frame.append(bytes).is_ok() {
            self.out.push_back(frame);
        }
        let _ = self.inward.get_mut().queue.transmit(&mut self.out);
        self.out.clear();
    }
}

/// The second stack, with its server.
pub struct LocalPeer {
    runtime: Runtime,
    server: Server,
    iface: IfaceId,
    pool: Pool,
    spare: Option<PairDevice>,
}

impl LocalPeer {
    /// A peer that serves `pages` on [`HTTP_PORT`] of both families, and the device that is wired to it.
    /// A frame leaves it as it would leave a NIC: checksums as `csum` says, cut to the MTU.
    ///
    /// # Errors
    /// When there is no memory, or with what could not be made.
    pub fn new(
        now: Instant,
        mtu: u32,
        secret: [u8; 16],
        csum: Choice,
        pages: Vec<Page>,
    ) -> Result<(Self, PairDevice)> {
        let mut config = RuntimeConfig::new(secret);
        config.frames = PoolConfig { buffers: 8192, ..PoolConfig::frames(0) };
        let mut runtime = Runtime::new(config).context("no memory for the peer's buffers")?;
        let pool = runtime.frames().clone();
        // The near end is a wire's, which has no address of its own, or is given one.
        let (mut near, far) = cable(mtu, &pool, MacAddr([0; 6]))?;
        // The runtime asks for the carrier when it attaches, so the other end comes up first.
        near.open()?;
        let addresses = [
            Address { address: PEER4.into(), prefix_len: 24 },
            Address { address: PEER6.into(), prefix_len: 64 },
        ];
        let policy = Policy {
            tx_csum: csum,
            rx_csum: csum,
            tso: Choice::Software,
            uso: Choice::Software,
            gro: Choice::Software,
        };
        let iface = runtime.attach(now, "eth0", Box::new(far), &addresses, policy)?;
        let listen = addresses.map(|at| SocketAddr::new(at.address, HTTP_PORT));
        let server = Server::listen(&mut runtime, &listen, pages)?;
        Ok((Self { runtime, server, iface, pool, spare: None }, near))
    }

    /// Its pool of frames.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Its poll loop.
    pub fn runtime(&mut self) -> &mut Runtime {
        &mut self.runtime
    }

    /// A device, with the station address `mac`, that is wired to this peer from
    /// [`LocalPeer::take_over`] on.
    ///
    /// # Errors
    /// When the device cannot be made.
    pub fn standby(&mut self, mtu: u32, mac: MacAddr) -> Result<PairDevice> {
        let (near, mut far) = cable(mtu, &self.pool, mac)?;
        far.open()?;
        self.spare = Some(far);
        Ok(near)
    }

    /// Goes over to the standby, if there is one.
    ///
    /// # Errors
    /// When that cannot be opened.
    pub fn take_over(&mut self, now: Instant) -> Result<()> {
        if let Some(spare) = self.spare.take() {
            self.runtime.replace(now, self.iface, Box::new(spare))?;
        }
        Ok(())
    }

    /// Moves frames and serves; true when there was something to do.
    ///
    /// # Errors
    /// When its device failed.
    pub fn step(&mut self, now: Instant) -> Result<bool> {
        let polled = self.runtime.poll(now)?;
        while self.runtime.shard().next_event().is_some() {}
        let served = self.server.step(&mut self.runtime, now);
        Ok(served || polled.more || polled.received + polled.sent > 0)
    }
}

fn cable(mtu: u32, pool: &Pool, near: MacAddr) -> Result<(PairDevice, PairDevice)> {
    let pair = pair(["near", "far"], [near, MAC], mtu, PAIR_FRAMES, pool);
    pair.context("no event descriptors for an in-process cable")
}

/// The files of a folder as pages.
///
/// # Errors
/// When one cannot be read.
pub fn pages(folder: &Path, names: &[&str]) -> Result<Vec<Page>> {
    let page = |name: &&str| {
        let path = folder.join(name);
        let body =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let kind = "application/octet-stream";
        Ok(Page { path: format!("/{name}"), kind, body: body.into() })
    };
    names.iter().map(page).collect()
}
