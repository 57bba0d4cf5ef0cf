//! Who takes a request: one algorithm a pool, over what all workers count together.
//!
//! The backends come in groups (`tiers`), best first: healthy ones (or those who serve in a panic), then draining ones. Whoever was tried already and whoever is at its limit takes no part. A full group is not left for a worse one:
//! overload must not wake those that are draining or down.
//!
//! A pick takes no lock and allocates nothing. What it remembers ([`Picker`]) is one worker's own; what it compares
//! ([`Load`]) is shared by all workers, because a worker that sees only its own requests takes a busy backend for an
//! idle one. Every random draw comes from the picker's seed, so a simulation can repeat it.
//!
//! | Algorithm | Takes | Good for |
//! |---|---|---|
//! | `round-robin` | whose turn it is by weight, evenly interleaved | equal backends, equal requests |
//! | `random` | a draw by weight | many balancers that know nothing of each other |
//! | `least-requests` | the fewest in flight for its weight | requests of very different length |
//! | `ewma` | the least latency x (in flight + 1) / weight, errors counted as latency | backends of different speed |
//! | `consistent-hash` | the key's own backend, unless that is busier than its share | caches in the backends |
//!
//! Sources: smooth weighted round robin as nginx does it; power of two choices (Mitzenmacher 2001); peak EWMA
//! (Finagle); rendezvous hashing (Thaler and Ravishankar 1998) with bounded loads (Mirrokni et al. 2018).

pub(crate) mod consistent_hash;
mod ewma;
mod least;
pub(crate) mod load;
pub(crate) mod odds;
mod pickers;
mod random;
mod round_robin;
#[cfg(test)]
mod simulation;
pub(crate) mod slow_start;

use std::time::{Duration, Instant};

use consistent_hash::Key;
use load::Load;
pub(crate) use pickers::Pickers;
use round_robin::Turns;

/// A full share of weight 1. Slow start takes parts of it.
pub(crate) const SHARE_ONE: u32 = 256;

/// How a pool picks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Algorithm {
    RoundRobin,
    Random,
    LeastRequests,
    Ewma(EwmaTerms),
    ConsistentHash { key: Key, bound: f64 },
}

/// How latency and errors are remembered and weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EwmaTerms {
    /// After this time an old observation counts for 1/e.
    pub(crate) decay: Duration,
    /// What a backend that only fails seems to take, on top of its latency.
    pub(crate) error_penalty: Duration,
    /// The longest `Retry-After` that is believed; zero: none is.
    pub(crate) retry_after_max: Duration,
}

/// A backend as algorithms see it.
pub(crate) trait Candidate {
    /// Never used twice, unlike addresses.
    fn id(&self) -> u64;
    /// The same on every balancer: keys are hashed to it.
    fn place(&self) -> u64;
    /// Weight x [`SHARE_ONE`], less while it starts slowly.
    fn share(&self, now: Instant) -> u32;
    /// Requests that may be in flight.
    fn limit(&self) -> usize;
    fn load(&self) -> &Load;
}

/// Why one was taken; also the word in explanations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// The only one that could take it.
    Alone,
    Turn,
    Draw,
    LeastRequests,
    LeastCost,
    /// The owner of the request's key.
    Hash,
    /// The owner is busier than its share: the key's next one.
    HashBound,
}

impl Algorithm {
    /// As in `balance.algorithm`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::LeastRequests => "least-requests",
            Self::Ewma(_) => "ewma",
            Self::ConsistentHash { .. } => "consistent-hash",
        }
    }
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Turn => "turn",
            Self::Draw => "draw",
            Self::LeastRequests => "least-requests",
            Self::LeastCost => "least-cost",
            Self::Hash => "hash",
            Self::HashBound => "hash-bound",
        }
    }
}

/// Who takes the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    One(usize, Why),
    /// There is somebody, but everybody is at the limit.
    Full,
    Nobody,
}

/// What one request chooses from. Indices point into `entries`.
#[derive(Debug)]
pub(crate) struct Choice<'a, C> {
    pub(crate) entries: &'a [C],
    pub(crate) tiers: [&'a [usize]; 2],
    pub(crate) tried: &'a [usize],
    /// Of the key that the pool hashes; `None` if the request lacks it.
    pub(crate) key: Option<u64>,
    pub(crate) now: Instant,
}

/// One that may be taken.
#[derive(Debug)]
struct Open<'a, C> {
    index: usize,
    candidate: &'a C,
    share: u32,
}

impl<C> Clone for Open<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Open<'_, C> {}

impl<'a, C: Candidate> Choice<'a, C> {
    /// The first group in which somebody was not tried.
    fn tier(&self) -> Option<&'a [usize]> {
        self.tiers.into_iter().find(|tier| tier.iter().any(|index| !self.tried.contains(index)))
    }

    /// Whether anybody is left who was not tried.
    pub(crate) fn others(&self) -> bool {
        self.tier().is_some()
    }

    /// Everybody of a group who was not tried. One without weight is asked only where there is nobody with any.
    fn untried(&self, tier: &'a [usize]) -> impl Iterator<Item = Open<'a, C>> + Clone + use<'a, C> {
        let (entries, tried, now) = (self.entries, self.tried, self.now);
        tier.iter().filter(move |index| !tried.contains(index)).map(move |index| {
            let candidate = &entries[*index];
            Open { index: *index, candidate, share: candidate.share(now).max(1) }
        })
    }

    /// Those of them who have room.
    fn open(&self, tier: &'a [usize]) -> impl Iterator<Item = Open<'a, C>> + Clone + use<'a, C> {
        self.untried(tier).filter(|open| open.candidate.load().inflight() < open.candidate.limit())
    }
}

/// What one worker remembers of one pool. It survives changes of the pool.
#[derive(Debug)]
pub(crate) struct Picker {
    turns: Turns,
    random: fastrand::Rng,
}

impl Picker {
    /// Workers get different seeds, so that they do not all begin with the same backend.
    pub(crate) fn new(seed: u64) -> Self {
        Self { turns: Turns::default(), random: fastrand::Rng::with_seed(seed) }
    }

    /// Picks; nothing is counted yet.
    pub(crate) fn pick<C: Candidate>(&mut self, algorithm: &Algorithm, choice: &Choice<'_, C>) -> Pick {
        let Some(tier) = choice.tier() else { return Pick::Nobody };
        let mut open = choice.open(tier);
        let Some(first) = open.next() else { return Pick::Full };
        // Round robin counts turns even of one, so that the next finds everybody where they belong.
        if open.next().is_none() && *algorithm != Algorithm::RoundRobin {
            return Pick::One(first.index, Why::Alone);
        }
        let random = &mut self.random;
        let (picked, why) = match algorithm {
            Algorithm::RoundRobin => (self.turns.pick(choice, tier, random), Why::Turn),
            Algorithm::Random => (random::draw(choice.open(tier), random).map(|open| open.index), Why::Draw),
            Algorithm::LeastRequests => (least::requests(choice, tier, random), Why::LeastRequests),
            Algorithm::Ewma(terms) => (ewma::pick(choice, tier, random, *terms), Why::LeastCost),
            Algorithm::ConsistentHash { bound, .. } => match choice.key {
                Some(key) => consistent_hash::pick(choice, tier, key, *bound),
                None => (least::requests(choice, tier, random), Why::LeastRequests),
            },
        };
        Pick::One(picked.unwrap_or(first.index), why)
    }
}

/// Requests in flight as a number to reckon with.
fn count(inflight: usize) -> f64 {
    f64::from(u32::try_from(inflight).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
