//! Neighbour discovery for IPv6 (RFC 4861): messages and options, over an [`Icmpv6View`].
//!
//! What RFC 4861 asks of the packet around a message (hop limit 255, code 0, valid checksum, which
//! source and destination) needs the IPv6 header and is the receiver's to check.

use core::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::address::MacAddr;
use crate::error::{ParseError, Protocol, Result, fixed, split};
use crate::icmpv6::{ICMPV6_HEADER_LEN, Icmpv6Header, Icmpv6View, kind};

/// Most prefixes that are kept of one router advertisement; more are counted, not kept.
pub const NDP_PREFIXES_MAX: usize = 4;
/// Most options that are walked in one message; more is an error.
pub const NDP_OPTIONS_MAX: usize = 32;

/// Option types (IANA ICMPv6 parameters).
pub mod option {
    /// Source link-layer address.
    pub const SOURCE_LINK_ADDRESS: u8 = 1;
    /// Target link-layer address.
    pub const TARGET_LINK_ADDRESS: u8 = 2;
    /// Prefix information.
    pub const PREFIX_INFORMATION: u8 = 3;
    /// Redirected header.
    pub const REDIRECTED_HEADER: u8 = 4;
    /// MTU.
    pub const MTU: u8 = 5;
}

/// Prefix information (RFC 4861 section 4.6.2), without type and length.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PrefixBody {
    prefix_len: u8,
    flags: u8,
    valid_lifetime: U32,
    preferred_lifetime: U32,
    reserved: U32,
    prefix: [u8; 16],
}

/// The body of a router advertisement behind the ICMPv6 header (RFC 4861 section 4.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AdvertBody {
    reachable_time: U32,
    retrans_timer: U32,
}

const ROUTER_MANAGED: u8 = 0x80;
const ROUTER_OTHER: u8 = 0x40;
const NEIGHBOR_ROUTER: u8 = 0x80;
const NEIGHBOR_SOLICITED: u8 = 0x40;
const NEIGHBOR_OVERRIDE: u8 = 0x20;
const PREFIX_ON_LINK: u8 = 0x80;
const PREFIX_AUTONOMOUS: u8 = 0x40;

/// What a router tells about one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix; bits beyond its length are to be ignored.
    pub prefix: Ipv6Addr,
    /// Valid bits, 0 to 128.
    pub prefix_len: u8,
    /// Addresses in it are on this link.
    pub on_link: bool,
    /// Addresses may be formed from it (RFC 4862).
    pub autonomous: bool,
    /// Valid lifetime; `u32::MAX` is for ever.
    pub valid_lifetime_s: u32,
    /// Preferred lifetime; `u32::MAX` is for ever.
    pub preferred_lifetime_s: u32,
}

/// One option as it stands in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdpOption<'a> {
    /// The sender's link-layer address.
    SourceLinkAddress(MacAddr),
    /// The target's link-layer address.
    TargetLinkAddress(MacAddr),
    /// A prefix.
    Prefix(PrefixInformation),
    /// The start of the packet that was redirected.
    RedirectedHeader(&'a [u8]),
    /// The link's MTU, bytes.
    Mtu(u32),
    /// Any other type, or a known type with a length that it cannot have.
    Unknown {
        /// The type.
        kind: u8,
        /// What follows type and length.
        data: &'a [u8],
    },
}

/// Walks the options of one message; ends after one error.
#[derive(Debug, Clone)]
pub struct NdpOptionIter<'a> {
    rest: &'a [u8],
    seen: usize,
}

impl<'a> NdpOptionIter<'a> {
    /// Walks these bytes.
    pub fn new(options: &'a [u8]) -> Self {
        Self { rest: options, seen: 0 }
    }

    fn step(&mut self) -> Result<NdpOption<'a>> {
        if self.seen == NDP_OPTIONS_MAX {
            let limit = NDP_OPTIONS_MAX as u32;
            return Err(ParseError::TooMany { protocol: Protocol::Ndp, field: "options", limit });
        }
        self.seen += 1;
        let (&[kind, len], _) = fixed::<[u8; 2]>(Protocol::Ndp, "option", self.rest)?;
        // RFC 4861 section 4.6: a packet with an option of length zero must be discarded.
        if len == 0 {
            return Err(ParseError::invalid(Protocol::Ndp, "option length", 0));
        }
        let (option, rest) = split(Protocol::Ndp, "option", self.rest, usize::from(len) * 8)?;
        self.rest = rest;
        Ok(decode(kind, &option[2..]))
    }
}

