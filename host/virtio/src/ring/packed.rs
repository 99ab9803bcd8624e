//! The packed virtqueue (virtio 1.3, 2.8).

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use tandem_device::Region;

use super::ledger::Ledger;
use super::{Added, Areas, RingFault, RingOptions, Segment, Used};

/// Bytes of a descriptor: address 8, length 4, id 2, flags 2 (2.8.13).
const DESC_LEN: usize = 16;

const NEXT: u16 = 1;
const WRITE: u16 = 1 << 1;
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Flags of an event suppression area (2.8.14).
const EVENTS_ENABLE: u16 = 0;
const EVENTS_DISABLE: u16 = 1;
const EVENTS_DESC: u16 = 2;

/// A place in the ring and the pass over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    slot: u16,
    wrap: bool,
}

impl Position {
    const START: Self = Self { slot: 0, wrap: true };

    fn advance(&mut self, by: u16, size: u16) {
        let slot = u32::from(self.slot) + u32::from(by);
        if slot >= u32::from(size) {
            self.slot = (slot - u32::from(size)) as u16;
            self.wrap = !self.wrap;
        } else {
            self.slot = slot as u16;
        }
    }

    /// As in event areas and doorbells: 15 bits of slot, one of wrap.
    fn packed(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    /// Counts over two passes, so that distances can be told.
    fn linear(self, size: u16) -> u32 {
        u32::from(self.slot) + if self.wrap { 0 } else { u32::from(size) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PackedRing {
    region: Arc<Region>,
    areas: Areas,
    size: u16,
    next_avail: Position,
    next_used: Position,
    free: u16,
    /// Descriptors added since the last `publish`.
    fresh: u16,
    free_ids: Vec<u16>,
    ledger: Ledger,
    event_idx: bool,
}

impl PackedRing {
    pub(super) fn new(size: u16, options: RingOptions) -> std::io::Result<Self> {
        assert!((1..=32768).contains(&size), "a packed ring has 1 to 32768 descriptors");
        // The two event areas on cache lines of their own: each is written by one side only.
        let driver = (usize::from(size) * DESC_LEN).next_multiple_of(64);
        let areas = Areas { desc: 0, driver, device: driver + 64, len: driver + 128 };
        let mut ring = Self {
            region: Region::new("tandem-ring", areas.len)?,
            areas,
            size,
            next_avail: Position::START,
            next_used: Position::START,
            free: size,
            fresh: 0,
            free_ids: (0..size).rev().collect(),
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
        self.free_ids.last().copied().unwrap_or(0)
    }

    fn desc(&self, slot: u16) -> usize {
        self.areas.desc + usize::from(slot) * DESC_LEN
    }

    pub(super) fn add(&mut self, segments: &[Segment]) -> Added {
        let id = self.free_ids.pop().expect("an id for each free descriptor");
        let head = self.next_avail;
        let mut writable = 0u32;
        let mut head_flags = 0;
        for (i, segment) in segments.iter().enumerate() {
            let at = self.next_avail;
            let mut flags = if at.wrap { AVAIL } else { USED };
            if i + 1 < segments.len() {
                flags |= NEXT;
            }
            if segment.write {
                flags |= WRITE;
                writable = writable.saturating_add(segment.len);
            }
            let mut bytes = [0; DESC_LEN - 2];
            bytes[..8].copy_from_slice(&segment.addr.to_le_bytes());
            bytes[8..12].copy_from_slice(&segment.len.to_le_bytes());
            bytes[12..].copy_from_slice(&id.to_le_bytes());
            let offset = self.desc(at.slot);
            self.region.write(offset, &bytes);
            if i == 0 {
                head_flags = flags;
            } else {
                self.region.atomic_u16(offset + 14).store(flags.to_le(), Ordering::Relaxed);
            }
            self.next_avail.advance(1, self.size);
        }
        let count = segments.len() as u16;
        self.ledger.insert(id, count, writable);
        self.free -= count;
        self.fresh += count;
        // "The driver MUST perform a suitable memory barrier before updating the flags of the first
        // descriptor of a list" (2.8.21.2): it makes the whole chain available.
        self.region
            .atomic_u16(self.desc(head.slot) + 14)
            .store(head_flags.to_le(), Ordering::Release);
        Added { id, slot: head.slot, wrap: head.wrap }
    }

    pub(super) fn publish(&mut self) -> bool {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh == 0 {
            return false;
        }
        // "The driver MUST perform a suitable memory barrier before reading the Driver Event
        // Suppression structure": the flags must be out before the device's wish is read, or both
        // sides could wait for the other (2.8.22.3).
        fence(Ordering::SeqCst);
        let area = self.region.atomic_u32(self.areas.device).load(Ordering::Acquire);
        let area = u32::from_le(area);
        let (place, flags) = (area as u16, (area >> 16) as u16 & 3);
        match flags {
            EVENTS_ENABLE => true,
            EVENTS_DISABLE => false,
            EVENTS_DESC if self.event_idx => {
                let event = Position { slot: place & 0x7FFF, wrap: place >> 15 != 0 };
                if event.slot >= self.size {
                    // Nonsense costs the device a doorbell, never us a lost one.
                    return true;
                }
                // Whether the event's descriptor is among the fresh ones.
                let span = 2 * u32::from(self.size);
                let new = self.next_avail.linear(self.size);
                let behind = (new + span - event.linear(self.size) - 1) % span;
                behind < u32::from(fresh)
            }
            // Reserved, or DESC that was not negotiated.
            _ => true,
        }
    }

    pub(super) fn notification_data(&self) -> u16 {
        self.next_avail.packed()
    }

    fn has_used(&self) -> bool {
        let at = self.desc(self.next_used.slot) + 14;
        let flags = u16::from_le(self.region.atomic_u16(at).load(Ordering::Acquire));
        let (avail, used) = (flags & AVAIL != 0, flags & USED != 0);
        avail == used && used == self.next_used.wrap
    }

    pub(super) fn pop(&mut self) -> Result<Option<Used>, RingFault> {
        if self.ledger.outstanding() == 0 {
            return Ok(None);
        }
        let (used, count) = match self.ledger.next_of_batch() {
            Some(next) => next,
            None if !self.has_used() => return Ok(None),
            None => {
                // The id and the length were written before the flags, which `has_used` acquired.
                let at = self.desc(self.next_used.slot);
                let len = u32::from_le(self.region.atomic_u32(at + 8).load(Ordering::Relaxed));
                let id = u16::from_le(self.region.atomic_u16(at + 12).load(Ordering::Relaxed));
                self.ledger.complete(id.into(), len)?
            }
        };
        self.next_used.advance(count, self.size);
        self.free += count;
        self.free_ids.push(used.id);
        Ok(Some(used))
    }

    fn set_events(&mut self, place: u16, flags: u16) {
        // One store of both halves, so that the device never sees one without the other.
        let area = u32::from(place) | u32::from(flags) << 16;
        self.region.atomic_u32(self.areas.driver).store(area.to_le(), Ordering::Release);
    }

    pub(super) fn enable_interrupt(&mut self) -> bool {
        if self.event_idx {
            self.set_events(self.next_used.packed(), EVENTS_DESC);
        } else {
            self.set_events(0, EVENTS_ENABLE);
        }
        // The wish must be out before the ring is looked at again, or an interrupt could be lost.
        fence(Ordering::SeqCst);
        self.ledger.outstanding() == 0 || (self.ledger.batch_end().is_none() && !self.has_used())
    }

    pub(super) fn disable_interrupt(&mut self) {
        self.set_events(0, EVENTS_DISABLE);
    }
}
