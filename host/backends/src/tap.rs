//! A TAP interface: the kernel's network stack on the other end of a wire.
//!
//! Frames carry a `virtio_net_hdr` (`IFF_VNET_HDR`), so checksums and segmentation are left to whoever
//! does them last; with several queues (`IFF_MULTI_QUEUE`) each shard has a descriptor of its own.

mod queue;
mod sys;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use tandem_device::{
    Caps, Device, DeviceError, DeviceFlags, DeviceInfo, FRAGS_MAX, OperState, Pool, Queue,
    QueueLens, ReceiveMode, RxOffloads, Stats, TxOffloads,
};
use tandem_packet::MacAddr;
use tandem_packet::virtio_net_hdr::VIRTIO_NET_HEADER_LEN;
use thiserror::Error;

use self::queue::{BUFFERS_MAX, TapQueue};
use self::sys::Control;
use crate::counters::{self, Counters};

/// Longest frame: the longest IPv4 packet and an Ethernet header.
pub(crate) const FRAME_LEN_MAX: usize = 65_535 + 14;

/// Most queues of one interface (the kernel's `MAX_TAP_QUEUES`).
pub const QUEUES_MAX: u16 = 256;

/// Bytes of a frame beside its IP packet: Ethernet header and one 802.1Q tag.
const LINK_LEN: u32 = 14 + 4;

/// Range of MTUs that TAP takes.
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65_521;

