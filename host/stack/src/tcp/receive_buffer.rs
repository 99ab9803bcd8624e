//! Received data: the frames that it came in, trimmed, never copied unless memory runs short.

use std::collections::VecDeque;

use tandem_device::Frame;
use tandem_packet::SeqNumber;

/// Frames with no more payload than this are merged when memory runs short.
const MERGE_BYTES_MAX: usize = 512;
/// Capacity of the queues that an emptied buffer keeps, in frames.
const KEPT_FRAMES: usize = 8;

#[derive(Debug)]
struct Held {
    frame: Frame,
    /// Memory that was charged for it.
    memory: usize,
}

#[derive(Debug)]
struct Stray {
    seq: SeqNumber,
    held: Held,
}

impl Stray {
    fn end(&self) -> SeqNumber {
        self.seq + self.held.frame.len() as u32
    }
}

/// Why a segment was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It holds nothing new.
    Duplicate,
    /// Too many segments out of order.
    TooMany,
    /// Received data holds too much memory.
    Memory,
}

#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    /// In order, to be read.
    queue: VecDeque<Held>,
    /// Bytes in `queue`.
    len: usize,
    /// Out of order: ascending, not overlapping.
    strays: VecDeque<Stray>,
    strays_len: usize,
    /// Memory that all of it keeps in use.
    memory: usize,
    memory_max: usize,
    strays_max: usize,
}

