//! Messages over a UNIX stream socket, with descriptors, without blocking.
//!
//! Descriptors belong to the message during whose bytes they arrive. To know whose that is, a message is read
//! as its header, exactly, and then its body, exactly: the kernel would join the end of one message with the
//! descriptors of the next in a longer read. A message that is larger than the limit is drained without being
//! stored, so that it can be answered with an error while the stream stays in step. Descriptors beyond the
//! limit are closed and the message is marked.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use thiserror::Error;
use zerocopy::{FromZeros, IntoBytes};

use crate::message::{HEADER_LEN, Header, emit};

/// Most descriptors that are received or sent with one message.
pub const MSG_FDS_MAX: usize = 16;

/// Most bytes that wait to be sent, as a multiple of the largest message: a reply and two requests.
const TX_MESSAGES_MAX: usize = 3;

/// Failure of a connection; it cannot be used any more.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The peer closed it. `mid_message` says whether a message was cut off.
    #[error("the peer closed the connection{}", if *mid_message { " in the middle of a message" } else { "" })]
    Closed {
        /// A message had begun.
        mid_message: bool,
    },
    /// A header that cannot be: its size is less than its own length, or its type is unknown.
    #[error("the peer sent an impossible header (size {size}, flags {flags:#x})")]
    Desynchronized {
        /// The size it names.
        size: u32,
        /// Its flags.
        flags: u32,
    },
    /// The peer does not take what is sent to it.
    #[error("the peer left more than {limit} bytes unread")]
    Backlog {
        /// Bytes that may wait.
        limit: usize,
    },
    /// The deadline passed.
    #[error("no answer in time")]
    TimedOut,
    /// The system refused.
    #[error("socket: {0}")]
    System(#[from] Errno),
}

/// What is wrong with a message that was received in step but not in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Larger than the limit; the body was thrown away.
    Oversized,
    /// More descriptors than the limit; all of them were closed.
    TooManyFds,
}

/// A received message.
#[derive(Debug)]
pub struct Received {
    /// Its header.
    pub header: Header,
    /// Its body; empty when there is a defect.
    pub body: Vec<u8>,
    /// Its descriptors. Dropping the message closes them.
    pub fds: ArrayVec<OwnedFd, MSG_FDS_MAX>,
    /// What is wrong with it.
    pub defect: Option<Defect>,
}

/// Descriptors that go out with a message.
pub type SharedFds = ArrayVec<Arc<OwnedFd>, MSG_FDS_MAX>;

#[derive(Debug)]
enum Rx {
    Header { got: usize },
    Body { got: usize },
    Drain { left: usize },
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    message_bytes_max: usize,
    rx: Rx,
    rx_header: Header,
    rx_body: Vec<u8>,
    rx_fds: ArrayVec<OwnedFd, MSG_FDS_MAX>,
    rx_defect: Option<Defect>,
    tx: Vec<u8>,
    tx_sent: usize,
    /// Descriptors and the offset in `tx` of the message that they go with.
    tx_fds: VecDeque<(usize, SharedFds)>,
}

impl Channel {
    /// Takes a connected stream. `message_bytes_max` is the largest message that is stored, header included.
    pub fn new(stream: UnixStream, message_bytes_max: usize) -> Self {
        Self {
            stream,
            message_bytes_max,
            rx: Rx::Header { got: 0 },
            rx_header: Header::default(),
            rx_body: Vec::new(),
            rx_fds: ArrayVec::new(),
            rx_defect: None,
            tx: Vec::new(),
            tx_sent: 0,
            tx_fds: VecDeque::new(),
        }
    }

    /// Whether bytes wait to be sent: then wait for writability too.
    pub fn wants_write(&self) -> bool {
        self.tx_sent < self.tx.len()
    }

    /// Adds a message to what is to be sent; [`flush`](Self::flush) sends it.
    pub fn queue(
        &mut self,
        header: Header,
        parts: &[&[u8]],
        fds: SharedFds,
    ) -> Result<(), SocketError> {
        let bytes = HEADER_LEN + parts.iter().map(|part| part.len()).sum::<usize>();
        let limit = TX_MESSAGES_MAX * self.message_bytes_max;
        if self.tx.len() - self.tx_sent + bytes > limit {
            return Err(SocketError::Backlog { limit });
        }
        if !fds.is_empty() {
            self.tx_fds.push_back((self.tx.len(), fds));
        }
        emit(&mut self.tx, header, parts);
        Ok(())
    }

