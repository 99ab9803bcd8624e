//! From capabilities to who does what.

use tandem_device::{Caps, Gso, GsoKind, RxOffloads, TxOffloads};

/// Who does a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// The device.
    Hardware,
    /// This crate.
    Software,
    /// Nobody: policy says that it is not needed.
    NotNeeded,
}

/// What policy wants of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Choice {
    /// In hardware where the device can, else in software.
    #[default]
    Auto,
    /// In software even where the device could.
    Software,
    /// Not at all.
    Off,
}

impl Choice {
    fn resolve(self, hardware: bool) -> Who {
        match self {
            Self::Auto if hardware => Who::Hardware,
            Self::Auto | Self::Software => Who::Software,
            Self::Off => Who::NotNeeded,
        }
    }
}

/// What the operator wants, independent of any device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Transmit checksums. `Off` is for paths that cannot damage bytes: the peer must accept partial
    /// checksums (loopback, veth).
    pub tx_csum: Choice,
    /// TCP segmentation. `Off` asks the stack for single segments ([`Plan::gso_bytes_max`] is 0).
    pub tso: Choice,
    /// UDP segmentation, likewise.
    pub uso: Choice,
    /// Receive checksums. `Off` believes every frame.
    pub rx_csum: Choice,
    /// Coalescing of TCP. `Off` leaves out the software; a device that merges must be told by its
    /// driver not to.
    pub gro: Choice,
}

/// Transmit half of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxPlan {
    /// Transport checksums of single frames, and of segments cut in software.
    pub csum: Who,
    /// TCP over IPv4 super-segments.
    pub tso4: Who,
    /// TCP over IPv6 super-segments.
    pub tso6: Who,
    /// Super-segments whose first segment alone carries CWR.
    pub tso_ecn: Who,
    /// UDP super-segments.
    pub uso: Who,
    /// Super-segments whose segments share one IPv4 identification.
    pub fixed_id: Who,
    /// Insertion of 802.1Q tags.
    pub vlan: Who,
}

/// Receive half of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxPlan {
    /// Transport checksums. Where the device judges, what it left unjudged is still done here.
    pub csum: Who,
    /// Coalescing of TCP over IPv4.
    pub gro4: Who,
    /// Coalescing of TCP over IPv6.
    pub gro6: Who,
}

/// Who does what for one device as it stands. Made anew whenever its capabilities change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Transmit.
    pub tx: TxPlan,
    /// Receive.
    pub rx: RxPlan,
    policy: Policy,
    caps: Caps,
}

/// Longest super-segment that software cuts, in bytes with headers: IPv4's total length is 16 bits.
const SOFTWARE_GSO_BYTES_MAX: u32 = 65_535;

impl Plan {
    /// Resolves a policy on a device.
    pub fn new(caps: Caps, policy: Policy) -> Self {
        let tx_has = |offload| caps.tx.contains(offload);
        let rx_has = |offload| caps.rx.contains(offload);
        let csum = policy.tx_csum.resolve(tx_has(TxOffloads::CSUM));
        // virtio 1.3 section 5.1.3.1: HOST_TSO and HOST_USO require CSUM. A device that cuts must
        // also sum, so when software sums it cuts too.
        let can_cut = csum == Who::Hardware && caps.gso_bytes_max > 0 && caps.gso_segments_max > 1;
        let tso = |offload| policy.tso.resolve(can_cut && tx_has(offload));
        let rx_csum = policy.rx_csum.resolve(rx_has(RxOffloads::CSUM));
        // Likewise GUEST_TSO requires GUEST_CSUM.
        let gro = |offload| policy.gro.resolve(rx_csum == Who::Hardware && rx_has(offload));
        let vlan = if tx_has(TxOffloads::VLAN) { Who::Hardware } else { Who::Software };
        Self {
            tx: TxPlan {
                csum,
                tso4: tso(TxOffloads::TSO4),
                tso6: tso(TxOffloads::TSO6),
                tso_ecn: tso(TxOffloads::TSO_ECN),
                uso: policy.uso.resolve(can_cut && tx_has(TxOffloads::USO)),
                fixed_id: tso(TxOffloads::FIXED_ID),
                vlan,
            },
            rx: RxPlan { csum: rx_csum, gro4: gro(RxOffloads::GRO4), gro6: gro(RxOffloads::GRO6) },
            policy,
            caps,
        }
    }

    /// The same policy on changed capabilities.
    pub fn with_caps(&self, caps: Caps) -> Self {
        Self::new(caps, self.policy)
    }

    /// The capabilities that it was made from.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The policy that it was made from.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Longest super-segment that the stack should build, in bytes with all headers; 0 when it
    /// should build none. What is longer than the device takes is cut in software, so this is
    /// about cost, never about correctness.
    pub fn gso_bytes_max(&self, kind: GsoKind) -> u32 {
        match self.who_cuts(kind) {
            Who::Hardware => self.caps.gso_bytes_max.min(SOFTWARE_GSO_BYTES_MAX),
            Who::Software => SOFTWARE_GSO_BYTES_MAX,
            Who::NotNeeded => 0,
        }
    }

    fn who_cuts(&self, kind: GsoKind) -> Who {
        match kind {
            GsoKind::Tcp4 => self.tx.tso4,
            GsoKind::Tcp6 => self.tx.tso6,
            GsoKind::UdpL4 => self.tx.uso,
        }
    }

    /// Whether the device cuts this super-segment as it stands.
    pub(crate) fn device_cuts(&self, gso: &Gso, len: usize, segments: usize) -> bool {
        self.who_cuts(gso.kind) == Who::Hardware
            && (!gso.ecn || self.tx.tso_ecn == Who::Hardware)
            && (!gso.fixed_id || self.tx.fixed_id == Who::Hardware)
            && len <= self.caps.gso_bytes_max as usize
            && segments <= usize::from(self.caps.gso_segments_max)
    }
}
