//! The congestion window: slow start and congestion avoidance (RFC 5681, RFC 6928).
//!
//! What a loss means for the *window* is here; how it is found and repaired is in [`super::recovery`].
//! Another algorithm (CUBIC) answers the same calls.

#[derive(Debug, Clone, Copy)]
pub(super) struct Congestion {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged in congestion avoidance and not yet turned into window (RFC 3465 section 2.1).
    acked_bytes: u32,
    /// Slow start after a time-out grows by one segment an acknowledgement (RFC 3465 section 2.3).
    after_timeout: bool,
    initial_segments: u32,
}

/// The window stays below what a send buffer can hold, so that sums with it never overflow.
const CWND_MAX: u32 = 1 << 30;

impl Congestion {
    pub(super) fn new(initial_segments: u16) -> Self {
        Self {
            cwnd: 0,
            ssthresh: u32::MAX,
            acked_bytes: 0,
            after_timeout: false,
            initial_segments: u32::from(initial_segments.max(1)),
        }
    }

    /// RFC 6928 section 2: min (10*MSS, max (2*MSS, 14600)).
    fn initial_window(&self, mss: u32) -> u32 {
        (self.initial_segments * mss).min((2 * mss).max(self.initial_segments * 1460))
    }

    /// The handshake is done. RFC 6928 section 2: one segment when the SYN or SYN-ACK was lost.
    pub(super) fn begin(&mut self, mss: u32, syn_lost: bool) {
        self.cwnd = if syn_lost { mss } else { self.initial_window(mss) };
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.cwnd
    }

    pub(super) fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    /// New data was acknowledged outside recovery. `flight` is what was outstanding before.
    pub(super) fn acknowledged(&mut self, acked: u32, flight: u32, mss: u32) {
        if self.cwnd < self.ssthresh {
            // A window that is not used says nothing of the path (RFC 7661 section 4.1).
            if flight.saturating_mul(2) < self.cwnd {
                return;
            }
            // RFC 5681 (2) says min(N, SMSS) an acknowledgement, RFC 3465 2*SMSS. One acknowledgement may
            // stand for a whole super-segment, so the limit holds only after a time-out, where it matters.
            let grow = if self.after_timeout { acked.min(mss) } else { acked };
            // What exceeds ssthresh would belong to congestion avoidance; it is dropped.
            self.cwnd = self.cwnd.saturating_add(grow).min(self.ssthresh.max(self.cwnd + mss));
        } else {
            self.after_timeout = false;
            if flight.saturating_add(mss) < self.cwnd {
                return;
            }
            // RFC 5681 section 3.1 with appropriate byte counting: one segment a window of bytes.
            self.acked_bytes = self.acked_bytes.saturating_add(acked.min(self.cwnd));
            if self.acked_bytes >= self.cwnd {
                self.acked_bytes -= self.cwnd;
                self.cwnd += mss;
            }
        }
        self.cwnd = self.cwnd.min(CWND_MAX);
    }

    /// RFC 5681 (4): max (FlightSize / 2, 2*SMSS).
    fn halve(&mut self, flight: u32, mss: u32) {
        self.ssthresh = (flight / 2).max(2 * mss);
        self.acked_bytes = 0;
    }

    /// Fast recovery begins (RFC 6582 section 3.2, step 2): three segments have left the network.
    pub(super) fn enter_recovery(&mut self, flight: u32, mss: u32) {
        self.halve(flight, mss);
        self.cwnd = self.ssthresh + 3 * mss;
    }

    /// Another duplicate in recovery: inflate (RFC 5681 section 3.2, step 4).
    pub(super) fn inflate(&mut self, mss: u32) {
        self.cwnd = self.cwnd.saturating_add(mss).min(CWND_MAX);
    }

    /// A partial acknowledgement (RFC 6582 section 3.2, step 3): deflate by what was acknowledged, add
    /// back one segment when that was at least one.
    pub(super) fn deflate(&mut self, acked: u32, mss: u32) {
        self.cwnd = self.cwnd.saturating_sub(acked);
        if acked >= mss {
            self.cwnd += mss;
        }
        self.cwnd = self.cwnd.max(mss);
    }

    /// A full acknowledgement (RFC 6582 section 3.2, step 3, option 1: no burst).
    pub(super) fn leave_recovery(&mut self, flight: u32, mss: u32) {
        self.cwnd = self.ssthresh.min(flight.max(mss) + mss);
    }

    /// The retransmission timer expired. `first` when it is the first time for this data
    /// (RFC 5681 section 3.1: later ones leave ssthresh alone). The loss window is one segment.
    pub(super) fn timed_out(&mut self, first: bool, flight: u32, mss: u32) {
        if first {
            self.halve(flight, mss);
        }
        self.cwnd = mss;
        self.acked_bytes = 0;
        self.after_timeout = true;
    }

    /// Nothing was sent for longer than the time-out: the restart window (RFC 5681 section 4.1).
    pub(super) fn restart_after_idle(&mut self, mss: u32) {
        self.cwnd = self.cwnd.min(self.initial_window(mss));
    }

    /// The segment size changed: at least one segment must fit.
    pub(super) fn mss_changed(&mut self, mss: u32) {
        self.cwnd = self.cwnd.max(mss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn begun() -> Congestion {
        let mut congestion = Congestion::new(10);
        congestion.begin(MSS, false);
        congestion
    }

    #[test]
    fn initial_windows() {
        for (mss, cwnd) in [(1460, 14_600), (536, 5_360), (8960, 17_920), (1220, 12_200)] {
            let mut congestion = Congestion::new(10);
            congestion.begin(mss, false);
            assert_eq!(congestion.cwnd(), cwnd, "mss {mss}");
            congestion.begin(mss, true);
            assert_eq!(congestion.cwnd(), mss);
        }
    }

    #[test]
    fn slow_start_doubles_and_avoidance_adds_a_segment_a_window() {
        let mut congestion = begun();
        congestion.acknowledged(10 * MSS, 10 * MSS, MSS);
        assert_eq!(congestion.cwnd(), 20 * MSS);
        congestion.timed_out(true, 20 * MSS, MSS);
        assert_eq!((congestion.cwnd(), congestion.ssthresh()), (MSS, 10 * MSS));
        congestion.timed_out(false, MSS, MSS);
        assert_eq!(congestion.ssthresh(), 10 * MSS, "back-off leaves ssthresh alone");
        congestion.acknowledged(5 * MSS, MSS, MSS);
        assert_eq!(congestion.cwnd(), 2 * MSS, "one segment an acknowledgement after a time-out");
        while congestion.cwnd() < 10 * MSS {
            congestion.acknowledged(MSS, congestion.cwnd(), MSS);
        }
        for _ in 0..10 {
            congestion.acknowledged(MSS, congestion.cwnd(), MSS);
        }
        assert_eq!(congestion.cwnd(), 11 * MSS);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut congestion = begun();
        congestion.acknowledged(MSS, MSS, MSS);
        assert_eq!(congestion.cwnd(), 10 * MSS);
    }

    #[test]
    fn recovery_inflates_and_deflates() {
        let mut congestion = begun();
        congestion.enter_recovery(10 * MSS, MSS);
        assert_eq!((congestion.cwnd(), congestion.ssthresh()), (8 * MSS, 5 * MSS));
        congestion.inflate(MSS);
        congestion.deflate(3 * MSS, MSS);
        assert_eq!(congestion.cwnd(), 7 * MSS);
        congestion.leave_recovery(2 * MSS, MSS);
        assert_eq!(congestion.cwnd(), 3 * MSS);
    }
}
