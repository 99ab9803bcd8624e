//! From a command to its reply.

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::connection::{ClientFault, Connection};
use super::{Counters, Device, DmaRange, Host, Region, ServerConfig};
use crate::dma::DMA_MAPS_MAX;
use crate::irq::IrqChange;
use crate::message::{
    Capabilities, DeviceFlags, DeviceInfo, DmaFlags, DmaMap, DmaUnmap, DmaUnmapFlags, Header,
    IrqInfo, IrqSet, MultiWrite, ParseError, RegionAccess, RegionFlags, RegionInfo, RegionIoFds,
    Request, VERSION_MAJOR, VERSION_MINOR, Version, emit_sparse_areas,
};
use crate::socket::{Defect, MSG_FDS_MAX, Received, SharedFds};

/// What is sent back.
#[derive(Default)]
struct Reply {
    head: Vec<u8>,
    fds: SharedFds,
}

/// Answers one command; `false` when there is none that can be answered now.
pub(super) fn answer_next(
    connection: &mut Connection,
    config: &ServerConfig,
    counters: &mut Counters,
    device: &mut dyn Device,
) -> Result<bool, ClientFault> {
    // A client that does not read its replies gets no further command carried out: this is what bounds the
    // memory it can occupy.
    let sent = connection.channel.flush();
    if let Some(fault) = connection.closing.take() {
        return Err(fault);
    }
    if !sent? {
        return Ok(false);
    }
    let Some(command) = connection.next_command(counters)? else { return Ok(false) };
    counters.commands += 1;
    let header = command.header;
    let outcome = carry_out(connection, config, counters, device, command);
    if let Err(errno) = &outcome {
        counters.errors += 1;
        tracing::debug!(command = header.command, %errno, "vfio-user command refused");
    }
    if header.wants_reply() {
        match outcome {
            Ok(reply) => connection.channel.queue(header.reply(), &[&reply.head], reply.fds)?,
            Err(errno) => {
                let error = header.error_reply(errno.raw_os_error());
                connection.channel.queue(error, &[], SharedFds::new())?;
            }
        }
        connection.channel.flush()?;
    }
    Ok(true)
}

fn carry_out(
    connection: &mut Connection,
    config: &ServerConfig,
    counters: &mut Counters,
    device: &mut dyn Device,
    command: Received,
) -> Result<Reply, Errno> {
    match command.defect {
        Some(Defect::Oversized) => {
            counters.oversized += 1;
            return Err(Errno::MSGSIZE);
        }
        Some(Defect::TooManyFds) => {
            counters.surplus_fds += 1;
            return Err(Errno::MFILE);
        }
        None => {}
    }
    let Received { header, body, fds, .. } = command;
    let request = Request::parse(header.command, &body).map_err(|error| {
        tracing::debug!(%error, "vfio-user command does not parse");
        match error {
            ParseError::UnknownCommand(_) => {
                counters.unknown_commands += 1;
                Errno::NOSYS
            }
            _ => Errno::INVAL,
        }
    })?;
    // VERSION comes first and only once.
    if connection.negotiated() == matches!(request, Request::Version { .. }) {
        return Err(Errno::INVAL);
    }
    let mut server = Answer { connection, config, counters, device };
    let reply = match request {
        Request::Version { version, capabilities } => server.version(version, capabilities),
        Request::DmaMap(map) => server.dma_map(map, fds),
        Request::DmaUnmap(unmap) => server.dma_unmap(unmap),
        Request::DeviceGetInfo(info) => server.device_info(info),
        Request::DeviceGetRegionInfo(info) => server.region_info(info),
        Request::DeviceGetRegionIoFds(info) => server.region_io_fds(info),
        Request::DeviceGetIrqInfo(info) => server.irq_info(info),
        Request::DeviceSetIrqs { set, data } => server.set_irqs(set, data, fds),
        Request::RegionRead(access) => server.region_read(access, header),
        Request::RegionWrite { access, data } => server.region_write(access, data),
        Request::RegionWriteMulti(writes) => server.region_write_multi(writes),
        Request::DeviceReset => server.reset(),
        // Only a server sends these.
        Request::DmaRead(_) | Request::DmaWrite { .. } => Err(Errno::NOTSUP),
    };
    connection.channel.recycle(body);
    reply
}

struct Answer<'a> {
    connection: &'a mut Connection,
    config: &'a ServerConfig,
    counters: &'a mut Counters,
    device: &'a mut dyn Device,
}

fn reply(body: &[u8]) -> Result<Reply, Errno> {
    Ok(Reply { head: body.to_vec(), fds: SharedFds::new() })
}