impl<'a> Iterator for NdpOptionIter<'a> {
    type Item = Result<NdpOption<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.step();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

fn decode(kind: u8, data: &[u8]) -> NdpOption<'_> {
    let mac = || MacAddr::read_from_bytes(data).ok();
    let known = match kind {
        option::SOURCE_LINK_ADDRESS => mac().map(NdpOption::SourceLinkAddress),
        option::TARGET_LINK_ADDRESS => mac().map(NdpOption::TargetLinkAddress),
        option::PREFIX_INFORMATION => PrefixBody::ref_from_bytes(data)
            .ok()
            .filter(|body| body.prefix_len <= 128)
            .map(|body| {
                NdpOption::Prefix(PrefixInformation {
                    prefix: body.prefix.into(),
                    prefix_len: body.prefix_len,
                    on_link: body.flags & PREFIX_ON_LINK != 0,
                    autonomous: body.flags & PREFIX_AUTONOMOUS != 0,
                    valid_lifetime_s: body.valid_lifetime.get(),
                    preferred_lifetime_s: body.preferred_lifetime.get(),
                })
            }),
        // Six reserved bytes lead the quoted packet.
        option::REDIRECTED_HEADER => data.get(6..).map(NdpOption::RedirectedHeader),
        option::MTU if data.len() == 6 => {
            Some(NdpOption::Mtu(u32::from_be_bytes([data[2], data[3], data[4], data[5]])))
        }
        _ => None,
    };
    known.unwrap_or(NdpOption::Unknown { kind, data })
}

/// The options of one message as plain data. The first of a repeated option counts; unknown
/// options and redirected headers are not kept (RFC 4861 section 4.6: ignore silently).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NdpOptions {
    /// Source link-layer address.
    pub source_link_address: Option<MacAddr>,
    /// Target link-layer address.
    pub target_link_address: Option<MacAddr>,
    /// The link's MTU, bytes.
    pub mtu: Option<u32>,
    prefixes: [Option<PrefixInformation>; NDP_PREFIXES_MAX],
    /// Prefixes that were refused because [`NDP_PREFIXES_MAX`] were there.
    pub prefixes_refused: u8,
}

impl NdpOptions {
    /// Reads options.
    ///
    /// # Errors
    /// When an option has length zero or is cut off, or there are more than [`NDP_OPTIONS_MAX`]:
    /// the message must be discarded.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut options = Self::default();
        for option in NdpOptionIter::new(bytes) {
            match option? {
                NdpOption::SourceLinkAddress(mac) => {
                    options.source_link_address.get_or_insert(mac);
                }
                NdpOption::TargetLinkAddress(mac) => {
                    options.target_link_address.get_or_insert(mac);
                }
                NdpOption::Mtu(mtu) => _ = options.mtu.get_or_insert(mtu),
                NdpOption::Prefix(prefix) => _ = options.push_prefix(prefix),
                NdpOption::RedirectedHeader(_) | NdpOption::Unknown { .. } => {}
            }
        }
        Ok(options)
    }

    /// The prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = &PrefixInformation> {
        self.prefixes.iter().flatten()
    }

    /// Adds a prefix; false, counted in `prefixes_refused`, when [`NDP_PREFIXES_MAX`] are there.
    pub fn push_prefix(&mut self, prefix: PrefixInformation) -> bool {
        match self.prefixes.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(prefix);
                true
            }
            None => {
                // At most NDP_OPTIONS_MAX options per message come here.
                self.prefixes_refused = self.prefixes_refused.saturating_add(1);
                false
            }
        }
    }

    /// Bytes that `emit` writes.
    pub fn emitted_len(&self) -> usize {
        let words = usize::from(self.source_link_address.is_some())
            + usize::from(self.target_link_address.is_some())
            + usize::from(self.mtu.is_some())
            + 4 * self.prefixes().count();
        words * 8
    }

    fn emit(&self, out: &mut [u8]) {
        let mut at = 0;
        let mut put = |kind: u8, data: &[u8]| {
            let len = 2 + data.len();
            out[at] = kind;
            out[at + 1] = (len / 8) as u8;
            out[at + 2..at + len].copy_from_slice(data);
            at += len;
        };
        if let Some(mac) = self.source_link_address {
            put(option::SOURCE_LINK_ADDRESS, &mac.0);
        }
        if let Some(mac) = self.target_link_address {
            put(option::TARGET_LINK_ADDRESS, &mac.0);
        }
        if let Some(mtu) = self.mtu {
            let mut data = [0; 6];
            data[2..].copy_from_slice(&mtu.to_be_bytes());
            put(option::MTU, &data);
        }
        for prefix in self.prefixes() {
            let body = PrefixBody {
                prefix_len: prefix.prefix_len,
                flags: if prefix.on_link { PREFIX_ON_LINK } else { 0 }
                    | if prefix.autonomous { PREFIX_AUTONOMOUS } else { 0 },
                valid_lifetime: prefix.valid_lifetime_s.into(),
                preferred_lifetime: prefix.preferred_lifetime_s.into(),
                reserved: 0.into(),
                prefix: prefix.prefix.octets(),
            };
            put(option::PREFIX_INFORMATION, body.as_bytes());
        }
    }
}

