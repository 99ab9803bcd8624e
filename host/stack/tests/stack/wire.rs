//! Hosts on a hub in virtual time. Nothing here reads a clock or a random source.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tandem_device::{Batch, Caps, Frame, Pool, PoolConfig};
use tandem_packet::MacAddr;
use tandem_stack::{
    ConnectOptions, Event, IfaceId, Instant, InterfaceConfig, IoError, Link, Mesh, Namespace,
    NamespaceConfig, NamespaceId, NamespaceStats, Readiness, Shard, ShardConfig, SocketHandle, tcp,
};

pub(crate) const NS: NamespaceId = NamespaceId(1);
pub(crate) const MTU: u32 = 1500;

/// A host with one interface and one shard.
pub(crate) struct Host {
    pub(crate) shard: Shard,
    pub(crate) namespace: Namespace,
    pub(crate) iface: IfaceId,
    pub(crate) frames: Pool,
    pub(crate) payload: Pool,
    /// Whether its device carries frames.
    pub(crate) plugged: bool,
    pub(crate) events: VecDeque<Event>,
}

pub(crate) fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

pub(crate) fn v4(n: u8) -> IpAddr {
    format!("10.0.0.{n}").parse().unwrap()
}

pub(crate) fn v6(n: u8) -> IpAddr {
    format!("fd00::{n}").parse().unwrap()
}

pub(crate) fn addr(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

/// A namespace with `eth0` at 10.0.0.n/24 and fd00::n/64.
pub(crate) fn namespace(n: u8, shards: u16) -> (Namespace, IfaceId) {
    let namespace = Namespace::new(NamespaceConfig { id: NS, secret: [n; 16], shards });
    let config = InterfaceConfig { name: "eth0".into(), mac: mac(n), mtu: MTU };
    let iface = namespace.add_interface(config).unwrap();
    namespace.add_address(iface, format!("10.0.0.{n}/24").parse().unwrap()).unwrap();
    namespace.add_address(iface, format!("fd00::{n}/64").parse().unwrap()).unwrap();
    (namespace, iface)
}

impl Host {
    pub(crate) fn new(n: u8) -> Self {
        Self::with_tcp(n, tcp::Config::default())
    }

    pub(crate) fn with_tcp(n: u8, tcp: tcp::Config) -> Self {
        let (namespace, iface) = namespace(n, 1);
        let frames = Pool::new(PoolConfig::frames(4096)).unwrap();
        let payload = Pool::new(PoolConfig::payload(256)).unwrap();
        let mut shard = Shard::new(ShardConfig {
            index: 0,
            mesh: Mesh::new(1),
            frames: frames.clone(),
            payload: payload.clone(),
            seed: [n; 16],
            tcp,
        });
        shard.join(&namespace);
        let link = Link::up(mac(n), MTU, Caps::plain(MTU));
        assert!(shard.changed(Instant::ZERO, iface, &link));
        Self { shard, namespace, iface, frames, payload, plugged: true, events: VecDeque::new() }
    }

    pub(crate) fn stats(&self) -> &NamespaceStats {
        self.shard.stats(NS).unwrap()
    }

    /// Whether a socket was told of this since last asked.
    pub(crate) fn saw(&mut self, socket: SocketHandle, ready: Readiness) -> bool {
        let before = self.events.len();
        self.events.retain(|event| event.socket != socket || !event.ready.intersects(ready));
        self.events.len() < before
    }
}

struct Flight {
    due: Instant,
    from: usize,
    bytes: Vec<u8>,
}

/// A hub: what one host sends all others hear, a while later, unless it is lost.
pub(crate) struct Hub {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    flights: VecDeque<Flight>,
    pub(crate) delay: Duration,
    /// Of a thousand frames, so many are lost.
    pub(crate) loss_permille: u32,
    random: ChaCha8Rng,
    pub(crate) carried: u64,
    pub(crate) lost: u64,
    /// All that was carried, when wanted.
    pub(crate) capture: Option<Vec<Vec<u8>>>,
}

impl Hub {
    pub(crate) fn new(hosts: Vec<Host>) -> Self {
        Self {
            now: Instant::from_millis(1),
            hosts,
            flights: VecDeque::new(),
            delay: Duration::from_micros(500),
            loss_permille: 0,
            random: ChaCha8Rng::seed_from_u64(1),
            carried: 0,
            lost: 0,
            capture: None,
        }
    }

    pub(crate) fn pair() -> Self {
        Self::new(vec![Host::new(1), Host::new(2)])
    }

    /// One round at the present moment; returns whether anything moved.
    fn round(&mut self) -> bool {
        let mut moved = false;
        while self.flights.front().is_some_and(|flight| flight.due <= self.now) {
            let flight = self.flights.pop_front().unwrap();
            moved = true;
            for (n, host) in self.hosts.iter_mut().enumerate() {
                if n != flight.from && host.plugged {
                    let mut batch = Batch::from([frame_of(&host.frames, &flight.bytes)]);
                    host.shard.receive(self.now, host.iface, &mut batch);
                }
            }
        }
        for n in 0..self.hosts.len() {
            let host = &mut self.hosts[n];
            let turn = host.shard.turn(self.now, 64);
            moved |= turn.frames > 0 || turn.more;
            let mut out = Batch::new();
            if host.plugged {
                host.shard.transmit(self.now, host.iface, 64, &mut out);
            }
            while let Some(event) = host.shard.next_event() {
                host.events.push_back(event);
            }
            assert!(host.stats().adds_up(), "frames that nobody accounts for: {:?}", host.stats());
            for frame in out {
                moved = true;
                let bytes = frame.to_vec();
                self.carried += 1;
                if let Some(capture) = &mut self.capture {
                    capture.push(bytes.clone());
                }
                if self.random.random_range(0..1000) < self.loss_permille {
                    self.lost += 1;
                } else {
                    self.flights.push_back(Flight { due: self.now + self.delay, from: n, bytes });
                }
            }
        }
        moved
    }

    /// When something happens next by itself.
    fn next(&self) -> Option<Instant> {
        let flight = self.flights.front().map(|flight| flight.due);
        let timers = self.hosts.iter().filter_map(|host| host.shard.next_deadline());
        flight.into_iter().chain(timers).min()
    }

    /// Runs until `done` says so or `time` is over; returns whether it did.
    pub(crate) fn run(
        &mut self,
        time: Duration,
        mut done: impl FnMut(&mut Instant, &mut [Host]) -> bool,
    ) -> bool {
        let end = self.now + time;
        for _ in 0..5_000_000 {
            if done(&mut self.now, &mut self.hosts) {
                return true;
            }
            if self.round() {
                continue;
            }
            match self.next() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return done(&mut self.now, &mut self.hosts);
                }
            }
        }
        panic!("no end in sight at {:?}", self.now);
    }

    /// Runs for a while.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.run(time, |now, _| *now >= end);
    }

    /// A connection from host 0 to a listener of host 1: both ends and the listener.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> (SocketHandle, SocketHandle, SocketHandle) {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut local: SocketAddr = any.parse().unwrap();
        local.set_port(to.port());
        let listener = self.hosts[1].shard.tcp_listen(NS, local, 16).unwrap();
        let now = self.now;
        let client =
            self.hosts[0].shard.tcp_connect(now, NS, to, &ConnectOptions::default()).unwrap();
        let mut server = None;
        let ok = self.run(Duration::from_secs(30), |_, hosts| {
            if let Ok((accepted, _)) = hosts[1].shard.tcp_accept(listener) {
                server = Some(accepted);
            }
            server.is_some() && hosts[0].saw(client, Readiness::CONNECTED)
        });
        assert!(ok, "no connection: {:?} {:?}", self.hosts[0].stats(), self.hosts[1].stats());
        (client, server.unwrap(), listener)
    }
}

