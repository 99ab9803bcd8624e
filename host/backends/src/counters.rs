//! Counters of queues, for their device to sum up.

use std::sync::{Arc, Mutex, PoisonError};

use tandem_device::Stats;

/// One queue's counters, written once a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<Mutex<Stats>>);

impl Counters {
    pub(crate) fn publish(&self, stats: &Stats) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    pub(crate) fn snapshot(&self) -> Stats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn sum<'a>(counters: impl IntoIterator<Item = &'a Counters>) -> Stats {
    let mut total = Stats::default();
    for counters in counters {
        total += counters.snapshot();
    }
    total
}
