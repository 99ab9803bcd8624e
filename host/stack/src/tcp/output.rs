//! What is sent, and when timers say so.
//!
//! `decide` looks and changes nothing; `output` does what it says. Everything sent goes through here.

use core::time::Duration;

use arrayvec::ArrayVec;
use tandem_packet::{Ecn, SeqNumber, TcpFlags, TcpOptions, TcpRepr};

use super::state::Event;
use super::timers::expire;
use super::{
    Changes, Connection, ConnectionError, Outgoing, OutputLimits, ResetOwed, State, Timed,
};
use crate::time::Instant;

/// What is to be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Reset(ResetOwed),
    /// SYN or SYN-ACK.
    Syn,
    Ack,
    Data(Extent),
    /// One number beyond the window.
    Probe(Extent),
}

/// A part of the send sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    seq: SeqNumber,
    len: u32,
    fin: bool,
}

impl Connection {
    /// Whether [`Self::output`] has something to do: send, or arm the persist timer.
    pub fn wants_output(&self) -> bool {
        self.decide(&OutputLimits::FULL).is_some() || self.must_persist()
    }

    /// The next segment or super-segment to be sent now; `None` when there is none. It counts as sent:
    /// what the caller cannot pass on is lost and will be retransmitted. So make sure of a buffer for its
    /// headers first.
    pub fn output(&mut self, now: Instant, limits: &OutputLimits) -> Option<Outgoing> {
        // RFC 5681 section 4.1: nothing was sent for longer than the time-out.
        if self.snd.una == self.snd.max
            && self.state.sends()
            && now.since(self.last_send) > self.rtt.rto()
        {
            self.congestion.restart_after_idle(u32::from(self.mss()));
        }
        let Some(action) = self.decide(limits) else {
            if self.must_persist() {
                let wait = self.rtt.rto_backed_off(self.persist_backoff);
                self.timers.persist = Some(now + wait);
            }
            return None;
        };
        let outgoing = match action {
            Action::Reset(reset) => self.send_reset(reset),
            Action::Syn => self.send_syn(now),
            Action::Ack => {
                let seq = self.acceptable_seq();
                let rest = self.acks_owed - 1;
                let repr = self.header(now, seq, TcpFlags::ACK);
                self.acks_owed = rest;
                self.bare(repr)
            }
            Action::Data(extent) => self.send_data(now, extent, limits),
            Action::Probe(extent) => self.send_probe(now, extent),
        };
        self.stats.segments_out += u64::from(outgoing.wire_segments());
        Some(outgoing)
    }

    fn decide(&self, limits: &OutputLimits) -> Option<Action> {
        if let Some(reset) = self.reset_owed {
            return Some(Action::Reset(reset));
        }
        let ack = (self.acks_owed > 0).then_some(Action::Ack);
        match self.state {
            State::Closed => return None,
            State::SynSent | State::SynReceived => {
                if self.snd.nxt == self.snd.iss {
                    return Some(Action::Syn);
                }
                return ack.filter(|_| self.state == State::SynReceived);
            }
            _ => {}
        }
        // A duplicate acknowledgement counts as one only without text (RFC 5681 section 2).
        if self.acks_owed > 1 || (self.acks_owed == 1 && self.receive.has_strays()) {
            return ack;
        }
        if self.state.sends() {
            if self.retransmit_owed {
                return Some(Action::Data(self.first_segment()));
            }
            if let Some(extent) = self.sendable(limits) {
                return Some(Action::Data(extent));
            }
            if self.probe_owed
                && let Some(extent) = self.probe()
            {
                return Some(Action::Probe(extent));
            }
        }
        ack
    }

    /// The first number that the peer did not acknowledge: a byte, or our FIN.
    fn probe(&self) -> Option<Extent> {
        let seq = self.snd.una;
        if self.send.end().gt(seq) {
            return Some(Extent { seq, len: 1, fin: false });
        }
        (self.fin_seq() == Some(seq)).then_some(Extent { seq, len: 0, fin: true })
    }

    /// The first unacknowledged segment, as far as it was sent.
    fn first_segment(&self) -> Extent {
        let una = self.snd.una;
        let data_end = self.send.end().min(self.snd.max);
        let len = (data_end.distance_from(una).max(0) as u32).min(u32::from(self.mss()));
        let fin = self.fin_seq().is_some_and(|fin| una + len == fin && self.snd.max.gt(fin));
        Extent { seq: una, len, fin }
    }

    /// Bytes that the peer's window has room for, from `snd.nxt` on.
    fn window_room(&self) -> u32 {
        (self.snd.una + self.snd.wnd).distance_from(self.snd.nxt).max(0) as u32
    }

