//! Everything behind and in the balancer is replaced under load, one after the other, and no request is lost.

use nix::sys::signal::Signal;

use crate::authority::Authority;
use crate::backend::Backend;
use crate::load::Load;
use crate::process::{Lb, Setup, eventually, sum};

const NAMES: [&str; 3] = ["app-1", "app-2", "app-3"];

async fn is(lb: &Lb, backend: &Backend, state: &str) {
    let label = format!("backend=\"{}\",state=\"{state}\"", backend.address);
    let what = format!("{} is {state}", backend.address);
    // Pools have a label of their own before or after these two.
    let holds = |metrics: &str| sum(metrics, "lb_backend_state", &label) >= 1.0;
    lb.wait(&what, holds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backend_is_restarted() {
    let mut backends = NAMES.map(Backend::start);
    let lb = Setup::new(&backends.each_ref()).start(3).await;
    let load = Load::start(lb.http).await;
    load.more(100).await;
    for n in 0..backends.len() {
        // As a program of ours ends: it says draining, finishes what it has, and goes.
        let backend = &mut backends[n];
        backend.health("draining");
        is(&lb, backend, "draining").await;
        load.more(30).await;
        backend.kill();
        let address = backend.address;
        load.more(30).await;
        backends[n] = Backend::start_at(NAMES[n], address, 2);
        is(&lb, &backends[n], "up").await;
        load.more(30).await;
    }
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_saying_draining_fails_requests() {
    let mut backends = NAMES.map(Backend::start);
    let lb = Setup::new(&backends.each_ref()).start(3).await;
    let load = Load::start(lb.http).await;
    load.more(100).await;
    // GETs move on; a POST that was on its way cannot, and sooner or later one is.
    for _ in 0..50 {
        for backend in &mut backends {
            let (address, name) = (backend.address, NAMES[0]);
            backend.kill();
            *backend = Backend::start_at(name, address, 2);
        }
        if load.failed() > 0 {
            break;
        }
        load.more(5).await;
    }
    let (_, failures) = load.end().await;
    assert!(!failures.is_empty(), "this test could not see a lost request");
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_routes_are_reloaded() {
    let backends = NAMES.map(Backend::start);
    let list = |all: &[&Backend]| {
        let quoted: Vec<String> = all.iter().map(|it| format!("'{}'", it.address)).collect();
        quoted.join(", ")
    };
    let [one, two, three] = backends.each_ref();
    let file = |pool: &str| {
        format!(
            "[server]\nlisten = '127.0.0.1:0'\n[health]\ninterval_ms = 100\nstart_interval_ms = 50\n[admin]\nlisten = '127.0.0.1:0'\n{pool}"
        )
    };
    let plain = file(&format!("[discovery]\ninterval_ms = 50\nstatic = [{}]\n", list(&[one, two])));
    let routed = file(&format!(
        "[discovery]\ninterval_ms = 50\nstatic = [{}]\n[pools.echo.discovery]\nstatic = [{}]\n[[routes]]\npath = '/echo'\npool = 'echo'\n",
        list(&[two, three]),
        list(&[one])
    ));
    let lb = Setup::empty().start_with(&plain).await;
    is(&lb, one, "up").await;
    is(&lb, two, "up").await;
    let load = Load::start(lb.http).await;
    load.more(60).await;
    for turn in 0..6 {
        std::fs::write(lb.config(), if turn % 2 == 0 { &routed } else { &plain }).unwrap();
        lb.signal(Signal::SIGHUP);
        let reloads = turn + 1;
        eventually("it is reloaded", || lb.log().matches("configuration reloaded").count() == reloads).await;
        load.more(60).await;
    }
    assert!(three.state.seen("/") > 0, "the second configuration was never in force");
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = Setup::new(&[&backend])
        .secure(&authority, &["site"])
        .with("tls.watch_interval_ms", "0")
        .start(1)
        .await;
    let client = authority.client(&["http/1.1"], rustls::ALL_VERSIONS);
    let load = Load::start_over_tls(lb.bound["https"], client).await;
    load.more(60).await;
    for reloads in 1..=5 {
        authority.issue("site", &["fitness.example.com"]);
        lb.signal(Signal::SIGHUP);
        eventually("it is reloaded", || lb.log().matches("configuration reloaded").count() == reloads).await;
        load.more(40).await;
    }
    load.end_without_failure().await;
}
