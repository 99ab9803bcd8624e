use proptest::prelude::*;

use super::*;

fn body(message: &[u8]) -> &[u8] {
    &message[HEADER_LEN..]
}

/// Layouts of the specification, byte by byte: offsets are what another implementation reads.
#[test]
fn layouts_are_those_of_the_specification() {
    let mut out = Vec::new();
    let map = DmaMap { argsz: 32, flags: 3, offset: 0x1122, address: 0x3344, size: 0x5566 };
    Request::DmaMap(map).emit(&mut out, Header::command(7, Command::DmaMap));
    assert_eq!(out.len(), 48);
    assert_eq!(out[0..2], 7u16.to_ne_bytes());
    assert_eq!(out[2..4], 2u16.to_ne_bytes());
    assert_eq!(out[4..8], 48u32.to_ne_bytes());
    assert_eq!(out[24..32], 0x1122u64.to_ne_bytes());
    assert_eq!(out[32..40], 0x3344u64.to_ne_bytes());
    assert_eq!(out[40..48], 0x5566u64.to_ne_bytes());

    let sizes = [
        (size_of::<Version>(), 4),
        (size_of::<DmaUnmap>(), 24),
        (size_of::<DeviceInfo>(), 16),
        (size_of::<RegionInfo>(), 32),
        (size_of::<RegionIoFds>(), 16),
        (size_of::<IrqInfo>(), 16),
        (size_of::<IrqSet>(), 20),
        (size_of::<RegionAccess>(), 16),
        (size_of::<DmaAccess>(), 16),
        (size_of::<MultiWrite>(), 24),
        (size_of::<CapabilityHeader>(), 8),
    ];
    for (is, should) in sizes {
        assert_eq!(is, should);
    }
}

#[test]
fn error_reply_is_a_bare_header() {
    let command = Header::command(9, Command::RegionRead);
    let reply = command.error_reply(22);
    assert_eq!((reply.id, reply.command, reply.size, reply.error), (9, 9, 16, 22));
    assert_eq!(reply.kind(), Some(Kind::Reply));
    assert!(reply.flag_bits().contains(HeaderFlags::ERROR));
}

#[test]
fn version_data_defaults_and_refusals() {
    assert_eq!(Capabilities::parse(b"").unwrap().msg_fds_max(), 1);
    assert_eq!(Capabilities::parse(b"\0").unwrap().data_xfer_bytes_max(), 1 << 20);
    assert_eq!(Capabilities::parse(b"{}\0").unwrap().dma_maps_max(), 65535);
    let with_unknown =
        b"{\"capabilities\":{\"migration\":{\"pgsize\":4096},\"x\":[1],\"max_msg_fds\":8}}\0";
    assert_eq!(Capabilities::parse(with_unknown).unwrap().max_msg_fds, Some(8));
    for bad in [&b"{}"[..], b"{\0", b"[]\0\0", b"{\"capabilities\":{\"max_msg_fds\":\"x\"}}\0"] {
        assert!(matches!(Capabilities::parse(bad), Err(ParseError::Json(_))), "{bad:?}");
    }
    assert!(Capabilities::parse(b"{\"capabilities\":{\"max_data_xfer_size\":0}}\0").is_err());
    assert!(Capabilities::parse(&[b' '; JSON_LEN_MAX + 2]).is_err());
    // Deep nesting must not exhaust the stack.
    let mut deep = vec![b'['; JSON_LEN_MAX - 1];
    deep.push(0);
    assert!(Capabilities::parse(&deep).is_err());
}

