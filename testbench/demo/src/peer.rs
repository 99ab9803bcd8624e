//! The other end: a network namespace of our own with a stock web server in it.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Address of the kernel's end, IPv4.
pub const PEER4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Address of our end, IPv4.
pub const OURS4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Address of the kernel's end, IPv6.
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0xFD77, 0, 0, 0, 0, 0, 0, 1);
/// Address of our end, IPv6.
pub const OURS6: Ipv6Addr = Ipv6Addr::new(0xFD77, 0, 0, 0, 0, 0, 0, 2);
/// Port of the web server.
pub const HTTP_PORT: u16 = 8080;

/// How the namespace was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// As root.
    Root,
    /// As root of a user namespace of our own.
    UserNamespace,
}

/// Moves this process into a network namespace of its own. Must be called before any thread is
/// started; the namespace ends with the process.
///
/// # Errors
/// When neither way is allowed; the text says what would help.
pub fn enter_namespace() -> Result<Privilege> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    let root = rustix::process::geteuid().is_root();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let flags =
        if root { UnshareFlags::NEWNET } else { UnshareFlags::NEWUSER | UnshareFlags::NEWNET };
    // SAFETY: file descriptors are not unshared, which is what the caution is about.
    unsafe { unshare_unsafe(flags) }.context(
        "cannot make a network namespace: run as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1)",
    )?;
    if !root {
        fs::write("/proc/self/setgroups", "deny").context("cannot write /proc/self/setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("cannot map the user")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("cannot map the group")?;
    }
    ip(&["link", "set", "lo", "up"])?;
    Ok(if root { Privilege::Root } else { Privilege::UserNamespace })
}

/// Runs `ip` in the namespace that this process is in.
///
/// # Errors
/// When it cannot be run, or with what it says.
pub fn ip(args: &[&str]) -> Result<()> {
    let program = if Path::new("/usr/sbin/ip").exists() { "/usr/sbin/ip" } else { "ip" };
    let out = Command::new(program)
        .args(args)
        .output()
        .context("cannot run `ip`: install iproute2, or run `cargo xtask setup`")?;
    if !out.status.success() {
        bail!("`ip {}`: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

/// Gives the kernel's end of the TAP its addresses and brings it up.
///
/// # Errors
/// What `ip` says.
pub fn configure(tap: &str, mtu: u32) -> Result<()> {
    // The kernel's own duplicate address detection would hold IPv6 back for a second.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{tap}/accept_dad"), "0");
    ip(&["addr", "add", &format!("{PEER4}/24"), "dev", tap])?;
    ip(&["addr", "add", &format!("{PEER6}/64"), "dev", tap, "nodad"])?;
    ip(&["link", "set", tap, "mtu", &mtu.to_string(), "up"])
}

/// A generated file and its hash.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Name under the server's root.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// Writes `len` bytes that follow from `seed` to a file called `name` in `folder`.
///
/// # Errors
/// What the file system says.
pub fn generate(folder: &Path, name: &str, len: u64, seed: u64) -> Result<Generated> {
    let path = folder.join(name);
    let mut file =
        fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut state = seed;
    let mut block = [0_u8; 64 * 1024];
    let mut left = len;
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            // SplitMix64: enough that no block repeats and nothing compresses.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        let part = left.min(block.len() as u64) as usize;
        hash.update(&block[..part]);
        file.write_all(&block[..part])?;
        left -= part as u64;
    }
    Ok(Generated { name: name.to_owned(), len, sha256: hash.finalize().into() })
}

/// Python's own web server, in the namespace that this process is in.
#[derive(Debug)]
pub struct WebServer {
    child: Child,
    log: PathBuf,
}

impl WebServer {
    /// Starts it over `folder` on all addresses, both families, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start; the text has what it said.
    pub fn start(folder: &Path, log: &Path) -> Result<Self> {
        // Else the probe below would meet whoever has the port.
        drop(
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTP_PORT))
                .with_context(|| format!("port {HTTP_PORT} cannot be had for the web server"))?,
        );
        let out = fs::File::create(log)?;
        let child = Command::new("python3")
            .args(["-m", "http.server", &HTTP_PORT.to_string(), "--bind", "::", "--directory"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .context("cannot start `python3 -m http.server`: is Python 3 installed?")?;
        let mut server = Self { child, log: log.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(20);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT));
        loop {
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(server);
            }
            let ended = server.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&server.log).unwrap_or_default();
                let said = said.lines().last().unwrap_or("nothing").to_owned();
                bail!("the web server does not listen on port {HTTP_PORT}; it said: {said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_repeatable_and_hashed() {
        let folder = std::env::temp_dir().join(format!("tandem-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let one = generate(&folder, "a", 100_001, 7).unwrap();
        let bytes = fs::read(folder.join("a")).unwrap();
        assert_eq!(bytes.len() as u64, one.len);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&bytes)), one.sha256);
        let two = generate(&folder, "b", 100_001, 7).unwrap();
        let other = generate(&folder, "c", 100_001, 8).unwrap();
        assert_eq!(one.sha256, two.sha256);
        assert_ne!(one.sha256, other.sha256);
        fs::remove_dir_all(&folder).unwrap();
    }
}
