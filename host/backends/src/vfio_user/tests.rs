//! Against a small device behind this repository's server, in a thread of its own.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::thread::JoinHandle;

use tandem_vfio_user::Errno;
use tandem_vfio_user::irq::IrqType;
use tandem_vfio_user::message::{IrqFlags, RegionFlags, SparseArea};
use tandem_vfio_user::server::{
    Device, Existing, Host, Region as ServerRegion, RegionFile, Server, ServerConfig,
};

use super::*;

/// Write a DMA address here: the device reads 8 bytes there, inverts them, writes them back and raises
/// the vector named in the lowest byte.
const INVERT: u64 = 0x40;

/// Each test has a socket of its own.
static SOCKETS: AtomicU32 = AtomicU32::new(0);

struct Inverter {
    config: Vec<u8>,
    bar: Vec<u8>,
}

impl Inverter {
    fn memory(&mut self, region: u32) -> Result<&mut Vec<u8>, Errno> {
        match region {
            REGION_CONFIG => Ok(&mut self.config),
            REGION_BAR0 => Ok(&mut self.bar),
            _ => Err(Errno::NXIO),
        }
    }
}

impl Device for Inverter {
    fn region_read(
        &mut self,
        _: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), Errno> {
        data.copy_from_slice(&self.memory(region)?[offset as usize..][..data.len()]);
        Ok(())
    }

    fn region_write(
        &mut self,
        host: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        self.memory(region)?[offset as usize..][..data.len()].copy_from_slice(data);
        if (region, offset) == (REGION_BAR0, INVERT) {
            let address = u64::from_le_bytes(data.try_into().map_err(|_| Errno::INVAL)?);
            let mut bytes = [0; 8];
            if host.dma_read(address, &mut bytes).is_ok() {
                let vector = bytes[0].into();
                let inverted = bytes.map(|byte| !byte);
                host.dma_write(address, &inverted).map_err(|_| Errno::IO)?;
                host.trigger(IRQ_MSIX, vector);
            }
        }
        Ok(())
    }

    fn reset(&mut self, _: &mut Host<'_>) -> Result<(), Errno> {
        self.bar.fill(0);
        Ok(())
    }
}

struct Serving {
    path: PathBuf,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    /// What is behind the mappable BAR 2.
    shared: File,
}

impl Serving {
    fn start() -> Self {
        let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-backends-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let memory = Region::new("bar2", 8192).unwrap();
        let shared = File::from(memory.fd().try_clone_to_owned().unwrap());
        let mut config = ServerConfig::pci(256);
        let flags = RegionFlags::READ | RegionFlags::WRITE;
        config.regions[REGION_BAR0 as usize] = ServerRegion { size: 4096, flags, mmap: None };
        let file = RegionFile {
            fd: Arc::new(memory.fd().try_clone_to_owned().unwrap()),
            offset: 0,
            areas: vec![SparseArea { offset: 4096, size: 4096 }],
        };
        config.regions[REGION_BAR0 as usize + 2] =
            ServerRegion { size: 8192, flags, mmap: Some(file) };
        config.irqs[IRQ_MSIX as usize] =
            IrqType { count: 3, flags: IrqFlags::EVENTFD | IrqFlags::NORESIZE };
        let mut server = Server::bind(&path, Existing::ReplaceStale, config).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut space = vec![0; 256];
            space[6] = 0x10;
            space[0x34] = 0x48;
            // Another capability first, then MSI-X.
            space[0x48..0x4A].copy_from_slice(&[0x09, 0x60]);
            space[0x60..0x64].copy_from_slice(&[0x11, 0, 2, 0]);
            let mut device = Inverter { config: space, bar: vec![0; 4096] };
            loop {
                let more = server.process_ready(&mut device).unwrap().more || server.has_work();
                let mut fds =
                    [PollFd::new(&theirs, PollFlags::IN), PollFd::new(&server, PollFlags::IN)];
                let limit = Timespec { tv_sec: i64::from(!more) * 5, tv_nsec: 0 };
                poll(&mut fds, Some(&limit)).unwrap();
                if !fds[0].revents().is_empty() {
                    return;
                }
            }
        });
        Self { path, stop: Some(ours), thread: Some(thread), shared }
    }

    fn connect(&self) -> VfioUser {
        VfioUser::connect(&self.path, ClientConfig::default()).unwrap()
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

#[test]
fn registers_memory_and_interrupts() {
    let serving = Serving::start();
    let function = serving.connect();
    assert_eq!(
        (function.bar_len(0), function.bar_len(1), function.bar_len(6)),
        (Some(4096), None, None)
    );
    for (width, value) in [
        (Width::Byte, 0x12),
        (Width::Half, 0x1234),
        (Width::Word, 0x1234_5678),
        (Width::Double, 0x1234_5678_9ABC_DEF0),
    ] {
        function.bar_write(0, 0x100, width, value).unwrap();
        assert_eq!(function.bar_read(0, 0x100, width).unwrap(), value);
    }
    assert_eq!(function.bar_read(0, 0x104, Width::Byte).unwrap(), 0x78, "little-endian");
    for (bar, offset) in [(0, 4094), (0, 0x101), (1, 0), (9, 0), (0, u64::MAX - 3)] {
        let read = function.bar_read(bar, offset, Width::Word);
        assert!(matches!(read, Err(TransportError::OutOfRange { .. })), "{bar} {offset:#x}");
    }

    assert_eq!(function.vectors(), 3);
    assert!(function.enable_vectors(4).is_err());
    function.enable_vectors(2).unwrap();
    assert_eq!(function.config_read(0x62, Width::Half).unwrap(), 0x8002, "MSI-X enabled");

    let region = Region::new("memory", 4096).unwrap();
    let address = function.dma_map(&region).unwrap();
    assert_eq!(function.dma_map(&region).unwrap(), address);
    region.write(16, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(!function.interrupt_pending(1).unwrap());
    function.bar_write(0, INVERT, Width::Double, address + 16).unwrap();
    assert!(readable(function.interrupt_fd(1).unwrap()));
    assert!(function.interrupt_pending(1).unwrap() && !function.interrupt_pending(1).unwrap());
    assert!(!function.interrupt_pending(0).unwrap());
    let mut bytes = [0; 8];
    region.read(16, &mut bytes);
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8].map(|byte: u8| !byte));

    // Unmapped: out of the device's reach.
    function.dma_unmap(region.id()).unwrap();
    function.dma_unmap(region.id()).unwrap();
    assert_eq!(Arc::strong_count(&region), 1, "no longer kept alive");
    function.bar_write(0, INVERT, Width::Double, address + 16).unwrap();
    function.bar_read(0, INVERT, Width::Double).unwrap();
    region.read(16, &mut bytes);
    assert_eq!(bytes[0], !1);

    function.reset_function().unwrap();
    assert_eq!(function.bar_read(0, 0x100, Width::Word).unwrap(), 0);
}

