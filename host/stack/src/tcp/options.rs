//! What the two SYNs agree on: MSS, window scale, timestamps.

use tandem_packet::{TcpOptions, TcpTimestamps};

use super::config::{MSS_MIN, WINDOW_SCALE_MAX};
use super::{Config, Initial, Path};
use crate::time::Instant;

/// Bytes that timestamps take in each header (RFC 7323 appendix A).
pub(super) const TIMESTAMPS_LEN: u16 = 12;
/// PAWS does not judge by a timestamp older than this, 24 days (RFC 7323 section 5.5), milliseconds.
const TS_RECENT_AGE_MAX_MS: u64 = 24 * 24 * 3600 * 1000;

/// What options a connection uses, before and after the handshake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    /// Largest payload towards the peer, from its MSS option; options not yet taken off.
    pub(super) mss_peer: u16,
    /// Shift for windows that the peer sends.
    pub(super) scale_peer: u8,
    /// Shift for windows that we send.
    pub(super) scale_own: u8,
    /// Both sides sent the window scale option.
    pub(super) scaling: bool,
    /// Both sides sent timestamps, or, before the handshake is over, we do.
    pub(super) timestamps: bool,
    /// TS.Recent (RFC 7323 section 4.3).
    ts_recent: u32,
    ts_recent_at: Instant,
    ts_offset: u32,
}

impl Agreed {
    /// What we offer.
    pub(super) fn offer(config: &Config, path: &Path, initial: &Initial) -> Self {
        Self {
            mss_peer: path.family.mss_default(),
            scale_peer: 0,
            scale_own: if config.window_scaling { scale_for(config.receive_limit()) } else { 0 },
            scaling: config.window_scaling,
            timestamps: config.timestamps,
            ts_recent: 0,
            ts_recent_at: Instant::ZERO,
            ts_offset: initial.timestamp_offset,
        }
    }

    /// Takes the peer's SYN. True when its MSS was raised.
    pub(super) fn peer_syn(&mut self, now: Instant, options: &TcpOptions, path: &Path) -> bool {
        // RFC 9293 section 3.7.1, MUST-15: the default when there is no option.
        let offered = options.mss.unwrap_or(path.family.mss_default());
        self.mss_peer = offered.max(MSS_MIN);
        // RFC 7323 section 2.2: scaling needs both options; section 2.3: more than 14 counts as 14.
        match options.window_scale {
            Some(shift) if self.scaling => self.scale_peer = shift.min(WINDOW_SCALE_MAX),
            _ => {
                self.scaling = false;
                self.scale_peer = 0;
                self.scale_own = 0;
            }
        }
        // RFC 7323 section 3.2: timestamps need both options.
        match options.timestamps {
            Some(stamps) if self.timestamps => {
                self.ts_recent = stamps.value;
                self.ts_recent_at = now;
            }
            _ => self.timestamps = false,
        }
        offered < MSS_MIN
    }

    /// Payload bytes of a full segment on this path: both limits, less what options take in each header
    /// (RFC 9293 section 3.7.1, Eff.snd.MSS; RFC 6691).
    pub(super) fn mss(&self, path: &Path) -> u16 {
        let options = if self.timestamps { TIMESTAMPS_LEN } else { 0 };
        self.mss_peer.min(path.mss()) - options
    }

    /// The options of a SYN or SYN-ACK. A SYN-ACK carries only what the SYN did.
    pub(super) fn for_syn(&self, now: Instant, path: &Path) -> TcpOptions {
        TcpOptions {
            mss: Some(path.mss()),
            window_scale: self.scaling.then_some(self.scale_own),
            ..self.for_segment(now)
        }
    }

    /// The options of any other segment.
    pub(super) fn for_segment(&self, now: Instant) -> TcpOptions {
        TcpOptions {
            timestamps: self.timestamps.then(|| TcpTimestamps {
                value: self.clock(now),
                // RFC 7323 section 3.2: TSecr is TS.Recent, zero in a first SYN.
                echo: self.ts_recent,
            }),
            ..TcpOptions::default()
        }
    }

    /// Our timestamp clock: milliseconds (RFC 7323 section 5.4), offset per connection.
    fn clock(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.ts_offset)
    }

    /// RFC 7323 section 5.3, R1: whether the segment is older than what was seen.
    pub(super) fn is_old(&self, now: Instant, value: u32) -> bool {
        let older = (value.wrapping_sub(self.ts_recent) as i32) < 0;
        older && now.since(self.ts_recent_at).as_millis() as u64 <= TS_RECENT_AGE_MAX_MS
    }

    /// RFC 7323 section 4.3 (2), its caller having checked SEG.SEQ <= Last.ACK.sent.
    pub(super) fn remember(&mut self, now: Instant, value: u32) {
        if (value.wrapping_sub(self.ts_recent) as i32) >= 0 || self.is_stale(now) {
            self.ts_recent = value;
            self.ts_recent_at = now;
        }
    }

    fn is_stale(&self, now: Instant) -> bool {
        now.since(self.ts_recent_at).as_millis() as u64 > TS_RECENT_AGE_MAX_MS
    }

    /// Milliseconds since we sent what the peer echoes; `None` when that is in the future or absurd.
    pub(super) fn echoed_rtt_ms(&self, now: Instant, echo: u32) -> Option<u32> {
        let rtt = self.clock(now).wrapping_sub(echo);
        // Beyond ten minutes it cannot be an echo of anything still in flight.
        (rtt < 600_000).then_some(rtt)
    }

    /// TS.Recent, when timestamps are used.
    pub(super) fn ts_recent(&self) -> Option<(u32, Instant)> {
        self.timestamps.then_some((self.ts_recent, self.ts_recent_at))
    }

    pub(super) fn timestamp_offset(&self) -> u32 {
        self.ts_offset
    }
}

/// The least shift with which a 16-bit field can say `limit`.
fn scale_for(limit: u32) -> u8 {
    (0..WINDOW_SCALE_MAX).find(|&shift| limit >> shift <= 0xffff).unwrap_or(WINDOW_SCALE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::Family;

    #[test]
    fn scales() {
        for (limit, shift) in [(65_535, 0), (65_536, 1), (1 << 20, 5), (1 << 29, 14)] {
            assert_eq!(scale_for(limit), shift, "limit {limit}");
        }
    }

    #[test]
    fn options_need_both_sides() {
        let path = Path { family: Family::V4, mtu: 1500 };
        let initial = Initial::new(tandem_packet::SeqNumber(0), 0);
        let mut agreed = Agreed::offer(&Config::default(), &path, &initial);
        assert!(!agreed.peer_syn(Instant::ZERO, &TcpOptions::default(), &path));
        assert_eq!(agreed.mss(&path), 536);
        assert!(!agreed.scaling && !agreed.timestamps && agreed.scale_own == 0);
        let mut agreed = Agreed::offer(&Config::default(), &path, &initial);
        let options = TcpOptions {
            mss: Some(1),
            window_scale: Some(200),
            timestamps: Some(TcpTimestamps { value: 7, echo: 0 }),
            ..TcpOptions::default()
        };
        assert!(agreed.peer_syn(Instant::ZERO, &options, &path), "an MSS of 1 is raised");
        assert_eq!((agreed.mss(&path), agreed.scale_peer), (MSS_MIN - TIMESTAMPS_LEN, 14));
        assert!(agreed.is_old(Instant::ZERO, 6) && !agreed.is_old(Instant::ZERO, 7));
        assert!(
            !agreed.is_old(Instant::from_millis(25 * 24 * 3_600_000), 6),
            "too old to judge by"
        );
    }
}
