//! What a connection is told when it is made: its limits, its path, its initial numbers.

use core::time::Duration;

use tandem_packet::SeqNumber;

/// Default send MSS for IPv4 when the peer sends no MSS option (RFC 9293 section 3.7.1, MUST-15).
pub const MSS_DEFAULT_IPV4: u16 = 536;
/// Default send MSS for IPv6 when the peer sends no MSS option (RFC 9293 section 3.7.1, MUST-15).
pub const MSS_DEFAULT_IPV6: u16 = 1220;
/// Least send MSS that is believed. A peer that asks for less would make us send a flood of headers;
/// its offer is raised to this and counted in [`super::Stats::mss_clamped`].
pub const MSS_MIN: u16 = 88;
/// Largest window scale shift (RFC 7323 section 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;
/// Most bytes that a send or receive buffer may be configured for: half the largest window.
pub const BUFFER_BYTES_MAX: u32 = 1 << 29;
/// Least bytes of a send or receive buffer.
pub const BUFFER_BYTES_MIN: u32 = 256;
/// Most pure acknowledgements owed at once for segments that came out of order.
pub const DUPLICATE_ACKS_OWED_MAX: u16 = 64;

/// IP version of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Bytes of the IP header without options or extension headers.
    pub const fn header_len(self) -> u32 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Least MTU that is believed; a smaller one counts as this. IPv6 has 1280 (RFC 8200 section 5); for
    /// IPv4 the formal 68 (RFC 791) would leave no room for data beside options.
    pub const fn mtu_min(self) -> u32 {
        match self {
            Self::V4 => 128,
            Self::V6 => 1280,
        }
    }

    pub(super) const fn mss_default(self) -> u16 {
        match self {
            Self::V4 => MSS_DEFAULT_IPV4,
            Self::V6 => MSS_DEFAULT_IPV6,
        }
    }
}

/// What the connection must know of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// IP version.
    pub family: Family,
    /// Largest IP packet in bytes towards the peer.
    pub mtu: u32,
}

impl Path {
    /// Largest TCP payload of one packet without TCP options (RFC 9293 section 3.7.1, MUST-16 and
    /// SHLD-5): what our MSS option says.
    pub fn mss(&self) -> u16 {
        let payload = self.mtu.max(self.family.mtu_min()) - self.family.header_len() - 20;
        // 65535 would be read as "no limit" by RFC 2675 peers.
        payload.min(65_534) as u16
    }
}

/// Numbers that must be hard to guess (RFC 9293 section 3.4.1, RFC 6528; RFC 7323 section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initial {
    /// Initial send sequence number.
    pub iss: SeqNumber,
    /// Added to the millisecond clock in our timestamps; should be a keyed hash of the four-tuple, so that
    /// timestamps rise from one incarnation of a connection to the next (RFC 6191).
    pub timestamp_offset: u32,
}

impl Initial {
    /// These numbers.
    pub fn new(iss: SeqNumber, timestamp_offset: u32) -> Self {
        Self { iss, timestamp_offset }
    }
}

/// Limits and habits of a connection; copied into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Most bytes of unsent and unacknowledged data; clamped to [`BUFFER_BYTES_MIN`] and
    /// [`BUFFER_BYTES_MAX`]. Beyond it writes are refused ([`super::Stats::send_buffer_full`]).
    pub send_buffer_bytes_max: u32,
    /// Most bytes of received and unread data, and so the largest window; clamped likewise.
    pub receive_buffer_bytes_max: u32,
    /// Most bytes of pool memory that received data may hold, as a multiple of
    /// `receive_buffer_bytes_max`: small segments hold a whole buffer each. Beyond it they are merged,
    /// and where that fails dropped ([`super::Stats::receive_memory_drops`]).
    pub receive_memory_factor: u32,
    /// Most segments held out of order; more are dropped ([`super::Stats::out_of_order_drops`]).
    pub out_of_order_segments_max: u16,
    /// Most pieces of data in the send buffer; beyond it writes are refused
    /// ([`super::Stats::send_buffer_full`]).
    pub send_pieces_max: u32,
    /// Offer timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offer window scaling (RFC 7323).
    pub window_scaling: bool,
    /// Send small segments at once (switches the Nagle algorithm off, RFC 9293 section 3.7.4).
    pub nodelay: bool,
    /// How long an acknowledgement may be delayed; RFC 9293 MUST-42 wants less than 500 ms, which it is
    /// clamped to. Zero acknowledges everything at once.
    pub delayed_ack: Duration,
    /// Retransmission time-out before there is a measurement (RFC 6298 section 2.1: 1 s).
    pub rto_initial: Duration,
    /// Least retransmission time-out. RFC 6298 section 2.4 says 1 s should be used; 200 ms is what hosts
    /// of today use and what we use.
    pub rto_min: Duration,
    /// Largest retransmission time-out (RFC 6298 section 2.5: at least 60 s).
    pub rto_max: Duration,
    /// Gives up an active open after this long (R2 for SYN; RFC 9293 MUST-23: at least 3 minutes).
    pub connect_timeout: Duration,
    /// Gives up a passive open whose SYN-ACK is not answered.
    pub accept_timeout: Duration,
    /// Gives up when sent data stays unacknowledged for this long (R2; RFC 9293 SHLD-11: at least 100 s).
    pub user_timeout: Duration,
    /// Time in FIN-WAIT-2 after a full close before the connection is forgotten.
    pub fin_wait_2_timeout: Duration,
    /// Twice the maximum segment lifetime (RFC 9293 section 3.4.2: MSL is 2 minutes; hosts of today use
    /// 30 s, and so do we).
    pub time_wait: Duration,
    /// Challenge acknowledgements and answers to unacceptable segments without data in one second
    /// (RFC 5961 section 7); more are suppressed ([`super::Stats::challenge_acks_suppressed`]).
    pub challenge_acks_per_second: u16,
    /// Initial window in segments (RFC 6928: 10).
    pub initial_window_segments: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            send_buffer_bytes_max: 1 << 20,
            receive_buffer_bytes_max: 1 << 20,
            receive_memory_factor: 4,
            out_of_order_segments_max: 1024,
            send_pieces_max: 4096,
            timestamps: true,
            window_scaling: true,
            nodelay: false,
            delayed_ack: Duration::from_millis(40),
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(180),
            accept_timeout: Duration::from_secs(60),
            user_timeout: Duration::from_secs(300),
            fin_wait_2_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            challenge_acks_per_second: 10,
            initial_window_segments: 10,
        }
    }
}

impl Config {
    pub(super) fn send_limit(&self) -> usize {
        self.send_buffer_bytes_max.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX) as usize
    }

    pub(super) fn receive_limit(&self) -> u32 {
        self.receive_buffer_bytes_max.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX)
    }

    pub(super) fn delayed_ack(&self) -> Duration {
        self.delayed_ack.min(Duration::from_millis(499))
    }
}
