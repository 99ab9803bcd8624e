//! The decision trace: what the NIC decided, in the order in which it decided.
//!
//! Two implementations of the NIC may take a different time, and so meet a full FIFO or an empty ring
//! at different moments. What they may not do is decide illegally or write other bytes. A checker
//! therefore follows the trace of one model, asks of each decision whether the standard allows it
//! there, and computes for itself the bytes that must follow from it.
//!
//! In hardware an event is one 128-bit word, valid for one cycle:
//!
//! ```text
//! 7:0 kind   15:8 function   23:16 queue   31:24 code
//! 47:32 slot   48 wrap   63:49 zero   95:64 len   127:96 arg
//! ```

use crate::nic::Cycle;

/// Kinds of event; the discriminant is the hardware's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A transmit chain was read whole. slot, wrap: its first descriptor; len: frame bytes without the
    /// virtio header; arg: descriptors in the chain.
    TxFetch = 1,
    /// The last beat of a frame went to the MAC. code bit 0: a checksum was inserted; len: bytes.
    TxFrame = 2,
    /// A transmit chain was consumed without a frame; code: [`Drop`].
    TxDrop = 3,
    /// A frame from the MAC entered the receive FIFO; arg: its number, counting every frame that
    /// began at the MAC since the chip's reset; code: [`Verdict`]; len: bytes.
    RxAccept = 4,
    /// A frame from the MAC was dropped; arg: its number; code: [`Drop`].
    RxDrop = 5,
    /// A frame was written to buffers. slot, wrap: first descriptor; len: bytes with the virtio
    /// header; arg: frame number; code: buffers used.
    RxPlace = 6,
    /// A used descriptor was written and its response seen. slot, wrap: where; len: the written
    /// length; arg: buffer id.
    Used = 7,
    /// An MSI-X message was sent and its response seen; arg: vector; code 0 queue, 1 configuration.
    Irq = 8,
    /// A used buffer notification was suppressed by the driver's event area.
    IrqSuppressed = 9,
    /// A queue was found broken and DEVICE_NEEDS_RESET set; code: [`Broken`]; slot, wrap: where.
    QueueBroken = 10,
    /// A reset began; code: [`Reset`]. What is under way and has no further event is cut.
    ResetStart = 11,
    /// A reset has drained; code: [`Reset`].
    ResetDone = 12,
}

/// What the receive side found out about a frame's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// Not TCP or UDP over IP that can be judged: fragments, unknown headers, UDP without checksum.
    NotJudged = 0,
    /// Valid; marked DATA_VALID when GUEST_CSUM was negotiated.
    Valid = 1,
    /// Wrong; delivered unmarked, for the driver's side to judge.
    Bad = 2,
}

/// Why a frame or a chain was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Drop {
    /// Receive FIFO full.
    FifoFull = 1,
    /// The ring has no buffer.
    NoBuffer = 2,
    /// The MAC flagged an error (bad FCS).
    MacError = 3,
    /// Shorter than an Ethernet header.
    Runt = 4,
    /// Longer than the frame limit.
    TooLong = 5,
    /// Unicast for another station.
    Filter = 6,
    /// The device is not DRIVER_OK, or the queue not enabled.
    NotReady = 7,
    /// csum_start + csum_offset + 2 lies beyond the frame, or header fields that were not negotiated.
    BadRequest = 8,
    /// The one chain offered is too short for the frame, without MRG_RXBUF.
    BufferTooShort = 9,
}

/// Why a queue was declared broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Broken {
    /// A DMA read or write was answered with an error.
    BusError = 1,
    /// A chain is longer than the queue.
    ChainTooLong = 2,
    /// A device-writable descriptor in a transmit chain, or a readable one in a receive chain.
    WrongDirection = 3,
    /// A flag that was not negotiated (INDIRECT) or may not be combined.
    BadFlags = 4,
    /// A descriptor of length zero.
    ZeroLength = 5,
    /// The chain goes on into descriptors that are not available.
    ChainNotAvailable = 6,
    /// A transmit chain is shorter than the virtio header, or longer than header and frame limit.
    BadLength = 7,
}

/// Kinds of reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reset {
    /// Function-level reset.
    Flr = 1,
    /// device_status written 0.
    Device = 2,
    /// queue_reset written 1; the event's queue says which.
    Queue = 3,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// When.
    pub cycle: Cycle,
    /// What.
    pub kind: Kind,
    /// PCI function.
    pub function: u8,
    /// Queue: 0 is receiveq1, 1 transmitq1, and so on (virtio 1.3, 5.1.2).
    pub queue: u8,
    /// Reason, verdict or flags; see the kind.
    pub code: u8,
    /// Descriptor slot.
    pub slot: u16,
    /// Wrap counter that goes with `slot`.
    pub wrap: bool,
    /// Length in bytes; see the kind.
    pub len: u32,
    /// See the kind.
    pub arg: u32,
}

impl Kind {
    /// The kind with this hardware number.
    pub fn from_code(code: u8) -> Option<Self> {
        use Kind::*;
        [
            TxFetch,
            TxFrame,
            TxDrop,
            RxAccept,
            RxDrop,
            RxPlace,
            Used,
            Irq,
            IrqSuppressed,
            QueueBroken,
            ResetStart,
            ResetDone,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == code)
    }
}

impl Event {
    /// Unpacks the hardware's word; `None` when the kind is unknown.
    pub fn from_word(cycle: Cycle, word: u128) -> Option<Self> {
        Some(Self {
            cycle,
            kind: Kind::from_code(word as u8)?,
            function: (word >> 8) as u8,
            queue: (word >> 16) as u8,
            code: (word >> 24) as u8,
            slot: (word >> 32) as u16,
            wrap: word >> 48 & 1 == 1,
            len: (word >> 64) as u32,
            arg: (word >> 96) as u32,
        })
    }

    /// The hardware's word for this event.
    pub fn to_word(self) -> u128 {
        u128::from(self.kind as u8)
            | u128::from(self.function) << 8
            | u128::from(self.queue) << 16
            | u128::from(self.code) << 24
            | u128::from(self.slot) << 32
            | u128::from(self.wrap) << 48
            | u128::from(self.len) << 64
            | u128::from(self.arg) << 96
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_round_trip() {
        for code in 1..=12 {
            let event = Event {
                cycle: 7,
                kind: Kind::from_code(code).unwrap(),
                function: 1,
                queue: 2,
                code: 3,
                slot: 0xBEEF,
                wrap: true,
                len: 0xDEAD_BEEF,
                arg: 0xCAFE_F00D,
            };
            assert_eq!(Event::from_word(7, event.to_word()), Some(event));
        }
        assert_eq!(Event::from_word(0, 13), None);
    }
}
