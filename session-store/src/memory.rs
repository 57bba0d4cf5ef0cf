//! Sessions in this process: for one server, for tests, and for showing what goes wrong with more than one.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::StoreError;
use crate::policy::Policy;
use crate::rules::{self, Decision, Record};
use crate::session::{Applied, Change, Expect, Session};
use crate::token::SessionId;

/// How many sessions and tombstones a store holds unless told otherwise.
pub const SESSIONS_MAX: usize = 100_000;

type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A store in memory. Clones share it. It is lost with the process, which is its lesson.
#[derive(Clone)]
pub struct MemoryStore {
    policy: Arc<Policy>,
    sessions_max: usize,
    now_ms: Clock,
    /// Held for one step, never across an await.
    records: Arc<Mutex<Records>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store on the system's clock.
    pub fn new(policy: Policy) -> Self {
        Self::with_clock(policy, system_clock_ms)
    }

    /// An empty store on another clock, in milliseconds since 1970.
    pub fn with_clock(policy: Policy, now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            policy: Arc::new(policy),
            sessions_max: SESSIONS_MAX,
            now_ms: Arc::new(now_ms),
            records: Arc::default(),
        }
    }

    /// The same store with room for this many sessions and tombstones; creating one more is [`StoreError::Full`].
    #[must_use]
    pub fn sessions_max(mut self, sessions_max: usize) -> Self {
        self.sessions_max = sessions_max;
        self
    }

    /// The rules it was made with.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many sessions are alive.
    pub fn len(&self) -> usize {
        let now_ms = (self.now_ms)();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.forget_expired(now_ms);
        records.by_id.values().filter(|record| matches!(record, Record::Live(_))).count()
    }

    /// Whether none is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`crate::Store::load`].
    pub fn load(&self, id: &SessionId) -> Option<Session> {
        let now_ms = (self.now_ms)();
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.by_id.get(id).cloned()?.into_session(now_ms, &self.policy)
    }

    /// See [`crate::Store::apply`].
    pub fn apply(&self, id: &SessionId, expect: Expect, changes: &[Change]) -> Result<Applied, StoreError> {
        rules::validate(id, expect, changes, &self.policy)?;
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that steps follow each other in the order of their times.
        let now_ms = (self.now_ms)();
        records.forget_expired(now_ms);
        let target = changes.iter().find_map(|change| match change {
            Change::Rotate { to } => records.by_id.get(to),
            _ => None,
        });
        let stored = records.by_id.get(id).cloned();
        let grows = stored.is_none() || changes.iter().any(|change| matches!(change, Change::Rotate { .. }));
        let full = grows && records.by_id.len() >= self.sessions_max;
        match rules::decide(stored, target, expect, changes, now_ms, &self.policy)? {
            Decision::NoSession => Ok(Applied::NoSession),
            Decision::Exists => Ok(Applied::Exists),
            _ if full => Err(StoreError::Full { max: self.sessions_max }),
            Decision::Put(session) => {
                records.put(*id, Record::Live(session.clone()), &self.policy);
                Ok(Applied::Applied(session))
            }
            Decision::Move { to, session, until_ms } => {
                records.put(*id, Record::Tombstone { until_ms }, &self.policy);
                records.put(to, Record::Live(session.clone()), &self.policy);
                Ok(Applied::Applied(session))
            }
            Decision::Bury { session, until_ms } => {
                records.put(*id, Record::Tombstone { until_ms }, &self.policy);
                Ok(Applied::Applied(session))
            }
        }
    }
}

#[derive(Default)]
struct Records {
    by_id: HashMap<SessionId, Record>,
    /// The same ids in the order in which they end, so that forgetting costs nothing until something ends.
    by_expiry: BTreeSet<(u64, SessionId)>,
}

impl Records {
    fn put(&mut self, id: SessionId, record: Record, policy: &Policy) {
        let expiry_ms = record.expiry_ms(policy);
        if let Some(before) = self.by_id.insert(id, record) {
            self.by_expiry.remove(&(before.expiry_ms(policy), id));
        }
        self.by_expiry.insert((expiry_ms, id));
    }

    fn forget_expired(&mut self, now_ms: u64) {
        while let Some(&(expiry_ms, id)) = self.by_expiry.first()
            && expiry_ms <= now_ms
        {
            self.by_expiry.pop_first();
            self.by_id.remove(&id);
        }
    }
}

fn system_clock_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::token::SessionToken;

    /// Room for two, one second of life, a clock at zero.
    fn small() -> (MemoryStore, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(0));
        let reading = Arc::clone(&clock);
        let policy = Policy { absolute_timeout: Duration::from_secs(1), ..Policy::default() };
        (MemoryStore::with_clock(policy, move || reading.load(Ordering::Relaxed)).sessions_max(2), clock)
    }

    fn create(store: &MemoryStore) -> Result<SessionId, &'static str> {
        let id = SessionToken::generate().id();
        store.apply(&id, Expect::Absent, &[]).map(|_| id).map_err(|error| error.kind())
    }

    #[test]
    fn a_full_store_takes_no_more_until_something_ends() {
        let (store, clock) = small();
        let id = create(&store).unwrap();
        create(&store).unwrap();
        assert_eq!(create(&store), Err("full"));
        assert!(store.apply(&id, Expect::Present, &[Change::set("a", "1")]).is_ok(), "nothing is added");
        clock.store(1000, Ordering::Relaxed);
        assert!(create(&store).is_ok());
    }

    #[test]
    fn tombstones_take_room_and_are_forgotten() {
        let (store, clock) = small();
        let id = create(&store).unwrap();
        let to = SessionToken::generate().id();
        store.apply(&id, Expect::Present, &[Change::Rotate { to }]).unwrap();
        assert_eq!((store.len(), create(&store)), (1, Err("full")));
        clock.store(1000, Ordering::Relaxed);
        assert!(store.is_empty());
        let records = store.records.lock().unwrap();
        assert_eq!((records.by_id.len(), records.by_expiry.len()), (0, 0));
    }
}
