//! What every backend promises. Each test runs against memory and against a real Redis.

use std::time::Duration;

use session_store::{Applied, Change, Expect, Limits, Policy, Session, Store, StoreError};

use crate::world::{Kind, create, drawn, eventually, fields, load, new_id, present};

/// Runs each named test once for each backend.
macro_rules! for_each_backend {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(super::Kind::Memory).await })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if super::Kind::Redis.available(stringify!($test)) { super::$test(super::Kind::Redis).await }
            })*
        }
        mod redis_with_copies {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if super::Kind::RedisWithCopies.available(stringify!($test)) {
                    super::$test(super::Kind::RedisWithCopies).await
                }
            })*
        }
    };
}

for_each_backend! {
    a_created_session_is_found_with_its_fields
    changes_are_made_in_their_order
    fields_hold_any_text
    unknown_ids_are_never_adopted
    creating_over_a_session_is_refused
    destroyed_ids_stay_dead
    rotated_ids_stay_dead
    rotating_onto_a_used_id_changes_nothing
    rotation_keeps_the_end_and_renewal_moves_it
    senseless_lists_are_refused
    sizes_at_the_limit_pass_and_above_are_refused
    a_refused_list_changes_nothing
    idle_sessions_end_unless_touched
    absolute_expiry_comes_in_spite_of_activity
    tombstones_end_with_the_session
    touches_are_coalesced
    concurrent_changes_to_different_fields_all_survive
    one_of_many_creations_wins
    one_of_many_rotations_wins
    sets_meet_a_rotation_wholly_or_not_at_all
    destruction_beats_late_activity
}

fn short(idle_ms: u64, absolute_ms: u64) -> Policy {
    Policy {
        idle_timeout: Duration::from_millis(idle_ms),
        absolute_timeout: Duration::from_millis(absolute_ms),
        ..Policy::default()
    }
}

fn limited(limits: Limits) -> Policy {
    Policy { limits, ..Policy::default() }
}

async fn a_created_session_is_found_with_its_fields(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let id = create(&store, &[("user", "7"), ("plan:squat", "3x5")]).await;
    let session = load(&store, &id).await.unwrap();
    assert_eq!(drawn(&session), "plan:squat=3x5 user=7");
    assert_eq!(session.get("user"), Some("7"));
    assert_eq!(session.created_at_ms, session.last_seen_ms);
    assert_eq!(session.absolute_expiry_ms - session.created_at_ms, 12 * 60 * 60 * 1000);
    assert!(session.observed_at_ms >= session.created_at_ms);
    let empty = create(&store, &[]).await;
    assert_eq!(fields(&store, &empty).await, "");
}

async fn changes_are_made_in_their_order(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let id = create(&store, &[("a", "1"), ("a", "2"), ("b", "1")]).await;
    assert_eq!(fields(&store, &id).await, "a=2 b=1");
    present(&store, &id, &[Change::remove("a"), Change::set("b", "2"), Change::remove("absent")]).await;
    assert_eq!(fields(&store, &id).await, "b=2");
    present(
        &store,
        &id,
        &[Change::set("c", "1"), Change::remove("c"), Change::remove("b"), Change::set("b", "3")],
    )
    .await;
    assert_eq!(fields(&store, &id).await, "b=3");
    let Applied::Applied(unchanged) = present(&store, &id, &[]).await else { panic!("still there") };
    assert_eq!(drawn(&unchanged), "b=3");
}

async fn fields_hold_any_text(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let odd = [
        ("m:dead", "1"),
        ("f:f:", ""),
        ("m:seen", "x"),
        ("\0\r\n", "\0\r\n$5\r\n"),
        ("größe", "🏋"),
        ("set", "touch"),
    ];
    let id = create(&store, &odd).await;
    let session = load(&store, &id).await.unwrap();
    assert_eq!(session.fields.len(), odd.len());
    for (name, value) in odd {
        assert_eq!(session.get(name), Some(value), "{name:?}");
    }
    let Applied::Applied(applied) = present(&store, &id, &[Change::remove("m:seen")]).await else {
        panic!("gone")
    };
    assert_eq!(applied.fields.len(), odd.len() - 1);
    assert_eq!(applied.fields, load(&store, &id).await.unwrap().fields);
}

async fn unknown_ids_are_never_adopted(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let target = new_id();
    let lists = [
        vec![],
        vec![Change::Touch],
        vec![Change::set("user", "7")],
        vec![Change::remove("user")],
        vec![Change::Destroy],
        vec![Change::Rotate { to: target }, Change::Renew, Change::set("user", "7")],
    ];
    for list in lists {
        let unknown = new_id();
        assert_eq!(present(&store, &unknown, &list).await, Applied::NoSession, "{list:?}");
        assert_eq!(load(&store, &unknown).await, None, "{list:?}");
        // Not even a tombstone was left.
        assert!(store.apply(&unknown, Expect::Absent, &[]).await.unwrap().session().is_some(), "{list:?}");
    }
    assert_eq!(load(&store, &target).await, None);
}

