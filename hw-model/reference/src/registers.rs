//! Common configuration, ISR, device configuration and notifications (virtio 1.3, 4.1.4 and 5.1.4).

use tandem_contract::features::{self, bit};
use tandem_contract::layout::{self, common, device};
use tandem_contract::nic::NicParams;

/// `device_status` bits (2.1).
pub mod status {
    /// The driver is set up.
    pub const DRIVER_OK: u8 = 4;
    /// Features are agreed.
    pub const FEATURES_OK: u8 = 8;
    /// The device is in trouble.
    pub const NEEDS_RESET: u8 = 64;
}

/// VIRTIO_MSI_NO_VECTOR.
pub const NO_VECTOR: u16 = 0xFFFF;

/// Registers of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Size in descriptors.
    pub size: u16,
    /// MSI-X vector.
    pub vector: u16,
    /// Enabled.
    pub enabled: bool,
    /// Descriptor ring.
    pub desc: u64,
    /// Driver event suppression.
    pub driver: u64,
    /// Device event suppression.
    pub device: u64,
}

/// What a write asks the device to do beyond remembering it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Reset the device.
    Reset,
    /// Reset one queue.
    ResetQueue(u16),
    /// A queue was enabled.
    Enable(u16),
    /// A doorbell.
    Notify(u16),
}

/// The registers.
#[derive(Debug, Clone)]
pub struct Registers {
    params: NicParams,
    device_select: u32,
    driver_select: u32,
    driver_features: u64,
    config_vector: u16,
    status: u8,
    generation: u8,
    queue_select: u16,
    queues: Vec<Queue>,
    isr: u8,
    link: bool,
}

impl Registers {
    /// Registers after the chip's reset.
    pub fn new(params: NicParams) -> Self {
        let mut registers = Self {
            params,
            device_select: 0,
            driver_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            status: 0,
            generation: 0,
            queue_select: 0,
            queues: Vec::new(),
            isr: 0,
            // As a MAC that has not spoken yet.
            link: false,
        };
        registers.reset();
        registers
    }

    /// What a device reset leaves. The link and the generation, which may only move on, stay.
    pub fn reset(&mut self) {
        self.device_select = 0;
        self.driver_select = 0;
        self.driver_features = 0;
        self.config_vector = NO_VECTOR;
        self.status = 0;
        self.queue_select = 0;
        self.isr = 0;
        self.queues = vec![self.fresh_queue(); 2 * usize::from(self.params.queue_pairs)];
    }

    fn fresh_queue(&self) -> Queue {
        Queue {
            size: self.params.queue_size_max,
            vector: NO_VECTOR,
            enabled: false,
            desc: 0,
            driver: 0,
            device: 0,
        }
    }

    /// What a queue reset leaves of a queue (4.1.4.3.1).
    pub fn reset_queue(&mut self, queue: u16) {
        self.queues[usize::from(queue)] = self.fresh_queue();
    }

    /// `device_status`.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Negotiated features; none before FEATURES_OK.
    pub fn features(&self) -> u64 {
        if self.status & status::FEATURES_OK != 0 { self.driver_features } else { 0 }
    }

    /// A queue's registers.
    pub fn queue(&self, queue: u16) -> &Queue {
        &self.queues[usize::from(queue)]
    }

    /// Number of queues.
    pub fn queues(&self) -> u16 {
        self.queues.len() as u16
    }

    /// Whether frames may move through a queue.
    pub fn active(&self, queue: u16) -> bool {
        let both = status::DRIVER_OK | status::FEATURES_OK;
        self.status & both == both && self.queue(queue).enabled
    }

    /// Vector for configuration changes.
    pub fn config_vector(&self) -> u16 {
        self.config_vector
    }

    /// Sets DEVICE_NEEDS_RESET; true when the driver is to be told (2.1.2).
    pub fn needs_reset(&mut self) -> bool {
        self.status |= status::NEEDS_RESET;
        self.status & status::DRIVER_OK != 0
    }

    /// Sets the link; true when the driver is to be told.
    pub fn set_link(&mut self, up: bool) -> bool {
        if self.link == up {
            return false;
        }
        self.link = up;
        self.generation = self.generation.wrapping_add(1);
        self.status & status::DRIVER_OK != 0
    }

