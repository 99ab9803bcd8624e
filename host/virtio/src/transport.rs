//! The PCI function as the driver sees it: configuration space, BARs, DMA, interrupts, reset.
//!
//! Who implements it: the cosimulation over a simulated NIC, `tandem-backends` over a vfio-user
//! server, later kernel VFIO. Methods take `&self`, because the queues of one device live on several
//! shards; an implementation locks where it has to, and a doorbell into mapped memory needs no lock.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use tandem_device::{DmaError, Region, RegionId};
use thiserror::Error;

/// Width of an access to configuration space or a BAR. Addresses are multiples of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits; not used on configuration space.
    Double,
}

impl Width {
    /// Length in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// All ones of this width: what a read of an absent function returns.
    pub const fn ones(self) -> u64 {
        match self {
            Self::Byte => 0xFF,
            Self::Half => 0xFFFF,
            Self::Word => 0xFFFF_FFFF,
            Self::Double => u64::MAX,
        }
    }
}

/// Why an access to a PCI function failed.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The function was removed, or whoever emulates it died. Stays so.
    #[error("the PCI function is gone: {reason}")]
    Gone {
        /// How it showed.
        reason: String,
    },
    /// The access is outside the BAR or configuration space, not aligned, or there is no such BAR.
    #[error("{what} at {offset:#x} is out of range")]
    OutOfRange {
        /// Which access, such as `read of BAR 0`.
        what: &'static str,
        /// Where.
        offset: u64,
    },
    /// The function or what carries it cannot do this.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked.
        what: &'static str,
    },
    /// Mapping memory failed.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// What the system answered.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
}

/// One PCI function in our hands.
///
/// # Ordering
/// Accesses of one thread reach the function in program order. A `bar_write` is a release: what the
/// thread wrote to DMA memory before is visible to the device when the write arrives; a `bar_read` is
/// an acquire, as on a real bus where a read pushes the device's earlier writes before it.
pub trait PciTransport: Send + Sync {
    /// For people: `0000:01:00.0`, `vfio-user /run/nic.sock`, `rtl`.
    fn name(&self) -> &str;

    /// Reads configuration space, little-endian; unused high bits are zero. `offset` is aligned to
    /// the width, which is at most [`Width::Word`].
    ///
    /// # Errors
    /// [`TransportError`]. An absent function may instead read as all ones.
    fn config_read(&self, offset: u16, width: Width) -> Result<u32, TransportError>;

    /// Writes configuration space.
    ///
    /// # Errors
    /// [`TransportError`].
    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<(), TransportError>;

    /// Length in bytes of a memory BAR (index 0 to 5), `None` where there is none. A 64-bit BAR is
    /// known by its lower index.
    fn bar_len(&self, bar: u8) -> Option<u64>;

    /// Reads a BAR; unused high bits are zero.
    ///
    /// # Errors
    /// [`TransportError`]. An absent function may instead read as all ones.
    fn bar_read(&self, bar: u8, offset: u64, width: Width) -> Result<u64, TransportError>;

    /// Writes a BAR. It may be posted: an error can show at a later access.
    ///
    /// # Errors
    /// [`TransportError`].
    fn bar_write(
        &self,
        bar: u8,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), TransportError>;

    /// Maps the whole region for the device and returns the DMA address of its first byte; mapping it
    /// again returns the same address. The region stays alive until it is unmapped, even when the
    /// device is gone. The contract of [`tandem_device::DmaDomain::map`].
    ///
    /// # Errors
    /// See [`DmaError`].
    fn dma_map(&self, region: &Arc<Region>) -> Result<u64, DmaError>;

    /// Unmaps it; when this returns, the device can no longer reach it. Unknown regions are ignored.
    /// On a function that is gone this succeeds: nobody is left to reach the memory.
    ///
    /// # Errors
    /// See [`DmaError`]; the region is then still to be considered mapped.
    fn dma_unmap(&self, region: RegionId) -> Result<(), DmaError>;

    /// MSI-X vectors that the function has, 0 where interrupts cannot be had.
    fn vectors(&self) -> u16;

    /// Programs and unmasks vectors 0 to `count` - 1 and sets MSI-X enable; 0 disables MSI-X. Replaces
    /// what was enabled before and forgets what was pending.
    ///
    /// # Errors
    /// [`TransportError`], among them `count` above [`PciTransport::vectors`].
    fn enable_vectors(&self, count: u16) -> Result<(), TransportError>;

    /// Whether the vector fired since this was last asked, which takes the event: asking again gives
    /// false until it fires again. Makes the fd of the vector unreadable. Never blocks.
    ///
    /// # Errors
    /// [`TransportError`], among them a vector that is not enabled.
    fn interrupt_pending(&self, vector: u16) -> Result<bool, TransportError>;

    /// Readable when the vector fired; `None` when it can only be polled. The descriptor stays the
    /// same between calls of [`PciTransport::enable_vectors`].
    fn interrupt_fd(&self, vector: u16) -> Option<BorrowedFd<'_>>;

    /// Readable, and from then on for ever, once the function is gone, when
    /// [`PciTransport::interrupt_pending`] says so too; `None` when that only shows in accesses.
    fn removal_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Function-level reset. When it returns the device issues no DMA and no interrupt any more;
    /// vectors are disabled, configuration space is as after power-on but for the BARs, mapped memory
    /// stays mapped.
    ///
    /// # Errors
    /// [`TransportError`].
    fn reset_function(&self) -> Result<(), TransportError>;

    /// Lets time pass for the device between two polls of a register: a short sleep, or in a
    /// cosimulation some hundred cycles.
    fn pause(&self) {
        std::thread::sleep(Duration::from_micros(50));
    }
}
