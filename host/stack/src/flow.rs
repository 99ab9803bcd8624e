//! Keys of the demultiplexing tables, and which shard a flow lives on.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use tandem_device::FrameMeta;
use tandem_packet::FourTuple;

/// A flow as this end sees it: local and remote address and port. IPv4 addresses are IPv4-mapped, so
/// that both families compare and hash as plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowKey {
    local: u128,
    remote: u128,
    ports: u32,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => 0xffff_0000_0000 | u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FlowKey {
    /// The flow that a received packet of `tuple` belongs to.
    pub(crate) fn received(tuple: &FourTuple) -> Self {
        Self {
            local: number(tuple.dst),
            remote: number(tuple.src),
            ports: u32::from(tuple.dst_port) << 16 | u32::from(tuple.src_port),
        }
    }

    /// The flow whose packets this end sends as `tuple`.
    pub(crate) fn sent(tuple: &FourTuple) -> Self {
        Self::received(&tuple.reversed())
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.local);
        state.write_u128(self.remote);
        state.write_u32(self.ports);
    }
}

/// Entries of the indirection table; hash bits beyond are not looked at.
const INDIRECTION: u32 = 128;

/// Microsoft's key, which NICs and Linux use by default (virtio 1.3, 5.1.6.5.6.4; same as the
/// verification suite of RSS).
const TOEPLITZ_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The Toeplitz hash of a packet as RSS computes it: source, destination, source port, destination
/// port.
pub(crate) fn toeplitz(tuple: &FourTuple) -> u32 {
    let mut input = [0; 36];
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        input[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    for address in [tuple.src, tuple.dst] {
        match address {
            IpAddr::V4(address) => put(&address.octets()),
            IpAddr::V6(address) => put(&address.octets()),
        }
    }
    put(&tuple.src_port.to_be_bytes());
    put(&tuple.dst_port.to_be_bytes());
    let mut window = u64::from_be_bytes(TOEPLITZ_KEY[..8].try_into().expect("8 bytes"));
    let mut hash = 0u32;
    for (at, byte) in input[..len].iter().enumerate() {
        for bit in 0..8 {
            if byte & 0x80 >> bit != 0 {
                hash ^= (window << bit >> 32) as u32;
            }
        }
        let next = TOEPLITZ_KEY.get(at + 8).copied().unwrap_or(0);
        window = window << 8 | u64::from(next);
    }
    hash
}

/// Home shard of the flow of a received packet. The device's hash is taken when it covers ports; it
/// must come from the default key, as our drivers set it.
pub(crate) fn home(tuple: &FourTuple, meta: Option<&FrameMeta>, shards: u16) -> u16 {
    if shards <= 1 {
        return 0;
    }
    let hash = match meta.and_then(|meta| meta.hash) {
        Some(hash) if hash.l4 => hash.value,
        _ => toeplitz(tuple),
    };
    ((hash % INDIRECTION) % u32::from(shards)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of Microsoft's RSS verification suite.
    #[test]
    fn toeplitz_is_what_rss_computes() {
        for (src, dst, hash) in [
            ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178),
            ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea),
            ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a),
            ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x4020_7d3d),
        ] {
            let src: std::net::SocketAddr = src.parse().unwrap();
            let dst: std::net::SocketAddr = dst.parse().unwrap();
            let tuple = FourTuple {
                src: src.ip(),
                dst: dst.ip(),
                src_port: src.port(),
                dst_port: dst.port(),
            };
            assert_eq!(toeplitz(&tuple), hash, "{tuple}");
        }
    }
}
