//! All buckets, in a table that never grows and takes no lock.
//!
//! A bucket that is full says nothing, so its place is free. Each key has four places. Where all four hold buckets that
//! are not full, a newcomer takes over the one that is nearest to full, *with* what was taken from it. So nobody gets a
//! fresh bucket by pushing his own out: whoever comes back finds at least the debt that he had when he was pushed out. The
//! price, in a flood from very many addresses: some newcomers wait as if they had asked before.
//!
//! A place is one word: 16 bits of the key's hash and the 48 bits of the time in microseconds (nine years). Two keys are
//! taken for one with a chance of about 1 in 2^32 for each pair of them; the hash has a secret, so no pair can be sought.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bucket::{Rate, Wait};

/// Sets of four places: 64 Ki × 4 × 8 bytes = 2 MiB, touched only as far as it is used.
const SETS: usize = 1 << 16;
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;

#[derive(Debug)]
pub(crate) struct Buckets {
    sets: Box<[[AtomicU64; 4]]>,
}

impl Buckets {
    pub(super) fn new() -> Self {
        Self::of(SETS)
    }

    fn of(sets: usize) -> Self {
        // Zeroed memory is not backed by pages until it is written.
        Self { sets: (0..sets).map(|_| [const { AtomicU64::new(0) }; 4]).collect() }
    }

    pub(super) fn take(&self, hash: u64, rate: Rate, now_us: u64) -> Result<(), Wait> {
        let now_us = now_us & TIME;
        let mark = hash >> TIME_BITS << TIME_BITS;
        let set = &self.sets[usize::try_from(hash & TIME).expect("48 bits") % self.sets.len()];
        loop {
            let (place, old) = find(set, mark, now_us);
            let full_us = rate.take(old & TIME, now_us)?;
            let new = mark | full_us.min(TIME);
            // Relaxed: the word is all there is to see. Another worker was faster: look again.
            if place.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
    }
}

/// The key's own place, else one that says nothing any more, else the one that says least.
fn find(set: &[AtomicU64; 4], mark: u64, now_us: u64) -> (&AtomicU64, u64) {
    let mut least = (&set[0], set[0].load(Ordering::Relaxed));
    for place in set {
        let word = place.load(Ordering::Relaxed);
        let is_own = word & !TIME == mark && word & TIME > now_us;
        if is_own {
            return (place, word);
        }
        if word & TIME < least.1 & TIME {
            least = (place, word);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of one set, by number.
    fn key(number: u64) -> u64 {
        number << TIME_BITS
    }

    #[test]
    fn keys_do_not_share() {
        let (buckets, rate) = (Buckets::of(1), Rate::new(1, 2));
        for number in 1..=4 {
            assert!(buckets.take(key(number), rate, 0).is_ok());
            assert!(buckets.take(key(number), rate, 0).is_ok());
            assert!(buckets.take(key(number), rate, 0).is_err());
        }
        // Two seconds later all are full, and their places anybody's.
        for number in 5..=8 {
            assert!(buckets.take(key(number), rate, 2_000_000).is_ok());
        }
    }

    #[test]
    fn nobody_gets_a_fresh_bucket_by_pushing_his_own_out() {
        let (buckets, rate) = (Buckets::of(1), Rate::new(1, 10));
        let mut random = fastrand::Rng::with_seed(11);
        let mut served = 0;
        // One who asks all the time, hidden among thousands of addresses that all fall into his four places.
        for step in 0..100_000 {
            let now_us = step * 1_000;
            served += u64::from(buckets.take(key(1), rate, now_us).is_ok());
            let _ = buckets.take(key(random.u64(2..60_000)), rate, now_us);
        }
        assert!(served <= 100 + 10, "{served} requests in 100 s at one a second");
    }

    #[test]
    fn workers_do_not_serve_more_together() {
        let (buckets, rate) = (Buckets::of(1), Rate::new(1, 1_000));
        let served = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        served.fetch_add(u64::from(buckets.take(key(1), rate, 5).is_ok()), Ordering::Relaxed);
                    }
                });
            }
        });
        // Each of four may have begun the bucket in another place.
        assert!((1_000..=1_003).contains(&served.load(Ordering::Relaxed)), "{served:?}");
    }
}
