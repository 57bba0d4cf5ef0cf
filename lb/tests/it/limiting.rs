//! What one client may take: bytes, requests, connections, time.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::client::{Client, raw, request, send, status_of};
use crate::process::{Lb, Setup};

const LIMIT: Duration = Duration::from_secs(5);

async fn limited(backend: &Backend, settings: &[(&str, &str)]) -> Lb {
    let setup = Setup::new(&[backend]).with("limits.exempt", "[]").with("service.workers", "1");
    settings.iter().fold(setup, |setup, (key, value)| setup.with(key, value)).start(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_only_so_long() {
    let backend = Backend::start("app-1");
    let lb = limited(&backend, &[("limits.body_bytes_max", "1000")]).await;
    assert_eq!(send(lb.http, "POST /count", &[], vec![b'x'; 1_000]).await.text(), "1000");
    let answer = send(lb.http, "POST /never", &[], vec![b'x'; 1_001]).await;
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (413, "close"));
    assert!(answer.text().contains(r#""reason":"body-length""#), "{}", answer.text());
    // Refused by its length before any backend hears of it.
    assert_eq!(backend.state.seen("/never"), 0);
    // Without a length it is refused when it has become too long; idempotent or not, buffered or not.
    for method in ["POST", "PUT"] {
        let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
        let head = format!("{method} /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        let answer = raw(lb.http, format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes(), LIMIT).await;
        let answer = answer.expect("a refusal ends the connection");
        assert_eq!(status_of(&answer), 413, "{method} {}", String::from_utf8_lossy(&answer));
        let answer = raw(
            lb.http,
            format!("{head}{chunk}0\r\n\r\n").replace("host", "connection: close\r\nhost").as_bytes(),
            LIMIT,
        )
        .await;
        assert_eq!(status_of(&answer.unwrap()), 200, "{method}");
    }
    lb.wait("both ways are counted", |metrics| {
        crate::process::sum(metrics, "lb_own_answers_total", "body-length") == 3.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_only_so_long() {
    let backend = Backend::start("app-1");
    let lb =
        limited(&backend, &[("limits.target_bytes_max", "256"), ("limits.underscores_in_names", "false")])
            .await;
    let mut client = Client::connect(lb.http).await;
    let long = client.send(request(&format!("GET /{}", "x".repeat(256)), &[], "")).await.unwrap();
    assert_eq!(long.status, 414);
    assert_eq!(send(lb.http, "GET /", &[("x_y", "z")], "").await.status, 400);
    assert_eq!(send(lb.http, "GET /", &[("x-y", "z")], "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_only_so_often() {
    let backend = Backend::start("app-1");
    let settings = [
        ("limits.requests_per_second", "1"),
        ("limits.burst", "3"),
        ("server.trusted_proxies", r#"["127.0.0.1"]"#),
    ];
    let lb = limited(&backend, &settings).await;
    let from = async |address: &str| send(lb.http, "GET /", &[("x-forwarded-for", address)], "").await;
    for _ in 0..3 {
        assert_eq!(from("192.0.2.1").await.status, 200);
    }
    let refused = from("192.0.2.1").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert!(refused.text().contains(r#""reason":"rate-limit""#), "{}", refused.text());
    // What a client claims before the last address is not believed; others have tokens of their own.
    assert_eq!(from("203.0.113.9, 192.0.2.1").await.status, 429);
    assert_eq!(from("192.0.2.2").await.status, 200);
    assert_eq!(backend.state.seen("/"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_only_so_many_connections() {
    let backend = Backend::start("app-1");
    // Two workers: the count is theirs together.
    let settings = [("limits.connections_per_address_max", "3"), ("service.workers", "2")];
    let lb = limited(&backend, &settings).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(lb.http).await;
        assert_eq!(client.send(request("GET /", &[], "")).await.unwrap().status, 200);
        held.push(client);
    }
    let mut refused = TcpStream::connect(lb.http).await.unwrap();
    let mut bytes = Vec::new();
    let end = tokio::time::timeout(LIMIT, refused.read_to_end(&mut bytes)).await.expect("it is closed");
    assert!(end.is_err() || bytes.is_empty());
    lb.wait("it is counted", |metrics| {
        crate::process::sum(metrics, "lb_connections_cut_total", "address-limit") == 1.0
    })
    .await;
    drop(held);
    lb.wait("they are gone", |metrics| crate::process::sum(metrics, "lb_connections", "") == 0.0).await;
    assert_eq!(send(lb.http, "GET /", &[], "").await.status, 200);
}

/// Sends one byte of a body, or reads some of an answer, just often enough for every other deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_drips_is_cut() {
    let backend = Backend::start("app-1");
    let settings = [
        ("limits.rate_grace_ms", "600"),
        ("limits.upload_bytes_per_second_min", "1000"),
        ("server.body_timeout_ms", "400"),
    ];
    let lb = limited(&backend, &settings).await;
    let mut slow = TcpStream::connect(lb.http).await.unwrap();
    slow.write_all(b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
    let dripped = tokio::time::timeout(LIMIT, async {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    dripped.await.expect("cut long before its body's end");
    lb.wait("it is counted", |metrics| {
        crate::process::sum(metrics, "lb_connections_cut_total", "slow-upload") == 1.0
    })
    .await;
    // Whoever sends fast may send for longer than the grace.
    assert_eq!(send(lb.http, "POST /count", &[], vec![b'x'; 3_000_000]).await.text(), "3000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_only_so_long() {
    let backend = Backend::start("app-1");
    let lb =
        limited(&backend, &[("limits.request_timeout_ms", "500"), ("server.body_timeout_ms", "400")]).await;
    let answer = raw(lb.http, b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n", LIMIT).await;
    assert_eq!(status_of(&answer.expect("it is cut")), 0);
    lb.wait("it is counted", |metrics| {
        crate::process::sum(metrics, "lb_connections_cut_total", "total") == 1.0
    })
    .await;
}
