//! The part of configuration space that the PCIe core owns: header, MSI-X and PCI Express capabilities.
//!
//! The dwords from [`CFG_NIC_BASE`] to [`CFG_NIC_END`] are the NIC's own and not kept here. Everything else reads
//! as zero and ignores writes.

use tandem_contract::layout::{
    BAR0_LEN, CFG_COMMON_CAP, CFG_MSIX_CAP, CFG_NIC_BASE, CFG_NIC_END, CFG_PCIE_CAP, MSIX_PBA_BASE,
    MSIX_TABLE_BASE, PCI_CLASS, PCI_DEVICE, PCI_REVISION, PCI_SUBSYSTEM, PCI_VENDOR,
};

/// Bytes of configuration space: that of a PCI Express function, without extended capabilities.
pub const CONFIG_LEN: u64 = 4096;

/// Bytes that are kept; what is above reads as zero.
const KEPT: usize = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const CAP_POINTER: usize = 0x34;

const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Memory space, bus master, parity error response, SERR#, interrupt disable.
const COMMAND_WRITABLE: u16 = 1 << 1 | COMMAND_BUS_MASTER | 1 << 6 | 1 << 8 | 1 << 10;
/// Bit 4 of the status register: there is a capability list.
const STATUS_CAP_LIST: u16 = 1 << 4;
/// A 64-bit memory BAR; not prefetchable, because reading the ISR clears it.
const BAR_MEMORY_64: u32 = 0b100;

const CAP_MSIX: u8 = 0x11;
const MSIX_CONTROL: usize = CFG_MSIX_CAP as usize + 2;
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_FUNCTION_MASK: u16 = 1 << 14;

const CAP_PCIE: u8 = 0x10;
const PCIE: usize = CFG_PCIE_CAP as usize;
const PCIE_DEVICE_CONTROL: usize = PCIE + 8;
/// Role-based error reporting and function-level reset (PCI Express 5.0, 7.5.3.3).
const PCIE_DEVICE_CAP: u32 = 1 << 15 | 1 << 28;
/// Initiate function-level reset (7.5.3.4); reads as zero.
const PCIE_FLR: u16 = 1 << 15;
/// Relaxed ordering, no snoop, maximum read request size 512.
const PCIE_DEVICE_CONTROL_RESET: u16 = 1 << 4 | 1 << 11 | 2 << 12;
/// 8 GT/s by 8 lanes: what a link of this NIC would be; no link is simulated.
const PCIE_LINK: u32 = 8 << 4 | 3;

/// What a write to configuration space asks of the function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Bus mastering or MSI-X control may have changed.
    pub control: bool,
    /// Function-level reset was initiated.
    pub function_reset: bool,
}

/// The registers and which of their bits can be written.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; KEPT],
    writable: [u8; KEPT],
    msix_vectors: u16,
}

impl ConfigSpace {
    /// The state after reset, for a function with so many MSI-X vectors (1 to 2048).
    pub fn new(msix_vectors: u16) -> Self {
        let mut space = Self { bytes: [0; KEPT], writable: [0; KEPT], msix_vectors };
        space.put16(0x00, PCI_VENDOR, 0);
        space.put16(0x02, PCI_DEVICE, 0);
        space.put16(COMMAND, 0, COMMAND_WRITABLE);
        space.put16(STATUS, STATUS_CAP_LIST, 0);
        space.put32(0x08, PCI_CLASS << 8 | u32::from(PCI_REVISION), 0);
        // Cache line size and latency timer are kept for old software and mean nothing.
        space.put16(0x0c, 0, 0xffff);
        space.put32(BAR0, BAR_MEMORY_64, !(BAR0_LEN - 1));
        space.put32(BAR0 + 4, 0, u32::MAX);
        space.put16(0x2c, PCI_VENDOR, 0);
        space.put16(0x2e, PCI_SUBSYSTEM, 0);
        space.put16(CAP_POINTER, CFG_MSIX_CAP, 0);
        // Interrupt line is a scratch register; interrupt pin 0: no INTx.
        space.put16(0x3c, 0, 0x00ff);

        let msix = CFG_MSIX_CAP as usize;
        space.put16(msix, u16::from(CAP_MSIX) | CFG_PCIE_CAP << 8, 0);
        space.put16(
            MSIX_CONTROL,
            msix_vectors.saturating_sub(1) & 0x7ff,
            MSIX_ENABLE | MSIX_FUNCTION_MASK,
        );
        space.put32(msix + 4, MSIX_TABLE_BASE, 0); // BAR indicator 0 in the low bits
        space.put32(msix + 8, MSIX_PBA_BASE, 0);

        space.put16(PCIE, u16::from(CAP_PCIE) | CFG_COMMON_CAP << 8, 0);
        space.put16(PCIE + 2, 2, 0); // version 2, endpoint
        space.put32(PCIE + 4, PCIE_DEVICE_CAP, 0);
        // Everything but the reset bit, which is an action.
        space.put16(PCIE_DEVICE_CONTROL, PCIE_DEVICE_CONTROL_RESET, !PCIE_FLR);
        space.put32(PCIE + 0x0c, PCIE_LINK, 0);
        space.put16(PCIE + 0x10, 0, 0x01ff);
        space.put16(PCIE + 0x12, PCIE_LINK as u16, 0);
        space.put16(PCIE + 0x28, 0, 0xffff);
        space
    }

    fn put16(&mut self, at: usize, value: u16, writable: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 2].copy_from_slice(&writable.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32, writable: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 4].copy_from_slice(&writable.to_le_bytes());
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Whether the byte at `offset` belongs to the NIC.
    pub fn is_nics(offset: u64) -> bool {
        (u64::from(CFG_NIC_BASE)..u64::from(CFG_NIC_END)).contains(&offset)
    }

