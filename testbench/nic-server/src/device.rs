//! A NIC with what surrounds it in a machine: PCIe core, root complex, MAC.

use tandem_contract::layout::{BAR0_LEN, COMMON_BASE, MSIX_PBA_BASE, MSIX_TABLE_BASE, common};
use tandem_contract::nic::{Bus, Cycle, FunctionControl, Nic, NicError, Run, Width};
use tandem_contract::trace::Event;
use tandem_vfio_user::Errno;
use tandem_vfio_user::irq::{IrqAction, IrqChange, IrqType};
use tandem_vfio_user::message::{IrqFlags, RegionFlags};
use tandem_vfio_user::pci::{IRQ_MSIX, REGION_BAR0, REGION_CONFIG};
use tandem_vfio_user::server::{Device, Host, Region, ServerConfig};

use crate::config_space::{CONFIG_LEN, ConfigSpace};
use crate::dma::{DmaCounters, DmaPort, Responses, msix_address};
use crate::wire::Wire;

/// Longest access to BAR 0 in bytes. A register is 8 at most; a longer read is someone dumping a block, and each
/// word of it runs the NIC's clock.
pub const BAR_ACCESS_LEN_MAX: usize = 4096;

/// Bytes of an MSI-X table entry (PCI 3.0, 6.8.2): address, data, vector control.
const MSIX_ENTRY: u32 = 16;
/// `DRIVER_OK` in the device status (virtio 1.3, 2.1).
const DRIVER_OK: u8 = 4;

#[derive(Clone, Copy, Default)]
struct Vector {
    armed: bool,
    masked: bool,
}

/// What the driver has read and written of the feature bits, by the selector; for the log.
#[derive(Clone, Copy, Default)]
struct Negotiation {
    device_select: u32,
    driver_select: u32,
    offered: u64,
    taken: u64,
}

impl Negotiation {
    fn half(bits: &mut u64, select: u32, value: u32) {
        // Selectors above 1 name bits that virtio-net does not have (virtio 1.3, 4.1.4.3.1).
        if select < 2 {
            let shift = 32 * select;
            *bits = *bits & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
        }
    }

    fn read(&mut self, offset: u32, value: u32) {
        if offset == COMMON_BASE + common::DEVICE_FEATURE {
            Self::half(&mut self.offered, self.device_select, value);
        }
    }

    fn written(&mut self, offset: u32, value: u32) {
        match offset.wrapping_sub(COMMON_BASE) {
            common::DEVICE_FEATURE_SELECT => self.device_select = value,
            common::DRIVER_FEATURE_SELECT => self.driver_select = value,
            common::DRIVER_FEATURE => Self::half(&mut self.taken, self.driver_select, value),
            _ => {}
        }
    }
}

/// A NIC as a [`Device`] of a vfio-user server.
pub struct NicDevice {
    nic: Box<dyn Nic>,
    wire: Box<dyn Wire>,
    config: ConfigSpace,
    vectors: Vec<Vector>,
    responses: Responses,
    negotiation: Negotiation,
    trace: Vec<Event>,
    failure: Option<NicError>,
}

impl NicDevice {
    /// Puts a NIC on a wire. `dma_latency` is in cycles.
    pub fn new(mut nic: Box<dyn Nic>, wire: Box<dyn Wire>, dma_latency: Cycle) -> Self {
        let vectors = nic.params().msix_vectors;
        nic.set_link(true);
        nic.set_control(FunctionControl::default());
        Self {
            nic,
            wire,
            config: ConfigSpace::new(vectors),
            vectors: vec![Vector::default(); vectors.into()],
            responses: Responses::new(dma_latency),
            negotiation: Negotiation::default(),
            trace: Vec::new(),
            failure: None,
        }
    }

    /// What the server is to present for this NIC.
    pub fn server_config(&self) -> ServerConfig {
        let mut config = ServerConfig::pci(CONFIG_LEN);
        let flags = RegionFlags::READ | RegionFlags::WRITE;
        config.regions[REGION_BAR0 as usize] = Region { size: BAR0_LEN.into(), flags, mmap: None };
        let flags = IrqFlags::EVENTFD | IrqFlags::NORESIZE | IrqFlags::MASKABLE;
        config.irqs[IRQ_MSIX as usize] = IrqType { count: self.vectors.len() as u32, flags };
        config
    }

    /// The NIC.
    pub fn nic(&self) -> &dyn Nic {
        &*self.nic
    }

    /// The wire.
    pub fn wire_mut(&mut self) -> &mut dyn Wire {
        &mut *self.wire
    }

    /// Counters of DMA.
    pub fn dma_counters(&self) -> DmaCounters {
        self.responses.counters()
    }

