//! Internet Protocol version 4 (RFC 791). Options are kept as bytes.

use core::fmt;
use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed, split};
use crate::number::{Ecn, IpProtocol};

/// Bytes of a header without options.
pub const IPV4_HEADER_LEN: usize = 20;
/// Most bytes of options.
pub const IPV4_OPTIONS_LEN_MAX: usize = 40;
/// Smallest MTU that every link must carry (RFC 791 section 3.2).
pub const IPV4_MTU_MIN: usize = 68;

const RESERVED_BIT: u16 = 0x8000;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The fixed part of the header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version (4 bits) and header length in 32-bit words.
    pub version_ihl: u8,
    /// Type of service: DSCP (6 bits) and ECN.
    pub tos: u8,
    /// Bytes of the packet, header included.
    pub total_len: U16,
    /// Identification.
    pub id: U16,
    /// Reserved, DF, MF, and the fragment offset in units of 8 bytes.
    pub flags_offset: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source.
    pub src: [u8; 4],
    /// Destination.
    pub dst: [u8; 4],
}

impl Ipv4Header {
    /// Bytes of the header with options, as the field says (0 to 60, unchecked).
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// The field's version, 4 when well-formed.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// DF.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_offset.get() & DONT_FRAGMENT != 0
    }

    /// MF.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.flags_offset.get() & MORE_FRAGMENTS != 0
    }

    /// Where this fragment's payload stands in the whole.
    #[inline]
    pub fn fragment_offset_bytes(&self) -> u16 {
        (self.flags_offset.get() & OFFSET_MASK) << 3
    }

    /// Whether this is a part of a larger packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_offset.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// The bit that must be zero (RFC 791 section 3.1).
    #[inline]
    pub fn reserved_bit(&self) -> bool {
        self.flags_offset.get() & RESERVED_BIT != 0
    }
}

/// A checked IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4View<'a> {
    header: &'a Ipv4Header,
    bytes: &'a [u8],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4View<'a> {
    /// Checks a whole packet; what follows `total_len` (link padding) is cut off.
    ///
    /// # Errors
    /// When the version is not 4, or the lengths do not fit the bytes or each other.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let view = Self::new_truncated(bytes)?;
        let total_len = usize::from(view.header.total_len.get());
        if total_len > bytes.len() {
            return Err(ParseError::truncated(
                Protocol::Ipv4,
                "total length",
                total_len,
                bytes.len(),
            ));
        }
        Ok(view)
    }

    /// Checks a packet whose end may be missing: one quoted in an ICMP error, or the copied-out
    /// headers of a frame. The payload is what is there of it.
    ///
    /// # Errors
    /// When the version is not 4, or the header does not fit the bytes or `total_len`.
    #[inline]
    pub fn new_truncated(bytes: &'a [u8]) -> Result<Self> {
        let (header, _) = fixed::<Ipv4Header>(Protocol::Ipv4, "header", bytes)?;
        if header.version() != 4 {
            return Err(ParseError::invalid(Protocol::Ipv4, "version", header.version().into()));
        }
        let header_len = header.header_len();
        if header_len < IPV4_HEADER_LEN {
            let words = u32::from(header.version_ihl & 0x0f);
            return Err(ParseError::invalid(Protocol::Ipv4, "header length", words));
        }
        let total_len = header.total_len.get();
        if usize::from(total_len) < header_len {
            return Err(ParseError::invalid(Protocol::Ipv4, "total length", total_len.into()));
        }
        let (head, rest) = split(Protocol::Ipv4, "options", bytes, header_len)?;
        let payload_len = usize::from(total_len) - header_len;
        Ok(Self {
            header,
            bytes: head,
            options: &head[IPV4_HEADER_LEN..],
            payload: &rest[..payload_len.min(rest.len())],
        })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a Ipv4Header {
        self.header
    }

    /// The header's bytes with options, for the checksum.
    pub fn header_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the header with options.
    pub fn header_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the packet as the field says.
    pub fn total_len(&self) -> u16 {
        self.header.total_len.get()
    }

    /// Source.
    pub fn src(&self) -> Ipv4Addr {
        self.header.src.into()
    }

    /// Destination.
    pub fn dst(&self) -> Ipv4Addr {
        self.header.dst.into()
    }

    /// Protocol of the payload.
    pub fn protocol(&self) -> IpProtocol {
        IpProtocol(self.header.protocol)
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        self.header.ttl
    }

    /// Options, padding included.
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// IPv4 options as opaque bytes, zero-padded to a multiple of four.
#[derive(Clone, Copy)]
pub struct Ipv4Options {
    bytes: [u8; IPV4_OPTIONS_LEN_MAX],
    len: u8,
}

impl Ipv4Options {
    /// No options.
    pub const NONE: Self = Self { bytes: [0; IPV4_OPTIONS_LEN_MAX], len: 0 };

    /// Copies options; `None` when there are more than [`IPV4_OPTIONS_LEN_MAX`] bytes.
    pub fn new(options: &[u8]) -> Option<Self> {
        let mut bytes = [0; IPV4_OPTIONS_LEN_MAX];
        bytes.get_mut(..options.len())?.copy_from_slice(options);
        // At most 40, which is a multiple of four already.
        Some(Self { bytes, len: options.len().next_multiple_of(4) as u8 })
    }

    /// The bytes, a multiple of four.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for Ipv4Options {
    fn default() -> Self {
        Self::NONE
    }
}

impl PartialEq for Ipv4Options {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Ipv4Options {}

impl fmt::Debug for Ipv4Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ipv4Options({:02x?})", self.as_slice())
    }
}

