//! Frames: a private head, payload by reference, and what is known of them.

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use thiserror::Error;

use crate::pool::{Inner, Pool, PoolExhausted};
use crate::{FrameMeta, Region};

/// Most fragments of a frame: 64 KiB in 4 KiB pieces, and one for a ragged start.
pub const FRAGS_MAX: usize = 17;

/// Why bytes could not be put into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Not enough free bytes in front.
    #[error("{wanted} bytes of headroom wanted, {have} left")]
    NoHeadroom {
        /// Bytes wanted.
        wanted: usize,
        /// Bytes there.
        have: usize,
    },
    /// Not enough free bytes behind, or behind them is payload already.
    #[error("{wanted} bytes of tailroom wanted, {have} left")]
    NoTailroom {
        /// Bytes wanted.
        wanted: usize,
        /// Bytes there.
        have: usize,
    },
    /// More than [`FRAGS_MAX`] fragments.
    #[error("a frame has at most {FRAGS_MAX} fragments")]
    TooManyPieces,
}

/// Immutable bytes in a pool's buffer, shared by reference; cheap to clone.
#[derive(Debug)]
pub struct Payload {
    inner: Arc<Inner>,
    index: u32,
    offset: u32,
    len: u32,
}

impl Payload {
    /// Takes over one count on the buffer.
    pub(crate) fn new(inner: Arc<Inner>, index: u32, offset: u32, len: u32) -> Self {
        debug_assert!(offset + len <= inner.buffer_len);
        Self { inner, index, offset, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: in the buffer; shared bytes are never written while a reference is counted.
        unsafe { std::slice::from_raw_parts(self.inner.ptr(self.index, self.offset), self.len()) }
    }

    /// A reference to a part of it.
    ///
    /// # Panics
    /// When the range is not within it.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "slice {range:?}");
        self.inner.retain(self.index);
        Self {
            inner: self.inner.clone(),
            index: self.index,
            offset: self.offset + range.start as u32,
            len: (range.end - range.start) as u32,
        }
    }

    /// Drops bytes from the front.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn trim_front(&mut self, len: usize) {
        assert!(len <= self.len());
        self.offset += len as u32;
        self.len -= len as u32;
    }

    /// Drops bytes from the back so that `len` remain; nothing when there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len.min(u32::MAX as usize) as u32);
    }

    /// Bytes of memory that this reference may keep in use: its whole buffer.
    pub fn true_size(&self) -> usize {
        self.inner.buffer_len as usize
    }

    fn dma(&self) -> DmaPiece<'_> {
        DmaPiece {
            region: &self.inner.region,
            offset: self.inner.base(self.index) + self.offset as usize,
            len: self.len(),
        }
    }
}

impl Clone for Payload {
    fn clone(&self) -> Self {
        self.slice(0..self.len())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.inner.release(self.index);
    }
}

/// What belongs to a frame beside its head's bytes; kept beside the pool, so that a [`Frame`] is a
/// pointer and an index and moves cheaply.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The head is [start, end) of the buffer.
    start: u32,
    end: u32,
    /// Bytes from here on may be referenced by payloads of others and are read-only for good.
    shared_from: u32,
    frags: ArrayVec<Payload, FRAGS_MAX>,
    frags_len: u32,
    meta: FrameMeta,
}

/// A place in device-reachable memory.
#[derive(Debug, Clone, Copy)]
pub struct DmaPiece<'a> {
    /// Memory.
    pub region: &'a Arc<Region>,
    /// First byte in it.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

/// A frame: owner of a buffer that holds its head, references to its payload, and its metadata.
///
/// The head may hold everything, as it does on receive. Headers are written only while they are
/// private: once part of the head was shared with another frame, that part is read-only for good.
#[derive(Debug)]
pub struct Frame {
    inner: Arc<Inner>,
    index: u32,
}

