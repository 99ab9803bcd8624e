//! A namespace: the configuration, tables and secrets that all shards of one network share.
//!
//! What all shards read is one immutable [`Tables`] behind an `Arc`. A change makes a new one and
//! raises the generation; a shard looks at the generation once per call and takes the new snapshot
//! when it differs. So there is no lock on a data path, and nothing that a packet can make grow is in
//! here: neighbours that are learnt live in each shard and travel by mailbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tandem_packet::MacAddr;

use crate::error::ConfigError;
use crate::limits;
use crate::route::{Route, Routes};

/// Names a namespace; chosen by whoever makes it, different from all others that a shard joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NamespaceId(pub u32);

/// Names an interface of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfaceId {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Index in it; 0 is the loopback.
    pub index: u16,
}

/// What an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IfaceKind {
    /// Ethernet over a device.
    Ethernet,
    /// What is sent there comes back; no device.
    Loopback,
}

/// A new Ethernet interface.
#[derive(Debug, Clone)]
pub struct InterfaceConfig {
    /// Name, unique in the namespace.
    pub name: String,
    /// Station address of its first device. The link-local IPv6 address is made of it (RFC 4291
    /// appendix A) and stays when another device takes over.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
}

/// A new namespace.
#[derive(Debug, Clone)]
pub struct NamespaceConfig {
    /// Its name among all that a shard joins.
    pub id: NamespaceId,
    /// Key of everything that peers must not guess: sequence numbers, ports, hash tables. From a good
    /// random source; a fixed one makes a run reproducible.
    pub secret: [u8; 16],
    /// Shards that it spans, 1 to [`limits::SHARDS_MAX`].
    pub shards: u16,
}

/// An interface as all shards know it.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name among all.
    pub id: IfaceId,
    /// Its name for people.
    pub name: String,
    /// What it is.
    pub kind: IfaceKind,
    /// Station address to begin with; [`crate::Shard::changed`] replaces it.
    pub mac: MacAddr,
    /// MTU to begin with, bytes; [`crate::Shard::changed`] replaces it.
    pub mtu: u32,
    /// Addresses with the prefixes that are on the link.
    pub addresses: Vec<IpNet>,
}

impl Interface {
    /// Whether this address is the interface's.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether it is the broadcast address of one of the interface's IPv4 prefixes (RFC 919, 922).
    pub(crate) fn is_subnet_broadcast(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|net| match net {
            IpNet::V4(net) => net.prefix_len() <= 30 && net.broadcast() == address,
            IpNet::V6(_) => false,
        })
    }
}

/// A listener as all shards know it.
#[derive(Debug, Clone)]
pub(crate) struct ListenerEntry {
    pub(crate) budget: Arc<Backlog>,
}

/// One budget for the clones of a listener.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) limit: u32,
    /// Set up, not yet accepted.
    pub(crate) waiting: AtomicU32,
    /// In their handshake.
    pub(crate) half_open: AtomicU32,
}

impl Backlog {
    fn take(counter: &AtomicU32, limit: u32) -> bool {
        counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < limit).then_some(count + 1)
            })
            .is_ok()
    }

    /// Whether nobody more could be accepted now.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.limit
    }

    /// Room for one more handshake.
    pub(crate) fn take_half_open(&self) -> bool {
        Self::take(&self.half_open, limits::HALF_OPEN_MAX.min(self.limit.saturating_mul(2)))
    }

    pub(crate) fn return_half_open(&self) {
        self.half_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Room for one more in the accept queues.
    pub(crate) fn take_waiting(&self) -> bool {
        Self::take(&self.waiting, self.limit)
    }

    pub(crate) fn return_waiting(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all shards read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) interfaces: Vec<Arc<Interface>>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) neighbours: Arc<HashMap<(u16, IpAddr), MacAddr>>,
    /// Which interface an address of ours belongs to; link-local addresses may belong to several.
    pub(crate) locals: Arc<HashMap<IpAddr, u16>>,
    pub(crate) listeners: Arc<HashMap<(IpAddr, u16), ListenerEntry>>,
    /// Which shard a datagram socket lives on.
    pub(crate) datagrams: Arc<HashMap<(IpAddr, u16), u16>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: NamespaceId,
    pub(crate) shards: u16,
    pub(crate) secret: [u8; 16],
    generation: AtomicU64,
    tables: Mutex<Arc<Tables>>,
}

