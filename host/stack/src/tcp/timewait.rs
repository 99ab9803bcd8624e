//! TIME-WAIT as a small entry of its own (RFC 9293 sections 3.4.2 and 3.10.7.4, RFC 6191, RFC 1337).

use core::time::Duration;

use tandem_packet::{SeqNumber, TcpFlags, TcpOptions, TcpRepr, TcpTimestamps};

use super::{Segment, SynInfo};
use crate::time::Instant;

/// What is left of a connection: enough to answer and to refuse what is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWait {
    /// Our next sequence number.
    pub snd_nxt: SeqNumber,
    /// The peer's, after its FIN.
    pub rcv_nxt: SeqNumber,
    /// The window field that we answer with.
    pub window: u16,
    /// TS.Recent and our timestamp offset, when timestamps were used.
    pub timestamps: Option<(u32, u32)>,
    /// When it ends.
    pub expires: Instant,
    /// 2 MSL.
    pub duration: Duration,
}

/// What is to be done about a segment in TIME-WAIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeWaitVerdict {
    /// Nothing.
    Drop,
    /// Answer with this segment (ports are 0).
    Reply(TcpRepr),
    /// A new incarnation may begin (RFC 6191). The entry is to be removed, and if somebody listens
    /// the segment answered as a SYN, with an initial sequence number after `iss_floor`.
    Reopen {
        /// The SYN.
        syn: SynInfo,
        /// The new initial sequence number must come after this (RFC 9293 section 3.4.1, MAY-2).
        iss_floor: SeqNumber,
    },
}

impl TimeWait {
    /// Judges a segment.
    pub fn input(&mut self, now: Instant, segment: &Segment<'_>) -> TimeWaitVerdict {
        // RFC 1337 section 3: a RST must not end TIME-WAIT, or an old duplicate could.
        if segment.has(TcpFlags::RST) {
            return TimeWaitVerdict::Drop;
        }
        let stamps = segment.repr.options.timestamps;
        if segment.has(TcpFlags::SYN) {
            return self.input_syn(now, segment, stamps);
        }
        let seq = segment.seq();
        let end = seq + segment.sequence_len();
        if segment.sequence_len() == 0 {
            // A bare acknowledgement changes nothing; to answer one could begin an exchange without end.
            return TimeWaitVerdict::Drop;
        }
        // The only thing that can arrive is a retransmission of the remote FIN: acknowledge it, and
        // restart the 2 MSL time-out.
        if segment.has(TcpFlags::FIN) && end == self.rcv_nxt {
            self.expires = now + self.duration;
        }
        TimeWaitVerdict::Reply(self.ack(now))
    }

    fn input_syn(
        &self,
        now: Instant,
        segment: &Segment<'_>,
        stamps: Option<TcpTimestamps>,
    ) -> TimeWaitVerdict {
        let newer_seq = segment.seq().gt(self.rcv_nxt);
        // RFC 6191 section 2: by timestamps when both incarnations have them, else by sequence number.
        let acceptable = match (self.timestamps, stamps) {
            (Some((recent, _)), Some(TcpTimestamps { value, .. })) if value != recent => {
                (value.wrapping_sub(recent) as i32) > 0
            }
            _ => newer_seq,
        };
        if acceptable && !segment.has(TcpFlags::ACK) && !segment.has(TcpFlags::FIN) {
            return TimeWaitVerdict::Reopen {
                syn: SynInfo::new(segment.repr),
                iss_floor: self.snd_nxt,
            };
        }
        // RFC 5961 section 4: a challenge acknowledgement.
        TimeWaitVerdict::Reply(self.ack(now))
    }

    fn ack(&self, now: Instant) -> TcpRepr {
        TcpRepr {
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: TcpFlags::ACK,
            window: self.window,
            options: TcpOptions {
                timestamps: self.timestamps.map(|(recent, offset)| TcpTimestamps {
                    value: (now.as_millis() as u32).wrapping_add(offset),
                    echo: recent,
                }),
                ..TcpOptions::default()
            },
            ..TcpRepr::default()
        }
    }
}
