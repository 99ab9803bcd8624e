//! The NIC as a PCI device on a vfio-user socket.
//!
//! [`device::NicDevice`] puts what a PCIe core and a root complex would be around any
//! [`Nic`](tandem_contract::nic::Nic): configuration space, BAR access widths, bus mastering, MSI-X messages turned
//! into eventfds, DMA into the client's memory. [`serve`] runs it, wall-coupled: the NIC's clock runs only while
//! the NIC has work, and nothing here says anything about time.

#![deny(unsafe_code)]

pub mod config_space;
pub mod device;
pub mod dma;
pub mod model;
pub mod serve;
pub mod wire;
