//! Open connections by client. Counted when one is accepted and when it ends, never while it is used, so short locks on
//! parts of the table cost nothing that matters. A client without a connection is not in the table.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ClientKey;

const SHARDS: usize = 64;

/// How many connections each client has open, over all workers.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// Locked only while one number changes.
    shards: [Mutex<HashMap<ClientKey, usize>>; SHARDS],
    hasher: RandomState,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

/// One connection's place in the count; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    addresses: Arc<Addresses>,
    key: ClientKey,
}

impl Addresses {
    /// A place for one more connection, unless the client has `max` already.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Seat> {
        let key = ClientKey::of(address);
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_default();
        if *count >= max {
            // With no connection there is nobody to count.
            if *count == 0 {
                shard.remove(&key);
            }
            return None;
        }
        *count += 1;
        Some(Seat { addresses: Arc::clone(self), key })
    }

    fn shard(&self, key: ClientKey) -> MutexGuard<'_, HashMap<ClientKey, usize>> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).expect("less than the shards");
        // A number is right whoever panicked beside it.
        self.shards[hash].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shard = self.addresses.shard(self.key);
        if let Some(count) = shard.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_and_gets_them_back() {
        let addresses = Arc::new(Addresses::default());
        let enter = |text: &str| addresses.enter(text.parse().unwrap(), 2);
        let (one, two) = (enter("192.0.2.1"), enter("192.0.2.1"));
        assert!(one.is_some() && two.is_some() && enter("192.0.2.1").is_none());
        let other = enter("192.0.2.2");
        assert!(other.is_some());
        drop(one);
        assert!(enter("192.0.2.1").is_some());
        drop((two, other));
        let left: usize = addresses.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_network_of_version_six_is_one_client() {
        let addresses = Arc::new(Addresses::default());
        let _one = addresses.enter("2001:db8::1".parse().unwrap(), 1).unwrap();
        assert!(addresses.enter("2001:db8::2".parse().unwrap(), 1).is_none());
        assert!(addresses.enter("2001:db8:0:1::1".parse().unwrap(), 1).is_some());
    }
}
