//! The neighbour cache of one namespace on one shard: ARP and neighbour discovery in one machine.
//!
//! ```text
//!   (none) --use--> INCOMPLETE --answer--> REACHABLE --time--> STALE --use--> DELAY --time--> PROBE
//!                       |  no answer          ^                  ^              |               |
//!                     (none)                  +--- confirmed by upper layer ----+--- answer ----+
//!                                                                                no answer: (none)
//! ```
//!
//! States and times are those of RFC 4861 section 7.3; IPv4 goes through the same, with broadcast
//! requests for INCOMPLETE and unicast ones for PROBE (RFC 1122 section 2.3.2.1). REACHABLE becomes
//! STALE when it is looked at after its time, so that an idle neighbour arms no timer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;
use foldhash::fast::FixedState;
use tandem_device::Frame;
use tandem_packet::MacAddr;

use crate::limits;
use crate::time::Instant;
use crate::wheel::TimerId;

/// Names an entry until it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeighbourRef {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody asked for it yet.
    New,
    Incomplete,
    Reachable(Instant),
    Stale,
    Delay,
    Probe,
    Permanent,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    live: bool,
    iface: u16,
    address: IpAddr,
    mac: MacAddr,
    state: State,
    solicits: u8,
    used: bool,
    timer: Option<TimerId>,
    pending: ArrayVec<Frame, { limits::NEIGHBOUR_PENDING_MAX }>,
}

/// What to do to reach a neighbour now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Send to this station.
    Send(MacAddr),
    /// Send to this station, and arm the timer: it must be probed soon.
    SendAndArm(MacAddr, Duration),
    /// Hold the packet back, ask everybody, and arm the timer.
    Solicit(Duration),
    /// Hold the packet back: the question was asked.
    Wait,
    /// The entry was forgotten: look it up again.
    Gone,
}

/// How an address was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// An answer to our question; the flag allows it to replace another address.
    Answer { overrides: bool },
    /// Told without being asked.
    Announced { overrides: bool },
    /// Its question, or our datagrams' sender.
    Observed,
}

