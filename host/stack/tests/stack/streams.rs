//! TCP between two stacks.

use std::time::Duration;

use tandem_stack::{ConnectOptions, DropReason, IoError, OpenError, Readiness, tcp};

use crate::wire::{Host, Hub, NS, Transfer, addr, v4, v6};

fn close_both(hub: &mut Hub, sockets: [(usize, tandem_stack::SocketHandle); 2]) {
    let now = hub.now;
    for (host, socket) in sockets {
        hub.hosts[host].shard.close(now, socket).unwrap();
    }
}

#[test]
fn bytes_arrive_in_order_both_ways_and_nothing_stays_behind() {
    for to in [v4(2), v6(2)] {
        let mut hub = Hub::pair();
        let (client, server, listener) = hub.connect(addr(to, 80));
        let mut up = Transfer::new((0, client), (1, server), 500_000);
        let mut down = Transfer::new((1, server), (0, client), 300_000);
        let done = hub.run(Duration::from_secs(60), |now, hosts| {
            let up_done = up.go_on(*now, hosts);
            let down_done = down.go_on(*now, hosts);
            up_done && down_done
        });
        assert!(done, "{} and {} bytes", up.received, down.received);
        let info = hub.hosts[0].shard.tcp_info(client).unwrap();
        assert_eq!(info.stats.retransmissions, 0, "nothing was lost");
        close_both(&mut hub, [(0, client), (1, server)]);
        let now = hub.now;
        hub.hosts[1].shard.close(now, listener).unwrap();
        hub.pass(Duration::from_secs(1));
        for host in &hub.hosts {
            assert_eq!(host.shard.sockets(), 0, "closed connections leave no socket");
        }
        let waiting: usize = hub.hosts.iter().map(|host| host.shard.tcp_time_waits(NS)).sum();
        assert!(waiting >= 1, "who closed first waits");
        // Two maximum segment lifetimes, and neighbours' probes.
        hub.pass(Duration::from_secs(130));
        for host in &hub.hosts {
            assert_eq!(host.shard.tcp_time_waits(NS), 0);
            assert_eq!(host.shard.next_deadline(), None, "an idle shard waits for nothing");
            assert_eq!(host.frames.stats().free, 4096);
            assert_eq!(host.payload.stats().free, 256);
        }
    }
}

#[test]
fn super_segments_are_built_and_cut_below() {
    let mut hub = Hub::pair();
    let (client, server, _) = hub.connect(addr(v4(2), 80));
    let mut up = Transfer::new((0, client), (1, server), 1_000_000);
    assert!(hub.run(Duration::from_secs(60), |now, hosts| up.go_on(*now, hosts)));
    let host = &hub.hosts[0];
    let (_, counters) = host.shard.offload(host.iface).unwrap();
    assert!(counters.supers_sw > 10, "{counters:?}");
    assert!(counters.segments > 4 * counters.supers_sw, "{counters:?}");
    assert_eq!(counters.drops.total(), 0, "{counters:?}");
}

#[test]
fn loss_costs_time_not_bytes() {
    for (loss, seed) in [(10, 0), (50, 1), (200, 2)] {
        let mut hub = Hub::pair();
        let (client, server, _) = hub.connect(addr(v4(2), 80 + seed));
        hub.loss_permille = loss;
        let mut up = Transfer::new((0, client), (1, server), 200_000);
        let done = hub.run(Duration::from_secs(3600), |now, hosts| up.go_on(*now, hosts));
        assert!(done, "{} bytes at {loss} permille", up.received);
        assert!(hub.lost > 0);
        let info = hub.hosts[0].shard.tcp_info(client).unwrap();
        assert!(info.stats.retransmissions > 0);
    }
}

#[test]
fn a_port_without_listener_refuses() {
    let mut hub = Hub::pair();
    let now = hub.now;
    let options = ConnectOptions::default();
    let socket = hub.hosts[0].shard.tcp_connect(now, NS, addr(v4(2), 81), &options).unwrap();
    assert!(hub.run(Duration::from_secs(5), |_, hosts| hosts[0].saw(socket, Readiness::ERROR)));
    let now = hub.now;
    assert_eq!(hub.hosts[0].shard.tcp_read(now, socket, &mut [0; 8]), Err(IoError::Refused));
    assert_eq!(hub.hosts[1].stats().resets_sent, 1);
    assert_eq!(hub.hosts[1].stats().drops(DropReason::NoConnection), 1);
    hub.hosts[0].shard.close(now, socket).unwrap();
    hub.pass(Duration::from_secs(1));
    assert_eq!(hub.hosts[0].shard.sockets(), 0);
}

