//! The driver's end: connects, negotiates, accesses the device, lends it memory.
//!
//! Every call that needs an answer waits for it up to [`ClientConfig::reply_timeout`], so a dead server is an
//! error and not a hang; a late answer is recognized by its number and dropped. While it waits, and whenever
//! [`Client::process_ready`] is called, the client answers the server's `DMA_READ` and `DMA_WRITE` from what was
//! mapped, and from nothing else.

mod memory;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use thiserror::Error;
use zerocopy::IntoBytes;

use crate::irq::VECTORS_MAX;
use crate::memory::{ClientMemory, RegionMap};
use crate::message::{
    Capabilities, Command, DeviceFlags, DeviceInfo, DmaAccess, DmaFlags, DmaMap, DmaUnmap, Header,
    HeaderFlags, IrqFlags, IrqInfo, IrqSet, IrqSetFlags, Kind, MULTI_WRITES_MAX, MultiWrite,
    RegionAccess, RegionFlags, RegionInfo, Request, SPARSE_AREAS_MAX, SparseArea, VERSION_MAJOR,
    VERSION_MINOR, Version, exact, head, parse_sparse_areas,
};
use crate::server::{MESSAGE_OVERHEAD_BYTES, connect_within};
use crate::socket::{Channel, MSG_FDS_MAX, Received, SharedFds, SocketError};
use memory::LentMemory;

/// Most regions of a device.
pub const REGIONS_MAX: u32 = 64;
/// Most interrupt types of a device.
pub const IRQ_TYPES_MAX: u32 = 64;
/// Most commands of the server that are kept while the client cannot answer them.
const QUEUED_COMMANDS_MAX: usize = 64;

/// How the client behaves.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// How long a reply may take.
    pub reply_timeout: Duration,
    /// Most bytes in one data transfer, either way; longer accesses are split.
    pub data_xfer_bytes_max: u32,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { reply_timeout: Duration::from_secs(5), data_xfer_bytes_max: 1 << 20 }
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke or the server did not answer in time.
    #[error("{command:?}: {source}")]
    Socket {
        /// What was asked.
        command: Command,
        /// What happened.
        source: SocketError,
    },
    /// The server answered with an error.
    #[error("{command:?}: refused by the device: {}", std::io::Error::from_raw_os_error(*errno))]
    Refused {
        /// What was asked.
        command: Command,
        /// The errno; 0 when the server gave none.
        errno: i32,
    },
    /// The answer makes no sense.
    #[error("{command:?}: the server's answer is invalid: {what}")]
    Invalid {
        /// What was asked.
        command: Command,
        /// What is wrong.
        what: &'static str,
    },
    /// The server speaks another protocol version.
    #[error("the server speaks protocol version {major}.{minor}")]
    Version {
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// The region or interrupt does not exist, or the range is outside of it.
    #[error("{0}")]
    Argument(&'static str),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl ClientError {
    /// Whether the server is gone or does not answer: the device is lost, as if it had been pulled out.
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Self::Socket { .. } | Self::Connect { .. })
    }
}

/// A region as the server describes it.
#[derive(Debug)]
pub struct Region {
    /// Bytes; 0 when the device has no such region.
    pub size: u64,
    /// What can be done with it.
    pub flags: RegionFlags,
    /// Which parts can be mapped.
    pub mappable: Vec<SparseArea>,
    file: Option<(OwnedFd, u64)>,
}

/// Counters of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Commands sent.
    pub commands: u64,
    /// `DMA_READ` and `DMA_WRITE` answered.
    pub dma_commands: u64,
    /// Those of them that were refused.
    pub dma_refused: u64,
    /// Replies that belong to no command.
    pub stray_replies: u64,
    /// Other commands of the server, refused.
    pub refused_commands: u64,
}

/// The driver's end of a vfio-user socket.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    config: ClientConfig,
    server: Capabilities,
    version: Version,
    resettable: bool,
    regions: Vec<Region>,
    irqs: Vec<(u32, IrqFlags)>,
    memory: LentMemory,
    queue: VecDeque<Received>,
    next_id: u16,
    counters: ClientCounters,
}

impl Client {
    /// Connects to the server at `path` and learns what the device has.
    ///
    /// # Errors
    /// See [`ClientError`]; a server that serves someone else does not answer in time.
    pub fn connect(path: &Path, config: ClientConfig) -> Result<Self, ClientError> {
        let deadline = Instant::now() + config.reply_timeout;
        let stream = connect_within(path, deadline)
            .map_err(|source| ClientError::Connect { path: path.into(), source })?;
        Self::from_stream(stream, config)
    }

