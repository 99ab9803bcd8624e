//! Any segments, in any state, in any order: no panic, no broken invariant, no end without an end.

use core::time::Duration;

use proptest::prelude::*;
use tandem_packet::{SeqNumber, TcpFlags, TcpOptions, TcpRepr, TcpTimestamps};

use super::*;

#[derive(Debug, Clone)]
enum Op {
    /// Numbers relative to what the connection would accept, so that a good part of it is accepted.
    Segment {
        flags: u16,
        seq: i32,
        ack: i32,
        len: usize,
        window: u16,
        stamps: Option<(i32, i32)>,
        mss: Option<u16>,
        wire: u16,
    },
    Write(usize),
    Read(usize),
    Pass(u32),
    Output(u32, u16, u16),
    Shutdown,
    Close,
    Abort,
    Mtu(u32),
    Deadline,
    Buffers(u32, u32),
}

fn near() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => Just(0),
        4 => -3i32..4,
        3 => -3000i32..3000,
        1 => any::<i32>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![
        8 => Just(TcpFlags::ACK.bits()),
        2 => Just((TcpFlags::ACK | TcpFlags::SYN).bits()),
        2 => Just((TcpFlags::ACK | TcpFlags::FIN).bits()),
        2 => 0u16..512,
    ];
    let len = prop_oneof![4 => Just(0usize), 4 => 1usize..1500, 1 => 1500usize..20_000];
    let window = prop_oneof![2 => Just(0u16), 2 => 1u16..2000, 2 => any::<u16>()];
    let segment = (
        flags,
        near(),
        near(),
        len,
        window,
        prop::option::of((near(), near())),
        prop::option::of(any::<u16>()),
        1u16..50,
    );
    prop_oneof![
        12 => segment.prop_map(|(flags, seq, ack, len, window, stamps, mss, wire)| Op::Segment {
            flags, seq, ack, len, window, stamps, mss, wire,
        }),
        4 => (1usize..5000).prop_map(Op::Write),
        4 => (1usize..5000).prop_map(Op::Read),
        4 => prop_oneof![0u32..500, any::<u32>()].prop_map(Op::Pass),
        6 => (0u32..70_000, 0u16..100, 0u16..30).prop_map(|(b, s, p)| Op::Output(b, s, p)),
        1 => Just(Op::Shutdown),
        1 => Just(Op::Close),
        1 => Just(Op::Abort),
        1 => any::<u32>().prop_map(Op::Mtu),
        4 => Just(Op::Deadline),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(s, r)| Op::Buffers(s, r)),
    ]
}

fn apply(connection: &mut Connection, pool: &Pool, now: &mut Instant, op: &Op) {
    match *op {
        Op::Segment { flags, seq, ack, len, window, stamps, mss, wire } => {
            let recent = connection.agreed.ts_recent().map_or(0, |(recent, _)| recent);
            let repr = TcpRepr {
                seq: connection.rcv.nxt + seq as u32,
                ack: connection.snd.max + ack as u32,
                flags: TcpFlags::from_bits_truncate(flags),
                window,
                options: TcpOptions {
                    mss,
                    window_scale: mss.map(|mss| mss as u8),
                    timestamps: stamps.map(|(value, echo)| TcpTimestamps {
                        value: recent.wrapping_add(value as u32),
                        echo: (now.as_millis() as u32).wrapping_add(echo as u32),
                    }),
                    ..TcpOptions::default()
                },
                ..TcpRepr::default()
            };
            let payload = (len > 0).then(|| frame(pool, &vec![7; len]));
            let segment = Segment { wire_segments: wire, ..Segment::new(&repr, len as u32) };
            connection.input(*now, &segment, payload);
        }
        Op::Write(len) => _ = connection.write(pool, &vec![1; len]),
        Op::Read(len) => _ = connection.read(&mut vec![0; len]),
        Op::Pass(ms) => *now += Duration::from_millis(u64::from(ms)),
        Op::Output(gso_bytes_max, gso_segments_max, pieces_max) => {
            let limits = OutputLimits { gso_bytes_max, gso_segments_max, pieces_max };
            for count in 0.. {
                assert!(count < 3000, "output without end");
                let Some(outgoing) = connection.output(*now, &limits) else { break };
                payload_bytes(&outgoing);
                let fin = outgoing.repr.flags.contains(TcpFlags::FIN);
                assert!(!fin || connection.write_shut, "a FIN that nobody asked for");
                connection.check();
            }
            assert!(!connection.wants_output());
        }
        Op::Shutdown => _ = connection.shutdown_write(*now),
        Op::Close => _ = connection.close(*now),
        Op::Abort => _ = connection.abort(*now),
        Op::Mtu(mtu) => connection.path_changed(*now, mtu),
        Op::Deadline => {
            if let Some(at) = connection.next_deadline() {
                *now = (*now).max(at);
            }
            connection.on_deadline(*now);
            assert!(connection.next_deadline().is_none_or(|at| at > *now), "due again at once");
        }
        Op::Buffers(send, receive) => {
            connection.set_send_buffer(send);
            connection.set_receive_buffer(receive);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn never_panics(
        iss in any::<u32>(),
        irs in any::<u32>(),
        passive in any::<bool>(),
        handshake in prop::bool::weighted(0.9),
        buffer in 256u32..100_000,
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let pool = pool(1024);
        let mut now = Instant::from_millis(1);
        let config = Config {
            receive_buffer_bytes_max: buffer,
            send_buffer_bytes_max: buffer,
            ..Config::default()
        };
        let path = Path { family: Family::V4, mtu: 1500 };
        let initial = Initial::new(SeqNumber(iss), 5);
        let mut syn = TcpRepr { seq: SeqNumber(irs), flags: TcpFlags::SYN, window: 9000, ..TcpRepr::default() };
        syn.options.mss = Some(1000);
        let mut connection = if passive {
            Connection::accept(now, &config, path, initial, &SynInfo::new(&syn))
        } else {
            Connection::connect(now, &config, path, initial)
        };
        if handshake {
            connection.output(now, &OutputLimits::FULL);
            syn.flags = TcpFlags::SYN | TcpFlags::ACK;
            if passive {
                syn.flags = TcpFlags::ACK;
                syn.seq += 1;
            }
            syn.ack = SeqNumber(iss) + 1;
            connection.input(now, &Segment::new(&syn, 0), None);
            prop_assert_eq!(connection.state(), State::Established);
        }
        for op in &ops {
            apply(&mut connection, &pool, &mut now, op);
            connection.check();
        }
        drop(connection);
        prop_assert_eq!(pool.stats().free, 1024);
    }
}
