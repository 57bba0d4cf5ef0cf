//! Why a request goes where it goes, for people: foretold for one that nobody sent ([`explain`]), and in one line for one
//! that was served ([`Trace`]). Changes nothing: no turn is taken, no entry of the table is used, nothing is counted.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use serde::Serialize;

use crate::affinity::{self, Affinity, Look, Now, Outcome};
use crate::balance::odds::{Odds, odds};
use crate::balance::{Algorithm, Choice, Why};
use crate::config::Sticky;
use crate::cookies;
use crate::snapshot::{Entry, Pool, Snapshot};
use crate::state::State;

/// Why a backend was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nobody was.
    Nobody,
    /// The client belongs there.
    Sticky,
    /// Once more, on a fresh connection: only the old one was bad.
    SameBackend,
    /// It was the first with room after a wait.
    Queue,
    Picked(Why),
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Sticky => "sticky",
            Self::SameBackend => "same-backend",
            Self::Queue => "queue",
            Self::Picked(why) => why.as_str(),
        }
    }
}

/// How one request found its backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    pub(crate) why: Reason,
    /// Backends that were tried, the one that answered included.
    pub(crate) attempts: usize,
    /// In the queue; `None`: it never stood there.
    pub(crate) waited: Option<Duration>,
}

impl Trace {
    /// The value of `x-lb-explain`.
    pub(crate) fn header(&self, pool: &str, affinity: Option<Outcome>, backend: &Entry) -> HeaderValue {
        let affinity = affinity.map_or("off", Outcome::kind);
        let waited = self.waited.map_or(0, |waited| waited.as_millis());
        let (why, attempts) = (self.why.as_str(), self.attempts);
        // A backend chooses its own name; what cannot stand in a header is left out.
        let name: String = backend.name().chars().filter(char::is_ascii_graphic).collect();
        let text = format!(
            "pool={pool}; affinity={affinity}; backend={name}; why={why}; attempts={attempts}; queue_ms={waited}"
        );
        HeaderValue::try_from(text).expect("plain characters only")
    }
}

/// A request as it might come.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub(crate) host: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    /// `Cookie` and whatever the pool hashes.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) client: IpAddr,
}

