//! Echo, UDP, and the ICMP errors around them.

use std::time::Duration;

use tandem_stack::{DropReason, IoError, Readiness};

use crate::wire::{Hub, NS, addr, v4, v6};

#[test]
fn an_echo_is_answered_after_the_neighbour_was_found() {
    for to in [v4(2), v6(2)] {
        let mut hub = Hub::pair();
        let echo = hub.hosts[0].shard.echo_open(NS).unwrap();
        for seq in 0..3 {
            let now = hub.now;
            hub.hosts[0].shard.echo_send(now, echo, to, seq, b"are you there").unwrap();
            let answered =
                hub.run(Duration::from_secs(1), |_, hosts| hosts[0].saw(echo, Readiness::READABLE));
            assert!(answered, "{to}: {:?}", hub.hosts[1].stats());
            let mut buffer = [0; 64];
            let reply = hub.hosts[0].shard.udp_recv(echo, &mut buffer).unwrap();
            assert_eq!(&buffer[..reply.len], b"are you there");
            assert_eq!(reply.from, addr(to, seq));
        }
        assert_eq!(hub.hosts[0].stats().solicits_sent, 1, "one question is enough");
        assert_eq!(hub.hosts[1].stats().echo_replies_sent, 3);
        // It learnt who asks from the question itself.
        assert_eq!(hub.hosts[1].stats().solicits_sent, 0);
    }
}

#[test]
fn datagrams_go_both_ways_and_keep_their_borders() {
    for (one, two) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let mut hub = Hub::pair();
        let server = hub.hosts[1].shard.udp_bind(NS, addr(two, 7)).unwrap();
        let client = hub.hosts[0].shard.udp_bind(NS, addr(one, 0)).unwrap();
        hub.hosts[0].shard.udp_connect(client, Some(addr(two, 7))).unwrap();
        let now = hub.now;
        for len in [0, 1, 1000, 1452] {
            let data = vec![len as u8; len];
            hub.hosts[0].shard.udp_send(now, client, None, &data).unwrap();
        }
        hub.pass(Duration::from_millis(10));
        let mut buffer = [0; 2000];
        for len in [0, 1, 1000, 1452] {
            let got = hub.hosts[1].shard.udp_recv(server, &mut buffer).unwrap();
            assert_eq!((got.len, got.from.ip(), got.truncated), (len, one, false));
            let now = hub.now;
            hub.hosts[1].shard.udp_send(now, server, Some(got.from), &buffer[..len]).unwrap();
        }
        assert_eq!(hub.hosts[1].shard.udp_recv(server, &mut buffer), Err(IoError::WouldBlock));
        hub.pass(Duration::from_millis(10));
        for len in [0, 1, 1000, 1452] {
            let got = hub.hosts[0].shard.udp_recv(client, &mut buffer).unwrap();
            assert_eq!((got.len, got.from), (len, addr(two, 7)));
            assert!(buffer[..len].iter().all(|&byte| byte == len as u8));
        }
    }
}

#[test]
fn what_does_not_fit_the_path_is_refused_with_the_limit() {
    let mut hub = Hub::pair();
    let socket = hub.hosts[0].shard.udp_bind(NS, "0.0.0.0:0".parse().unwrap()).unwrap();
    let now = hub.now;
    let too_long = vec![0; 1473];
    let answer = hub.hosts[0].shard.udp_send(now, socket, Some(addr(v4(2), 7)), &too_long);
    assert_eq!(answer, Err(IoError::TooLong { len: 1473, max: 1472 }));
}

#[test]
fn a_closed_port_is_told_to_a_connected_socket_only() {
    for (one, two) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let mut hub = Hub::pair();
        let connected = hub.hosts[0].shard.udp_bind(NS, addr(one, 0)).unwrap();
        let loose = hub.hosts[0].shard.udp_bind(NS, addr(one, 0)).unwrap();
        hub.hosts[0].shard.udp_connect(connected, Some(addr(two, 9))).unwrap();
        let now = hub.now;
        hub.hosts[0].shard.udp_send(now, connected, None, b"x").unwrap();
        hub.hosts[0].shard.udp_send(now, loose, Some(addr(two, 9)), b"y").unwrap();
        hub.pass(Duration::from_millis(10));
        assert_eq!(hub.hosts[1].stats().icmp_errors_sent, 2);
        assert_eq!(hub.hosts[1].stats().drops(DropReason::NoSocket), 2);
        assert!(hub.hosts[0].saw(connected, Readiness::ERROR));
        let now = hub.now;
        let host = &mut hub.hosts[0].shard;
        assert_eq!(host.udp_send(now, connected, None, b"x"), Err(IoError::Refused));
        assert_eq!(host.udp_send(now, connected, None, b"x"), Ok(()), "told once");
        assert_eq!(host.udp_send(now, loose, Some(addr(two, 9)), b"y"), Ok(()));
        assert_eq!(hub.hosts[0].stats().drops(DropReason::IcmpUnmatched), 1);
    }
}

