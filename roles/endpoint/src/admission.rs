//! How many connections there may be: in all, from one address before it has shown a certificate, of one client after.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use patchtide_protocol::identity::ClientId;

/// Counts of what is open.
#[derive(Debug, Default)]
pub struct Admission {
    sources: Counted<IpAddr>,
    clients: Counted<ClientId>,
}

type Counted<K> = Arc<Mutex<HashMap<K, u32>>>;

/// One admitted connection; gives its place back when dropped.
#[derive(Debug)]
pub struct Slot<K: Eq + Hash + Copy> {
    counts: Counted<K>,
    key: K,
}

impl Admission {
    /// A place for a connection from an address that has not shown who it is. IPv6 addresses count by their /64: a
    /// machine has all of it.
    pub fn source(&self, address: IpAddr, limit: u32) -> Option<Slot<IpAddr>> {
        take(&self.sources, network(address), limit)
    }

    /// A place for a connection of a client.
    pub fn client(&self, client: ClientId, limit: u32) -> Option<Slot<ClientId>> {
        take(&self.clients, client, limit)
    }
}

/// What is counted for an address: itself, or the /64 that an IPv6 address is in.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn take<K: Eq + Hash + Copy>(counts: &Counted<K>, key: K, limit: u32) -> Option<Slot<K>> {
    let mut map = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let open = map.entry(key).or_insert(0);
    if *open >= limit {
        return None;
    }
    *open += 1;
    drop(map);
    Some(Slot { counts: Arc::clone(counts), key })
}

impl<K: Eq + Hash + Copy> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut map = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = map.get_mut(&self.key) {
            *open -= 1;
            if *open == 0 {
                map.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_per_network_and_given_back() {
        let admission = Admission::default();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        let first = admission.source(address, 2).unwrap();
        let _second = admission.source(neighbour, 2).unwrap();
        assert!(admission.source(address, 2).is_none());
        assert!(admission.source("2001:db8:0:1::1".parse().unwrap(), 2).is_some());
        drop(first);
        assert!(admission.source("2001:db8::2".parse().unwrap(), 2).is_some());
        let v4 = admission.source("192.0.2.1".parse().unwrap(), 1).unwrap();
        assert!(admission.source("::ffff:192.0.2.1".parse().unwrap(), 1).is_none());
        drop(v4);
        assert_eq!(admission.sources.lock().unwrap().len(), 1);
    }
}
