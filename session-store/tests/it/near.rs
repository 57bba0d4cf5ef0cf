//! Copies near the caller: never believed by themselves, whoever changes the session.

use session_store::{Change, Expect, Policy, RedisSettings, RedisStore, Store};

use crate::redis_server::{self, RedisServer};
use crate::world::{create, fields, new_id, patient, present, reached};

/// Two servers' stores on one Redis, and what the first one counts.
struct Two {
    _server: RedisServer,
    here: Store,
    there: Store,
    counts: session_store::NearCounts,
}

impl Two {
    async fn start(sessions_max: usize) -> Self {
        let server = RedisServer::start();
        let settings = RedisSettings { near_sessions_max: sessions_max, ..patient(&server) };
        let open = || RedisStore::start(&settings, Policy::default()).unwrap();
        let (here, there) = (open(), open());
        let counts = here.near_counts();
        let (here, there) = (Store::Redis(here), Store::Redis(there));
        reached(&here).await;
        reached(&there).await;
        Self { _server: server, here, there, counts }
    }

    /// Hits and misses so far.
    fn counted(&self) -> (u64, u64) {
        (self.counts.hits.get(), self.counts.misses.get())
    }
}

#[tokio::test]
async fn what_was_written_here_need_not_travel() {
    if !redis_server::available("what_was_written_here_need_not_travel") {
        return;
    }
    let two = Two::start(10).await;
    let id = create(&two.here, &[("a", "1")]).await;
    assert_eq!(fields(&two.here, &id).await, "a=1");
    present(&two.here, &id, &[Change::set("a", "2")]).await;
    present(&two.here, &id, &[Change::Touch]).await;
    assert_eq!(fields(&two.here, &id).await, "a=2");
    assert_eq!(two.counted(), (2, 0));
}

#[tokio::test]
async fn what_was_written_elsewhere_is_seen_at_once() {
    if !redis_server::available("what_was_written_elsewhere_is_seen_at_once") {
        return;
    }
    let two = Two::start(10).await;
    let id = create(&two.here, &[("a", "1")]).await;
    for n in 2..20 {
        let (value, expected) = (n.to_string(), format!("a={n}"));
        present(&two.there, &id, &[Change::set("a", value)]).await;
        assert_eq!(fields(&two.here, &id).await, expected);
        assert_eq!(fields(&two.here, &id).await, expected);
    }
    assert_eq!(two.counted(), (18, 18), "each change is loaded once");
    present(&two.there, &id, &[Change::remove("a")]).await;
    assert_eq!(fields(&two.here, &id).await, "");
    present(&two.there, &id, &[Change::Destroy]).await;
    assert_eq!(fields(&two.here, &id).await, "-");
}

#[tokio::test]
async fn a_session_that_moved_elsewhere_is_gone_here() {
    if !redis_server::available("a_session_that_moved_elsewhere_is_gone_here") {
        return;
    }
    let two = Two::start(10).await;
    let (old, new) = (create(&two.here, &[("a", "1")]).await, new_id());
    present(&two.there, &old, &[Change::Rotate { to: new }, Change::set("a", "2")]).await;
    assert_eq!(
        (fields(&two.here, &old).await.as_str(), fields(&two.here, &new).await.as_str()),
        ("-", "a=2")
    );
    assert_eq!(fields(&two.there, &new).await, "a=2");
}

#[tokio::test]
async fn without_room_everything_travels() {
    if !redis_server::available("without_room_everything_travels") {
        return;
    }
    let two = Two::start(0).await;
    let id = new_id();
    two.here.apply(&id, Expect::Absent, &[Change::set("a", "1")]).await.unwrap();
    assert_eq!(fields(&two.here, &id).await, "a=1");
    assert_eq!(two.counted(), (0, 1));
}
