use super::*;
use proptest::prelude::*;

fn bars(bar: u8) -> Option<u64> {
    (bar == 0).then_some(0x1_0000)
}

fn capability(config: &mut [u8; 256], at: u8, next: u8, kind: u8, bar: u8, offset: u32, len: u32) {
    let at = usize::from(at);
    config[at..at + 5].copy_from_slice(&[9, next, if kind == 2 { 20 } else { 16 }, kind, bar]);
    config[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
    config[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
    if kind == 2 {
        config[at + 16..at + 20].copy_from_slice(&4u32.to_le_bytes());
    }
}

fn good() -> [u8; 256] {
    let mut config = [0; 256];
    config[..4].copy_from_slice(&[0xF4, 0x1A, 0x41, 0x10]);
    config[6] = 0x10;
    config[0x34] = 0x40;
    // MSI-X first: another capability in the chain is none of our business.
    config[0x40..0x42].copy_from_slice(&[0x11, 0x50]);
    capability(&mut config, 0x50, 0x64, 1, 0, 0, 0x3C);
    capability(&mut config, 0x64, 0x78, 2, 0, 0x3000, 0x40);
    capability(&mut config, 0x78, 0x88, 3, 0, 0x1000, 1);
    capability(&mut config, 0x88, 0, 4, 0, 0x2000, 17);
    config
}

#[test]
fn all_structures_are_found() {
    let layout = Layout::parse(&good(), &bars).unwrap();
    assert_eq!(layout.common, Block { bar: 0, offset: 0, len: 0x3C });
    assert_eq!(layout.notify, Block { bar: 0, offset: 0x3000, len: 0x40 });
    assert_eq!(layout.notify_multiplier, 4);
    assert_eq!(layout.isr, Some(Block { bar: 0, offset: 0x1000, len: 1 }));
    assert_eq!(layout.device, Block { bar: 0, offset: 0x2000, len: 17 });
}

#[test]
fn the_first_usable_instance_counts() {
    let mut config = good();
    // A common configuration outside its BAR, one in a reserved BAR, before the good one.
    config[0x34] = 0xA0;
    capability(&mut config, 0xA0, 0xB0, 1, 0, 0xFFF0, 0x3C);
    capability(&mut config, 0xB0, 0xC0, 1, 6, 0, 0x3C);
    // A reserved type is ignored.
    capability(&mut config, 0xC0, 0x40, 77, 0, 0, 0x3C);
    assert_eq!(Layout::parse(&config, &bars).unwrap(), Layout::parse(&good(), &bars).unwrap());
}

#[test]
fn refusals_name_the_structure_and_the_reason() {
    let mut config = good();
    capability(&mut config, 0x88, 0, 4, 0, 0xFFFF_FFFC, 17);
    let error = Layout::parse(&config, &bars).unwrap_err().to_string();
    assert_eq!(error, "no usable virtio capability for the device configuration (outside its BAR)");
    let mut config = good();
    config[2] = 0x42;
    let error = Layout::parse(&config, &bars).unwrap_err().to_string();
    assert_eq!(error, "PCI function 1af4:1042 is not a virtio network card");
}

#[test]
fn a_loop_ends() {
    let mut config = good();
    config[0x89] = 0x40;
    assert!(matches!(Layout::parse(&config, &bars), Err(LayoutError::Chain(_))));
    // A pointer into the header.
    config[0x89] = 0x10;
    assert!(matches!(Layout::parse(&config, &bars), Err(LayoutError::Chain(_))));
}

proptest! {
    #[test]
    fn no_configuration_space_panics_and_no_block_leaves_its_bar(
        noise in proptest::collection::vec((0x34usize..256, any::<u8>()), 0..40),
        len in 0u64..0x2_0000,
    ) {
        let mut config = good();
        for (at, value) in noise {
            config[at] = value;
        }
        let lens = |bar: u8| (bar < 2).then_some(len);
        if let Ok(layout) = Layout::parse(&config, &lens) {
            for block in [layout.common, layout.notify, layout.device] {
                prop_assert!(block.offset + u64::from(block.len) <= len);
                prop_assert!(block.bar < 2);
            }
        }
    }
}
