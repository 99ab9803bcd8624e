//! One exercise on reference and RTL gives the same record; with a bug planted in the RTL it does not.
#![cfg(feature = "mutants")]

use tandem_contract::nic::NicParams;
use tandem_cosim::{LineRate, MemoryConfig};
use tandem_cosim_bench::{Rig, Simulated};
use tandem_device::{Batch, Csum};
use tandem_reference::ReferenceNic;
use tandem_rtl_bindings::{Rtl, RtlOptions};

/// Bugs in `rtl-bindings/mutants.list`.
const BUGS: u8 = 4;

/// What is seen from outside: frames on the wire, frames in the driver with what is known of their
/// checksum, and interrupts.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Sent(Vec<u8>),
    Received(Vec<u8>, Csum),
    Interrupts(u32),
}

/// A UDP datagram over IPv4 to the NIC, with a correct checksum unless `spoil`.
fn datagram(to: [u8; 6], payload: &[u8], spoil: bool) -> Vec<u8> {
    let udp_len = (8 + payload.len()) as u16;
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    ip[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
    let sum = !ones_sum(0, &ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = vec![0x10, 0, 0x20, 0, 0, 0, 0, 0];
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp.extend(payload);
    let pseudo = ones_sum(ones_sum(17, &ip[12..20]), &udp_len.to_be_bytes());
    let sum = !ones_sum(pseudo, &udp);
    udp[6..8].copy_from_slice(&(if spoil { sum ^ 0x0101 } else { sum }).to_be_bytes());
    frame.extend(ip);
    frame.extend(udp);
    frame
}

/// One's complement sum (RFC 1071).
fn ones_sum(start: u16, bytes: &[u8]) -> u16 {
    let mut sum = u32::from(start);
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

fn exercise<N: Simulated + 'static>(nic: N) -> Vec<Seen> {
    let mac = nic.params().mac;
    let mut rig = Rig::new(nic, MemoryConfig::default(), LineRate::new(1, 2)).unwrap();
    let mut seen = Vec::new();
    let mut frame = Vec::new();

    // Sums that begin at even and odd bytes, over lengths around beats.
    for (len, start, offset) in
        [(60, 34, 6), (61, 34, 16), (64, 35, 6), (127, 41, 16), (129, 15, 0), (1_514, 54, 16)]
    {
        let bytes: Vec<u8> = (0..len).map(|i: u32| (i * 7 + 3) as u8).collect();
        let mut out = rig.pool().alloc().unwrap();
        out.append(&bytes).unwrap();
        out.meta_mut().csum = Csum::Partial { start, offset };
        let mut batch = Batch::from([out]);
        rig.queue().transmit(&mut batch).unwrap();
        rig.nic().run(20_000).unwrap();
        rig.queue().completed(&mut Vec::new()).unwrap();
        while rig.peer().receive(&mut frame).is_some() {
            seen.push(Seen::Sent(frame.clone()));
        }
    }

    // Datagrams good and bad, each with the driver asleep before it.
    for (len, spoil) in [(1, false), (18, true), (64, false), (700, true), (1_472, false)] {
        let payload: Vec<u8> = (0..len).map(|i: u32| (i * 5 + 1) as u8).collect();
        rig.queue().arm().unwrap();
        rig.nic().lock().memory_mut().clear_messages();
        rig.peer().send(&datagram(mac, &payload, spoil));
        rig.nic().run(20_000).unwrap();
        seen.push(Seen::Interrupts(rig.nic().lock().memory().pending_messages().count_ones()));
        let mut batch = Batch::new();
        rig.queue().receive(8, &mut batch).unwrap();
        for got in batch {
            seen.push(Seen::Received(got.to_vec(), got.meta().csum));
        }
    }
    seen
}

fn rtl(bug: u8) -> Vec<Seen> {
    exercise(Rtl::new(RtlOptions { bug: Some(bug), ..RtlOptions::new(64) }).unwrap())
}

#[test]
fn planted_bugs_are_found_by_comparison_with_the_reference() {
    let params = NicParams { model: "reference", ..NicParams::default() };
    let expected = exercise(ReferenceNic::new(params));
    assert_eq!(expected.iter().filter(|s| matches!(s, Seen::Sent(_))).count(), 6);
    let valid = |s: &&Seen| matches!(s, Seen::Received(_, Csum::Valid));
    assert_eq!(expected.iter().filter(valid).count(), 3);
    assert!(expected.contains(&Seen::Interrupts(1)));

    assert_eq!(rtl(0), expected, "no bug switched on");
    for bug in 1..=BUGS {
        // A driver that refuses what the device says is a find too.
        let found = std::panic::catch_unwind(|| rtl(bug)).map_or(true, |seen| seen != expected);
        assert!(found, "planted bug {bug} was not found");
    }
}