    /// The byte at `offset`, where it is not the NIC's.
    pub fn read(&self, offset: u64) -> u8 {
        usize::try_from(offset).ok().and_then(|at| self.bytes.get(at)).copied().unwrap_or(0)
    }

    /// Writes bytes from `offset` on, as one access, and says what that asks for. Bytes that are the NIC's are
    /// skipped.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let before = (self.bus_master(), self.word(MSIX_CONTROL));
        let mut effect = Effect::default();
        for (at, &byte) in (offset..).zip(data) {
            let Some(kept) = usize::try_from(at).ok().filter(|&at| at < KEPT) else { break };
            if kept == PCIE_DEVICE_CONTROL + 1 {
                effect.function_reset |= u16::from(byte) << 8 & PCIE_FLR != 0;
            }
            let mask = self.writable[kept];
            self.bytes[kept] = self.bytes[kept] & !mask | byte & mask;
        }
        effect.control = before != (self.bus_master(), self.word(MSIX_CONTROL));
        effect
    }

    /// Whether the function may issue DMA.
    pub fn bus_master(&self) -> bool {
        self.word(COMMAND) & COMMAND_BUS_MASTER != 0
    }

    /// MSI-X enable.
    pub fn msix_enable(&self) -> bool {
        self.word(MSIX_CONTROL) & MSIX_ENABLE != 0
    }

    /// MSI-X function mask.
    pub fn msix_function_mask(&self) -> bool {
        self.word(MSIX_CONTROL) & MSIX_FUNCTION_MASK != 0
    }

    /// What a function-level reset does to the registers: all of them return to their initial values.
    pub fn reset(&mut self) {
        *self = Self::new(self.msix_vectors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dword(space: &ConfigSpace, at: u64) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|byte| space.read(at + byte as u64)))
    }

    #[test]
    fn identity_is_that_of_a_modern_virtio_network_card() {
        let space = ConfigSpace::new(3);
        assert_eq!(dword(&space, 0), 0x1041_1af4);
        assert_eq!(dword(&space, 8), 0x0200_0001);
        assert_eq!(dword(&space, 0x2c), 0x0054_1af4);
        assert_eq!(space.read(0x0e), 0, "header type");
        assert_eq!(space.read(0x3d), 0, "interrupt pin");
        assert_eq!(space.read(4095), 0);
        assert_eq!(dword(&space, 0x100), 0, "no extended capability");
    }

    /// The walk that every driver makes, up to where the NIC's own capabilities begin.
    #[test]
    fn the_capability_list_leads_to_the_nic() {
        let space = ConfigSpace::new(3);
        let (mut at, mut found) = (u64::from(space.read(0x34)), vec![]);
        while !ConfigSpace::is_nics(at) {
            found.push((space.read(at), at));
            at = space.read(at + 1).into();
            assert!(found.len() < 10);
        }
        assert_eq!(found, [(0x11, 0x40), (0x10, 0x50)]);
        assert_eq!(at, 0x90);
        assert_eq!(dword(&space, 0x40) >> 16, 2, "table size minus one");
        assert_eq!((dword(&space, 0x44), dword(&space, 0x48)), (0x8000, 0xa000));
        assert_eq!(dword(&space, 0x54) >> 28 & 1, 1, "function-level reset");
    }

    #[test]
    fn the_bar_can_be_sized() {
        let mut space = ConfigSpace::new(3);
        space.write(0x10, &[0xff; 8]);
        let (low, high) = (dword(&space, 0x10), dword(&space, 0x14));
        assert_eq!(low & 0xf, 0b100);
        let mask = u64::from(high) << 32 | u64::from(low & !0xf);
        assert_eq!(mask.wrapping_neg(), u64::from(BAR0_LEN));
        space.write(0x10, &[0, 0, 0x12, 0xfe]);
        assert_eq!(dword(&space, 0x10), 0xfe12_0004);
        space.write(0x18, &[0xff; 4]);
        assert_eq!(dword(&space, 0x18), 0, "no BAR 2");
    }

    #[test]
    fn control_bits_take_effect_and_reset() {
        let mut space = ConfigSpace::new(3);
        assert_eq!(space.write(4, &[0x02]), Effect::default());
        assert_eq!(space.write(4, &[0xff, 0xff]), Effect { control: true, function_reset: false });
        assert_eq!(dword(&space, 4), 0x0010_0546);
        assert!(space.bus_master());
        assert!(space.write(0x42, &[0xff, 0xff]).control);
        assert!(space.msix_enable() && space.msix_function_mask());
        assert_eq!(dword(&space, 0x40) >> 16, 0xc002, "the table size is read-only");
        // Read-only registers stay.
        space.write(0, &[0xff; 4]);
        assert_eq!(dword(&space, 0), 0x1041_1af4);
        // Bit 15 of device control, in a byte, a word or a dword write; it reads as zero.
        for (at, data) in [(0x59u64, &[0x80u8][..]), (0x58, &[0, 0x80]), (0x58, &[0, 0x80, 0, 0])] {
            assert!(space.write(at, data).function_reset);
            assert_eq!(space.read(0x59) & 0x80, 0);
        }
        assert!(!space.write(0x58, &[0x80]).function_reset);
        space.reset();
        assert!(!space.bus_master() && !space.msix_enable());
    }

    #[test]
    fn bytes_of_the_nic_are_left_alone() {
        let mut space = ConfigSpace::new(3);
        space.write(0x80, &[0xff; 0x80]);
        assert!((0x8c..0x100).all(|at| space.read(at) == 0));
    }
}
