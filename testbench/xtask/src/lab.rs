//! `cargo xtask lab smoke`: a Linux guest under QEMU whose own `virtio_net` drives our NIC.
//!
//! QEMU with `vfio-user-pci` (10.1 or newer) is not in Debian 12, so QEMU and the guest's kernel live in
//! a Debian 13 root folder under `target/lab`, made once with mmdebstrap from the machine's own
//! package mirror, and run with chroot. Needs root.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use tandem_contract::features::{self, Client};

use crate::process::{cargo, output, root, step};
use crate::results::{Report, Row};
use crate::setup;

/// Which NIC the guest gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    /// The verilated RTL.
    Rtl,
    /// The plain Rust reference.
    Reference,
}

/// Options of the smoke test.
#[derive(Debug, Args)]
pub(crate) struct Smoke {
    /// NIC model to serve.
    #[arg(long, value_enum, default_value = "rtl")]
    model: Model,
    /// Bytes of each iperf3 transfer, with iperf3's suffixes.
    #[arg(long, default_value = "2M", value_parser = transfer_bytes)]
    bytes: String,
    /// Write the figures here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Seconds after which the guest is given up.
    #[arg(long, default_value_t = 420)]
    timeout_s: u64,
}

impl Default for Smoke {
    fn default() -> Self {
        Self { model: Model::Rtl, bytes: "2M".into(), json: None, timeout_s: 420 }
    }
}

fn transfer_bytes(text: &str) -> Result<String, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let sound = text.len() - digits.len() <= 1 && digits.parse::<u32>().is_ok_and(|n| n > 0);
    if sound {
        Ok(text.to_owned())
    } else {
        Err("give a number, with K, M or G behind it if wanted".into())
    }
}

