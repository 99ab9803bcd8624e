//! The header before each packet of a virtio 1.x network device (virtio 1.3 section 5.1.6), which
//! Linux TAP (`IFF_VNET_HDR`) and AF_PACKET speak too.

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed};

/// Bytes of the header with `num_buffers`: always so in virtio 1.x, and on a TAP whose header size
/// was set to it.
pub const VIRTIO_NET_HEADER_LEN: usize = 12;

/// Bit of `gso_type`: the segments carry ECN's CWR rules.
const GSO_ECN: u8 = 0x80;

bitflags::bitflags! {
    /// `flags` (virtio 1.3 section 5.1.6).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct VirtioNetFlags: u8 {
        /// The checksum at `csum_start + csum_offset` is partial: it holds the pseudo-header's sum.
        const NEEDS_CSUM = 1;
        /// The device verified the checksums.
        const DATA_VALID = 2;
        /// `csum_start` and `csum_offset` count coalesced segments and duplicate acknowledgements.
        const RSC_INFO = 4;
    }
}

/// What kind of segmentation a packet asks for, or which coalescing made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GsoType {
    /// One packet.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// UDP fragmented as IP (UFO).
    UdpFragment,
    /// TCP over IPv6.
    TcpV6,
    /// UDP cut into datagrams of equal size (USO).
    UdpL4,
}

/// The header, little-endian.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct VirtioNetHeader {
    /// [`VirtioNetFlags`].
    pub flags: u8,
    /// Segmentation type, with 0x80 for ECN.
    pub gso_type: u8,
    /// Bytes of all headers; a hint.
    pub hdr_len: U16,
    /// Payload bytes per segment.
    pub gso_size: U16,
    /// Where checksumming begins, from the packet's first byte; segments with RSC_INFO.
    pub csum_start: U16,
    /// Where the checksum stands, from `csum_start`; duplicate acknowledgements with RSC_INFO.
    pub csum_offset: U16,
    /// Receive buffers that this packet takes; zero on transmit.
    pub num_buffers: U16,
}

/// A checked `virtio_net_hdr`.
#[derive(Debug, Clone, Copy)]
pub struct VirtioNetView<'a> {
    header: &'a VirtioNetHeader,
    payload: &'a [u8],
}

impl<'a> VirtioNetView<'a> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// When there are fewer than 12 bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (header, payload) =
            fixed::<VirtioNetHeader>(Protocol::VirtioNetHeader, "header", bytes)?;
        Ok(Self { header, payload })
    }

    /// The header.
    pub fn header(&self) -> &'a VirtioNetHeader {
        self.header
    }

    /// The packet.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// What a `virtio_net_hdr` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioNetRepr {
    /// Flags. Unknown bits are not kept (virtio 1.3 section 5.1.6.4.1: must be ignored).
    pub flags: VirtioNetFlags,
    /// Segmentation type.
    pub gso_type: GsoType,
    /// CWR stands on the first segment only, not on all.
    pub ecn: bool,
    /// Bytes of all headers; a hint.
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// Where checksumming begins, or coalesced segments with RSC_INFO.
    pub csum_start: u16,
    /// Where the checksum stands from there, or duplicate acknowledgements with RSC_INFO.
    pub csum_offset: u16,
    /// Receive buffers that this packet takes; zero on transmit.
    pub num_buffers: u16,
}

impl VirtioNetRepr {
    /// Reads a header.
    ///
    /// # Errors
    /// When the segmentation type is unknown.
    pub fn parse(view: &VirtioNetView<'_>) -> Result<Self> {
        let header = view.header;
        let gso_type = match header.gso_type & !GSO_ECN {
            0 => GsoType::None,
            1 => GsoType::TcpV4,
            3 => GsoType::UdpFragment,
            4 => GsoType::TcpV6,
            5 => GsoType::UdpL4,
            _ => {
                let value = header.gso_type.into();
                return Err(ParseError::invalid(Protocol::VirtioNetHeader, "gso_type", value));
            }
        };
        Ok(Self {
            flags: VirtioNetFlags::from_bits_truncate(header.flags),
            gso_type,
            ecn: header.gso_type & GSO_ECN != 0,
            hdr_len: header.hdr_len.get(),
            gso_size: header.gso_size.get(),
            csum_start: header.csum_start.get(),
            csum_offset: header.csum_offset.get(),
            num_buffers: header.num_buffers.get(),
        })
    }

    /// Bytes that `emit` writes: 12.
    pub fn header_len(&self) -> usize {
        VIRTIO_NET_HEADER_LEN
    }

    /// The header as it stands on the wire.
    pub fn header(&self) -> VirtioNetHeader {
        let gso_type = match self.gso_type {
            GsoType::None => 0,
            GsoType::TcpV4 => 1,
            GsoType::UdpFragment => 3,
            GsoType::TcpV6 => 4,
            GsoType::UdpL4 => 5,
        };
        VirtioNetHeader {
            flags: self.flags.bits(),
            gso_type: gso_type | if self.ecn { GSO_ECN } else { 0 },
            hdr_len: self.hdr_len.into(),
            gso_size: self.gso_size.into(),
            csum_start: self.csum_start.into(),
            csum_offset: self.csum_offset.into(),
            num_buffers: self.num_buffers.into(),
        }
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`].
    pub fn emit(&self, out: &mut [u8]) {
        out[..VIRTIO_NET_HEADER_LEN].copy_from_slice(self.header().as_bytes());
    }
}
