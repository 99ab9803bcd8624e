//! The virtio network card as a [`Device`].

use std::sync::Arc;

use tandem_device::{
    Caps, Device, DeviceError, DeviceFlags, DeviceInfo, FRAGS_MAX, OperState, Pool, Queue,
    QueueLens, ReceiveMode, RxOffloads, Stats, TxOffloads,
};
use tandem_packet::MacAddr;

use crate::layout::LayoutError;
use crate::queue::{
    Addresses, Doorbell, GSO_BYTES_MAX, HEADER_LEN, Limits, NetQueue, RX_BUFFERS_MAX, Virtqueue,
};
use crate::registers::{NO_VECTOR, NetConfig, Registers, SetupError};
use crate::ring::{Ring, RingOptions};
use crate::session::Session;
use crate::{Features, PciTransport, TransportError};

/// Bytes of a frame beside its IP packet: Ethernet header and one 802.1Q tag.
const LINK_LEN: usize = 14 + 4;

/// Longest IP packet where the device does not say.
const MTU_DEFAULT: u32 = 1500;

/// Least MTU (RFC 791).
const MTU_MIN: u32 = 68;

/// Largest queue (virtio 1.3, 2.7 and 2.8).
const QUEUE_LEN_MAX: u16 = 32_768;

/// Virtqueues of the first pair (5.1.2).
const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;

/// How a [`VirtioNet`] is to be driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtioConfig {
    /// Features to take where they are offered; take bits away to force work into software, or to
    /// choose the split ring. VERSION_1 is needed.
    pub features: Features,
    /// Wanted depths in descriptors; the device's own limits apply.
    pub queue_lens: QueueLens,
    /// Whether frames are parsed where the device wrote them, see [`Caps::trusted`].
    pub trusted: bool,
    /// Station address for a device that has none of its own.
    pub mac: Option<MacAddr>,
}

impl Default for VirtioConfig {
    fn default() -> Self {
        Self {
            features: Features::all(),
            queue_lens: QueueLens { rx: 256, tx: 256 },
            trusted: false,
            mac: None,
        }
    }
}

/// A virtio network card. One pair of queues: more need the control queue, which is not driven yet.
///
/// Receive buffers come from the pool that it was made with. What is transmitted may come from any
/// pool: its memory is mapped when it is first seen.
pub struct VirtioNet {
    registers: Registers,
    pool: Pool,
    config: VirtioConfig,
    info: DeviceInfo,
    /// What [`Device::set_mtu`] may choose up to.
    mtu_max: u32,
    features: Features,
    session: Option<Arc<Session>>,
    queue: Option<NetQueue>,
    /// Depths in use, or wanted while closed.
    queue_lens: QueueLens,
    /// Counters of the last session, while closed.
    stats: Stats,
}

impl VirtioNet {
    /// Finds the device's registers, resets it, and reads what it offers. It carries nothing before
    /// [`Device::open`].
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn probe(
        transport: Arc<dyn PciTransport>,
        pool: Pool,
        config: VirtioConfig,
    ) -> Result<Self, SetupError> {
        let registers = Registers::new(transport)?;
        registers.acknowledge()?;
        let features = choose(&registers, &config, &pool).inspect_err(|_| registers.fail())?;
        let facts = registers.net_config(features).inspect_err(|_| registers.fail())?;
        let missing = SetupError::MissingFeatures { missing: Features::MAC };
        let mac = facts.mac.or(config.mac).ok_or(missing).inspect_err(|_| registers.fail())?;
        registers.reset()?;
        let mtu = facts.mtu.map_or(MTU_DEFAULT, u32::from);
        if mtu < MTU_MIN {
            return Err(SetupError::Invalid { what: "mtu", value: mtu.into() });
        }
        let info = DeviceInfo {
            name: format!("virtio {}", registers.transport.name()),
            mac,
            mtu,
            flags: DeviceFlags::BROADCAST | DeviceFlags::MULTICAST,
            speed_mbit_s: facts.speed_mbit_s,
            queues: 1,
        };
        tracing::debug!(device = %info.name, ?features, mtu, "probed");
        Ok(Self {
            registers,
            pool,
            config,
            info,
            mtu_max: mtu,
            features,
            session: None,
            queue: None,
            queue_lens: config.queue_lens,
            stats: Stats::default(),
        })
    }

