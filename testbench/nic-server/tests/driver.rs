//! Our own driver in this process, the NIC in another, Linux on the NIC's wire.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tandem_backends::vfio_user::VfioUser;
use tandem_contract::features::{Client, expected};
use tandem_device::{
    Batch, Csum, Device, DeviceError, Frame, FrameMeta, OperState, Pool, PoolConfig, Queue,
    QueueLens,
};
use tandem_vfio_user::client::ClientConfig;
use tandem_virtio::{VirtioConfig, VirtioNet};

const INSIDE: &str = "TANDEM_TEST_INSIDE_NAMESPACE";
const TEST: &str = "our_driver_reaches_linux_through_the_served_nic";
const OURS: [u8; 4] = [10, 9, 7, 2];
const THEIRS: [u8; 4] = [10, 9, 7, 1];

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn our_driver_reaches_linux_through_the_served_nic() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let probe = Command::new("unshare").args(["-Urn", "test", "-w", "/dev/net/tun"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED {TEST}: no network namespace with /dev/net/tun can be made here");
        return;
    }
    let output = Command::new("unshare")
        .arg("-Urn")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("and the NIC was gone"), "{said}");
}

struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start() -> Self {
        let name = format!("tandem-driver-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_tandem-nic"))
            .args(["serve", "--wire", "tap:nic0", "--replace-stale", "--socket"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("NIC"), "{line}");
        Self { child, socket }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Sleeps until the queue has something, at most some seconds.
fn sleep(queue: &mut dyn Queue) -> Result<(), DeviceError> {
    if queue.arm()? {
        let handle = queue.wait_handle().expect("the NIC has vectors");
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(ready, 1, "nothing woke us");
    }
    Ok(())
}

fn fold(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| (*b).into()));
    let sum: u32 = words.sum();
    let sum = (sum & 0xFFFF) + (sum >> 16);
    ((sum & 0xFFFF) + (sum >> 16)) as u16
}

/// A datagram whose checksum the NIC is to complete.
fn datagram(pool: &Pool, macs: [[u8; 6]; 2], port: u16, payload: &[u8]) -> Frame {
    let len = 8 + payload.len() as u16;
    let mut header = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0];
    header[2..4].copy_from_slice(&(20 + len).to_be_bytes());
    header.extend([OURS, THEIRS].concat());
    let sum = !fold(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = fold(&[&OURS[..], &THEIRS[..], &[0, 17], &len.to_be_bytes()[..]].concat());
    let mut frame = pool.alloc().unwrap();
    for part in [
        &macs.concat()[..],
        &[8, 0],
        &header,
        &4000u16.to_be_bytes(),
        &port.to_be_bytes(),
        &len.to_be_bytes(),
        &pseudo.to_be_bytes(),
        payload,
    ] {
        frame.append(part).unwrap();
    }
    let csum = Csum::Partial { start: 34, offset: 6 };
    *frame.meta_mut() = FrameMeta { csum, ..FrameMeta::default() };
    frame
}

fn inside() {
    let mut server = Server::start();
    ip("link set nic0 address 02:00:00:00:00:01 up");
    ip("addr add 10.9.7.1/24 dev nic0");
    let socket = UdpSocket::bind("10.9.7.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = socket.local_addr().unwrap().port();

    let pool = Pool::new(PoolConfig::frames(512)).unwrap();
    let transport = VfioUser::connect(&server.socket, ClientConfig::default()).unwrap();
    // A size that is no power of two, and small, so that the ring wraps often.
    let config =
        VirtioConfig { queue_lens: QueueLens { rx: 25, tx: 21 }, ..VirtioConfig::default() };
    let mut net = VirtioNet::probe(Arc::new(transport), pool.clone(), config).unwrap();
    net.open().unwrap();
    assert_eq!(net.features().bits(), expected(Client::Tandem), "{:?}", net.features());
    assert_eq!(net.oper_state(), OperState::Up);
    let mac = net.info().mac.0;
    let text: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    ip(&format!("neigh replace 10.9.7.2 lladdr {} dev nic0", text.join(":")));
    let mut queue = net.take_queue(0).unwrap();

    // To Linux: the NIC completes the checksum, or Linux would drop it.
    let mut got = [0; 2048];
    for i in 0..300u32 {
        let payload = vec![i as u8; 1 + i as usize * 4];
        let macs = [[2, 0, 0, 0, 0, 1], mac];
        let mut batch = Batch::from([datagram(&pool, macs, port, &payload)]);
        while !batch.is_empty() {
            if queue.transmit(&mut batch).unwrap().full {
                sleep(&mut *queue).unwrap();
            }
        }
        assert_eq!(socket.recv(&mut got).unwrap(), payload.len());
        assert_eq!(got[..payload.len()], payload);
    }
    assert_eq!((queue.stats().tx_csum, queue.stats().tx_dropped), (300, 0));

    // From Linux: the NIC finds the checksum valid, and interrupts wake us.
    let mut received = 0u32;
    let mut batch = Batch::new();
    let end = Instant::now() + Duration::from_secs(20);
    for i in 0..300u32 {
        socket.send_to(&vec![i as u8; 1 + i as usize * 4], "10.9.7.2:4000").unwrap();
        while received <= i {
            assert!(Instant::now() < end, "datagram {i} did not come");
            if queue.receive(16, &mut batch).unwrap() == 0 {
                sleep(&mut *queue).unwrap();
            }
            for frame in batch.drain(..) {
                let bytes = frame.to_vec();
                // Linux says other things too on a link that is up.
                if bytes[12..14] == [8, 0] && bytes[23] == 17 && bytes[36..38] == [0x0F, 0xA0] {
                    assert_eq!(bytes[42..], vec![received as u8; 1 + received as usize * 4]);
                    assert_eq!(frame.meta().csum, Csum::Valid);
                    received += 1;
                }
            }
        }
    }
    let stats = queue.stats();
    assert!(stats.interrupts > 0 && stats.rx_errors == 0, "{stats:?}");

    // The NIC dies with buffers of ours.
    let free = pool.stats().free;
    assert!(free < 512);
    while !queue.arm().unwrap() {
        queue.receive(16, &mut batch).unwrap();
        queue.completed(&mut Vec::new()).unwrap();
        batch.clear();
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let error = (0..100)
        .find_map(|_| match sleep(&mut *queue) {
            Ok(()) => queue.receive(16, &mut batch).err(),
            Err(error) => Some(error),
        })
        .expect("a dead server shows");
    assert!(matches!(error, DeviceError::Gone { .. }), "{error}");
    batch.clear();
    drop(queue);
    assert!(pool.stats().free < 512, "in quarantine");
    net.close().unwrap();
    assert_eq!(pool.stats().free, 512);
    assert!(matches!(net.open(), Err(DeviceError::Gone { .. })));
    println!("both ways, {received} datagrams, and the NIC was gone: {error}");
}
