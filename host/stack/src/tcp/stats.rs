//! Counters and a snapshot of one connection.

use core::time::Duration;

use super::State;

/// Counters of one connection. None ever decreases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Segments received, coalesced ones counted as what came on the wire.
    pub segments_in: u64,
    /// Segments sent, super-segments counted as what goes on the wire.
    pub segments_out: u64,
    /// Payload bytes taken into the receive buffer in order.
    pub bytes_in: u64,
    /// Payload bytes sent for the first time.
    pub bytes_out: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// Segments of the wire that were retransmissions, SYN and FIN included.
    pub retransmissions: u32,
    /// Expiries of the retransmission timer.
    pub timeouts: u32,
    /// Entries into fast recovery.
    pub fast_retransmits: u32,
    /// Duplicate acknowledgements received (RFC 5681 section 2).
    pub duplicate_acks_in: u32,
    /// Zero-window probes sent.
    pub window_probes: u32,
    /// Round-trip samples taken.
    pub rtt_samples: u32,
    /// Segments that came out of order and were kept.
    pub out_of_order: u32,
    /// Segments out of order beyond [`super::Config::out_of_order_segments_max`].
    pub out_of_order_drops: u32,
    /// Segments dropped since received data held too much memory.
    pub receive_memory_drops: u32,
    /// Payload bytes that had been received before.
    pub duplicate_bytes_in: u64,
    /// Unacceptable segments (RFC 9293 section 3.10.7.4, first check).
    pub unacceptable: u32,
    /// Segments refused by PAWS (RFC 7323 section 5).
    pub paws_drops: u32,
    /// Segments without the timestamps that were agreed (RFC 7323 section 3.2).
    pub missing_timestamps: u32,
    /// Acknowledgements out of the range of RFC 5961 section 5.
    pub bad_acks: u32,
    /// Challenge acknowledgements owed (RFC 5961).
    pub challenge_acks: u32,
    /// Of them, suppressed by [`super::Config::challenge_acks_per_second`].
    pub challenge_acks_suppressed: u32,
    /// Duplicate acknowledgements not sent beyond [`super::config::DUPLICATE_ACKS_OWED_MAX`].
    pub duplicate_acks_suppressed: u32,
    /// Resets received and obeyed.
    pub resets_in: u32,
    /// Resets sent.
    pub resets_out: u32,
    /// Writes that found the send buffer full.
    pub send_buffer_full: u32,
    /// Offers of an MSS below [`super::config::MSS_MIN`].
    pub mss_clamped: u32,
}

/// A snapshot, much like Linux's `tcp_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// State.
    pub state: State,
    /// Payload bytes of a full segment to the peer.
    pub mss: u16,
    /// Smoothed round-trip time, once measured.
    pub srtt: Option<Duration>,
    /// Its variation.
    pub rttvar: Duration,
    /// Retransmission time-out, with back-off.
    pub rto: Duration,
    /// Retransmission time-outs in a row.
    pub backoff: u32,
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Slow-start threshold, bytes; `u32::MAX` until there was a loss.
    pub ssthresh: u32,
    /// Sent and not acknowledged, in sequence numbers.
    pub in_flight: u32,
    /// The peer's window from the first unacknowledged byte, bytes.
    pub send_window: u32,
    /// The window that we last offered, bytes.
    pub receive_window: u32,
    /// Bytes in the send buffer, sent or not.
    pub send_buffered: u32,
    /// Of them, not yet sent.
    pub unsent: u32,
    /// Bytes to be read.
    pub receive_buffered: u32,
    /// Bytes held out of order.
    pub out_of_order_bytes: u32,
    /// Whether fast recovery is going on.
    pub in_recovery: bool,
    /// Timestamps were agreed.
    pub timestamps: bool,
    /// Window scale of the peer and ours, when agreed.
    pub window_scale: Option<(u8, u8)>,
    /// Counters.
    pub stats: Stats,
}
