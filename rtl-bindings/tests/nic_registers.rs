//! Registers, negotiation, configuration space: what a driver sees before the first buffer moves.

mod nic;

use nic::{BASIC, Bench, EVENT_IDX, RING_RESET, RX, TX, VERSION_1};
use tandem_contract::features::{REQUIRED, offered};
use tandem_contract::layout::{self, common, device};

#[test]
fn features_are_offered_and_only_a_legal_subset_is_accepted() {
    let mut b = Bench::new(64);
    let mut set = 0;
    for half in 0..3 {
        b.w32(common::DEVICE_FEATURE_SELECT, half);
        let word = u64::from(b.r32(common::DEVICE_FEATURE));
        if half < 2 {
            set |= word << (32 * half);
        } else {
            assert_eq!(word, 0);
        }
    }
    assert_eq!(set, offered());

    assert!(b.negotiate(offered()));
    assert!(b.negotiate(REQUIRED));
    assert!(!b.negotiate(VERSION_1), "without RING_PACKED");
    assert!(!b.negotiate(BASIC & !VERSION_1), "without VERSION_1");
    assert!(!b.negotiate(BASIC | 1 << 17), "CTRL_VQ was not offered");
    // What was refused can be mended and asked again.
    b.write_features(BASIC);
    b.set_status(11);
    assert_eq!(b.status(), 11);
    // Features are frozen now (virtio 1.3, 2.2.2).
    b.write_features(0);
    b.w32(common::DRIVER_FEATURE_SELECT, 1);
    assert_eq!(u64::from(b.r32(common::DRIVER_FEATURE)), BASIC >> 32);
    // No bit of the status is cleared but by reset.
    b.set_status(1);
    assert_eq!(b.status(), 11);
}

#[test]
fn queue_registers_obey_their_rules() {
    let mut b = Bench::new(64);
    assert!(b.negotiate(BASIC));
    assert_eq!(b.r16(common::NUM_QUEUES), 2);
    b.w16(common::QUEUE_SELECT, TX.into());
    assert_eq!(b.r16(common::QUEUE_SIZE), 256);
    assert_eq!(b.r16(common::QUEUE_NOTIFY_OFF), 1);
    assert_eq!(b.r16(common::QUEUE_MSIX_VECTOR), 0xFFFF);
    // Any size up to the maximum, powers of two or not.
    for (written, read) in [(1, 1), (7, 7), (0, 7), (257, 7), (0xFFFF, 7), (256, 256), (100, 100)] {
        b.w16(common::QUEUE_SIZE, written);
        assert_eq!(b.r16(common::QUEUE_SIZE), read, "size {written}");
    }
    // Vectors beyond the table read back NO_VECTOR.
    for (written, read) in [(2, 2), (3, 0xFFFF), (0, 0), (0xFFFF, 0xFFFF)] {
        b.w16(common::QUEUE_MSIX_VECTOR, written);
        assert_eq!(b.r16(common::QUEUE_MSIX_VECTOR), read);
        b.w16(common::CONFIG_MSIX_VECTOR, written);
        assert_eq!(b.r16(common::CONFIG_MSIX_VECTOR), read);
    }
    // Byte by byte, half by half.
    b.w8(common::QUEUE_DESC + 1, 0x34);
    b.w16(common::QUEUE_DESC + 2, 0x5678);
    b.w32(common::QUEUE_DESC + 4, 0x9ABC_DEF0);
    assert_eq!(b.r32(common::QUEUE_DESC), 0x5678_3400);
    assert_eq!(b.r16(common::QUEUE_DESC + 6), 0x9ABC);
    // Enabling writes other than 1 do nothing; once enabled, the set-up is frozen.
    b.w16(common::QUEUE_ENABLE, 0);
    assert_eq!(b.r16(common::QUEUE_ENABLE), 0);
    b.w16(common::QUEUE_ENABLE, 1);
    assert_eq!(b.r16(common::QUEUE_ENABLE), 1);
    b.w16(common::QUEUE_ENABLE, 0);
    assert_eq!(b.r16(common::QUEUE_ENABLE), 1);
    b.w16(common::QUEUE_SIZE, 8);
    b.w32(common::QUEUE_DESC, 0);
    assert_eq!(b.r16(common::QUEUE_SIZE), 100);
    assert_eq!(b.r32(common::QUEUE_DESC), 0x5678_3400);
    // The other queue is untouched.
    b.w16(common::QUEUE_SELECT, RX.into());
    assert_eq!((b.r16(common::QUEUE_SIZE), b.r16(common::QUEUE_ENABLE)), (256, 0));
    // A queue that does not exist.
    b.w16(common::QUEUE_SELECT, 2);
    assert_eq!(b.r16(common::QUEUE_SIZE), 0);
    b.w16(common::QUEUE_SIZE, 4);
    b.w16(common::QUEUE_ENABLE, 1);
    assert_eq!((b.r16(common::QUEUE_SIZE), b.r16(common::QUEUE_ENABLE)), (0, 0));
    assert_eq!(b.r16(common::QUEUE_MSIX_VECTOR), 0xFFFF);
}

