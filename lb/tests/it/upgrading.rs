//! Connections that switch protocols: WebSocket with a real client and server, and protocols of the tests' own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::authority::Authority;
use crate::backend::{Backend, custom};
use crate::client::{Client, raw, request, send, status_of};
use crate::process::{Lb, PATIENCE, Setup, eventually, sum};

/// A WebSocket server that says everything back.
pub(crate) async fn echo() -> SocketAddr {
    custom(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

pub(crate) async fn open<S>(stream: S) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio_tungstenite::client_async("ws://fitness.example.com/chat", stream).await.unwrap().0
}

pub(crate) async fn talk<S>(socket: &mut WebSocketStream<S>, text: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(Message::text(text)).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_text().unwrap().as_str(), text);
}

async fn tunnels(lb: &Lb, count: f64) {
    lb.wait(&format!("{count} tunnels"), |metrics| sum(metrics, "lb_tunnels", "") == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_works_as_without_a_balancer() {
    let authority = Authority::new();
    authority.issue("site", &["fitness.example.com"]);
    let lb = Setup::of(&[echo().await]).secure(&authority, &["site"]).start(1).await;
    let mut plain = open(TcpStream::connect(lb.http).await.unwrap()).await;
    let stream = authority.connect(lb.bound["https"], "fitness.example.com", &["http/1.1"]).await.unwrap();
    let mut secure = open(stream).await;
    tunnels(&lb, 2.0).await;
    // Each is one of the backend's requests in flight for as long as it lives.
    assert_eq!(lb.metric("lb_backend_requests_in_flight", "").await, 2.0);
    talk(&mut plain, "hello").await;
    talk(&mut secure, "hello").await;
    let large = "x".repeat(1 << 20);
    talk(&mut plain, &large).await;
    talk(&mut secure, &large).await;
    plain.close(None).await.unwrap();
    while plain.next().await.is_some_and(|message| message.is_ok()) {}
    drop((plain, secure));
    tunnels(&lb, 0.0).await;
    lb.wait("the backend is free", |metrics| sum(metrics, "lb_backend_requests_in_flight", "") == 0.0).await;
    assert_eq!(lb.metric("lb_tunnels_opened_total", "").await, 2.0);
}

/// A backend that answers every request with these bytes and then says back what comes, until it ends or says `quit`; then
/// `bye`.
async fn switching(answer: &'static str) -> SocketAddr {
    custom(move |mut stream| async move {
        let mut seen = Vec::new();
        let mut buffer = [0; 4_096];
        while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(read) if read > 0 => seen.extend_from_slice(&buffer[..read]),
                _ => return,
            }
        }
        let end = seen.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.write_all(&seen[end..]).await;
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let _ = stream.write_all(&buffer[..read]).await;
            if buffer.starts_with(b"quit") {
                break;
            }
        }
        let _ = stream.write_all(b"bye").await;
    })
    .await
}

const ASK: &[u8] = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout/1\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: shout/1\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_is_lost_and_each_half_ends_for_itself() {
    // The backend's first bytes come with its answer, the client's with its request.
    let backend = switching(concat!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: shout/1\r\nx-more: 1\r\n\r\n",
        "welcome "
    ))
    .await;
    let lb = Setup::of(&[backend]).start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    stream.write_all(&[ASK, b"early "].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"early ") {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in ["connection: upgrade", "upgrade: shout/1", "x-more: 1"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.contains("content-length") && !head.contains("close"), "{head}");
    assert_eq!(rest, "welcome early ");
    stream.write_all(b"late ").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "late bye");
    tunnels(&lb, 0.0).await;
}