    /// Unsent bytes, and whether a FIN follows them.
    fn unsent(&self) -> (u32, bool) {
        let queued = self.send.end().distance_from(self.snd.nxt).max(0) as u32;
        (queued, self.fin_seq().is_some_and(|fin| self.snd.nxt.le(fin)))
    }

    /// How much may be sent now in one piece (RFC 9293 sections 3.7.4 and 3.8.6.2.1; RFC 5681).
    fn sendable(&self, limits: &OutputLimits) -> Option<Extent> {
        let (queued, fin_due) = self.unsent();
        if queued == 0 && !fin_due {
            return None;
        }
        let mss = u32::from(self.mss());
        let flight = self.flight();
        let window_room = self.window_room();
        // RFC 3042: the first two duplicates each allow a new segment beyond cwnd.
        let cwnd =
            self.congestion.cwnd() + self.recovery.limited_transmit_segments(self.snd.una) * mss;
        let room = window_room.min(cwnd.saturating_sub(flight));
        let segments = (limits.gso_bytes_max / mss).min(u32::from(limits.gso_segments_max)).max(1);
        let mut len = queued.min(room).min(segments * mss);
        let extent = |len, fin| Some(Extent { seq: self.snd.nxt, len, fin });
        if len < queued {
            if len >= mss {
                // Only whole segments before the last one.
                return extent(len - len % mss, false);
            }
            // Silly window avoidance, section 3.8.6.2.1 (3): half of the largest window, with nothing in
            // flight; (4): the override timer fired.
            let half = len >= self.snd.wnd_max.div_ceil(2) && (flight == 0 || self.config.nodelay);
            let by_window = window_room <= room;
            if len > 0 && (self.force_small || (by_window && half)) {
                return extent(len, false);
            }
            return None;
        }
        // Everything fits. The Nagle algorithm holds a last small segment back while another small one is
        // not acknowledged (Minshall's form: a full one in flight is no reason, or every write of an
        // odd length would wait for a delayed acknowledgement). What was sent before is sent again whole.
        let tail = len % mss;
        let is_new = (self.snd.nxt + len).gt(self.snd.max);
        let small_in_flight = self.snd.small_end.gt(self.snd.una);
        if tail > 0
            && is_new
            && small_in_flight
            && !(self.config.nodelay || fin_due || self.force_small)
        {
            len -= tail;
        }
        let fin = fin_due && len == queued && window_room > len;
        if len == 0 && !fin { None } else { extent(len, fin) }
    }

    /// Something is to be sent, nothing is in flight whose acknowledgement would let it go, and no timer
    /// runs.
    fn must_persist(&self) -> bool {
        let (queued, fin_due) = self.unsent();
        self.state.sends()
            && (queued > 0 || fin_due)
            && self.flight() == 0
            && self.timers.retransmit.is_none()
            && self.timers.persist.is_none()
            && self.decide(&OutputLimits::FULL).is_none()
    }

    /// SND.NXT for a segment without text; within the window if that shrank, or the peer would refuse it.
    fn acceptable_seq(&self) -> SeqNumber {
        self.snd.max.min(self.snd.una + self.snd.wnd)
    }

    /// Limit of received and unread bytes, as far as the window scale can say it.
    pub(super) fn receive_limit(&self) -> u32 {
        self.config.receive_limit().min(0xffff << self.agreed.scale_own)
    }

    /// The window that there is room for.
    pub(super) fn offerable_window(&self) -> u32 {
        if self.receive.is_under_pressure() {
            return 0;
        }
        self.receive_limit().saturating_sub(self.receive.len() as u32)
    }

    /// The window field, and what we thereby offer.
    fn offer_window(&mut self, scale: u8) -> u16 {
        let limit = self.receive_limit();
        let now = self.receive_window();
        let could = self.offerable_window();
        // RFC 9293 section 3.8.6.2.2: the right edge moves only by a worthwhile step, and never back.
        let worth = (limit / 2).min(self.rcv.mss);
        let window = if could >= now.saturating_add(worth) { could } else { now };
        let field = (window >> scale).min(0xffff) as u16;
        self.rcv.edge = self.rcv.edge.max(self.rcv.nxt + (u32::from(field) << scale));
        field
    }

    /// A header with acknowledgement, window and options: whatever acknowledgement was owed is given.
    fn header(&mut self, now: Instant, seq: SeqNumber, flags: TcpFlags) -> TcpRepr {
        let window = self.offer_window(self.agreed.scale_own);
        self.acknowledged_to_peer();
        TcpRepr {
            seq,
            ack: self.rcv.nxt,
            flags: flags | TcpFlags::ACK,
            window,
            options: self.agreed.for_segment(now),
            ..TcpRepr::default()
        }
    }

