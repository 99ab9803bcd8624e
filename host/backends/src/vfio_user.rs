//! A PCI function that another process serves on a UNIX socket, as a [`PciTransport`].
//!
//! Memory is shared with the server by descriptor; interrupts are eventfds; parts of BARs that the
//! server lets us map are accessed without it. What a server keeps of our memory after its connection
//! broke cannot be enforced from here: it has the descriptor. See [`VfioUser::dma_unmap`].

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tandem_device::{DmaError, Region, RegionId};
use tandem_vfio_user::client::{Client, ClientConfig, ClientError};
use tandem_vfio_user::irq::{interrupt_eventfd, take_interrupts};
use tandem_vfio_user::memory::RegionMap;
use tandem_vfio_user::message::DmaFlags;
use tandem_vfio_user::pci::{BARS, IRQ_MSIX, REGION_BAR0, REGION_CONFIG};
use tandem_virtio::{PciTransport, TransportError, Width};
use thiserror::Error;

/// Most vectors that are used of a function.
pub const VECTORS_MAX: u16 = 64;

/// First DMA address that is given out; above what 32 bits can name, so that cut addresses show.
const DMA_BASE: u64 = 0x1_0000_0000;

/// Bytes left free between two regions, so that running over one end is an error.
const DMA_GAP: u64 = 0x1_0000;

/// PCI configuration space: status with the capability list bit, capability pointer, MSI-X.
const STATUS: u16 = 6;
const STATUS_CAPABILITIES: u32 = 0x10;
const CAPABILITIES: u16 = 0x34;
const CAPABILITY_MSIX: u32 = 0x11;
/// No chain of capabilities in 192 bytes has more members of 4 bytes.
const CAPABILITIES_MAX: usize = 48;
const MSIX_ENABLE: u32 = 1 << 15;
const MSIX_FUNCTION_MASK: u32 = 1 << 14;

/// Why a served function cannot be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Connecting or asking the server failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server has no PCI configuration space.
    #[error("the server's device has no PCI configuration space")]
    NotPci,
    /// What the system answered.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug)]
struct Mappings {
    next: u64,
    /// Address and memory, kept alive while it is mapped.
    regions: BTreeMap<RegionId, (u64, Arc<Region>)>,
}

/// See the module.
#[derive(Debug)]
pub struct VfioUser {
    name: String,
    client: Mutex<Client>,
    /// The client's socket, to notice a dead server without a lock.
    socket: OwnedFd,
    bar_lens: [u64; BARS as usize],
    maps: [Vec<RegionMap>; BARS as usize],
    events: Vec<OwnedFd>,
    msix: Option<u16>,
    mappings: Mutex<Mappings>,
    gone: OnceLock<String>,
}

