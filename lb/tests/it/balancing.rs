//! Who gets how much, by each algorithm, and what the balancer says of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::backend::Backend;
use crate::client::{Client, get, request, send};
use crate::process::{Lb, Setup, sum};

/// Sends `each` requests on each of `clients` connections at once and returns how many of them `backend` got, in percent.
async fn share(lb: &Lb, backend: &Backend, clients: u64, each: u64) -> u64 {
    let before = backend.state.total();
    let address = lb.http;
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for _ in 0..each {
                    client.send(request("POST /", &[], "")).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (backend.state.total() - before) * 100 / (clients * each)
}

async fn start(backends: &[&Backend], algorithm: &str) -> Lb {
    Setup::new(backends).with("balance.algorithm", algorithm).start(backends.len()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_exact() {
    let backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    let all: Vec<&Backend> = backends.iter().collect();
    let lb = start(&all, "round-robin").await;
    // One connection is one worker.
    let mut client = Client::connect(lb.http).await;
    for _ in 0..30 {
        client.send(request("GET /", &[], "")).await.unwrap();
    }
    let totals: Vec<u64> = backends.iter().map(|backend| backend.state.total()).collect();
    assert_eq!(totals, [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_keeps_its_turns_and_loses_its_share_of_the_rest() {
    let backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    let all: Vec<&Backend> = backends.iter().collect();
    backends[0].state.delay_ms.store(50, Ordering::SeqCst);
    for (algorithm, least, most) in [("round-robin", 30, 36), ("least-requests", 1, 25), ("ewma", 0, 15)] {
        let lb = start(&all, algorithm).await;
        let share = share(&lb, &backends[0], 8, 100).await;
        eprintln!("{algorithm}: {share} % for the slow one");
        assert!((least..=most).contains(&share), "{algorithm}: {share} %");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_fails_fast_does_not_look_fast() {
    let backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    let all: Vec<&Backend> = backends.iter().collect();
    for backend in &backends[1..] {
        backend.state.delay_ms.store(5, Ordering::SeqCst);
    }
    backends[0].state.fails.store(true, Ordering::SeqCst);
    let lb = Setup::new(&all).with("balance.algorithm", "ewma").start(3).await;
    let failing = share(&lb, &backends[0], 8, 100).await;
    // Its fair share is a third, and one that looks fast gets nearly all.
    assert!(failing <= 15, "{failing} % for the one that only fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_balancer_sends_a_key_to_the_same_backend_and_only_the_dead_ones_keys_move() {
    let mut backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    let lbs = {
        let setup = |order: &[&Backend]| {
            Setup::new(order)
                .with("balance.algorithm", "consistent-hash")
                .with("balance.hash_key", "header:x-user")
        };
        let [one, two, three] = &backends;
        [setup(&[one, two, three]).start(3).await, setup(&[three, one, two]).start(3).await]
    };
    let owners = async |lb: &Lb| -> BTreeMap<String, String> {
        let mut owners = BTreeMap::new();
        for user in 0..40 {
            let user = format!("user-{user}");
            let answer = send(lb.http, "GET /", &[("x-user", &user)], "").await;
            owners.insert(user, answer.header("x-served-by").to_owned());
        }
        owners
    };
    let before = owners(&lbs[0]).await;
    assert_eq!(owners(&lbs[1]).await, before);
    for name in ["app-1", "app-2", "app-3"] {
        let keys = before.values().filter(|owner| *owner == name).count();
        assert!((3..=30).contains(&keys), "{name} has {keys} of 40 keys");
    }
    backends[1].kill();
    lbs[0].wait("it is down", |metrics| sum(metrics, "lb_backend_state", "state=\"down\"") == 1.0).await;
    for (user, owner) in owners(&lbs[0]).await {
        let old = &before[&user];
        assert!(*old == owner || old == "app-2" && owner != "app-2", "{user}: {old} to {owner}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_back_starts_slowly_and_one_there_from_the_start_does_not() {
    let (one, mut two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two])
        .with("balance.algorithm", "random")
        .with("balance.slow_start_ms", "600000")
        .start(2)
        .await;
    let at_start = share(&lb, &two, 4, 100).await;
    assert!((38..=62).contains(&at_start), "{at_start} %");
    two.kill();
    lb.wait("it is down", |metrics| sum(metrics, "lb_backend_state", "state=\"down\"") == 1.0).await;
    let again = Backend::start_at("app-2", two.address, 2);
    lb.up(2).await;
    let after = share(&lb, &again, 4, 100).await;
    assert!((3..=17).contains(&after), "{after} % for one of a tenth of its weight");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_explain_themselves_when_told_to_and_hide_who_served_them() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("balance.algorithm", "least-requests")
        .with("expose.explain", "true")
        .with("expose.served_by", "false")
        .start(1)
        .await;
    let answer = get(lb.http, "/").await;
    assert_eq!(
        answer.header("x-lb-explain"),
        "pool=default; affinity=off; backend=app-1; why=alone; attempts=1; queue_ms=0"
    );
    assert_eq!(answer.header("x-served-by"), "");
    let plain = Setup::new(&[&backend]).start(1).await;
    let answer = get(plain.http, "/").await;
    assert_eq!((answer.header("x-lb-explain"), answer.header("x-served-by")), ("", "app-1"));
}
