//! Transmit: chains in the order of the ring, frames as the request asks for them.

use std::collections::VecDeque;

use tandem_contract::trace::{Drop, Event, Kind};
use tandem_reference::ring::{Chain, Fetched, Place};
use tandem_reference::transmit::{self, HEADER_LEN};

use super::gather;
use super::queue::{Due, Queue};
use crate::memory::{Dma, Shadow};

/// What the transmit side has under way.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    /// Chains that were fetched and not completed.
    chains: VecDeque<Chain>,
    /// Frames that left and were not told.
    pub(crate) departed: VecDeque<Vec<u8>>,
    /// Chains completed.
    pub(crate) completed: u64,
}

/// What must become of a chain: a frame and whether a checksum was inserted, or a drop.
fn verdict(
    chain: &Chain,
    memory: &mut Shadow,
    features: u64,
    frame_len_max: u32,
) -> Result<Result<(Vec<u8>, bool), Drop>, String> {
    let mut bytes = gather(chain, memory)?;
    let mut frame = bytes.split_off(HEADER_LEN);
    let mut header = [0; HEADER_LEN];
    header.copy_from_slice(&bytes);
    if frame.is_empty() {
        return Ok(Err(Drop::BadRequest));
    }
    let inserted = transmit::apply(&header, &mut frame, features, frame_len_max);
    Ok(inserted.map(|inserted| (frame, inserted)))
}

impl Transmit {
    /// Whether a read lies in a buffer of a chain that was fetched, but for the rest of its last beat.
    pub(crate) fn holds(&self, dma: &Dma, beat_bytes: u64) -> bool {
        self.chains.iter().flat_map(|chain| &chain.pieces).any(|piece| {
            let end = piece.addr.saturating_add(piece.len.into());
            let end = end.checked_next_multiple_of(beat_bytes).unwrap_or(u64::MAX);
            piece.addr <= dma.addr && dma.addr.saturating_add(dma.len.into()) <= end
        })
    }

    /// [`Kind::TxFetch`].
    pub(crate) fn fetched(
        &mut self,
        event: &Event,
        queue: &mut Queue,
        memory: &mut Shadow,
        frame_len_max: u32,
    ) -> Result<(), String> {
        let fetched = queue.ring.fetch(memory).map_err(|e| e.to_string())?;
        let Fetched::Chain(chain) = fetched else {
            return Err(format!("but the ring is {fetched:?}"));
        };
        let len = chain.len();
        let legal = HEADER_LEN as u64..=HEADER_LEN as u64 + u64::from(frame_len_max);
        let told = (Place { slot: event.slot, wrap: event.wrap }, event.arg, u64::from(event.len));
        if !legal.contains(&len)
            || told != (chain.place, chain.descriptors().into(), len - HEADER_LEN as u64)
        {
            return Err(format!("but the next chain is {chain:?}"));
        }
        self.chains.push_back(chain);
        Ok(())
    }

    /// [`Kind::TxFrame`] and [`Kind::TxDrop`].
    pub(crate) fn completed(
        &mut self,
        event: &Event,
        queue: &mut Queue,
        memory: &mut Shadow,
        features: u64,
        frame_len_max: u32,
    ) -> Result<(), String> {
        let chain = self.chains.pop_front().ok_or("of a chain that was not fetched")?;
        if chain.place != (Place { slot: event.slot, wrap: event.wrap }) {
            return Err(format!("but {chain:?} is next"));
        }
        match (event.kind, verdict(&chain, memory, features, frame_len_max)?) {
            (Kind::TxFrame, Ok((frame, inserted))) => {
                if event.code != u8::from(inserted) || event.len as usize != frame.len() {
                    return Err(format!("must be {} bytes, inserted {inserted}", frame.len()));
                }
                let left = self.departed.pop_front().ok_or("but no frame has left")?;
                if left != frame {
                    return Err(format!("on the wire {left:02x?}, must be {frame:02x?}"));
                }
            }
            (Kind::TxDrop, Err(reason)) if reason as u8 == event.code => {}
            (_, Ok(_)) => return Err("but the frame must leave".to_owned()),
            (_, Err(reason)) => return Err(format!("but the frame is dropped by {reason:?}")),
        }
        self.completed += 1;
        queue.due.push_back(Due::new(vec![(chain, 0)]));
        Ok(())
    }

    /// A reset or a bus error: what left without an event must be the frames that were next.
    pub(crate) fn cut(
        &mut self,
        memory: &mut Shadow,
        features: u64,
        frame_len_max: u32,
    ) -> Result<(), String> {
        for chain in std::mem::take(&mut self.chains) {
            let Some(left) = self.departed.front() else { break };
            match verdict(&chain, memory, features, frame_len_max)? {
                Ok((frame, _)) if frame == *left => {
                    self.departed.pop_front();
                }
                Ok(_) => break,
                Err(_) => {}
            }
        }
        if let Some(left) = self.departed.pop_front() {
            return Err(format!("cut, and a frame left that nobody asked for: {left:02x?}"));
        }
        Ok(())
    }

    /// The NIC is idle.
    pub(crate) fn rest(
        &mut self,
        queue: &mut Queue,
        memory: &mut Shadow,
        features: u64,
        frame_len_max: u32,
    ) -> Result<(), String> {
        if queue.cut {
            // What was read before the error may leave, though nobody is told any more.
            return self.cut(memory, features, frame_len_max);
        }
        if let Some(left) = self.departed.front() {
            return Err(format!("a frame left without an event: {left:02x?}"));
        }
        if let Some(chain) = self.chains.front() {
            return Err(format!("not completed: {chain:?}"));
        }
        if queue.broken.is_none() {
            // A ring that cannot be read is met at the next doorbell.
            if let Ok(next) = queue.ring.clone().fetch(memory)
                && next != Fetched::Empty
            {
                return Err(format!("the transmit ring has more: {next:?}"));
            }
        }
        Ok(())
    }
}
