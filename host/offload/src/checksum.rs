//! The Internet checksum: ones-complement sums of 16-bit words (RFC 1071), incremental update
//! (RFC 1624), pseudo-headers, and completion and verification in frames.
//!
//! Sums are taken in the machine's own byte order over wide words and put into network order once,
//! at the end (RFC 1071 section 2, parts (B) and (C)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tandem_device::{Csum, Frame};
use tandem_packet::udp::UDP_CHECKSUM_OFFSET;
use tandem_packet::{ExtHeader, Headers, IpProtocol, Ipv6View, Network, Transport};
use thiserror::Error;

use crate::segment::HEADERS_LEN_MAX;

/// A running ones-complement sum over pieces of any length at any parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// In machine byte order; folded after each piece, so it cannot overflow.
    wide: u64,
    /// Whether an odd number of bytes was added so far.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self { wide: 0, odd: false }
    }

    /// Begins with a folded sum, such as the seed in a partial checksum field.
    pub const fn from_folded(folded: u16) -> Self {
        Self { wide: folded.to_be() as u64, odd: false }
    }

    /// Adds the next bytes. After an odd number of bytes the following piece continues the
    /// unfinished word, as if all pieces were one.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let mut folded = fold(sum_native(bytes));
        // RFC 1071 section 2 (B): swapping the bytes of all words swaps the bytes of the sum.
        if self.odd {
            folded = folded.swap_bytes();
        }
        self.wide += u64::from(folded);
        self.wide = u64::from(fold(self.wide));
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds a 16-bit field.
    ///
    /// # Panics
    /// In debug builds, when an odd number of bytes was added before.
    #[inline]
    pub fn add_u16(&mut self, value: u16) {
        debug_assert!(!self.odd, "a field does not stand at an odd offset");
        self.wide = u64::from(fold(self.wide + u64::from(value.to_be())));
    }

    /// Adds a part of a frame, which may lie in several pieces.
    ///
    /// # Panics
    /// When the range is not within the frame.
    pub fn add_frame(&mut self, frame: &Frame, range: std::ops::Range<usize>) {
        assert!(range.start <= range.end && range.end <= frame.len(), "sum of {range:?}");
        let mut at = 0;
        for piece in frame.pieces() {
            let start = range.start.clamp(at, at + piece.len());
            let end = range.end.clamp(at, at + piece.len());
            if start < end {
                self.add(&piece[start - at..end - at]);
            }
            at += piece.len();
            if at >= range.end {
                break;
            }
        }
    }

    /// The folded sum, as a value whose big-endian form stands on the wire.
    #[inline]
    pub fn folded(self) -> u16 {
        u16::from_be(fold(self.wide))
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The pseudo-header of TCP and UDP over IPv4 (RFC 9293 section 3.1) or of any upper layer
    /// over IPv6 (RFC 8200 section 8.1). `len` counts the upper layer's header and payload.
    ///
    /// Mixed families have no pseudo-header; only the addresses given are summed then.
    #[inline]
    pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: IpProtocol, len: u32) -> Self {
        let mut sum = Self::new();
        for address in [src, dst] {
            match address {
                IpAddr::V4(address) => sum.add(&address.octets()),
                IpAddr::V6(address) => sum.add(&address.octets()),
            }
        }
        // Upper-layer length as 32 bits, then three zero bytes (one in IPv4) and the protocol: in
        // ones-complement arithmetic both families' layouts sum alike.
        sum.add_u16((len >> 16) as u16);
        sum.add_u16(len as u16);
        sum.add_u16(u16::from(protocol.0));
        sum
    }

    /// [`Self::pseudo_header`] for IPv4.
    pub fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: IpProtocol, len: u16) -> Self {
        Self::pseudo_header(src.into(), dst.into(), protocol, len.into())
    }

    /// [`Self::pseudo_header`] for IPv6.
    pub fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: IpProtocol, len: u32) -> Self {
        Self::pseudo_header(src.into(), dst.into(), protocol, len)
    }
}

/// Sums bytes as machine-order words; the result needs folding. Of 16 GiB and more it would overflow.
#[inline]
fn sum_native(bytes: &[u8]) -> u64 {
    let word = |word: &[u8]| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let mut sum = 0;
    let mut rest = bytes;
    if bytes.len() >= 64 {
        // Eight accumulators of 32-bit words need no carries, and compilers turn the loop into
        // vector adds.
        let mut lanes = [0u64; 8];
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (lane, bytes) in lanes.iter_mut().zip(block.chunks_exact(4)) {
                *lane += word(bytes);
            }
        }
        sum = lanes.iter().sum();
        rest = blocks.remainder();
    }
    let mut words = rest.chunks_exact(4);
    sum += (&mut words).map(word).sum::<u64>();
    match *words.remainder() {
        [a, b, c] => sum + u64::from(u32::from_ne_bytes([a, b, c, 0])),
        [a, b] => sum + u64::from(u16::from_ne_bytes([a, b])),
        // RFC 1071 section 4.1: a last odd byte is padded with a zero byte behind it.
        [a] => sum + u64::from(u16::from_ne_bytes([a, 0])),
        _ => sum,
    }
}

/// Folds to 16 bits with end-around carry.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The checksum of bytes in one piece.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.checksum()
}

/// The checksum after one 16-bit word changed from `old` to `new` (RFC 1624 equation 3:
/// HC' = ~(~HC + ~m + m')).
#[inline]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