#[test]
fn a_queue_cannot_be_enabled_before_the_features_are_settled() {
    let mut b = Bench::new(64);
    b.set_status(0);
    b.set_status(3);
    b.w16(common::QUEUE_SELECT, 0);
    b.w16(common::QUEUE_ENABLE, 1);
    assert_eq!(b.r16(common::QUEUE_ENABLE), 0);
}

#[test]
fn device_configuration_in_every_width() {
    let mut b = Bench::new(64);
    let mac: Vec<u32> = (0..6).map(|i| b.r8(layout::DEVICE_BASE + device::MAC + i)).collect();
    assert_eq!(mac, [0x02, 0x54, 0x4E, 0x44, 0x4D, 0x01]);
    assert_eq!(b.r16(layout::DEVICE_BASE + device::STATUS), 1);
    assert_eq!(b.r16(layout::DEVICE_BASE + device::MAX_VIRTQUEUE_PAIRS), 1);
    assert_eq!(b.r16(layout::DEVICE_BASE + device::MTU), 1500);
    assert_eq!(b.r32(layout::DEVICE_BASE + device::SPEED), layout::SPEED_MBIT);
    assert_eq!(b.r8(layout::DEVICE_BASE + device::DUPLEX), 1);
    // Device configuration is read-only here.
    b.w32(layout::DEVICE_BASE, 0xFFFF_FFFF);
    assert_eq!(b.r8(layout::DEVICE_BASE), 2);
}

#[test]
fn link_changes_move_the_generation_and_interrupt() {
    use tandem_contract::nic::Nic;
    let mut b = Bench::new(64);
    b.start(0, 8);
    let before = b.r8(common::CONFIG_GENERATION);
    b.nic.set_link(false);
    b.settle();
    assert_eq!(b.r16(layout::DEVICE_BASE + device::STATUS), 0);
    assert_ne!(b.r8(common::CONFIG_GENERATION), before);
    assert_eq!(b.mem.messages, [(0xFEE0_0000, 0x100)]);
    // The configuration bit of ISR is set with MSI-X too; reading clears it (4.1.4.5).
    assert_eq!(b.r8(layout::ISR_BASE), 2);
    assert_eq!(b.r8(layout::ISR_BASE), 0);
}

#[test]
fn holes_read_zero_and_swallow_writes() {
    let mut b = Bench::new(64);
    for offset in
        [0x3C, 0x40, 0xFFC, 0x1004, 0x2014, 0x3008, 0x4FF8, 0x5000, 0x8FFC, 0xA008, 0xFFFC]
    {
        b.w32(offset, 0xFFFF_FFFF);
        assert_eq!(b.r32(offset), 0, "offset {offset:#x}");
    }
    // A kick before there is a queue.
    b.w32(layout::NOTIFY_BASE, 0);
    b.w16(layout::NOTIFY_BASE + 4, 1);
    b.settle();
}

#[test]
fn counters_show_who_it_is_and_what_time() {
    let mut b = Bench::new(64);
    assert_eq!(b.counter("id"), 1 << 32 | u64::from(u32::from_le_bytes(*b"TNDM")));
    let (first, second) = (b.counter("cycles"), b.counter("cycles"));
    assert!(second > first && first > 0);
    b.w32(layout::COUNTERS_BASE + 8, 0);
    assert!(b.counter("cycles") > second);
}

#[test]
fn capabilities_form_a_chain_and_say_where_things_are() {
    let mut b = Bench::new(64);
    let mut at = layout::CFG_NIC_BASE;
    let mut found = Vec::new();
    while at != 0 {
        let head = b.config_read(at);
        assert_eq!(head & 0xFF, 0x09);
        let len = (head >> 16 & 0xFF) as u16;
        let kind = head >> 24;
        let place = (b.config_read(at + 4) & 0xFF, b.config_read(at + 8), b.config_read(at + 12));
        found.push((kind, len, place.1, place.2));
        assert_eq!(place.0, 0);
        if kind == 2 {
            assert_eq!(b.config_read(at + 16), layout::NOTIFY_STRIDE);
        }
        at = (head >> 8 & 0xFF) as u16;
    }
    assert_eq!(
        found,
        [
            (1, 16, layout::COMMON_BASE, layout::COMMON_LEN),
            (2, 20, layout::NOTIFY_BASE, 8),
            (3, 16, layout::ISR_BASE, 1),
            (4, 16, layout::DEVICE_BASE, layout::DEVICE_LEN),
            (5, 20, 0, 0),
        ]
    );
}