/// A reply whose fixed part does not fit into what the client has room for is an error.
fn room(argsz: u32, needed: usize) -> Result<(), Errno> {
    if argsz as usize >= needed { Ok(()) } else { Err(Errno::INVAL) }
}

impl Answer<'_> {
    fn host(&mut self) -> (Host<'_>, &mut dyn Device) {
        (Host::new(self.connection, self.counters), self.device)
    }

    fn version(&mut self, version: Version, offered: Capabilities) -> Result<Reply, Errno> {
        if version.major != VERSION_MAJOR {
            // "... or closes the connection if it cannot support the advertised version"; the error says why.
            self.connection.closing = Some(ClientFault::Version(version.major, version.minor));
            return Err(Errno::PROTONOSUPPORT);
        }
        self.connection.peer = Some(offered);
        // "The capability list must be a subset of those proposed."
        let ours = Capabilities {
            max_msg_fds: Some(MSG_FDS_MAX as u64),
            max_data_xfer_size: Some(self.config.limits.data_xfer_bytes_max.into()),
            pgsizes: offered.pgsizes.map(|_| 4096),
            max_dma_maps: offered.max_dma_maps.map(|maps| maps.min(DMA_MAPS_MAX as u64)),
            write_multiple: offered.write_multiple.filter(|&wanted| wanted),
        };
        // "The minor version in the reply must be equal to or less than the minor version proposed."
        let version = Version { major: VERSION_MAJOR, minor: version.minor.min(VERSION_MINOR) };
        reply(&[version.as_bytes(), &ours.emit()].concat())
    }

    fn dma_map(
        &mut self,
        map: DmaMap,
        fds: arrayvec::ArrayVec<std::os::fd::OwnedFd, MSG_FDS_MAX>,
    ) -> Result<Reply, Errno> {
        let flags = DmaFlags::from_bits(map.flags).ok_or(Errno::INVAL)?;
        let mut fds = fds.into_iter();
        let file = fds.next().map(|fd| (fd, map.offset));
        if fds.next().is_some() {
            return Err(Errno::INVAL);
        }
        let mapped = self.connection.dma.map(map.address, map.size, flags, file);
        mapped.map_err(|error| {
            tracing::debug!(%error, "DMA_MAP refused");
            error.errno()
        })?;
        let (mut host, device) = self.host();
        device.dma_mapped(&mut host, DmaRange { address: map.address, size: map.size, flags });
        reply(&[])
    }

    fn dma_unmap(&mut self, unmap: DmaUnmap) -> Result<Reply, Errno> {
        let flags = DmaUnmapFlags::from_bits(unmap.flags).ok_or(Errno::INVAL)?;
        if flags.contains(DmaUnmapFlags::GET_DIRTY_BITMAP) {
            return Err(Errno::NOTSUP);
        }
        let all = flags.contains(DmaUnmapFlags::ALL);
        if all && (unmap.address, unmap.size) != (0, 0) {
            return Err(Errno::INVAL);
        }
        // The device ends what it has in flight there while the range is still mapped.
        let size = if all { u64::MAX } else { unmap.size };
        let range = DmaRange { address: unmap.address, size, flags: DmaFlags::empty() };
        let (mut host, device) = self.host();
        device.dma_unmapping(&mut host, range);
        if all {
            self.connection.dma.clear();
        } else {
            let removed = self.connection.dma.unmap(unmap.address, unmap.size);
            let removed = removed.map_err(|error| error.errno())?;
            self.counters.empty_unmaps += u64::from(removed == 0);
        }
        reply(unmap.as_bytes())
    }

    fn device_info(&mut self, info: DeviceInfo) -> Result<Reply, Errno> {
        room(info.argsz, size_of::<DeviceInfo>())?;
        let mut flags = DeviceFlags::PCI;
        flags.set(DeviceFlags::RESET, self.config.resettable);
        reply(
            DeviceInfo {
                argsz: size_of::<DeviceInfo>() as u32,
                flags: flags.bits(),
                num_regions: self.config.regions.len() as u32,
                num_irqs: self.config.irqs.len() as u32,
            }
            .as_bytes(),
        )
    }

    fn region(&self, index: u32) -> Result<&Region, Errno> {
        self.config.regions.get(index as usize).ok_or(Errno::INVAL)
    }

    fn region_info(&mut self, info: RegionInfo) -> Result<Reply, Errno> {
        room(info.argsz, size_of::<RegionInfo>())?;
        let region = self.region(info.index)?;
        let mut answer = RegionInfo {
            argsz: size_of::<RegionInfo>() as u32,
            index: info.index,
            size: region.size,
            flags: (region.flags & (RegionFlags::READ | RegionFlags::WRITE)).bits(),
            ..RegionInfo::default()
        };
        let mut fds = SharedFds::new();
        let mut capability = Vec::new();
        // A client that takes no descriptors cannot map.
        let takes_fds = self.connection.peer.is_some_and(|peer| peer.msg_fds_max() > 0);
        if let Some(file) = region.mmap.as_ref().filter(|_| takes_fds) {
            answer.flags |= RegionFlags::MMAP.bits();
            answer.offset = file.offset;
            fds.push(file.fd.clone());
            if !file.areas.is_empty() {
                capability = emit_sparse_areas(&file.areas);
                answer.flags |= RegionFlags::CAPS.bits();
                answer.argsz += capability.len() as u32;
                answer.cap_offset = size_of::<RegionInfo>() as u32;
            }
        }
        // "In that case, the full payload is not included in the reply, but argsz indicates the needed size."
        if info.argsz < answer.argsz {
            capability.clear();
            answer.cap_offset = 0;
        }
        Ok(Reply { head: [answer.as_bytes(), &capability].concat(), fds })
    }

    fn region_io_fds(&mut self, info: RegionIoFds) -> Result<Reply, Errno> {
        room(info.argsz, size_of::<RegionIoFds>())?;
        self.region(info.index)?;
        // An optional optimization: no part of a region has a descriptor.
        let argsz = size_of::<RegionIoFds>() as u32;
        reply(RegionIoFds { argsz, flags: 0, index: info.index, count: 0 }.as_bytes())
    }

    fn irq_info(&mut self, info: IrqInfo) -> Result<Reply, Errno> {
        let argsz = size_of::<IrqInfo>();
        room(info.argsz, argsz)?;
        let kind = self.config.irqs.get(info.index as usize).ok_or(Errno::INVAL)?;
        let (flags, count) = (kind.flags.bits(), kind.count);
        reply(IrqInfo { argsz: argsz as u32, flags, index: info.index, count }.as_bytes())
    }

    fn set_irqs(
        &mut self,
        set: IrqSet,
        data: &[u8],
        fds: arrayvec::ArrayVec<std::os::fd::OwnedFd, MSG_FDS_MAX>,
    ) -> Result<Reply, Errno> {
        // The device may raise an interrupt when it hears of a change, so it hears of it afterwards.
        let mut changes: Vec<IrqChange> = Vec::new();
        self.connection
            .irqs
            .set(&set, data, fds.into_iter(), &mut |change| changes.push(change))?;
        let (mut host, device) = self.host();
        for change in changes {
            device.irqs_changed(&mut host, change);
        }
        reply(&[])
    }

    /// Checks an access against the region and the negotiated transfer size.
    fn check(&self, access: &RegionAccess, needs: RegionFlags) -> Result<(), Errno> {
        let region = self.region(access.region)?;
        let end = access.offset.checked_add(access.count.into()).ok_or(Errno::INVAL)?;
        if end > region.size || access.count > self.config.limits.data_xfer_bytes_max {
            return Err(Errno::INVAL);
        }
        if region.flags.contains(needs) { Ok(()) } else { Err(Errno::PERM) }
    }

    fn region_read(&mut self, access: RegionAccess, header: Header) -> Result<Reply, Errno> {
        self.check(&access, RegionFlags::READ)?;
        // A read has effects on some registers, but one without a reply is a mistake.
        if !header.wants_reply() {
            return Err(Errno::INVAL);
        }
        let start = size_of::<RegionAccess>();
        let mut head = vec![0; start + access.count as usize];
        head[..start].copy_from_slice(access.as_bytes());
        if access.count > 0 {
            let (mut host, device) = self.host();
            device.region_read(&mut host, access.region, access.offset, &mut head[start..])?;
        }
        Ok(Reply { head, fds: SharedFds::new() })
    }

    fn region_write(&mut self, access: RegionAccess, data: &[u8]) -> Result<Reply, Errno> {
        self.check(&access, RegionFlags::WRITE)?;
        if !data.is_empty() {
            let (mut host, device) = self.host();
            device.region_write(&mut host, access.region, access.offset, data)?;
        }
        reply(access.as_bytes())
    }

    fn region_write_multi(&mut self, writes: &[MultiWrite]) -> Result<Reply, Errno> {
        for write in writes {
            let data = write.data().ok_or(Errno::INVAL)?;
            let (region, offset, count) = (write.region(), write.offset(), data.len() as u32);
            self.region_write(RegionAccess { offset, region, count }, data)?;
        }
        reply(&(writes.len() as u64).to_ne_bytes())
    }

    fn reset(&mut self) -> Result<Reply, Errno> {
        if !self.config.resettable {
            return Err(Errno::NOTSUP);
        }
        let (mut host, device) = self.host();
        device.reset(&mut host)?;
        reply(&[])
    }
}