impl ReceiveBuffer {
    pub(super) fn new(memory_max: usize, strays_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            len: 0,
            strays: VecDeque::new(),
            strays_len: 0,
            memory: 0,
            memory_max,
            strays_max,
        }
    }

    /// Bytes to be read.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes out of order.
    pub(super) fn strays_len(&self) -> usize {
        self.strays_len
    }

    pub(super) fn has_strays(&self) -> bool {
        !self.strays.is_empty()
    }

    /// Too full of memory to offer more window.
    pub(super) fn is_under_pressure(&self) -> bool {
        self.memory >= self.memory_max / 4 * 3
    }

    /// Appends data that is next in sequence, and then whatever it makes contiguous. Returns the bytes that
    /// became readable.
    pub(super) fn push(&mut self, seq: SeqNumber, frame: Frame) -> Result<usize, Refused> {
        let before = self.len;
        let mut next = seq + frame.len() as u32;
        self.append(frame)?;
        while let Some(stray) = self.strays.front() {
            if stray.seq.gt(next) {
                break;
            }
            let Some(Stray { seq, mut held }) = self.strays.pop_front() else { break };
            self.strays_len -= held.frame.len();
            self.memory -= held.memory;
            let known = next - seq;
            if known as usize >= held.frame.len() {
                continue;
            }
            held.frame.trim_front(known as usize);
            next += held.frame.len() as u32;
            self.hold(held.frame);
        }
        Ok(self.len - before)
    }

    fn append(&mut self, frame: Frame) -> Result<(), Refused> {
        let short = self.memory + frame.true_size() > self.memory_max / 2;
        if short && frame.len() <= MERGE_BYTES_MAX && self.merge(&frame) {
            return Ok(());
        }
        if self.memory + frame.true_size() > self.memory_max {
            return Err(Refused::Memory);
        }
        self.hold(frame);
        Ok(())
    }

    fn hold(&mut self, frame: Frame) {
        let memory = frame.true_size();
        self.memory += memory;
        self.len += frame.len();
        self.queue.push_back(Held { frame, memory });
    }

    /// Copies a small frame into the room behind the last one, so that its buffer is free again.
    fn merge(&mut self, frame: &Frame) -> bool {
        let Some(last) = self.queue.back_mut() else { return false };
        if last.frame.tailroom() < frame.len() {
            return false;
        }
        for piece in frame.pieces() {
            // The room was checked for all of them.
            if last.frame.append(piece).is_err() {
                return false;
            }
        }
        self.len += frame.len();
        true
    }

    /// Keeps a segment that came early: only what no other one holds already.
    pub(super) fn insert(&mut self, seq: SeqNumber, mut frame: Frame) -> Result<(), Refused> {
        let mut seq = seq;
        let mut at = self.strays.partition_point(|stray| stray.end().le(seq));
        if let Some(stray) = self.strays.get(at)
            && stray.seq.le(seq)
        {
            let known = stray.end() - seq;
            if known as usize >= frame.len() {
                return Err(Refused::Duplicate);
            }
            frame.trim_front(known as usize);
            seq = stray.end();
            at += 1;
        }
        let end = seq + frame.len() as u32;
        // Later ones that it covers are dropped; one that it covers in part cuts it.
        let covered = self.strays.range(at..).take_while(|stray| stray.end().le(end)).count();
        for stray in self.strays.drain(at..at + covered) {
            self.strays_len -= stray.held.frame.len();
            self.memory -= stray.held.memory;
        }
        if let Some(stray) = self.strays.get(at)
            && stray.seq.lt(end)
        {
            frame.truncate((stray.seq - seq) as usize);
        }
        if frame.is_empty() {
            return Err(Refused::Duplicate);
        }
        if self.strays.len() >= self.strays_max {
            return Err(Refused::TooMany);
        }
        let memory = frame.true_size();
        if self.memory + memory > self.memory_max {
            return Err(Refused::Memory);
        }
        self.memory += memory;
        self.strays_len += frame.len();
        self.strays.insert(at, Stray { seq, held: Held { frame, memory } });
        Ok(())
    }

    /// The first bytes to be read, as they lie in memory.
    pub(super) fn peek(&self) -> &[u8] {
        self.queue.front().and_then(|held| held.frame.pieces().next()).unwrap_or(&[])
    }

    /// Copies bytes out and drops them.
    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            let Some(front) = self.queue.front() else { break };
            let len = front.frame.copy_to(0, &mut out[done..]);
            self.consume(len);
            done += len;
        }
        done
    }

    /// Drops bytes from the front.
    pub(super) fn consume(&mut self, mut len: usize) {
        self.len -= len;
        while len > 0 {
            let Some(front) = self.queue.front_mut() else { break };
            if front.frame.len() > len {
                front.frame.trim_front(len);
                break;
            }
            len -= front.frame.len();
            self.memory -= front.memory;
            self.queue.pop_front();
        }
        self.release();
    }

    /// Hands out the first frame.
    pub(super) fn pop(&mut self) -> Option<Frame> {
        let Held { frame, memory } = self.queue.pop_front()?;
        self.memory -= memory;
        self.len -= frame.len();
        self.release();
        Some(frame)
    }

    /// An idle connection holds no pool memory and next to no other.
    fn release(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 4 * KEPT_FRAMES {
            self.queue.shrink_to(KEPT_FRAMES);
        }
        if self.strays.is_empty() && self.strays.capacity() > 4 * KEPT_FRAMES {
            self.strays.shrink_to(KEPT_FRAMES);
        }
    }

    /// Drops what is out of order.
    pub(super) fn drop_strays(&mut self) {
        for stray in self.strays.drain(..) {
            self.memory -= stray.held.memory;
        }
        self.strays_len = 0;
        self.release();
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.drop_strays();
        self.queue.clear();
        self.len = 0;
        self.memory = 0;
        self.release();
    }

    /// Drops what lies at and after `seq`, where the stream ends.
    pub(super) fn drop_strays_from(&mut self, seq: SeqNumber) {
        while let Some(last) = self.strays.back_mut() {
            if last.end().le(seq) {
                break;
            }
            if last.seq.lt(seq) {
                let keep = (seq - last.seq) as usize;
                self.strays_len -= last.held.frame.len() - keep;
                last.held.frame.truncate(keep);
                break;
            }
            self.strays_len -= last.held.frame.len();
            self.memory -= last.held.memory;
            self.strays.pop_back();
        }
    }
}

#[cfg(test)]
#[path = "receive_buffer_tests.rs"]
mod tests;
