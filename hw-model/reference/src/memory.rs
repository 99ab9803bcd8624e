//! Host memory as the device reads and writes it.

use thiserror::Error;

/// The bus answered an access with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("bus error at {addr:#x}")]
pub struct BusError {
    /// First byte of the access.
    pub addr: u64,
}

/// Memory behind the bus. Every access is answered before the next is made.
pub trait Memory {
    /// Fills `out` from `addr` on.
    ///
    /// # Errors
    /// [`BusError`]; `out` is then of no meaning.
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), BusError>;

    /// Writes `bytes` from `addr` on.
    ///
    /// # Errors
    /// [`BusError`]; what was written is then not known.
    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), BusError>;
}
