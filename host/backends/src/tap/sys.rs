//! The system calls behind a TAP device (Linux `Documentation/networking/tuntap.rst`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tandem_packet::MacAddr;

/// Longest interface name in bytes (`IFNAMSIZ` - 1).
pub(super) const NAME_LEN_MAX: usize = libc::IFNAMSIZ - 1;

pub(super) fn open_tun() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all fields are integers, arrays of them or pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes().iter().take(NAME_LEN_MAX)) {
        *to = *from as libc::c_char;
    }
    request
}

fn name(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// An ioctl that takes a pointer to `argument`.
///
/// # Safety
/// The kernel reads and writes at most `T` for this request.
unsafe fn ioctl<T>(fd: BorrowedFd<'_>, code: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: the descriptor is open; the pointer is valid for the call; the caller vouches for T.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), code, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const FLAGS: libc::c_int =
    libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

/// Makes the descriptor a queue of the TAP `name`, creating it when there is none. Returns its name,
/// which differs when the one given has a `%d`.
pub(super) fn attach(fd: BorrowedFd<'_>, interface: &str) -> io::Result<String> {
    let mut ifreq = request(interface);
    ifreq.ifr_ifru.ifru_flags = FLAGS as libc::c_short;
    // SAFETY: TUNSETIFF takes an ifreq.
    unsafe { ioctl(fd, libc::TUNSETIFF, &mut ifreq)? };
    Ok(name(&ifreq))
}

/// Name of the TAP behind a descriptor, and whether it is one with `IFF_VNET_HDR`.
pub(super) fn attached(fd: BorrowedFd<'_>) -> io::Result<(String, bool)> {
    let mut ifreq = request("");
    // SAFETY: TUNGETIFF fills an ifreq.
    unsafe { ioctl(fd, libc::TUNGETIFF, &mut ifreq)? };
    // SAFETY: TUNGETIFF sets the flags, and any bits are a value of them.
    let flags = libc::c_int::from(unsafe { ifreq.ifr_ifru.ifru_flags });
    let needed = libc::IFF_TAP | libc::IFF_VNET_HDR | libc::IFF_NO_PI;
    Ok((name(&ifreq), flags & needed == needed))
}

/// Little-endian headers of `len` bytes.
pub(super) fn set_header(fd: BorrowedFd<'_>, len: libc::c_int) -> io::Result<()> {
    // SAFETY: both take a pointer to an int.
    unsafe {
        ioctl(fd, libc::TUNSETVNETHDRSZ, &mut { len })?;
        ioctl(fd, libc::TUNSETVNETLE, &mut { 1 as libc::c_int })
    }
}

/// What the kernel may leave for us to do on what it sends (TUN_F_*).
pub(super) fn set_offload(fd: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the argument is a number, not a pointer; the descriptor is open.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks about interfaces of the network namespace in which it was made.
pub(super) struct Control(OwnedFd);

impl Control {
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self(socket))
    }

    fn ask(&self, code: libc::c_ulong, ifreq: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: all callers pass SIOC?IF* codes, which take an ifreq.
        unsafe { ioctl(self.0.as_fd(), code as libc::Ioctl, ifreq) }
    }

    pub(super) fn mtu(&self, interface: &str) -> io::Result<u32> {
        let mut ifreq = request(interface);
        self.ask(libc::SIOCGIFMTU as libc::c_ulong, &mut ifreq)?;
        // SAFETY: SIOCGIFMTU sets it, and any bits are a value.
        Ok(unsafe { ifreq.ifr_ifru.ifru_mtu } as u32)
    }

    pub(super) fn set_mtu(&self, interface: &str, mtu: u32) -> io::Result<()> {
        let mut ifreq = request(interface);
        ifreq.ifr_ifru.ifru_mtu = mtu as libc::c_int;
        self.ask(libc::SIOCSIFMTU as libc::c_ulong, &mut ifreq)
    }

    pub(super) fn mac(&self, interface: &str) -> io::Result<MacAddr> {
        let mut ifreq = request(interface);
        self.ask(libc::SIOCGIFHWADDR as libc::c_ulong, &mut ifreq)?;
        // SAFETY: SIOCGIFHWADDR sets it, and any bits are a value.
        let data = unsafe { ifreq.ifr_ifru.ifru_hwaddr.sa_data };
        Ok(MacAddr([0, 1, 2, 3, 4, 5].map(|i| data[i] as u8)))
    }

    pub(super) fn is_up(&self, interface: &str) -> io::Result<bool> {
        Ok(self.flags(interface)? & libc::IFF_UP as libc::c_short != 0)
    }

    fn flags(&self, interface: &str) -> io::Result<libc::c_short> {
        let mut ifreq = request(interface);
        self.ask(libc::SIOCGIFFLAGS as libc::c_ulong, &mut ifreq)?;
        // SAFETY: SIOCGIFFLAGS sets it, and any bits are a value.
        Ok(unsafe { ifreq.ifr_ifru.ifru_flags })
    }

    pub(super) fn set_up(&self, interface: &str) -> io::Result<()> {
        let mut ifreq = request(interface);
        ifreq.ifr_ifru.ifru_flags = self.flags(interface)? | libc::IFF_UP as libc::c_short;
        self.ask(libc::SIOCSIFFLAGS as libc::c_ulong, &mut ifreq)
    }
}
