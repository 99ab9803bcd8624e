use tandem_device::{Frame, PoolConfig};

use super::*;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn frame(pool: &Pool, len: usize, ns: u64) -> Frame {
    let mut frame = pool.alloc().unwrap();
    frame.append(&vec![len as u8; len]).unwrap();
    frame.meta_mut().timestamp_ns = Some(ns);
    frame.meta_mut().token = Some(ns);
    frame
}

#[test]
fn what_is_written_is_read_again() {
    let directory = Directory::new("pcap-round");
    let path = directory.0.join("a.pcap");
    let pool = Pool::new(PoolConfig::frames(16)).unwrap();
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    {
        let mut device = Pcap::open_files(None, Some(&path), mac, 1500, pool.clone()).unwrap();
        assert!(device.exhausted() && device.take_queue(0).is_err(), "not open");
        device.open().unwrap();
        let mut queue = device.take_queue(0).unwrap();
        let mut unfinished = frame(&pool, 60, 9);
        unfinished.meta_mut().csum = tandem_device::Csum::Partial { start: 34, offset: 16 };
        let mut batch: Batch =
            [frame(&pool, 60, 1_000_000_001), unfinished, frame(&pool, 1514, 5)].into();
        assert_eq!(queue.transmit(&mut batch).unwrap().taken, 3);
        let mut tokens = Vec::new();
        queue.completed(&mut tokens).unwrap();
        assert_eq!(tokens, [1_000_000_001, 9, 5]);
        assert_eq!((device.stats().tx_packets, device.stats().tx_dropped), (2, 1));
    }
    let mut device = Pcap::open_files(Some(&path), None, mac, 1500, pool.clone()).unwrap();
    device.open().unwrap();
    let mut queue = device.take_queue(0).unwrap();
    let mut batch = Batch::new();
    assert!(!queue.arm().unwrap());
    assert_eq!(queue.receive(1, &mut batch).unwrap(), 1);
    assert!(!device.exhausted());
    assert_eq!(queue.receive(9, &mut batch).unwrap(), 1);
    assert!(device.exhausted() && queue.arm().unwrap());
    assert_eq!(batch[0].to_vec(), vec![60; 60]);
    assert_eq!(batch[0].meta().timestamp_ns, Some(1_000_000_001));
    assert_eq!(batch[1].to_vec(), vec![1514u32 as u8; 1514]);
}

#[test]
fn bad_files_are_refused_with_their_names() {
    let directory = Directory::new("pcap-bad");
    let pool = Pool::new(PoolConfig::frames(4)).unwrap();
    let path = directory.0.join("x.pcap");
    let open = |path: &Path| {
        Pcap::open_files(Some(path), None, MacAddr::ZERO, 1500, pool.clone()).err().unwrap()
    };
    assert!(matches!(open(&path), CaptureError::Open { .. }));
    std::fs::write(&path, b"not a capture, but long enough for one").unwrap();
    assert!(open(&path).to_string().ends_with("x.pcap is not a usable pcap file"));
    let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
    PcapWriter::with_header(File::create(&path).unwrap(), header).unwrap();
    assert!(matches!(open(&path), CaptureError::LinkType { link: DataLink::RAW, .. }));
}

#[test]
fn a_cut_off_file_ends_with_one_error() {
    let directory = Directory::new("pcap-cut");
    let path = directory.0.join("cut.pcap");
    let pool = Pool::new(PoolConfig::frames(8)).unwrap();
    {
        let mut device =
            Pcap::open_files(None, Some(&path), MacAddr::ZERO, 1500, pool.clone()).unwrap();
        device.open().unwrap();
        let mut queue = device.take_queue(0).unwrap();
        queue.transmit(&mut [frame(&pool, 100, 1), frame(&pool, 100, 2)].into()).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let mut device = Pcap::open_files(Some(&path), None, MacAddr::ZERO, 1500, pool).unwrap();
    device.open().unwrap();
    let mut queue = device.take_queue(0).unwrap();
    let mut batch = Batch::new();
    assert!(matches!(queue.receive(9, &mut batch), Err(DeviceError::Io { .. })));
    assert_eq!(batch.len(), 1, "the whole frame before it was delivered");
    assert!(device.exhausted());
    assert_eq!(queue.receive(9, &mut batch).unwrap(), 0);
}