    /// Sends what the socket takes; `true` when nothing is left.
    pub fn flush(&mut self) -> Result<bool, SocketError> {
        while self.tx_sent < self.tx.len() {
            // A message with descriptors begins a write of its own, so that they arrive with its first byte.
            let carries = self.tx_fds.front().is_some_and(|(at, _)| *at == self.tx_sent);
            let next = self.tx_fds.get(usize::from(carries)).map_or(self.tx.len(), |(at, _)| *at);
            let bytes = &self.tx[self.tx_sent..next];
            let fds = if carries { self.tx_fds.front().map(|(_, fds)| fds) } else { None };
            match send(&self.stream, bytes, fds) {
                Ok(sent) => {
                    self.tx_sent += sent;
                    if carries {
                        self.tx_fds.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    return Err(SocketError::Closed { mid_message: false });
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        self.tx.clear();
        self.tx_sent = 0;
        Ok(true)
    }

    /// The next message, or `None` when it has not arrived in full.
    pub fn try_receive(&mut self) -> Result<Option<Received>, SocketError> {
        loop {
            match self.rx {
                Rx::Header { got } => {
                    let n = {
                        let into = &mut self.rx_header.as_mut_bytes()[got..];
                        receive(&self.stream, into, &mut self.rx_fds, &mut self.rx_defect)
                    };
                    let Some(n) = self.arrived(n, got > 0)? else { return Ok(None) };
                    let got = got + n;
                    self.rx =
                        if got < HEADER_LEN { Rx::Header { got } } else { self.begin_body()? };
                }
                Rx::Body { got } if got == self.rx_body.len() => return Ok(Some(self.complete())),
                Rx::Body { got } => {
                    let n = receive(
                        &self.stream,
                        &mut self.rx_body[got..],
                        &mut self.rx_fds,
                        &mut self.rx_defect,
                    );
                    let Some(n) = self.arrived(n, true)? else { return Ok(None) };
                    self.rx = Rx::Body { got: got + n };
                }
                Rx::Drain { left: 0 } => return Ok(Some(self.complete())),
                Rx::Drain { left } => {
                    let mut waste = [0; 4096];
                    let len = left.min(waste.len());
                    let n = receive(
                        &self.stream,
                        &mut waste[..len],
                        &mut self.rx_fds,
                        &mut self.rx_defect,
                    );
                    let Some(n) = self.arrived(n, true)? else { return Ok(None) };
                    self.rx = Rx::Drain { left: left - n };
                }
            }
        }
    }

    fn arrived(
        &self,
        n: Result<usize, Errno>,
        mid_message: bool,
    ) -> Result<Option<usize>, SocketError> {
        match n {
            Ok(0) | Err(Errno::CONNRESET) => Err(SocketError::Closed { mid_message }),
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn begin_body(&mut self) -> Result<Rx, SocketError> {
        let Header { size, flags, .. } = self.rx_header;
        let body =
            (size as usize).checked_sub(HEADER_LEN).filter(|_| self.rx_header.kind().is_some());
        let body = body.ok_or(SocketError::Desynchronized { size, flags })?;
        if size as usize > self.message_bytes_max {
            self.rx_defect = Some(Defect::Oversized);
            return Ok(Rx::Drain { left: body });
        }
        self.rx_body.clear();
        self.rx_body.resize(body, 0);
        Ok(Rx::Body { got: 0 })
    }

    fn complete(&mut self) -> Received {
        self.rx = Rx::Header { got: 0 };
        let defect = self.rx_defect.take();
        let mut fds = std::mem::take(&mut self.rx_fds);
        let mut body = std::mem::take(&mut self.rx_body);
        if defect.is_some() {
            fds.clear();
            body.clear();
        }
        let header = std::mem::replace(&mut self.rx_header, Header::new_zeroed());
        Received { header, body, fds, defect }
    }

    /// Gives the memory of a message back for the next one.
    pub fn recycle(&mut self, body: Vec<u8>) {
        if matches!(self.rx, Rx::Header { .. }) && self.rx_body.capacity() < body.capacity() {
            self.rx_body = body;
        }
    }

    /// Waits until the peer has sent something, or takes something when bytes wait; fails at the deadline.
    pub fn wait(&self, deadline: Instant) -> Result<(), SocketError> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, self.wants_write());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = timespec(left);
            match poll(&mut [PollFd::new(&self.stream, flags)], Some(&timeout)) {
                Ok(0) if Instant::now() >= deadline => return Err(SocketError::TimedOut),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn send(stream: &UnixStream, bytes: &[u8], fds: Option<&SharedFds>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MSG_FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: ArrayVec<BorrowedFd<'_>, MSG_FDS_MAX> =
        fds.into_iter().flatten().map(|fd| fd.as_fd()).collect();
    if !borrowed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn receive(
    stream: &UnixStream,
    into: &mut [u8],
    fds: &mut ArrayVec<OwnedFd, MSG_FDS_MAX>,
    defect: &mut Option<Defect>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MSG_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, &mut [IoSliceMut::new(into)], &mut control, flags)?;
    let mut surplus = received.flags.contains(ReturnFlags::CTRUNC);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            for fd in rights {
                // What does not fit is dropped here, which closes it.
                surplus |= fds.try_push(fd).is_err();
            }
        }
    }
    if surplus {
        defect.get_or_insert(Defect::TooManyFds);
    }
    Ok(received.bytes)
}
