//! The device's end: listens on a socket and answers one client at a time.
//!
//! A [`Server`] never blocks on the client except in two bounded cases: a DMA access to memory that can only be
//! reached by messages waits up to [`Limits::dma_timeout`], and [`Server::run`] waits for something to do. Every
//! command gets its reply; one that cannot be carried out gets an error reply with an errno. A client that
//! breaks the framing, floods or vanishes is dropped, and the next one is accepted.

mod bind;
mod connection;
mod dispatch;

pub use bind::{BindError, Existing};
pub use connection::Host;

pub(crate) use bind::connect_within;
pub(crate) use connection::MESSAGE_OVERHEAD_BYTES;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::io::Errno;
use thiserror::Error;

use crate::irq::{IrqChange, IrqType};
use crate::message::{DmaFlags, RegionFlags, SparseArea};
use crate::socket::timespec;
use connection::Connection;

/// Most commands that one call of [`Server::process_ready`] answers.
const COMMANDS_PER_CALL: u32 = 64;

/// A region of the device, at its index in [`ServerConfig::regions`].
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Bytes; 0 when the device has no such region.
    pub size: u64,
    /// [`RegionFlags::READ`] and [`RegionFlags::WRITE`]; the rest is computed.
    pub flags: RegionFlags,
    /// What of it the client may map.
    pub mmap: Option<RegionFile>,
}

/// The memory behind a mappable region.
#[derive(Clone, Debug)]
pub struct RegionFile {
    /// The file.
    pub fd: Arc<OwnedFd>,
    /// Offset of the region's first byte in it.
    pub offset: u64,
    /// The mappable parts; empty means all of the region.
    pub areas: Vec<SparseArea>,
}

/// Bounds on what a client can make the server do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes in one data transfer, either way.
    pub data_xfer_bytes_max: u32,
    /// How long a DMA message may go unanswered. Keep it below the time in which the client wants its own
    /// replies (5 s in QEMU), because it is waiting for one meanwhile.
    pub dma_timeout: Duration,
    /// Most commands that are kept while an answer to a DMA message is awaited.
    pub queued_commands_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            data_xfer_bytes_max: 1 << 20,
            dma_timeout: Duration::from_secs(2),
            queued_commands_max: 1024,
        }
    }
}

/// What the server presents.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The regions by index; for PCI see [`crate::pci`].
    pub regions: Vec<Region>,
    /// The interrupt types by index; for PCI see [`crate::pci`].
    pub irqs: Vec<IrqType>,
    /// Whether `DEVICE_RESET` works.
    pub resettable: bool,
    /// Bounds.
    pub limits: Limits,
}

impl ServerConfig {
    /// A PCI device with a configuration space of `config_bytes` (256 or 4096) and nothing else.
    pub fn pci(config_bytes: u64) -> Self {
        let mut regions = vec![Region::default(); crate::pci::REGIONS];
        let flags = RegionFlags::READ | RegionFlags::WRITE;
        regions[crate::pci::REGION_CONFIG as usize] =
            Region { size: config_bytes, flags, mmap: None };
        Self {
            regions,
            irqs: vec![IrqType::default(); crate::pci::IRQS],
            resettable: true,
            limits: Limits::default(),
        }
    }
}

/// A DMA range that the client mapped or unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaRange {
    /// First address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// What the device may do with it; empty when it is being unmapped.
    pub flags: DmaFlags,
}

/// What a device does for the server. Offsets and lengths are checked against [`ServerConfig`] before a call.
///
/// An `Err` becomes an error reply with that errno.
pub trait Device {
    /// Reads `data.len()` bytes (1 to the transfer limit) of a region.
    fn region_read(
        &mut self,
        host: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), Errno>;

