//! The one place, just above the device, where software does what the device will not or did not.

use tandem_device::{Batch, Caps, Csum, Frame, Pool};
use tandem_packet::vlan::VLAN_TAG_LEN;
use tandem_packet::{EtherType, Headers, Network};

use crate::checksum::{self, CompleteError, Verdict};
use crate::coalesce::Coalescer;
use crate::counters::Counters;
use crate::plan::{Plan, Who};
use crate::segment::{HEADERS_LEN_MAX, SegmentError, SegmentSum, segment};

/// Offloading for one queue of one device: a plan, a pool for segments' heads, and counters.
#[derive(Debug)]
pub struct Offload {
    plan: Plan,
    pool: Pool,
    coalescer: Coalescer,
    counters: Counters,
    /// Segments on their way through checks; kept so that it is not allocated each time.
    cut: Batch,
}

impl Offload {
    /// Segments' heads, and copies where a device takes few pieces, come from `pool`. Its buffers
    /// should hold the headers at least ([`HEADERS_LEN_MAX`] bytes and the device's headroom).
    pub fn new(plan: Plan, pool: Pool) -> Self {
        Self {
            plan,
            pool,
            coalescer: Coalescer::new(),
            counters: Counters::default(),
            cut: Batch::new(),
        }
    }

    /// Who does what.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Makes the plan anew for changed capabilities or another device. Frames built for the old
    /// one stay good.
    pub fn set_caps(&mut self, caps: Caps) {
        self.plan = self.plan.with_caps(caps);
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Makes one outgoing frame into what the device takes, and appends that to `out`: the frame
    /// itself where the device does all it asks for, else with its checksum completed, or its
    /// segments. A frame that cannot be sent is dropped and counted ([`crate::Drops`]).
    pub fn transmit(&mut self, mut frame: Frame, out: &mut Batch) {
        if frame.meta().vlan.is_some() && self.plan.tx.vlan != Who::Hardware {
            match insert_tag(frame, &self.pool) {
                Some(tagged) => frame = tagged,
                None => {
                    self.counters.drops.no_buffer += 1;
                    return;
                }
            }
            self.counters.vlan_sw += 1;
        }
        let Some(gso) = frame.meta().gso else {
            self.transmit_single(frame, out);
            return;
        };
        if frame.meta().header_len == 0 {
            // What does not parse keeps the zero and is refused by `segment`.
            let header_len = self.walk(&frame).map_or(0, |headers| headers.payload_offset);
            frame.meta_mut().header_len = header_len;
        }
        let header_len = usize::from(frame.meta().header_len);
        let payload_len = frame.len().saturating_sub(header_len);
        let segments = payload_len.div_ceil(usize::from(gso.size.max(1)));
        if header_len > 0 && segments <= 1 {
            frame.meta_mut().gso = None;
            self.transmit_single(frame, out);
            return;
        }
        if header_len > 0
            && matches!(frame.meta().csum, Csum::Partial { .. })
            && self.plan.device_cuts(&gso, frame.len(), segments)
            && header_len + usize::from(gso.size) <= self.plan.caps().frame_len_max as usize
        {
            if let Some(frame) = self.fit_pieces(frame) {
                self.counters.supers_hw += 1;
                self.counters.tx_csum_hw += 1;
                out.push_back(frame);
            }
            return;
        }
        let sum = match self.plan.tx.csum {
            Who::Software => SegmentSum::Complete,
            Who::Hardware | Who::NotNeeded => SegmentSum::Partial,
        };
        let mut cut = std::mem::take(&mut self.cut);
        match segment(&mut frame, &self.pool, sum, &mut cut) {
            Ok(segments) => {
                self.counters.supers_sw += 1;
                self.counters.segments += segments as u64;
                if sum == SegmentSum::Complete {
                    self.counters.tx_csum_sw += segments as u64;
                }
            }
            Err(SegmentError::Frame(_)) => self.counters.drops.no_buffer += 1,
            Err(_) => self.counters.drops.not_segmentable += 1,
        }
        for segment in cut.drain(..) {
            self.transmit_single(segment, out);
        }
        self.cut = cut;
    }

    /// A frame that needs no cutting.
    fn transmit_single(&mut self, mut frame: Frame, out: &mut Batch) {
        if frame.len() > self.plan.caps().frame_len_max as usize {
            self.counters.drops.too_long += 1;
            return;
        }
        if let Csum::Partial { start, offset } = frame.meta().csum {
            let field_end = usize::from(start) + usize::from(offset) + 2;
            if field_end > frame.len() {
                self.counters.drops.bad_request += 1;
                return;
            }
            match self.plan.tx.csum {
                Who::Hardware => self.counters.tx_csum_hw += 1,
                Who::NotNeeded => {}
                Who::Software => match self.complete(frame, field_end) {
                    Some(completed) => frame = completed,
                    None => return,
                },
            }
        }
        if let Some(frame) = self.fit_pieces(frame) {
            out.push_back(frame);
        }
    }

    /// Completes a checksum, in a copy of the headers if the frame's own are shared.
    fn complete(&mut self, mut frame: Frame, field_end: usize) -> Option<Frame> {
        match checksum::complete(&mut frame) {
            Ok(()) => {}
            Err(CompleteError::Shared) => {
                let header_len = field_end.max(usize::from(frame.meta().header_len));
                let clone = frame.try_clone(&self.pool, header_len.min(frame.len()));
                let Ok(mut clone) = clone else {
                    self.counters.drops.no_buffer += 1;
                    return None;
                };
                if checksum::complete(&mut clone).is_err() {
                    self.counters.drops.bad_request += 1;
                    return None;
                }
                frame = clone;
            }
            Err(CompleteError::OutOfFrame { .. }) => {
                self.counters.drops.bad_request += 1;
                return None;
            }
        }
        self.counters.tx_csum_sw += 1;
        Some(frame)
    }

    /// The frame in no more pieces than the device takes: itself, or a copy in one piece.
    fn fit_pieces(&mut self, frame: Frame) -> Option<Frame> {
        if frame.piece_count() <= usize::from(self.plan.caps().pieces_max) {
            return Some(frame);
        }
        let Ok(mut copy) = self.pool.alloc() else {
            self.counters.drops.no_buffer += 1;
            return None;
        };
        let Ok(out) = copy.push_back(frame.len()) else {
            self.counters.drops.too_long += 1;
            return None;
        };
        frame.copy_to(0, out);
        *copy.meta_mut() = *frame.meta();
        self.counters.linearized += 1;
        Some(copy)
    }

    /// Takes a received batch and appends to `out` what the stack is to see: bad transport checksums
    /// dropped and counted, good ones marked [`Csum::Valid`], flows coalesced, offsets of headers
    /// filled in. The batch is empty afterwards, and nothing is held back.
    ///
    /// What is left [`Csum::None`] was not judged: fragments, other protocols, frames that do not
    /// parse, and everything when the policy says so. The IPv4 header's checksum is IP's to check.
    pub fn receive(&mut self, batch: &mut Batch, out: &mut Batch) {
        for frame in batch.drain(..) {
            self.receive_one(frame, out);
        }
        self.coalescer.flush(out, &mut self.counters);
    }

    fn receive_one(&mut self, mut frame: Frame, out: &mut Batch) {
        let Ok(headers) = self.walk(&frame) else {
            out.push_back(frame);
            return;
        };
        let meta = frame.meta_mut();
        meta.network_offset = headers.l3_offset;
        meta.transport_offset = headers.l4_offset;
        meta.header_len = headers.payload_offset;
        if meta.gso.is_some() || meta.segments > 1 {
            self.counters.coalesced_hw += 1;
            self.counters.rx_csum_hw += 1;
            self.coalescer.hand_on_flow_of(&headers, out, &mut self.counters);
            out.push_back(frame);
            return;
        }
        match meta.csum {
            Csum::Valid | Csum::Partial { .. } => self.counters.rx_csum_hw += 1,
            Csum::None if self.plan.rx.csum == Who::NotNeeded => {}
            Csum::None => match checksum::verify(&frame, &headers) {
                Verdict::Valid | Verdict::Absent => {
                    self.counters.rx_csum_sw += 1;
                    frame.meta_mut().csum = Csum::Valid;
                }
                Verdict::Bad => {
                    self.counters.rx_csum_sw += 1;
                    self.counters.drops.bad_checksum += 1;
                    return;
                }
                Verdict::NotApplicable => {}
            },
        }
        let gro = match headers.network {
            Network::Ipv4 { .. } => self.plan.rx.gro4,
            Network::Ipv6 { .. } => self.plan.rx.gro6,
            Network::Arp | Network::Other => Who::NotNeeded,
        };
        if gro == Who::Software {
            // Why it was not merged is in the flush counters where a flow was concerned.
            let _ = self.coalescer.push(frame, &headers, out, &mut self.counters);
        } else {
            out.push_back(frame);
        }
    }

    /// Parses the headers; from a copy where the device could still change them, or where they are
    /// in several pieces.
    fn walk(&self, frame: &Frame) -> tandem_packet::Result<Headers> {
        let head = frame.head();
        if self.plan.caps().trusted && (head.len() >= HEADERS_LEN_MAX || frame.frags().is_empty()) {
            return Headers::parse_split(head, frame.len());
        }
        let mut bytes = [0; HEADERS_LEN_MAX];
        let have = frame.copy_to(0, &mut bytes);
        Headers::parse_split(&bytes[..have], frame.len())
    }
}

/// Puts the tag that travels beside the frame into it; nothing when there is no buffer for that.
fn insert_tag(mut frame: Frame, pool: &Pool) -> Option<Frame> {
    const MACS_LEN: usize = 12;
    let tci = frame.meta().vlan?;
    if frame.headroom() < VLAN_TAG_LEN || frame.head_mut().len() < MACS_LEN {
        // A head of its own, with the pool's headroom; its headers by the request, or as many bytes
        // as any headers take.
        let wanted = match usize::from(frame.meta().header_len) {
            0 => HEADERS_LEN_MAX,
            len => len,
        };
        let header_len = wanted.max(MACS_LEN).min(frame.len());
        frame = frame.try_clone(pool, header_len).ok()?;
    }
    if frame.head().len() < MACS_LEN {
        return None;
    }
    frame.push_front(VLAN_TAG_LEN).ok()?;
    let head = frame.head_mut();
    head.copy_within(VLAN_TAG_LEN..VLAN_TAG_LEN + MACS_LEN, 0);
    head[MACS_LEN..MACS_LEN + 2].copy_from_slice(&EtherType::VLAN.0.to_be_bytes());
    head[MACS_LEN + 2..MACS_LEN + 4].copy_from_slice(&tci.to_be_bytes());
    let meta = frame.meta_mut();
    let tag = VLAN_TAG_LEN as u16;
    meta.vlan = None;
    for offset in [&mut meta.header_len, &mut meta.network_offset, &mut meta.transport_offset] {
        // Zero means not known.
        if *offset > 0 {
            *offset += tag;
        }
    }
    if let Csum::Partial { start, offset } = meta.csum {
        meta.csum = Csum::Partial { start: start.saturating_add(tag), offset };
    }
    Some(frame)
}
