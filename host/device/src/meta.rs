//! What a frame asks for on its way out, and what is known of it on its way in.
//!
//! A superset of `virtio_net_hdr` (virtio 1.3, 5.1.6): each driver translates at its edge, and what an
//! edge cannot express the fallback does in software.

/// State of the transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Csum {
    /// Transmit: complete as it stands. Receive: not judged.
    #[default]
    None,
    /// The field at `start + offset` holds the folded pseudo-header sum; the sum from `start` to the end
    /// of the frame is to be put there (NEEDS_CSUM). A frame may arrive so, from a local peer.
    Partial {
        /// First summed byte, from the first byte of the frame.
        start: u16,
        /// Where the sum goes, from `start`.
        offset: u16,
    },
    /// Receive: found valid by who delivered it (DATA_VALID).
    Valid,
}

/// What a super-segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams of one size (USO).
    UdpL4,
}

/// Segmentation wanted, or coalescing done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// Kind of super-segment.
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last, at least 1.
    pub size: u16,
    /// The first segment alone carries CWR (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
    /// IPv4 identification is the same in all segments instead of rising by one.
    pub fixed_id: bool,
}

/// Receive hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowHash {
    /// Value.
    pub value: u32,
    /// Whether ports entered into it.
    pub l4: bool,
}

/// Which ring entry carried a frame; a cosimulation's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// PCI function.
    pub function: u8,
    /// Virtqueue.
    pub queue: u16,
    /// Wrap counter.
    pub wrap: bool,
    /// Descriptor slot.
    pub slot: u16,
}

/// Everything about a frame but its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameMeta {
    /// Checksum wanted or found.
    pub csum: Csum,
    /// Segmentation wanted, or coalescing done.
    pub gso: Option<Gso>,
    /// Bytes of all headers up to the payload when known, else 0.
    pub header_len: u16,
    /// Offset of the network header, 0 when not known.
    pub network_offset: u16,
    /// Offset of the transport header, 0 when not known.
    pub transport_offset: u16,
    /// How many wire frames this one stands for; 0 and 1 both mean one.
    pub segments: u16,
    /// 802.1Q tag carried beside the frame.
    pub vlan: Option<u16>,
    /// Receive hash.
    pub hash: Option<FlowHash>,
    /// Receive, or wanted transmit, time in nanoseconds of the run's clock.
    pub timestamp_ns: Option<u64>,
    /// Priority, 0 lowest (the original `sk_buff`'s).
    pub priority: u8,
    /// Free for policy: a firewall or routing mark.
    pub mark: u32,
    /// Zero-copy token: reported by [`crate::Queue::completed`] once the device is done.
    pub token: Option<u64>,
    /// Which ring entry carried it, set by drivers.
    pub identity: Option<Identity>,
}

impl FrameMeta {
    /// Wire frames that this one stands for, at least 1.
    pub fn wire_frames(&self) -> u32 {
        u32::from(self.segments.max(1))
    }
}
