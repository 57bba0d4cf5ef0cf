//! Which backend is tried next: the client's own, then whom the pool's algorithm takes, and what follows when nobody has
//! room. The decisions are made elsewhere (`affinity`, `balance`, `queue`); this carries them out for one request.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;

use crate::balance::{Choice, Pick};
use crate::explain::Reason;
use crate::failure::Failure;
use crate::queue::Given;
use crate::snapshot::{Entry, Lease, Pool, Snapshot};
use crate::worker::Worker;

/// Picks repeated because others took the last place meanwhile.
const RACES_MAX: usize = 3;

/// A backend, by its index in the pool, with the request counted there.
pub(super) type Chosen = (usize, Lease);

/// Why there is nobody at once.
pub(super) enum Lack {
    /// The client's own backend is at its limit.
    Own(usize),
    /// Everybody is.
    Room,
    Nobody,
}

/// What one request has tried and may try.
pub(super) struct Choosing<'a> {
    worker: &'a Worker,
    pub(super) pool: &'a Pool,
    /// Holds the newer snapshot that a request turns to when its pool changes while it waits and it was nowhere yet.
    later: &'a OnceCell<Arc<Snapshot>>,
    /// The client's own backend.
    prefer: Option<usize>,
    /// The hash of what the pool's algorithm looks at.
    key: Option<u64>,
    tried: Tried,
    now: Instant,
    /// Why the last one was taken.
    pub(super) why: Reason,
    /// How long it waited for room.
    pub(super) waited: Option<Duration>,
    /// The client's own backend is well but did not take this request.
    pub(super) overflowed: bool,
}

