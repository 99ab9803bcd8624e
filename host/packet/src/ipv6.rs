//! Internet Protocol version 6, the fixed header (RFC 8200 section 3). Extension headers are in
//! [`crate::ipv6_ext`].

use core::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed};
use crate::ipv6_ext::ExtHeaders;
use crate::number::{Ecn, IpProtocol};

/// Bytes of the fixed header.
pub const IPV6_HEADER_LEN: usize = 40;
/// Smallest MTU that every link must carry (RFC 8200 section 5).
pub const IPV6_MTU_MIN: usize = 1280;

/// The fixed header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version (4 bits), traffic class (8) and flow label (20).
    pub version_class_flow: U32,
    /// Bytes that follow this header.
    pub payload_len: U16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source.
    pub src: [u8; 16],
    /// Destination.
    pub dst: [u8; 16],
}

impl Ipv6Header {
    /// The field's version, 6 when well-formed.
    #[inline]
    pub fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }

    /// Traffic class: DSCP in the high six bits, ECN in the low two.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0x000f_ffff
    }
}

/// A checked IPv6 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6View<'a> {
    header: &'a Ipv6Header,
    payload: &'a [u8],
}

impl<'a> Ipv6View<'a> {
    /// Checks a whole packet; what follows the payload length (link padding) is cut off.
    /// Jumbograms (RFC 2675) are not supported: their zero payload length is taken as it stands.
    ///
    /// # Errors
    /// When the version is not 6 or the payload length exceeds the bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let view = Self::new_truncated(bytes)?;
        let need = usize::from(view.header.payload_len.get());
        if need > view.payload.len() {
            return Err(ParseError::truncated(
                Protocol::Ipv6,
                "payload length",
                need,
                view.payload.len(),
            ));
        }
        Ok(view)
    }

    /// Checks a packet whose end may be missing: one quoted in an ICMP error, or the copied-out
    /// headers of a frame. The payload is what is there of it.
    ///
    /// # Errors
    /// When the version is not 6 or the fixed header is cut off.
    #[inline]
    pub fn new_truncated(bytes: &'a [u8]) -> Result<Self> {
        let (header, rest) = fixed::<Ipv6Header>(Protocol::Ipv6, "header", bytes)?;
        if header.version() != 6 {
            return Err(ParseError::invalid(Protocol::Ipv6, "version", header.version().into()));
        }
        let payload_len = usize::from(header.payload_len.get());
        Ok(Self { header, payload: &rest[..payload_len.min(rest.len())] })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a Ipv6Header {
        self.header
    }

    /// Source.
    pub fn src(&self) -> Ipv6Addr {
        self.header.src.into()
    }

    /// Destination.
    pub fn dst(&self) -> Ipv6Addr {
        self.header.dst.into()
    }

    /// What follows the fixed header: an extension header or the upper layer.
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.header.next_header)
    }

    /// Hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.header.hop_limit
    }

    /// What follows the fixed header, extension headers included.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Walks the extension headers.
    pub fn extensions(&self) -> ExtHeaders<'a> {
        ExtHeaders::new(self.next_header(), self.payload)
    }
}

/// What the fixed IPv6 header means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// What follows the fixed header.
    pub next_header: IpProtocol,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class: DSCP in the high six bits, ECN in the low two.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes that follow the fixed header, extension headers included.
    pub payload_len: u16,
}

impl Default for Ipv6Repr {
    fn default() -> Self {
        Self {
            src: Ipv6Addr::UNSPECIFIED,
            dst: Ipv6Addr::UNSPECIFIED,
            next_header: IpProtocol::NO_NEXT_HEADER,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            payload_len: 0,
        }
    }
}

impl Ipv6Repr {
    /// Reads the header.
    ///
    /// # Errors
    /// None beyond what the view checked.
    #[inline]
    pub fn parse(view: &Ipv6View<'_>) -> Result<Self> {
        let header = view.header;
        Ok(Self {
            src: view.src(),
            dst: view.dst(),
            next_header: view.next_header(),
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class(),
            flow_label: header.flow_label(),
            payload_len: header.payload_len.get(),
        })
    }

    /// The ECN codepoint of [`Self::traffic_class`].
    pub fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.traffic_class)
    }

    /// Bytes that `emit` writes: 40.
    pub fn header_len(&self) -> usize {
        IPV6_HEADER_LEN
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`] or the flow label exceeds 20 bits.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        assert!(self.flow_label <= 0x000f_ffff, "IPv6: flow label exceeds 20 bits");
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let header = Ipv6Header {
            version_class_flow: word.into(),
            payload_len: self.payload_len.into(),
            next_header: self.next_header.0,
            hop_limit: self.hop_limit,
            src: self.src.octets(),
            dst: self.dst.octets(),
        };
        out[..IPV6_HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}
