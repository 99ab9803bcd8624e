//! A pair of virtqueues that carry frames (virtio 1.3, 5.1.6).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll;
use tandem_device::{
    Batch, Csum, DeviceError, DmaError, FRAGS_MAX, Frame, Identity, Pool, Queue, Region,
    RxOffloads, Stats, TransmitOutcome, TxOffloads,
};
use tandem_packet::zerocopy::FromBytes;
use tandem_packet::{VirtioNetHeader, VirtioNetRepr, VirtioNetView};

use crate::Width;
use crate::header;
use crate::ring::{CHAIN_MAX, Ring, Segment, Used};
use crate::session::{REGIONS_MAX, Session};

/// Bytes of the header before each frame: 12 without HASH_REPORT, which this driver does not take.
pub(crate) const HEADER_LEN: usize = tandem_packet::virtio_net_hdr::VIRTIO_NET_HEADER_LEN;

/// Room for one header in the memory for frames without headroom.
const HEADER_SLOT: usize = 16;

/// Buffers that one received frame may span: its head and all its fragments.
pub const RX_BUFFERS_MAX: usize = FRAGS_MAX + 1;

/// Polls without a frame between two looks at whether the device is still there.
const EMPTY_POLLS_MAX: u32 = 256;

/// Longest frame: the longest IPv4 packet and an Ethernet header.
pub(crate) const GSO_BYTES_MAX: usize = 65_535 + 14;

/// Shortest frame: an Ethernet header.
const FRAME_LEN_MIN: usize = 14;

/// Where a virtqueue's doorbell is, and what is written there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doorbell {
    pub(crate) bar: u8,
    pub(crate) offset: u64,
    pub(crate) queue: u16,
    /// NOTIFICATION_DATA (4.1.5.2).
    pub(crate) with_data: bool,
}

impl Doorbell {
    fn ring(self, session: &Session, ring: &Ring) -> Result<(), DeviceError> {
        let transport = &session.registers.transport;
        let written = if self.with_data {
            // vqn in the low half, next_off and next_wrap (or the split index) in the high half
            let value = u64::from(self.queue) | u64::from(ring.notification_data()) << 16;
            transport.bar_write(self.bar, self.offset, Width::Word, value)
        } else {
            transport.bar_write(self.bar, self.offset, Width::Half, self.queue.into())
        };
        written.map_err(|error| session.access_failed(error))
    }
}

/// A virtqueue with the frames on it.
#[derive(Debug)]
pub(crate) struct Virtqueue {
    pub(crate) ring: Ring,
    pub(crate) doorbell: Doorbell,
    /// By the id of the chain: the frame, and where the chain stands.
    held: Box<[Option<(Frame, Identity)>]>,
}

impl Virtqueue {
    pub(crate) fn new(ring: Ring, doorbell: Doorbell) -> Self {
        let held = (0..ring.size()).map(|_| None).collect();
        Self { ring, doorbell, held }
    }

    fn add(&mut self, segments: &[Segment], frame: Frame) {
        let added = self.ring.add(segments);
        let queue = self.doorbell.queue;
        let identity = Identity { function: 0, queue, wrap: added.wrap, slot: added.slot };
        self.held[usize::from(added.id)] = Some((frame, identity));
    }

    fn take(&mut self, used: Used) -> (Frame, Identity) {
        self.held[usize::from(used.id)].take().expect("the ring knows which chains are out")
    }

    fn frames(&mut self) -> impl Iterator<Item = Frame> {
        self.held.iter_mut().filter_map(Option::take).map(|(frame, _)| frame)
    }
}

/// DMA addresses of regions, by their ids.
#[derive(Debug)]
pub(crate) struct Addresses(Vec<Option<u64>>);

