//! Receive: filter, verdict, order, buffers, and every byte written.

use std::collections::VecDeque;

use tandem_contract::features::bit;
use tandem_contract::nic::Cycle;
use tandem_contract::trace::{Drop, Event, Verdict};
use tandem_reference::memory::Memory;
use tandem_reference::ring::{Chain, Fetched, Place};
use tandem_reference::{receive, transmit};

use super::queue::{Due, Queue};
use crate::memory::{Dma, Shadow};
use crate::wire::Wire;

/// Bytes of the receive FIFO (`FifoBytes` in rx_path.sv).
const FIFO_BYTES: usize = 32_768;
/// Frames of the receive FIFO (`FramesMax`), less those whose verdict is under way.
const FIFO_FRAMES: usize = 128 - 16;
/// The widest data path.
const BEAT_BYTES_MAX: usize = 64;
/// A dropped frame stays in the FIFO until it is thrown away, at most so long after its turn came.
const SWALLOW_CYCLES: Cycle = 6_000;

/// A frame between acceptance and the end of its way.
#[derive(Debug)]
struct Pending {
    number: u32,
    frame: Vec<u8>,
    verdict: Verdict,
    accepted_at: Cycle,
    /// Dropped by its event, though frames before it are still pending.
    dropped: Option<u8>,
}

/// What the rules need to know of the function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) mac: [u8; 6],
    pub(crate) frame_len_max: u32,
    pub(crate) beat_bytes: usize,
    pub(crate) mergeable: bool,
}

/// What the receive side has under way.
#[derive(Debug, Default)]
pub(crate) struct Receive {
    pending: VecDeque<Pending>,
    /// Chains that can be fetched, in order; the NIC may have fetched fewer.
    hand: VecDeque<Chain>,
    /// For each chain that was made available and not used: when the NIC must know of it.
    known: VecDeque<Cycle>,
    /// Acceptance is possible.
    pub(crate) may_accept: bool,
    /// Frames that begin then or later must be accepted.
    pub(crate) on_since: Option<Cycle>,
    /// Acceptance is over since then, by a reset.
    off_since: Cycle,
    /// The queue broke then.
    pub(crate) broken_at: Option<Cycle>,
    /// Number of the next event.
    next: u32,
    /// Frames with smaller numbers may have been cut.
    cut_below: u32,
    /// Frames that may still take room in the FIFO: until when, and bytes.
    leaving: Vec<(Cycle, usize)>,
    /// Frames that had an event.
    pub(crate) judged: u64,
}

/// Bytes that a frame takes of the FIFO.
fn room(len: usize, beat_bytes: usize) -> usize {
    len.div_ceil(beat_bytes) * beat_bytes
}

/// Bytes behind chains that are taken for a frame; how many chains, or `None` when they do not suffice.
fn chains_for(hand: &VecDeque<Chain>, wanted: u64, mergeable: bool) -> Option<usize> {
    let mut bytes = 0;
    for (i, chain) in hand.iter().enumerate() {
        bytes += chain.len();
        if bytes >= wanted {
            return Some(i + 1);
        }
        if !mergeable {
            break;
        }
    }
    None
}

