//! Sockets for programs that want to wait: each call runs the poll loop on the caller's thread until it
//! can answer.

use std::net::SocketAddr;
use std::time::Duration;

use tandem_stack::{ConnectOptions, Instant, IoError, NamespaceId, OpenError, SocketHandle};
use thiserror::Error;

use crate::runtime::{Failover, PollError, Runtime};

/// Longest sleep between two looks.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// What drives time and whatever else must move while a call waits, such as a simulated NIC.
pub trait Driver {
    /// The moment.
    fn now(&mut self) -> Instant;

    /// Called after each poll. Returns true when it did something, so that there is no sleep.
    ///
    /// # Errors
    /// What ends the call that waits.
    fn step(&mut self) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        Ok(false)
    }

    /// A device was lost.
    fn failover(&mut self, failover: Failover) {
        tracing::warn!(lost = %failover.lost, reason = %failover.reason, "device lost");
    }
}

impl Driver for crate::WallClock {
    fn now(&mut self) -> Instant {
        crate::WallClock::now(self)
    }
}

/// Why a blocking call failed.
#[derive(Debug, Error)]
pub enum BlockingError {
    /// The socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The connection failed.
    #[error("{peer}: {error}")]
    Io {
        /// Peer.
        peer: SocketAddr,
        /// Why.
        error: IoError,
    },
    /// Nothing happened for as long as the caller wanted to wait.
    #[error("{peer}: no answer within {waited:?}")]
    TimedOut {
        /// Peer.
        peer: SocketAddr,
        /// How long.
        waited: Duration,
    },
    /// A device failed and nothing could replace it.
    #[error(transparent)]
    Poll(#[from] PollError),
    /// Sleeping failed.
    #[error("waiting for devices failed")]
    Wait(#[from] std::io::Error),
    /// The driver of the run failed.
    #[error("{0}")]
    Driver(Box<dyn std::error::Error + Send + Sync>),
}

/// A TCP connection; its calls wait. Dropping it does not close it: [`TcpStream::close`] does.
#[derive(Debug)]
pub struct TcpStream {
    handle: SocketHandle,
    peer: SocketAddr,
    timeout: Duration,
}

/// Runs the loop until `attempt` answers something else than "would block".
fn wait_for<T>(
    runtime: &mut Runtime,
    driver: &mut dyn Driver,
    peer: SocketAddr,
    timeout: Duration,
    mut attempt: impl FnMut(&mut Runtime, Instant) -> Result<T, IoError>,
) -> Result<T, BlockingError> {
    let start = driver.now();
    loop {
        let now = driver.now();
        match attempt(runtime, now) {
            Ok(answer) => return Ok(answer),
            Err(IoError::WouldBlock | IoError::NoBuffers) => {}
            Err(error) => return Err(BlockingError::Io { peer, error }),
        }
        if now.since(start) > timeout {
            return Err(BlockingError::TimedOut { peer, waited: timeout });
        }
        turn(runtime, driver)?;
    }
}

/// One turn of the loop, with a sleep when there is nothing to do.
///
/// # Errors
/// See [`BlockingError`].
pub fn turn(runtime: &mut Runtime, driver: &mut dyn Driver) -> Result<(), BlockingError> {
    let polled = runtime.poll(driver.now())?;
    let busy = polled.more || polled.received + polled.sent > 0;
    for failover in polled.failovers {
        driver.failover(failover);
    }
    // Readiness is looked at by trying; here events only say that there is something to try.
    let mut news = false;
    while runtime.shard().next_event().is_some() {
        news = true;
    }
    let stepped = driver.step().map_err(BlockingError::Driver)?;
    if !(busy || news || stepped) {
        runtime.wait(driver.now(), SLEEP_MAX)?;
    }
    Ok(())
}

impl TcpStream {
    /// Connects, and waits for the connection to be set up.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub fn connect(
        runtime: &mut Runtime,
        driver: &mut dyn Driver,
        peer: SocketAddr,
        timeout: Duration,
    ) -> Result<Self, BlockingError> {
        let now = driver.now();
        let handle =
            runtime.shard().tcp_connect(now, NamespaceId(0), peer, &ConnectOptions::default())?;
        let stream = Self { handle, peer, timeout };
        let opened = wait_for(runtime, driver, peer, timeout, |runtime, now| {
            match runtime.shard().tcp_info(handle)?.state.is_synchronized() {
                true => Ok(()),
                false => match runtime.shard().tcp_read(now, handle, &mut [0]) {
                    Err(error) if error != IoError::NotConnected => Err(error),
                    _ => Err(IoError::WouldBlock),
                },
            }
        });
        if opened.is_err() {
            let now = driver.now();
            // The handle may be gone already, which is as good.
            let _ = runtime.shard().tcp_abort(now, handle);
        }
        opened.map(|()| stream)
    }

    /// The socket, for calls of [`tandem_stack::Shard`].
    pub fn handle(&self) -> SocketHandle {
        self.handle
    }

    /// Reads at least one byte; 0 is the end of the stream.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub fn read(
        &self,
        runtime: &mut Runtime,
        driver: &mut dyn Driver,
        buffer: &mut [u8],
    ) -> Result<usize, BlockingError> {
        wait_for(runtime, driver, self.peer, self.timeout, |runtime, now| {
            runtime.shard().tcp_read(now, self.handle, buffer)
        })
    }

    /// Writes everything.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub fn write_all(
        &self,
        runtime: &mut Runtime,
        driver: &mut dyn Driver,
        mut bytes: &[u8],
    ) -> Result<(), BlockingError> {
        while !bytes.is_empty() {
            let written = wait_for(runtime, driver, self.peer, self.timeout, |runtime, now| {
                runtime.shard().tcp_write(now, self.handle, bytes)
            })?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Closes it; what was written is still delivered while the runtime is polled.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub fn close(
        self,
        runtime: &mut Runtime,
        driver: &mut dyn Driver,
    ) -> Result<(), BlockingError> {
        let now = driver.now();
        let peer = self.peer;
        runtime.shard().close(now, self.handle).map_err(|error| BlockingError::Io { peer, error })
    }
}
