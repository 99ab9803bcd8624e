//! The device's side of a packed virtqueue (virtio 1.3, 2.8).

use tandem_contract::trace::Broken;

use crate::memory::{BusError, Memory};

/// VIRTQ_DESC_F_NEXT.
pub const NEXT: u16 = 1;
/// VIRTQ_DESC_F_WRITE.
pub const WRITE: u16 = 1 << 1;
/// VIRTQ_DESC_F_INDIRECT.
pub const INDIRECT: u16 = 1 << 2;
/// VIRTQ_DESC_F_AVAIL.
pub const AVAIL: u16 = 1 << 7;
/// VIRTQ_DESC_F_USED.
pub const USED: u16 = 1 << 15;

const EVENT_DISABLE: u16 = 1;
const EVENT_DESC: u16 = 2;

/// A place in the ring: a slot, and the wrap counter that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Descriptor slot.
    pub slot: u16,
    /// Wrap counter; starts as 1.
    pub wrap: bool,
}

impl Place {
    /// Where every ring begins.
    pub const START: Self = Self { slot: 0, wrap: true };

    /// `count` slots further in a ring of `size`; `count` at most `size`.
    pub fn advance(self, count: u16, size: u16) -> Self {
        let slot = u32::from(self.slot) + u32::from(count);
        if slot >= u32::from(size) {
            Self { slot: (slot - u32::from(size)) as u16, wrap: !self.wrap }
        } else {
            Self { slot: slot as u16, wrap: self.wrap }
        }
    }

    /// Position in the cycle of two rounds, after which slot and wrap counter repeat.
    fn cycle(self, size: u16) -> u32 {
        u32::from(self.slot) + if self.wrap { 0 } else { u32::from(size) }
    }
}

/// A buffer of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
}

/// What the driver made available as one element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it begins.
    pub place: Place,
    /// Buffer id, from the last descriptor (2.8.6).
    pub id: u16,
    /// Buffers in order.
    pub pieces: Vec<Piece>,
}

impl Chain {
    /// Bytes of all its buffers.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.len)).sum()
    }

    /// Whether it has no bytes; a chain that was fetched always has some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Descriptors it takes.
    pub fn descriptors(&self) -> u16 {
        self.pieces.len() as u16
    }
}

/// What is next in a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Nothing is available.
    Empty,
    /// A chain.
    Chain(Chain),
    /// The ring breaks the standard at this place.
    Broken(Broken, Place),
}

/// Which way a queue's buffers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The device reads: a transmit queue.
    Readable,
    /// The device writes: a receive queue.
    Writable,
}

/// One packed virtqueue.
#[derive(Debug, Clone)]
pub struct PackedRing {
    /// Address of the descriptor ring.
    pub desc: u64,
    /// Address of the driver event suppression structure.
    pub driver_area: u64,
    /// Descriptors.
    pub size: u16,
    /// Which way.
    pub direction: Direction,
    /// Next descriptor to look at.
    pub next: Place,
    /// Where the next used descriptor goes.
    pub used: Place,
}

impl PackedRing {
    /// A fresh ring.
    pub fn new(desc: u64, driver_area: u64, size: u16, direction: Direction) -> Self {
        Self { desc, driver_area, size, direction, next: Place::START, used: Place::START }
    }

    fn addr(&self, slot: u16) -> u64 {
        self.desc.wrapping_add(16 * u64::from(slot))
    }