    /// The same over a stream that is connected already.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn from_stream(stream: UnixStream, config: ClientConfig) -> Result<Self, ClientError> {
        let message_bytes_max = MESSAGE_OVERHEAD_BYTES + config.data_xfer_bytes_max as usize;
        let mut client = Self {
            channel: Channel::new(stream, message_bytes_max),
            config,
            server: Capabilities::default(),
            version: Version::default(),
            resettable: false,
            regions: Vec::new(),
            irqs: Vec::new(),
            memory: LentMemory::default(),
            queue: VecDeque::new(),
            next_id: 0,
            counters: ClientCounters::default(),
        };
        client.negotiate()?;
        client.enumerate()?;
        Ok(client)
    }

    fn negotiate(&mut self) -> Result<(), ClientError> {
        let ours = Capabilities {
            max_msg_fds: Some(MSG_FDS_MAX as u64),
            max_data_xfer_size: Some(self.config.data_xfer_bytes_max.into()),
            pgsizes: Some(4096),
            max_dma_maps: Some(crate::dma::DMA_MAPS_MAX as u64),
            write_multiple: Some(true),
        };
        let proposed = Version { major: VERSION_MAJOR, minor: VERSION_MINOR };
        let reply =
            self.call(Command::Version, &[proposed.as_bytes(), &ours.emit()], SharedFds::new())?;
        let request = Request::parse(Command::Version as u16, &reply.body);
        let Ok(Request::Version { version, capabilities }) = request else {
            return Err(invalid(Command::Version, "not a version"));
        };
        if version.major != VERSION_MAJOR || version.minor > VERSION_MINOR {
            return Err(ClientError::Version { major: version.major, minor: version.minor });
        }
        (self.version, self.server) = (version, capabilities);
        Ok(())
    }

    fn enumerate(&mut self) -> Result<(), ClientError> {
        let command = Command::DeviceGetInfo;
        let ask = DeviceInfo { argsz: size_of::<DeviceInfo>() as u32, ..DeviceInfo::default() };
        let reply = self.call(command, &[ask.as_bytes()], SharedFds::new())?;
        let (info, _): (DeviceInfo, _) = parse(head(command, &reply.body))?;
        if info.num_regions > REGIONS_MAX || info.num_irqs > IRQ_TYPES_MAX {
            return Err(invalid(command, "too many regions or interrupt types"));
        }
        self.resettable = DeviceFlags::from_bits_retain(info.flags).contains(DeviceFlags::RESET);
        for index in 0..info.num_regions {
            let region = self.ask_region(index)?;
            self.regions.push(region);
        }
        for index in 0..info.num_irqs {
            let irq = self.ask_irq(index)?;
            self.irqs.push(irq);
        }
        Ok(())
    }

    fn ask_region(&mut self, index: u32) -> Result<Region, ClientError> {
        let command = Command::DeviceGetRegionInfo;
        let argsz_max = size_of::<RegionInfo>() + 64 + SPARSE_AREAS_MAX * size_of::<SparseArea>();
        let ask = RegionInfo { argsz: argsz_max as u32, index, ..RegionInfo::default() };
        let mut reply = self.call(command, &[ask.as_bytes()], SharedFds::new())?;
        let (info, _): (RegionInfo, _) = parse(head(command, &reply.body))?;
        if info.index != index {
            return Err(invalid(command, "describes another region"));
        }
        let flags = RegionFlags::from_bits_retain(info.flags);
        let fd = reply.fds.pop().filter(|_| flags.contains(RegionFlags::MMAP));
        let file = fd.map(|fd| (fd, info.offset));
        let mut mappable = Vec::new();
        if file.is_some() {
            let whole = || vec![SparseArea { offset: 0, size: info.size }];
            mappable = parse(parse_sparse_areas(&reply.body))?.unwrap_or_else(whole);
        }
        let inside = |area: &SparseArea| {
            area.size > 0 && area.offset.checked_add(area.size).is_some_and(|end| end <= info.size)
        };
        if !mappable.iter().all(inside) {
            return Err(invalid(command, "a mappable area outside of the region"));
        }
        Ok(Region { size: info.size, flags, mappable, file })
    }

    fn ask_irq(&mut self, index: u32) -> Result<(u32, IrqFlags), ClientError> {
        let command = Command::DeviceGetIrqInfo;
        let ask = IrqInfo { argsz: size_of::<IrqInfo>() as u32, index, ..IrqInfo::default() };
        let reply = self.call(command, &[ask.as_bytes()], SharedFds::new())?;
        let info: IrqInfo = parse(exact(command, &reply.body))?;
        if info.count > VECTORS_MAX {
            return Err(invalid(command, "too many interrupts"));
        }
        Ok((info.count, IrqFlags::from_bits_retain(info.flags)))
    }

    /// The negotiated version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the server can take.
    pub fn server_capabilities(&self) -> Capabilities {
        self.server
    }

    /// Whether [`reset`](Self::reset) works.
    pub fn resettable(&self) -> bool {
        self.resettable
    }

    /// Region `index`, when there is one.
    pub fn region(&self, index: u32) -> Option<&Region> {
        self.regions.get(index as usize)
    }

    /// How many interrupts of type `index` there are, and their properties.
    pub fn irq(&self, index: u32) -> Option<(u32, IrqFlags)> {
        self.irqs.get(index as usize).copied()
    }

    /// Counters since the connection.
    pub fn counters(&self) -> ClientCounters {
        self.counters
    }

    fn check_region(&self, region: u32, offset: u64, len: usize) -> Result<(), ClientError> {
        let region = self.region(region).ok_or(ClientError::Argument("no such region"))?;
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > region.size) {
            return Err(ClientError::Argument("outside of the region"));
        }
        Ok(())
    }

    /// Reads from a region; longer than a transfer may be, it is split.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn region_read(
        &mut self,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), ClientError> {
        self.check_region(region, offset, data.len())?;
        let command = Command::RegionRead;
        let (step, mut at) = (self.xfer_bytes_max(), offset);
        for piece in data.chunks_mut(step) {
            let access = RegionAccess { offset: at, region, count: piece.len() as u32 };
            let reply = self.call(command, &[access.as_bytes()], SharedFds::new())?;
            let (echo, bytes): (RegionAccess, _) = parse(head(command, &reply.body))?;
            if echo != access || bytes.len() != piece.len() {
                return Err(invalid(command, "not what was asked for"));
            }
            piece.copy_from_slice(bytes);
            at += piece.len() as u64;
            self.channel.recycle(reply.body);
        }
        Ok(())
    }

    /// Writes to a region and waits until the device has taken it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn region_write(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ClientError> {
        self.check_region(region, offset, data.len())?;
        let command = Command::RegionWrite;
        let (step, mut at) = (self.xfer_bytes_max(), offset);
        for piece in data.chunks(step) {
            let access = RegionAccess { offset: at, region, count: piece.len() as u32 };
            let reply = self.call(command, &[access.as_bytes(), piece], SharedFds::new())?;
            let (echo, _): (RegionAccess, _) = parse(head(command, &reply.body))?;
            if echo != access {
                return Err(invalid(command, "not what was asked for"));
            }
            at += piece.len() as u64;
            self.channel.recycle(reply.body);
        }
        Ok(())
    }

    /// Writes to a region without waiting, as a doorbell wants: the device takes writes in the order in which
    /// they are made, and a later call that waits also waits for this one. A refusal stays unknown.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn region_write_posted(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ClientError> {
        self.check_region(region, offset, data.len())?;
        if data.len() > self.xfer_bytes_max() {
            return Err(ClientError::Argument("longer than one transfer"));
        }
        let command = Command::RegionWrite;
        let access = RegionAccess { offset, region, count: data.len() as u32 };
        self.post(command, &[access.as_bytes(), data])
    }

    /// Several small writes in one message, when the server can take that, else one by one.
    ///
    /// # Errors
    /// See [`ClientError`]; a refusal does not say which write it was.
    pub fn region_write_multi(&mut self, writes: &[MultiWrite]) -> Result<(), ClientError> {
        let command = Command::RegionWriteMulti;
        for write in writes {
            let data = write.data().ok_or(ClientError::Argument("a write of more than 8 bytes"))?;
            self.check_region(write.region(), write.offset(), data.len())?;
        }
        if self.server.write_multiple != Some(true) {
            for write in writes {
                self.region_write(
                    write.region(),
                    write.offset(),
                    write.data().unwrap_or_default(),
                )?;
            }
            return Ok(());
        }
        for writes in writes.chunks(MULTI_WRITES_MAX) {
            let count = writes.len() as u64;
            let reply =
                self.call(command, &[&count.to_ne_bytes(), writes.as_bytes()], SharedFds::new())?;
            if reply.body != count.to_ne_bytes() {
                return Err(invalid(command, "another number of writes"));
            }
        }
        Ok(())
    }

    /// Maps what can be mapped of a region; empty when nothing can.
    ///
    /// # Errors
    /// When the system refuses, or the server's file is shorter than it promised.
    pub fn map_region(&self, region: u32) -> Result<Vec<RegionMap>, ClientError> {
        let region = self.region(region).ok_or(ClientError::Argument("no such region"))?;
        let Some((fd, base)) = &region.file else { return Ok(Vec::new()) };
        let map = |area: &SparseArea| {
            RegionMap::new(fd.as_fd(), *base, *area)
                .map_err(|source| ClientError::System { what: "mapping a region", source })
        };
        region.mappable.iter().map(map).collect()
    }

    /// Arms interrupts from `start` on with one eventfd each ([`crate::irq::interrupt_eventfd`] makes them).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn arm_irqs(
        &mut self,
        index: u32,
        start: u32,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let flags = IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_TRIGGER;
        // One message carries as many descriptors as the server takes.
        let step = self.server.msg_fds_max().clamp(1, MSG_FDS_MAX);
        let mut at = start;
        for eventfds in eventfds.chunks(step) {
            let mut fds = SharedFds::new();
            for fd in eventfds {
                let fd = fd.try_clone_to_owned();
                let fd = fd.map_err(|source| ClientError::System {
                    what: "duplicating an eventfd",
                    source,
                })?;
                fds.push(Arc::new(fd));
            }
            self.set_irqs(index, flags, at, eventfds.len() as u32, &[], fds)?;
            at += eventfds.len() as u32;
        }
        Ok(())
    }

    /// Takes the eventfds of a range away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn disarm_irqs(&mut self, index: u32, start: u32, count: u32) -> Result<(), ClientError> {
        let flags = IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_TRIGGER;
        self.set_irqs(index, flags, start, count, &[], SharedFds::new())
    }

    /// Disables all interrupts of a type.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn disable_irqs(&mut self, index: u32) -> Result<(), ClientError> {
        let flags = IrqSetFlags::DATA_NONE | IrqSetFlags::ACTION_TRIGGER;
        self.set_irqs(index, flags, 0, 0, &[], SharedFds::new())
    }

    /// Masks a range of interrupts: they become pending instead of being signalled.
    ///
    /// # Errors
    /// See [`ClientError`]; types without [`IrqFlags::MASKABLE`] refuse.
    pub fn mask_irqs(&mut self, index: u32, start: u32, count: u32) -> Result<(), ClientError> {
        let flags = IrqSetFlags::DATA_NONE | IrqSetFlags::ACTION_MASK;
        self.set_irqs(index, flags, start, count, &[], SharedFds::new())
    }

    /// Unmasks a range of interrupts; pending ones are signalled.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn unmask_irqs(&mut self, index: u32, start: u32, count: u32) -> Result<(), ClientError> {
        let flags = IrqSetFlags::DATA_NONE | IrqSetFlags::ACTION_UNMASK;
        self.set_irqs(index, flags, start, count, &[], SharedFds::new())
    }

    /// Triggers those interrupts from `start` on whose byte is not 0, as if the device had.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn trigger_irqs(
        &mut self,
        index: u32,
        start: u32,
        which: &[bool],
    ) -> Result<(), ClientError> {
        let flags = IrqSetFlags::DATA_BOOL | IrqSetFlags::ACTION_TRIGGER;
        let bytes: Vec<u8> = which.iter().map(|&meant| meant.into()).collect();
        self.set_irqs(index, flags, start, which.len() as u32, &bytes, SharedFds::new())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: IrqSetFlags,
        start: u32,
        count: u32,
        data: &[u8],
        fds: SharedFds,
    ) -> Result<(), ClientError> {
        let (vectors, _) =
            self.irq(index).ok_or(ClientError::Argument("no such interrupt type"))?;
        if start.checked_add(count).is_none_or(|end| end > vectors) {
            return Err(ClientError::Argument("no such interrupt"));
        }
        let argsz = (size_of::<IrqSet>() + data.len()) as u32;
        let set = IrqSet { argsz, flags: flags.bits(), index, start, count };
        self.call(Command::DeviceSetIrqs, &[set.as_bytes(), data], fds).map(drop)
    }

    /// Lends `size` bytes at `offset` of a file to the device, under DMA addresses from `address` on. The file
    /// must be memory (memfd, tmpfs) of at least that size; the server maps it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dma_map(
        &mut self,
        address: u64,
        file: Arc<OwnedFd>,
        offset: u64,
        size: u64,
        flags: DmaFlags,
    ) -> Result<(), ClientError> {
        if self.server.msg_fds_max() == 0 {
            return Err(ClientError::Argument("the server takes no descriptors"));
        }
        self.memory
            .insert_file(address, size, flags, Arc::clone(&file), offset)
            .map_err(ClientError::Argument)?;
        let mut fds = SharedFds::new();
        fds.push(file);
        self.announce(
            DmaMap {
                argsz: size_of::<DmaMap>() as u32,
                flags: flags.bits(),
                offset,
                address,
                size,
            },
            fds,
        )
    }

    /// Lends memory without sharing it: the device reaches it by messages, which this client answers.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dma_map_private(
        &mut self,
        address: u64,
        memory: Arc<dyn ClientMemory>,
        flags: DmaFlags,
    ) -> Result<(), ClientError> {
        let size = memory.size();
        self.memory.insert_private(address, flags, memory).map_err(ClientError::Argument)?;
        let argsz = size_of::<DmaMap>() as u32;
        self.announce(
            DmaMap { argsz, flags: flags.bits(), offset: 0, address, size },
            SharedFds::new(),
        )
    }

    fn announce(&mut self, map: DmaMap, fds: SharedFds) -> Result<(), ClientError> {
        let outcome = self.call(Command::DmaMap, &[map.as_bytes()], fds).map(drop);
        // After a time-out the server may have the range, so what it names must stay valid.
        if matches!(outcome, Err(ClientError::Refused { .. })) {
            self.memory.remove(map.address, map.size);
        }
        outcome
    }

    /// Takes a range back. When this has returned `Ok`, the device does not touch it any more.
    ///
    /// # Errors
    /// See [`ClientError`]. On an error the memory must be treated as if the device could still write to it.
    pub fn dma_unmap(&mut self, address: u64, size: u64) -> Result<(), ClientError> {
        if !self.memory.contains(address, size) {
            return Err(ClientError::Argument("no such DMA range"));
        }
        let unmap = DmaUnmap { argsz: size_of::<DmaUnmap>() as u32, flags: 0, address, size };
        self.call(Command::DmaUnmap, &[unmap.as_bytes()], SharedFds::new())?;
        self.memory.remove(address, size);
        Ok(())
    }

    /// Resets the device.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.call(Command::DeviceReset, &[], SharedFds::new()).map(drop)
    }

    /// Answers the server's DMA messages that have arrived, without waiting; says how many.
    ///
    /// # Errors
    /// When the connection is broken: the device is lost.
    pub fn process_ready(&mut self) -> Result<usize, ClientError> {
        self.process().map_err(|source| ClientError::Socket { command: Command::DmaRead, source })
    }

    fn process(&mut self) -> Result<usize, SocketError> {
        let mut answered = self.answer_queued()?;
        while let Some(message) = self.channel.try_receive()? {
            self.sort(message, None)?;
            answered += self.answer_queued()?;
        }
        self.channel.flush()?;
        Ok(answered)
    }

    /// Whether answers wait until the server reads: then poll for writability too.
    pub fn wants_write(&self) -> bool {
        self.channel.wants_write()
    }

    /// Largest piece of a region access.
    fn xfer_bytes_max(&self) -> usize {
        self.server.data_xfer_bytes_max().min(self.config.data_xfer_bytes_max as usize).max(1)
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.counters.commands += 1;
        self.next_id
    }

    fn post(&mut self, command: Command, parts: &[&[u8]]) -> Result<(), ClientError> {
        let header = Header::posted(self.take_id(), command);
        let deadline = Instant::now() + self.config.reply_timeout;
        let mut sent = self.channel.queue(header, parts, SharedFds::new());
        while sent.is_ok() {
            sent = match self.channel.flush() {
                Ok(true) => return Ok(()),
                Ok(false) => self.pump(None).and_then(|_| self.channel.wait(deadline)),
                Err(error) => Err(error),
            };
        }
        sent.map_err(|source| ClientError::Socket { command, source })
    }

    /// Sends a command and waits for its reply.
    fn call(
        &mut self,
        command: Command,
        parts: &[&[u8]],
        fds: SharedFds,
    ) -> Result<Received, ClientError> {
        let header = Header::command(self.take_id(), command);
        let reply = self.exchange(header, parts, fds);
        let reply = reply.map_err(|source| ClientError::Socket { command, source })?;
        if reply.header.flag_bits().contains(HeaderFlags::ERROR) {
            return Err(ClientError::Refused { command, errno: reply.header.error as i32 });
        }
        match reply.defect {
            None => Ok(reply),
            Some(_) => Err(invalid(command, "too large")),
        }
    }

    fn exchange(
        &mut self,
        header: Header,
        parts: &[&[u8]],
        fds: SharedFds,
    ) -> Result<Received, SocketError> {
        let deadline = Instant::now() + self.config.reply_timeout;
        self.channel.queue(header, parts, fds)?;
        loop {
            self.channel.flush()?;
            if let Some(reply) = self.pump(Some(&header))? {
                return Ok(reply);
            }
            self.answer_queued()?;
            self.channel.wait(deadline)?;
        }
    }

    /// Takes what has arrived: the reply to `awaited`, or commands into the queue.
    fn pump(&mut self, awaited: Option<&Header>) -> Result<Option<Received>, SocketError> {
        while let Some(message) = self.channel.try_receive()? {
            if let Some(reply) = self.sort(message, awaited)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    fn sort(
        &mut self,
        message: Received,
        awaited: Option<&Header>,
    ) -> Result<Option<Received>, SocketError> {
        if message.header.kind() == Some(Kind::Command) {
            if self.queue.len() >= QUEUED_COMMANDS_MAX {
                return Err(SocketError::Backlog { limit: QUEUED_COMMANDS_MAX });
            }
            self.queue.push_back(message);
            return Ok(None);
        }
        let (id, command) = (message.header.id, message.header.command);
        if awaited.is_some_and(|awaited| (awaited.id, awaited.command) == (id, command)) {
            return Ok(Some(message));
        }
        self.counters.stray_replies += 1;
        self.channel.recycle(message.body);
        Ok(None)
    }

    fn answer_queued(&mut self) -> Result<usize, SocketError> {
        let mut answered = 0;
        // One answer at a time: its data may be as large as a message can be.
        while !self.queue.is_empty() && self.channel.flush()? {
            let Some(message) = self.queue.pop_front() else { break };
            let header = message.header;
            match self.answer(&message) {
                Ok(_) if !header.wants_reply() => {}
                Ok((access, data)) => {
                    self.channel.queue(
                        header.reply(),
                        &[access.as_bytes(), &data],
                        SharedFds::new(),
                    )?;
                }
                Err(errno) => {
                    let error = header.error_reply(errno.raw_os_error());
                    self.channel.queue(error, &[], SharedFds::new())?;
                }
            }
            self.channel.recycle(message.body);
            self.channel.flush()?;
            answered += 1;
        }
        Ok(answered)
    }

    fn answer(&mut self, message: &Received) -> Result<(DmaAccess, Vec<u8>), Errno> {
        let outcome = match Request::parse(message.header.command, &message.body) {
            _ if message.defect.is_some() => Err(Errno::MSGSIZE),
            Ok(Request::DmaRead(access)) => {
                self.counters.dma_commands += 1;
                // "The count field must not exceed the value of max_data_xfer_size of the peer."
                if access.count > self.config.data_xfer_bytes_max.into() {
                    Err(Errno::INVAL)
                } else {
                    let mut data = vec![0; access.count as usize];
                    self.memory.read(access.address, &mut data).map(|()| (access, data))
                }
            }
            Ok(Request::DmaWrite { access, data }) => {
                self.counters.dma_commands += 1;
                self.memory.write(access.address, data).map(|()| (access, Vec::new()))
            }
            _ => {
                self.counters.refused_commands += 1;
                return Err(Errno::NOSYS);
            }
        };
        self.counters.dma_refused += u64::from(outcome.is_err());
        outcome
    }
}

impl AsFd for Client {
    /// Readable when [`Client::process_ready`] has something to do, or the server is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn invalid(command: Command, what: &'static str) -> ClientError {
    ClientError::Invalid { command, what }
}

fn parse<T>(parsed: Result<T, crate::message::ParseError>) -> Result<T, ClientError> {
    use crate::message::ParseError;
    parsed.map_err(|error| match error {
        ParseError::Length { command, .. } | ParseError::Count { command, .. } => {
            invalid(command, "length")
        }
        ParseError::UnknownCommand(_) | ParseError::Json(_) | ParseError::Multi(_) => {
            invalid(Command::Version, "contents")
        }
    })
}