    fn acknowledged_to_peer(&mut self) {
        self.acks_owed = 0;
        self.timers.delayed_ack = None;
        self.rcv.last_ack_sent = self.rcv.nxt;
        self.rcv.unacked = 0;
    }

    fn bare(&self, repr: TcpRepr) -> Outgoing {
        Outgoing {
            repr,
            payload: ArrayVec::new(),
            payload_len: 0,
            segment_size: self.mss(),
            ecn: Ecn::NotEct,
            is_retransmission: false,
        }
    }

    fn send_reset(&mut self, reset: ResetOwed) -> Outgoing {
        self.reset_owed = None;
        self.stats.resets_out += 1;
        let flags = if reset.ack.is_some() { TcpFlags::RST | TcpFlags::ACK } else { TcpFlags::RST };
        self.bare(TcpRepr {
            seq: reset.seq,
            ack: reset.ack.unwrap_or_default(),
            flags,
            options: TcpOptions::default(),
            ..TcpRepr::default()
        })
    }

    fn send_syn(&mut self, now: Instant) -> Outgoing {
        // RFC 7323 section 2.2: the window of a SYN is never scaled.
        let repr = if self.state == State::SynSent {
            TcpRepr {
                flags: TcpFlags::SYN,
                window: self.receive_limit().min(0xffff) as u16,
                ..TcpRepr::default()
            }
        } else {
            let window = self.offer_window(0);
            self.acknowledged_to_peer();
            let flags = TcpFlags::SYN | TcpFlags::ACK;
            TcpRepr { ack: self.rcv.nxt, flags, window, ..TcpRepr::default() }
        };
        let repr =
            TcpRepr { seq: self.snd.iss, options: self.agreed.for_syn(now, &self.path), ..repr };
        let mut outgoing = self.bare(repr);
        outgoing.is_retransmission = self.sent(now, self.snd.iss, self.snd.iss + 1);
        if outgoing.is_retransmission {
            self.stats.retransmissions += 1;
        }
        outgoing
    }

    fn send_data(&mut self, now: Instant, extent: Extent, limits: &OutputLimits) -> Outgoing {
        let Extent { seq, mut len, mut fin } = extent;
        let mss = u32::from(self.mss());
        let mut payload = ArrayVec::new();
        if len > 0 {
            let pieces_max = usize::from(limits.pieces_max.max(1));
            let built = self.send.reference(seq, len as usize, pieces_max, &mut payload) as u32;
            if built < len {
                // Too many small pieces for one frame: the rest goes with the next.
                fin = false;
                len = if built > mss { built - built % mss } else { built };
                let mut excess = (built - len) as usize;
                while excess > 0
                    && let Some(last) = payload.last_mut()
                {
                    let cut = excess.min(last.len());
                    last.truncate(last.len() - cut);
                    excess -= cut;
                    if last.is_empty() {
                        payload.pop();
                    }
                }
            }
        }
        let mut flags = TcpFlags::ACK;
        // RFC 9293 section 3.9.1.2: push when the buffer is emptied.
        flags.set(TcpFlags::PSH, len > 0 && seq + len == self.send.end());
        flags.set(TcpFlags::FIN, fin);
        let end = seq + len + u32::from(fin);
        let again = self.snd.max.min(end).distance_from(seq).max(0) as u32;
        self.stats.bytes_out += u64::from(len.saturating_sub(again));
        self.stats.bytes_retransmitted += u64::from(again.min(len));
        let is_retransmission = self.sent(now, seq, end);
        if !len.is_multiple_of(mss) {
            self.snd.small_end = self.snd.small_end.max(seq + len);
        }
        if self.retransmit_owed && seq == self.snd.una {
            self.retransmit_owed = false;
        }
        self.force_small = false;
        let outgoing = Outgoing {
            repr: self.header(now, seq, flags),
            payload,
            payload_len: len,
            segment_size: mss as u16,
            ecn: Ecn::NotEct,
            is_retransmission,
        };
        if is_retransmission {
            self.stats.retransmissions += again.div_ceil(mss).max(1);
        }
        outgoing
    }

    /// One number beyond a window of zero (RFC 9293 section 3.8.6.1, MUST-36). It is not in flight: the peer
    /// may drop it, and the persist timer, not the retransmission timer, brings it again.
    fn send_probe(&mut self, now: Instant, extent: Extent) -> Outgoing {
        let Extent { seq, len, fin } = extent;
        self.probe_owed = false;
        self.stats.window_probes += 1;
        self.unanswered_since.get_or_insert(now);
        self.timed = None;
        let mut payload = ArrayVec::new();
        self.send.reference(seq, len as usize, 1, &mut payload);
        let end = seq + len + u32::from(fin);
        let is_retransmission = self.snd.max.ge(end);
        self.snd.max = self.snd.max.max(end);
        self.last_send = now;
        let flags = if fin { TcpFlags::FIN } else { TcpFlags::PSH };
        Outgoing {
            repr: self.header(now, seq, flags),
            payload,
            payload_len: len,
            segment_size: self.mss(),
            ecn: Ecn::NotEct,
            is_retransmission,
        }
    }

