//! Backends that die, hang and refuse.

use std::time::{Duration, Instant};

use crate::backend::{Backend, canned};
use crate::client::{Client, get, request, send};
use crate::process::{Lb, Setup, sum};

/// Sends one kind of request at a steady rate on several connections until told to stop; the slowest and the failed are counted.
struct Load {
    stop: tokio::sync::watch::Sender<bool>,
    clients: Vec<tokio::task::JoinHandle<(u64, u64, Duration)>>,
}

impl Load {
    /// About `per_second` requests in all.
    fn start(lb: &Lb, line: &'static str, per_second: u64) -> Self {
        const CLIENTS: u64 = 8;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let address = lb.http;
        let clients = (0..CLIENTS)
            .map(|_| {
                let stopped = stopped.clone();
                tokio::spawn(async move {
                    let (mut sent, mut failed, mut slowest) = (0, 0, Duration::ZERO);
                    let mut tick = tokio::time::interval(
                        Duration::from_secs(1) * 8 / u32::try_from(per_second).unwrap(),
                    );
                    let mut client = Client::connect(address).await;
                    while !*stopped.borrow() {
                        tick.tick().await;
                        let begun = Instant::now();
                        let answer = client.send(request(line, &[], "")).await;
                        slowest = slowest.max(begun.elapsed());
                        sent += 1;
                        if !answer.is_ok_and(|answer| answer.status == 200 && answer.text() == "hello") {
                            failed += 1;
                            client = Client::connect(address).await;
                        }
                    }
                    (sent, failed, slowest)
                })
            })
            .collect();
        Self { stop, clients }
    }

