//! Finding and repairing losses: fast retransmit and NewReno fast recovery (RFC 5681 section 3.2,
//! RFC 6582), limited transmit (RFC 3042).
//!
//! This is the part that a SACK scoreboard with RACK-TLP will stand beside.

use tandem_packet::SeqNumber;

/// Duplicate acknowledgements that mean a loss (RFC 5681 section 3.2).
pub(super) const DUPLICATE_ACKS: u32 = 3;

#[derive(Debug, Clone, Copy)]
pub(super) struct Recovery {
    duplicate_acks: u32,
    /// The number after the highest one sent when the last loss was found (RFC 6582 section 3.2, one
    /// beyond its "recover").
    recover: SeqNumber,
    active: bool,
    /// A partial acknowledgement has been seen in this recovery.
    partial_seen: bool,
}

/// What a duplicate acknowledgement calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDuplicate {
    /// Nothing, or limited transmit.
    Wait,
    /// Retransmit the first segment and begin fast recovery.
    Enter,
    /// In recovery: inflate the window.
    Inflate,
}

/// What an acknowledgement of new data means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnAck {
    /// No recovery is going on.
    Ordinary,
    /// In recovery, and more was lost: retransmit the next segment. `restart` the timer for the first.
    Partial {
        /// Whether the retransmission timer starts afresh.
        restart: bool,
    },
    /// Recovery is over.
    Full,
}

impl Recovery {
    /// RFC 6582 section 3.2, step 1: recover is the initial send sequence number.
    pub(super) fn new(iss: SeqNumber) -> Self {
        Self { duplicate_acks: 0, recover: iss, active: false, partial_seen: false }
    }

    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    pub(super) fn duplicate(&mut self, snd_una: SeqNumber, snd_max: SeqNumber) -> OnDuplicate {
        self.duplicate_acks = self.duplicate_acks.saturating_add(1);
        if self.active {
            return OnDuplicate::Inflate;
        }
        // RFC 6582 section 3.2, step 2: only if the acknowledgement covers more than recover, or these
        // duplicates may come from our own retransmissions.
        if self.duplicate_acks == DUPLICATE_ACKS && snd_una.gt(self.recover) {
            self.active = true;
            self.partial_seen = false;
            self.recover = snd_max;
            return OnDuplicate::Enter;
        }
        OnDuplicate::Wait
    }

    pub(super) fn acknowledged(&mut self, ack: SeqNumber) -> OnAck {
        self.duplicate_acks = 0;
        if !self.active {
            return OnAck::Ordinary;
        }
        if ack.ge(self.recover) {
            self.active = false;
            return OnAck::Full;
        }
        // RFC 6582 section 3.2, step 3: the timer is reset for the first partial acknowledgement only.
        let restart = !self.partial_seen;
        self.partial_seen = true;
        OnAck::Partial { restart }
    }

    /// RFC 6582 section 3.2, step 4: the timer expired.
    pub(super) fn timed_out(&mut self, snd_max: SeqNumber) {
        self.active = false;
        self.duplicate_acks = 0;
        self.recover = snd_max;
    }

    /// Segments beyond the window that RFC 3042 allows: one for each of the first two duplicates. None after
    /// a time-out, when duplicates may come from our own retransmissions.
    pub(super) fn limited_transmit_segments(&self, snd_una: SeqNumber) -> u32 {
        if self.active || snd_una.le(self.recover) {
            return 0;
        }
        self.duplicate_acks.min(DUPLICATE_ACKS - 1)
    }

    /// Keeps `recover` close behind, so that the circle of numbers cannot turn it into the future.
    pub(super) fn follow(&mut self, snd_una: SeqNumber) {
        if !self.active && snd_una.distance_from(self.recover) > 1 << 30 {
            self.recover = snd_una - (1 << 29);
        }
    }
}
