//! The in-process way in: a cosimulated NIC behind [`PciTransport`].

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use tandem_contract::layout::BAR0_LEN;
use tandem_contract::nic::{Cycle, Nic, Width as NicWidth};
use tandem_device::{DmaError, Region, RegionId};
use tandem_virtio::{PciTransport, TransportError, Width};

use crate::cosim::{Cosim, CosimError, Ended, Until};

/// Cycles that [`PciTransport::pause`] lets pass: 1 µs.
const PAUSE_CYCLES: Cycle = 250;

/// A handle to a cosimulation, shared between who drives the NIC and who runs its clock. Clones are the
/// same cosimulation.
pub struct InProcess<N> {
    name: Arc<str>,
    vectors: u16,
    cosim: Arc<Mutex<Cosim<N>>>,
}

impl<N> Clone for InProcess<N> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), vectors: self.vectors, cosim: Arc::clone(&self.cosim) }
    }
}

impl<N> std::fmt::Debug for InProcess<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcess").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<N: Nic> InProcess<N> {
    /// Shares a cosimulation. Its name is that of the NIC's model.
    pub fn new(cosim: Cosim<N>) -> Self {
        Self {
            name: cosim.params().model.into(),
            vectors: cosim.shell().vectors(),
            cosim: Arc::new(Mutex::new(cosim)),
        }
    }

    /// The cosimulation, locked.
    pub fn lock(&self) -> MutexGuard<'_, Cosim<N>> {
        // A panic in another thread is that thread's failure; the model itself notes its own.
        self.cosim.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs the clock; see [`Cosim::run_until`].
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn run_until(&self, until: Until) -> Result<Ended, CosimError> {
        self.lock().run_until(until)
    }

    /// Runs the clock for `cycles`; see [`Cosim::run`].
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn run(&self, cycles: Cycle) -> Result<Ended, CosimError> {
        self.lock().run(cycles)
    }

    /// Pulls the NIC out; see [`Cosim::pull_out`].
    pub fn pull_out(&self) {
        self.lock().pull_out();
    }

    fn vector(&self, vector: u16) -> Result<(), TransportError> {
        if vector < self.vectors {
            return Ok(());
        }
        Err(TransportError::OutOfRange { what: "MSI-X vector", offset: vector.into() })
    }
}

/// A failure of the model takes the function off the bus, as far as its driver can tell.
fn gone(error: CosimError) -> TransportError {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    TransportError::Gone { reason: format!("{error}: {}", source.unwrap_or_default()) }
}

fn removed() -> TransportError {
    TransportError::Gone { reason: "it was pulled out".to_owned() }
}

fn narrow(width: Width) -> Option<NicWidth> {
    match width {
        Width::Byte => Some(NicWidth::Byte),
        Width::Half => Some(NicWidth::Half),
        Width::Word => Some(NicWidth::Word),
        Width::Double => None,
    }
}

fn check(what: &'static str, offset: u64, width: Width, len: u64) -> Result<(), TransportError> {
    let bytes = u64::from(width.bytes());
    if offset.is_multiple_of(bytes) && offset.checked_add(bytes).is_some_and(|end| end <= len) {
        return Ok(());
    }
    Err(TransportError::OutOfRange { what, offset })
}

impl<N: Nic + Send> PciTransport for InProcess<N> {
    fn name(&self) -> &str {
        &self.name
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32, TransportError> {
        let narrow = narrow(width)
            .ok_or(TransportError::Unsupported { what: "64-bit read of configuration space" })?;
        check("read of configuration space", offset.into(), width, 4096)?;
        self.lock().config_read(offset, narrow).map_err(gone)
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<(), TransportError> {
        let narrow = narrow(width)
            .ok_or(TransportError::Unsupported { what: "64-bit write of configuration space" })?;
        check("write of configuration space", offset.into(), width, 4096)?;
        self.lock().config_write(offset, narrow, value).map_err(gone)
    }

    fn bar_len(&self, bar: u8) -> Option<u64> {
        (bar == 0).then_some(BAR0_LEN.into())
    }

    fn bar_read(&self, bar: u8, offset: u64, width: Width) -> Result<u64, TransportError> {
        let what = "read of a BAR";
        check(what, offset, width, self.bar_len(bar).unwrap_or(0))?;
        let mut cosim = self.lock();
        let offset = offset as u32;
        match narrow(width) {
            Some(width) => cosim.bar_read(offset, width).map(u64::from).map_err(gone),
            // Wide fields are two dwords to the device (virtio 1.3, 4.1.3.1).
            None => {
                let low = cosim.bar_read(offset, NicWidth::Word).map_err(gone)?;
                let high = cosim.bar_read(offset + 4, NicWidth::Word).map_err(gone)?;
                Ok(u64::from(low) | u64::from(high) << 32)
            }
        }
    }

    fn bar_write(
        &self,
        bar: u8,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), TransportError> {
        check("write of a BAR", offset, width, self.bar_len(bar).unwrap_or(0))?;
        let mut cosim = self.lock();
        let offset = offset as u32;
        match narrow(width) {
            Some(width) => cosim.bar_write(offset, width, value as u32).map_err(gone),
            None => {
                cosim.bar_write(offset, NicWidth::Word, value as u32).map_err(gone)?;
                cosim.bar_write(offset + 4, NicWidth::Word, (value >> 32) as u32).map_err(gone)
            }
        }
    }

    fn dma_map(&self, region: &Arc<Region>) -> Result<u64, DmaError> {
        let mut cosim = self.lock();
        if cosim.is_gone() {
            return Err(DmaError::Gone);
        }
        cosim.memory_mut().space_mut().map(region)
    }

    fn dma_unmap(&self, region: RegionId) -> Result<(), DmaError> {
        self.lock().memory_mut().space_mut().unmap(region);
        Ok(())
    }

    fn vectors(&self) -> u16 {
        self.vectors
    }

    fn enable_vectors(&self, count: u16) -> Result<(), TransportError> {
        if count > self.vectors {
            return Err(TransportError::OutOfRange { what: "MSI-X vector", offset: count.into() });
        }
        let mut cosim = self.lock();
        if cosim.is_gone() {
            return Err(removed());
        }
        cosim.enable_vectors(count).map_err(gone)
    }

    fn interrupt_pending(&self, vector: u16) -> Result<bool, TransportError> {
        self.vector(vector)?;
        let mut cosim = self.lock();
        // A driver with nothing to send learns only here that its device is gone.
        if cosim.is_gone() {
            return Err(removed());
        }
        Ok(cosim.take_interrupt(vector))
    }

    /// Interrupts of a cosimulation are polled: its clock stands while everybody waits.
    fn interrupt_fd(&self, _vector: u16) -> Option<BorrowedFd<'_>> {
        None
    }

    fn reset_function(&self) -> Result<(), TransportError> {
        let mut cosim = self.lock();
        if cosim.is_gone() {
            return Err(removed());
        }
        cosim.function_reset().map_err(gone)
    }

    fn pause(&self) {
        // A failure shows at the next access.
        let _ = self.run(PAUSE_CYCLES);
    }
}
