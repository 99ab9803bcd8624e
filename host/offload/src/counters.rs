//! What offloading did. All counters count from the start and none ever decreases.

/// Frames that were dropped on the way, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops {
    /// Transmit: the pool had no buffer for a segment's headers or a copy.
    pub no_buffer: u64,
    /// Transmit: a super-segment that cannot be cut as it asks.
    pub not_segmentable: u64,
    /// Transmit: more bytes than the device carries.
    pub too_long: u64,
    /// Transmit: a checksum request that points outside the frame.
    pub bad_request: u64,
    /// Receive: the transport checksum is wrong.
    pub bad_checksum: u64,
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.no_buffer + self.not_segmentable + self.too_long + self.bad_request + self.bad_checksum
    }
}

/// Why flows were handed on by the coalescer, one count for each flow handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushes {
    /// A segment with PSH or FIN, or shorter than the others, ended it.
    pub complete: u64,
    /// The next packet of the flow could not be merged exactly.
    pub mismatch: u64,
    /// Its bytes, its pieces or its segments reached a limit.
    pub limit: u64,
    /// Its place was needed for another flow.
    pub evicted: u64,
    /// The batch ended.
    pub batch_end: u64,
}

/// What offloading did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Transmit: checksums left to the device.
    pub tx_csum_hw: u64,
    /// Transmit: checksums completed here, segments included.
    pub tx_csum_sw: u64,
    /// Receive: checksums that the device judged.
    pub rx_csum_hw: u64,
    /// Receive: checksums judged here.
    pub rx_csum_sw: u64,
    /// Transmit: super-segments left to the device.
    pub supers_hw: u64,
    /// Transmit: super-segments cut here.
    pub supers_sw: u64,
    /// Transmit: segments that they became.
    pub segments: u64,
    /// Transmit: VLAN tags inserted here.
    pub vlan_sw: u64,
    /// Transmit: frames copied into one buffer since the device takes fewer pieces.
    pub linearized: u64,
    /// Receive: frames that the device had coalesced.
    pub coalesced_hw: u64,
    /// Receive: super-segments made here.
    pub coalesced_sw: u64,
    /// Receive: packets that were merged into them, the first of each included.
    pub merged: u64,
    /// Receive: why flows were handed on.
    pub flushes: Flushes,
    /// Dropped frames.
    pub drops: Drops,
}
