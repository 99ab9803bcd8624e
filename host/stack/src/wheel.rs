//! A hierarchical timing wheel: arming, cancelling and firing a timer cost O(1).
//!
//! Eight levels of 64 slots; a slot of level `n` spans 64^n ticks. A timer stands on the level of the
//! highest group of six bits in which its tick differs from the current one, and moves down each time
//! the wheel reaches its slot. Deadlines are rounded up to a tick, so nothing fires early.

use crate::time::Instant;

/// Nanoseconds of a tick as a power of two: 65.5 microseconds.
const TICK_SHIFT: u32 = 16;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 8 x 6 bits are all that remain of 64 bits of nanoseconds.
const LEVELS: usize = 8;
const NIL: u32 = u32::MAX;

/// Names an armed timer until it fires or is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Node<T> {
    key: T,
    tick: u64,
    generation: u32,
    /// Level and slot, or not in a slot (fired, waiting to be popped).
    place: Place,
    next: u32,
    prev: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Slot(u8, u8),
    Fired,
}

/// The wheel. Its memory is that of the most timers armed at once.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    tick: u64,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    nodes: Vec<Node<T>>,
    free: u32,
    fired: u32,
    len: usize,
}

impl<T: Copy> Wheel<T> {
    pub(crate) fn new() -> Self {
        Self {
            tick: 0,
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            nodes: Vec::new(),
            free: NIL,
            fired: NIL,
            len: 0,
        }
    }

