//! The wire at the NIC's MAC: a line with a rate, what is at its far end, and a capture of both ways.
//!
//! ```text
//!   NIC <-> Wire (rate, capture) <-> FramePort: channel, TAP, pcap, loopback, nothing
//! ```

mod capture;
mod channel;
mod replay;
mod simple;
mod tap;

use std::fmt;

use tandem_contract::nic::{Arrival, Cycle, WirePort};
use tandem_contract::trace::Event;

pub use capture::{Capture, CaptureError, CaptureStats};
pub use channel::{CHANNEL_FRAMES_MAX, ChannelPort, ChannelStats, Peer, channel};
pub use replay::{REPLAY_FRAMES_MAX, Replay, ReplayError};
pub use simple::{Loopback, Null};
pub use tap::{TapPort, TapStats};

/// What a frame costs on the line beside its bytes: preamble and start, FCS, gap (IEEE 802.3, 4.4.2).
pub const LINE_OVERHEAD_BYTES: u64 = 8 + 4 + 12;

/// Longest frame that a wire carries, in bytes.
pub const WIRE_FRAME_BYTES_MAX: usize = 65_536 + 64;

/// The far end of a wire.
pub trait FramePort {
    /// Moves the next frame that is to arrive at or before `cycle` into `frame` (cleared first).
    fn receive(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival>;

    /// When the next frame is to arrive, if that is known; a cycle that has passed means now.
    fn next_at(&self) -> Option<Cycle>;

    /// Takes a frame that left the NIC at `cycle`.
    fn send(&mut self, cycle: Cycle, frame: &[u8]);
}

/// Rate of a line in bytes a cycle, as a fraction so that it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRate {
    bytes: u32,
    cycles: u32,
}

impl LineRate {
    /// As fast as the NIC's own stream.
    pub const UNLIMITED: Self = Self { bytes: 0, cycles: 1 };

    /// `bytes` in `cycles`; either being 0 means no limit.
    pub const fn new(bytes: u32, cycles: u32) -> Self {
        if cycles == 0 { Self::UNLIMITED } else { Self { bytes, cycles } }
    }

    /// A rate in Mbit/s, with cycles of 4 ns.
    pub const fn mbit_s(mbit_s: u32) -> Self {
        // 1 Mbit/s is 1/2000 of a byte in 4 ns.
        Self { bytes: mbit_s, cycles: 2_000 }
    }

    /// Cycles times 256 that a frame of `len` bytes occupies the line.
    fn occupies(self, len: usize) -> u64 {
        if self.bytes == 0 {
            return 0;
        }
        let bytes = len as u64 + LINE_OVERHEAD_BYTES;
        (bytes * u64::from(self.cycles) * 256).div_ceil(u64::from(self.bytes))
    }
}

/// What a wire has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireStats {
    /// Frames to the NIC.
    pub arrived: u64,
    /// Bytes of them.
    pub arrived_bytes: u64,
    /// Frames from the NIC.
    pub departed: u64,
    /// Bytes of them.
    pub departed_bytes: u64,
    /// Frames from the far end that were damaged on purpose.
    pub damaged: u64,
}

/// A line with a rate and a far end.
pub struct Wire {
    far: Box<dyn FramePort + Send>,
    rate: LineRate,
    /// When the line to the NIC is free, in 1/256 cycles.
    arrive_free_at: u64,
    /// When the line from the NIC is free, in 1/256 cycles.
    depart_free_at: u64,
    /// First beat of the frame that is leaving.
    departing_since: Option<Cycle>,
    capture: Option<Capture>,
    damage_next: u32,
    stats: WireStats,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("rate", &self.rate)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// A line of this rate to `far`.
    pub fn new(far: Box<dyn FramePort + Send>, rate: LineRate) -> Self {
        Self {
            far,
            rate,
            arrive_free_at: 0,
            depart_free_at: 0,
            departing_since: None,
            capture: None,
            damage_next: 0,
            stats: WireStats::default(),
        }
    }

