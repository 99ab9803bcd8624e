//! Captures: what is written can be read, named and replayed.

use std::fs::File;
use std::path::PathBuf;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use tandem_contract::nic::WirePort;
use tandem_contract::trace::{Drop as DropReason, Event, Kind, Verdict};
use tandem_cosim::LineRate;
use tandem_cosim::wire::{Capture, FramePort, Loopback, Replay, ReplayError, Wire, channel};

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tandem-cosim-{}-{name}", std::process::id()))
}

fn event(cycle: u64, kind: Kind, code: u8, slot: u16, arg: u32) -> Event {
    Event { cycle, kind, function: 0, queue: 1, code, slot, wrap: true, len: 60, arg }
}

/// (cycle, flags, comment, bytes)
fn read_back(path: &PathBuf) -> Vec<(u64, u32, String, Vec<u8>)> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut all = Vec::new();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block.unwrap() else { continue };
        let (mut flags, mut comment) = (0, String::new());
        for option in &packet.options {
            match option {
                EnhancedPacketOption::Flags(value) => flags = *value,
                EnhancedPacketOption::Comment(text) => comment = text.to_string(),
                _ => {}
            }
        }
        let cycle = packet.timestamp.as_nanos() as u64 / 4;
        all.push((cycle, flags, comment, packet.data.to_vec()));
    }
    all
}

#[test]
fn frames_are_named_by_the_decision_trace_and_kept_in_order() {
    let path = temporary("named.pcapng");
    let (port, peer) = channel(8);
    let mut wire = Wire::new(Box::new(port), LineRate::UNLIMITED);
    wire.set_capture(Some(Capture::create(&path, "test mac0").unwrap()));
    let mut frame = Vec::new();
    for byte in 1..=3 {
        assert!(peer.send(&[byte; 61]));
    }
    wire.arriving(10, &mut frame).unwrap();
    wire.departed(20, &[9; 62]);
    wire.damage_next(1);
    assert!(wire.arriving(30, &mut frame).unwrap().error);
    // The departure is named first, but must not overtake the arrival before it.
    wire.learn(&[event(21, Kind::TxFrame, 1, 7, 0)]);
    wire.learn(&[
        event(22, Kind::RxAccept, Verdict::Valid as u8, 0, 0),
        event(40, Kind::RxPlace, 1, 5, 0),
        event(41, Kind::RxDrop, DropReason::MacError as u8, 0, 1),
    ]);
    wire.arriving(50, &mut frame).unwrap();
    let stats = wire.set_capture(None).unwrap().finish().unwrap();
    assert_eq!((stats.written, stats.unnamed), (4, 1));

    let packets = read_back(&path);
    std::fs::remove_file(&path).unwrap();
    let wanted = [
        (
            10,
            1,
            "rx 0 cycle 10: function 0 queue 1 wrap 1 descriptor 5, placed in cycle 40, checksum valid",
        ),
        (20, 2, "tx 0 cycle 20: function 0 queue 1 wrap 1 descriptor 7, checksum by hardware"),
        (30, 1 | 1 << 24, "rx 1 cycle 30: dropped: MAC error"),
        (50, 1, "rx 2 cycle 50: not named by the NIC"),
    ];
    for ((cycle, flags, comment, _), wanted) in packets.iter().zip(wanted) {
        assert_eq!((*cycle, *flags, comment.as_str()), wanted);
    }
    let bytes: Vec<&[u8]> = packets.iter().map(|p| &*p.3).collect();
    assert_eq!(bytes, [&[1; 61][..], &[9; 62], &[2; 61], &[3; 61]]);
}

#[test]
fn a_capture_replays_at_its_times() {
    let path = temporary("replay.pcapng");
    let mut wire = Wire::none();
    wire.set_capture(Some(Capture::create(&path, "test").unwrap()));
    for (cycle, len) in [(1_000, 60), (1_500, 61), (9_000, 62)] {
        wire.departed(cycle, &vec![0xA5; len]);
    }
    wire.set_capture(None).unwrap().finish().unwrap();

    let mut replay = Replay::open(&path, 50).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut frame = Vec::new();
    assert_eq!(replay.next_at(), Some(50), "the first frame starts the clock");
    assert!(replay.receive(49, &mut frame).is_none());
    assert!(replay.receive(50, &mut frame).is_some());
    assert_eq!(frame.len(), 60);
    assert_eq!(replay.next_at(), Some(550));
    assert!(replay.receive(550, &mut frame).is_some());
    assert_eq!(replay.next_at(), Some(8_050));
    assert_eq!(replay.remaining(), 1);
}

#[test]
fn classic_pcap_replays_too_and_nonsense_does_not() {
    let path = temporary("classic.pcap");
    // Little-endian, microseconds, Ethernet; two packets 3 µs apart.
    let mut bytes = vec![0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(65_535u32.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    for us in [5u32, 8] {
        for word in [1, us, 4, 4] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([us as u8; 4]);
    }
    std::fs::write(&path, &bytes).unwrap();
    let replay = Replay::open(&path, 0).unwrap();
    assert_eq!(replay.remaining(), 2);
    let mut replay = replay;
    let mut frame = Vec::new();
    replay.receive(0, &mut frame).unwrap();
    assert_eq!(replay.next_at(), Some(750));

    std::fs::write(&path, b"not a capture at all").unwrap();
    assert!(matches!(Replay::open(&path, 0), Err(ReplayError::Format { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Replay::open(&path, 0), Err(ReplayError::Io { .. })));
}

#[test]
fn a_loop_returns_what_left() {
    let mut wire = Wire::new(Box::new(Loopback::new(100)), LineRate::UNLIMITED);
    wire.departed(7, &[1, 2, 3]);
    assert_eq!(wire.next_arrival_at(), Some(107));
    let mut frame = Vec::new();
    assert!(wire.arriving(106, &mut frame).is_none());
    assert!(!wire.arriving(107, &mut frame).unwrap().error);
    assert_eq!(frame, [1, 2, 3]);
}
