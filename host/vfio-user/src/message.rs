//! The messages of the vfio-user protocol: fixed layouts, checked parsing, emission.
//!
//! Every message is a 16-byte [`Header`] followed by a body whose layout depends on the command. All fields
//! are in the byte order of the machine, as the protocol demands (both ends share one host). Parsing copies
//! the fixed parts out of the bytes and borrows the variable ones; no input makes it panic.
//!
//! Source: the vfio-user protocol specification 0.9.1, sections "Header" and "Commands".

mod capabilities;

pub use capabilities::{Capabilities, JSON_LEN_MAX};

use bitflags::bitflags;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a message header.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Protocol version that this crate speaks: major.
pub const VERSION_MAJOR: u16 = 0;
/// Protocol version that this crate speaks: highest minor. A peer with a lower minor is served as that.
pub const VERSION_MINOR: u16 = 1;

/// Largest number of writes in one `REGION_WRITE_MULTI`.
pub const MULTI_WRITES_MAX: usize = 256;

/// What a message asks for (section "Commands").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Command {
    /// Negotiates version and capabilities; the first message of a connection.
    Version = 1,
    /// Makes a range of the client's memory reachable.
    DmaMap = 2,
    /// Takes a range back.
    DmaUnmap = 3,
    /// Asks for the number of regions and interrupt types.
    DeviceGetInfo = 4,
    /// Asks for size and properties of a region.
    DeviceGetRegionInfo = 5,
    /// Asks for descriptors that stand for parts of a region (ioeventfd).
    DeviceGetRegionIoFds = 6,
    /// Asks for the properties of an interrupt type.
    DeviceGetIrqInfo = 7,
    /// Arms, disarms, masks, unmasks or triggers interrupts.
    DeviceSetIrqs = 8,
    /// Reads from a region.
    RegionRead = 9,
    /// Writes to a region.
    RegionWrite = 10,
    /// Server to client: reads the client's memory.
    DmaRead = 11,
    /// Server to client: writes the client's memory.
    DmaWrite = 12,
    /// Resets the device.
    DeviceReset = 13,
    /// Several small region writes in one message.
    RegionWriteMulti = 15,
}

impl Command {
    /// The command with this number, if the protocol has one.
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Version,
            2 => Self::DmaMap,
            3 => Self::DmaUnmap,
            4 => Self::DeviceGetInfo,
            5 => Self::DeviceGetRegionInfo,
            6 => Self::DeviceGetRegionIoFds,
            7 => Self::DeviceGetIrqInfo,
            8 => Self::DeviceSetIrqs,
            9 => Self::RegionRead,
            10 => Self::RegionWrite,
            11 => Self::DmaRead,
            12 => Self::DmaWrite,
            13 => Self::DeviceReset,
            15 => Self::RegionWriteMulti,
            _ => return None,
        })
    }
}

bitflags! {
    /// Flags of a header. Bits 0 to 3 are the message type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HeaderFlags: u32 {
        /// Type 1: a reply. Type 0 is a command.
        const REPLY = 1;
        /// A command that wants no reply.
        const NO_REPLY = 1 << 4;
        /// A reply that reports a failure; `error` holds the errno.
        const ERROR = 1 << 5;
        const _ = !0;
    }

    /// What the server may do with a DMA range.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct DmaFlags: u32 {
        /// The device may read from it.
        const READ = 1;
        /// The device may write to it.
        const WRITE = 1 << 1;
    }

    /// Flags of `DMA_UNMAP`, as in `<linux/vfio.h>`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct DmaUnmapFlags: u32 {
        /// Also return the dirty bitmap (migration; not supported here).
        const GET_DIRTY_BITMAP = 1;
        /// Unmap everything; address and size must be 0.
        const ALL = 1 << 1;
    }

    /// Flags of a device.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct DeviceFlags: u32 {
        /// `DEVICE_RESET` works.
        const RESET = 1;
        /// It is a PCI device.
        const PCI = 1 << 1;
        const _ = !0;
    }

    /// Flags of a region.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct RegionFlags: u32 {
        /// The client may read.
        const READ = 1;
        /// The client may write.
        const WRITE = 1 << 1;
        /// The client may map it through the descriptor that comes with the answer.
        const MMAP = 1 << 2;
        /// Capabilities follow.
        const CAPS = 1 << 3;
        const _ = !0;
    }

    /// Flags of an interrupt type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct IrqFlags: u32 {
        /// Signalled through eventfds.
        const EVENTFD = 1;
        /// Can be masked and unmasked by message.
        const MASKABLE = 1 << 1;
        /// Masks itself when it fires.
        const AUTOMASKED = 1 << 2;
        /// Armed as a set.
        const NORESIZE = 1 << 3;
        const _ = !0;
    }

    /// Flags of `DEVICE_SET_IRQS`: exactly one `DATA_` and one `ACTION_` flag.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct IrqSetFlags: u32 {
        /// No data: every interrupt of the range is meant.
        const DATA_NONE = 1;
        /// One byte per interrupt says whether it is meant.
        const DATA_BOOL = 1 << 1;
        /// One eventfd per interrupt comes with the message; none means: take them away.
        const DATA_EVENTFD = 1 << 2;
        /// Mask.
        const ACTION_MASK = 1 << 3;
        /// Unmask.
        const ACTION_UNMASK = 1 << 4;
        /// Trigger, or with eventfds: arm.
        const ACTION_TRIGGER = 1 << 5;
    }
}