    /// Features in use, or that will be asked for at the next open.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Changes the features to take, effective at the next open.
    pub fn set_features(&mut self, features: Features) {
        self.config.features = features;
    }

    /// The function.
    pub fn transport(&self) -> &Arc<dyn PciTransport> {
        &self.registers.transport
    }

    fn bring_up(&mut self) -> Result<(), SetupError> {
        self.registers.acknowledge()?;
        let prepared = choose(&self.registers, &self.config, &self.pool).and_then(|features| {
            self.registers.negotiate(features)?;
            Ok((features, self.registers.net_config(features)?))
        });
        let (features, facts) = prepared.inspect_err(|_| self.registers.fail())?;
        self.features = features;
        // From here on the session resets the device when something fails.
        self.start(&facts).inspect_err(|_| self.registers.fail())
    }

    fn start(&mut self, facts: &NetConfig) -> Result<(), SetupError> {
        let (config_vector, queue_vector) = self.vectors()?;
        let session = Arc::new(Session::new(
            self.info.name.clone(),
            self.registers.clone(),
            self.features,
            facts,
            config_vector,
        ));
        self.registers.set_config_vector(config_vector.unwrap_or(NO_VECTOR))?;
        let queues = self.registers.queue_count()?;
        if queues < 2 {
            return Err(SetupError::Invalid { what: "num_queues", value: queues.into() });
        }
        let mut addresses = Addresses::new();
        let lens = self.config.queue_lens;
        let rx = self.virtqueue(&session, &mut addresses, RECEIVE_QUEUE, lens.rx, queue_vector)?;
        let tx = self.virtqueue(&session, &mut addresses, TRANSMIT_QUEUE, lens.tx, queue_vector)?;
        self.queue_lens = QueueLens { rx: rx.ring.size(), tx: tx.ring.size() };
        let limits = Limits {
            tx: tx_offloads(self.features),
            rx: rx_offloads(self.features),
            mergeable: self.features.contains(Features::MRG_RXBUF),
            frame_len_max: self.mtu_max as usize + LINK_LEN,
        };
        let pool = self.pool.clone();
        let mut queue =
            NetQueue::new(session.clone(), rx, tx, pool, addresses, limits, queue_vector)?;
        self.registers.driver_ok()?;
        // "The driver MUST NOT send any buffer available notifications to the device before setting
        // DRIVER_OK." (3.1.1)
        queue.start()?;
        self.queue = Some(queue);
        self.session = Some(session);
        Ok(())
    }

    /// Vectors for configuration changes and for queues, as far as there are any.
    fn vectors(&self) -> Result<(Option<u16>, Option<u16>), TransportError> {
        let transport = &self.registers.transport;
        let (count, config, queue) = match transport.vectors() {
            0 => (0, None, None),
            1 => (1, None, Some(0)),
            _ => (2, Some(0), Some(1)),
        };
        match transport.enable_vectors(count) {
            Ok(()) => Ok((config, queue)),
            // Polled, then.
            Err(TransportError::Unsupported { .. }) => Ok((None, None)),
            Err(error) => Err(error),
        }
    }

