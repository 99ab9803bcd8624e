//! MSI-X table and pending bits (PCI Local Bus 3.0, 6.8.2).

/// One vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    addr: u64,
    data: u32,
    masked: bool,
}

/// A message to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Vector.
    pub vector: u16,
    /// Address; dword-aligned.
    pub addr: u64,
    /// Data.
    pub data: u32,
}

/// The table with its pending bits.
#[derive(Debug, Clone)]
pub struct Msix {
    entries: Vec<Entry>,
    pending: Vec<bool>,
}

impl Msix {
    /// A table of `vectors` masked entries.
    pub fn new(vectors: u16) -> Self {
        let entry = Entry { addr: 0, data: 0, masked: true };
        Self {
            entries: vec![entry; usize::from(vectors)],
            pending: vec![false; usize::from(vectors)],
        }
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        self.entries.len() as u16
    }

    /// The table's dword at byte `offset`; zero behind its end.
    pub fn table_read(&self, offset: u32) -> u32 {
        let Some(entry) = self.entries.get(offset as usize / 16) else { return 0 };
        match offset & 12 {
            0 => entry.addr as u32,
            4 => (entry.addr >> 32) as u32,
            8 => entry.data,
            _ => entry.masked.into(),
        }
    }

    /// Writes the table's dword at byte `offset`.
    pub fn table_write(&mut self, offset: u32, value: u32) {
        let Some(entry) = self.entries.get_mut(offset as usize / 16) else { return };
        match offset & 12 {
            // The two lowest bits of an address are reserved as zero.
            0 => entry.addr = entry.addr & !0xFFFF_FFFF | u64::from(value & !3),
            4 => entry.addr = entry.addr & 0xFFFF_FFFF | u64::from(value) << 32,
            8 => entry.data = value,
            _ => entry.masked = value & 1 == 1,
        }
    }

    /// The pending bits' dword at byte `offset`.
    pub fn pending_read(&self, offset: u32) -> u32 {
        let first = offset as usize * 8;
        (0..32)
            .filter(|bit| self.pending.get(first + bit).copied().unwrap_or(false))
            .fold(0, |word, bit| word | 1 << bit)
    }

    /// Asks for a vector; one that does not exist is ignored.
    pub fn raise(&mut self, vector: u16) {
        if let Some(pending) = self.pending.get_mut(usize::from(vector)) {
            *pending = true;
        }
    }

    /// The next message that may be sent, which is then no longer pending.
    pub fn next(&mut self, function_mask: bool) -> Option<Message> {
        if function_mask {
            return None;
        }
        let ready = |(at, entry): (usize, &Entry)| self.pending[at] && !entry.masked;
        let at = self.entries.iter().enumerate().position(ready)?;
        self.pending[at] = false;
        let Entry { addr, data, .. } = self.entries[at];
        Some(Message { vector: at as u16, addr, data })
    }

    /// Forgets what is pending.
    pub fn clear_pending(&mut self) {
        self.pending.fill(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_vectors_wait() {
        let mut msix = Msix::new(3);
        msix.raise(1);
        msix.raise(7);
        assert_eq!(msix.pending_read(0), 0b010);
        assert_eq!(msix.next(false), None, "masked after reset");
        msix.table_write(16, 0xFEE0_0003);
        msix.table_write(20, 1);
        msix.table_write(24, 42);
        msix.table_write(28, 0);
        assert_eq!(msix.next(true), None, "function mask");
        let message = Message { vector: 1, addr: 0x1_FEE0_0000, data: 42 };
        assert_eq!(msix.next(false), Some(message));
        assert_eq!((msix.pending_read(0), msix.next(false)), (0, None));
    }
}