/// Mask of the type bits within [`Header::flags`].
const TYPE_MASK: u32 = 0xf;

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    };
}

layout!(/// The head of every message (section "Header").
Header {
    /// Chosen by the sender of a command, echoed in its reply.
    id: u16,
    /// See [`Command`].
    command: u16,
    /// Bytes of the whole message, this header included.
    size: u32,
    /// See [`HeaderFlags`].
    flags: u32,
    /// In an error reply, an errno; 0 elsewhere.
    error: u32,
});

layout!(/// Head of `VERSION`, followed by JSON and a NUL.
Version {
    /// Major version; both ends must agree.
    major: u16,
    /// Minor version; the reply's is at most the command's.
    minor: u16,
});

layout!(/// Body of `DMA_MAP`.
DmaMap {
    /// Bytes of this structure.
    argsz: u32,
    /// See [`DmaFlags`].
    flags: u32,
    /// Offset in the file that comes with the message, 0 without one.
    offset: u64,
    /// First DMA address.
    address: u64,
    /// Bytes.
    size: u64,
});

layout!(/// Body of `DMA_UNMAP` and its reply.
DmaUnmap {
    /// Largest reply body that is wanted.
    argsz: u32,
    /// See [`DmaUnmapFlags`].
    flags: u32,
    /// First DMA address.
    address: u64,
    /// Bytes.
    size: u64,
});

layout!(/// Body of `DEVICE_GET_INFO` and its reply.
DeviceInfo {
    /// Command: largest reply body that is wanted. Reply: bytes of the reply body.
    argsz: u32,
    /// See [`DeviceFlags`].
    flags: u32,
    /// Number of regions.
    num_regions: u32,
    /// Number of interrupt types.
    num_irqs: u32,
});

layout!(/// Body of `DEVICE_GET_REGION_INFO`; capabilities may follow in the reply.
RegionInfo {
    /// Command: largest reply body that is wanted. Reply: bytes that the whole answer needs.
    argsz: u32,
    /// See [`RegionFlags`].
    flags: u32,
    /// Which region.
    index: u32,
    /// Where the first capability is, from the start of this structure; 0 for none.
    cap_offset: u32,
    /// Bytes of the region.
    size: u64,
    /// Offset for `mmap`.
    offset: u64,
});

layout!(/// Body of `DEVICE_GET_REGION_IO_FDS` and its reply.
RegionIoFds {
    /// As in [`RegionInfo`].
    argsz: u32,
    /// 0.
    flags: u32,
    /// Which region.
    index: u32,
    /// Number of sub-regions that follow.
    count: u32,
});

layout!(/// Body of `DEVICE_GET_IRQ_INFO` and its reply.
IrqInfo {
    /// As in [`DeviceInfo`].
    argsz: u32,
    /// See [`IrqFlags`].
    flags: u32,
    /// Which interrupt type.
    index: u32,
    /// How many interrupts of it there are.
    count: u32,
});

layout!(/// Body of `DEVICE_SET_IRQS`; booleans may follow.
IrqSet {
    /// Bytes of this structure and the data.
    argsz: u32,
    /// See [`IrqSetFlags`].
    flags: u32,
    /// Which interrupt type.
    index: u32,
    /// First interrupt of the range.
    start: u32,
    /// Number of interrupts.
    count: u32,
});

layout!(/// Head of `REGION_READ` and `REGION_WRITE`; data follow.
RegionAccess {
    /// Offset in the region.
    offset: u64,
    /// Which region.
    region: u32,
    /// Bytes.
    count: u32,
});

layout!(/// Head of `DMA_READ` and `DMA_WRITE`; data follow.
DmaAccess {
    /// First DMA address.
    address: u64,
    /// Bytes.
    count: u64,
});