    /// Sets bits of the ISR: 0 queue, 1 configuration.
    pub fn raise_isr(&mut self, bits: u8) {
        self.isr |= bits;
    }

    /// Reads the dword at `addr` of BAR 0, with the side effect of reading ISR.
    pub fn read(&mut self, addr: u32) -> u32 {
        match addr {
            layout::ISR_BASE => u32::from(std::mem::take(&mut self.isr)),
            _ if addr < layout::COMMON_BASE + layout::COMMON_LEN => self.common(addr),
            _ if (layout::DEVICE_BASE..layout::DEVICE_BASE + layout::DEVICE_LEN)
                .contains(&addr) =>
            {
                self.device(addr - layout::DEVICE_BASE)
            }
            _ => 0,
        }
    }

    fn common(&self, addr: u32) -> u32 {
        let half = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let feature = |set: u64, select: u32| match select {
            0 => set as u32,
            1 => (set >> 32) as u32,
            _ => 0,
        };
        let selected = self.queues.get(usize::from(self.queue_select));
        let of = |field: fn(&Queue) -> u64, high: bool| {
            let value = selected.map_or(0, field);
            if high { (value >> 32) as u32 } else { value as u32 }
        };
        const DESC_HIGH: u32 = common::QUEUE_DESC + 4;
        const DRIVER_HIGH: u32 = common::QUEUE_DRIVER + 4;
        const DEVICE_HIGH: u32 = common::QUEUE_DEVICE + 4;
        match addr {
            common::DEVICE_FEATURE_SELECT => self.device_select,
            common::DEVICE_FEATURE => feature(features::offered(), self.device_select),
            common::DRIVER_FEATURE_SELECT => self.driver_select,
            common::DRIVER_FEATURE => feature(self.driver_features, self.driver_select),
            common::CONFIG_MSIX_VECTOR => half(self.config_vector, self.queues()),
            common::DEVICE_STATUS => {
                u32::from_le_bytes([self.status, self.generation, 0, 0])
                    | u32::from(self.queue_select) << 16
            }
            // 4.1.4.3.1: queue_size 0 says that there is no such queue.
            common::QUEUE_SIZE => selected.map_or(half(0, NO_VECTOR), |q| half(q.size, q.vector)),
            common::QUEUE_ENABLE => {
                selected.map_or(0, |q| half(q.enabled.into(), self.queue_select))
            }
            common::QUEUE_DESC => of(|q| q.desc, false),
            DESC_HIGH => of(|q| q.desc, true),
            common::QUEUE_DRIVER => of(|q| q.driver, false),
            DRIVER_HIGH => of(|q| q.driver, true),
            common::QUEUE_DEVICE => of(|q| q.device, false),
            DEVICE_HIGH => of(|q| q.device, true),
            // queue_reset reads 0: a reset here is done before the write is answered.
            common::QUEUE_NOTIF_CONFIG_DATA => selected.map_or(0, |_| half(self.queue_select, 0)),
            _ => 0,
        }
    }

