//! Our client against our server.

mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::*;
use tandem_vfio_user::client::{Client, ClientConfig, ClientError};
use tandem_vfio_user::dma::DmaError;
use tandem_vfio_user::irq::{IrqAction, IrqChange, interrupt_eventfd, take_interrupts};
use tandem_vfio_user::memory::{ClientMemory, OutOfRange, SharedMemory};
use tandem_vfio_user::message::{DmaFlags, MultiWrite, RegionFlags};
use tandem_vfio_user::pci;
use tandem_vfio_user::server::{BindError, Existing, Server};

const RW: DmaFlags = DmaFlags::READ.union(DmaFlags::WRITE);

fn copy(client: &mut Client, from: u64, to: u64, len: u64) -> bool {
    let command: Vec<u8> = [from, to, len].iter().flat_map(|word| word.to_ne_bytes()).collect();
    client.region_write(pci::REGION_BAR0, COPY, &command).unwrap();
    let mut result = [9];
    client.region_read(pci::REGION_BAR0, COPY_RESULT, &mut result).unwrap();
    result[0] == 0
}

#[test]
fn negotiates_and_describes_the_device() {
    let server = Running::start("describe");
    let client = server.client();
    assert_eq!((client.version().major, client.version().minor), (0, 1));
    assert!(client.resettable());
    assert_eq!(client.region(pci::REGION_BAR0).unwrap().size, BAR0_BYTES);
    assert_eq!(client.region(pci::REGION_CONFIG).unwrap().size, 256);
    assert_eq!(client.region(1).unwrap().size, 0);
    assert!(client.region(9).is_none());
    assert_eq!(client.irq(pci::IRQ_MSIX).unwrap().0, 40);
    assert_eq!(client.irq(pci::IRQ_INTX).unwrap().0, 0);
    let bar2 = client.region(2).unwrap();
    assert!(bar2.flags.contains(RegionFlags::MMAP | RegionFlags::CAPS | RegionFlags::READ));
    assert_eq!((bar2.mappable[0].offset, bar2.mappable[0].size), (4096, 4096));
    server.expect(|seen| *seen == Seen::Joined);
}

#[test]
fn region_accesses_of_all_sizes() {
    let server = Running::start("regions");
    let mut client = server.client();
    for len in [1usize, 2, 4, 8, 3, 100, 40_000] {
        let data: Vec<u8> = (0..len).map(|at| at as u8 ^ 0x5a).collect();
        client.region_write(pci::REGION_BAR0, 0x1000, &data).unwrap();
        let mut back = vec![0; len];
        client.region_read(pci::REGION_BAR0, 0x1000, &mut back).unwrap();
        assert_eq!(back, data);
    }
    let mut ids = [0; 4];
    client.region_read(pci::REGION_CONFIG, 0, &mut ids).unwrap();
    assert_eq!(ids, [0, 1, 2, 3]);

    // Posted writes come in order, before the next answered command.
    for value in 0..200u8 {
        client.region_write_posted(pci::REGION_BAR0, 0x2000, &[value]).unwrap();
    }
    let mut last = [0];
    client.region_read(pci::REGION_BAR0, 0x2000, &mut last).unwrap();
    assert_eq!(last, [199]);

    let writes: Vec<_> =
        (0..300u64).map(|at| MultiWrite::new(0, 0x3000 + at, &[at as u8]).unwrap()).collect();
    client.region_write_multi(&writes).unwrap();
    let mut back = [0; 300];
    client.region_read(0, 0x3000, &mut back).unwrap();
    assert!(back.iter().enumerate().all(|(at, &byte)| byte == at as u8));
}

#[test]
fn accesses_are_split_at_the_transfer_size() {
    let mut config = config();
    config.limits.data_xfer_bytes_max = 1000;
    let server = Running::start_with("split", config);
    let mut client = server.client();
    let data: Vec<u8> = (0..5001u32).map(|at| (at % 251) as u8).collect();
    client.region_write(0, 0x4000, &data).unwrap();
    let mut back = vec![0; data.len()];
    client.region_read(0, 0x4000, &mut back).unwrap();
    assert_eq!(back, data);
    drop(client);
    // 6 writes and 6 reads, besides what the client asks at first.
    assert!(server.finish().commands >= 12);
}

