//! What the driver knows of the chains that the device has, outside of shared memory.

use std::collections::VecDeque;

use super::{RingFault, Used};

#[derive(Debug, Clone, Copy, Default)]
struct Chain {
    /// Descriptors; 0 when the id is not outstanding.
    descriptors: u16,
    /// Bytes that the device may write.
    writable: u32,
}

/// Outstanding chains by id, and with IN_ORDER their order.
#[derive(Debug)]
pub(super) struct Ledger {
    chains: Box<[Chain]>,
    outstanding: u16,
    /// Ids in the order in which they were made available; only with IN_ORDER. Never longer than the
    /// ring, so that it does not grow.
    order: Option<VecDeque<u16>>,
    /// The last chain of a batch of which the device wrote one used entry only, and its length.
    batch: Option<(u16, u32)>,
}

impl Ledger {
    pub(super) fn new(size: u16, in_order: bool) -> Self {
        Self {
            chains: vec![Chain::default(); size.into()].into(),
            outstanding: 0,
            order: in_order.then(|| VecDeque::with_capacity(size.into())),
            batch: None,
        }
    }

    pub(super) fn outstanding(&self) -> u16 {
        self.outstanding
    }

    pub(super) fn insert(&mut self, id: u16, descriptors: u16, writable: u32) {
        let chain = &mut self.chains[usize::from(id)];
        assert!(chain.descriptors == 0 && descriptors > 0, "id {id} is outstanding already");
        *chain = Chain { descriptors, writable };
        self.outstanding += 1;
        if let Some(order) = &mut self.order {
            order.push_back(id);
        }
    }

    /// The next chain of a batch of which the used entry has been seen, with its descriptors.
    pub(super) fn next_of_batch(&mut self) -> Option<(Used, u16)> {
        let (last, len) = self.batch?;
        let id = self.order.as_mut()?.pop_front()?;
        if id == last {
            self.batch = None;
            return Some(self.remove(id, len));
        }
        // "The skipped buffers (for which no used ring entry was written) are assumed to have been
        // used (read or written) by the device completely." (2.7.9, 2.8.10)
        let writable = self.chains[usize::from(id)].writable;
        Some(self.remove(id, writable))
    }

    /// Judges a used entry and takes the first chain that it completes.
    pub(super) fn complete(&mut self, id: u32, len: u32) -> Result<(Used, u16), RingFault> {
        let unknown = RingFault::UnknownId { id };
        let short = u16::try_from(id).map_err(|_| unknown)?;
        let chain = *self.chains.get(usize::from(short)).ok_or(unknown)?;
        if chain.descriptors == 0 {
            return Err(unknown);
        }
        if len > chain.writable {
            return Err(RingFault::Length { id: short, len, max: chain.writable });
        }
        if self.order.is_some() {
            self.batch = Some((short, len));
            return self.next_of_batch().ok_or(unknown);
        }
        Ok(self.remove(short, len))
    }

    /// The last chain of a batch that is under way.
    pub(super) fn batch_end(&self) -> Option<u16> {
        self.batch.map(|(id, _)| id)
    }

    fn remove(&mut self, id: u16, len: u32) -> (Used, u16) {
        let chain = std::mem::take(&mut self.chains[usize::from(id)]);
        self.outstanding -= 1;
        (Used { id, len }, chain.descriptors)
    }
}