    fn device(&self, addr: u32) -> u32 {
        let mut bytes = [0; 20];
        bytes[device::MAC as usize..][..6].copy_from_slice(&self.params.mac);
        bytes[device::STATUS as usize] = self.link.into();
        bytes[device::MAX_VIRTQUEUE_PAIRS as usize..][..2]
            .copy_from_slice(&self.params.queue_pairs.to_le_bytes());
        bytes[device::MTU as usize..][..2].copy_from_slice(&self.params.mtu.to_le_bytes());
        bytes[device::SPEED as usize..][..4].copy_from_slice(&layout::SPEED_MBIT.to_le_bytes());
        bytes[device::DUPLEX as usize] = 1;
        let at = addr as usize & !3;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// Writes the enabled bytes of the dword at `addr` of BAR 0. What the standard forbids the driver is
    /// ignored.
    pub fn write(&mut self, addr: u32, value: u32, enable: u8) -> Action {
        if (layout::NOTIFY_BASE
            ..layout::NOTIFY_BASE + layout::NOTIFY_STRIDE * u32::from(self.queues()))
            .contains(&addr)
        {
            // 4.1.5.2: the address says which queue; what NOTIFICATION_DATA adds is a hint.
            return Action::Notify(((addr - layout::NOTIFY_BASE) / layout::NOTIFY_STRIDE) as u16);
        }
        if addr >= layout::COMMON_BASE + layout::COMMON_LEN {
            return Action::None;
        }
        let mask = (0..4).filter(|b| enable >> b & 1 == 1).fold(0, |m, b| m | 0xFF_u32 << (8 * b));
        let next = self.common(addr) & !mask | value & mask;
        let low = enable & 0b0011 != 0;
        let high = enable & 0b1100 != 0;
        match addr {
            common::DEVICE_FEATURE_SELECT => self.device_select = next,
            common::DRIVER_FEATURE_SELECT => self.driver_select = next,
            // 3.1.1: the driver must not accept new feature bits after FEATURES_OK.
            common::DRIVER_FEATURE if self.status & status::FEATURES_OK == 0 => {
                match self.driver_select {
                    0 => {
                        self.driver_features =
                            self.driver_features & !0xFFFF_FFFF | u64::from(next);
                    }
                    1 => {
                        self.driver_features =
                            self.driver_features & 0xFFFF_FFFF | u64::from(next) << 32;
                    }
                    _ => {}
                }
            }
            common::CONFIG_MSIX_VECTOR if low => self.config_vector = self.vector(next as u16),
            common::DEVICE_STATUS => {
                self.queue_select = (next >> 16) as u16;
                if enable & 1 == 1 {
                    return self.write_status(value as u8);
                }
            }
            _ => return self.write_queue(addr, next, low, high),
        }
        Action::None
    }

    /// 4.1.5.1.2.1: a vector that cannot be had reads back as NO_VECTOR.
    fn vector(&self, wanted: u16) -> u16 {
        if wanted < self.params.msix_vectors { wanted } else { NO_VECTOR }
    }

    fn write_status(&mut self, value: u8) -> Action {
        if value == 0 {
            return Action::Reset;
        }
        // 2.1.1: the driver must not clear a bit. NEEDS_RESET is the device's.
        let mut set = value & !status::NEEDS_RESET;
        let sound = self.driver_features & !features::offered() == 0
            && self.driver_features & features::REQUIRED == features::REQUIRED;
        if !sound {
            // 2.2.2: FEATURES_OK stays clear for a set that the device does not support.
            set &= !status::FEATURES_OK;
        }
        self.status |= set;
        Action::None
    }

    fn write_queue(&mut self, addr: u32, next: u32, low: bool, high: bool) -> Action {
        let index = self.queue_select;
        let vector = self.vector((next >> 16) as u16);
        let features_ok = self.status & status::FEATURES_OK != 0;
        let ring_reset = self.features() >> bit::RING_RESET & 1 == 1;
        let size_max = self.params.queue_size_max;
        let Some(queue) = self.queues.get_mut(usize::from(index)) else { return Action::None };
        match addr {
            common::QUEUE_SIZE if high => queue.vector = vector,
            common::QUEUE_NOTIF_CONFIG_DATA
                if high && next >> 16 & 1 == 1 && ring_reset && queue.enabled =>
            {
                return Action::ResetQueue(index);
            }
            _ => {}
        }
        if queue.enabled {
            return Action::None;
        }
        let set = |field: &mut u64, upper: bool| {
            *field = if upper {
                *field & 0xFFFF_FFFF | u64::from(next) << 32
            } else {
                *field & !0xFFFF_FFFF | u64::from(next)
            };
        };
        const DESC_HIGH: u32 = common::QUEUE_DESC + 4;
        const DRIVER_HIGH: u32 = common::QUEUE_DRIVER + 4;
        const DEVICE_HIGH: u32 = common::QUEUE_DEVICE + 4;
        match addr {
            common::QUEUE_SIZE if low && (1..=size_max).contains(&(next as u16)) => {
                queue.size = next as u16;
            }
            // 4.1.4.3.2: the driver must not write 0.
            common::QUEUE_ENABLE if low && next as u16 == 1 && features_ok => {
                queue.enabled = true;
                return Action::Enable(index);
            }
            common::QUEUE_DESC => set(&mut queue.desc, false),
            DESC_HIGH => set(&mut queue.desc, true),
            common::QUEUE_DRIVER => set(&mut queue.driver, false),
            DRIVER_HIGH => set(&mut queue.driver, true),
            common::QUEUE_DEVICE => set(&mut queue.device, false),
            DEVICE_HIGH => set(&mut queue.device, true),
            _ => {}
        }
        Action::None
    }
}
