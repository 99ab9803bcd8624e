//! What an arriving segment does (RFC 9293 section 3.10.7), step by step in the RFC's order.

use tandem_device::Frame;
use tandem_packet::{SeqNumber, TcpFlags};

use super::config::DUPLICATE_ACKS_OWED_MAX;
use super::receive_buffer::Refused;
use super::state::Event;
use super::{
    Changes, Connection, ConnectionError, ResetOwed, Segment, State, SynInfo, TimeWaitVerdict,
    listen,
};
use crate::time::Instant;

/// The text of a segment on its way into the buffer.
struct Text {
    seq: SeqNumber,
    frame: Option<Frame>,
    fin: bool,
    /// Something was cut off: the peer is to be told at once where we stand.
    cut: bool,
    wire_segments: u16,
}

impl Text {
    fn len(&self) -> u32 {
        self.frame.as_ref().map_or(0, Frame::len) as u32
    }

    fn end(&self) -> SeqNumber {
        self.seq + self.len()
    }

    fn truncate(&mut self, len: u32) {
        if let Some(frame) = &mut self.frame {
            frame.truncate(len as usize);
        }
    }
}

impl Connection {
    /// Takes a segment whose checksum was verified. `payload` holds its payload and nothing else (headers and
    /// padding trimmed off, `segment.len` bytes in all); it is kept, not copied.
    ///
    /// Afterwards there may be something to send: see [`Self::output`].
    pub fn input(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        payload: Option<Frame>,
    ) -> Changes {
        self.stats.segments_in += u64::from(segment.wire_segments.max(1));
        let payload = payload.filter(|frame| !frame.is_empty());
        // What is really there counts, whatever the caller says.
        let segment = &Segment {
            len: payload.as_ref().map_or(0, Frame::len) as u32,
            wire_segments: segment.wire_segments.max(1),
            ..*segment
        };
        match self.state {
            State::Closed => {
                self.input_closed(segment);
                Changes::empty()
            }
            State::SynSent => self.input_syn_sent(now, segment, payload),
            State::TimeWait => self.input_time_wait(now, segment),
            _ => self.input_synchronized(now, segment, payload),
        }
    }

    /// RFC 9293 section 3.10.7.1.
    fn input_closed(&mut self, segment: &Segment<'_>) {
        if let Some(reset) = listen::reset_for(segment) {
            let ack = reset.flags.contains(TcpFlags::ACK).then_some(reset.ack);
            self.reset_owed.get_or_insert(ResetOwed { seq: reset.seq, ack });
        }
    }

    fn input_time_wait(&mut self, now: Instant, segment: &Segment<'_>) -> Changes {
        let Some(mut entry) = self.time_wait() else { return Changes::empty() };
        match entry.input(now, segment) {
            TimeWaitVerdict::Drop => {}
            TimeWaitVerdict::Reply(_) => {
                self.timers.linger = Some(entry.expires);
                self.owe_ack();
            }
            // Only the owner, who knows the listeners, can reopen: it asks the entry itself. Whoever leaves
            // it to the connection gets the answer of RFC 5961 section 4.
            TimeWaitVerdict::Reopen { .. } => self.challenge(now),
        }
        Changes::empty()
    }

    /// RFC 9293 section 3.10.7.3.
    fn input_syn_sent(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        payload: Option<Frame>,
    ) -> Changes {
        let ack = segment.repr.ack;
        let has_ack = segment.has(TcpFlags::ACK);
        // First, check the ACK bit: SEG.ACK =< ISS or SEG.ACK > SND.NXT is answered by a reset.
        if has_ack && !(ack.gt(self.snd.una) && ack.le(self.snd.max)) {
            if !segment.has(TcpFlags::RST) {
                self.reset_owed = Some(ResetOwed { seq: ack, ack: None });
            }
            self.stats.bad_acks += 1;
            return Changes::empty();
        }
        // Second, check the RST bit: believed only with an acceptable ACK.
        if segment.has(TcpFlags::RST) {
            if !has_ack {
                return Changes::empty();
            }
            self.stats.resets_in += 1;
            return self.fail(now, ConnectionError::Refused);
        }
        // Fourth, check the SYN bit (third, security, is not supported).
        if !segment.has(TcpFlags::SYN) {
            return Changes::empty();
        }
        // What our SYN offered, unscaled, is our window so far.
        let offered = self.receive_limit().min(0xffff);
        self.take_peer_syn(now, &SynInfo::new(segment.repr));
        self.rcv.edge = self.rcv.nxt + offered;
        if !has_ack {
            // Simultaneous open: SYN-RECEIVED, and <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>. Text would be
            // queued; it is dropped instead and comes again.
            self.snd.nxt = self.snd.iss;
            self.timers.retransmit = None;
            return self.advance(now, Event::Syn);
        }
        let mut changes = self.acknowledge_new(now, ack, segment);
        self.set_window(u32::from(segment.repr.window), self.rcv.irs, ack);
        changes |= self.advance(now, Event::SynAck);
        self.owe_ack();
        // If there are other controls or text, go on at the sixth step.
        let text = Text {
            seq: self.rcv.nxt,
            frame: payload,
            fin: segment.has(TcpFlags::FIN),
            cut: false,
            wire_segments: segment.wire_segments,
        };
        changes | self.input_text(now, text)
    }

