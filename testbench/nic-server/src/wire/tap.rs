//! A TAP interface of Linux as the other end of the cable.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::{Errno, read, write};
use tandem_contract::nic::{Arrival, Cycle, WirePort};
use thiserror::Error;

use super::{Pacer, Wire, WireCounters};

/// Longest interface name, without the terminating NUL.
const NAME_LEN_MAX: usize = 15;
/// Frames that are fetched ahead; the rest waits in the kernel's queue.
const FRAMES_AHEAD_MAX: usize = 64;
/// Longest frame that is fetched; the NIC drops those beyond its own limit and counts them.
const FRAME_LEN_MAX: usize = 65_536;

/// Why there is no TAP interface. Each says what to do.
#[derive(Debug, Error)]
pub enum TapError {
    /// The name cannot be one.
    #[error(
        "--wire tap:{0}: an interface name has 1 to {NAME_LEN_MAX} characters, none of them / or space"
    )]
    Name(String),
    /// No permission.
    #[error(
        "--wire tap:{0}: no permission to make or attach that interface; run as root or with CAP_NET_ADMIN, or have \
         it made for you: ip tuntap add dev {0} mode tap user $USER"
    )]
    Permission(String),
    /// No TUN driver.
    #[error("--wire tap:{0}: this system has no /dev/net/tun; load it with: modprobe tun")]
    NoDriver(String),
    /// Someone else has it.
    #[error("--wire tap:{0}: another program has that interface; stop it or choose another name")]
    Busy(String),
    /// The interface exists and is something else.
    #[error(
        "--wire tap:{0}: that interface exists and is not a TAP of one queue; choose another name"
    )]
    NotATap(String),
    /// Something else.
    #[error("--wire tap:{name}: {source}")]
    System {
        /// Interface.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A TAP interface. It vanishes with this value unless it was there before.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    frames: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    pacer: Pacer,
    next_at: Cycle,
    counters: WireCounters,
}

impl Tap {
    /// Makes the interface, or attaches to it when it is there.
    ///
    /// # Errors
    /// [`TapError`]: one line that says what to do.
    pub fn open(name: &str) -> Result<Self, TapError> {
        let bad = |c: char| c == '/' || c == '%' || c.is_whitespace() || c.is_control();
        if name.is_empty()
            || name.len() > NAME_LEN_MAX
            || name.contains(bad)
            || matches!(name, "." | "..")
        {
            return Err(TapError::Name(name.into()));
        }
        let failed = |error: std::io::Error| match Errno::from_io_error(&error) {
            Some(Errno::PERM | Errno::ACCESS) => TapError::Permission(name.into()),
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => TapError::NoDriver(name.into()),
            Some(Errno::BUSY) => TapError::Busy(name.into()),
            Some(Errno::INVAL) => TapError::NotATap(name.into()),
            _ => TapError::System { name: name.into(), source: error },
        };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags((OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32);
        let file = options.open("/dev/net/tun").map_err(failed)?;
        attach(&file, name).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            file,
            name: name.into(),
            frames: VecDeque::new(),
            spare: Vec::new(),
            pacer: Pacer::default(),
            next_at: 0,
            counters: WireCounters::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// `TUNSETIFF`: makes or attaches a TAP with plain Ethernet frames, without packet information or virtio header.
#[allow(unsafe_code)]
fn attach(file: &File, name: &str) -> Result<(), Errno> {
    const IFF_TAP: u16 = 0x0002;
    const IFF_NO_PI: u16 = 0x1000;
    const TUNSETIFF: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);
    /// `struct ifreq`: the name, then a union of 24 bytes of which the flags are the first two.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF takes a pointer to a `struct ifreq`, whose 40 bytes `Request` has; the driver reads name
    // and flags and writes only the name back, all within it.
    unsafe {
        let updater = rustix::ioctl::Updater::<TUNSETIFF, Request>::new(&mut request);
        rustix::ioctl::ioctl(file, updater)
    }
}

impl WirePort for Tap {
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        frame.clear();
        let begin = self.pacer.begin(self.next_at);
        if begin > cycle {
            return None;
        }
        let next = self.frames.pop_front()?;
        self.pacer.occupy(cycle, next.len());
        self.spare.push(std::mem::replace(frame, next));
        self.counters.arrived += 1;
        Some(Arrival { error: false })
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        self.frames.front().map(|_| self.pacer.begin(self.next_at))
    }

    fn ready(&mut self, _: Cycle) -> bool {
        true
    }

    fn departed(&mut self, _: Cycle, frame: &[u8]) {
        self.counters.departed += 1;
        // EIO: the interface is down; EAGAIN: its queue is full. A cable loses such frames too.
        if write(&self.file, frame).is_err() {
            self.counters.refused += 1;
        }
    }
}

impl Wire for Tap {
    fn as_wire_port(&mut self) -> &mut dyn WirePort {
        self
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        WirePort::next_arrival_at(self)
    }

    fn poll(&mut self, now: Cycle) {
        if self.frames.is_empty() {
            self.next_at = now;
        }
        while self.frames.len() < FRAMES_AHEAD_MAX {
            let mut frame = self.spare.pop().unwrap_or_default();
            frame.resize(FRAME_LEN_MAX, 0);
            match read(&self.file, &mut frame) {
                Ok(len) => {
                    frame.truncate(len);
                    self.frames.push_back(frame);
                }
                // EIO while the interface is down.
                Err(_) => {
                    self.spare.push(frame);
                    break;
                }
            }
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn counters(&self) -> WireCounters {
        self.counters
    }
}
