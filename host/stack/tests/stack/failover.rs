//! Devices that go away and others that take their place, in the middle of a transfer.

use std::time::Duration;

use tandem_device::{Caps, OperState, TxOffloads};
use tandem_packet::{EthernetView, MacAddr};
use tandem_stack::{InterfaceConfig, Link, Route};

use crate::wire::{Host, Hub, MTU, NS, Transfer, addr, mac, v4, v6};

#[test]
fn another_device_takes_over_and_the_connection_goes_on() {
    for (to, other_mac) in [(v4(2), true), (v6(2), true), (v4(2), false)] {
        let mut hub = Hub::pair();
        let (client, server, _) = hub.connect(addr(to, 80));
        let mut down = Transfer::new((1, server), (0, client), 2_000_000);
        for n in 0..5u8 {
            let target = usize::from(n + 1) * 300_000;
            hub.run(Duration::from_secs(30), |now, hosts| {
                down.go_on(*now, hosts);
                down.received >= target
            });
            assert!(down.received >= target && !down.ended);
            // Pulled out: nothing is carried, and what was under way to it is lost.
            hub.hosts[0].plugged = false;
            hub.pass(Duration::from_millis(30));
            let new_mac = if other_mac { MacAddr([2, 9, 9, 9, 9, n]) } else { mac(1) };
            let (now, iface) = (hub.now, hub.hosts[0].iface);
            // The next device can do less, or more.
            let mut caps = Caps::plain(MTU);
            caps.headroom = u16::from(n) * 4;
            let link = Link::up(new_mac, MTU, caps);
            assert!(hub.hosts[0].shard.changed(now, iface, &link));
            hub.hosts[0].plugged = true;
            hub.capture = Some(Vec::new());
            hub.pass(Duration::from_millis(5));
            let frames = hub.capture.take().unwrap();
            let announced = frames.iter().any(|frame| {
                let ethernet = EthernetView::new(frame).unwrap();
                ethernet.src() == new_mac && ethernet.dst().is_multicast()
            });
            assert_eq!(announced, other_mac, "a new station address is announced");
        }
        let done = hub.run(Duration::from_secs(600), |now, hosts| down.go_on(*now, hosts));
        assert!(done, "{} bytes", down.received);
        let info = hub.hosts[1].shard.tcp_info(server).unwrap();
        assert!(info.stats.retransmissions > 0, "what was lost was sent again");
    }
}

#[test]
fn a_link_that_goes_down_holds_the_connection_until_it_is_back() {
    let mut hub = Hub::pair();
    let (client, server, _) = hub.connect(addr(v4(2), 80));
    let mut up = Transfer::new((0, client), (1, server), 1_000_000);
    hub.run(Duration::from_secs(30), |now, hosts| {
        up.go_on(*now, hosts);
        up.received > 200_000
    });
    let (now, iface) = (hub.now, hub.hosts[0].iface);
    let mut link = Link::up(mac(1), MTU, Caps::plain(MTU));
    link.state = OperState::Down;
    assert!(hub.hosts[0].shard.changed(now, iface, &link));
    let before = up.received;
    hub.run(Duration::from_secs(3), |now, hosts| {
        up.go_on(*now, hosts);
        false
    });
    // At most what had left before.
    assert!(up.received < before + 100_000);
    link.state = OperState::Up;
    let now = hub.now;
    assert!(hub.hosts[0].shard.changed(now, iface, &link));
    assert!(hub.run(Duration::from_secs(120), |now, hosts| up.go_on(*now, hosts)));
}

#[test]
fn another_interface_takes_over_when_one_goes_down() {
    let mut hub = Hub::pair();
    let (client, server, _) = hub.connect(addr(v4(2), 80));
    // A second way out of host 0, by the same hub for simplicity, with a worse metric.
    let host = &mut hub.hosts[0];
    let config = InterfaceConfig { name: "eth1".into(), mac: mac(11), mtu: MTU };
    let backup = host.namespace.add_interface(config).unwrap();
    host.namespace.add_address(backup, "10.0.1.1/24".parse().unwrap()).unwrap();
    let prefix = "10.0.0.0/24".parse().unwrap();
    let route = Route { prefix, gateway: None, iface: backup, metric: 10 };
    host.namespace.add_route(route).unwrap();
    let now = hub.now;
    assert!(hub.hosts[0].shard.changed(now, backup, &Link::up(mac(11), MTU, Caps::plain(MTU))));
    let mut up = Transfer::new((0, client), (1, server), 1_000_000);
    hub.run(Duration::from_secs(30), |now, hosts| {
        up.go_on(*now, hosts);
        up.received > 200_000
    });
    let first = hub.hosts[0].iface;
    let mut link = Link::up(mac(1), MTU, Caps::plain(MTU));
    link.state = OperState::Down;
    let now = hub.now;
    assert!(hub.hosts[0].shard.changed(now, first, &link));
    // The peer finds our address at the other station.
    hub.hosts[0].iface = backup;
    let permanent = addr(v4(1), 0).ip();
    let peer = &hub.hosts[1];
    peer.namespace.add_neighbour(peer.iface, permanent, mac(11)).unwrap();
    assert!(hub.run(Duration::from_secs(120), |now, hosts| up.go_on(*now, hosts)));
    assert!(hub.hosts[0].shard.stats(NS).unwrap().adds_up());
}

#[test]
fn a_device_with_segmentation_gets_super_segments_as_they_are() {
    let mut hub = Hub::new(vec![Host::new(1), Host::new(2)]);
    let (client, _server, _) = hub.connect(addr(v4(2), 80));
    let mut caps = Caps::plain(MTU);
    caps.tx = TxOffloads::CSUM | TxOffloads::TSO4 | TxOffloads::TSO6;
    caps.gso_bytes_max = 32_000;
    caps.gso_segments_max = 16;
    let (now, iface) = (hub.now, hub.hosts[0].iface);
    assert!(hub.hosts[0].shard.changed(now, iface, &Link::up(mac(1), MTU, caps)));
    hub.hosts[0].shard.tcp_write(now, client, &[7; 100_000]).unwrap();
    let mut out = tandem_device::Batch::new();
    // The window of a new connection: ten segments.
    hub.hosts[0].shard.turn(now, 64);
    let mut rounds = 0;
    while out.iter().all(|frame| frame.meta().gso.is_none()) && rounds < 100 {
        let shard = &mut hub.hosts[0].shard;
        shard.turn(now, 64);
        shard.transmit(now, iface, 64, &mut out);
        rounds += 1;
    }
    let frame = out.iter().find(|frame| frame.meta().gso.is_some()).expect("a super-segment");
    let gso = frame.meta().gso.unwrap();
    assert!(matches!(frame.meta().csum, tandem_device::Csum::Partial { start: 34, offset: 16 }));
    assert!(frame.len() > 2 * usize::from(gso.size) && frame.len() <= 32_000);
    assert!(frame.frags().len() + 1 < 18, "payload by reference");
}
