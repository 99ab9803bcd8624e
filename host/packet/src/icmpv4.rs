//! Internet Control Message Protocol for IPv4 (RFC 792, RFC 1191).

use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed};

/// Bytes of the header of the messages that [`Icmpv4Repr`] knows.
pub const ICMPV4_HEADER_LEN: usize = 8;
/// Offset of the checksum in the header.
pub const ICMPV4_CHECKSUM_OFFSET: usize = 2;

/// Message types (IANA ICMP parameters).
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of destination unreachable (RFC 792, RFC 1122 section 3.2.2.1).
pub mod unreachable {
    /// Network.
    pub const NETWORK: u8 = 0;
    /// Host.
    pub const HOST: u8 = 1;
    /// Protocol.
    pub const PROTOCOL: u8 = 2;
    /// Port.
    pub const PORT: u8 = 3;
    /// Fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source route failed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// Communication administratively prohibited (RFC 1812).
    pub const PROHIBITED: u8 = 13;
}

/// The header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Icmpv4Header {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum over the whole message.
    pub checksum: U16,
    /// What it means depends on the type.
    pub rest: [u8; 4],
}

/// A checked ICMPv4 message.
#[derive(Debug, Clone, Copy)]
pub struct Icmpv4View<'a> {
    header: &'a Icmpv4Header,
    payload: &'a [u8],
}

impl<'a> Icmpv4View<'a> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// When there are fewer than 8 bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (header, payload) = fixed::<Icmpv4Header>(Protocol::Icmpv4, "header", bytes)?;
        Ok(Self { header, payload })
    }

    /// The header.
    pub fn header(&self) -> &'a Icmpv4Header {
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

    /// Echo data, or the packet that an error quotes (read it with `Ipv4View::new_truncated`).
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// What an ICMPv4 header means. The payload follows the header and is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icmpv4Repr {
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
    /// Destination unreachable.
    DestinationUnreachable {
        /// One of [`unreachable`], or another.
        code: u8,
        /// Next-hop MTU (RFC 1191), bytes; means something with
        /// [`unreachable::FRAGMENTATION_NEEDED`] and is 0 from routers before RFC 1191.
        mtu: u16,
    },
    /// Time exceeded: code 0 in transit, 1 in reassembly.
    TimeExceeded {
        /// Code.
        code: u8,
    },
    /// Parameter problem.
    ParameterProblem {
        /// Code.
        code: u8,
        /// Offset of the faulty byte in the quoted packet.
        pointer: u8,
    },
    /// Redirect.
    Redirect {
        /// 0 network, 1 host, 2 and 3 the same for a type of service.
        code: u8,
        /// The better gateway.
        gateway: Ipv4Addr,
    },
}

impl Icmpv4Repr {
    /// Reads the header.
    ///
    /// # Errors
    /// When the type is not one of this enum's (RFC 1122 section 3.2.2: discard silently).
    pub fn parse(view: &Icmpv4View<'_>) -> Result<Self> {
        let Icmpv4Header { kind, code, rest, .. } = *view.header;
        let [a, b, c, d] = rest;
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Ok(match kind {
            kind::ECHO_REQUEST => Self::EchoRequest { id: high, seq: low },
            kind::ECHO_REPLY => Self::EchoReply { id: high, seq: low },
            kind::DESTINATION_UNREACHABLE => Self::DestinationUnreachable { code, mtu: low },
            kind::TIME_EXCEEDED => Self::TimeExceeded { code },
            kind::PARAMETER_PROBLEM => Self::ParameterProblem { code, pointer: a },
            kind::REDIRECT => Self::Redirect { code, gateway: rest.into() },
            other => return Err(ParseError::invalid(Protocol::Icmpv4, "type", other.into())),
        })
    }

    /// Whether this is an error message, to which no error may be sent (RFC 1122 section 3.2.2).
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::EchoRequest { .. } | Self::EchoReply { .. })
    }

    /// Bytes that `emit` writes: 8.
    pub fn header_len(&self) -> usize {
        ICMPV4_HEADER_LEN
    }

    /// Writes the header with a checksum of zero.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`].
    pub fn emit(&self, out: &mut [u8]) {
        let pair = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            [a, b, c, d]
        };
        let (kind, code, rest) = match *self {
            Self::EchoRequest { id, seq } => (kind::ECHO_REQUEST, 0, pair(id, seq)),
            Self::EchoReply { id, seq } => (kind::ECHO_REPLY, 0, pair(id, seq)),
            Self::DestinationUnreachable { code, mtu } => {
                (kind::DESTINATION_UNREACHABLE, code, pair(0, mtu))
            }
            Self::TimeExceeded { code } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (kind::PARAMETER_PROBLEM, code, [pointer, 0, 0, 0])
            }
            Self::Redirect { code, gateway } => (kind::REDIRECT, code, gateway.octets()),
        };
        let header = Icmpv4Header { kind, code, checksum: 0.into(), rest };
        out[..ICMPV4_HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}
