//! Where the function keeps its registers: a walk over its configuration space (virtio 1.3, 4.1.4).
//!
//! The chain of capabilities is walked by the crate `pci-driver` over a snapshot of configuration
//! space, which bounds loops; what a virtio capability says is judged here against the lengths of the
//! BARs, since a hostile function may write anything there.

use pci_driver::config::PciConfig;
use pci_driver::config::caps::{Capability, PciCapabilities, VendorSpecificCapability};
use pci_driver::regions::{AsPciSubregion, BackedByPciSubregion, PciMemoryRegion};
use thiserror::Error;

use crate::{PciTransport, TransportError, Width};

/// PCI vendor of every virtio device.
const VENDOR: u16 = 0x1AF4;
/// Network card: 0x1040 plus the device type (4.1.2).
const DEVICE_MODERN: u16 = 0x1041;
/// Network card, transitional; has the modern interface too.
const DEVICE_TRANSITIONAL: u16 = 0x1000;

/// Bytes of configuration space that are read.
const SNAPSHOT_LEN: usize = 256;
/// Length of the common configuration up to and without `queue_notif_config_data`: what every virtio
/// 1.0 device has.
const COMMON_LEN_MIN: u32 = 0x38;

/// Why a function cannot be driven.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// Reading configuration space failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Vendor and device are not those of a virtio network card.
    #[error("PCI function {vendor:04x}:{device:04x} is not a virtio network card")]
    NotVirtioNet {
        /// Vendor.
        vendor: u16,
        /// Device.
        device: u16,
    },
    /// The chain of capabilities is malformed.
    #[error("the chain of PCI capabilities is malformed")]
    Chain(#[source] std::io::Error),
    /// No usable capability of this kind; the last one that was found and refused, if any.
    #[error("no usable virtio capability for the {what}{}", refused.map_or(String::new(), |r| format!(" ({r})")))]
    Missing {
        /// Which structure.
        what: &'static str,
        /// Why one was refused.
        refused: Option<&'static str>,
    },
}

/// A run of registers in a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// BAR index.
    pub bar: u8,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Common configuration (4.1.4.3).
    pub common: Block,
    /// Notifications (4.1.4.4).
    pub notify: Block,
    /// `notify_off_multiplier` in bytes.
    pub notify_multiplier: u32,
    /// ISR status (4.1.4.5); absent where the function has none that is usable, since with MSI-X
    /// nobody reads it.
    pub isr: Option<Block>,
    /// Device configuration (4.1.4.6).
    pub device: Block,
}

impl Layout {
    /// Reads configuration space and finds the structures.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn discover(transport: &dyn PciTransport) -> Result<Self, LayoutError> {
        let id = transport.config_read(0, Width::Word)?;
        if id == u32::MAX {
            let reason = "configuration space reads as all ones".into();
            return Err(TransportError::Gone { reason }.into());
        }
        let mut bytes = [0; SNAPSHOT_LEN];
        for (word, chunk) in bytes.chunks_exact_mut(4).enumerate() {
            let value = transport.config_read(word as u16 * 4, Width::Word)?;
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        Self::parse(&bytes, &|bar| transport.bar_len(bar))
    }

    /// Finds the structures in a snapshot of configuration space.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn parse(
        config: &[u8; SNAPSHOT_LEN],
        bar_len: &dyn Fn(u8) -> Option<u64>,
    ) -> Result<Self, LayoutError> {
        let vendor = u16::from_le_bytes([config[0], config[1]]);
        let device = u16::from_le_bytes([config[2], config[3]]);
        if vendor != VENDOR || !matches!(device, DEVICE_MODERN | DEVICE_TRANSITIONAL) {
            return Err(LayoutError::NotVirtioNet { vendor, device });
        }
        let region = PciMemoryRegion::new(config);
        let capabilities = PciCapabilities::backed_by(PciConfig::backed_by(&region))
            .map_err(LayoutError::Chain)?;

        let mut found = Found { bar_len, blocks: [const { Err(None) }; KINDS], multiplier: 0 };
        for capability in capabilities.iter() {
            let vendor = VendorSpecificCapability::backed_by(capability.as_subregion());
            // The id is of another kind, or the capability is cut off: not ours to judge.
            if !matches!(vendor, Ok(Some(_))) {
                continue;
            }
            let at = capability.as_subregion().offset_in_underlying_region() as usize;
            found.judge(&config[at..]);
        }
        let multiplier = found.multiplier;
        Ok(Self {
            common: found.block(1, "common configuration")?,
            notify: found.block(2, "notifications")?,
            notify_multiplier: multiplier,
            isr: found.block(3, "interrupt status").ok(),
            device: found.block(4, "device configuration")?,
        })
    }
}

/// `cfg_type` 1 to 4 (4.1.4).
const KINDS: usize = 4;

struct Found<'a> {
    bar_len: &'a dyn Fn(u8) -> Option<u64>,
    /// By kind: the block, or why the last one was refused.
    blocks: [Result<Block, Option<&'static str>>; KINDS],
    multiplier: u32,
}

impl Found<'_> {
    fn block(&self, kind: usize, what: &'static str) -> Result<Block, LayoutError> {
        self.blocks[kind - 1].map_err(|refused| LayoutError::Missing { what, refused })
    }

    /// `bytes` begin with a vendor-specific capability and end with configuration space.
    fn judge(&mut self, bytes: &[u8]) {
        // struct virtio_pci_cap: cap_vndr, cap_next, cap_len, cfg_type, bar, id, padding[2], offset, length
        let Some(fixed) = bytes.first_chunk::<16>() else { return };
        let (cap_len, kind) = (usize::from(fixed[2]), usize::from(fixed[3]));
        // "The driver MUST ignore any vendor-specific capability structure which has a reserved
        // cfg_type value." (4.1.4.1); so are those that this driver has no use for.
        if kind == 0 || kind > KINDS {
            return;
        }
        // "The driver SHOULD use the first instance of each virtio structure type they can support."
        if self.blocks[kind - 1].is_ok() {
            return;
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| fixed[at + i]));
        let block = Block { bar: fixed[4], offset: u64::from(word(8)), len: word(12) };
        let notify = kind == 2;
        let multiplier = bytes.get(16..20).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (len_min, align) = match kind {
            1 => (COMMON_LEN_MIN, 4),
            2 => (2, 2),
            3 => (1, 1),
            _ => (1, 4),
        };
        let refused = if cap_len < 16 + 4 * usize::from(notify) || (notify && multiplier.is_none())
        {
            Some("capability too short")
        } else if block.bar > 5 {
            // "The driver MUST ignore any vendor-specific capability structure which has a reserved
            // bar value." (4.1.4.1)
            Some("reserved BAR")
        } else if (self.bar_len)(block.bar)
            .is_none_or(|len| block.offset + u64::from(block.len) > len)
        {
            Some("outside its BAR")
        } else if block.len < len_min {
            Some("structure too short")
        } else if !block.offset.is_multiple_of(align) {
            Some("not aligned")
        } else {
            None
        };
        if notify && refused.is_none() {
            self.multiplier = multiplier.unwrap_or(0);
        }
        self.blocks[kind - 1] = refused.map_or(Ok(block), |reason| Err(Some(reason)));
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