    /// Takes the next chain, and moves on behind it.
    ///
    /// # Errors
    /// [`BusError`] of a descriptor read.
    pub fn fetch(&mut self, memory: &mut dyn Memory) -> Result<Fetched, BusError> {
        let place = self.next;
        let mut at = place;
        let mut pieces = Vec::new();
        loop {
            let mut bytes = [0; 16];
            memory.read(self.addr(at.slot), &mut bytes)?;
            let [a, b, c, d, e, f, g, h, l0, l1, l2, l3, i0, i1, f0, f1] = bytes;
            let flags = u16::from_le_bytes([f0, f1]);
            // 2.8.1: available when AVAIL is the wrap counter and USED is not.
            if (flags & AVAIL != 0) != at.wrap || (flags & USED != 0) == at.wrap {
                return Ok(if pieces.is_empty() {
                    Fetched::Empty
                } else {
                    Fetched::Broken(Broken::ChainNotAvailable, place)
                });
            }
            if flags & INDIRECT != 0 {
                return Ok(Fetched::Broken(Broken::BadFlags, place));
            }
            if (flags & WRITE != 0) != (self.direction == Direction::Writable) {
                return Ok(Fetched::Broken(Broken::WrongDirection, place));
            }
            let len = u32::from_le_bytes([l0, l1, l2, l3]);
            if len == 0 {
                return Ok(Fetched::Broken(Broken::ZeroLength, place));
            }
            pieces.push(Piece { addr: u64::from_le_bytes([a, b, c, d, e, f, g, h]), len });
            at = at.advance(1, self.size);
            if flags & NEXT == 0 {
                self.next = at;
                let id = u16::from_le_bytes([i0, i1]);
                return Ok(Fetched::Chain(Chain { place, id, pieces }));
            }
            if pieces.len() >= usize::from(self.size) {
                return Ok(Fetched::Broken(Broken::ChainTooLong, place));
            }
        }
    }

    /// Gives chains back as used, all visible at once: the first one's flags are written last (2.8.7).
    /// Each is given with the bytes written to it. Returns where they were put.
    ///
    /// # Errors
    /// [`BusError`] of a write.
    pub fn give_back(
        &mut self,
        memory: &mut dyn Memory,
        chains: &[(&Chain, u32)],
    ) -> Result<Vec<Place>, BusError> {
        let mut places = Vec::with_capacity(chains.len());
        let mut at = self.used;
        for (chain, _) in chains {
            places.push(at);
            at = at.advance(chain.descriptors(), self.size);
        }
        for ((chain, written), place) in chains.iter().zip(&places).rev() {
            let mut bytes = [0; 6];
            bytes[..4].copy_from_slice(&written.to_le_bytes());
            bytes[4..].copy_from_slice(&chain.id.to_le_bytes());
            memory.write(self.addr(place.slot).wrapping_add(8), &bytes)?;
            // 2.8.1: both bits are the wrap counter; WRITE says that `len` counts (2.8.4).
            let mut flags = if place.wrap { AVAIL | USED } else { 0 };
            if self.direction == Direction::Writable {
                flags |= WRITE;
            }
            memory.write(self.addr(place.slot).wrapping_add(14), &flags.to_le_bytes())?;
        }
        self.used = at;
        Ok(places)
    }

    /// Whether the driver wants to be told of what was used from `from` up to [`Self::used`] (2.8.10).
    ///
    /// # Errors
    /// [`BusError`] of reading the driver's event suppression structure.
    pub fn wants_event(
        &self,
        memory: &mut dyn Memory,
        from: Place,
        event_idx: bool,
    ) -> Result<bool, BusError> {
        let mut bytes = [0; 4];
        memory.read(self.driver_area, &mut bytes)?;
        let off_wrap = u16::from_le_bytes([bytes[0], bytes[1]]);
        let flags = u16::from_le_bytes([bytes[2], bytes[3]]) & 3;
        Ok(match flags {
            EVENT_DISABLE => false,
            EVENT_DESC if event_idx => {
                let event = Place { slot: off_wrap & 0x7FFF, wrap: off_wrap >> 15 == 1 };
                if event.slot >= self.size {
                    return Ok(true);
                }
                let round = 2 * u32::from(self.size);
                let distance =
                    |to: Place| (to.cycle(self.size) + round - from.cycle(self.size)) % round;
                distance(event) < distance(self.used)
            }
            _ => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);

    impl Memory for Bytes {
        fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), BusError> {
            let from = self.0.get(addr as usize..addr as usize + out.len());
            out.copy_from_slice(from.ok_or(BusError { addr })?);
            Ok(())
        }

        fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), BusError> {
            let to = self.0.get_mut(addr as usize..addr as usize + bytes.len());
            to.ok_or(BusError { addr })?.copy_from_slice(bytes);
            Ok(())
        }
    }

