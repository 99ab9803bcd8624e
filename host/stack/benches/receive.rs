//! Small UDP datagrams through the receive path: from a batch of frames to bytes in the
//! application's buffer. The same datagrams go through smoltcp for comparison.
//!
//! `cargo bench -p tandem-stack --bench receive`; elements are datagrams. The floor is 1 M/s on one
//! core.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::udp;
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, IpCidr};
use tandem_device::{Batch, Caps, Frame, Pool, PoolConfig, RxOffloads};
use tandem_offload::checksum::{Sum, fill_ipv4_header};
use tandem_packet::{EtherType, EthernetRepr, IpProtocol, Ipv4Repr, MacAddr, UdpRepr};
use tandem_stack::{
    Instant, InterfaceConfig, Link, Namespace, NamespaceConfig, NamespaceId, Shard, ShardConfig,
};

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const BATCH: usize = 64;
const PAYLOAD: usize = 18;

/// A datagram of the shortest Ethernet frame, from port `n` of 10.0.0.2 to port 7 of 10.0.0.1.
fn datagram(n: u16) -> Vec<u8> {
    let (src, dst) = ([10, 0, 0, 2].into(), [10, 0, 0, 1].into());
    let len = 8 + PAYLOAD;
    let mut bytes = vec![0; 14 + 20 + len];
    EthernetRepr { dst: OURS, src: THEIRS, ether_type: EtherType::IPV4, ..Default::default() }
        .emit(&mut bytes);
    let ip = Ipv4Repr {
        src,
        dst,
        protocol: IpProtocol::UDP,
        payload_len: len as u16,
        ..Default::default()
    };
    ip.emit(&mut bytes[14..]);
    fill_ipv4_header(&mut bytes[14..34]);
    let udp = UdpRepr { src_port: 1024 + n, dst_port: 7, payload_len: PAYLOAD as u16, checksum: 0 };
    udp.emit(&mut bytes[34..]);
    let mut sum = Sum::pseudo_header(IpAddr::V4(src), IpAddr::V4(dst), IpProtocol::UDP, len as u32);
    sum.add(&bytes[34..]);
    bytes[40..42].copy_from_slice(&sum.checksum().to_be_bytes());
    bytes
}

struct Plug<'a> {
    rx: std::slice::Iter<'a, Vec<u8>>,
}
struct Rx<'a>(&'a [u8]);
struct Tx;

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        f(&mut vec![0; len])
    }
}

impl<'b> Device for Plug<'b> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx
    where
        Self: 'a;

    fn receive(&mut self, _: Moment) -> Option<(Rx<'_>, Tx)> {
        self.rx.next().map(|bytes| (Rx(bytes), Tx))
    }

    fn transmit(&mut self, _: Moment) -> Option<Tx> {
        Some(Tx)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1514;
        caps
    }
}

fn receive(c: &mut Criterion) {
    let frames: Vec<Vec<u8>> = (0..BATCH as u16).map(datagram).collect();
    let mut group = c.benchmark_group("receive_udp");
    group.throughput(Throughput::Elements(BATCH as u64));

    for (name, offloads) in
        [("tandem", RxOffloads::empty()), ("tandem, checksum in hardware", RxOffloads::CSUM)]
    {
        let namespace =
            Namespace::new(NamespaceConfig { id: NamespaceId(0), secret: [1; 16], shards: 1 });
        let config = InterfaceConfig { name: "eth0".into(), mac: OURS, mtu: 1500 };
        let iface = namespace.add_interface(config).unwrap();
        namespace.add_address(iface, "10.0.0.1/24".parse().unwrap()).unwrap();
        let pool = Pool::new(PoolConfig::frames(1024)).unwrap();
        let payload = Pool::new(PoolConfig::payload(16)).unwrap();
        let mut shard = Shard::new(ShardConfig::single(pool.clone(), payload, [2; 16]));
        shard.join(&namespace);
        let mut caps = Caps::plain(1500);
        caps.rx = offloads;
        shard.changed(Instant::ZERO, iface, &Link::up(OURS, 1500, caps));
        let socket = shard.udp_bind(NamespaceId(0), "10.0.0.1:7".parse().unwrap()).unwrap();
        let mut now = Instant::from_millis(1);
        let fill = || -> Batch {
            let frame = |bytes: &Vec<u8>| -> Frame {
                let mut frame = pool.alloc().unwrap();
                frame.append(bytes).unwrap();
                if offloads.contains(RxOffloads::CSUM) {
                    frame.meta_mut().csum = tandem_device::Csum::Valid;
                }
                frame
            };
            frames.iter().map(frame).collect()
        };
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                fill,
                |batch| {
                    now += std::time::Duration::from_micros(10);
                    shard.receive(now, iface, batch);
                    let mut buffer = [0; 64];
                    let mut count = 0;
                    while let Ok(got) = shard.udp_recv(socket, &mut buffer) {
                        black_box(&buffer[..got.len]);
                        count += 1;
                    }
                    assert_eq!(count, BATCH);
                    while shard.next_event().is_some() {}
                },
                BatchSize::NumIterations(8),
            );
        });
    }

    let mut plug = Plug { rx: frames[..0].iter() };
    let config = Config::new(EthernetAddress(OURS.0).into());
    let mut iface = Interface::new(config, &mut plug, Moment::ZERO);
    iface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddr::from([10, 0, 0, 1]).into(), 24)).unwrap();
    });
    let buffer =
        || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 2 * BATCH], vec![0; 8192]);
    let mut sockets = SocketSet::new(Vec::new());
    let handle = sockets.add(udp::Socket::new(buffer(), buffer()));
    sockets.get_mut::<udp::Socket<'_>>(handle).bind(7).unwrap();
    let mut now = 1;
    group.bench_function("smoltcp", |b| {
        b.iter(|| {
            now += 1;
            plug.rx = frames.iter();
            iface.poll(Moment::from_millis(now), &mut plug, &mut sockets);
            let socket = sockets.get_mut::<udp::Socket<'_>>(handle);
            let mut buffer = [0; 64];
            let mut count = 0;
            while let Ok((len, _)) = socket.recv_slice(&mut buffer) {
                black_box(&buffer[..len]);
                count += 1;
            }
            assert_eq!(count, BATCH);
        });
    });
    group.finish();
}

criterion_group!(benches, receive);
criterion_main!(benches);
