//! Memory that another process reads and writes at the same time.
//!
//! No Rust reference to it exists anywhere in this crate: it is reached through raw pointers, by volatile
//! accesses of the largest naturally aligned size. A 2-, 4- or 8-byte field that is aligned is therefore read
//! and written whole, which the rings of virtio rely on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use thiserror::Error;

use crate::message::SparseArea;

/// Copies `len` bytes from shared memory; later reads are not moved before it.
///
/// # Safety
/// `from .. from + len` must be mapped and readable, `to .. to + len` valid for writes and private.
pub(crate) unsafe fn copy_from_shared(mut from: *const u8, mut to: *mut u8, mut len: usize) {
    // SAFETY: each step stays within the two ranges, and a wide volatile read is made only at an address that
    // is aligned for it and with as many bytes left; the private side may be unaligned.
    unsafe {
        while len > 0 {
            let step = natural_step(from as usize, len);
            match step {
                8 => ptr::write_unaligned(to.cast(), ptr::read_volatile(from.cast::<u64>())),
                4 => ptr::write_unaligned(to.cast(), ptr::read_volatile(from.cast::<u32>())),
                2 => ptr::write_unaligned(to.cast(), ptr::read_volatile(from.cast::<u16>())),
                _ => to.write(ptr::read_volatile(from)),
            }
            (from, to, len) = (from.add(step), to.add(step), len - step);
        }
    }
    fence(Ordering::Acquire);
}

/// Copies `len` bytes to shared memory; earlier writes are not moved behind it.
///
/// # Safety
/// `to .. to + len` must be mapped and writable, `from .. from + len` valid for reads and private.
pub(crate) unsafe fn copy_to_shared(mut from: *const u8, mut to: *mut u8, mut len: usize) {
    fence(Ordering::Release);
    // SAFETY: as in `copy_from_shared`, with the roles exchanged.
    unsafe {
        while len > 0 {
            let step = natural_step(to as usize, len);
            match step {
                8 => ptr::write_volatile(to.cast::<u64>(), ptr::read_unaligned(from.cast())),
                4 => ptr::write_volatile(to.cast::<u32>(), ptr::read_unaligned(from.cast())),
                2 => ptr::write_volatile(to.cast::<u16>(), ptr::read_unaligned(from.cast())),
                _ => ptr::write_volatile(to, from.read()),
            }
            (from, to, len) = (from.add(step), to.add(step), len - step);
        }
    }
}

/// Largest of 8, 4, 2, 1 that divides the address and fits into `len`.
fn natural_step(address: usize, len: usize) -> usize {
    let fits = 1 << len.min(8).ilog2();
    let aligned = 1 << address.trailing_zeros().min(3);
    usize::min(fits, aligned)
}

/// An access outside of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{len} bytes at offset {offset:#x} are outside of {size:#x} bytes")]
pub struct OutOfRange {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
    /// Bytes of the memory.
    pub size: u64,
}

fn check(offset: u64, len: usize, size: usize) -> Result<usize, OutOfRange> {
    let out = OutOfRange { offset, len, size: size as u64 };
    let start = usize::try_from(offset).map_err(|_| out)?;
    let end = start.checked_add(len).ok_or(out)?;
    if end <= size { Ok(start) } else { Err(out) }
}

/// Memory of the client that the server reaches by messages only.
pub trait ClientMemory: Send + Sync {
    /// Bytes of it.
    fn size(&self) -> u64;
    /// Reads for the server's `DMA_READ`.
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), OutOfRange>;
    /// Writes for the server's `DMA_WRITE`.
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), OutOfRange>;
}

/// Memory in a file without a name (memfd), sealed against shrinking so that a peer may map it without fear.
#[derive(Debug)]
pub struct SharedMemory {
    fd: Arc<OwnedFd>,
    map: MmapRaw,
}