    /// What a SYN of the peer fixes, with and without an acknowledgement.
    pub(super) fn take_peer_syn(&mut self, now: Instant, syn: &SynInfo) {
        self.rcv.irs = syn.irs;
        self.rcv.nxt = syn.irs + 1;
        self.rcv.edge = self.rcv.nxt;
        self.rcv.last_ack_sent = self.rcv.nxt;
        if self.agreed.peer_syn(now, &syn.options, &self.path) {
            self.stats.mss_clamped += 1;
        }
        // RFC 7323 section 2.2: the window of a SYN is never scaled.
        self.set_window(u32::from(syn.window), syn.irs, self.snd.iss);
    }

    /// RFC 9293 section 3.10.7.4.
    fn input_synchronized(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        payload: Option<Frame>,
    ) -> Changes {
        if segment.has(TcpFlags::RST) {
            return self.input_reset(now, segment);
        }
        let mut seq = segment.seq();
        let mut sequence_len = segment.sequence_len();
        if segment.has(TcpFlags::SYN) {
            let both_open = self.state == State::SynReceived
                && seq == self.rcv.irs
                && segment.has(TcpFlags::ACK);
            if !both_open {
                return self.input_unexpected_syn(now, segment);
            }
            // The SYN of a simultaneous open, again, now with an ACK (figure 8): the rest counts.
            seq += 1;
            sequence_len -= 1;
        }
        // RFC 7323 section 5.3, R1, before the sequence number is looked at.
        if self.agreed.timestamps {
            match segment.repr.options.timestamps {
                Some(stamps) if self.agreed.is_old(now, stamps.value) => {
                    self.stats.paws_drops += 1;
                    self.answer_unacceptable(now, sequence_len);
                    return Changes::empty();
                }
                Some(_) => {}
                None => {
                    // RFC 7323 section 3.2: silently drop a segment without the option once agreed.
                    self.stats.missing_timestamps += 1;
                    return Changes::empty();
                }
            }
        }
        // First, check the sequence number.
        let Some(whole) = self.is_acceptable(seq, sequence_len, segment.len) else {
            self.stats.unacceptable += 1;
            if seq.lt(self.rcv.nxt) {
                self.stats.duplicate_bytes_in += u64::from(segment.len);
            }
            self.answer_unacceptable(now, sequence_len);
            return Changes::empty();
        };
        // RFC 7323 section 4.3 (2): TS.Recent follows what the last acknowledgement covered.
        if let Some(stamps) = segment.repr.options.timestamps
            && self.agreed.timestamps
            && seq.le(self.rcv.last_ack_sent)
        {
            self.agreed.remember(now, stamps.value);
        }
        // Fifth, check the ACK field: without one the segment is dropped.
        if !segment.has(TcpFlags::ACK) {
            return Changes::empty();
        }
        let Some(changes) = self.acknowledge(now, segment, seq) else { return Changes::empty() };
        // Sixth, the URG bit: urgent data is delivered in line.
        if !whole {
            // A zero window takes no text, but acknowledgements (section 3.10.7.4, first check).
            self.answer_unacceptable(now, sequence_len);
            return changes;
        }
        let text = Text {
            seq,
            frame: payload,
            fin: segment.has(TcpFlags::FIN),
            cut: false,
            wire_segments: segment.wire_segments,
        };
        changes | self.input_text(now, text)
    }

