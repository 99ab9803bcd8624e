//! The timers of a connection. None is armed while it is idle.

use crate::time::Instant;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timers {
    /// RFC 6298: something sent is not acknowledged.
    pub(super) retransmit: Option<Instant>,
    /// RFC 9293 section 3.8.6.1: something is to be sent, nothing is in flight, the window is too small.
    pub(super) persist: Option<Instant>,
    /// RFC 9293 section 3.8.6.3: an acknowledgement is held back.
    pub(super) delayed_ack: Option<Instant>,
    /// FIN-WAIT-2 of a connection without an owner, or TIME-WAIT.
    pub(super) linger: Option<Instant>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Instant> {
        [self.retransmit, self.persist, self.delayed_ack, self.linger].into_iter().flatten().min()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Takes a timer that is due.
pub(super) fn expire(timer: &mut Option<Instant>, now: Instant) -> bool {
    match *timer {
        Some(at) if at <= now => {
            *timer = None;
            true
        }
        _ => false,
    }
}
