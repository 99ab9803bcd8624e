//! A small device behind a server in a thread of its own.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tandem_vfio_user::Errno;
use tandem_vfio_user::client::{Client, ClientConfig};
use tandem_vfio_user::dma::DmaError;
use tandem_vfio_user::irq::{IrqChange, IrqType};
use tandem_vfio_user::message::{IrqFlags, RegionFlags, SparseArea};
use tandem_vfio_user::pci;
use tandem_vfio_user::server::{
    Counters, Device, DmaRange, Existing, Host, Region, RegionFile, Server, ServerConfig,
};

/// Long enough that a loaded machine never reaches it, short enough that a hang shows.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const BAR0_BYTES: u64 = 1 << 16;
/// Write `source, destination, length` (3 x u64) here: the device copies by DMA and raises vector 1.
pub const COPY: u64 = 0x100;
/// Result of the last copy: 0 is success, else 1.
pub const COPY_RESULT: u64 = 0x120;
/// Reads refuse with EIO.
pub const BROKEN: u64 = 0x200;
/// BAR 2 can be mapped in its second page.
pub const BAR2_BYTES: u64 = 8192;

/// What the device has seen.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Joined,
    Left,
    Reset,
    Mapped(DmaRange),
    Unmapping(DmaRange, Result<(), DmaError>),
    Irqs(IrqChange),
}

pub struct TestDevice {
    pub bar0: Vec<u8>,
    pub config: Vec<u8>,
    seen: Sender<Seen>,
}

impl Device for TestDevice {
    fn region_read(
        &mut self,
        _: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), Errno> {
        let memory = match region {
            pci::REGION_BAR0 if offset == BROKEN => return Err(Errno::IO),
            pci::REGION_BAR0 => &self.bar0,
            pci::REGION_CONFIG => &self.config,
            _ => return Err(Errno::NXIO),
        };
        data.copy_from_slice(&memory[offset as usize..][..data.len()]);
        Ok(())
    }

    fn region_write(
        &mut self,
        host: &mut Host<'_>,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        let memory = match region {
            pci::REGION_BAR0 => &mut self.bar0,
            pci::REGION_CONFIG => &mut self.config,
            _ => return Err(Errno::NXIO),
        };
        memory[offset as usize..][..data.len()].copy_from_slice(data);
        if (region, offset, data.len()) == (pci::REGION_BAR0, COPY, 24) {
            let word = |at: usize| u64::from_ne_bytes(data[at..at + 8].try_into().unwrap());
            let mut bytes = vec![0; word(16) as usize];
            let copied =
                host.dma_read(word(0), &mut bytes).and_then(|()| host.dma_write(word(8), &bytes));
            self.bar0[COPY_RESULT as usize] = copied.is_err().into();
            host.trigger(pci::IRQ_MSIX, 1);
        }
        Ok(())
    }

    fn reset(&mut self, _: &mut Host<'_>) -> Result<(), Errno> {
        self.bar0.fill(0);
        let _ = self.seen.send(Seen::Reset);
        Ok(())
    }

    fn irqs_changed(&mut self, _: &mut Host<'_>, change: IrqChange) {
        let _ = self.seen.send(Seen::Irqs(change));
    }

    fn dma_mapped(&mut self, _: &mut Host<'_>, range: DmaRange) {
        let _ = self.seen.send(Seen::Mapped(range));
    }

    fn dma_unmapping(&mut self, host: &mut Host<'_>, range: DmaRange) {
        // The range is still there while the device drains.
        let reachable = host.dma_read(range.address, &mut [0; 8]);
        let _ = self.seen.send(Seen::Unmapping(range, reachable));
    }

    fn client_joined(&mut self) {
        let _ = self.seen.send(Seen::Joined);
    }

    fn client_left(&mut self) {
        let _ = self.seen.send(Seen::Left);
    }
}

pub fn config() -> ServerConfig {
    let mut config = ServerConfig::pci(256);
    let flags = RegionFlags::READ | RegionFlags::WRITE;
    config.regions[0] = Region { size: BAR0_BYTES, flags, mmap: None };
    let memory = tandem_vfio_user::memory::SharedMemory::new(BAR2_BYTES as usize).unwrap();
    let areas = vec![SparseArea { offset: 4096, size: 4096 }];
    let mmap = Some(RegionFile { fd: memory.fd(), offset: 0, areas });
    config.regions[2] = Region { size: BAR2_BYTES, flags: RegionFlags::READ, mmap };
    let flags = IrqFlags::EVENTFD | IrqFlags::NORESIZE | IrqFlags::MASKABLE;
    config.irqs[pci::IRQ_MSIX as usize] = IrqType { count: 40, flags };
    config.limits.dma_timeout = Duration::from_millis(500);
    config
}

pub fn bar2_file(config: &ServerConfig) -> Arc<OwnedFd> {
    config.regions[2].mmap.as_ref().unwrap().fd.clone()
}

pub fn socket_path(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tandem-{name}-{}-{number}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// A server in a thread; it ends when this is dropped.
pub struct Running {
    pub path: PathBuf,
    pub seen: Receiver<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Counters>>,
}

impl Running {
    pub fn start(name: &str) -> Self {
        Self::start_with(name, config())
    }

    pub fn start_with(name: &str, config: ServerConfig) -> Self {
        let path = socket_path(name);
        let mut server = Server::bind(&path, Existing::Refuse, config).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, seen) = channel();
        let mut device = TestDevice {
            bar0: vec![0; BAR0_BYTES as usize],
            config: (0..=255).collect(),
            seen: sender,
        };
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            server.run(&mut device, || stopped.load(Ordering::Relaxed)).unwrap();
            server.counters()
        });
        Self { path, seen, stop, thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path, ClientConfig::default()).unwrap()
    }

    /// Waits for something that the device must see.
    pub fn expect(&self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = self.seen.recv_timeout(left).expect("the device never saw it");
            if wanted(&seen) {
                return seen;
            }
        }
    }

    pub fn finish(mut self) -> Counters {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            if !std::thread::panicking() {
                outcome.unwrap();
            }
        }
    }
}

pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
