//! TCP (RFC 9293) as a pure object: segments, calls and the time go in, segments and readiness come out.
//!
//! A [`Connection`] knows neither addresses nor ports, neither checksums nor frames' headers, neither a
//! clock nor a random source. Its owner
//! - demultiplexes, verifies checksums, and hands each segment to [`Connection::input`] with its payload;
//! - afterwards, and after every call of the application, sends what [`Connection::output`] returns until it
//!   returns `None` ([`Connection::wants_output`] tells beforehand);
//! - calls [`Connection::on_deadline`] when [`Connection::next_deadline`] has come;
//! - drops it when it is [`State::Closed`] and wants no output, and may replace it by its
//!   [`Connection::time_wait`] in TIME-WAIT, once the application has read everything.
//!
//! Segments for no connection go to [`listen::judge`] or [`listen::reset_for`].
//!
//! Where things are: [`state`] the state machine, `input` what segments do, `acknowledge` what their
//! acknowledgements do, `output` what is sent, `rto`, `recovery` and `congestion` the three parts of loss and
//! congestion control, `options` what the SYNs agree on, `send_buffer` and `receive_buffer` the data, `timers`
//! the deadlines.
//!
//! # What is not here yet
//! SACK, RACK-TLP, CUBIC, Fast Open, ECN, keepalive and packetization-layer PMTU discovery. Urgent data is
//! delivered in line and the urgent pointer ignored (RFC 6093 section 6 tells applications not to use it).
//!
//! # Deviations, each beside its branch
//! RTO at least 200 ms instead of 1 s; 2 MSL of 60 s instead of 4 min; Nagle in Minshall's form; slow start
//! counts all acknowledged bytes; RST does not end TIME-WAIT (RFC 1337).

mod acknowledge;
mod application;
pub mod config;
mod congestion;
mod input;
pub mod listen;
mod options;
mod output;
mod receive_buffer;
mod recovery;
mod rto;
mod segment;
mod send_buffer;
pub mod state;
mod stats;
#[cfg(test)]
mod tests;
mod timers;
mod timewait;

use core::time::Duration;

use tandem_packet::SeqNumber;
use thiserror::Error;

pub use config::{Config, Family, Initial, Path};
pub use listen::{ListenVerdict, SynInfo};
pub use segment::{Changes, Outgoing, OutputLimits, Readiness, Segment};
pub use state::State;
pub use stats::{Info, Stats};
pub use timewait::{TimeWait, TimeWaitVerdict};

use crate::time::Instant;
use congestion::Congestion;
use options::Agreed;
use receive_buffer::ReceiveBuffer;
use recovery::Recovery;
use rto::RttEstimator;
use send_buffer::SendBuffer;
use state::Event;
use timers::Timers;

/// Why a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum ConnectionError {
    /// The peer answered our SYN with a reset.
    #[error("connection refused")]
    Refused,
    /// The peer reset the connection.
    #[error("connection reset by peer")]
    Reset,
    /// The peer did not answer for as long as the configuration allows.
    #[error("connection timed out")]
    TimedOut,
    /// The network said that the peer cannot be reached.
    #[error("peer unreachable")]
    Unreachable,
    /// We aborted it.
    #[error("connection aborted")]
    Aborted,
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The send buffer is full; [`Changes::WRITABLE`] will tell.
    #[error("the send buffer is full")]
    WouldBlock,
    /// The pool has no buffer. Nothing tells when it has one again: try after the next turn.
    #[error(transparent)]
    Pool(#[from] tandem_device::PoolExhausted),
    /// The write side was shut down.
    #[error("the write side is closed")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Nothing to read yet; [`Changes::READABLE`] will tell.
    #[error("nothing to read")]
    WouldBlock,
    /// The connection failed; everything received before was read.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// A reset that is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ResetOwed {
    seq: SeqNumber,
    /// With an acknowledgement.
    ack: Option<SeqNumber>,
}