/// A child that is ended by its pid when we leave.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace that is removed when we leave.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self> {
        let name = format!("tandem-lab-{}", std::process::id());
        step("network namespace for the lab", Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self(name);
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        output(Command::new("ip").args(["-n", &self.0]).args(args)).map(drop)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// What the guest told.
#[derive(Debug, Default)]
struct Told {
    features: Option<u64>,
    pings: Vec<String>,
    transfers: Vec<(String, u64, u64)>,
    counters: Vec<(String, u64)>,
    done: bool,
    failed: Option<String>,
}

impl Told {
    /// Takes in one line of the console.
    fn line(&mut self, line: &str) {
        let Some(at) = line.find("LAB ") else { return };
        let words: Vec<&str> = line[at + 4..].split_whitespace().collect();
        match words.as_slice() {
            ["features", bits] => {
                let set = bits.bytes().take(64).enumerate();
                self.features =
                    Some(set.fold(0, |set, (bit, c)| set | u64::from(c == b'1') << bit));
            }
            [name @ ("ping4" | "ping6"), "ok"] => self.pings.push((*name).to_owned()),
            ["iperf", name, bytes, "bytes", retransmits, "retransmits"] => {
                let number = |text: &str| text.parse().unwrap_or(0);
                self.transfers.push(((*name).to_owned(), number(bytes), number(retransmits)));
            }
            ["counter", name, value] => {
                self.counters.push(((*name).to_owned(), value.parse().unwrap_or(0)));
            }
            ["failed", reason @ ..] => self.failed = Some(reason.join(" ")),
            ["done"] => self.done = true,
            _ => {}
        }
    }
}

/// Runs the smoke test.
pub(crate) fn smoke(options: &Smoke) -> Result<()> {
    ensure!(
        nix_is_root(),
        "the lab needs root: it makes a network namespace and changes root into its own Debian. Try: sudo cargo xtask lab smoke"
    );
    let folder = root().join("target/lab");
    let debian = folder.join("root");
    prepare(&folder, &debian)?;
    let initramfs = initramfs(&debian, &options.bytes)?;
    let server = build_server(options.model)?;

    let namespace = Namespace::new()?;
    let socket_folder = debian.join("run/tandem");
    fs::create_dir_all(&socket_folder)?;
    let socket = socket_folder.join(format!("nic-{}.sock", std::process::id()));
    let server_log = folder.join("server.log");
    println!("== serving the {:?} NIC; its log: {}", options.model, server_log.display());
    let mut serving = namespace
        .command(&server)
        .args(["serve", "--wire", "tap:lab0", "--model"])
        .arg(format!("{:?}", options.model).to_lowercase())
        .arg("--socket")
        .arg(&socket)
        .env("RUST_LOG", "info")
        .stdout(File::create(&server_log)?)
        .stderr(File::options().append(true).open(&server_log)?)
        .spawn()
        .map(Ended)
        .context("cannot start the NIC server")?;
    wait_for(&socket, &mut serving, &server_log)?;
    namespace.ip(&["addr", "add", "10.77.0.1/24", "dev", "lab0"])?;
    namespace.ip(&["addr", "add", "fd77::1/64", "dev", "lab0", "nodad"])?;
    namespace.ip(&["link", "set", "lab0", "up"])?;
    let _iperf = namespace
        .command("chroot")
        .arg(&debian)
        .args(["iperf3", "--server"])
        .stdout(Stdio::null())
        .spawn()
        .map(Ended)
        .context("cannot start iperf3")?;

    let console = folder.join("console.log");
    println!("== booting the guest; its console: {}", console.display());
    let start = Instant::now();
    let told =
        boot(&debian, &initramfs, &socket, &console, Duration::from_secs(options.timeout_s))?;
    println!("   guest ended after {:.1} s", start.elapsed().as_secs_f64());
    judge(&told, &server_log, options)
}

fn judge(told: &Told, server_log: &Path, options: &Smoke) -> Result<()> {
    if let Some(reason) = &told.failed {
        bail!("the guest says: {reason}; see target/lab/console.log and target/lab/server.log");
    }
    ensure!(
        told.done,
        "the guest did not come to its end; see target/lab/console.log and target/lab/server.log"
    );
    let taken = told.features.context("the guest named no features")?;
    let expected = features::expected(Client::Linux);
    ensure!(
        taken == expected,
        "Linux took {:?}, the contract expects {:?}",
        features::names(taken),
        features::names(expected)
    );
    let log = fs::read_to_string(server_log)?;
    let offered = offered_in(&log).context("the server's log names no offered features")?;
    ensure!(
        offered == features::offered(),
        "the guest read {:?} as offered, the contract offers {:?}",
        features::names(offered),
        features::names(features::offered())
    );
    println!("== features: offered and taken equal the contract's table");
    println!("   taken: {}", features::names(taken).join(" "));
    println!("== pings: {}", told.pings.join(" "));
    ensure!(
        told.pings.len() == 2 && told.transfers.len() == 3,
        "a ping or a transfer is missing: {told:?}"
    );
    let command = format!("cargo xtask lab smoke --bytes {}", options.bytes);
    let mut rows = Vec::new();
    for (name, bytes, retransmits) in &told.transfers {
        println!("== iperf3 {name}: {bytes} bytes, {retransmits} retransmissions");
        ensure!(*bytes > 0, "iperf3 {name} moved nothing");
        for (metric, unit, value) in
            [("received", "B", *bytes), ("retransmissions", "segments", *retransmits)]
        {
            rows.push(Row {
                suite: "lab".into(),
                case: format!("iperf3 {name}"),
                params: [(
                    "model".to_owned(),
                    format!("{:?}", options.model).to_lowercase().into(),
                )]
                .into(),
                subject: "linux virtio_net".into(),
                metric: metric.into(),
                unit: unit.into(),
                value: value as f64,
                low: None,
                high: None,
                peer: None,
                ratio: None,
                ratio_low: None,
                ratio_high: None,
                command: command.clone(),
            });
        }
    }
    for (name, value) in &told.counters {
        println!("   {name} {value}");
        ensure!(!name.ends_with("errors") || *value == 0, "the guest counted {value} {name}");
    }
    if let Some(path) = &options.json {
        Report::new(rows).write(path)?;
    }
    Ok(())
}

/// The last `offered=0x…` in the server's log.
fn offered_in(log: &str) -> Option<u64> {
    let at = log.rfind("offered=0x")? + "offered=0x".len();
    let digits: String = log[at..].chars().take_while(char::is_ascii_hexdigit).collect();
    u64::from_str_radix(&digits, 16).ok()
}

fn nix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Makes the Debian root folder, once.
fn prepare(folder: &Path, debian: &Path) -> Result<()> {
    let stamp = folder.join("root.ready");
    if stamp.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    if debian.exists() {
        fs::remove_dir_all(debian).context("cannot remove an unfinished root folder")?;
    }
    setup::apt(&["mmdebstrap", "iproute2"])?;
    step(
        "Debian 13 root folder (under a minute)",
        Command::new("mmdebstrap").args(["--quiet", "--variant=apt", "trixie"]).arg(debian),
    )?;
    let list = debian.join("etc/apt/sources.list");
    let text = fs::read_to_string(&list).context("mmdebstrap left no sources.list")?;
    let main =
        text.lines().find(|line| line.contains(" trixie main")).context("no line for trixie")?;
    let backports = main.replace(" trixie main", " trixie-backports main");
    fs::write(&list, format!("{text}{backports}\n"))?;
    // As the outer machine resolves names, so must the inner.
    let _ = fs::copy("/etc/resolv.conf", debian.join("etc/resolv.conf"));
    step("package lists", chroot(debian).args(["apt-get", "update", "-qq"]))?;
    let install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    step(
        "QEMU with vfio-user (under a minute)",
        chroot(debian).args(install).args(["-t", "trixie-backports", "qemu-system-x86"]),
    )?;
    step(
        "guest kernel and tools",
        chroot(debian).args(install).args([
            "linux-image-amd64",
            "iperf3",
            "busybox-static",
            "cpio",
            "xz-utils",
        ]),
    )?;
    File::create(stamp)?;
    Ok(())
}

fn chroot(debian: &Path) -> Command {
    let mut command = Command::new("chroot");
    command.arg(debian).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

/// Packs busybox, iperf3 with its libraries, three modules and our init. Returns the path inside
/// the root folder.
fn initramfs(debian: &Path, bytes: &str) -> Result<String> {
    let init = include_str!("../lab/init.sh").replace("LAB_BYTES", bytes);
    let tree = debian.join("lab");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for folder in ["bin", "proc", "sys", "dev", "tmp", "modules"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    fs::write(tree.join("init"), init)?;
    let script = r#"
        set -e
        chmod 755 /lab/init
        cp /bin/busybox /lab/bin/busybox
        cp --parents $(ldd /usr/bin/iperf3 | grep -o '/[^ ]*') /usr/bin/iperf3 /lab/
        # The C library loads this one when a thread is cancelled.
        cp --parents $(find /lib /usr/lib -name 'libgcc_s.so.1' | head -n 1) /lab/
        ln -s /usr/bin/iperf3 /lab/bin/iperf3
        for name in failover net_failover virtio_net; do
            found=$(find /lib/modules -name "$name.ko*" | head -n 1)
            case "$found" in
                *.xz) xz -dc "$found" > /lab/modules/$name.ko ;;
                *.ko) cp "$found" /lab/modules/$name.ko ;;
                *) echo "no module $name" >&2; exit 1 ;;
            esac
        done
        cd /lab && find . | cpio --quiet -o -H newc | gzip -1 > /lab.img
    "#;
    step("initramfs", chroot(debian).args(["sh", "-c", script]))?;
    Ok("/lab.img".to_owned())
}

