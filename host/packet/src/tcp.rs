//! Transmission Control Protocol, the header (RFC 9293 section 3.1). Options are in
//! [`crate::tcp_options`].

use core::cmp::Ordering;
use core::fmt;
use core::ops::{Add, AddAssign, Sub, SubAssign};

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{ParseError, Protocol, Result, fixed, split};
use crate::tcp_options::{TcpOptionIter, TcpOptions};

/// Bytes of a header without options.
pub const TCP_HEADER_LEN: usize = 20;
/// Most bytes of a header with options.
pub const TCP_HEADER_LEN_MAX: usize = 60;
/// Offset of the checksum in the header, for partial checksums.
pub const TCP_CHECKSUM_OFFSET: usize = 16;

/// A sequence number: a position on a circle of 2^32 (RFC 9293 section 3.4).
///
/// There is no total order on a circle, so this type has no `Ord`: the comparisons below hold for
/// numbers less than 2^31 apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// Whether `self` comes before `other`.
    #[inline]
    pub fn lt(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }

    /// Whether `self` is `other` or comes before it.
    #[inline]
    pub fn le(self, other: Self) -> bool {
        self.distance_from(other) <= 0
    }

    /// Whether `self` comes after `other`.
    #[inline]
    pub fn gt(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }

    /// Whether `self` is `other` or comes after it.
    #[inline]
    pub fn ge(self, other: Self) -> bool {
        self.distance_from(other) >= 0
    }

    /// The signed way from `other` to `self`: positive when `self` comes later.
    #[inline]
    pub fn distance_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` lies in the `len` numbers that begin with `start`.
    #[inline]
    pub fn is_within(self, start: Self, len: u32) -> bool {
        self.0.wrapping_sub(start.0) < len
    }

    /// The later of two.
    #[inline]
    pub fn max(self, other: Self) -> Self {
        if self.ge(other) { self } else { other }
    }

    /// The earlier of two.
    #[inline]
    pub fn min(self, other: Self) -> Self {
        if self.le(other) { self } else { other }
    }

    /// The order of two numbers less than 2^31 apart.
    #[inline]
    pub fn cmp_wrapping(self, other: Self) -> Ordering {
        self.distance_from(other).cmp(&0)
    }
}

impl Add<u32> for SeqNumber {
    type Output = Self;
    #[inline]
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for SeqNumber {
    #[inline]
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for SeqNumber {
    type Output = Self;
    #[inline]
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl SubAssign<u32> for SeqNumber {
    #[inline]
    fn sub_assign(&mut self, bytes: u32) {
        *self = *self - bytes;
    }
}

/// The bytes from the right-hand number up to the left-hand one, modulo 2^32.
impl Sub for SeqNumber {
    type Output = u32;
    #[inline]
    fn sub(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Debug for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {}", self.0)
    }
}

impl fmt::Display for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

bitflags::bitflags! {
    /// The control bits, with AE where RFC 3540 had NS (RFC 9768 section 3.1).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct TcpFlags: u16 {
        /// No more data from the sender.
        const FIN = 0x001;
        /// Synchronise sequence numbers.
        const SYN = 0x002;
        /// Reset the connection.
        const RST = 0x004;
        /// Push.
        const PSH = 0x008;
        /// The acknowledgement field is valid.
        const ACK = 0x010;
        /// The urgent pointer is valid.
        const URG = 0x020;
        /// Congestion echo (RFC 3168), or a bit of the ACE counter (RFC 9768).
        const ECE = 0x040;
        /// Congestion window reduced (RFC 3168), or a bit of the ACE counter.
        const CWR = 0x080;
        /// Accurate ECN, a bit of the ACE counter.
        const AE = 0x100;
    }
}

impl TcpFlags {
    /// The ACE counter that AE, CWR and ECE hold once AccECN is agreed (RFC 9768 section 3.2.1).
    pub fn ace(self) -> u8 {
        (self.bits() >> 6 & 7) as u8
    }

    /// Sequence numbers that SYN and FIN take: 0, 1 or 2.
    #[inline]
    pub fn sequence_len(self) -> u32 {
        u32::from(self.contains(Self::SYN)) + u32::from(self.contains(Self::FIN))
    }
}

/// The fixed part of the header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Sequence number of the first byte, or of SYN.
    pub seq: U32,
    /// Acknowledgement.
    pub ack: U32,
    /// Header length in 32-bit words (4 bits), reserved (3), control bits (9).
    pub offset_flags: U16,
    /// Window, unscaled.
    pub window: U16,
    /// Checksum.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl TcpHeader {
    /// Bytes of the header with options, as the field says (0 to 60, unchecked).
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.offset_flags.get() >> 12) * 4
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits_truncate(self.offset_flags.get())
    }

    /// Replaces the control bits, keeping header length and reserved bits.
    #[inline]
    pub fn set_flags(&mut self, flags: TcpFlags) {
        let kept = self.offset_flags.get() & !TcpFlags::all().bits();
        self.offset_flags = (kept | flags.bits()).into();
    }

    /// The three reserved bits, zero when the sender follows RFC 9293.
    #[inline]
    pub fn reserved(&self) -> u8 {
        (self.offset_flags.get() >> 9 & 7) as u8
    }
}

/// A checked TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct TcpView<'a> {
    header: &'a TcpHeader,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> TcpView<'a> {
    /// Checks the header. TCP has no length of its own: everything after the header is payload,
    /// so `bytes` must be what the network layer calls its payload.
    ///
    /// # Errors
    /// When the data offset is below 5 or beyond the bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (header, _) = fixed::<TcpHeader>(Protocol::Tcp, "header", bytes)?;
        let header_len = header.header_len();
        if header_len < TCP_HEADER_LEN {
            let words = u32::from(header.offset_flags.get() >> 12);
            return Err(ParseError::invalid(Protocol::Tcp, "data offset", words));
        }
        let (head, payload) = split(Protocol::Tcp, "options", bytes, header_len)?;
        Ok(Self { header, options: &head[TCP_HEADER_LEN..], payload })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a TcpHeader {
        self.header
    }

    /// Bytes of the header with options.
    pub fn header_len(&self) -> usize {
        TCP_HEADER_LEN + self.options.len()
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        self.header.src_port.get()
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        self.header.dst_port.get()
    }

    /// Sequence number.
    pub fn seq(&self) -> SeqNumber {
        SeqNumber(self.header.seq.get())
    }

    /// Acknowledgement; means something only with [`TcpFlags::ACK`].
    pub fn ack(&self) -> SeqNumber {
        SeqNumber(self.header.ack.get())
    }

    /// Control bits.
    pub fn flags(&self) -> TcpFlags {
        self.header.flags()
    }

    /// Window, unscaled.
    pub fn window(&self) -> u16 {
        self.header.window.get()
    }

    /// The checksum field.
    pub fn checksum(&self) -> u16 {
        self.header.checksum.get()
    }

    /// The options' bytes.
    pub fn options_bytes(&self) -> &'a [u8] {
        self.options
    }

    /// Walks the options in wire order.
    pub fn options(&self) -> TcpOptionIter<'a> {
        TcpOptionIter::new(self.options)
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Sequence numbers that the segment takes: payload, SYN and FIN.
    pub fn segment_len(&self) -> u32 {
        self.payload.len() as u32 + self.flags().sequence_len()
    }
}

/// What a TCP header means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte, or of SYN.
    pub seq: SeqNumber,
    /// Acknowledgement; means something only with [`TcpFlags::ACK`].
    pub ack: SeqNumber,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window, unscaled.
    pub window: u16,
    /// Checksum field: zero, or a pseudo-header seed, or the finished sum.
    pub checksum: u16,
    /// Urgent pointer; means something only with [`TcpFlags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
}

