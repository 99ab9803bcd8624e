//! What a PCIe core does for the NIC: configuration space and function control.
//!
//! It owns the standard header, the MSI-X and the PCI Express capability, and hands the NIC's own
//! dwords through (see [`tandem_contract::layout`]). Command register and MSI-X control become
//! [`FunctionControl`], bit 15 of Device Control becomes a function-level reset. Whether memory
//! decoding is enabled is not enforced here: that is the business of the bus above.

use tandem_contract::layout::CFG_COMMON_CAP;
use tandem_contract::layout::{
    BAR0_LEN, CFG_MSIX_CAP, CFG_NIC_BASE, CFG_NIC_END, CFG_PCIE_CAP, MSIX_PBA_BASE,
    MSIX_TABLE_BASE, PCI_CLASS, PCI_DEVICE, PCI_REVISION, PCI_SUBSYSTEM, PCI_VENDOR,
};
use tandem_contract::nic::{Bus, FunctionControl, Nic, NicError, Width};

/// Bytes of configuration space that exist; what lies beyond reads as zero.
pub const CONFIG_LEN: u16 = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const INTERRUPT_LINE: usize = 0x3C;

/// Command register (PCI 3.0, 6.2.2): memory space, bus master, interrupt disable.
const COMMAND_WRITABLE: u16 = 0x0002 | COMMAND_BUS_MASTER | 0x0400;
const COMMAND_BUS_MASTER: u16 = 0x0004;

/// Status register: there is a capability list.
const STATUS_CAP_LIST: u16 = 0x0010;

/// MSI-X message control, in the upper half of the capability's first dword: enable, function mask.
const MSIX_ENABLE: u16 = 0x8000;
const MSIX_MASK: u16 = 0x4000;

/// Device Control (PCIe 7.5.3.4): initiate function-level reset.
const DEVCTL: usize = CFG_PCIE_CAP as usize + 8;
const DEVCTL_FLR: u16 = 0x8000;
/// Error reporting, relaxed ordering, payload size, no snoop, read request size.
const DEVCTL_WRITABLE: u16 = 0x78FF;
/// Default of Device Control: relaxed ordering, no snoop, 512-byte reads.
const DEVCTL_DEFAULT: u16 = 0x2810;

/// Device Capabilities (PCIe 7.5.3.3): 256-byte payload, role-based errors, function-level reset.
const DEVCAP: u32 = 1 | 1 << 15 | 1 << 28;

/// Configuration space of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciShell {
    space: [u8; CONFIG_LEN as usize],
    /// Vectors in the MSI-X table.
    vectors: u16,
}

impl PciShell {
    /// Configuration space as after power-on.
    pub fn new(vectors: u16) -> Self {
        let mut shell = Self { space: [0; CONFIG_LEN as usize], vectors };
        shell.power_on();
        shell
    }

    fn power_on(&mut self) {
        self.space.fill(0);
        self.put16(0x00, PCI_VENDOR);
        self.put16(0x02, PCI_DEVICE);
        self.put16(STATUS, STATUS_CAP_LIST);
        self.put32(0x08, PCI_CLASS << 8 | u32::from(PCI_REVISION));
        // A 64-bit memory BAR, not prefetchable: registers have side effects.
        self.put32(BAR0, 0x4);
        self.put16(0x2C, PCI_VENDOR);
        self.put16(0x2E, PCI_SUBSYSTEM);
        self.space[0x34] = CFG_MSIX_CAP as u8;
        // No interrupt pin: MSI-X only.
        let msix = usize::from(CFG_MSIX_CAP);
        self.space[msix] = 0x11;
        self.space[msix + 1] = CFG_PCIE_CAP as u8;
        self.put16(msix + 2, self.vectors.saturating_sub(1));
        self.put32(msix + 4, MSIX_TABLE_BASE);
        self.put32(msix + 8, MSIX_PBA_BASE);
        let pcie = usize::from(CFG_PCIE_CAP);
        self.space[pcie] = 0x10;
        self.space[pcie + 1] = CFG_COMMON_CAP as u8;
        // Version 2, endpoint.
        self.put16(pcie + 2, 0x0002);
        self.put32(pcie + 4, DEVCAP);
        self.put16(DEVCTL, DEVCTL_DEFAULT);
        // Link: 8 GT/s, 16 lanes, as capability, status and control want it.
        self.put32(pcie + 12, 0x0000_0103);
        self.put16(pcie + 18, 0x0103);
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.space[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.space[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn take16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.space[at], self.space[at + 1]])
    }

    fn take32(&self, at: usize) -> u32 {
        u32::from(self.take16(at)) | u32::from(self.take16(at + 2)) << 16
    }

