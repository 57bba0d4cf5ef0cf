//! TLS: which certificate, which version, which protocol inside; certificates that change under way.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::authority::{Authority, connect, put};
use crate::backend::Backend;
use crate::client::{get, raw, request, send, status_of};
use crate::process::{Lb, Setup, eventually, sum};

/// A balancer with these certificates.
fn setup(backend: &Backend, authority: &Authority, files: &[&str]) -> Setup {
    Setup::new(&[backend]).secure(authority, files).with("tls.watch_interval_ms", "50")
}

/// One request of HTTP/1.1 on a stream; its whole answer.
async fn ask<S>(stream: S, line: &str) -> (http::response::Parts, String)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    use http_body_util::BodyExt as _;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request(line, &[], "")).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head, String::from_utf8_lossy(&body).into_owned())
}

/// The names in the certificate that a client gets who asks for `name`; they are checked against the authority, too.
async fn presented(lb: &Lb, authority: &Authority, name: &str) -> Option<Vec<u8>> {
    let stream = authority.connect(lb.bound["https"], name, &[]).await.ok()?;
    Some(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_tls_is_one_and_says_so() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"]).with("tls.hsts_max_age_s", "3600").start(1).await;
    let stream = authority.connect(lb.bound["https"], "fitness.example.com", &["http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (head, text) = ask(stream, "GET /echo").await;
    assert!(text.contains("\nx-forwarded-proto: https"), "{text}");
    assert_eq!(head.headers["strict-transport-security"], "max-age=3600");
    // Only over TLS (RFC 6797, 7.2).
    let plain = get(lb.http, "/echo").await;
    assert_eq!(plain.header("strict-transport-security"), "");
    assert!(plain.text().contains("\nx-forwarded-proto: http\n"), "{}", plain.text());
    assert_eq!(lb.metric("lb_tls_handshakes_total", "outcome=\"full\"").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_decides_about_the_certificate() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("first", &["first.example"]);
    authority.issue("wild", &["*.example.com"]);
    authority.issue("exact", &["api.example.com"]);
    let lb = setup(&backend, &authority, &["first", "wild", "exact"]).start(1).await;
    // The client checks the name by itself: a wrong certificate is no connection.
    for name in ["first.example", "www.example.com", "api.example.com"] {
        assert!(presented(&lb, &authority, name).await.is_some(), "{name}");
    }
    assert_ne!(
        presented(&lb, &authority, "www.example.com").await,
        presented(&lb, &authority, "api.example.com").await
    );
    // Nobody has this name: the client gets the first one and does not believe it.
    assert!(presented(&lb, &authority, "other.example").await.is_none());
    lb.wait("the refusal is counted", |metrics| {
        sum(metrics, "lb_tls_handshakes_total", "outcome=\"failed\"") == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_by_every_worker() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"]).start(1).await;
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let before = lb.metric("lb_tls_handshakes_total", "outcome=\"resumed\"").await;
        let config = Arc::new(authority.client(&[], versions));
        // The kernel chooses the worker: of a dozen connections both get some.
        for _ in 0..12 {
            let stream = connect(&config, lb.bound["https"], "fitness.example.com").await.unwrap();
            // Tickets of TLS 1.3 come with the first answer.
            assert_eq!(ask(stream, "GET /hello").await.1, "hello");
        }
        let resumed = lb.metric("lb_tls_handshakes_total", "outcome=\"resumed\"").await - before;
        assert_eq!(resumed, 11.0, "{versions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_spoken_or_not() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"]).with("tls.min_version", "1.3").start(1).await;
    let old = Arc::new(authority.client(&[], &[&rustls::version::TLS12]));
    assert!(connect(&old, lb.bound["https"], "fitness.example.com").await.is_err());
    assert!(presented(&lb, &authority, "fitness.example.com").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_taken_into_use_and_broken_ones_are_not() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"]).start(1).await;
    let old = presented(&lb, &authority, "fitness.example.com").await.unwrap();
    let kept = authority.connect(lb.bound["https"], "fitness.example.com", &[]).await.unwrap();
    authority.issue("site", &["fitness.example.com"]);
    let loaded = |outcome: &'static str, count: f64| {
        move |metrics: &str| sum(metrics, "lb_tls_certificates_loaded_total", outcome) >= count
    };
    lb.wait("the new one is taken", loaded("taken", 1.0)).await;
    let new = presented(&lb, &authority, "fitness.example.com").await.unwrap();
    assert_ne!(new, old);
    // Who was connected stays so.
    assert_eq!(ask(kept, "GET /hello").await.1, "hello");
    // A half-written file, seen at the wrong moment.
    put(&authority.path("site.key"), "-----BEGIN PRIVATE KEY-----\n");
    lb.wait("the broken one is refused", loaded("refused", 1.0)).await;
    assert!(lb.log().contains("certificates kept"), "{}", lb.log());
    assert_eq!(presented(&lb, &authority, "fitness.example.com").await.unwrap(), new);
    // The same at a SIGHUP.
    lb.signal(Signal::SIGHUP);
    eventually("the reload is refused", || lb.log().contains("reload refused")).await;
    assert_eq!(presented(&lb, &authority, "fitness.example.com").await.unwrap(), new);
    let before = lb.metric("lb_tls_certificates_loaded_total", "taken").await;
    authority.issue("site", &["fitness.example.com"]);
    lb.wait("the good one is taken", loaded("taken", before + 1.0)).await;
    assert_ne!(presented(&lb, &authority, "fitness.example.com").await.unwrap(), new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_reads_certificates_too() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"]).with("tls.watch_interval_ms", "0").start(1).await;
    let old = presented(&lb, &authority, "fitness.example.com").await.unwrap();
    authority.issue("site", &["fitness.example.com"]);
    lb.signal(Signal::SIGHUP);
    let started = std::time::Instant::now();
    while presented(&lb, &authority, "fitness.example.com").await.unwrap() == old {
        assert!(started.elapsed() < Duration::from_secs(10), "{}", lb.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_are_sent_to_tls() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"])
        .with("tls.redirect", "true")
        .with("tls.redirect_port", "8443")
        .with("server.trusted_proxies", r#"["127.0.0.1"]"#)
        .start(1)
        .await;
    let answer = get(lb.http, "/a/b?c=d").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), "https://fitness.example.com:8443/a/b?c=d");
    // A method and a body must survive it, so the body is not read and the connection ends.
    let answer = send(lb.http, "POST /x", &[], "abc").await;
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (308, "close"));
    // A trusted proxy has spoken TLS already: no circle.
    let answer = send(lb.http, "GET /hello", &[("x-forwarded-proto", "https")], "").await;
    assert_eq!(answer.text(), "hello");
    let stream = authority.connect(lb.bound["https"], "fitness.example.com", &[]).await.unwrap();
    assert_eq!(ask(stream, "GET /hello").await.1, "hello");
    assert_eq!(backend.state.seen("/x"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_tls_is_cut() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"])
        .with("tls.handshake_timeout_ms", "300")
        .with("server.first_byte_timeout_ms", "300")
        .start(1)
        .await;
    let https = lb.bound["https"];
    let patience = Duration::from_secs(5);
    assert_eq!(raw(https, b"", patience).await.unwrap(), b"");
    // The beginning of a hello, then nothing.
    assert_eq!(raw(https, &[0x16, 3, 1, 2, 0, 1], patience).await.unwrap(), b"");
    let plain = raw(https, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", patience).await.unwrap();
    assert_eq!(status_of(&plain), 0);
    // The handshake alone is no request.
    let mut silent = authority.connect(https, "fitness.example.com", &[]).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(patience, silent.read_to_end(&mut rest)).await.expect("it is cut");
    lb.wait("all are counted", |metrics| {
        sum(metrics, "lb_connections_cut_total", "reason=\"handshake\"") == 2.0
            && sum(metrics, "lb_connections_cut_total", "reason=\"tls\"") == 1.0
            && sum(metrics, "lb_connections_cut_total", "reason=\"first-byte\"") == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_over_tls_too() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"]).with("server.write_timeout_ms", "800").start(1).await;
    let before = lb.resident_kb();
    let mut stream = authority.connect(lb.bound["https"], "fitness.example.com", &[]).await.unwrap();
    stream.write_all(b"GET /size/268435456 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    lb.wait("the client is cut", |metrics| {
        sum(metrics, "lb_connections_cut_total", "reason=\"write\"") == 1.0
    })
    .await;
    assert!(lb.resident_kb() < before + 16 * 1024);
}

#[test]
fn certificates_that_cannot_be_used_are_said_so_at_the_start() {
    let authority = Authority::new();
    authority.issue("one", &["a.example"]);
    authority.issue("two", &["b.example"]);
    std::fs::copy(authority.path("one.key"), authority.path("two.key")).unwrap();
    let setup = || Setup::of(&[]).with("tls.listen", r#"["127.0.0.1:0"]"#);
    let (code, log) = setup().with("tls.certificates", &authority.setting(&["one", "two"])).refused();
    assert_eq!(code, Some(78), "{log}");
    assert!(
        log.contains("tls.certificates") && log.contains("two.key") && log.contains("not that of"),
        "{log}"
    );
    let (code, log) = setup().refused();
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("at least one certificate"), "{log}");
    let (code, log) = Setup::of(&[]).with("tls.redirect", "true").refused();
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("tls.redirect"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_only_opens_and_closes_is_no_error() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, &authority, &["site"]).start(1).await;
    for _ in 0..20 {
        drop(TcpStream::connect(lb.bound["https"]).await.unwrap());
        drop(TcpStream::connect(lb.http).await.unwrap());
    }
    lb.wait("all are gone", |metrics| {
        sum(metrics, "lb_connections_accepted_total", "") == 40.0 && sum(metrics, "lb_connections", "") == 0.0
    })
    .await;
    assert!(presented(&lb, &authority, "fitness.example.com").await.is_some());
}