impl<'a> Choosing<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        pool: &'a Pool,
        later: &'a OnceCell<Arc<Snapshot>>,
        (prefer, key): (Option<usize>, Option<u64>),
        now: Instant,
    ) -> Self {
        let (tried, why) = (Tried::default(), Reason::Nobody);
        Self { worker, pool, later, prefer, key, tried, now, why, waited: None, overflowed: false }
    }

    /// Whether anybody is left who was not tried.
    pub(super) fn others(&self) -> bool {
        self.choice().others()
    }

    /// How many backends were tried.
    pub(super) fn attempts(&self) -> usize {
        self.tried.all().len()
    }

    /// A slow answer moves the request, not the session: probes decide whether the backend is gone.
    pub(super) fn missed(&mut self, index: usize, failure: Failure) {
        self.overflowed |= failure == Failure::HeaderTimeout && self.prefer == Some(index);
    }

    /// Takes the next at once; `again` stays with the one just tried.
    pub(super) fn take(&mut self, again: bool, now: Instant) -> Result<Chosen, Lack> {
        self.now = now;
        if again
            && let Some(index) = self.tried.all().last().copied()
            && let Some(lease) = self.lease(index)
        {
            return Ok(self.mark(index, lease, Reason::SameBackend));
        }
        if self.tried.all().is_empty()
            && !self.overflowed
            && let Some(own) = self.prefer
        {
            if let Some(lease) = self.lease(own) {
                return Ok(self.mark(own, lease, Reason::Sticky));
            }
            let queue = self.pool.config.queue;
            if queue.len_max > 0 && !queue.sticky_timeout.is_zero() {
                return Err(Lack::Own(own));
            }
            self.overflowed = true;
        }
        self.take_any()
    }

    fn take_any(&mut self) -> Result<Chosen, Lack> {
        for _ in 0..RACES_MAX {
            let algorithm = &self.pool.config.balance.algorithm;
            match self.worker.pickers.with(self.pool, |picker| picker.pick(algorithm, &self.choice())) {
                Pick::One(index, why) => {
                    if let Some(lease) = self.lease(index) {
                        if self.pool.panics() {
                            self.pool.metrics.panic_picks.inc();
                        }
                        return Ok(self.mark(index, lease, Reason::Picked(why)));
                    }
                }
                Pick::Full => break,
                Pick::Nobody => return Err(Lack::Nobody),
            }
        }
        Err(Lack::Room)
    }

    /// Waits in the pool's queue for what was lacking, at most until `deadline`.
    pub(super) async fn wait(&mut self, lack: Lack, deadline: Instant) -> Result<Chosen, Failure> {
        let own = match lack {
            Lack::Own(own) => Some(own),
            Lack::Room => None,
            Lack::Nobody => return Err(Failure::NoBackend),
        };
        if self.pool.config.queue.len_max == 0 {
            return Err(Failure::Overloaded);
        }
        let (begun, metrics) = (Instant::now(), &self.pool.metrics);
        let deadline = deadline.min(begun + self.pool.config.queue.timeout);
        let depth = Depth::new(&metrics.queue_len);
        let found = self.queue(own, begun, deadline).await;
        drop(depth);
        let waited = begun.elapsed();
        metrics.queue_wait.observe(waited);
        self.waited = Some(self.waited.unwrap_or_default() + waited);
        found
    }

    async fn queue(
        &mut self,
        own: Option<usize>,
        begun: Instant,
        deadline: Instant,
    ) -> Result<Chosen, Failure> {
        let mut own = own;
        loop {
            let (pool, settings) = (self.pool, self.pool.config.queue);
            let accepts = own.map_or_else(|| self.acceptable(), |own| vec![pool.entries[own].backend.id]);
            let Ok(mut waiting) = pool.commons.queue.join(accepts, settings.len_max) else {
                // Its own backend's clients may fill the line while others have room.
                self.overflowed |= own.is_some();
                return self.again(None).ok_or(Failure::QueueFull);
            };
            // A place that got free before this request stood in the line was offered to nobody.
            if let Some(chosen) = self.again(own) {
                return Ok(chosen);
            }
            let mut given = None;
            if own.is_some() {
                given = waiting.given(deadline.min(begun + settings.sticky_timeout)).await;
                if given.is_none() {
                    (own, self.overflowed) = (None, true);
                    waiting.accept(self.acceptable());
                    if let Some(chosen) = self.again(None) {
                        return Ok(chosen);
                    }
                }
            }
            let given = match given {
                Some(given) => given,
                None => waiting.given(deadline).await.ok_or(Failure::QueueTimeout)?,
            };
            drop(waiting);
            match given {
                Given::Place(lease) => {
                    let id = lease.backend.id;
                    let index = self.pool.entries.iter().position(|entry| entry.backend.id == id);
                    let index = index.expect("only places of the pool's backends were accepted");
                    return Ok(self.mark(index, lease, Reason::Queue));
                }
                Given::Look => {
                    own = self.renew(own);
                    if let Some(chosen) = self.again(own) {
                        return Ok(chosen);
                    }
                }
            }
        }
    }

    /// Looks for room once more.
    fn again(&mut self, own: Option<usize>) -> Option<Chosen> {
        match own {
            Some(own) => self.lease(own).map(|lease| self.mark(own, lease, Reason::Sticky)),
            None => self.take_any().ok(),
        }
    }

    /// The pool has changed. A request that was nowhere yet begins anew with the newer snapshot, once.
    fn renew(&mut self, own: Option<usize>) -> Option<usize> {
        if !self.tried.all().is_empty() || self.later.get().is_some() {
            return own;
        }
        let newer = self.later.get_or_init(|| self.worker.shared.snapshot.load_full());
        let Some(pool) = newer.pools.iter().find(|pool| pool.config.name == self.pool.config.name) else {
            return own;
        };
        let before = self.pool;
        self.pool = pool;
        let moved = |index: usize| {
            let id = before.entries[index].backend.id;
            pool.entries.iter().position(|entry| entry.backend.id == id)
        };
        self.prefer = self.prefer.and_then(moved);
        own.and_then(moved)
    }

    /// Whoever could be picked, had they room.
    fn acceptable(&self) -> Vec<u64> {
        let tiers = self.pool.tiers();
        let untried = |tier: &&[usize]| tier.iter().any(|index| !self.tried.all().contains(index));
        let tier = tiers.into_iter().find(untried).unwrap_or_default();
        let indices = tier.iter().filter(|index| !self.tried.all().contains(index));
        indices.map(|index| self.pool.entries[*index].backend.id).collect()
    }

    fn choice(&self) -> Choice<'_, Entry> {
        let (entries, tiers) = (&self.pool.entries[..], self.pool.tiers());
        Choice { entries, tiers, tried: self.tried.all(), key: self.key, now: self.now }
    }

    fn lease(&self, index: usize) -> Option<Lease> {
        let entry = &self.pool.entries[index];
        entry.backend.lease(entry.limit)
    }

    fn mark(&mut self, index: usize, lease: Lease, why: Reason) -> Chosen {
        self.tried.note(index);
        self.why = why;
        (index, lease)
    }
}

/// Backends that were tried. Few are the rule, and need no allocation.
#[derive(Default)]
struct Tried {
    few: [usize; 4],
    count: usize,
    /// All of them, once they are more than few.
    many: Vec<usize>,
}

impl Tried {
    fn all(&self) -> &[usize] {
        if self.many.is_empty() { &self.few[..self.count] } else { &self.many }
    }

    fn note(&mut self, index: usize) {
        if self.all().contains(&index) {
            return;
        }
        if let Some(place) = self.few.get_mut(self.count) {
            *place = index;
            self.count += 1;
            return;
        }
        if self.many.is_empty() {
            self.many.extend(self.few);
        }
        self.many.push(index);
    }
}

/// Counts one who waits, also if its client leaves meanwhile.
struct Depth<'a>(&'a Gauge);

impl<'a> Depth<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Depth<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_tried_is_noted_once_however_many() {
        let mut tried = Tried::default();
        for index in [7, 3, 7, 9, 1, 1, 8, 2, 7, 8] {
            tried.note(index);
        }
        assert_eq!(tried.all(), [7, 3, 9, 1, 8, 2]);
    }
}