    /// What the function is told: bus-master enable and MSI-X control.
    pub fn control(&self) -> FunctionControl {
        let msix = self.take16(usize::from(CFG_MSIX_CAP) + 2);
        FunctionControl {
            bus_master: self.take16(COMMAND) & COMMAND_BUS_MASTER != 0,
            msix_enable: msix & MSIX_ENABLE != 0,
            msix_function_mask: msix & MSIX_MASK != 0,
        }
    }

    /// Address in BAR 0.
    pub fn bar0(&self) -> u64 {
        u64::from(self.take32(BAR0) & !0xF) | u64::from(self.take32(BAR0 + 4)) << 32
    }

    /// Vectors in the MSI-X table.
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Sets MSI-X enable and function mask, as a write of message control would.
    pub fn set_msix<N: Nic + ?Sized>(&mut self, nic: &mut N, enable: bool, mask: bool) {
        let at = usize::from(CFG_MSIX_CAP) + 2;
        let mut value = self.take16(at) & !(MSIX_ENABLE | MSIX_MASK);
        if enable {
            value |= MSIX_ENABLE;
        }
        if mask {
            value |= MSIX_MASK;
        }
        self.put16(at, value);
        nic.set_control(self.control());
    }

    /// Reads at `offset`, which is a multiple of `width`; beyond [`CONFIG_LEN`] there are zeros.
    ///
    /// # Errors
    /// Those of the NIC.
    pub fn read<N: Nic + ?Sized>(
        &mut self,
        nic: &mut N,
        bus: &mut Bus<'_>,
        offset: u16,
        width: Width,
    ) -> Result<u32, NicError> {
        let dword = offset & !3;
        let value = if (CFG_NIC_BASE..CFG_NIC_END).contains(&dword) {
            nic.config_read(bus, dword)?
        } else if dword < CONFIG_LEN {
            self.take32(dword.into())
        } else {
            0
        };
        let mask = (1u64 << (8 * width.bytes())) - 1;
        Ok(value >> (8 * (offset & 3)) & mask as u32)
    }

    /// Writes at `offset`, which is a multiple of `width`. A write that asks for a function-level reset
    /// returns when the reset is done.
    ///
    /// # Errors
    /// Those of the NIC.
    pub fn write<N: Nic + ?Sized>(
        &mut self,
        nic: &mut N,
        bus: &mut Bus<'_>,
        offset: u16,
        width: Width,
        value: u32,
    ) -> Result<(), NicError> {
        let dword = offset & !3;
        let lane = u32::from(offset & 3);
        if (CFG_NIC_BASE..CFG_NIC_END).contains(&dword) {
            let enable = ((1u32 << width.bytes()) - 1) << lane;
            return nic.config_write(bus, dword, value << (8 * lane), enable as u8);
        }
        let bytes = value.to_le_bytes();
        for (at, byte) in (usize::from(offset)..).zip(&bytes[..width.bytes() as usize]) {
            self.write_byte(at, *byte);
        }
        if self.take16(DEVCTL) & DEVCTL_FLR != 0 {
            return self.function_reset(nic, bus);
        }
        nic.set_control(self.control());
        Ok(())
    }

    fn write_byte(&mut self, at: usize, byte: u8) {
        let writable = |mask: u16| mask.to_le_bytes()[at & 1];
        let msix = usize::from(CFG_MSIX_CAP) + 2;
        let mask = match at {
            _ if at & !1 == COMMAND => writable(COMMAND_WRITABLE),
            // Sizing a BAR: the address bits below its length are zero (PCI 3.0, 6.2.5.1).
            _ if (BAR0..BAR0 + 8).contains(&at) => {
                (!(u64::from(BAR0_LEN) - 1)).to_le_bytes()[at - BAR0]
            }
            INTERRUPT_LINE => 0xFF,
            _ if at & !1 == msix => writable(MSIX_ENABLE | MSIX_MASK),
            _ if at & !1 == DEVCTL => writable(DEVCTL_WRITABLE | DEVCTL_FLR),
            _ => 0,
        };
        if let Some(old) = self.space.get_mut(at) {
            *old = *old & !mask | byte & mask;
        }
    }

    /// Function-level reset: the NIC drains and forgets; configuration space is as after power-on but
    /// for the BAR's address, the interrupt line and memory decoding, which whoever resets a function
    /// in use restores (as the kernel's VFIO does).
    ///
    /// # Errors
    /// Those of the NIC.
    pub fn function_reset<N: Nic + ?Sized>(
        &mut self,
        nic: &mut N,
        bus: &mut Bus<'_>,
    ) -> Result<(), NicError> {
        let bar = [self.take32(BAR0), self.take32(BAR0 + 4)];
        let line = self.space[INTERRUPT_LINE];
        let memory = self.take16(COMMAND) & 0x0002;
        nic.function_reset(bus)?;
        self.power_on();
        self.put32(BAR0, bar[0]);
        self.put32(BAR0 + 4, bar[1]);
        self.space[INTERRUPT_LINE] = line;
        self.put16(COMMAND, memory);
        nic.set_control(self.control());
        Ok(())
    }
}
