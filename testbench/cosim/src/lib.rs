//! Cosimulation: the NIC, verilated or reference, in an environment that behaves.
//!
//! [`Cosim`] holds a [`Nic`](tandem_contract::nic::Nic), the host's memory ([`HostMemory`]), the wire
//! ([`Wire`]), what a PCIe core does ([`PciShell`]) and the clock. A driver meets it through
//! [`InProcess`], which is a PCI transport. Runs repeat for the same seeds as long as no far end is
//! real.

#![forbid(unsafe_code)]

mod cosim;
mod memory;
mod random;
mod regions;
mod shell;
mod transport;
pub mod wire;

pub use cosim::{Clock, Cosim, CosimError, EVENTS_MAX, Ended, NS_PER_CYCLE, Until};
pub use memory::{
    DmaEvent, HostMemory, IN_FLIGHT_MAX, Latency, MSI_BASE, MSI_END, MemoryConfig, MemoryStats,
    Observer, VECTORS_MAX,
};
pub use random::Random;
pub use regions::{AddressSpace, REGIONS_MAX, RegionTable};
pub use shell::{CONFIG_LEN, PciShell};
pub use transport::InProcess;
pub use wire::{LineRate, Wire};
