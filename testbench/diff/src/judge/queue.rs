//! One queue: its ring, the used elements that are due, what its bus errors mean.

use std::collections::VecDeque;

use tandem_contract::trace::{Broken, Event};
use tandem_reference::ring::{AVAIL, Chain, Direction, PackedRing, Place, USED, WRITE};

use super::Notifier;
use crate::memory::{Dma, Shadow};

/// Chains whose used elements are due: one, or those of a frame in several buffers.
#[derive(Debug)]
pub(crate) struct Due {
    /// With the length to be told.
    pub(super) chains: Vec<(Chain, u32)>,
    /// Whose used element took effect in memory.
    effective: Vec<bool>,
    /// Whose used element was traced.
    told: Vec<bool>,
}

impl Due {
    pub(super) fn new(chains: Vec<(Chain, u32)>) -> Self {
        let none = vec![false; chains.len()];
        Self { chains, effective: none.clone(), told: none }
    }

    pub(super) fn has(&self, place: Place) -> bool {
        self.chains.iter().any(|(chain, _)| chain.place == place)
    }

    /// The used element at the event's place is told; true when all are.
    pub(super) fn tell(&mut self, event: &Event) -> Result<bool, String> {
        let place = Place { slot: event.slot, wrap: event.wrap };
        let found = self.chains.iter().position(|(chain, _)| chain.place == place);
        let at = found.filter(|at| !self.told[*at]).ok_or("a used element out of turn")?;
        let (chain, written) = &self.chains[at];
        if event.len != *written || event.arg != u32::from(chain.id) {
            return Err(format!("used id {} length {written} told otherwise", chain.id));
        }
        if !self.effective[at] {
            return Err("a used element is told before it is in memory".to_owned());
        }
        self.told[at] = true;
        Ok(self.told.iter().all(|told| *told))
    }
}

/// A queue as the judge knows it.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) ring: PackedRing,
    /// Device event suppression.
    pub(crate) area: u64,
    pub(crate) due: VecDeque<Due>,
    /// The first reason for which it was declared broken.
    pub(crate) broken: Option<Broken>,
    /// A bus error is, or came to be, among the reasons: what was under way is cut.
    pub(crate) cut: bool,
    /// Bus errors of requests that were made for this queue.
    pub(crate) errors: u32,
    pub(crate) notifier: Notifier,
}

/// The used element of a chain at `place`.
pub(super) fn used_bytes(chain: &Chain, written: u32, wrap: bool, direction: Direction) -> [u8; 8] {
    let mut flags = if wrap { AVAIL | USED } else { 0 };
    if direction == Direction::Writable {
        flags |= WRITE;
    }
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&written.to_le_bytes());
    bytes[4..6].copy_from_slice(&chain.id.to_le_bytes());
    bytes[6..].copy_from_slice(&flags.to_le_bytes());
    bytes
}

impl Queue {
    pub(super) fn slot_addr(&self, place: Place) -> u64 {
        self.ring.desc + 16 * u64::from(place.slot)
    }

    pub(super) fn ring_begins(&self, dma: &Dma) -> bool {
        let len = 16 * u64::from(self.ring.size);
        dma.addr.checked_sub(self.ring.desc).is_some_and(|offset| offset < len)
    }

    pub(super) fn in_ring(&self, dma: &Dma) -> bool {
        dma.touches(self.ring.desc, 16 * u64::from(self.ring.size))
    }

    /// A write to the descriptor ring: the used element of a chain that is due, and in its turn.
    pub(super) fn used_effect(&mut self, dma: &Dma) -> Result<(), String> {
        for due in &mut self.due {
            for i in 0..due.chains.len() {
                let (chain, written) = &due.chains[i];
                let at = self.ring.desc + 16 * u64::from(chain.place.slot) + 8;
                if due.effective[i] || dma.addr != at {
                    continue;
                }
                let want = used_bytes(chain, *written, chain.place.wrap, self.ring.direction);
                if dma.data != want {
                    return Err(format!("used element {:02x?}, must be {want:02x?}", dma.data));
                }
                // 2.8.7: who sees the first must find the others.
                if i == 0 && !due.effective[1..].iter().all(|effective| *effective) {
                    return Err("the first used element of a set before the others".to_owned());
                }
                due.effective[i] = true;
                return Ok(());
            }
        }
        let due: Vec<_> = self.due.iter().flat_map(|due| &due.chains).map(|c| c.0.place).collect();
        Err(format!("a write to the ring at {:#x}, due are {due:?}", self.ring.desc))
    }

    /// [`Kind::Used`].
    pub(super) fn used_told(&mut self, event: &Event, memory: &mut Shadow) -> Result<(), String> {
        let place = Place { slot: event.slot, wrap: event.wrap };
        if self.cut && !self.due.front().is_some_and(|due| due.has(place)) {
            // One that failed is not told, others that were on their way with it are.
            let due = self.due.iter_mut().find(|due| due.has(place));
            return due.ok_or("a used element that is not due")?.tell(event).map(|_| ());
        }
        let due = self.due.front_mut().ok_or("a used element, and none is due")?;
        if due.tell(event)? {
            let chains: Vec<(&Chain, u32)> = due.chains.iter().map(|(c, n)| (c, *n)).collect();
            let descriptors = chains.iter().map(|(chain, _)| u64::from(chain.descriptors())).sum();
            self.ring.give_back(memory, &chains).map_err(|e| e.to_string())?;
            self.notifier.committed(event.cycle, descriptors);
            self.due.pop_front();
        }
        Ok(())
    }

    /// What took effect for chains that will not be told any more.
    pub(super) fn settle_effects(&mut self, memory: &mut Shadow) {
        for due in std::mem::take(&mut self.due) {
            for (i, (chain, written)) in due.chains.iter().enumerate() {
                if due.effective[i] {
                    let bytes = used_bytes(chain, *written, chain.place.wrap, self.ring.direction);
                    memory.poke(self.slot_addr(chain.place) + 8, &bytes);
                }
            }
        }
    }

    /// A write to the device's event suppression area (2.8.10): ENABLE, or the place that it waits at.
    pub(super) fn event_area(
        &self,
        dma: &Dma,
        event_idx: bool,
        places: &[Place],
    ) -> Result<(), String> {
        let [off0, off1, flags0, flags1] = dma.data[..] else {
            return Err(format!("event area written with {} bytes", dma.data.len()));
        };
        let off_wrap = u16::from_le_bytes([off0, off1]);
        let flags = u16::from_le_bytes([flags0, flags1]);
        let place = Place { slot: off_wrap & 0x7FFF, wrap: off_wrap >> 15 == 1 };
        let legal = match flags {
            0 => true,
            2 => event_idx && places.contains(&place),
            _ => false,
        };
        if !legal {
            return Err(format!(
                "event area says flags {flags:#x} at {place:?}, not of {places:?}"
            ));
        }
        Ok(())
    }
}