#[test]
fn refusals_carry_an_errno_and_leave_the_connection_usable() {
    let server = Running::start("refusals");
    let mut client = server.client();
    let refused = |error: ClientError| match error {
        ClientError::Refused { errno, .. } => errno,
        other => panic!("{other}"),
    };
    assert_eq!(refused(client.region_read(0, BROKEN, &mut [0]).unwrap_err()), 5); // EIO from the device
    assert_eq!(refused(client.region_write(2, 0, &[1]).unwrap_err()), 1); // EPERM: read-only region
    // What the client itself can see to be wrong is not even sent.
    assert!(matches!(client.region_read(0, BAR0_BYTES, &mut [0]), Err(ClientError::Argument(_))));
    assert!(matches!(client.region_read(64, 0, &mut [0]), Err(ClientError::Argument(_))));
    assert!(matches!(client.disarm_irqs(pci::IRQ_MSIX, 39, 2), Err(ClientError::Argument(_))));
    assert!(matches!(client.dma_unmap(0, 4096), Err(ClientError::Argument(_))));
    client.region_read(0, 0, &mut [0]).unwrap();
    drop(client);
    assert_eq!(server.finish().errors, 2);
}

#[test]
fn interrupts_arm_mask_trigger_disarm() {
    let server = Running::start("irqs");
    let mut client = server.client();
    // More than one message can carry.
    let eventfds: Vec<_> = (0..40).map(|_| interrupt_eventfd().unwrap()).collect();
    let borrowed: Vec<_> = eventfds.iter().map(|fd| fd.as_fd()).collect();
    client.arm_irqs(pci::IRQ_MSIX, 0, &borrowed).unwrap();
    server.expect(|seen| {
        *seen == Seen::Irqs(IrqChange { index: 2, start: 32, count: 8, action: IrqAction::Arm })
    });

    client.trigger_irqs(pci::IRQ_MSIX, 0, &[false, true, true]).unwrap();
    let fired: Vec<u64> = eventfds.iter().map(|fd| take_interrupts(fd).unwrap()).collect();
    assert_eq!(fired[..4], [0, 1, 1, 0]);

    copy(&mut client, 0, 0, 0); // raises vector 1
    assert_eq!(take_interrupts(&eventfds[1]).unwrap(), 1);
    client.mask_irqs(pci::IRQ_MSIX, 1, 1).unwrap();
    copy(&mut client, 0, 0, 0);
    copy(&mut client, 0, 0, 0);
    assert_eq!(take_interrupts(&eventfds[1]).unwrap(), 0);
    client.unmask_irqs(pci::IRQ_MSIX, 1, 1).unwrap();
    assert_eq!(take_interrupts(&eventfds[1]).unwrap(), 1);
    client.disarm_irqs(pci::IRQ_MSIX, 1, 1).unwrap();
    copy(&mut client, 0, 0, 0);
    assert_eq!(take_interrupts(&eventfds[1]).unwrap(), 0);
    client.disable_irqs(pci::IRQ_MSIX).unwrap();
    client.trigger_irqs(pci::IRQ_MSIX, 0, &[true; 40]).unwrap();
    assert!(eventfds.iter().all(|fd| take_interrupts(fd).unwrap() == 0));
    drop(client);
    assert_eq!(server.finish().irqs_unarmed, 1);
}

#[test]
fn dma_through_a_shared_file() {
    let server = Running::start("dma-file");
    let mut client = server.client();
    let memory = SharedMemory::new(1 << 20).unwrap();
    // Two ranges that touch in DMA addresses and not in the file.
    client.dma_map(0x10000, memory.fd(), 0x8000, 0x1000, RW).unwrap();
    client.dma_map(0x11000, memory.fd(), 0x2000, 0x1000, RW).unwrap();
    let data: Vec<u8> = (0..0x1800u32).map(|at| (at % 253) as u8).collect();
    memory.write(0x8000, &data[..0x1000]).unwrap();
    memory.write(0x2000, &data[0x1000..]).unwrap();
    client.dma_map(0x9000_0000_0000, memory.fd(), 0x10000, 0x2000, DmaFlags::WRITE).unwrap();
    assert!(copy(&mut client, 0x10000, 0x9000_0000_0000, 0x1800));
    let mut back = vec![0; data.len()];
    memory.read(0x10000, &mut back).unwrap();
    assert_eq!(back, data);

    assert!(!copy(&mut client, 0x9000_0000_0000, 0x10000, 8), "write-only memory was read");
    assert!(!copy(&mut client, 0x10000, 0x12000 - 4, 8), "a write past the end happened");
    // An overlap is refused here and never reaches the server.
    assert!(client.dma_map(0x11800, memory.fd(), 0, 0x1000, RW).is_err());
    // A range behind the end of the file is refused by the server, and forgotten here.
    let refused = client.dma_map(0x20000, memory.fd(), 1 << 20, 0x1000, RW).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { errno: 22, .. }), "{refused}");
    client.dma_map(0x20000, memory.fd(), 0, 0x1000, RW).unwrap();
}