/// Why there is no TAP. Each says what can be done.
#[derive(Debug, Error)]
pub enum TapError {
    /// `/dev/net/tun` is missing.
    #[error("/dev/net/tun does not exist: load the kernel module `tun` (modprobe tun)")]
    NoTun,
    /// `/dev/net/tun` may not be opened.
    #[error(
        "no permission to open /dev/net/tun: run as root, or let an administrator make it \
         accessible (chmod 0666 /dev/net/tun)"
    )]
    OpenDenied(#[source] io::Error),
    /// The interface may not be made or attached to.
    #[error(
        "no permission for TAP {name}: it needs CAP_NET_ADMIN in this network namespace, or an \
         interface made for you (ip tuntap add dev {name} mode tap vnet_hdr multi_queue user $USER)"
    )]
    Denied {
        /// Which.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Somebody else has that name.
    #[error(
        "interface name {name} is taken: by an interface that is no multi-queue TAP with vnet_hdr, \
         or by a TAP that another program has open; choose another name"
    )]
    Taken {
        /// Which.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// No interface can have that name.
    #[error("{name:?} is no interface name: 1 to 15 bytes without spaces, '/' and ':'")]
    BadName {
        /// What was asked.
        name: String,
    },
    /// A number of queues that cannot be had.
    #[error("{queues} queues are out of range 1 to {QUEUES_MAX}")]
    BadQueues {
        /// What was asked.
        queues: usize,
    },
    /// The descriptor is not that of a TAP with `IFF_VNET_HDR` and without `IFF_NO_PI`.
    #[error("the descriptor is not a TAP queue with IFF_VNET_HDR and IFF_NO_PI")]
    NotTap(#[source] Option<io::Error>),
    /// The buffers of the pool are too short for a frame.
    #[error("buffers of {have} bytes are too short: a frame takes {need}")]
    ShortBuffers {
        /// Bytes that a frame may take.
        have: usize,
        /// Bytes of the longest.
        need: usize,
    },
    /// Anything else that the system answered.
    #[error("TAP {name}: {what} failed")]
    System {
        /// Which.
        name: String,
        /// What was tried.
        what: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
}

/// How a TAP is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapConfig {
    /// Queues, one for each shard.
    pub queues: u16,
    /// Our address, which must differ from that of the kernel's end; by default made from it.
    pub mac: Option<MacAddr>,
    /// Whether the kernel may leave checksums and segmentation to us, and we to it.
    pub offloads: bool,
}

impl Default for TapConfig {
    fn default() -> Self {
        Self { queues: 1, mac: None, offloads: true }
    }
}

/// See the module.
pub struct Tap {
    name: Arc<str>,
    info: DeviceInfo,
    /// Of the network namespace where the interface is; `None` when it was handed to us.
    control: Option<Control>,
    fds: Vec<OwnedFd>,
    taken: Vec<bool>,
    counters: Vec<Counters>,
    pool: Pool,
    tx: TxOffloads,
    rx: RxOffloads,
    buffers_needed: usize,
}

impl Tap {
    /// Makes the interface `name` in the current network namespace, or attaches to it, and brings it up.
    /// It vanishes with the last of its queues unless it was made persistent by somebody.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn create(name: &str, pool: Pool, config: &TapConfig) -> Result<Self, TapError> {
        check_name(name)?;
        if !(1..=QUEUES_MAX).contains(&config.queues) {
            return Err(TapError::BadQueues { queues: config.queues.into() });
        }
        let mut fds = Vec::new();
        let mut real = name.to_owned();
        for _ in 0..config.queues {
            let fd = sys::open_tun().map_err(open_error)?;
            real = sys::attach(fd.as_fd(), &real).map_err(|error| attach_error(name, error))?;
            fds.push(fd);
        }
        let system = |what| {
            let name = real.clone();
            move |source| TapError::System { name, what, source }
        };
        let control = Control::new().map_err(system("making a control socket"))?;
        let mtu = control.mtu(&real).map_err(system("reading the MTU"))?;
        let theirs = control.mac(&real).map_err(system("reading the address"))?;
        if !control.is_up(&real).map_err(system("reading the flags"))? {
            control.set_up(&real).map_err(|error| attach_error(&real, error))?;
        }
        let mac = config.mac.unwrap_or_else(|| other_end(theirs));
        Self::build(real, fds, Some(control), mac, mtu, pool, config.offloads)
    }

    /// Opens one queue of the interface `name`, made if need be and brought up, without offloads and with
    /// a virtio-net header of 12 bytes in front of each frame: for a cosimulated wire, and for
    /// [`Tap::from_fds`] later.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn open_queue(name: &str) -> Result<OwnedFd, TapError> {
        check_name(name)?;
        let fd = sys::open_tun().map_err(open_error)?;
        let real = sys::attach(fd.as_fd(), name).map_err(|error| attach_error(name, error))?;
        let system = |what| {
            let name = real.clone();
            move |source| TapError::System { name, what, source }
        };
        sys::set_header(fd.as_fd(), VIRTIO_NET_HEADER_LEN as libc::c_int)
            .map_err(system("setting the header length"))?;
        sys::set_offload(fd.as_fd(), 0).map_err(system("setting offloads"))?;
        let control = Control::new().map_err(system("making a control socket"))?;
        control.set_up(&real).map_err(|error| attach_error(&real, error))?;
        Ok(fd)
    }

    /// Takes over queues of one TAP that were opened elsewhere, perhaps in another network namespace,
    /// with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`. It is for who opened them to bring the interface up.
    ///
    /// # Errors
    /// [`TapError::NotTap`], [`TapError::BadQueues`], [`TapError::ShortBuffers`], [`TapError::System`].
    pub fn from_fds(
        fds: Vec<OwnedFd>,
        mac: MacAddr,
        mtu: u32,
        pool: Pool,
        offloads: bool,
    ) -> Result<Self, TapError> {
        if fds.is_empty() || fds.len() > QUEUES_MAX.into() {
            return Err(TapError::BadQueues { queues: fds.len() });
        }
        let mut name = None;
        for fd in &fds {
            let (its, usable) =
                sys::attached(fd.as_fd()).map_err(|error| TapError::NotTap(Some(error)))?;
            if !usable || name.as_ref().is_some_and(|name| *name != its) {
                return Err(TapError::NotTap(None));
            }
            let nonblocking = rustix::fs::fcntl_getfl(fd).and_then(|flags| {
                rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)
            });
            nonblocking.map_err(|errno| TapError::NotTap(Some(errno.into())))?;
            name = Some(its);
        }
        let name = name.expect("there is a descriptor");
        Self::build(name, fds, None, mac, mtu, pool, offloads)
    }

    fn build(
        name: String,
        fds: Vec<OwnedFd>,
        control: Option<Control>,
        mac: MacAddr,
        mtu: u32,
        pool: Pool,
        offloads: bool,
    ) -> Result<Self, TapError> {
        let room = (pool.buffer_len() - pool.headroom()) as usize;
        let have = room * BUFFERS_MAX;
        let need = (mtu + LINK_LEN) as usize;
        if have < need {
            return Err(TapError::ShortBuffers { have, need });
        }
        // Long frames only where they fit.
        let segmentation = offloads && have > FRAME_LEN_MAX;
        let (mut tx, mut rx) = (TxOffloads::empty(), RxOffloads::empty());
        for fd in &fds {
            let system = |what| {
                let name = name.clone();
                move |source| TapError::System { name, what, source }
            };
            sys::set_header(fd.as_fd(), VIRTIO_NET_HEADER_LEN as libc::c_int)
                .map_err(system("setting the header length"))?;
            (tx, rx) =
                negotiate(offloads, segmentation, &mut |flags| sys::set_offload(fd.as_fd(), flags))
                    .map_err(system("setting offloads"))?;
        }
        let longest = if segmentation { FRAME_LEN_MAX } else { need };
        // One more where a frame would fill the room to the last byte, to see that it was not cut.
        let buffers_needed = (longest / room + 1).min(BUFFERS_MAX);
        let queues = fds.len();
        Ok(Self {
            info: DeviceInfo {
                name: format!("tap {name}"),
                mac,
                mtu,
                flags: DeviceFlags::BROADCAST | DeviceFlags::MULTICAST,
                speed_mbit_s: None,
                queues: queues as u16,
            },
            name: name.into(),
            control,
            fds,
            taken: vec![false; queues],
            counters: vec![Counters::default(); queues],
            pool,
            tx,
            rx,
            buffers_needed,
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn unsupported(&self, what: &'static str) -> DeviceError {
        DeviceError::Unsupported { name: self.info.name.clone(), what }
    }
}

/// Tells the kernel what we take, as much as it knows of.
fn negotiate(
    offloads: bool,
    segmentation: bool,
    set: &mut dyn FnMut(libc::c_uint) -> io::Result<()>,
) -> io::Result<(TxOffloads, RxOffloads)> {
    if !offloads {
        set(0)?;
        return Ok((TxOffloads::empty(), RxOffloads::empty()));
    }
    // What we send it takes whatever we take: the header came with the first version of all of these.
    let mut tx = TxOffloads::CSUM | TxOffloads::TSO4 | TxOffloads::TSO6 | TxOffloads::TSO_ECN;
    let mut rx = RxOffloads::CSUM | RxOffloads::PARTIAL;
    let mut flags = libc::TUN_F_CSUM;
    if segmentation {
        flags |= libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        rx |= RxOffloads::GRO4 | RxOffloads::GRO6;
    }
    // UDP since Linux 6.2; both families or none.
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    match set(flags | udp) {
        Ok(()) => {
            tx |= TxOffloads::USO;
            if segmentation {
                rx |= RxOffloads::UDP_GRO;
            } else {
                set(flags)?;
            }
        }
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => set(flags)?,
        Err(error) => return Err(error),
    }
    Ok((tx, rx))
}

fn check_name(name: &str) -> Result<(), TapError> {
    let bad = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0';
    if name.is_empty()
        || name.len() > sys::NAME_LEN_MAX
        || matches!(name, "." | "..")
        || name.contains(bad)
    {
        return Err(TapError::BadName { name: name.into() });
    }
    Ok(())
}

fn open_error(error: io::Error) -> TapError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => TapError::NoTun,
        Some(Errno::ACCESS | Errno::PERM) => TapError::OpenDenied(error),
        _ => TapError::System { name: String::new(), what: "opening /dev/net/tun", source: error },
    }
}