/// [`update`] for several words, such as an address that NAT rewrites. Both slices are as they
/// stand in the packet, from an even offset.
///
/// # Panics
/// When the lengths differ or are odd.
pub fn update_bytes(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    assert!(old.len() == new.len() && old.len().is_multiple_of(2), "words change to words");
    let words = |bytes: &[u8]| u64::from(u16::from_be(fold(sum_native(bytes))));
    let removed = !(words(old) as u16);
    !fold(u64::from(!checksum) + u64::from(removed) + words(new))
}

/// Whether an IPv4 header, options included, has a valid checksum.
#[inline]
pub fn verify_ipv4_header(header: &[u8]) -> bool {
    checksum(header) == 0
}

/// Computes the checksum of an IPv4 header, options included, and puts it in place.
///
/// # Panics
/// When there are fewer than 20 bytes.
#[inline]
pub fn fill_ipv4_header(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// What a finished sum looks like on the wire: for UDP, a computed zero is sent as all ones
/// (RFC 768), since zero means that there is none.
#[inline]
pub fn wire_form(checksum: u16, is_udp: bool) -> u16 {
    if checksum == 0 && is_udp { 0xffff } else { checksum }
}

/// Why a partial checksum could not be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CompleteError {
    /// The field does not lie within the frame.
    #[error("checksum field at {start} + {offset} in a frame of {len} bytes")]
    OutOfFrame {
        /// First summed byte.
        start: u16,
        /// Where the field is, from there.
        offset: u16,
        /// Bytes of the frame.
        len: usize,
    },
    /// The field is in bytes that are shared with other frames.
    #[error("the checksum field's bytes are shared with other frames")]
    Shared,
}

/// Completes a partial checksum: sums from `start` to the end of the frame (the field's seed
/// included) and puts the complement where the seed was. Does nothing to a frame without one.
///
/// A computed zero becomes all ones where the field stands at UDP's offset.
///
/// # Errors
/// [`CompleteError`]; the frame is unchanged then.
pub fn complete(frame: &mut Frame) -> Result<(), CompleteError> {
    let Csum::Partial { start, offset } = frame.meta().csum else { return Ok(()) };
    let (first, len) = (usize::from(start), frame.len());
    let field = first + usize::from(offset);
    if field + 2 > len {
        return Err(CompleteError::OutOfFrame { start, offset, len });
    }
    if frame.head_mut().len() < field + 2 {
        return Err(CompleteError::Shared);
    }
    let mut sum = Sum::new();
    sum.add_frame(frame, first..len);
    let value = wire_form(sum.checksum(), usize::from(offset) == UDP_CHECKSUM_OFFSET);
    frame.head_mut()[field..field + 2].copy_from_slice(&value.to_be_bytes());
    frame.meta_mut().csum = Csum::None;
    Ok(())
}

/// What a receiver finds about a frame's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is right.
    Valid,
    /// UDP over IPv4 was sent without one (RFC 768).
    Absent,
    /// It is wrong, or missing where it must not be (UDP over IPv6, RFC 8200 section 8.1).
    Bad,
    /// There is none to judge: a fragment, or not TCP, UDP or ICMP.
    NotApplicable,
}

/// Judges the TCP, UDP or ICMP checksum of a received frame. `headers` must be the frame's own.
pub fn verify(frame: &Frame, headers: &Headers) -> Verdict {
    if headers.is_fragment() {
        return Verdict::NotApplicable;
    }
    let Some((src, dst)) = headers.addresses() else { return Verdict::NotApplicable };
    let start = usize::from(headers.l4_offset);
    let is_v6 = matches!(headers.network, Network::Ipv6 { .. });
    // RFC 8200 section 8.1: with a routing header that is not used up, the pseudo-header's
    // destination is not the one in the header. Such a packet is for somebody else.
    if is_v6 && headers.has_l3_options && is_source_routed(frame, headers) {
        return Verdict::NotApplicable;
    }
    let mut end = headers.packet_end as usize;
    let mut with_pseudo_header = true;
    match (headers.transport, headers.protocol) {
        (Transport::Tcp { .. }, _) => {}
        (Transport::Udp { .. }, _) => {
            end = headers.payload_end as usize;
            let mut field = [0; 2];
            frame.copy_to(start + UDP_CHECKSUM_OFFSET, &mut field);
            if field == [0; 2] {
                return if is_v6 { Verdict::Bad } else { Verdict::Absent };
            }
        }
        (Transport::Icmp { .. }, IpProtocol::ICMPV6) if is_v6 => {}
        (Transport::Icmp { .. }, IpProtocol::ICMPV4) if !is_v6 => with_pseudo_header = false,
        _ => return Verdict::NotApplicable,
    }
    let mut sum = if with_pseudo_header {
        Sum::pseudo_header(src, dst, headers.protocol, (end - start) as u32)
    } else {
        Sum::new()
    };
    sum.add_frame(frame, start..end);
    if sum.checksum() == 0 { Verdict::Valid } else { Verdict::Bad }
}

/// Whether a routing header with segments left stands before the transport header.
fn is_source_routed(frame: &Frame, headers: &Headers) -> bool {
    let mut bytes = [0; HEADERS_LEN_MAX];
    let have = frame.copy_to(usize::from(headers.l3_offset), &mut bytes);
    let Ok(ip) = Ipv6View::new_truncated(&bytes[..have]) else { return false };
    ip.extensions().flatten().any(
        |extension| matches!(extension, ExtHeader::Routing { segments_left, .. } if segments_left > 0),
    )
}