impl Shared {
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Tables>> {
        // Tables are replaced in one assignment, so a panic elsewhere leaves them whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables and the generation that they have at least.
    pub(crate) fn snapshot(&self) -> (u64, Arc<Tables>) {
        let tables = self.lock();
        (self.generation(), tables.clone())
    }

    /// Changes the tables, unless `change` fails, and publishes them.
    pub(crate) fn change<T, E>(
        &self,
        change: impl FnOnce(&mut Tables) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tables = self.lock();
        let mut copy = Tables::clone(&tables);
        let result = change(&mut copy)?;
        *tables = Arc::new(copy);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(result)
    }
}

/// A namespace: a value that spans shards. Clones are the same namespace.
///
/// It begins with a loopback interface `lo` (127.0.0.1/8 and ::1/128) and nothing else.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub(crate) shared: Arc<Shared>,
}

impl Namespace {
    /// Makes a namespace.
    ///
    /// # Panics
    /// When it spans no shards or more than [`limits::SHARDS_MAX`].
    pub fn new(config: NamespaceConfig) -> Self {
        assert!((1..=limits::SHARDS_MAX).contains(&config.shards), "{} shards", config.shards);
        let lo = Interface {
            id: IfaceId { namespace: config.id, index: 0 },
            name: "lo".into(),
            kind: IfaceKind::Loopback,
            mac: MacAddr::ZERO,
            mtu: 65_535,
            addresses: Vec::new(),
        };
        let tables = Tables { interfaces: vec![Arc::new(lo)], ..Tables::default() };
        let namespace = Self {
            shared: Arc::new(Shared {
                id: config.id,
                shards: config.shards,
                secret: config.secret,
                generation: AtomicU64::new(1),
                tables: Mutex::new(Arc::new(tables)),
            }),
        };
        let lo = namespace.loopback();
        let v4 = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        for net in [IpNet::V4(v4), IpNet::V6(v6)] {
            namespace.add_address(lo, net).expect("a fresh loopback takes its addresses");
        }
        namespace
    }

    /// Its name.
    pub fn id(&self) -> NamespaceId {
        self.shared.id
    }

    /// Its loopback interface.
    pub fn loopback(&self) -> IfaceId {
        IfaceId { namespace: self.shared.id, index: 0 }
    }

