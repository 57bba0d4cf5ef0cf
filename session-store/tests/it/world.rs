//! Makes empty stores of each kind, and waits for things.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use session_store::{
    Applied, Change, Expect, MemoryStore, Policy, RedisSettings, RedisStore, Session, SessionId,
    SessionToken, Store,
};

use crate::redis_server::{self, RedisServer};

/// Longer than anything here takes on a busy machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Memory,
    Redis,
    /// With copies of sessions in the process.
    RedisWithCopies,
}

/// One server for all contract tests: their ids never meet.
static SHARED: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

impl Kind {
    pub(crate) fn available(self, test: &str) -> bool {
        self == Self::Memory || redis_server::available(test)
    }

    pub(crate) async fn open(self, policy: Policy) -> Store {
        match self {
            Self::Memory => Store::Memory(MemoryStore::new(policy)),
            Self::Redis => open_redis(patient(&SHARED), policy).await,
            Self::RedisWithCopies => {
                open_redis(RedisSettings { near_sessions_max: 100, ..patient(&SHARED) }, policy).await
            }
        }
    }
}

/// Settings with a deadline that a busy machine does not miss.
pub(crate) fn patient(server: &RedisServer) -> RedisSettings {
    RedisSettings { url: server.url(), command_timeout: Duration::from_secs(10), ..RedisSettings::default() }
}

pub(crate) async fn open_redis(settings: RedisSettings, policy: Policy) -> Store {
    let store = Store::Redis(RedisStore::start(&settings, policy).unwrap());
    reached(&store).await;
    store
}

pub(crate) async fn reached(store: &Store) {
    let mut health = store.health();
    let wait = health.wait_for(session_store::Health::is_reached);
    tokio::time::timeout(PATIENCE, wait).await.expect("reached in time").unwrap();
}

/// Polls until the condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn new_id() -> SessionId {
    SessionToken::generate().id()
}

/// A new session with these fields, which must be accepted.
pub(crate) async fn create(store: &Store, fields: &[(&str, &str)]) -> SessionId {
    let id = new_id();
    let changes: Vec<_> = fields.iter().map(|(name, value)| Change::set(*name, *value)).collect();
    let applied = store.apply(&id, Expect::Absent, &changes).await.unwrap();
    assert!(matches!(applied, Applied::Applied(_)), "{applied:?}");
    id
}

pub(crate) async fn present(store: &Store, id: &SessionId, changes: &[Change]) -> Applied {
    store.apply(id, Expect::Present, changes).await.unwrap()
}

pub(crate) async fn load(store: &Store, id: &SessionId) -> Option<Session> {
    store.load(id).await.unwrap()
}

/// The fields as `a=1 b=2`, or `-` when there is no session.
pub(crate) async fn fields(store: &Store, id: &SessionId) -> String {
    load(store, id).await.map_or_else(|| "-".to_owned(), |session| drawn(&session))
}

pub(crate) fn drawn(session: &Session) -> String {
    session.fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