impl VfioUser {
    /// Connects to the server at `path`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(path: &Path, config: ClientConfig) -> Result<Self, ConnectError> {
        let client = Client::connect(path, config)?;
        Self::new(format!("vfio-user {}", path.display()), client)
    }

    /// Takes over a connected client.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn new(name: String, client: Client) -> Result<Self, ConnectError> {
        let system = |what| move |source| ConnectError::System { what, source };
        if client.region(REGION_CONFIG).is_none_or(|region| region.size < 256) {
            return Err(ConnectError::NotPci);
        }
        let bar = |bar: u32| client.region(REGION_BAR0 + bar).map_or(0, |region| region.size);
        let bar_lens = std::array::from_fn(|index| bar(index as u32));
        let mut maps: [Vec<RegionMap>; BARS as usize] = Default::default();
        for (index, maps) in maps.iter_mut().enumerate() {
            if bar_lens[index] > 0 {
                *maps = client.map_region(REGION_BAR0 + index as u32)?;
            }
        }
        let vectors = client.irq(IRQ_MSIX).map_or(0, |(count, _)| count);
        let socket = client.as_fd().try_clone_to_owned().map_err(system("duplicating a socket"))?;
        let mut transport = Self {
            name,
            client: Mutex::new(client),
            socket,
            bar_lens,
            maps,
            events: Vec::new(),
            msix: None,
            mappings: Mutex::new(Mappings { next: DMA_BASE, regions: BTreeMap::new() }),
            gone: OnceLock::new(),
        };
        transport.msix = transport.find_msix().unwrap_or(None);
        if transport.msix.is_some() {
            for _ in 0..vectors.min(VECTORS_MAX.into()) {
                transport.events.push(interrupt_eventfd().map_err(system("making an eventfd"))?);
            }
        }
        Ok(transport)
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mappings(&self) -> MutexGuard<'_, Mappings> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), TransportError> {
        match self.gone.get() {
            None => Ok(()),
            Some(reason) => Err(TransportError::Gone { reason: reason.clone() }),
        }
    }

    fn failed(&self, what: &'static str, error: ClientError) -> TransportError {
        if error.is_device_lost() {
            let reason = format!("its server is gone ({error})");
            let _ = self.gone.set(reason.clone());
            return TransportError::Gone { reason };
        }
        TransportError::Io { what, source: std::io::Error::other(error) }
    }

    /// Where the MSI-X capability's control word is.
    fn find_msix(&self) -> Result<Option<u16>, TransportError> {
        if self.config_read(STATUS, Width::Half)? & STATUS_CAPABILITIES == 0 {
            return Ok(None);
        }
        let mut at = self.config_read(CAPABILITIES, Width::Byte)? as u16 & 0xFC;
        for _ in 0..CAPABILITIES_MAX {
            if !(0x40..0x100).contains(&at) {
                break;
            }
            let head = self.config_read(at, Width::Half)?;
            if head & 0xFF == CAPABILITY_MSIX {
                return Ok(Some(at + 2));
            }
            at = (head >> 8) as u16 & 0xFC;
        }
        Ok(None)
    }

    fn bar_access(
        &self,
        what: &'static str,
        bar: u8,
        offset: u64,
        width: Width,
    ) -> Result<(), TransportError> {
        self.check()?;
        let bytes = u64::from(width.bytes());
        let len = self.bar_len(bar).unwrap_or(0);
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= len);
        if inside && offset.is_multiple_of(bytes) {
            Ok(())
        } else {
            Err(TransportError::OutOfRange { what, offset })
        }
    }

    fn mapped(&self, bar: u8, offset: u64, width: Width) -> Option<&RegionMap> {
        let end = offset + u64::from(width.bytes());
        self.maps[usize::from(bar)].iter().find(|map| {
            let area = map.area();
            area.offset <= offset && end <= area.offset + area.size
        })
    }

    /// Answers what the server sent, and notices when it is gone.
    fn attend(&self) -> Result<(), TransportError> {
        self.check()?;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        if poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
            let processed = self.client().process_ready();
            processed.map_err(|error| self.failed("answering the server", error))?;
        }
        Ok(())
    }
}

