//! The PROXY protocol: from proxies before the balancer, and to backends behind it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::backend::{Backend, custom};
use crate::client::{Client, get, raw, request, status_of};
use crate::process::{Setup, sum};

const ASK: &[u8] = b"GET /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(5);
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n";
/// The same in version 2, with a TLV behind it.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x07\xc6\x33\x64\x01\x0f\xa0\x01\xbb\x04\0\x01\0";
/// A proxy's own health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn setup(backend: &Backend, mode: &str, from: &str) -> Setup {
    Setup::new(&[backend])
        .with("server.proxy_protocol", mode)
        .with("server.proxy_protocol_from", &format!("[\"{from}\"]"))
        .with("server.first_byte_timeout_ms", "400")
        .with("server.header_timeout_ms", "400")
}

/// Sends some bytes and compares the client's address that the backend is told; nothing is for a connection that is closed.
#[track_caller]
fn check(answer: Option<Vec<u8>>, expected: &str) {
    let answer = answer.expect("it is answered or closed");
    let text = String::from_utf8_lossy(&answer);
    let told = text.lines().find_map(|line| line.strip_prefix("x-forwarded-for: ")).unwrap_or("");
    assert_eq!(told, expected, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_introduced_is_the_client() {
    let backend = Backend::start("app-1");
    let lb = setup(&backend, "require", "127.0.0.0/8").start(1).await;
    for header in [V1, V2] {
        check(raw(lb.http, &[header, ASK].concat(), LIMIT).await, "192.0.2.7");
    }
    check(
        raw(lb.http, &[b"PROXY TCP6 2001:db8::7 ::1 4000 443\r\n", ASK].concat(), LIMIT).await,
        "2001:db8::7",
    );
    check(raw(lb.http, &[LOCAL, ASK].concat(), LIMIT).await, "127.0.0.1");
    check(raw(lb.http, &[b"PROXY UNKNOWN\r\n", ASK].concat(), LIMIT).await, "127.0.0.1");
    // In pieces, and the request after a while.
    for header in [V1, V2] {
        let mut stream = TcpStream::connect(lb.http).await.unwrap();
        for piece in header.chunks(5).chain([ASK]) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        check(Some(answer), "192.0.2.7");
    }
    // Without one, with a broken one, with half of one.
    for bytes in [ASK, &V1[..20], &V2[..20], b"PROXY TCP4 x\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        let answer = raw(lb.http, bytes, LIMIT).await.expect("it is closed");
        assert_eq!(status_of(&answer), 0, "{}", String::from_utf8_lossy(&answer));
    }
    let cut = |metrics: &str, reason: &str| {
        sum(metrics, "lb_connections_cut_total", &format!("reason=\"{reason}\""))
    };
    lb.wait("all are counted", |metrics| {
        (cut(metrics, "proxy-header"), cut(metrics, "header")) == (3.0, 2.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_introduce_nobody() {
    let backend = Backend::start("app-1");
    let lb = setup(&backend, "accept", "192.0.2.0/24").start(1).await;
    assert_eq!(status_of(&raw(lb.http, &[V1, ASK].concat(), LIMIT).await.unwrap()), 400);
    check(raw(lb.http, ASK, LIMIT).await, "127.0.0.1");
    let lb = setup(&backend, "require", "192.0.2.0/24").start_with("").await;
    assert_eq!(raw(lb.http, &[V1, ASK].concat(), LIMIT).await.unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_introduction_may_be_optional() {
    let backend = Backend::start("app-1");
    let lb = setup(&backend, "accept", "127.0.0.1").start(1).await;
    check(raw(lb.http, &[V2, ASK].concat(), LIMIT).await, "192.0.2.7");
    check(raw(lb.http, ASK, LIMIT).await, "127.0.0.1");
    // `P` could be either.
    assert_eq!(
        status_of(
            &raw(lb.http, b"PUT /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", LIMIT)
                .await
                .unwrap()
        ),
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_before_tls() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = setup(&backend, "require", "127.0.0.1").secure(&authority, &["site"]).start(1).await;
    let mut stream = TcpStream::connect(lb.bound["https"]).await.unwrap();
    stream.write_all(V2).await.unwrap();
    let config = std::sync::Arc::new(authority.client(&["http/1.1"], rustls::ALL_VERSIONS));
    let name = rustls::pki_types::ServerName::try_from("fitness.example.com").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    check(Some(answer), "192.0.2.7");
}

/// A backend that wants a PROXY header of version 1 and says it back in every answer, with the number of the request on its
/// connection.
async fn introduced() -> SocketAddr {
    custom(|mut stream| async move {
        let mut bytes = Vec::new();
        while !bytes.windows(2).any(|end| end == b"\r\n") {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let end = bytes.windows(2).position(|end| end == b"\r\n").unwrap();
        let line = String::from_utf8(bytes.drain(..end + 2).take(end).collect()).unwrap();
        for nth in 1.. {
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            bytes.clear();
            let text = format!("{nth} {line}");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_are_told_who_is_at_the_other_end_of_a_connection() {
    let lb = Setup::of(&[introduced().await]).with("upstream.send_proxy", "v1").start(1).await;
    let stream = TcpStream::connect(lb.http).await.unwrap();
    let own = stream.local_addr().unwrap();
    let mut one = Client::over(stream).await;
    let mut two = Client::connect(lb.http).await;
    let line = format!("PROXY TCP4 {} {} {} {}", own.ip(), lb.http.ip(), own.port(), lb.http.port());
    for nth in 1..=3 {
        let answer = one.send(request("GET /", &[], "")).await.unwrap();
        assert_eq!(answer.text(), format!("{nth} {line}"));
        // Another client's requests never travel on it.
        let other = two.send(request("GET /", &[], "")).await.unwrap().text();
        assert!(
            other.starts_with(&format!("{nth} PROXY TCP4 127.0.0.1 ")) && !other.ends_with(&line),
            "{other}"
        );
    }
    let third = get(lb.http, "/").await.text();
    assert!(third.starts_with("1 PROXY TCP4 "), "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_introduce_themselves_too() {
    // Only the signature of version 2 gets an answer, of LOCAL for probes and of PROXY for requests.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 16];
                if stream.read_exact(&mut head).await.is_err() || head[..12] != *b"\r\n\r\n\0\r\nQUIT\n" {
                    return;
                }
                let mut rest = vec![0; usize::from(head[15])];
                stream.read_exact(&mut rest).await.unwrap();
                let mut text = vec![0; 4_096];
                let read = stream.read(&mut text).await.unwrap_or(0);
                let probe = text[..read].starts_with(b"GET /readyz");
                let right =
                    (head[12], head[13], rest.len()) == if probe { (0x20, 0, 0) } else { (0x21, 0x11, 12) };
                let status = if right { "200 OK" } else { "500 Wrong" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let lb = Setup::of(&[address]).with("upstream.send_proxy", "v2").start(1).await;
    assert_eq!(get(lb.http, "/").await.status, 200);
}
