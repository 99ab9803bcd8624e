//! Devices within the process: two that are wired to each other, or one wired to itself.
//!
//! Frames move by reference and are neither lost nor reordered; when the receiver does not keep up, the
//! sender is told that the device is full. All offloads are "done" by leaving the request on the frame:
//! nothing between the two ends can damage it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use tandem_device::{
    Batch, Caps, Csum, Device, DeviceError, DeviceFlags, DeviceInfo, FRAGS_MAX, Frame, FrameMeta,
    OperState, Pool, Queue, QueueLens, ReceiveMode, RxOffloads, Stats, TransmitOutcome, TxOffloads,
};
use tandem_packet::MacAddr;

use crate::counters::Counters;

/// Longest super-segment: the longest IPv4 packet and an Ethernet header.
const GSO_BYTES_MAX: u32 = 65_535 + 14;

/// Bytes of a frame beside its IP packet: Ethernet header and one 802.1Q tag.
const LINK_LEN: u32 = 14 + 4;

/// One direction of a wire.
#[derive(Debug)]
struct Wire {
    frames: ArrayQueue<Frame>,
    /// The receiver sleeps and wants to be woken.
    armed: AtomicBool,
    /// Both ends are open.
    carrier: [AtomicBool; 2],
    event: OwnedFd,
}