#[test]
fn sparse_areas_round_trip_and_refuse_loops() {
    let areas = [SparseArea { offset: 0, size: 4096 }, SparseArea { offset: 8192, size: 4096 }];
    let capability = emit_sparse_areas(&areas);
    let info = RegionInfo {
        argsz: (32 + capability.len()) as u32,
        flags: RegionFlags::CAPS.bits(),
        cap_offset: 32,
        ..RegionInfo::default()
    };
    let mut body = info.as_bytes().to_vec();
    body.extend_from_slice(&capability);
    assert_eq!(parse_sparse_areas(&body).unwrap().unwrap(), areas);

    // An unknown capability that points at itself.
    let info =
        RegionInfo { flags: RegionFlags::CAPS.bits(), cap_offset: 32, ..RegionInfo::default() };
    let mut looped = info.as_bytes().to_vec();
    looped.extend_from_slice(CapabilityHeader { id: 9, version: 1, next: 32 }.as_bytes());
    assert!(parse_sparse_areas(&looped).is_err());
    // Inside of the fixed part, outside of the body, and more areas than there are bytes.
    for cap_offset in [8u32, 4096, u32::MAX] {
        let info =
            RegionInfo { flags: RegionFlags::CAPS.bits(), cap_offset, ..RegionInfo::default() };
        assert!(parse_sparse_areas(info.as_bytes()).is_err());
    }
    let last = body.len() - 1;
    assert!(parse_sparse_areas(&body[..last]).is_err());
}

fn request() -> impl Strategy<Value = (u8, [u64; 4], Vec<u8>)> {
    (0u8..14, any::<[u64; 4]>(), prop::collection::vec(any::<u8>(), 0..64))
}

proptest! {
    #[test]
    fn every_request_parses_back((which, n, data) in request()) {
        let (a, b) = (n[0] as u32, n[1] as u32);
        let write = MultiWrite::new(a, n[2], &data[..data.len().min(8)]).unwrap();
        let writes = vec![write; data.len() % 5];
        let request = match which {
            0 => Request::Version {
                version: Version { major: a as u16, minor: b as u16 },
                capabilities: Capabilities {
                    max_msg_fds: Some(n[2]), max_data_xfer_size: Some(n[3] | 1),
                    write_multiple: Some(true), ..Capabilities::default()
                },
            },
            1 => Request::DmaMap(DmaMap { argsz: a, flags: b, offset: n[2], address: n[3], size: n[0] }),
            2 => Request::DmaUnmap(DmaUnmap { argsz: a, flags: b, address: n[2], size: n[3] }),
            3 => Request::DeviceGetInfo(DeviceInfo { argsz: a, flags: b, num_regions: 1, num_irqs: 2 }),
            4 => Request::DeviceGetRegionInfo(RegionInfo { argsz: a, index: b, ..Default::default() }),
            5 => Request::DeviceGetRegionIoFds(RegionIoFds { argsz: a, index: b, ..Default::default() }),
            6 => Request::DeviceGetIrqInfo(IrqInfo { argsz: a, index: b, ..Default::default() }),
            7 => Request::DeviceSetIrqs { set: IrqSet { argsz: a, flags: b, ..Default::default() }, data: &data },
            8 => Request::RegionRead(RegionAccess { offset: n[0], region: b, count: a }),
            9 => Request::RegionWrite {
                access: RegionAccess { offset: n[0], region: b, count: data.len() as u32 }, data: &data,
            },
            10 => Request::DmaRead(DmaAccess { address: n[0], count: n[1] }),
            11 => Request::DmaWrite { access: DmaAccess { address: n[0], count: data.len() as u64 }, data: &data },
            12 => Request::DeviceReset,
            _ => Request::RegionWriteMulti(&writes),
        };
        let mut out = Vec::new();
        request.emit(&mut out, Header::command(1, request.command()));
        let header = Header::read_from_prefix(&out).unwrap().0;
        prop_assert_eq!(header.size as usize, out.len());
        prop_assert_eq!(Request::parse(header.command, body(&out)).unwrap(), request);
    }

    #[test]
    fn no_bytes_panic(command in 0u16..20, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = Request::parse(command, &bytes) {
            prop_assert_eq!(request.command() as u16, command);
        }
        let _ = parse_sparse_areas(&bytes);
        let _ = Capabilities::parse(&bytes);
    }

    /// Anything longer or shorter than a fixed layout is refused.
    #[test]
    fn lengths_are_exact(len in 0usize..100) {
        let bytes = vec![0; len];
        prop_assert_eq!(Request::parse(Command::DmaMap as u16, &bytes).is_ok(), len == 32);
        prop_assert_eq!(Request::parse(Command::DeviceReset as u16, &bytes).is_ok(), len == 0);
        prop_assert_eq!(Request::parse(Command::RegionRead as u16, &bytes).is_ok(), len == 16);
        prop_assert_eq!(Request::parse(Command::RegionWrite as u16, &bytes).is_ok(), len == 16);
    }
}
