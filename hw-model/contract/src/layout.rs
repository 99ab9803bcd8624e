//! Where things are: PCI identity, configuration space and BAR 0.
//!
//! BAR 0 is a 64-bit memory BAR of [`BAR0_LEN`] bytes:
//!
//! ```text
//! 0x0000  common configuration   (virtio 1.3, 4.1.4.3)
//! 0x1000  ISR status             (4.1.4.5)
//! 0x2000  device configuration   (5.1.4)
//! 0x3000  notifications          (4.1.4.4), queue q rings at 0x3000 + 4 q
//! 0x4000  counters and identity of the model, read-only
//! 0x8000  MSI-X table            (PCI 6.8.2), 16 bytes a vector
//! 0xA000  MSI-X pending bits
//! ```
//!
//! Each block has pages of its own, so that a VMM may map or trap it alone.
//!
//! Configuration space is shared with the PCIe core: it owns dwords below [`CFG_NIC_BASE`], the
//! standard header, the MSI-X and the PCI Express capability among them; the NIC answers
//! [`CFG_NIC_BASE`]`..`[`CFG_NIC_END`], where the five virtio vendor capabilities stand, PCI_CFG with
//! its window included.

/// PCI vendor of every virtio device.
pub const PCI_VENDOR: u16 = 0x1AF4;
/// PCI device: 0x1040 plus the virtio device type 1, network card (virtio 1.3, 4.1.2).
pub const PCI_DEVICE: u16 = 0x1041;
/// Class code: network controller, Ethernet.
pub const PCI_CLASS: u32 = 0x02_00_00;
/// Revision; non-transitional devices have 1 or higher (4.1.2.1).
pub const PCI_REVISION: u8 = 1;
/// Subsystem device; must be 0x40 or higher for a non-transitional device (4.1.2.1).
pub const PCI_SUBSYSTEM: u16 = 0x0054;

/// Length of BAR 0 in bytes.
pub const BAR0_LEN: u32 = 0x1_0000;
/// Common configuration.
pub const COMMON_BASE: u32 = 0x0000;
/// Length of the common configuration up to and including `queue_reset`.
pub const COMMON_LEN: u32 = 0x3C;
/// ISR status byte.
pub const ISR_BASE: u32 = 0x1000;
/// Length of the ISR block.
pub const ISR_LEN: u32 = 1;
/// Device configuration.
pub const DEVICE_BASE: u32 = 0x2000;
/// Length of the device configuration: mac, status, max_virtqueue_pairs, mtu, speed, duplex.
pub const DEVICE_LEN: u32 = 17;
/// Notifications.
pub const NOTIFY_BASE: u32 = 0x3000;
/// `notify_off_multiplier`.
pub const NOTIFY_STRIDE: u32 = 4;
/// Counters.
pub const COUNTERS_BASE: u32 = 0x4000;
/// MSI-X table.
pub const MSIX_TABLE_BASE: u32 = 0x8000;
/// MSI-X pending bit array.
pub const MSIX_PBA_BASE: u32 = 0xA000;

/// Offsets in the common configuration (virtio 1.3, 4.1.4.3).
#[allow(missing_docs, reason = "each is a field of the standard, by its name there")]
pub mod common {
    pub const DEVICE_FEATURE_SELECT: u32 = 0x00;
    pub const DEVICE_FEATURE: u32 = 0x04;
    pub const DRIVER_FEATURE_SELECT: u32 = 0x08;
    pub const DRIVER_FEATURE: u32 = 0x0C;
    pub const CONFIG_MSIX_VECTOR: u32 = 0x10;
    pub const NUM_QUEUES: u32 = 0x12;
    pub const DEVICE_STATUS: u32 = 0x14;
    pub const CONFIG_GENERATION: u32 = 0x15;
    pub const QUEUE_SELECT: u32 = 0x16;
    pub const QUEUE_SIZE: u32 = 0x18;
    pub const QUEUE_MSIX_VECTOR: u32 = 0x1A;
    pub const QUEUE_ENABLE: u32 = 0x1C;
    pub const QUEUE_NOTIFY_OFF: u32 = 0x1E;
    pub const QUEUE_DESC: u32 = 0x20;
    pub const QUEUE_DRIVER: u32 = 0x28;
    pub const QUEUE_DEVICE: u32 = 0x30;
    pub const QUEUE_NOTIF_CONFIG_DATA: u32 = 0x38;
    pub const QUEUE_RESET: u32 = 0x3A;
}

