//! Counters of a namespace on one shard. A namespace's totals are the sum over its shards.

use std::ops::AddAssign;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a received frame was not delivered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Name for tables and JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The interface is not up on this shard.
    InterfaceDown = "interface_down",
    /// A header is cut off, contradicts itself, or is longer than what is looked at.
    Malformed = "malformed",
    /// A station address that is not ours.
    NotOurStation = "not_our_station",
    /// An Ethernet type that is not served, or a VLAN tag.
    UnknownEtherType = "unknown_ether_type",
    /// An IP destination that is not ours (there is no forwarding yet).
    NotOurAddress = "not_our_address",
    /// A source that no packet may come from (RFC 1122 section 3.2.1.3; RFC 4291 section 2.5).
    BadSource = "bad_source",
    /// IPv4 header checksum.
    BadHeaderChecksum = "bad_header_checksum",
    /// Checksum of TCP, UDP, ICMP or ICMPv6.
    BadChecksum = "bad_checksum",
    /// A fragment; there is no reassembly yet.
    Fragment = "fragment",
    /// An IPv6 extension header or option that must not be passed over.
    BadExtension = "bad_extension",
    /// An IP protocol that is not served.
    UnknownProtocol = "unknown_protocol",
    /// ARP that is not about us, or contradicts itself.
    ArpIgnored = "arp_ignored",
    /// Neighbour discovery that RFC 4861 says to discard, or that is not served.
    NdpIgnored = "ndp_ignored",
    /// ICMP of a type that is not served, or an echo request to a broadcast or multicast address.
    IcmpIgnored = "icmp_ignored",
    /// An ICMP error or echo reply that belongs to no socket, or whose quoted sequence number is
    /// outside of what is in flight (RFC 5927 section 4.1).
    IcmpUnmatched = "icmp_unmatched",
    /// A datagram for a port without a socket.
    NoSocket = "no_socket",
    /// A datagram for a socket that is connected elsewhere or whose queue is full.
    SocketFull = "socket_full",
    /// A TCP segment without a connection or listener.
    NoConnection = "no_connection",
    /// A SYN beyond [`crate::limits::HALF_OPEN_MAX`] or the backlog, or for lack of room for sockets.
    SynRefused = "syn_refused",
    /// A segment that a connection in TIME-WAIT does not want.
    TimeWait = "time_wait",
    /// The mailbox of the frame's home shard is full.
    MailboxFull = "mailbox_full",
    /// The pool had no buffer for the answer.
    NoBuffers = "no_buffers",
}

const REASONS: usize = DropReason::ALL.len();

/// Counters; none ever decreases.
///
/// For each shard `rx_frames + mail_frames == delivered + handed_over + drops`: every frame that came
/// in is accounted for once, after `Shard::receive` or `Shard::turn` returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceStats {
    /// Frames received from devices and the loopback, coalesced ones counted once.
    pub rx_frames: u64,
    /// Frames that other shards handed over.
    pub mail_frames: u64,
    /// Of both, those that reached a socket or were answered by the stack.
    pub delivered: u64,
    /// Of both, those handed to their home shard.
    pub handed_over: u64,
    drops: [u64; REASONS],
    /// Frames built for devices and the loopback, super-segments counted once.
    pub tx_frames: u64,
    /// Frames dropped since the interface's queue was full ([`crate::limits::TX_QUEUE_MAX`]).
    pub tx_queue_full: u64,
    /// Packets dropped since no route, or no interface that is up, leads to their destination.
    pub tx_no_route: u64,
    /// Packets not built for lack of buffers.
    pub tx_no_buffers: u64,
    /// Packets dropped since too many waited for one neighbour
    /// ([`crate::limits::NEIGHBOUR_PENDING_MAX`]); the oldest goes.
    pub neighbour_pending_dropped: u64,
    /// Packets dropped since their neighbour did not answer.
    pub neighbour_unreachable: u64,
    /// Neighbours forgotten to make room ([`crate::limits::NEIGHBOURS_MAX`]).
    pub neighbours_evicted: u64,
    /// Neighbours not learnt since none could be forgotten.
    pub neighbours_refused: u64,
    /// ARP requests and neighbour solicitations sent.
    pub solicits_sent: u64,
    /// Announcements of our addresses after a device was replaced.
    pub announcements_sent: u64,
    /// ARP messages that claim an address of ours (RFC 5227 section 2.4), and neighbour
    /// advertisements that do; we keep the address.
    pub address_conflicts: u64,
    /// ICMP errors sent.
    pub icmp_errors_sent: u64,
    /// ICMP errors not sent because of the rate ([`crate::limits::ICMP_PER_SECOND`]).
    pub icmp_errors_limited: u64,
    /// Echo requests answered.
    pub echo_replies_sent: u64,
    /// TCP resets sent to segments without a connection.
    pub resets_sent: u64,
    /// Such resets not sent because of the rate.
    pub resets_limited: u64,
    /// SYNs refused ([`crate::limits::HALF_OPEN_MAX`]).
    pub syn_overflows: u64,
    /// Connections reset since the accept queue was full when their handshake ended.
    pub accept_overflows: u64,
    /// TIME-WAIT entries ended early ([`crate::limits::TIME_WAIT_MAX`]).
    pub time_wait_evicted: u64,
    /// Mail about neighbours that found a mailbox full; the neighbour will be asked again.
    pub mail_refused: u64,
    /// Connections opened actively and passively.
    pub tcp_opened: u64,
    /// Connections that ended.
    pub tcp_closed: u64,
}