impl Addresses {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// The region's address, mapping it when it is seen for the first time.
    pub(crate) fn of(&mut self, session: &Session, region: &Arc<Region>) -> Result<u64, DmaError> {
        let index = region.id().0 as usize;
        if let Some(Some(address)) = self.0.get(index) {
            return Ok(*address);
        }
        if index >= REGIONS_MAX {
            return Err(DmaError::NoSpace { len: region.len() });
        }
        let address = session.map(region)?;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(address);
        Ok(address)
    }
}

/// A received frame of which buffers are still to come.
#[derive(Debug)]
struct Partial {
    frame: Frame,
    header: VirtioNetHeader,
    identity: Identity,
    missing: u16,
    /// It cannot be delivered; its remaining buffers only have to be passed.
    spoiled: bool,
}

/// What a queue needs to know beside its rings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) tx: TxOffloads,
    pub(crate) rx: RxOffloads,
    pub(crate) mergeable: bool,
    pub(crate) frame_len_max: usize,
}

/// See the module.
pub(crate) struct NetQueue {
    session: Arc<Session>,
    rx: Virtqueue,
    tx: Virtqueue,
    pool: Pool,
    addresses: Addresses,
    headers: Arc<Region>,
    limits: Limits,
    vector: Option<u16>,
    wait: Option<OwnedFd>,
    partial: Option<Partial>,
    tokens: Vec<u64>,
    armed: bool,
    empty_polls: u32,
    stats: Stats,
}

impl NetQueue {
    #[allow(clippy::too_many_arguments)] // a constructor of parts that open() made one by one
    pub(crate) fn new(
        session: Arc<Session>,
        rx: Virtqueue,
        tx: Virtqueue,
        pool: Pool,
        addresses: Addresses,
        limits: Limits,
        vector: Option<u16>,
    ) -> Result<Self, DeviceError> {
        let io = |what: &str, source| DeviceError::Io { what: what.into(), source };
        let headers = Region::new("tandem-headers", usize::from(tx.ring.size()) * HEADER_SLOT)
            .map_err(|error| io("memory for headers", error))?;
        let wait = wait_set(&session, vector)
            .map_err(|error| io("a descriptor to wait on", error.into()))?;
        let tokens = Vec::with_capacity(tx.ring.size().into());
        let mut queue = Self {
            session,
            rx,
            tx,
            pool,
            addresses,
            headers,
            limits,
            vector,
            wait,
            partial: None,
            tokens,
            armed: false,
            empty_polls: 0,
            stats: Stats::default(),
        };
        queue.addresses.of(&queue.session, &queue.headers)?;
        queue.fill()?;
        Ok(queue)
    }

    /// Shows the device the buffers that were added before DRIVER_OK.
    pub(crate) fn start(&mut self) -> Result<(), DeviceError> {
        // Whatever the device wishes, it could not notice buffers before it was started.
        self.rx.ring.publish();
        self.stats.doorbells += 1;
        self.rx.doorbell.ring(&self.session, &self.rx.ring)
    }

    /// Puts buffers on the receive ring; it is not published yet.
    fn fill(&mut self) -> Result<u16, DeviceError> {
        let mut added = 0;
        while self.rx.ring.free() > 0 {
            // The pool counts that it was empty.
            let Ok(frame) = self.pool.alloc() else { break };
            let room = frame.dma_room();
            let addr = self.addresses.of(&self.session, room.region)? + room.offset as u64;
            let segment = Segment { addr, len: room.len as u32, write: true };
            self.rx.add(&[segment], frame);
            added += 1;
        }
        Ok(added)
    }

    /// Refills the receive ring, in batches.
    fn refill(&mut self) -> Result<(), DeviceError> {
        let (size, free) = (self.rx.ring.size(), self.rx.ring.free());
        let outstanding = self.rx.ring.outstanding();
        if free == 0 || (free < (size / 4).clamp(1, 64) && outstanding > 0) {
            return Ok(());
        }
        if self.fill()? > 0 && self.rx.ring.publish() {
            self.stats.doorbells += 1;
            self.rx.doorbell.ring(&self.session, &self.rx.ring)?;
        }
        Ok(())
    }

