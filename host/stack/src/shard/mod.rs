//! A shard: one core's share of the stack.

mod datagram;
mod icmp;
mod input;
mod net;
mod request;
mod resolve;
mod stream;

use tandem_device::{Batch, Pool};
use tandem_offload::{Counters, Plan};

pub use datagram::Received;
pub use net::Link;
pub(crate) use net::{Egress, Net};
pub use request::ConnectOptions;

use crate::event::{Event, SocketHandle};
use crate::limits;
use crate::mesh::{Mail, Mesh};
use crate::namespace::{IfaceId, Namespace, NamespaceId};
use crate::neighbour::NeighbourRef;
use crate::random::Random;
use crate::socket::Sockets;
use crate::stats::NamespaceStats;
use crate::tcp;
use crate::time::Instant;
use crate::wheel::Wheel;

/// A new shard.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which one of the mesh, from 0.
    pub index: u16,
    /// The mailboxes that it shares with the others.
    pub mesh: Mesh,
    /// Where frames' heads come from: at least 512 bytes each, so that headers and a minimal packet fit.
    pub frames: Pool,
    /// Where payload is copied to that sockets send.
    pub payload: Pool,
    /// Seed of what need not agree between shards (jitter, first port); from a good random source,
    /// different for each shard, or fixed for a run that can be repeated.
    pub seed: [u8; 16],
    /// What new connections begin with.
    pub tcp: tcp::Config,
}

impl ShardConfig {
    /// A shard of its own, without others.
    pub fn single(frames: Pool, payload: Pool, seed: [u8; 16]) -> Self {
        Self { index: 0, mesh: Mesh::new(1), frames, payload, seed, tcp: tcp::Config::default() }
    }
}

/// What a timer of the wheel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    Neighbour { net: u16, name: NeighbourRef },
    Stream(SocketHandle),
    TimeWait { net: u16 },
}

/// What all namespaces of a shard use.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) now: Instant,
    pub(crate) index: u16,
    mesh: Mesh,
    pub(crate) frames: Pool,
    pub(crate) payload: Pool,
    pub(crate) random: Random,
    pub(crate) sockets: Sockets,
    pub(crate) wheel: Wheel<Timer>,
    pub(crate) tcp: tcp::Config,
    /// Shards that were written to since they were last named.
    wakes: [u64; limits::SHARDS_MAX as usize / 64],
}

impl Core {
    fn at(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Puts mail into a shard's box.
    pub(crate) fn post(&mut self, shard: u16, mail: Mail) -> Result<(), Mail> {
        self.mesh.post(shard, mail)?;
        self.wakes[usize::from(shard) / 64] |= 1 << (shard % 64);
        Ok(())
    }
}

/// What a [`Shard::turn`] left undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Frames of the mailbox and the loopback that were taken in.
    pub frames: usize,
    /// The budget was used up: call again before sleeping.
    pub more: bool,
}

/// One core's share of the stack: pure, without I/O, clock, random source or thread.
///
/// All methods that take `now` may be called at any moment that is not before the last.
#[derive(Debug)]
pub struct Shard {
    core: Core,
    nets: Vec<Net>,
    /// Frames between offload and input; kept so that it is not allocated each time.
    scratch: Batch,
    unclaimed_frames: u64,
}

impl Shard {
    /// Makes a shard that has joined no namespace.
    ///
    /// # Panics
    /// When the index is not in the mesh or the frames' buffers are below 512 bytes.
    pub fn new(config: ShardConfig) -> Self {
        assert!(config.index < config.mesh.shards(), "shard {} of the mesh", config.index);
        assert!(
            config.frames.buffer_len() >= 512,
            "frames of {} bytes",
            config.frames.buffer_len()
        );
        Self {
            core: Core {
                now: Instant::ZERO,
                index: config.index,
                mesh: config.mesh,
                frames: config.frames,
                payload: config.payload,
                random: Random::new(config.seed),
                sockets: Sockets::default(),
                wheel: Wheel::new(),
                tcp: config.tcp,
                wakes: [0; limits::SHARDS_MAX as usize / 64],
            },
            nets: Vec::new(),
            scratch: Batch::new(),
            unclaimed_frames: 0,
        }
    }

    /// Its index in the mesh.
    pub fn index(&self) -> u16 {
        self.core.index
    }

