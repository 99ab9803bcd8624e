//! VLAN tags (IEEE 802.1Q, stacked as in 802.1ad).

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::number::EtherType;

/// Most tags that are parsed in one frame; a third tag is left as the payload's type.
pub const VLAN_TAGS_MAX: usize = 2;

/// Bytes of one tag.
pub const VLAN_TAG_LEN: usize = 4;

/// A tag as it follows the source address: its own type, then its control information.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct VlanHeader {
    /// The tag's protocol identifier.
    pub tpid: U16,
    /// Priority, drop eligibility and VLAN identifier.
    pub tci: U16,
}

/// One VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VlanTag {
    /// Tag protocol identifier: [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub tpid: EtherType,
    /// Tag control information: 3 bits priority, 1 bit drop eligibility, 12 bits identifier.
    pub tci: u16,
}

impl VlanTag {
    /// A customer tag with this identifier (its low 12 bits) and priority 0.
    pub fn customer(vid: u16) -> Self {
        Self { tpid: EtherType::VLAN, tci: vid & 0x0fff }
    }

    /// VLAN identifier; 0 is a priority tag without a VLAN.
    pub fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// Priority code point, 0 to 7.
    pub fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// Drop eligible indicator.
    pub fn drop_eligible(self) -> bool {
        self.tci & 0x1000 != 0
    }
}

/// Up to [`VLAN_TAGS_MAX`] tags, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VlanTags {
    tags: [VlanTag; VLAN_TAGS_MAX],
    len: u8,
}

impl VlanTags {
    /// No tag.
    pub const NONE: Self =
        Self { tags: [VlanTag { tpid: EtherType(0), tci: 0 }; VLAN_TAGS_MAX], len: 0 };

    /// One tag.
    pub fn one(tag: VlanTag) -> Self {
        Self { tags: [tag, VlanTag::default()], len: 1 }
    }

    /// Two tags.
    pub fn two(outer: VlanTag, inner: VlanTag) -> Self {
        Self { tags: [outer, inner], len: 2 }
    }

    /// The tags, outermost first.
    pub fn as_slice(&self) -> &[VlanTag] {
        &self.tags[..usize::from(self.len)]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the frame is untagged.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that they take on the wire.
    pub fn header_len(&self) -> usize {
        self.len() * VLAN_TAG_LEN
    }

    /// Adds an inner tag; false, with nothing changed, when [`VLAN_TAGS_MAX`] are there.
    pub fn push(&mut self, tag: VlanTag) -> bool {
        let Some(slot) = self.tags.get_mut(usize::from(self.len)) else { return false };
        *slot = tag;
        self.len += 1;
        true
    }
}
