//! The state machine of RFC 9293 section 3.3.2, figure 5.
//!
//! ```text
//!                     connect                    accept (LISTEN is the owner's, see `listen`)
//!                        |                          |
//!                    SYN-SENT ---- SYN ----> SYN-RECEIVED --- RST, time-out ---> CLOSED
//!                        |                          |
//!                     SYN-ACK               ACK of our SYN
//!                        +------> ESTABLISHED <-----+
//!                    close |            | FIN
//!                 +--------+            +--------+
//!            FIN-WAIT-1                      CLOSE-WAIT
//!   ACK of FIN |  | FIN    \ FIN + ACK of FIN    | close
//!      FIN-WAIT-2 CLOSING   |                LAST-ACK
//!          FIN |  | ACK     |                    | ACK of FIN
//!              +--+-> TIME-WAIT --- 2 MSL ---> CLOSED
//! ```
//!
//! CLOSE in SYN-RECEIVED is queued until ESTABLISHED, as section 3.10.4 allows, so that the figure's arrow
//! from there to FIN-WAIT-1 goes through ESTABLISHED without anything sent between.
//!
//! A transition happens only by a named event, and an event that the figure does not know in a state
//! leaves the state alone: what to do about such a segment is decided where it is read (`input`).

/// State of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// SYN sent, no answer yet.
    SynSent,
    /// SYN received and answered, our SYN not yet acknowledged.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We closed; our FIN is not acknowledged, the peer's has not come.
    FinWait1,
    /// Our FIN is acknowledged, the peer's has not come.
    FinWait2,
    /// The peer closed, we did not.
    CloseWait,
    /// Both closed at once; our FIN is not acknowledged.
    Closing,
    /// The peer closed first, then we did; our FIN is not acknowledged.
    LastAck,
    /// Everything is acknowledged; old segments may still be under way.
    TimeWait,
    /// Nothing is left.
    Closed,
}

/// What can happen to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A SYN without an acknowledgement of ours, in an active open: simultaneous open.
    Syn,
    /// A SYN that acknowledges ours.
    SynAck,
    /// Our SYN was acknowledged by a segment without SYN.
    AckOfSyn,
    /// The application will send no more.
    Close,
    /// The peer's FIN is next in sequence.
    Fin,
    /// Everything up to and including our FIN was acknowledged.
    AckOfFin,
    /// RST, abort, time-out, or the end of TIME-WAIT.
    End,
}

impl State {
    /// The state after an event.
    pub(super) fn after(self, event: Event) -> Self {
        match (self, event) {
            (_, Event::End) => Self::Closed,
            (Self::SynSent, Event::Syn) => Self::SynReceived,
            (Self::SynSent, Event::SynAck) => Self::Established,
            (Self::SynReceived, Event::AckOfSyn) => Self::Established,
            (Self::Established, Event::Close) => Self::FinWait1,
            (Self::Established, Event::Fin) => Self::CloseWait,
            (Self::FinWait1, Event::AckOfFin) => Self::FinWait2,
            (Self::FinWait1, Event::Fin) => Self::Closing,
            (Self::FinWait2, Event::Fin) => Self::TimeWait,
            (Self::CloseWait, Event::Close) => Self::LastAck,
            (Self::Closing, Event::AckOfFin) => Self::TimeWait,
            (Self::LastAck, Event::AckOfFin) => Self::Closed,
            (state, _) => state,
        }
    }

    /// Both sides' sequence numbers are agreed (RFC 9293 section 3.5.2, group 3).
    pub fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived | Self::Closed)
    }

    /// The peer may still send data that we take.
    pub fn receives(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// Our data or FIN may be on the way.
    pub(super) fn sends(self) -> bool {
        matches!(
            self,
            Self::Established | Self::CloseWait | Self::FinWait1 | Self::Closing | Self::LastAck
        )
    }
}
