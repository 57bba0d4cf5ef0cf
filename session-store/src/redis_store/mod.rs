//! Sessions in one Redis, shared by every server that can reach it.
//!
//! A session is one hash under `PREFIX` + id, one hash field for each session field, so that changes to different
//! fields never meet. The rules run inside Redis as a script (`apply.lua`), on Redis' own clock. A Rotate names two
//! keys, so this is for one Redis (with replicas and Sentinel if you like), not for Redis Cluster.
//!
//! What an answer means: see [`StoreError::Unavailable`]. Nothing is repeated in here: a caller that repeats a lost
//! `apply` gets the right answer for `SetField`, `RemoveField`, `Touch`; `NoSession` for a `Rotate` or `Destroy` that
//! had already happened; and `Exists` for a creation that had.

mod census;
mod link;
mod near;
mod reply;

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Cmd, Script, cmd};
use tokio::sync::watch;

use crate::error::StoreError;
use crate::health::Health;
use crate::policy::Policy;
use crate::rules::{self, Record};
use crate::session::{Applied, Change, Expect, Session};
use crate::token::SessionId;
use link::Link;
use near::{Copied, Near};
use reply::Loaded;

pub use near::NearCounts;

const APPLY: &str = include_str!("apply.lua");
static APPLY_SHA1: LazyLock<String> = LazyLock::new(|| Script::new(APPLY).get_hash().to_owned());

/// Where the Redis is and how long to wait for it.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://[user[:password]@]host[:port][/database]`.
    pub url: String,
    /// Takes the place of the password in the URL; usually read from a file.
    pub password: Option<String>,
    /// Goes before every key, so that one Redis can serve several purposes.
    pub key_prefix: String,
    /// For resolving the name, connecting and logging in.
    pub connect_timeout: Duration,
    /// For each `load` and `apply`.
    pub command_timeout: Duration,
    /// Calls that may wait for Redis at once; one more is refused at once.
    pub inflight_max: usize,
    /// How often an idle connection is asked whether it still leads to a primary.
    pub check_interval: Duration,
    /// Sessions of which this process keeps a copy, so that only what changed has to travel; 0: none.
    pub near_sessions_max: usize,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            password: None,
            key_prefix: "session:".to_owned(),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_millis(250),
            inflight_max: 1024,
            check_interval: Duration::from_secs(1),
            near_sessions_max: 0,
        }
    }
}

impl fmt::Debug for RedisSettings {
    /// Without the URL, which may carry a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings").field("key_prefix", &self.key_prefix).finish_non_exhaustive()
    }
}

/// A store in Redis. Clones share one connection, which is replaced by itself when it dies.
#[derive(Clone)]
pub struct RedisStore {
    policy: Arc<Policy>,
    key_prefix: Arc<str>,
    link: Arc<Link>,
    near: Arc<Near>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("health", &*self.link.health().borrow()).finish_non_exhaustive()
    }
}

/// What [`RedisStore::look`] saw.
#[derive(Debug)]
pub(crate) enum Found {
    Live {
        session: Session,
        /// When Redis will drop it if nobody comes back.
        expires_at_ms: u64,
    },
    /// Destroyed or rotated away; its tombstone stays until then.
    Ended {
        until_ms: u64,
    },
    Unknown,
}

impl RedisStore {
    /// Starts connecting in the background and returns at once; until the first contact every call is
    /// [`StoreError::Unavailable`]. Fails only when the settings make no sense.
    ///
    /// # Panics
    /// Outside a Tokio runtime. The connection lives on the runtime that this is called on.
    pub fn start(settings: &RedisSettings, policy: Policy) -> Result<Self, StoreError> {
        let link = Link::start(settings)?;
        Ok(Self {
            policy: Arc::new(policy),
            key_prefix: settings.key_prefix.as_str().into(),
            link: Arc::new(link),
            near: Arc::new(Near::new(settings.near_sessions_max)),
        })
    }

    /// The rules it was made with.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// See [`crate::Store::health`].
    pub fn health(&self) -> watch::Receiver<Health> {
        self.link.health()
    }

    /// How often copies in this process were of use.
    pub fn near_counts(&self) -> NearCounts {
        self.near.counts.clone()
    }

    /// See [`crate::Store::load`].
    pub async fn load(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        if let Some(copy) = self.near.get(id)
            && let Some((now_ms, session)) = self.confirm(id, copy).await?
        {
            self.near.counts.hits.inc();
            return Ok(Record::Live(session).into_session(now_ms, &self.policy));
        }
        let Loaded { now_ms, record, revision } = self.read(id).await?;
        let session = record.and_then(|record| record.into_session(now_ms, &self.policy));
        if let (Some(session), Some(revision)) = (&session, revision) {
            self.near.counts.misses.inc();
            self.keep(*id, revision, session);
        }
        Ok(session)
    }

