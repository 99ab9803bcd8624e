//! A NIC in a cosimulation, our driver on it, and frames to carry.

use std::sync::Arc;

use tandem_contract::nic::{Cycle, Nic};
use tandem_cosim::wire::{Peer, channel};
use tandem_cosim::{
    Clock, Cosim, CosimError, HostMemory, InProcess, LineRate, MemoryConfig, MemoryStats,
    RegionTable, Wire,
};
use tandem_device::{Batch, Device, DeviceError, Pool, PoolConfig, Queue};
use tandem_virtio::{SetupError, VirtioConfig, VirtioNet};
use thiserror::Error;

/// Cycles between two turns of the driver.
const TURN_CYCLES: Cycle = 256;

/// Turns without a frame after which a rig gives up on frames that must come.
const IDLE_TURNS_MAX: u32 = 4_000;

/// Turns without a frame after which arriving frames that the NIC did not deliver count as dropped.
const DROPPED_AFTER_TURNS: u32 = 100;

/// Frames taken from a queue at a time.
const BUDGET: usize = 64;

/// Shortest frame that a rig makes: addresses, type and a number.
pub const FRAME_LEN_MIN: usize = 60;

/// Buffers of the pool, and depth of the channel to the wire.
const BUFFERS: u32 = 2_048;

/// A NIC that may know how hard its simulation worked.
pub trait Simulated: Nic + Send {
    /// Cycles evaluated and nanoseconds spent evaluating them, inside the simulator.
    fn effort(&self) -> Option<(u64, u64)> {
        None
    }
}

impl Simulated for tandem_reference::ReferenceNic {}

#[cfg(feature = "rtl")]
impl Simulated for tandem_rtl_bindings::Rtl {
    fn effort(&self) -> Option<(u64, u64)> {
        let stats = self.stats();
        Some((stats.cycles_evaluated, stats.eval_ns))
    }
}

