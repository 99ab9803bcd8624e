//! One life of a device, from open to close: what its queues and its control side share.
//!
//! ```text
//!            config interrupt, broken ring        access fails, all ones
//!   Running ------------------------> NeedsReset       |
//!      |  \________________________________|___________v
//!      |                                   |          Gone
//!      | close: reset done                 |           | close: memory unmapped
//!      v                                   v           v
//!   Quiesced <-----------------------------+-----------+
//! ```
//!
//! Only in Quiesced can the device no longer reach memory. Until then whatever it was given stays in
//! the queue, or once that was dropped, in the session's quarantine.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tandem_device::{DeviceError, DmaError, Frame, Region, RegionId, Stats};

use crate::registers::{NetConfig, Registers, SetupError, status};
use crate::{Features, TransportError};

/// Regions of which a session remembers the DMA address; bounds its table.
pub const REGIONS_MAX: usize = 65_536;

const RUNNING: u8 = 0;
const NEEDS_RESET: u8 = 1;
const GONE: u8 = 2;
const QUIESCED: u8 = 3;

/// See the module.
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) registers: Registers,
    pub(crate) features: Features,
    pub(crate) config_vector: Option<u16>,
    state: AtomicU8,
    reason: OnceLock<String>,
    link_up: AtomicBool,
    mapped: Mutex<Vec<RegionId>>,
    quarantine: Mutex<Vec<Frame>>,
    pub(crate) stats: SharedStats,
}

impl Session {
    pub(crate) fn new(
        name: String,
        registers: Registers,
        features: Features,
        config: &NetConfig,
        config_vector: Option<u16>,
    ) -> Self {
        Self {
            name,
            registers,
            features,
            config_vector,
            state: AtomicU8::new(RUNNING),
            reason: OnceLock::new(),
            link_up: AtomicBool::new(config.link_up),
            mapped: Mutex::default(),
            quarantine: Mutex::default(),
            stats: SharedStats::default(),
        }
    }