    /// Asks whether a copy is of the session's latest revision; if so, gives back the session.
    async fn confirm(&self, id: &SessionId, copy: Copied) -> Result<Option<(u64, Session)>, StoreError> {
        let mut question = redis::pipe();
        question.cmd("TIME").cmd("HMGET").arg(self.key(id)).arg(&reply::HEAD);
        let answer = self.link.ask(async |connection| question.query_async(connection).await).await?;
        reply::confirmed(answer, copy)
    }

    fn keep(&self, id: SessionId, revision: String, session: &Session) {
        self.near.keep(id, Copied { revision, fields: session.fields.clone() });
    }

    /// What is under an id, tombstones included: for people.
    pub(crate) async fn look(&self, id: &SessionId) -> Result<Found, StoreError> {
        let Loaded { now_ms, record, .. } = self.read(id).await?;
        let Some(record) = record else { return Ok(Found::Unknown) };
        if let Record::Tombstone { until_ms } = record {
            return Ok(Found::Ended { until_ms });
        }
        let Some(session) = record.into_session(now_ms, &self.policy) else { return Ok(Found::Unknown) };
        let mut question = cmd("PEXPIRETIME");
        question.arg(self.key(id));
        let answer = self.link.ask(async |connection| question.query_async(connection).await).await?;
        // Negative when it ended in between.
        let expires_at_ms: i64 = reply::parse(answer)?;
        Ok(u64::try_from(expires_at_ms)
            .map_or(Found::Unknown, |expires_at_ms| Found::Live { session, expires_at_ms }))
    }

    async fn read(&self, id: &SessionId) -> Result<Loaded, StoreError> {
        let mut question = redis::pipe();
        // First the clock, then the session: nothing is older than the time it is judged by.
        question.cmd("TIME").cmd("HGETALL").arg(self.key(id));
        let answer = self.link.ask(async |connection| question.query_async(connection).await).await?;
        reply::loaded(answer)
    }

    /// See [`crate::Store::apply`].
    pub async fn apply(
        &self,
        id: &SessionId,
        expect: Expect,
        changes: &[Change],
    ) -> Result<Applied, StoreError> {
        rules::validate(id, expect, changes, &self.policy)?;
        let revision = near::new_revision();
        let known = self.apply_command("EVALSHA", APPLY_SHA1.as_str(), id, expect, changes, &revision);
        let answer = self
            .link
            .ask(async |connection| match known.query_async(connection).await {
                // Redis forgets scripts when it restarts. Nothing has run yet, so sending the text is safe.
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    self.apply_command("EVAL", APPLY, id, expect, changes, &revision)
                        .query_async(connection)
                        .await
                }
                answer => answer,
            })
            .await?;
        let applied = reply::applied(answer)?;
        if let Applied::Applied(session) = &applied
            && rules::writes_fields(expect, changes)
        {
            self.keep(*rotated(changes).unwrap_or(id), revision, session);
        }
        Ok(applied)
    }

    fn apply_command(
        &self,
        command: &str,
        script: &str,
        id: &SessionId,
        expect: Expect,
        changes: &[Change],
        revision: &str,
    ) -> Cmd {
        let target = rotated(changes);
        let mut question = cmd(command);
        question.arg(script).arg(1 + usize::from(target.is_some())).arg(self.key(id));
        if let Some(to) = target {
            question.arg(self.key(to));
        }
        question
            .arg(match expect {
                Expect::Absent => "absent",
                Expect::Present => "present",
            })
            .arg(self.policy.idle_ms())
            .arg(self.policy.absolute_ms())
            .arg(self.policy.touch_interval_ms())
            .arg(self.policy.limits.fields_max)
            .arg(self.policy.limits.session_bytes_max)
            .arg(revision);
        for change in changes {
            match change {
                Change::SetField { name, value } => question.arg("set").arg(name).arg(value),
                Change::RemoveField { name } => question.arg("remove").arg(name),
                Change::Touch => question.arg("touch"),
                Change::Rotate { .. } => question.arg("rotate"),
                Change::Renew => question.arg("renew"),
                Change::Destroy => question.arg("destroy"),
            };
        }
        question
    }

    fn key(&self, id: &SessionId) -> String {
        format!("{}{id}", self.key_prefix)
    }
}

/// The id that a list of changes moves the session to.
fn rotated(changes: &[Change]) -> Option<&SessionId> {
    changes.iter().find_map(|change| match change {
        Change::Rotate { to } => Some(to),
        _ => None,
    })
}