impl Wire {
    fn new(capacity: usize) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            frames: ArrayQueue::new(capacity),
            armed: AtomicBool::new(false),
            carrier: [AtomicBool::new(false), AtomicBool::new(false)],
            event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        }))
    }

    fn up(&self) -> bool {
        self.carrier.iter().all(|end| end.load(Ordering::Acquire))
    }

    fn wake(&self) {
        // The frames are out before it is asked whether the receiver sleeps.
        fence(Ordering::SeqCst);
        if self.armed.swap(false, Ordering::AcqRel) {
            // It can only fail when the counter is full, and then the receiver is awake.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

/// One end of a pair, or a loopback.
#[derive(Debug)]
pub struct PairDevice {
    info: DeviceInfo,
    outgoing: Arc<Wire>,
    incoming: Arc<Wire>,
    /// Which end of `outgoing` this is; of `incoming` it is the other.
    end: usize,
    pool: Pool,
    taken: bool,
    counters: Counters,
}

/// Two devices wired to each other, each direction holding up to `capacity` frames of up to `mtu` bytes
/// of payload. Frames with a token are copied into buffers of `pool`, so that their sender can have its
/// memory back before the receiver is done; all others move by reference.
///
/// # Errors
/// When the system has no event descriptors left.
///
/// # Panics
/// When the capacity is 0.
pub fn pair(
    names: [&str; 2],
    macs: [MacAddr; 2],
    mtu: u32,
    capacity: usize,
    pool: &Pool,
) -> std::io::Result<(PairDevice, PairDevice)> {
    let wires = [Wire::new(capacity)?, Wire::new(capacity)?];
    let device = |end: usize| {
        let (outgoing, incoming) = (wires[end].clone(), wires[1 - end].clone());
        PairDevice::new(names[end], macs[end], mtu, (outgoing, incoming), end, pool)
    };
    Ok((device(0), device(1)))
}

/// A device that receives what it sends. See [`pair`].
///
/// # Errors
/// When the system has no event descriptors left.
///
/// # Panics
/// When the capacity is 0.
pub fn loopback(
    name: &str,
    mac: MacAddr,
    mtu: u32,
    capacity: usize,
    pool: &Pool,
) -> std::io::Result<PairDevice> {
    let wire = Wire::new(capacity)?;
    let mut device = PairDevice::new(name, mac, mtu, (wire.clone(), wire), 0, pool);
    device.info.flags |= DeviceFlags::LOOPBACK;
    Ok(device)
}

impl PairDevice {
    fn new(
        name: &str,
        mac: MacAddr,
        mtu: u32,
        (outgoing, incoming): (Arc<Wire>, Arc<Wire>),
        end: usize,
        pool: &Pool,
    ) -> Self {
        Self {
            info: DeviceInfo {
                name: format!("pair {name}"),
                mac,
                mtu,
                flags: DeviceFlags::BROADCAST | DeviceFlags::MULTICAST,
                speed_mbit_s: None,
                queues: 1,
            },
            outgoing,
            incoming,
            end,
            pool: pool.clone(),
            taken: false,
            counters: Counters::default(),
        }
    }

    fn set_carrier(&self, up: bool) {
        // Each wire knows both ends; a loopback's wire has both of its ends here.
        if Arc::ptr_eq(&self.outgoing, &self.incoming) {
            self.outgoing.carrier.iter().for_each(|end| end.store(up, Ordering::Release));
        } else {
            for wire in [&self.outgoing, &self.incoming] {
                wire.carrier[self.end].store(up, Ordering::Release);
            }
        }
    }

    fn unsupported(&self, what: &'static str) -> DeviceError {
        DeviceError::Unsupported { name: self.info.name.clone(), what }
    }
}

impl Device for PairDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn caps(&self) -> Caps {
        Caps {
            tx: TxOffloads::all(),
            rx: RxOffloads::CSUM
                | RxOffloads::PARTIAL
                | RxOffloads::GRO4
                | RxOffloads::GRO6
                | RxOffloads::UDP_GRO
                | RxOffloads::VLAN,
            frame_len_max: self.info.mtu + LINK_LEN,
            gso_bytes_max: GSO_BYTES_MAX,
            gso_segments_max: u16::MAX,
            pieces_max: FRAGS_MAX as u16 + 1,
            trusted: true,
            headroom: 0,
        }
    }

    fn oper_state(&mut self) -> OperState {
        match (self.info.flags.contains(DeviceFlags::UP), self.outgoing.up()) {
            (false, _) => OperState::Down,
            (true, false) => OperState::Dormant,
            (true, true) => OperState::Up,
        }
    }

    fn open(&mut self) -> Result<(), DeviceError> {
        self.info.flags |= DeviceFlags::UP;
        self.set_carrier(true);
        Ok(())
    }

    fn close(&mut self) -> Result<(), DeviceError> {
        self.info.flags -= DeviceFlags::UP;
        self.set_carrier(false);
        // What was on its way to us is nobody's now.
        while self.incoming.frames.pop().is_some() {}
        self.taken = false;
        Ok(())
    }

    fn take_queue(&mut self, index: u16) -> Result<Box<dyn Queue>, DeviceError> {
        if index != 0 || self.taken || !self.info.flags.contains(DeviceFlags::UP) {
            return Err(DeviceError::NoQueue { name: self.info.name.clone(), index });
        }
        self.taken = true;
        Ok(Box::new(PairQueue {
            outgoing: self.outgoing.clone(),
            incoming: self.incoming.clone(),
            pool: self.pool.clone(),
            frame_len_max: (self.info.mtu + LINK_LEN) as usize,
            tokens: Vec::with_capacity(64),
            counters: self.counters.clone(),
            stats: self.counters.snapshot(),
        }))
    }

    fn set_mac(&mut self, mac: MacAddr) -> Result<(), DeviceError> {
        self.info.mac = mac;
        Ok(())
    }

    fn set_receive_mode(&mut self, _: ReceiveMode) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_mtu(&mut self, mtu: u32) -> Result<(), DeviceError> {
        if !(68..=65_535).contains(&mtu) {
            return Err(DeviceError::OutOfRange {
                what: "MTU",
                value: mtu.into(),
                min: 68,
                max: 65_535,
            });
        }
        self.info.mtu = mtu;
        Ok(())
    }

    fn queue_lens(&self) -> QueueLens {
        let len = |wire: &Wire| wire.frames.capacity().min(u16::MAX.into()) as u16;
        QueueLens { rx: len(&self.incoming), tx: len(&self.outgoing) }
    }

    fn set_queue_lens(&mut self, _: QueueLens) -> Result<(), DeviceError> {
        Err(self.unsupported("setting queue lengths"))
    }

    fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}

impl Drop for PairDevice {
    fn drop(&mut self) {
        self.set_carrier(false);
    }
}

struct PairQueue {
    outgoing: Arc<Wire>,
    incoming: Arc<Wire>,
    pool: Pool,
    frame_len_max: usize,
    tokens: Vec<u64>,
    counters: Counters,
    stats: Stats,
}

/// Tokens kept for who does not ask for completions; then the queue counts as full.
const TOKENS_MAX: usize = 4096;

impl PairQueue {
    fn fits(&self, frame: &Frame) -> bool {
        let longest = match frame.meta().gso {
            Some(_) => GSO_BYTES_MAX as usize,
            None => self.frame_len_max,
        };
        (14..=longest).contains(&frame.len())
    }

    /// A copy in buffers of ours.
    fn copy(&self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.pool.alloc().ok()?;
        let mut at = copy.tailroom().min(frame.len());
        frame.copy_to(0, copy.push_back(at).ok()?);
        while at < frame.len() {
            let mut more = self.pool.alloc().ok()?;
            let len = more.tailroom().min(frame.len() - at);
            frame.copy_to(at, more.push_back(len).ok()?);
            let mut whole = true;
            more.share(0..len, |payload| whole &= copy.push_payload(payload).is_ok());
            if !whole {
                return None;
            }
            at += len;
        }
        *copy.meta_mut() = *frame.meta();
        Some(copy)
    }
}

impl Queue for PairQueue {
    fn receive(&mut self, budget: usize, batch: &mut Batch) -> Result<usize, DeviceError> {
        self.incoming.armed.store(false, Ordering::Release);
        let mut count = 0;
        while count < budget {
            let Some(mut frame) = self.incoming.frames.pop() else { break };
            let sent = *frame.meta();
            *frame.meta_mut() = FrameMeta {
                csum: sent.csum,
                gso: sent.gso,
                header_len: sent.header_len,
                segments: sent.segments,
                vlan: sent.vlan,
                priority: sent.priority,
                ..FrameMeta::default()
            };
            self.stats.rx_packets += u64::from(sent.wire_frames());
            self.stats.rx_bytes += frame.len() as u64;
            self.stats.rx_csum_valid += u64::from(sent.csum == Csum::Valid);
            let group = frame.pieces().next().is_some_and(|piece| piece[0] & 1 != 0);
            self.stats.multicast += u64::from(group);
            batch.push_back(frame);
            count += 1;
        }
        self.counters.publish(&self.stats);
        Ok(count)
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        let mut outcome = TransmitOutcome::default();
        let mut any = false;
        while let Some(frame) = batch.front() {
            if self.outgoing.frames.is_full() || self.tokens.len() >= TOKENS_MAX {
                outcome.full = true;
                break;
            }
            let token = frame.meta().token;
            if !self.outgoing.up() || !self.fits(frame) {
                self.stats.tx_errors += 1;
                self.stats.tx_dropped += 1;
                self.tokens.extend(token);
                batch.pop_front();
                outcome.taken += 1;
                continue;
            }
            let frame = if token.is_some() {
                // No buffer now: later, since nothing is lost here.
                let Some(copy) = self.copy(frame) else {
                    outcome.full = true;
                    break;
                };
                batch.pop_front();
                copy
            } else {
                batch.pop_front().expect("looked at above")
            };
            let (len, segments) = (frame.len(), frame.meta().wire_frames());
            let partial = matches!(frame.meta().csum, Csum::Partial { .. });
            if let Err(frame) = self.outgoing.frames.push(frame) {
                // Somebody else sends here too (a queue from before a reopening).
                batch.push_front(frame);
                outcome.full = true;
                break;
            }
            self.stats.tx_packets += u64::from(segments);
            self.stats.tx_bytes += len as u64;
            self.stats.tx_csum += u64::from(partial);
            self.tokens.extend(token);
            outcome.taken += 1;
            any = true;
        }
        if any {
            self.outgoing.wake();
        }
        self.counters.publish(&self.stats);
        Ok(outcome)
    }

    fn completed(&mut self, tokens: &mut Vec<u64>) -> Result<(), DeviceError> {
        tokens.append(&mut self.tokens);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        let mut count = [0; 8];
        if rustix::io::read(&self.incoming.event, &mut count).is_ok() {
            self.stats.interrupts += 1;
        }
        self.incoming.armed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let quiet = self.incoming.frames.is_empty() && self.tokens.is_empty();
        if !quiet {
            self.incoming.armed.store(false, Ordering::Release);
        }
        Ok(quiet)
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        Some(self.incoming.event.as_fd())
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

#[cfg(test)]
mod tests;