    /// Timers armed or fired and not yet popped.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Arms a timer; one in the past fires at the next [`Wheel::pop`].
    pub(crate) fn arm(&mut self, deadline: Instant, key: T) -> TimerId {
        let nanos = deadline.as_nanos();
        let tick = (nanos >> TICK_SHIFT) + u64::from(nanos & ((1 << TICK_SHIFT) - 1) != 0);
        let index = if self.free == NIL {
            // The limit on sockets and neighbours bounds this far below 2^32.
            self.nodes.push(Node {
                key,
                tick,
                generation: 0,
                place: Place::Free,
                next: NIL,
                prev: NIL,
            });
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            node.key = key;
            node.tick = tick;
            index
        };
        self.len += 1;
        self.place(index);
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Disarms a timer. One that has been popped is left alone.
    pub(crate) fn cancel(&mut self, id: TimerId) {
        let Some(node) = self.nodes.get(id.index as usize) else { return };
        if node.generation == id.generation && node.place != Place::Free {
            self.unlink(id.index);
            self.release(id.index);
        }
    }

    /// A timer whose deadline is at or before `now`. Call until there is none.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.fired == NIL {
            self.advance(now.as_nanos() >> TICK_SHIFT);
        }
        let index = self.fired;
        if index == NIL {
            return None;
        }
        let key = self.nodes[index as usize].key;
        self.unlink(index);
        self.release(index);
        Some(key)
    }

    /// When to call [`Wheel::pop`] next: exact within a tick for what is near, and never late.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.fired != NIL {
            return Some(Instant::from_nanos(self.tick << TICK_SHIFT));
        }
        self.next_slot().map(|(_, _, tick)| Instant::from_nanos(tick << TICK_SHIFT))
    }

    /// The occupied slot that begins first: level, slot, tick.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        // All timers of a level come before those of the next.
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let shift = SLOT_BITS * level as u32;
        let here = (self.tick >> shift) as u32 & (SLOTS as u32 - 1);
        let ahead = self.occupied[level].rotate_right(here).trailing_zeros();
        let slot = (here + ahead) as usize % SLOTS;
        let block = self.tick >> shift >> SLOT_BITS << SLOT_BITS;
        Some((level, slot, (block + slot as u64) << shift))
    }

    /// Moves to `tick`; stops at the first tick where something fires.
    fn advance(&mut self, tick: u64) {
        while let Some((level, slot, start)) = self.next_slot() {
            if start > tick || self.fired != NIL {
                break;
            }
            self.tick = self.tick.max(start);
            while self.heads[level][slot] != NIL {
                let index = self.heads[level][slot];
                self.unlink(index);
                self.place(index);
            }
        }
        if self.fired == NIL {
            self.tick = self.tick.max(tick);
        }
    }

    fn place(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick;
        if tick <= self.tick {
            self.link(index, Place::Fired);
            return;
        }
        let level = (63 - (tick ^ self.tick).leading_zeros()) / SLOT_BITS;
        let level = level.min(LEVELS as u32 - 1);
        let slot = (tick >> (SLOT_BITS * level)) as usize % SLOTS;
        self.link(index, Place::Slot(level as u8, slot as u8));
    }

    fn head(&mut self, place: Place) -> &mut u32 {
        match place {
            Place::Slot(level, slot) => &mut self.heads[usize::from(level)][usize::from(slot)],
            Place::Fired => &mut self.fired,
            Place::Free => &mut self.free,
        }
    }

    fn link(&mut self, index: u32, place: Place) {
        let head = std::mem::replace(self.head(place), index);
        if let Some(next) = self.nodes.get_mut(head as usize) {
            next.prev = index;
        }
        let node = &mut self.nodes[index as usize];
        node.place = place;
        node.next = head;
        node.prev = NIL;
        if let Place::Slot(level, slot) = place {
            self.occupied[usize::from(level)] |= 1 << slot;
        }
    }

    fn unlink(&mut self, index: u32) {
        let node = &self.nodes[index as usize];
        let (place, next, prev) = (node.place, node.next, node.prev);
        if let Some(next) = self.nodes.get_mut(next as usize) {
            next.prev = prev;
        }
        match self.nodes.get_mut(prev as usize) {
            Some(prev) => prev.next = next,
            None => *self.head(place) = next,
        }
        if let Place::Slot(level, slot) = place
            && self.heads[usize::from(level)][usize::from(slot)] == NIL
        {
            self.occupied[usize::from(level)] &= !(1 << slot);
        }
    }

    fn release(&mut self, index: u32) {
        let free = self.free;
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.place = Place::Free;
        node.next = free;
        node.prev = NIL;
        self.free = index;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_fires_early_and_the_next_deadline_is_never_late() {
        let mut wheel = Wheel::new();
        let deadline = Instant::from_millis(1500);
        wheel.arm(deadline, 7);
        let mut now = Instant::ZERO;
        let mut steps = 0;
        loop {
            if let Some(key) = wheel.pop(now) {
                assert_eq!(key, 7);
                assert!(now >= deadline);
                assert!(now.since(deadline).as_nanos() <= 1 << TICK_SHIFT);
                break;
            }
            now = wheel.next_deadline().unwrap();
            steps += 1;
            assert!(steps <= LEVELS, "one step a level at most");
        }
        assert_eq!(wheel.next_deadline(), None);
    }

    proptest! {
        /// The wheel against a sorted map.
        #[test]
        fn fires_what_a_sorted_map_fires(
            ops in prop::collection::vec((0u8..4, 0u64..1 << 40, any::<u16>()), 1..300)
        ) {
            let mut wheel = Wheel::new();
            let mut model = BTreeMap::new();
            let mut ids = Vec::new();
            let mut now = 0u64;
            for (n, (op, value, pick)) in ops.into_iter().enumerate() {
                match op {
                    0 | 1 => {
                        // Near and far deadlines alike.
                        let at = now + (value >> (pick % 40));
                        ids.push((wheel.arm(Instant::from_nanos(at), n), at, n));
                        model.insert((at.div_ceil(1 << TICK_SHIFT), n), ());
                    }
                    2 if !ids.is_empty() => {
                        let (id, at, n) = ids.swap_remove(usize::from(pick) % ids.len());
                        wheel.cancel(id);
                        model.remove(&(at.div_ceil(1 << TICK_SHIFT), n));
                    }
                    _ => {
                        now += value >> (pick % 40);
                        let mut fired = Vec::new();
                        while let Some(n) = wheel.pop(Instant::from_nanos(now)) {
                            fired.push(n);
                        }
                        let later = model.split_off(&((now >> TICK_SHIFT) + 1, 0));
                        let mut expected: Vec<_> = model.into_keys().map(|(_, n)| n).collect();
                        model = later;
                        fired.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(fired, expected);
                        let next = wheel.next_deadline().map(|at| at.as_nanos() >> TICK_SHIFT);
                        let first = model.keys().next().map(|&(tick, _)| tick);
                        prop_assert_eq!(next.is_some(), first.is_some());
                        prop_assert!(next <= first, "late: {:?} {:?}", next, first);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
