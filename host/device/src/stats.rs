//! Interface counters.

/// The original design's counters and a few that say why. All count from open; none ever decreases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received, from the Ethernet header to the end of payload.
    pub rx_bytes: u64,
    /// Bytes sent, likewise.
    pub tx_bytes: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Transmit errors.
    pub tx_errors: u64,
    /// Good frames that found no room.
    pub rx_dropped: u64,
    /// Frames dropped on the way out.
    pub tx_dropped: u64,
    /// Collisions; always 0 on full-duplex links, kept because the original design lists it.
    pub collisions: u64,
    /// Multicast frames received.
    pub multicast: u64,
    /// Frames whose checksum the device validated.
    pub rx_csum_valid: u64,
    /// Frames whose checksum the device inserted.
    pub tx_csum: u64,
    /// Notifications (doorbells) sent to the device.
    pub doorbells: u64,
    /// Interrupts or wake-ups taken.
    pub interrupts: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.rx_packets += other.rx_packets;
        self.tx_packets += other.tx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_bytes += other.tx_bytes;
        self.rx_errors += other.rx_errors;
        self.tx_errors += other.tx_errors;
        self.rx_dropped += other.rx_dropped;
        self.tx_dropped += other.tx_dropped;
        self.collisions += other.collisions;
        self.multicast += other.multicast;
        self.rx_csum_valid += other.rx_csum_valid;
        self.tx_csum += other.tx_csum;
        self.doorbells += other.doorbells;
        self.interrupts += other.interrupts;
    }
}