#[test]
fn dma_by_messages_is_split_and_bounded() {
    let mut config = config();
    config.limits.data_xfer_bytes_max = 4096;
    let server = Running::start_with("dma-messages", config);
    let mut client = server.client();
    let memory = Arc::new(SharedMemory::new(0x10000).unwrap());
    client.dma_map_private(0x10000, memory.clone(), RW).unwrap();
    let data: Vec<u8> = (0..10_000u32).map(|at| (at % 241) as u8).collect();
    memory.write(0, &data).unwrap();
    assert!(copy(&mut client, 0x10000, 0x18000, 10_000));
    let mut back = vec![0; data.len()];
    memory.read(0x8000, &mut back).unwrap();
    assert_eq!(back, data);
    assert_eq!(client.counters().dma_commands, 6);
    assert!(!copy(&mut client, 0x1ffff, 0x10000, 2));

    // Half of it shared, half of it not.
    let shared = SharedMemory::new(4096).unwrap();
    client.dma_map(0x20000, shared.fd(), 0, 4096, RW).unwrap();
    assert!(copy(&mut client, 0x10000, 0x20000 - 100, 200));
    let mut back = [0; 100];
    shared.read(0, &mut back).unwrap();
    assert_eq!(back, data[100..200]);
    drop(client);
    assert_eq!(server.finish().dma_message_bytes, 20_000 + 200 + 100);
}

/// Memory that always fails, as a buggy or malicious client's would.
struct Broken;

impl ClientMemory for Broken {
    fn size(&self) -> u64 {
        4096
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), OutOfRange> {
        Err(OutOfRange { offset, len: data.len(), size: 4096 })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), OutOfRange> {
        Err(OutOfRange { offset, len: data.len(), size: 4096 })
    }
}

#[test]
fn a_refused_dma_message_is_an_error_of_the_access() {
    let server = Running::start("dma-refused");
    let mut client = server.client();
    client.dma_map_private(0, Arc::new(Broken), RW).unwrap();
    assert!(!copy(&mut client, 0, 0, 8));
    assert_eq!(client.counters().dma_refused, 1);
    client.region_read(0, 0, &mut [0]).unwrap();
}

#[test]
fn unmap_lets_the_device_drain_and_then_shuts_the_range() {
    let server = Running::start("unmap");
    let mut client = server.client();
    let memory = SharedMemory::new(8192).unwrap();
    client.dma_map(0x1000, memory.fd(), 0, 4096, RW).unwrap();
    client.dma_map(0x2000, memory.fd(), 4096, 4096, RW).unwrap();
    assert!(copy(&mut client, 0x1000, 0x2000, 4096));
    client.dma_unmap(0x1000, 4096).unwrap();
    let Seen::Unmapping(range, reachable) =
        server.expect(|seen| matches!(seen, Seen::Unmapping(..)))
    else {
        unreachable!()
    };
    assert_eq!((range.address, range.size, reachable), (0x1000, 4096, Ok(())));
    assert!(!copy(&mut client, 0x1000, 0x2000, 8), "the range was reachable after its unmapping");
    client.dma_map(0x1000, memory.fd(), 4096, 4096, RW).unwrap();
    assert!(copy(&mut client, 0x1000, 0x2000, 8));
}

/// The same for memory that is reached by messages: the drain's own accesses are answered while the client waits
/// for the reply to its unmapping.
#[test]
fn unmap_of_unshared_memory_answers_the_drain() {
    let server = Running::start("unmap-messages");
    let mut client = server.client();
    let memory = Arc::new(SharedMemory::new(4096).unwrap());
    client.dma_map_private(0x1000, memory, RW).unwrap();
    client.dma_unmap(0x1000, 4096).unwrap();
    let seen = server.expect(|seen| matches!(seen, Seen::Unmapping(..)));
    assert!(matches!(seen, Seen::Unmapping(_, Ok(()))), "{seen:?}");
}

