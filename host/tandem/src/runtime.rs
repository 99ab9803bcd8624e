//! A poll loop around one shard.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tandem_device::{Batch, Device, DeviceError, OperState, Pool, PoolConfig, Queue, Stats};
use tandem_offload::Policy;
use tandem_stack::{
    ConfigError, IfaceId, Instant, InterfaceConfig, Link, Namespace, NamespaceConfig, NamespaceId,
    Route, Shard, ShardConfig,
};
use thiserror::Error;

/// Frames moved in one direction per poll and device.
const BUDGET: usize = 64;
/// Frames that may wait for a device that is full.
const WAITING_MAX: usize = 256;
/// How often a busy loop looks whether a carrier came or went; a loop that sleeps looks each time.
const LINK_PERIOD: Duration = Duration::from_millis(100);
/// Longest sleep while frames wait for a device that is full: not every device wakes for room.
const FULL_SLEEP_MAX: Duration = Duration::from_millis(1);

/// An address with its prefix, as an interface has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Address.
    pub address: IpAddr,
    /// Length of the prefix that is on the link, in bits.
    pub prefix_len: u8,
}

/// How to make a [`Runtime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Key of what peers must not guess; from a good random source, or fixed for a run that repeats.
    pub secret: [u8; 16],
    /// Buffers for frames' heads.
    pub frames: PoolConfig,
    /// Buffers for payload that sockets send.
    pub payload: PoolConfig,
}

impl RuntimeConfig {
    /// Ordinary sizes: 4096 frames, 16 MiB of payload.
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret, frames: PoolConfig::frames(4096), payload: PoolConfig::payload(1024) }
    }
}

/// Why a device could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The device did not open or has no queue.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The interface could not be made so.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No such interface in this runtime.
    #[error("no device is attached to interface {0:?}")]
    NoInterface(IfaceId),
}

/// A device failed in a way that a replacement does not mend.
#[derive(Debug, Error)]
#[error("interface {name} failed")]
pub struct PollError {
    /// Interface.
    pub name: String,
    /// What its device said.
    #[source]
    pub source: DeviceError,
}

/// A device was lost and another took over, or the interface is down.
#[derive(Debug)]
pub struct Failover {
    /// Interface.
    pub iface: IfaceId,
    /// Name of the device that was lost.
    pub lost: String,
    /// What it said.
    pub reason: DeviceError,
    /// Name of the device that took over; none when there was no standby.
    pub successor: Option<String>,
}

/// What one [`Runtime::poll`] did.
#[derive(Debug, Default)]
pub struct Polled {
    /// Frames taken in.
    pub received: usize,
    /// Frames given to devices.
    pub sent: usize,
    /// There is more to do now: poll again before sleeping.
    pub more: bool,
    /// Devices lost in this poll.
    pub failovers: Vec<Failover>,
}

struct Port {
    name: String,
    iface: IfaceId,
    device: Box<dyn Device>,
    queue: Option<Box<dyn Queue>>,
    standby: Option<Box<dyn Device>>,
    policy: Policy,
    rx: Batch,
    tx: Batch,
    tokens: Vec<u64>,
    /// State of the link that the stack knows.
    state: OperState,
    /// When it was looked at.
    looked: Instant,
    /// Counters of devices that were here before.
    past: Stats,
}

/// A shard, its namespace, and the devices that carry its frames; all on the caller's thread.
pub struct Runtime {
    shard: Shard,
    namespace: Namespace,
    frames: Pool,
    ports: Vec<Port>,
}

impl Runtime {
    /// A runtime without devices.
    ///
    /// # Errors
    /// When the memory for its pools cannot be had.
    pub fn new(config: RuntimeConfig) -> std::io::Result<Self> {
        let frames = Pool::new(config.frames)?;
        let payload = Pool::new(config.payload)?;
        let namespace = Namespace::new(NamespaceConfig {
            id: NamespaceId(0),
            secret: config.secret,
            shards: 1,
        });
        let mut shard = Shard::new(ShardConfig::single(frames.clone(), payload, config.secret));
        shard.join(&namespace);
        Ok(Self { shard, namespace, frames, ports: Vec::new() })
    }

    /// The shard, on which sockets are opened.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The namespace, where addresses and routes are configured.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The pool of frames' heads, from which devices may take receive buffers.
    pub fn frames(&self) -> &Pool {
        &self.frames
    }

