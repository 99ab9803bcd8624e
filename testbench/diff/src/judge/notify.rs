//! Used buffer notifications: what the driver's event area said when it was read, and whether the silence or
//! the interrupt that followed is what it asked for (virtio 1.3, 2.8.10).
//!
//! When exactly the NIC froze "what was used so far" for a reading is not on the bus. It lies between the
//! end of the reading before and the request of this one, so a few positions may come into question; where
//! they lead to different answers, either is legal.

use std::collections::VecDeque;

use tandem_contract::nic::Cycle;
use tandem_reference::memory::{BusError, Memory};
use tandem_reference::ring::{PackedRing, Place};

use super::TRACE_LAG;

/// Notifications of one queue.
#[derive(Debug)]
pub(crate) struct Notifier {
    size: u16,
    /// Used so far in descriptors, with the cycle of the event, latest last; the first is settled.
    used: VecDeque<(Cycle, u64)>,
    /// Positions up to which the last reading may have looked.
    seen: Vec<u64>,
    /// When the last reading was answered.
    read_at: Cycle,
    /// What the last reading may lead to: silence, interrupt.
    open: Option<(bool, bool)>,
}

/// The four bytes that were read.
struct Area([u8; 4]);

impl Memory for Area {
    fn read(&mut self, _: u64, out: &mut [u8]) -> Result<(), BusError> {
        out.copy_from_slice(&self.0);
        Ok(())
    }

    fn write(&mut self, addr: u64, _: &[u8]) -> Result<(), BusError> {
        Err(BusError { addr })
    }
}

fn place(position: u64, size: u16) -> Place {
    let round = position / u64::from(size);
    Place { slot: (position % u64::from(size)) as u16, wrap: round.is_multiple_of(2) }
}

impl Notifier {
    pub(crate) fn new(size: u16) -> Self {
        Self { size, used: VecDeque::from([(0, 0)]), seen: vec![0], read_at: 0, open: None }
    }

    /// That many more descriptors are used.
    pub(crate) fn committed(&mut self, cycle: Cycle, descriptors: u64) {
        let total = self.used.back().map_or(0, |used| used.1) + descriptors;
        self.used.push_back((cycle, total));
    }

    /// The area was read. Says when the reading before it was answered, if that led to an interrupt.
    pub(crate) fn read(
        &mut self,
        requested_at: Cycle,
        cycle: Cycle,
        area: [u8; 4],
        ring: &PackedRing,
        event_idx: bool,
    ) -> Result<Option<Cycle>, String> {
        let spoke = self.resolve()?;
        // Positions up to which this reading may look: not before the last one's answer.
        let after: Vec<u64> = self
            .used
            .iter()
            .filter(|(at, _)| *at <= requested_at + TRACE_LAG)
            .map(|(_, position)| *position)
            .collect();
        let settled = self.used.iter().filter(|(at, _)| *at + TRACE_LAG < self.read_at).count();
        let from = std::mem::take(&mut self.seen);
        let least = from.iter().copied().min().unwrap_or(0);
        let to: Vec<u64> = after
            .iter()
            .enumerate()
            .filter(|(i, position)| i + 1 >= settled.min(after.len()) && **position > least)
            .map(|(_, position)| *position)
            .collect();
        if to.is_empty() {
            return Err("the event area is read and nothing was used".to_owned());
        }
        let (mut silence, mut interrupt) = (false, false);
        for &to in &to {
            for &from in from.iter().filter(|from| **from < to) {
                match self.wanted(from, to, area, ring, event_idx) {
                    Some(true) => interrupt = true,
                    Some(false) => silence = true,
                    None => (silence, interrupt) = (true, true),
                }
            }
        }
        let first = to.first().copied().unwrap_or(0);
        while self.used.len() > 1 && self.used[1].1 <= first.min(least) {
            self.used.pop_front();
        }
        self.seen = to;
        self.read_at = cycle;
        self.open = Some((silence, interrupt));
        Ok(spoke)
    }

    /// `None` when the driver's words are of no meaning, or tell a lap from none.
    fn wanted(
        &self,
        from: u64,
        to: u64,
        area: [u8; 4],
        ring: &PackedRing,
        event_idx: bool,
    ) -> Option<bool> {
        let [off0, off1, flags0, flags1] = area;
        let flags = u16::from_le_bytes([flags0, flags1]);
        let slot = u16::from_le_bytes([off0, off1]) & 0x7FFF;
        let by_place = flags & 3 == 2 && event_idx;
        // 2.8.10: the reserved bits are zero; the driver gives places inside of the ring.
        if flags > 2 || by_place && (slot >= self.size || to - from > u64::from(self.size)) {
            return None;
        }
        let mut ring = ring.clone();
        ring.used = place(to, self.size);
        ring.wants_event(&mut Area(area), place(from, self.size), event_idx).ok()
    }

    /// [`tandem_contract::trace::Kind::IrqSuppressed`].
    pub(crate) fn suppressed(&mut self) -> Result<(), String> {
        match self.open.take() {
            Some((true, _)) => Ok(()),
            Some((false, _)) => Err("but the driver wants to know".to_owned()),
            None => Err("but the event area was not read".to_owned()),
        }
    }

    /// The last reading led to no silence, so it must have led to an interrupt: when it was answered.
    pub(crate) fn resolve(&mut self) -> Result<Option<Cycle>, String> {
        match self.open.take() {
            Some((_, true)) => Ok(Some(self.read_at)),
            Some((true, false)) => Err("the driver wants silence, and it is not kept".to_owned()),
            _ => Ok(None),
        }
    }

    /// An interrupt may follow from the last reading.
    pub(crate) fn may_speak(&self) -> bool {
        matches!(self.open, Some((_, true)))
    }

    /// An interrupt came whose cause can only be the last reading.
    pub(crate) fn speaks(&mut self) -> bool {
        match self.open {
            Some((_, true)) => {
                self.open = None;
                true
            }
            _ => false,
        }
    }

    /// The NIC is idle: all that was used was looked at.
    pub(crate) fn rest(&self) -> Result<(), String> {
        let used = self.used.back().map_or(0, |used| used.1);
        if self.seen.contains(&used) {
            return Ok(());
        }
        Err(format!("used up to {used}, notified up to {:?}", self.seen))
    }
}
