//! Against the kernel, inside network namespaces that each test makes for itself.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use tandem_device::{Batch, Csum, Frame, FrameMeta, Gso, GsoKind, PoolConfig};

use super::*;

/// Set in a child that `unshare` started.
const INSIDE: &str = "TANDEM_TEST_INSIDE_NAMESPACE";

/// Runs `body` on a thread in a network namespace of its own: as root directly, else in a child with a
/// user namespace. Says so loudly where neither is possible.
fn in_namespace(test: &str, body: fn()) {
    let outcome = std::thread::spawn(move || {
        if std::env::var_os(INSIDE).is_none() {
            // SAFETY: it changes the calling thread only, which does nothing else afterwards.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return false;
            }
        }
        body();
        true
    })
    .join();
    match outcome {
        Ok(true) => return,
        Ok(false) => {}
        Err(panic) => std::panic::resume_unwind(panic),
    }
    let exe = std::env::current_exe().unwrap();
    let probe = Command::new("unshare").args(["-Urn", "cat", "/dev/null"]).status();
    let tun = Command::new("unshare")
        .args(["-Urn", "sh", "-c", "exec 3<>/dev/net/tun"])
        .stderr(std::process::Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) || !tun.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED {test}: neither root nor a user namespace that may open /dev/net/tun");
        return;
    }
    let name = format!("tap::tests::{test}");
    let child = Command::new("unshare")
        .arg("-Urn")
        .arg(exe)
        .args(["--exact", &name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(child.success());
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

const OURS: [u8; 4] = [10, 9, 0, 2];
const THEIRS: [u8; 4] = [10, 9, 0, 1];

struct Bench {
    tap: Tap,
    queue: Box<dyn Queue>,
    pool: Pool,
    ours: MacAddr,
    theirs: MacAddr,
}

impl Bench {
    fn new(pool: PoolConfig, config: &TapConfig) -> Self {
        let pool = Pool::new(pool).unwrap();
        let mut tap = Tap::create("td0", pool.clone(), config).unwrap();
        ip("addr add 10.9.0.1/24 dev td0");
        tap.open().unwrap();
        let queue = tap.take_queue(0).unwrap();
        let ours = tap.info().mac;
        let theirs = Control::new().unwrap().mac("td0").unwrap();
        assert_ne!(ours, theirs);
        // Saves each test the question; the echo test asks it.
        let mac: Vec<_> = ours.0.iter().map(|byte| format!("{byte:02x}")).collect();
        ip(&format!("neigh replace 10.9.0.2 lladdr {} dev td0", mac.join(":")));
        Self { tap, queue, pool, ours, theirs }
    }

    fn send(&mut self, bytes: &[u8], meta: FrameMeta) {
        let mut frame = self.pool.alloc().unwrap();
        let head = bytes.len().min(frame.tailroom());
        frame.append(&bytes[..head]).unwrap();
        for part in bytes[head..].chunks(self.pool.buffer_len() as usize) {
            let mut filler = self.pool.filler().unwrap();
            filler.write(part);
            frame.push_payload(filler.payload(0..part.len())).unwrap();
        }
        *frame.meta_mut() = meta;
        let outcome = self.queue.transmit(&mut Batch::from([frame])).unwrap();
        assert_eq!((outcome.taken, self.queue.stats().tx_dropped), (1, 0));
    }

    /// The next frame that is wanted, within five seconds; sleeps as a poll loop does.
    fn expect(&mut self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Frame {
        let end = Instant::now() + Duration::from_secs(5);
        let mut batch = Batch::new();
        loop {
            self.queue.receive(1, &mut batch).unwrap();
            if let Some(frame) = batch.pop_front() {
                if wanted(&frame.to_vec()) {
                    return frame;
                }
                continue;
            }
            assert!(Instant::now() < end, "no {what} came");
            if self.queue.arm().unwrap() {
                let handle = self.queue.wait_handle().unwrap();
                let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
                let mut fds = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut fds, Some(&second)).unwrap();
            }
        }
    }

    /// Ethernet and IPv4 around a transport packet.
    fn ipv4(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = [self.theirs.0, self.ours.0].concat();
        frame.extend([8, 0]);
        let len = (20 + transport.len()) as u16;
        let mut header = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
        header[2..4].copy_from_slice(&len.to_be_bytes());
        header.extend(OURS);
        header.extend(THEIRS);
        let sum = !fold(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [frame, header, transport.to_vec()].concat()
    }

    fn tcp(&mut self, port: u16, seq: u32, ack: u32, flags: u8, data: &[u8], gso: Option<u16>) {
        let mut segment = Vec::new();
        segment.extend(4000u16.to_be_bytes());
        segment.extend(port.to_be_bytes());
        segment.extend(seq.to_be_bytes());
        segment.extend(ack.to_be_bytes());
        segment.extend([0x50, flags, 0xFF, 0xFF]);
        segment.extend(pseudo(6, 20 + data.len()).to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(data);
        let frame = self.ipv4(6, &segment);
        let kind = GsoKind::Tcp4;
        self.send(
            &frame,
            FrameMeta {
                csum: Csum::Partial { start: 34, offset: 16 },
                gso: gso.map(|size| Gso { kind, size, ecn: false, fixed_id: false }),
                header_len: 54,
                ..FrameMeta::default()
            },
        );
    }
}

fn fold(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xFFFF) + (sum >> 16);
    ((sum & 0xFFFF) + (sum >> 16)) as u16
}

/// The folded sum of the pseudo-header, which stands in the field of a partial checksum.
fn pseudo(protocol: u8, len: usize) -> u16 {
    fold(&[&OURS[..], &THEIRS[..], &[0, protocol], &(len as u16).to_be_bytes()[..]].concat())
}

fn long_frames() -> PoolConfig {
    PoolConfig { buffers: 256, buffer_len: 4096, headroom: 128 }
}

#[test]
fn the_kernel_answers_arp_and_echo() {
    in_namespace("the_kernel_answers_arp_and_echo", || {
        let mut bench = Bench::new(PoolConfig::frames(64), &TapConfig::default());
        let mut arp = [[0xFF; 6], bench.ours.0].concat();
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        arp.extend(bench.ours.0);
        arp.extend(OURS);
        arp.extend([0; 6]);
        arp.extend(THEIRS);
        bench.send(&arp, FrameMeta::default());
        let reply = bench.expect("ARP reply", |frame| frame[12..14] == [8, 6] && frame[21] == 2);
        assert_eq!(reply.to_vec()[22..28], bench.theirs.0);

        let mut echo = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
        echo.extend((0..1400).map(|i| i as u8));
        let sum = !fold(&echo);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        let request = bench.ipv4(1, &echo);
        bench.send(&request, FrameMeta::default());
        let reply = bench.expect("echo reply", |frame| frame[12..14] == [8, 0] && frame[23] == 1);
        let bytes = reply.to_vec();
        assert_eq!((bytes[34], &bytes[38..], fold(&bytes[34..])), (0, &echo[4..], 0xFFFF));
        let stats = bench.tap.stats();
        assert!(stats.tx_packets == 2 && stats.rx_packets >= 2);
    });
}

#[test]
fn segments_are_cut_and_joined_by_the_kernel() {
    in_namespace("segments_are_cut_and_joined_by_the_kernel", || {
        let mut bench = Bench::new(long_frames(), &TapConfig::default());
        let caps = bench.tap.caps();
        assert!(caps.tx.contains(TxOffloads::CSUM | TxOffloads::TSO4 | TxOffloads::TSO6));
        assert!(caps.rx.contains(RxOffloads::GRO4 | RxOffloads::PARTIAL));

        let listener = TcpListener::bind(("10.9.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        bench.tcp(port, 999, 0, 2, &[], None);
        let syn_ack = bench.expect("SYN-ACK", |f| f[12..14] == [8, 0] && f[23] == 6 && f[47] == 18);
        let bytes = syn_ack.to_vec();
        let mut ack = u32::from_be_bytes(bytes[38..42].try_into().unwrap()).wrapping_add(1);
        bench.tcp(port, 1000, ack, 16, &[], None);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

        // 20,000 bytes in one frame, checksum and all left to the kernel.
        let data: Vec<_> = (0..20_000u32).map(|i| (i / 7) as u8).collect();
        bench.tcp(port, 1000, ack, 24, &data, Some(1448));
        let mut got = vec![0; data.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == data, "20,000 bytes arrive as they were sent");

        // And back: what the kernel would have cut comes whole, its checksum left to us.
        let back: Vec<_> = (0..60_000u32).map(|i| (i / 5) as u8).collect();
        stream.write_all(&back).unwrap();
        let mut got: Vec<u8> = Vec::new();
        let mut longest = 0;
        while got.len() < back.len() {
            let frame = bench.expect("data", |f| f[12..14] == [8, 0] && f[23] == 6 && f.len() > 54);
            let bytes = frame.to_vec();
            assert_eq!(frame.meta().csum, Csum::Partial { start: 34, offset: 16 });
            if let Some(gso) = frame.meta().gso {
                assert_eq!(gso.kind, GsoKind::Tcp4);
                let segments = (bytes.len() - 54).div_ceil(gso.size.into());
                assert_eq!(usize::from(frame.meta().segments), segments);
                longest = longest.max(bytes.len());
            }
            let seq = u32::from_be_bytes(bytes[38..42].try_into().unwrap());
            if seq == ack {
                got.extend(&bytes[54..]);
                ack = ack.wrapping_add(bytes.len() as u32 - 54);
            }
            bench.tcp(port, 21_000, ack, 16, &[], None);
        }
        assert!(got == back);
        assert!(longest > 4096, "super-segments over several buffers, longest {longest}");
    });
}

#[test]
fn datagrams_are_cut_where_the_kernel_knows_how() {
    in_namespace("datagrams_are_cut_where_the_kernel_knows_how", || {
        let mut bench = Bench::new(long_frames(), &TapConfig::default());
        let socket = UdpSocket::bind(("10.9.0.1", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut send = |len: usize, gso: Option<Gso>| {
            let mut datagram = [4000u16.to_be_bytes(), port.to_be_bytes()].concat();
            datagram.extend((8 + len as u16).to_be_bytes());
            datagram.extend(pseudo(17, 8 + len).to_be_bytes());
            datagram.extend((0..len).map(|i| (i / 100) as u8));
            let frame = bench.ipv4(17, &datagram);
            let csum = Csum::Partial { start: 34, offset: 6 };
            bench.send(&frame, FrameMeta { csum, gso, header_len: 42, ..FrameMeta::default() });
        };
        let mut got = [0; 4096];
        send(500, None);
        assert_eq!(socket.recv(&mut got).unwrap(), 500);
        if !bench_has_uso() {
            eprintln!("this kernel segments no UDP for a TAP");
            return;
        }
        send(2500, Some(Gso { kind: GsoKind::UdpL4, size: 1000, ecn: false, fixed_id: false }));
        let lens = [(); 3].map(|()| socket.recv(&mut got).unwrap());
        assert_eq!(lens, [1000, 1000, 500]);
    });
}

fn bench_has_uso() -> bool {
    let pool = Pool::new(long_frames()).unwrap();
    Tap::create("td1", pool, &TapConfig::default()).unwrap().caps().tx.contains(TxOffloads::USO)
}

#[test]
fn queues_are_separate_and_offloads_can_be_refused() {
    in_namespace("queues_are_separate_and_offloads_can_be_refused", || {
        let config = TapConfig { queues: 3, offloads: false, ..TapConfig::default() };
        let pool = Pool::new(PoolConfig::frames(64)).unwrap();
        let mut tap = Tap::create("td%d", pool.clone(), &config).unwrap();
        assert_eq!((tap.name(), tap.info().queues), ("td0", 3));
        assert_eq!((tap.caps().tx, tap.caps().rx), (TxOffloads::empty(), RxOffloads::empty()));
        assert!(tap.take_queue(0).is_err(), "closed");
        tap.open().unwrap();
        let queues: Vec<_> = (0..3).map(|index| tap.take_queue(index).unwrap()).collect();
        assert!(tap.take_queue(0).is_err() && tap.take_queue(3).is_err());
        assert_eq!(tap.oper_state(), OperState::Up);
        assert!(tap.set_mtu(9000).is_ok() && tap.set_mtu(65_522).is_err());
        assert_eq!(Control::new().unwrap().mtu("td0").unwrap(), 9000);
        ip("link set td0 down");
        assert_eq!(tap.oper_state(), OperState::Dormant);

        // A frame that asks for what was not agreed on, and one while the link is down.
        let mut frame = pool.alloc().unwrap();
        frame.append(&[2; 60]).unwrap();
        frame.meta_mut().csum = Csum::Partial { start: 34, offset: 16 };
        frame.meta_mut().token = Some(4);
        let mut plain = pool.alloc().unwrap();
        plain.append(&[2; 60]).unwrap();
        let mut queues = queues.into_iter();
        let mut queue = queues.next().unwrap();
        queue.transmit(&mut Batch::from([frame, plain])).unwrap();
        assert_eq!(queue.stats().tx_dropped, 2);
        let mut tokens = Vec::new();
        queue.completed(&mut tokens).unwrap();
        assert_eq!(tokens, [4]);

        ip("link del td0");
        let gone = queue.receive(1, &mut Batch::new());
        assert!(matches!(gone, Err(DeviceError::Gone { .. })), "{gone:?}");
        let text = gone.unwrap_err().to_string();
        assert!(text.contains("tap td0 is gone") && text.contains("deleted"), "{text}");
    });
}

#[test]
fn descriptors_from_elsewhere_serve_too() {
    in_namespace("descriptors_from_elsewhere_serve_too", || {
        let fd = sys::open_tun().unwrap();
        sys::attach(fd.as_fd(), "td7").unwrap();
        let pool = Pool::new(PoolConfig::frames(64)).unwrap();
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let mut tap = Tap::from_fds(vec![fd], mac, 1500, pool.clone(), true).unwrap();
        assert_eq!((tap.name(), tap.info().mac), ("td7", mac));
        tap.open().unwrap();
        let mut queue = tap.take_queue(0).unwrap();
        ip("link set td7 up");
        // The kernel announces itself on the link (IPv6 multicast), or an ARP we provoke.
        ip("addr add 10.9.0.1/24 dev td7");
        let _ = UdpSocket::bind("10.9.0.1:0").unwrap().send_to(b"x", "10.9.0.2:9");
        let end = Instant::now() + Duration::from_secs(5);
        let mut batch = Batch::new();
        while batch.is_empty() && Instant::now() < end {
            queue.receive(9, &mut batch).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(!batch.is_empty());

        let null = std::fs::File::open("/dev/null").unwrap().into();
        let error = Tap::from_fds(vec![null], mac, 1500, pool.clone(), true).err().unwrap();
        assert!(matches!(error, TapError::NotTap(_)));
        assert!(Tap::from_fds(vec![], mac, 1500, pool, true).is_err());
    });
}

#[test]
fn errors_say_what_to_do() {
    let pool = Pool::new(PoolConfig::frames(4)).unwrap();
    let create = |name: &str| Tap::create(name, pool.clone(), &TapConfig::default()).err().unwrap();
    for name in ["", "sixteen-bytes-xx", "a/b", "a b", ".."] {
        assert!(matches!(create(name), TapError::BadName { .. }), "{name}");
    }
    let error = attach_error("td0", Errno::PERM.into()).to_string();
    assert_eq!(
        error,
        "no permission for TAP td0: it needs CAP_NET_ADMIN in this network namespace, or an \
         interface made for you (ip tuntap add dev td0 mode tap vnet_hdr multi_queue user $USER)"
    );
    assert!(matches!(open_error(Errno::NOENT.into()), TapError::NoTun));
}

#[test]
fn a_taken_name_is_told() {
    in_namespace("a_taken_name_is_told", || {
        let pool = Pool::new(PoolConfig::frames(4)).unwrap();
        let error = Tap::create("lo", pool, &TapConfig::default()).err().unwrap();
        assert!(matches!(error, TapError::Taken { .. }), "{error}");
        assert!(error.to_string().starts_with("interface name lo is taken"));
    });
}

/// The kernel's own refusal, met as a user without rights.
#[test]
fn without_rights_the_refusal_is_clear() {
    let denied = std::thread::spawn(|| {
        // SAFETY: plain system calls that change the calling thread only; libc's wrapper would change
        // all threads.
        unsafe {
            libc::unshare(libc::CLONE_NEWNET);
            libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534);
            libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534);
        }
        let pool = Pool::new(PoolConfig::frames(4)).unwrap();
        Tap::create("td0", pool, &TapConfig::default()).err()
    })
    .join()
    .unwrap()
    .expect("no rights, no TAP");
    let text = denied.to_string();
    let clear = matches!(denied, TapError::OpenDenied(_)) && text.contains("run as root")
        || matches!(denied, TapError::Denied { .. }) && text.contains("CAP_NET_ADMIN");
    assert!(clear, "{text}");
}
