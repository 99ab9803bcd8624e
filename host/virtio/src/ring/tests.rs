use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::testing::{Memory, PackedDevice, Piece, RingDevice, SplitDevice};

fn pair(packed: bool, size: u16, options: RingOptions) -> (Ring, RingDevice, Memory) {
    let ring = Ring::new(packed, size, options).unwrap();
    let mut memory = Memory::default();
    let base = memory.map(ring.region());
    let areas = ring.areas();
    let places = [areas.desc, areas.driver, areas.device].map(|at| base + at as u64);
    let mut device = if packed {
        RingDevice::Packed(PackedDevice::new(places, size, options.event_idx))
    } else {
        RingDevice::Split(SplitDevice::new(places, size, options.event_idx))
    };
    device.set_doorbell(&memory, true);
    (ring, device, memory)
}

#[derive(Debug, Clone)]
enum Step {
    /// Make a chain of so many descriptors available.
    Add { descriptors: u16, writable: u16 },
    /// Show what was added.
    Publish,
    /// The device takes all, and uses up to so many, the nth outstanding first; in a batch if it may.
    Use { count: u8, nth: u8, batch: bool },
    /// Take back up to so many.
    Pop { count: u8 },
    /// Driver asks for an interrupt, or for none.
    Interrupt(bool),
    /// Device asks for a doorbell, or for none.
    Doorbell(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u16..8, 0u16..8).prop_map(|(descriptors, writable)| Step::Add { descriptors, writable }),
        3 => Just(Step::Publish),
        3 => (0u8..6, any::<u8>(), any::<bool>())
            .prop_map(|(count, nth, batch)| Step::Use { count, nth, batch }),
        3 => (1u8..8).prop_map(|count| Step::Pop { count }),
        1 => any::<bool>().prop_map(Step::Interrupt),
        1 => any::<bool>().prop_map(Step::Doorbell),
    ]
}

/// Runs the steps against the device, checking everything that either side may rely on.
fn follow(packed: bool, size: u16, options: RingOptions, steps: Vec<Step>) {
    let (mut ring, mut device, memory) = pair(packed, size, options);
    let mut added: HashMap<u16, Vec<Segment>> = HashMap::new();
    let mut fresh = false;
    // Descriptors added since the device last asked for a doorbell.
    let mut stale = 0;
    let mut at_device = Vec::new();
    let mut expected: VecDeque<Used> = VecDeque::new();
    let (mut armed, mut doorbell, mut serial) = (false, true, 0u64);
    for step in steps {
        // The device looks at nothing that it was not shown.
        if !matches!(step, Step::Add { .. } | Step::Pop { .. } | Step::Interrupt(_)) {
            let kick = ring.publish();
            let any = std::mem::take(&mut fresh);
            // Asked for at its next chain, and there are new ones: it must hear of them. With
            // EVENT_IDX only once until it asks again, and never with nothing new.
            assert!(!(any && doorbell) || kick, "the device was not told");
            assert!(any || !kick);
            if any {
                // A place that was passed long ago comes round again after two passes.
                assert!(kick == doorbell || stale > size, "told against its wish");
                doorbell &= !options.event_idx;
            }
        }
        match step {
            Step::Add { descriptors, writable } => {
                if descriptors > ring.free() {
                    continue;
                }
                let segments: Vec<_> = (0..descriptors)
                    .map(|i| {
                        serial += 1;
                        Segment {
                            addr: serial << 20,
                            len: i as u32 + 1,
                            write: i >= descriptors - writable.min(descriptors),
                        }
                    })
                    .collect();
                stale += descriptors;
                let id = ring.next_id();
                let result = ring.add(&segments);
                assert_eq!(result.id, id);
                assert!(added.insert(id, segments).is_none(), "id given twice");
                fresh = true;
            }
            Step::Publish => {}
            Step::Doorbell(wanted) => {
                // A device looks at the ring again after asking; so does this one.
                device.set_doorbell(&memory, wanted);
                (doorbell, stale) = (wanted, 0);
                while let Some(chain) = device.next(&memory) {
                    at_device.push(chain);
                    device.set_doorbell(&memory, wanted);
                }
            }
            Step::Use { count, nth, batch } => {
                while let Some(chain) = device.next(&memory) {
                    at_device.push(chain);
                }
                let batch = batch && options.in_order && count > 1;
                let mut used = Vec::new();
                for _ in 0..count {
                    if at_device.is_empty() {
                        break;
                    }
                    let nth = if options.in_order { 0 } else { usize::from(nth) % at_device.len() };
                    let chain = at_device.remove(nth);
                    let room = chain.room() as u32;
                    let pieces: Vec<_> = added
                        .remove(&chain.id)
                        .expect("made available")
                        .iter()
                        .map(|s| Piece { addr: s.addr, len: s.len, write: s.write })
                        .collect();
                    assert_eq!(chain.pieces, pieces, "the device sees what was added");
                    used.push((chain, room - room / 3));
                }
                let last = used.len().saturating_sub(1);
                for (i, (chain, len)) in used.iter().enumerate() {
                    // All but the last of a batch count as written to the end.
                    let len = if batch && i < last { chain.room() as u32 } else { *len };
                    expected.push_back(Used { id: chain.id, len });
                }
                if used.is_empty() {
                    continue;
                }
                device.push(&memory, &used, batch);
                let interrupt = device.wants_interrupt(&memory);
                if armed {
                    assert!(interrupt, "armed with nothing used before, so this must interrupt");
                    armed = !options.event_idx;
                }
            }
            Step::Pop { count } => {
                for _ in 0..count {
                    let popped = ring.pop().expect("an honest device");
                    assert_eq!(popped, expected.pop_front());
                }
            }
            Step::Interrupt(wanted) => {
                if wanted {
                    let quiet = ring.enable_interrupt();
                    assert_eq!(quiet, expected.is_empty());
                    armed = quiet;
                    if !quiet {
                        ring.disable_interrupt();
                    }
                } else {
                    ring.disable_interrupt();
                    armed = false;
                }
            }
        }
        let out: usize = added.values().map(Vec::len).sum();
        assert!(usize::from(ring.free()) + out <= usize::from(size));
        assert_eq!(usize::from(ring.outstanding()), added.len() + expected.len());
    }
    while let Some(used) = expected.pop_front() {
        assert_eq!(ring.pop().unwrap(), Some(used));
    }
    assert_eq!(ring.pop().unwrap(), None);
}

