//! The neighbour cache seen from outside.

use std::time::Duration;

use tandem_device::Batch;
use tandem_packet::{
    ArpOperation, ArpRepr, ArpView, EtherType, EthernetRepr, EthernetView, MacAddr,
};
use tandem_stack::limits;

use crate::wire::{Hub, NS, addr, frame_of, mac, v4, v6};

fn arp(operation: ArpOperation, sender: (MacAddr, &str), target: &str, dst: MacAddr) -> Vec<u8> {
    let repr = ArpRepr {
        operation,
        sender_mac: sender.0,
        sender_ip: sender.1.parse().unwrap(),
        target_mac: MacAddr::ZERO,
        target_ip: target.parse().unwrap(),
    };
    let ethernet =
        EthernetRepr { dst, src: sender.0, ether_type: EtherType::ARP, ..Default::default() };
    let mut bytes = vec![0; 60];
    ethernet.emit(&mut bytes);
    repr.emit(&mut bytes[14..]);
    bytes
}

fn receive(hub: &mut Hub, bytes: &[u8]) -> Vec<Vec<u8>> {
    let now = hub.now;
    let host = &mut hub.hosts[0];
    let mut batch = Batch::from([frame_of(&host.frames, bytes)]);
    host.shard.receive(now, host.iface, &mut batch);
    let mut out = Batch::new();
    host.shard.transmit(now, host.iface, 64, &mut out);
    out.iter().map(|frame| frame.to_vec()).collect()
}

#[test]
fn a_probe_is_answered_and_nothing_is_learnt_of_it() {
    let mut hub = Hub::pair();
    let probe = arp(ArpOperation::Request, (mac(7), "0.0.0.0"), "10.0.0.1", MacAddr::BROADCAST);
    let answers = receive(&mut hub, &probe);
    assert_eq!(answers.len(), 1);
    let ethernet = EthernetView::new(&answers[0]).unwrap();
    let reply = ArpRepr::parse(&ArpView::new(ethernet.payload()).unwrap()).unwrap();
    assert_eq!((reply.operation, reply.sender_mac), (ArpOperation::Reply, mac(1)));
    assert_eq!(hub.hosts[0].shard.neighbours(NS), 0);
}

#[test]
fn gossip_about_others_is_not_learnt() {
    let mut hub = Hub::pair();
    for (operation, target) in [
        (ArpOperation::Request, "10.0.0.9"),
        (ArpOperation::Reply, "10.0.0.9"),
        (ArpOperation::Reply, "10.0.0.7"),
        (ArpOperation::Reply, "10.0.0.1"),
    ] {
        let message = arp(operation, (mac(7), "10.0.0.7"), target, MacAddr::BROADCAST);
        assert!(receive(&mut hub, &message).is_empty());
        assert_eq!(hub.hosts[0].shard.neighbours(NS), 0, "{operation:?} {target}");
    }
}

#[test]
fn who_claims_our_address_is_counted_and_not_believed() {
    let mut hub = Hub::pair();
    let claim = arp(ArpOperation::Request, (mac(7), "10.0.0.1"), "10.0.0.1", MacAddr::BROADCAST);
    assert!(receive(&mut hub, &claim).is_empty());
    assert_eq!(hub.hosts[0].stats().address_conflicts, 1);
}

#[test]
fn the_cache_is_bounded_whoever_asks() {
    let mut hub = Hub::pair();
    for n in 0..2 * limits::NEIGHBOURS_MAX {
        let ip = format!("10.0.{}.{}", n / 200, n % 200 + 10);
        let station = MacAddr([2, 1, 0, 0, (n >> 8) as u8, n as u8]);
        let message = arp(ArpOperation::Request, (station, &ip), "10.0.0.1", MacAddr::BROADCAST);
        assert_eq!(receive(&mut hub, &message).len(), 1);
    }
    assert_eq!(hub.hosts[0].shard.neighbours(NS), limits::NEIGHBOURS_MAX);
    assert_eq!(hub.hosts[0].stats().neighbours_evicted as usize, limits::NEIGHBOURS_MAX);
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times() {
    for to in [v4(77), v6(77)] {
        let mut hub = Hub::pair();
        let socket =
            hub.hosts[0].shard.udp_bind(NS, addr(if to.is_ipv4() { v4(1) } else { v6(1) }, 0));
        let socket = socket.unwrap();
        let now = hub.now;
        for _ in 0..limits::NEIGHBOUR_PENDING_MAX + 2 {
            hub.hosts[0].shard.udp_send(now, socket, Some(addr(to, 7)), b"x").unwrap();
        }
        hub.pass(Duration::from_secs(10));
        let stats = hub.hosts[0].stats();
        assert_eq!(stats.solicits_sent, 3);
        assert_eq!(stats.neighbour_pending_dropped, 2);
        assert_eq!(stats.neighbour_unreachable as usize, limits::NEIGHBOUR_PENDING_MAX);
        assert_eq!(hub.hosts[0].shard.neighbours(NS), 0);
        assert_eq!(hub.hosts[0].shard.next_deadline(), None);
        assert_eq!(hub.hosts[0].frames.stats().free, 4096);
    }
}

#[test]
fn a_stale_neighbour_is_used_and_probed() {
    let mut hub = Hub::pair();
    let echo = hub.hosts[0].shard.echo_open(NS).unwrap();
    let ping = |hub: &mut Hub| {
        let now = hub.now;
        hub.hosts[0].shard.echo_send(now, echo, v4(2), 0, b"x").unwrap();
        hub.pass(Duration::from_millis(100));
        assert!(hub.hosts[0].shard.udp_recv(echo, &mut [0; 8]).is_ok());
    };
    ping(&mut hub);
    assert_eq!(hub.hosts[0].stats().solicits_sent, 1);
    hub.pass(Duration::from_secs(60));
    ping(&mut hub);
    assert_eq!(hub.hosts[0].stats().solicits_sent, 1, "used at once");
    hub.pass(Duration::from_secs(6));
    assert_eq!(hub.hosts[0].stats().solicits_sent, 2, "and probed a while later");
    hub.pass(Duration::from_secs(6));
    assert_eq!(hub.hosts[0].stats().solicits_sent, 2, "it answered");
}