    /// Before anything else: is there still a device?
    fn check(&mut self) -> Result<(), DeviceError> {
        let result = self.session.check();
        if result.is_err() && self.session.is_quiesced() {
            // The device cannot reach them any more.
            self.rx.frames().chain(self.tx.frames()).for_each(drop);
            self.partial = None;
        }
        result
    }

    fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.rx.ring.disable_interrupt();
            self.tx.ring.disable_interrupt();
        }
    }

    /// One used receive buffer: more of a frame, or the first of one.
    fn take_buffer(&mut self, used: Used) -> Option<Frame> {
        let (mut frame, identity) = self.rx.take(used);
        let len = used.len as usize;
        if let Some(mut partial) = self.partial.take() {
            frame.set_filled(len);
            partial.missing -= 1;
            if !partial.spoiled {
                frame.share(0..len, |payload| {
                    partial.spoiled |= partial.frame.push_payload(payload).is_err();
                });
            }
            if partial.missing > 0 {
                self.partial = Some(partial);
                return None;
            }
            return self.finish(partial);
        }
        if len < HEADER_LEN {
            self.stats.rx_errors += 1;
            return None;
        }
        frame.set_filled(len);
        // A copy: the device could change the header while it is judged.
        let mut bytes = [0; HEADER_LEN];
        frame.copy_to(0, &mut bytes);
        frame.trim_front(HEADER_LEN);
        let header = VirtioNetHeader::read_from_bytes(&bytes).expect("as long as a header");
        // "num_buffers ... is always 1 without MRG_RXBUF" (5.1.6.1): then the field is not believed.
        let buffers = if self.limits.mergeable { header.num_buffers.get() } else { 1 };
        if buffers == 0 {
            self.stats.rx_errors += 1;
            return None;
        }
        let spoiled = usize::from(buffers) > RX_BUFFERS_MAX;
        let partial = Partial { frame, header, identity, missing: buffers - 1, spoiled };
        if partial.missing > 0 {
            self.partial = Some(partial);
            return None;
        }
        self.finish(partial)
    }

    fn finish(&mut self, partial: Partial) -> Option<Frame> {
        let Partial { mut frame, header, identity, spoiled, .. } = partial;
        let len = frame.len();
        let judged = (!spoiled && frame.head().len() >= FRAME_LEN_MIN)
            .then(|| {
                let mut bytes = [0; HEADER_LEN];
                bytes.copy_from_slice(tandem_packet::zerocopy::IntoBytes::as_bytes(&header));
                let view = VirtioNetView::new(&bytes).ok()?;
                let repr = VirtioNetRepr::parse(&view).ok()?;
                // The MTU binds what we send; a longer frame that came is a frame, up to what IP can say.
                if len > GSO_BYTES_MAX {
                    return None;
                }
                header::report(&repr, frame.head(), len, self.limits.rx).ok()
            })
            .flatten();
        let Some(meta) = judged else {
            self.stats.rx_errors += 1;
            return None;
        };
        *frame.meta_mut() = meta;
        frame.meta_mut().identity = Some(identity);
        self.stats.rx_packets += u64::from(meta.wire_frames());
        self.stats.rx_bytes += len as u64;
        self.stats.rx_csum_valid += u64::from(meta.csum == Csum::Valid);
        self.stats.multicast += u64::from(frame.head()[0] & 1);
        Some(frame)
    }

    /// Takes back transmitted frames while there is room to remember their tokens.
    fn reclaim(&mut self) -> Result<(), DeviceError> {
        while !self.tokens_full() {
            match self.tx.ring.pop() {
                Ok(Some(used)) => {
                    let (frame, _) = self.tx.take(used);
                    self.tokens.extend(frame.meta().token);
                }
                Ok(None) => break,
                Err(fault) => {
                    return Err(self.session.needs_reset(format!("transmit ring: {fault}")));
                }
            }
        }
        Ok(())
    }

    /// The header for a frame, or why it can never be carried.
    fn request(&self, frame: &Frame) -> Option<VirtioNetRepr> {
        let meta = frame.meta();
        let longest = if meta.gso.is_some() { GSO_BYTES_MAX } else { self.limits.frame_len_max };
        let len = frame.len();
        if len < FRAME_LEN_MIN || len > longest {
            return None;
        }
        let inline = usize::from(frame.headroom() < HEADER_LEN || frame.head().is_empty());
        if frame.piece_count() + inline > usize::from(self.tx.ring.size()).min(CHAIN_MAX) {
            return None;
        }
        header::request(meta, len, self.limits.tx).ok()
    }

    /// Puts the header before the frame and the frame on the ring. `None` when it is to be dropped.
    fn enqueue(&mut self, mut frame: Frame, repr: VirtioNetRepr) -> Result<Option<()>, DmaError> {
        let mut segments = [Segment::default(); CHAIN_MAX];
        let mut count = 0;
        let in_front = !frame.head().is_empty() && frame.headroom() >= HEADER_LEN;
        if in_front {
            match frame.push_front(HEADER_LEN) {
                Ok(front) => repr.emit(front),
                Err(_) => return Ok(None),
            }
        } else {
            // A header of its own, in memory of ours: a descriptor more.
            let slot = usize::from(self.tx.ring.next_id()) * HEADER_SLOT;
            let mut bytes = [0; HEADER_LEN];
            repr.emit(&mut bytes);
            self.headers.write(slot, &bytes);
            let addr = self.addresses.of(&self.session, &self.headers)? + slot as u64;
            segments[0] = Segment { addr, len: HEADER_LEN as u32, write: false };
            count = 1;
        }
        for piece in frame.dma_pieces() {
            let addr = self.addresses.of(&self.session, piece.region)? + piece.offset as u64;
            segments[count] = Segment { addr, len: piece.len as u32, write: false };
            count += 1;
        }
        self.tx.add(&segments[..count], frame);
        Ok(Some(()))
    }

    fn count_dropped(&mut self, token: Option<u64>) {
        self.stats.tx_errors += 1;
        self.stats.tx_dropped += 1;
        // The sender waits for the token all the same.
        self.tokens.extend(token);
    }

    /// No token is taken back beyond this: who never asks for completions finds the ring full.
    fn tokens_full(&self) -> bool {
        self.tokens.len() >= usize::from(self.tx.ring.size())
    }

    fn transmit_batch(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        let mut outcome = TransmitOutcome::default();
        while let Some(frame) = batch.front() {
            let Some(repr) = self.request(frame) else {
                if self.tokens_full() {
                    outcome.full = true;
                    break;
                }
                let frame = batch.pop_front().expect("looked at above");
                self.count_dropped(frame.meta().token);
                outcome.taken += 1;
                continue;
            };
            // One more than the pieces, in case the header needs a descriptor.
            let own_header = frame.head().is_empty() || frame.headroom() < HEADER_LEN;
            let needed = frame.piece_count() + usize::from(own_header);
            if usize::from(self.tx.ring.free()) < needed {
                self.reclaim()?;
                if usize::from(self.tx.ring.free()) < needed {
                    outcome.full = true;
                    break;
                }
            }
            let frame = batch.pop_front().expect("looked at above");
            let (len, segments) = (frame.len(), frame.meta().wire_frames());
            let token = frame.meta().token;
            let csum = matches!(frame.meta().csum, Csum::Partial { .. });
            outcome.taken += 1;
            match self.enqueue(frame, repr) {
                Ok(Some(())) => {
                    self.stats.tx_packets += u64::from(segments);
                    self.stats.tx_bytes += len as u64;
                    self.stats.tx_csum += u64::from(csum);
                }
                Ok(None) => self.count_dropped(token),
                Err(DmaError::Gone) => {
                    let reason = "its DMA domain is gone".into();
                    let gone = crate::TransportError::Gone { reason };
                    return Err(self.session.access_failed(gone));
                }
                Err(error) => {
                    tracing::warn!(device = %self.session.name, %error, "frame dropped");
                    self.count_dropped(token);
                }
            }
        }
        if self.tx.ring.publish() {
            self.stats.doorbells += 1;
            self.tx.doorbell.ring(&self.session, &self.tx.ring)?;
        }
        Ok(outcome)
    }

    fn receive_batch(&mut self, budget: usize, batch: &mut Batch) -> Result<usize, DeviceError> {
        let mut count = 0;
        while count < budget {
            match self.rx.ring.pop() {
                Ok(Some(used)) => {
                    if let Some(frame) = self.take_buffer(used) {
                        batch.push_back(frame);
                        count += 1;
                    }
                }
                Ok(None) => break,
                Err(fault) => {
                    let error = self.session.needs_reset(format!("receive ring: {fault}"));
                    // What came before is good; the next call tells.
                    return if count > 0 { Ok(count) } else { Err(error) };
                }
            }
        }
        self.refill()?;
        if count > 0 {
            self.empty_polls = 0;
        } else {
            self.empty_polls += 1;
            if self.empty_polls >= EMPTY_POLLS_MAX {
                self.empty_polls = 0;
                self.service()?;
            }
        }
        Ok(count)
    }

    /// Takes interrupts and looks at what the device says of itself. Without a vector for that, this
    /// costs a register access.
    fn service(&mut self) -> Result<(), DeviceError> {
        if let Some(vector) = self.vector {
            let pending = self.session.registers.transport.interrupt_pending(vector);
            let pending = pending.map_err(|error| self.session.access_failed(error))?;
            self.stats.interrupts += u64::from(pending);
        }
        self.session.service_config()
    }
}