/// What a neighbour discovery message means, ICMPv6 header and options included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdpRepr {
    /// Router solicitation (section 4.1).
    RouterSolicit {
        /// Options.
        options: NdpOptions,
    },
    /// Router advertisement (section 4.2).
    RouterAdvert {
        /// Hop limit to use; 0 says nothing.
        hop_limit: u8,
        /// M: addresses come from DHCPv6.
        managed: bool,
        /// O: other configuration comes from DHCPv6.
        other_config: bool,
        /// How long the sender is a default router; 0 means it is none.
        router_lifetime_s: u16,
        /// Reachable time; 0 says nothing.
        reachable_time_ms: u32,
        /// Retransmission timer; 0 says nothing.
        retrans_timer_ms: u32,
        /// Options.
        options: NdpOptions,
    },
    /// Neighbour solicitation (section 4.3).
    NeighborSolicit {
        /// Whose link-layer address is asked for.
        target: Ipv6Addr,
        /// Options.
        options: NdpOptions,
    },
    /// Neighbour advertisement (section 4.4).
    NeighborAdvert {
        /// R: the sender is a router.
        router: bool,
        /// S: sent because of a solicitation.
        solicited: bool,
        /// O: replaces an existing cache entry.
        override_cache: bool,
        /// Whose link-layer address is told.
        target: Ipv6Addr,
        /// Options.
        options: NdpOptions,
    },
    /// Redirect (section 4.5).
    Redirect {
        /// The better first hop.
        target: Ipv6Addr,
        /// What is redirected.
        destination: Ipv6Addr,
        /// Options.
        options: NdpOptions,
    },
}

