//! The PCI function as a driver meets it: configuration space, BAR, interrupts, reset, removal.

use tandem_contract::layout::{
    BAR0_LEN, CFG_COMMON_CAP, CFG_MSIX_CAP, CFG_PCI_CFG_CAP, CFG_PCIE_CAP, COUNTERS_BASE,
    MSIX_TABLE_BASE, PCI_DEVICE, PCI_VENDOR,
};
use tandem_contract::nic::NicParams;
use tandem_cosim::{
    Clock, Cosim, Ended, HostMemory, InProcess, MemoryConfig, RegionTable, Until, Wire,
};
use tandem_device::{DmaError, Region};
use tandem_reference::ReferenceNic;
use tandem_virtio::{Layout, PciTransport, TransportError, Width};

fn nic(clock: Clock) -> InProcess<ReferenceNic> {
    let nic = ReferenceNic::new(NicParams { model: "reference", ..NicParams::default() });
    let memory = HostMemory::new(RegionTable::new(), MemoryConfig::ideal());
    InProcess::new(Cosim::new(nic, memory, Wire::none(), clock))
}

#[test]
fn the_header_identifies_and_sizes() {
    let nic = nic(Clock::FreeRunning);
    assert_eq!(nic.config_read(0, Width::Half).unwrap(), PCI_VENDOR.into());
    assert_eq!(nic.config_read(2, Width::Half).unwrap(), PCI_DEVICE.into());
    assert_eq!(nic.config_read(0xB, Width::Byte).unwrap(), 0x02, "network controller");
    // Read-only fields stay.
    nic.config_write(0, Width::Word, 0).unwrap();
    assert_eq!(nic.config_read(0, Width::Half).unwrap(), PCI_VENDOR.into());
    // Sizing the BAR (PCI 3.0, 6.2.5.1).
    nic.config_write(0x10, Width::Word, u32::MAX).unwrap();
    nic.config_write(0x14, Width::Word, u32::MAX).unwrap();
    assert_eq!(nic.config_read(0x10, Width::Word).unwrap(), !(BAR0_LEN - 1) | 4);
    assert_eq!(nic.config_read(0x14, Width::Word).unwrap(), u32::MAX);
    nic.config_write(0x10, Width::Word, 0xE000_1234).unwrap();
    nic.config_write(0x14, Width::Word, 0x12).unwrap();
    assert_eq!(nic.lock().shell().bar0(), 0x12_E000_0000);
    assert_eq!(nic.bar_len(0), Some(BAR0_LEN.into()));
    assert_eq!(nic.bar_len(1), None);
    assert_eq!(nic.config_read(0x200, Width::Word).unwrap(), 0, "no extended capabilities");
}

#[test]
fn capabilities_chain_from_the_shell_into_the_nic() {
    let nic = nic(Clock::FreeRunning);
    let mut at = nic.config_read(0x34, Width::Byte).unwrap() as u16;
    let mut chain = Vec::new();
    while at != 0 && chain.len() < 16 {
        chain.push((at, nic.config_read(at, Width::Byte).unwrap()));
        at = nic.config_read(at + 1, Width::Byte).unwrap() as u16;
    }
    assert_eq!(chain[0], (CFG_MSIX_CAP, 0x11));
    assert_eq!(chain[1], (CFG_PCIE_CAP, 0x10));
    assert_eq!(chain[2], (CFG_COMMON_CAP, 0x09));
    assert_eq!(chain.len(), 7, "five virtio capabilities: {chain:x?}");
    assert_eq!(chain[6], (CFG_PCI_CFG_CAP, 0x09));
    // And the driver's own walk finds all registers.
    Layout::discover(&nic).unwrap();
}

#[test]
fn accesses_of_every_width_and_out_of_range() {
    let nic = nic(Clock::FreeRunning);
    let at = COUNTERS_BASE.into();
    assert_eq!(nic.bar_read(0, at, Width::Word).unwrap(), u32::from_le_bytes(*b"TNDM").into());
    assert_eq!(
        nic.bar_read(0, at + 2, Width::Half).unwrap(),
        u64::from(u16::from_le_bytes(*b"DM"))
    );
    assert_eq!(nic.bar_read(0, at + 1, Width::Byte).unwrap(), b'N'.into());
    let wide = nic.bar_read(0, at, Width::Double).unwrap();
    assert_eq!(wide as u32, u32::from_le_bytes(*b"TNDM"));
    for (bar, offset, width) in
        [(0, 2, Width::Word), (0, u64::from(BAR0_LEN), Width::Byte), (1, 0, Width::Byte)]
    {
        let refused = nic.bar_read(bar, offset, width);
        assert!(matches!(refused, Err(TransportError::OutOfRange { .. })), "{refused:?}");
        assert!(nic.bar_write(bar, offset, width, 0).is_err());
    }
    assert!(nic.bar_read(0, u64::MAX - 7, Width::Double).is_err());
    assert!(nic.config_read(0, Width::Double).is_err());
}

