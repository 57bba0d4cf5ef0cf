//! What a real Redis can do to us: be away, die, stop, change its role, forget scripts, hold strange things.

use std::time::Duration;

use nix::sys::signal::Signal;
use session_store::{
    Applied, Change, Expect, Health, Policy, RedisSettings, RedisStore, SessionId, Store, StoreError,
};

use crate::redis_server::{RedisServer, available};
use crate::world::{PATIENCE, create, eventually, fields, new_id, open_redis, patient, present, reached};

/// Short deadlines: these tests wait for them.
fn hasty(server: &RedisServer) -> RedisSettings {
    RedisSettings {
        command_timeout: Duration::from_millis(100),
        check_interval: Duration::from_millis(100),
        ..patient(server)
    }
}

/// A call that must not hang, whatever it answers.
async fn try_load(store: &Store) -> Result<(), StoreError> {
    tokio::time::timeout(PATIENCE, store.load(&new_id())).await.expect("an answer in time").map(drop)
}

async fn lost(store: &Store) -> String {
    let mut health = store.health();
    let wait = health.wait_for(|health| matches!(health, Health::Lost { .. }));
    let health = tokio::time::timeout(PATIENCE, wait).await.expect("lost in time").unwrap();
    let Health::Lost { reason } = &*health else { unreachable!("waited for it") };
    reason.clone()
}

/// Until one call is answered and one apply is made.
async fn works_again(store: &Store) {
    eventually("the store works again", async || {
        try_load(store).await.is_ok() && store.apply(&new_id(), Expect::Absent, &[]).await.is_ok()
    })
    .await;
    reached(store).await;
}

#[tokio::test]
async fn starts_without_a_server_and_finds_it_later() {
    if !available("starts_without_a_server_and_finds_it_later") {
        return;
    }
    let mut server = RedisServer::not_started();
    let store = Store::Redis(RedisStore::start(&hasty(&server), Policy::default()).unwrap());
    assert_eq!(*store.health().borrow(), Health::Connecting);
    assert_eq!(try_load(&store).await.unwrap_err().kind(), "unavailable");
    lost(&store).await;
    assert_eq!(try_load(&store).await.unwrap_err().kind(), "unavailable");
    server.launch();
    works_again(&store).await;
}

#[tokio::test]
async fn sessions_survive_a_killed_and_restarted_server() {
    if !available("sessions_survive_a_killed_and_restarted_server") {
        return;
    }
    let mut server = RedisServer::start();
    let store = open_redis(patient(&server), Policy::default()).await;
    let id = create(&store, &[("user", "7")]).await;
    let ended = create(&store, &[]).await;
    present(&store, &ended, &[Change::Destroy]).await;
    server.kill();
    lost(&store).await;
    for _ in 0..100 {
        assert_eq!(try_load(&store).await.unwrap_err().kind(), "unavailable");
    }
    server.launch();
    works_again(&store).await;
    assert_eq!(fields(&store, &id).await, "user=7");
    assert_eq!(present(&store, &ended, &[Change::Touch]).await, Applied::NoSession);
    assert_eq!(store.apply(&ended, Expect::Absent, &[]).await.unwrap(), Applied::Exists);
}

#[tokio::test]
async fn a_stopped_server_costs_one_deadline_and_then_nothing() {
    if !available("a_stopped_server_costs_one_deadline_and_then_nothing") {
        return;
    }
    let server = RedisServer::start();
    // Only the late call tells, not the periodic check.
    let settings = RedisSettings { check_interval: PATIENCE * 10, ..hasty(&server) };
    let store = open_redis(settings, Policy::default()).await;
    let id = create(&store, &[("user", "7")]).await;
    server.signal(Signal::SIGSTOP);
    let error = store.apply(&id, Expect::Present, &[Change::set("a", "1")]).await.unwrap_err();
    assert!(error.to_string().contains("100 ms"), "{error}");
    let reason = lost(&store).await;
    assert!(reason.contains("within"), "{reason}");
    // Nobody waits for a server that is known to be away.
    for _ in 0..1000 {
        assert_eq!(try_load(&store).await.unwrap_err().kind(), "unavailable");
    }
    server.signal(Signal::SIGCONT);
    works_again(&store).await;
    // The set whose answer was late may have been made or not; the session itself is whole.
    assert!(["user=7", "a=1 user=7"].contains(&fields(&store, &id).await.as_str()));
}