#[test]
fn a_host_that_is_not_there_is_unreachable_after_three_questions() {
    for to in [v4(77), v6(77)] {
        let mut hub = Hub::pair();
        let (now, options) = (hub.now, ConnectOptions::default());
        let socket = hub.hosts[0].shard.tcp_connect(now, NS, addr(to, 80), &options).unwrap();
        assert!(
            hub.run(Duration::from_secs(5), |_, hosts| hosts[0].saw(socket, Readiness::ERROR)),
            "{to}: {:?}",
            hub.hosts[0].stats()
        );
        let now = hub.now;
        let read = hub.hosts[0].shard.tcp_read(now, socket, &mut [0; 8]);
        assert_eq!(read, Err(IoError::Unreachable));
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let mut hub = Hub::pair();
    let now = hub.now;
    let options = ConnectOptions::default();
    let shard = &mut hub.hosts[0].shard;
    let far = "192.0.2.1:80".parse().unwrap();
    assert!(matches!(shard.tcp_connect(now, NS, far, &options), Err(OpenError::NoRoute(_))));
    let group = "224.0.0.1:80".parse().unwrap();
    assert!(matches!(shard.tcp_connect(now, NS, group, &options), Err(OpenError::BadPeer(_))));
    let foreign = addr(v4(9), 80);
    assert!(matches!(shard.tcp_listen(NS, foreign, 1), Err(OpenError::NotLocal(_))));
    shard.tcp_listen(NS, addr(v4(1), 80), 1).unwrap();
    assert!(matches!(shard.tcp_listen(NS, addr(v4(1), 80), 1), Err(OpenError::InUse(_))));
}

#[test]
fn an_abort_is_a_reset_at_the_other_end() {
    let mut hub = Hub::pair();
    let (client, server, _) = hub.connect(addr(v4(2), 80));
    let now = hub.now;
    hub.hosts[0].shard.tcp_abort(now, client).unwrap();
    assert!(hub.run(Duration::from_secs(1), |_, hosts| hosts[1].saw(server, Readiness::ERROR)));
    let now = hub.now;
    assert_eq!(hub.hosts[1].shard.tcp_read(now, server, &mut [0; 8]), Err(IoError::Reset));
    assert_eq!(hub.hosts[0].shard.sockets(), 0);
}

#[test]
fn the_backlog_is_a_bound() {
    let mut hub = Hub::pair();
    let listener = hub.hosts[1].shard.tcp_listen(NS, addr(v4(2), 80), 3).unwrap();
    let options = ConnectOptions::default();
    let now = hub.now;
    for _ in 0..10 {
        hub.hosts[0].shard.tcp_connect(now, NS, addr(v4(2), 80), &options).unwrap();
    }
    hub.pass(Duration::from_millis(100));
    let stats = hub.hosts[1].stats().clone();
    assert!(stats.syn_overflows + stats.accept_overflows > 0, "{stats:?}");
    let mut accepted = 0;
    while hub.hosts[1].shard.tcp_accept(listener).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 3);
    // Who was not answered tries again, and finds room now.
    hub.pass(Duration::from_secs(10));
    assert!(hub.hosts[1].shard.tcp_accept(listener).is_ok());
}

#[test]
fn a_flood_of_syns_holds_no_more_than_its_limit() {
    let mut hub = Hub::pair();
    let _listener = hub.hosts[1].shard.tcp_listen(NS, addr(v4(2), 80), 64).unwrap();
    // The attacker never answers: its SYNs come from addresses that are not there.
    let now = hub.now;
    let mut syns = Vec::new();
    for n in 0..1000u32 {
        syns.push(crate::hostile::syn(n, v4(2), 80));
    }
    let host = &mut hub.hosts[1];
    for syn in &syns {
        let mut batch = [crate::wire::frame_of(&host.frames, syn)].into();
        host.shard.receive(now, host.iface, &mut batch);
    }
    let stats = host.stats().clone();
    assert_eq!(stats.syn_overflows, 1000 - 128, "twice the backlog may be half open: {stats:?}");
    assert_eq!(host.shard.sockets(), 1 + 128);
    hub.pass(Duration::from_secs(200));
    assert_eq!(hub.hosts[1].shard.sockets(), 1, "half-open connections time out");
    let (client, _, _) = {
        let options = ConnectOptions::default();
        let now = hub.now;
        let client = hub.hosts[0].shard.tcp_connect(now, NS, addr(v4(2), 80), &options).unwrap();
        (client, (), ())
    };
    assert!(
        hub.run(Duration::from_secs(5), |_, hosts| { hosts[0].saw(client, Readiness::CONNECTED) })
    );
}

#[test]
fn loopback_connects_a_host_to_itself() {
    let mut hub = Hub::new(vec![Host::new(1)]);
    for to in ["127.0.0.1:80", "[::1]:80", "10.0.0.1:80"] {
        let to = to.parse().unwrap();
        let listener = hub.hosts[0].shard.tcp_listen(NS, to, 4).unwrap();
        let now = hub.now;
        let options = ConnectOptions::default();
        let client = hub.hosts[0].shard.tcp_connect(now, NS, to, &options).unwrap();
        let mut server = None;
        assert!(hub.run(Duration::from_secs(1), |_, hosts| {
            server = hosts[0].shard.tcp_accept(listener).ok();
            server.is_some()
        }));
        let (server, _) = server.unwrap();
        let mut up = Transfer::new((0, client), (0, server), 2_000_000);
        assert!(hub.run(Duration::from_secs(10), |now, hosts| up.go_on(*now, hosts)));
        close_both(&mut hub, [(0, client), (0, server)]);
        let now = hub.now;
        hub.hosts[0].shard.close(now, listener).unwrap();
        hub.pass(Duration::from_millis(100));
        assert_eq!(hub.hosts[0].shard.sockets(), 0, "{to}");
    }
    assert_eq!(hub.carried, 0);
}

#[test]
fn a_peer_that_vanishes_times_the_connection_out() {
    let config = tcp::Config { user_timeout: Duration::from_secs(20), ..tcp::Config::default() };
    let mut hub = Hub::new(vec![Host::with_tcp(1, config), Host::new(2)]);
    let (client, _, _) = hub.connect(addr(v4(2), 80));
    let now = hub.now;
    hub.hosts[0].shard.tcp_write(now, client, b"hello").unwrap();
    hub.hosts[1].plugged = false;
    assert!(hub.run(Duration::from_secs(60), |_, hosts| hosts[0].saw(client, Readiness::ERROR)));
    let now = hub.now;
    assert_eq!(hub.hosts[0].shard.tcp_read(now, client, &mut [0; 8]), Err(IoError::TimedOut));
}
