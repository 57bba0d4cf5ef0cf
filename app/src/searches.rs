//! Answering a search: from the cache, else from the databases, else from what the cache kept for bad days.
//!
//! Equal searches that arrive together are one piece of work (single flight), so that a popular query whose entry has
//! just ended costs the database one question an instance, not one a visitor.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::{Cache, Entry, Lookup};
use crate::db::{Database, DbError, exercises, vectors};
use crate::metrics::Metrics;
use crate::search::Embedder;

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hit {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) equipment: String,
    pub(crate) muscles: Vec<String>,
    pub(crate) score: f64,
}

/// Where an answer came from: the `x-cache` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Hit,
    Miss,
    /// The database failed, and this is older than it should be.
    Stale,
}

impl Origin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

/// An answer, shared by everybody who asked the same at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) hits: Arc<[Hit]>,
    pub(crate) origin: Origin,
}

type Outcome = Result<Answer, Arc<DbError>>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// The searches being worked on. Weak: a flight is over when nobody waits for it any more.
#[derive(Default)]
pub(crate) struct Flights {
    by_key: HashMap<String, (u64, WeakShared<BoxFuture<'static, Outcome>>)>,
    next: u64,
}

/// Everything a search needs.
pub(crate) struct Searches {
    pub(crate) data: Arc<Database>,
    pub(crate) search: Arc<Database>,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) cache: Cache,
    pub(crate) ttl: Duration,
    pub(crate) stale: Duration,
    pub(crate) metrics: Metrics,
    // Held to look up or to leave, never across an await. As many as there are different searches in flight.
    pub(crate) flights: Mutex<Flights>,
}

impl std::fmt::Debug for Searches {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Searches").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Searches {
    /// The exercises nearest to a normalised query.
    pub(crate) async fn search(self: &Arc<Self>, query: &str, limit: usize) -> Outcome {
        let outcome = self.join(key(self.embedder.name(), query, limit), query, limit).await;
        let label = outcome.as_ref().map_or("failed", |answer| answer.origin.as_str());
        self.metrics.cache_answers.get_or_create(&("origin", label).into()).inc();
        outcome
    }

    fn join(self: &Arc<Self>, key: String, query: &str, limit: usize) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.by_key.get(&key).and_then(|(_, flight)| flight.upgrade()) {
            self.metrics.searches_joined.inc();
            return flight;
        }
        flights.next += 1;
        let number = flights.next;
        let landing = Landing { searches: self.clone(), key: key.clone(), number };
        let query = query.to_owned();
        let flight = async move {
            let Landing { searches, key, .. } = &landing;
            searches.answer(key, &query, limit).await.map_err(Arc::new)
        }
        .boxed()
        .shared();
        let weak = flight.downgrade().expect("a flight that has not started is not over");
        flights.by_key.insert(key, (number, weak));
        flight
    }

    async fn answer(&self, key: &str, query: &str, limit: usize) -> Result<Answer, DbError> {
        let lookup = self.cache.look_up(key).await;
        if let Some(hits) = lookup.fresh(now_ms(), self.ttl).and_then(hits_of) {
            return Ok(Answer { hits, origin: Origin::Hit });
        }
        match self.ask_databases(query, limit).await {
            Ok(hits) => {
                self.keep(key, lookup, &hits).await;
                Ok(Answer { hits: hits.into(), origin: Origin::Miss })
            }
            Err(error) => match lookup.entry.as_ref().and_then(hits_of) {
                Some(hits) => {
                    tracing::warn!(%error, "search answered from an old cache entry");
                    Ok(Answer { hits, origin: Origin::Stale })
                }
                None => Err(error),
            },
        }
    }

    async fn keep(&self, key: &str, lookup: Lookup, hits: &[Hit]) {
        // Without results the catalogue is not loaded yet: nothing worth remembering.
        if let Some(token) = lookup.token.filter(|_| !hits.is_empty()) {
            let answer = serde_json::to_string(hits).expect("hits serialise");
            let entry = Entry { stored_at_ms: now_ms(), token, answer };
            self.cache.store(key, &entry, self.ttl + self.stale).await;
        }
    }

    /// The vectors and the rest may live in different databases, so this is two questions.
    async fn ask_databases(&self, query: &str, limit: usize) -> Result<Vec<Hit>, DbError> {
        let vector = self.embedder.embed(query);
        if vector.iter().all(|number| *number == 0.0) {
            // Nothing in it that means anything: no direction, so nothing is near.
            return Ok(Vec::new());
        }
        let vector = vectors::text(&vector);
        let found = vectors::nearest(&self.search, &vector, limit).await?;
        let slugs: Vec<String> = found.iter().map(|found| found.slug.clone()).collect();
        let mut known: HashMap<String, exercises::Exercise> = exercises::by_slugs(&self.data, &slugs)
            .await?
            .into_iter()
            .map(|exercise| (exercise.slug.clone(), exercise))
            .collect();
        // A vector whose exercise is gone is left out.
        let hit = |found: &vectors::Found| {
            let exercises::Exercise { slug, name, level, equipment, muscles, .. } =
                known.remove(&found.slug)?;
            let score = (found.score * 10_000.0).round() / 10_000.0;
            Some(Hit { slug, name, level, equipment, muscles, score })
        };
        Ok(found.iter().filter_map(hit).collect())
    }
}

fn hits_of(entry: &Entry) -> Option<Arc<[Hit]>> {
    serde_json::from_str::<Vec<Hit>>(&entry.answer).ok().map(Into::into)
}

/// Takes a flight off the list when it ends, also when everybody who waited for it has gone.
struct Landing {
    searches: Arc<Searches>,
    key: String,
    /// A flight that was given up may have a successor under the same key already; that one stays.
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.searches.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.by_key.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            flights.by_key.remove(&self.key);
        }
    }
}

/// A digest, so that keys have one length and no query can forge another's.
fn key(embedder: &str, query: &str, limit: usize) -> String {
    let digest = Sha256::new()
        .chain_update(embedder)
        .chain_update([0])
        .chain_update(limit.to_le_bytes())
        .chain_update(query)
        .finalize();
    let mut key = String::from("search:");
    for byte in &digest[..16] {
        use std::fmt::Write as _;
        write!(key, "{byte:02x}").expect("a String takes any text");
    }
    key
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_searches_apart() {
        let one = key("e", "squat", 20);
        assert_eq!(one, key("e", "squat", 20));
        for other in [key("f", "squat", 20), key("e", "squat", 21), key("e", "squats", 20)] {
            assert_ne!(one, other);
        }
    }
}
