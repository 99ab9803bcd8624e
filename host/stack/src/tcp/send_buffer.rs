//! Data that is to be sent or not yet acknowledged: references to pool memory, in order.
//!
//! What is written by copy goes into one [`Filler`] after the other; what is written by reference is
//! queued as it is. A segment, or its retransmission, takes new references to the same bytes.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use tandem_device::{FRAGS_MAX, Filler, Payload, Pool, PoolExhausted};
use tandem_packet::SeqNumber;

/// Capacity of the queue that an emptied buffer keeps, in pieces.
const KEPT_PIECES: usize = 8;

/// Where a walk along the pieces last ended, so that the next one need not begin at the front.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// Index of a piece.
    piece: usize,
    /// Bytes before that piece.
    offset: usize,
}

#[derive(Debug)]
pub(super) struct SendBuffer {
    pieces: VecDeque<Payload>,
    /// Sequence number of the first byte held, or of the next one to be written.
    start: SeqNumber,
    len: usize,
    /// The buffer being filled; its last bytes are the end of the last piece.
    filler: Option<Filler>,
    cursor: Cursor,
    /// Where each payload with a token ends.
    tokens: VecDeque<(SeqNumber, u64)>,
}

impl SendBuffer {
    pub(super) fn new(start: SeqNumber) -> Self {
        Self {
            pieces: VecDeque::new(),
            start,
            len: 0,
            filler: None,
            cursor: Cursor::default(),
            tokens: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The number after the last byte: where a FIN would stand.
    pub(super) fn end(&self) -> SeqNumber {
        self.start + self.len as u32
    }

    /// Copies bytes in, as many as there is pool memory for. An error only when not one was taken.
    pub(super) fn write(&mut self, pool: &Pool, mut bytes: &[u8]) -> Result<usize, PoolExhausted> {
        let mut taken = 0;
        while !bytes.is_empty() {
            // Extending the last piece costs no new entry in the queue.
            let extend = self.filler.as_ref().is_some_and(|filler| filler.room() > 0);
            if !extend {
                match pool.filler() {
                    Ok(filler) => self.filler = Some(filler),
                    Err(error) if taken == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            let Some(filler) = &mut self.filler else { break };
            let written = filler.write(bytes);
            let filled = filler.filled();
            let last = if extend { self.pieces.pop_back().map_or(0, |last| last.len()) } else { 0 };
            if self.cursor.piece > self.pieces.len() {
                // It stood behind the piece that grows.
                self.cursor = Cursor { piece: self.pieces.len(), offset: self.len - last };
            }
            self.pieces.push_back(filler.payload(filled - written - last..filled));
            self.len += written;
            taken += written;
            bytes = &bytes[written..];
        }
        Ok(taken)
    }

    /// Queues a reference. `token` is reported once everything up to its end is acknowledged.
    pub(super) fn write_payload(&mut self, payload: Payload, token: Option<u64>) {
        // The filler's bytes must stay the end of the last piece.
        self.filler = None;
        self.len += payload.len();
        if !payload.is_empty() {
            self.pieces.push_back(payload);
        }
        if let Some(token) = token {
            self.tokens.push_back((self.end(), token));
        }
    }

    /// Drops what lies before `ack` and returns how many bytes that was.
    pub(super) fn acknowledge(&mut self, ack: SeqNumber) -> usize {
        let mut rest = (ack.distance_from(self.start).max(0) as usize).min(self.len);
        let dropped = rest;
        self.start += dropped as u32;
        self.len -= dropped;
        while rest > 0 {
            let Some(front) = self.pieces.front_mut() else { break };
            if front.len() > rest {
                front.trim_front(rest);
                self.cursor = if self.cursor.piece == 0 {
                    Cursor::default()
                } else {
                    Cursor { offset: self.cursor.offset - rest, ..self.cursor }
                };
                break;
            }
            rest -= front.len();
            self.cursor = if self.cursor.piece == 0 {
                Cursor::default()
            } else {
                let Cursor { piece, offset } = self.cursor;
                Cursor { piece: piece - 1, offset: offset - front.len() }
            };
            self.pieces.pop_front();
        }
        if self.len == 0 {
            self.release();
        }
        dropped
    }

    /// An idle connection holds no pool memory and next to no other.
    fn release(&mut self) {
        self.filler = None;
        self.cursor = Cursor::default();
        if self.pieces.capacity() > 4 * KEPT_PIECES {
            self.pieces.shrink_to(KEPT_PIECES);
        }
    }

    /// Drops everything, tokens included: nothing of it will be acknowledged. Tokens are still reported.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
        self.release();
        for (end, _) in &mut self.tokens {
            *end = self.start;
        }
    }

    /// A token whose payload needs no more retransmission.
    pub(super) fn completed(&mut self) -> Option<u64> {
        let (end, _) = *self.tokens.front()?;
        if end.gt(self.start) {
            return None;
        }
        self.tokens.pop_front().map(|(_, token)| token)
    }

    pub(super) fn has_completed(&self) -> bool {
        self.tokens.front().is_some_and(|(end, _)| end.le(self.start))
    }

    /// References to up to `len` bytes from `seq` on, in at most `pieces_max` pieces; returns how many
    /// bytes they hold.
    pub(super) fn reference(
        &mut self,
        seq: SeqNumber,
        len: usize,
        pieces_max: usize,
        out: &mut ArrayVec<Payload, FRAGS_MAX>,
    ) -> usize {
        let offset = seq.distance_from(self.start).max(0) as usize;
        if offset < self.cursor.offset {
            self.cursor = Cursor::default();
        }
        let mut skip = offset - self.cursor.offset;
        let mut done = 0;
        while let Some(piece) = self.pieces.get(self.cursor.piece) {
            if skip >= piece.len() {
                skip -= piece.len();
                self.cursor.offset += piece.len();
                self.cursor.piece += 1;
                continue;
            }
            if done == len || out.len() >= pieces_max.min(FRAGS_MAX) {
                break;
            }
            let take = (piece.len() - skip).min(len - done);
            out.push(piece.slice(skip..skip + take));
            done += take;
            // Stay at a piece that is not used up: the next segment begins in it.
            if skip + take < piece.len() {
                break;
            }
            self.cursor.offset += piece.len();
            self.cursor.piece += 1;
            skip = 0;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use tandem_device::PoolConfig;

    use super::*;

    fn pool(buffers: u32) -> Pool {
        Pool::new(PoolConfig { buffers, buffer_len: 64, headroom: 0 }).unwrap()
    }

    fn bytes(buffer: &mut SendBuffer, seq: u32, len: usize) -> Vec<u8> {
        let mut out = ArrayVec::new();
        let done = buffer.reference(SeqNumber(seq), len, FRAGS_MAX, &mut out);
        let bytes: Vec<u8> = out.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
        assert_eq!(done, bytes.len());
        bytes
    }

    #[test]
    fn any_part_can_be_sent_again_until_it_is_acknowledged() {
        let pool = pool(8);
        let start = u32::MAX - 50;
        let mut buffer = SendBuffer::new(SeqNumber(start));
        let data: Vec<u8> = (0..200).collect();
        for chunk in data.chunks(7) {
            assert_eq!(buffer.write(&pool, chunk), Ok(chunk.len()));
        }
        assert_eq!(buffer.pieces(), 4, "small writes share a buffer");
        for acked in [0usize, 3, 64, 65, 130, 199] {
            buffer.acknowledge(SeqNumber(start) + acked as u32);
            for from in [acked, (acked + 70).min(200), acked] {
                for len in [1, 10, 64, 200] {
                    let to = (from + len).min(200);
                    let seq = start.wrapping_add(from as u32);
                    assert_eq!(
                        bytes(&mut buffer, seq, len),
                        data[from..to],
                        "{acked} {from} {len}"
                    );
                }
            }
        }
        buffer.acknowledge(SeqNumber(start) + 200);
        assert_eq!((buffer.len(), pool.stats().free), (0, 8), "nothing is held when empty");
    }

    #[test]
    fn references_and_copies_keep_their_order_and_report_their_tokens() {
        let pool = pool(8);
        let mut buffer = SendBuffer::new(SeqNumber(0));
        let mut filler = pool.filler().unwrap();
        filler.write(b"reference");
        buffer.write(&pool, b"copy").unwrap();
        buffer.write_payload(filler.payload(0..9), Some(7));
        buffer.write(&pool, b"again").unwrap();
        assert_eq!(bytes(&mut buffer, 0, 99), b"copyreferenceagain");
        buffer.acknowledge(SeqNumber(12));
        assert_eq!(buffer.completed(), None);
        buffer.acknowledge(SeqNumber(13));
        assert!(buffer.has_completed());
        assert_eq!((buffer.completed(), buffer.completed()), (Some(7), None));
    }

    #[test]
    fn an_exhausted_pool_takes_what_fits() {
        let pool = pool(1);
        let mut buffer = SendBuffer::new(SeqNumber(0));
        assert_eq!(buffer.write(&pool, &[1; 100]), Ok(64));
        assert!(buffer.write(&pool, &[1; 100]).is_err());
    }

    #[test]
    fn pieces_are_limited() {
        let pool = pool(8);
        let mut buffer = SendBuffer::new(SeqNumber(0));
        buffer.write(&pool, &[1; 300]).unwrap();
        let mut out = ArrayVec::new();
        assert_eq!(buffer.reference(SeqNumber(10), 300, 2, &mut out), 54 + 64);
    }
}
