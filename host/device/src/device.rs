//! Devices and their queues.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use bitflags::bitflags;
use tandem_packet::MacAddr;
use thiserror::Error;

use crate::{Caps, Frame, Stats};

/// Frames on their way together. Taken from the front, added at the back; its owner bounds it by the
/// budget.
pub type Batch = VecDeque<Frame>;

/// Operational state (RFC 2863, ifOperStatus, as far as the original design knows it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OperState {
    /// Not able to carry frames.
    #[default]
    Down,
    /// Carries frames.
    Up,
    /// Administratively up, waiting for something outside: no carrier, or the peer absent.
    Dormant,
}

bitflags! {
    /// Interface flags, by their usual names.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct DeviceFlags: u32 {
        /// Administratively up.
        const UP = 1;
        /// Broadcast address valid.
        const BROADCAST = 1 << 1;
        /// Loopback.
        const LOOPBACK = 1 << 3;
        /// Point to point.
        const POINT_TO_POINT = 1 << 4;
        /// No ARP.
        const NO_ARP = 1 << 7;
        /// Receives all frames.
        const PROMISC = 1 << 8;
        /// Receives all multicast frames.
        const ALL_MULTI = 1 << 9;
        /// Can multicast.
        const MULTICAST = 1 << 12;
    }
}

/// What a device lets through (set_rx_mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReceiveMode {
    /// Own unicast, broadcast and joined multicast.
    #[default]
    Station,
    /// Own unicast, broadcast and all multicast.
    AllMulticast,
    /// Everything.
    Promiscuous,
}

/// Facts about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// For people: `virtio 0000:01:00.0`, `tap td0`.
    pub name: String,
    /// Station address.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Flags.
    pub flags: DeviceFlags,
    /// Link speed in Mbit/s when known.
    pub speed_mbit_s: Option<u32>,
    /// Queues that may be taken.
    pub queues: u16,
}

/// Depths in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLens {
    /// Receive.
    pub rx: u16,
    /// Transmit.
    pub tx: u16,
}

/// Why a device operation failed.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The device was removed, reset behind our back or its server died. What it held is lost; a
    /// connection is not, once its route has another device.
    #[error("device {name} is gone: {reason}")]
    Gone {
        /// Which.
        name: String,
        /// How it showed.
        reason: String,
    },
    /// The device asks for a reset (DEVICE_NEEDS_RESET) or broke the contract.
    #[error("device {name} needs a reset: {reason}")]
    NeedsReset {
        /// Which.
        name: String,
        /// How it showed.
        reason: String,
    },
    /// The device cannot do this.
    #[error("{what} is not supported by {name}")]
    Unsupported {
        /// Which.
        name: String,
        /// What was asked.
        what: &'static str,
    },
    /// A value out of range.
    #[error("{what} of {value} is out of range {min} to {max}")]
    OutOfRange {
        /// Which value.
        what: &'static str,
        /// What was asked.
        value: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// The queue was taken before, or does not exist.
    #[error("queue {index} of {name} is not to be had")]
    NoQueue {
        /// Which device.
        name: String,
        /// Which queue.
        index: u16,
    },
    /// No memory for buffers, or memory could not be mapped.
    #[error(transparent)]
    Dma(#[from] crate::DmaError),
    /// What the system answered.
    #[error("{what}")]
    Io {
        /// What was tried, and on what.
        what: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// A network interface: identity, state and control.
pub trait Device {
    /// Facts.
    fn info(&self) -> &DeviceInfo;

    /// What it can do now.
    fn caps(&self) -> Caps;

    /// State of the link.
    fn oper_state(&mut self) -> OperState;

    /// Starts it. Queues may be taken afterwards. Opening an open device does nothing.
    ///
    /// # Errors
    /// See [`DeviceError`].
    fn open(&mut self) -> Result<(), DeviceError>;

    /// Stops it: no frame moves afterwards, and buffers that it held are free again (or quarantined
    /// until unmapped).
    ///
    /// # Errors
    /// See [`DeviceError`].
    fn close(&mut self) -> Result<(), DeviceError>;

    /// Hands out a queue, once.
    ///
    /// # Errors
    /// [`DeviceError::NoQueue`] when it is out of range or was taken.
    fn take_queue(&mut self, index: u16) -> Result<Box<dyn Queue>, DeviceError>;

    /// Sets the station address.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where it is fixed.
    fn set_mac(&mut self, mac: MacAddr) -> Result<(), DeviceError>;

    /// Sets what is let through.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] when the device filters and has no control queue to say so.
    fn set_receive_mode(&mut self, mode: ReceiveMode) -> Result<(), DeviceError>;

    /// Sets the MTU in bytes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfRange`].
    fn set_mtu(&mut self, mtu: u32) -> Result<(), DeviceError>;

    /// Depths of its queues.
    fn queue_lens(&self) -> QueueLens;

    /// Sets the depths; effective at the next open.
    ///
    /// # Errors
    /// [`DeviceError::OutOfRange`].
    fn set_queue_lens(&mut self, lens: QueueLens) -> Result<(), DeviceError>;

    /// Counters, all queues summed.
    fn stats(&self) -> Stats;
}

/// How a [`Queue::transmit`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransmitOutcome {
    /// Frames that the device took from the front of the batch.
    pub taken: usize,
    /// The device is full: the rest stays in the batch for a later call.
    pub full: bool,
}

/// One pair of receive and transmit rings; belongs to one shard.
pub trait Queue: Send {
    /// Appends at most `budget` received frames to `batch` and returns how many. Fewer than `budget`
    /// means that the device has no more now. Never blocks.
    ///
    /// # Errors
    /// [`DeviceError::Gone`] or [`DeviceError::NeedsReset`]: the queue is dead and stays so.
    fn receive(&mut self, budget: usize, batch: &mut Batch) -> Result<usize, DeviceError>;

    /// Takes frames from the front of `batch` while there is room, and rings the doorbell at most once.
    /// A frame that the device can never carry is dropped and counted, not left at the front.
    ///
    /// # Errors
    /// As for [`Queue::receive`]; frames not taken stay in the batch.
    fn transmit(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError>;

    /// Reclaims transmitted frames (dropping them) and appends the tokens of those that had one.
    /// Called by the poll loop once a turn; `receive` and `transmit` may reclaim too.
    ///
    /// # Errors
    /// As for [`Queue::receive`].
    fn completed(&mut self, tokens: &mut Vec<u64>) -> Result<(), DeviceError>;

    /// Frames given to the device and not yet completed.
    fn in_flight(&self) -> usize;

    /// Before sleeping: asks for a wake-up on the handle and returns true if the device has nothing now.
    /// False means that there is work: poll again instead of sleeping.
    ///
    /// # Errors
    /// As for [`Queue::receive`].
    fn arm(&mut self) -> Result<bool, DeviceError>;

    /// What to wait on: readable when the device wants attention. `None` when it can only be polled.
    fn wait_handle(&self) -> Option<BorrowedFd<'_>>;

    /// This queue's counters.
    fn stats(&self) -> Stats;
}
