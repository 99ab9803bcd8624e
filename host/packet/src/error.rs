//! Why bytes were refused: the protocol, the field, and what was wrong with it.

use core::fmt;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A format of this crate, as named in a [`ParseError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the name of its protocol")]
pub enum Protocol {
    Ethernet,
    Vlan,
    Arp,
    Ipv4,
    Icmpv4,
    Ipv6,
    Ipv6Extension,
    Icmpv6,
    Ndp,
    Udp,
    Tcp,
    VirtioNetHeader,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "Ethernet",
            Self::Vlan => "802.1Q",
            Self::Arp => "ARP",
            Self::Ipv4 => "IPv4",
            Self::Icmpv4 => "ICMPv4",
            Self::Ipv6 => "IPv6",
            Self::Ipv6Extension => "IPv6 extension header",
            Self::Icmpv6 => "ICMPv6",
            Self::Ndp => "NDP",
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::VirtioNetHeader => "virtio_net_hdr",
        })
    }
}

/// Why bytes are not what a view or a `Repr` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes end before the field does.
    #[error("{protocol}: {field} needs {need_bytes} bytes, {have_bytes} are there")]
    Truncated {
        /// The format that was being read.
        protocol: Protocol,
        /// The part of it that does not fit.
        field: &'static str,
        /// Bytes that the field asks for.
        need_bytes: u32,
        /// Bytes that were left.
        have_bytes: u32,
    },
    /// The field holds a value that the format forbids or this crate does not know.
    #[error("{protocol}: {field} has the invalid value {value:#x}")]
    Invalid {
        /// The format that was being read.
        protocol: Protocol,
        /// The field at fault.
        field: &'static str,
        /// What it held.
        value: u32,
    },
    /// More items than a named limit of this crate.
    #[error("{protocol}: more than {limit} {field}")]
    TooMany {
        /// The format that was being read.
        protocol: Protocol,
        /// What there was too much of.
        field: &'static str,
        /// The limit.
        limit: u32,
    },
}

impl ParseError {
    /// The format that was being read.
    pub fn protocol(&self) -> Protocol {
        match *self {
            Self::Truncated { protocol, .. }
            | Self::Invalid { protocol, .. }
            | Self::TooMany { protocol, .. } => protocol,
        }
    }

    /// The field at fault.
    pub fn field(&self) -> &'static str {
        match *self {
            Self::Truncated { field, .. }
            | Self::Invalid { field, .. }
            | Self::TooMany { field, .. } => field,
        }
    }

    #[cold]
    pub(crate) fn truncated(
        protocol: Protocol,
        field: &'static str,
        need: usize,
        have: usize,
    ) -> Self {
        // Lengths come from 16-bit fields or from a caller's buffer; saturate what is beyond 4 GiB.
        let cap = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self::Truncated { protocol, field, need_bytes: cap(need), have_bytes: cap(have) }
    }

    #[cold]
    pub(crate) fn invalid(protocol: Protocol, field: &'static str, value: u32) -> Self {
        Self::Invalid { protocol, field, value }
    }
}

/// What parsing returns.
pub type Result<T> = core::result::Result<T, ParseError>;

/// Splits a fixed header off the front of `bytes`.
#[inline]
pub(crate) fn fixed<'a, T>(
    protocol: Protocol,
    field: &'static str,
    bytes: &'a [u8],
) -> Result<(&'a T, &'a [u8])>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    T::ref_from_prefix(bytes)
        .map_err(|_| ParseError::truncated(protocol, field, size_of::<T>(), bytes.len()))
}

/// Splits `len` bytes off the front of `bytes`.
#[inline]
pub(crate) fn split<'a>(
    protocol: Protocol,
    field: &'static str,
    bytes: &'a [u8],
    len: usize,
) -> Result<(&'a [u8], &'a [u8])> {
    bytes
        .split_at_checked(len)
        .ok_or_else(|| ParseError::truncated(protocol, field, len, bytes.len()))
}
