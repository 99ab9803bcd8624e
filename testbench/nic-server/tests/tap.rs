//! A real TAP interface, in a network namespace that the test makes for itself.

mod support;

use std::os::fd::AsFd;
use std::process::Command;

use support::*;
use tandem_nic_server::wire::{Tap, TapError, Wire};
use tandem_vfio_user::irq::{interrupt_eventfd, take_interrupts};
use tandem_vfio_user::memory::{ClientMemory, SharedMemory};
use tandem_vfio_user::message::DmaFlags;
use tandem_vfio_user::pci::{IRQ_MSIX, REGION_BAR0, REGION_CONFIG};

const INSIDE: &str = "TANDEM_TEST_INSIDE_NAMESPACE";

/// The interface, made in the server's thread.
struct OpenTap(&'static str);

impl From<OpenTap> for Box<dyn Wire> {
    fn from(OpenTap(name): OpenTap) -> Self {
        Box::new(Tap::open(name).unwrap())
    }
}

fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().expect("the ip command");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn frames_pass_both_ways() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let probe = Command::new("unshare").args(["-Urn", "test", "-w", "/dev/net/tun"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("not run: no network namespace with /dev/net/tun can be made here");
        return;
    }
    let itself = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .arg("-Urn")
        .arg(itself)
        .args(["--exact", "frames_pass_both_ways", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("both ways"), "{said}");
}

fn inside() {
    let serving = Serving::start("tap", OpenTap("nic0"));
    let mut client = serving.client();
    let memory = SharedMemory::new(0x4000).unwrap();
    let flags = DmaFlags::READ | DmaFlags::WRITE;
    client.dma_map(0x10000, memory.fd(), 0, 0x4000, flags).unwrap();
    client.region_write(REGION_CONFIG, 4, &[6, 0]).unwrap();
    let eventfd = interrupt_eventfd().unwrap();
    client.arm_irqs(IRQ_MSIX, 2, &[eventfd.as_fd()]).unwrap();
    client.region_write(REGION_BAR0, RX, &0x12000u64.to_le_bytes()).unwrap();
    // Someone else cannot have it meanwhile.
    assert!(matches!(Tap::open("nic0"), Err(TapError::Busy(_))));

    // An address makes Linux announce it; a static neighbour makes it send without asking.
    ip(&["link", "set", "nic0", "up"]);
    ip(&["address", "add", "10.9.8.1/24", "dev", "nic0"]);
    ip(&["neigh", "add", "10.9.8.2", "lladdr", "02:54:4e:44:4d:01", "dev", "nic0"]);
    let socket = std::net::UdpSocket::bind("10.9.8.1:0").unwrap();
    let mut frame = [0; 128];
    eventually("our datagram", || {
        socket.send_to(b"to the NIC", "10.9.8.2:9").unwrap();
        let arrived = take_interrupts(&eventfd).unwrap() > 0;
        memory.read(0x2000, &mut frame).unwrap();
        arrived && frame[42..52] == *b"to the NIC"
    });
    assert_eq!(frame[..6], [0x02, 0x54, 0x4e, 0x44, 0x4d, 0x01], "plain Ethernet, no other header");

    // Back: the same datagram with the ends exchanged, which leaves its checksums right.
    let (macs, addresses, ports) =
        (frame[..12].to_vec(), frame[26..34].to_vec(), frame[34..38].to_vec());
    let swap = |bytes: &[u8]| [&bytes[bytes.len() / 2..], &bytes[..bytes.len() / 2]].concat();
    frame[..12].copy_from_slice(&swap(&macs));
    frame[26..34].copy_from_slice(&swap(&addresses));
    frame[34..38].copy_from_slice(&swap(&ports));
    memory.write(0, &frame[..52]).unwrap();
    for (register, value) in [(FROM, 0x10000u64), (TO, 0x11000), (LEN, 52)] {
        client.region_write(REGION_BAR0, register, &value.to_le_bytes()).unwrap();
    }
    client.region_write(REGION_BAR0, GO, &[0, 0]).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut data = [0; 64];
    let (len, from) = socket.recv_from(&mut data).unwrap();
    assert_eq!((&data[..len], from.to_string().as_str()), (&b"to the NIC"[..], "10.9.8.2:9"));
    drop(client);
    let summary = serving.finish().unwrap();
    assert!(summary.wire.arrived >= 1 && summary.wire.departed == 1, "{:?}", summary.wire);
    println!("frames passed both ways");
}

#[test]
fn names_that_cannot_be_are_refused() {
    for bad in ["", "sixteen-letters-", "a b", "a/b", "tap%d", ".."] {
        assert!(matches!(Tap::open(bad), Err(TapError::Name(_))), "{bad}");
    }
}
