//! A TAP device at the far end: the NIC's MAC port as an Ethernet port of a Linux.
//!
//! The descriptor is made elsewhere (creating a TAP takes rights that this crate does not ask for).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tandem_contract::nic::{Arrival, Cycle};

use super::{FramePort, WIRE_FRAME_BYTES_MAX};

/// Cycles between two looks at a TAP that had nothing: a system call a cycle would cost more than the
/// cycle.
const POLL_CYCLES: Cycle = 64;

/// Room for a `virtio_net_hdr` of any kind.
const VNET_HDR_MAX: usize = 20;

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    written: AtomicU64,
    read_errors: AtomicU64,
    write_refused: AtomicU64,
    write_errors: AtomicU64,
}

/// What went through a TAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapStats {
    /// Frames from Linux.
    pub read: u64,
    /// Frames to Linux.
    pub written: u64,
    /// Reads that failed other than for want of a frame.
    pub read_errors: u64,
    /// Frames lost because Linux had no room.
    pub write_refused: u64,
    /// Frames lost because the device was down or gone, or did not like them.
    pub write_errors: u64,
}

/// A TAP at the far end.
#[derive(Debug)]
pub struct TapPort {
    fd: Arc<OwnedFd>,
    vnet_hdr_len: usize,
    next_look: Cycle,
    buffer: Box<[u8]>,
    counters: Arc<Counters>,
}

impl TapPort {
    /// Takes a TAP's descriptor and makes it non-blocking. `vnet_hdr_len` is 0, or with `IFF_VNET_HDR`
    /// the length that was set: the header is skipped on reading (no offloads may be switched on) and
    /// all zeros on writing.
    ///
    /// # Errors
    /// What fcntl answers, or `InvalidInput` for a header that is too long.
    pub fn new(fd: OwnedFd, vnet_hdr_len: usize) -> std::io::Result<Self> {
        if vnet_hdr_len > VNET_HDR_MAX {
            let text = format!("a virtio header of {vnet_hdr_len} bytes; the longest has 20");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text));
        }
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Self {
            fd: Arc::new(fd),
            vnet_hdr_len,
            next_look: 0,
            buffer: vec![0; VNET_HDR_MAX + WIRE_FRAME_BYTES_MAX].into_boxed_slice(),
            counters: Arc::default(),
        })
    }

    /// Something to ask for statistics and to wait on, after the port went into a wire.
    pub fn handle(&self) -> TapHandle {
        TapHandle { fd: Arc::clone(&self.fd), counters: Arc::clone(&self.counters) }
    }
}

/// Asks a [`TapPort`] that is in a wire for its statistics, and waits for its frames.
#[derive(Debug, Clone)]
pub struct TapHandle {
    fd: Arc<OwnedFd>,
    counters: Arc<Counters>,
}

impl TapHandle {
    /// What went through.
    pub fn stats(&self) -> TapStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TapStats {
            read: get(&self.counters.read),
            written: get(&self.counters.written),
            read_errors: get(&self.counters.read_errors),
            write_refused: get(&self.counters.write_refused),
            write_errors: get(&self.counters.write_errors),
        }
    }
}

impl AsFd for TapHandle {
    /// Readable when a frame waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl FramePort for TapPort {
    fn receive(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        if cycle < self.next_look {
            return None;
        }
        match rustix::io::read(&*self.fd, &mut self.buffer[..]) {
            Ok(len) if len > self.vnet_hdr_len => {
                self.next_look = cycle;
                self.counters.read.fetch_add(1, Ordering::Relaxed);
                frame.clear();
                frame.extend_from_slice(&self.buffer[self.vnet_hdr_len..len]);
                return Some(Arrival { error: false });
            }
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.counters.read_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.next_look = cycle + POLL_CYCLES;
        None
    }

    /// Nobody knows when Linux sends, so this asks whether it has. A clock that stands while the NIC is
    /// idle is then moved on to the next look; who waits, waits on the handle's descriptor.
    fn next_at(&self) -> Option<Cycle> {
        let mut fds = [PollFd::new(&*self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(1..)).then_some(self.next_look)
    }

    fn send(&mut self, _cycle: Cycle, frame: &[u8]) {
        let header = self.vnet_hdr_len;
        let len = header + frame.len();
        let Some(out) = self.buffer.get_mut(..len) else {
            self.counters.write_errors.fetch_add(1, Ordering::Relaxed);
            return;
        };
        out[..header].fill(0);
        out[header..].copy_from_slice(frame);
        let counter = match rustix::io::write(&*self.fd, out) {
            Ok(_) => &self.counters.written,
            Err(Errno::AGAIN | Errno::NOBUFS) => &self.counters.write_refused,
            Err(_) => &self.counters.write_errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    /// A socket pair keeps packet borders as a TAP does.
    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn frames_cross_with_and_without_header() {
        for header in [0, 12] {
            let (linux, nic) = pair();
            let mut port = TapPort::new(nic, header).unwrap();
            let handle = port.handle();
            let mut frame = Vec::new();
            assert_eq!(port.receive(0, &mut frame), None, "nothing there, does not block");
            let mut sent = vec![0xEE; header];
            sent.extend([1, 2, 3]);
            rustix::io::write(&linux, &sent).unwrap();
            assert_eq!(port.receive(1, &mut frame), None, "does not look every cycle");
            assert_eq!(port.next_at(), Some(POLL_CYCLES), "a clock that stands is moved on");
            assert_eq!(port.receive(POLL_CYCLES, &mut frame), Some(Arrival { error: false }));
            assert_eq!(frame, [1, 2, 3]);

            port.send(5, &[4, 5]);
            let mut got = [0; 64];
            let len = rustix::io::read(&linux, &mut got).unwrap();
            let mut wanted = vec![0; header];
            wanted.extend([4, 5]);
            assert_eq!(got[..len], wanted);
            drop(linux);
            port.send(6, &[4, 5]);
            let stats = handle.stats();
            assert_eq!((stats.read, stats.written, stats.write_errors), (1, 1, 1));
        }
    }

    #[test]
    fn a_header_without_frame_is_no_frame() {
        let (linux, nic) = pair();
        let mut port = TapPort::new(nic, 12).unwrap();
        rustix::io::write(&linux, &[0; 12]).unwrap();
        assert_eq!(port.receive(0, &mut Vec::new()), None);
    }
}
