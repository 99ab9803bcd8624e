//! Two shards of one namespace: what lands on the wrong one is handed over.

use std::collections::VecDeque;
use std::time::Duration;

use tandem_device::{Batch, Caps, Pool, PoolConfig};
use tandem_stack::{
    ConnectOptions, DropReason, Event, IfaceId, Instant, IoError, Link, Mesh, Namespace,
    NamespaceStats, Readiness, Shard, ShardConfig, SocketHandle, limits, tcp,
};

use crate::wire::{Host, MTU, NS, addr, frame_of, mac, namespace, v4, v6};

/// A host of two shards with one device, all of whose frames land on shard 0, against a host of one.
struct TwoShards {
    now: Instant,
    frames: Pool,
    shards: Vec<Shard>,
    events: Vec<VecDeque<Event>>,
    iface: IfaceId,
    _namespace: Namespace,
    peer: Host,
    to_peer: VecDeque<Vec<u8>>,
    to_shards: VecDeque<Vec<u8>>,
    /// Which shard the device delivers to.
    lands_on: usize,
}

impl TwoShards {
    fn new() -> Self {
        let (namespace, iface) = namespace(2, 2);
        let mesh = Mesh::new(2);
        let frames = Pool::new(PoolConfig::frames(8192)).unwrap();
        let shards = (0..2)
            .map(|index| {
                let mut shard = Shard::new(ShardConfig {
                    index,
                    mesh: mesh.clone(),
                    frames: frames.clone(),
                    payload: Pool::new(PoolConfig::payload(128)).unwrap(),
                    seed: [index as u8; 16],
                    tcp: tcp::Config::default(),
                });
                shard.join(&namespace);
                let link = Link::up(mac(2), MTU, Caps::plain(MTU));
                assert!(shard.changed(Instant::ZERO, iface, &link));
                shard
            })
            .collect();
        Self {
            now: Instant::from_millis(1),
            frames,
            shards,
            events: vec![VecDeque::new(), VecDeque::new()],
            iface,
            _namespace: namespace,
            peer: Host::new(1),
            to_peer: VecDeque::new(),
            to_shards: VecDeque::new(),
            lands_on: 0,
        }
    }

    fn stats(&self) -> NamespaceStats {
        let mut sum = NamespaceStats::default();
        for shard in &self.shards {
            sum += shard.stats(NS).unwrap();
        }
        sum
    }

    /// One round trip of everything.
    fn step(&mut self) {
        self.now += Duration::from_micros(200);
        let now = self.now;
        for bytes in std::mem::take(&mut self.to_shards) {
            let mut batch = Batch::from([frame_of(&self.frames, &bytes)]);
            self.shards[self.lands_on].receive(now, self.iface, &mut batch);
        }
        for bytes in std::mem::take(&mut self.to_peer) {
            let mut batch = Batch::from([frame_of(&self.peer.frames, &bytes)]);
            self.peer.shard.receive(now, self.peer.iface, &mut batch);
        }
        // Shards that got mail are woken by those that wrote it.
        for n in 0..2 {
            self.shards[n].turn(now, 256);
            for woken in self.shards[n].take_wakes() {
                assert_ne!(usize::from(woken), n, "nobody writes to itself");
            }
        }
        for n in 0..2 {
            self.shards[n].turn(now, 256);
            let mut out = Batch::new();
            self.shards[n].transmit(now, self.iface, 64, &mut out);
            self.to_peer.extend(out.iter().map(|frame| frame.to_vec()));
            while let Some(event) = self.shards[n].next_event() {
                self.events[n].push_back(event);
            }
            assert!(self.shards[n].stats(NS).unwrap().adds_up());
        }
        self.peer.shard.turn(now, 256);
        let mut out = Batch::new();
        self.peer.shard.transmit(now, self.peer.iface, 64, &mut out);
        self.to_shards.extend(out.iter().map(|frame| frame.to_vec()));
        while let Some(event) = self.peer.shard.next_event() {
            self.peer.events.push_back(event);
        }
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        (0..20_000).any(|_| {
            self.step();
            done(self)
        })
    }
}

#[test]
fn connections_live_on_the_shard_of_their_hash_and_both_serve_one_listener() {
    let mut net = TwoShards::new();
    let first = net.shards[0].tcp_listen(NS, addr(v4(2), 80), 64).unwrap();
    let second = net.shards[1].tcp_listener(NS, addr(v4(2), 80)).unwrap();
    let listeners = [first, second];
    let options = ConnectOptions::default();
    let clients: Vec<SocketHandle> = (0..32)
        .map(|_| net.peer.shard.tcp_connect(net.now, NS, addr(v4(2), 80), &options).unwrap())
        .collect();
    let mut servers: Vec<(usize, SocketHandle)> = Vec::new();
    assert!(net.until(|net| {
        for (n, &listener) in listeners.iter().enumerate() {
            while let Ok((socket, _)) = net.shards[n].tcp_accept(listener) {
                servers.push((n, socket));
            }
        }
        servers.len() == clients.len()
    }));
    let on_second = servers.iter().filter(|(shard, _)| *shard == 1).count();
    assert!((4..=28).contains(&on_second), "{on_second} of 32 on the second shard");
    assert!(net.stats().handed_over > 0);
    assert_eq!(net.stats().handed_over, net.stats().mail_frames);
    // Data flows whichever shard the device delivers to, also when that changes on the way.
    for &client in &clients {
        net.peer.shard.tcp_write(net.now, client, &[7; 5000]).unwrap();
    }
    let mut got = vec![0; servers.len()];
    let mut rounds = 0;
    assert!(net.until(|net| {
        rounds += 1;
        net.lands_on = rounds / 3 % 2;
        for (at, &(shard, socket)) in servers.iter().enumerate() {
            let mut buffer = [0; 8192];
            if let Ok(len) = net.shards[shard].tcp_read(net.now, socket, &mut buffer) {
                assert!(buffer[..len].iter().all(|&byte| byte == 7));
                got[at] += len;
            }
        }
        got.iter().all(|&len| len == 5000)
    }));
}

