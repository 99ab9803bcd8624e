//! Coalescing in software: packets of one TCP flow that arrive together become one super-segment.
//!
//! Only what [`crate::segment`] would cut into exactly the packets that arrived is merged. So two
//! neighbours may differ in their sequence numbers and lengths, in IPv4 identifications that rise
//! by one (or stay, with DF), in checksums that are right, and the last in PSH and FIN; in nothing
//! else. All other header bytes, link layer and TCP options included, must be equal.
//!
//! ```text
//! push ── not mergeable at all ──> its flow is handed on, then the packet itself
//!      ── continues its flow ────> payload joins by reference; PSH, FIN, a short one or a limit end it
//!      ── does not continue it ──> the flow is handed on, the packet begins it anew
//! flush (end of the batch) ──────> all flows are handed on, oldest first
//! ```

use arrayvec::ArrayVec;
use tandem_device::{Batch, Csum, FRAGS_MAX, Frame, Gso, GsoKind};
use tandem_packet::tcp::TCP_CHECKSUM_OFFSET;
use tandem_packet::zerocopy::FromBytes;
use tandem_packet::{
    FourTuple, Headers, IpProtocol, Ipv4Header, Ipv6Header, Network, SeqNumber, TcpFlags,
    TcpHeader, Transport,
};

use crate::checksum::{self, Sum};
use crate::counters::Counters;
use crate::segment::SEGMENTS_MAX;

/// Most flows that are held at a time; one more hands on the oldest.
pub const FLOWS_MAX: usize = 16;

/// Ethernet with two tags, IPv6 without extension headers, TCP with options.
const TEMPLATE_LEN_MAX: usize = 22 + 40 + 60;

/// Most bytes that a flow's IP packet may take: IPv4's total length. IPv6's payload length could
/// count 40 more, but one limit for both families is what devices have.
const PACKET_LEN_MAX: usize = 65_535;

/// Why a packet cannot be merged with any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not TCP, a fragment, or a super-segment already.
    Kind,
    /// IPv4 options or IPv6 extension headers.
    Options,
    /// Its checksums are not known to be right, or not in the form in which they would be made
    /// again.
    Checksum,
    /// Control bits other than ACK, PSH, FIN, ECE and AE, or no ACK.
    Flags,
    /// No payload.
    Empty,
    /// Bytes follow the packet (link padding).
    Padded,
    /// Its headers are in several pieces or shared with other frames.
    Shape,
}

/// How IPv4 identifications go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// IPv6 has none.
    None,
    /// One packet so far, with DF or without.
    First { id: u16, dont_fragment: bool },
    /// Rising by one; the next must be this.
    Rising { next: u16 },
    /// All the same.
    Fixed { id: u16 },
}

impl Ids {
    /// What they are after `id`, or nothing when it cannot follow.
    fn after(self, id: u16) -> Option<Self> {
        match self {
            Self::None => Some(Self::None),
            Self::First { id: first, .. } if id == first.wrapping_add(1) => {
                Some(Self::Rising { next: id.wrapping_add(1) })
            }
            Self::First { id: first, dont_fragment: true } if id == first => {
                Some(Self::Fixed { id })
            }
            Self::Rising { next } if id == next => Some(Self::Rising { next: id.wrapping_add(1) }),
            Self::Fixed { id: fixed } if id == fixed => Some(self),
            Self::First { .. } | Self::Rising { .. } | Self::Fixed { .. } => None,
        }
    }
}

/// A packet that could begin or continue a flow.
struct Candidate {
    tuple: FourTuple,
    headers: Headers,
    flags: TcpFlags,
    seq: SeqNumber,
    /// IPv4 identification and DF.
    id: Option<(u16, bool)>,
    payload_len: usize,
    /// The headers with everything zeroed that may differ between merged packets.
    template: [u8; TEMPLATE_LEN_MAX],
    template_len: usize,
}