    /// The four cases of RFC 9293 section 3.4. `None`: unacceptable. `Some(false)`: only its
    /// acknowledgement is, since the window is zero.
    fn is_acceptable(&self, seq: SeqNumber, sequence_len: u32, len: u32) -> Option<bool> {
        let window = self.receive_window();
        let edge = self.rcv.nxt + window;
        if sequence_len == 0 {
            // A little wider than RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND, as everywhere: what was overtaken by
            // data that we did not acknowledge yet, and the edge itself, where the pure acknowledgements of
            // a peer stand that filled our window.
            return (seq.ge(self.rcv.last_ack_sent) && seq.le(edge)).then_some(true);
        }
        if window == 0 {
            // A FIN takes no room, so that it need not wait for any.
            return (seq == self.rcv.nxt).then_some(len == 0);
        }
        (seq.lt(edge) && (seq + sequence_len).gt(self.rcv.nxt)).then_some(true)
    }

    /// <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>. Segments without text are answered within a limit, since two
    /// confused ends could go on answering each other.
    fn answer_unacceptable(&mut self, now: Instant, sequence_len: u32) {
        if sequence_len > 0 { self.owe_ack() } else { self.challenge(now) }
    }

    /// Second, check the RST bit (RFC 5961 section 3.2).
    fn input_reset(&mut self, now: Instant, segment: &Segment<'_>) -> Changes {
        let seq = segment.seq();
        // 1) Outside the window: silently drop.
        if seq != self.rcv.nxt && !seq.is_within(self.rcv.nxt, self.receive_window()) {
            self.stats.unacceptable += 1;
            return Changes::empty();
        }
        // 3) In the window and not exactly the next number: challenge.
        if seq != self.rcv.nxt {
            self.challenge(now);
            return Changes::empty();
        }
        // 2) Exactly the next number: reset.
        self.stats.resets_in += 1;
        match self.state {
            // A passive open returns to LISTEN: the owner drops the connection, nobody is told.
            State::SynReceived if self.passive => self.advance(now, Event::End),
            State::SynReceived => self.fail(now, ConnectionError::Refused),
            // CLOSING, LAST-ACK: everything was read and sent; closed, and no error.
            State::Closing | State::LastAck => self.advance(now, Event::End),
            _ => self.fail(now, ConnectionError::Reset),
        }
    }

    /// Fourth, check the SYN bit.
    fn input_unexpected_syn(&mut self, now: Instant, segment: &Segment<'_>) -> Changes {
        if self.state != State::SynReceived {
            // RFC 5961 section 4.2: whatever its number, a challenge acknowledgement.
            self.challenge(now);
            return Changes::empty();
        }
        if segment.seq() == self.rcv.irs {
            // The peer's SYN again: our SYN-ACK was lost, or is late.
            if self.may_challenge(now) {
                self.snd.nxt = self.snd.iss;
            }
            return Changes::empty();
        }
        // SYN-RECEIVED and a SYN in the window: a passive open returns to LISTEN, an active one is
        // answered like a synchronized state.
        if self.passive && segment.seq().is_within(self.rcv.nxt, self.receive_window()) {
            return self.advance(now, Event::End);
        }
        self.challenge(now);
        Changes::empty()
    }

    /// Seventh, process the segment text; eighth, check the FIN bit.
    fn input_text(&mut self, now: Instant, mut text: Text) -> Changes {
        if text.len() == 0 && !text.fin {
            return Changes::empty();
        }
        // CLOSE-WAIT, CLOSING, LAST-ACK: a FIN was received, nothing can follow. Ignore.
        if !self.state.receives() {
            return Changes::empty();
        }
        if !self.trim(&mut text) {
            self.owe_ack();
            return Changes::empty();
        }
        // RFC 9293 section 3.6.1 (RFC 1122 section 4.2.2.13): nobody will read it, so the peer is told.
        if self.closed_by_owner && text.len() > 0 {
            return self.abort(now);
        }
        if text.fin {
            self.rcv.fin = Some(text.end());
            self.receive.drop_strays_from(text.end());
        }
        let mut changes = Changes::empty();
        let in_order = text.seq == self.rcv.nxt;
        match text.frame.take() {
            Some(frame) if in_order => {
                changes |= self.take_in_order(now, frame, text.wire_segments);
                if text.cut {
                    self.owe_ack();
                }
            }
            Some(frame) => self.keep_for_later(text.seq, frame, text.wire_segments),
            None if !in_order => self.owe_duplicate_acks(1),
            None => {}
        }
        if self.rcv.fin == Some(self.rcv.nxt) {
            // Advance RCV.NXT over the FIN, and send an acknowledgment for it.
            self.rcv.nxt += 1;
            self.receive.drop_strays();
            self.acks_owed = 0;
            self.owe_ack();
            changes |= self.advance(now, Event::Fin) | Changes::READABLE;
        }
        changes
    }