impl PciTransport for VfioUser {
    fn name(&self) -> &str {
        &self.name
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32, TransportError> {
        self.check()?;
        let mut bytes = [0; 4];
        let part = &mut bytes[..width.bytes().min(4) as usize];
        let read = self.client().region_read(REGION_CONFIG, offset.into(), part);
        read.map_err(|error| self.failed("reading configuration space", error))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<(), TransportError> {
        self.check()?;
        let bytes = value.to_le_bytes();
        let part = &bytes[..width.bytes().min(4) as usize];
        let written = self.client().region_write(REGION_CONFIG, offset.into(), part);
        written.map_err(|error| self.failed("writing configuration space", error))
    }

    fn bar_len(&self, bar: u8) -> Option<u64> {
        self.bar_lens.get(usize::from(bar)).copied().filter(|len| *len > 0)
    }

    fn bar_read(&self, bar: u8, offset: u64, width: Width) -> Result<u64, TransportError> {
        self.bar_access("read of a BAR", bar, offset, width)?;
        if let Some(map) = self.mapped(bar, offset, width) {
            let read = match width {
                Width::Byte => map.read_u8(offset).map(u64::from),
                Width::Half => map.read_u16(offset).map(u64::from),
                Width::Word => map.read_u32(offset).map(u64::from),
                Width::Double => map.read_u64(offset),
            };
            // What the device wrote before is seen after (the trait's promise).
            fence(Ordering::Acquire);
            let what = "read of a mapped BAR";
            return read.map_err(|_| TransportError::OutOfRange { what, offset });
        }
        let mut bytes = [0; 8];
        let part = &mut bytes[..width.bytes() as usize];
        let read = self.client().region_read(REGION_BAR0 + u32::from(bar), offset, part);
        read.map_err(|error| self.failed("reading a BAR", error))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Posted where the BAR is not mapped: the server takes it in order, and a later read waits for it.
    fn bar_write(
        &self,
        bar: u8,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), TransportError> {
        self.bar_access("write of a BAR", bar, offset, width)?;
        if let Some(map) = self.mapped(bar, offset, width) {
            // What was written to memory before is seen by who sees this.
            fence(Ordering::SeqCst);
            let written = match width {
                Width::Byte => map.write_u8(offset, value as u8),
                Width::Half => map.write_u16(offset, value as u16),
                Width::Word => map.write_u32(offset, value as u32),
                Width::Double => map.write_u64(offset, value),
            };
            let what = "write of a mapped BAR";
            return written.map_err(|_| TransportError::OutOfRange { what, offset });
        }
        let bytes = value.to_le_bytes();
        let part = &bytes[..width.bytes() as usize];
        let region = REGION_BAR0 + u32::from(bar);
        let written = self.client().region_write_posted(region, offset, part);
        written.map_err(|error| self.failed("writing a BAR", error))
    }

    fn dma_map(&self, region: &Arc<Region>) -> Result<u64, DmaError> {
        let mut mappings = self.mappings();
        if let Some((address, _)) = mappings.regions.get(&region.id()) {
            return Ok(*address);
        }
        self.check().map_err(|_| DmaError::Gone)?;
        let (address, size) = (mappings.next, region.len() as u64);
        let no_space = DmaError::NoSpace { len: region.len() };
        let next = address.checked_add(size).and_then(|end| end.checked_add(DMA_GAP));
        let next = next.ok_or(no_space)?;
        let fd = Arc::new(region.fd().try_clone_to_owned()?);
        let flags = DmaFlags::READ | DmaFlags::WRITE;
        let mapped = self.client().dma_map(address, fd, 0, size, flags);
        if let Err(error) = mapped {
            return Err(match self.failed("mapping memory", error) {
                TransportError::Gone { .. } => {
                    // It may have been mapped all the same: it stays ours to keep alive.
                    mappings.regions.insert(region.id(), (address, region.clone()));
                    DmaError::Gone
                }
                other => DmaError::Io(std::io::Error::other(other)),
            });
        }
        mappings.next = next;
        mappings.regions.insert(region.id(), (address, region.clone()));
        Ok(address)
    }

    /// With a server that is gone this succeeds, as [`PciTransport::dma_unmap`] has it. A server that
    /// lives on after it broke the connection could still write there; nothing on this side can prevent
    /// that, since memory once shared by descriptor stays shared.
    fn dma_unmap(&self, region: RegionId) -> Result<(), DmaError> {
        let mut mappings = self.mappings();
        let Some((address, memory)) = mappings.regions.get(&region) else { return Ok(()) };
        if self.gone.get().is_none() {
            let unmapped = self.client().dma_unmap(*address, memory.len() as u64);
            if let Err(error) = unmapped {
                match self.failed("unmapping memory", error) {
                    TransportError::Gone { .. } => {}
                    other => return Err(DmaError::Io(std::io::Error::other(other))),
                }
            }
        }
        mappings.regions.remove(&region);
        Ok(())
    }

    fn vectors(&self) -> u16 {
        self.events.len() as u16
    }

    fn enable_vectors(&self, count: u16) -> Result<(), TransportError> {
        self.check()?;
        let Some(control) = self.msix else {
            let what = "MSI-X";
            return if count == 0 { Ok(()) } else { Err(TransportError::Unsupported { what }) };
        };
        let events = self.events.get(..usize::from(count)).ok_or(TransportError::OutOfRange {
            what: "number of vectors",
            offset: count.into(),
        })?;
        let disabled = self.client().disable_irqs(IRQ_MSIX);
        disabled.map_err(|error| self.failed("disabling interrupts", error))?;
        for event in &self.events {
            let _ = take_interrupts(event);
        }
        let enable = if events.is_empty() { 0 } else { MSIX_ENABLE };
        if !events.is_empty() {
            let fds: Vec<_> = events.iter().map(AsFd::as_fd).collect();
            let armed = self.client().arm_irqs(IRQ_MSIX, 0, &fds);
            armed.map_err(|error| self.failed("arming interrupts", error))?;
        }
        let old = self.config_read(control, Width::Half)?;
        let new = old & !(MSIX_ENABLE | MSIX_FUNCTION_MASK) | enable;
        self.config_write(control, Width::Half, new)
    }

    fn interrupt_pending(&self, vector: u16) -> Result<bool, TransportError> {
        self.attend()?;
        let event = self
            .events
            .get(usize::from(vector))
            .ok_or(TransportError::OutOfRange { what: "vector", offset: vector.into() })?;
        let taken = take_interrupts(event);
        let io = |source| TransportError::Io { what: "reading an eventfd", source };
        Ok(taken.map_err(io)? > 0)
    }

    fn interrupt_fd(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.events.get(usize::from(vector)).map(AsFd::as_fd)
    }

    /// The socket: also readable when the server asks something, which the next
    /// [`PciTransport::interrupt_pending`] answers.
    fn removal_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn reset_function(&self) -> Result<(), TransportError> {
        self.check()?;
        let mut client = self.client();
        if !client.resettable() {
            return Err(TransportError::Unsupported { what: "function-level reset" });
        }
        let reset = client.reset().and_then(|()| client.disable_irqs(IRQ_MSIX));
        drop(client);
        reset.map_err(|error| self.failed("resetting the function", error))
    }
}

#[cfg(test)]
mod tests;
