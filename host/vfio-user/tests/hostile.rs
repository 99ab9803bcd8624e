//! Peers that break the rules: nothing panics, nothing hangs, the next one is served.

mod support;

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use support::*;
use tandem_vfio_user::client::{Client, ClientConfig};
use tandem_vfio_user::irq::interrupt_eventfd;
use tandem_vfio_user::message::{
    Capabilities, Command, DmaAccess, DmaFlags, DmaMap, DmaUnmap, HEADER_LEN, Header, HeaderFlags,
    IrqSet, IrqSetFlags, RegionAccess, Request, Version,
};
use tandem_vfio_user::pci;
use zerocopy::{FromBytes, IntoBytes};

/// A connection that sends whatever it is told to.
struct Raw(UnixStream);

impl Raw {
    fn connect(server: &Running) -> Self {
        let stream = UnixStream::connect(&server.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn negotiated(server: &Running) -> Self {
        let mut raw = Self::connect(server);
        let capabilities = Capabilities { max_msg_fds: Some(16), ..Capabilities::default() };
        let version = Request::Version { version: Version { major: 0, minor: 0 }, capabilities };
        raw.send(&version, Header::command(1, Command::Version));
        assert_eq!(raw.reply().0.error, 0);
        raw
    }

    fn send(&mut self, request: &Request<'_>, header: Header) {
        let mut bytes = Vec::new();
        request.emit(&mut bytes, header);
        self.0.write_all(&bytes).unwrap();
    }

    fn send_with_fds(&mut self, bytes: &[u8], fds: &[OwnedFd]) {
        let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    fn reply(&mut self) -> (Header, Vec<u8>) {
        let mut header = [0; HEADER_LEN];
        self.0.read_exact(&mut header).expect("a reply");
        let header = Header::read_from_bytes(&header).unwrap();
        let mut body = vec![0; header.size as usize - HEADER_LEN];
        self.0.read_exact(&mut body).unwrap();
        (header, body)
    }

    /// The errno of the reply to this request.
    fn errno_of(&mut self, request: &Request<'_>) -> u32 {
        self.send(request, Header::command(77, request.command()));
        let (header, _) = self.reply();
        assert_eq!((header.id, header.command), (77, request.command() as u16));
        assert_eq!(header.flag_bits().contains(HeaderFlags::ERROR), header.error != 0);
        header.error
    }

    fn raw_errno(&mut self, command: u16, body: &[u8]) -> u32 {
        let header =
            Header { id: 5, command, size: (HEADER_LEN + body.len()) as u32, flags: 0, error: 0 };
        self.0.write_all(&[header.as_bytes(), body].concat()).unwrap();
        self.reply().0.error
    }

    /// The server still answers on this connection.
    fn alive(&mut self) {
        let access = RegionAccess { offset: 0, region: pci::REGION_CONFIG, count: 4 };
        self.send(&Request::RegionRead(access), Header::command(9, Command::RegionRead));
        let (header, body) = self.reply();
        assert_eq!((header.id, header.error, &body[16..]), (9, 0, &[0, 1, 2, 3][..]));
    }

    fn closed(&mut self) {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(n) => assert_eq!(n, 0, "the server still talks"),
            // Bytes that it had not read make the kernel report a reset.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

#[test]
fn each_wrong_command_gets_its_errno() {
    let server = Running::start("wrong");
    let mut raw = Raw::connect(&server);
    // Before VERSION nothing else is answered.
    let access = |region, offset, count| RegionAccess { offset, region, count };
    assert_eq!(raw.errno_of(&Request::RegionRead(access(7, 0, 4))), EINVAL);
    drop(raw);

    let mut raw = Raw::negotiated(&server);
    let again = Request::Version {
        version: Version { major: 0, minor: 0 },
        capabilities: Capabilities::default(),
    };
    assert_eq!(raw.errno_of(&again), EINVAL);
    assert_eq!(raw.errno_of(&Request::RegionRead(access(99, 0, 4))), EINVAL);
    assert_eq!(raw.errno_of(&Request::RegionRead(access(7, 255, 4))), EINVAL);
    assert_eq!(raw.errno_of(&Request::RegionRead(access(7, u64::MAX, 4))), EINVAL);
    assert_eq!(raw.errno_of(&Request::RegionRead(access(0, 0, u32::MAX))), EINVAL);
    assert_eq!(raw.errno_of(&Request::DmaRead(DmaAccess { address: 0, count: 1 })), 95); // EOPNOTSUPP
    let map = |flags, address, size| {
        Request::DmaMap(DmaMap { argsz: 32, flags, offset: 0, address, size })
    };
    // Without permissions, so that the device's drain has nothing to ask of this client.
    assert_eq!(raw.errno_of(&map(0, 0x1000, 0x1000)), 0);
    assert_eq!(raw.errno_of(&map(3, 0x1800, 0x1000)), 17); // EEXIST
    assert_eq!(raw.errno_of(&map(1 << 7, 0x5000, 0x1000)), EINVAL);
    assert_eq!(raw.errno_of(&map(3, 0x5000, 0)), EINVAL);
    let unmap =
        |flags, address, size| Request::DmaUnmap(DmaUnmap { argsz: 24, flags, address, size });
    assert_eq!(raw.errno_of(&unmap(0, 0x1000, 0x800)), EINVAL);
    assert_eq!(raw.errno_of(&unmap(1, 0x1000, 0x1000)), 95);
    assert_eq!(raw.errno_of(&unmap(2, 1, 0)), EINVAL);
    assert_eq!(raw.errno_of(&unmap(2, 0, 0)), 0);
    let set = IrqSet { argsz: 20, flags: IrqSetFlags::all().bits(), index: 2, start: 0, count: 1 };
    assert_eq!(raw.errno_of(&Request::DeviceSetIrqs { set, data: &[] }), EINVAL);
    // Unknown commands are drained, whatever they carry; 14 was once DIRTY_PAGES.
    for command in [0, 14, 16, 0x7fff] {
        assert_eq!(raw.raw_errno(command, &[0xab; 1000]), ENOSYS);
    }
    assert_eq!(raw.raw_errno(Command::DmaMap as u16, &[0; 31]), EINVAL);
    assert_eq!(raw.raw_errno(Command::RegionWriteMulti as u16, &[0xff; 8]), EINVAL);
    raw.alive();
    drop(raw);
    let counters = server.finish();
    assert_eq!(counters.unknown_commands, 4);
    assert_eq!(counters.clients_dropped, 0);
}

#[test]
fn another_major_version_is_told_and_closed() {
    let server = Running::start("major");
    let mut raw = Raw::connect(&server);
    let version = Version { major: 1, minor: 0 };
    let request = Request::Version { version, capabilities: Capabilities::default() };
    assert_eq!(raw.errno_of(&request), 93); // EPROTONOSUPPORT
    raw.closed();
    Raw::negotiated(&server).alive();
}

#[test]
fn commands_without_reply_get_none() {
    let server = Running::start("no-reply");
    let mut raw = Raw::negotiated(&server);
    let bad = RegionAccess { offset: 0, region: 99, count: 1 };
    let request = Request::RegionWrite { access: bad, data: &[1] };
    raw.send(&request, Header::posted(3, Command::RegionWrite));
    let good = RegionAccess { offset: 0, region: 7, count: 1 };
    let request = Request::RegionWrite { access: good, data: &[0] };
    raw.send(&request, Header::posted(4, Command::RegionWrite));
    raw.alive();
    drop(raw);
    assert_eq!(server.finish().errors, 1);
}

#[test]
fn oversized_messages_are_drained() {
    let server = Running::start("oversized");
    let mut raw = Raw::negotiated(&server);
    let body = vec![0x5a; 3 << 20];
    assert_eq!(raw.raw_errno(Command::RegionWrite as u16, &body), 90); // EMSGSIZE
    raw.alive();
    drop(raw);
    assert_eq!(server.finish().oversized, 1);
}

#[test]
fn surplus_descriptors_are_closed() {
    let server = Running::start("fds");
    let mut raw = Raw::negotiated(&server);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let set = IrqSet {
        argsz: 20,
        flags: (IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_TRIGGER).bits(),
        index: 2,
        start: 0,
        count: 30,
    };
    let mut bytes = Vec::new();
    Request::DeviceSetIrqs { set, data: &[] }
        .emit(&mut bytes, Header::command(2, Command::DeviceSetIrqs));
    let eventfds: Vec<_> = (0..30).map(|_| interrupt_eventfd().unwrap()).collect();
    let before = open();
    for _ in 0..20 {
        raw.send_with_fds(&bytes, &eventfds);
        assert_eq!(raw.reply().0.error, 24); // EMFILE
    }
    // The limit is the message's: two pieces of it cannot bring more.
    raw.send_with_fds(&bytes[..HEADER_LEN], &eventfds[..10]);
    raw.send_with_fds(&bytes[HEADER_LEN..], &eventfds[..10]);
    assert_eq!(raw.reply().0.error, 24);
    // Descriptors where none belong are closed as well.
    let mut read = Vec::new();
    let access = RegionAccess { offset: 0, region: 7, count: 4 };
    Request::RegionRead(access).emit(&mut read, Header::command(3, Command::RegionRead));
    for _ in 0..20 {
        raw.send_with_fds(&read, &eventfds[..2]);
        assert_eq!(raw.reply().0.error, 0);
    }
    // Other tests of this process open a few meanwhile; 600 leaked ones would show.
    assert!(open() < before + 200, "descriptors leak");
    drop(raw);
    assert_eq!(server.finish().surplus_fds, 21);
}

#[test]
fn impossible_headers_cost_the_connection() {
    let server = Running::start("headers");
    for header in [
        Header { id: 0, command: 1, size: 15, flags: 0, error: 0 },
        Header { id: 0, command: 1, size: 0, flags: 0, error: 0 },
        Header { id: 0, command: 1, size: 16, flags: 7, error: 0 },
    ] {
        let mut raw = Raw::negotiated(&server);
        raw.0.write_all(header.as_bytes()).unwrap();
        raw.closed();
    }
    Raw::negotiated(&server).alive();
    assert_eq!(server.finish().clients_dropped, 3);
}

/// Killed at any byte of a message, with or without having read the replies.
#[test]
fn a_client_that_dies_in_mid_message_is_replaced() {
    let server = Running::start("dies");
    let mut message = Vec::new();
    let access = RegionAccess { offset: 0, region: 0, count: 8 };
    let request = Request::RegionWrite { access, data: &[1; 8] };
    request.emit(&mut message, Header::command(1, Command::RegionWrite));
    for cut in 0..=message.len() {
        let mut raw = Raw::negotiated(&server);
        raw.0.write_all(&message[..cut]).unwrap();
    }
    Raw::negotiated(&server).alive();
}

#[test]
fn a_client_that_reads_no_replies_is_not_served_further() {
    let server = Running::start("reads-nothing");
    let raw = Raw::negotiated(&server);
    raw.0.set_nonblocking(true).unwrap();
    let mut read = Vec::new();
    let access = RegionAccess { offset: 0x1000, region: 0, count: 32768 };
    Request::RegionRead(access).emit(&mut read, Header::command(3, Command::RegionRead));
    // Far more answers than any queue holds: 100,000 x 32 KiB.
    let mut sent = 0;
    for _ in 0..100_000 {
        match (&raw.0).write(&read) {
            Ok(n) if n == read.len() => sent += 1,
            _ => break,
        }
    }
    assert!(sent < 100_000, "the server read on without end");
    drop(raw);
    Raw::negotiated(&server).alive();
}

/// Commands that arrive while a DMA answer is awaited are carried out afterwards, in order.
#[test]
fn commands_wait_while_a_dma_answer_is_awaited() {
    let server = Running::start("interleaved");
    let mut raw = Raw::negotiated(&server);
    let map =
        DmaMap { argsz: 32, flags: DmaFlags::all().bits(), offset: 0, address: 0, size: 4096 };
    assert_eq!(raw.errno_of(&Request::DmaMap(map)), 0);
    start_copy(&mut raw);
    let (dma, body) = raw.reply();
    assert_eq!(dma.command, Command::DmaRead as u16);
    for id in 100..110 {
        let read = RegionAccess { offset: 0, region: 7, count: 1 };
        raw.send(&Request::RegionRead(read), Header::command(id, Command::RegionRead));
    }
    let access = DmaAccess::read_from_bytes(&body).unwrap();
    // An answer that fits but for its number is not taken for this one.
    let other = Header { id: dma.id.wrapping_add(1), ..dma };
    reply(&mut raw, other, &[access.as_bytes(), &[9; 8]].concat());
    reply(&mut raw, dma, &[access.as_bytes(), &[7; 8]].concat());
    let (dma, body) = raw.reply();
    assert_eq!((dma.command, &body[16..]), (Command::DmaWrite as u16, &[7; 8][..]));
    // The specification's write reply has 12 bytes.
    reply(&mut raw, dma, &body[..12]);
    let (done, _) = raw.reply();
    assert_eq!((done.id, done.error), (50, 0));
    for id in 100..110 {
        assert_eq!(raw.reply().0.id, id);
    }
    assert!(copied(&mut raw));
}

fn start_copy(raw: &mut Raw) {
    let words: Vec<u8> = [0u64, 64, 8].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let access = RegionAccess { offset: COPY, region: 0, count: 24 };
    let request = Request::RegionWrite { access, data: &words };
    raw.send(&request, Header::command(50, Command::RegionWrite));
}

fn copied(raw: &mut Raw) -> bool {
    let access = RegionAccess { offset: COPY_RESULT, region: 0, count: 1 };
    raw.send(&Request::RegionRead(access), Header::command(51, Command::RegionRead));
    raw.reply().1[16] == 0
}

fn reply(raw: &mut Raw, to: Header, body: &[u8]) {
    let header = Header { size: (HEADER_LEN + body.len()) as u32, ..to.reply() };
    raw.0.write_all(&[header.as_bytes(), body].concat()).unwrap();
}

#[test]
fn spoofed_dma_answers_are_not_believed() {
    let server = Running::start("spoof");
    let map =
        DmaMap { argsz: 32, flags: DmaFlags::all().bits(), offset: 0, address: 0, size: 4096 };
    let access = |address, count| DmaAccess { address, count };
    type Spoof = fn(Header, DmaAccess) -> (Header, Vec<u8>);
    let spoofs: [Spoof; 5] = [
        |header, access| (header.reply(), access.as_bytes().to_vec()), // no data
        |header, access| (header.reply(), [access.as_bytes(), &[0; 9][..]].concat()), // too much
        |header, access| {
            let other = DmaAccess { address: access.address + 8, ..access };
            (header.reply(), [other.as_bytes(), &[0; 8][..]].concat())
        },
        |header, _| (header.reply(), vec![]),
        |header, _| (header.error_reply(14), vec![]),
    ];
    for spoof in spoofs {
        let mut raw = Raw::negotiated(&server);
        assert_eq!(raw.errno_of(&Request::DmaMap(map)), 0);
        // Answers to questions that were not asked.
        let uninvited = Header::command(0, Command::DmaRead);
        reply(&mut raw, uninvited, access(0, 8).as_bytes());
        start_copy(&mut raw);
        let (dma, body) = raw.reply();
        let access = DmaAccess::read_from_bytes(&body).unwrap();
        // The right number with another command, and another number.
        reply(&mut raw, Header { command: Command::DmaWrite as u16, ..dma }, &body);
        reply(&mut raw, Header { id: dma.id.wrapping_add(1), ..dma }, &body);
        let (header, body) = spoof(dma, access);
        let header = Header { size: (HEADER_LEN + body.len()) as u32, ..header };
        raw.0.write_all(&[header.as_bytes(), &body].concat()).unwrap();
        assert_eq!(raw.reply().0.id, 50);
        assert!(!copied(&mut raw));
    }
    assert_eq!(server.finish().stray_replies, 15);
}

/// QEMU before it learned DMA messages ignores them: one time-out, then immediate errors.
#[test]
fn a_client_that_ignores_dma_messages_costs_one_timeout() {
    let mut config = config();
    config.limits.dma_timeout = Duration::from_millis(50);
    let server = Running::start_with("ignores", config);
    let mut raw = Raw::negotiated(&server);
    let map =
        DmaMap { argsz: 32, flags: DmaFlags::all().bits(), offset: 0, address: 0, size: 4096 };
    assert_eq!(raw.errno_of(&Request::DmaMap(map)), 0);
    let mut asked = 0;
    for _ in 0..10 {
        start_copy(&mut raw);
        let (mut header, _) = raw.reply();
        while header.command == Command::DmaRead as u16 {
            asked += 1;
            header = raw.reply().0;
        }
        assert_eq!(header.id, 50);
        assert!(!copied(&mut raw));
    }
    assert_eq!(asked, 1);
}

#[test]
fn a_flood_while_a_dma_answer_is_awaited_costs_the_connection() {
    let mut config = config();
    config.limits.queued_commands_max = 100;
    config.limits.dma_timeout = PATIENCE;
    let server = Running::start_with("flood", config);
    let mut raw = Raw::negotiated(&server);
    let map =
        DmaMap { argsz: 32, flags: DmaFlags::all().bits(), offset: 0, address: 0, size: 4096 };
    assert_eq!(raw.errno_of(&Request::DmaMap(map)), 0);
    start_copy(&mut raw);
    assert_eq!(raw.reply().0.command, Command::DmaRead as u16);
    let mut read = Vec::new();
    let access = RegionAccess { offset: 0, region: 7, count: 1 };
    Request::RegionRead(access).emit(&mut read, Header::command(3, Command::RegionRead));
    for _ in 0..101 {
        if raw.0.write_all(&read).is_err() {
            break;
        }
    }
    Raw::negotiated(&server).alive();
    assert_eq!(server.finish().clients_dropped, 1);
}

/// Random bytes and random well-framed messages, in random pieces: the next client is always served.
#[test]
fn random_messages_never_stop_the_server() {
    let server = Running::start("random");
    let message = (0u16..20, prop::collection::vec(any::<u8>(), 0..80), 0u32..64, any::<bool>());
    let framed = prop::collection::vec(message, 1..20).prop_map(|messages| {
        let mut bytes = Vec::new();
        for (command, mut body, flags, small) in messages {
            if small {
                // Small numbers reach further than random ones.
                body.iter_mut()
                    .enumerate()
                    .filter(|(at, _)| at % 8 > 1)
                    .for_each(|(_, byte)| *byte = 0);
            }
            // One in eight is a reply; types 2 to 15 would only end the connection early.
            let flags = if flags < 8 { 1 } else { flags & 0x30 };
            let size = (HEADER_LEN + body.len()) as u32;
            let header = Header { id: 1, command, size, flags, error: 0 };
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&body);
        }
        bytes
    });
    let bytes = prop_oneof![4 => framed, 1 => prop::collection::vec(any::<u8>(), 0..300)];
    let config = proptest::test_runner::Config {
        cases: 300,
        failure_persistence: None,
        ..Default::default()
    };
    TestRunner::new(config)
        .run(&(bytes, any::<bool>()), |(bytes, negotiate)| {
            let mut raw = if negotiate { Raw::negotiated(&server) } else { Raw::connect(&server) };
            // The server may have closed already.
            let _ = raw.0.write_all(&bytes);
            let _ = raw.0.shutdown(std::net::Shutdown::Write);
            let mut answers = Vec::new();
            if let Err(error) = raw.0.read_to_end(&mut answers) {
                prop_assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
            Ok(())
        })
        .unwrap();
    Raw::negotiated(&server).alive();
}

/// A server that answers with random bytes: the client returns an error in time.
#[test]
fn random_answers_never_hang_the_client() {
    let path = socket_path("random-server");
    let listener = UnixListener::bind(&path).unwrap();
    let config = proptest::test_runner::Config {
        cases: 100,
        failure_persistence: None,
        ..Default::default()
    };
    let answers = (prop::collection::vec(any::<u8>(), 0..200), 0u32..250, 0usize..4);
    let outcome = TestRunner::new(config).run(&answers, |(body, size, good)| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                for answered in 0.. {
                    let mut header = [0; HEADER_LEN];
                    if stream.read_exact(&mut header).is_err() {
                        return;
                    }
                    let header = Header::read_from_bytes(&header).unwrap();
                    let mut waste = vec![0; header.size as usize - HEADER_LEN];
                    stream.read_exact(&mut waste).unwrap();
                    let reply = header.reply();
                    let sent = if answered < good {
                        // A proper answer, to get further.
                        let size = (HEADER_LEN + waste.len()) as u32;
                        stream.write_all(&[Header { size, ..reply }.as_bytes(), &waste].concat())
                    } else {
                        stream.write_all(&[Header { size, ..reply }.as_bytes(), &body].concat())
                    };
                    if sent.is_err() || answered >= good {
                        return;
                    }
                }
            });
            let begin = Instant::now();
            let config =
                ClientConfig { reply_timeout: Duration::from_millis(200), ..Default::default() };
            let client = Client::connect(&path, config);
            // An echo of DEVICE_GET_INFO is a device without regions; anything less is an error.
            assert!(client.is_err() || good >= 2, "random bytes made a device");
            assert!(begin.elapsed() < PATIENCE);
        });
        Ok(())
    });
    std::fs::remove_file(&path).unwrap();
    outcome.unwrap();
}