fn attach_error(name: &str, source: io::Error) -> TapError {
    let name = name.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::ACCESS | Errno::PERM) => TapError::Denied { name, source },
        // EINVAL: not a TAP, or one without multi-queue; EBUSY, E2BIG: in use.
        Some(Errno::BUSY | Errno::INVAL | Errno::EXIST | Errno::TOOBIG) => {
            TapError::Taken { name, source }
        }
        _ => TapError::System { name, what: "attaching", source },
    }
}

/// An address for our end of the wire, made from theirs.
fn other_end(theirs: MacAddr) -> MacAddr {
    let mut bytes = theirs.0;
    // Locally administered, one station.
    bytes[0] = (bytes[0] | 2) & !1;
    bytes[5] ^= 0x80;
    MacAddr(bytes)
}

impl Device for Tap {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn caps(&self) -> Caps {
        Caps {
            tx: self.tx,
            rx: self.rx,
            frame_len_max: self.info.mtu + LINK_LEN,
            gso_bytes_max: FRAME_LEN_MAX as u32,
            gso_segments_max: u16::MAX,
            pieces_max: FRAGS_MAX as u16 + 1,
            trusted: true,
            headroom: 0,
        }
    }

    fn oper_state(&mut self) -> OperState {
        if !self.info.flags.contains(DeviceFlags::UP) {
            return OperState::Down;
        }
        match self.control.as_ref().map(|control| control.is_up(&self.name)) {
            // In another namespace: nothing to be seen from here.
            None | Some(Ok(true)) => OperState::Up,
            Some(Ok(false)) => OperState::Dormant,
            Some(Err(_)) => OperState::Down,
        }
    }