impl Candidate {
    fn new(frame: &mut Frame, headers: &Headers) -> Result<Self, Refusal> {
        let Transport::Tcp { flags, .. } = headers.transport else { return Err(Refusal::Kind) };
        let Some(tuple) = headers.four_tuple() else { return Err(Refusal::Kind) };
        if headers.fragment.is_some() || frame.meta().gso.is_some() || frame.meta().segments > 1 {
            return Err(Refusal::Kind);
        }
        if headers.has_l3_options {
            return Err(Refusal::Options);
        }
        // CWR begins a new round of ECN, or moves AccECN's counter; both want to be seen alone.
        let allowed = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::ECE | TcpFlags::AE;
        if !flags.contains(TcpFlags::ACK) || !allowed.contains(flags) {
            return Err(Refusal::Flags);
        }
        let payload_len = headers.payload_len();
        if payload_len == 0 {
            return Err(Refusal::Empty);
        }
        if frame.len() != headers.packet_end as usize {
            return Err(Refusal::Padded);
        }
        if frame.meta().csum != Csum::Valid {
            return Err(Refusal::Checksum);
        }
        let template_len = usize::from(headers.payload_offset);
        let mut template = [0; TEMPLATE_LEN_MAX];
        let (Some(bytes), Some(copy)) =
            (frame.head_mut().get(..template_len), template.get_mut(..template_len))
        else {
            return Err(Refusal::Shape);
        };
        copy.copy_from_slice(bytes);
        let (seq, id) = mask(copy, headers).ok_or(Refusal::Checksum)?;
        Ok(Self { tuple, headers: *headers, flags, seq, id, payload_len, template, template_len })
    }

    fn template(&self) -> &[u8] {
        &self.template[..self.template_len]
    }

    /// Whether a flow ends with this packet.
    fn ends_flow(&self) -> bool {
        self.flags.intersects(TcpFlags::PSH | TcpFlags::FIN)
    }
}

/// Zeroes the fields that may differ between merged packets, and returns the sequence number and
/// the IPv4 identification with DF. Nothing when a checksum is not as it would be made again.
fn mask(bytes: &mut [u8], headers: &Headers) -> Option<(SeqNumber, Option<(u16, bool)>)> {
    let (l3, l4) = (usize::from(headers.l3_offset), usize::from(headers.l4_offset));
    let mut id = None;
    if let Network::Ipv4 { .. } = headers.network {
        let as_sent = [bytes[l3 + 10], bytes[l3 + 11]];
        checksum::fill_ipv4_header(&mut bytes[l3..l4]);
        if as_sent != [bytes[l3 + 10], bytes[l3 + 11]] {
            return None;
        }
        let (ip, _) = Ipv4Header::mut_from_prefix(&mut bytes[l3..l4]).ok()?;
        id = Some((ip.id.get(), ip.dont_fragment()));
        ip.id = 0.into();
        ip.total_len = 0.into();
        ip.checksum = 0.into();
    } else {
        let (ip, _) = Ipv6Header::mut_from_prefix(&mut bytes[l3..l4]).ok()?;
        ip.payload_len = 0.into();
    }
    let (tcp, _) = TcpHeader::mut_from_prefix(&mut bytes[l4..]).ok()?;
    let seq = SeqNumber(tcp.seq.get());
    // Of the two forms of a zero, only 0x0000 is made for TCP.
    if tcp.checksum.get() == 0xffff {
        return None;
    }
    tcp.seq = 0.into();
    tcp.checksum = 0.into();
    tcp.set_flags(tcp.flags() - (TcpFlags::PSH | TcpFlags::FIN));
    Some((seq, id))
}

/// A flow that is held: its first packet, to whose frame the payload of the others was added.
#[derive(Debug)]
struct Flow {
    tuple: FourTuple,
    frame: Frame,
    headers: Headers,
    template: ArrayVec<u8, TEMPLATE_LEN_MAX>,
    next_seq: SeqNumber,
    ids: Ids,
    /// Payload bytes of each packet but the last.
    size: usize,
    payload_len: usize,
    /// PSH and FIN of the last packet.
    last_flags: TcpFlags,
    packets: u16,
}

