//! The contract between the stack and whatever carries its frames.
//!
//! A [`Device`] is a network interface: identity, state, control operations. Its [`Queue`]s carry
//! frames, a batch at a time, one queue to a shard. A [`Frame`] is a handle on a buffer of a
//! [`Pool`], whose memory is one [`Region`] that can be mapped into any number of DMA domains. What a
//! frame wants done to it, or has had done, is its [`FrameMeta`]; what a device can do is its
//! [`Caps`].
//!
//! Ownership: payload is immutable once it is in a frame, headers are private to each clone. A frame
//! given to a device is the device's until it completes it, which drops the frame and so returns the
//! buffers. See `docs/architecture/ownership.md`.

mod caps;
mod device;
mod dma;
mod frame;
mod meta;
mod pool;
mod stats;

pub use caps::{Caps, RxOffloads, TxOffloads};
pub use device::{
    Batch, Device, DeviceError, DeviceFlags, DeviceInfo, OperState, Queue, QueueLens, ReceiveMode,
    TransmitOutcome,
};
pub use dma::{DmaDomain, DmaError, Region, RegionId};
pub use frame::{CloneError, DmaPiece, FRAGS_MAX, Frame, FrameError, Payload};
pub use meta::{Csum, FlowHash, FrameMeta, Gso, GsoKind, Identity};
pub use pool::{Filler, Pool, PoolConfig, PoolExhausted, PoolStats};
pub use stats::Stats;
