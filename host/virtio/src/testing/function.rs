//! A virtio network function behind [`PciTransport`]: registers, two queues, a wire of vectors.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustix::event::{EventfdFlags, eventfd};
use tandem_device::{DmaError, Region, RegionId};

use super::{Chain, Memory, PackedDevice, RingDevice, SplitDevice};
use crate::{Features, PciTransport, TransportError, Width};

/// What a [`Function`] offers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) features: Features,
    pub(crate) queue_size_max: u16,
    pub(crate) mtu: u16,
    pub(crate) vectors: u16,
    /// Uses transmit chains in batches with one used entry (IN_ORDER only).
    pub(crate) batches: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            features: Features::all(),
            queue_size_max: 256,
            mtu: 1500,
            vectors: 3,
            batches: false,
        }
    }
}

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every access fails.
    Gone,
    /// Reads as all ones, as a real function that was pulled.
    Ones,
    /// Status never becomes 0.
    ResetStuck,
    /// FEATURES_OK does not stay set.
    RefuseFeatures,
    /// The configuration changes whenever it is looked at.
    Unstable,
    /// Vectors cannot be set.
    NoVectors,
}

#[derive(Debug, Default)]
struct QueueRegisters {
    size: u16,
    vector: u16,
    enable: u16,
    areas: [u64; 3],
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) memory: Memory,
    pub(crate) status: u8,
    /// Statuses that the driver wrote, in order.
    pub(crate) statuses: Vec<u8>,
    pub(crate) accepted: u64,
    feature_select: [u32; 2],
    generation: u8,
    config_vector: u16,
    queue_select: u16,
    queues: [QueueRegisters; 2],
    rings: [Option<RingDevice>; 2],
    pub(crate) link_up: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) unmap_fails: bool,
    /// Header and frame.
    pub(crate) wire_in: VecDeque<(Vec<u8>, Vec<u8>)>,
    pub(crate) wire_out: Vec<(Vec<u8>, Vec<u8>)>,
    /// Descriptors of each transmitted chain.
    pub(crate) chain_lens: Vec<usize>,
    pub(crate) doorbells: Vec<u32>,
    /// Receive chains fetched and not yet filled.
    fetched: VecDeque<Chain>,
    enabled_vectors: u16,
}

#[derive(Debug)]
pub(crate) struct Function {
    offer: Offer,
    config_space: [u8; 256],
    state: Mutex<State>,
    events: [OwnedFd; 3],
    removal: OwnedFd,
    /// Runs the device whenever a doorbell rings.
    pub(crate) eager: OnceLock<()>,
}

const NO_VECTOR: u16 = 0xFFFF;

