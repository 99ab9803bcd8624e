//! Feature bits of virtio 1.3 (chapter 6 and section 5.1.3) that this driver knows.

use bitflags::bitflags;

bitflags! {
    /// Feature bits, by their numbers in the standard.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct Features: u64 {
        /// The device completes partial checksums.
        const CSUM = 1;
        /// The driver takes frames with partial checksum and DATA_VALID.
        const GUEST_CSUM = 1 << 1;
        /// The device configuration names an MTU.
        const MTU = 1 << 3;
        /// The device configuration names a station address.
        const MAC = 1 << 5;
        /// The driver takes coalesced TCP over IPv4.
        const GUEST_TSO4 = 1 << 7;
        /// The driver takes coalesced TCP over IPv6.
        const GUEST_TSO6 = 1 << 8;
        /// The driver takes coalesced TCP with ECN.
        const GUEST_ECN = 1 << 9;
        /// The device segments TCP over IPv4.
        const HOST_TSO4 = 1 << 11;
        /// The device segments TCP over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// The device segments TCP with ECN.
        const HOST_ECN = 1 << 13;
        /// A received frame may span several buffers.
        const MRG_RXBUF = 1 << 15;
        /// The device configuration tells the state of the link.
        const STATUS = 1 << 16;
        /// Notifications are suppressed by index.
        const EVENT_IDX = 1 << 29;
        /// The modern interface.
        const VERSION_1 = 1 << 32;
        /// DMA addresses are those of the platform's IOMMU.
        const ACCESS_PLATFORM = 1 << 33;
        /// Packed virtqueues.
        const RING_PACKED = 1 << 34;
        /// Buffers are used in the order in which they were made available.
        const IN_ORDER = 1 << 35;
        /// Memory ordering of a real bus.
        const ORDER_PLATFORM = 1 << 36;
        /// The doorbell carries the next available position.
        const NOTIFICATION_DATA = 1 << 38;
        /// A queue can be reset alone.
        const RING_RESET = 1 << 40;
        /// The driver takes coalesced UDP over IPv4.
        const GUEST_USO4 = 1 << 54;
        /// The driver takes coalesced UDP over IPv6.
        const GUEST_USO6 = 1 << 55;
        /// The device segments UDP.
        const HOST_USO = 1 << 56;
        /// The device configuration names speed and duplex.
        const SPEED_DUPLEX = 1 << 63;
    }
}

impl Features {
    /// Coalescing on receive: what may deliver frames of 64 KiB.
    pub const GRO: Self = Self::GUEST_TSO4
        .union(Self::GUEST_TSO6)
        .union(Self::GUEST_ECN)
        .union(Self::GUEST_USO4)
        .union(Self::GUEST_USO6);

    /// Segmentation on transmit.
    pub const TSO: Self =
        Self::HOST_TSO4.union(Self::HOST_TSO6).union(Self::HOST_ECN).union(Self::HOST_USO);

    /// All that moves work to the device; without them it only carries frames.
    pub const OFFLOADS: Self = Self::CSUM.union(Self::GUEST_CSUM).union(Self::GRO).union(Self::TSO);

    /// Drops bits whose prerequisites are not in the set (virtio 1.3, 5.1.3.1).
    #[must_use]
    pub fn without_orphans(mut self) -> Self {
        if !self.contains(Self::CSUM) {
            self.remove(Self::TSO);
        }
        if !self.contains(Self::GUEST_CSUM) {
            self.remove(Self::GRO);
        }
        if !self.intersects(Self::HOST_TSO4 | Self::HOST_TSO6) {
            self.remove(Self::HOST_ECN);
        }
        if !self.intersects(Self::GUEST_TSO4 | Self::GUEST_TSO6) {
            self.remove(Self::GUEST_ECN);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segmentation_needs_checksums() {
        let set = Features::all().difference(Features::CSUM).without_orphans();
        assert!(!set.intersects(Features::TSO));
        assert!(set.contains(Features::GRO));
        let set = Features::all().difference(Features::GUEST_CSUM).without_orphans();
        assert!(!set.intersects(Features::GRO));
        let set = (Features::CSUM | Features::HOST_ECN | Features::HOST_USO).without_orphans();
        assert_eq!(set, Features::CSUM | Features::HOST_USO);
    }
}
