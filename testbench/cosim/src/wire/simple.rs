//! Far ends that need no explanation.

use std::collections::VecDeque;

use tandem_contract::nic::{Arrival, Cycle};

use super::FramePort;

/// Nothing arrives; what departs is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Null;

impl FramePort for Null {
    fn receive(&mut self, _cycle: Cycle, _frame: &mut Vec<u8>) -> Option<Arrival> {
        None
    }

    fn next_at(&self) -> Option<Cycle> {
        None
    }

    fn send(&mut self, _cycle: Cycle, _frame: &[u8]) {}
}

/// What departs arrives again after a while.
#[derive(Debug, Default)]
pub struct Loopback {
    delay_cycles: Cycle,
    frames: VecDeque<(Cycle, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    /// Frames lost because too many were under way.
    pub lost: u64,
}

/// Frames under way in a [`Loopback`].
const LOOPBACK_FRAMES_MAX: usize = 4096;

impl Loopback {
    /// A loop that takes `delay_cycles`.
    pub fn new(delay_cycles: Cycle) -> Self {
        Self { delay_cycles, ..Self::default() }
    }
}

impl FramePort for Loopback {
    fn receive(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        let (_, mut next) = self.frames.pop_front_if(|(at, _)| *at <= cycle)?;
        std::mem::swap(frame, &mut next);
        self.spare.push(next);
        Some(Arrival { error: false })
    }

    fn next_at(&self) -> Option<Cycle> {
        self.frames.front().map(|(at, _)| *at)
    }

    fn send(&mut self, cycle: Cycle, frame: &[u8]) {
        if self.frames.len() >= LOOPBACK_FRAMES_MAX {
            self.lost += 1;
            return;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.frames.push_back((cycle + self.delay_cycles, copy));
    }
}