    /// Takes part in a namespace. Joining twice does nothing.
    ///
    /// # Panics
    /// When the namespace spans another number of shards than the mesh, or another one of the same
    /// name was joined.
    pub fn join(&mut self, namespace: &Namespace) {
        let shared = &namespace.shared;
        assert_eq!(shared.shards, self.core.mesh.shards(), "shards of the namespace and the mesh");
        if let Some(slot) = self.slot(shared.id) {
            let known = std::sync::Arc::ptr_eq(&self.nets[slot].shared, shared);
            assert!(known, "two namespaces are called {:?}", shared.id);
            return;
        }
        let slot = u16::try_from(self.nets.len()).expect("fewer than 65,536 namespaces");
        let net = Net::new(slot, shared.clone(), &mut self.core);
        self.nets.push(net);
    }

    fn slot(&self, id: NamespaceId) -> Option<usize> {
        self.nets.iter().position(|net| net.shared.id == id)
    }

    /// The namespace, with its newest tables.
    fn net(&mut self, id: NamespaceId) -> Option<(&mut Net, &mut Core)> {
        let slot = self.slot(id)?;
        let net = &mut self.nets[slot];
        net.refresh(&mut self.core);
        Some((net, &mut self.core))
    }

    /// Tells what the device of an interface is now: at the start, when its link or its capabilities
    /// change, and when another device took its place. To be told to every shard that serves it.
    ///
    /// Connections are kept: ways out are looked up anew, and frames that were lost with a device are
    /// sent again by their connections. When the station address changed, shard 0 announces it
    /// (RFC 5227 section 3; RFC 4861 section 7.2.6).
    ///
    /// Returns false when there is no such interface here.
    pub fn changed(&mut self, now: Instant, iface: IfaceId, link: &Link) -> bool {
        self.core.at(now);
        let Some((net, core)) = self.net(iface.namespace) else { return false };
        if usize::from(iface.index) >= net.ports.len()
            || net.ports[usize::from(iface.index)].is_loopback
        {
            return false;
        }
        let other_mac = net.set_link(core, iface.index, link);
        if other_mac && core.index == 0 {
            net.announce(core, iface.index);
        }
        true
    }

    /// Tells the link which station our addresses are at, as after a migration (virtio's GUEST_ANNOUNCE
    /// asks for it). [`Shard::changed`] does so by itself when the station address changed.
    pub fn announce(&mut self, now: Instant, iface: IfaceId) {
        self.core.at(now);
        if let Some((net, core)) = self.net(iface.namespace)
            && usize::from(iface.index) < net.ports.len()
        {
            net.announce(core, iface.index);
        }
    }

    /// Takes in what a device received. The batch is empty afterwards. Frames of an interface that the
    /// shard does not know are dropped and counted in [`Shard::unclaimed_frames`].
    pub fn receive(&mut self, now: Instant, iface: IfaceId, batch: &mut Batch) {
        self.core.at(now);
        let slot = self.slot(iface.namespace);
        let port = usize::from(iface.index);
        let Some(net) = slot.map(|slot| &mut self.nets[slot]) else {
            self.unclaimed_frames += batch.len() as u64;
            batch.clear();
            return;
        };
        net.refresh(&mut self.core);
        if port >= net.ports.len() || net.ports[port].is_loopback {
            self.unclaimed_frames += batch.len() as u64;
            batch.clear();
            return;
        }
        net.receive(&mut self.core, iface.index, batch, &mut self.scratch);
    }

    /// Frames for interfaces that this shard does not know.
    pub fn unclaimed_frames(&self) -> u64 {
        self.unclaimed_frames
    }

    /// Appends to `out` what an interface's device is to send, until `budget` frames were added or
    /// there is no more; returns how many. Connections take turns, a super-segment each. The last
    /// super-segment may overshoot the budget by the segments that software cuts it into.
    ///
    /// A budget below the device's room is how back-pressure reaches the connections: what is not taken
    /// stays unbuilt.
    pub fn transmit(
        &mut self,
        now: Instant,
        iface: IfaceId,
        budget: usize,
        out: &mut Batch,
    ) -> usize {
        self.core.at(now);
        match self.net(iface.namespace) {
            Some((net, core)) if usize::from(iface.index) < net.ports.len() => {
                net.transmit(core, iface.index, budget, out)
            }
            _ => 0,
        }
    }

    /// Does what no device asks for: the mailbox, timers that are due, the loopback; at most `budget`
    /// frames.
    pub fn turn(&mut self, now: Instant, budget: usize) -> Turn {
        self.core.at(now);
        let mut turn = Turn::default();
        while turn.frames < budget {
            let Some(mail) = self.core.mesh.take(self.core.index) else { break };
            turn.frames += 1;
            self.take_mail(mail);
        }
        while let Some(timer) = self.core.wheel.pop(now) {
            self.fire(timer);
        }
        for slot in 0..self.nets.len() {
            let net = &mut self.nets[slot];
            net.refresh(&mut self.core);
            turn.frames += net.run_loopback(&mut self.core, budget.saturating_sub(turn.frames));
            turn.more |= net.loopback_wants_more();
        }
        turn.more |= self.core.mesh.has_mail(self.core.index);
        turn
    }

