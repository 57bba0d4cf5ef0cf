//! What goes through, and how.

use std::time::Duration;

use crate::backend::{Backend, canned};
use crate::client::{Client, get, raw, request, send, status_of};
use crate::process::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn backends_take_turns_and_the_connection_is_kept() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = Setup::new(&[&one, &two]).start(2).await;
    let mut client = Client::connect(lb.http).await;
    let mut served = Vec::new();
    for _ in 0..10 {
        let answer = client.send(request("GET /hello", &[], "")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "hello"));
        served.push(answer.header("x-served-by").to_owned());
    }
    assert_eq!(served.iter().filter(|name| *name == "app-1").count(), 5, "{served:?}");
    // Probes take connections of their own; ten requests took one each at most.
    assert!(lb.metric("lb_backend_connections_opened_total", "").await <= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_sees_the_request_and_who_sent_it() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let headers = [
        ("connection", "x-secret, host, close"),
        ("x-secret", "1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("expect", "100-continue"),
        ("te", "trailers"),
        ("cookie", "sid=a; b=c"),
        ("x-request-id", "abcdefgh12"),
    ];
    let answer = send(lb.http, "PUT /echo/x?y=%20z", &headers, "hello").await;
    let text = answer.text();
    let mut lines = text.lines().filter(|line| !line.starts_with("traceparent: 00-"));
    let expected = [
        "PUT /echo/x?y=%20z HTTP/1.1",
        "content-length: 5",
        "cookie: sid=a; b=c",
        "host: fitness.example.com",
        "te: trailers",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: fitness.example.com",
        "x-forwarded-proto: http",
        "x-request-id: abcdefgh12",
        "body: hello",
    ];
    assert!(lines.by_ref().eq(expected), "{text}");
    assert_eq!(answer.header("x-request-id"), "abcdefgh12");
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_are_believed() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.trusted_proxies", r#"["127.0.0.0/8"]"#).start(1).await;
    let headers = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
    let text = send(lb.http, "GET /echo", &headers, "").await.text();
    assert!(text.contains("x-forwarded-for: 1.2.3.4, 127.0.0.1\n"), "{text}");
    assert!(text.contains("x-forwarded-proto: https\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_stay_so_and_keep_their_length() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::connect(lb.http).await;
    for (line, status, length) in
        [("HEAD /size/5000", 200, "5000"), ("GET /status/204", 204, ""), ("GET /status/200", 200, "0")]
    {
        let answer = client.send(request(line, &[], "")).await.unwrap();
        let got = (answer.status.as_u16(), answer.header("content-length"), answer.body.len());
        assert_eq!(got, (status, length, 0), "{line}");
        assert_eq!(answer.header("transfer-encoding"), "", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_has_no_body_whatever_length_it_names() {
    let address = canned(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\netag: \"x\"\r\n\r\n").await;
    let lb = Setup::of(&[address]).start(1).await;
    let answer = get(lb.http, "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("etag"), answer.body.len()), (304, "\"x\"", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_and_without_a_length_go_both_ways() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    assert_eq!(get(lb.http, "/size/300000").await.body.len(), 300_000);
    let chunked = get(lb.http, "/chunks/300000").await;
    assert_eq!((chunked.body.len(), chunked.header("transfer-encoding")), (300_000, "chunked"));
    assert_eq!(send(lb.http, "POST /count", &[], vec![1; 200_000]).await.text(), "200000");
    for method in ["POST", "GET", "PUT"] {
        let bytes = format!(
            "{method} /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        let answer = raw(lb.http, bytes.as_bytes(), Duration::from_secs(5)).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        let (_, seen) = text.split_once("\r\n\r\n").unwrap();
        assert!(seen.contains("body: hello"), "{method}: {text}");
        assert!(seen.contains("\ntransfer-encoding: chunked\n"), "{method}: {text}");
        assert!(!seen.contains("content-length"), "{method}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_is_forwarded_once_and_in_its_usual_form() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    for length in ["content-length: 005", "content-length: 5\r\ncontent-length: 5"] {
        for method in ["POST", "PUT"] {
            let bytes =
                format!("{method} /echo HTTP/1.1\r\nhost: a\r\n{length}\r\nconnection: close\r\n\r\nhello");
            let answer = raw(lb.http, bytes.as_bytes(), Duration::from_secs(5)).await.unwrap();
            let text = String::from_utf8_lossy(&answer);
            let (_, seen) = text.split_once("\r\n\r\n").unwrap();
            let lengths: Vec<_> = seen.lines().filter(|line| line.starts_with("content-length")).collect();
            assert_eq!(lengths, ["content-length: 5"], "{length}");
            assert!(seen.ends_with("body: hello"), "{seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_connection_ends_here() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let answer = get(lb.http, "/hop").await;
    for name in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_eq!(answer.header("x-request-id").len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_gets_an_old_answer() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let answer =
        raw(lb.http, b"GET /chunks/1000 HTTP/1.0\r\nhost: a\r\n\r\n", Duration::from_secs(5)).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.0 200"), "{text}");
    assert!(!text.contains("transfer-encoding"), "{text}");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_to_continue_is_told_to() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut stream = tokio::net::TcpStream::connect(lb.http).await.unwrap();
    let head = b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abcd").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("\r\n\r\n4"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backends_informational_answers_do_not_disturb() {
    let address = canned(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let lb = Setup::of(&[address]).start(1).await;
    let answer = get(lb.http, "/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_does_not_cut_an_answer() {
    let address = canned(
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
    )
    .await;
    let lb = Setup::of(&[address]).start(1).await;
    let answer = get(lb.http, "/").await;
    assert_eq!((answer.text().as_str(), answer.header("content-length")), ("abcdef", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
    let address = canned(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nGET / HTTP/1.1",
    )
    .await;
    let lb = Setup::of(&[address]).start(1).await;
    let answer = get(lb.http, "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (502, "application/problem+json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_after_its_last_request() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.requests_per_connection_max", "2").start(1).await;
    let mut client = Client::connect(lb.http).await;
    assert_eq!(client.send(request("GET /", &[], "")).await.unwrap().header("connection"), "");
    assert_eq!(client.send(request("GET /", &[], "")).await.unwrap().header("connection"), "close");
    crate::process::eventually("the connection closes", || client.is_closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let bytes = b"GET /size/1 HTTP/1.1\r\nhost: a\r\n\r\nGET /status/204 HTTP/1.1\r\nhost: a\r\n\r\nGET /size/3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(lb.http, bytes, Duration::from_secs(5)).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(status_of(&answer), 200);
    let order: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
    assert_eq!(order, ["200", "204", "200"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_keeps_its_length() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let ask = b"GET /unmodified HTTP/1.1\r\nhost: a\r\n\r\nHEAD /size/77 HTTP/1.1\r\nhost: a\r\n\r\nGET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(lb.http, ask, Duration::from_secs(5)).await.unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let parts: Vec<&str> = text.split("\r\n\r\n").collect();
    let [unmodified, head, whole, body] = parts[..] else { panic!("{text}") };
    assert!(
        unmodified.starts_with("HTTP/1.1 304 ") && unmodified.contains("\r\ncontent-length: 1234"),
        "{text}"
    );
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\ncontent-length: 77"), "{text}");
    assert!(whole.starts_with("HTTP/1.1 200 ") && body == "hello", "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_go_both_ways() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let ask = b"GET /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
    let answer = raw(lb.http, ask, Duration::from_secs(5)).await.unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        text.contains("\r\ntrailer: x-check") && text.ends_with("\r\n0\r\nx-check: sum\r\n\r\n"),
        "{text}"
    );
    let ask = b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: close\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n";
    let answer = raw(lb.http, ask, Duration::from_secs(5)).await.unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.ends_with("trailer x-sum: \"6\"\nbody: abc"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_before_the_answer_are_not_the_answer() {
    let backend = canned(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let lb = Setup::of(&[backend]).start(1).await;
    let answer = get(lb.http, "/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str(), answer.header("link")), (200, "ok", ""));
}