    fn virtqueue(
        &self,
        session: &Session,
        addresses: &mut Addresses,
        index: u16,
        wanted: u16,
        vector: Option<u16>,
    ) -> Result<Virtqueue, SetupError> {
        let max = self.registers.queue_size_max(index)?;
        let invalid = SetupError::Invalid { what: "queue_size", value: max.into() };
        if max == 0 || max > QUEUE_LEN_MAX {
            return Err(invalid);
        }
        let packed = self.features.contains(Features::RING_PACKED);
        let mut size = wanted.min(max);
        if !packed {
            // "Queue Size value is always a power of 2." (2.7)
            if !max.is_power_of_two() {
                return Err(invalid);
            }
            size = 1 << size.ilog2();
        }
        let options = RingOptions {
            event_idx: self.features.contains(Features::EVENT_IDX),
            in_order: self.features.contains(Features::IN_ORDER),
        };
        let ring = Ring::new(packed, size, options).map_err(SetupError::Memory)?;
        let base = addresses.of(session, ring.region())?;
        let areas = ring.areas();
        let places = [areas.desc, areas.driver, areas.device].map(|at| base + at as u64);
        let vector = vector.unwrap_or(NO_VECTOR);
        let offset = self.registers.set_queue(index, size, vector, places)?;
        let notify = self.registers.layout.notify;
        let with_data = self.features.contains(Features::NOTIFICATION_DATA);
        if with_data && (offset + 4 > u64::from(notify.len) || !offset.is_multiple_of(4)) {
            return Err(SetupError::Invalid { what: "doorbell offset", value: offset });
        }
        let offset = notify.offset + offset;
        let doorbell = Doorbell { bar: notify.bar, offset, queue: index, with_data };
        Ok(Virtqueue::new(ring, doorbell))
    }

    fn setup_failed(&self, error: SetupError) -> DeviceError {
        let name = self.info.name.clone();
        match error {
            SetupError::Transport(TransportError::Gone { reason })
            | SetupError::Layout(LayoutError::Transport(TransportError::Gone { reason })) => {
                DeviceError::Gone { name, reason }
            }
            SetupError::Dma(tandem_device::DmaError::Gone) => {
                DeviceError::Gone { name, reason: "its DMA domain is gone".into() }
            }
            SetupError::Dma(error) => DeviceError::Dma(error),
            SetupError::Device(error) => *error,
            error => DeviceError::Io {
                what: format!("cannot start {name}: {error}"),
                source: std::io::Error::other(error),
            },
        }
    }

    fn unsupported(&self, what: &'static str) -> DeviceError {
        DeviceError::Unsupported { name: self.info.name.clone(), what }
    }
}

/// Chooses among what is offered, and checks that it suffices.
fn choose(
    registers: &Registers,
    config: &VirtioConfig,
    pool: &Pool,
) -> Result<Features, SetupError> {
    let offered = registers.offered()?;
    let mut wanted = (offered & config.features).without_orphans();
    if !wanted.contains(Features::VERSION_1) {
        return Err(SetupError::MissingFeatures { missing: Features::VERSION_1 });
    }
    // "A driver SHOULD accept VIRTIO_F_ACCESS_PLATFORM if it is offered" and the device may fail to
    // work otherwise (6.1): not a matter of taste.
    wanted |= offered & (Features::ACCESS_PLATFORM | Features::ORDER_PLATFORM);
    let mergeable = wanted.contains(Features::MRG_RXBUF);
    let buffer = (pool.buffer_len() - pool.headroom()) as usize;
    let room = buffer * if mergeable { RX_BUFFERS_MAX } else { 1 };
    // Coalesced frames are only asked for where they fit (5.1.6.3.1).
    if room < HEADER_LEN + GSO_BYTES_MAX {
        wanted.remove(Features::GRO);
    }
    let mtu = registers.net_config(wanted)?.mtu.map_or(MTU_DEFAULT, u32::from);
    let need = HEADER_LEN + LINK_LEN + mtu as usize;
    // All headers shall be in the first buffer.
    if room < need || buffer < need.min(HEADER_LEN + 256) {
        return Err(SetupError::ShortBuffers { have: buffer, need });
    }
    Ok(wanted)
}

fn tx_offloads(features: Features) -> TxOffloads {
    [
        (Features::CSUM, TxOffloads::CSUM),
        (Features::HOST_TSO4, TxOffloads::TSO4),
        (Features::HOST_TSO6, TxOffloads::TSO6),
        (Features::HOST_ECN, TxOffloads::TSO_ECN),
        (Features::HOST_USO, TxOffloads::USO),
    ]
    .into_iter()
    .filter(|(feature, _)| features.contains(*feature))
    .fold(TxOffloads::empty(), |set, (_, offload)| set | offload)
}