impl Frame {
    /// Takes over the one count on a fresh buffer.
    pub(crate) fn new(inner: Arc<Inner>, index: u32, headroom: u32) -> Self {
        let mut frame = Self { inner, index };
        let buffer_len = frame.inner.buffer_len;
        let state = frame.state_mut();
        state.start = headroom;
        state.end = headroom;
        state.shared_from = buffer_len;
        debug_assert!(state.frags.is_empty());
        state.frags_len = 0;
        state.meta = FrameMeta::default();
        frame
    }

    fn state(&self) -> &State {
        // SAFETY: this is the index's one Frame, and `&self` excludes `state_mut`.
        unsafe { &*self.inner.state(self.index) }
    }

    fn state_mut(&mut self) -> &mut State {
        // SAFETY: this is the index's one Frame, borrowed mutably.
        unsafe { &mut *self.inner.state(self.index) }
    }

    /// Metadata.
    pub fn meta(&self) -> &FrameMeta {
        &self.state().meta
    }

    /// Metadata, to be changed.
    pub fn meta_mut(&mut self) -> &mut FrameMeta {
        &mut self.state_mut().meta
    }

    /// Length in bytes, head and fragments.
    pub fn len(&self) -> usize {
        let state = self.state();
        (state.end - state.start + state.frags_len) as usize
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the head.
    pub fn head(&self) -> &[u8] {
        let state = self.state();
        // SAFETY: in the buffer; private bytes are written only through `&mut self`, shared ones never.
        unsafe {
            std::slice::from_raw_parts(
                self.inner.ptr(self.index, state.start),
                (state.end - state.start) as usize,
            )
        }
    }

    /// Bytes of the head that are private to this frame, from its first byte on.
    pub fn head_mut(&mut self) -> &mut [u8] {
        let (start, end) = {
            let state = self.state();
            (state.start, state.end.min(state.shared_from).max(state.start))
        };
        // SAFETY: in the buffer, private to this frame, borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.inner.ptr(self.index, start),
                (end - start) as usize,
            )
        }
    }

    /// Bytes free in front of the head.
    pub fn headroom(&self) -> usize {
        let state = self.state();
        if state.start <= state.shared_from { state.start as usize } else { 0 }
    }

    /// Bytes free behind the head; none once there are fragments or part of it was shared.
    pub fn tailroom(&self) -> usize {
        let state = self.state();
        if state.frags.is_empty() && state.shared_from == self.inner.buffer_len {
            (self.inner.buffer_len - state.end) as usize
        } else {
            0
        }
    }

    /// Moves an empty frame's start so that `headroom` bytes are free in front.
    ///
    /// # Panics
    /// When the frame is not empty or the buffer is shorter.
    pub fn reserve_headroom(&mut self, headroom: usize) {
        assert!(self.is_empty() && headroom <= self.inner.buffer_len as usize);
        let state = self.state_mut();
        state.start = headroom as u32;
        state.end = headroom as u32;
    }

    /// Extends the frame by `len` bytes in front and returns them, to be written.
    ///
    /// # Errors
    /// [`FrameError::NoHeadroom`].
    pub fn push_front(&mut self, len: usize) -> Result<&mut [u8], FrameError> {
        let have = self.headroom();
        if len > have {
            return Err(FrameError::NoHeadroom { wanted: len, have });
        }
        self.state_mut().start -= len as u32;
        Ok(&mut self.head_mut()[..len])
    }

    /// Extends the head by `len` bytes behind and returns them, to be written; what stands there is
    /// left over from the buffer's last use.
    ///
    /// # Errors
    /// [`FrameError::NoTailroom`].
    pub fn push_back(&mut self, len: usize) -> Result<&mut [u8], FrameError> {
        let have = self.tailroom();
        if len > have {
            return Err(FrameError::NoTailroom { wanted: len, have });
        }
        self.state_mut().end += len as u32;
        let head = self.head_mut();
        let at = head.len() - len;
        Ok(&mut head[at..])
    }

    /// Copies bytes behind the head.
    ///
    /// # Errors
    /// [`FrameError::NoTailroom`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.push_back(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Adds payload behind everything, by reference. Empty payload is dropped.
    ///
    /// # Errors
    /// [`FrameError::TooManyPieces`].
    pub fn push_payload(&mut self, payload: Payload) -> Result<(), FrameError> {
        if payload.is_empty() {
            return Ok(());
        }
        let state = self.state_mut();
        if state.frags.is_full() {
            return Err(FrameError::TooManyPieces);
        }
        state.frags_len += payload.len;
        state.frags.push(payload);
        Ok(())
    }

    /// Fragments behind the head.
    pub fn frags(&self) -> &[Payload] {
        &self.state().frags
    }

    /// Drops bytes from the front, from the head and then from fragments.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn trim_front(&mut self, len: usize) {
        assert!(len <= self.len(), "trim of {len} bytes from a frame of {}", self.len());
        let state = self.state_mut();
        let from_head = len.min((state.end - state.start) as usize);
        state.start += from_head as u32;
        let mut rest = len - from_head;
        state.frags_len -= rest as u32;
        let mut whole = 0;
        for frag in &mut state.frags {
            let cut = rest.min(frag.len());
            if cut == frag.len() {
                whole += 1;
            } else {
                frag.trim_front(cut);
            }
            rest -= cut;
            if rest == 0 {
                break;
            }
        }
        if len > from_head {
            state.frags.drain(..whole);
        }
    }

    /// Drops bytes from the back so that `len` remain; nothing when there are fewer.
    pub fn truncate(&mut self, len: usize) {
        let state = self.state_mut();
        let head = (state.end - state.start) as usize;
        if len <= head {
            state.end = state.start + len as u32;
            state.frags.clear();
            state.frags_len = 0;
            return;
        }
        let mut keep = len - head;
        if keep >= state.frags_len as usize {
            return;
        }
        state.frags_len = keep as u32;
        let mut count = 0;
        for frag in &mut state.frags {
            if keep == 0 {
                break;
            }
            frag.truncate(keep);
            keep -= frag.len();
            count += 1;
        }
        state.frags.truncate(count);
    }

    /// The bytes in order: the head, unless empty, then the fragments.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let head = self.head();
        (!head.is_empty())
            .then_some(head)
            .into_iter()
            .chain(self.state().frags.iter().map(Payload::bytes))
    }

    /// Number of pieces.
    pub fn piece_count(&self) -> usize {
        let state = self.state();
        usize::from(state.end > state.start) + state.frags.len()
    }

    /// Where the pieces are, for a device.
    pub fn dma_pieces(&self) -> impl Iterator<Item = DmaPiece<'_>> {
        let state = self.state();
        let head = DmaPiece {
            region: &self.inner.region,
            offset: self.inner.base(self.index) + state.start as usize,
            len: (state.end - state.start) as usize,
        };
        (head.len > 0).then_some(head).into_iter().chain(state.frags.iter().map(Payload::dma))
    }

    /// Where a device may write to fill an empty frame: from the frame's start to the buffer's end, as
    /// far as that is private. Once it has, [`Frame::set_filled`] says how much.
    pub fn dma_room(&self) -> DmaPiece<'_> {
        DmaPiece {
            region: &self.inner.region,
            offset: self.inner.base(self.index) + self.state().end as usize,
            // Never what payloads of others refer to: a device would write under them.
            len: self.tailroom(),
        }
    }

    /// The device wrote `len` bytes to [`Frame::dma_room`]; they become the head.
    ///
    /// # Panics
    /// When the room is less, or the frame not empty.
    pub fn set_filled(&mut self, len: usize) {
        assert!(self.is_empty() && len <= self.tailroom(), "{len} bytes filled");
        self.state_mut().end += len as u32;
    }

    /// Copies bytes from `offset` on into `out`, and returns how many there were.
    pub fn copy_to(&self, mut offset: usize, out: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces() {
            if offset >= piece.len() {
                offset -= piece.len();
                continue;
            }
            let len = (piece.len() - offset).min(out.len() - done);
            out[done..done + len].copy_from_slice(&piece[offset..offset + len]);
            done += len;
            offset = 0;
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// All bytes in one vector; for tests, captures and logs.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len()];
        self.copy_to(0, &mut out);
        out
    }

    /// Makes the first `len` bytes part of the head, copying from fragments if they are not.
    ///
    /// # Errors
    /// [`FrameError::NoTailroom`] when the frame or the head's buffer is too short, or the head's end
    /// is shared. The frame is unchanged then.
    pub fn pull(&mut self, len: usize) -> Result<(), FrameError> {
        let head = self.head().len();
        if len <= head {
            return Ok(());
        }
        let state = self.state();
        let have = if state.shared_from == self.inner.buffer_len {
            (self.inner.buffer_len - state.end) as usize
        } else {
            0
        };
        let wanted = len - head;
        if len > self.len() || wanted > have {
            return Err(FrameError::NoTailroom { wanted, have });
        }
        let mut frags = std::mem::take(&mut self.state_mut().frags);
        let mut taken = 0;
        for frag in &mut frags {
            let part = (wanted - taken).min(frag.len());
            let end = self.state().end;
            // SAFETY: `wanted` bytes from the head's end on are free and private; a payload never
            // overlaps them.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    frag.bytes().as_ptr(),
                    self.inner.ptr(self.index, end),
                    part,
                );
            }
            self.state_mut().end += part as u32;
            frag.trim_front(part);
            taken += part;
            if taken == wanted {
                break;
            }
        }
        frags.retain(|frag| !frag.is_empty());
        let state = self.state_mut();
        state.frags = frags;
        state.frags_len -= wanted as u32;
        Ok(())
    }

    /// References to the bytes of `range`, given to `sink` in order. The head's bytes from there on
    /// become read-only.
    ///
    /// # Panics
    /// When the range is not within the frame.
    pub fn share(&mut self, range: Range<usize>, mut sink: impl FnMut(Payload)) {
        assert!(range.start <= range.end && range.end <= self.len(), "share of {range:?}");
        let head = self.head().len();
        if range.start < head && range.end > range.start {
            let end = range.end.min(head);
            let inner = self.inner.clone();
            let index = self.index;
            let state = self.state_mut();
            let from = state.start + range.start as u32;
            state.shared_from = state.shared_from.min(from);
            inner.retain(index);
            sink(Payload::new(inner, index, from, (end - range.start) as u32));
        }
        let mut at = head;
        for frag in &self.state().frags {
            let start = range.start.max(at);
            let end = range.end.min(at + frag.len());
            if start < end {
                sink(frag.slice(start - at..end - at));
            }
            at += frag.len();
        }
    }

    /// A second frame with the same bytes and metadata: the first `header_len` bytes are copied into
    /// a head of its own from `pool`, the rest is shared.
    ///
    /// # Errors
    /// [`CloneError`].
    ///
    /// # Panics
    /// When the frame is shorter than `header_len`.
    pub fn try_clone(&mut self, pool: &Pool, header_len: usize) -> Result<Self, CloneError> {
        assert!(header_len <= self.len());
        let mut clone = pool.alloc()?;
        self.copy_to(0, clone.push_back(header_len)?);
        let mut result = Ok(());
        let len = self.len();
        self.share(header_len..len, |payload| {
            if result.is_ok() {
                result = clone.push_payload(payload);
            }
        });
        result?;
        *clone.meta_mut() = *self.meta();
        Ok(clone)
    }

    /// How many handles keep the head's buffer in use, this frame included.
    pub fn references(&self) -> u32 {
        self.inner.references(self.index)
    }

    /// Bytes of memory that this frame keeps in use: whole buffers, its own and those of its fragments.
    pub fn true_size(&self) -> usize {
        let state = self.state();
        self.inner.buffer_len as usize + state.frags.iter().map(Payload::true_size).sum::<usize>()
    }
}

/// Why a frame could not be cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CloneError {
    /// No buffer for the head.
    #[error(transparent)]
    Pool(#[from] PoolExhausted),
    /// The headers do not fit a buffer, or there are too many pieces.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Drop for Frame {
    fn drop(&mut self) {
        let state = self.state_mut();
        state.frags.clear();
        state.frags_len = 0;
        self.inner.release(self.index);
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
