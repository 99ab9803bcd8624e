//! What the NIC's MAC is connected to.
//!
//! Frames arrive at the line rate that the NIC reports, in its own cycles: a burst from a real interface is spaced
//! as a real link would space it.

mod capture;
mod replay;
mod tap;

pub use capture::Capture;
pub use replay::{Replay, ReplayError};
pub use tap::{Tap, TapError};

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::str::FromStr;

use tandem_contract::layout::SPEED_MBIT;
use tandem_contract::nic::{Arrival, Cycle, WirePort};
use thiserror::Error;

/// Bytes of the line in one cycle of 4 ns.
const LINE_BYTES_PER_CYCLE: u64 = SPEED_MBIT as u64 * 4 / 8 / 1000;
/// Preamble, start delimiter, FCS and the gap between frames, in bytes.
const LINE_OVERHEAD_BYTES: u64 = 8 + 4 + 12;

/// Counters of a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCounters {
    /// Frames given to the NIC.
    pub arrived: u64,
    /// Frames that the NIC sent.
    pub departed: u64,
    /// Of those, frames that the other side did not take.
    pub refused: u64,
}

/// A [`WirePort`] with an outside.
pub trait Wire {
    /// The NIC's side.
    fn as_wire_port(&mut self) -> &mut dyn WirePort;

    /// When the next frame arrives, if one is known.
    fn next_arrival_at(&self) -> Option<Cycle>;

    /// Fetches what the outside has for the NIC, without waiting; `now` is the NIC's clock.
    fn poll(&mut self, now: Cycle);

    /// Readable when [`poll`](Self::poll) would fetch something.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The driver has set DRIVER_OK.
    fn driver_ready(&mut self) {}

    /// There is no driver any more.
    fn driver_gone(&mut self) {}

    /// Ends what is being written.
    ///
    /// # Errors
    /// When not everything could be written.
    fn finish(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// Counters since the beginning.
    fn counters(&self) -> WireCounters;
}

/// When the line is free again.
#[derive(Clone, Copy, Debug, Default)]
struct Pacer {
    free_at: Cycle,
}

impl Pacer {
    /// The first cycle at which a frame that is there at `cycle` can begin.
    fn begin(self, cycle: Cycle) -> Cycle {
        self.free_at.max(cycle)
    }

    fn occupy(&mut self, begin: Cycle, len: usize) {
        self.free_at = begin + (len as u64 + LINE_OVERHEAD_BYTES).div_ceil(LINE_BYTES_PER_CYCLE);
    }
}

/// No wire: nothing arrives, and what departs is gone.
#[derive(Debug, Default)]
pub struct NoWire {
    counters: WireCounters,
}

impl From<NoWire> for Box<dyn Wire> {
    fn from(wire: NoWire) -> Self {
        Box::new(wire)
    }
}

impl WirePort for NoWire {
    fn arriving(&mut self, _: Cycle, _: &mut Vec<u8>) -> Option<Arrival> {
        None
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        None
    }

    fn ready(&mut self, _: Cycle) -> bool {
        true
    }

    fn departed(&mut self, _: Cycle, _: &[u8]) {
        self.counters.departed += 1;
    }
}

impl Wire for NoWire {
    fn as_wire_port(&mut self) -> &mut dyn WirePort {
        self
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        None
    }

    fn poll(&mut self, _: Cycle) {}

    fn counters(&self) -> WireCounters {
        self.counters
    }
}

/// What `--wire` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireSpec {
    /// `none`
    None,
    /// `tap:NAME`
    Tap(String),
    /// `pcap:FILE`: what passes is written to FILE. `pcap:FILE,replay=IN`: the frames of IN arrive once the driver
    /// is ready.
    Pcap {
        /// File to write.
        out: PathBuf,
        /// File to replay.
        replay: Option<PathBuf>,
    },
}

/// A `--wire` that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("--wire {0}: must be tap:NAME, pcap:FILE, pcap:FILE,replay=FILE or none")]
pub struct WireSpecError(String);

impl FromStr for WireSpec {
    type Err = WireSpecError;

    fn from_str(text: &str) -> Result<Self, WireSpecError> {
        let error = || WireSpecError(text.into());
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "none" if rest.is_empty() && !text.contains(':') => Ok(Self::None),
            "tap" if !rest.is_empty() => Ok(Self::Tap(rest.into())),
            "pcap" => {
                let (out, replay) = match rest.split_once(",replay=") {
                    Some((out, replay)) => (out, Some(replay)),
                    None => (rest, None),
                };
                if out.is_empty() || replay == Some("") {
                    return Err(error());
                }
                Ok(Self::Pcap { out: out.into(), replay: replay.map(PathBuf::from) })
            }
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        assert_eq!("none".parse(), Ok(WireSpec::None));
        assert_eq!("tap:nic0".parse(), Ok(WireSpec::Tap("nic0".into())));
        assert_eq!("pcap:/a:b".parse(), Ok(WireSpec::Pcap { out: "/a:b".into(), replay: None }));
        let both = WireSpec::Pcap { out: "a".into(), replay: Some("b".into()) };
        assert_eq!("pcap:a,replay=b".parse(), Ok(both));
        for bad in
            ["", "none:", "tap", "tap:", "pcap:", "pcap:,replay=b", "pcap:a,replay=", "veth:x"]
        {
            let error = bad.parse::<WireSpec>().unwrap_err();
            assert!(error.to_string().contains("tap:NAME"), "{bad}");
        }
    }

    #[test]
    fn frames_are_spaced_as_the_line_would() {
        assert_eq!(LINE_BYTES_PER_CYCLE, 50);
        let mut pacer = Pacer::default();
        assert_eq!(pacer.begin(7), 7);
        pacer.occupy(7, 1514);
        // 1538 bytes at 50 a cycle.
        assert_eq!(pacer.begin(8), 7 + 31);
    }
}
