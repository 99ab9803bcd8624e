//! Routes: longest prefix match by a compressed trie.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::error::ConfigError;
use crate::limits;
use crate::namespace::IfaceId;

/// A static route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which destinations. Bits beyond its length must be zero, or are cut.
    pub prefix: IpNet,
    /// Through whom; `None` when the destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// By which interface.
    pub iface: IfaceId,
    /// Lower is taken first.
    pub metric: u32,
}

/// A table of routes. Of several with one prefix, the lowest metric comes first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    v4: PrefixMap<Ipv4Net, Vec<Route>>,
    v6: PrefixMap<Ipv6Net, Vec<Route>>,
    len: usize,
}

impl Routes {
    pub(crate) fn add(&mut self, mut route: Route) -> Result<(), ConfigError> {
        if self.len >= limits::ROUTES_MAX {
            return Err(ConfigError::TooMany { what: "routes", limit: limits::ROUTES_MAX });
        }
        route.prefix = route.prefix.trunc();
        let list = match route.prefix {
            IpNet::V4(prefix) => self.v4.entry(prefix).or_default(),
            IpNet::V6(prefix) => self.v6.entry(prefix).or_default(),
        };
        if list.contains(&route) {
            return Ok(());
        }
        let at = list.partition_point(|other| other.metric <= route.metric);
        list.insert(at, route);
        self.len += 1;
        Ok(())
    }

    pub(crate) fn remove(&mut self, route: &Route) -> Result<(), ConfigError> {
        let not_there = || ConfigError::NotThere { what: format!("a route to {}", route.prefix) };
        let prefix = route.prefix.trunc();
        let list = match &prefix {
            IpNet::V4(prefix) => self.v4.get_mut(prefix),
            IpNet::V6(prefix) => self.v6.get_mut(prefix),
        }
        .ok_or_else(not_there)?;
        let at = list
            .iter()
            .position(|other| {
                other.gateway == route.gateway
                    && other.iface == route.iface
                    && other.metric == route.metric
            })
            .ok_or_else(not_there)?;
        list.remove(at);
        self.len -= 1;
        if list.is_empty() {
            match &prefix {
                IpNet::V4(prefix) => _ = self.v4.remove(prefix),
                IpNet::V6(prefix) => _ = self.v6.remove(prefix),
            }
        }
        Ok(())
    }

    /// The routes of the longest prefix that has one `usable`, best first.
    ///
    /// A prefix whose routes are all unusable does not hide a shorter one: a second way out is what
    /// metrics and default routes are for.
    pub(crate) fn lookup(
        &self,
        destination: IpAddr,
        usable: impl Fn(&Route) -> bool,
    ) -> Option<&Route> {
        // The first step answers unless an interface is down.
        let best = match destination {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, list)| list),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, list)| list),
        }?;
        if let Some(route) = best.iter().find(|route| usable(route)) {
            return Some(route);
        }
        match destination {
            IpAddr::V4(address) => self
                .v4
                .cover_values(&Ipv4Net::from(address))
                .filter_map(|list| list.iter().find(|route| usable(route)))
                .last(),
            IpAddr::V6(address) => self
                .v6
                .cover_values(&Ipv6Net::from(address))
                .filter_map(|list| list.iter().find(|route| usable(route)))
                .last(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.v4.values().flatten().chain(self.v6.values().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::NamespaceId;

    fn route(prefix: &str, iface: u16, metric: u32) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            gateway: None,
            iface: IfaceId { namespace: NamespaceId(0), index: iface },
            metric,
        }
    }

    #[test]
    fn the_longest_prefix_wins_unless_it_cannot_be_used() {
        let mut routes = Routes::default();
        for (prefix, iface) in
            [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.1.0.0/16", 3), ("2001:db8::/32", 4)]
        {
            routes.add(route(prefix, iface, 10)).unwrap();
        }
        routes.add(route("10.1.0.0/16", 5, 5)).unwrap();
        let find = |address: &str, down: &[u16]| {
            routes
                .lookup(address.parse().unwrap(), |route| !down.contains(&route.iface.index))
                .map(|route| route.iface.index)
        };
        assert_eq!(find("10.1.2.3", &[]), Some(5), "lower metric first");
        assert_eq!(find("10.1.2.3", &[5]), Some(3));
        assert_eq!(find("10.1.2.3", &[5, 3]), Some(2), "the next shorter prefix");
        assert_eq!(find("10.1.2.3", &[5, 3, 2]), Some(1));
        assert_eq!(find("10.1.2.3", &[5, 3, 2, 1]), None);
        assert_eq!(find("192.0.2.1", &[]), Some(1));
        assert_eq!(find("2001:db8::1", &[]), Some(4));
        assert_eq!(find("2001:db9::1", &[]), None);
    }

    #[test]
    fn what_was_removed_is_gone_and_what_is_not_there_cannot_be() {
        let mut routes = Routes::default();
        let one = route("10.0.0.0/8", 1, 0);
        routes.add(one.clone()).unwrap();
        routes.add(one.clone()).unwrap();
        assert_eq!(routes.iter().count(), 1, "added twice is there once");
        assert!(routes.remove(&route("10.0.0.0/8", 2, 0)).is_err());
        routes.remove(&one).unwrap();
        assert!(routes.lookup("10.0.0.1".parse().unwrap(), |_| true).is_none());
        assert!(routes.remove(&one).is_err());
    }
}
