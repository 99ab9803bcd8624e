//! Numbers that peers must not guess, all from keys that the caller injected.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;
use tandem_packet::FourTuple;

use crate::time::Instant;

/// A stream of numbers: SipHash of a counter. The same seed gives the same run.
#[derive(Debug)]
pub(crate) struct Random {
    key: [u8; 16],
    count: u64,
}

impl Random {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self { key: seed, count: 0 }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.count += 1;
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u64(self.count);
        hasher.finish()
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
}

/// What a keyed hash is for; each purpose has its own values.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Purpose {
    InitialSequence = 1,
    TimestampOffset,
    PortOffset,
    PortIndex,
    TableSeed,
}

/// Keyed hash of a flow as this end sends it, `src` being ours.
pub(crate) fn keyed(secret: &[u8; 16], purpose: Purpose, flow: &FourTuple) -> u64 {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write_u8(purpose as u8);
    for address in [flow.src, flow.dst] {
        match address {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
    }
    hasher.write_u16(flow.src_port);
    hasher.write_u16(flow.dst_port);
    hasher.finish()
}

/// Initial sequence number: a clock of 4 microseconds plus a keyed hash of the flow (RFC 6528
/// section 3).
pub(crate) fn initial_sequence(secret: &[u8; 16], now: Instant, flow: &FourTuple) -> u32 {
    let clock = (now.as_nanos() / 4_000) as u32;
    clock.wrapping_add(keyed(secret, Purpose::InitialSequence, flow) as u32)
}
