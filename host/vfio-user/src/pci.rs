//! Which region and which interrupt type of a PCI device has which index (`<linux/vfio.h>`).

/// BAR 0; BARs 1 to 5 follow.
pub const REGION_BAR0: u32 = 0;
/// Number of BARs.
pub const BARS: u32 = 6;
/// Expansion ROM.
pub const REGION_ROM: u32 = 6;
/// Configuration space.
pub const REGION_CONFIG: u32 = 7;
/// Legacy VGA ranges.
pub const REGION_VGA: u32 = 8;
/// Number of regions.
pub const REGIONS: usize = 9;

/// Legacy interrupt line.
pub const IRQ_INTX: u32 = 0;
/// MSI.
pub const IRQ_MSI: u32 = 1;
/// MSI-X.
pub const IRQ_MSIX: u32 = 2;
/// Error reports.
pub const IRQ_ERROR: u32 = 3;
/// Requests to release the device.
pub const IRQ_REQUEST: u32 = 4;
/// Number of interrupt types.
pub const IRQS: usize = 5;
