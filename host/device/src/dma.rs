//! Memory that devices reach: regions, and the domains into which they are mapped.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use thiserror::Error;

/// Names a [`Region`] for the life of the process; small and dense, so that a domain may keep its
/// addresses in a plain vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u32);

static NEXT_REGION: AtomicU32 = AtomicU32::new(0);

/// Shared memory behind a file descriptor, page-aligned, that a device may read and write at any time.
///
/// There is no way to a Rust reference into it from here: a device may write while we look, so bytes
/// are copied in and out, and ring fields are accessed as atomics.
///
/// The one exception is the region of a [`crate::Pool`], whose frames lend slices of their own buffers.
/// There, [`Region::read`], [`Region::write`] and the file descriptor are what the device does (a
/// simulated one, or one in another process), and like the device they may touch only buffers that were
/// given to it and not yet taken back. The compiler cannot check that; a device that writes elsewhere
/// changes bytes under a slice that somebody holds.
#[derive(Debug)]
pub struct Region {
    id: RegionId,
    map: MmapRaw,
    file: File,
}

impl Region {
    /// Makes a region of at least `len` bytes, rounded up to whole pages, filled with zeros.
    ///
    /// # Errors
    /// What memfd_create, ftruncate or mmap answer.
    pub fn new(name: &str, len: usize) -> std::io::Result<Arc<Self>> {
        let len = len.max(1).next_multiple_of(4096);
        use rustix::fs::{MemfdFlags, SealFlags};
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let file = File::from(fd);
        file.set_len(len as u64)?;
        // Who maps it elsewhere can rely on its length: a vfio-user server maps no other memory.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        Ok(Arc::new(Self { id: RegionId(NEXT_REGION.fetch_add(1, Ordering::Relaxed)), map, file }))
    }

    /// Its name.
    pub fn id(&self) -> RegionId {
        self.id
    }

    /// Length in bytes, a multiple of 4096.
    #[allow(clippy::len_without_is_empty, reason = "a region has at least a page")]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// First byte. Valid for `len` bytes for as long as the region lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The memory file, for handing to another process or a VMM.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn check(&self, offset: usize, len: usize) {
        assert!(
            offset <= self.len() && len <= self.len() - offset,
            "access of {len} bytes at {offset} in a region of {}",
            self.len()
        );
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// When the range is not inside the region.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        self.check(offset, out.len());
        // SAFETY: checked above; the memory may change under the copy, which raw copies of bytes
        // tolerate in that any value of each byte is acceptable. `out` may be a frame's head in this very
        // region, so the ranges may overlap.
        unsafe {
            std::ptr::copy(self.as_ptr().add(offset), out.as_mut_ptr(), out.len());
        }
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// When the range is not inside the region.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: as for `read`.
        unsafe {
            std::ptr::copy(bytes.as_ptr(), self.as_ptr().add(offset), bytes.len());
        }
    }

    /// A 16-bit field as an atomic.
    ///
    /// # Panics
    /// When it is not inside the region or not aligned.
    pub fn atomic_u16(&self, offset: usize) -> &AtomicU16 {
        self.check(offset, 2);
        assert!(offset.is_multiple_of(2));
        // SAFETY: in bounds and aligned; shared memory is accessed through atomics only.
        unsafe { AtomicU16::from_ptr(self.as_ptr().add(offset).cast()) }
    }

    /// A 32-bit field as an atomic.
    ///
    /// # Panics
    /// When it is not inside the region or not aligned.
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4);
        assert!(offset.is_multiple_of(4));
        // SAFETY: in bounds and aligned; shared memory is accessed through atomics only.
        unsafe { AtomicU32::from_ptr(self.as_ptr().add(offset).cast()) }
    }
}

/// Why a region could not be mapped or unmapped.
#[derive(Debug, Error)]
pub enum DmaError {
    /// The domain has no address range left.
    #[error("no room for {len} bytes in the DMA domain")]
    NoSpace {
        /// Bytes asked for.
        len: usize,
    },
    /// The domain's device is gone.
    #[error("the device behind the DMA domain is gone")]
    Gone,
    /// What the system answered.
    #[error("mapping memory for DMA failed")]
    Io(#[from] std::io::Error),
}

/// An address space through which one device, or several behind one IOMMU group, reach our memory.
///
/// Mapping keeps the region alive: a lost device's memory stays until it is unmapped.
pub trait DmaDomain {
    /// Maps the whole region and returns the address of its first byte as the device sees it. Mapping
    /// a region again returns the same address.
    ///
    /// # Errors
    /// See [`DmaError`].
    fn map(&mut self, region: &Arc<Region>) -> Result<u64, DmaError>;

    /// Unmaps it; afterwards the device can no longer reach it. Unknown regions are ignored.
    ///
    /// # Errors
    /// See [`DmaError`]; the region is then still to be considered mapped.
    fn unmap(&mut self, region: RegionId) -> Result<(), DmaError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_fields_are_the_same_memory() {
        let region = Region::new("t", 10).unwrap();
        assert_eq!(region.len(), 4096);
        region.write(8, &[1, 2, 3, 4]);
        assert_eq!(region.atomic_u32(8).load(Ordering::Acquire), 0x0403_0201);
        region.atomic_u16(10).store(0xFFFF, Ordering::Release);
        let mut out = [0; 4];
        region.read(8, &mut out);
        assert_eq!(out, [1, 2, 0xFF, 0xFF]);
    }

    #[test]
    #[should_panic(expected = "access of 2 bytes")]
    fn out_of_bounds_is_refused() {
        Region::new("t", 1).unwrap().read(4095, &mut [0; 2]);
    }
}