async fn creating_over_a_session_is_refused(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let id = create(&store, &[("user", "7")]).await;
    let again = store.apply(&id, Expect::Absent, &[Change::set("user", "8")]).await.unwrap();
    assert_eq!(again, Applied::Exists);
    assert_eq!(fields(&store, &id).await, "user=7");
}

async fn assert_dead(store: &Store, id: &session_store::SessionId) {
    assert_eq!(load(store, id).await, None);
    for change in [Change::Touch, Change::set("user", "8"), Change::Destroy, Change::Rotate { to: new_id() }]
    {
        assert_eq!(present(store, id, std::slice::from_ref(&change)).await, Applied::NoSession, "{change:?}");
    }
    assert_eq!(store.apply(id, Expect::Absent, &[]).await.unwrap(), Applied::Exists);
    assert_eq!(load(store, id).await, None);
}

async fn destroyed_ids_stay_dead(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let id = create(&store, &[("user", "7")]).await;
    let last = present(&store, &id, &[Change::Destroy]).await.session().unwrap();
    assert_eq!(drawn(&last), "user=7");
    assert_dead(&store, &id).await;
}

async fn rotated_ids_stay_dead(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let (old, new) = (create(&store, &[("plan:squat", "3x5"), ("flash", "hello")]).await, new_id());
    let list = [Change::set("user", "7"), Change::Rotate { to: new }, Change::remove("flash")];
    let moved = present(&store, &old, &list).await.session().unwrap();
    assert_eq!(drawn(&moved), "plan:squat=3x5 user=7");
    assert_eq!(fields(&store, &new).await, "plan:squat=3x5 user=7");
    assert_dead(&store, &old).await;
    assert_eq!(present(&store, &new, &[Change::Touch]).await.session().unwrap().fields.len(), 2);
}

async fn rotating_onto_a_used_id_changes_nothing(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let (id, other, dead) =
        (create(&store, &[("a", "1")]).await, create(&store, &[("b", "1")]).await, create(&store, &[]).await);
    present(&store, &dead, &[Change::Destroy]).await;
    for to in [other, dead] {
        let list = [Change::set("a", "2"), Change::Rotate { to }];
        assert_eq!(present(&store, &id, &list).await, Applied::Exists);
    }
    assert_eq!(fields(&store, &id).await, "a=1");
    assert_eq!(fields(&store, &other).await, "b=1");
    assert_eq!(load(&store, &dead).await, None);
}

async fn rotation_keeps_the_end_and_renewal_moves_it(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let first = create(&store, &[]).await;
    let before = load(&store, &first).await.unwrap();
    eventually("the clock moves", async || {
        load(&store, &first).await.unwrap().observed_at_ms > before.created_at_ms
    })
    .await;
    let second = new_id();
    let kept = present(&store, &first, &[Change::Rotate { to: second }]).await.session().unwrap();
    assert_eq!(kept.absolute_expiry_ms, before.absolute_expiry_ms);
    assert_eq!(kept.created_at_ms, before.created_at_ms);
    let list = [Change::Rotate { to: new_id() }, Change::Renew];
    let renewed = present(&store, &second, &list).await.session().unwrap();
    assert!(renewed.absolute_expiry_ms > before.absolute_expiry_ms);
    assert!(renewed.created_at_ms > before.created_at_ms);
}

async fn senseless_lists_are_refused(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let id = create(&store, &[("a", "1")]).await;
    let rotate = || Change::Rotate { to: new_id() };
    let check = async |expect, list: &[Change]| {
        let error = store.apply(&id, expect, list).await.unwrap_err();
        assert_eq!(error.kind(), "invalid", "{list:?}: {error}");
    };
    check(Expect::Present, &[rotate(), rotate()]).await;
    check(Expect::Present, &[Change::Rotate { to: id }]).await;
    check(Expect::Present, &[Change::Renew]).await;
    check(Expect::Present, &[Change::Destroy, Change::Touch]).await;
    check(Expect::Present, &[Change::Destroy, Change::Destroy]).await;
    check(Expect::Present, &[Change::set("", "1")]).await;
    check(Expect::Present, &[Change::remove("")]).await;
    check(Expect::Absent, &[rotate()]).await;
    check(Expect::Absent, &[Change::Destroy]).await;
    assert_eq!(fields(&store, &id).await, "a=1");
}