    /// Books what is sent and arms the retransmission timer. True when some of it was sent before.
    fn sent(&mut self, now: Instant, seq: SeqNumber, end: SeqNumber) -> bool {
        let again = seq.lt(self.snd.max);
        if again {
            // Karn (RFC 6298 section 3): what is timed may be among it.
            self.timed = None;
        } else if self.timed.is_none() {
            self.timed = Some(Timed { end, at: now });
        }
        self.snd.nxt = self.snd.nxt.max(end);
        self.snd.max = self.snd.max.max(end);
        self.last_send = now;
        self.unanswered_since.get_or_insert(now);
        self.timers.persist = None;
        // RFC 6298 (5.1): start the timer if it is not running.
        let rto = self.rtt.rto();
        let give_up = self.give_up_at();
        self.timers.retransmit.get_or_insert((now + rto).min(give_up).max(now));
        again
    }

    fn give_up_at(&self) -> Instant {
        let never = Instant::MAX;
        self.unanswered_since.map_or(never, |since| since + self.patience())
    }

    /// Timers that are due do their work. Call it when [`Self::next_deadline`] has come; earlier does
    /// nothing. Afterwards there may be something to send.
    pub fn on_deadline(&mut self, now: Instant) -> Changes {
        let mut changes = Changes::empty();
        if expire(&mut self.timers.delayed_ack, now) {
            self.owe_ack();
        }
        if expire(&mut self.timers.retransmit, now) {
            changes |= self.retransmission_timed_out(now);
        }
        if expire(&mut self.timers.persist, now) {
            changes |= self.persist_timed_out(now);
        }
        if expire(&mut self.timers.linger, now) {
            // TIME-WAIT is over (RFC 9293 section 3.10.8), or nobody waits in FIN-WAIT-2.
            changes |= self.advance(now, Event::End);
        }
        changes
    }

    /// R2 (RFC 9293 section 3.8.3): the peer was silent for too long.
    fn gave_up(&mut self, now: Instant) -> Option<Changes> {
        if self.give_up_at() > now {
            return None;
        }
        let error = self.soft_error.unwrap_or(ConnectionError::TimedOut);
        Some(self.fail(now, error))
    }

    /// RFC 6298 (5.4) to (5.7), RFC 5681 section 3.1.
    fn retransmission_timed_out(&mut self, now: Instant) -> Changes {
        if self.snd.una == self.snd.max {
            return Changes::empty();
        }
        if let Some(changes) = self.gave_up(now) {
            return changes;
        }
        self.stats.timeouts += 1;
        let mss = u32::from(self.mss());
        if self.state.is_synchronized() {
            let first = self.rtt.backoff() == 0;
            self.congestion.timed_out(first, self.flight().max(mss), mss);
        } else {
            self.syn_lost = true;
        }
        // RFC 6582 section 3.2, step 4.
        self.recovery.timed_out(self.snd.max);
        self.rtt.back_off();
        self.timed = None;
        self.retransmit_owed = false;
        // (5.4) the earliest segment first; with cwnd of one segment the rest follows as acknowledgements
        // show what arrived.
        self.snd.nxt = self.snd.una;
        if self.state.is_synchronized() && self.snd.wnd == 0 {
            // The window closed on what was in flight: from here on it is probed.
            return self.persist_timed_out(now);
        }
        // Whatever the window allows goes, however small.
        self.force_small = true;
        // (5.6) the timer runs again, even if the device takes nothing for a while.
        let next: Duration = self.rtt.rto();
        self.timers.retransmit = Some((now + next).min(self.give_up_at()).max(now));
        Changes::empty()
    }

    /// RFC 9293 section 3.8.6.1: probe, at exponentially increasing intervals (SHLD-30). Also the override
    /// timer of section 3.8.6.2.1.
    fn persist_timed_out(&mut self, now: Instant) -> Changes {
        if let Some(changes) = self.gave_up(now) {
            return changes;
        }
        if self.window_room() > 0 {
            self.force_small = true;
            return Changes::empty();
        }
        self.probe_owed = true;
        self.persist_backoff = (self.persist_backoff + 1).min(16);
        let wait = self.rtt.rto_backed_off(self.persist_backoff);
        self.timers.persist = Some((now + wait).min(self.give_up_at()).max(now));
        Changes::empty()
    }
}
