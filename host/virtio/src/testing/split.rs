//! Device side of a split ring (virtio 1.3, 2.7), as simple as it can be.

use super::{Chain, Memory, Piece};

#[derive(Debug)]
pub(crate) struct SplitDevice {
    desc: u64,
    driver: u64,
    device: u64,
    size: u16,
    event_idx: bool,
    taken: u16,
    used: u16,
    judged: u16,
}

impl SplitDevice {
    pub(crate) fn new(areas: [u64; 3], size: u16, event_idx: bool) -> Self {
        let [desc, driver, device] = areas;
        Self { desc, driver, device, size, event_idx, taken: 0, used: 0, judged: 0 }
    }

    pub(crate) fn next(&mut self, memory: &Memory) -> Option<Chain> {
        if memory.read_u16(self.driver + 2) == self.taken {
            return None;
        }
        let entry = self.driver + 4 + 2 * u64::from(self.taken % self.size);
        let id = memory.read_u16(entry);
        self.taken = self.taken.wrapping_add(1);
        let mut pieces = Vec::new();
        let mut at = id;
        loop {
            assert!(at < self.size && pieces.len() < usize::from(self.size), "bad chain");
            let mut bytes = [0; 16];
            memory.read(self.desc + u64::from(at) * 16, &mut bytes);
            let flags = u16::from_le_bytes(bytes[12..14].try_into().unwrap());
            pieces.push(Piece {
                addr: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
                len: u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
                write: flags & 2 != 0,
            });
            if flags & 1 == 0 {
                return Some(Chain { id, pieces });
            }
            at = u16::from_le_bytes(bytes[14..].try_into().unwrap());
        }
    }

    pub(crate) fn push(&mut self, memory: &Memory, used: &[(Chain, u32)], batch: bool) {
        let first = self.used;
        for (i, (chain, len)) in used.iter().enumerate() {
            if !batch || i + 1 == used.len() {
                let index = if batch { first } else { self.used };
                let at = self.device + 4 + 8 * u64::from(index % self.size);
                memory.write(at, &u32::from(chain.id).to_le_bytes());
                memory.write(at + 4, &len.to_le_bytes());
            }
            self.used = self.used.wrapping_add(1);
        }
        memory.write_u16(self.device + 2, self.used);
    }

    pub(crate) fn wants_interrupt(&mut self, memory: &Memory) -> bool {
        let mut judged = std::mem::replace(&mut self.judged, self.used);
        let flags = memory.read_u16(self.driver);
        if !self.event_idx {
            return flags & 1 == 0 && judged != self.used;
        }
        assert_eq!(flags, 0, "flags must be 0 with EVENT_IDX");
        let event = memory.read_u16(self.driver + 4 + 2 * u64::from(self.size));
        while judged != self.used {
            if judged == event {
                return true;
            }
            judged = judged.wrapping_add(1);
        }
        false
    }

    pub(crate) fn set_doorbell(&mut self, memory: &Memory, wanted: bool) {
        if self.event_idx {
            let event = if wanted { self.taken } else { self.taken.wrapping_sub(1) };
            memory.write_u16(self.device + 4 + 8 * u64::from(self.size), event);
        } else {
            memory.write_u16(self.device, u16::from(!wanted));
        }
    }
}