    /// Writes to a region.
    fn region_write(
        &mut self,
        host: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno>;

    /// Resets the device. When this returns, nothing of before is in flight any more.
    fn reset(&mut self, host: &mut Host<'_>) -> Result<(), Errno>;

    /// The client armed, disarmed, masked, unmasked or triggered interrupts; the server has done its part
    /// (eventfds, masks, pending bits).
    fn irqs_changed(&mut self, _host: &mut Host<'_>, _change: IrqChange) {}

    /// A range has become reachable.
    fn dma_mapped(&mut self, _host: &mut Host<'_>, _range: DmaRange) {}

    /// A range is about to be taken away: the device must end what it has in flight there. Until this returns
    /// the range can still be accessed, afterwards not ("the server must release all references").
    fn dma_unmapping(&mut self, _host: &mut Host<'_>, _range: DmaRange) {}

    /// A client has negotiated.
    fn client_joined(&mut self) {}

    /// The client has gone; its memory and its eventfds are unreachable from now on. The device's own state is
    /// to be kept (section "Client Disconnection").
    fn client_left(&mut self) {}
}

/// What one call of [`Server::process_ready`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Commands answered (or carried out, when no reply was wanted).
    pub commands: u32,
    /// A client has connected.
    pub joined: bool,
    /// The client has left or was dropped.
    pub left: bool,
    /// There may be more to do without waiting.
    pub more: bool,
}

/// What the server has seen and refused since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Clients accepted.
    pub clients: u64,
    /// Clients dropped for breaking the protocol.
    pub clients_dropped: u64,
    /// Commands received.
    pub commands: u64,
    /// Error replies, and errors of commands that wanted no reply.
    pub errors: u64,
    /// Commands with an unknown number, drained and answered with ENOSYS.
    pub unknown_commands: u64,
    /// Messages above the size limit, drained and answered with EMSGSIZE.
    pub oversized: u64,
    /// Messages with too many descriptors, which were closed.
    pub surplus_fds: u64,
    /// Replies that belong to no command.
    pub stray_replies: u64,
    /// Bytes that went by `DMA_READ` and `DMA_WRITE`.
    pub dma_message_bytes: u64,
    /// DMA accesses that failed.
    pub dma_errors: u64,
    /// Unmappings that had nothing to unmap.
    pub empty_unmaps: u64,
    /// Interrupts that no eventfd was armed for.
    pub irqs_unarmed: u64,
}

/// Failure of the server itself, not of a client.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The system refused.
    #[error("vfio-user server: {0}")]
    System(#[from] Errno),
}

/// The device's end of a vfio-user socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    /// The socket file and its identity, to be removed at the end.
    path: Option<(PathBuf, u64, u64)>,
    config: ServerConfig,
    connection: Option<Connection>,
    epoll: OwnedFd,
    /// Whether writability of the connection is waited for too.
    waits_for_write: bool,
    counters: Counters,
}

impl Server {
    /// Listens at `path`.
    ///
    /// # Errors
    /// [`BindError`] tells a live server from a stale socket file and both from other files.
    pub fn bind(path: &Path, existing: Existing, config: ServerConfig) -> Result<Self, BindError> {
        let listener = bind::listen(path, existing)?;
        let system = |source| BindError::System { path: path.into(), source };
        let identity = rustix::fs::stat(path).map_err(|errno| system(errno.into()))?;
        let mut server = Self::from_listener(listener, config).map_err(|error| match error {
            ServerError::System(errno) => system(errno.into()),
        })?;
        server.path = Some((path.into(), identity.st_dev, identity.st_ino));
        Ok(server)
    }

    /// Listens on a socket that someone else has bound.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn from_listener(
        listener: UnixListener,
        config: ServerConfig,
    ) -> Result<Self, ServerError> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        let counters = Counters::default();
        Ok(Self {
            listener,
            path: None,
            config,
            connection: None,
            epoll,
            waits_for_write: false,
            counters,
        })
    }