    /// Adds an Ethernet interface with a link-local IPv6 address made of its MAC. It carries nothing
    /// until [`crate::Shard::changed`] told each shard what its device can do.
    ///
    /// # Errors
    /// [`ConfigError::NameTaken`], [`ConfigError::TooMany`].
    pub fn add_interface(&self, config: InterfaceConfig) -> Result<IfaceId, ConfigError> {
        let id = self.shared.change(|tables| {
            if tables.interfaces.iter().any(|iface| iface.name == config.name) {
                return Err(ConfigError::NameTaken { name: config.name.clone() });
            }
            if tables.interfaces.len() >= limits::INTERFACES_MAX {
                return Err(ConfigError::TooMany {
                    what: "interfaces",
                    limit: limits::INTERFACES_MAX,
                });
            }
            let id = IfaceId { namespace: self.shared.id, index: tables.interfaces.len() as u16 };
            tables.interfaces.push(Arc::new(Interface {
                id,
                name: config.name,
                kind: IfaceKind::Ethernet,
                mac: config.mac,
                mtu: config.mtu,
                addresses: Vec::new(),
            }));
            Ok(id)
        })?;
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&config.mac.interface_identifier());
        let link_local = Ipv6Net::new_assert(octets.into(), 64);
        self.add_address(id, link_local.into())?;
        Ok(id)
    }

    /// Adds an address and the on-link route of its prefix.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn add_address(&self, iface: IfaceId, net: IpNet) -> Result<(), ConfigError> {
        self.shared.change(|tables| {
            let address = net.addr();
            let taken = tables.locals.contains_key(&address);
            let interface = tables.interface_mut(iface)?;
            let bad = |why| ConfigError::BadAddress { address, name: interface.name.clone(), why };
            if address.is_unspecified() || address.is_multicast() {
                return Err(bad("it is no station's address"));
            }
            if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
                return Err(bad("it is the broadcast address"));
            }
            if interface.has_address(address) {
                return Err(bad("it is there already"));
            }
            if taken && !is_link_local(address) {
                return Err(bad("another interface has it"));
            }
            if interface.addresses.len() >= limits::ADDRESSES_MAX {
                return Err(ConfigError::TooMany {
                    what: "addresses",
                    limit: limits::ADDRESSES_MAX,
                });
            }
            Arc::make_mut(interface).addresses.push(net);
            Arc::make_mut(&mut tables.locals).entry(address).or_insert(iface.index);
            let route = Route { prefix: net.trunc(), gateway: None, iface, metric: 0 };
            Arc::make_mut(&mut tables.routes).add(route)
        })
    }

    /// Removes an address and, when no other address has it, the on-link route of its prefix.
    ///
    /// # Errors
    /// [`ConfigError::NoInterface`], [`ConfigError::NotThere`].
    pub fn remove_address(&self, iface: IfaceId, address: IpAddr) -> Result<(), ConfigError> {
        self.shared.change(|tables| {
            let interface = Arc::make_mut(tables.interface_mut(iface)?);
            let Some(at) = interface.addresses.iter().position(|net| net.addr() == address) else {
                return Err(ConfigError::NotThere { what: address.to_string() });
            };
            let prefix = interface.addresses.remove(at).trunc();
            let last = interface.addresses.iter().all(|net| net.trunc() != prefix);
            let other = tables
                .interfaces
                .iter()
                .find(|interface| interface.has_address(address))
                .map(|interface| interface.id.index);
            let locals = Arc::make_mut(&mut tables.locals);
            match other {
                Some(index) => locals.insert(address, index),
                None => locals.remove(&address),
            };
            if last {
                let route = Route { prefix, gateway: None, iface, metric: 0 };
                Arc::make_mut(&mut tables.routes).remove(&route)?;
            }
            Ok(())
        })
    }

    /// Adds a route. Of several with one prefix, that with the lowest metric whose interface is up
    /// is taken.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn add_route(&self, route: Route) -> Result<(), ConfigError> {
        self.shared.change(|tables| {
            tables.interface_mut(route.iface)?;
            if let Some(gateway) = route.gateway
                && (gateway.is_ipv4() != route.prefix.addr().is_ipv4()
                    || gateway.is_unspecified()
                    || gateway.is_multicast())
            {
                return Err(ConfigError::BadGateway { gateway, prefix: route.prefix });
            }
            Arc::make_mut(&mut tables.routes).add(route)
        })
    }

    /// Removes a route.
    ///
    /// # Errors
    /// [`ConfigError::NotThere`].
    pub fn remove_route(&self, route: &Route) -> Result<(), ConfigError> {
        self.shared.change(|tables| Arc::make_mut(&mut tables.routes).remove(route))
    }

    /// Adds or replaces a permanent neighbour.
    ///
    /// # Errors
    /// [`ConfigError::NoInterface`], [`ConfigError::TooMany`].
    pub fn add_neighbour(
        &self,
        iface: IfaceId,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<(), ConfigError> {
        self.shared.change(|tables| {
            tables.interface_mut(iface)?;
            let neighbours = Arc::make_mut(&mut tables.neighbours);
            if neighbours.len() >= limits::STATIC_NEIGHBOURS_MAX {
                return Err(ConfigError::TooMany {
                    what: "permanent neighbours",
                    limit: limits::STATIC_NEIGHBOURS_MAX,
                });
            }
            neighbours.insert((iface.index, address), mac);
            Ok(())
        })
    }

    /// The interfaces as they are now.
    pub fn interfaces(&self) -> Vec<Interface> {
        let (_, tables) = self.shared.snapshot();
        tables.interfaces.iter().map(|interface| Interface::clone(interface)).collect()
    }

    /// The interface of this name.
    pub fn interface(&self, name: &str) -> Option<Interface> {
        self.interfaces().into_iter().find(|interface| interface.name == name)
    }

    /// The routes as they are now, on-link ones included.
    pub fn routes(&self) -> Vec<Route> {
        self.shared.snapshot().1.routes.iter().cloned().collect()
    }
}

impl Tables {
    fn interface_mut(&mut self, id: IfaceId) -> Result<&mut Arc<Interface>, ConfigError> {
        self.interfaces
            .get_mut(usize::from(id.index))
            .filter(|interface| interface.id == id)
            .ok_or(ConfigError::NoInterface { namespace: id.namespace.0, index: id.index })
    }
}

/// 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291 section 2.5.6).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
