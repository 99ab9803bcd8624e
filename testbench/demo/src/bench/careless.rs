//! A device below which nobody asks for checksums: what the stack left open stays open. It is for
//! measuring what checksums cost, and needs a peer that believes every frame.

use std::os::fd::BorrowedFd;

use tandem_device::{
    Batch, Caps, Csum, Device, DeviceError, DeviceInfo, OperState, Queue, QueueLens, ReceiveMode,
    Stats, TransmitOutcome,
};
use tandem_packet::MacAddr;

/// See the module.
pub(super) struct Careless<D>(pub(super) D);

struct CarelessQueue {
    inner: Box<dyn Queue>,
    /// Frames at the front that were seen in an earlier call, when the device was full.
    seen: usize,
}

impl<D: Device> Device for Careless<D> {
    fn info(&self) -> &DeviceInfo {
        self.0.info()
    }

    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn oper_state(&mut self) -> OperState {
        self.0.oper_state()
    }

    fn open(&mut self) -> Result<(), DeviceError> {
        self.0.open()
    }

    fn close(&mut self) -> Result<(), DeviceError> {
        self.0.close()
    }

    fn take_queue(&mut self, index: u16) -> Result<Box<dyn Queue>, DeviceError> {
        Ok(Box::new(CarelessQueue { inner: self.0.take_queue(index)?, seen: 0 }))
    }

    fn set_mac(&mut self, mac: MacAddr) -> Result<(), DeviceError> {
        self.0.set_mac(mac)
    }

    fn set_receive_mode(&mut self, mode: ReceiveMode) -> Result<(), DeviceError> {
        self.0.set_receive_mode(mode)
    }

    fn set_mtu(&mut self, mtu: u32) -> Result<(), DeviceError> {
        self.0.set_mtu(mtu)
    }

    fn queue_lens(&self) -> QueueLens {
        self.0.queue_lens()
    }

    fn set_queue_lens(&mut self, lens: QueueLens) -> Result<(), DeviceError> {
        self.0.set_queue_lens(lens)
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

impl Queue for CarelessQueue {
    fn receive(&mut self, budget: usize, batch: &mut Batch) -> Result<usize, DeviceError> {
        self.inner.receive(budget, batch)
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        for frame in batch.iter_mut().skip(self.seen) {
            frame.meta_mut().csum = Csum::None;
        }
        let outcome = self.inner.transmit(batch);
        self.seen = batch.len();
        outcome
    }

    fn completed(&mut self, tokens: &mut Vec<u64>) -> Result<(), DeviceError> {
        self.inner.completed(tokens)
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.inner.arm()
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wait_handle()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }
}