    /// The interface to the client's memory and interrupts, for what the device does between commands; `None`
    /// when no client has negotiated.
    pub fn host(&mut self) -> Option<Host<'_>> {
        let connection = self.connection.as_mut().filter(|connection| connection.negotiated());
        Some(Host::new(connection?, &mut self.counters))
    }

    /// Whether a client is connected.
    pub fn has_client(&self) -> bool {
        self.connection.is_some()
    }

    /// What was presented at [`bind`](Self::bind).
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Counters since the beginning.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Answers what has arrived, without waiting for more. Call it when [`as_fd`](AsFd::as_fd) is readable, and
    /// again while [`Progress::more`] says so.
    ///
    /// # Errors
    /// Only when the server cannot go on; a client's faults cost that client its connection.
    pub fn process_ready(&mut self, device: &mut dyn Device) -> Result<Progress, ServerError> {
        let mut progress = Progress::default();
        if self.connection.is_none() {
            progress.joined = self.accept()?;
        }
        let Some(connection) = &mut self.connection else { return Ok(progress) };
        let was_negotiated = connection.negotiated();
        let mut outcome = Ok(());
        while progress.commands < COMMANDS_PER_CALL {
            match dispatch::answer_next(connection, &self.config, &mut self.counters, device) {
                Ok(true) => progress.commands += 1,
                Ok(false) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        progress.more = progress.commands == COMMANDS_PER_CALL;
        if connection.negotiated() && !was_negotiated {
            device.client_joined();
        }
        if let Err(error) = outcome {
            self.counters.clients_dropped += u64::from(!error.is_departure());
            tracing::debug!(%error, "vfio-user client left");
            self.disconnect(device)?;
            progress.left = true;
            progress.more = true;
        } else {
            self.update_interest()?;
        }
        Ok(progress)
    }

    /// Whether [`process_ready`](Self::process_ready) has something to do that [`as_fd`](AsFd::as_fd) does not
    /// show: commands that arrived while the device waited for a DMA message's answer. Ask before waiting.
    pub fn has_work(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::has_work)
    }

    /// Waits until there is something to do, at most for `timeout`; `false` when there is nothing.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, ServerError> {
        if self.has_work() {
            return Ok(true);
        }
        let timeout = timeout.map(timespec);
        match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Serves until `stop` says so; it is asked at least every 100 ms.
    ///
    /// # Errors
    /// As [`process_ready`](Self::process_ready).
    pub fn run(
        &mut self,
        device: &mut dyn Device,
        mut stop: impl FnMut() -> bool,
    ) -> Result<(), ServerError> {
        while !stop() {
            let progress = self.process_ready(device)?;
            if !progress.more {
                self.wait(Some(Duration::from_millis(100)))?;
            }
        }
        Ok(())
    }

    /// Drops the client, if there is one, as if it had left.
    ///
    /// # Errors
    /// When the listener cannot be watched again.
    pub fn disconnect(&mut self, device: &mut dyn Device) -> Result<(), ServerError> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        epoll::delete(&self.epoll, connection.as_fd())?;
        let negotiated = connection.negotiated();
        drop(connection);
        if negotiated {
            device.client_left();
        }
        epoll::add(
            &self.epoll,
            &self.listener,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )?;
        Ok(())
    }

    fn accept(&mut self) -> Result<bool, ServerError> {
        let stream: UnixStream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                return match Errno::from_io_error(&error) {
                    // The one who knocked has gone again, or there is none.
                    Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(false),
                    Some(errno) => Err(errno.into()),
                    None => Err(Errno::IO.into()),
                };
            }
        };
        // Others wait in the listener's backlog until this one leaves; it must not be reported meanwhile.
        epoll::delete(&self.epoll, &self.listener)?;
        epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        self.waits_for_write = false;
        self.connection = Some(Connection::new(stream, &self.config));
        self.counters.clients += 1;
        Ok(true)
    }

    fn update_interest(&mut self) -> Result<(), ServerError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let wants = connection.wants_write();
        if wants != self.waits_for_write {
            // With a reply unsent no further command is read, so readability is of no interest either.
            let flags = if wants { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            epoll::modify(&self.epoll, connection.as_fd(), epoll::EventData::new_u64(1), flags)?;
            self.waits_for_write = wants;
        }
        Ok(())
    }
}

impl AsFd for Server {
    /// A descriptor that is readable when [`Server::process_ready`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some((path, dev, ino)) = &self.path else { return };
        // Someone may have replaced the file: only our own is removed.
        if rustix::fs::stat(path).is_ok_and(|now| (now.st_dev, now.st_ino) == (*dev, *ino)) {
            let _ = std::fs::remove_file(path);
        }
    }
}
