//! Segments that meet no connection: in LISTEN and in CLOSED (RFC 9293 sections 3.10.7.1 and 3.10.7.2).
//!
//! A listener has no state of its own here: its owner keeps the backlog and makes a
//! [`super::Connection`] with [`super::Connection::accept`] from what [`judge`] finds.

use tandem_packet::{SeqNumber, TcpFlags, TcpOptions, TcpRepr};

use super::Segment;

/// What a SYN says, as far as an answer needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynInfo {
    /// The peer's initial sequence number.
    pub irs: SeqNumber,
    /// Its window, never scaled in a SYN (RFC 7323 section 2.2).
    pub window: u16,
    /// Control bits, for ECN negotiation.
    pub flags: TcpFlags,
    /// Its options.
    pub options: TcpOptions,
}

impl SynInfo {
    /// Reads a SYN.
    pub fn new(repr: &TcpRepr) -> Self {
        Self { irs: repr.seq, window: repr.window, flags: repr.flags, options: repr.options }
    }
}

/// What a listener does about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenVerdict {
    /// Nothing.
    Ignore,
    /// Answers with this reset (ports are 0).
    Reset(TcpRepr),
    /// Begins a connection.
    Open(SynInfo),
}

/// Judges a segment that arrived for a listening port and no connection (RFC 9293 section 3.10.7.2).
pub fn judge(segment: &Segment<'_>) -> ListenVerdict {
    // First, check for a RST: ignored.
    if segment.has(TcpFlags::RST) {
        return ListenVerdict::Ignore;
    }
    // Second, check for an ACK: any is bad in LISTEN.
    if segment.has(TcpFlags::ACK) {
        return reset_for(segment).map_or(ListenVerdict::Ignore, ListenVerdict::Reset);
    }
    // Third, check for a SYN. One with FIN is nothing that a sane peer sends; section 3.10.7.2 allows both,
    // but the FIN could not be processed anyway.
    if segment.has(TcpFlags::SYN) && !segment.has(TcpFlags::FIN) {
        return ListenVerdict::Open(SynInfo::new(segment.repr));
    }
    // Fourth, other data or control: cannot happen; dropped.
    ListenVerdict::Ignore
}

/// The answer to a segment for which there is nothing at all (RFC 9293 section 3.10.7.1). Ports are 0.
/// `None` for a reset. Its caller limits the rate.
pub fn reset_for(segment: &Segment<'_>) -> Option<TcpRepr> {
    if segment.has(TcpFlags::RST) {
        return None;
    }
    Some(if segment.has(TcpFlags::ACK) {
        // <SEQ=SEG.ACK><CTL=RST>
        TcpRepr { seq: segment.repr.ack, flags: TcpFlags::RST, ..TcpRepr::default() }
    } else {
        // <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
        TcpRepr {
            ack: segment.repr.seq + segment.sequence_len(),
            flags: TcpFlags::RST | TcpFlags::ACK,
            ..TcpRepr::default()
        }
    })
}
