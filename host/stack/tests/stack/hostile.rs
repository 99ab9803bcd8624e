//! Bytes from the wire that nobody should have sent: the stack never panics, and accounts for all.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use tandem_device::{Batch, Caps};
use tandem_offload::checksum::{Sum, fill_ipv4_header};
use tandem_packet::{EtherType, EthernetRepr, IpProtocol, Ipv4Repr, SeqNumber, TcpFlags, TcpRepr};
use tandem_stack::{Link, Readiness};

use crate::wire::{Host, Hub, MTU, NS, Transfer, addr, frame_of, mac, v4, v6};

/// A SYN from one of many stations to host 2.
pub(crate) fn syn(n: u32, to: IpAddr, port: u16) -> Vec<u8> {
    let IpAddr::V4(dst) = to else { panic!("IPv4 only") };
    let src = std::net::Ipv4Addr::new(10, 0, 0, 100 + (n % 100) as u8);
    let repr = TcpRepr {
        src_port: 1024 + (n / 100) as u16,
        dst_port: port,
        seq: SeqNumber(n),
        flags: TcpFlags::SYN,
        window: 1000,
        ..TcpRepr::default()
    };
    let mut bytes = vec![0; 54];
    let ethernet = EthernetRepr {
        dst: mac(2),
        src: mac(99),
        ether_type: EtherType::IPV4,
        ..Default::default()
    };
    ethernet.emit(&mut bytes);
    let ip =
        Ipv4Repr { src, dst, protocol: IpProtocol::TCP, payload_len: 20, ..Default::default() };
    ip.emit(&mut bytes[14..]);
    fill_ipv4_header(&mut bytes[14..34]);
    repr.emit(&mut bytes[34..]);
    let mut sum = Sum::pseudo_header(src.into(), to, IpProtocol::TCP, 20);
    sum.add(&bytes[34..]);
    bytes[50..52].copy_from_slice(&sum.checksum().to_be_bytes());
    bytes
}

/// Real traffic of every kind that the stack speaks, as it went over the wire.
fn traffic() -> Vec<Vec<u8>> {
    let mut hub = Hub::pair();
    hub.capture = Some(Vec::new());
    for (one, two) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let echo = hub.hosts[0].shard.echo_open(NS).unwrap();
        let server = hub.hosts[1].shard.udp_bind(NS, addr(two, 7)).unwrap();
        let client = hub.hosts[0].shard.udp_bind(NS, addr(one, 0)).unwrap();
        let now = hub.now;
        hub.hosts[0].shard.echo_send(now, echo, two, 1, b"ping").unwrap();
        hub.hosts[0].shard.udp_send(now, client, Some(addr(two, 7)), b"datagram").unwrap();
        hub.hosts[0].shard.udp_send(now, client, Some(addr(two, 9)), b"to nobody").unwrap();
        hub.pass(Duration::from_millis(20));
        let (client, accepted, listener) = hub.connect(addr(two, 80));
        let mut up = Transfer::new((0, client), (1, accepted), 20_000);
        assert!(hub.run(Duration::from_secs(5), |now, hosts| up.go_on(*now, hosts)));
        let now = hub.now;
        hub.hosts[0].shard.tcp_abort(now, client).unwrap();
        hub.hosts[1].shard.close(now, listener).unwrap();
        hub.hosts[1].shard.close(now, server).unwrap();
        hub.pass(Duration::from_millis(20));
    }
    hub.capture.take().unwrap()
}

#[derive(Debug, Clone)]
enum Mutation {
    Flip(usize, u8),
    Set(usize, u8),
    Truncate(usize),
    Extend(usize),
    Splice(usize, usize),
    /// Make checksums right again, so that what lies behind them is reached.
    Repair,
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = prop_oneof![
        4 => (0usize..100, 1u8..=255).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        2 => (0usize..2000, any::<u8>()).prop_map(|(at, value)| Mutation::Set(at, value)),
        1 => (0usize..1600).prop_map(Mutation::Truncate),
        1 => (0usize..400).prop_map(Mutation::Extend),
        1 => (0usize..100, 0usize..100).prop_map(|(a, b)| Mutation::Splice(a, b)),
        4 => Just(Mutation::Repair),
    ];
    prop::collection::vec(one, 0..6)
}