/// Where each byte of `bytes` goes, and the length that each chain is given back with.
fn spread<'a>(chains: &[Chain], bytes: &'a [u8]) -> (Vec<(u64, &'a [u8])>, Vec<u32>) {
    let (mut parts, mut lens, mut left) = (Vec::new(), Vec::new(), bytes);
    for chain in chains {
        let before = left.len();
        for piece in &chain.pieces {
            let (part, rest) = left.split_at(left.len().min(piece.len as usize));
            if !part.is_empty() {
                parts.push((piece.addr, part));
            }
            left = rest;
        }
        lens.push((before - left.len()) as u32);
    }
    (parts, lens)
}

impl Receive {
    pub(crate) fn posted(&mut self, chains: u64, cycle: Cycle) {
        self.known.extend((0..chains).map(|_| cycle));
    }

    pub(crate) fn known_from(&mut self, cycle: Cycle) {
        for known in self.known.iter_mut().rev().take_while(|known| **known == Cycle::MAX) {
            *known = cycle;
        }
    }

    /// Fetches all that is available.
    fn look(&mut self, queue: &mut Queue, memory: &mut Shadow) {
        while let Ok(Fetched::Chain(chain)) = queue.ring.fetch(memory) {
            self.hand.push_back(chain);
        }
    }

    /// Where the chains at hand begin.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.hand.iter().map(|chain| chain.place).collect()
    }

    /// Whether a write lies in one buffer of a chain at hand.
    pub(crate) fn holds(&mut self, queue: &mut Queue, memory: &mut Shadow, dma: &Dma) -> bool {
        let inside = |chain: &Chain| {
            chain.pieces.iter().any(|piece| {
                dma.addr
                    .checked_sub(piece.addr)
                    .is_some_and(|offset| offset + u64::from(dma.len) <= u64::from(piece.len))
            })
        };
        if self.hand.iter().any(inside) {
            return true;
        }
        let before = self.hand.len();
        self.look(queue, memory);
        self.hand.iter().skip(before).any(inside)
    }

    /// The event is of the frame after the last one, but for frames that a reset may have cut.
    fn in_order(&mut self, number: u32) -> Result<(), String> {
        if number < self.next || number > self.next.max(self.cut_below) {
            return Err(format!("frame {number}, and {} is next", self.next));
        }
        self.next = number + 1;
        self.judged += 1;
        Ok(())
    }

    /// [`tandem_contract::trace::Kind::RxAccept`].
    pub(crate) fn accepted(
        &mut self,
        event: &Event,
        wire: &Wire,
        mac: [u8; 6],
        frame_len_max: u32,
    ) -> Result<(), String> {
        let arrived = wire.arrived.get(event.arg as usize).ok_or("of a frame that never came")?;
        self.in_order(event.arg)?;
        let verdict = receive::admit(&arrived.frame, mac, frame_len_max, arrived.error)
            .map_err(|reason| format!("but it must be dropped by {reason:?}"))?;
        if verdict as u8 != event.code || arrived.frame.len() != event.len as usize {
            return Err(format!("but {} bytes are {verdict:?}", arrived.frame.len()));
        }
        if !self.may_accept && arrived.cycle > self.off_since {
            return Err("but the device is not ready".to_owned());
        }
        if self.broken_at.is_some_and(|at| arrived.cycle > at + super::TRACE_LAG) {
            return Err("but the queue is broken".to_owned());
        }
        self.pending.push_back(Pending {
            number: event.arg,
            frame: arrived.frame.clone(),
            verdict,
            accepted_at: event.cycle,
            dropped: None,
        });
        Ok(())
    }

    /// [`tandem_contract::trace::Kind::RxDrop`].
    pub(crate) fn dropped(
        &mut self,
        event: &Event,
        wire: &Wire,
        queue: Option<&mut Queue>,
        memory: &mut Shadow,
        context: &Context,
    ) -> Result<(), String> {
        let arrived = wire.arrived.get(event.arg as usize).ok_or("of a frame that never came")?;
        let len = arrived.frame.len();
        if event.len as usize != len.min(0xFFFF) {
            return Err(format!("but it has {len} bytes"));
        }
        if event.arg >= self.next {
            self.in_order(event.arg)?;
            let Context { mac, frame_len_max, .. } = *context;
            let admitted = receive::admit(&arrived.frame, mac, frame_len_max, arrived.error);
            return match admitted {
                Err(reason) if reason as u8 == event.code => Ok(()),
                Err(reason) => Err(format!("but it must be dropped by {reason:?}")),
                Ok(_) if event.code == Drop::NotReady as u8 => {
                    if self.on_since.is_some_and(|since| arrived.cycle >= since) {
                        return Err("but the device is ready".to_owned());
                    }
                    Ok(())
                }
                Ok(_) if event.code == Drop::FifoFull as u8 => {
                    self.fifo_full(arrived.cycle, len, context.beat_bytes)
                }
                Ok(verdict) => Err(format!("but it is {verdict:?}")),
            };
        }
        let pending = self.pending.iter_mut().find(|pending| pending.number == event.arg);
        let pending = pending.ok_or("of a frame whose way is over")?;
        if pending.dropped.replace(event.code).is_some() {
            return Err("for the second time".to_owned());
        }
        let queue = queue.ok_or("without a queue")?;
        self.resolve_drops(queue, memory, context, event.cycle)
    }

    /// At some moment since the frame began, there was no room for it.
    fn fifo_full(&mut self, begun: Cycle, len: usize, beat_bytes: usize) -> Result<(), String> {
        self.leaving.retain(|(until, _)| *until >= begun);
        let held: usize = self.pending.iter().map(|p| room(p.frame.len(), beat_bytes)).sum();
        let leaving: usize = self.leaving.iter().map(|(_, bytes)| bytes).sum();
        let bytes = held + leaving + room(len, beat_bytes);
        let frames = self.pending.len() + self.leaving.len();
        if bytes + 2 * beat_bytes < FIFO_BYTES && frames < FIFO_FRAMES {
            return Err(format!("but at most {bytes} bytes in {frames} frames are in the FIFO"));
        }
        Ok(())
    }

    /// Judges drops whose predecessors' ways are over, because only now is known which buffers were left.
    fn resolve_drops(
        &mut self,
        queue: &mut Queue,
        memory: &mut Shadow,
        context: &Context,
        now: Cycle,
    ) -> Result<(), String> {
        while let Some(pending) = self.pending.front()
            && let Some(code) = pending.dropped
        {
            let wanted = pending.frame.len() as u64 + transmit::HEADER_LEN as u64;
            let (number, accepted_at) = (pending.number, pending.accepted_at);
            // Only behind its predecessors is it thrown away.
            self.leaving.push((now + SWALLOW_CYCLES, room(pending.frame.len(), BEAT_BYTES_MAX)));
            self.pending.pop_front();
            if code == Drop::NotReady as u8 {
                if self.on_since.is_some() {
                    return Err(format!("frame {number}: but the queue is ready"));
                }
                continue;
            }
            self.look(queue, memory);
            if code == Drop::BufferTooShort as u8 {
                let short = self.hand.front().is_some_and(|chain| chain.len() < wanted);
                if context.mergeable || !short {
                    return Err(format!("frame {number}: but its chain is not too short"));
                }
            } else if code == Drop::NoBuffer as u8 {
                // The chains that the NIC surely knew of when it decided.
                let surely = self.known.iter().take_while(|at| **at < accepted_at).count();
                let surely: VecDeque<Chain> = self.hand.iter().take(surely).cloned().collect();
                let enough = chains_for(&surely, wanted, context.mergeable).is_some();
                if enough || !context.mergeable && !surely.is_empty() {
                    return Err(format!(
                        "frame {number}: but there are {} chains for {wanted} bytes",
                        surely.len()
                    ));
                }
            } else {
                return Err(format!("frame {number}: drop {code} after acceptance"));
            }
        }
        Ok(())
    }

    /// The bytes of the first pending frame and the number of chains it takes of those at hand.
    fn first_bytes(&self, features: u64, mergeable: bool) -> Option<(Vec<u8>, usize)> {
        let pending = self.pending.front()?;
        let wanted = (pending.frame.len() + transmit::HEADER_LEN) as u64;
        let chains = chains_for(&self.hand, wanted, mergeable)?;
        let valid = pending.verdict == Verdict::Valid;
        let header = transmit::receive_header(valid, features, chains as u16);
        Some(([&header[..], &pending.frame].concat(), chains))
    }

    /// [`tandem_contract::trace::Kind::RxPlace`].
    pub(crate) fn placed(
        &mut self,
        event: &Event,
        queue: &mut Queue,
        memory: &mut Shadow,
        effects: &Shadow,
        features: u64,
    ) -> Result<(), String> {
        let mergeable = features >> bit::MRG_RXBUF & 1 == 1;
        let context = Context { mac: [0; 6], frame_len_max: 0, beat_bytes: 1, mergeable };
        self.resolve_drops(queue, memory, &context, event.cycle)?;
        let pending = self.pending.front().ok_or("and no frame is pending")?;
        if pending.number != event.arg {
            return Err(format!("and frame {} is next", pending.number));
        }
        self.look(queue, memory);
        let found = self.first_bytes(features, mergeable);
        let (bytes, count) = found.ok_or("but there are no buffers for it")?;
        self.pending.pop_front();
        let chains: Vec<Chain> = self.hand.drain(..count).collect();
        self.known.drain(..count.min(self.known.len()));
        self.leaving.push((event.cycle, room(bytes.len(), BEAT_BYTES_MAX)));
        let place = chains[0].place;
        if place != (Place { slot: event.slot, wrap: event.wrap })
            || event.len as usize != bytes.len()
            || usize::from(event.code) != count.min(255)
        {
            return Err(format!("but {} bytes go to {count} chains at {place:?}", bytes.len()));
        }
        let (parts, lens) = spread(&chains, &bytes);
        for (addr, part) in parts {
            memory.write(addr, part).map_err(|e| format!("over a {e}"))?;
            let is = effects.peek(addr, part.len()).unwrap_or(&[]);
            if is != part {
                return Err(format!("at {addr:#x} is {is:02x?}, must be {part:02x?}"));
            }
        }
        queue.due.push_back(Due::new(chains.into_iter().zip(lens).collect()));
        // Drops that stood behind it.
        self.resolve_drops(queue, memory, &context, event.cycle)
    }

    /// What is under way is cut: it may have been written in part, but only to its own places.
    pub(crate) fn cut(
        &mut self,
        queue: &mut Queue,
        memory: &mut Shadow,
        effects: &Shadow,
        features: u64,
    ) -> Result<(), String> {
        let mergeable = features >> bit::MRG_RXBUF & 1 == 1;
        self.look(queue, memory);
        while let Some(pending) = self.pending.front() {
            if pending.dropped.is_some() {
                self.pending.pop_front();
                continue;
            }
            let Some((bytes, count)) = self.first_bytes(features, mergeable) else { break };
            self.pending.pop_front();
            let chains: Vec<Chain> = self.hand.drain(..count).collect();
            for (addr, part) in spread(&chains, &bytes).0 {
                for (n, byte) in (0..).zip(part) {
                    // Hostile addresses may lie at the end of everything.
                    let at = addr.wrapping_add(n);
                    let Some(&[is]) = effects.peek(at, 1) else { continue };
                    let Some(&[was]) = memory.peek(at, 1) else { continue };
                    if is == *byte {
                        memory.poke(at, &[is]);
                    } else if is != was {
                        return Err(format!(
                            "cut frame: {is:#04x} at {at:#x}, must be {byte:#04x}"
                        ));
                    }
                }
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// The queue is gone.
    pub(crate) fn forget(&mut self, cycle: Cycle, wire: &Wire) {
        self.pending.clear();
        self.hand.clear();
        self.known.clear();
        self.leaving.clear();
        self.may_accept = false;
        self.on_since = None;
        self.broken_at = None;
        self.off_since = cycle;
        let begun =
            wire.arrived.partition_point(|arrived| arrived.cycle <= cycle + super::TRACE_LAG);
        self.cut_below = begun as u32;
    }

    /// The NIC is idle: every frame has had its event.
    pub(crate) fn rest(&self, wire: &Wire) -> Result<(), String> {
        let came = wire.arrived.len() as u32;
        if self.next.max(self.cut_below) < came {
            return Err(format!("frame {} of {came} had no event", self.next));
        }
        if let Some(pending) = self.pending.front() {
            return Err(format!("frame {} was accepted and then forgotten", pending.number));
        }
        Ok(())
    }
}
