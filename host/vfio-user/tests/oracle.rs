//! Against the crate `vfio_user`, in both roles.
//!
//! Its client does not read error replies correctly and inverts `resettable()`; its server serves one connection
//! and has no DMA messages. The tests keep clear of that.

mod support;

use std::fs::File;
use std::io::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

use support::*;
use tandem_vfio_user::client::{Client, ClientConfig, ClientError};
use tandem_vfio_user::irq::{interrupt_eventfd, take_interrupts};
use tandem_vfio_user::memory::{ClientMemory, SharedMemory};
use tandem_vfio_user::message::{DmaFlags, IrqSetFlags};
use tandem_vfio_user::pci;

#[test]
fn their_client_drives_our_server() {
    let server = Running::start("their-client");
    let mut client = vfio_user::Client::new(&server.path).unwrap();
    server.expect(|seen| *seen == Seen::Joined);
    assert!(!client.resettable()); // inverted by the crate: it means that we do reset
    assert_eq!(client.region(0).unwrap().size, BAR0_BYTES);
    let bar2 = client.region(2).unwrap();
    assert!(bar2.file_offset.is_some());
    assert_eq!((bar2.sparse_areas[0].offset, bar2.sparse_areas[0].size), (4096, 4096));
    let irq = client.get_irq_info(pci::IRQ_MSIX).unwrap();
    assert_eq!((irq.index, irq.count), (pci::IRQ_MSIX, 40));

    client.region_write(0, 0x3000, &[1, 2, 3, 4]).unwrap();
    let mut back = [0; 4];
    client.region_read(0, 0x3000, &mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);

    let eventfd = interrupt_eventfd().unwrap();
    let flags = (IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_TRIGGER).bits();
    client.set_irqs(pci::IRQ_MSIX, flags, 1, 1, &[eventfd.as_raw_fd()]).unwrap();

    let memory = SharedMemory::new(8192).unwrap();
    memory.write(0, b"through their client").unwrap();
    client.dma_map(0, 0x4000, 8192, memory.as_fd().as_raw_fd()).unwrap();
    let copy: Vec<u8> =
        [0x4000u64, 0x5000, 20].iter().flat_map(|word| word.to_ne_bytes()).collect();
    client.region_write(0, COPY, &copy).unwrap();
    let mut back = [0; 20];
    memory.read(4096, &mut back).unwrap();
    assert_eq!(&back, b"through their client");
    assert_eq!(take_interrupts(&eventfd).unwrap(), 1);
    client.dma_unmap(0x4000, 8192).unwrap();
    client.reset().unwrap();
    server.expect(|seen| *seen == Seen::Reset);
    client.shutdown().unwrap();
    server.expect(|seen| *seen == Seen::Left);
    let counters = server.finish();
    assert_eq!((counters.errors, counters.clients_dropped), (0, 0));
}

#[derive(Debug, PartialEq)]
enum Call {
    Write(u32, u64, Vec<u8>),
    Map { address: u64, offset: u64, size: u64, has_fd: bool, flags: u32 },
    Unmap(u64, u64),
    Reset,
    Irqs { index: u32, flags: u32, start: u32, count: u32, fds: usize },
}

struct Backend(Sender<Call>);