#[test]
fn icmp_errors_are_limited_in_rate() {
    let mut hub = Hub::pair();
    let socket = hub.hosts[0].shard.udp_bind(NS, addr(v4(1), 0)).unwrap();
    let now = hub.now;
    hub.hosts[0].shard.udp_send(now, socket, Some(addr(v4(2), 9)), b"x").unwrap();
    // The neighbour is found; permissions are full again.
    hub.pass(Duration::from_secs(1));
    for _ in 0..200 {
        let now = hub.now;
        hub.hosts[0].shard.udp_send(now, socket, Some(addr(v4(2), 9)), b"x").unwrap();
        // Without waiting for the answers: all arrive at one moment.
        hub.run(Duration::from_micros(1), |_, hosts| {
            !hosts[0].shard.wants_transmit(hosts[0].iface)
        });
    }
    hub.pass(Duration::from_millis(1));
    let stats = hub.hosts[1].stats();
    let dropped = stats.drops(DropReason::NoSocket);
    assert!(dropped > 100, "{stats:?}");
    assert_eq!(stats.icmp_errors_sent + stats.icmp_errors_limited, dropped);
    assert!((50..60).contains(&stats.icmp_errors_sent), "{stats:?}");
}

#[test]
fn a_full_queue_refuses_and_counts() {
    let mut hub = Hub::pair();
    let server = hub.hosts[1].shard.udp_bind(NS, addr(v4(2), 7)).unwrap();
    let client = hub.hosts[0].shard.udp_bind(NS, addr(v4(1), 0)).unwrap();
    for _ in 0..600 {
        let now = hub.now;
        hub.hosts[0].shard.udp_send(now, client, Some(addr(v4(2), 7)), b"x").unwrap();
        hub.pass(Duration::from_millis(1));
    }
    assert_eq!(hub.hosts[1].shard.udp_refused(server), Ok(600 - 512));
    assert_eq!(hub.hosts[1].stats().drops(DropReason::SocketFull), 600 - 512);
}

#[test]
fn loopback_carries_datagrams_larger_than_any_wire() {
    let mut hub = Hub::pair();
    for (ip, len) in
        [("127.0.0.1", 60_000), ("127.3.2.1", 10), ("::1", 60_000), ("10.0.0.1", 60_000)]
    {
        let ip = ip.parse().unwrap();
        let server = hub.hosts[0].shard.udp_bind(NS, addr(ip, 77)).unwrap();
        let client = hub.hosts[0].shard.udp_bind(NS, addr(ip, 0)).unwrap();
        let now = hub.now;
        let data: Vec<u8> = (0..len).map(crate::wire::pattern).collect();
        hub.hosts[0].shard.udp_send(now, client, Some(addr(ip, 77)), &data).unwrap();
        assert!(
            hub.run(Duration::from_millis(1), |_, hosts| hosts[0].saw(server, Readiness::READABLE))
        );
        let mut buffer = vec![0; 65_536];
        let got = hub.hosts[0].shard.udp_recv(server, &mut buffer).unwrap();
        assert_eq!(&buffer[..got.len], &data[..], "{ip}");
        hub.hosts[0].shard.close(now, server).unwrap();
        hub.hosts[0].shard.close(now, client).unwrap();
    }
    assert_eq!(hub.carried, 0, "nothing of it reached the wire");
    assert_eq!(hub.hosts[0].shard.sockets(), 0);
}

#[test]
fn a_payload_sent_by_reference_comes_back_when_the_device_is_done() {
    let mut hub = Hub::pair();
    let server = hub.hosts[1].shard.udp_bind(NS, addr(v4(2), 7)).unwrap();
    let client = hub.hosts[0].shard.udp_bind(NS, addr(v4(1), 0)).unwrap();
    let mut filler = hub.hosts[0].payload.filler().unwrap();
    filler.write(b"by reference");
    let now = hub.now;
    let payload = filler.payload(0..12);
    hub.hosts[0].shard.udp_send_payload(now, client, Some(addr(v4(2), 7)), payload).unwrap();
    hub.pass(Duration::from_millis(10));
    let mut buffer = [0; 64];
    let got = hub.hosts[1].shard.udp_recv(server, &mut buffer).unwrap();
    assert_eq!(&buffer[..got.len], b"by reference");
    // What a queue reports when the frame is its own no more.
    hub.hosts[0].shard.completed(&mut vec![client.to_bits()]);
    let event = hub.hosts[0].shard.next_event().unwrap();
    assert_eq!((event.socket, event.ready), (client, Readiness::SENT));
}

#[test]
fn a_handle_of_a_closed_socket_names_nothing() {
    let mut hub = Hub::pair();
    let now = hub.now;
    let shard = &mut hub.hosts[0].shard;
    let old = shard.udp_bind(NS, addr(v4(1), 5000)).unwrap();
    assert!(shard.udp_bind(NS, addr(v4(1), 5000)).is_err(), "in use");
    shard.close(now, old).unwrap();
    let new = shard.udp_bind(NS, addr(v4(1), 5000)).unwrap();
    assert_ne!(old, new);
    assert_eq!(shard.udp_recv(old, &mut [0; 8]), Err(IoError::BadHandle));
    assert_eq!(shard.close(now, old), Err(IoError::BadHandle));
    assert_eq!(shard.udp_recv(new, &mut [0; 8]), Err(IoError::WouldBlock));
}
