//! smoltcp as a peer that shares no code with us: ARP and NDP, echo, UDP, TCP.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle as Handle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, IpCidr};
use tandem_device::Batch;
use tandem_stack::{ConnectOptions, Instant, IoError, SocketHandle};

use crate::wire::{Host, NS, addr, frame_of, mac, pattern, v4, v6};

/// The peer's end of the wire.
#[derive(Default)]
struct Plug {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl Device for Plug {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Moment) -> Option<(Rx, Tx<'_>)> {
        self.rx.pop_front().map(|bytes| (Rx(bytes), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1514;
        caps
    }
}

struct Pair {
    now: Instant,
    host: Host,
    plug: Plug,
    iface: Interface,
    sockets: SocketSet<'static>,
    /// Every so many frames one is lost.
    lose_every: usize,
    frames: usize,
}

impl Pair {
    fn new() -> Self {
        let mut plug = Plug::default();
        let config = Config::new(EthernetAddress(mac(9).0).into());
        let mut iface = Interface::new(config, &mut plug, Moment::ZERO);
        iface.update_ip_addrs(|addresses| {
            for ip in [v4(9), v6(9)] {
                addresses.push(IpCidr::new(ip.into(), if ip.is_ipv4() { 24 } else { 64 })).unwrap();
            }
        });
        Self {
            now: Instant::from_millis(1),
            host: Host::new(1),
            plug,
            iface,
            sockets: SocketSet::new(Vec::new()),
            lose_every: 0,
            frames: 0,
        }
    }

    fn is_lost(&mut self) -> bool {
        self.frames += 1;
        self.lose_every != 0 && self.frames.is_multiple_of(self.lose_every)
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        for _ in 0..100_000 {
            self.now += Duration::from_millis(1);
            let now = self.now;
            self.iface.poll(
                Moment::from_micros(now.as_micros() as i64),
                &mut self.plug,
                &mut self.sockets,
            );
            while let Some(bytes) = self.plug.tx.pop_front() {
                if !self.is_lost() {
                    let mut batch = Batch::from([frame_of(&self.host.frames, &bytes)]);
                    self.host.shard.receive(now, self.host.iface, &mut batch);
                }
            }
            self.host.shard.turn(now, 256);
            let mut out = Batch::new();
            self.host.shard.transmit(now, self.host.iface, 64, &mut out);
            for frame in out {
                if !self.is_lost() {
                    self.plug.rx.push_back(frame.to_vec());
                }
            }
            assert!(self.host.stats().adds_up());
            if done(self) {
                return true;
            }
        }
        false
    }

    fn tcp(&mut self) -> Handle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 32_768]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Moves `len` bytes of the pattern each way at once.
    fn exchange(&mut self, ours: SocketHandle, theirs: Handle, len: usize) {
        let data: Vec<u8> = (0..len).map(pattern).collect();
        let (mut we_sent, mut they_sent) = (0, 0);
        let (mut we_got, mut they_got) = (Vec::new(), Vec::new());
        let done = self.until(|pair| {
            let now = pair.now;
            let shard = &mut pair.host.shard;
            while we_sent < len {
                match shard.tcp_write(now, ours, &data[we_sent..]) {
                    Ok(count) => we_sent += count,
                    Err(IoError::WouldBlock | IoError::NoBuffers | IoError::NotConnected) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let mut buffer = [0; 4096];
            while let Ok(count) = shard.tcp_read(now, ours, &mut buffer) {
                if count == 0 {
                    break;
                }
                we_got.extend_from_slice(&buffer[..count]);
            }
            let socket = pair.sockets.get_mut::<tcp::Socket<'_>>(theirs);
            if socket.may_send() && they_sent < len {
                they_sent += socket.send_slice(&data[they_sent..]).unwrap();
            }
            while socket.can_recv() {
                let count = socket.recv_slice(&mut buffer).unwrap();
                they_got.extend_from_slice(&buffer[..count]);
            }
            we_got.len() >= len && they_got.len() >= len
        });
        assert!(done, "{} and {} of {len} bytes", we_got.len(), they_got.len());
        assert!(we_got == data && they_got == data, "bytes changed on the way");
    }

    /// We close, then the peer does.
    fn close(&mut self, ours: SocketHandle, theirs: Handle) {
        let now = self.now;
        self.host.shard.tcp_shutdown(now, ours).unwrap();
        assert!(self.until(|pair| !pair.sockets.get_mut::<tcp::Socket<'_>>(theirs).may_recv()));
        self.sockets.get_mut::<tcp::Socket<'_>>(theirs).close();
        assert!(self.until(|pair| {
            let now = pair.now;
            pair.host.shard.tcp_read(now, ours, &mut [0; 8]) == Ok(0)
        }));
        assert!(self.until(|pair| !pair.sockets.get_mut::<tcp::Socket<'_>>(theirs).is_open()));
    }
}

#[test]
fn it_answers_our_echo_requests() {
    for to in [v4(9), v6(9)] {
        let mut pair = Pair::new();
        let echo = pair.host.shard.echo_open(NS).unwrap();
        pair.host.shard.echo_send(pair.now, echo, to, 1, b"from another stack").unwrap();
        let mut buffer = [0; 64];
        let mut got = None;
        assert!(
            pair.until(|pair| {
                got = pair.host.shard.udp_recv(echo, &mut buffer).ok();
                got.is_some()
            }),
            "{to}: {:?}",
            pair.host.stats()
        );
        assert_eq!(&buffer[..got.unwrap().len], b"from another stack");
    }
}

#[test]
fn datagrams_both_ways() {
    for (ours, theirs) in [(v4(1), v4(9)), (v6(1), v6(9))] {
        let mut pair = Pair::new();
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 16_384]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(7).unwrap();
        let handle = pair.sockets.add(socket);
        let client = pair.host.shard.udp_bind(NS, addr(ours, 0)).unwrap();
        for len in [0, 1, 999, 1452] {
            let data = vec![len as u8; len];
            pair.host.shard.udp_send(pair.now, client, Some(addr(theirs, 7)), &data).unwrap();
            let mut got = [0; 2000];
            assert!(pair.until(|pair| {
                let socket = pair.sockets.get_mut::<udp::Socket<'_>>(handle);
                if let Ok((data, meta)) = socket.recv() {
                    let (data, to) = (data.to_vec(), meta.endpoint);
                    socket.send_slice(&data, to).unwrap();
                }
                matches!(pair.host.shard.udp_recv(client, &mut got), Ok(got) if got.len == len)
            }));
            assert!(got[..len].iter().all(|&byte| byte == len as u8));
        }
    }
}

fn we_connect(to: IpAddr, lose_every: usize, len: usize) {
    let mut pair = Pair::new();
    pair.lose_every = lose_every;
    let theirs = pair.tcp();
    pair.sockets.get_mut::<tcp::Socket<'_>>(theirs).listen(80).unwrap();
    let options = ConnectOptions::default();
    let ours = pair.host.shard.tcp_connect(pair.now, NS, addr(to, 80), &options).unwrap();
    pair.exchange(ours, theirs, len);
    pair.close(ours, theirs);
}

fn it_connects(to: IpAddr, lose_every: usize, len: usize) {
    let mut pair = Pair::new();
    pair.lose_every = lose_every;
    let listener = pair.host.shard.tcp_listen(NS, addr(to, 80), 4).unwrap();
    let theirs = pair.tcp();
    pair.sockets
        .get_mut::<tcp::Socket<'_>>(theirs)
        .connect(pair.iface.context(), (to, 80), 50_000)
        .unwrap();
    let mut ours = None;
    assert!(pair.until(|pair| {
        ours = pair.host.shard.tcp_accept(listener).ok();
        ours.is_some()
    }));
    let (ours, _) = ours.unwrap();
    pair.exchange(ours, theirs, len);
    pair.close(ours, theirs);
}

#[test]
fn we_connect_and_exchange() {
    we_connect(v4(9), 0, 500_000);
    we_connect(v6(9), 0, 500_000);
}

#[test]
fn it_connects_and_exchanges() {
    it_connects(v4(1), 0, 500_000);
    it_connects(v6(1), 0, 500_000);
}

#[test]
fn loss_on_the_way_is_made_good_by_both() {
    we_connect(v4(9), 53, 100_000);
    it_connects(v6(1), 37, 100_000);
}

#[test]
fn a_port_that_is_closed_there_refuses_here() {
    let mut pair = Pair::new();
    let options = ConnectOptions::default();
    let ours = pair.host.shard.tcp_connect(pair.now, NS, addr(v4(9), 81), &options).unwrap();
    assert!(pair.until(|pair| {
        let now = pair.now;
        pair.host.shard.tcp_read(now, ours, &mut [0; 8]) == Err(IoError::Refused)
    }));
}
