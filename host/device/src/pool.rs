//! Pools of equal buffers over one region of shareable memory.
//!
//! All memory is laid out when the pool is made. A buffer in use is named by an index and counted;
//! taking and returning one is a lock-free queue operation, so that frames may be dropped by any
//! thread.
//!
//! # Invariants
//! Each index is in exactly one of two conditions: in the free queue with count 0, or counted by at
//! least one handle. At most one handle of an index is a [`Frame`] or a [`Filler`]; it alone may touch
//! the index's `State` and the private part of its bytes. All others are [`Payload`]s, which only read
//! the shared part. Private and shared parts never overlap.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use thiserror::Error;

use crate::frame::{Frame, Payload, State};
use crate::{Region, RegionId};

/// Shape of a [`Pool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Buffers, at least 1.
    pub buffers: u32,
    /// Bytes of each, rounded up to a multiple of 64.
    pub buffer_len: u32,
    /// Bytes left free in front of a new frame for headers to be put there.
    pub headroom: u32,
}

impl PoolConfig {
    /// Whole frames of an ordinary MTU with room for headers.
    pub fn frames(buffers: u32) -> Self {
        Self { buffers, buffer_len: 2048, headroom: 128 }
    }

    /// Payload that is filled by sockets and sent by reference.
    pub fn payload(buffers: u32) -> Self {
        Self { buffers, buffer_len: 16 * 1024, headroom: 0 }
    }
}

/// The pool has no free buffer. Counted in [`PoolStats::exhausted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("all {buffers} buffers of the pool are in use")]
pub struct PoolExhausted {
    /// How many there are.
    pub buffers: u32,
}

/// Use of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Buffers.
    pub buffers: u32,
    /// Of them, free now.
    pub free: u32,
    /// How often none was free.
    pub exhausted: u64,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) region: Arc<Region>,
    pub(crate) buffers: u32,
    pub(crate) buffer_len: u32,
    headroom: u32,
    free: ArrayQueue<u32>,
    refs: Box<[AtomicU32]>,
    states: Box<[UnsafeCell<State>]>,
    exhausted: AtomicU64,
}

// SAFETY: `states` and the private bytes of an index are touched only through its one Frame or Filler
// (see the module's invariants); all else is atomic or immutable.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    /// Where the buffer begins in the region.
    pub(crate) fn base(&self, index: u32) -> usize {
        index as usize * self.buffer_len as usize
    }

    /// Pointer to a byte of a buffer; `offset` at most `buffer_len`.
    pub(crate) fn ptr(&self, index: u32, offset: u32) -> *mut u8 {
        debug_assert!(index < self.buffers && offset <= self.buffer_len);
        // SAFETY: the region holds buffers * buffer_len bytes.
        unsafe { self.region.as_ptr().add(self.base(index) + offset as usize) }
    }

    pub(crate) fn state(&self, index: u32) -> *mut State {
        self.states[index as usize].get()
    }

    pub(crate) fn retain(&self, index: u32) {
        let old = self.refs[index as usize].fetch_add(1, Ordering::Relaxed);
        debug_assert!(old > 0, "a free buffer was shared");
        assert!(old < u32::MAX / 2, "reference count overflow");
    }

    pub(crate) fn release(&self, index: u32) {
        let old = self.refs[index as usize].fetch_sub(1, Ordering::Release);
        debug_assert!(old > 0, "a free buffer was released");
        if old == 1 {
            fence(Ordering::Acquire);
            let pushed = self.free.push(index);
            debug_assert!(pushed.is_ok(), "more buffers returned than there are");
        }
    }

    pub(crate) fn references(&self, index: u32) -> u32 {
        self.refs[index as usize].load(Ordering::Acquire)
    }

    fn take(&self) -> Result<u32, PoolExhausted> {
        match self.free.pop() {
            Some(index) => {
                self.refs[index as usize].store(1, Ordering::Relaxed);
                Ok(index)
            }
            None => {
                self.exhausted.fetch_add(1, Ordering::Relaxed);
                Err(PoolExhausted { buffers: self.buffers })
            }
        }
    }
}

