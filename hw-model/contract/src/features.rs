//! Virtio feature bits: what the NIC offers and what each client is expected to take.

/// A client whose accepted feature set we state in advance and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Our own driver, `tandem-virtio`.
    Tandem,
    /// `virtio_net` of the Linux 6.12 kernel that the lab boots.
    Linux,
}

/// One row of the feature table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Bit number in the 64-bit feature set.
    pub bit: u8,
    /// Name as the standard spells it, without the `VIRTIO_` prefix.
    pub name: &'static str,
    /// Whether the NIC offers it.
    pub offered: bool,
    /// Whether our driver takes it when it is offered.
    pub tandem_takes: bool,
    /// Whether Linux takes it when it is offered.
    pub linux_takes: bool,
    /// What it does here, or why it is not offered yet.
    pub note: &'static str,
}

const fn row(
    bit: u8,
    name: &'static str,
    (offered, tandem_takes, linux_takes): (bool, bool, bool),
    note: &'static str,
) -> Feature {
    Feature { bit, name, offered, tandem_takes, linux_takes, note }
}

const ALL: (bool, bool, bool) = (true, true, true);
const NOT_LINUX: (bool, bool, bool) = (true, true, false);
const LATER: (bool, bool, bool) = (false, false, false);

/// The table: every feature bit that the NIC knows of, in order of bit number.
pub const FEATURES: &[Feature] = &[
    row(0, "NET_F_CSUM", ALL, "transmit checksum insertion at csum_start + csum_offset"),
    row(1, "NET_F_GUEST_CSUM", ALL, "receive checksum validation, reported as DATA_VALID"),
    row(3, "NET_F_MTU", ALL, "device configuration field mtu"),
    row(5, "NET_F_MAC", ALL, "device configuration field mac"),
    row(15, "NET_F_MRG_RXBUF", ALL, "a received frame may span several buffers"),
    row(16, "NET_F_STATUS", ALL, "link state in the device configuration"),
    row(17, "NET_F_CTRL_VQ", LATER, "waits for the control queue"),
    row(22, "NET_F_MQ", LATER, "waits for the control queue"),
    row(28, "F_INDIRECT_DESC", LATER, "waits for the offload engines"),
    row(29, "F_EVENT_IDX", ALL, "event suppression by descriptor offset and wrap"),
    row(32, "F_VERSION_1", ALL, "the modern interface; required"),
    row(33, "F_ACCESS_PLATFORM", ALL, "addresses are those of the platform's IOMMU"),
    row(34, "F_RING_PACKED", ALL, "packed virtqueues; required until the split ring comes"),
    row(
        35,
        "F_IN_ORDER",
        NOT_LINUX,
        "buffers are used in the order in which they were made available",
    ),
    row(36, "F_ORDER_PLATFORM", ALL, "memory ordering of a real bus"),
    row(38, "F_NOTIFICATION_DATA", ALL, "the doorbell carries the next available offset"),
    row(40, "F_RING_RESET", ALL, "one queue can be reset alone"),
    row(63, "NET_F_SPEED_DUPLEX", ALL, "device configuration fields speed and duplex"),
];

/// Bit numbers by name, for code that asks about one feature.
#[allow(missing_docs, reason = "each is described in the table")]
pub mod bit {
    pub const CSUM: u8 = 0;
    pub const GUEST_CSUM: u8 = 1;
    pub const MTU: u8 = 3;
    pub const MAC: u8 = 5;
    pub const MRG_RXBUF: u8 = 15;
    pub const STATUS: u8 = 16;
    pub const EVENT_IDX: u8 = 29;
    pub const VERSION_1: u8 = 32;
    pub const ACCESS_PLATFORM: u8 = 33;
    pub const RING_PACKED: u8 = 34;
    pub const IN_ORDER: u8 = 35;
    pub const ORDER_PLATFORM: u8 = 36;
    pub const NOTIFICATION_DATA: u8 = 38;
    pub const RING_RESET: u8 = 40;
    pub const SPEED_DUPLEX: u8 = 63;
}

/// The feature set that the NIC offers.
pub const fn offered() -> u64 {
    let mut set = 0;
    let mut i = 0;
    while i < FEATURES.len() {
        if FEATURES[i].offered {
            set |= 1 << FEATURES[i].bit;
        }
        i += 1;
    }
    set
}

/// The subset of [`offered`] that `client` is expected to accept.
pub fn expected(client: Client) -> u64 {
    FEATURES
        .iter()
        .filter(|f| f.offered)
        .filter(|f| match client {
            Client::Tandem => f.tandem_takes,
            Client::Linux => f.linux_takes,
        })
        .fold(0, |set, f| set | 1 << f.bit)
}

/// Without these the NIC refuses FEATURES_OK (virtio 1.3, 2.2.2 and 6.1).
pub const REQUIRED: u64 = 1 << bit::VERSION_1 | 1 << bit::RING_PACKED;

/// Names of the bits set in `set`, for messages; unknown bits appear as `bit N`.
pub fn names(set: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| set >> bit & 1 == 1)
        .map(|bit| {
            FEATURES
                .iter()
                .find(|f| f.bit == bit)
                .map_or_else(|| format!("bit {bit}"), |f| f.name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_ordered_and_expected_sets_are_subsets() {
        assert!(FEATURES.windows(2).all(|w| w[0].bit < w[1].bit));
        assert_eq!(offered() & REQUIRED, REQUIRED);
        for client in [Client::Tandem, Client::Linux] {
            assert_eq!(expected(client) & !offered(), 0);
            assert_eq!(expected(client) & REQUIRED, REQUIRED, "{client:?} must be able to start");
        }
    }
}