/// Why a packet does not continue a flow, or ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Joined; more may follow.
    Joined,
    /// Joined, and nothing may follow.
    Ended,
    /// Not joined since something differs.
    Mismatch,
    /// Not joined since a limit is reached.
    Limit,
}

impl Flow {
    fn new(candidate: &Candidate, frame: Frame) -> Self {
        let template = candidate.template().iter().copied().collect();
        Self {
            tuple: candidate.tuple,
            frame,
            headers: candidate.headers,
            template,
            next_seq: candidate.seq + candidate.payload_len as u32,
            ids: match candidate.id {
                Some((id, dont_fragment)) => Ids::First { id, dont_fragment },
                None => Ids::None,
            },
            size: candidate.payload_len,
            payload_len: candidate.payload_len,
            last_flags: TcpFlags::empty(),
            packets: 1,
        }
    }

    fn join(&mut self, candidate: &Candidate, frame: &mut Frame) -> Step {
        let same_meta = {
            let (first, next) = (self.frame.meta(), frame.meta());
            (first.vlan, first.priority, first.mark) == (next.vlan, next.priority, next.mark)
                && first.hash == next.hash
        };
        if candidate.template() != &self.template[..]
            || candidate.seq != self.next_seq
            || candidate.payload_len > self.size
            || !same_meta
        {
            return Step::Mismatch;
        }
        let ids = match candidate.id {
            Some((id, _)) => self.ids.after(id),
            None => Some(Ids::None),
        };
        let Some(ids) = ids else { return Step::Mismatch };
        let headers_len = self.template.len() - usize::from(self.headers.l3_offset);
        let pieces = frame.piece_count();
        if headers_len + self.payload_len + candidate.payload_len > PACKET_LEN_MAX
            || self.frame.frags().len() + pieces > FRAGS_MAX
            || usize::from(self.packets) == SEGMENTS_MAX
        {
            return Step::Limit;
        }
        let base = &mut self.frame;
        frame.share(candidate.headers.payload_range(), |payload| {
            // There is room: a range has at most as many pieces as its frame.
            let pushed = base.push_payload(payload);
            debug_assert!(pushed.is_ok(), "pieces were counted");
        });
        self.ids = ids;
        self.next_seq += candidate.payload_len as u32;
        self.payload_len += candidate.payload_len;
        self.last_flags = candidate.flags & (TcpFlags::PSH | TcpFlags::FIN);
        self.packets += 1;
        if candidate.payload_len < self.size || candidate.ends_flow() {
            Step::Ended
        } else {
            Step::Joined
        }
    }

    /// The frame to hand on: as it came when it stayed alone, else a super-segment.
    fn finish(mut self, counters: &mut Counters) -> Frame {
        if self.packets == 1 {
            return self.frame;
        }
        counters.coalesced_sw += 1;
        counters.merged += u64::from(self.packets);
        let headers = &self.headers;
        let (l3, l4) = (usize::from(headers.l3_offset), usize::from(headers.l4_offset));
        let l4_len = self.template.len() - l4 + self.payload_len;
        let bytes = self.frame.head_mut();
        let (kind, seed) = match headers.network {
            Network::Ipv4 { src, dst } => {
                if let Ok((ip, _)) = Ipv4Header::mut_from_prefix(&mut bytes[l3..l4]) {
                    ip.total_len = ((l4 - l3 + l4_len) as u16).into();
                }
                checksum::fill_ipv4_header(&mut bytes[l3..l4]);
                let seed = Sum::pseudo_header_v4(src, dst, IpProtocol::TCP, l4_len as u16);
                (GsoKind::Tcp4, seed)
            }
            Network::Ipv6 { src, dst } => {
                if let Ok((ip, _)) = Ipv6Header::mut_from_prefix(&mut bytes[l3..l4]) {
                    ip.payload_len = (l4_len as u16).into();
                }
                let seed = Sum::pseudo_header_v6(src, dst, IpProtocol::TCP, l4_len as u32);
                (GsoKind::Tcp6, seed)
            }
            // Candidates are IP packets.
            Network::Arp | Network::Other => return self.frame,
        };
        if let Ok((tcp, _)) = TcpHeader::mut_from_prefix(&mut bytes[l4..]) {
            tcp.set_flags(tcp.flags() | self.last_flags);
            tcp.checksum = seed.folded().into();
        }
        let meta = self.frame.meta_mut();
        // As a device with GUEST_TSO would deliver it: ready to be cut again.
        meta.csum = Csum::Partial { start: l4 as u16, offset: TCP_CHECKSUM_OFFSET as u16 };
        meta.gso = Some(Gso {
            kind,
            size: self.size as u16,
            ecn: false,
            fixed_id: matches!(self.ids, Ids::Fixed { .. }),
        });
        meta.segments = self.packets;
        self.frame
    }
}

