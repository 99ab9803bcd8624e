//! Real time as the stack sees it.

use tandem_stack::Instant;

/// The monotonic clock, counted from when this was made.
#[derive(Debug, Clone, Copy)]
pub struct WallClock(std::time::Instant);

impl WallClock {
    /// Begins now, at one second: moments just before the start can then be spoken of.
    pub fn new() -> Self {
        Self(std::time::Instant::now())
    }

    /// The moment.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(1_000_000_000 + self.0.elapsed().as_nanos() as u64)
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}
