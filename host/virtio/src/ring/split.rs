//! The split virtqueue (virtio 1.3, 2.7).

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use tandem_device::Region;

use super::ledger::Ledger;
use super::{Added, Areas, RingFault, RingOptions, Segment, Used};

/// Bytes of a descriptor: address 8, length 4, flags 2, next 2 (2.7.5).
const DESC_LEN: usize = 16;

const NEXT: u16 = 1;
const WRITE: u16 = 1 << 1;

/// `flags` of the available ring (2.7.6).
const NO_INTERRUPT: u16 = 1;
/// `flags` of the used ring (2.7.8).
const NO_NOTIFY: u16 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct SplitRing {
    region: Arc<Region>,
    areas: Areas,
    size: u16,
    /// Links of free descriptors and of chains: our own copy, since the device could change the one in
    /// the table. Free descriptors are a queue, so that with IN_ORDER they are taken in ring order
    /// ("the driver uses descriptors in ring order", 2.7.5.1).
    links: Box<[u16]>,
    /// Last descriptor of each outstanding chain, by its head.
    tails: Box<[u16]>,
    free_head: u16,
    free_tail: u16,
    free: u16,
    next_avail: u16,
    /// `next_avail` as the device was last shown it.
    published: u16,
    next_used: u16,
    ledger: Ledger,
    event_idx: bool,
}