    /// Whether frames may move.
    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        match self.state.load(Ordering::Acquire) {
            RUNNING => Ok(()),
            state => Err(self.error(state)),
        }
    }

    pub(crate) fn is_quiesced(&self) -> bool {
        self.state.load(Ordering::Acquire) == QUIESCED
    }

    fn error(&self, state: u8) -> DeviceError {
        let name = self.name.clone();
        let reason = self.reason.get().cloned();
        match state {
            NEEDS_RESET => DeviceError::NeedsReset { name, reason: reason.unwrap_or_default() },
            QUIESCED => {
                DeviceError::Gone { name, reason: reason.unwrap_or("it was closed".into()) }
            }
            _ => DeviceError::Gone { name, reason: reason.unwrap_or_default() },
        }
    }

    fn leave(&self, state: u8, reason: String) -> DeviceError {
        let _ = self.reason.set(reason);
        // Gone is worse than needing a reset; nothing comes back from either.
        self.state.fetch_max(state, Ordering::AcqRel);
        self.link_up.store(false, Ordering::Release);
        self.error(self.state.load(Ordering::Acquire))
    }

    /// The device broke the contract or asked for a reset.
    pub(crate) fn needs_reset(&self, reason: String) -> DeviceError {
        tracing::warn!(device = %self.name, %reason, "device needs a reset");
        self.leave(NEEDS_RESET, reason)
    }

    /// An access failed.
    pub(crate) fn access_failed(&self, error: TransportError) -> DeviceError {
        let reason = match error {
            TransportError::Gone { reason } => reason,
            other => format!("an access failed: {other}"),
        };
        self.leave(GONE, reason)
    }

    pub(crate) fn link_up(&self) -> bool {
        self.link_up.load(Ordering::Acquire)
    }

    /// Looks at a configuration interrupt, if there was one: the link may have changed, or the device
    /// asks for a reset.
    pub(crate) fn service_config(&self) -> Result<(), DeviceError> {
        if let Some(vector) = self.config_vector {
            let pending = self.registers.transport.interrupt_pending(vector);
            if !pending.map_err(|error| self.access_failed(error))? {
                return Ok(());
            }
        }
        self.read_config()
    }

    fn read_config(&self) -> Result<(), DeviceError> {
        let device_status = self.registers.status().map_err(|error| self.access_failed(error))?;
        // "the device SHOULD set DEVICE_NEEDS_RESET when it enters an error state that a reset is
        // needed" (2.1.2)
        if device_status & status::NEEDS_RESET != 0 {
            return Err(self.needs_reset("it set DEVICE_NEEDS_RESET".into()));
        }
        // A status that lost DRIVER_OK was reset by somebody else.
        if device_status & status::DRIVER_OK == 0 {
            return Err(self.needs_reset("it was reset behind our back".into()));
        }
        match self.registers.net_config(self.features) {
            Ok(config) => {
                self.link_up.store(config.link_up, Ordering::Release);
                Ok(())
            }
            Err(SetupError::Transport(error)) => Err(self.access_failed(error)),
            Err(error) => Err(self.needs_reset(error.to_string())),
        }
    }

    /// Maps a region, remembering that it is to be unmapped at the end.
    pub(crate) fn map(&self, region: &Arc<Region>) -> Result<u64, DmaError> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that nothing is mapped behind the back of `quiesce`.
        if self.is_quiesced() {
            return Err(DmaError::Gone);
        }
        let address = self.registers.transport.dma_map(region)?;
        if !mapped.contains(&region.id()) {
            mapped.push(region.id());
        }
        Ok(address)
    }

    /// Stops all DMA: by a reset, or where the device does not answer, by taking its memory away.
    pub(crate) fn quiesce(&self) -> Result<(), DeviceError> {
        if self.is_quiesced() {
            return Ok(());
        }
        let transport = &self.registers.transport;
        let reset = self.registers.reset().or_else(|error| {
            tracing::warn!(device = %self.name, %error, "trying a function-level reset");
            transport.reset_function().map_err(SetupError::from)
        });
        let _ = transport.enable_vectors(0);
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unmapped = Ok(());
        mapped.retain(|&region| match transport.dma_unmap(region) {
            Ok(()) => false,
            Err(error) => {
                unmapped = Err(error);
                true
            }
        });
        match (reset, unmapped) {
            (_, Ok(())) => {}
            // It was reset and will not reach what is still mapped.
            (Ok(()), Err(error)) => {
                tracing::warn!(device = %self.name, %error, "memory could not be unmapped");
            }
            (Err(_), Err(error)) => return Err(error.into()),
        }
        self.state.store(QUIESCED, Ordering::Release);
        self.link_up.store(false, Ordering::Release);
        drop(mapped);
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Takes over the buffers that a dropped queue had on its rings, until the device cannot reach them
    /// any more. (The rings' own memory lives as long as it is mapped.)
    pub(crate) fn bury(&self, frames: impl Iterator<Item = Frame>) {
        let mut quarantine = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: `quiesce` changes the state before it empties the quarantine.
        if self.is_quiesced() {
            frames.for_each(drop);
        } else {
            quarantine.extend(frames);
        }
    }

    /// Buffers in quarantine.
    #[cfg(test)]
    pub(crate) fn buried(&self) -> usize {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.quiesce() {
            // The device may still write there: better lost than shared with the next frame.
            let quarantine = self.quarantine.get_mut().unwrap_or_else(PoisonError::into_inner);
            let frames = std::mem::take(quarantine);
            tracing::error!(device = %self.name, %error, frames = frames.len(), "buffers are lost for good");
            std::mem::forget(frames);
        }
    }
}

macro_rules! shared_stats {
    ($($field:ident),* $(,)?) => {
        /// Counters of the one queue that writes them, for others to read.
        #[derive(Debug, Default)]
        pub(crate) struct SharedStats {
            $($field: AtomicU64,)*
        }

        impl SharedStats {
            pub(crate) fn publish(&self, stats: &Stats) {
                $(self.$field.store(stats.$field, Ordering::Relaxed);)*
            }

            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

shared_stats!(
    rx_packets,
    tx_packets,
    rx_bytes,
    tx_bytes,
    rx_errors,
    tx_errors,
    rx_dropped,
    tx_dropped,
    collisions,
    multicast,
    rx_csum_valid,
    tx_csum,
    doorbells,
    interrupts,
);