fn repair(bytes: &mut [u8]) {
    if bytes.len() >= 34 && bytes[12..14] == [8, 0] && bytes[14] == 0x45 {
        fill_ipv4_header(&mut bytes[14..34]);
    }
    let Ok(headers) = tandem_packet::Headers::parse(bytes) else { return };
    let Some((src, dst)) = headers.addresses() else { return };
    let offset = match headers.protocol {
        IpProtocol::TCP => 16,
        IpProtocol::UDP => 6,
        IpProtocol::ICMPV4 | IpProtocol::ICMPV6 => 2,
        _ => return,
    };
    let (start, end) = (usize::from(headers.l4_offset), headers.packet_end as usize);
    if start + offset + 2 > end || end > bytes.len() {
        return;
    }
    bytes[start + offset..start + offset + 2].fill(0);
    let mut sum = match headers.protocol {
        IpProtocol::ICMPV4 => Sum::new(),
        protocol => Sum::pseudo_header(src, dst, protocol, (end - start) as u32),
    };
    sum.add(&bytes[start..end]);
    let value = sum.checksum().to_be_bytes();
    bytes[start + offset..start + offset + 2].copy_from_slice(&value);
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        match *mutation {
            Mutation::Flip(at, bits) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Mutation::Set(at, value) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            Mutation::Truncate(len) => bytes.truncate(len),
            Mutation::Extend(len) => bytes.resize((bytes.len() + len).min(1900), 0xa5),
            Mutation::Splice(from, to) => {
                let end = bytes.len();
                if from < end && to < end {
                    let tail = bytes[from..].to_vec();
                    bytes.truncate(to);
                    bytes.extend_from_slice(&tail);
                    bytes.truncate(1900);
                }
            }
            Mutation::Repair => repair(bytes),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Both hosts with live connections hear mutated traffic; afterwards a new connection works.
    #[test]
    fn mutated_traffic_is_dropped_or_delivered_and_never_more(
        picks in prop::collection::vec((any::<prop::sample::Index>(), mutations()), 1..40),
        trusted in any::<bool>(),
    ) {
        thread_local! {
            static TRAFFIC: Vec<Vec<u8>> = traffic();
        }
        let traffic = TRAFFIC.with(Clone::clone);
        let mut hub = Hub::pair();
        let _udp = hub.hosts[1].shard.udp_bind(NS, "0.0.0.0:7".parse().unwrap()).unwrap();
        let _echo = hub.hosts[0].shard.echo_open(NS).unwrap();
        let (client, server, _) = hub.connect(addr(v4(2), 80));
        for n in 0..2 {
            let (now, iface) = (hub.now, hub.hosts[n].iface);
            let mut caps = Caps::plain(MTU);
            caps.trusted = trusted;
            hub.hosts[n].shard.changed(now, iface, &Link::up(mac(n as u8 + 1), MTU, caps));
        }
        for (pick, mutations) in &picks {
            let mut bytes = pick.get(&traffic).clone();
            mutate(&mut bytes, mutations);
            for host in &mut hub.hosts {
                let before = host.stats().rx_frames;
                let mut batch = Batch::from([frame_of(&host.frames, &bytes)]);
                host.shard.receive(hub.now, host.iface, &mut batch);
                prop_assert_eq!(host.stats().rx_frames, before + 1);
                prop_assert!(host.stats().adds_up());
            }
            hub.pass(Duration::from_millis(1));
        }
        // What was open may have been reset by a segment that fits; a new connection must work.
        let now = hub.now;
        for (host, socket) in [(0, client), (1, server)] {
            let _ = hub.hosts[host].shard.tcp_abort(now, socket);
        }
        for host in 0..2 {
            let station = mac(host as u8 + 1);
            let peer = [v4(1), v4(2)][host];
            let other = &hub.hosts[1 - host];
            // Forged ARP may have moved neighbours; that is what ARP is like.
            other.namespace.add_neighbour(other.iface, peer, station).unwrap();
        }
        let (client, server, _) = hub.connect(addr(v4(2), 81));
        let mut up = Transfer::new((0, client), (1, server), 5000);
        prop_assert!(hub.run(Duration::from_secs(30), |now, hosts| up.go_on(*now, hosts)));
    }

    /// No traffic at all, only bytes.
    #[test]
    fn any_bytes_are_accounted_for(frames in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..200), 1..50
    )) {
        let mut host = Host::new(1);
        let count = frames.len() as u64;
        let mut batch: Batch = frames.iter().map(|bytes| {
            let mut bytes = bytes.clone();
            // Half of them at least pass the link layer.
            if bytes.len() > 14 && bytes[0] & 1 == 0 {
                bytes[..6].copy_from_slice(&mac(1).0);
                let ether_type: [u8; 2] = if bytes[14] & 1 == 0 { [8, 0] } else { [0x86, 0xdd] };
                bytes[12..14].copy_from_slice(&ether_type);
            }
            frame_of(&host.frames, &bytes)
        }).collect();
        host.shard.receive(tandem_stack::Instant::ZERO, host.iface, &mut batch);
        prop_assert!(batch.is_empty());
        prop_assert_eq!(host.stats().rx_frames, count);
        prop_assert!(host.stats().adds_up());
        while host.shard.next_event().is_some_and(|event| event.ready != Readiness::empty()) {}
    }
}