layout!(/// Head of a capability in the answer to `DEVICE_GET_REGION_INFO`.
CapabilityHeader {
    /// Which capability; 1 is the list of mappable areas.
    id: u16,
    /// Its version.
    version: u16,
    /// Where the next one is, from the start of the region info; 0 for none.
    next: u32,
});

layout!(/// One mappable area of a region.
SparseArea {
    /// Offset in the region.
    offset: u64,
    /// Bytes.
    size: u64,
});

/// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`.
pub const CAP_SPARSE_MMAP: u16 = 1;

/// Largest number of mappable areas of one region that either end accepts.
pub const SPARSE_AREAS_MAX: usize = 64;

/// One write of `REGION_WRITE_MULTI`. It has no alignment, so that a body can be viewed as a slice of it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct MultiWrite {
    offset: [u8; 8],
    region: [u8; 4],
    count: [u8; 4],
    data: [u8; 8],
}

impl MultiWrite {
    /// A write of at most 8 bytes; `None` when `data` is longer.
    pub fn new(region: u32, offset: u64, data: &[u8]) -> Option<Self> {
        let mut bytes = [0; 8];
        bytes.get_mut(..data.len())?.copy_from_slice(data);
        Some(Self {
            offset: offset.to_ne_bytes(),
            region: region.to_ne_bytes(),
            count: (data.len() as u32).to_ne_bytes(),
            data: bytes,
        })
    }

    /// Offset in the region.
    pub fn offset(&self) -> u64 {
        u64::from_ne_bytes(self.offset)
    }

    /// Which region.
    pub fn region(&self) -> u32 {
        u32::from_ne_bytes(self.region)
    }

    /// What is written; `None` when the count is more than 8.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.get(..u32::from_ne_bytes(self.count) as usize)
    }
}

impl Header {
    /// Header of a command; [`emit`] fills in the size.
    pub fn command(id: u16, command: Command) -> Self {
        Self { id, command: command as u16, ..Self::default() }
    }

    /// Header of a command that wants no reply.
    pub fn posted(id: u16, command: Command) -> Self {
        Self { flags: HeaderFlags::NO_REPLY.bits(), ..Self::command(id, command) }
    }

    /// Header of the reply to this command.
    pub fn reply(&self) -> Self {
        Self {
            id: self.id,
            command: self.command,
            size: 0,
            flags: HeaderFlags::REPLY.bits(),
            error: 0,
        }
    }

    /// Header of an error reply to this command, with a UNIX errno.
    pub fn error_reply(&self, errno: i32) -> Self {
        let flags = (HeaderFlags::REPLY | HeaderFlags::ERROR).bits();
        Self { flags, error: errno.unsigned_abs(), size: HEADER_LEN as u32, ..self.reply() }
    }

    /// The flags.
    pub fn flag_bits(&self) -> HeaderFlags {
        HeaderFlags::from_bits_retain(self.flags)
    }

    /// Whether this is a command, a reply, or neither.
    pub fn kind(&self) -> Option<Kind> {
        match self.flags & TYPE_MASK {
            0 => Some(Kind::Command),
            1 => Some(Kind::Reply),
            _ => None,
        }
    }

    /// Whether a reply is wanted.
    pub fn wants_reply(&self) -> bool {
        !self.flag_bits().contains(HeaderFlags::NO_REPLY)
    }
}

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command.
    Command,
    /// A reply to an earlier command.
    Reply,
}

