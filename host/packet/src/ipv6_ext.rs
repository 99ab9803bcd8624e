//! IPv6 extension headers (RFC 8200 section 4): hop-by-hop options, routing, fragment, destination
//! options. Authentication and encryption headers end the walk as an upper layer does.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed, split};
use crate::number::IpProtocol;

/// Most extension headers that are walked in one packet; more is an error.
pub const EXT_HEADERS_MAX: usize = 8;
/// Most options that are walked in one options header (RFC 8504 section 5.3 asks for a limit).
pub const EXT_OPTIONS_MAX: usize = 32;
/// Bytes of the fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// The fragment header (RFC 8200 section 4.5).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct FragmentHeader {
    /// What follows.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in units of 8 bytes (13 bits), reserved (2), more fragments (1).
    pub offset_more: U16,
    /// Identification.
    pub id: U32,
}

/// What a fragment header means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FragmentRepr {
    /// What follows in the first fragment.
    pub next_header: IpProtocol,
    /// Where this payload stands in the whole: a multiple of 8.
    pub offset_bytes: u16,
    /// Whether more follows.
    pub more_fragments: bool,
    /// Identification.
    pub id: u32,
}

impl FragmentRepr {
    /// Reads a fragment header.
    ///
    /// # Errors
    /// When it is cut off.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (header, _) =
            fixed::<FragmentHeader>(Protocol::Ipv6Extension, "fragment header", bytes)?;
        Ok(Self::of(header))
    }

    #[inline]
    fn of(header: &FragmentHeader) -> Self {
        Self {
            next_header: IpProtocol(header.next_header),
            offset_bytes: header.offset_more.get() & 0xfff8,
            more_fragments: header.offset_more.get() & 1 != 0,
            id: header.id.get(),
        }
    }

    /// Whether the packet is whole in spite of the header (RFC 6946).
    pub fn is_atomic(&self) -> bool {
        self.offset_bytes == 0 && !self.more_fragments
    }

    /// Bytes that `emit` writes: 8.
    pub fn header_len(&self) -> usize {
        FRAGMENT_HEADER_LEN
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`] or the offset is not a multiple of 8.
    pub fn emit(&self, out: &mut [u8]) {
        assert!(self.offset_bytes.is_multiple_of(8), "IPv6: fragment offset not in 8s");
        let header = FragmentHeader {
            next_header: self.next_header.0,
            reserved: 0,
            offset_more: (self.offset_bytes | u16::from(self.more_fragments)).into(),
            id: self.id.into(),
        };
        out[..FRAGMENT_HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}

/// One extension header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtHeader<'a> {
    /// Hop-by-hop options.
    HopByHop(Ipv6Options<'a>),
    /// Destination options.
    DestinationOptions(Ipv6Options<'a>),
    /// A routing header.
    Routing {
        /// Routing type; 0 is deprecated and must be refused (RFC 5095).
        routing_type: u8,
        /// Segments left.
        segments_left: u8,
        /// Data that depends on the type.
        data: &'a [u8],
    },
    /// A fragment header.
    Fragment(FragmentRepr),
}

/// Walks the extension headers of one packet.
///
/// After the walk [`Self::next_header`] and [`Self::rest`] tell the upper layer. The walk ends
/// behind a fragment header that is not the first fragment's: what follows is a slice of payload.
#[derive(Debug, Clone)]
pub struct ExtHeaders<'a> {
    next_header: IpProtocol,
    /// The whole payload; offsets count from it.
    bytes: &'a [u8],
    at: usize,
    /// Headers seen so far.
    seen: usize,
    done: bool,
}

impl<'a> ExtHeaders<'a> {
    /// Walks `payload`, that begins with `next_header`.
    #[inline]
    pub fn new(next_header: IpProtocol, payload: &'a [u8]) -> Self {
        Self { next_header, bytes: payload, at: 0, seen: 0, done: false }
    }

    /// What follows the headers walked so far.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        self.next_header
    }

    /// Bytes of the headers walked so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether no header was walked yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// What follows the headers walked so far.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn step(&mut self) -> Result<ExtHeader<'a>> {
        const P: Protocol = Protocol::Ipv6Extension;
        // RFC 8200 section 4.1: hop-by-hop options stand directly behind the fixed header.
        if self.next_header == IpProtocol::HOP_BY_HOP && self.seen > 0 {
            return Err(ParseError::invalid(P, "next header (hop-by-hop not first)", 0));
        }
        if self.seen == EXT_HEADERS_MAX {
            let limit = EXT_HEADERS_MAX as u32;
            return Err(ParseError::TooMany { protocol: P, field: "headers", limit });
        }
        let rest = self.rest();
        let (lead, _) = fixed::<[u8; 2]>(P, "header", rest)?;
        // All but the fragment header count their length in 8 bytes beyond the first 8.
        let len = match self.next_header {
            IpProtocol::FRAGMENT => FRAGMENT_HEADER_LEN,
            _ => (usize::from(lead[1]) + 1) * 8,
        };
        let (header, _) = split(P, "header", rest, len)?;
        let item = match self.next_header {
            IpProtocol::HOP_BY_HOP => ExtHeader::HopByHop(Ipv6Options { bytes: &header[2..] }),
            IpProtocol::ROUTING => ExtHeader::Routing {
                routing_type: header[2],
                segments_left: header[3],
                data: &header[4..],
            },
            IpProtocol::FRAGMENT => ExtHeader::Fragment(FragmentRepr::parse(header)?),
            _ => ExtHeader::DestinationOptions(Ipv6Options { bytes: &header[2..] }),
        };
        if let ExtHeader::Fragment(fragment) = item
            && fragment.offset_bytes != 0
        {
            self.done = true;
        }
        self.next_header = IpProtocol(lead[0]);
        self.at += len;
        self.seen += 1;
        Ok(item)
    }
}

impl<'a> Iterator for ExtHeaders<'a> {
    type Item = Result<ExtHeader<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done || !self.next_header.is_ipv6_extension() {
            return None;
        }
        let item = self.step();
        self.done |= item.is_err();
        Some(item)
    }
}

/// What to do with an option that one does not know (RFC 8200 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownAction {
    /// Skip it.
    Skip,
    /// Drop the packet.
    Drop,
    /// Drop it and send Parameter Problem, code 2.
    DropAndReport,
    /// The same, unless the destination was multicast.
    DropAndReportUnlessMulticast,
}

/// One option of a hop-by-hop or destination options header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Option<'a> {
    /// Type, with the action in its high two bits.
    pub kind: u8,
    /// Offset of the type from the start of the options, for Parameter Problem.
    pub offset: u16,
    /// Data.
    pub data: &'a [u8],
}

impl Ipv6Option<'_> {
    /// Router alert (RFC 2711).
    pub const ROUTER_ALERT: u8 = 5;

    /// What a node that does not know this option does.
    pub fn unknown_action(&self) -> UnknownAction {
        match self.kind >> 6 {
            0 => UnknownAction::Skip,
            1 => UnknownAction::Drop,
            2 => UnknownAction::DropAndReport,
            _ => UnknownAction::DropAndReportUnlessMulticast,
        }
    }
}

/// The options of one header. Padding is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Options<'a> {
    bytes: &'a [u8],
}

impl<'a> Ipv6Options<'a> {
    /// The options' bytes, padding included.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Walks the options; ends after [`EXT_OPTIONS_MAX`] of them, padding counted, with an error.
    pub fn iter(&self) -> Ipv6OptionIter<'a> {
        Ipv6OptionIter { bytes: self.bytes, at: 0, seen: 0, failed: false }
    }
}

/// Walks the options of one header.
#[derive(Debug, Clone)]
pub struct Ipv6OptionIter<'a> {
    bytes: &'a [u8],
    at: usize,
    seen: usize,
    failed: bool,
}

impl<'a> Ipv6OptionIter<'a> {
    /// The next option that is not padding.
    fn step(&mut self) -> Result<Option<Ipv6Option<'a>>> {
        const P: Protocol = Protocol::Ipv6Extension;
        while let Some((&kind, rest)) = self.bytes[self.at..].split_first() {
            if self.seen == EXT_OPTIONS_MAX {
                let limit = EXT_OPTIONS_MAX as u32;
                return Err(ParseError::TooMany { protocol: P, field: "options", limit });
            }
            self.seen += 1;
            let offset = self.at as u16;
            // Pad1 is the one option without a length.
            if kind == 0 {
                self.at += 1;
                continue;
            }
            let (len, rest) = fixed::<u8>(P, "option length", rest)?;
            let (data, _) = split(P, "option data", rest, usize::from(*len))?;
            self.at += 2 + data.len();
            // PadN.
            if kind != 1 {
                return Ok(Some(Ipv6Option { kind, offset, data }));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Ipv6OptionIter<'a> {
    type Item = Result<Ipv6Option<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}
