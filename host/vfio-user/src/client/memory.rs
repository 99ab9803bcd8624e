//! The memory that a client has lent to the device.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, pread, pwrite};

use crate::memory::ClientMemory;
use crate::message::DmaFlags;

enum Source {
    File { fd: Arc<OwnedFd>, offset: u64 },
    Private(Arc<dyn ClientMemory>),
}

struct Range {
    size: u64,
    flags: DmaFlags,
    source: Source,
}

/// Ranges by DMA address; they never overlap.
#[derive(Default)]
pub(super) struct LentMemory {
    ranges: BTreeMap<u64, Range>,
}

impl fmt::Debug for LentMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentMemory").field("ranges", &self.ranges.len()).finish()
    }
}

impl LentMemory {
    pub(super) fn insert_file(
        &mut self,
        address: u64,
        size: u64,
        flags: DmaFlags,
        fd: Arc<OwnedFd>,
        offset: u64,
    ) -> Result<(), &'static str> {
        offset.checked_add(size).ok_or("the DMA range wraps around")?;
        self.insert(address, Range { size, flags, source: Source::File { fd, offset } })
    }

    pub(super) fn insert_private(
        &mut self,
        address: u64,
        flags: DmaFlags,
        memory: Arc<dyn ClientMemory>,
    ) -> Result<(), &'static str> {
        self.insert(address, Range { size: memory.size(), flags, source: Source::Private(memory) })
    }

    fn insert(&mut self, address: u64, range: Range) -> Result<(), &'static str> {
        let last = range.size.checked_sub(1).and_then(|size| address.checked_add(size));
        let last = last.ok_or("the DMA range is empty or wraps around")?;
        let before = self.ranges.range(..=last).next_back();
        if before.is_some_and(|(start, range)| start + (range.size - 1) >= address) {
            return Err("the DMA range overlaps another");
        }
        self.ranges.insert(address, range);
        Ok(())
    }

    pub(super) fn contains(&self, address: u64, size: u64) -> bool {
        self.ranges.get(&address).is_some_and(|range| range.size == size)
    }

    pub(super) fn remove(&mut self, address: u64, size: u64) {
        if self.contains(address, size) {
            self.ranges.remove(&address);
        }
    }

    fn piece(
        &self,
        address: u64,
        len: usize,
        needs: DmaFlags,
    ) -> Result<(&Range, u64, usize), Errno> {
        let (start, range) = self.ranges.range(..=address).next_back().ok_or(Errno::FAULT)?;
        let offset = address - start;
        if offset >= range.size {
            return Err(Errno::FAULT);
        }
        if !range.flags.contains(needs) {
            return Err(Errno::ACCESS);
        }
        let here = usize::try_from(range.size - offset).unwrap_or(usize::MAX);
        Ok((range, offset, here.min(len)))
    }

    /// Whether all of an access is lent with that permission.
    fn check(&self, address: u64, len: usize, needs: DmaFlags) -> Result<(), Errno> {
        let mut done = 0;
        while done < len {
            let at = address.checked_add(done as u64).ok_or(Errno::FAULT)?;
            done += self.piece(at, len - done, needs)?.2;
        }
        Ok(())
    }

    pub(super) fn read(&self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.check(address, data.len(), DmaFlags::READ)?;
        let mut done = 0;
        while done < data.len() {
            let (range, offset, len) =
                self.piece(address + done as u64, data.len() - done, DmaFlags::READ)?;
            let into = &mut data[done..done + len];
            done += match &range.source {
                Source::File { fd, offset: base } => some(pread(fd, into, base + offset))?,
                Source::Private(memory) => {
                    memory.read(offset, into).map(|()| len).map_err(|_| Errno::FAULT)?
                }
            };
        }
        Ok(())
    }

    pub(super) fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        self.check(address, data.len(), DmaFlags::WRITE)?;
        let mut done = 0;
        while done < data.len() {
            let (range, offset, len) =
                self.piece(address + done as u64, data.len() - done, DmaFlags::WRITE)?;
            let from = &data[done..done + len];
            done += match &range.source {
                Source::File { fd, offset: base } => some(pwrite(fd, from, base + offset))?,
                Source::Private(memory) => {
                    memory.write(offset, from).map(|()| len).map_err(|_| Errno::FAULT)?
                }
            };
        }
        Ok(())
    }
}

fn some(n: Result<usize, Errno>) -> Result<usize, Errno> {
    match n {
        Ok(0) => Err(Errno::FAULT),
        Err(Errno::INTR) => Ok(0),
        n => n,
    }
}