/// What comes of `ask` at a backend that answers so.
async fn check(ask: &[u8], answer: &'static str, status: u16) -> String {
    let lb = Setup::of(&[switching(answer).await]).start(1).await;
    let got = raw(lb.http, ask, Duration::from_millis(500)).await;
    let got = match got {
        Some(bytes) => bytes,
        // It stays open: what was answered must be looked at with a close.
        None => {
            let text = String::from_utf8(ask.to_vec()).unwrap();
            let (line, rest) = text.split_once("\r\n").unwrap();
            let ask = format!("{line}\r\n{rest}");
            let mut stream = TcpStream::connect(lb.http).await.unwrap();
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut buffer = vec![0; 4_096];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
            buffer.truncate(read);
            buffer
        }
    };
    assert_eq!(status_of(&got), status, "{}", String::from_utf8_lossy(&got));
    assert_eq!(lb.metric("lb_tunnels_opened_total", "").await, 0.0);
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_becomes_a_tunnel() {
    let other = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n";
    check(ASK, other, 502).await;
    check(ASK, "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502).await;
    check(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n", SWITCH, 502).await;
    // Without the connection header, with a body, or in HTTP/1.0 nobody asked.
    check(b"GET /x HTTP/1.1\r\nhost: a\r\nupgrade: shout/1\r\n\r\n", SWITCH, 502).await;
    let body = b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout/1\r\ncontent-length: 3\r\n\r\nabc";
    check(body, SWITCH, 502).await;
    check(b"GET /x HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout/1\r\n\r\n", SWITCH, 502)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_may_refuse_to_switch() {
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
    assert!(check(ASK, refused, 403).await.ends_with("\r\n\r\nno"));
    // The connection is one of HTTP as before: what follows is the next request.
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::connect(lb.http).await;
    let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
    for _ in 0..3 {
        let answer = client.send(request("GET /echo", &headers, "")).await.unwrap();
        assert!(answer.text().contains("\nupgrade: websocket"), "{}", answer.text());
        assert_eq!(client.send(request("GET /hello", &[], "")).await.unwrap().text(), "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_are_not_asked_for_http_2() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let headers = [
        ("connection", "upgrade, http2-settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ];
    let answer = send(lb.http, "GET /echo", &headers, "").await;
    let text = answer.text();
    assert!(answer.status == 200 && !text.contains("upgrade") && !text.contains("http2-settings"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tunnel_is_cut_and_a_busy_one_is_not() {
    let lb = Setup::of(&[echo().await]).with("server.tunnel_timeout_ms", "600").start(1).await;
    let mut busy = open(TcpStream::connect(lb.http).await.unwrap()).await;
    let mut silent = open(TcpStream::connect(lb.http).await.unwrap()).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1_500) {
        talk(&mut busy, "still here").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended = tokio::time::timeout(PATIENCE, silent.next()).await.expect("it is cut");
    assert!(matches!(ended, None | Some(Err(Error::Io(_) | Error::Protocol(_)))), "{ended:?}");
    assert_eq!(lb.metric("lb_connections_cut_total", "reason=\"tunnel\"").await, 1.0);
    talk(&mut busy, "and still").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_tunnel_is_not_kept_for_long() {
    let lb = Setup::of(&[switching(SWITCH).await]).with("server.body_timeout_ms", "300").start(1).await;
    let mut gone = TcpStream::connect(lb.http).await.unwrap();
    gone.write_all(ASK).await.unwrap();
    tunnels(&lb, 1.0).await;
    // The backend ends its half, the client never ends its own.
    gone.write_all(b"quit").await.unwrap();
    lb.wait("it is cut", |metrics| sum(metrics, "lb_connections_cut_total", "reason=\"tunnel\"") == 1.0)
        .await;
    tunnels(&lb, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_tunnels_last_to_the_end_of_the_drain() {
    let mut lb = Setup::of(&[echo().await])
        .with("shutdown.lame_duck_ms", "100")
        .with("shutdown.drain_deadline_ms", "1500")
        .start(1)
        .await;
    let mut socket = open(TcpStream::connect(lb.http).await.unwrap()).await;
    talk(&mut socket, "before").await;
    lb.signal(Signal::SIGTERM);
    eventually("it drains", || lb.log().contains("finishing what is in flight")).await;
    talk(&mut socket, "in the drain").await;
    let ended = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it is cut at the deadline");
    assert!(!matches!(ended, Some(Ok(Message::Text(_)))), "{ended:?}");
    assert!(lb.ended().await);
}