    fn take_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Frame { iface, frame } => {
                if let Some((net, core)) = self.net(iface.namespace)
                    && usize::from(iface.index) < net.ports.len()
                {
                    net.input_mail(core, iface.index, frame);
                } else {
                    self.unclaimed_frames += 1;
                }
            }
            Mail::Neighbour { iface, address, mac, evidence } => {
                if let Some((net, core)) = self.net(iface.namespace)
                    && usize::from(iface.index) < net.ports.len()
                {
                    net.learn(core, iface.index, address, mac, evidence, false);
                }
            }
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Neighbour { net, name } => {
                self.nets[usize::from(net)].neighbour_expired(&mut self.core, name);
            }
            Timer::Stream(handle) => {
                if let Some(net) = self.core.sockets.net(handle) {
                    self.nets[usize::from(net)].stream_deadline(&mut self.core, handle);
                }
            }
            Timer::TimeWait { net } => {
                self.nets[usize::from(net)].expire_time_waits(&mut self.core);
            }
        }
    }

    /// Tokens of frames that devices are done with ([`tandem_device::FrameMeta::token`]); the sockets
    /// get [`crate::Readiness::SENT`]. The vector is empty afterwards.
    pub fn completed(&mut self, tokens: &mut Vec<u64>) {
        for token in tokens.drain(..) {
            // A datagram's token is the handle of the socket that sent it.
            let handle = SocketHandle::from_bits(token);
            self.core.sockets.signal(handle, crate::Readiness::SENT);
        }
    }

    /// The next news of a socket; `None` when there are no more.
    pub fn next_event(&mut self) -> Option<Event> {
        self.core.sockets.next_event()
    }

    /// Whether [`Shard::next_event`] has something.
    pub fn has_events(&self) -> bool {
        self.core.sockets.has_events()
    }

    /// When [`Shard::turn`] is to be called at the latest; `None` while nothing waits for time. Never
    /// late; may be early by what a timing wheel's coarser levels cost, a few times per timer.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.core.wheel.next_deadline()
    }

    /// Whether [`Shard::transmit`] has something for this interface now.
    pub fn wants_transmit(&self, iface: IfaceId) -> bool {
        self.slot(iface.namespace)
            .and_then(|slot| self.nets[slot].ports.get(usize::from(iface.index)))
            .is_some_and(|port| !port.tx.is_empty() || !port.ready.is_empty())
    }

    /// Whether [`Shard::turn`] has something now, apart from timers.
    pub fn wants_turn(&self) -> bool {
        self.core.mesh.has_mail(self.core.index) || self.nets.iter().any(Net::loopback_wants_more)
    }

    /// Shards that got mail from this one since the last call, for whoever wakes their threads.
    pub fn take_wakes(&mut self) -> impl Iterator<Item = u16> + use<> {
        let wakes = std::mem::take(&mut self.core.wakes);
        (0..limits::SHARDS_MAX)
            .filter(move |shard| wakes[usize::from(*shard) / 64] >> (shard % 64) & 1 != 0)
    }

    /// Counters of a namespace on this shard.
    pub fn stats(&self, namespace: NamespaceId) -> Option<&NamespaceStats> {
        self.slot(namespace).map(|slot| &self.nets[slot].stats)
    }

    /// What offloading did for an interface on this shard, and by which plan; `None` before its device
    /// was told.
    pub fn offload(&self, iface: IfaceId) -> Option<(&Plan, &Counters)> {
        let net = &self.nets[self.slot(iface.namespace)?];
        let offload = net.ports.get(usize::from(iface.index))?.offload.as_ref()?;
        Some((offload.plan(), offload.counters()))
    }

    /// Neighbours known in a namespace on this shard.
    pub fn neighbours(&self, namespace: NamespaceId) -> usize {
        self.slot(namespace).map_or(0, |slot| self.nets[slot].neighbours.len())
    }

    /// Sockets, connections that outlive their handle included.
    pub fn sockets(&self) -> usize {
        self.core.sockets.len()
    }

    /// The namespace of a socket, with the newest tables.
    fn net_of(&mut self, handle: SocketHandle) -> Option<(&mut Net, &mut Core)> {
        let slot = self.core.sockets.net(handle)?;
        let net = &mut self.nets[usize::from(slot)];
        net.refresh(&mut self.core);
        Some((net, &mut self.core))
    }
}