#[test]
fn an_active_open_picks_a_port_whose_answers_come_home() {
    let mut net = TwoShards::new();
    let listener = net.peer.shard.tcp_listen(NS, addr(v4(1), 80), 64).unwrap();
    let options = ConnectOptions::default();
    let now = net.now;
    let clients: Vec<_> = (0..2)
        .map(|n| net.shards[n].tcp_connect(now, NS, addr(v4(1), 80), &options).unwrap())
        .collect();
    let mut connected = [false; 2];
    // All lands on shard 0: what is for shard 1 goes through its mailbox.
    assert!(net.until(|net| {
        for n in 0..2 {
            connected[n] |= net.events[n].iter().any(|event| {
                event.socket == clients[n] && event.ready.contains(Readiness::CONNECTED)
            });
        }
        connected == [true; 2]
    }));
    let _ = listener;
    assert!(net.shards[0].stats(NS).unwrap().handed_over > 0);
}

#[test]
fn datagrams_and_echo_replies_reach_the_shard_of_their_socket() {
    for (here, there) in [(v4(2), v4(1)), (v6(2), v6(1))] {
        let mut net = TwoShards::new();
        let socket = net.shards[1].udp_bind(NS, addr(here, 53)).unwrap();
        assert!(net.shards[0].udp_bind(NS, addr(here, 53)).is_err(), "taken on the other shard");
        let client = net.peer.shard.udp_bind(NS, addr(there, 0)).unwrap();
        net.peer.shard.udp_send(net.now, client, Some(addr(here, 53)), b"query").unwrap();
        let mut buffer = [0; 64];
        assert!(net.until(|net| net.shards[1].udp_recv(socket, &mut buffer).is_ok()));
        let echo = net.shards[1].echo_open(NS).unwrap();
        net.shards[1].echo_send(net.now, echo, there, 9, b"ping").unwrap();
        assert!(net.until(|net| net.shards[1].udp_recv(echo, &mut buffer).is_ok()));
        // The neighbour's answer landed on shard 0 too: it was told to shard 1.
        assert_eq!(net.shards[1].neighbours(NS), 1);
        assert!(net.stats().handed_over >= 2);
        net.shards[1].close(net.now, socket).unwrap();
        assert!(net.shards[0].udp_bind(NS, addr(here, 53)).is_ok());
    }
}

#[test]
fn an_icmp_error_finds_the_shard_of_the_datagram_it_quotes() {
    let mut net = TwoShards::new();
    let socket = net.shards[1].udp_bind(NS, addr(v4(2), 0)).unwrap();
    net.shards[1].udp_connect(socket, Some(addr(v4(1), 9))).unwrap();
    net.shards[1].udp_send(net.now, socket, None, b"nobody there").unwrap();
    assert!(
        net.until(|net| { net.shards[1].udp_recv(socket, &mut [0; 8]) == Err(IoError::Refused) })
    );
}

#[test]
fn a_full_mailbox_drops_and_counts() {
    let mut net = TwoShards::new();
    let _socket = net.shards[1].udp_bind(NS, addr(v4(2), 53)).unwrap();
    let client = net.peer.shard.udp_bind(NS, addr(v4(1), 0)).unwrap();
    net.peer.shard.udp_send(net.now, client, Some(addr(v4(2), 53)), b"query").unwrap();
    // Keep the frame that carries the datagram.
    let mut query = None;
    assert!(net.until(|net| {
        query = net.to_shards.iter().find(|frame| frame.len() == 14 + 20 + 8 + 5).cloned();
        query.is_some()
    }));
    net.step();
    let query = query.unwrap();
    let before = net.shards[0].stats(NS).unwrap().clone();
    let count = limits::MAILBOX_MAX + 100;
    for _ in 0..count {
        let mut batch = Batch::from([frame_of(&net.frames, &query)]);
        net.shards[0].receive(net.now, net.iface, &mut batch);
    }
    let after = net.shards[0].stats(NS).unwrap();
    assert_eq!(after.drops(DropReason::MailboxFull) - before.drops(DropReason::MailboxFull), 100);
    assert!(after.adds_up());
}
