//! Answers kept in Redis: beside the path, never in its way.
//!
//! A request asks the cache only while a connection stands, for a few milliseconds at most; the first failure drops the
//! connection for everybody, and one task brings it back with backoff. So a cache that is away costs one deadline, not
//! one each request.
//!
//! Invalidation is one random token. Every answer is stored with the token that was there before the database was
//! asked, and counts only while the token is the same; a change of the catalogue draws a new one. Tokens never repeat,
//! so that no answer comes back to life, not even after Redis lost the token; and an answer that was read before the
//! change and stored after it carries the old token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo as _, Pipeline, RedisError};
use serde::{Deserialize, Serialize};
use service_kit::{Backoff, Secret};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

const TOKEN_KEY: &str = "search:token";
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// After a change, replicas of the database may give the old text a moment longer; what was read from them in that time
/// is invalidated too.
const SECOND_INVALIDATION: Duration = Duration::from_secs(2);

/// One stored answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Milliseconds since 1970 on the clock of who stored it.
    pub(crate) stored_at_ms: u64,
    pub(crate) token: String,
    /// The answer, as JSON text.
    pub(crate) answer: String,
}

/// What the cache knows of one key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lookup {
    /// The token now: what an answer read from now on is stored with. `None`: the cache is away.
    pub(crate) token: Option<String>,
    pub(crate) entry: Option<Entry>,
}

impl Lookup {
    /// The entry, if it still counts.
    pub(crate) fn fresh(&self, now_ms: u64, ttl: Duration) -> Option<&Entry> {
        self.entry.as_ref().filter(|entry| {
            // An entry from the future was stored by a clock that is ahead; it is no older than now.
            let age_ms = now_ms.saturating_sub(entry.stored_at_ms);
            Some(&entry.token) == self.token.as_ref() && u128::from(age_ms) < ttl.as_millis()
        })
    }
}

