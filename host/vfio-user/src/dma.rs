//! The ranges of the client's memory that the device may reach.
//!
//! Ranges lie in an ordered map, so a look-up costs O(log n) with 65535 of them: behind a vIOMMU each page of a
//! guest is its own range. An access may span ranges; it happens only when all of it is mapped and permitted.
//!
//! A file that can shrink under a mapping kills the process that touches it (SIGBUS). Only files that are sealed
//! against that are mapped; each file once, whole, however many ranges lie in it. Others are read and written by
//! system calls: slower, but a hostile client gains nothing. Files that are not memory (tmpfs, memfd,
//! hugetlbfs) are refused, because a file system of the client's own could block the server for ever.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat, fstatfs};
use rustix::io::{Errno, pread, pwrite};
use thiserror::Error;

use crate::memory::{copy_from_shared, copy_to_shared};
use crate::message::DmaFlags;

/// Most ranges at one time.
pub const DMA_MAPS_MAX: usize = 65535;

/// Largest file that is mapped whole; of a larger one only the range.
const WHOLE_FILE_BYTES_MAX: u64 = 1 << 40;

/// Magic numbers of the file systems whose files are memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Why a range was not mapped or unmapped.
#[derive(Debug, Error)]
pub enum DmaMapError {
    /// The range is empty or wraps around.
    #[error("{size:#x} bytes at {address:#x} are no range")]
    Range {
        /// First address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// Something is mapped there already.
    #[error("{size:#x} bytes at {address:#x} overlap a mapped range")]
    Overlap {
        /// First address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// There are [`DMA_MAPS_MAX`] ranges.
    #[error("there are {DMA_MAPS_MAX} ranges already")]
    TooMany,
    /// The file is no memory, or ends before the range.
    #[error("the file is not memory of that size")]
    File,
    /// An unmapping would cut a range in two.
    #[error("{size:#x} bytes at {address:#x} cut a mapped range")]
    Cut {
        /// First address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// The system refused.
    #[error("mapping: {0}")]
    System(#[from] Errno),
}

impl DmaMapError {
    /// The errno of the error reply.
    pub fn errno(&self) -> Errno {
        match self {
            // "A command to map over an existing region must be failed with EEXIST."
            Self::Overlap { .. } => Errno::EXIST,
            Self::TooMany => Errno::NOSPC,
            Self::Range { .. } | Self::File | Self::Cut { .. } => Errno::INVAL,
            Self::System(errno) => *errno,
        }
    }
}

/// Why an access did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DmaError {
    /// Not mapped.
    #[error("DMA address {address:#x} is not mapped")]
    Unmapped {
        /// First address that is not.
        address: u64,
    },
    /// Mapped without that permission.
    #[error("DMA address {address:#x} does not permit that access")]
    Forbidden {
        /// First address of the range.
        address: u64,
    },
    /// The client answered a `DMA_READ` or `DMA_WRITE` with an error, or not with what was asked.
    #[error("the client refused DMA at {address:#x} (errno {errno})")]
    Refused {
        /// First address.
        address: u64,
        /// What it said; 0 for a reply that makes no sense.
        errno: i32,
    },
    /// The client does not answer `DMA_READ` and `DMA_WRITE`.
    #[error("the client does not answer DMA messages")]
    NoAnswer,
    /// The client is gone.
    #[error("the client is gone")]
    Gone,
    /// The system refused to read or write the file behind the range.
    #[error("DMA address {address:#x}: its file cannot be accessed (errno {errno})")]
    File {
        /// First address.
        address: u64,
        /// What it said.
        errno: i32,
    },
}

#[derive(Debug)]
enum Backing {
    /// Byte 0 of the range is at this offset of the mapping.
    Mapped { map: Arc<MmapRaw>, offset: usize },
    /// Byte 0 of the range is at this offset of the file.
    File { fd: OwnedFd, offset: u64 },
    /// Reached by messages to the client.
    Messages,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    flags: DmaFlags,
    backing: Backing,
}

/// Which file, and whether it may be written.
type FileKey = (u64, u64, bool);

/// The mapped ranges, ordered by address.
#[derive(Debug, Default)]
pub struct DmaTable {
    entries: BTreeMap<u64, Entry>,
    files: HashMap<FileKey, Weak<MmapRaw>>,
}

/// The part of an access that lies in one range.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Done here.
    Done(usize),
    /// So many bytes must go by message.
    Messages(usize),
}

impl DmaTable {
    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a range. `file` is the memory and the offset of the range in it; without one it is reached by
    /// messages.
    ///
    /// # Errors
    /// See [`DmaMapError`]; nothing changes then.
    pub fn map(
        &mut self,
        address: u64,
        size: u64,
        flags: DmaFlags,
        file: Option<(OwnedFd, u64)>,
    ) -> Result<(), DmaMapError> {
        let last = last_address(address, size)?;
        let before = self.entries.range(..=last).next_back();
        if before.is_some_and(|(start, entry)| start + (entry.size - 1) >= address) {
            return Err(DmaMapError::Overlap { address, size });
        }
        if self.entries.len() >= DMA_MAPS_MAX {
            return Err(DmaMapError::TooMany);
        }
        let backing = match file {
            Some((fd, offset)) => self.open(fd, offset, size, flags)?,
            None => Backing::Messages,
        };
        self.entries.insert(address, Entry { size, flags, backing });
        Ok(())
    }

    fn open(
        &mut self,
        fd: OwnedFd,
        offset: u64,
        size: u64,
        flags: DmaFlags,
    ) -> Result<Backing, DmaMapError> {
        let (status, system) = (fstat(&fd)?, fstatfs(&fd)?);
        let magic = u64::from(system.f_type as u32);
        let end = offset.checked_add(size).ok_or(DmaMapError::File)?;
        let file_bytes = u64::try_from(status.st_size).map_err(|_| DmaMapError::File)?;
        if !matches!(magic, TMPFS_MAGIC | HUGETLBFS_MAGIC) || end > file_bytes {
            return Err(DmaMapError::File);
        }
        // Mapping for writing fails on a descriptor that was opened for reading; a range that is only read may
        // still be mapped then.
        let access = fcntl_getfl(&fd)? & OFlags::RWMODE;
        let writable = access == OFlags::RDWR;
        if (flags.contains(DmaFlags::WRITE) && !writable) || access == OFlags::WRONLY {
            return Err(DmaMapError::System(Errno::ACCESS));
        }
        let sealed = fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed {
            return Ok(Backing::File { fd, offset });
        }
        if file_bytes > WHOLE_FILE_BYTES_MAX {
            let len = usize::try_from(size).map_err(|_| DmaMapError::File)?;
            return Ok(Backing::Mapped {
                map: Arc::new(map_file(&fd, offset, len, writable)?),
                offset: 0,
            });
        }
        let key = (status.st_dev, status.st_ino, writable);
        let offset = usize::try_from(offset).map_err(|_| DmaMapError::File)?;
        let end = usize::try_from(end).map_err(|_| DmaMapError::File)?;
        // The file may have grown since it was mapped.
        let known = self.files.get(&key).and_then(Weak::upgrade).filter(|map| map.len() >= end);
        let map = match known {
            Some(map) => map,
            None => {
                let len = usize::try_from(file_bytes).map_err(|_| DmaMapError::File)?;
                let map = Arc::new(map_file(&fd, 0, len, writable)?);
                self.files.retain(|_, map| map.strong_count() > 0);
                self.files.insert(key, Arc::downgrade(&map));
                map
            }
        };
        Ok(Backing::Mapped { map, offset })
    }

    /// Removes every range that lies within these addresses and says how many there were; 0 is no error, as in
    /// Linux's type 1 IOMMU, because a vIOMMU's invalidations are wider than what was mapped.
    ///
    /// # Errors
    /// When a range lies partly within; nothing changes then.
    pub fn unmap(&mut self, address: u64, size: u64) -> Result<usize, DmaMapError> {
        let last = last_address(address, size)?;
        let cut =
            |(start, entry): (&u64, &Entry)| *start < address || start + (entry.size - 1) > last;
        let overlapping = |table: &Self, at: u64| {
            let (start, entry) = table.entries.range(..=at).next_back()?;
            (start + (entry.size - 1) >= address).then_some(cut((start, entry)))
        };
        // Only the range around the first address and the last one can stick out.
        if overlapping(self, address) == Some(true) || overlapping(self, last) == Some(true) {
            return Err(DmaMapError::Cut { address, size });
        }
        let mut removed = 0;
        while let Some((&start, _)) = self.entries.range(address..=last).next() {
            self.entries.remove(&start);
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.files.clear();
    }

    /// Whether all of an access is mapped and permitted.
    ///
    /// # Errors
    /// [`DmaError::Unmapped`] or [`DmaError::Forbidden`] with the first offending address.
    pub fn check(&self, address: u64, len: usize, needs: DmaFlags) -> Result<(), DmaError> {
        let mut done = 0u64;
        while done < len as u64 {
            let at = address.checked_add(done).ok_or(DmaError::Unmapped { address })?;
            let (entry, offset) = self.entry(at)?;
            if !entry.flags.contains(needs) {
                return Err(DmaError::Forbidden { address: at });
            }
            done = done.saturating_add(entry.size - offset);
        }
        Ok(())
    }

    fn entry(&self, address: u64) -> Result<(&Entry, u64), DmaError> {
        let unmapped = DmaError::Unmapped { address };
        let (start, entry) = self.entries.range(..=address).next_back().ok_or(unmapped)?;
        let offset = address - start;
        if offset < entry.size { Ok((entry, offset)) } else { Err(unmapped) }
    }

    /// Reads what the range at `address` has of `data`, from its start.
    pub(crate) fn read_piece(&self, address: u64, data: &mut [u8]) -> Result<Piece, DmaError> {
        let (entry, offset) = self.entry(address)?;
        let len = usize::try_from(entry.size - offset).unwrap_or(usize::MAX).min(data.len());
        match &entry.backing {
            Backing::Mapped { map, offset: base } => {
                // SAFETY: `open` checked that the whole range lies within the mapping, and `offset + len` is
                // within the range; the file cannot shrink, and the mapping lives as long as the entry.
                unsafe {
                    copy_from_shared(
                        map.as_ptr().add(base + offset as usize),
                        data.as_mut_ptr(),
                        len,
                    )
                };
            }
            Backing::File { fd, offset: base } => {
                let mut done = 0;
                while done < len {
                    let n = pread(fd, &mut data[done..len], base + offset + done as u64);
                    done += progress(address, n)?;
                }
            }
            Backing::Messages => return Ok(Piece::Messages(len)),
        }
        Ok(Piece::Done(len))
    }

    /// Writes what the range at `address` takes of `data`, from its start.
    pub(crate) fn write_piece(&self, address: u64, data: &[u8]) -> Result<Piece, DmaError> {
        let (entry, offset) = self.entry(address)?;
        let len = usize::try_from(entry.size - offset).unwrap_or(usize::MAX).min(data.len());
        match &entry.backing {
            Backing::Mapped { map, offset: base } => {
                // SAFETY: as in `read_piece`; a range with the write permission has a writable mapping.
                unsafe {
                    copy_to_shared(data.as_ptr(), map.as_mut_ptr().add(base + offset as usize), len)
                };
            }
            Backing::File { fd, offset: base } => {
                let mut done = 0;
                while done < len {
                    // Writing behind the end would make the file longer: the client's own, so no harm is done.
                    let n = pwrite(fd, &data[done..len], base + offset + done as u64);
                    done += progress(address, n)?;
                }
            }
            Backing::Messages => return Ok(Piece::Messages(len)),
        }
        Ok(Piece::Done(len))
    }
}

fn map_file(fd: &OwnedFd, offset: u64, len: usize, writable: bool) -> Result<MmapRaw, DmaMapError> {
    let mut options = MmapOptions::new();
    options.offset(offset).len(len);
    let map = if writable {
        options.map_raw(&fd.as_fd())
    } else {
        options.map_raw_read_only(&fd.as_fd())
    };
    map.map_err(|error| DmaMapError::System(Errno::from_io_error(&error).unwrap_or(Errno::NOMEM)))
}

fn progress(address: u64, n: Result<usize, Errno>) -> Result<usize, DmaError> {
    match n {
        // The file became shorter than it was when it was mapped.
        Ok(0) => Err(DmaError::File { address, errno: Errno::FAULT.raw_os_error() }),
        Ok(n) => Ok(n),
        Err(Errno::INTR) => Ok(0),
        Err(errno) => Err(DmaError::File { address, errno: errno.raw_os_error() }),
    }
}

fn last_address(address: u64, size: u64) -> Result<u64, DmaMapError> {
    let range = DmaMapError::Range { address, size };
    match size.checked_sub(1).and_then(|size| address.checked_add(size)) {
        Some(last) => Ok(last),
        None => Err(range),
    }
}

#[cfg(test)]
mod tests;