/// Offsets in the device configuration (virtio 1.3, 5.1.4).
#[allow(missing_docs, reason = "each is a field of the standard, by its name there")]
pub mod device {
    pub const MAC: u32 = 0;
    pub const STATUS: u32 = 6;
    pub const MAX_VIRTQUEUE_PAIRS: u32 = 8;
    pub const MTU: u32 = 10;
    pub const SPEED: u32 = 12;
    pub const DUPLEX: u32 = 16;
}

/// `speed` in the device configuration, Mbit/s; `duplex` is 1, full (virtio 1.3, 5.1.4).
pub const SPEED_MBIT: u32 = 100_000;

/// Counters: 64-bit, little-endian, read-only, cleared by reset of the chip only.
/// Reading the low half latches the high half.
pub const COUNTERS: &[(u32, &str, &str)] = &[
    (0x00, "id", "the ASCII bytes TNDM in the low half, version of this layout in the high half"),
    (0x08, "cycles", "clock cycles since the chip's reset"),
    (0x10, "tx_frames", "frames given to the MAC"),
    (0x18, "tx_bytes", "bytes given to the MAC"),
    (0x20, "tx_csum", "checksums inserted"),
    (0x28, "tx_dropped", "transmit chains consumed without a frame: malformed request"),
    (0x30, "rx_frames", "frames given to the driver"),
    (0x38, "rx_bytes", "bytes given to the driver, without virtio headers"),
    (0x40, "rx_csum_valid", "frames whose transport checksum was found valid"),
    (0x48, "rx_csum_bad", "frames whose transport checksum was found wrong; delivered unmarked"),
    (0x50, "rx_dropped_fifo", "receive FIFO full"),
    (0x58, "rx_dropped_no_buffer", "no buffer, or none long enough, in the ring"),
    (0x60, "rx_dropped_error", "MAC error, runt, or over the frame limit"),
    (0x68, "rx_dropped_filter", "not for this station"),
    (0x70, "dma_errors", "bus errors answered to the NIC"),
    (0x78, "irqs", "MSI-X messages sent"),
    (0x80, "rx_dropped_not_ready", "frames that came while the device or its queue was not ready"),
];

/// Version of the counters' layout, in the high half of `id`.
pub const COUNTERS_VERSION: u32 = 1;

/// First configuration-space byte that the NIC answers itself.
pub const CFG_NIC_BASE: u16 = 0x90;
/// One past the last configuration-space byte that the NIC answers itself.
pub const CFG_NIC_END: u16 = 0xE8;
/// MSI-X capability (12 bytes), owned by the PCIe core; its next pointer is [`CFG_PCIE_CAP`].
pub const CFG_MSIX_CAP: u16 = 0x40;
/// PCI Express capability (60 bytes), owned by the PCIe core; its next pointer is [`CFG_COMMON_CAP`].
pub const CFG_PCIE_CAP: u16 = 0x50;
/// Vendor capability of the common configuration, 16 bytes.
pub const CFG_COMMON_CAP: u16 = 0x90;
/// Vendor capability of the notifications, 20 bytes.
pub const CFG_NOTIFY_CAP: u16 = 0xA0;
/// Vendor capability of the ISR, 16 bytes.
pub const CFG_ISR_CAP: u16 = 0xB4;
/// Vendor capability of the device configuration, 16 bytes.
pub const CFG_DEVICE_CAP: u16 = 0xC4;
/// Vendor capability of PCI_CFG, 20 bytes; the last of the chain (virtio 1.3, 4.1.4.9).
pub const CFG_PCI_CFG_CAP: u16 = 0xD4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_do_not_overlap() {
        assert!(COUNTERS.windows(2).all(|w| w[0].0 + 8 == w[1].0));
    }

    #[test]
    fn capabilities_are_adjacent_and_end_at_the_window() {
        assert_eq!(CFG_COMMON_CAP, CFG_NIC_BASE);
        assert_eq!(CFG_PCI_CFG_CAP + 20, CFG_NIC_END);
    }
}