    /// Cuts off what is not new or beyond the window. False when nothing is left.
    fn trim(&mut self, text: &mut Text) -> bool {
        // Segments with higher beginning sequence numbers may be held; what lies before RCV.NXT is cut.
        let old = self.rcv.nxt.distance_from(text.seq);
        if old > 0 {
            let old = (old as u32).min(text.len());
            self.stats.duplicate_bytes_in += u64::from(old);
            if let Some(frame) = &mut text.frame {
                frame.trim_front(old as usize);
            }
            text.seq = self.rcv.nxt;
            // A part was a retransmission: the peer may not have our acknowledgement.
            text.cut = true;
        }
        let room = self.rcv.edge.distance_from(text.seq).max(0) as u32;
        if text.len() > room {
            text.truncate(room);
            text.fin = false;
            text.cut = true;
        }
        if let Some(fin) = self.rcv.fin {
            // Nothing follows a FIN; a second FIN elsewhere is a fault of the peer.
            text.truncate(fin.distance_from(text.seq).max(0) as u32);
            text.fin = false;
        }
        text.frame = text.frame.take().filter(|frame| !frame.is_empty());
        text.frame.is_some() || text.fin
    }

    fn take_in_order(&mut self, now: Instant, frame: Frame, wire_segments: u16) -> Changes {
        let len = frame.len() as u32;
        self.rcv.mss = self
            .rcv
            .mss
            .max(len.div_ceil(u32::from(wire_segments)))
            .min(u32::from(self.path.mss()).max(1));
        let had_gap = self.receive.has_strays();
        let Ok(taken) = self.receive.push(self.rcv.nxt, frame) else {
            self.stats.receive_memory_drops += 1;
            self.owe_ack();
            return Changes::empty();
        };
        self.rcv.nxt += taken as u32;
        self.rcv.unacked = self.rcv.unacked.saturating_add(taken as u32);
        self.stats.bytes_in += taken as u64;
        // Duplicates owed for what was missing are out of date.
        self.acks_owed = self.acks_owed.min(1);
        // RFC 9293 section 3.8.6.3, SHLD-19: an ACK for at least every second full-sized segment; RFC 5681
        // section 4.2: at once when it fills all or part of a gap.
        if had_gap || self.rcv.unacked >= 2 * self.rcv.mss || self.config.delayed_ack.is_zero() {
            self.owe_ack();
        } else {
            self.timers.delayed_ack.get_or_insert(now + self.config.delayed_ack());
        }
        Changes::READABLE
    }

    fn keep_for_later(&mut self, seq: SeqNumber, frame: Frame, wire_segments: u16) {
        match self.receive.insert(seq, frame) {
            Ok(()) => self.stats.out_of_order += 1,
            Err(Refused::Duplicate) => {}
            Err(Refused::TooMany) => self.stats.out_of_order_drops += 1,
            Err(Refused::Memory) => self.stats.receive_memory_drops += 1,
        }
        // RFC 5681 section 4.2: an immediate duplicate ACK for each segment out of order. A coalesced one
        // stands for several; three tell the peer all there is to tell.
        self.owe_duplicate_acks(wire_segments.min(3));
    }

    pub(super) fn owe_ack(&mut self) {
        self.acks_owed = self.acks_owed.max(1);
    }

    fn owe_duplicate_acks(&mut self, count: u16) {
        let owed = self.acks_owed.saturating_add(count);
        self.acks_owed = owed.min(DUPLICATE_ACKS_OWED_MAX);
        self.stats.duplicate_acks_suppressed += u32::from(owed - self.acks_owed);
    }

    /// Owes a challenge acknowledgement, if the limit allows (RFC 5961 section 7).
    pub(super) fn challenge(&mut self, now: Instant) {
        if self.may_challenge(now) {
            self.owe_ack();
        }
    }

    fn may_challenge(&mut self, now: Instant) -> bool {
        self.stats.challenge_acks += 1;
        if now.since(self.challenge.since).as_secs() >= 1 {
            self.challenge = super::RateLimit { since: now, count: 0 };
        }
        if self.challenge.count >= self.config.challenge_acks_per_second {
            self.stats.challenge_acks_suppressed += 1;
            return false;
        }
        self.challenge.count += 1;
        true
    }
}
