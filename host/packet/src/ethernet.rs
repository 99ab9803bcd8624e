//! Ethernet II frames, without preamble and frame check sequence, with up to two VLAN tags.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::address::MacAddr;
use crate::error::{Protocol, Result, fixed};
use crate::number::EtherType;
use crate::vlan::{VLAN_TAG_LEN, VLAN_TAGS_MAX, VlanHeader, VlanTag, VlanTags};

/// Bytes of an untagged header.
pub const ETHERNET_HEADER_LEN: usize = 14;

/// Shortest frame on a wire, without frame check sequence; shorter ones are padded.
pub const ETHERNET_FRAME_LEN_MIN: usize = 60;

/// The untagged header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// Type of what follows, or of the first tag.
    pub ether_type: U16,
}

/// A checked Ethernet frame.
#[derive(Debug, Clone, Copy)]
pub struct EthernetView<'a> {
    header: &'a EthernetHeader,
    tags: VlanTags,
    ether_type: EtherType,
    payload: &'a [u8],
}

impl<'a> EthernetView<'a> {
    /// Checks the header and its tags.
    ///
    /// # Errors
    /// When the header, or a tag that a type announces, is cut off.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (header, payload) = fixed::<EthernetHeader>(Protocol::Ethernet, "header", bytes)?;
        let ether_type = EtherType(header.ether_type.get());
        if ether_type.is_vlan() {
            Self::new_tagged(header, ether_type, payload)
        } else {
            // Kept apart from the loop over tags, which made this case, nearly all frames, twice as
            // slow.
            Ok(Self { header, tags: VlanTags::NONE, ether_type, payload })
        }
    }

    fn new_tagged(
        header: &'a EthernetHeader,
        mut ether_type: EtherType,
        mut payload: &'a [u8],
    ) -> Result<Self> {
        let mut tags = VlanTags::NONE;
        while ether_type.is_vlan() && tags.len() < VLAN_TAGS_MAX {
            // After the tag's own type come its control information and the next type.
            let (rest, after) = fixed::<[U16; 2]>(Protocol::Vlan, "tag", payload)?;
            tags.push(VlanTag { tpid: ether_type, tci: rest[0].get() });
            ether_type = EtherType(rest[1].get());
            payload = after;
        }
        Ok(Self { header, tags, ether_type, payload })
    }

    /// Destination.
    pub fn dst(&self) -> MacAddr {
        self.header.dst
    }

    /// Source.
    pub fn src(&self) -> MacAddr {
        self.header.src
    }

    /// VLAN tags, outermost first.
    pub fn tags(&self) -> VlanTags {
        self.tags
    }

    /// Type of the payload, behind the tags.
    pub fn ether_type(&self) -> EtherType {
        self.ether_type
    }

    /// Bytes of the header with its tags.
    pub fn header_len(&self) -> usize {
        ETHERNET_HEADER_LEN + self.tags.header_len()
    }

    /// What follows the header, padding included.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// What an Ethernet header means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EthernetRepr {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// VLAN tags, outermost first.
    pub tags: VlanTags,
    /// Type of the payload.
    pub ether_type: EtherType,
}

impl EthernetRepr {
    /// Reads the header. It never fails; it returns a `Result` as all formats do.
    #[inline]
    pub fn parse(view: &EthernetView<'_>) -> Result<Self> {
        Ok(Self { dst: view.dst(), src: view.src(), tags: view.tags, ether_type: view.ether_type })
    }

    /// Bytes that `emit` writes: 14, 18 or 22.
    pub fn header_len(&self) -> usize {
        ETHERNET_HEADER_LEN + self.tags.header_len()
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        out[0..6].copy_from_slice(&self.dst.0);
        out[6..12].copy_from_slice(&self.src.0);
        let mut at = 12;
        for tag in self.tags.as_slice() {
            let header = VlanHeader { tpid: tag.tpid.0.into(), tci: tag.tci.into() };
            out[at..at + VLAN_TAG_LEN].copy_from_slice(header.as_bytes());
            at += VLAN_TAG_LEN;
        }
        out[at..at + 2].copy_from_slice(&self.ether_type.0.to_be_bytes());
    }
}
