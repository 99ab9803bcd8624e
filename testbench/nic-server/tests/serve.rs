//! A fake NIC behind the server, driven by our own vfio-user client.

mod support;

use std::os::fd::{AsFd, OwnedFd};

use pcap_file::pcapng::{Block, PcapNgReader};
use support::*;
use tandem_nic_server::wire::{Capture, NoWire, Replay};
use tandem_vfio_user::client::Client;
use tandem_vfio_user::irq::{interrupt_eventfd, take_interrupts};
use tandem_vfio_user::memory::{ClientMemory, SharedMemory};
use tandem_vfio_user::message::DmaFlags;
use tandem_vfio_user::pci::{IRQ_INTX, IRQ_MSIX, REGION_BAR0, REGION_CONFIG};

const RW: DmaFlags = DmaFlags::READ.union(DmaFlags::WRITE);

fn config_u32(client: &mut Client, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    client.region_read(REGION_CONFIG, offset, &mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

fn bar(client: &mut Client, offset: u64, value: u64) {
    client.region_write(REGION_BAR0, offset, &value.to_le_bytes()).unwrap();
}

/// Memory at DMA address 0x10000, bus mastering on, vector 1 and 2 armed.
fn set_up(client: &mut Client) -> (SharedMemory, [OwnedFd; 2]) {
    let memory = SharedMemory::new(0x4000).unwrap();
    client.dma_map(0x10000, memory.fd(), 0, 0x4000, RW).unwrap();
    client.region_write(REGION_CONFIG, 4, &[6, 0]).unwrap();
    let eventfds = [interrupt_eventfd().unwrap(), interrupt_eventfd().unwrap()];
    client.arm_irqs(IRQ_MSIX, 1, &[eventfds[0].as_fd(), eventfds[1].as_fd()]).unwrap();
    (memory, eventfds)
}

fn copy(client: &mut Client, from: u64, to: u64, len: u64) {
    bar(client, FROM, from);
    bar(client, TO, to);
    bar(client, LEN, len);
    client.region_write(REGION_BAR0, GO, &[0, 0]).unwrap();
}

fn await_interrupts(eventfd: &OwnedFd) -> u64 {
    let mut count = 0;
    eventually("an interrupt", || {
        count += take_interrupts(eventfd).unwrap();
        count > 0
    });
    count
}

#[test]
fn configuration_space_is_shared_between_server_and_nic() {
    let serving = Serving::start("config", NoWire::default());
    let mut client = serving.client();
    assert_eq!(config_u32(&mut client, 0), 0x1041_1af4);
    assert_eq!(config_u32(&mut client, 0x90), 0xc0de_0024);
    assert_eq!(client.irq(IRQ_MSIX).unwrap().0, 3);
    assert_eq!(client.irq(IRQ_INTX).unwrap().0, 0);
    // All of it at once, as QEMU reads it, and across the borders.
    let mut all = [0; 4096];
    client.region_read(REGION_CONFIG, 0, &mut all).unwrap();
    assert_eq!(all[0x90..0x94], 0xc0de_0024u32.to_le_bytes());
    assert_eq!(all[0xe4..0xec], [0x39, 0, 0xde, 0xc0, 0, 0, 0, 0]);
    let mut border = [0; 4];
    client.region_read(REGION_CONFIG, 0x8e, &mut border).unwrap();
    assert_eq!(border, [0, 0, 0x24, 0]);
    // Writes carry byte enables.
    client.region_write(REGION_CONFIG, 0x92, &[0xaa]).unwrap();
    client.region_write(REGION_CONFIG, 0xd6, &[1, 2, 3, 4]).unwrap();
    let writes = [(0x90, 0x00aa_0000, 0b100), (0xd4, 0x0201_0000, 0b1100), (0xd8, 0x0403, 0b11)];
    assert_eq!(serving.log.lock().unwrap().config_writes, writes);
}

#[test]
fn bar_accesses_are_cut_into_registers() {
    let serving = Serving::start("bar", NoWire::default());
    let mut client = serving.client();
    serving.log.lock().unwrap().accesses.clear();
    client.region_write(REGION_BAR0, 0x20, &0x1122_3344_5566_7788u64.to_le_bytes()).unwrap();
    client.region_write(REGION_BAR0, 0x31, &[9]).unwrap();
    client.region_write(REGION_BAR0, 0x32, &[1, 2]).unwrap();
    let mut back = [0; 7];
    client.region_read(REGION_BAR0, 0x21, &mut back).unwrap();
    assert_eq!(back, [0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    let wanted = [
        (0x20, 4, Some(0x5566_7788)),
        (0x24, 4, Some(0x1122_3344)),
        (0x31, 1, Some(9)),
        (0x32, 2, Some(0x0201)),
        (0x21, 1, None),
        (0x22, 2, None),
        (0x24, 4, None),
    ];
    assert_eq!(serving.log.lock().unwrap().accesses, wanted);
    assert!(client.region_read(REGION_BAR0, 0, &mut [0; 5000]).is_err(), "too long");
    // The MSI-X table is the server's.
    client.region_write(REGION_BAR0, 0x8000, &[0; 48]).unwrap();
    let mut table = [0; 8];
    client.region_read(REGION_BAR0, 0x8000, &mut table).unwrap();
    assert_eq!(table, [0xff; 8]);
    assert_eq!(serving.log.lock().unwrap().accesses.len(), wanted.len());
}

#[test]
fn dma_wire_and_interrupts() {
    let wire = TestWire::default();
    let serving = Serving::start("dma", wire.clone());
    let mut client = serving.client();
    let (memory, eventfds) = set_up(&mut client);
    memory.write(0, b"a frame of the driver").unwrap();
    copy(&mut client, 0x10000, 0x11000, 21);
    assert_eq!(await_interrupts(&eventfds[0]), 1);
    // What the interrupt announces is there.
    let mut back = [0; 21];
    memory.read(0x1000, &mut back).unwrap();
    assert_eq!(&back, b"a frame of the driver");
    assert_eq!(*wire.sent.lock().unwrap(), [b"a frame of the driver"]);

    bar(&mut client, RX, 0x12000);
    wire.arriving.lock().unwrap().push_back(b"a frame of the peer".to_vec());
    client.region_read(REGION_BAR0, 0, &mut [0]).unwrap(); // this wire cannot wake the server
    assert_eq!(await_interrupts(&eventfds[1]), 1);
    let mut back = [0; 19];
    memory.read(0x2000, &mut back).unwrap();
    assert_eq!(&back, b"a frame of the peer");

    // An address that is not mapped is a bus error for the NIC, and nothing else.
    copy(&mut client, 0x50000, 0x11000, 8);
    eventually("the error bit", || {
        let mut error = [0];
        client.region_read(REGION_BAR0, ERROR, &mut error).unwrap();
        error == [1]
    });
    drop(client);
    let summary = serving.finish().unwrap();
    assert_eq!(
        (summary.dma.reads, summary.dma.writes, summary.dma.errors, summary.dma.messages),
        (2, 2, 1, 2)
    );
}

#[test]
fn interrupts_wait_in_the_nic_while_masked_or_unarmed() {
    let serving = Serving::start("mask", NoWire::default());
    let mut client = serving.client();
    let (_memory, eventfds) = set_up(&mut client);
    let pending = |client: &mut Client| {
        let mut bits = [0];
        client.region_read(REGION_BAR0, 0xa000, &mut bits).unwrap();
        bits[0]
    };
    client.mask_irqs(IRQ_MSIX, 1, 1).unwrap();
    copy(&mut client, 0x10000, 0x11000, 8);
    eventually("a pending bit", || pending(&mut client) == 0b10);
    assert_eq!(take_interrupts(&eventfds[0]).unwrap(), 0);
    client.unmask_irqs(IRQ_MSIX, 1, 1).unwrap();
    assert_eq!(await_interrupts(&eventfds[0]), 1);
    assert_eq!(pending(&mut client), 0);

    client.disarm_irqs(IRQ_MSIX, 1, 1).unwrap();
    copy(&mut client, 0x10000, 0x11000, 8);
    eventually("a pending bit", || pending(&mut client) == 0b10);
    client.arm_irqs(IRQ_MSIX, 1, &[eventfds[0].as_fd()]).unwrap();
    assert_eq!(await_interrupts(&eventfds[0]), 1);

    // The function mask of the capability.
    client.region_write(REGION_CONFIG, 0x42, &[0, 0xc0]).unwrap();
    copy(&mut client, 0x10000, 0x11000, 8);
    eventually("a pending bit", || pending(&mut client) == 0b10);
    client.region_write(REGION_CONFIG, 0x42, &[0, 0x80]).unwrap();
    assert_eq!(await_interrupts(&eventfds[0]), 1);

    client.disable_irqs(IRQ_MSIX).unwrap();
    client.region_write(REGION_CONFIG, 0x42, &[0, 0]).unwrap();
    assert!(!serving.log.lock().unwrap().control.msix_enable);
}

#[test]
fn both_resets_reach_the_nic_and_keep_the_eventfds() {
    let serving = Serving::start("reset", NoWire::default());
    let mut client = serving.client();
    let (_memory, eventfds) = set_up(&mut client);
    bar(&mut client, 0x20, 77);
    // The message keeps configuration space, bus mastering included.
    client.reset().unwrap();
    assert_eq!(serving.log.lock().unwrap().resets, 1);
    let mut register = [0];
    client.region_read(REGION_BAR0, 0x20, &mut register).unwrap();
    assert_eq!(register, [0]);
    copy(&mut client, 0x10000, 0x11000, 8);
    assert_eq!(await_interrupts(&eventfds[0]), 1);

    // Function-level reset clears it.
    client.region_write(REGION_CONFIG, 0x58, &[0, 0x80]).unwrap();
    assert_eq!(serving.log.lock().unwrap().resets, 2);
    assert_eq!(config_u32(&mut client, 4) & 0xffff, 0);
    assert!(!serving.log.lock().unwrap().control.bus_master);
    client.region_write(REGION_CONFIG, 4, &[6, 0]).unwrap();
    copy(&mut client, 0x10000, 0x11000, 8);
    assert_eq!(await_interrupts(&eventfds[0]), 1);
}

#[test]
fn a_client_that_leaves_takes_its_interrupts_and_memory_along() {
    let serving = Serving::start("leaves", NoWire::default());
    let mut client = serving.client();
    let (_memory, eventfds) = set_up(&mut client);
    copy(&mut client, 0x10000, 0x11000, 8);
    assert_eq!(await_interrupts(&eventfds[0]), 1);
    drop(client);
    let mut client = serving.client();
    {
        let log = serving.log.lock().unwrap();
        assert_eq!(log.resets, 1);
        assert!(!log.control.bus_master && !log.control.msix_enable);
    }
    let (memory, eventfds) = set_up(&mut client);
    memory.write(0, &[5; 8]).unwrap();
    copy(&mut client, 0x10000, 0x11000, 8);
    assert_eq!(await_interrupts(&eventfds[0]), 1);
}

#[test]
fn a_failed_model_ends_the_server_with_its_reason() {
    let serving = Serving::start("fails", NoWire::default());
    let mut client = serving.client();
    assert!(client.region_write(REGION_BAR0, BREAK, &[0; 4]).is_err());
    let error = serving.join().unwrap_err();
    assert!(error.contains("the planted fault") && error.contains("bug of the model"), "{error}");
}

/// What was captured can be replayed; both directions and the cycle are in the file.
#[test]
fn captures_and_replays() {
    let (first, second) = (temp_path("first.pcapng"), temp_path("second.pcapng"));
    let serving = Serving::start("capture", Unthreaded(first.clone(), None));
    let mut client = serving.client();
    let (memory, eventfds) = set_up(&mut client);
    for number in 0..3u8 {
        memory.write(0, &[number; 60]).unwrap();
        copy(&mut client, 0x10000, 0x11000, 60);
        assert_eq!(await_interrupts(&eventfds[0]), 1);
    }
    drop(client);
    serving.finish().unwrap();

    let serving = Serving::start("replay", Unthreaded(second.clone(), Some(first.clone())));
    let mut client = serving.client();
    let (memory, eventfds) = set_up(&mut client);
    bar(&mut client, RX, 0x12000);
    client.region_read(REGION_BAR0, 0, &mut [0]).unwrap();
    assert_eq!(take_interrupts(&eventfds[1]).unwrap(), 0, "before the driver was ready");
    client.region_write(REGION_BAR0, 0x14, &[0x0f]).unwrap();
    let mut count = 0;
    eventually("three frames", || {
        count += take_interrupts(&eventfds[1]).unwrap();
        count == 3
    });
    let mut last = [0; 60];
    memory.read(0x2000, &mut last).unwrap();
    assert_eq!(last, [2; 60]);
    drop(client);
    serving.finish().unwrap();

    for (path, direction) in [(&first, 2), (&second, 1)] {
        let mut reader = PcapNgReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let mut seen = vec![];
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                let options = format!("{:?}", packet.options);
                assert!(options.contains(&format!("Flags({direction})")), "{options}");
                assert!(options.contains("cycle "), "{options}");
                seen.push(packet.data.to_vec());
            }
        }
        assert_eq!(seen, [[0; 60], [1; 60], [2; 60]]);
        std::fs::remove_file(path).unwrap();
    }
}

/// A capture, made in the server's thread.
struct Unthreaded(std::path::PathBuf, Option<std::path::PathBuf>);

impl From<Unthreaded> for Box<dyn tandem_nic_server::wire::Wire> {
    fn from(Unthreaded(out, replay): Unthreaded) -> Self {
        let inner: Self = match replay {
            Some(path) => Box::new(Replay::open(&path).unwrap()),
            None => Box::new(NoWire::default()),
        };
        Box::new(Capture::create(&out, inner).unwrap())
    }
}