    fn put(memory: &mut Bytes, slot: u16, len: u32, id: u16, flags: u16) {
        let at = usize::from(slot) * 16;
        memory.0[at..at + 8].copy_from_slice(&0x1000_u64.to_le_bytes());
        memory.0[at + 8..at + 12].copy_from_slice(&len.to_le_bytes());
        memory.0[at + 12..at + 14].copy_from_slice(&id.to_le_bytes());
        memory.0[at + 14..at + 16].copy_from_slice(&flags.to_le_bytes());
    }

    #[test]
    fn three_rounds_of_a_ring_of_three() {
        let mut memory = Bytes(vec![0; 64]);
        let mut ring = PackedRing::new(0, 48, 3, Direction::Readable);
        assert_eq!(ring.fetch(&mut memory).unwrap(), Fetched::Empty);
        let mut place = Place::START;
        for round in 0..9_u16 {
            let flags = if place.wrap { AVAIL } else { USED };
            put(&mut memory, place.slot, 10, round, flags);
            let Fetched::Chain(chain) = ring.fetch(&mut memory).unwrap() else {
                panic!("round {round}")
            };
            assert_eq!((chain.id, chain.place, chain.len()), (round, place, 10));
            assert_eq!(ring.fetch(&mut memory).unwrap(), Fetched::Empty);
            assert_eq!(ring.give_back(&mut memory, &[(&chain, 0)]).unwrap(), [place]);
            place = place.advance(1, 3);
        }
    }

    #[test]
    fn what_breaks_a_ring() {
        let mut memory = Bytes(vec![0; 64]);
        let fetch = |memory: &mut Bytes| {
            PackedRing::new(0, 48, 3, Direction::Readable).fetch(memory).unwrap()
        };
        let broken = |reason| Fetched::Broken(reason, Place::START);
        put(&mut memory, 0, 10, 0, AVAIL | NEXT);
        assert_eq!(fetch(&mut memory), broken(Broken::ChainNotAvailable));
        for slot in 0..3 {
            put(&mut memory, slot, 10, 0, AVAIL | NEXT);
        }
        // The fourth would be slot 0 of the next round.
        assert_eq!(fetch(&mut memory), broken(Broken::ChainTooLong));
        put(&mut memory, 0, 10, 0, AVAIL | WRITE);
        assert_eq!(fetch(&mut memory), broken(Broken::WrongDirection));
        put(&mut memory, 0, 10, 0, AVAIL | INDIRECT);
        assert_eq!(fetch(&mut memory), broken(Broken::BadFlags));
        put(&mut memory, 0, 0, 0, AVAIL);
        assert_eq!(fetch(&mut memory), broken(Broken::ZeroLength));
    }

    #[test]
    fn events_by_place() {
        let mut memory = Bytes(vec![0; 64]);
        let mut ring = PackedRing::new(0, 48, 5, Direction::Readable);
        ring.used = Place { slot: 1, wrap: false };
        let from = Place { slot: 3, wrap: true };
        let mut wants = |off_wrap: u16, flags: u16, event_idx| {
            memory.0[48..50].copy_from_slice(&off_wrap.to_le_bytes());
            memory.0[50..52].copy_from_slice(&flags.to_le_bytes());
            ring.wants_event(&mut memory, from, event_idx).unwrap()
        };
        assert!(wants(0, 0, true) && !wants(0, 1, true));
        // Used were slots 3 and 4 of one round and 0 of the next.
        assert!(wants(3 | 1 << 15, 2, true) && wants(4 | 1 << 15, 2, true) && wants(0, 2, true));
        assert!(!wants(1, 2, true) && !wants(3, 2, true) && !wants(2 | 1 << 15, 2, true));
        assert!(wants(1, 2, false), "without EVENT_IDX the place does not count");
        assert!(wants(0x7FFF, 2, true), "a place outside of the ring never silences");
    }
}