async fn sizes_at_the_limit_pass_and_above_are_refused(kind: Kind) {
    let limits = Limits {
        fields_max: 3,
        name_bytes_max: 4,
        value_bytes_max: 10,
        session_bytes_max: 24,
        changes_max: 5,
    };
    let store = kind.open(limited(limits)).await;
    let check = async |list: &[(&str, &str)], refused: Option<&str>| {
        let changes: Vec<_> = list.iter().map(|(name, value)| Change::set(*name, *value)).collect();
        let outcome = store.apply(&new_id(), Expect::Absent, &changes).await;
        match (outcome, refused) {
            (Ok(Applied::Applied(_)), None) => {}
            (Err(StoreError::Limit { limit, max, got }), Some(expected)) => {
                assert_eq!(limit, expected);
                assert!(got > max, "{got} over {max}");
            }
            (outcome, refused) => panic!("{list:?}: {outcome:?}, expected {refused:?}"),
        }
    };
    check(&[("a", ""), ("b", ""), ("c", "")], None).await;
    check(&[("a", ""), ("b", ""), ("c", ""), ("d", "")], Some("fields_max")).await;
    check(&[("abcd", "")], None).await;
    check(&[("abcde", "")], Some("name_bytes_max")).await;
    check(&[("é€", "")], Some("name_bytes_max")).await;
    check(&[("a", "0123456789")], None).await;
    check(&[("a", "0123456789x")], Some("value_bytes_max")).await;
    check(&[("aa", "0123456789"), ("bb", "0123456789")], None).await;
    check(&[("aa", "0123456789"), ("bbb", "0123456789")], Some("session_bytes_max")).await;
    check(&[("a", "1"); 5], None).await;
    check(&[("a", "1"); 6], Some("changes_max")).await;
}

async fn a_refused_list_changes_nothing(kind: Kind) {
    let limits = Limits { fields_max: 2, ..Limits::default() };
    let policy = Policy { limits, ..short(20_000, 40_000) };
    let store = kind.open(policy).await;
    let (id, target) = (create(&store, &[("a", "1"), ("b", "1")]).await, new_id());
    let before = load(&store, &id).await.unwrap();
    let lists = [
        vec![Change::set("a", "2"), Change::set("c", "1")],
        vec![Change::remove("a"), Change::set("c", "1"), Change::set("d", "1")],
        vec![Change::Rotate { to: target }, Change::Renew, Change::set("c", "1")],
        vec![Change::set("a", "2"), Change::set("b", "x".repeat(1_000_000))],
    ];
    for list in lists {
        let error = store.apply(&id, Expect::Present, &list).await.unwrap_err();
        assert_eq!(error.kind(), "limit");
        let after = load(&store, &id).await.unwrap();
        assert_eq!(Session { observed_at_ms: 0, ..after }, Session { observed_at_ms: 0, ..before.clone() });
        assert_eq!(load(&store, &target).await, None);
    }
    let list = [Change::set("c", "1"), Change::remove("a")];
    assert!(present(&store, &id, &list).await.session().is_some(), "only the result counts");
}

async fn idle_sessions_end_unless_touched(kind: Kind) {
    let store = kind.open(short(500, 3_600_000)).await;
    let (kept, left) = (create(&store, &[("a", "1")]).await, create(&store, &[("a", "1")]).await);
    let created_at_ms = load(&store, &kept).await.unwrap().created_at_ms;
    eventually("reading did not keep the other", async || {
        assert!(present(&store, &kept, &[Change::Touch]).await.session().is_some(), "touched in time");
        load(&store, &left).await.is_none()
    })
    .await;
    assert_eq!(present(&store, &left, &[Change::Touch]).await, Applied::NoSession);
    assert_eq!(load(&store, &left).await, None);
    let session = load(&store, &kept).await.unwrap();
    assert!(session.observed_at_ms - created_at_ms >= 500, "{session:?}");
    assert!(session.last_seen_ms > created_at_ms, "{session:?}");
}

async fn absolute_expiry_comes_in_spite_of_activity(kind: Kind) {
    let store = kind.open(short(3_600_000, 300)).await;
    let id = create(&store, &[]).await;
    let mut seen_at_ms = 0;
    eventually("the absolute end", async || match present(&store, &id, &[Change::Touch]).await {
        Applied::Applied(session) => {
            assert!(session.observed_at_ms < session.absolute_expiry_ms);
            seen_at_ms = session.observed_at_ms;
            false
        }
        other => other == Applied::NoSession,
    })
    .await;
    assert!(seen_at_ms > 0 && load(&store, &id).await.is_none());
}

async fn tombstones_end_with_the_session(kind: Kind) {
    let store = kind.open(short(3_600_000, 300)).await;
    let (destroyed, rotated) = (create(&store, &[]).await, create(&store, &[]).await);
    present(&store, &destroyed, &[Change::Destroy]).await;
    present(&store, &rotated, &[Change::Rotate { to: new_id() }]).await;
    for id in [destroyed, rotated] {
        eventually("the id is unknown again", async || {
            assert_eq!(present(&store, &id, &[Change::Touch]).await, Applied::NoSession);
            store.apply(&id, Expect::Absent, &[]).await.unwrap() != Applied::Exists
        })
        .await;
    }
}