/// A pool of buffers; cheap to clone, all clones are the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(crate) inner: Arc<Inner>,
}

impl Pool {
    /// Makes a pool with all its memory.
    ///
    /// # Errors
    /// What the system says when the memory cannot be had.
    ///
    /// # Panics
    /// When the configuration has no buffers, or less buffer than headroom.
    pub fn new(config: PoolConfig) -> std::io::Result<Self> {
        assert!(config.buffers > 0, "a pool needs buffers");
        let buffer_len = config.buffer_len.next_multiple_of(64);
        assert!(config.headroom < buffer_len, "headroom must leave room for bytes");
        let region = Region::new("tandem-pool", config.buffers as usize * buffer_len as usize)?;
        let free = ArrayQueue::new(config.buffers as usize);
        for index in 0..config.buffers {
            free.push(index).expect("sized for all");
        }
        Ok(Self {
            inner: Arc::new(Inner {
                region,
                buffers: config.buffers,
                buffer_len,
                headroom: config.headroom,
                free,
                refs: (0..config.buffers).map(|_| AtomicU32::new(0)).collect(),
                states: (0..config.buffers).map(|_| UnsafeCell::new(State::default())).collect(),
                exhausted: AtomicU64::new(0),
            }),
        })
    }

    /// An empty frame with the pool's headroom in front.
    ///
    /// # Errors
    /// [`PoolExhausted`].
    pub fn alloc(&self) -> Result<Frame, PoolExhausted> {
        let index = self.inner.take()?;
        Ok(Frame::new(self.inner.clone(), index, self.inner.headroom))
    }

    /// An empty buffer to be filled with payload.
    ///
    /// # Errors
    /// [`PoolExhausted`].
    pub fn filler(&self) -> Result<Filler, PoolExhausted> {
        let index = self.inner.take()?;
        Ok(Filler { inner: self.inner.clone(), index, filled: 0 })
    }

    /// The memory, for mapping into a DMA domain.
    pub fn region(&self) -> &Arc<Region> {
        &self.inner.region
    }

    /// Name of that memory.
    pub fn id(&self) -> RegionId {
        self.inner.region.id()
    }

    /// Bytes of each buffer.
    pub fn buffer_len(&self) -> u32 {
        self.inner.buffer_len
    }

    /// Headroom of a new frame in bytes.
    pub fn headroom(&self) -> u32 {
        self.inner.headroom
    }

    /// Use now.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            buffers: self.inner.buffers,
            free: self.inner.free.len() as u32,
            exhausted: self.inner.exhausted.load(Ordering::Relaxed),
        }
    }
}

/// A buffer being filled from the front; what has been filled can be shared at once, while the rest
/// is still to come. A socket's send buffer is a queue of these.
#[derive(Debug)]
pub struct Filler {
    inner: Arc<Inner>,
    index: u32,
    filled: u32,
}

impl Filler {
    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        (self.inner.buffer_len - self.filled) as usize
    }

    /// Bytes filled.
    pub fn filled(&self) -> usize {
        self.filled as usize
    }

    /// Copies as much of `bytes` as fits and returns how much that was.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        // SAFETY: [filled, filled + len) is in the buffer and private to this filler: payloads are
        // only ever made of what lies below `filled`.
        unsafe {
            let to = self.inner.ptr(self.index, self.filled);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, len);
        }
        self.filled += len as u32;
        len
    }

    /// A reference to filled bytes.
    ///
    /// # Panics
    /// When the range is not within what was filled.
    pub fn payload(&self, range: Range<usize>) -> Payload {
        assert!(
            range.start <= range.end && range.end <= self.filled(),
            "payload {range:?} of {} filled bytes",
            self.filled
        );
        self.inner.retain(self.index);
        Payload::new(
            self.inner.clone(),
            self.index,
            range.start as u32,
            (range.end - range.start) as u32,
        )
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.inner.release(self.index);
    }
}