/// Appends a message to `out`; the header's size is computed from the parts.
///
/// # Panics
/// When the parts together exceed 4 GiB, which no caller's limits allow.
pub fn emit(out: &mut Vec<u8>, header: Header, parts: &[&[u8]]) {
    let size = HEADER_LEN + parts.iter().map(|part| part.len()).sum::<usize>();
    let header = Header { size: u32::try_from(size).expect("message below 4 GiB"), ..header };
    out.extend_from_slice(header.as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Why the body of a message is not what its command demands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The command number is not of this protocol.
    #[error("command {0} is unknown")]
    UnknownCommand(u16),
    /// The body is shorter or longer than the command's layout.
    #[error("{command:?}: body of {len} bytes does not fit the layout")]
    Length {
        /// The command.
        command: Command,
        /// Bytes of the body.
        len: usize,
    },
    /// The count that the body names is not the number of bytes it carries.
    #[error("{command:?}: names {count} bytes and carries {len}")]
    Count {
        /// The command.
        command: Command,
        /// What the body says.
        count: u64,
        /// What it has.
        len: usize,
    },
    /// The JSON of `VERSION` is not valid.
    #[error("version data: {0}")]
    Json(String),
    /// `REGION_WRITE_MULTI` with more than [`MULTI_WRITES_MAX`] writes or more than 8 bytes in one.
    #[error("region write multi: {0}")]
    Multi(&'static str),
}

/// A parsed command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each variant is the command of the same name
pub enum Request<'a> {
    Version { version: Version, capabilities: Capabilities },
    DmaMap(DmaMap),
    DmaUnmap(DmaUnmap),
    DeviceGetInfo(DeviceInfo),
    DeviceGetRegionInfo(RegionInfo),
    DeviceGetRegionIoFds(RegionIoFds),
    DeviceGetIrqInfo(IrqInfo),
    DeviceSetIrqs { set: IrqSet, data: &'a [u8] },
    RegionRead(RegionAccess),
    RegionWrite { access: RegionAccess, data: &'a [u8] },
    DmaRead(DmaAccess),
    DmaWrite { access: DmaAccess, data: &'a [u8] },
    DeviceReset,
    RegionWriteMulti(&'a [MultiWrite]),
}

impl<'a> Request<'a> {
    /// Parses the body of the command `number`.
    pub fn parse(number: u16, body: &'a [u8]) -> Result<Self, ParseError> {
        let command = Command::from_number(number).ok_or(ParseError::UnknownCommand(number))?;
        Ok(match command {
            Command::Version => {
                let (version, json) = head(command, body)?;
                Self::Version { version, capabilities: Capabilities::parse(json)? }
            }
            Command::DmaMap => Self::DmaMap(exact(command, body)?),
            // A dirty bitmap request may follow the fixed part; the flags say so and are judged by the server.
            Command::DmaUnmap => Self::DmaUnmap(head(command, body)?.0),
            Command::DeviceGetInfo => Self::DeviceGetInfo(exact(command, body)?),
            Command::DeviceGetRegionInfo => Self::DeviceGetRegionInfo(exact(command, body)?),
            Command::DeviceGetRegionIoFds => Self::DeviceGetRegionIoFds(exact(command, body)?),
            Command::DeviceGetIrqInfo => Self::DeviceGetIrqInfo(exact(command, body)?),
            Command::DeviceSetIrqs => {
                let (set, data) = head(command, body)?;
                Self::DeviceSetIrqs { set, data }
            }
            Command::RegionRead => Self::RegionRead(exact(command, body)?),
            Command::RegionWrite => {
                let (access, data) = head::<RegionAccess>(command, body)?;
                Self::RegionWrite { data: counted(command, access.count.into(), data)?, access }
            }
            Command::DmaRead => Self::DmaRead(exact(command, body)?),
            Command::DmaWrite => {
                let (access, data) = head::<DmaAccess>(command, body)?;
                Self::DmaWrite { data: counted(command, access.count, data)?, access }
            }
            Command::DeviceReset if body.is_empty() => Self::DeviceReset,
            Command::DeviceReset => return Err(ParseError::Length { command, len: body.len() }),
            Command::RegionWriteMulti => Self::RegionWriteMulti(multi_writes(body)?),
        })
    }

    /// The command of this request.
    pub fn command(&self) -> Command {
        match self {
            Self::Version { .. } => Command::Version,
            Self::DmaMap(_) => Command::DmaMap,
            Self::DmaUnmap(_) => Command::DmaUnmap,
            Self::DeviceGetInfo(_) => Command::DeviceGetInfo,
            Self::DeviceGetRegionInfo(_) => Command::DeviceGetRegionInfo,
            Self::DeviceGetRegionIoFds(_) => Command::DeviceGetRegionIoFds,
            Self::DeviceGetIrqInfo(_) => Command::DeviceGetIrqInfo,
            Self::DeviceSetIrqs { .. } => Command::DeviceSetIrqs,
            Self::RegionRead(_) => Command::RegionRead,
            Self::RegionWrite { .. } => Command::RegionWrite,
            Self::DmaRead(_) => Command::DmaRead,
            Self::DmaWrite { .. } => Command::DmaWrite,
            Self::DeviceReset => Command::DeviceReset,
            Self::RegionWriteMulti(_) => Command::RegionWriteMulti,
        }
    }

    /// Appends this request as a message to `out`.
    pub fn emit(&self, out: &mut Vec<u8>, header: Header) {
        match self {
            Self::Version { version, capabilities } => {
                emit(out, header, &[version.as_bytes(), &capabilities.emit()])
            }
            Self::DmaMap(body) => emit(out, header, &[body.as_bytes()]),
            Self::DmaUnmap(body) => emit(out, header, &[body.as_bytes()]),
            Self::DeviceGetInfo(body) => emit(out, header, &[body.as_bytes()]),
            Self::DeviceGetRegionInfo(body) => emit(out, header, &[body.as_bytes()]),
            Self::DeviceGetRegionIoFds(body) => emit(out, header, &[body.as_bytes()]),
            Self::DeviceGetIrqInfo(body) => emit(out, header, &[body.as_bytes()]),
            Self::DeviceSetIrqs { set, data } => emit(out, header, &[set.as_bytes(), data]),
            Self::RegionRead(body) => emit(out, header, &[body.as_bytes()]),
            Self::RegionWrite { access, data } => emit(out, header, &[access.as_bytes(), data]),
            Self::DmaRead(body) => emit(out, header, &[body.as_bytes()]),
            Self::DmaWrite { access, data } => emit(out, header, &[access.as_bytes(), data]),
            Self::DeviceReset => emit(out, header, &[]),
            Self::RegionWriteMulti(writes) => {
                emit(out, header, &[&(writes.len() as u64).to_ne_bytes(), writes.as_bytes()])
            }
        }
    }
}

/// A structure at the start of `body`, and what follows it.
pub(crate) fn head<T: FromBytes>(command: Command, body: &[u8]) -> Result<(T, &[u8]), ParseError> {
    T::read_from_prefix(body).map_err(|_| ParseError::Length { command, len: body.len() })
}

/// A structure that is all of `body`.
pub(crate) fn exact<T: FromBytes>(command: Command, body: &[u8]) -> Result<T, ParseError> {
    T::read_from_bytes(body).map_err(|_| ParseError::Length { command, len: body.len() })
}

fn counted(command: Command, count: u64, data: &[u8]) -> Result<&[u8], ParseError> {
    if count == data.len() as u64 {
        Ok(data)
    } else {
        Err(ParseError::Count { command, count, len: data.len() })
    }
}

fn multi_writes(body: &[u8]) -> Result<&[MultiWrite], ParseError> {
    let command = Command::RegionWriteMulti;
    let (count, writes) = head::<u64>(command, body)?;
    let writes = <[MultiWrite]>::ref_from_bytes(writes)
        .map_err(|_| ParseError::Length { command, len: body.len() })?;
    if count != writes.len() as u64 {
        return Err(ParseError::Count { command, count, len: writes.len() });
    }
    if writes.len() > MULTI_WRITES_MAX {
        return Err(ParseError::Multi("too many writes"));
    }
    if writes.iter().any(|write| write.data().is_none()) {
        return Err(ParseError::Multi("a write of more than 8 bytes"));
    }
    Ok(writes)
}

/// The mappable areas in the body of a `DEVICE_GET_REGION_INFO` reply; `None` when it has no such capability.
///
/// A list that points outside of the body, backwards, or has more than [`SPARSE_AREAS_MAX`] areas is an error.
pub fn parse_sparse_areas(body: &[u8]) -> Result<Option<Vec<SparseArea>>, ParseError> {
    let command = Command::DeviceGetRegionInfo;
    let broken = || ParseError::Length { command, len: body.len() };
    let (info, _) = head::<RegionInfo>(command, body)?;
    if !RegionFlags::from_bits_retain(info.flags).contains(RegionFlags::CAPS) {
        return Ok(None);
    }
    let (mut at, mut lowest) = (info.cap_offset as usize, size_of::<RegionInfo>());
    while at != 0 {
        // Each capability must lie behind the last: that is what ends the walk on hostile input.
        let bytes = body.get(at..).filter(|_| at >= lowest).ok_or_else(broken)?;
        let (capability, rest) = head::<CapabilityHeader>(command, bytes)?;
        if capability.id == CAP_SPARSE_MMAP {
            let (count, mut rest) = head::<[u32; 2]>(command, rest)?;
            let count = count[0] as usize;
            if count > SPARSE_AREAS_MAX {
                return Err(broken());
            }
            let mut areas = Vec::with_capacity(count);
            for _ in 0..count {
                let (area, next) = head::<SparseArea>(command, rest)?;
                areas.push(area);
                rest = next;
            }
            return Ok(Some(areas));
        }
        lowest = at + size_of::<CapabilityHeader>();
        at = capability.next as usize;
    }
    Ok(None)
}

/// The capability that lists the mappable areas, as it follows a [`RegionInfo`].
pub fn emit_sparse_areas(areas: &[SparseArea]) -> Vec<u8> {
    let capability = CapabilityHeader { id: CAP_SPARSE_MMAP, version: 1, next: 0 };
    let mut bytes = capability.as_bytes().to_vec();
    bytes.extend_from_slice([areas.len() as u32, 0].as_bytes());
    bytes.extend_from_slice(areas.as_bytes());
    bytes
}

#[cfg(test)]
mod tests;