/// The send half of the transmission control block (RFC 9293 section 3.3.1).
#[derive(Debug, Clone, Copy)]
struct SendSequence {
    iss: SeqNumber,
    /// SND.UNA.
    una: SeqNumber,
    /// The next number to send. After a time-out it goes back to `una`; SND.NXT of the RFC is `max`.
    nxt: SeqNumber,
    /// The number after the highest one ever sent.
    max: SeqNumber,
    /// SND.WND in bytes, from `una`.
    wnd: u32,
    /// SND.WL1 and SND.WL2.
    wl1: SeqNumber,
    wl2: SeqNumber,
    /// The largest window that the peer ever offered.
    wnd_max: u32,
    /// The number after the last segment smaller than the MSS (Minshall).
    small_end: SeqNumber,
}

/// The receive half.
#[derive(Debug, Clone, Copy)]
struct ReceiveSequence {
    irs: SeqNumber,
    /// RCV.NXT.
    nxt: SeqNumber,
    /// The largest right edge that we offered: RCV.NXT + RCV.WND.
    edge: SeqNumber,
    /// Last.ACK.sent (RFC 7323 section 4.3).
    last_ack_sent: SeqNumber,
    /// Bytes received since then.
    unacked: u32,
    /// The peer's segment size, as seen.
    mss: u32,
    /// Where the peer's FIN stands, once it came; it may be out of order.
    fin: Option<SeqNumber>,
}

/// A round trip being timed: the acknowledgement that ends it, and when it began.
#[derive(Debug, Clone, Copy)]
struct Timed {
    end: SeqNumber,
    at: Instant,
}

/// Counts what is sent in one second.
#[derive(Debug, Clone, Copy, Default)]
struct RateLimit {
    since: Instant,
    count: u16,
}

/// One TCP connection.
///
/// Ownership: payload that came in with a segment is kept as the frame it came in; payload to be sent is
/// kept by reference until it is acknowledged. An idle connection holds neither and arms no timer.
#[derive(Debug)]
pub struct Connection {
    state: State,
    config: Config,
    path: Path,
    agreed: Agreed,
    snd: SendSequence,
    rcv: ReceiveSequence,
    send: SendBuffer,
    receive: ReceiveBuffer,
    rtt: RttEstimator,
    timed: Option<Timed>,
    congestion: Congestion,
    recovery: Recovery,
    timers: Timers,
    /// When the peer began not to answer: R2 counts from here.
    unanswered_since: Option<Instant>,
    last_send: Instant,
    challenge: RateLimit,
    /// Doublings of the persist timer.
    persist_backoff: u32,
    /// Acknowledgements to be sent at once.
    acks_owed: u16,
    reset_owed: Option<ResetOwed>,
    /// The first unacknowledged segment is to be sent again.
    retransmit_owed: bool,
    /// A zero-window probe is to be sent.
    probe_owed: bool,
    /// The override timer of silly window avoidance fired.
    force_small: bool,
    /// The application will send no more.
    write_shut: bool,
    /// The application will not read either: it has closed.
    closed_by_owner: bool,
    /// A write was refused and its owner waits.
    write_blocked: bool,
    /// It began with the peer's SYN (RFC 9293 section 3.10.7.4, RST in SYN-RECEIVED).
    passive: bool,
    /// The SYN was sent more than once.
    syn_lost: bool,
    error: Option<ConnectionError>,
    /// What the network said; becomes the error when the connection times out.
    soft_error: Option<ConnectionError>,
    stats: Stats,
}

impl Connection {
    /// An active open (RFC 9293 section 3.10.1). [`Self::output`] has the SYN.
    pub fn connect(now: Instant, config: &Config, path: Path, initial: Initial) -> Self {
        Self::new(now, config, path, initial, State::SynSent)
    }

    /// A passive open: the connection in SYN-RECEIVED that a listener makes of a SYN (RFC 9293 section
    /// 3.10.7.2). [`Self::output`] has the SYN-ACK.
    pub fn accept(
        now: Instant,
        config: &Config,
        path: Path,
        initial: Initial,
        syn: &SynInfo,
    ) -> Self {
        let mut connection = Self::new(now, config, path, initial, State::SynReceived);
        connection.passive = true;
        connection.take_peer_syn(now, syn);
        connection
    }