/// What an IPv4 header means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: IpProtocol,
    /// Type of service: DSCP in the high six bits, ECN in the low two.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// Where the payload stands in the unfragmented packet: a multiple of 8.
    pub fragment_offset_bytes: u16,
    /// Header checksum; zero until it is computed.
    pub checksum: u16,
    /// Options.
    pub options: Ipv4Options,
    /// Bytes that follow the header.
    pub payload_len: u16,
}

impl Default for Ipv4Repr {
    fn default() -> Self {
        Self {
            src: Ipv4Addr::UNSPECIFIED,
            dst: Ipv4Addr::UNSPECIFIED,
            protocol: IpProtocol(0),
            tos: 0,
            ttl: 64,
            id: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset_bytes: 0,
            checksum: 0,
            options: Ipv4Options::NONE,
            payload_len: 0,
        }
    }
}

impl Ipv4Repr {
    /// Reads the header. The reserved flag is not kept (RFC 791: must be zero).
    ///
    /// # Errors
    /// None beyond what the view checked.
    #[inline]
    pub fn parse(view: &Ipv4View<'_>) -> Result<Self> {
        let header = view.header;
        Ok(Self {
            src: view.src(),
            dst: view.dst(),
            protocol: view.protocol(),
            tos: header.tos,
            ttl: header.ttl,
            id: header.id.get(),
            dont_fragment: header.dont_fragment(),
            more_fragments: header.more_fragments(),
            fragment_offset_bytes: header.fragment_offset_bytes(),
            checksum: header.checksum.get(),
            options: Ipv4Options::new(view.options).unwrap_or_default(),
            payload_len: header.total_len.get() - view.header_len() as u16,
        })
    }

    /// The ECN codepoint of [`Self::tos`].
    pub fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.tos)
    }

    /// Bytes that `emit` writes: 20 to 60.
    pub fn header_len(&self) -> usize {
        IPV4_HEADER_LEN + self.options.as_slice().len()
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`], header and payload exceed 65,535 bytes, or
    /// the fragment offset is not a multiple of 8.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let header_len = self.header_len();
        let total_len = u16::try_from(header_len + usize::from(self.payload_len))
            .expect("IPv4: total length exceeds 16 bits");
        assert!(self.fragment_offset_bytes.is_multiple_of(8), "IPv4: fragment offset not in 8s");
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        let header = Ipv4Header {
            version_ihl: 0x40 | (header_len / 4) as u8,
            tos: self.tos,
            total_len: total_len.into(),
            id: self.id.into(),
            flags_offset: (flags | (self.fragment_offset_bytes >> 3)).into(),
            ttl: self.ttl,
            protocol: self.protocol.0,
            checksum: self.checksum.into(),
            src: self.src.octets(),
            dst: self.dst.octets(),
        };
        out[..IPV4_HEADER_LEN].copy_from_slice(header.as_bytes());
        out[IPV4_HEADER_LEN..header_len].copy_from_slice(self.options.as_slice());
    }
}