    async fn report(self) -> (u64, u64, Duration) {
        self.stop.send(true).unwrap();
        let mut all = (0, 0, Duration::ZERO);
        for client in self.clients {
            let (sent, failed, slowest) = client.await.unwrap();
            all = (all.0 + sent, all.1 + failed, all.2.max(slowest));
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed_under_load_fails_no_get() {
    let (one, mut two, three) = (Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3"));
    let lb = Setup::new(&[&one, &two, &three]).start(3).await;
    let load = Load::start(&lb, "GET /hello", 400);
    tokio::time::sleep(Duration::from_millis(700)).await;
    two.kill();
    lb.wait("the dead one is found", |metrics| sum(metrics, "lb_backend_state", "state=\"down\"") == 1.0)
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // It comes back at its old address and gets traffic again.
    let again = Backend::start_at("app-2", two.address, 2);
    lb.wait("it is back", |metrics| sum(metrics, "lb_backend_state", "state=\"up\"") == 3.0).await;
    crate::process::eventually("it gets traffic", || again.state.total() > 0).await;
    let (sent, failed, slowest) = load.report().await;
    eprintln!("kill: {sent} sent, {failed} failed, slowest {slowest:?}");
    assert!(sent > 300 && failed == 0, "{sent} sent, {failed} failed\n{}", lb.log());
    assert!(slowest < Duration::from_secs(2), "slowest {slowest:?}");
    assert!(lb.log().contains("app-2") && lb.log().contains("down: 2 failed"), "{}", lb.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_backend_holds_nobody_for_two_seconds() {
    let (one, two, three) = (Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3"));
    let lb = Setup::new(&[&one, &two, &three]).with("health.interval_ms", "500").start(3).await;
    let load = Load::start(&lb, "GET /hello", 200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    two.freeze();
    lb.wait("the stopped one is found", |metrics| sum(metrics, "lb_backend_state", "state=\"down\"") == 1.0)
        .await;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    two.thaw();
    lb.wait("it is back", |metrics| sum(metrics, "lb_backend_state", "state=\"up\"") == 3.0).await;
    let (sent, failed, slowest) = load.report().await;
    eprintln!("stop: {sent} sent, {failed} failed, slowest {slowest:?}");
    assert_eq!(failed, 0, "{sent} sent\n{}", lb.log());
    // The promise is 2 s: one try of 1.5 s and then another backend.
    assert!(slowest < Duration::from_secs(2), "slowest {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_goes_elsewhere_and_a_post_is_never_repeated() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two]).with("health.fall", "1000").start(2).await;
    let asked = |path: &str| one.state.seen(path) + two.state.seen(path);
    // Every backend resets, so a GET is tried on both and fails; the POST is tried once.
    assert_eq!(get(lb.http, "/reset").await.status, 502);
    assert_eq!(asked("/reset"), 2);
    for attempt in 1..=5 {
        let answer = send(lb.http, "POST /reset/post", &[], "body").await;
        assert_eq!((answer.status.as_u16(), asked("/reset/post")), (502, attempt));
    }
    // Idempotent with a small body: repeated with its body.
    assert_eq!(send(lb.http, "PUT /reset/put", &[], "body").await.status, 502);
    assert_eq!(asked("/reset/put"), 2);
    // Idempotent, but the body was streamed and is gone.
    let large = vec![0; 200_000];
    assert_eq!(send(lb.http, "PUT /reset/large", &[], large).await.status, 502);
    assert_eq!(asked("/reset/large"), 1);
    assert_eq!(lb.metric("lb_retries_total", "reason=\"reset\"").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_of_which_nothing_was_written_goes_elsewhere() {
    let (one, mut two) = (Backend::start("app-1"), Backend::start("app-2"));
    // Probes too rare to find out before the requests do.
    let lb = Setup::new(&[&one, &two])
        .with("health.interval_ms", "3000000")
        .with("health.fall", "1000")
        .start(2)
        .await;
    two.kill();
    for nth in 1..=6 {
        let answer = send(lb.http, "POST /count", &[], vec![0; 100_000]).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "100000"));
        assert_eq!(one.state.seen("/count"), nth);
    }
    assert!(lb.metric("lb_retries_total", "reason=\"connect-refused\"").await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_ask_is_a_quick_503() {
    let mut backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    backend.kill();
    let begun = Instant::now();
    let answer = get(lb.http, "/").await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["reason"], "connect-refused");
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    lb.wait("it is down", |metrics| sum(metrics, "lb_backend_state", "state=\"down\"") == 1.0).await;
    // The floor: it is asked anyway, and that is counted and said.
    assert_eq!(get(lb.http, "/").await.status, 503);
    assert!(lb.metric("lb_panic_picks_total", "").await >= 1.0);
    assert!(lb.log().contains("too few backends are healthy"), "{}", lb.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_is_a_504() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("upstream.header_timeout_ms", "300").start(1).await;
    let answer = send(lb.http, "POST /hang", &[], "x").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (504, "application/problem+json"));
    crate::process::eventually("its connection is closed", || {
        backend.state.open.load(std::sync::atomic::Ordering::SeqCst) <= 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_at_its_limit_is_not_asked() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("upstream.inflight_max_per_backend", "1")
        .with("queue.len_max", "0")
        .start(1)
        .await;
    let address = lb.http;
    let slow = tokio::spawn(async move { get(address, "/slow/800").await });
    crate::process::eventually("it is busy", || backend.state.seen("/slow/800") == 1).await;
    let answer = get(lb.http, "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert!(answer.text().contains("overloaded"));
    assert_eq!(slow.await.unwrap().status, 200);
    assert_eq!(get(lb.http, "/").await.status, 200);
    assert_eq!(lb.metric("lb_own_answers_total", "reason=\"overloaded\"").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_a_backend_is_a_502() {
    for answer in
        [&b"nonsense\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", b"HTTP/1.1 2", b""]
    {
        let lb = Setup::of(&[canned(answer).await]).start(1).await;
        let got = get(lb.http, "/").await;
        assert_eq!(got.status, 502, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_is_not_made_whole() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let outcome = Client::connect(lb.http).await.send(request("GET /cut/1000", &[], "")).await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(get(lb.http, "/hello").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_the_backend() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let address = lb.http;
    let client = tokio::spawn(async move { get(address, "/hang").await });
    crate::process::eventually("it hangs", || backend.state.seen("/hang") == 1).await;
    client.abort();
    lb.wait("nothing is in flight", |metrics| {
        sum(metrics, "lb_requests_in_flight", "") == 0.0
            && sum(metrics, "lb_backend_requests_in_flight", "") == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_backend_gets_nobody_new() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two]).start(2).await;
    two.health("draining");
    lb.wait("it drains", |metrics| sum(metrics, "lb_backend_state", "state=\"draining\"") == 1.0).await;
    for _ in 0..10 {
        assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-1");
    }
    // Better than nobody.
    drop(one);
    lb.wait("the other is down", |metrics| sum(metrics, "lb_backend_state", "state=\"down\"") == 1.0).await;
    assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_paid_from_a_budget() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two])
        .with("health.fall", "1000")
        // Without it one of the two would be out before the budget is spent, and nobody left to retry on.
        .with("ejection.errors", "0")
        .with("service.workers", "1")
        .with("retry.budget_percent", "0")
        .with("retry.budget_floor_per_second", "0")
        .with("retry.budget_burst", "3")
        // With one of them ejected there would be no other to try.
        .with("ejection.errors", "0")
        .start(2)
        .await;
    for _ in 0..10 {
        assert_eq!(get(lb.http, "/reset").await.status, 502);
    }
    assert_eq!(one.state.seen("/reset") + two.state.seen("/reset"), 13);
    assert_eq!(lb.metric("lb_retries_total", "").await, 3.0);
    assert_eq!(lb.metric("lb_retries_refused_by_budget_total", "").await, 7.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_while_idle_fails_nobody() {
    let mut backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("health.fall", "1000")
        .with("health.interval_ms", "3000000")
        .start(1)
        .await;
    let mut client = Client::connect(lb.http).await;
    for (nth, line) in ["POST /count", "GET /count", "POST /count"].into_iter().enumerate() {
        assert_eq!(client.send(request("GET /hello", &[], "")).await.unwrap().status, 200);
        backend.kill();
        backend = Backend::start_at("app-1", backend.address, 2);
        let answer = client.send(request(line, &[], "abc")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "3"), "{nth}");
        assert_eq!(backend.state.seen("/count"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_nothing_not_even_posts() {
    let mut backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    let lb = Setup::new(&[&backends[0], &backends[1], &backends[2]]).start(3).await;
    let (posts, gets) = (Load::start(&lb, "POST /hello", 200), Load::start(&lb, "GET /hello", 200));
    for (index, generation) in [(0, 2), (1, 2), (2, 2)] {
        let backend = &mut backends[index];
        let here = format!("backend=\"{}\"", backend.address);
        backend.health("draining");
        lb.wait("it drains and is idle", |metrics| {
            let state = format!("{here},state=\"draining\"");
            sum(metrics, "lb_backend_state", &state) == 1.0
                && sum(metrics, "lb_backend_requests_in_flight", &here) == 0.0
        })
        .await;
        backend.kill();
        let name = format!("app-{}", index + 1);
        backends[index] = Backend::start_at(&name, backends[index].address, generation);
        lb.wait("it is back", |metrics| sum(metrics, "lb_backend_state", "state=\"up\"") == 3.0).await;
    }
    for load in [posts, gets] {
        let (sent, failed, slowest) = load.report().await;
        eprintln!("rolling restart: {sent} sent, {failed} failed, slowest {slowest:?}");
        assert!(sent > 50 && failed == 0, "{sent} sent, {failed} failed\n{}", lb.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_load_never_doubles_a_post() {
    let (one, mut two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two]).start(2).await;
    let address = lb.http;
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            tokio::spawn(async move {
                let (mut client, mut answered) = (Client::connect(address).await, Vec::new());
                for nth in 0..80 {
                    let path = format!("/post-{sender}-{nth}");
                    match client.send(request(&format!("POST {path}"), &[], "x")).await {
                        Ok(answer) if answer.status == 200 => answered.push(path),
                        _ => client = Client::connect(address).await,
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                answered
            })
        })
        .collect();
    crate::process::eventually("it is under load", || two.state.total() > 50).await;
    two.kill();
    let mut answered = Vec::new();
    for sender in senders {
        answered.extend(sender.await.unwrap());
    }
    let times = |path: &str| one.state.seen(path) + two.state.seen(path);
    for sender in 0..8 {
        for nth in 0..80 {
            assert!(times(&format!("/post-{sender}-{nth}")) <= 1, "sent twice");
        }
    }
    assert!(answered.iter().all(|path| times(path) == 1));
    assert!(answered.len() > 600, "only {} of 640 were answered", answered.len());
}