impl TcpRepr {
    /// Reads the header. Reserved bits are not kept.
    ///
    /// # Errors
    /// When an option's length is below 2 or beyond the header (RFC 9293 MUST-7).
    #[inline]
    pub fn parse(view: &TcpView<'_>) -> Result<Self> {
        Ok(Self {
            src_port: view.src_port(),
            dst_port: view.dst_port(),
            seq: view.seq(),
            ack: view.ack(),
            flags: view.flags(),
            window: view.window(),
            checksum: view.checksum(),
            urgent: view.header.urgent.get(),
            options: TcpOptions::parse(view.options)?,
        })
    }

    /// Bytes that `emit` writes: 20 to 60.
    pub fn header_len(&self) -> usize {
        TCP_HEADER_LEN + self.options.emitted_len()
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let options_len = self.options.emit(&mut out[TCP_HEADER_LEN..]);
        let words = ((TCP_HEADER_LEN + options_len) / 4) as u16;
        let header = TcpHeader {
            src_port: self.src_port.into(),
            dst_port: self.dst_port.into(),
            seq: self.seq.0.into(),
            ack: self.ack.0.into(),
            offset_flags: (words << 12 | self.flags.bits()).into(),
            window: self.window.into(),
            checksum: self.checksum.into(),
            urgent: self.urgent.into(),
        };
        out[..TCP_HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}
