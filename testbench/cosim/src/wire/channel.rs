//! A far end in the same process: frames in bounded queues.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tandem_contract::nic::{Arrival, Cycle};

use super::FramePort;

/// Frames a direction that a channel may hold at most.
pub const CHANNEL_FRAMES_MAX: usize = 65_536;

/// What a channel has carried and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChannelStats {
    /// Frames to the NIC.
    pub to_nic: u64,
    /// Frames from the NIC.
    pub from_nic: u64,
    /// Frames to the NIC refused, the queue being full.
    pub to_nic_refused: u64,
    /// Frames from the NIC lost, the queue being full.
    pub from_nic_lost: u64,
}

#[derive(Debug, Default)]
struct Shared {
    to_nic: VecDeque<(Cycle, Arrival, Vec<u8>)>,
    from_nic: VecDeque<(Cycle, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    limit: usize,
    stats: ChannelStats,
}

impl Shared {
    fn copy(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        copy
    }
}

/// A pair of ends; each direction holds at most `frames_max` frames (1 to [`CHANNEL_FRAMES_MAX`]).
pub fn channel(frames_max: usize) -> (ChannelPort, Peer) {
    let limit = frames_max.clamp(1, CHANNEL_FRAMES_MAX);
    let shared = Arc::new(Mutex::new(Shared { limit, ..Shared::default() }));
    (ChannelPort(Arc::clone(&shared)), Peer(shared))
}

/// The end on the wire.
#[derive(Debug)]
pub struct ChannelPort(Arc<Mutex<Shared>>);

/// The end in the hands of a test or of another stack. Clones are the same end.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Mutex<Shared>>);

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Each critical section leaves the queues whole, so a panic elsewhere does not spoil them.
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl FramePort for ChannelPort {
    fn receive(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        let mut shared = lock(&self.0);
        let (_, arrival, mut next) = shared.to_nic.pop_front_if(|(at, ..)| *at <= cycle)?;
        std::mem::swap(frame, &mut next);
        shared.spare.push(next);
        Some(arrival)
    }

    fn next_at(&self) -> Option<Cycle> {
        lock(&self.0).to_nic.front().map(|(at, ..)| *at)
    }

    fn send(&mut self, cycle: Cycle, frame: &[u8]) {
        let mut shared = lock(&self.0);
        if shared.from_nic.len() >= shared.limit {
            shared.stats.from_nic_lost += 1;
            return;
        }
        let copy = shared.copy(frame);
        shared.from_nic.push_back((cycle, copy));
        shared.stats.from_nic += 1;
    }
}

impl Peer {
    /// Sends a frame to the NIC as soon as the line is free; false when the queue is full.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.send_at(0, frame, false)
    }

    /// Sends a frame that does not arrive before cycle `at`, damaged or not. Frames arrive in the order
    /// in which they are sent.
    pub fn send_at(&self, at: Cycle, frame: &[u8], error: bool) -> bool {
        let mut shared = lock(&self.0);
        if shared.to_nic.len() >= shared.limit {
            shared.stats.to_nic_refused += 1;
            return false;
        }
        let copy = shared.copy(frame);
        shared.to_nic.push_back((at, Arrival { error }, copy));
        shared.stats.to_nic += 1;
        true
    }

    /// Moves the oldest frame that left the NIC into `frame` and says in which cycle it did.
    pub fn receive(&self, frame: &mut Vec<u8>) -> Option<Cycle> {
        let mut shared = lock(&self.0);
        let (cycle, mut next) = shared.from_nic.pop_front()?;
        std::mem::swap(frame, &mut next);
        shared.spare.push(next);
        Some(cycle)
    }

    /// Frames on their way to the NIC.
    pub fn queued(&self) -> usize {
        lock(&self.0).to_nic.len()
    }

    /// Frames from the NIC that wait here.
    pub fn waiting(&self) -> usize {
        lock(&self.0).from_nic.len()
    }

    /// What the channel has carried and refused.
    pub fn stats(&self) -> ChannelStats {
        lock(&self.0).stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_limits_and_times() {
        let (mut port, peer) = channel(2);
        assert!(peer.send_at(10, &[1], true));
        assert!(peer.send(&[2, 2]));
        assert!(!peer.send(&[3]), "full");
        let mut frame = vec![9; 9];
        assert_eq!(port.receive(9, &mut frame), None);
        assert_eq!(port.next_at(), Some(10));
        assert_eq!(port.receive(10, &mut frame), Some(Arrival { error: true }));
        assert_eq!(frame, [1]);
        assert_eq!(port.receive(10, &mut frame), Some(Arrival { error: false }));
        assert_eq!(frame, [2, 2]);
        for _ in 0..3 {
            port.send(77, &[4]);
        }
        assert_eq!(peer.receive(&mut frame), Some(77));
        assert_eq!(frame, [4]);
        assert_eq!(peer.waiting(), 1);
        let stats = peer.stats();
        assert_eq!((stats.to_nic_refused, stats.from_nic_lost), (1, 1));
    }
}