impl Default for NamespaceStats {
    fn default() -> Self {
        Self {
            rx_frames: 0,
            mail_frames: 0,
            delivered: 0,
            handed_over: 0,
            drops: [0; REASONS],
            tx_frames: 0,
            tx_queue_full: 0,
            tx_no_route: 0,
            tx_no_buffers: 0,
            neighbour_pending_dropped: 0,
            neighbour_unreachable: 0,
            neighbours_evicted: 0,
            neighbours_refused: 0,
            solicits_sent: 0,
            announcements_sent: 0,
            address_conflicts: 0,
            icmp_errors_sent: 0,
            icmp_errors_limited: 0,
            echo_replies_sent: 0,
            resets_sent: 0,
            resets_limited: 0,
            syn_overflows: 0,
            accept_overflows: 0,
            time_wait_evicted: 0,
            mail_refused: 0,
            tcp_opened: 0,
            tcp_closed: 0,
        }
    }
}

impl NamespaceStats {
    /// Frames dropped for this reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Frames dropped for any reason.
    pub fn drops_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Reasons that occurred, with their counts.
    pub fn drop_reasons(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.drops(reason)))
            .filter(|&(_, count)| count > 0)
    }

    /// Whether every frame is accounted for.
    pub fn adds_up(&self) -> bool {
        self.rx_frames + self.mail_frames == self.delivered + self.handed_over + self.drops_total()
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}

impl AddAssign<&NamespaceStats> for NamespaceStats {
    fn add_assign(&mut self, other: &NamespaceStats) {
        for (sum, count) in self.drops.iter_mut().zip(other.drops) {
            *sum += count;
        }
        self.rx_frames += other.rx_frames;
        self.mail_frames += other.mail_frames;
        self.delivered += other.delivered;
        self.handed_over += other.handed_over;
        self.tx_frames += other.tx_frames;
        self.tx_queue_full += other.tx_queue_full;
        self.tx_no_route += other.tx_no_route;
        self.tx_no_buffers += other.tx_no_buffers;
        self.neighbour_pending_dropped += other.neighbour_pending_dropped;
        self.neighbour_unreachable += other.neighbour_unreachable;
        self.neighbours_evicted += other.neighbours_evicted;
        self.neighbours_refused += other.neighbours_refused;
        self.solicits_sent += other.solicits_sent;
        self.announcements_sent += other.announcements_sent;
        self.address_conflicts += other.address_conflicts;
        self.icmp_errors_sent += other.icmp_errors_sent;
        self.icmp_errors_limited += other.icmp_errors_limited;
        self.echo_replies_sent += other.echo_replies_sent;
        self.resets_sent += other.resets_sent;
        self.resets_limited += other.resets_limited;
        self.syn_overflows += other.syn_overflows;
        self.accept_overflows += other.accept_overflows;
        self.time_wait_evicted += other.time_wait_evicted;
        self.mail_refused += other.mail_refused;
        self.tcp_opened += other.tcp_opened;
        self.tcp_closed += other.tcp_closed;
    }
}
