//! Segmentation in software: one super-segment becomes the frames that the wire carries.
//!
//! Headers are copied for each segment, payload is shared by reference.

use tandem_device::{Batch, CloneError, Csum, Frame, FrameMeta, Gso, GsoKind, Pool};
use tandem_packet::tcp::TCP_CHECKSUM_OFFSET;
use tandem_packet::udp::UDP_CHECKSUM_OFFSET;
use tandem_packet::zerocopy::FromBytes;
use tandem_packet::{
    Headers, Ipv4Header, Ipv6Header, Network, ParseError, TcpFlags, TcpHeader, Transport, UdpHeader,
};
use thiserror::Error;

use crate::checksum::{self, Sum, wire_form};

/// Longest headers that are copied for each segment: Ethernet with two tags, IPv4 with options and
/// TCP with options take 142 bytes; IPv6 extension headers have the rest.
pub const HEADERS_LEN_MAX: usize = 192;

/// Most segments that one super-segment may become. 64 KiB at the smallest TCP segment size in use
/// (88 bytes behind IPv4's minimum MTU) are 745.
pub const SEGMENTS_MAX: usize = 1024;

/// Who finishes the segments' checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentSum {
    /// They are finished here.
    Complete,
    /// Each segment asks for it ([`Csum::Partial`]).
    Partial,
}