impl SplitRing {
    pub(super) fn new(size: u16, options: RingOptions) -> std::io::Result<Self> {
        assert!(
            size.is_power_of_two() && size <= 32768,
            "a split ring has a power of two of descriptors, at most 32768"
        );
        let n = usize::from(size);
        let driver = (n * DESC_LEN).next_multiple_of(64);
        let device = (driver + 6 + 2 * n).next_multiple_of(64);
        let areas = Areas { desc: 0, driver, device, len: device + 6 + 8 * n };
        let mut ring = Self {
            region: Region::new("tandem-ring", areas.len)?,
            areas,
            size,
            links: (1..=size).map(|next| next % size).collect(),
            tails: vec![0; n].into(),
            free_head: 0,
            free_tail: size - 1,
            free: size,
            next_avail: 0,
            published: 0,
            next_used: 0,
            ledger: Ledger::new(size, options.in_order),
            event_idx: options.event_idx,
        };
        ring.disable_interrupt();
        Ok(ring)
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(super) fn areas(&self) -> Areas {
        self.areas
    }

    pub(super) fn size(&self) -> u16 {
        self.size
    }

    pub(super) fn free(&self) -> u16 {
        self.free
    }

    pub(super) fn outstanding(&self) -> u16 {
        self.ledger.outstanding()
    }

    pub(super) fn next_id(&self) -> u16 {
        self.free_head
    }

    fn used_event_at(&self) -> usize {
        self.areas.driver + 4 + 2 * usize::from(self.size)
    }

    fn avail_event_at(&self) -> usize {
        self.areas.device + 4 + 8 * usize::from(self.size)
    }

    fn load_u16(&self, at: usize, ordering: Ordering) -> u16 {
        u16::from_le(self.region.atomic_u16(at).load(ordering))
    }

    fn store_u16(&self, at: usize, value: u16, ordering: Ordering) {
        self.region.atomic_u16(at).store(value.to_le(), ordering);
    }

    pub(super) fn add(&mut self, segments: &[Segment]) -> Added {
        let head = self.free_head;
        let mut writable = 0u32;
        let mut at = head;
        for (i, segment) in segments.iter().enumerate() {
            let more = i + 1 < segments.len();
            let next = self.links[usize::from(at)];
            let mut flags = if more { NEXT } else { 0 };
            if segment.write {
                flags |= WRITE;
                writable = writable.saturating_add(segment.len);
            }
            let mut bytes = [0; DESC_LEN];
            bytes[..8].copy_from_slice(&segment.addr.to_le_bytes());
            bytes[8..12].copy_from_slice(&segment.len.to_le_bytes());
            bytes[12..14].copy_from_slice(&flags.to_le_bytes());
            bytes[14..].copy_from_slice(&(if more { next } else { 0 }).to_le_bytes());
            self.region.write(self.areas.desc + usize::from(at) * DESC_LEN, &bytes);
            if !more {
                self.tails[usize::from(head)] = at;
                self.free_head = next;
                break;
            }
            at = next;
        }
        let count = segments.len() as u16;
        self.ledger.insert(head, count, writable);
        self.free -= count;
        let entry = self.areas.driver + 4 + 2 * usize::from(self.next_avail % self.size);
        self.store_u16(entry, head, Ordering::Relaxed);
        let wrap = (self.next_avail / self.size) & 1 == 0;
        self.next_avail = self.next_avail.wrapping_add(1);
        Added { id: head, slot: head, wrap }
    }

    pub(super) fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.next_avail);
        if old == new {
            return false;
        }
        self.published = new;
        // "The driver MUST perform a suitable memory barrier before the idx update" (2.7.13.3.1).
        self.store_u16(self.areas.driver + 2, new, Ordering::Release);
        // The index must be out before the device's wish is read (2.7.13.4.1).
        fence(Ordering::SeqCst);
        if self.event_idx {
            // "the driver MUST send a notification when avail_event is passed" (2.7.10.1)
            let event = self.load_u16(self.avail_event_at(), Ordering::Acquire);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.load_u16(self.areas.device, Ordering::Acquire) & NO_NOTIFY == 0
        }
    }

    pub(super) fn notification_data(&self) -> u16 {
        self.next_avail
    }

    fn used_idx(&self) -> u16 {
        self.load_u16(self.areas.device + 2, Ordering::Acquire)
    }

    pub(super) fn pop(&mut self) -> Result<Option<Used>, RingFault> {
        let idx = self.used_idx();
        let ready = idx.wrapping_sub(self.next_used);
        let outstanding = self.ledger.outstanding();
        if ready > outstanding {
            return Err(RingFault::Jump { from: self.next_used, to: idx, outstanding });
        }
        if ready == 0 {
            return match self.ledger.batch_end() {
                Some(id) => Err(RingFault::CutBatch { id }),
                None => Ok(None),
            };
        }
        let (used, count) = match self.ledger.next_of_batch() {
            Some(next) => next,
            None => {
                let at = self.areas.device + 4 + 8 * usize::from(self.next_used % self.size);
                let id = u32::from_le(self.region.atomic_u32(at).load(Ordering::Relaxed));
                let len = u32::from_le(self.region.atomic_u32(at + 4).load(Ordering::Relaxed));
                self.ledger.complete(id, len)?
            }
        };
        self.next_used = self.next_used.wrapping_add(1);
        let tail = self.tails[usize::from(used.id)];
        if self.free == 0 {
            self.free_head = used.id;
        } else {
            self.links[usize::from(self.free_tail)] = used.id;
        }
        self.free_tail = tail;
        self.free += count;
        Ok(Some(used))
    }

    pub(super) fn enable_interrupt(&mut self) -> bool {
        if self.event_idx {
            self.store_u16(self.used_event_at(), self.next_used, Ordering::Release);
        } else {
            self.store_u16(self.areas.driver, 0, Ordering::Release);
        }
        // The wish must be out before the ring is looked at again, or an interrupt could be lost.
        fence(Ordering::SeqCst);
        self.used_idx() == self.next_used
    }

    pub(super) fn disable_interrupt(&mut self) {
        if self.event_idx {
            // "the driver MUST set flags to 0" with EVENT_IDX (2.7.7.1). An index just passed does not
            // come again for 65535 chains; one needless interrupt then costs nothing.
            let passed = self.next_used.wrapping_sub(1);
            self.store_u16(self.used_event_at(), passed, Ordering::Release);
        } else {
            self.store_u16(self.areas.driver, NO_INTERRUPT, Ordering::Release);
        }
    }
}
