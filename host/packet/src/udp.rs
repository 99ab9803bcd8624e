//! User Datagram Protocol (RFC 768).

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed};

/// Bytes of the header.
pub const UDP_HEADER_LEN: usize = 8;
/// Offset of the checksum in the header, for partial checksums.
pub const UDP_CHECKSUM_OFFSET: usize = 6;

/// The header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port; zero when no answer is wanted.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Bytes of the datagram, header included.
    pub len: U16,
    /// Checksum; zero means none (IPv4 only).
    pub checksum: U16,
}

/// A checked UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct UdpView<'a> {
    header: &'a UdpHeader,
    payload: &'a [u8],
}

impl<'a> UdpView<'a> {
    /// Checks a whole datagram; bytes past its length are cut off. The length zero of a jumbogram
    /// (RFC 2675) is refused.
    ///
    /// # Errors
    /// When the header is cut off or the length is below 8 or beyond the bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let view = Self::new_truncated(bytes)?;
        let len = usize::from(view.header.len.get());
        if len > bytes.len() {
            return Err(ParseError::truncated(Protocol::Udp, "length", len, bytes.len()));
        }
        Ok(view)
    }

    /// Checks a datagram whose end may be missing (quoted in an ICMP error, or a frame's
    /// copied-out headers). The payload is what is there of it.
    ///
    /// # Errors
    /// When the header is cut off or the length is below 8.
    #[inline]
    pub fn new_truncated(bytes: &'a [u8]) -> Result<Self> {
        let (header, rest) = fixed::<UdpHeader>(Protocol::Udp, "header", bytes)?;
        let len = header.len.get();
        if usize::from(len) < UDP_HEADER_LEN {
            return Err(ParseError::invalid(Protocol::Udp, "length", len.into()));
        }
        let payload_len = usize::from(len) - UDP_HEADER_LEN;
        Ok(Self { header, payload: &rest[..payload_len.min(rest.len())] })
    }

    /// The header.
    pub fn header(&self) -> &'a UdpHeader {
        self.header
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        self.header.src_port.get()
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        self.header.dst_port.get()
    }

    /// Bytes of the datagram as the field says, header included.
    pub fn total_len(&self) -> u16 {
        self.header.len.get()
    }

    /// The checksum field.
    pub fn checksum(&self) -> u16 {
        self.header.checksum.get()
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// What a UDP header means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UdpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes that follow the header, at most 65,527.
    pub payload_len: u16,
    /// Checksum field: zero (none), or a pseudo-header seed, or the finished sum.
    pub checksum: u16,
}

impl UdpRepr {
    /// Reads the header.
    ///
    /// # Errors
    /// None beyond what the view checked.
    #[inline]
    pub fn parse(view: &UdpView<'_>) -> Result<Self> {
        Ok(Self {
            src_port: view.src_port(),
            dst_port: view.dst_port(),
            payload_len: view.total_len() - UDP_HEADER_LEN as u16,
            checksum: view.checksum(),
        })
    }

    /// Bytes that `emit` writes: 8.
    pub fn header_len(&self) -> usize {
        UDP_HEADER_LEN
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`] or the payload exceeds 65,527 bytes.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let len = self
            .payload_len
            .checked_add(UDP_HEADER_LEN as u16)
            .expect("UDP: length exceeds 16 bits");
        let header = UdpHeader {
            src_port: self.src_port.into(),
            dst_port: self.dst_port.into(),
            len: len.into(),
            checksum: self.checksum.into(),
        };
        out[..UDP_HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}
