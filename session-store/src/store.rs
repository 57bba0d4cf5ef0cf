//! One handle over every backend, so that callers need neither generics nor `dyn`.

use tokio::sync::watch;

use crate::error::StoreError;
use crate::health::Health;
use crate::memory::MemoryStore;
use crate::policy::Policy;
use crate::redis_store::RedisStore;
use crate::session::{Applied, Change, Expect, Session};
use crate::token::SessionId;

/// A place where sessions are kept. Clones share it and cost little.
#[derive(Debug, Clone)]
pub enum Store {
    /// In this process.
    Memory(MemoryStore),
    /// In a Redis that servers share.
    Redis(RedisStore),
}

impl Store {
    /// The session under an id, or `None` when there is none that is alive: never created, expired, destroyed or
    /// rotated away. Reading is not activity; see [`Change::Touch`] and [`Session::is_touch_due`].
    pub async fn load(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.load(id)),
            Self::Redis(store) => store.load(id).await,
        }
    }

    /// Makes all the changes in one atomic step, in their order, or none of them.
    ///
    /// An unknown id is never adopted: with [`Expect::Present`] nothing is ever created, and [`Expect::Absent`] is
    /// for ids that the caller has just generated.
    pub async fn apply(
        &self,
        id: &SessionId,
        expect: Expect,
        changes: &[Change],
    ) -> Result<Applied, StoreError> {
        match self {
            Self::Memory(store) => store.apply(id, expect, changes),
            Self::Redis(store) => store.apply(id, expect, changes).await,
        }
    }

    /// Tells when the store is reached and lost, for readiness. A store in memory is always reached.
    pub fn health(&self) -> watch::Receiver<Health> {
        match self {
            Self::Memory(_) => watch::channel(Health::Reached).1,
            Self::Redis(store) => store.health(),
        }
    }

    /// The rules that the store was made with.
    pub fn policy(&self) -> &Policy {
        match self {
            Self::Memory(store) => store.policy(),
            Self::Redis(store) => store.policy(),
        }
    }
}
