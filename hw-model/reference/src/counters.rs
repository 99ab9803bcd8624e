//! The counters of BAR 0, in the order of `tandem_contract::layout::COUNTERS`.

use tandem_contract::trace::Drop;

/// Counters of the model; cleared by reset of the chip only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // Each is described in `tandem_contract::layout::COUNTERS`.
pub struct Counters {
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub tx_csum: u64,
    pub tx_dropped: u64,
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub rx_csum_valid: u64,
    pub rx_csum_bad: u64,
    pub rx_dropped_fifo: u64,
    pub rx_dropped_no_buffer: u64,
    pub rx_dropped_error: u64,
    pub rx_dropped_filter: u64,
    pub dma_errors: u64,
    pub irqs: u64,
    pub rx_dropped_not_ready: u64,
}

impl Counters {
    /// Counts a received frame that was dropped.
    pub(crate) fn drop_rx(&mut self, reason: Drop) {
        let counter = match reason {
            Drop::FifoFull => &mut self.rx_dropped_fifo,
            Drop::NoBuffer | Drop::BufferTooShort => &mut self.rx_dropped_no_buffer,
            Drop::Filter => &mut self.rx_dropped_filter,
            Drop::NotReady => &mut self.rx_dropped_not_ready,
            Drop::MacError | Drop::Runt | Drop::TooLong | Drop::BadRequest => {
                &mut self.rx_dropped_error
            }
        };
        *counter += 1;
    }

    /// The counter called `name` in the contract's table; `None` for those that are not counted here.
    pub(crate) fn by_name(&self, name: &str) -> Option<u64> {
        Some(match name {
            "tx_frames" => self.tx_frames,
            "tx_bytes" => self.tx_bytes,
            "tx_csum" => self.tx_csum,
            "tx_dropped" => self.tx_dropped,
            "rx_frames" => self.rx_frames,
            "rx_bytes" => self.rx_bytes,
            "rx_csum_valid" => self.rx_csum_valid,
            "rx_csum_bad" => self.rx_csum_bad,
            "rx_dropped_fifo" => self.rx_dropped_fifo,
            "rx_dropped_no_buffer" => self.rx_dropped_no_buffer,
            "rx_dropped_error" => self.rx_dropped_error,
            "rx_dropped_filter" => self.rx_dropped_filter,
            "dma_errors" => self.dma_errors,
            "irqs" => self.irqs,
            "rx_dropped_not_ready" => self.rx_dropped_not_ready,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_contract::layout::COUNTERS;

    #[test]
    fn every_counter_of_the_contract_is_known() {
        for (_, name, _) in COUNTERS {
            let known = matches!(*name, "id" | "cycles");
            assert_eq!(Counters::default().by_name(name).is_none(), known, "{name}");
        }
    }
}