impl Function {
    pub(crate) fn new(offer: Offer) -> Arc<Self> {
        let event = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        Arc::new(Self {
            offer,
            config_space: config_space(),
            state: Mutex::new(State {
                memory: Memory::default(),
                status: 0,
                statuses: Vec::new(),
                accepted: 0,
                feature_select: [0; 2],
                generation: 0,
                config_vector: NO_VECTOR,
                queue_select: 0,
                queues: Default::default(),
                rings: [None, None],
                link_up: true,
                fault: None,
                unmap_fails: false,
                wire_in: VecDeque::new(),
                wire_out: Vec::new(),
                chain_lens: Vec::new(),
                doorbells: Vec::new(),
                fetched: VecDeque::new(),
                enabled_vectors: 0,
            }),
            events: [event(), event(), event()],
            removal: event(),
            eager: OnceLock::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn pull(&self, fault: Fault) {
        self.lock().fault = Some(fault);
        rustix::io::write(&self.removal, &1u64.to_ne_bytes()).unwrap();
    }

    pub(crate) fn set_link(&self, up: bool) {
        let mut state = self.lock();
        state.link_up = up;
        state.generation = state.generation.wrapping_add(1);
        self.interrupt(state.config_vector);
    }

    pub(crate) fn need_reset(&self) {
        let mut state = self.lock();
        state.status |= 64;
        self.interrupt(state.config_vector);
    }

    fn interrupt(&self, vector: u16) {
        if vector != NO_VECTOR {
            rustix::io::write(&self.events[usize::from(vector)], &1u64.to_ne_bytes()).unwrap();
        }
    }

    /// Runs the device until it has nothing to do.
    pub(crate) fn run(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        if state.status & 4 == 0 || state.status & 64 != 0 || state.fault.is_some() {
            return;
        }
        self.run_transmit(state);
        self.run_receive(state);
        for (queue, ring) in state.rings.iter_mut().enumerate() {
            if ring.as_mut().is_some_and(|ring| ring.wants_interrupt(&state.memory)) {
                self.interrupt(state.queues[queue].vector);
            }
        }
    }

    fn run_transmit(&self, state: &mut State) {
        let Some(ring) = &mut state.rings[1] else { return };
        let mut used = Vec::new();
        while let Some(chain) = ring.next(&state.memory) {
            let mut bytes = chain.read_all(&state.memory);
            let frame = bytes.split_off(12);
            state.wire_out.push((bytes, frame));
            state.chain_lens.push(chain.pieces.len());
            used.push((chain, 0));
        }
        ring.set_doorbell(&state.memory, true);
        if !used.is_empty() {
            ring.push(&state.memory, &used, self.offer.batches);
        }
    }

    fn run_receive(&self, state: &mut State) {
        let Some(ring) = &mut state.rings[0] else { return };
        while let Some(chain) = ring.next(&state.memory) {
            state.fetched.push_back(chain);
        }
        ring.set_doorbell(&state.memory, true);
        let mergeable = state.accepted & 1 << 15 != 0;
        while let Some((header, frame)) = state.wire_in.front() {
            let mut bytes = [&header[..], &frame[..]].concat();
            let mut rooms = 0;
            let count = state
                .fetched
                .iter()
                .take_while(|chain| {
                    let more = rooms < bytes.len();
                    rooms += chain.room();
                    more
                })
                .count();
            if state.fetched.iter().take(count).map(Chain::room).sum::<usize>() < bytes.len() {
                break;
            }
            assert!(count == 1 || mergeable, "a frame longer than its buffer");
            if mergeable && header[10..12] == [0, 0] {
                bytes[10..12].copy_from_slice(&(count as u16).to_le_bytes());
            }
            let mut used = Vec::new();
            let mut rest = &bytes[..];
            for chain in state.fetched.drain(..count) {
                let len = rest.len().min(chain.room());
                chain.write_all(&state.memory, &rest[..len]);
                rest = &rest[len..];
                used.push((chain, len as u32));
            }
            ring.push(&state.memory, &used, false);
            state.wire_in.pop_front();
        }
    }

    fn reset(&self, state: &mut State) {
        state.status = 0;
        state.accepted = 0;
        state.config_vector = NO_VECTOR;
        state.queues = Default::default();
        for queue in &mut state.queues {
            queue.size = self.offer.queue_size_max;
            queue.vector = NO_VECTOR;
        }
        state.rings = [None, None];
        state.fetched.clear();
    }

    fn common_read(&self, state: &mut State, offset: u64, width: Width) -> u64 {
        let queue = state.queues.get(usize::from(state.queue_select));
        let shift = |select: u32| if select < 2 { 32 * select } else { 63 };
        match (offset, width) {
            (4, Width::Word) => {
                self.offer.features.bits() >> shift(state.feature_select[0]) & 0xFFFF_FFFF
            }
            (0x10, Width::Half) => state.config_vector.into(),
            (0x12, Width::Half) => 2,
            (0x14, Width::Byte) => match state.fault {
                Some(Fault::ResetStuck) => u64::from(state.status | 1),
                _ => state.status.into(),
            },
            (0x15, Width::Byte) => {
                if state.fault == Some(Fault::Unstable) {
                    state.generation = state.generation.wrapping_add(1);
                }
                state.generation.into()
            }
            (0x18, Width::Half) => queue.map_or(0, |queue| queue.size.into()),
            (0x1A, Width::Half) => queue.map_or(NO_VECTOR.into(), |queue| queue.vector.into()),
            (0x1C, Width::Half) => queue.map_or(0, |queue| queue.enable.into()),
            (0x1E, Width::Half) => state.queue_select.into(),
            _ => panic!("read of {width:?} at {offset:#x} of the common configuration"),
        }
    }

    fn common_write(&self, state: &mut State, offset: u64, width: Width, value: u64) {
        let index = usize::from(state.queue_select);
        let vectors = state.enabled_vectors;
        let refuse = state.fault == Some(Fault::NoVectors);
        let granted = |v: u64| {
            if refuse || v >= vectors.into() { NO_VECTOR } else { v as u16 }
        };
        match (offset, width) {
            (0, Width::Word) => state.feature_select[0] = value as u32,
            (8, Width::Word) => state.feature_select[1] = value as u32,
            (0xC, Width::Word) => {
                let shift = 32 * state.feature_select[1];
                state.accepted &= !(0xFFFF_FFFFu64 << shift);
                state.accepted |= value << shift;
            }
            (0x10, Width::Half) => state.config_vector = granted(value),
            (0x14, Width::Byte) => {
                state.statuses.push(value as u8);
                if value == 0 {
                    self.reset(state);
                    return;
                }
                state.status = value as u8;
                let offered = self.offer.features.bits();
                let bad = state.accepted & !offered != 0 || state.accepted & 1 << 32 == 0;
                if bad || state.fault == Some(Fault::RefuseFeatures) {
                    state.status &= !8;
                }
            }
            (0x16, Width::Half) => state.queue_select = value as u16,
            (0x18, Width::Half) => {
                assert!(value > 0 && value <= self.offer.queue_size_max.into());
                state.queues[index].size = value as u16;
            }
            (0x1A, Width::Half) => state.queues[index].vector = granted(value),
            (0x1C, Width::Half) => {
                assert_eq!((value, state.status & 8), (1, 8), "enabled before FEATURES_OK");
                let queue = &mut state.queues[index];
                queue.enable = 1;
                let event_idx = state.accepted & 1 << 29 != 0;
                let mut ring = if state.accepted & 1 << 34 != 0 {
                    assert!(queue.areas[0].is_multiple_of(16) && queue.areas[1].is_multiple_of(4));
                    RingDevice::Packed(PackedDevice::new(queue.areas, queue.size, event_idx))
                } else {
                    assert!(queue.size.is_power_of_two() && queue.areas[2].is_multiple_of(4));
                    RingDevice::Split(SplitDevice::new(queue.areas, queue.size, event_idx))
                };
                ring.set_doorbell(&state.memory, true);
                state.rings[index] = Some(ring);
            }
            (0x20..0x38, Width::Word) => {
                let (field, high) = ((offset as usize - 0x20) / 8, !offset.is_multiple_of(8));
                let area = &mut state.queues[index].areas[field];
                *area = if high {
                    *area & 0xFFFF_FFFF | value << 32
                } else {
                    *area & !0xFFFF_FFFF | value
                };
            }
            _ => panic!("write of {width:?} at {offset:#x} of the common configuration"),
        }
    }

    fn device_config(&self, state: &State) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x42]);
        bytes[6] = state.link_up.into();
        bytes[10..12].copy_from_slice(&self.offer.mtu.to_le_bytes());
        bytes[12..16].copy_from_slice(&25_000u32.to_le_bytes());
        bytes[16] = 1;
        bytes
    }

