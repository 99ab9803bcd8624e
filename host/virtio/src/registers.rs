//! The common and the device configuration, and how to come from one status to the next
//! (virtio 1.3, 2.1, 3.1 and 4.1.4.3).

use std::sync::Arc;

use tandem_packet::MacAddr;
use thiserror::Error;

use crate::layout::{Block, LayoutError};
use crate::{Features, Layout, PciTransport, TransportError, Width};

/// Device status bits (2.1).
pub(crate) mod status {
    pub(crate) const ACKNOWLEDGE: u8 = 1;
    pub(crate) const DRIVER: u8 = 2;
    pub(crate) const DRIVER_OK: u8 = 4;
    pub(crate) const FEATURES_OK: u8 = 8;
    pub(crate) const NEEDS_RESET: u8 = 64;
    pub(crate) const FAILED: u8 = 128;
    /// A read of an absent function.
    pub(crate) const ABSENT: u8 = 0xFF;
}

/// Offsets in the common configuration (4.1.4.3).
mod at {
    pub(super) const DEVICE_FEATURE_SELECT: u32 = 0x00;
    pub(super) const DEVICE_FEATURE: u32 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u32 = 0x08;
    pub(super) const DRIVER_FEATURE: u32 = 0x0C;
    pub(super) const CONFIG_MSIX_VECTOR: u32 = 0x10;
    pub(super) const NUM_QUEUES: u32 = 0x12;
    pub(super) const DEVICE_STATUS: u32 = 0x14;
    pub(super) const CONFIG_GENERATION: u32 = 0x15;
    pub(super) const QUEUE_SELECT: u32 = 0x16;
    pub(super) const QUEUE_SIZE: u32 = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: u32 = 0x1A;
    pub(super) const QUEUE_ENABLE: u32 = 0x1C;
    pub(super) const QUEUE_NOTIFY_OFF: u32 = 0x1E;
    pub(super) const QUEUE_DESC: u32 = 0x20;
    pub(super) const QUEUE_DRIVER: u32 = 0x28;
    pub(super) const QUEUE_DEVICE: u32 = 0x30;
}

/// No vector (4.1.5.1.2).
pub(crate) const NO_VECTOR: u16 = 0xFFFF;

/// Polls of a register before a device counts as stuck; with the default pause about a second.
pub const RESET_POLLS_MAX: u32 = 10_000;

/// Re-reads of the device configuration while its generation changes.
const GENERATION_TRIES_MAX: u32 = 32;

/// Command register: memory space and bus master.
const COMMAND: u16 = 4;
const COMMAND_MEMORY: u32 = 2;
const COMMAND_BUS_MASTER: u32 = 4;