impl vfio_user::ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Error> {
        if region == 0 && offset == BROKEN {
            return Err(Error::from_raw_os_error(5));
        }
        data.iter_mut().enumerate().for_each(|(at, byte)| *byte = (offset as usize + at) as u8);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.0.send(Call::Write(region, offset, data.to_vec())).map_err(Error::other)
    }

    fn dma_map(
        &mut self,
        flags: vfio_user::DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> Result<(), Error> {
        let call = Call::Map { address, offset, size, has_fd: fd.is_some(), flags: flags.bits() };
        self.0.send(call).map_err(Error::other)
    }

    fn dma_unmap(
        &mut self,
        _: vfio_user::DmaUnmapFlags,
        address: u64,
        size: u64,
    ) -> Result<(), Error> {
        self.0.send(Call::Unmap(address, size)).map_err(Error::other)
    }

    fn reset(&mut self) -> Result<(), Error> {
        self.0.send(Call::Reset).map_err(Error::other)
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> Result<(), Error> {
        self.0.send(Call::Irqs { index, flags, start, count, fds: fds.len() }).map_err(Error::other)
    }
}

fn their_regions(sizes: &[u64]) -> Vec<vfio_user::ServerRegion> {
    let region = |(index, &size): (usize, &u64)| {
        let mut region = vfio_user::ServerRegion {
            region_info: Default::default(),
            sparse_areas: vec![],
            mmap_fd: None,
        };
        let info = &mut region.region_info;
        (info.argsz, info.index, info.flags, info.size) = (32, index as u32, 3, size);
        region
    };
    sizes.iter().enumerate().map(region).collect()
}

#[test]
fn our_client_drives_their_server() {
    let path: PathBuf = socket_path("their-server");
    let irqs = (0..5u32).map(|index| vfio_user::IrqInfo {
        index,
        flags: 1,
        count: 20 * u32::from(index == 2),
    });
    let mut sizes = [0; 9];
    (sizes[0], sizes[7]) = (0x2000, 256);
    let server =
        vfio_user::Server::new(&path, true, irqs.collect(), their_regions(&sizes)).unwrap();
    let (sender, calls) = channel();
    let thread = std::thread::spawn(move || {
        server.run(&mut Backend(sender)).map_err(|error| error.to_string())
    });

    let mut client = Client::connect(&path, ClientConfig::default()).unwrap();
    assert_eq!((client.version().major, client.version().minor), (0, 0));
    assert!(client.resettable());
    assert_eq!(client.region(0).unwrap().size, 0x2000);
    assert_eq!(client.irq(pci::IRQ_MSIX).unwrap().0, 20);
    let mut data = [0; 6];
    client.region_read(0, 0x10, &mut data).unwrap();
    assert_eq!(data, [0x10, 0x11, 0x12, 0x13, 0x14, 0x15]);
    let refused = client.region_read(0, BROKEN, &mut data).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");

    client.region_write(0, 8, &[1, 2]).unwrap();
    client.region_write_posted(7, 4, &[6]).unwrap();
    let memory = SharedMemory::new(8192).unwrap();
    client.dma_map(0x1000, memory.fd(), 4096, 4096, DmaFlags::READ).unwrap();
    client.dma_unmap(0x1000, 4096).unwrap();
    client.reset().unwrap();
    // Its server takes one descriptor per message, so three vectors are three messages.
    assert_eq!(client.server_capabilities().msg_fds_max(), 1);
    let eventfds: Vec<_> = (0..3).map(|_| interrupt_eventfd().unwrap()).collect();
    let borrowed: Vec<_> = eventfds.iter().map(|fd| fd.as_fd()).collect();
    client.arm_irqs(pci::IRQ_MSIX, 4, &borrowed).unwrap();
    client.disable_irqs(pci::IRQ_MSIX).unwrap();
    drop(client);
    thread.join().unwrap().unwrap();

    let arm = |start| Call::Irqs { index: 2, flags: 0x24, start, count: 1, fds: 1 };
    let wanted = vec![
        Call::Write(0, 8, vec![1, 2]),
        Call::Write(7, 4, vec![6]),
        Call::Map { address: 0x1000, offset: 4096, size: 4096, has_fd: true, flags: 1 },
        Call::Unmap(0x1000, 4096),
        Call::Reset,
        arm(4),
        arm(5),
        arm(6),
        Call::Irqs { index: 2, flags: 0x21, start: 0, count: 0, fds: 0 },
    ];
    assert_eq!(calls.into_iter().collect::<Vec<_>>(), wanted);
}