impl NdpRepr {
    /// Reads a message.
    ///
    /// # Errors
    /// When the type is not one of this enum's, the code is not 0, or the body or an option is cut
    /// off or has length zero.
    pub fn parse(view: &Icmpv6View<'_>) -> Result<Self> {
        const P: Protocol = Protocol::Ndp;
        let Icmpv6Header { kind, code, rest, .. } = *view.header();
        if !view.is_ndp() {
            return Err(ParseError::invalid(P, "type", kind.into()));
        }
        // RFC 4861 section 6.1 and 7.1: "ICMP Code is 0".
        if code != 0 {
            return Err(ParseError::invalid(P, "code", code.into()));
        }
        let body = view.payload();
        let address = |bytes| {
            fixed::<[u8; 16]>(P, "address", bytes)
                .map(|(octets, rest)| (Ipv6Addr::from(*octets), rest))
        };
        Ok(match kind {
            kind::ROUTER_SOLICIT => Self::RouterSolicit { options: NdpOptions::parse(body)? },
            kind::ROUTER_ADVERT => {
                let (timers, options) = fixed::<AdvertBody>(P, "timers", body)?;
                Self::RouterAdvert {
                    hop_limit: rest[0],
                    managed: rest[1] & ROUTER_MANAGED != 0,
                    other_config: rest[1] & ROUTER_OTHER != 0,
                    router_lifetime_s: u16::from_be_bytes([rest[2], rest[3]]),
                    reachable_time_ms: timers.reachable_time.get(),
                    retrans_timer_ms: timers.retrans_timer.get(),
                    options: NdpOptions::parse(options)?,
                }
            }
            kind::NEIGHBOR_SOLICIT => {
                let (target, options) = address(body)?;
                Self::NeighborSolicit { target, options: NdpOptions::parse(options)? }
            }
            kind::NEIGHBOR_ADVERT => {
                let (target, options) = address(body)?;
                Self::NeighborAdvert {
                    router: rest[0] & NEIGHBOR_ROUTER != 0,
                    solicited: rest[0] & NEIGHBOR_SOLICITED != 0,
                    override_cache: rest[0] & NEIGHBOR_OVERRIDE != 0,
                    target,
                    options: NdpOptions::parse(options)?,
                }
            }
            _ => {
                let (target, body) = address(body)?;
                let (destination, options) = address(body)?;
                Self::Redirect { target, destination, options: NdpOptions::parse(options)? }
            }
        })
    }

    /// The message's options.
    pub fn options(&self) -> &NdpOptions {
        match self {
            Self::RouterSolicit { options }
            | Self::RouterAdvert { options, .. }
            | Self::NeighborSolicit { options, .. }
            | Self::NeighborAdvert { options, .. }
            | Self::Redirect { options, .. } => options,
        }
    }

    fn body_len(&self) -> usize {
        match self {
            Self::RouterSolicit { .. } => 0,
            Self::RouterAdvert { .. } => size_of::<AdvertBody>(),
            Self::NeighborSolicit { .. } | Self::NeighborAdvert { .. } => 16,
            Self::Redirect { .. } => 32,
        }
    }

    /// Bytes that `emit` writes: the whole message.
    pub fn header_len(&self) -> usize {
        ICMPV6_HEADER_LEN + self.body_len() + self.options().emitted_len()
    }

    /// Writes the message with a checksum of zero.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::header_len`].
    pub fn emit(&self, out: &mut [u8]) {
        let mut rest = [0; 4];
        let body = &mut out[ICMPV6_HEADER_LEN..];
        let kind = match *self {
            Self::RouterSolicit { .. } => kind::ROUTER_SOLICIT,
            Self::RouterAdvert {
                hop_limit,
                managed,
                other_config,
                router_lifetime_s,
                reachable_time_ms,
                retrans_timer_ms,
                ..
            } => {
                rest[0] = hop_limit;
                rest[1] = if managed { ROUTER_MANAGED } else { 0 }
                    | if other_config { ROUTER_OTHER } else { 0 };
                rest[2..].copy_from_slice(&router_lifetime_s.to_be_bytes());
                let timers = AdvertBody {
                    reachable_time: reachable_time_ms.into(),
                    retrans_timer: retrans_timer_ms.into(),
                };
                body[..size_of::<AdvertBody>()].copy_from_slice(timers.as_bytes());
                kind::ROUTER_ADVERT
            }
            Self::NeighborSolicit { target, .. } => {
                body[..16].copy_from_slice(&target.octets());
                kind::NEIGHBOR_SOLICIT
            }
            Self::NeighborAdvert { router, solicited, override_cache, target, .. } => {
                rest[0] = if router { NEIGHBOR_ROUTER } else { 0 }
                    | if solicited { NEIGHBOR_SOLICITED } else { 0 }
                    | if override_cache { NEIGHBOR_OVERRIDE } else { 0 };
                body[..16].copy_from_slice(&target.octets());
                kind::NEIGHBOR_ADVERT
            }
            Self::Redirect { target, destination, .. } => {
                body[..16].copy_from_slice(&target.octets());
                body[16..32].copy_from_slice(&destination.octets());
                kind::REDIRECT
            }
        };
        self.options().emit(&mut body[self.body_len()..]);
        let header = Icmpv6Header { kind, code: 0, checksum: U16::ZERO, rest };
        out[..ICMPV6_HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}

/// The solicited-node multicast address of an address (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}