/// The cache as requests see it. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Cache {
    connection: watch::Sender<Option<MultiplexedConnection>>,
    broken: Arc<Notify>,
    /// An invalidation that could not be delivered; the keeper delivers it before anybody asks again.
    owed: Arc<AtomicBool>,
    deadline: Duration,
    metrics: Metrics,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Cache").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Cache {
    pub(crate) fn new(deadline: Duration, metrics: Metrics) -> Self {
        Self {
            connection: watch::Sender::new(None),
            broken: Arc::default(),
            owed: Arc::default(),
            deadline,
            metrics,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// One question for the token and the entry. Whatever goes wrong is an empty answer.
    pub(crate) async fn look_up(&self, key: &str) -> Lookup {
        let mut question = redis::pipe();
        question.get(TOKEN_KEY).get(key);
        let found: Option<(Option<String>, Option<String>)> = self.ask("look-up", &question).await;
        let Some((token, entry)) = found else { return Lookup::default() };
        // What does not parse was stored by another version: as good as nothing.
        let entry = entry.and_then(|text| serde_json::from_str(&text).ok());
        let token = match token {
            Some(token) => Some(token),
            None => self.first_token().await,
        };
        Lookup { token, entry }
    }

    async fn first_token(&self) -> Option<String> {
        let mut question = redis::pipe();
        question.cmd("SET").arg(TOKEN_KEY).arg(new_token()).arg("NX").ignore().get(TOKEN_KEY);
        self.ask("first-token", &question).await.map(|(token,): (String,)| token)
    }

    /// Keeps an answer for `keep`. Whatever goes wrong, it is not kept.
    pub(crate) async fn store(&self, key: &str, entry: &Entry, keep: Duration) {
        let text = serde_json::to_string(entry).expect("strings and numbers serialise");
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let mut question = redis::pipe();
        question.cmd("SET").arg(key).arg(text).arg("PX").arg(keep_ms).ignore();
        let _: Option<()> = self.ask("store", &question).await;
    }

    /// Every answer stored until now stops counting, at once and once more when the replicas have caught up.
    pub(crate) async fn invalidate(&self) {
        self.draw_token().await;
        let later = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SECOND_INVALIDATION).await;
            later.draw_token().await;
        });
    }

    async fn draw_token(&self) {
        let mut question = redis::pipe();
        question.set(TOKEN_KEY, new_token()).ignore();
        let drawn: Option<()> = self.ask("invalidate", &question).await;
        if drawn.is_none() {
            self.owed.store(true, Ordering::Release);
        }
    }

    async fn ask<T: FromRedisValue>(&self, step: &'static str, question: &Pipeline) -> Option<T> {
        let mut connection = self.connection.borrow().clone()?;
        let reason = match tokio::time::timeout(self.deadline, question.query_async(&mut connection)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", self.deadline.as_millis()),
        };
        self.metrics.cache_errors.get_or_create(&("step", step).into()).inc();
        let was_up = self.connection.send_replace(None).is_some();
        self.broken.notify_one();
        if was_up {
            tracing::warn!(step, reason, "cache away: searches go to the database");
        }
        None
    }

    /// Keeps a connection standing until told to stop.
    pub(crate) async fn keep(self, url: String, password: Secret, stop: CancellationToken) {
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        let mut told = false;
        loop {
            let broken = async {
                match self.connect(&url, &password).await {
                    Ok(connection) => {
                        tracing::info!("cache reached");
                        (backoff, told) = (Backoff::new(BACKOFF_MIN, BACKOFF_MAX), false);
                        self.connection.send_replace(Some(connection));
                        self.broken.notified().await;
                    }
                    Err(error) if !told => {
                        tracing::warn!(%error, "cache cannot be reached; trying again with backoff");
                        told = true;
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(backoff.next_delay()).await;
            };
            tokio::select! {
                () = broken => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn connect(&self, url: &str, password: &Secret) -> Result<MultiplexedConnection, RedisError> {
        let mut connection = connect(url, password, self.deadline).await?;
        if self.owed.swap(false, Ordering::AcqRel) {
            let paid: Result<(), _> =
                redis::cmd("SET").arg(TOKEN_KEY).arg(new_token()).query_async(&mut connection).await;
            paid.inspect_err(|_| self.owed.store(true, Ordering::Release))?;
        }
        Ok(connection)
    }
}

/// Draws a new token from outside the app: after `migrate` changed the catalogue.
pub(crate) async fn invalidate_once(url: &str, password: &Secret) -> Result<(), RedisError> {
    let mut connection = connect(url, password, CONNECT_TIMEOUT).await?;
    redis::cmd("SET").arg(TOKEN_KEY).arg(new_token()).query_async(&mut connection).await
}

/// A connection that has answered: a listening socket alone proves nothing.
async fn connect(
    url: &str,
    password: &Secret,
    deadline: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let mut info = url.into_connection_info()?;
    if !password.is_empty() {
        let settings = info.redis_settings().clone().set_password(password.expose());
        info = info.set_redis_settings(settings);
    }
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(deadline));
    let mut connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    Ok(connection)
}

fn new_token() -> String {
    service_kit::trace::new_request_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry stored at second 100 with token `a`, looked at `now_s` with token `token`.
    #[track_caller]
    fn check(token: Option<&str>, now_s: u64, fresh: bool) {
        let entry = Entry { stored_at_ms: 100_000, token: "a".into(), answer: "[]".into() };
        let lookup = Lookup { token: token.map(str::to_owned), entry: Some(entry) };
        assert_eq!(lookup.fresh(now_s * 1000, Duration::from_secs(10)).is_some(), fresh);
    }

    #[test]
    fn an_entry_counts_for_its_time_and_its_token() {
        check(Some("a"), 100, true);
        check(Some("a"), 109, true);
        check(Some("a"), 110, false);
        check(Some("b"), 100, false);
        check(None, 100, false);
    }

    #[test]
    fn a_clock_that_was_ahead_does_no_harm() {
        check(Some("a"), 90, true);
    }
}
