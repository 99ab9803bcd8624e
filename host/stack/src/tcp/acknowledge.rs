//! What an acknowledgement does (RFC 9293 section 3.10.7.4, fifth check; RFC 5681; RFC 6582; RFC 6298).

use core::time::Duration;

use tandem_packet::{SeqNumber, TcpFlags};

use super::recovery::{OnAck, OnDuplicate};
use super::state::Event;
use super::{Changes, Connection, ResetOwed, Segment, State};
use crate::time::Instant;

impl Connection {
    /// Fifth, check the ACK field. `None`: the segment is to be dropped. `seq` is the segment's, behind a SYN.
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        seq: SeqNumber,
    ) -> Option<Changes> {
        let ack = segment.repr.ack;
        let window = u32::from(segment.repr.window) << self.agreed.scale_peer;
        if self.state == State::SynReceived {
            // SND.UNA < SEG.ACK =< SND.NXT, or <SEQ=SEG.ACK><CTL=RST>.
            if !(ack.gt(self.snd.una) && ack.le(self.snd.max)) {
                self.stats.bad_acks += 1;
                self.reset_owed = Some(ResetOwed { seq: ack, ack: None });
                return None;
            }
            let changes = self.acknowledge_new(now, ack, segment);
            self.set_window(window, seq, ack);
            return Some(changes | self.advance(now, Event::AckOfSyn));
        }
        // It acknowledges something not yet sent: send an ACK, drop the segment.
        if ack.gt(self.snd.max) {
            self.stats.bad_acks += 1;
            self.challenge(now);
            return None;
        }
        // RFC 5961 section 5.2: older than SND.UNA - MAX.SND.WND is no acknowledgement of ours.
        if ack.lt(self.snd.una - self.snd.wnd_max) {
            self.stats.bad_acks += 1;
            self.challenge(now);
            return None;
        }
        if ack.lt(self.snd.una) {
            // A duplicate, to be ignored; its text counts.
            return Some(Changes::empty());
        }
        let una_before = self.snd.una;
        let changes = if ack == self.snd.una {
            self.acknowledge_again(now, segment, window);
            Changes::empty()
        } else {
            self.acknowledge_new(now, ack, segment)
        };
        // If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)) set SND.WND. A segment that
        // acknowledges something new does so too, even as a retransmission with an old SEG.SEQ: its window is
        // the newest, and the old one, counted from the new SND.UNA, would reach beyond what was offered.
        let is_new = ack.gt(una_before);
        if is_new || self.snd.wl1.lt(seq) || (self.snd.wl1 == seq && self.snd.wl2.le(ack)) {
            self.set_window(window, seq, ack);
        }
        let fin_acked = self.fin_is_acked();
        Some(if fin_acked { changes | self.advance(now, Event::AckOfFin) } else { changes })
    }

    pub(super) fn set_window(&mut self, window: u32, seq: SeqNumber, ack: SeqNumber) {
        if window > self.snd.wnd {
            // It opens: what persists can be sent.
            self.timers.persist = None;
            self.probe_owed = false;
        }
        if window > 0 {
            self.persist_backoff = 0;
        }
        self.snd.wnd = window;
        self.snd.wnd_max = self.snd.wnd_max.max(window);
        self.snd.wl1 = seq;
        self.snd.wl2 = ack;
    }

    /// SEG.ACK = SND.UNA.
    fn acknowledge_again(&mut self, now: Instant, segment: &Segment<'_>, window: u32) {
        if self.flight() == 0 {
            // RFC 9293 section 3.8.6.1, MUST-37: a peer that answers probes may keep its window shut. Not
            // when nobody is left here to give up: such connections would be the peer's to pile up.
            if !self.closed_by_owner {
                self.unanswered_since = None;
            }
            return;
        }
        // RFC 5681 section 2: a duplicate acknowledgement has no text, no SYN or FIN, and the same window.
        let is_duplicate = segment.sequence_len() == 0 && window == self.snd.wnd;
        if !is_duplicate {
            return;
        }
        self.stats.duplicate_acks_in += 1;
        let mss = u32::from(self.mss());
        match self.recovery.duplicate(self.snd.una, self.snd.max) {
            OnDuplicate::Wait => {}
            OnDuplicate::Enter => {
                self.stats.fast_retransmits += 1;
                // RFC 5681 section 3.2 (2): what limited transmit sent beyond cwnd does not count.
                let flight = self.flight().min(self.congestion.cwnd());
                self.congestion.enter_recovery(flight, mss);
                self.retransmit_owed = true;
                self.timers.retransmit = Some(now + self.rtt.rto());
            }
            OnDuplicate::Inflate => self.congestion.inflate(mss),
        }
    }

    /// SND.UNA < SEG.ACK =< SND.NXT.
    pub(super) fn acknowledge_new(
        &mut self,
        now: Instant,
        ack: SeqNumber,
        segment: &Segment<'_>,
    ) -> Changes {
        let flight = self.flight();
        self.sample_rtt(now, ack, segment);
        self.snd.una = ack;
        self.snd.nxt = self.snd.nxt.max(ack);
        // Comparisons on the circle hold for what is near.
        self.snd.small_end = self.snd.small_end.max(ack);
        let freed = self.send.acknowledge(ack) as u32;
        let mss = u32::from(self.mss());
        let verdict = self.recovery.acknowledged(ack);
        self.retransmit_owed = false;
        match verdict {
            OnAck::Ordinary if freed > 0 => self.congestion.acknowledged(freed, flight, mss),
            OnAck::Ordinary => {}
            OnAck::Partial { .. } => {
                self.congestion.deflate(freed, mss);
                self.retransmit_owed = true;
            }
            OnAck::Full => self.congestion.leave_recovery(self.flight(), mss),
        }
        self.recovery.follow(ack);
        // A probe was taken: if more is to be probed the timer begins afresh.
        self.persist_backoff = 0;
        self.timers.persist = None;
        self.probe_owed = false;
        if ack == self.snd.max {
            // RFC 6298 (5.2): all outstanding data was acknowledged.
            self.timers.retransmit = None;
            self.unanswered_since = None;
        } else {
            self.unanswered_since = Some(now);
            // RFC 6298 (5.3): new data was acknowledged; restart. In recovery RFC 6582 section 3.2, step 3.
            if self.timers.retransmit.is_some() && verdict != (OnAck::Partial { restart: false }) {
                self.timers.retransmit = Some(now + self.rtt.rto());
            }
        }
        self.writable_again(freed) | self.completed()
    }

    /// Wakes a blocked writer when there is a worthwhile amount of room.
    fn writable_again(&mut self, freed: u32) -> Changes {
        if freed == 0 || !self.write_blocked {
            return Changes::empty();
        }
        if self.send_room() < self.config.send_limit() / 4 {
            return Changes::empty();
        }
        self.write_blocked = false;
        Changes::WRITABLE
    }

    fn sample_rtt(&mut self, now: Instant, ack: SeqNumber, segment: &Segment<'_>) {
        if let Some(timed) = self.timed {
            // Karn: `timed` is forgotten when anything is retransmitted, so that this is unambiguous.
            if ack.ge(timed.end) {
                self.timed = None;
                self.stats.rtt_samples += 1;
                self.rtt.sample(now.since(timed.at));
            }
            return;
        }
        // RFC 7323 section 4: a timestamp says which copy arrived. Its clock is coarse, so it only serves
        // while nothing can be timed: after retransmissions.
        let echo = segment.repr.options.timestamps.map(|stamps| stamps.echo);
        if self.agreed.timestamps
            && segment.has(TcpFlags::ACK)
            && let Some(echo) = echo
            && let Some(rtt_ms) = self.agreed.echoed_rtt_ms(now, echo)
        {
            self.stats.rtt_samples += 1;
            self.rtt.sample(Duration::from_millis(u64::from(rtt_ms.max(1))));
        }
    }
}