/// Why a device could not be brought up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The function's configuration space does not describe a virtio network card.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An access failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The status register did not become 0.
    #[error("the device did not finish its reset (status {status:#04x})")]
    ResetStuck {
        /// What it read last.
        status: u8,
    },
    /// The device lacks what this driver cannot do without.
    #[error("the device does not offer {missing:?}")]
    MissingFeatures {
        /// Which.
        missing: Features,
    },
    /// The device did not accept the features that were chosen.
    #[error("the device refused the features {wanted:?}")]
    FeaturesRefused {
        /// Which.
        wanted: Features,
    },
    /// The device configuration changed each time it was read.
    #[error("the device configuration does not come to rest")]
    ConfigUnstable,
    /// A register does not hold what it must.
    #[error("{what} of {value} is invalid")]
    Invalid {
        /// Which register.
        what: &'static str,
        /// What it held.
        value: u64,
    },
    /// The receive buffers are shorter than a frame.
    #[error("receive buffers of {have} bytes, {need} are needed")]
    ShortBuffers {
        /// Bytes of each.
        have: usize,
        /// Bytes that a header and the longest frame take.
        need: usize,
    },
    /// Mapping ring or buffer memory failed.
    #[error(transparent)]
    Dma(#[from] tandem_device::DmaError),
    /// Memory for a ring could not be had.
    #[error("no memory for a ring")]
    Memory(#[source] std::io::Error),
    /// The device failed while it was being started.
    #[error(transparent)]
    Device(#[from] Box<tandem_device::DeviceError>),
}

impl From<tandem_device::DeviceError> for SetupError {
    fn from(error: tandem_device::DeviceError) -> Self {
        Self::Device(Box::new(error))
    }
}

/// What the device configuration says (5.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NetConfig {
    pub(crate) mac: Option<MacAddr>,
    pub(crate) link_up: bool,
    pub(crate) mtu: Option<u16>,
    pub(crate) speed_mbit_s: Option<u32>,
}

/// Registers of one function.
#[derive(Clone)]
pub(crate) struct Registers {
    pub(crate) transport: Arc<dyn PciTransport>,
    pub(crate) layout: Layout,
}

impl Registers {
    pub(crate) fn new(transport: Arc<dyn PciTransport>) -> Result<Self, SetupError> {
        let layout = Layout::discover(&*transport)?;
        Ok(Self { transport, layout })
    }

    fn access(&self, block: Block, offset: u32, width: Width) -> Result<u64, TransportError> {
        if offset + width.bytes() > block.len {
            let offset = offset.into();
            return Err(TransportError::OutOfRange { what: "register", offset });
        }
        Ok(block.offset + u64::from(offset))
    }

    fn read(&self, block: Block, offset: u32, width: Width) -> Result<u64, TransportError> {
        let at = self.access(block, offset, width)?;
        self.transport.bar_read(block.bar, at, width)
    }

    fn write(
        &self,
        block: Block,
        offset: u32,
        width: Width,
        value: u64,
    ) -> Result<(), TransportError> {
        let at = self.access(block, offset, width)?;
        self.transport.bar_write(block.bar, at, width, value)
    }

    fn common(&self, offset: u32, width: Width) -> Result<u64, TransportError> {
        self.read(self.layout.common, offset, width)
    }

    fn set_common(&self, offset: u32, width: Width, value: u64) -> Result<(), TransportError> {
        self.write(self.layout.common, offset, width, value)
    }

    /// Lets the function answer memory accesses and issue DMA.
    pub(crate) fn enable_function(&self) -> Result<(), TransportError> {
        let command = self.transport.config_read(COMMAND, Width::Half)?;
        let wanted = command | COMMAND_MEMORY | COMMAND_BUS_MASTER;
        if wanted != command {
            self.transport.config_write(COMMAND, Width::Half, wanted)?;
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> Result<u8, TransportError> {
        let status = self.common(at::DEVICE_STATUS, Width::Byte)? as u8;
        if status == status::ABSENT {
            return Err(TransportError::Gone { reason: "registers read as all ones".into() });
        }
        Ok(status)
    }

    fn add_status(&self, bits: u8) -> Result<(), TransportError> {
        let status = self.status()? | bits;
        self.set_common(at::DEVICE_STATUS, Width::Byte, status.into())
    }

    /// Tells the device that its driver gave up; best effort.
    pub(crate) fn fail(&self) {
        if let Err(error) = self.add_status(status::FAILED) {
            tracing::debug!(%error, "could not set FAILED");
        }
    }

    /// "After writing 0 to device_status, the driver MUST wait for a read of device_status to return
    /// 0 before reinitializing the device." (4.1.4.3.2)
    pub(crate) fn reset(&self) -> Result<(), SetupError> {
        self.set_common(at::DEVICE_STATUS, Width::Byte, 0)?;
        let mut status = 0;
        for _ in 0..RESET_POLLS_MAX {
            status = self.status()?;
            if status == 0 {
                return Ok(());
            }
            self.transport.pause();
        }
        Err(SetupError::ResetStuck { status })
    }

    /// Reset, ACKNOWLEDGE, DRIVER (3.1.1 steps 1 to 3).
    pub(crate) fn acknowledge(&self) -> Result<(), SetupError> {
        self.enable_function()?;
        self.reset()?;
        self.add_status(status::ACKNOWLEDGE)?;
        self.add_status(status::DRIVER)?;
        Ok(())
    }

    pub(crate) fn offered(&self) -> Result<Features, TransportError> {
        let mut bits = 0;
        for word in 0..2 {
            self.set_common(at::DEVICE_FEATURE_SELECT, Width::Word, word)?;
            bits |= self.common(at::DEVICE_FEATURE, Width::Word)? << (32 * word);
        }
        Ok(Features::from_bits_truncate(bits))
    }

    /// Writes the chosen features and checks that the device takes them (3.1.1 steps 4 to 6).
    pub(crate) fn negotiate(&self, wanted: Features) -> Result<(), SetupError> {
        for word in 0..2 {
            self.set_common(at::DRIVER_FEATURE_SELECT, Width::Word, word)?;
            let bits = wanted.bits() >> (32 * word) & 0xFFFF_FFFF;
            self.set_common(at::DRIVER_FEATURE, Width::Word, bits)?;
        }
        self.add_status(status::FEATURES_OK)?;
        if self.status()? & status::FEATURES_OK == 0 {
            return Err(SetupError::FeaturesRefused { wanted });
        }
        Ok(())
    }

    pub(crate) fn driver_ok(&self) -> Result<(), TransportError> {
        self.add_status(status::DRIVER_OK)
    }

    /// Reads the device configuration so that all fields are of one generation (2.5.3).
    pub(crate) fn net_config(&self, features: Features) -> Result<NetConfig, SetupError> {
        let device = self.layout.device;
        let read = |offset, width| self.read(device, offset, width);
        for _ in 0..GENERATION_TRIES_MAX {
            let before = self.common(at::CONFIG_GENERATION, Width::Byte)?;
            let mut config = NetConfig { link_up: true, ..NetConfig::default() };
            if features.contains(Features::MAC) {
                let mut mac = [0; 6];
                for (i, byte) in mac.iter_mut().enumerate() {
                    *byte = read(i as u32, Width::Byte)? as u8;
                }
                config.mac = Some(MacAddr(mac));
            }
            if features.contains(Features::STATUS) {
                // VIRTIO_NET_S_LINK_UP
                config.link_up = read(6, Width::Half)? & 1 != 0;
            }
            if features.contains(Features::MTU) {
                config.mtu = Some(read(10, Width::Half)? as u16);
            }
            if features.contains(Features::SPEED_DUPLEX) {
                // "0 to 0x7fffffff, or 0xffffffff for unknown"
                let speed = read(12, Width::Word)? as u32;
                config.speed_mbit_s = (speed <= 0x7FFF_FFFF).then_some(speed);
            }
            if self.common(at::CONFIG_GENERATION, Width::Byte)? == before {
                return Ok(config);
            }
        }
        Err(SetupError::ConfigUnstable)
    }

    /// Routes configuration changes to a vector.
    pub(crate) fn set_config_vector(&self, vector: u16) -> Result<(), SetupError> {
        self.set_vector(at::CONFIG_MSIX_VECTOR, "config_msix_vector", vector)
    }

    fn set_vector(&self, at: u32, what: &'static str, vector: u16) -> Result<(), SetupError> {
        self.set_common(at, Width::Half, vector.into())?;
        // "the driver MUST verify success by reading the Vector field value" (4.1.5.1.2.2)
        let value = self.common(at, Width::Half)?;
        if value == u64::from(vector) { Ok(()) } else { Err(SetupError::Invalid { what, value }) }
    }

    pub(crate) fn queue_count(&self) -> Result<u16, TransportError> {
        Ok(self.common(at::NUM_QUEUES, Width::Half)? as u16)
    }

    /// Largest size of a queue, 0 when there is no such queue; selects it.
    pub(crate) fn queue_size_max(&self, queue: u16) -> Result<u16, TransportError> {
        self.set_common(at::QUEUE_SELECT, Width::Half, queue.into())?;
        Ok(self.common(at::QUEUE_SIZE, Width::Half)? as u16)
    }

    /// Gives the device a queue and enables it; returns where its doorbell is in the notification BAR.
    pub(crate) fn set_queue(
        &self,
        queue: u16,
        size: u16,
        vector: u16,
        [desc, driver, device]: [u64; 3],
    ) -> Result<u64, SetupError> {
        self.set_common(at::QUEUE_SELECT, Width::Half, queue.into())?;
        if self.common(at::QUEUE_ENABLE, Width::Half)? != 0 {
            return Err(SetupError::Invalid { what: "queue_enable after reset", value: 1 });
        }
        self.set_common(at::QUEUE_SIZE, Width::Half, size.into())?;
        self.set_vector(at::QUEUE_MSIX_VECTOR, "queue_msix_vector", vector)?;
        let addresses =
            [(at::QUEUE_DESC, desc), (at::QUEUE_DRIVER, driver), (at::QUEUE_DEVICE, device)];
        for (at, address) in addresses {
            // 64-bit fields may be accessed as two of 32 bits, which every device takes (4.1.3.1).
            self.set_common(at, Width::Word, address & 0xFFFF_FFFF)?;
            self.set_common(at + 4, Width::Word, address >> 32)?;
        }
        let notify_off = self.common(at::QUEUE_NOTIFY_OFF, Width::Half)?;
        let notify = self.layout.notify;
        let offset = notify_off * u64::from(self.layout.notify_multiplier);
        // Four bytes where the doorbell carries data; a device without that feature may have two.
        if offset + 2 > u64::from(notify.len) {
            return Err(SetupError::Invalid { what: "queue_notify_off", value: notify_off });
        }
        // "the driver MUST configure the other virtqueue fields before enabling the virtqueue"
        self.set_common(at::QUEUE_ENABLE, Width::Half, 1)?;
        Ok(offset)
    }
}