impl Queue for NetQueue {
    fn receive(&mut self, budget: usize, batch: &mut Batch) -> Result<usize, DeviceError> {
        self.check()?;
        self.disarm();
        let result = self.receive_batch(budget, batch);
        self.session.stats.publish(&self.stats);
        result
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        self.check()?;
        let result = self.transmit_batch(batch);
        self.session.stats.publish(&self.stats);
        result
    }

    fn completed(&mut self, tokens: &mut Vec<u64>) -> Result<(), DeviceError> {
        tokens.append(&mut self.tokens);
        self.check()?;
        self.reclaim()?;
        tokens.append(&mut self.tokens);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.tx.ring.outstanding().into()
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.check()?;
        // Old interrupts first: one that comes from here on must stay visible.
        self.service()?;
        self.reclaim()?;
        self.refill()?;
        self.session.stats.publish(&self.stats);
        self.armed = true;
        let rx_idle = self.rx.ring.enable_interrupt();
        let tx_idle = self.tx.ring.outstanding() == 0 || self.tx.ring.enable_interrupt();
        // Without a buffer on the ring no frame can come and wake us, and buffers that return to the
        // pool do not either: only polling goes on.
        let starved = self.rx.ring.outstanding() == 0;
        if rx_idle && tx_idle && self.tokens.is_empty() && !starved {
            return Ok(true);
        }
        self.disarm();
        Ok(false)
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        self.wait.as_ref().map(OwnedFd::as_fd)
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

impl Drop for NetQueue {
    fn drop(&mut self) {
        self.session.stats.publish(&self.stats);
        self.session.bury(self.rx.frames().chain(self.tx.frames()));
    }
}

/// One descriptor that is readable when the queue, the configuration or a removal wants attention.
fn wait_set(session: &Session, vector: Option<u16>) -> rustix::io::Result<Option<OwnedFd>> {
    let transport = &session.registers.transport;
    let queue = vector.and_then(|vector| transport.interrupt_fd(vector));
    let Some(queue) = queue else { return Ok(None) };
    let config = session.config_vector.and_then(|vector| transport.interrupt_fd(vector));
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for fd in [Some(queue), config, transport.removal_fd()].into_iter().flatten() {
        epoll::add(&set, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    Ok(Some(set))
}