    fn new(now: Instant, config: &Config, path: Path, initial: Initial, state: State) -> Self {
        let iss = initial.iss;
        let agreed = Agreed::offer(config, &path, &initial);
        let memory_max =
            config.receive_limit() as usize * config.receive_memory_factor.max(1) as usize;
        Self {
            state,
            config: *config,
            path,
            agreed,
            snd: SendSequence {
                iss,
                una: iss,
                nxt: iss,
                max: iss,
                wnd: 0,
                wl1: SeqNumber(0),
                wl2: SeqNumber(0),
                wnd_max: 0,
                small_end: iss,
            },
            rcv: ReceiveSequence {
                irs: SeqNumber(0),
                nxt: SeqNumber(0),
                edge: SeqNumber(0),
                last_ack_sent: SeqNumber(0),
                unacked: 0,
                mss: u32::from(path.family.mss_default().min(path.mss())),
                fin: None,
            },
            send: SendBuffer::new(iss + 1),
            // A small configured buffer must still hold the largest frames of a pool.
            receive: ReceiveBuffer::new(
                memory_max.max(RECEIVE_MEMORY_MIN),
                usize::from(config.out_of_order_segments_max),
            ),
            rtt: RttEstimator::new(config),
            timed: None,
            congestion: Congestion::new(config.initial_window_segments),
            recovery: Recovery::new(iss),
            timers: Timers::default(),
            unanswered_since: None,
            last_send: now,
            challenge: RateLimit::default(),
            persist_backoff: 0,
            acks_owed: 0,
            reset_owed: None,
            retransmit_owed: false,
            probe_owed: false,
            force_small: false,
            write_shut: false,
            closed_by_owner: false,
            write_blocked: false,
            passive: false,
            syn_lost: false,
            error: None,
            soft_error: None,
            stats: Stats::default(),
        }
    }

    /// State.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it failed.
    pub fn error(&self) -> Option<ConnectionError> {
        self.error
    }

