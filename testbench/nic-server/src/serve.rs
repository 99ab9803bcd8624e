//! The loop that serves a NIC: socket, wire and clock, coupled to the wall.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tandem_contract::nic::{Cycle, Nic, NicError};
use tandem_vfio_user::server::{BindError, Counters, Existing, Server, ServerError};
use thiserror::Error;

use crate::device::NicDevice;
use crate::dma::DmaCounters;
use crate::model::{self, ModelError, ModelOptions};
use crate::wire::{
    Capture, NoWire, Replay, ReplayError, Tap, TapError, Wire, WireCounters, WireSpec,
    WireSpecError,
};

/// Cycles between a DMA request and its response: 1 µs at 4 ns a cycle.
pub const DMA_LATENCY_DEFAULT: Cycle = 250;

/// Cycles that the NIC runs before socket and wire are looked at again: some milliseconds of a verilated model.
const CYCLES_PER_TURN: Cycle = 2_000;

/// What to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Remove a stale socket file instead of failing.
    pub replace_stale: bool,
    /// The wire.
    pub wire: WireSpec,
    /// The model.
    pub model: ModelOptions,
    /// Cycles between a DMA request and its response.
    pub dma_latency: Cycle,
}

/// Why serving failed. Each is one line that says what to do.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The socket.
    #[error("{0}; {hint}", hint = bind_hint(.0))]
    Bind(#[from] BindError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What `--wire` says.
    #[error(transparent)]
    Spec(#[from] WireSpecError),
    /// The TAP interface.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The capture file.
    #[error("--wire pcap: cannot write {}: {source}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file to replay.
    #[error("--wire pcap: cannot replay {}: {source}", path.display())]
    Replay {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReplayError,
    },
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The system.
    #[error("waiting for socket and wire: {0}")]
    Wait(Errno),
    /// The NIC broke a rule: a finding, not a fault of the client's.
    #[error("the NIC model failed: {0}; this is a bug of the model, please keep the way to it")]
    Nic(NicError),
}

fn bind_hint(error: &BindError) -> &'static str {
    match error {
        BindError::InUse { .. } => "stop that server or choose another --socket",
        BindError::Stale { .. } => "remove it or add --replace-stale",
        BindError::NotASocket { .. } => "choose another --socket",
        BindError::System { .. } => "check that the directory exists and may be written",
    }
}

/// What was done, for the last line of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The NIC's clock.
    pub cycles: Cycle,
    /// Of the socket.
    pub socket: Counters,
    /// Of DMA.
    pub dma: DmaCounters,
    /// Of the wire.
    pub wire: WireCounters,
}

/// A NIC that is being served.
pub struct NicServer {
    server: Server,
    device: NicDevice,
    capture: Option<PathBuf>,
}

impl NicServer {
    /// Makes what the options say and listens.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn open(options: &ServeOptions) -> Result<Self, ServeError> {
        let nic = model::build(&options.model)?;
        let (wire, capture) = open_wire(&options.wire)?;
        let existing =
            if options.replace_stale { Existing::ReplaceStale } else { Existing::Refuse };
        let mut server = Self::with(&options.socket, existing, nic, wire, options.dma_latency)?;
        server.capture = capture;
        Ok(server)
    }

    /// Serves any NIC on any wire.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn with(
        socket: &Path,
        existing: Existing,
        nic: Box<dyn Nic>,
        wire: Box<dyn Wire>,
        dma_latency: Cycle,
    ) -> Result<Self, ServeError> {
        let device = NicDevice::new(nic, wire, dma_latency);
        let server = Server::bind(socket, existing, device.server_config())?;
        Ok(Self { server, device, capture: None })
    }

    /// The NIC and what surrounds it.
    pub fn device(&self) -> &NicDevice {
        &self.device
    }

    /// Does what there is to do now; `true` when there is more.
    ///
    /// # Errors
    /// When the model or the server cannot go on.
    pub fn turn(&mut self) -> Result<bool, ServeError> {
        let progress = self.server.process_ready(&mut self.device)?;
        let now = self.device.nic().now();
        self.device.wire_mut().poll(now);
        let run = self.device.step(self.server.host().as_mut(), CYCLES_PER_TURN);
        if let Some(failure) = self.device.failure() {
            return Err(ServeError::Nic(failure.clone()));
        }
        Ok(!run.idle || progress.more || self.server.has_work())
    }

    /// Serves until `stop` becomes readable, then ends the client and the capture and removes the socket.
    ///
    /// # Errors
    /// As [`turn`](Self::turn), and when the capture could not be written to its end.
    pub fn run(mut self, stop: BorrowedFd<'_>) -> Result<Summary, ServeError> {
        let outcome = self.run_until(stop);
        // On an error too: what was captured up to then is what one wants to see.
        let finished = self.device.wire_mut().finish();
        outcome?;
        finished.map_err(|source| ServeError::Capture {
            path: self.capture.take().unwrap_or_default(),
            source,
        })?;
        Ok(self.summary())
    }

    fn run_until(&mut self, stop: BorrowedFd<'_>) -> Result<(), ServeError> {
        let mut more = true;
        loop {
            if self.ready(stop, more)? {
                return Ok(());
            }
            more = self.turn()?;
        }
    }

    /// Waits for socket, wire or `stop`, unless there is more to do anyway; `true` when it was `stop`.
    fn ready(&mut self, stop: BorrowedFd<'_>, more: bool) -> Result<bool, ServeError> {
        let no_wait = rustix::event::Timespec::default();
        let timeout = more.then_some(&no_wait);
        let mut fds = [
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::new(&self.server, PollFlags::IN),
        ]
        .to_vec();
        if let Some(fd) = self.device.wire_mut().fd().filter(|_| !more) {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(ServeError::Wait(errno)),
        }
    }

    /// What was done up to now.
    pub fn summary(&mut self) -> Summary {
        Summary {
            cycles: self.device.nic().now(),
            socket: self.server.counters(),
            dma: self.device.dma_counters(),
            wire: self.device.wire_mut().counters(),
        }
    }
}

fn open_wire(spec: &WireSpec) -> Result<(Box<dyn Wire>, Option<PathBuf>), ServeError> {
    match spec {
        WireSpec::None => Ok((Box::new(NoWire::default()), None)),
        WireSpec::Tap(name) => Ok((Box::new(Tap::open(name)?), None)),
        WireSpec::Pcap { out, replay } => {
            let inner: Box<dyn Wire> = match replay {
                Some(path) => Box::new(
                    Replay::open(path)
                        .map_err(|source| ServeError::Replay { path: path.clone(), source })?,
                ),
                None => Box::new(NoWire::default()),
            };
            let capture = Capture::create(out, inner)
                .map_err(|source| ServeError::Capture { path: out.clone(), source })?;
            Ok((Box::new(capture), Some(out.clone())))
        }
    }
}
