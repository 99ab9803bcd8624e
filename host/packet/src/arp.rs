//! Address resolution for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::address::MacAddr;
use crate::error::{ParseError, Protocol, Result, fixed};
use crate::number::EtherType;

/// Bytes of a message for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;

/// What a message asks or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has it.
    Reply,
}

/// A message for IPv4 over Ethernet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ArpHeader {
    /// Hardware type, 1.
    pub hardware: U16,
    /// Protocol type, 0x0800.
    pub protocol: U16,
    /// Bytes of a hardware address, 6.
    pub hardware_len: u8,
    /// Bytes of a protocol address, 4.
    pub protocol_len: u8,
    /// 1 request, 2 reply.
    pub operation: U16,
    /// Sender's hardware address.
    pub sender_mac: MacAddr,
    /// Sender's protocol address.
    pub sender_ip: [u8; 4],
    /// Target's hardware address.
    pub target_mac: MacAddr,
    /// Target's protocol address.
    pub target_ip: [u8; 4],
}

/// A checked ARP message for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy)]
pub struct ArpView<'a> {
    header: &'a ArpHeader,
}

impl<'a> ArpView<'a> {
    /// Checks the types and lengths. The operation is left to [`ArpRepr::parse`].
    ///
    /// # Errors
    /// When the message is cut off or is not for IPv4 over Ethernet.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (header, _) = fixed::<ArpHeader>(Protocol::Arp, "message", bytes)?;
        let checks = [
            ("hardware type", header.hardware.get(), HARDWARE_ETHERNET),
            ("protocol type", header.protocol.get(), EtherType::IPV4.0),
            ("hardware address length", header.hardware_len.into(), 6),
            ("protocol address length", header.protocol_len.into(), 4),
        ];
        for (field, value, expected) in checks {
            if value != expected {
                return Err(ParseError::invalid(Protocol::Arp, field, value.into()));
            }
        }
        Ok(Self { header })
    }

    /// The message.
    pub fn header(&self) -> &'a ArpHeader {
        self.header
    }
}

/// What an ARP message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpRepr {
    /// Request or reply.
    pub operation: ArpOperation,
    /// Sender's hardware address.
    pub sender_mac: MacAddr,
    /// Sender's protocol address; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Target's hardware address; ignored in a request.
    pub target_mac: MacAddr,
    /// Target's protocol address.
    pub target_ip: Ipv4Addr,
}

impl ArpRepr {
    /// Reads a message.
    ///
    /// # Errors
    /// When the operation is neither request nor reply.
    pub fn parse(view: &ArpView<'_>) -> Result<Self> {
        let header = view.header;
        let operation = match header.operation.get() {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            other => return Err(ParseError::invalid(Protocol::Arp, "operation", other.into())),
        };
        Ok(Self {
            operation,
            sender_mac: header.sender_mac,
            sender_ip: header.sender_ip.into(),
            target_mac: header.target_mac,
            target_ip: header.target_ip.into(),
        })
    }

    /// Bytes that `emit` writes: 28.
    pub fn header_len(&self) -> usize {
        ARP_LEN
    }

    /// Writes the message.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`].
    pub fn emit(&self, out: &mut [u8]) {
        let operation: u16 = match self.operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
        };
        let header = ArpHeader {
            hardware: HARDWARE_ETHERNET.into(),
            protocol: EtherType::IPV4.0.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: operation.into(),
            sender_mac: self.sender_mac,
            sender_ip: self.sender_ip.octets(),
            target_mac: self.target_mac,
            target_ip: self.target_ip.octets(),
        };
        out[..ARP_LEN].copy_from_slice(header.as_bytes());
    }
}