    /// Whether it began with the peer's SYN.
    pub fn is_passive(&self) -> bool {
        self.passive
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The path as it stands.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Payload bytes of a full segment to the peer.
    pub fn mss(&self) -> u16 {
        self.agreed.mss(&self.path)
    }

    /// When [`Self::on_deadline`] is to be called; `None` while nothing is under way.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Numbers sent and not acknowledged.
    fn flight(&self) -> u32 {
        self.snd.nxt - self.snd.una
    }

    /// Whether `seq` was sent and is not acknowledged: what an ICMP error must quote to be believed
    /// (RFC 5927 section 4.1).
    pub fn is_in_flight(&self, seq: SeqNumber) -> bool {
        seq.is_within(self.snd.una, self.snd.max - self.snd.una)
    }

    /// The number of our FIN, once the write side is shut.
    fn fin_seq(&self) -> Option<SeqNumber> {
        self.write_shut.then(|| self.send.end())
    }

    fn fin_is_acked(&self) -> bool {
        self.fin_seq().is_some_and(|fin| self.snd.una.gt(fin))
    }

    /// RCV.WND: what remains of what we offered.
    fn receive_window(&self) -> u32 {
        self.rcv.edge.distance_from(self.rcv.nxt).max(0) as u32
    }

    /// Everything at a glance.
    pub fn info(&self) -> Info {
        let unsent = self.send.end().distance_from(self.snd.nxt.max(self.snd.iss + 1)).max(0);
        Info {
            state: self.state,
            mss: self.mss(),
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            rto: self.rtt.rto(),
            backoff: self.rtt.backoff(),
            cwnd: self.congestion.cwnd(),
            ssthresh: self.congestion.ssthresh(),
            in_flight: self.flight(),
            send_window: self.snd.wnd,
            receive_window: self.receive_window(),
            send_buffered: self.send.len() as u32,
            unsent: unsent as u32,
            receive_buffered: self.receive.len() as u32,
            out_of_order_bytes: self.receive.strays_len() as u32,
            in_recovery: self.recovery.is_active(),
            timestamps: self.agreed.timestamps,
            window_scale: self
                .agreed
                .scaling
                .then_some((self.agreed.scale_peer, self.agreed.scale_own)),
            stats: self.stats,
        }
    }

    /// What is to be kept of a connection in TIME-WAIT; `None` in other states.
    pub fn time_wait(&self) -> Option<TimeWait> {
        (self.state == State::TimeWait).then(|| TimeWait {
            snd_nxt: self.snd.max,
            rcv_nxt: self.rcv.nxt,
            window: (self.receive_window() >> self.agreed.scale_own).min(0xffff) as u16,
            timestamps: self
                .agreed
                .ts_recent()
                .map(|(recent, _)| (recent, self.agreed.timestamp_offset())),
            expires: self.timers.linger.unwrap_or(Instant::ZERO),
            duration: self.config.time_wait,
        })
    }

    /// Moves the state machine; the one place where `state` changes.
    fn advance(&mut self, now: Instant, event: Event) -> Changes {
        let before = self.state;
        self.state = before.after(event);
        if self.state == before {
            return Changes::empty();
        }
        match self.state {
            State::Established => {
                let mss = u32::from(self.mss());
                self.congestion.begin(mss, self.syn_lost);
                if self.syn_lost && self.rtt.srtt().is_none() {
                    self.rtt.after_lost_syn();
                }
                let changes = Changes::ESTABLISHED | Changes::WRITABLE;
                // A close in SYN-RECEIVED or SYN-SENT was queued (RFC 9293 section 3.10.4).
                if self.write_shut { changes | self.advance(now, Event::Close) } else { changes }
            }
            State::FinWait2 => {
                self.start_fin_wait_2(now);
                Changes::FLUSHED
            }
            State::CloseWait | State::Closing => Changes::READABLE,
            State::TimeWait => {
                // Turn off the other timers, start 2 MSL (RFC 9293 section 3.10.7.4).
                self.timers.clear();
                self.timers.linger = Some(now + self.config.time_wait);
                self.unanswered_since = None;
                Changes::TIME_WAIT | Changes::READABLE | Changes::FLUSHED
            }
            State::Closed => {
                self.timers.clear();
                self.send.clear();
                self.receive.drop_strays();
                self.acks_owed = 0;
                self.retransmit_owed = false;
                self.probe_owed = false;
                let flushed = if before == State::LastAck && self.fin_is_acked() {
                    Changes::FLUSHED
                } else {
                    Changes::empty()
                };
                Changes::CLOSED | Changes::READABLE | Changes::WRITABLE | flushed
            }
            _ => Changes::empty(),
        }
    }

    fn start_fin_wait_2(&mut self, now: Instant) {
        // RFC 9293 section 3.6.1 has no time-out here; a full close has nobody left to wait for the
        // peer's FIN, so that without one the connection would stay for good.
        if self.closed_by_owner && self.state == State::FinWait2 {
            self.timers.linger = Some(now + self.config.fin_wait_2_timeout);
        }
    }

    /// Ends the connection for a reason.
    fn fail(&mut self, now: Instant, error: ConnectionError) -> Changes {
        self.error.get_or_insert(error);
        self.advance(now, Event::End) | self.completed()
    }

    fn completed(&self) -> Changes {
        if self.send.has_completed() { Changes::COMPLETED } else { Changes::empty() }
    }

    /// R2: how long the peer may stay silent.
    fn patience(&self) -> Duration {
        match self.state {
            // RFC 9293 section 3.8.3, MUST-23: at least three minutes for a SYN.
            State::SynSent => self.config.connect_timeout,
            State::SynReceived => self.config.accept_timeout,
            _ => self.config.user_timeout,
        }
    }
}

/// Least memory that received data may hold, bytes.
const RECEIVE_MEMORY_MIN: usize = 128 * 1024;
