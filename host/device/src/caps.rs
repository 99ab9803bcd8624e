//! What a device can do.

use bitflags::bitflags;

bitflags! {
    /// Work that a device takes over on transmit.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct TxOffloads: u32 {
        /// Any checksum that a start and an offset describe (CSUM).
        const CSUM = 1;
        /// TCP over IPv4 segmentation (HOST_TSO4).
        const TSO4 = 1 << 1;
        /// TCP over IPv6 segmentation (HOST_TSO6).
        const TSO6 = 1 << 2;
        /// Segmentation of frames with CWR (HOST_ECN).
        const TSO_ECN = 1 << 3;
        /// UDP segmentation (HOST_USO).
        const USO = 1 << 4;
        /// Super-segments with a fixed IPv4 identification.
        const FIXED_ID = 1 << 5;
        /// Inserts the 802.1Q tag.
        const VLAN = 1 << 6;
    }
}

bitflags! {
    /// Work that a device does on receive.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct RxOffloads: u32 {
        /// Validates transport checksums (GUEST_CSUM).
        const CSUM = 1;
        /// Coalesces TCP over IPv4 (GUEST_TSO4).
        const GRO4 = 1 << 1;
        /// Coalesces TCP over IPv6 (GUEST_TSO6).
        const GRO6 = 1 << 2;
        /// Coalesces UDP (GUEST_USO4 and 6).
        const UDP_GRO = 1 << 3;
        /// Reports a receive hash (HASH_REPORT).
        const HASH = 1 << 4;
        /// Strips the 802.1Q tag.
        const VLAN = 1 << 5;
        /// May deliver [`crate::Csum::Partial`] frames from a local peer.
        const PARTIAL = 1 << 6;
    }
}

/// Capabilities of a device as they stand; they may change with a reset or a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// Transmit offloads.
    pub tx: TxOffloads,
    /// Receive offloads.
    pub rx: RxOffloads,
    /// Longest frame in bytes without segmentation, Ethernet header included, FCS not.
    pub frame_len_max: u32,
    /// Longest super-segment in bytes, headers included; meaningless without segmentation.
    pub gso_bytes_max: u32,
    /// Most segments that one super-segment may become.
    pub gso_segments_max: u16,
    /// Most pieces (head and fragments) that a frame may have.
    pub pieces_max: u16,
    /// Whether what the device writes is believed. If not, headers are copied out before they are
    /// parsed, since the device could change them under the parser.
    pub trusted: bool,
    /// Bytes of headroom that the driver wants in front of a frame on transmit.
    pub headroom: u16,
}

impl Caps {
    /// A device that only carries frames of up to `mtu` bytes of payload: everything is done for it.
    pub fn plain(mtu: u32) -> Self {
        Self {
            tx: TxOffloads::empty(),
            rx: RxOffloads::empty(),
            frame_len_max: mtu + 18,
            gso_bytes_max: 0,
            gso_segments_max: 0,
            pieces_max: crate::FRAGS_MAX as u16 + 1,
            trusted: true,
            headroom: 0,
        }
    }
}