#[test]
fn a_mapped_part_needs_no_server() {
    let mut serving = Serving::start();
    let function = serving.connect();
    function.bar_write(2, 4100, Width::Word, 0xCAFE).unwrap();
    let mut bytes = [0; 4];
    rustix::io::pread(&serving.shared, &mut bytes, 4100).unwrap();
    assert_eq!(u32::from_le_bytes(bytes), 0xCAFE);
    rustix::io::pwrite(&serving.shared, &[7, 8], 4200).unwrap();
    assert_eq!(function.bar_read(2, 4200, Width::Half).unwrap(), 0x0807);
    // The first page is the server's, which refuses it.
    assert!(matches!(function.bar_read(2, 0, Width::Word), Err(TransportError::Io { .. })));
    serving.stop();
    assert_eq!(function.bar_read(2, 4100, Width::Word).unwrap(), 0xCAFE);
}

#[test]
fn a_dead_server_is_a_removed_function() {
    let mut serving = Serving::start();
    let function = serving.connect();
    function.enable_vectors(1).unwrap();
    let region = Region::new("memory", 4096).unwrap();
    function.dma_map(&region).unwrap();
    assert!(function.interrupt_pending(0).is_ok());
    serving.stop();
    assert!(readable(function.removal_fd().unwrap()));
    let gone = |result: Result<(), TransportError>| {
        assert!(matches!(result, Err(TransportError::Gone { .. })), "{result:?}");
    };
    gone(function.interrupt_pending(0).map(drop));
    gone(function.bar_read(0, 0, Width::Word).map(drop));
    gone(function.bar_write(0, 0, Width::Word, 1));
    gone(function.config_read(0, Width::Word).map(drop));
    gone(function.reset_function());
    let other = Region::new("other", 4096).unwrap();
    assert!(matches!(function.dma_map(&other), Err(DmaError::Gone)));
    function.dma_unmap(region.id()).unwrap();
    assert_eq!(Arc::strong_count(&region), 1);
}

#[test]
fn an_absent_server_is_named() {
    let path = std::env::temp_dir().join("tandem-backends-nobody.sock");
    let error = VfioUser::connect(&path, ClientConfig::default()).unwrap_err().to_string();
    assert!(error.contains("cannot connect to") && error.contains("nobody.sock"), "{error}");
}