    /// A line without an end: nothing arrives, what departs is lost.
    pub fn none() -> Self {
        Self::new(Box::new(Null), LineRate::UNLIMITED)
    }

    /// Captures both ways from now on.
    pub fn set_capture(&mut self, capture: Option<Capture>) -> Option<Capture> {
        std::mem::replace(&mut self.capture, capture)
    }

    /// The capture, to flush it.
    pub fn capture_mut(&mut self) -> Option<&mut Capture> {
        self.capture.as_mut()
    }

    /// Flags the next `count` arriving frames as damaged (bad FCS).
    pub fn damage_next(&mut self, count: u32) {
        self.damage_next = count;
    }

    /// What it has carried.
    pub fn stats(&self) -> WireStats {
        self.stats
    }

    /// Tells the capture what the NIC decided, which gives frames their identity.
    pub fn learn(&mut self, events: &[Event]) {
        if let Some(capture) = &mut self.capture {
            capture.learn(events);
        }
    }
}

impl WirePort for Wire {
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        if self.arrive_free_at > cycle << 8 {
            return None;
        }
        let mut arrival = self.far.receive(cycle, frame)?;
        if self.damage_next > 0 {
            self.damage_next -= 1;
            self.stats.damaged += 1;
            arrival.error = true;
        }
        self.arrive_free_at = self.arrive_free_at.max(cycle << 8) + self.rate.occupies(frame.len());
        self.stats.arrived += 1;
        self.stats.arrived_bytes += frame.len() as u64;
        if let Some(capture) = &mut self.capture {
            capture.arrived(cycle, frame, arrival.error);
        }
        Some(arrival)
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        Some(self.far.next_at()?.max(self.arrive_free_at.div_ceil(256)))
    }

    fn ready(&mut self, cycle: Cycle) -> bool {
        let ready = self.depart_free_at <= cycle << 8;
        if ready && self.departing_since.is_none() {
            self.departing_since = Some(cycle);
        }
        ready
    }

    fn departed(&mut self, cycle: Cycle, frame: &[u8]) {
        let start = self.departing_since.take().unwrap_or(cycle);
        self.depart_free_at = self.depart_free_at.max(start << 8) + self.rate.occupies(frame.len());
        self.stats.departed += 1;
        self.stats.departed_bytes += frame.len() as u64;
        if let Some(capture) = &mut self.capture {
            capture.departed(cycle, frame);
        }
        self.far.send(cycle, frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_exact() {
        // 10 Gbit/s is 5 bytes in 4 ns: 1526 - 24 + 24 bytes take 305.2 cycles.
        assert_eq!(LineRate::mbit_s(10_000).occupies(1502), (1526 * 256u64).div_ceil(5));
        assert_eq!(LineRate::UNLIMITED.occupies(1502), 0);
        assert_eq!(LineRate::new(64, 1).occupies(104), 2 * 256);
    }

    #[test]
    fn arrivals_and_departures_keep_their_distance() {
        let (port, peer) = channel(16);
        for _ in 0..3 {
            assert!(peer.send(&[0; 104]));
        }
        // 128 bytes a frame with overhead, at 8 bytes a cycle: 16 cycles apart.
        let mut wire = Wire::new(Box::new(port), LineRate::new(8, 1));
        let mut frame = Vec::new();
        let mut at = Vec::new();
        for cycle in 100..200 {
            if wire.arriving(cycle, &mut frame).is_some() {
                at.push(cycle);
            }
        }
        assert_eq!(at, [100, 116, 132]);

        let mut left = Vec::new();
        for cycle in 200..300 {
            // One-beat frames: ready is asked in the cycle in which they leave.
            if wire.ready(cycle) {
                wire.departed(cycle, &[1; 104]);
                left.push(cycle);
            }
        }
        assert_eq!(left, [200, 216, 232, 248, 264, 280, 296]);
        assert_eq!(wire.stats().departed_bytes, 7 * 104);
    }
}