/// What would become of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Explanation {
    /// The whole in a sentence.
    pub(crate) summary: String,
    pub(crate) route: String,
    pub(crate) pool: String,
    pub(crate) algorithm: &'static str,
    /// What the cookie or the table came to; `off` without stickiness.
    pub(crate) affinity: &'static str,
    /// Too few are healthy, and requests are sent anyway.
    pub(crate) panic: bool,
    /// The most likely backend; `None`: 503, or a wait for room.
    pub(crate) pick: Option<Picked>,
    /// Everybody of the pool, the most likely first.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) queue: Waiting,
    pub(crate) retries_max: u32,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Picked {
    pub(crate) backend: String,
    pub(crate) why: &'static str,
    /// 1: certainly. Round robin's turns are each worker's own, so its chances are shares.
    pub(crate) chance: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Candidate {
    pub(crate) backend: String,
    pub(crate) address: String,
    pub(crate) state: &'static str,
    /// `ready`, `panic` (used when too few are ready), `draining` (when there is nobody else) or `none`.
    pub(crate) group: &'static str,
    pub(crate) weight: u16,
    /// Of the weight, in percent: less than 100 while it starts slowly.
    pub(crate) share_percent: f64,
    pub(crate) in_flight: usize,
    pub(crate) in_flight_max: usize,
    /// What a pool with `ewma` knows of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failures: Option<f64>,
    /// The lower, the better; what it counts depends on the algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<f64>,
    pub(crate) chance: f64,
    /// Why it is out of the question, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) barred: Option<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Waiting {
    pub(crate) requests: usize,
    pub(crate) requests_max: usize,
}

/// Foretells a request's first attempt, and how likely each backend is to get it.
pub(crate) fn explain(snapshot: &Snapshot, query: &Query<'_>, now: Now) -> Explanation {
    let route = snapshot.config.routes.route(query.host, query.path);
    let pool = &snapshot.pools[route.pool];
    let algorithm = &pool.config.balance.algorithm;
    let affinity = pool.config.sticky.as_ref().map(|sticky| claim(sticky, pool, query, now));
    let choice = Choice {
        entries: &pool.entries,
        tiers: pool.tiers(),
        tried: &[],
        key: key(algorithm, query),
        now: now.steady,
    };
    let own = affinity.and_then(|affinity| affinity.prefer);
    let own_has_room = own.filter(|own| has_room(&pool.entries[*own]));
    let odds = match own_has_room {
        Some(index) => vec![Odds { index, score: None, chance: 1.0 }],
        None => odds(algorithm, &choice),
    };
    let mut candidates: Vec<Candidate> = (0..pool.entries.len())
        .map(|index| candidate(pool, index, odds.iter().find(|odds| odds.index == index), now))
        .collect();
    candidates.sort_by(|one, two| two.chance.total_cmp(&one.chance));
    let why = match (own_has_room, algorithm, choice.key) {
        (Some(_), _, _) => "sticky",
        (None, Algorithm::ConsistentHash { .. }, None) => "least-requests (the request has no key)",
        (None, algorithm, _) => algorithm.as_str(),
    };
    let pick = candidates.first().filter(|first| first.chance > 0.0).map(|first| Picked {
        backend: first.backend.clone(),
        why,
        chance: first.chance,
    });
    let affinity = affinity.map_or("off", |affinity| affinity.outcome.kind());
    let queue = Waiting { requests: pool.commons.queue.len(), requests_max: pool.config.queue.len_max };
    Explanation {
        summary: summary(pool, &route.name, affinity, pick.as_ref(), own.is_some(), &queue),
        route: route.name.to_string(),
        pool: pool.config.name.to_string(),
        algorithm: algorithm.as_str(),
        affinity,
        panic: pool.panics(),
        pick,
        candidates,
        queue,
        retries_max: snapshot.config.retry.retries_max,
    }
}

fn claim(sticky: &Sticky, pool: &Pool, query: &Query<'_>, now: Now) -> Affinity {
    let mut headers = query.headers.clone();
    let cookie = cookies::take(&mut headers, &sticky.cookie);
    let brought = (&cookie, query.client);
    affinity::read(sticky, &pool.commons.table, &pool.entries, brought, now, Look::Peek)
}

fn key(algorithm: &Algorithm, query: &Query<'_>) -> Option<u64> {
    match algorithm {
        Algorithm::ConsistentHash { key, .. } => key.of(query.headers, query.path, query.client),
        _ => None,
    }
}

fn has_room(entry: &Entry) -> bool {
    entry.backend.inflight() < entry.limit
}

fn candidate(pool: &Pool, index: usize, odds: Option<&Odds>, now: Now) -> Candidate {
    use crate::balance::{Candidate as _, SHARE_ONE};
    let entry = &pool.entries[index];
    let group = match pool.tiers().map(|tier| tier.contains(&index)) {
        [true, _] if entry.state == State::Up => "ready",
        [true, _] => "panic",
        [false, true] => "draining",
        [false, false] => "none",
    };
    let barred = match (odds, group) {
        (Some(_), _) => None,
        (None, "none") => Some("its state bars it"),
        (None, _) if !has_room(entry) => Some("it is at its limit"),
        (None, _) => Some("others come first"),
    };
    let whole = f64::from(u32::from(entry.weight.get()) * SHARE_ONE).max(1.0);
    let load = &entry.backend.load;
    let (latency_ms, failures) = match pool.config.balance.algorithm {
        Algorithm::Ewma(terms) => {
            (load.latency_ms(terms, now.steady), Some(load.failures(terms, now.steady)))
        }
        _ => (None, None),
    };
    Candidate {
        backend: entry.name(),
        address: entry.backend.address.to_string(),
        state: entry.state.as_str(),
        group,
        weight: entry.weight.get(),
        share_percent: f64::from(entry.share(now.steady)) / whole * 100.0,
        in_flight: entry.backend.inflight(),
        in_flight_max: entry.limit,
        latency_ms,
        failures,
        score: odds.and_then(|odds| odds.score),
        chance: odds.map_or(0.0, |odds| odds.chance),
        barred,
    }
}

fn summary(
    pool: &Pool,
    route: &str,
    affinity: &str,
    pick: Option<&Picked>,
    belongs: bool,
    queue: &Waiting,
) -> String {
    let name = &pool.config.name;
    let panic = if pool.panics() { " Too few are healthy; it is sent anyway." } else { "" };
    let lead = format!("Route {route} leads to pool {name}; affinity: {affinity}.");
    match pick {
        Some(pick) if pick.chance >= 0.999_5 => {
            format!("{lead} It goes to {} ({}).{panic}", pick.backend, pick.why)
        }
        Some(pick) => {
            let percent = pick.chance * 100.0;
            format!("{lead} It goes to {} with {percent:.0} % ({}).{panic}", pick.backend, pick.why)
        }
        None if pool.entries.is_empty() || pool.tiers().iter().all(|tier| tier.is_empty()) => {
            format!("{lead} No backend can be asked: 503 no-backend.")
        }
        None if queue.requests_max == 0 => format!("{lead} Every backend is at its limit: 503 overloaded."),
        None => {
            let whom = if belongs { "its own backend, then for any" } else { "one" };
            format!("{lead} Every backend is at its limit: it waits for {whom}.")
        }
    }
}

#[cfg(test)]
mod tests;
