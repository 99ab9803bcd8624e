//! The wire: frames to come with their moments, a MAC that pauses, and a log of both directions.

use std::collections::VecDeque;

use tandem_contract::nic::{Arrival, Cycle, WirePort};
use tandem_cosim::Random;

/// A frame that began to arrive. Its number is its place in [`Wire::arrived`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// When its first byte came.
    pub cycle: Cycle,
    /// Bytes.
    pub frame: Vec<u8>,
    /// The MAC flagged it.
    pub error: bool,
}

/// Both directions.
#[derive(Debug)]
pub struct Wire {
    /// Frames that are still to come, by cycle.
    pub coming: VecDeque<Arrived>,
    /// Frames that began to arrive since the chip's reset, in order.
    pub arrived: Vec<Arrived>,
    /// Frames that left since they were last taken: cycle of the last beat, bytes.
    pub departed: Vec<(Cycle, Vec<u8>)>,
    /// Of 256 beats, so many meet a MAC that is not ready.
    pub pause_per_256: u64,
    random: Random,
}

impl Wire {
    /// A wire on which nothing comes yet.
    pub fn new(seed: u64) -> Self {
        Self {
            coming: VecDeque::new(),
            arrived: Vec::new(),
            departed: Vec::new(),
            pause_per_256: 0,
            random: Random::new(seed),
        }
    }
}

impl WirePort for Wire {
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        if self.coming.front()?.cycle > cycle {
            return None;
        }
        let mut next = self.coming.pop_front()?;
        next.cycle = cycle;
        frame.clear();
        frame.extend_from_slice(&next.frame);
        let arrival = Arrival { error: next.error };
        self.arrived.push(next);
        Some(arrival)
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        self.coming.front().map(|next| next.cycle)
    }

    fn ready(&mut self, _cycle: Cycle) -> bool {
        !self.random.chance(self.pause_per_256, 256)
    }

    fn departed(&mut self, cycle: Cycle, frame: &[u8]) {
        self.departed.push((cycle, frame.to_vec()));
    }
}