impl SharedMemory {
    /// Makes zeroed memory of `size` bytes (not 0).
    ///
    /// # Errors
    /// What the system says when it has none.
    pub fn new(size: usize) -> std::io::Result<Self> {
        let fd = memfd_create("tandem-dma", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, size as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = MmapOptions::new().len(size).map_raw(&fd)?;
        Ok(Self { fd: Arc::new(fd), map })
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Always `false`: it is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Its first byte, valid as long as this value lives. Other processes may access what it points to.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Its file, to be shared further.
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl ClientMemory for SharedMemory {
    fn size(&self) -> u64 {
        self.map.len() as u64
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), OutOfRange> {
        let start = check(offset, data.len(), self.map.len())?;
        // SAFETY: the range was just checked against the mapping, which lives as long as `self`; `data` is ours.
        unsafe { copy_from_shared(self.map.as_ptr().add(start), data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let start = check(offset, data.len(), self.map.len())?;
        // SAFETY: the range was just checked against the writable mapping; `data` is ours.
        unsafe { copy_to_shared(data.as_ptr(), self.map.as_mut_ptr().add(start), data.len()) };
        Ok(())
    }
}

/// A mapped part of a device's region.
#[derive(Debug)]
pub struct RegionMap {
    area: SparseArea,
    map: MmapRaw,
}

macro_rules! register {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads a register of this size at `offset` in the region.
        ///
        /// # Errors
        /// When it is outside of the mapped area or not aligned.
        pub fn $read(&self, offset: u64) -> Result<$type, OutOfRange> {
            let at = self.register(offset, size_of::<$type>())?;
            // SAFETY: `register` checked that the address is mapped and aligned for this type.
            Ok(unsafe { ptr::read_volatile(at.cast::<$type>()) })
        }

        /// Writes a register of this size at `offset` in the region.
        ///
        /// # Errors
        /// When it is outside of the mapped area or not aligned.
        pub fn $write(&self, offset: u64, value: $type) -> Result<(), OutOfRange> {
            let at = self.register(offset, size_of::<$type>())?;
            // SAFETY: as above, and the mapping is writable.
            unsafe { ptr::write_volatile(at.cast::<$type>(), value) };
            Ok(())
        }
    };
}

impl RegionMap {
    pub(crate) fn new(fd: BorrowedFd<'_>, base: u64, area: SparseArea) -> std::io::Result<Self> {
        let invalid = || std::io::Error::from(rustix::io::Errno::INVAL);
        let len = usize::try_from(area.size).ok().filter(|&len| len > 0).ok_or_else(invalid)?;
        let offset = base.checked_add(area.offset).ok_or_else(invalid)?;
        // Behind its end a file cannot be touched without SIGBUS, so a server that promises more is refused.
        let size = rustix::fs::fstat(fd)?.st_size;
        let end = offset.checked_add(area.size).ok_or_else(invalid)?;
        if u64::try_from(size).map_or(true, |size| size < end) {
            return Err(invalid());
        }
        let map = MmapOptions::new().offset(offset).len(len).map_raw(&fd)?;
        Ok(Self { area, map })
    }

    /// Which part of the region is mapped.
    pub fn area(&self) -> SparseArea {
        self.area
    }

    fn register(&self, offset: u64, len: usize) -> Result<*mut u8, OutOfRange> {
        let out = OutOfRange { offset, len, size: self.area.size };
        let start = check(offset.checked_sub(self.area.offset).ok_or(out)?, len, self.map.len())?;
        if !offset.is_multiple_of(len as u64) {
            return Err(out);
        }
        // SAFETY: `start` is within the mapping.
        Ok(unsafe { self.map.as_mut_ptr().add(start) })
    }

    register!(read_u8, write_u8, u8);
    register!(read_u16, write_u16, u16);
    register!(read_u32, write_u32, u32);
    register!(read_u64, write_u64, u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_aligned_and_fit() {
        for address in 0..16 {
            for len in 1..16 {
                let step = natural_step(address, len);
                assert!(step <= len && address % step == 0 && [1, 2, 4, 8].contains(&step));
            }
        }
        // An aligned field moves whole.
        assert_eq!([natural_step(2, 2), natural_step(4, 4), natural_step(8, 8)], [2, 4, 8]);
    }

    #[test]
    fn copies_any_alignment() {
        let memory = SharedMemory::new(4096).unwrap();
        let data: Vec<u8> = (0..=255).collect();
        for offset in 0..9 {
            for len in 0..40 {
                memory.write(offset, &data[..len]).unwrap();
                let mut back = vec![0; len];
                memory.read(offset, &mut back).unwrap();
                assert_eq!(back, data[..len]);
            }
        }
        assert!(memory.write(4095, &[1, 2]).is_err());
        assert!(memory.read(u64::MAX, &mut [0]).is_err());
        assert!(memory.read(4096, &mut []).is_ok());
    }
}