/// A frame as a device without offloads delivers it.
pub(crate) fn frame_of(pool: &Pool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().expect("the test's pool is large enough");
    frame.append(bytes).expect("a frame fits its buffer");
    frame
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

/// Sends `len` bytes of the pattern, and reads and checks them at the other end.
pub(crate) struct Transfer {
    pub(crate) from: (usize, SocketHandle),
    pub(crate) to: (usize, SocketHandle),
    pub(crate) len: usize,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    pub(crate) ended: bool,
}

impl Transfer {
    pub(crate) fn new(from: (usize, SocketHandle), to: (usize, SocketHandle), len: usize) -> Self {
        Self { from, to, len, sent: 0, received: 0, ended: false }
    }

    /// Does what can be done now; true once the reader has seen the end.
    pub(crate) fn go_on(&mut self, now: Instant, hosts: &mut [Host]) -> bool {
        let (host, socket) = self.from;
        while self.sent < self.len {
            let end = (self.sent + 10_000).min(self.len);
            let bytes: Vec<u8> = (self.sent..end).map(pattern).collect();
            match hosts[host].shard.tcp_write(now, socket, &bytes) {
                Ok(count) => self.sent += count,
                Err(IoError::WouldBlock | IoError::NoBuffers) => break,
                Err(error) => panic!("write: {error}"),
            }
            if self.sent == self.len {
                hosts[host].shard.tcp_shutdown(now, socket).unwrap();
            }
        }
        let (host, socket) = self.to;
        let mut buffer = [0; 8192];
        while !self.ended {
            match hosts[host].shard.tcp_read(now, socket, &mut buffer) {
                Ok(0) => {
                    assert_eq!(self.received, self.len, "the stream ended early");
                    self.ended = true;
                }
                Ok(count) => {
                    for &byte in &buffer[..count] {
                        assert_eq!(byte, pattern(self.received), "at byte {}", self.received);
                        self.received += 1;
                    }
                }
                Err(IoError::WouldBlock) => break,
                Err(error) => panic!("read: {error}"),
            }
        }
        self.ended
    }
}