/// What a timer that fired asks for.
#[derive(Debug)]
pub(crate) enum Expiry {
    /// Nothing: the entry changed since.
    Nothing,
    /// Ask again: everybody, or only this station. Arm the timer again.
    Solicit { iface: u16, address: IpAddr, unicast: Option<MacAddr>, again: Duration },
    /// It did not answer: these packets cannot be delivered.
    Failed { pending: ArrayVec<Frame, { limits::NEIGHBOUR_PENDING_MAX }> },
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Neighbours {
    entries: Vec<Entry>,
    free: Vec<u32>,
    index: HashMap<(u16, IpAddr), u32, FixedState>,
    /// Where the search for an entry to forget goes on.
    hand: usize,
    reachable: Duration,
}

impl Neighbours {
    /// A cache whose hash and reachable time come from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        // RFC 4861 section 6.3.2: uniform between 0.5 and 1.5 of the base.
        let spread = 500 + seed % 1001;
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(FixedState::with_seed(seed)),
            hand: 0,
            reachable: limits::REACHABLE_TIME * spread as u32 / 1000,
        }
    }

    fn entry(&mut self, name: NeighbourRef) -> Option<&mut Entry> {
        self.entries
            .get_mut(name.index as usize)
            .filter(|entry| entry.live && entry.generation == name.generation)
    }

    pub(crate) fn is_live(&self, name: NeighbourRef) -> bool {
        self.entries
            .get(name.index as usize)
            .is_some_and(|entry| entry.live && entry.generation == name.generation)
    }

    /// Where a neighbour is.
    pub(crate) fn address(&self, name: NeighbourRef) -> Option<(u16, IpAddr)> {
        let entry = self.entries.get(name.index as usize)?;
        (entry.live && entry.generation == name.generation).then_some((entry.iface, entry.address))
    }

    /// The station of a neighbour, once it was told.
    pub(crate) fn mac(&self, name: NeighbourRef) -> Option<MacAddr> {
        let entry = self.entries.get(name.index as usize)?;
        let known = !matches!(entry.state, State::New | State::Incomplete);
        (entry.live && entry.generation == name.generation && known).then_some(entry.mac)
    }

    pub(crate) fn find(&self, iface: u16, address: IpAddr) -> Option<NeighbourRef> {
        let &index = self.index.get(&(iface, address))?;
        Some(NeighbourRef { index, generation: self.entries[index as usize].generation })
    }

    /// The entry of a neighbour, made when there is none. `None` when there is no room and nothing to
    /// forget; the flag tells that another was forgotten, whose packets are dropped.
    pub(crate) fn find_or_add(
        &mut self,
        iface: u16,
        address: IpAddr,
    ) -> Option<(NeighbourRef, Option<Evicted>)> {
        if let Some(name) = self.find(iface, address) {
            return Some((name, None));
        }
        let mut evicted = None;
        if self.index.len() >= limits::NEIGHBOURS_MAX {
            evicted = Some(self.evict()?);
        }
        let fresh = |generation| Entry {
            generation,
            live: true,
            iface,
            address,
            mac: MacAddr::ZERO,
            state: State::New,
            solicits: 0,
            used: true,
            timer: None,
            pending: ArrayVec::new(),
        };
        let index = match self.free.pop() {
            Some(index) => {
                let entry = &mut self.entries[index as usize];
                *entry = fresh(entry.generation);
                index
            }
            None => {
                self.entries.push(fresh(0));
                (self.entries.len() - 1) as u32
            }
        };
        self.index.insert((iface, address), index);
        let generation = self.entries[index as usize].generation;
        Some((NeighbourRef { index, generation }, evicted))
    }

    /// Forgets an entry that was not used lately; looks at a bounded number of them.
    fn evict(&mut self) -> Option<Evicted> {
        for _ in 0..limits::NEIGHBOUR_EVICT_SCAN.min(2 * self.entries.len()) {
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            let entry = &mut self.entries[at];
            if !entry.live || entry.state == State::Permanent {
                continue;
            }
            if std::mem::take(&mut entry.used) {
                continue;
            }
            return Some(self.forget(at as u32));
        }
        // All were used lately: the one under the hand goes all the same, unless it is permanent.
        let at = self.hand % self.entries.len();
        self.hand = at + 1;
        let entry = &self.entries[at];
        (entry.live && entry.state != State::Permanent).then(|| self.forget(at as u32))
    }

    fn forget(&mut self, index: u32) -> Evicted {
        let entry = &mut self.entries[index as usize];
        self.index.remove(&(entry.iface, entry.address));
        entry.live = false;
        entry.generation = entry.generation.wrapping_add(1);
        let evicted = Evicted { dropped: entry.pending.len(), timer: entry.timer.take() };
        entry.pending.clear();
        self.free.push(index);
        evicted
    }

    /// Makes an entry permanent.
    pub(crate) fn set_permanent(&mut self, name: NeighbourRef, mac: MacAddr) {
        if let Some(entry) = self.entry(name) {
            entry.mac = mac;
            entry.state = State::Permanent;
        }
    }

    /// Forgets what was learnt on an interface; permanent entries stay. Returns their timers.
    pub(crate) fn flush(&mut self, iface: u16, mut sink: impl FnMut(Evicted)) {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.live && entry.iface == iface && entry.state != State::Permanent {
                sink(self.forget(index as u32));
            }
        }
    }

    /// How to reach a neighbour now; using it moves its state on.
    #[inline]
    pub(crate) fn way(&mut self, name: NeighbourRef, now: Instant) -> Way {
        let Some(entry) = self.entry(name) else { return Way::Gone };
        entry.used = true;
        match entry.state {
            State::Reachable(until) if now < until => Way::Send(entry.mac),
            State::Permanent | State::Delay | State::Probe => Way::Send(entry.mac),
            State::Reachable(_) | State::Stale => {
                entry.state = State::Delay;
                Way::SendAndArm(entry.mac, limits::DELAY_FIRST_PROBE)
            }
            State::New => {
                entry.state = State::Incomplete;
                entry.solicits = 1;
                Way::Solicit(limits::RETRANS_TIMER)
            }
            State::Incomplete => Way::Wait,
        }
    }

    /// Keeps a packet until the neighbour answers; the oldest goes when there are too many, and true is
    /// returned (RFC 4861 section 7.2.2; RFC 1122 section 2.3.2.2 asks for at least one).
    pub(crate) fn hold(&mut self, name: NeighbourRef, frame: Frame) -> bool {
        let Some(entry) = self.entry(name) else { return true };
        let full = entry.pending.is_full();
        if full {
            entry.pending.remove(0);
        }
        entry.pending.push(frame);
        full
    }

    /// Whether packets wait, so that a sender had better not make more.
    pub(crate) fn is_congested(&self, name: NeighbourRef) -> bool {
        self.entries.get(name.index as usize).is_some_and(|entry| {
            entry.live && entry.generation == name.generation && entry.pending.is_full()
        })
    }

    /// Packets that waited, and the station that they go to now.
    pub(crate) fn take_pending(&mut self, name: NeighbourRef) -> Option<(MacAddr, Frame)> {
        let entry = self.entry(name)?;
        if matches!(entry.state, State::New | State::Incomplete) || entry.pending.is_empty() {
            return None;
        }
        Some((entry.mac, entry.pending.remove(0)))
    }

    pub(crate) fn set_timer(&mut self, name: NeighbourRef, timer: TimerId) -> Option<TimerId> {
        self.entry(name)?.timer.replace(timer)
    }

    /// The entry's timer fired.
    pub(crate) fn expire(&mut self, name: NeighbourRef) -> Expiry {
        let Some(entry) = self.entry(name) else { return Expiry::Nothing };
        entry.timer = None;
        match entry.state {
            State::Incomplete | State::Probe if entry.solicits < limits::SOLICITS_MAX => {
                entry.solicits += 1;
            }
            State::Delay => {
                entry.state = State::Probe;
                entry.solicits = 1;
            }
            State::Incomplete | State::Probe => {
                let pending = std::mem::take(&mut entry.pending);
                self.forget(name.index);
                return Expiry::Failed { pending };
            }
            _ => return Expiry::Nothing,
        }
        Expiry::Solicit {
            iface: entry.iface,
            address: entry.address,
            unicast: (entry.state == State::Probe).then_some(entry.mac),
            again: limits::RETRANS_TIMER,
        }
    }

    /// An upper layer made progress with this neighbour (RFC 4861 section 7.3.1).
    #[inline]
    pub(crate) fn confirm(&mut self, name: NeighbourRef, now: Instant) -> Option<TimerId> {
        let until = now + self.reachable;
        let entry = self.entry(name)?;
        match entry.state {
            State::Reachable(_) | State::Stale | State::Delay | State::Probe => {
                entry.state = State::Reachable(until);
                entry.timer.take()
            }
            State::New | State::Incomplete | State::Permanent => None,
        }
    }

    /// Takes in what was learnt about an entry. Returns what changed.
    pub(crate) fn learn(
        &mut self,
        name: NeighbourRef,
        mac: Option<MacAddr>,
        evidence: Evidence,
        now: Instant,
    ) -> Learnt {
        let until = now + self.reachable;
        let Some(entry) = self.entry(name) else { return Learnt::default() };
        let differs = mac.is_some_and(|mac| mac != entry.mac);
        match entry.state {
            State::Permanent => return Learnt::default(),
            State::New | State::Incomplete => {
                // RFC 4861 section 7.2.5: without an address there is nothing to learn yet.
                let Some(mac) = mac else { return Learnt::default() };
                entry.mac = mac;
                entry.state = match evidence {
                    Evidence::Answer { .. } => State::Reachable(until),
                    _ => State::Stale,
                };
            }
            State::Reachable(_) | State::Stale | State::Delay | State::Probe => match evidence {
                Evidence::Answer { overrides: false }
                | Evidence::Announced { overrides: false }
                    if differs =>
                {
                    // RFC 4861 section 7.2.5, I: only REACHABLE becomes STALE.
                    if matches!(entry.state, State::Reachable(_)) {
                        entry.state = State::Stale;
                    }
                    return Learnt::default();
                }
                Evidence::Answer { .. } => {
                    entry.mac = mac.unwrap_or(entry.mac);
                    entry.state = State::Reachable(until);
                }
                Evidence::Announced { .. } | Evidence::Observed => {
                    if !differs {
                        return Learnt::default();
                    }
                    entry.mac = mac.unwrap_or(entry.mac);
                    entry.state = State::Stale;
                }
            },
        }
        Learnt { resolved: true, disarm: entry.timer.take(), is_news: differs }
    }

    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

/// What [`Neighbours::learn`] changed.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    /// Packets may go that waited.
    pub(crate) resolved: bool,
    /// Timer that is not wanted any more.
    pub(crate) disarm: Option<TimerId>,
    /// It is at another station than was known.
    pub(crate) is_news: bool,
}

/// An entry that was forgotten.
#[derive(Debug)]
pub(crate) struct Evicted {
    /// Packets that waited for it.
    pub(crate) dropped: usize,
    /// Its timer.
    pub(crate) timer: Option<TimerId>,
}
