//! The other side, for tests: memory as a device sees it, the device side of both rings, and a whole
//! virtio network function. Written from the standard; nothing of the driver is used.

mod function;
mod packed;
mod split;

use std::sync::Arc;

use tandem_device::Region;

pub(crate) use function::{Fault, Function, Offer};
pub(crate) use packed::PackedDevice;
pub(crate) use split::SplitDevice;

/// What the device may reach.
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory {
    regions: Vec<(u64, Arc<Region>)>,
    next: u64,
}

impl Memory {
    pub(crate) fn map(&mut self, region: &Arc<Region>) -> u64 {
        if let Some((address, _)) = self.regions.iter().find(|(_, r)| r.id() == region.id()) {
            return *address;
        }
        // Far above 4 GiB, so that cut addresses show.
        let address = 0x7_0000_0000 + self.next;
        self.next += region.len() as u64 + 0x10_0000;
        self.regions.push((address, region.clone()));
        address
    }

    pub(crate) fn unmap(&mut self, id: tandem_device::RegionId) {
        self.regions.retain(|(_, region)| region.id() != id);
    }

    pub(crate) fn mapped(&self) -> usize {
        self.regions.len()
    }

    fn place(&self, address: u64, len: usize) -> (&Arc<Region>, usize) {
        let found = self.regions.iter().find_map(|(base, region)| {
            let offset = address.checked_sub(*base)?;
            (offset + len as u64 <= region.len() as u64).then_some((region, offset as usize))
        });
        found.unwrap_or_else(|| panic!("DMA of {len} bytes at unmapped {address:#x}"))
    }

    pub(crate) fn read(&self, address: u64, out: &mut [u8]) {
        let (region, offset) = self.place(address, out.len());
        region.read(offset, out);
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        let (region, offset) = self.place(address, bytes.len());
        region.write(offset, bytes);
    }

    pub(crate) fn read_u16(&self, address: u64) -> u16 {
        let (region, offset) = self.place(address, 2);
        let value = region.atomic_u16(offset).load(std::sync::atomic::Ordering::SeqCst);
        u16::from_le(value)
    }

    pub(crate) fn write_u16(&self, address: u64, value: u16) {
        let (region, offset) = self.place(address, 2);
        region.atomic_u16(offset).store(value.to_le(), std::sync::atomic::Ordering::SeqCst);
    }

    pub(crate) fn read_u32(&self, address: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}

/// A piece of a chain as the device found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) write: bool,
}

/// A chain as the device found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) id: u16,
    pub(crate) pieces: Vec<Piece>,
}

impl Chain {
    pub(crate) fn read_all(&self, memory: &Memory) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in self.pieces.iter().filter(|piece| !piece.write) {
            let at = bytes.len();
            bytes.resize(at + piece.len as usize, 0);
            memory.read(piece.addr, &mut bytes[at..]);
        }
        bytes
    }

    pub(crate) fn room(&self) -> usize {
        self.pieces.iter().filter(|p| p.write).map(|p| p.len as usize).sum()
    }

    pub(crate) fn write_all(&self, memory: &Memory, mut bytes: &[u8]) {
        for piece in self.pieces.iter().filter(|piece| piece.write) {
            let len = bytes.len().min(piece.len as usize);
            memory.write(piece.addr, &bytes[..len]);
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty(), "chain too short");
    }
}

/// Device side of either ring.
#[derive(Debug)]
pub(crate) enum RingDevice {
    Packed(PackedDevice),
    Split(SplitDevice),
}

impl RingDevice {
    pub(crate) fn next(&mut self, memory: &Memory) -> Option<Chain> {
        match self {
            Self::Packed(ring) => ring.next(memory),
            Self::Split(ring) => ring.next(memory),
        }
    }

    /// Uses chains; with `batch` only the last one's entry is written (IN_ORDER).
    pub(crate) fn push(&mut self, memory: &Memory, used: &[(Chain, u32)], batch: bool) {
        match self {
            Self::Packed(ring) => ring.push(memory, used, batch),
            Self::Split(ring) => ring.push(memory, used, batch),
        }
    }

    /// Whether the driver wants an interrupt for what was used since this was last asked.
    pub(crate) fn wants_interrupt(&mut self, memory: &Memory) -> bool {
        match self {
            Self::Packed(ring) => ring.wants_interrupt(memory),
            Self::Split(ring) => ring.wants_interrupt(memory),
        }
    }

    /// Asks for a doorbell at the next chain, or for none.
    pub(crate) fn set_doorbell(&mut self, memory: &Memory, wanted: bool) {
        match self {
            Self::Packed(ring) => ring.set_doorbell(memory, wanted),
            Self::Split(ring) => ring.set_doorbell(memory, wanted),
        }
    }
}