    /// The NIC's fault, when it had one; it answers nothing since.
    pub fn failure(&self) -> Option<&NicError> {
        self.failure.as_ref()
    }

    /// Runs the NIC for at most so many cycles; when it idles before a frame that is still to come, the clock
    /// goes there.
    pub fn step(&mut self, host: Option<&mut Host<'_>>, cycles: Cycle) -> Run {
        let run = self.on_bus(host, |nic, bus| nic.run(bus, cycles));
        self.nic.drain_trace(&mut self.trace);
        self.trace.clear();
        let mut run = run.unwrap_or(Run { cycles: 0, idle: true });
        if let (true, Some(at)) = (run.idle && self.failure.is_none(), self.wire.next_arrival_at())
        {
            if at > self.nic.now() {
                self.nic.skip_to(at);
            }
            run.idle = false;
        }
        run
    }

    fn on_bus<T>(
        &mut self,
        host: Option<&mut Host<'_>>,
        call: impl FnOnce(&mut dyn Nic, &mut Bus<'_>) -> Result<T, NicError>,
    ) -> Result<T, Errno> {
        if self.failure.is_some() {
            return Err(Errno::IO);
        }
        let mut port = DmaPort::new(host, &mut self.responses);
        let wire = self.wire.as_wire_port();
        call(&mut *self.nic, &mut Bus { host: &mut port, wire }).map_err(|error| {
            tracing::error!(%error, "the NIC model failed");
            self.failure = Some(error);
            Errno::IO
        })
    }

    fn update_control(&mut self) {
        // Linux's VFIO and QEMU's enable MSI-X by giving eventfds; the bit in configuration space follows or not.
        let armed = self.vectors.iter().any(|vector| vector.armed);
        self.nic.set_control(FunctionControl {
            bus_master: self.config.bus_master(),
            msix_enable: armed || self.config.msix_enable(),
            msix_function_mask: self.config.msix_function_mask(),
        });
    }

    /// Writes the NIC's MSI-X table from what the client armed and masked. A vector without eventfd is masked in
    /// the table, so that the NIC keeps its interrupt pending and delivers it once there is one.
    fn write_vectors(
        &mut self,
        host: &mut Host<'_>,
        first: usize,
        count: usize,
    ) -> Result<(), Errno> {
        for number in first..(first + count).min(self.vectors.len()) {
            let Vector { armed, masked } = self.vectors[number];
            let address = msix_address(number as u16);
            let entry = [
                (0, address as u32),
                (4, (address >> 32) as u32),
                (8, number as u32),
                (12, u32::from(masked || !armed)),
            ];
            let base = MSIX_TABLE_BASE + number as u32 * MSIX_ENTRY;
            for (offset, value) in entry {
                self.on_bus(Some(host), |nic, bus| {
                    nic.bar_write(bus, base + offset, Width::Word, value)
                })?;
            }
        }
        Ok(())
    }

    /// After this nothing of before is in flight; eventfds stay armed, as Linux's VFIO keeps them.
    fn function_reset(&mut self, host: &mut Host<'_>) -> Result<(), Errno> {
        self.on_bus(Some(host), |nic, bus| nic.function_reset(bus))?;
        self.update_control();
        self.write_vectors(host, 0, self.vectors.len())
    }

    fn config_read(
        &mut self,
        host: &mut Host<'_>,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), Errno> {
        let mut at = 0;
        while at < data.len() {
            let byte = offset + at as u64;
            if !ConfigSpace::is_nics(byte) {
                data[at] = self.config.read(byte);
                at += 1;
                continue;
            }
            // The NIC answers dwords: one access each, because reading its PCI_CFG window has effects.
            let (dword, lane) = ((byte & !3) as u16, (byte & 3) as usize);
            let value = self.on_bus(Some(host), |nic, bus| nic.config_read(bus, dword))?;
            let len = (4 - lane).min(data.len() - at);
            data[at..at + len].copy_from_slice(&value.to_le_bytes()[lane..lane + len]);
            at += len;
        }
        Ok(())
    }

    fn config_write(&mut self, host: &mut Host<'_>, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut at = 0;
        while at < data.len() {
            let byte = offset + at as u64;
            if !ConfigSpace::is_nics(byte) {
                at += 1;
                continue;
            }
            let (dword, lane) = ((byte & !3) as u16, (byte & 3) as usize);
            let len = (4 - lane).min(data.len() - at);
            let mut bytes = [0; 4];
            bytes[lane..lane + len].copy_from_slice(&data[at..at + len]);
            let (value, enable) = (u32::from_le_bytes(bytes), ((1u8 << len) - 1) << lane);
            self.on_bus(Some(host), |nic, bus| nic.config_write(bus, dword, value, enable))?;
            at += len;
        }
        let effect = self.config.write(offset, data);
        if effect.function_reset {
            self.config.reset();
            return self.function_reset(host);
        }
        if effect.control {
            self.update_control();
        }
        Ok(())
    }

    /// Calls `access` for each register-sized piece of an access to BAR 0: offset, width, position in the data.
    /// A 64-bit register is two words, low one first (virtio 1.3, 4.1.3.1).
    fn bar_pieces(
        offset: u64,
        len: usize,
        mut access: impl FnMut(u32, Width, usize) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if len > BAR_ACCESS_LEN_MAX {
            return Err(Errno::INVAL);
        }
        let mut at = 0;
        while at < len {
            let here = (offset as usize + at) as u32;
            let width = match (here % 4, len - at) {
                (0, 4..) => Width::Word,
                (0 | 2, 2..) => Width::Half,
                _ => Width::Byte,
            };
            access(here, width, at)?;
            at += width.bytes() as usize;
        }
        Ok(())
    }

    /// Whether this is in the MSI-X table, which is the server's: interrupts are set up by message.
    fn is_msix_table(&self, offset: u32) -> bool {
        let table = MSIX_TABLE_BASE..MSIX_TABLE_BASE + self.vectors.len() as u32 * MSIX_ENTRY;
        debug_assert!(table.end <= MSIX_PBA_BASE);
        table.contains(&offset)
    }
}

impl Device for NicDevice {
    fn region_read(
        &mut self,
        host: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), Errno> {
        match region {
            REGION_CONFIG => self.config_read(host, offset, data),
            REGION_BAR0 => Self::bar_pieces(offset, data.len(), |offset, width, at| {
                // As Linux's VFIO: the table reads as ones.
                let value = if self.is_msix_table(offset) {
                    u32::MAX
                } else {
                    self.on_bus(Some(host), |nic, bus| nic.bar_read(bus, offset, width))?
                };
                self.negotiation.read(offset, value);
                let len = width.bytes() as usize;
                data[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
                Ok(())
            }),
            _ => Err(Errno::NXIO),
        }
    }

    fn region_write(
        &mut self,
        host: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        match region {
            REGION_CONFIG => self.config_write(host, offset, data),
            REGION_BAR0 => Self::bar_pieces(offset, data.len(), |offset, width, at| {
                if self.is_msix_table(offset) {
                    return Ok(());
                }
                let mut bytes = [0; 4];
                let len = width.bytes() as usize;
                bytes[..len].copy_from_slice(&data[at..at + len]);
                let value = u32::from_le_bytes(bytes);
                self.on_bus(Some(host), |nic, bus| nic.bar_write(bus, offset, width, value))?;
                self.negotiation.written(offset, value);
                if offset == COMMON_BASE + common::DEVICE_STATUS && bytes[0] & DRIVER_OK != 0 {
                    let Negotiation { offered, taken, .. } = self.negotiation;
                    tracing::info!("driver ready: offered={offered:#x} taken={taken:#x}");
                    self.wire.driver_ready();
                }
                Ok(())
            }),
            _ => Err(Errno::NXIO),
        }
    }

    /// Configuration space is kept, as Linux's VFIO restores it around the reset that this message stands for.
    fn reset(&mut self, host: &mut Host<'_>) -> Result<(), Errno> {
        self.function_reset(host)
    }

    fn irqs_changed(&mut self, host: &mut Host<'_>, change: IrqChange) {
        if change.index != IRQ_MSIX {
            return;
        }
        let (first, count) = (change.start as usize, change.count as usize);
        let all = count == self.vectors.len();
        let changed = self.vectors.iter_mut().skip(first).take(count);
        match change.action {
            IrqAction::Arm => changed.for_each(|vector| vector.armed = true),
            // Taking the eventfds of all away also forgets the masks; of one it does not.
            IrqAction::Disarm if all => changed.for_each(|vector| *vector = Vector::default()),
            IrqAction::Disarm => changed.for_each(|vector| vector.armed = false),
            IrqAction::Mask => changed.for_each(|vector| vector.masked = true),
            IrqAction::Unmask => changed.for_each(|vector| vector.masked = false),
            // The server has written the eventfd itself.
            IrqAction::Trigger => return,
        }
        self.update_control();
        // A fault of the model is kept in `failure`; the client's next access is refused for it.
        let _ = self.write_vectors(host, first, count);
    }

    /// As Linux's VFIO when its user goes: the function is reset, with bus mastering off.
    fn client_left(&mut self) {
        self.config.reset();
        self.vectors.fill(Vector::default());
        self.update_control();
        let _ = self.on_bus(None, |nic, bus| nic.function_reset(bus));
        self.wire.driver_gone();
    }
}
