//! Device side of a packed ring (virtio 1.3, 2.8), as simple as it can be.

use super::{Chain, Memory, Piece};

#[derive(Debug)]
pub(crate) struct PackedDevice {
    pub(crate) desc: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
    pub(crate) size: u16,
    pub(crate) event_idx: bool,
    /// Descriptors consumed and used since the start; position and wrap follow by division.
    taken: u64,
    used: u64,
    judged: u64,
}

impl PackedDevice {
    pub(crate) fn new(areas: [u64; 3], size: u16, event_idx: bool) -> Self {
        let [desc, driver, device] = areas;
        Self { desc, driver, device, size, event_idx, taken: 0, used: 0, judged: 0 }
    }

    fn place(&self, count: u64) -> (u64, bool) {
        let size = u64::from(self.size);
        (self.desc + count % size * 16, (count / size).is_multiple_of(2))
    }

    /// As in event areas: slot and wrap counter of the `count`th descriptor.
    pub(crate) fn packed(&self, count: u64) -> u16 {
        let (_, wrap) = self.place(count);
        (count % u64::from(self.size)) as u16 | u16::from(wrap) << 15
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn next(&mut self, memory: &Memory) -> Option<Chain> {
        let mut pieces = Vec::new();
        loop {
            let (at, wrap) = self.place(self.taken + pieces.len() as u64);
            let flags = memory.read_u16(at + 14);
            let (avail, used) = (flags & 0x80 != 0, flags & 0x8000 != 0);
            if avail != wrap || used == wrap {
                // Only the first descriptor of a chain may be missing.
                assert!(pieces.is_empty(), "a chain was shown before it was complete");
                return None;
            }
            assert!(pieces.len() < usize::from(self.size), "chain longer than the ring");
            let mut bytes = [0; 16];
            memory.read(at, &mut bytes);
            pieces.push(Piece {
                addr: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
                len: u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
                write: flags & 2 != 0,
            });
            if flags & 1 == 0 {
                self.taken += pieces.len() as u64;
                let id = u16::from_le_bytes(bytes[12..14].try_into().unwrap());
                return Some(Chain { id, pieces });
            }
        }
    }

    pub(crate) fn push(&mut self, memory: &Memory, used: &[(Chain, u32)], batch: bool) {
        // With a batch the entry goes where the first chain of it stood.
        let first = self.used;
        for (i, (chain, len)) in used.iter().enumerate() {
            let last = i + 1 == used.len();
            if !batch || last {
                let (at, wrap) = self.place(if batch { first } else { self.used });
                let mut bytes = [0; 6];
                bytes[..4].copy_from_slice(&len.to_le_bytes());
                bytes[4..].copy_from_slice(&chain.id.to_le_bytes());
                memory.write(at + 8, &bytes);
                let flags = if wrap { 0x8080 } else { 0 } | if *len > 0 { 2 } else { 0 };
                memory.write_u16(at + 14, flags);
            }
            self.used += chain.pieces.len() as u64;
        }
    }

    pub(crate) fn wants_interrupt(&mut self, memory: &Memory) -> bool {
        let judged = std::mem::replace(&mut self.judged, self.used);
        let area = memory.read_u32(self.driver);
        match area >> 16 & 3 {
            0 => self.used != judged,
            1 => false,
            2 => {
                assert!(self.event_idx, "DESC without EVENT_IDX");
                (judged..self.used).any(|count| self.packed(count) == area as u16)
            }
            _ => panic!("reserved event flags"),
        }
    }

    pub(crate) fn set_doorbell(&mut self, memory: &Memory, wanted: bool) {
        let flags = if !wanted {
            1
        } else if self.event_idx {
            2
        } else {
            0
        };
        self.set_event(memory, self.packed(self.taken), flags);
    }

    pub(crate) fn set_event(&mut self, memory: &Memory, place: u16, flags: u16) {
        memory.write_u16(self.device, place);
        memory.write_u16(self.device + 2, flags);
    }
}
