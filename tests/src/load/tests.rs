//! The load client against real sockets: servers that answer, fail, stall, cut and vanish.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::chaos_proxy::{ChaosProxy, Direction, Fault};
use crate::dns_client::fake as fake_dns;
use crate::http_client::fake::{FakeHttp, raw, serve, serve_on};

const RETRYING: ClientKind = ClientKind::Retrying;
const PLAIN: ClientKind = ClientKind::Plain;

async fn answering(status: StatusCode) -> FakeHttp {
    serve(move |_| async move { Response::builder().status(status).body(Full::from("page")).unwrap() }).await
}

/// A port at which nobody listens, kept from others.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// 20 requests within 200 ms.
fn plan(kind: ClientKind, addresses: &[SocketAddr]) -> Plan {
    Plan::fixed(kind, addresses.to_vec(), "fitness.example.com").rate(100.0, Duration::from_millis(200))
}

async fn report(plan: Plan) -> Report {
    let report = run(plan).await.unwrap();
    report.verify().unwrap();
    report
}

/// All 20 requests failed, for this reason.
fn all_failed(report: &Report, class: ErrorClass) {
    assert_eq!((report.attempted, report.of_class(class)), (20, 20), "{report}");
}

#[tokio::test]
async fn keeps_the_rate_and_the_connections() {
    let server = answering(StatusCode::OK).await;
    let report = report(plan(PLAIN, &[server.address])).await;
    assert_eq!((report.attempted, report.ok), (20, 20), "{report}");
    assert!(report.connections_opened < 20, "connections are kept: {}", report.connections_opened);
    assert_eq!(report.by_address, BTreeMap::from([(server.address.to_string(), 20)]));
    assert!(report.p50_us > 0 && report.max_us >= report.p999_us);
}

#[tokio::test]
async fn a_report_survives_json() {
    let server = answering(StatusCode::OK).await;
    let report = report(plan(PLAIN, &[server.address])).await;
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["client"], "plain");
    assert_eq!(json["by_class"]["5xx"], 0);
    assert_eq!(json["per_second"][0]["requests"], 20);
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}

#[tokio::test]
async fn the_retrying_client_goes_on_at_the_next_address_and_the_plain_one_does_not() {
    let (_held, dead) = nobody();
    let server = answering(StatusCode::OK).await;
    let plans = [RETRYING, PLAIN].map(|kind| plan(kind, &[dead, server.address]));
    let reports = run_all(plans.to_vec()).await.unwrap();
    assert_eq!((reports[0].ok, reports[0].retried, reports[0].recovered), (20, 20, 20), "{}", reports[0]);
    all_failed(&reports[1], ErrorClass::Connect);
    assert_eq!(reports[1].retried, 0);
}

#[tokio::test]
async fn a_gateways_error_is_tried_elsewhere_and_the_applications_is_not() {
    let good = answering(StatusCode::OK).await;
    let gateway = answering(StatusCode::BAD_GATEWAY).await;
    let elsewhere = report(plan(RETRYING, &[gateway.address, good.address])).await;
    assert_eq!((elsewhere.ok, elsewhere.retried), (20, 20), "{elsewhere}");
    let broken = answering(StatusCode::INTERNAL_SERVER_ERROR).await;
    let own = report(plan(RETRYING, &[broken.address, good.address])).await;
    all_failed(&own, ErrorClass::ServerError);
}

