//! Bytes that no honest client sends. After all of them: the same process, no descriptor and hardly any memory more, and
//! a good client that never saw an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::client::{Client, get, raw, request, status_of};
use crate::process::{Lb, Setup, eventually};

const LIMIT: Duration = Duration::from_secs(5);
const GROWTH_MAX_KB: u64 = 10 * 1024;

/// Sends one payload; `expected` is the status of the first answer, 0 for a connection closed without one.
#[track_caller]
fn check(answer: Option<Vec<u8>>, expected: u16, name: &str) {
    let answer = answer.unwrap_or_else(|| panic!("{name}: the connection stays open"));
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(status_of(&answer), expected, "{name}: {}", &text[..text.len().min(300)]);
}

async fn guarded(backend: &Backend) -> Lb {
    Setup::new(&[backend])
        .with("server.first_byte_timeout_ms", "400")
        .with("server.header_timeout_ms", "400")
        .with("server.keep_alive_timeout_ms", "400")
        .with("server.body_timeout_ms", "400")
        .start(1)
        .await
}

/// A client beside the noise, on one connection after another.
pub(crate) struct Good {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, u64)>,
}

impl Good {
    pub(crate) fn start(lb: &Lb) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), lb.http);
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut sent, mut failed) = (0, 0);
            while !stopped.load(Ordering::SeqCst) {
                let mut client = Client::connect(address).await;
                for _ in 0..10 {
                    sent += 1;
                    let answer = client.send(request("GET /hello", &[], "")).await;
                    failed += u64::from(!answer.is_ok_and(|answer| answer.text() == "hello"));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            (sent, failed)
        });
        Self { stop, task }
    }

    pub(crate) async fn report(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_change_nothing() {
    let backend = Backend::start("app-1");
    let mut lb = guarded(&backend).await;
    for _ in 0..20 {
        get(lb.http, "/hello").await;
    }
    eventually("a quiet start", || backend.state.open.load(Ordering::SeqCst) <= 2).await;
    let (pid, descriptors, resident) = (lb.pid(), lb.descriptors(), lb.resident_kb());
    let good = Good::start(&lb);

    refusals(&lb).await;
    noise(&lb).await;
    truncations(&lb).await;

    let (sent, failed) = good.report().await;
    assert!(sent > 50 && failed == 0, "{failed} of {sent} failed");
    assert!(lb.is_alive() && lb.pid() == pid);
    // Two more: the good client's backend connections are kept for some seconds, one a worker.
    eventually("descriptors are back", || lb.descriptors() <= descriptors + 2).await;
    let grown = lb.resident_kb().saturating_sub(resident);
    assert!(grown < GROWTH_MAX_KB, "grew by {grown} kB");
    assert_eq!(backend.state.seen("/smuggled"), 0);
}

/// One request each, with what must come back.
async fn refusals(lb: &Lb) {
    let long = "x".repeat(100_000);
    let many = "a: b\r\n".repeat(150);
    let cases: Vec<(&str, u16, String)> = vec![
        ("no host", 400, "GET / HTTP/1.1\r\n\r\n".into()),
        ("two hosts", 400, "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".into()),
        ("host with a path", 400, "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n".into()),
        ("host with a user", 400, "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n".into()),
        ("another host in the target", 400, "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("user in the target", 400, "GET http://u:p@a/ HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("fragment", 400, "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("length and chunks", 400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("line feed alone", 400, "GET / HTTP/1.1\r\nhost: a\n\r\n".into()),
        ("lower-case method", 501, "get / HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("raw bytes in the target", 400, "GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("asterisk", 400, "GET * HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("bare word", 400, "GET foo HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("connect", 405, "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n".into()),
        ("trace", 405, "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        ("gzip, chunked", 501, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into()),
        ("chunked twice", 501, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("identity and chunked", 501, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("obscured chunked", 400, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n".into()),
        ("chunked, 1.0", 400, "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("two lengths", 400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy".into()),
        ("signed length", 400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx".into()),
        ("space before colon", 400, "GET / HTTP/1.1\r\nhost : a\r\n\r\n".into()),
        ("folded line", 400, "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n".into()),
        ("nul in a value", 400, "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n".into()),
        ("http/0.9", 400, "GET /\r\n".into()),
        ("http/2 preface", 0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("a tls hello", 400, "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".into()),
        ("long target", 431, format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n")),
        ("long header", 431, format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n")),
        ("many headers", 431, format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")),
    ];
    for (name, status, bytes) in &cases {
        check(raw(lb.http, bytes.as_bytes(), LIMIT).await, *status, name);
    }
    // Refused and closed; what follows the end of the chunks is never a request of its own.
    let smuggled = b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    check(raw(lb.http, smuggled, LIMIT).await, 400, "request behind length and chunks");
    // The second request of a connection is looked at as closely as the first, whatever body stands between them.
    for first in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nt: 1\r\n\r\n",
    ] {
        let both = format!("{first}GET /smuggled#b HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = raw(lb.http, both.as_bytes(), LIMIT).await.expect("a refusal ends the connection");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("HTTP/1.1 400 "), "{first}: {text}");
    }
    // The balancer answers without reading the body: the rest must not become a request either.
    let unread = b"POST /x HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\nx: abcdefgh\r\n\r\n";
    check(raw(lb.http, unread, LIMIT).await, 400, "request in an unread body");
}

async fn noise(lb: &Lb) {
    check(raw(lb.http, b"", LIMIT).await, 0, "empty");
    check(raw(lb.http, b"\r\n\r\n\r\n", LIMIT).await, 0, "only line ends");
    check(raw(lb.http, b"GET / HT", LIMIT).await, 0, "half a line");
    check(raw(lb.http, b"GET / HTTP/1.1\r\nhost: a\r\n", LIMIT).await, 0, "half a head");
    let short = b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc";
    check(raw(lb.http, short, LIMIT).await, 0, "half a body");
    let chunk = b"POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc";
    let answer = raw(lb.http, chunk, LIMIT).await.expect("a broken chunk ends the connection");
    assert!(matches!(status_of(&answer), 0 | 400), "{}", String::from_utf8_lossy(&answer));
    let mut random = fastrand::Rng::with_seed(7);
    let megabyte: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
    let answer = raw(lb.http, &megabyte, LIMIT).await.expect("noise ends the connection");
    assert!(matches!(status_of(&answer), 0 | 400 | 414 | 431));
    // Connections that are opened and dropped, and one that drips a byte at a time.
    for _ in 0..50 {
        drop(TcpStream::connect(lb.http).await.unwrap());
    }
    let mut drip = TcpStream::connect(lb.http).await.unwrap();
    let mut dripped = 0;
    for byte in b"GET /slow-loris HTTP/1.1\r\nhost: a\r\nx: y" {
        tokio::time::sleep(Duration::from_millis(30)).await;
        if drip.write_all(&[*byte]).await.is_err() {
            break;
        }
        dripped += 1;
    }
    assert!(dripped < 39, "a head of 1.2 s was allowed by a limit of 0.4 s");
}

async fn truncations(lb: &Lb) {
    let whole = b"POST /count?x=1 HTTP/1.1\r\nHost: fitness.example.com\r\nCookie: route=abc; sid=1\r\nContent-Length: 5\r\n\r\nhello";
    let mut open = tokio::task::JoinSet::new();
    for length in 0..whole.len() {
        let address = lb.http;
        open.spawn(async move { raw(address, &whole[..length], LIMIT).await.is_some() });
    }
    while let Some(closed) = open.join_next().await {
        assert!(closed.unwrap(), "a truncated request keeps its connection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("service.workers", "1")
        .with("server.connections_max_per_worker", "4")
        .with("server.first_byte_timeout_ms", "500")
        .start(1)
        .await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(lb.http).await.unwrap());
    }
    lb.wait("they are there", |metrics| crate::process::sum(metrics, "lb_connections", "") == 4.0).await;
    // Served as soon as the silent ones are cut.
    assert_eq!(get(lb.http, "/").await.status, 200);
    lb.wait("all silent ones are cut", |metrics| {
        crate::process::sum(metrics, "lb_connections_cut_total", "reason=\"first-byte\"") == 4.0
    })
    .await;
}