async fn touches_are_coalesced(kind: Kind) {
    let policy = short(5_000, 3_600_000);
    let store = kind.open(policy.clone()).await;
    let id = create(&store, &[]).await;
    let created_at_ms = load(&store, &id).await.unwrap().created_at_ms;
    let mut early = 0;
    eventually("a touch is recorded", async || {
        let before = load(&store, &id).await.unwrap();
        let touched = present(&store, &id, &[Change::Touch]).await.session().unwrap();
        let since_ms = touched.observed_at_ms - created_at_ms;
        if since_ms < 500 {
            assert!(!before.is_touch_due(&policy));
            assert_eq!(touched.last_seen_ms, created_at_ms, "too early");
            early += 1;
        } else {
            assert_eq!(touched.last_seen_ms, touched.observed_at_ms);
        }
        since_ms >= 500
    })
    .await;
    assert!(early > 0, "the machine was too slow to see a touch that is not due");
    assert!(load(&store, &id).await.unwrap().last_seen_ms > created_at_ms);
}

async fn concurrent_changes_to_different_fields_all_survive(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    let id = create(&store, &[]).await;
    let writers = (0..64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..5 {
                let value = format!("{round}");
                let applied = present(&store, &id, &[Change::set(format!("field-{number}"), value)]).await;
                assert!(matches!(applied, Applied::Applied(_)));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let session = load(&store, &id).await.unwrap();
    assert_eq!(session.fields.len(), 64);
    assert!(session.fields.values().all(|value| value == "4"), "{session:?}");
}

/// Runs the lists at once; the answers in their order.
async fn at_once(
    store: &Store,
    id: &session_store::SessionId,
    expect: Expect,
    lists: Vec<Vec<Change>>,
) -> Vec<Applied> {
    let id = *id;
    let tasks = lists.into_iter().map(|list| {
        let store = store.clone();
        tokio::spawn(async move { store.apply(&id, expect, &list).await.unwrap() })
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    answers
}

async fn one_of_many_creations_wins(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    for _ in 0..20 {
        let id = new_id();
        let lists = (0..8).map(|number| vec![Change::set("winner", format!("{number}"))]).collect();
        let answers = at_once(&store, &id, Expect::Absent, lists).await;
        let winners: Vec<_> = answers.iter().filter_map(|answer| answer.clone().session()).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(drawn(&winners[0]), fields(&store, &id).await);
    }
}

async fn one_of_many_rotations_wins(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    for _ in 0..20 {
        let id = create(&store, &[("a", "1")]).await;
        let targets: Vec<_> = (0..8).map(|_| new_id()).collect();
        let lists = targets.iter().map(|to| vec![Change::Rotate { to: *to }]).collect();
        let answers = at_once(&store, &id, Expect::Present, lists).await;
        let mut alive = 0;
        for (target, answer) in targets.iter().zip(answers) {
            let found = load(&store, target).await.is_some();
            assert_eq!(found, answer.session().is_some());
            alive += usize::from(found);
        }
        assert_eq!(alive, 1);
        assert_dead(&store, &id).await;
    }
}

async fn sets_meet_a_rotation_wholly_or_not_at_all(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    for round in 0..20 {
        let (id, to) = (create(&store, &[]).await, new_id());
        let mut lists: Vec<_> = (0..8).map(|number| vec![Change::set(format!("{number}"), "1")]).collect();
        lists.insert(round % 9, vec![Change::Rotate { to }]);
        let answers = at_once(&store, &id, Expect::Present, lists.clone()).await;
        let moved = load(&store, &to).await.expect("the rotation won");
        for (list, answer) in lists.iter().zip(answers) {
            if let [Change::SetField { name, .. }] = &list[..] {
                assert_eq!(moved.get(name).is_some(), answer.session().is_some(), "{name}");
            }
        }
        assert_dead(&store, &id).await;
    }
}

async fn destruction_beats_late_activity(kind: Kind) {
    let store = kind.open(Policy::default()).await;
    for round in 0..20 {
        let id = create(&store, &[("user", "7")]).await;
        let mut lists: Vec<_> = (0..8).map(|_| vec![Change::Touch, Change::set("a", "1")]).collect();
        lists.insert(round % 9, vec![Change::Destroy]);
        let answers = at_once(&store, &id, Expect::Present, lists).await;
        assert!(answers[round % 9].clone().session().is_some(), "the destruction was made");
        assert_dead(&store, &id).await;
    }
}
