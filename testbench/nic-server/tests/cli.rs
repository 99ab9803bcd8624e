//! The command: what it says when something is wrong, and how it ends.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::*;
use tandem_vfio_user::client::{Client, ClientConfig};
use tandem_vfio_user::pci::{REGION_BAR0, REGION_CONFIG};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tandem-nic");

fn serve(socket: &Path, more: &[&str]) -> Output {
    Command::new(PROGRAM).arg("serve").arg("--socket").arg(socket).args(more).output().unwrap()
}

/// One line on standard error that contains all of these, and exit code 1.
fn refused(output: &Output, wanted: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in wanted {
        assert!(said.contains(part), "{said:?} lacks {part:?}");
    }
}

#[test]
fn bad_words_are_refused_in_one_line() {
    let socket = temp_path("cli");
    refused(&serve(&socket, &["--wire", "veth:x"]), &["veth:x", "tap:NAME"]);
    refused(&serve(&socket, &["--model", "verilog"]), &["verilog", "rtl or reference"]);
    refused(&serve(&socket, &["--data-w", "63"]), &["--data-w 63", "512"]);
    refused(&serve(&socket, &["--wave", "x.fst"]), &["--model rtl"]);
    refused(&serve(&socket, &["--wire", "tap:a/b"]), &["interface name"]);
    refused(
        &serve(&socket, &["--wire", "pcap:/no/such/place/x.pcapng"]),
        &["/no/such/place", "cannot write"],
    );
    let there = temp_path("not-a-capture");
    std::fs::write(&there, b"this is no capture file at all").unwrap();
    let wire = format!("pcap:{},replay={}", temp_path("out").display(), there.display());
    refused(&serve(&socket, &["--wire", &wire]), &["cannot replay", "not a pcap"]);
    std::fs::remove_file(&there).unwrap();
    refused(
        &serve(Path::new("/no/such/place/socket"), &[]),
        &["/no/such/place/socket", "directory exists"],
    );
    assert!(!socket.exists());
}

#[cfg(not(feature = "rtl"))]
#[test]
fn without_the_rtl_it_says_how_to_get_it() {
    let output = serve(&temp_path("cli-rtl"), &["--model", "rtl"]);
    refused(&output, &["cargo xtask setup", "cargo build", "--features rtl"]);
}

#[test]
fn sockets_in_the_way_are_told_apart() {
    let stale = temp_path("cli-stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    refused(&serve(&stale, &[]), &[stale.to_str().unwrap(), "stale", "--replace-stale"]);
    std::fs::remove_file(&stale).unwrap();

    let file = temp_path("cli-file");
    std::fs::write(&file, b"precious").unwrap();
    refused(&serve(&file, &["--replace-stale"]), &["not a socket"]);
    std::fs::remove_file(&file).unwrap();

    let serving = Serving::start("cli-live", TestWire::default());
    refused(&serve(&serving.path, &["--replace-stale"]), &["address in use", "stop that server"]);
}

#[test]
fn no_permission_for_a_tap_says_what_to_do() {
    // As a user who may not; root gives its permissions up for this.
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--bounding-set=-all",
        PROGRAM,
    ]);
    if !rustix::process::geteuid().is_root() {
        command = Command::new(PROGRAM);
    }
    let output =
        command.args(["serve", "--socket", "/dev/null/x", "--wire", "tap:tandemtest0"]).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("not run: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.starts_with("setpriv:") {
        return println!("not run: {said}");
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    let no_driver = said.contains("no /dev/net/tun");
    assert!(
        no_driver
            || (said.contains("no permission") && said.contains("ip tuntap add dev tandemtest0")),
        "{said}"
    );
}

#[test]
fn a_signal_ends_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let socket = temp_path("cli-signal");
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .arg("--socket")
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(
            first.contains("reference NIC") && first.contains(socket.to_str().unwrap()),
            "{first}"
        );
        let mut client = Client::connect(&socket, ClientConfig::default()).unwrap();
        let mut ids = [0; 4];
        client.region_read(REGION_CONFIG, 0, &mut ids).unwrap();
        assert_eq!(u32::from_le_bytes(ids), 0x1041_1af4);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(!socket.exists());
        let summary = lines.next().unwrap().unwrap();
        assert!(summary.contains("1 clients"), "{summary}");
        assert!(client.region_read(REGION_BAR0, 0, &mut ids).unwrap_err().is_device_lost());
    }
}