#[tokio::test]
async fn calls_beyond_the_bound_are_refused_at_once() {
    if !available("calls_beyond_the_bound_are_refused_at_once") {
        return;
    }
    let server = RedisServer::start();
    let settings = RedisSettings { inflight_max: 2, check_interval: PATIENCE * 10, ..patient(&server) };
    let store = open_redis(settings, Policy::default()).await;
    server.signal(Signal::SIGSTOP);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { try_load(&store).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let error = try_load(&store).await.unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    server.signal(Signal::SIGCONT);
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    try_load(&store).await.unwrap();
}

#[tokio::test]
async fn a_demoted_server_is_left_and_taken_back() {
    if !available("a_demoted_server_is_left_and_taken_back") {
        return;
    }
    let server = RedisServer::start();
    // Only a failed write tells, not the periodic check.
    let settings = RedisSettings { check_interval: PATIENCE * 10, ..patient(&server) };
    let store = open_redis(settings, Policy::default()).await;
    let id = create(&store, &[("user", "7")]).await;
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = store.apply(&id, Expect::Present, &[Change::set("a", "1")]).await.unwrap_err();
    assert!(error.to_string().contains("read only replica"), "{error}");
    assert!(lost(&store).await.contains("not a primary"));
    server.ask(&["REPLICAOF", "NO", "ONE"]).await;
    works_again(&store).await;
    assert_eq!(fields(&store, &id).await, "user=7");
}

#[tokio::test]
async fn cut_connections_and_forgotten_scripts_do_not_matter() {
    if !available("cut_connections_and_forgotten_scripts_do_not_matter") {
        return;
    }
    let server = RedisServer::start();
    let store = open_redis(patient(&server), Policy::default()).await;
    let id = create(&store, &[]).await;
    server.ask(&["SCRIPT", "FLUSH"]).await;
    assert!(present(&store, &id, &[Change::set("a", "1")]).await.session().is_some());
    server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    works_again(&store).await;
    assert_eq!(fields(&store, &id).await, "a=1");
}

#[tokio::test]
async fn the_password_is_needed_and_used() {
    if !available("the_password_is_needed_and_used") {
        return;
    }
    let server = RedisServer::start();
    server.ask(&["CONFIG", "SET", "requirepass", "hunter2"]).await;
    let with =
        |password: Option<&str>| RedisSettings { password: password.map(str::to_owned), ..hasty(&server) };
    let store = open_redis(with(Some("hunter2")), Policy::default()).await;
    try_load(&store).await.unwrap();
    for wrong in [None, Some("hunter3")] {
        let store = Store::Redis(RedisStore::start(&with(wrong), Policy::default()).unwrap());
        let reason = lost(&store).await;
        assert!(!reason.contains("hunter"), "{reason}");
        assert_eq!(try_load(&store).await.unwrap_err().kind(), "unavailable");
    }
}

#[tokio::test]
async fn strange_things_under_our_keys_are_errors_for_that_session_only() {
    if !available("strange_things_under_our_keys_are_errors_for_that_session_only") {
        return;
    }
    let server = RedisServer::start();
    let store = open_redis(patient(&server), Policy::default()).await;
    let good = create(&store, &[("user", "7")]).await;
    let (text, partial, odd) = (new_id(), new_id(), create(&store, &[]).await);
    server.ask(&["SET", &format!("session:{text}"), "hello"]).await;
    server.ask(&["HSET", &format!("session:{partial}"), "f:user", "7"]).await;
    server.ask(&["HSET", &format!("session:{odd}"), "m:seen", "yesterday"]).await;
    for id in [text, partial, odd] {
        assert_eq!(store.load(&id).await.unwrap_err().kind(), "damaged");
        for expect in [Expect::Present, Expect::Absent] {
            assert_eq!(store.apply(&id, expect, &[Change::Touch]).await.unwrap_err().kind(), "damaged");
        }
        let onto = store.apply(&good, Expect::Present, &[Change::Rotate { to: id }]).await;
        assert!(!matches!(onto, Ok(Applied::Applied(_))), "{onto:?}");
    }
    assert_eq!(fields(&store, &good).await, "user=7");
    assert_eq!(*store.health().borrow(), Health::Reached);
}

#[tokio::test]
async fn every_key_ends_by_itself() {
    if !available("every_key_ends_by_itself") {
        return;
    }
    let server = RedisServer::start();
    let policy = Policy {
        idle_timeout: Duration::from_millis(200),
        absolute_timeout: Duration::from_millis(500),
        ..Policy::default()
    };
    let store = open_redis(patient(&server), policy).await;
    for number in 0..30 {
        let id = create(&store, &[("a", "1")]).await;
        match number % 3 {
            0 => drop(present(&store, &id, &[Change::Destroy]).await),
            1 => drop(present(&store, &id, &[Change::Rotate { to: new_id() }]).await),
            _ => {}
        }
    }
    eventually("Redis is empty", async || server.ask(&["DBSIZE"]).await == redis::Value::Int(0)).await;
}

#[tokio::test]
async fn a_full_server_refuses_new_data_and_still_ends_sessions() {
    if !available("a_full_server_refuses_new_data_and_still_ends_sessions") {
        return;
    }
    let server = RedisServer::start();
    let policy = Policy { idle_timeout: Duration::from_secs(10), ..Policy::default() };
    let store = open_redis(patient(&server), policy).await;
    let (first, second) = (create(&store, &[("a", "1"), ("b", "1")]).await, new_id());
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = |outcome: Result<Applied, StoreError>| {
        assert!(matches!(&outcome, Err(error) if error.to_string().contains("OOM")), "{outcome:?}");
    };
    full(store.apply(&new_id(), Expect::Absent, &[]).await);
    full(store.apply(&new_id(), Expect::Absent, &[Change::set("c", "1")]).await);
    let list = [Change::remove("a"), Change::Rotate { to: second }, Change::set("c", "1")];
    full(store.apply(&first, Expect::Present, &list).await);
    assert_eq!(fields(&store, &first).await, "a=1 b=1");
    assert_eq!(fields(&store, &second).await, "-");
    a_touch_is_recorded(&store, &first).await;
    assert!(
        present(&store, &first, &[Change::remove("a"), Change::Rotate { to: second }])
            .await
            .session()
            .is_some()
    );
    assert_eq!(fields(&store, &second).await, "b=1");
    assert!(present(&store, &second, &[Change::Destroy]).await.session().is_some());
    assert_eq!(fields(&store, &second).await, "-");
    for id in [first, second] {
        assert_eq!(present(&store, &id, &[Change::Touch]).await, Applied::NoSession);
    }
}

async fn a_touch_is_recorded(store: &Store, id: &SessionId) {
    let before_ms = store.load(id).await.unwrap().unwrap().last_seen_ms;
    eventually("a touch is recorded", async || {
        present(store, id, &[Change::Touch]).await.session().unwrap().last_seen_ms > before_ms
    })
    .await;
}
