//! Virtqueues, driver side: packed (virtio 1.3, 2.8) and split (2.7) behind one type.
//!
//! Ring memory is shared with a device that is not trusted: fields are read once, as atomics, and
//! judged before they are used. What the driver must remember, it remembers outside of that memory.

mod ledger;
mod packed;
mod split;

use std::sync::Arc;

use tandem_device::Region;
use thiserror::Error;

pub(crate) use packed::PackedRing;
pub(crate) use split::SplitRing;

/// Most descriptors of a chain that this driver makes.
pub(crate) const CHAIN_MAX: usize = tandem_device::FRAGS_MAX + 2;

/// One descriptor to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Segment {
    /// DMA address.
    pub(crate) addr: u64,
    /// Bytes.
    pub(crate) len: u32,
    /// Whether the device writes it.
    pub(crate) write: bool,
}

/// A chain that was made available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    /// Names it until it is used; below the ring's size.
    pub(crate) id: u16,
    /// First descriptor.
    pub(crate) slot: u16,
    /// Wrap counter there (split: parity of the pass over the available ring).
    pub(crate) wrap: bool,
}

/// A chain that the device is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    /// As in [`Added`].
    pub(crate) id: u16,
    /// Bytes that the device says it wrote, at most what it was allowed to.
    pub(crate) len: u32,
}

/// How the device broke the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RingFault {
    #[error("used buffer {id} is not outstanding")]
    UnknownId { id: u32 },
    #[error("used buffer {id}: {len} bytes written of {max}")]
    Length { id: u16, len: u32, max: u32 },
    #[error("used index jumps from {from} to {to} with {outstanding} chains outstanding")]
    Jump { from: u16, to: u16, outstanding: u16 },
    #[error("a batch of used buffers ends before buffer {id}")]
    CutBatch { id: u16 },
}

/// What was negotiated, as far as rings care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RingOptions {
    pub(crate) event_idx: bool,
    pub(crate) in_order: bool,
}

/// Offsets in the ring's region of descriptor, driver and device area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Areas {
    pub(crate) desc: usize,
    pub(crate) driver: usize,
    pub(crate) device: usize,
    pub(crate) len: usize,
}

/// A virtqueue.
#[derive(Debug)]
pub(crate) enum Ring {
    Packed(PackedRing),
    Split(SplitRing),
}

macro_rules! either {
    ($self:expr, $ring:ident => $result:expr) => {
        match $self {
            Self::Packed($ring) => $result,
            Self::Split($ring) => $result,
        }
    };
}

impl Ring {
    /// Makes a ring of `size` descriptors, notifications from the device disabled.
    pub(crate) fn new(packed: bool, size: u16, options: RingOptions) -> std::io::Result<Self> {
        Ok(if packed {
            Self::Packed(PackedRing::new(size, options)?)
        } else {
            Self::Split(SplitRing::new(size, options)?)
        })
    }

    /// Its memory.
    pub(crate) fn region(&self) -> &Arc<Region> {
        either!(self, ring => ring.region())
    }

    /// Where the areas are in it.
    pub(crate) fn areas(&self) -> Areas {
        either!(self, ring => ring.areas())
    }

    /// Descriptors.
    pub(crate) fn size(&self) -> u16 {
        either!(self, ring => ring.size())
    }

    /// Free descriptors.
    pub(crate) fn free(&self) -> u16 {
        either!(self, ring => ring.free())
    }

    /// Chains that the device has.
    pub(crate) fn outstanding(&self) -> u16 {
        either!(self, ring => ring.outstanding())
    }

    /// The id that the next [`Ring::add`] will give; meaningful while a descriptor is free.
    pub(crate) fn next_id(&self) -> u16 {
        either!(self, ring => ring.next_id())
    }

    /// Makes a chain available. The device may see it at once, but need not before
    /// [`Ring::publish`].
    ///
    /// # Panics
    /// When `segments` is empty or there are fewer free descriptors.
    pub(crate) fn add(&mut self, segments: &[Segment]) -> Added {
        assert!(!segments.is_empty() && segments.len() <= usize::from(self.free()));
        either!(self, ring => ring.add(segments))
    }

    /// Shows the device all that was added, and returns whether it wants a doorbell for it.
    pub(crate) fn publish(&mut self) -> bool {
        either!(self, ring => ring.publish())
    }

    /// Next available position for the doorbell's upper half (4.1.5.2).
    pub(crate) fn notification_data(&self) -> u16 {
        either!(self, ring => ring.notification_data())
    }

    /// Takes the next chain that the device is done with.
    ///
    /// # Errors
    /// [`RingFault`]: the ring is not to be used again.
    pub(crate) fn pop(&mut self) -> Result<Option<Used>, RingFault> {
        either!(self, ring => ring.pop())
    }

    /// Asks for an interrupt at the next used chain. False when there is one already, for which no
    /// interrupt need come.
    pub(crate) fn enable_interrupt(&mut self) -> bool {
        either!(self, ring => ring.enable_interrupt())
    }

    /// Asks for no interrupts.
    pub(crate) fn disable_interrupt(&mut self) {
        either!(self, ring => ring.disable_interrupt());
    }
}

#[cfg(test)]
mod tests;
