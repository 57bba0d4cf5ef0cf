//! Requests that wait for a backend with room.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::client::{Answer, Client, get, request, send};
use crate::process::{Lb, Setup, eventually, sum};
use crate::sticking::Keys;

/// At most one request at a time for each backend.
fn narrow(backends: &[&Backend]) -> Setup {
    Setup::new(backends).with("upstream.inflight_max_per_backend", "1").with("queue.timeout_ms", "10000")
}

fn ask(address: SocketAddr, path: &'static str) -> JoinHandle<Answer> {
    tokio::spawn(async move { get(address, path).await })
}

/// Occupies the one place of `backend`.
async fn occupy(lb: &Lb, backend: &Backend, path: &'static str) -> JoinHandle<Answer> {
    let busy = ask(lb.http, path);
    eventually("it is busy", || backend.state.seen(path) == 1).await;
    busy
}

async fn waiting(lb: &Lb, requests: f64) {
    lb.wait("they wait", |metrics| sum(metrics, "lb_queue_requests", "pool=\"default\"") == requests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_their_turn_across_workers() {
    let backend = Backend::start("app-1");
    let lb = narrow(&[&backend]).start(1).await;
    let busy = occupy(&lb, &backend, "/slow/700").await;
    let mut line = Vec::new();
    for nth in 0..6 {
        // One after the other, so that their order is known; each on a connection of its own, at any worker.
        let path = ["/echo/0", "/echo/1", "/echo/2", "/echo/3", "/echo/4", "/echo/5"][nth];
        line.push(tokio::spawn({
            let address = lb.http;
            async move { get(address, path).await.status.as_u16() }
        }));
        waiting(&lb, (nth + 1) as f64).await;
    }
    assert_eq!(busy.await.unwrap().status, 200);
    for waiter in line {
        assert_eq!(waiter.await.unwrap(), 200);
    }
    assert_eq!(backend.state.total(), 7);
    waiting(&lb, 0.0).await;
    assert_eq!(lb.metric("lb_queue_seconds_count", "").await, 6.0);
    // By the backend, which has one at a time: clients may see the end of theirs in any order.
    let order = backend.state.order.lock().unwrap().split_off(1);
    assert_eq!(order, ["/echo/0", "/echo/1", "/echo/2", "/echo/3", "/echo/4", "/echo/5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_and_the_wait_have_an_end() {
    let backend = Backend::start("app-1");
    let lb = narrow(&[&backend]).with("queue.len_max", "1").with("queue.timeout_ms", "400").start(1).await;
    let busy = occupy(&lb, &backend, "/slow/1500").await;
    let first = ask(lb.http, "/");
    waiting(&lb, 1.0).await;
    let second = get(lb.http, "/").await;
    for (answer, reason) in [(second, "queue-full"), (first.await.unwrap(), "queue-timeout")] {
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
        assert!(answer.text().contains(&format!("\"reason\":\"{reason}\"")), "{}", answer.text());
        assert_eq!(lb.metric("lb_own_answers_total", &format!("reason=\"{reason}\"")).await, 1.0);
    }
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(get(lb.http, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_line_costs_nobody_a_place() {
    let backend = Backend::start("app-1");
    let lb = narrow(&[&backend]).start(1).await;
    let busy = occupy(&lb, &backend, "/slow/600").await;
    let leaver = ask(lb.http, "/echo/leaver");
    waiting(&lb, 1.0).await;
    let stayer = ask(lb.http, "/echo/stayer");
    waiting(&lb, 2.0).await;
    leaver.abort();
    waiting(&lb, 1.0).await;
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(stayer.await.unwrap().status, 200);
    assert_eq!((backend.state.seen("/echo/leaver"), backend.state.seen("/echo/stayer")), (0, 1));
    assert_eq!(lb.metric("lb_backend_requests_in_flight", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_backend_takes_those_who_wait() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let file = |backends: &str| {
        format!(
            "[server]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\n[service]\nworkers = 2\n\
             [discovery]\nstatic = [{backends}]\ninterval_ms = 50\n[health]\nstart_interval_ms = 50\n\
             [upstream]\ninflight_max_per_backend = 1\n[queue]\ntimeout_ms = 10000\n"
        )
    };
    let lb = Setup::empty().start_ready(&file(&format!("'{}'", one.address)), 1).await;
    let busy = occupy(&lb, &one, "/slow/6000").await;
    let waiter = ask(lb.http, "/");
    waiting(&lb, 1.0).await;
    std::fs::write(lb.config(), file(&format!("'{}', '{}'", one.address, two.address))).unwrap();
    lb.signal(Signal::SIGHUP);
    let answer = waiter.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "app-2"));
    assert!(!busy.is_finished());
    busy.abort();
}

/// A balancer with two narrow backends, a client of one of them, and how that one is called.
async fn sticky(backends: [&Backend; 2], keys: &Keys, percent: &str) -> (Lb, String, usize) {
    let lb = narrow(&backends)
        .with("queue.timeout_ms", "2000")
        .with("queue.sticky_percent", percent)
        .with("sticky.mode", "cookie")
        .with("sticky.keys_file", keys.path())
        .start(2)
        .await;
    let first = get(lb.http, "/").await;
    let own = usize::from(first.header("x-served-by") == "app-2");
    (lb, first.cookie("route").unwrap(), own)
}

/// Who serves the client while its own backend is busy for `busy_ms`.
async fn check_sticky(percent: &str, busy: &'static str, stays: bool) {
    let backends = [Backend::start("app-1"), Backend::start("app-2")];
    let keys = Keys::new("issue", "");
    let (lb, cookie, own) = sticky([&backends[0], &backends[1]], &keys, percent).await;
    let address = lb.http;
    let route = format!("route={cookie}");
    let occupant = tokio::spawn({
        let route = route.clone();
        async move { send(address, &format!("GET {busy}"), &[("cookie", &route)], "").await }
    });
    eventually("it is busy", || backends[own].state.seen(busy) == 1).await;
    let answer = send(lb.http, "GET /echo", &[("cookie", &route)], "").await;
    let served_by_own = answer.header("x-served-by") == ["app-1", "app-2"][own];
    // Whoever served, the client goes on belonging where it did.
    assert_eq!((answer.status.as_u16(), served_by_own, answer.cookie("route")), (200, stays, None));
    occupant.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_for_its_own_backend_for_a_part_of_the_time() {
    check_sticky("50", "/slow/300", true).await;
    check_sticky("10", "/slow/1500", false).await;
    check_sticky("0", "/slow/1500", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_full_of_one_backends_clients_costs_nobody_an_answer_that_another_has() {
    let backends = [Backend::start("app-1"), Backend::start("app-2")];
    let keys = Keys::new("issue", "");
    let lb = narrow(&[&backends[0], &backends[1]])
        .with("queue.len_max", "1")
        .with("queue.sticky_percent", "100")
        .with("sticky.mode", "cookie")
        .with("sticky.keys_file", keys.path())
        .start(2)
        .await;
    let first = get(lb.http, "/").await;
    let own = usize::from(first.header("x-served-by") == "app-2");
    let route = format!("route={}", first.cookie("route").unwrap());
    let address = lb.http;
    let ask = |path: &'static str| {
        let route = route.clone();
        tokio::spawn(async move { send(address, &format!("GET {path}"), &[("cookie", &route)], "").await })
    };
    let busy = ask("/slow/800");
    eventually("it is busy", || backends[own].state.seen("/slow/800") == 1).await;
    let patient = ask("/echo/patient");
    waiting(&lb, 1.0).await;
    let other = ask("/echo/other").await.unwrap();
    assert_eq!((other.status.as_u16(), backends[1 - own].state.seen("/echo/other")), (200, 1));
    assert_eq!(other.cookie("route"), None);
    assert_eq!(
        (busy.await.unwrap().status, patient.await.unwrap().status.as_u16()),
        (http::StatusCode::OK, 200)
    );
    assert_eq!(backends[own].state.seen("/echo/patient"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_served_whole_by_few_places() {
    let backends = [Backend::start("app-1"), Backend::start("app-2")];
    for backend in &backends {
        backend.state.delay_ms.store(2, std::sync::atomic::Ordering::SeqCst);
    }
    for algorithm in ["round-robin", "least-requests"] {
        let lb = narrow(&[&backends[0], &backends[1]])
            .with("upstream.inflight_max_per_backend", "2")
            .with("balance.algorithm", algorithm)
            .start(2)
            .await;
        let address = lb.http;
        let crowd: Vec<_> = (0..32)
            .map(|_| {
                tokio::spawn(async move {
                    let mut client = Client::connect(address).await;
                    for _ in 0..20 {
                        assert_eq!(client.send(request("GET /", &[], "")).await.unwrap().status, 200);
                    }
                })
            })
            .collect();
        for client in crowd {
            tokio::time::timeout(Duration::from_secs(20), client).await.unwrap().unwrap();
        }
        assert_eq!(lb.metric("lb_queue_requests", "").await, 0.0);
        assert_eq!(lb.metric("lb_backend_requests_in_flight", "").await, 0.0);
        assert!(lb.metric("lb_queue_seconds_count", "").await > 0.0);
    }
}
