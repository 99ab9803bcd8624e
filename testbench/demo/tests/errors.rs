//! What goes wrong ends the program with exit code 1 and one line that says what and what to do.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use tandem::{Runtime, RuntimeConfig, WallClock};
use tandem_demo::local::LocalPeer;
use tandem_demo::peer::HTTP_PORT;
use tandem_demo::server::Server;
use tandem_demo::transfer::MTU;
use tandem_offload::Choice;

/// Runs the program; the line that it leaves on stderr.
fn error_of(command: &mut Command) -> String {
    let began = Instant::now();
    let out = command.output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{command:?} took too long: {text}");
    assert_eq!(out.status.code(), Some(1), "{command:?}: {text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{command:?} says more than one line: {text}");
    assert!(lines[0].starts_with("error: "), "{command:?}: {text}");
    text
}

fn fetch(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-demo"));
    command.arg("fetch").args(args).env_remove("RUST_LOG");
    command
}

/// Whether a namespace with a TAP can be had here.
fn linux() -> bool {
    let probe = fetch(&["http://10.77.0.1:1/", "--isolated"]).output().unwrap();
    let text = String::from_utf8_lossy(&probe.stderr);
    let refused = text.contains("refused");
    if !refused {
        eprintln!("SKIPPED, no namespace with a TAP here: {text}");
    }
    refused
}

#[test]
fn servers_that_do_not_answer() {
    if !linux() {
        return;
    }
    for (url, says) in [
        ("http://10.77.0.1:9/", "10.77.0.1:9: connection refused"),
        ("http://[fd77::1]:9/", "[fd77::1]:9: connection refused"),
        ("http://10.99.0.1/", "no route"),
    ] {
        let text = error_of(&mut fetch(&[url, "--isolated"]));
        assert!(text.contains(says), "{url}: {text}");
    }
    for device in ["tap:td0", "reference"] {
        let text = error_of(&mut fetch(&[
            "http://10.77.0.9/",
            "--isolated",
            "--timeout",
            "4",
            "--device",
            device,
        ]));
        let known = text.contains("unreachable") || text.contains("no answer within 4s");
        assert!(known && text.contains("10.77.0.9:80"), "{text}");
    }
}

#[test]
fn names_that_cannot_be_had() {
    if !linux() {
        return;
    }
    let url = "http://10.77.0.1/";
    let text = error_of(&mut fetch(&[url, "--isolated", "--device", "tap:lo"]));
    assert!(text.contains("lo is taken"), "{text}");
    let text = error_of(&mut fetch(&[url, "--isolated", "--device", "tap:a/b"]));
    assert!(text.contains("no interface name"), "{text}");
}

#[test]
fn wrong_addresses_and_devices() {
    let text = error_of(&mut fetch(&["http://10.77.0.300/"]));
    assert!(text.contains("is no address"), "{text}");
    let text = error_of(&mut fetch(&["ftp://10.77.0.1/"]));
    assert!(text.contains("http://"), "{text}");
    let text = error_of(&mut fetch(&["http://10.77.0.1/", "--device", "eth0"]));
    assert!(text.contains("tap:NAME, rtl and reference"), "{text}");
}

#[test]
fn a_tap_without_permission() {
    let mut command = fetch(&["http://10.77.0.1/"]);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let text = error_of(&mut command);
    assert!(text.contains("no permission"), "{text}");
}

#[test]
fn a_port_that_is_taken() {
    let now = WallClock::new().now();
    let (mut peer, _near) = LocalPeer::new(now, MTU, [1; 16], Choice::Software, vec![]).unwrap();
    let again = ([10, 77, 0, 1], HTTP_PORT).into();
    let error = Server::listen(peer.runtime(), &[again], vec![]).unwrap_err();
    assert!(error.to_string().contains("8080"), "{error}");
    // Another stack has ports of its own, but not that address.
    let mut other = Runtime::new(RuntimeConfig::new([2; 16])).unwrap();
    assert!(Server::listen(&mut other, &[again], vec![]).is_err());
}

#[test]
fn a_page_by_way_of_a_missing_file() {
    let folder = std::env::temp_dir().join(format!("tandem-errors-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-demo"));
    command.args(["run", "--stages", "tap", "--in-process", "--shrink", "4096", "--earlier"]);
    command
        .arg(folder.join("none"))
        .arg("--rows")
        .arg(folder.join("rows"))
        .arg("--out")
        .arg(&folder);
    assert!(error_of(&mut command).contains("cannot read"));
    std::fs::remove_dir_all(folder).unwrap();
}
