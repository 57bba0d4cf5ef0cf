//! What checks and requests find out about backends, and what follows.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::backend::Backend;
use crate::client::get;
use crate::process::{Lb, Setup, eventually, sum};

fn state(backend: &Backend, state: &str) -> String {
    format!("backend=\"{}\",state=\"{state}\"", backend.address)
}

async fn becomes(lb: &Lb, backend: &Backend, wanted: &str) {
    let label = state(backend, wanted);
    lb.wait(wanted, |metrics| sum(metrics, "lb_backend_state", &label) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_by_tcp_asks_for_a_connection_only() {
    let mut backend = Backend::start("app-1");
    backend.health("broken");
    let lb = Setup::new(&[&backend]).with("health.mode", "tcp").start(1).await;
    assert_eq!(get(lb.http, "/").await.status, 200);
    assert_eq!(backend.state.probes.lock().unwrap().len(), 0);
    backend.kill();
    becomes(&lb, &backend, "down").await;
    assert!(lb.log().contains("connection refused"), "{}", lb.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_before_the_first_look_waits_for_it() {
    let backends = [Backend::start("app-1"), Backend::start("app-2")];
    for _ in 0..5 {
        let lb = Setup::new(&[&backends[0], &backends[1]]).start_with("").await;
        let answers = (0..20).map(|_| get(lb.http, "/"));
        for answer in futures_util::future::join_all(answers).await {
            assert_eq!(answer.status, 200, "{}", lb.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_nobody_is_there_is_told() {
    let lb = Setup::of(&["127.0.0.1:1".parse().unwrap()]).start_with("").await;
    assert_eq!(get(lb.http, "/").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_the_host_and_expects_the_statuses_that_are_wanted() {
    let backend = Backend::start("app-1");
    backend.health("odd");
    let lb = Setup::new(&[&backend])
        .with("health.host", "app.example.com")
        .with("health.statuses", r#"["503"]"#)
        .start(1)
        .await;
    assert!(backend.state.probes.lock().unwrap().iter().all(|host| host == "app.example.com"));
    backend.health("ready");
    becomes(&lb, &backend, "down").await;
    assert!(lb.log().contains("2 failed checks: status 200 (ready)"), "{}", lb.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_has_a_connection_of_its_own() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("health.interval_ms", "30").start(1).await;
    eventually("ten checks", || backend.state.probes.lock().unwrap().len() >= 10).await;
    let probes = backend.state.probes.lock().unwrap().len() as u64;
    assert!(backend.state.accepted.load(Ordering::SeqCst) >= probes);
    // One that the backend has seen is counted when its answer is read.
    lb.wait("they are counted", |metrics| {
        sum(metrics, "lb_backend_probes_total", "pool=\"default\"") >= 10.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weight_of_nothing_keeps_whom_it_has_and_gets_nobody_new() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two]).start(2).await;
    two.says(r#","weight":0"#);
    becomes(&lb, &two, "draining").await;
    for _ in 0..6 {
        assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-1");
    }
    assert!(lb.log().contains("it says weight 0"), "{}", lb.log());
    two.says("");
    becomes(&lb, &two, "up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_than_the_majoritys_is_flagged_or_excluded() {
    let backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    for (mode, wanted) in [("flag", "up"), ("exclude", "excluded")] {
        for backend in &backends {
            backend.says(r#","content":"a1""#);
        }
        let lb = Setup::new(&[&backends[0], &backends[1], &backends[2]])
            .with("health.content_check", mode)
            .with("health.content_grace_ms", "100")
            .start(3)
            .await;
        backends[2].says(r#","content":"b2""#);
        let here = format!("backend=\"{}\"", backends[2].address);
        let differs = |metrics: &str| sum(metrics, "lb_backend_content_differs", "");
        lb.wait("it is flagged", |metrics| differs(metrics) == 1.0).await;
        assert_eq!(lb.metric("lb_backend_content_differs", &here).await, 1.0);
        becomes(&lb, &backends[2], wanted).await;
        assert!(lb.log().contains("differs from the majority's"), "{}", lb.log());
        let before = backends[2].state.total();
        for _ in 0..9 {
            assert_eq!(get(lb.http, "/").await.status, 200);
        }
        assert_eq!(backends[2].state.total() > before, mode == "flag");
        backends[2].says(r#","content":"a1""#);
        lb.wait("it is right again", |metrics| differs(metrics) == 0.0).await;
        becomes(&lb, &backends[2], "up").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_eject_and_time_brings_back() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb =
        Setup::new(&[&one, &two]).with("ejection.errors", "3").with("ejection.base_ms", "700").start(2).await;
    two.state.broken.store(true, Ordering::SeqCst);
    let mut bad = 0;
    while lb.metric("lb_backend_ejections_total", "pool=\"default\"").await == 0.0 {
        bad += u64::from(get(lb.http, "/").await.status == 502);
        assert!(bad <= 4, "not ejected after {bad} bad answers in a row");
    }
    becomes(&lb, &two, "ejected").await;
    assert!(lb.log().contains("ejected: 3 errors in a row: status 502"), "{}", lb.log());
    for _ in 0..6 {
        assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-1");
    }
    two.state.broken.store(false, Ordering::SeqCst);
    becomes(&lb, &two, "up").await;
    let before = two.state.total();
    for _ in 0..4 {
        assert_eq!(get(lb.http, "/").await.status, 200);
    }
    assert!(two.state.total() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_backend_is_found_by_requests_alone() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two])
        .with("health.mode", "off")
        .with("upstream.try_timeout_ms", "100")
        .with("ejection.errors", "2")
        .with("ejection.base_ms", "60000")
        .start(2)
        .await;
    two.freeze();
    while lb.metric("lb_backend_state", "state=\"ejected\"").await == 0.0 {
        assert_eq!(get(lb.http, "/").await.status, 200);
    }
    let failed = lb.metric("lb_backend_attempts_failed_total", "").await;
    assert!(failed >= 2.0, "{failed}");
    for _ in 0..6 {
        assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-1");
    }
    assert_eq!(lb.metric("lb_backend_attempts_failed_total", "").await, failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_in_which_all_misbehave_keeps_half_of_them() {
    let backends = [Backend::start("app-1"), Backend::start("app-2")];
    for backend in &backends {
        backend.state.broken.store(true, Ordering::SeqCst);
    }
    let lb = Setup::new(&[&backends[0], &backends[1]]).with("ejection.errors", "2").start(2).await;
    while lb.metric("lb_ejections_refused_total", "pool=\"default\"").await == 0.0 {
        assert_eq!(get(lb.http, "/").await.status, 502);
    }
    assert_eq!(lb.metric("lb_backend_ejections_total", "").await, 1.0);
    assert_eq!(lb.metric("lb_backend_state", "state=\"up\"").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_healthy_ones_are_not_left_alone_with_the_load() {
    let mut backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    let lb = Setup::new(&[&backends[0], &backends[1], &backends[2]])
        .with("health.panic_percent", "50")
        .start(3)
        .await;
    backends[1].health("broken");
    becomes(&lb, &backends[1], "down").await;
    assert_eq!(lb.metric("lb_pool_panics", "").await, 0.0);
    backends[2].health("broken");
    becomes(&lb, &backends[2], "down").await;
    lb.wait("it panics", |metrics| sum(metrics, "lb_pool_panics", "pool=\"default\"") == 1.0).await;
    // Their checks are bad, and yet they serve.
    let before = backends[2].state.total();
    for _ in 0..9 {
        assert_eq!(get(lb.http, "/").await.status, 200);
    }
    assert!(backends[2].state.total() > before);
    assert!(lb.metric("lb_panic_picks_total", "").await >= 9.0);
    backends[2].health("ready");
    lb.wait("it is over", |metrics| sum(metrics, "lb_pool_panics", "pool=\"default\"") == 0.0).await;
    backends[0].kill();
    tokio::time::timeout(Duration::from_secs(20), async {
        while get(lb.http, "/").await.header("x-served-by") != "app-3" {}
    })
    .await
    .unwrap();
}
