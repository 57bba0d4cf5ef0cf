//! Stopping and reloading without dropping anybody.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::backend::Backend;
use crate::client::{Client, get, request};
use crate::process::{Setup, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_flight() {
    let backend = Backend::start("app-1");
    let mut lb = Setup::new(&[&backend]).with("shutdown.lame_duck_ms", "500").start(1).await;
    assert_eq!(get(lb.admin, "/readyz").await.status, 200);
    let mut idle = Client::connect(lb.http).await;
    idle.send(request("GET /", &[], "")).await.unwrap();
    let address = lb.http;
    let slow = tokio::spawn(async move { get(address, "/slow/1500").await });
    eventually("the slow one is there", || backend.state.seen("/slow/1500") == 1).await;
    lb.signal(Signal::SIGTERM);
    eventually("the drain begins", || lb.log().contains("draining: still serving")).await;
    // Lame duck: not ready, but new connections and requests are served, and told to go elsewhere next.
    assert_eq!(get(lb.admin, "/readyz").await.status, 503);
    let answer = get(lb.http, "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, "close"));
    eventually("it stops accepting", || lb.log().contains("finishing what is in flight")).await;
    eventually("idle connections close", || idle.is_closed()).await;
    // What was in flight ends well, and with it the process.
    assert_eq!(slow.await.unwrap().text(), "slow");
    assert!(lb.ended().await);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_ever() {
    let backend = Backend::start("app-1");
    let mut lb = Setup::new(&[&backend])
        .with("shutdown.lame_duck_ms", "10")
        .with("shutdown.drain_deadline_ms", "300")
        .start(1)
        .await;
    let address = lb.http;
    let hanging =
        tokio::spawn(
            async move { Client::connect(address).await.send(request("POST /hang", &[], "")).await },
        );
    eventually("it hangs", || backend.state.seen("/hang") == 1).await;
    lb.signal(Signal::SIGTERM);
    assert!(lb.ended().await);
    assert!(hanging.await.unwrap().is_err());
    assert!(lb.log().contains("drain deadline is over"), "{}", lb.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_backends_and_drops_nothing() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let file = |backend: &Backend| {
        format!(
            "[server]\nlisten = '127.0.0.1:0'\n[discovery]\nstatic = ['{}']\ninterval_ms = 50\n[health]\ninterval_ms = 100\n[admin]\nlisten = '127.0.0.1:0'\n",
            backend.address
        )
    };
    let lb = Setup::empty().start_with(&file(&one)).await;
    lb.wait("app-1 is up", |metrics| crate::process::sum(metrics, "lb_backend_state", "state=\"up\"") == 1.0)
        .await;
    let mut kept = Client::connect(lb.http).await;
    assert_eq!(kept.send(request("GET /", &[], "")).await.unwrap().header("x-served-by"), "app-1");
    let address = lb.http;
    let slow = tokio::spawn(async move { get(address, "/slow/1000").await });
    eventually("the slow one is there", || one.state.seen("/slow/1000") == 1).await;
    std::fs::write(lb.config(), file(&two)).unwrap();
    lb.signal(Signal::SIGHUP);
    lb.wait("app-2 is up", |metrics| {
        crate::process::sum(metrics, "lb_backend_state", &format!("backend=\"{}\",state=\"up\"", two.address))
            == 1.0
    })
    .await;
    lb.wait("app-1 drains", |metrics| {
        crate::process::sum(
            metrics,
            "lb_backend_state",
            &format!("backend=\"{}\",state=\"draining\"", one.address),
        ) == 1.0
    })
    .await;
    // The same client connection, the new backend; the old request ends where it began.
    assert_eq!(kept.send(request("GET /", &[], "")).await.unwrap().header("x-served-by"), "app-2");
    assert_eq!(slow.await.unwrap().header("x-served-by"), "app-1");
    // A broken file changes nothing.
    std::fs::write(lb.config(), "[server]\nlisten = 'nowhere'\n").unwrap();
    lb.signal(Signal::SIGHUP);
    eventually("it is refused", || lb.log().contains("reload refused")).await;
    assert_eq!(kept.send(request("GET /", &[], "")).await.unwrap().header("x-served-by"), "app-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_in_the_queue_are_served_at_the_stop() {
    let backend = Backend::start("app-1");
    let mut lb = Setup::new(&[&backend]).with("shutdown.lame_duck_ms", "200").start(1).await;
    lb.signal(Signal::SIGTERM);
    let (mut served, mut refused) = (0, 0);
    // Until nothing listens any more, every connection that was made is answered.
    loop {
        let Ok(stream) = TcpStream::connect(lb.http).await else { break };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        match sender.send_request(request("GET /", &[], "")).await {
            Ok(answer) if answer.status() == 200 => served += 1,
            _ => refused += 1,
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(lb.ended().await);
    // The kernel may complete one connection between the last look at the queue and the close, on each worker.
    assert!(served > 10 && refused <= 2, "{served} served, {refused} refused");
}

/// Its answer is the last one on the connection.
async fn asks_on(mut stream: impl AsyncRead + AsyncWrite + Unpin, rest: &str) {
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_about_to_ask_at_the_stop_is_answered() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let mut lb = Setup::new(&[&backend])
        .secure(&authority, &["site"])
        .with("shutdown.lame_duck_ms", "300")
        .start(1)
        .await;
    let (request, half) = ("GET /hello HTTP/1.1\r\nhost: fitness.example.com\r\n\r\n", 30);
    // Connected, in the middle of a first request, and in the middle of a second one that came behind the first.
    let connected = authority.connect(lb.bound["https"], "fitness.example.com", &["http/1.1"]).await.unwrap();
    let mut first = TcpStream::connect(lb.http).await.unwrap();
    first.write_all(&request.as_bytes()[..half]).await.unwrap();
    let mut second = TcpStream::connect(lb.http).await.unwrap();
    second.write_all(format!("{request}{}", &request[..half]).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        assert!(second.read_buf(&mut answer).await.unwrap() > 0);
    }
    lb.signal(Signal::SIGTERM);
    eventually("it stops accepting", || lb.log().contains("finishing what is in flight")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    asks_on(connected, request).await;
    asks_on(first, &request[half..]).await;
    asks_on(second, &request[half..]).await;
    assert!(lb.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_and_silent_does_not_hold_the_stop_up_for_long() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let mut lb = Setup::new(&[&backend])
        .secure(&authority, &["site"])
        .with("server.first_byte_timeout_ms", "60000")
        .with("server.keep_alive_timeout_ms", "60000")
        .with("server.header_timeout_ms", "60000")
        .with("tls.handshake_timeout_ms", "60000")
        .with("server.body_timeout_ms", "1000")
        .with("server.linger_timeout_ms", "300")
        .with("shutdown.lame_duck_ms", "10")
        .with("shutdown.drain_deadline_ms", "60000")
        .start(1)
        .await;
    let plain = TcpStream::connect(lb.http).await.unwrap();
    let shaking_hands = TcpStream::connect(lb.bound["https"]).await.unwrap();
    let one = authority.connect(lb.bound["https"], "fitness.example.com", &["http/1.1"]).await.unwrap();
    let two = authority.connect(lb.bound["https"], "fitness.example.com", &["h2"]).await.unwrap();
    lb.signal(Signal::SIGTERM);
    assert!(lb.ended().await);
    drop((plain, shaking_hands, one, two));
}