#[tokio::test]
async fn statuses_have_their_classes() {
    for (status, class) in [
        (StatusCode::NOT_FOUND, ErrorClass::ClientError),
        (StatusCode::SEE_OTHER, ErrorClass::Redirect),
        (StatusCode::SERVICE_UNAVAILABLE, ErrorClass::ServerError),
    ] {
        let server = answering(status).await;
        all_failed(&report(plan(PLAIN, &[server.address])).await, class);
    }
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_not() {
    let hits = Arc::new(AtomicU64::new(0));
    let counted = hits.clone();
    let gateway = answering(StatusCode::BAD_GATEWAY).await;
    let good = serve(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Response::new(Full::new(Bytes::new())) }
    })
    .await;
    let post = Mix::one(RequestSpec::post_json("/api/workouts", &serde_json::json!({"reps": 5})));
    let report = report(plan(RETRYING, &[gateway.address, good.address]).mix(post)).await;
    all_failed(&report, ErrorClass::ServerError);
    assert_eq!(hits.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn bodies_that_were_cut_are_counted_apart() {
    let cut: [&[u8]; 2] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n",
    ];
    for bytes in cut {
        let server = raw(bytes).await;
        let good = answering(StatusCode::OK).await;
        let report = report(plan(RETRYING, &[server.address, good.address])).await;
        assert_eq!((report.truncated, report.failed, report.retried), (20, 0, 0), "{report}");
        assert_eq!(report.per_second[0].truncated, 20);
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_a_reset_and_rubbish_is_not_http() {
    all_failed(&report(plan(PLAIN, &[raw(b"").await.address])).await, ErrorClass::Reset);
    let rubbish = raw(b"SSH-2.0-rubbish that is no response\r\n\r\n").await;
    all_failed(&report(plan(PLAIN, &[rubbish.address])).await, ErrorClass::Protocol);
}

#[tokio::test]
async fn silence_fails_at_the_deadline_and_is_tried_elsewhere_before_it() {
    // Connects succeed (the kernel's backlog), nothing ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let silent_address = silent.local_addr().unwrap();
    let good = answering(StatusCode::OK).await;
    let limits = Limits {
        total_deadline: Duration::from_secs(2),
        try_deadline: Duration::from_millis(100),
        ..Limits::default()
    };
    let plans = [RETRYING, PLAIN].map(|kind| {
        let mut plan = plan(kind, &[silent_address, good.address]);
        plan.limits = limits.clone();
        plan
    });
    let reports = run_all(plans.to_vec()).await.unwrap();
    assert_eq!((reports[0].ok, reports[0].recovered), (20, 20), "{}", reports[0]);
    assert!(reports[0].p50_us >= 100_000, "the first try's wait is part of the latency");
    all_failed(&reports[1], ErrorClass::Timeout);
}

#[tokio::test]
async fn a_body_that_stalls_is_a_timeout() {
    let server = answering(StatusCode::OK).await;
    let proxy = ChaosProxy::start(server.address).await.unwrap();
    // One byte in ten seconds: the head alone takes longer than the deadline.
    proxy.set(Direction::ToClient, Fault::Bandwidth { bytes_per_s: 1 });
    let mut plan = plan(PLAIN, &[proxy.address()]);
    plan.limits.total_deadline = Duration::from_millis(300);
    all_failed(&report(plan).await, ErrorClass::Timeout);
}

#[tokio::test]
async fn latency_counts_from_the_due_time() {
    // Answers stop for the first half of the second.
    let server = answering(StatusCode::OK).await;
    let proxy = ChaosProxy::start(server.address).await.unwrap();
    let plan = plan(PLAIN, &[proxy.address()]).rate(50.0, Duration::from_secs(1));
    proxy.half_open(Direction::ToClient);
    let running = start(plan).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.heal().await.unwrap();
    let report = running.finish().await;
    assert_eq!((report.attempted, report.ok), (50, 50), "{report}");
    // Half of the requests fell due within the stall of half a second, and each waited for its rest: a client that
    // measured from the send of one request at a time would have found a single slow one.
    let slow = report.p90_us;
    assert!((350_000..=report.max_us).contains(&slow), "{report}");
}

#[tokio::test]
async fn too_many_in_flight_is_said_aloud() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = plan(PLAIN, &[silent.local_addr().unwrap()]);
    plan.limits.in_flight_max = 4;
    plan.limits.total_deadline = Duration::from_secs(1);
    let report = report(plan).await;
    assert_eq!(
        (report.of_class(ErrorClass::Saturated), report.of_class(ErrorClass::Timeout)),
        (16, 4),
        "{report}"
    );
    assert_eq!(report.in_flight_max, 4);
    assert!(!report.generator_kept_up());
    assert!(report.to_string().contains("GENERATOR WAS SATURATED"));
}

#[tokio::test]
async fn finds_the_addresses_by_name_and_goes_on_when_one_dies() {
    let first =
        serve_on(SocketAddr::from(([127, 0, 0, 1], 0)), |_| async { Response::new(Full::from("one")) }).await;
    let port = first.address.port();
    let second =
        serve_on(SocketAddr::from(([127, 0, 0, 2], port)), |_| async { Response::new(Full::from("two")) })
            .await;
    let turns = AtomicU64::new(0);
    let dns = fake_dns::serve(move |query, _| {
        let mut both = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
        // By twos: the visitors of both clients ask in turn, and with every turn one client would get only one order.
        both.rotate_left(usize::try_from(turns.fetch_add(1, Ordering::Relaxed) / 2 % 2).unwrap());
        Some(fake_dns::reply(query, &both, 60))
    })
    .await;
    let plan = Plan::by_name(RETRYING, "fitness.example.com", port, vec![dns.address])
        .rate(200.0, Duration::from_secs(1))
        .users(10, false);
    let running = [start(plan.clone()).unwrap(), start(plan.with_kind(PLAIN)).unwrap()];
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(first);
    let [retrying, plain] = running;
    let (retrying, plain) = (retrying.finish().await, plain.finish().await);
    assert_eq!((retrying.attempted, retrying.failed + retrying.truncated), (200, 0), "{retrying}");
    assert!(retrying.recovered > 0, "{retrying}");
    assert!(plain.failed > 0, "{plain}");
    assert!(retrying.by_address.len() == 2, "both were used: {:?}", retrying.by_address);
    assert_eq!(dns.queries.load(Ordering::Relaxed), 20, "one query a visitor and client within the TTL");
    drop(second);
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_a_dns_failure() {
    let dns = fake_dns::serve(|query, _| Some(fake_dns::reply(query, &[], 60))).await;
    let plan = Plan::by_name(RETRYING, "missing.example.com", 80, vec![dns.address])
        .rate(100.0, Duration::from_millis(200));
    all_failed(&report(plan).await, ErrorClass::Dns);
}

#[tokio::test]
async fn each_visitor_has_a_jar() {
    let server = serve(|request: Request<Incoming>| async move {
        let known = request.headers().get(COOKIE).map(|value| value.to_str().unwrap().to_owned());
        let answer = Response::builder();
        let answer = if known.is_none() { answer.header(SET_COOKIE, "sid=1; HttpOnly") } else { answer };
        answer.body(Full::from(known.unwrap_or_default())).unwrap()
    })
    .await;
    let with = Arc::new(Mutex::new(BTreeMap::<usize, Vec<String>>::new()));
    let seen = with.clone();
    let plan = plan(PLAIN, &[server.address]).rate(10.0, Duration::from_millis(400)).users(2, true).observe(
        move |observed| {
            if let Outcome::Complete(response) = observed.outcome {
                seen.lock().unwrap().entry(observed.user).or_default().push(response.text());
            }
            Check::Accept
        },
    );
    assert_eq!(report(plan).await.ok, 4);
    let expected =
        BTreeMap::from([(0, vec![String::new(), "sid=1".into()]), (1, vec![String::new(), "sid=1".into()])]);
    assert_eq!(*with.lock().unwrap(), expected);
}

#[tokio::test]
async fn an_observer_sees_each_request_once_and_may_refuse_its_content() {
    let server = answering(StatusCode::OK).await;
    let tags = Arc::new(Mutex::new(Vec::new()));
    let seen = tags.clone();
    let plan = plan(PLAIN, &[server.address])
        .mix(Mix::generated(|sequence| RequestSpec::get("/").tag(sequence * 10)))
        .observe(move |observed| {
            seen.lock().unwrap().push(observed.request.tag);
            if observed.sequence == 3 { Check::Reject } else { Check::Accept }
        });
    let report = report(plan).await;
    assert_eq!((report.ok, report.of_class(ErrorClass::Content)), (19, 1), "{report}");
    let mut tags = tags.lock().unwrap().clone();
    tags.sort_unstable();
    assert_eq!(tags, (0..20).map(|sequence| sequence * 10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stop_ends_the_sending_and_loses_nothing_in_flight() {
    let server = answering(StatusCode::OK).await;
    let running = start(plan(PLAIN, &[server.address]).rate(100.0, Duration::from_secs(3600))).unwrap();
    while running.progress().ok < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop();
    let report = running.finish().await;
    assert!(report.ok >= 10 && report.ok == report.attempted, "{report}");
    assert!(report.seconds < 3600.0);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_not_a_failure() {
    // Every response says keep-alive and closes all the same.
    let server = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let report = report(plan(PLAIN, &[server.address])).await;
    assert_eq!((report.ok, report.connections_opened), (20, 20), "{report}");
}