/// Why a super-segment could not be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// The frame does not ask for segmentation, or for segments of no bytes.
    #[error("the frame has no segment size")]
    NoSize,
    /// A header is malformed or beyond [`HEADERS_LEN_MAX`].
    #[error(transparent)]
    Headers(#[from] ParseError),
    /// The packet is not of the kind that the request names, or is a fragment.
    #[error("the packet is not an unfragmented {kind:?} packet")]
    WrongKind {
        /// What the request names.
        kind: GsoKind,
    },
    /// SYN, RST or URG belong to single segments.
    #[error("a packet with {flags:?} cannot be cut")]
    Flags {
        /// The packet's control bits.
        flags: TcpFlags,
    },
    /// The frame goes on behind the packet.
    #[error("{extra_bytes} bytes follow the packet")]
    Padded {
        /// How many.
        extra_bytes: usize,
    },
    /// More than [`SEGMENTS_MAX`].
    #[error("{segments} segments are more than {SEGMENTS_MAX}")]
    TooMany {
        /// How many there would be.
        segments: usize,
    },
    /// No buffer for a segment's headers, or its payload is in too many pieces.
    #[error(transparent)]
    Frame(#[from] CloneError),
}

/// A super-segment, checked.
struct Super {
    headers: Headers,
    bytes: [u8; HEADERS_LEN_MAX],
    header_len: usize,
    gso: Gso,
    payload_len: usize,
}

impl Super {
    fn new(frame: &Frame) -> Result<Self, SegmentError> {
        let gso = frame.meta().gso.filter(|gso| gso.size > 0).ok_or(SegmentError::NoSize)?;
        let mut bytes = [0; HEADERS_LEN_MAX];
        let have = frame.copy_to(0, &mut bytes);
        let headers = Headers::parse_split(&bytes[..have], frame.len())?;
        let right_kind = matches!(
            (gso.kind, headers.network, headers.transport),
            (GsoKind::Tcp4, Network::Ipv4 { .. }, Transport::Tcp { .. })
                | (GsoKind::Tcp6, Network::Ipv6 { .. }, Transport::Tcp { .. })
                | (GsoKind::UdpL4, _, Transport::Udp { .. })
        );
        // A fragment header, even an atomic one, has an identification of its own per packet.
        if !right_kind || headers.fragment.is_some() {
            return Err(SegmentError::WrongKind { kind: gso.kind });
        }
        if let Transport::Tcp { flags, .. } = headers.transport
            && flags.intersects(TcpFlags::SYN | TcpFlags::RST | TcpFlags::URG)
        {
            return Err(SegmentError::Flags { flags });
        }
        if headers.payload_end as usize != frame.len() {
            let extra_bytes = frame.len() - headers.payload_end as usize;
            return Err(SegmentError::Padded { extra_bytes });
        }
        let payload_len = headers.payload_len();
        let segments = payload_len.div_ceil(usize::from(gso.size));
        if segments > SEGMENTS_MAX {
            return Err(SegmentError::TooMany { segments });
        }
        let header_len = usize::from(headers.payload_offset);
        Ok(Self { headers, bytes, header_len, gso, payload_len })
    }

    /// Rewrites the copied headers of the segment with `len` payload bytes from `offset` on, and
    /// returns the pseudo-header's sum.
    fn rewrite(&self, out: &mut [u8], offset: usize, len: usize, index: usize) -> Sum {
        let headers = &self.headers;
        let (l3, l4) = (usize::from(headers.l3_offset), usize::from(headers.l4_offset));
        let l4_len = self.header_len - l4 + len;
        let (first, last) = (offset == 0, offset + len == self.payload_len);
        // The super-segment's lengths fit their 16-bit fields, so a segment's do.
        match headers.network {
            Network::Ipv4 { .. } => {
                let header = &mut out[l3..l4];
                if let Ok((ip, _)) = Ipv4Header::mut_from_prefix(header) {
                    ip.total_len = ((l4 - l3 + l4_len) as u16).into();
                    if !self.gso.fixed_id {
                        ip.id = ip.id.get().wrapping_add(index as u16).into();
                    }
                }
                checksum::fill_ipv4_header(header);
            }
            _ => {
                if let Ok((ip, _)) = Ipv6Header::mut_from_prefix(&mut out[l3..l4]) {
                    // Extension headers count as payload.
                    let extensions = l4 - l3 - size_of::<Ipv6Header>();
                    ip.payload_len = ((extensions + l4_len) as u16).into();
                }
            }
        }
        if let Transport::Tcp { mut flags, .. } = headers.transport
            && let Ok((tcp, _)) = TcpHeader::mut_from_prefix(&mut out[l4..])
        {
            tcp.seq = tcp.seq.get().wrapping_add(offset as u32).into();
            if !last {
                flags -= TcpFlags::FIN | TcpFlags::PSH;
            }
            // RFC 3168 section 6.1.2: CWR is set on the first packet after the reduction. With
            // AccECN it is a bit of a counter, and every segment has the same.
            if !first && self.gso.ecn {
                flags -= TcpFlags::CWR;
            }
            tcp.set_flags(flags);
        }
        if self.is_udp()
            && let Ok((udp, _)) = UdpHeader::mut_from_prefix(&mut out[l4..])
        {
            udp.len = (l4_len as u16).into();
        }
        match headers.network {
            Network::Ipv4 { src, dst } => {
                Sum::pseudo_header_v4(src, dst, headers.protocol, l4_len as u16)
            }
            Network::Ipv6 { src, dst } => {
                Sum::pseudo_header_v6(src, dst, headers.protocol, l4_len as u32)
            }
            Network::Arp | Network::Other => Sum::new(),
        }
    }

    fn is_udp(&self) -> bool {
        self.gso.kind == GsoKind::UdpL4
    }

    /// Cuts one segment.
    fn segment(
        &self,
        frame: &mut Frame,
        pool: &Pool,
        sum: SegmentSum,
        (offset, len, index): (usize, usize, usize),
    ) -> Result<Frame, SegmentError> {
        let mut segment = pool.alloc().map_err(CloneError::from)?;
        let out = segment.push_back(self.header_len).map_err(CloneError::from)?;
        out.copy_from_slice(&self.bytes[..self.header_len]);
        let mut total = self.rewrite(out, offset, len, index);
        let l4 = usize::from(self.headers.l4_offset);
        let checksum_offset = if self.is_udp() { UDP_CHECKSUM_OFFSET } else { TCP_CHECKSUM_OFFSET };
        let field = l4 + checksum_offset..l4 + checksum_offset + 2;
        out[field.clone()].copy_from_slice(&match sum {
            SegmentSum::Complete => [0; 2],
            SegmentSum::Partial => total.folded().to_be_bytes(),
        });
        let start = self.header_len + offset;
        let mut pushed = Ok(());
        frame.share(start..start + len, |payload| {
            if pushed.is_ok() {
                pushed = segment.push_payload(payload);
            }
        });
        pushed.map_err(CloneError::from)?;
        let csum = match sum {
            SegmentSum::Partial => {
                Csum::Partial { start: l4 as u16, offset: checksum_offset as u16 }
            }
            SegmentSum::Complete => {
                total.add_frame(&segment, l4..self.header_len + len);
                let value = wire_form(total.checksum(), self.is_udp());
                segment.head_mut()[field].copy_from_slice(&value.to_be_bytes());
                Csum::None
            }
        };
        let is_last = offset + len == self.payload_len;
        let meta = *frame.meta();
        *segment.meta_mut() = FrameMeta {
            csum,
            gso: None,
            header_len: self.header_len as u16,
            network_offset: self.headers.l3_offset,
            transport_offset: self.headers.l4_offset,
            segments: 0,
            // The zero-copy notice is due when the last of them has left.
            token: meta.token.filter(|_| is_last),
            ..meta
        };
        Ok(segment)
    }
}

/// Cuts a super-segment ([`FrameMeta::gso`]) into the frames that the wire carries, appends them to
/// `out`, and returns how many there are. Heads come from `pool`; payload is shared with `frame`.
///
/// IPv4 identifications rise by one unless the request says fixed; PSH and FIN stay on the last
/// segment only, CWR on the first only when the request says so. A packet with no more payload than
/// one segment holds becomes one frame.
///
/// # Errors
/// [`SegmentError`]; `out` is as it was then.
pub fn segment(
    frame: &mut Frame,
    pool: &Pool,
    sum: SegmentSum,
    out: &mut Batch,
) -> Result<usize, SegmentError> {
    let whole = Super::new(frame)?;
    let before = out.len();
    let mut offset = 0;
    loop {
        let len = (whole.payload_len - offset).min(usize::from(whole.gso.size));
        let index = out.len() - before;
        match whole.segment(frame, pool, sum, (offset, len, index)) {
            Ok(segment) => out.push_back(segment),
            Err(error) => {
                out.truncate(before);
                return Err(error);
            }
        }
        offset += len;
        if offset >= whole.payload_len {
            return Ok(out.len() - before);
        }
    }
}