fn rx_offloads(features: Features) -> RxOffloads {
    [
        (Features::GUEST_CSUM, RxOffloads::CSUM | RxOffloads::PARTIAL),
        (Features::GUEST_TSO4, RxOffloads::GRO4),
        (Features::GUEST_TSO6, RxOffloads::GRO6),
        (Features::GUEST_USO4 | Features::GUEST_USO6, RxOffloads::UDP_GRO),
    ]
    .into_iter()
    .filter(|(feature, _)| features.intersects(*feature))
    .fold(RxOffloads::empty(), |set, (_, offload)| set | offload)
}

impl Device for VirtioNet {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn caps(&self) -> Caps {
        let tx_len = usize::from(self.queue_lens.tx);
        Caps {
            tx: tx_offloads(self.features),
            rx: rx_offloads(self.features),
            frame_len_max: self.info.mtu + LINK_LEN as u32,
            gso_bytes_max: GSO_BYTES_MAX as u32,
            gso_segments_max: u16::MAX,
            // One descriptor less, for a header that does not fit in front.
            pieces_max: (FRAGS_MAX + 1).min(tx_len.saturating_sub(1)).max(1) as u16,
            trusted: self.config.trusted,
            headroom: HEADER_LEN as u16,
        }
    }

    fn oper_state(&mut self) -> OperState {
        let Some(session) = &self.session else { return OperState::Down };
        if session.check().and_then(|()| session.service_config()).is_err() {
            return OperState::Down;
        }
        if session.link_up() { OperState::Up } else { OperState::Dormant }
    }

    fn open(&mut self) -> Result<(), DeviceError> {
        if let Some(session) = &self.session {
            return session.check();
        }
        self.bring_up().map_err(|error| self.setup_failed(error))?;
        self.info.flags |= DeviceFlags::UP;
        Ok(())
    }

    fn close(&mut self) -> Result<(), DeviceError> {
        self.queue = None;
        if let Some(session) = &self.session {
            session.quiesce()?;
            self.stats = session.stats.snapshot();
            self.session = None;
        }
        self.queue_lens = self.config.queue_lens;
        self.info.flags -= DeviceFlags::UP;
        Ok(())
    }

    fn take_queue(&mut self, index: u16) -> Result<Box<dyn Queue>, DeviceError> {
        match self.queue.take() {
            Some(queue) if index == 0 => Ok(Box::new(queue)),
            queue => {
                self.queue = queue;
                Err(DeviceError::NoQueue { name: self.info.name.clone(), index })
            }
        }
    }

    fn set_mac(&mut self, _: MacAddr) -> Result<(), DeviceError> {
        Err(self.unsupported("setting the station address (it needs the control queue)"))
    }

    fn set_receive_mode(&mut self, mode: ReceiveMode) -> Result<(), DeviceError> {
        match mode {
            // Without CTRL_RX these pass in any case, and perhaps more.
            ReceiveMode::Station | ReceiveMode::AllMulticast => Ok(()),
            ReceiveMode::Promiscuous => {
                Err(self.unsupported("promiscuous mode (it needs the control queue)"))
            }
        }
    }

    fn set_mtu(&mut self, mtu: u32) -> Result<(), DeviceError> {
        if !(MTU_MIN..=self.mtu_max).contains(&mtu) {
            let (value, min, max) = (mtu.into(), MTU_MIN.into(), self.mtu_max.into());
            return Err(DeviceError::OutOfRange { what: "MTU", value, min, max });
        }
        self.info.mtu = mtu;
        Ok(())
    }

    fn queue_lens(&self) -> QueueLens {
        self.queue_lens
    }

    fn set_queue_lens(&mut self, lens: QueueLens) -> Result<(), DeviceError> {
        for (what, len) in [("receive queue length", lens.rx), ("transmit queue length", lens.tx)] {
            if !(1..=QUEUE_LEN_MAX).contains(&len) {
                let (value, max) = (len.into(), QUEUE_LEN_MAX.into());
                return Err(DeviceError::OutOfRange { what, value, min: 1, max });
            }
        }
        self.config.queue_lens = lens;
        if self.session.is_none() {
            self.queue_lens = lens;
        }
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.session.as_ref().map_or(self.stats, |session| session.stats.snapshot())
    }
}

impl Drop for VirtioNet {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(device = %self.info.name, %error, "could not close");
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