fn build_server(model: Model) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "-p", "tandem-nic-server"]);
    if model == Model::Rtl {
        setup::run(setup::Consent::Ask)?;
        command.args(["--features", "rtl"]);
    }
    step("NIC server", &mut command)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/tandem-nic"))
}

fn wait_for(socket: &Path, serving: &mut Ended, log: &Path) -> Result<()> {
    for _ in 0..200 {
        if socket.exists() {
            return Ok(());
        }
        if let Some(status) = serving.0.try_wait()? {
            bail!(
                "the NIC server ended ({status}): {}",
                fs::read_to_string(log).unwrap_or_default().trim()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the NIC server made no socket in 10 s; see {}", log.display())
}

fn boot(
    debian: &Path,
    initramfs: &str,
    socket: &Path,
    console: &Path,
    limit: Duration,
) -> Result<Told> {
    let kernel = fs::read_dir(debian.join("boot"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("vmlinuz-"))
        .context("no kernel in the root folder")?;
    let socket = Path::new("/").join(socket.strip_prefix(debian)?);
    let device = serde_json::json!({
        "driver": "vfio-user-pci",
        "socket": { "type": "unix", "path": socket },
    });
    let mut command = chroot(debian);
    command
        .args(["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "512M"])
        .args(["-machine", "q35,kernel-irqchip=off,memory-backend=m"])
        .args(["-object", "memory-backend-memfd,id=m,size=512M,share=on"])
        .args(["-kernel", &format!("/boot/{kernel}"), "-initrd", initramfs])
        .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"])
        .args(["-serial", "stdio", "-device", &device.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    println!("   {}", crate::process::shown(&command));
    let mut guest = Ended(command.spawn().context("cannot start QEMU")?);
    let out = guest.0.stdout.take().expect("piped");
    let (lines, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            if lines.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let mut log = File::create(console)?;
    let mut told = Told::default();
    let deadline = Instant::now() + limit;
    loop {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                use std::io::Write;
                writeln!(log, "{line}")?;
                told.line(&line);
                if line.contains("LAB ") {
                    println!("   guest: {}", &line[line.find("LAB ").unwrap_or(0) + 4..]);
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                guest.0.kill()?;
                bail!(
                    "the guest did not end within {} s; see {}",
                    limit.as_secs(),
                    console.display()
                );
            }
        }
    }
    let _ = reader.join();
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines_are_understood() {
        let mut told = Told::default();
        for line in [
            "[    1.0] noise",
            "LAB features 1101",
            "\x1b[0mLAB ping4 ok",
            "LAB iperf guest-to-host 2097152 bytes 3 retransmits",
            "LAB counter rx_errors 0",
            "LAB done",
        ] {
            told.line(line);
        }
        assert_eq!(told.features, Some(0b1011));
        assert_eq!(told.pings, ["ping4"]);
        assert_eq!(told.transfers, [("guest-to-host".to_owned(), 2_097_152, 3)]);
        assert!(told.done && told.failed.is_none());
        told.line("LAB failed insmod virtio_net");
        assert_eq!(told.failed.as_deref(), Some("insmod virtio_net"));
    }

    #[test]
    fn the_last_offer_counts() {
        assert_eq!(offered_in("x offered=0x12 y\nz offered=0xAb,"), Some(0xAB));
        assert_eq!(offered_in("none"), None);
    }

    #[test]
    fn transfer_sizes_are_checked() {
        assert!(transfer_bytes("2M").is_ok() && transfer_bytes("100").is_ok());
        for bad in ["", "M", "2MM", "0", "-1", "2M; reboot"] {
            assert!(transfer_bytes(bad).is_err(), "{bad}");
        }
    }
}
