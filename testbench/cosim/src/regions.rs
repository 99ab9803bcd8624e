//! What DMA addresses mean: the address space of the simulated host.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_device::{DmaError, Region, RegionId};

/// Translates and reaches memory for [`HostMemory`](crate::HostMemory).
///
/// An access is all or nothing: `false` means that a part of it is not mapped and nothing was moved.
pub trait AddressSpace {
    /// Reads `out.len()` bytes at `addr`.
    fn read(&self, addr: u64, out: &mut [u8]) -> bool;

    /// Writes at `addr`.
    fn write(&self, addr: u64, bytes: &[u8]) -> bool;
}

/// First address that is handed out; above all 32-bit addresses, so that a cut-off upper half is found.
const FIRST: u64 = 0x1_0000_0000;

/// Unmapped bytes between regions, so that what runs over an end is found.
const GAP: u64 = 0x1_0000;

/// Regions that may be mapped at a time.
pub const REGIONS_MAX: usize = 65_536;

/// An IOMMU domain in miniature: regions of [`tandem_device`] at addresses of its own choice.
#[derive(Debug, Default)]
pub struct RegionTable {
    /// By first address.
    mapped: BTreeMap<u64, Arc<Region>>,
    next: u64,
}

impl RegionTable {
    /// An empty address space.
    pub fn new() -> Self {
        Self::default()
    }

    /// Maps the whole region; mapping it again returns the same address.
    ///
    /// # Errors
    /// [`DmaError::NoSpace`] when [`REGIONS_MAX`] are mapped.
    pub fn map(&mut self, region: &Arc<Region>) -> Result<u64, DmaError> {
        let len = region.len();
        if let Some((addr, _)) = self.mapped.iter().find(|(_, r)| r.id() == region.id()) {
            return Ok(*addr);
        }
        if self.mapped.len() >= REGIONS_MAX {
            return Err(DmaError::NoSpace { len });
        }
        let addr = self.next.max(FIRST);
        let end = addr.checked_add(len as u64 + GAP).ok_or(DmaError::NoSpace { len })?;
        self.next = end;
        self.mapped.insert(addr, Arc::clone(region));
        Ok(addr)
    }

    /// Unmaps it; its address is not handed out again.
    pub fn unmap(&mut self, region: RegionId) {
        self.mapped.retain(|_, r| r.id() != region);
    }

    /// Regions that are mapped.
    pub fn len(&self) -> usize {
        self.mapped.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.mapped.is_empty()
    }

    fn find(&self, addr: u64, len: usize) -> Option<(&Region, usize)> {
        let (first, region) = self.mapped.range(..=addr).next_back()?;
        let offset = usize::try_from(addr - first).ok()?;
        (offset < region.len() && len <= region.len() - offset).then_some((&**region, offset))
    }
}

impl AddressSpace for RegionTable {
    fn read(&self, addr: u64, out: &mut [u8]) -> bool {
        self.find(addr, out.len()).map(|(region, offset)| region.read(offset, out)).is_some()
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> bool {
        self.find(addr, bytes.len()).map(|(region, offset)| region.write(offset, bytes)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_and_ends_are_guarded() {
        let mut table = RegionTable::new();
        let a = Region::new("a", 4096).unwrap();
        let b = Region::new("b", 8192).unwrap();
        let at = table.map(&a).unwrap();
        let bt = table.map(&b).unwrap();
        assert_eq!(table.map(&a).unwrap(), at);
        assert!(bt >= at + 4096 + GAP);
        assert!(table.write(bt + 8190, &[7, 8]));
        assert!(!table.write(bt + 8191, &[9, 9]), "runs over the end");
        let mut out = [0; 2];
        assert!(table.read(bt + 8190, &mut out));
        assert_eq!(out, [7, 8], "the refused write moved nothing");
        assert!(!table.read(at - 1, &mut out));
        assert!(!table.read(u64::MAX, &mut out));
        table.unmap(b.id());
        assert!(!table.read(bt, &mut out));
        assert_eq!(table.len(), 1);
    }
}
