//! Round-trip estimation and the retransmission time-out (RFC 6298).

use core::time::Duration;

use super::Config;

/// Clock granularity G of RFC 6298 section 2, nanoseconds.
const GRANULARITY_NS: u64 = 1_000_000;
/// Most doublings; 2^16 seconds is beyond any maximum.
const BACKOFF_MAX: u32 = 16;

#[derive(Debug, Clone, Copy)]
pub(super) struct RttEstimator {
    /// Smoothed round-trip time; 0 until there is a sample.
    srtt_ns: u64,
    rttvar_ns: u64,
    /// Without back-off.
    rto_ns: u64,
    backoff: u32,
    min_ns: u64,
    max_ns: u64,
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl RttEstimator {
    pub(super) fn new(config: &Config) -> Self {
        // Nonsense in a configuration must not make a timer that always fires.
        let min_ns = ns(config.rto_min).max(GRANULARITY_NS);
        let max_ns = ns(config.rto_max).max(min_ns);
        // RFC 6298 (2.1): 1 second until there is a measurement.
        let rto_ns = ns(config.rto_initial).clamp(min_ns, max_ns);
        Self { srtt_ns: 0, rttvar_ns: 0, rto_ns, backoff: 0, min_ns, max_ns }
    }

    /// Takes a sample. The caller obeys Karn: never of a segment that was retransmitted, unless
    /// timestamps tell which copy was acknowledged (RFC 6298 section 3).
    pub(super) fn sample(&mut self, rtt: Duration) {
        let r = ns(rtt).max(1);
        if self.srtt_ns == 0 {
            // (2.2) the first measurement.
            self.srtt_ns = r;
            self.rttvar_ns = r / 2;
        } else {
            // (2.3) beta is 1/4, alpha 1/8; RTTVAR first.
            let delta = self.srtt_ns.abs_diff(r);
            self.rttvar_ns = self.rttvar_ns - self.rttvar_ns / 4 + delta / 4;
            self.srtt_ns = (self.srtt_ns - self.srtt_ns / 8 + r / 8).max(1);
        }
        let spread = self.rttvar_ns.saturating_mul(4).max(GRANULARITY_NS);
        self.rto_ns = self.srtt_ns.saturating_add(spread).clamp(self.min_ns, self.max_ns);
        // Section 5, last note: a new measurement collapses the back-off.
        self.backoff = 0;
    }

    /// (5.5) doubles the time-out.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
    }

    /// (5.7) the SYN was retransmitted and nothing measured: 3 seconds for data.
    pub(super) fn after_lost_syn(&mut self) {
        self.backoff = 0;
        self.rto_ns = self.rto_ns.max(3_000_000_000).min(self.max_ns);
    }

    pub(super) fn backoff(&self) -> u32 {
        self.backoff
    }

    /// The time-out, with back-off.
    pub(super) fn rto(&self) -> Duration {
        self.rto_backed_off(self.backoff)
    }

    /// The time-out with another count of doublings; zero-window probes keep their own.
    pub(super) fn rto_backed_off(&self, backoff: u32) -> Duration {
        let factor = 1u64 << backoff.min(BACKOFF_MAX);
        Duration::from_nanos(self.rto_ns.saturating_mul(factor).min(self.max_ns))
    }

    pub(super) fn srtt(&self) -> Option<Duration> {
        (self.srtt_ns != 0).then(|| Duration::from_nanos(self.srtt_ns))
    }

    pub(super) fn rttvar(&self) -> Duration {
        Duration::from_nanos(self.rttvar_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn follows_the_formulas() {
        let mut rtt = RttEstimator::new(&Config::default());
        assert_eq!(rtt.rto(), ms(1000));
        rtt.sample(ms(400));
        assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(ms(400)), ms(200), ms(1200)));
        rtt.sample(ms(800));
        assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(ms(450)), ms(250), ms(1450)));
    }

    #[test]
    fn is_clamped_and_backs_off_until_the_next_sample() {
        let mut rtt = RttEstimator::new(&Config::default());
        rtt.sample(Duration::from_micros(30));
        assert_eq!(rtt.rto(), ms(200));
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.rto(), ms(800));
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), ms(60_000));
        rtt.sample(Duration::MAX);
        assert_eq!(rtt.rto(), ms(60_000));
        for _ in 0..200 {
            rtt.sample(ms(1));
        }
        assert_eq!(rtt.rto(), ms(200));
    }

    #[test]
    fn a_lost_syn_makes_it_three_seconds() {
        let mut rtt = RttEstimator::new(&Config::default());
        rtt.back_off();
        rtt.after_lost_syn();
        assert_eq!(rtt.rto(), ms(3000));
    }
}