/// Holds flows while a batch passes. Keeps the order of each flow's packets; packets of different
/// flows may change places.
#[derive(Debug, Default)]
pub struct Coalescer {
    /// Oldest first.
    flows: ArrayVec<Flow, FLOWS_MAX>,
}

impl Coalescer {
    /// Holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next received frame; what is complete goes to `out`. `headers` must be the frame's
    /// own. Frames whose metadata does not say [`Csum::Valid`] are never merged.
    ///
    /// # Errors
    /// Not an error of the caller's: why the packet was handed on by itself. Its flow, if it was
    /// held, has been handed on before it.
    pub fn push(
        &mut self,
        mut frame: Frame,
        headers: &Headers,
        out: &mut Batch,
        counters: &mut Counters,
    ) -> Result<(), Refusal> {
        let candidate = match Candidate::new(&mut frame, headers) {
            Ok(candidate) => candidate,
            Err(refusal) => {
                self.hand_on_flow_of(headers, out, counters);
                out.push_back(frame);
                return Err(refusal);
            }
        };
        if let Some(at) = self.flows.iter().position(|flow| flow.tuple == candidate.tuple) {
            let step = self.flows[at].join(&candidate, &mut frame);
            match step {
                Step::Joined => return Ok(()),
                Step::Ended => counters.flushes.complete += 1,
                Step::Mismatch => counters.flushes.mismatch += 1,
                Step::Limit => counters.flushes.limit += 1,
            }
            out.push_back(self.flows.remove(at).finish(counters));
            if step == Step::Ended {
                return Ok(());
            }
        }
        // Nothing can follow what ends a flow.
        if candidate.ends_flow() {
            out.push_back(frame);
            return Ok(());
        }
        if self.flows.is_full() {
            counters.flushes.evicted += 1;
            out.push_back(self.flows.remove(0).finish(counters));
        }
        self.flows.push(Flow::new(&candidate, frame));
        Ok(())
    }

    /// Hands on the flow that this packet belongs to, so that the packet can follow it.
    pub(crate) fn hand_on_flow_of(
        &mut self,
        headers: &Headers,
        out: &mut Batch,
        counters: &mut Counters,
    ) {
        if self.flows.is_empty() {
            return;
        }
        if let Some(tuple) = headers.four_tuple()
            && let Some(at) = self.flows.iter().position(|flow| flow.tuple == tuple)
        {
            counters.flushes.mismatch += 1;
            out.push_back(self.flows.remove(at).finish(counters));
        }
    }

    /// Hands on everything: the batch ended.
    pub fn flush(&mut self, out: &mut Batch, counters: &mut Counters) {
        for flow in self.flows.drain(..) {
            counters.flushes.batch_end += 1;
            out.push_back(flow.finish(counters));
        }
    }

    /// Flows that are held.
    pub fn held(&self) -> usize {
        self.flows.len()
    }
}