/// Why a rig failed.
#[derive(Debug, Error)]
pub enum RigError {
    /// The driver could not take the device.
    #[error("the driver cannot take the NIC")]
    Setup(#[from] SetupError),
    /// The device failed while it carried frames.
    #[error("the NIC failed under traffic")]
    Device(#[from] DeviceError),
    /// The model broke a rule.
    #[error(transparent)]
    Cosim(#[from] CosimError),
    /// No memory for buffers.
    #[error("no memory for buffers")]
    Memory(#[from] std::io::Error),
    /// Frames stopped coming.
    #[error("{missing} of {wanted} frames did not come ({what}, cycle {cycle})")]
    Stuck {
        /// Which way.
        what: &'static str,
        /// Frames that did not come.
        missing: u64,
        /// Frames expected.
        wanted: u64,
        /// When it gave up.
        cycle: Cycle,
    },
    /// A frame came out other than it went in.
    #[error("frame {number} came out different ({what})")]
    Corrupt {
        /// Which way.
        what: &'static str,
        /// Which frame.
        number: u64,
    },
}

/// What a run carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Frames that left to the wire.
    pub sent: u64,
    /// Frames that the driver received.
    pub received: u64,
    /// Frames from the wire that the NIC dropped: receive never stalls.
    pub dropped: u64,
    /// Cycles that it took, up to the last frame.
    pub cycles: Cycle,
    /// Cycles evaluated, where the model knows.
    pub evaluated: u64,
    /// Nanoseconds inside the simulator, where the model knows.
    pub eval_ns: u64,
    /// What the host's memory saw.
    pub memory: MemoryStats,
}

/// A NIC with a driver on it.
pub struct Rig<N: Simulated> {
    nic: InProcess<N>,
    device: VirtioNet,
    queue: Box<dyn Queue>,
    pool: Pool,
    peer: Peer,
    mac: [u8; 6],
}

impl<N: Simulated + 'static> Rig<N> {
    /// Brings the NIC up with all that driver and device agree on.
    ///
    /// # Errors
    /// [`RigError`].
    pub fn new(nic: N, memory: MemoryConfig, rate: LineRate) -> Result<Self, RigError> {
        let mac = nic.params().mac;
        let (port, peer) = channel(BUFFERS as usize);
        let memory = HostMemory::new(RegionTable::new(), memory);
        let wire = Wire::new(Box::new(port), rate);
        let nic = InProcess::new(Cosim::new(nic, memory, wire, Clock::FreeRunning));
        let pool = Pool::new(PoolConfig::frames(BUFFERS))?;
        let transport = Arc::new(nic.clone());
        let mut device = VirtioNet::probe(transport, pool.clone(), VirtioConfig::default())?;
        device.open()?;
        let queue = device.take_queue(0)?;
        Ok(Self { nic, device, queue, pool, peer, mac })
    }

    /// The cosimulation.
    pub fn nic(&self) -> &InProcess<N> {
        &self.nic
    }

    /// The driver's pair of rings.
    pub fn queue(&mut self) -> &mut dyn Queue {
        &mut *self.queue
    }

    /// The far end of the wire.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Where frames come from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The driver.
    pub fn device(&mut self) -> &mut VirtioNet {
        &mut self.device
    }

    /// Carries `out` frames to the wire and offers `inward` from it, at the same time, each of `len`
    /// bytes without FCS, as fast as they go, and compares every byte. All of `out` must leave; of
    /// `inward` some may be dropped, none may come twice or in another order.
    ///
    /// # Errors
    /// [`RigError`].
    pub fn carry(&mut self, out: u64, inward: u64, len: usize) -> Result<Carried, RigError> {
        let len = len.max(FRAME_LEN_MIN);
        let (start, effort, memory) = {
            let cosim = self.nic.lock();
            (cosim.now(), cosim.nic().effort(), cosim.memory().stats())
        };
        let mut batch = Batch::new();
        let mut arrived = Batch::new();
        let mut tokens = Vec::new();
        let mut frame = Vec::new();
        let mut made = Vec::new();
        let (mut offered, mut carried) = ((0, 0), Carried::default());
        let mut idle_turns = 0;
        let mut last_frame_at = start;
        while carried.sent < out || carried.received + carried.dropped < inward {
            self.queue.completed(&mut tokens)?;
            while offered.0 < out
                && batch.len() < BUDGET
                && let Ok(mut next) = self.pool.alloc()
            {
                build(&mut made, offered.0, len, [0x02, 0, 0, 0, 0, 9], self.mac);
                if next.append(&made).is_err() {
                    break;
                }
                batch.push_back(next);
                offered.0 += 1;
            }
            if !batch.is_empty() {
                self.queue.transmit(&mut batch)?;
            }
            while offered.1 < inward && self.peer.queued() < BUDGET * 4 {
                build(&mut made, offered.1, len, self.mac, [0x02, 0, 0, 0, 0, 9]);
                if !self.peer.send(&made) {
                    break;
                }
                offered.1 += 1;
            }
            self.nic.run(TURN_CYCLES)?;
            let before = (carried.sent, carried.received);
            while self.peer.receive(&mut frame).is_some() {
                build(&mut made, carried.sent, len, [0x02, 0, 0, 0, 0, 9], self.mac);
                if frame != made {
                    return Err(RigError::Corrupt { what: "transmit", number: carried.sent });
                }
                carried.sent += 1;
            }
            self.queue.receive(BUDGET * 4, &mut arrived)?;
            for got in arrived.drain(..) {
                let bytes = got.to_vec();
                let next = carried.received + carried.dropped;
                let corrupt = RigError::Corrupt { what: "receive", number: next };
                // Frames that are missing were dropped; what comes must be whole and in order.
                let Some(number) = number(&bytes).filter(|n| (next..inward).contains(n)) else {
                    return Err(corrupt);
                };
                build(&mut made, number, len, self.mac, [0x02, 0, 0, 0, 0, 9]);
                if bytes != made {
                    return Err(corrupt);
                }
                carried.dropped += number - next;
                carried.received += 1;
            }
            if before != (carried.sent, carried.received) {
                last_frame_at = self.nic.lock().now();
                idle_turns = 0;
                continue;
            }
            idle_turns += 1;
            if idle_turns > DROPPED_AFTER_TURNS && offered.1 == inward && self.peer.queued() == 0 {
                carried.dropped = inward - carried.received;
            }
            if idle_turns > IDLE_TURNS_MAX {
                return Err(self.stuck(out, inward, carried));
            }
        }
        let cosim = self.nic.lock();
        let after = cosim.memory().stats();
        carried.cycles = last_frame_at - start;
        if let (Some(now), Some(then)) = (cosim.nic().effort(), effort) {
            carried.evaluated = now.0 - then.0;
            carried.eval_ns = now.1 - then.1;
        }
        carried.memory = MemoryStats {
            reads: after.reads - memory.reads,
            read_bytes: after.read_bytes - memory.read_bytes,
            writes: after.writes - memory.writes,
            write_bytes: after.write_bytes - memory.write_bytes,
            messages: after.messages - memory.messages,
            ..after
        };
        Ok(carried)
    }

    fn stuck(&self, out: u64, inward: u64, carried: Carried) -> RigError {
        let cycle = self.nic.lock().now();
        if carried.sent < out {
            let missing = out - carried.sent;
            return RigError::Stuck { what: "transmit", missing, wanted: out, cycle };
        }
        let missing = inward - carried.received;
        RigError::Stuck { what: "receive", missing, wanted: inward, cycle }
    }
}

/// The number in a frame that [`build`] made.
fn number(frame: &[u8]) -> Option<u64> {
    frame.get(14..22)?.try_into().ok().map(u64::from_be_bytes)
}

/// A frame of an experimental type whose bytes follow from its number.
fn build(frame: &mut Vec<u8>, number: u64, len: usize, to: [u8; 6], from: [u8; 6]) {
    frame.clear();
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    // IEEE 802 local experimental EtherType 1: no checksum to be judged.
    frame.extend_from_slice(&[0x88, 0xB5]);
    frame.extend_from_slice(&number.to_be_bytes());
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while frame.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let take = (len - frame.len()).min(8);
        frame.extend_from_slice(&state.to_le_bytes()[..take]);
    }
}
