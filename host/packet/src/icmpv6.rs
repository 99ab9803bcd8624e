//! Internet Control Message Protocol for IPv6 (RFC 4443). Neighbour discovery messages are in
//! [`crate::ndp`]; [`Icmpv6View`] reads the header of both.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed};

/// Bytes of the header of the messages that [`Icmpv6Repr`] knows.
pub const ICMPV6_HEADER_LEN: usize = 8;
/// Offset of the checksum in the header, for partial checksums.
pub const ICMPV6_CHECKSUM_OFFSET: usize = 2;

/// Message types (IANA ICMPv6 parameters).
pub mod kind {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation.
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOR_ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

/// Codes of destination unreachable (RFC 4443 section 3.1).
pub mod unreachable {
    /// No route to destination.
    pub const NO_ROUTE: u8 = 0;
    /// Communication administratively prohibited.
    pub const PROHIBITED: u8 = 1;
    /// Beyond scope of source address.
    pub const BEYOND_SCOPE: u8 = 2;
    /// Address unreachable.
    pub const ADDRESS: u8 = 3;
    /// Port unreachable.
    pub const PORT: u8 = 4;
}

/// Codes of parameter problem (RFC 4443 section 3.4).
pub mod problem {
    /// Erroneous header field.
    pub const HEADER_FIELD: u8 = 0;
    /// Unrecognised next header.
    pub const NEXT_HEADER: u8 = 1;
    /// Unrecognised IPv6 option.
    pub const OPTION: u8 = 2;
}

/// The header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Icmpv6Header {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum over pseudo-header and message.
    pub checksum: U16,
    /// What it means depends on the type.
    pub rest: [u8; 4],
}

/// A checked ICMPv6 message.
#[derive(Debug, Clone, Copy)]
pub struct Icmpv6View<'a> {
    header: &'a Icmpv6Header,
    payload: &'a [u8],
}

impl<'a> Icmpv6View<'a> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// When there are fewer than 8 bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (header, payload) = fixed::<Icmpv6Header>(Protocol::Icmpv6, "header", bytes)?;
        Ok(Self { header, payload })
    }

    /// The header.
    pub fn header(&self) -> &'a Icmpv6Header {
        self.header
    }

    /// Type.
    pub fn kind(&self) -> u8 {
        self.header.kind
    }

    /// Code.
    pub fn code(&self) -> u8 {
        self.header.code
    }

    /// Whether [`crate::NdpRepr`] reads this message.
    pub fn is_ndp(&self) -> bool {
        (kind::ROUTER_SOLICIT..=kind::REDIRECT).contains(&self.header.kind)
    }

    /// Echo data, the packet that an error quotes (read it with `Ipv6View::new_truncated`), or the
    /// rest of a neighbour discovery message.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// What an ICMPv6 header means. The payload follows the header and is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icmpv6Repr {
    /// Destination unreachable.
    DestinationUnreachable {
        /// One of [`unreachable`], or another.
        code: u8,
    },
    /// Packet too big.
    PacketTooBig {
        /// Next-hop MTU, bytes.
        mtu: u32,
    },
    /// Time exceeded: code 0 hop limit, 1 reassembly.
    TimeExceeded {
        /// Code.
        code: u8,
    },
    /// Parameter problem.
    ParameterProblem {
        /// One of [`problem`], or another.
        code: u8,
        /// Offset of the faulty byte in the quoted packet.
        pointer: u32,
    },
    /// Echo request.
    EchoRequest {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Echo reply.
    EchoReply {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
}

impl Icmpv6Repr {
    /// Reads the header.
    ///
    /// # Errors
    /// When the type is not one of this enum's; neighbour discovery belongs to [`crate::NdpRepr`].
    pub fn parse(view: &Icmpv6View<'_>) -> Result<Self> {
        let Icmpv6Header { kind, code, rest, .. } = *view.header;
        let [a, b, c, d] = rest;
        let (id, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let word = u32::from_be_bytes(rest);
        Ok(match kind {
            kind::DESTINATION_UNREACHABLE => Self::DestinationUnreachable { code },
            kind::PACKET_TOO_BIG => Self::PacketTooBig { mtu: word },
            kind::TIME_EXCEEDED => Self::TimeExceeded { code },
            kind::PARAMETER_PROBLEM => Self::ParameterProblem { code, pointer: word },
            kind::ECHO_REQUEST => Self::EchoRequest { id, seq },
            kind::ECHO_REPLY => Self::EchoReply { id, seq },
            other => return Err(ParseError::invalid(Protocol::Icmpv6, "type", other.into())),
        })
    }

    /// Whether this is an error message, to which no error may be sent (RFC 4443 section 2.4).
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::EchoRequest { .. } | Self::EchoReply { .. })
    }

    /// Bytes that `emit` writes: 8.
    pub fn header_len(&self) -> usize {
        ICMPV6_HEADER_LEN
    }

    /// Writes the header with a checksum of zero.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`].
    pub fn emit(&self, out: &mut [u8]) {
        let pair = |id: u16, seq: u16| (u32::from(id) << 16 | u32::from(seq)).to_be_bytes();
        let (kind, code, rest) = match *self {
            Self::DestinationUnreachable { code } => (kind::DESTINATION_UNREACHABLE, code, [0; 4]),
            Self::PacketTooBig { mtu } => (kind::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Self::TimeExceeded { code } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (kind::PARAMETER_PROBLEM, code, pointer.to_be_bytes())
            }
            Self::EchoRequest { id, seq } => (kind::ECHO_REQUEST, 0, pair(id, seq)),
            Self::EchoReply { id, seq } => (kind::ECHO_REPLY, 0, pair(id, seq)),
        };
        let header = Icmpv6Header { kind, code, checksum: 0.into(), rest };
        out[..ICMPV6_HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}
