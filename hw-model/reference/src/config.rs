//! The NIC's part of configuration space: five vendor capabilities (virtio 1.3, 4.1.4), the last of
//! them the window into BAR 0 (4.1.4.9).

use tandem_contract::layout;

/// An access to BAR 0 through the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Byte offset in BAR 0, a multiple of `len`.
    pub offset: u32,
    /// 1, 2 or 4 bytes.
    pub len: u32,
}

/// Capabilities and the window's fields.
#[derive(Debug, Clone)]
pub struct Config {
    queues: u16,
    bar: u8,
    offset: u32,
    length: u32,
    data: u32,
}

/// `pci_cfg_data`.
const DATA: u16 = layout::CFG_PCI_CFG_CAP + 16;

impl Config {
    /// As after the chip's reset, for a NIC with `queues` queues.
    pub fn new(queues: u16) -> Self {
        Self { queues, bar: 0, offset: 0, length: 0, data: 0 }
    }

    /// Whether the dword at `offset` is `pci_cfg_data`.
    pub fn is_data(offset: u16) -> bool {
        offset == DATA
    }

    /// The access that `pci_cfg_data` stands for now, if its fields name one that can be (4.1.4.9.1).
    pub fn window(&self) -> Option<Window> {
        let (offset, len) = (self.offset, self.length);
        let sound = self.bar == 0
            && matches!(len, 1 | 2 | 4)
            && offset.is_multiple_of(len)
            && offset < layout::BAR0_LEN;
        sound.then_some(Window { offset, len })
    }

    /// `pci_cfg_data` as last read or written.
    pub fn data(&self) -> u32 {
        self.data
    }

    /// Keeps what was read through the window, or is to be written through it.
    pub fn set_data(&mut self, value: u32) {
        self.data = value;
    }

    /// Reads a dword other than `pci_cfg_data`.
    pub fn read(&self, offset: u16) -> u32 {
        let notify_len = layout::NOTIFY_STRIDE * u32::from(self.queues);
        // Capability, next, length, type, offset in BAR 0, length in BAR 0.
        let caps = [
            (
                layout::CFG_COMMON_CAP,
                layout::CFG_NOTIFY_CAP,
                16,
                1,
                layout::COMMON_BASE,
                layout::COMMON_LEN,
            ),
            (layout::CFG_NOTIFY_CAP, layout::CFG_ISR_CAP, 20, 2, layout::NOTIFY_BASE, notify_len),
            (layout::CFG_ISR_CAP, layout::CFG_DEVICE_CAP, 16, 3, layout::ISR_BASE, layout::ISR_LEN),
            (
                layout::CFG_DEVICE_CAP,
                layout::CFG_PCI_CFG_CAP,
                16,
                4,
                layout::DEVICE_BASE,
                layout::DEVICE_LEN,
            ),
        ];
        for (cap, next, len, kind, base, length) in caps {
            if !(cap..cap + len).contains(&offset) {
                continue;
            }
            return match offset - cap {
                0 => u32::from_le_bytes([9, next as u8, len as u8, kind]),
                8 => base,
                12 => length,
                16 => layout::NOTIFY_STRIDE,
                _ => 0,
            };
        }
        match offset.wrapping_sub(layout::CFG_PCI_CFG_CAP) {
            0 => u32::from_le_bytes([9, 0, 20, 5]),
            4 => self.bar.into(),
            8 => self.offset,
            12 => self.length,
            16 => self.data,
            _ => 0,
        }
    }

    /// Writes the enabled bytes of a dword other than `pci_cfg_data`; only the window's fields take them.
    pub fn write(&mut self, offset: u16, value: u32, enable: u8) {
        let mask = (0..4).filter(|b| enable >> b & 1 == 1).fold(0, |m, b| m | 0xFF_u32 << (8 * b));
        let next = self.read(offset) & !mask | value & mask;
        match offset.wrapping_sub(layout::CFG_PCI_CFG_CAP) {
            4 => self.bar = next as u8,
            8 => self.offset = next,
            12 => self.length = next,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_capabilities() {
        let config = Config::new(2);
        let mut at = layout::CFG_COMMON_CAP;
        let mut kinds = Vec::new();
        while at != 0 {
            let [id, next, len, kind] = config.read(at).to_le_bytes();
            assert_eq!(id, 9);
            assert!(next == 0 || at + u16::from(len) == u16::from(next));
            kinds.push(kind);
            at = next.into();
        }
        assert_eq!(kinds, [1, 2, 3, 4, 5]);
        assert_eq!(config.read(layout::CFG_NOTIFY_CAP + 12), 8);
        assert_eq!(config.read(layout::CFG_NOTIFY_CAP + 16), layout::NOTIFY_STRIDE);
    }

    #[test]
    fn the_window_takes_only_what_can_be() {
        let mut config = Config::new(2);
        assert_eq!(config.window(), None);
        let cap = layout::CFG_PCI_CFG_CAP;
        config.write(cap + 8, 0x2002, 0xF);
        config.write(cap + 12, 2, 0xF);
        assert_eq!(config.window(), Some(Window { offset: 0x2002, len: 2 }));
        config.write(cap + 12, 4, 0xF);
        assert_eq!(config.window(), None, "not aligned");
        config.write(cap + 8, 0x1_0000, 0xF);
        assert_eq!(config.window(), None, "behind the BAR");
        config.write(cap + 8, 0, 0xF);
        config.write(cap + 4, 2, 0x1);
        assert_eq!(config.window(), None, "another BAR");
    }
}