fn options() -> impl Strategy<Value = RingOptions> {
    (any::<bool>(), any::<bool>())
        .prop_map(|(event_idx, in_order)| RingOptions { event_idx, in_order })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn packed_rings_of_every_size_work(
        size in 1u16..40, options in options(), steps in proptest::collection::vec(step(), 0..200),
    ) {
        follow(true, size, options, steps);
    }

    #[test]
    fn split_rings_of_every_size_work(
        log in 0u32..7, options in options(), steps in proptest::collection::vec(step(), 0..200),
    ) {
        follow(false, 1 << log, options, steps);
    }

    /// The device writes anything anywhere at any time.
    #[test]
    fn a_hostile_device_gets_errors_and_nothing_else(
        packed in any::<bool>(),
        log in 0u32..6,
        options in options(),
        noise in proptest::collection::vec((any::<u16>(), any::<u16>(), 0u8..4), 1..200),
        near in any::<bool>(),
    ) {
        let size = 1 << log;
        let (mut ring, _, memory) = pair(packed, size, options);
        let areas = ring.areas();
        let base = memory.clone().map(ring.region());
        let mut out = vec![false; usize::from(size)];
        let mut faults = 0;
        for (at, value, what) in noise {
            if ring.free() > 0 {
                let added = ring.add(&[Segment { addr: 4096, len: 100, write: true }]);
                prop_assert!(!std::mem::replace(&mut out[usize::from(added.id)], true));
            }
            // Small numbers come closer to being believed.
            let value = if near { value % (size * 2 + 1) } else { value };
            let at = match what {
                0 => usize::from(at) % (areas.len / 2) * 2,
                1 if packed => usize::from(at) % usize::from(size) * 16 + 14,
                1 => areas.device + 2,
                _ => areas.device + usize::from(at) % ((areas.len - areas.device) / 2) * 2,
            };
            memory.write_u16(base + at as u64, value);
            ring.publish();
            ring.enable_interrupt();
            for _ in 0..=size {
                match ring.pop() {
                    Ok(None) => break,
                    Ok(Some(used)) => {
                        prop_assert!(std::mem::replace(&mut out[usize::from(used.id)], false));
                        prop_assert!(used.len <= 100);
                    }
                    Err(_) => {
                        faults += 1;
                        break;
                    }
                }
            }
        }
        let held = out.iter().filter(|out| **out).count();
        prop_assert_eq!(usize::from(ring.outstanding()), held, "{} faults", faults);
    }
}

/// Each event position before, at and after the fresh descriptors, at each place of the ring.
#[test]
fn the_doorbell_is_rung_exactly_when_the_event_is_passed() {
    for size in [1u16, 2, 3, 5, 8, 13] {
        for chains in 1..=size {
            let options = RingOptions { event_idx: true, in_order: false };
            let (mut ring, device, memory) = pair(true, size, options);
            let RingDevice::Packed(mut device) = device else { unreachable!() };
            for _ in 0..3 * size {
                let before = device.taken();
                for _ in 0..chains {
                    ring.add(&[Segment { addr: 4096, len: 1, write: false }]);
                }
                // An honest event is neither older than one pass nor newer than the ring's end.
                let event = before + u64::from(chains) / 2;
                device.set_event(&memory, device.packed(event), 2);
                let kick = ring.publish();
                assert_eq!(kick, event < before + u64::from(chains));
                while let Some(chain) = device.next(&memory) {
                    device.push(&memory, &[(chain, 0)], false);
                }
                // Long past: silence.
                device.set_event(&memory, device.packed(before), 2);
                assert!(!ring.publish());
                while ring.pop().unwrap().is_some() {}
            }
        }
    }
}

/// Faults are told apart.
#[test]
fn faults_name_what_the_device_did() {
    let options = RingOptions::default();
    let (mut ring, mut device, memory) = pair(true, 4, options);
    ring.add(&[Segment { addr: 0, len: 64, write: true }]);
    let chain = device.next(&memory).unwrap();
    device.push(&memory, &[(chain.clone(), 65)], false);
    assert_eq!(ring.pop(), Err(RingFault::Length { id: chain.id, len: 65, max: 64 }));

    let (mut ring, mut device, memory) = pair(true, 4, options);
    ring.add(&[Segment { addr: 0, len: 64, write: true }]);
    let mut chain = device.next(&memory).unwrap();
    chain.id += 1;
    device.push(&memory, &[(chain.clone(), 1)], false);
    assert_eq!(ring.pop(), Err(RingFault::UnknownId { id: chain.id.into() }));

    let (mut ring, mut device, memory) = pair(false, 4, options);
    ring.add(&[Segment { addr: 0, len: 64, write: true }]);
    ring.publish();
    let chain = device.next(&memory).unwrap();
    device.push(&memory, &[(chain.clone(), 1), (chain, 1)], false);
    assert_eq!(ring.pop(), Err(RingFault::Jump { from: 0, to: 2, outstanding: 1 }));
}

mod oracle;