#[test]
fn vectors_are_programmed_and_masked() {
    let nic = nic(Clock::FreeRunning);
    assert_eq!(nic.vectors(), 3);
    nic.enable_vectors(2).unwrap();
    let control = |vector: u64| {
        nic.bar_read(0, u64::from(MSIX_TABLE_BASE) + 16 * vector + 12, Width::Word).unwrap() & 1
    };
    assert_eq!([control(0), control(1), control(2)], [0, 0, 1]);
    assert!(nic.lock().shell().control().msix_enable);
    assert!(!nic.lock().shell().control().msix_function_mask);
    nic.enable_vectors(0).unwrap();
    assert!(!nic.lock().shell().control().msix_enable);
    assert!(nic.enable_vectors(4).is_err());
    assert!(nic.interrupt_pending(3).is_err());
    assert!(!nic.interrupt_pending(2).unwrap());
}

#[test]
fn reset_clears_what_the_driver_set_and_keeps_the_bar() {
    let nic = nic(Clock::FreeRunning);
    let flr = |nic: &InProcess<ReferenceNic>| nic.reset_function().unwrap();
    let device_control = |nic: &InProcess<ReferenceNic>| {
        nic.config_write(CFG_PCIE_CAP + 8, Width::Half, 0x8000).unwrap();
    };
    for reset in [&flr as &dyn Fn(&InProcess<ReferenceNic>), &device_control] {
        nic.config_write(0x10, Width::Word, 0xD000_0000).unwrap();
        nic.config_write(4, Width::Half, 0x0006).unwrap();
        nic.enable_vectors(3).unwrap();
        // ACKNOWLEDGE.
        nic.bar_write(0, 0x14, Width::Byte, 1).unwrap();
        assert_eq!(nic.bar_read(0, 0x14, Width::Byte).unwrap(), 1);
        reset(&nic);
        assert_eq!(nic.bar_read(0, 0x14, Width::Byte).unwrap(), 0);
        let control = nic.lock().shell().control();
        assert!(!control.bus_master && !control.msix_enable);
        assert_eq!(nic.lock().shell().bar0(), 0xD000_0000);
        assert_eq!(nic.config_read(CFG_PCIE_CAP + 8, Width::Half).unwrap() & 0x8000, 0);
    }
}

#[test]
fn a_nic_that_was_pulled_out_reads_as_ones() {
    let nic = nic(Clock::FreeRunning);
    let region = Region::new("r", 4096).unwrap();
    nic.dma_map(&region).unwrap();
    nic.enable_vectors(1).unwrap();
    nic.pull_out();
    assert_eq!(nic.config_read(0, Width::Word).unwrap(), u32::MAX);
    assert_eq!(nic.config_read(0, Width::Byte).unwrap(), 0xFF);
    assert_eq!(nic.bar_read(0, 0x14, Width::Byte).unwrap(), 0xFF);
    assert_eq!(nic.bar_read(0, 0x20, Width::Double).unwrap(), u64::MAX);
    nic.bar_write(0, 0x14, Width::Byte, 0).unwrap();
    nic.config_write(4, Width::Half, 6).unwrap();
    // A driver that only waits has no other way to learn of it, as over vfio-user.
    assert!(matches!(nic.interrupt_pending(0), Err(TransportError::Gone { .. })));
    assert!(matches!(nic.dma_map(&region), Err(DmaError::Gone)));
    nic.dma_unmap(region.id()).unwrap();
    assert!(matches!(nic.reset_function(), Err(TransportError::Gone { .. })));
    assert!(matches!(nic.enable_vectors(1), Err(TransportError::Gone { .. })));
    assert_eq!(nic.run(1_000).unwrap(), Ended::Gone);
}

#[test]
fn an_idle_clock_skips_or_stands() {
    let free = nic(Clock::FreeRunning);
    let start = free.lock().now();
    assert_eq!(free.run(1_000_000_000).unwrap(), Ended::Deadline);
    assert_eq!(free.lock().now(), start + 1_000_000_000);
    let far = free.lock().now() + 10;
    assert_eq!(free.run_until(Until::Idle(far)).unwrap(), Ended::Idle);

    let coupled = nic(Clock::WallCoupled);
    assert_eq!(coupled.run(1_000_000_000).unwrap(), Ended::Idle);
    assert!(coupled.lock().now() < 100_000, "nothing to do, so no time passes");
}