    fn alive(&self, state: &State) -> Result<(), TransportError> {
        match state.fault {
            Some(Fault::Gone) => Err(TransportError::Gone { reason: "it was pulled".into() }),
            _ => Ok(()),
        }
    }
}

impl PciTransport for Function {
    fn name(&self) -> &str {
        "model"
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32, TransportError> {
        let state = self.lock();
        self.alive(&state)?;
        if state.fault == Some(Fault::Ones) {
            return Ok(width.ones() as u32);
        }
        let mut bytes = [0; 4];
        let len = width.bytes() as usize;
        bytes[..len].copy_from_slice(&self.config_space[usize::from(offset)..][..len]);
        Ok(u32::from_le_bytes(bytes))
    }

    fn config_write(&self, offset: u16, _: Width, value: u32) -> Result<(), TransportError> {
        assert_eq!((offset, value & 6), (4, 6), "only the command register is written");
        self.alive(&self.lock())
    }

    fn bar_len(&self, bar: u8) -> Option<u64> {
        (bar == 0).then_some(0x4000)
    }

    fn bar_read(&self, bar: u8, offset: u64, width: Width) -> Result<u64, TransportError> {
        let mut state = self.lock();
        self.alive(&state)?;
        assert!(bar == 0 && offset.is_multiple_of(width.bytes().into()));
        if state.fault == Some(Fault::Ones) {
            return Ok(width.ones());
        }
        Ok(match offset {
            0..0x1000 => self.common_read(&mut state, offset, width),
            0x2000..0x2014 => {
                let config = self.device_config(&state);
                let at = offset as usize - 0x2000;
                let bytes = &config[at..at + width.bytes() as usize];
                bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
            }
            _ => panic!("read at {offset:#x}"),
        })
    }

    fn bar_write(
        &self,
        _: u8,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), TransportError> {
        {
            let mut state = self.lock();
            self.alive(&state)?;
            if state.fault == Some(Fault::Ones) {
                return Ok(());
            }
            match offset {
                0..0x1000 => self.common_write(&mut state, offset, width, value),
                0x3000..0x3008 => {
                    assert!(state.status & 4 != 0, "doorbell before DRIVER_OK");
                    assert_eq!(u64::from(value as u16), (offset - 0x3000) / 4);
                    let with_data = state.accepted & 1 << 38 != 0;
                    assert_eq!(width, if with_data { Width::Word } else { Width::Half });
                    state.doorbells.push(value as u32);
                }
                _ => panic!("write at {offset:#x}"),
            }
        }
        if offset >= 0x3000 && self.eager.get().is_some() {
            self.run();
        }
        Ok(())
    }

    fn dma_map(&self, region: &Arc<Region>) -> Result<u64, DmaError> {
        let mut state = self.lock();
        if state.fault == Some(Fault::Gone) {
            return Err(DmaError::Gone);
        }
        Ok(state.memory.map(region))
    }

    fn dma_unmap(&self, region: RegionId) -> Result<(), DmaError> {
        let mut state = self.lock();
        if state.unmap_fails {
            return Err(DmaError::Io(std::io::Error::other("planted")));
        }
        state.memory.unmap(region);
        Ok(())
    }

    fn vectors(&self) -> u16 {
        self.offer.vectors
    }

    fn enable_vectors(&self, count: u16) -> Result<(), TransportError> {
        let mut state = self.lock();
        self.alive(&state)?;
        state.enabled_vectors = count;
        Ok(())
    }

    fn interrupt_pending(&self, vector: u16) -> Result<bool, TransportError> {
        self.alive(&self.lock())?;
        let mut count = [0; 8];
        match rustix::io::read(&self.events[usize::from(vector)], &mut count) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => panic!("{error}"),
        }
    }

    fn interrupt_fd(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.events.get(usize::from(vector)).map(|fd| fd.as_fd())
    }

    fn removal_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.removal.as_fd())
    }

    fn reset_function(&self) -> Result<(), TransportError> {
        let mut state = self.lock();
        self.alive(&state)?;
        if matches!(state.fault, Some(Fault::ResetStuck | Fault::Ones)) {
            return Err(TransportError::Unsupported { what: "function-level reset" });
        }
        self.reset(&mut state);
        Ok(())
    }

    fn pause(&self) {}
}

fn config_space() -> [u8; 256] {
    let mut config = [0; 256];
    config[..4].copy_from_slice(&[0xF4, 0x1A, 0x41, 0x10]);
    config[6] = 0x10;
    config[0x34] = 0x40;
    let mut put = |at: usize, next: u8, kind: u8, offset: u32, len: u32| {
        config[at..at + 5].copy_from_slice(&[9, next, if kind == 2 { 20 } else { 16 }, kind, 0]);
        config[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        config[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
    };
    put(0x40, 0x54, 1, 0, 0x38);
    put(0x54, 0x68, 2, 0x3000, 8);
    put(0x68, 0, 4, 0x2000, 20);
    config[0x54 + 16] = 4;
    config
}
