//! The split ring against rust-vmm's device side.

use std::fs::File;

use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::super::{Ring, RingOptions, Segment};

const BASE: u64 = 0x10_0000;

fn guest(ring: &Ring) -> GuestMemoryMmap {
    let file = File::from(ring.region().fd().try_clone_to_owned().unwrap());
    let range = (GuestAddress(BASE), ring.region().len(), Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([range]).unwrap()
}

fn device(ring: &Ring, event_idx: bool) -> Queue {
    let mut queue = Queue::new(1024).unwrap();
    let areas = ring.areas();
    let address = |at: usize| GuestAddress(BASE + at as u64);
    queue.set_size(ring.size());
    queue.try_set_desc_table_address(address(areas.desc)).unwrap();
    queue.try_set_avail_ring_address(address(areas.driver)).unwrap();
    queue.try_set_used_ring_address(address(areas.device)).unwrap();
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    queue
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn virtio_queue_sees_our_chains_and_we_its_used_entries(
        log in 1u32..8,
        event_idx in any::<bool>(),
        rounds in proptest::collection::vec(
            (proptest::collection::vec(1usize..5, 0..12), any::<u8>(), any::<bool>()), 1..60),
    ) {
        let options = RingOptions { event_idx, in_order: false };
        let mut ring = Ring::new(false, 1 << log, options).unwrap();
        let memory = guest(&ring);
        let mut device = device(&ring, event_idx);
        prop_assert!(device.is_valid(&memory));
        device.enable_notification(&memory).unwrap();
        let mut serial = 0u64;
        for (chains, pick, arm) in rounds {
            let mut sent = Vec::new();
            for len in chains {
                if len > ring.free().into() {
                    continue;
                }
                let segments: Vec<_> = (0..len).map(|i| {
                    serial += 1;
                    Segment { addr: serial << 32 | 5, len: serial as u32, write: i > 0 }
                }).collect();
                sent.push((ring.add(&segments).id, segments));
            }
            let kick = ring.publish();
            prop_assert_eq!(kick, !sent.is_empty(), "it asked for each");

            device.disable_notification(&memory).unwrap();
            let mut taken = Vec::new();
            loop {
                while let Some(chain) = device.pop_descriptor_chain(&memory) {
                    let id = chain.head_index();
                    let segments: Vec<_> = chain.map(|desc| Segment {
                        addr: desc.addr().0, len: desc.len(), write: desc.is_write_only(),
                    }).collect();
                    taken.push((id, segments));
                }
                if !device.enable_notification(&memory).unwrap() {
                    break;
                }
            }
            prop_assert_eq!(&taken, &sent);

            let quiet = arm && ring.enable_interrupt();
            if !arm {
                ring.disable_interrupt();
            }
            // In some other order.
            let by = usize::from(pick) % taken.len().max(1);
            taken.rotate_left(by);
            for (id, segments) in &taken {
                let room: u32 = segments.iter().filter(|s| s.write).map(|s| s.len).sum();
                device.add_used(&memory, *id, room / 2).unwrap();
            }
            if !taken.is_empty() {
                let interrupt = device.needs_notification(&memory).unwrap();
                // Its first notification ever is unconditional with EVENT_IDX.
                prop_assert!(interrupt || !quiet, "armed, and not told");
            }
            for (id, segments) in &taken {
                let room: u32 = segments.iter().filter(|s| s.write).map(|s| s.len).sum();
                let used = ring.pop().unwrap().unwrap();
                prop_assert_eq!((used.id, used.len), (*id, room / 2));
            }
            prop_assert_eq!(ring.pop().unwrap(), None);
        }
        prop_assert_eq!(ring.free(), ring.size());
    }
}

/// The table in memory is what the standard says, byte for byte, once.
#[test]
fn a_chain_in_memory() {
    let mut ring = Ring::new(false, 4, RingOptions::default()).unwrap();
    let memory = guest(&ring);
    ring.add(&[
        Segment { addr: 0x1122_3344_5566_7788, len: 12, write: false },
        Segment { addr: 0x99, len: 7, write: true },
    ]);
    ring.publish();
    let mut bytes = [0; 32];
    memory.read_slice(&mut bytes, GuestAddress(BASE)).unwrap();
    let head = [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 12, 0, 0, 0, 1, 0, 1, 0];
    assert_eq!(bytes[..16], head);
    assert_eq!(bytes[16..], [0x99, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0]);
    // flags: no interrupt wanted yet; idx 1; ring[0] 0
    let mut avail = [0; 6];
    let at = BASE + ring.areas().driver as u64;
    memory.read_slice(&mut avail, GuestAddress(at)).unwrap();
    assert_eq!(avail, [1, 0, 1, 0, 0, 0]);
}