    fn open(&mut self) -> Result<(), DeviceError> {
        self.info.flags |= DeviceFlags::UP;
        Ok(())
    }

    fn close(&mut self) -> Result<(), DeviceError> {
        // The queues have descriptors of their own and are dropped by their owners.
        self.info.flags -= DeviceFlags::UP;
        self.taken.fill(false);
        Ok(())
    }

    fn take_queue(&mut self, index: u16) -> Result<Box<dyn Queue>, DeviceError> {
        let at = usize::from(index);
        let closed = !self.info.flags.contains(DeviceFlags::UP);
        if closed || self.taken.get(at).is_none_or(|taken| *taken) {
            return Err(DeviceError::NoQueue { name: self.info.name.clone(), index });
        }
        let fd = self.fds[at].try_clone().map_err(|source| DeviceError::Io {
            what: format!("duplicating the descriptor of {}", self.info.name),
            source,
        })?;
        self.taken[at] = true;
        Ok(Box::new(TapQueue::new(
            self.name.clone(),
            fd,
            self.pool.clone(),
            (self.tx, self.rx),
            (self.info.mtu + LINK_LEN) as usize,
            self.buffers_needed,
            self.counters[at].clone(),
        )))
    }

    /// Ours is any address but the kernel's: there is no filter.
    fn set_mac(&mut self, mac: MacAddr) -> Result<(), DeviceError> {
        if !mac.is_unicast() {
            return Err(self.unsupported("a group address as station address"));
        }
        self.info.mac = mac;
        Ok(())
    }

    /// All that the kernel sends arrives, in every mode.
    fn set_receive_mode(&mut self, _: ReceiveMode) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Sets both ends, as far as the kernel's is in our hands; for queues taken from then on.
    fn set_mtu(&mut self, mtu: u32) -> Result<(), DeviceError> {
        let room = (self.pool.buffer_len() - self.pool.headroom()) as usize * BUFFERS_MAX;
        let max = MTU_MAX.min((room as u32).saturating_sub(LINK_LEN));
        if !(MTU_MIN..=max).contains(&mtu) {
            let (value, min, max) = (mtu.into(), MTU_MIN.into(), max.into());
            return Err(DeviceError::OutOfRange { what: "MTU", value, min, max });
        }
        if let Some(control) = &self.control {
            control.set_mtu(&self.name, mtu).map_err(|source| DeviceError::Io {
                what: format!("setting the MTU of {}", self.info.name),
                source,
            })?;
        }
        let need = (mtu + LINK_LEN) as usize;
        let room = room / BUFFERS_MAX;
        self.buffers_needed = self.buffers_needed.max((need / room + 1).min(BUFFERS_MAX));
        self.info.mtu = mtu;
        Ok(())
    }

    fn queue_lens(&self) -> QueueLens {
        // The kernel's default tx_queue_len; it has no ring on our side.
        QueueLens { rx: 500, tx: 500 }
    }

    fn set_queue_lens(&mut self, _: QueueLens) -> Result<(), DeviceError> {
        Err(self.unsupported("setting queue lengths"))
    }

    fn stats(&self) -> Stats {
        counters::sum(&self.counters)
    }
}

#[cfg(test)]
mod tests;
