//! Listening at a path: what is there already, and what to do about it.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use thiserror::Error;

/// What to do with a stale socket file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Fail with [`BindError::Stale`].
    #[default]
    Refuse,
    /// Remove it. A live server's socket is never removed.
    ReplaceStale,
}

/// Why a server cannot listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another server answers there.
    #[error("{}: address in use: another server answers there", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// A socket file that nobody listens on is left there.
    #[error("{}: a stale socket file: the server that made it is gone", path.display())]
    Stale {
        /// The path.
        path: PathBuf,
    },
    /// There is a file of another kind.
    #[error("{}: exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

pub(super) fn listen(path: &Path, existing: Existing) -> Result<UnixListener, BindError> {
    let error = match UnixListener::bind(path) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let system = |source| BindError::System { path: path.into(), source };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Err(system(error));
    }
    if !std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        return Err(BindError::NotASocket { path: path.into() });
    }
    if answers(path) {
        return Err(BindError::InUse { path: path.into() });
    }
    if existing == Existing::Refuse {
        return Err(BindError::Stale { path: path.into() });
    }
    std::fs::remove_file(path).map_err(system)?;
    UnixListener::bind(path).map_err(system)
}

/// Whether someone listens there. A full backlog counts as someone; so does what cannot be found out.
fn answers(path: &Path) -> bool {
    use rustix::io::Errno;
    let Ok(address) = SocketAddrUnix::new(path) else { return true };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(probe) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
        return true;
    };
    !matches!(connect(&probe, &address), Err(Errno::CONNREFUSED | Errno::NOENT))
}

/// Connects without waiting for ever when the server's backlog is full.
pub(crate) fn connect_within(
    path: &Path,
    deadline: std::time::Instant,
) -> std::io::Result<UnixStream> {
    use rustix::io::Errno;
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&fd, &address) {
            Ok(()) => return Ok(fd.into()),
            Err(Errno::AGAIN) if std::time::Instant::now() < deadline => {
                // A UNIX socket cannot be waited for while its backlog is full; look again shortly.
                let pause = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
                let _ = poll(&mut [PollFd::new(&fd, PollFlags::empty())], Some(&pause));
            }
            Err(Errno::AGAIN) => return Err(std::io::ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