#[test]
fn the_window_reaches_the_bar_in_every_width() {
    let mut b = Bench::new(64);
    let cap = layout::CFG_PCI_CFG_CAP;
    let aim = |b: &mut Bench, offset: u32, length: u32| {
        b.config_write(cap + 4, 0, 0x1);
        b.config_write(cap + 8, offset, 0xF);
        b.config_write(cap + 12, length, 0xF);
    };
    // 1, 2, 4 bytes at any lane.
    for i in 0..6 {
        aim(&mut b, layout::DEVICE_BASE + i, 1);
        assert_eq!(b.config_read(cap + 16), [0x02, 0x54, 0x4E, 0x44, 0x4D, 0x01][i as usize]);
    }
    aim(&mut b, layout::DEVICE_BASE + 2, 2);
    assert_eq!(b.config_read(cap + 16), 0x444E);
    aim(&mut b, common::DEVICE_STATUS, 1);
    b.config_write(cap + 16, 1, 0x1);
    assert_eq!(b.status(), 1);
    aim(&mut b, common::QUEUE_SELECT, 2);
    b.config_write(cap + 16, 1, 0x3);
    assert_eq!(b.r16(common::QUEUE_SELECT), 1);
    aim(&mut b, common::QUEUE_DESC, 4);
    b.config_write(cap + 16, 0xCAFE_F00D, 0xF);
    assert_eq!(b.r32(common::QUEUE_DESC), 0xCAFE_F00D);
    assert_eq!(b.config_read(cap + 16), 0xCAFE_F00D);
    // What is not legal reads zero and changes nothing.
    for (offset, length, bar) in [
        (common::QUEUE_DESC + 1, 4, 0),
        (common::QUEUE_DESC + 1, 2, 0),
        (common::QUEUE_DESC, 3, 0),
        (common::QUEUE_DESC, 0, 0),
        (common::QUEUE_DESC, 8, 0),
        (common::QUEUE_DESC, 4, 1),
        (layout::BAR0_LEN, 4, 0),
        (0xFFFF_FFFC, 4, 0),
    ] {
        aim(&mut b, offset, length);
        b.config_write(cap + 4, bar, 0x1);
        b.config_write(cap + 16, 0x1111_1111, 0xF);
        assert_eq!(b.config_read(cap + 16), 0, "{offset:#x} {length} {bar}");
        assert_eq!(b.r32(common::QUEUE_DESC), 0xCAFE_F00D);
    }
    // The window of ISR reads and clears like the BAR does: nothing pending here.
    aim(&mut b, layout::ISR_BASE, 1);
    assert_eq!(b.config_read(cap + 16), 0);
}

#[test]
fn a_queue_reset_gives_the_queue_back_as_it_was_at_first() {
    let mut b = Bench::new(64);
    b.start(RING_RESET | EVENT_IDX, 16);
    b.settle();
    b.w16(common::QUEUE_SELECT, TX.into());
    b.w16(common::QUEUE_RESET, 1);
    let mut rounds = 0;
    while b.r16(common::QUEUE_RESET) != 0 {
        rounds += 1;
        assert!(rounds < 1000);
    }
    assert_eq!(b.r16(common::QUEUE_ENABLE), 0);
    assert_eq!(b.r16(common::QUEUE_SIZE), 256);
    assert_eq!(b.r32(common::QUEUE_DESC), 0);
    assert_eq!(b.r16(common::QUEUE_MSIX_VECTOR), 0xFFFF);
    // The other one goes on.
    b.w16(common::QUEUE_SELECT, RX.into());
    assert_eq!((b.r16(common::QUEUE_ENABLE), b.r16(common::QUEUE_SIZE)), (1, 16));
    assert_eq!(b.status(), 15);

    // Without the feature the register does nothing.
    b.start(0, 16);
    b.w16(common::QUEUE_SELECT, TX.into());
    b.w16(common::QUEUE_RESET, 1);
    assert_eq!((b.r16(common::QUEUE_RESET), b.r16(common::QUEUE_ENABLE)), (0, 1));
}

#[test]
fn resets_leave_nothing_behind() {
    let mut b = Bench::new(64);
    b.start(RING_RESET, 16);
    b.settle();
    b.w32(layout::MSIX_TABLE_BASE, 0x1234_5678);
    // Device reset: registers go back, the MSI-X table is PCI's and stays.
    b.set_status(0);
    while b.status() != 0 {}
    assert_eq!(b.r32(layout::MSIX_TABLE_BASE), 0x1234_5678);
    b.w16(common::QUEUE_SELECT, 0);
    assert_eq!((b.r16(common::QUEUE_SIZE), b.r16(common::QUEUE_ENABLE)), (256, 0));
    assert_eq!(b.r16(common::CONFIG_MSIX_VECTOR), 0xFFFF);
    // Function-level reset: all of it; every vector is masked.
    b.start(RING_RESET, 16);
    b.config_write(layout::CFG_PCI_CFG_CAP + 8, 0x2000, 0xF);
    b.function_reset().unwrap();
    assert_eq!(b.status(), 0);
    assert_eq!(b.r32(layout::MSIX_TABLE_BASE), 0);
    assert_eq!(b.r32(layout::MSIX_TABLE_BASE + 12), 1);
    assert_eq!(b.config_read(layout::CFG_PCI_CFG_CAP + 8), 0);
    // Twice in a row, and it starts again.
    b.function_reset().unwrap();
    b.function_reset().unwrap();
    b.start(0, 4);
}
