//! smoltcp as a peer that shares no code with us, over the same kind of virtual link: our connect to its
//! listen and its connect to ours, data both ways, close from either side, with and without loss.

use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smoltcp::iface::{Config as SmolConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{
    ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken as RxTokenTrait,
    TxToken as TxTokenTrait,
};
use smoltcp::socket::tcp as smol;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use tandem_device::Pool;
use tandem_packet::{IpProtocol, Ipv4Repr, Ipv4View, SeqNumber, TcpFlags, TcpRepr, TcpView};

use super::super::listen::{judge, reset_for};
use super::*;

const OURS: core::net::Ipv4Addr = core::net::Ipv4Addr::new(10, 0, 0, 1);
const THEIRS: core::net::Ipv4Addr = core::net::Ipv4Addr::new(10, 0, 0, 2);
const MTU: u32 = 1500;

#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct RxToken(Vec<u8>);
struct TxToken<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxTokenTrait for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxTokenTrait for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(RxToken, TxToken<'_>)> {
        Some((RxToken(self.rx.pop_front()?), TxToken(&mut self.tx)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<TxToken<'_>> {
        Some(TxToken(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU as usize;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

/// When it arrives, a number that keeps their order, whether it is for us, and the packet.
type Flying = Reverse<(Instant, u64, bool, Vec<u8>)>;

struct World {
    now: Instant,
    rng: ChaCha8Rng,
    /// Of 1000 packets.
    loss: u32,
    delay: Duration,
    flying: BinaryHeap<Flying>,
    order: u64,
    pool: Pool,
    connection: Option<Connection>,
    ports: (u16, u16),
    config: Config,
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    written: usize,
    read: usize,
    eof: bool,
    closed: bool,
}

fn byte(salt: u8, offset: usize) -> u8 {
    (offset as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ salt
}

fn expect(salt: u8, from: usize, bytes: &[u8]) {
    for (offset, &got) in (from..).zip(bytes) {
        assert_eq!(got, byte(salt, offset), "byte {offset}");
    }
}

impl World {
    fn new(seed: u64, loss: u32, delay: Duration, config: Config) -> Self {
        let mut wire = Wire::default();
        let mut smol_config = SmolConfig::new(HardwareAddress::Ip);
        smol_config.random_seed = seed;
        let mut interface = Interface::new(smol_config, &mut wire, SmolInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(THEIRS), 24)).unwrap();
        });
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || smol::SocketBuffer::new(vec![0; 30_000]);
        let socket = smol::Socket::new(buffer(), buffer());
        let handle = sockets.add(socket);
        Self {
            now: Instant::from_millis(1),
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss,
            delay,
            flying: BinaryHeap::new(),
            order: 0,
            pool: pool(4096),
            connection: None,
            ports: (4000, 80),
            config,
            interface,
            wire,
            sockets,
            handle,
        }
    }

    fn path() -> Path {
        Path { family: Family::V4, mtu: MTU }
    }

    fn smol_now(&self) -> SmolInstant {
        SmolInstant::from_micros(self.now.as_micros() as i64)
    }

    fn launch(&mut self, to_us: bool, packet: Vec<u8>) {
        if self.rng.random_ratio(self.loss, 1000) {
            return;
        }
        self.order += 1;
        self.flying.push(Reverse((self.now + self.delay, self.order, to_us, packet)));
    }

    /// Headers around a segment of ours.
    fn emit(&mut self, mut repr: TcpRepr, bytes: &[u8]) {
        (repr.src_port, repr.dst_port) = self.ports;
        let ip = Ipv4Repr {
            src: OURS,
            dst: THEIRS,
            protocol: IpProtocol::TCP,
            payload_len: (repr.header_len() + bytes.len()) as u16,
            ..Ipv4Repr::default()
        };
        let mut packet = vec![0; ip.header_len() + repr.header_len()];
        ip.emit(&mut packet);
        repr.emit(&mut packet[ip.header_len()..]);
        packet.extend_from_slice(bytes);
        assert!(packet.len() <= MTU as usize, "{} bytes in a packet", packet.len());
        self.launch(false, packet);
    }

    fn receive(&mut self, packet: &[u8]) {
        let ip = Ipv4View::new(packet).unwrap();
        let tcp = TcpView::new(ip.payload()).unwrap();
        let repr = TcpRepr::parse(&tcp).unwrap();
        let bytes = tcp.payload();
        let segment = Segment::new(&repr, bytes.len() as u32);
        if let Some(connection) = &mut self.connection {
            let payload = (!bytes.is_empty()).then(|| frame(&self.pool, bytes));
            connection.input(self.now, &segment, payload);
            connection.check();
            return;
        }
        match judge(&segment) {
            ListenVerdict::Open(syn) => {
                self.ports = (repr.dst_port, repr.src_port);
                let initial = Initial::new(SeqNumber(self.rng.random()), 0);
                let (now, path) = (self.now, Self::path());
                self.connection = Some(Connection::accept(now, &self.config, path, initial, &syn));
            }
            ListenVerdict::Reset(_) | ListenVerdict::Ignore => {
                if let Some(reset) = reset_for(&segment) {
                    self.emit(reset, &[]);
                }
            }
        }
    }

    fn flush(&mut self) {
        let smol_now = self.smol_now();
        self.interface.poll(smol_now, &mut self.wire, &mut self.sockets);
        while let Some(packet) = self.wire.tx.pop_front() {
            self.launch(true, packet);
        }
        let limits = OutputLimits::FULL;
        while let Some(connection) = &mut self.connection
            && let Some(outgoing) = connection.output(self.now, &limits)
        {
            let bytes = payload_bytes(&outgoing);
            let mss = usize::from(outgoing.segment_size);
            if bytes.len() <= mss {
                self.emit(outgoing.repr, &bytes);
                continue;
            }
            let count = bytes.len().div_ceil(mss);
            for (index, chunk) in bytes.chunks(mss).enumerate() {
                let mut repr = outgoing.repr;
                repr.seq += (index * mss) as u32;
                if index + 1 < count {
                    repr.flags.remove(TcpFlags::FIN | TcpFlags::PSH);
                }
                self.emit(repr, chunk);
            }
        }
    }

    fn step(&mut self) {
        let smol_now = self.smol_now();
        let mut next = self.now + Duration::from_millis(20);
        if let Some(Reverse((at, ..))) = self.flying.peek() {
            next = next.min(*at);
        }
        if let Some(at) = self.connection.as_ref().and_then(Connection::next_deadline) {
            next = next.min(at);
        }
        if let Some(at) = self.interface.poll_at(smol_now, &self.sockets) {
            next = next.min(Instant::from_micros(at.total_micros().max(0) as u64));
        }
        self.now = self.now.max(next);
        if let Some(connection) = &mut self.connection {
            connection.on_deadline(self.now);
        }
        while self.flying.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to_us, packet))) = self.flying.pop() else { break };
            if to_us {
                self.receive(&packet);
            } else {
                self.wire.rx.push_back(packet);
            }
        }
        self.flush();
    }

    fn our_turn(&mut self, progress: &mut Progress, bytes: usize) {
        let Some(connection) = &mut self.connection else { return };
        if progress.written < bytes {
            let len = (bytes - progress.written).min(7000);
            let data: Vec<u8> = (0..len).map(|i| byte(1, progress.written + i)).collect();
            match connection.write(&self.pool, &data) {
                Ok(written) => progress.written += written,
                Err(WriteError::WouldBlock) => {}
                Err(error) => panic!("{error}"),
            }
        } else if !progress.closed {
            progress.closed = true;
            connection.shutdown_write(self.now);
        }
        let mut out = [0; 4096];
        loop {
            match connection.read(&mut out) {
                Ok(0) => {
                    progress.eof = true;
                    break;
                }
                Ok(len) => {
                    expect(2, progress.read, &out[..len]);
                    progress.read += len;
                }
                Err(ReadError::WouldBlock) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn their_turn(&mut self, progress: &mut Progress, bytes: usize) {
        let socket = self.sockets.get_mut::<smol::Socket<'_>>(self.handle);
        if socket.can_send() && progress.written < bytes {
            let len = (bytes - progress.written).min(7000);
            let data: Vec<u8> = (0..len).map(|i| byte(2, progress.written + i)).collect();
            progress.written += socket.send_slice(&data).unwrap();
        } else if socket.may_send() && progress.written == bytes && !progress.closed {
            progress.closed = true;
            socket.close();
        }
        let mut out = [0; 4096];
        while socket.can_recv() {
            let len = socket.recv_slice(&mut out).unwrap();
            expect(1, progress.read, &out[..len]);
            progress.read += len;
        }
    }

    /// Runs until we are in TIME-WAIT or closed and they are too.
    fn transfer(&mut self, ours: usize, theirs: usize) -> Stats {
        let (mut we, mut they) = (Progress::default(), Progress::default());
        let end = self.now + Duration::from_secs(3600);
        loop {
            self.step();
            self.our_turn(&mut we, ours);
            self.their_turn(&mut they, theirs);
            self.flush();
            let their_state = self.sockets.get::<smol::Socket<'_>>(self.handle).state();
            let our_state = self.connection.as_ref().map(Connection::state);
            assert!(self.now < end, "no end: {we:?} {our_state:?} {they:?} {their_state:?}");
            let we_are_done = matches!(our_state, Some(State::TimeWait | State::Closed));
            let they_are_done = matches!(their_state, smol::State::TimeWait | smol::State::Closed);
            if we_are_done && they_are_done {
                break;
            }
        }
        assert!(we.eof);
        assert_eq!((we.read, they.read), (theirs, ours));
        let connection = self.connection.as_ref().unwrap();
        assert_eq!(connection.error(), None);
        *connection.stats()
    }
}

fn configs() -> [Config; 3] {
    let config = Config { delayed_ack: Duration::from_millis(5), ..Config::default() };
    [
        config,
        Config { timestamps: false, window_scaling: false, ..config },
        Config { receive_buffer_bytes_max: 5000, send_buffer_bytes_max: 9000, ..config },
    ]
}

#[test]
fn our_connect_to_its_listen() {
    for (seed, config) in configs().into_iter().enumerate() {
        for loss in [0, 20] {
            let mut world = World::new(seed as u64, loss, Duration::from_millis(3), config);
            world.sockets.get_mut::<smol::Socket<'_>>(world.handle).listen(80).unwrap();
            let initial = Initial::new(SeqNumber(77), 0);
            let connection = Connection::connect(world.now, &config, World::path(), initial);
            world.connection = Some(connection);
            let stats = world.transfer(200_000, 150_000);
            if loss == 0 {
                assert_eq!((stats.timeouts, stats.resets_out), (0, 0), "{stats:?}");
            } else {
                assert!(stats.retransmissions > 0);
            }
        }
    }
}

#[test]
fn its_connect_to_our_listen() {
    for (seed, config) in configs().into_iter().enumerate() {
        for loss in [0, 20] {
            let mut world = World::new(100 + seed as u64, loss, Duration::from_millis(3), config);
            let socket = world.sockets.get_mut::<smol::Socket<'_>>(world.handle);
            socket.connect(world.interface.context(), (IpAddress::Ipv4(OURS), 80), 5000).unwrap();
            let stats = world.transfer(150_000, 200_000);
            if loss == 0 {
                assert_eq!((stats.timeouts, stats.resets_out), (0, 0), "{stats:?}");
            }
        }
    }
}

#[test]
fn a_refused_connection_is_reset_both_ways() {
    // Nobody listens there.
    let config = Config::default();
    let mut world = World::new(7, 0, Duration::from_millis(1), config);
    let initial = Initial::new(SeqNumber(77), 0);
    world.connection = Some(Connection::connect(world.now, &config, World::path(), initial));
    for _ in 0..100 {
        world.step();
        world.flush();
    }
    assert_eq!(world.connection.as_ref().unwrap().error(), Some(ConnectionError::Refused));
}
