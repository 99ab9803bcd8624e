//! What goes into a connection and comes out of it.

use arrayvec::ArrayVec;
use bitflags::bitflags;
use tandem_device::{FRAGS_MAX, Payload};
use tandem_packet::{Ecn, SeqNumber, TcpFlags, TcpRepr};

/// A received segment, its payload beside it. Its checksum has been verified.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The header.
    pub repr: &'a TcpRepr,
    /// Bytes of payload.
    pub len: u32,
    /// Wire segments that it was coalesced from, at least 1 ([`tandem_device::FrameMeta::segments`]).
    pub wire_segments: u16,
    /// Congestion bits of the IP header.
    pub ecn: Ecn,
}

impl<'a> Segment<'a> {
    /// A segment that came as it is, without ECN.
    pub fn new(repr: &'a TcpRepr, len: u32) -> Self {
        Self { repr, len, wire_segments: 1, ecn: Ecn::NotEct }
    }

    /// SEG.LEN: payload, SYN and FIN (RFC 9293 section 3.4).
    pub fn sequence_len(&self) -> u32 {
        self.len + self.repr.flags.sequence_len()
    }

    pub(super) fn seq(&self) -> SeqNumber {
        self.repr.seq
    }

    pub(super) fn has(&self, flags: TcpFlags) -> bool {
        self.repr.flags.contains(flags)
    }
}

bitflags! {
    /// What an event changed, for the owner to act on.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Changes: u16 {
        /// The connection became established.
        const ESTABLISHED = 1;
        /// There is something to read: data, the end of the stream, or an error.
        const READABLE = 1 << 1;
        /// There is room to write, or writing now fails.
        const WRITABLE = 1 << 2;
        /// Our FIN was acknowledged: the peer has everything.
        const FLUSHED = 1 << 3;
        /// It entered TIME-WAIT: [`super::Connection::time_wait`] has what is to be kept.
        const TIME_WAIT = 1 << 4;
        /// It is closed; once [`super::Connection::wants_output`] is false it can be dropped.
        const CLOSED = 1 << 5;
        /// A token of [`super::Connection::write_payload`] can be taken.
        const COMPLETED = 1 << 6;
    }
}

bitflags! {
    /// What an application may do now without waiting.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Readiness: u8 {
        /// Reading returns data, the end of the stream, or an error.
        const READABLE = 1;
        /// Writing takes data or returns an error.
        const WRITABLE = 1 << 1;
        /// The peer's FIN has been received, data before it may still be unread.
        const READ_CLOSED = 1 << 2;
        /// We sent, or will send, a FIN.
        const WRITE_CLOSED = 1 << 3;
        /// No more segments will be exchanged.
        const CLOSED = 1 << 4;
        /// [`super::Connection::error`] says why it failed.
        const ERROR = 1 << 5;
    }
}

/// What the way out can carry in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// Most bytes of payload in a super-segment; below two segments' worth nothing is aggregated.
    pub gso_bytes_max: u32,
    /// Most segments in a super-segment; 0 and 1 both mean no aggregation.
    pub gso_segments_max: u16,
    /// Most pieces of payload by reference, 1 to [`FRAGS_MAX`].
    pub pieces_max: u16,
}

impl OutputLimits {
    /// What the software fallback takes: 64 KiB less the largest headers.
    pub const FULL: Self = Self {
        gso_bytes_max: 65_535 - 60 - 60,
        gso_segments_max: 1024,
        pieces_max: FRAGS_MAX as u16,
    };
    /// One segment a frame.
    pub const SINGLE: Self =
        Self { gso_bytes_max: 0, gso_segments_max: 1, pieces_max: FRAGS_MAX as u16 };
}

/// A segment or super-segment to be sent now. Ports and checksum are the caller's to fill in.
#[derive(Debug)]
pub struct Outgoing {
    /// The header; both ports are 0.
    pub repr: TcpRepr,
    /// Payload by reference, in order.
    pub payload: ArrayVec<Payload, FRAGS_MAX>,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Payload bytes of each segment. A super-segment when `payload_len` is larger: then the frame's
    /// `Gso::size` is this.
    pub segment_size: u16,
    /// ECN codepoint for the IP header.
    pub ecn: Ecn,
    /// Whether any of it was sent before.
    pub is_retransmission: bool,
}

impl Outgoing {
    /// Whether this needs segmentation.
    pub fn is_super_segment(&self) -> bool {
        self.payload_len > u32::from(self.segment_size)
    }

    /// Segments that it becomes on the wire, at least 1.
    pub fn wire_segments(&self) -> u32 {
        self.payload_len.div_ceil(u32::from(self.segment_size.max(1))).max(1)
    }
}