#[test]
fn a_mapped_bar_is_shared_with_the_device() {
    let config = config();
    let file = bar2_file(&config);
    let server = Running::start_with("bar", config);
    let client = server.client();
    assert!(client.map_region(0).unwrap().is_empty());
    let maps = client.map_region(2).unwrap();
    let [map] = &maps[..] else { panic!("{} areas", maps.len()) };
    map.write_u32(4096 + 8, 0x1122_3344).unwrap();
    let mut bytes = [0; 4];
    rustix::io::pread(&file, &mut bytes, 4096 + 8).unwrap();
    assert_eq!(bytes, 0x1122_3344u32.to_ne_bytes());
    rustix::io::pwrite(&file, &[0xfe, 0xca], 4096 + 16).unwrap();
    assert_eq!(map.read_u16(4096 + 16).unwrap(), 0xcafe);
    assert!(map.read_u8(4095).is_err() && map.read_u8(8192).is_err());
    assert!(map.read_u32(4096 + 2).is_err(), "unaligned");
    assert!(map.write_u64(8192 - 4, 0).is_err());
}

#[test]
fn reset_reaches_the_device() {
    let server = Running::start("reset");
    let mut client = server.client();
    client.region_write(0, 0, &[1, 2, 3]).unwrap();
    client.reset().unwrap();
    let mut back = [9; 3];
    client.region_read(0, 0, &mut back).unwrap();
    assert_eq!(back, [0; 3]);
    server.expect(|seen| *seen == Seen::Reset);
}

#[test]
fn the_next_client_is_served_and_inherits_no_memory() {
    let server = Running::start("next");
    let mut first = server.client();
    let memory = SharedMemory::new(4096).unwrap();
    first.dma_map(0x1000, memory.fd(), 0, 4096, RW).unwrap();
    first.region_write(0, 0, &[7]).unwrap();
    drop(first);
    let mut second = server.client();
    server.expect(|seen| *seen == Seen::Left);
    let mut kept = [0];
    second.region_read(0, 0, &mut kept).unwrap();
    assert_eq!(kept, [7], "the device's state is kept");
    assert!(!copy(&mut second, 0x1000, 0x1000, 8), "memory of the first client was reachable");
    drop(second);
    assert_eq!(server.finish().clients, 2);
}

#[test]
fn a_dead_server_is_an_error_and_not_a_hang() {
    // It accepts and never answers.
    let path = socket_path("dead");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let config =
        ClientConfig { reply_timeout: Duration::from_millis(100), ..ClientConfig::default() };
    let begin = Instant::now();
    let error = Client::connect(&path, config).unwrap_err();
    assert!(error.is_device_lost(), "{error}");
    assert!(error.to_string().contains("no answer in time"), "{error}");
    assert!(begin.elapsed() < PATIENCE);
    drop(listener);
    let error = Client::connect(&path, config).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    std::fs::remove_file(&path).unwrap();

    // It vanishes.
    let server = Running::start("vanishes");
    let mut client = server.client();
    drop(server);
    let error = client.region_read(0, 0, &mut [0]).unwrap_err();
    assert!(error.is_device_lost(), "{error}");
}

#[test]
fn binding_tells_live_from_stale_from_other_files() {
    let live = Running::start("bind");
    let error = Server::bind(&live.path, Existing::ReplaceStale, config()).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("address in use"));

    let path = socket_path("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Server::bind(&path, Existing::Refuse, config()).unwrap_err();
    assert!(matches!(error, BindError::Stale { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert!(exists(&path));
    drop(Server::bind(&path, Existing::ReplaceStale, config()).unwrap());
    assert!(!exists(&path), "the socket is removed at the end");

    std::fs::write(&path, b"precious").unwrap();
    let error = Server::bind(&path, Existing::ReplaceStale, config()).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();

    // A server does not remove a socket that took its place.
    let server = Server::bind(&path, Existing::Refuse, config()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = Server::bind(&path, Existing::Refuse, config()).unwrap();
    drop(server);
    assert!(exists(&path));
    drop(other);
}

/// The device learns of DMA failures by kind.
#[test]
fn dma_errors_name_their_reason() {
    assert!(DmaError::Unmapped { address: 0x1000 }.to_string().contains("0x1000"));
    assert!(DmaError::NoAnswer.to_string().contains("answer"));
}