    /// Opens a device and makes it an interface with these addresses.
    ///
    /// # Errors
    /// See [`AttachError`]. When an address is refused that an interface cannot have or another one has,
    /// the name stays taken by an interface without a device.
    pub fn attach(
        &mut self,
        now: Instant,
        name: &str,
        mut device: Box<dyn Device>,
        addresses: &[Address],
        policy: Policy,
    ) -> Result<IfaceId, AttachError> {
        let nets = addresses.iter().map(|address| {
            ipnet::IpNet::new(address.address, address.prefix_len).map_err(|_| {
                ConfigError::BadAddress {
                    address: address.address,
                    name: name.to_owned(),
                    why: "the prefix is longer than the address",
                }
            })
        });
        let nets = nets.collect::<Result<Vec<_>, _>>()?;
        device.open()?;
        let queue = device.take_queue(0)?;
        let info = device.info();
        let config = InterfaceConfig { name: name.to_owned(), mac: info.mac, mtu: info.mtu };
        let iface = self.namespace.add_interface(config)?;
        for net in nets {
            self.namespace.add_address(iface, net)?;
        }
        let port = Port {
            name: name.to_owned(),
            iface,
            device,
            queue: Some(queue),
            standby: None,
            policy,
            rx: Batch::new(),
            tx: Batch::new(),
            tokens: Vec::new(),
            state: OperState::Down,
            looked: now,
            past: Stats::default(),
        };
        self.ports.push(port);
        let at = self.ports.len() - 1;
        self.tell(now, at);
        Ok(iface)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn add_route(&self, route: Route) -> Result<(), ConfigError> {
        self.namespace.add_route(route)
    }

    /// A device that takes over when the interface's own is lost. It is opened only then.
    ///
    /// # Errors
    /// [`AttachError::NoInterface`].
    pub fn set_standby(
        &mut self,
        iface: IfaceId,
        device: Box<dyn Device>,
    ) -> Result<(), AttachError> {
        let at = self.find(iface)?;
        self.ports[at].standby = Some(device);
        Ok(())
    }

    /// Puts another device in an interface's place; connections go on. Returns the former one, which is
    /// still open unless it was lost.
    ///
    /// # Errors
    /// See [`AttachError`]; the former device then stays.
    pub fn replace(
        &mut self,
        now: Instant,
        iface: IfaceId,
        mut device: Box<dyn Device>,
    ) -> Result<Box<dyn Device>, AttachError> {
        let at = self.find(iface)?;
        device.open()?;
        let queue = device.take_queue(0)?;
        Ok(self.swap(now, at, device, queue))
    }

    fn swap(
        &mut self,
        now: Instant,
        at: usize,
        device: Box<dyn Device>,
        queue: Box<dyn Queue>,
    ) -> Box<dyn Device> {
        self.let_go(at);
        let port = &mut self.ports[at];
        port.past += port.device.stats();
        port.queue = Some(queue);
        let former = std::mem::replace(&mut port.device, device);
        self.tell(now, at);
        former
    }

    /// Drops a port's queue and what waits on both sides of it. What was built for this device's
    /// capabilities is lost with it; TCP sends it again. Who waits for a frame's token still gets it.
    fn let_go(&mut self, at: usize) {
        let port = &mut self.ports[at];
        if let Some(mut queue) = port.queue.take() {
            // A dead queue still tells what it was done with.
            let _ = queue.completed(&mut port.tokens);
        }
        port.tokens.extend(port.tx.iter().filter_map(|frame| frame.meta().token));
        port.rx.clear();
        port.tx.clear();
        self.shard.completed(&mut port.tokens);
    }

    /// Closes a lost device that has no successor, so that its buffers come back; the interface is down.
    fn close(&mut self, now: Instant, at: usize) {
        if let Err(error) = self.ports[at].device.close() {
            tracing::debug!(%error, "closing a lost device");
        }
        self.tell(now, at);
    }

    /// Notices a carrier that came or went; whether it did. A device that is down says so on its queue.
    fn look(&mut self, now: Instant, at: usize) -> bool {
        let port = &mut self.ports[at];
        port.looked = now;
        let state = port.device.oper_state();
        let changed = port.queue.is_some() && state != port.state && state != OperState::Down;
        if changed {
            self.tell(now, at);
        }
        changed
    }

    /// Tells the stack what an interface's device is and can do.
    fn tell(&mut self, now: Instant, at: usize) {
        let port = &mut self.ports[at];
        let state = if port.queue.is_some() { port.device.oper_state() } else { OperState::Down };
        port.state = state;
        port.looked = now;
        let info = port.device.info();
        let link = Link {
            mac: info.mac,
            mtu: info.mtu,
            state,
            caps: port.device.caps(),
            policy: port.policy,
        };
        self.shard.changed(now, port.iface, &link);
    }

    fn find(&self, iface: IfaceId) -> Result<usize, AttachError> {
        self.ports
            .iter()
            .position(|port| port.iface == iface)
            .ok_or(AttachError::NoInterface(iface))
    }

    /// Moves frames both ways once, and does what is due.
    ///
    /// # Errors
    /// [`PollError`] when a standby could not take over. The interface is down then; the others go on with
    /// the next call, and [`Runtime::replace`] brings it up again.
    pub fn poll(&mut self, now: Instant) -> Result<Polled, PollError> {
        let mut polled = Polled::default();
        for at in 0..self.ports.len() {
            if now.since(self.ports[at].looked) >= LINK_PERIOD {
                self.look(now, at);
            }
            if let Err(reason) = self.receive(now, at, &mut polled) {
                self.lost(now, at, reason, &mut polled)?;
            }
        }
        polled.more |= self.shard.turn(now, BUDGET).more;
        for at in 0..self.ports.len() {
            if let Err(reason) = self.transmit(now, at, &mut polled) {
                self.lost(now, at, reason, &mut polled)?;
            }
        }
        polled.more |= self.shard.has_events() || self.shard.wants_turn();
        Ok(polled)
    }

    fn receive(&mut self, now: Instant, at: usize, polled: &mut Polled) -> Result<(), DeviceError> {
        let port = &mut self.ports[at];
        let Some(queue) = &mut port.queue else { return Ok(()) };
        let received = queue.receive(BUDGET, &mut port.rx)?;
        polled.received += received;
        polled.more |= received == BUDGET;
        if received > 0 {
            self.shard.receive(now, port.iface, &mut port.rx);
        }
        let completed = queue.completed(&mut port.tokens);
        self.shard.completed(&mut port.tokens);
        completed
    }

    fn transmit(
        &mut self,
        now: Instant,
        at: usize,
        polled: &mut Polled,
    ) -> Result<(), DeviceError> {
        let port = &mut self.ports[at];
        let Some(queue) = &mut port.queue else { return Ok(()) };
        let room = BUDGET.min(WAITING_MAX.saturating_sub(port.tx.len()));
        self.shard.transmit(now, port.iface, room, &mut port.tx);
        if port.tx.is_empty() {
            return Ok(());
        }
        let outcome = queue.transmit(&mut port.tx)?;
        polled.sent += outcome.taken;
        polled.more |= !outcome.full && self.shard.wants_transmit(port.iface);
        Ok(())
    }

    /// The device of a port is lost: the standby takes over, or the interface goes down.
    fn lost(
        &mut self,
        now: Instant,
        at: usize,
        reason: DeviceError,
        polled: &mut Polled,
    ) -> Result<(), PollError> {
        let port = &mut self.ports[at];
        let name = port.name.clone();
        let lost = port.device.info().name.clone();
        let iface = port.iface;
        tracing::info!(interface = %name, device = %lost, %reason, "device lost");
        let standby = port.standby.take();
        self.let_go(at);
        let successor = match standby {
            Some(mut device) => {
                let queue = match device.open().and_then(|()| device.take_queue(0)) {
                    Ok(queue) => queue,
                    Err(source) => {
                        self.close(now, at);
                        return Err(PollError { name, source });
                    }
                };
                let successor = device.info().name.clone();
                let mut former = self.swap(now, at, device, queue);
                if let Err(error) = former.close() {
                    tracing::debug!(%error, "closing a lost device");
                }
                Some(successor)
            }
            None => {
                self.close(now, at);
                None
            }
        };
        polled.more = true;
        polled.failovers.push(Failover { iface, lost, reason, successor });
        Ok(())
    }

    /// Counters of an interface over all devices that it had.
    ///
    /// # Errors
    /// [`AttachError::NoInterface`].
    pub fn stats(&self, iface: IfaceId) -> Result<Stats, AttachError> {
        let port = &self.ports[self.find(iface)?];
        let mut stats = port.past;
        stats += port.device.stats();
        Ok(stats)
    }

    /// Sleeps until a device wants attention, the next deadline, or `longest`; not at all when a device
    /// or another shard has something. What was asked of the shard since the last [`Runtime::poll`] is for
    /// the next one: poll first. A device that can only be polled keeps it awake.
    ///
    /// # Errors
    /// What `poll(2)` answers.
    pub fn wait(&mut self, now: Instant, longest: Duration) -> std::io::Result<()> {
        if self.shard.wants_turn() {
            return Ok(());
        }
        let mut timeout = match self.shard.next_deadline() {
            Some(at) => longest.min(at.since(now)),
            None => longest,
        };
        for at in 0..self.ports.len() {
            let port = &mut self.ports[at];
            let Some(queue) = &mut port.queue else { continue };
            // A failing device is for `poll` to deal with.
            if !queue.arm().unwrap_or(false) {
                return Ok(());
            }
            if !port.tx.is_empty() {
                timeout = timeout.min(FULL_SLEEP_MAX);
            }
            // Armed before: a carrier that changes from here on wakes us, where the device can.
            if self.look(now, at) {
                return Ok(());
            }
        }
        let mut handles: Vec<BorrowedFd<'_>> = Vec::with_capacity(self.ports.len());
        for queue in self.ports.iter().filter_map(|port| port.queue.as_ref()) {
            match queue.wait_handle() {
                Some(handle) => handles.push(handle),
                None => return Ok(()),
            }
        }
        if timeout.is_zero() {
            return Ok(());
        }
        let mut fds: Vec<PollFd<'_>> =
            handles.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let timeout = Timespec {
            tv_sec: timeout.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
#[path = "runtime_tests.rs"]
mod tests;
