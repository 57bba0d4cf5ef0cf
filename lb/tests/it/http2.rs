//! HTTP/2 towards clients: one connection, many requests, each with its own deadlines.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::authority::Authority;
use crate::backend::Backend;
use crate::client::{get, raw, status_of};
use crate::process::{Lb, PATIENCE, Setup, eventually, sum};

const MIB: usize = 1024 * 1024;
const LARGE: usize = 256 * MIB;

/// One connection. `driver` ends with it.
struct Client {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn plain(lb: &Lb) -> Self {
        Self::over(TcpStream::connect(lb.http).await.unwrap(), &Builder::new()).await
    }

    async fn over<S>(stream: S, builder: &Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        Self { sender, driver: tokio::spawn(connection) }
    }

    /// Sends a head only; `end` if that is all.
    async fn begin(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        sender.send_request(request, end)
    }

    async fn get(&mut self, path: &str) -> Result<(Response<()>, String), h2::Error> {
        let (response, _) = self.begin(request("GET", path), true).await?;
        let (head, mut body) = response.await?.into_parts();
        let text = String::from_utf8_lossy(&whole(&mut body).await?).into_owned();
        Ok((Response::from_parts(head, ()), text))
    }
}

fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://fitness.example.com{path}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

async fn whole(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_a_connection() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::plain(&lb).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (response, _) = client.begin(request("GET", "/slow/100"), true).await.unwrap();
        all.spawn(async move {
            let (head, mut body) = response.await.unwrap().into_parts();
            assert_eq!(
                (head.status.as_u16(), &head.headers["x-served-by"]),
                (200, &"app-1".parse().unwrap())
            );
            assert!(head.headers.contains_key("x-request-id") && !head.headers.contains_key("connection"));
            assert_eq!(whole(&mut body).await.unwrap(), b"slow");
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    assert_eq!(lb.metric("lb_connections_accepted_total", "").await, 1.0);
    assert_eq!(lb.metric("lb_requests_total", "").await, 50.0);
    assert_eq!(lb.metric("lb_requests_in_flight", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_gets_http_1() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::plain(&lb).await;
    let mut head = request("GET", "/echo?a=b");
    for (name, value) in [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("te", "trailers")] {
        head.headers_mut().append(name, value.parse().unwrap());
    }
    let (response, _) = client.begin(head, true).await.unwrap();
    let text = String::from_utf8(whole(response.await.unwrap().body_mut()).await.unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "GET /echo?a=b HTTP/1.1");
    for line in
        ["cookie: a=1; b=2; c=3", "host: fitness.example.com", "te: trailers", "x-forwarded-proto: http"]
    {
        assert!(lines.contains(&line), "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_names_for_a_host_are_refused() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::plain(&lb).await;
    for (host, status) in [("other.example.com", 400), ("fitness.example.com", 200), ("a b", 400)] {
        let mut head = request("GET", "/hello");
        head.headers_mut().insert("host", host.parse().unwrap());
        let (response, _) = client.begin(head, true).await.unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{host}");
    }
    for (method, status) in [("CONNECT", 405), ("TRACE", 405)] {
        let uri = if method == "CONNECT" { "fitness.example.com:80" } else { "http://fitness.example.com/" };
        let head = Request::builder().method(method).uri(uri).body(()).unwrap();
        let (response, _) = client.begin(head, true).await.unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{method}");
    }
    // One stream's mistake is not the others'.
    assert_eq!(client.get("/hello").await.unwrap().1, "hello");
}

/// A backend that goes by one of them would take the rest for another request. h2 refuses them.
#[tokio::test(flavor = "multi_thread")]
async fn two_lengths_are_refused() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::plain(&lb).await;
    for second in ["6", "abc", "5, 6"] {
        let mut head = request("POST", "/echo");
        for length in ["5", second] {
            head.headers_mut().append("content-length", length.parse().unwrap());
        }
        let (response, mut upload) = client.begin(head, false).await.unwrap();
        upload.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let error = response.await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{second}: {error}");
    }
    assert_eq!(backend.state.seen("/echo"), 0);
    assert_eq!(client.get("/hello").await.unwrap().1, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_go_both_ways() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::plain(&lb).await;
    let mut head = request("POST", "/echo");
    head.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    let (response, mut upload) = client.begin(head, false).await.unwrap();
    upload.send_data(Bytes::from_static(b"abc"), false).unwrap();
    upload.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "6".parse().unwrap())])).unwrap();
    let text = String::from_utf8(whole(response.await.unwrap().body_mut()).await.unwrap()).unwrap();
    assert!(
        text.contains("\ntransfer-encoding: chunked") && text.ends_with("trailer x-sum: \"6\"\nbody: abc"),
        "{text}"
    );

    let mut head = request("GET", "/trailers");
    head.headers_mut().insert("te", "trailers".parse().unwrap());
    let (response, _) = client.begin(head, true).await.unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(whole(&mut body).await.unwrap(), b"checked");
    assert_eq!(body.trailers().await.unwrap().unwrap()["x-check"], "sum");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_keep_their_length() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::plain(&lb).await;
    let (unmodified, text) = client.get("/unmodified").await.unwrap();
    assert_eq!((unmodified.status().as_u16(), text.as_str()), (304, ""));
    assert_eq!(unmodified.headers()["content-length"], "1234");
    let (response, _) = client.begin(request("HEAD", "/size/1000"), true).await.unwrap();
    let mut response = response.await.unwrap();
    assert_eq!(response.headers()["content-length"], "1000");
    assert_eq!(whole(response.body_mut()).await.unwrap(), b"");
    let (empty, _) = client.get("/status/204").await.unwrap();
    assert!(!empty.headers().contains_key("content-length"), "{empty:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_stream_is_reset_alone() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.body_timeout_ms", "400").start(1).await;
    let mut client = Client::plain(&lb).await;
    let (response, mut upload) = client.begin(request("POST", "/count"), false).await.unwrap();
    upload.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let other = client.begin(request("GET", "/slow/1500"), true).await.unwrap().0;
    let error = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL), "{error}");
    assert_eq!(other.await.unwrap().status(), 200);
    assert_eq!(client.get("/hello").await.unwrap().1, "hello");
    assert_eq!(lb.metric("lb_streams_cut_total", "reason=\"request-body\"").await, 1.0);
    assert_eq!(lb.metric("lb_requests_in_flight", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_no_window_is_reset() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.write_timeout_ms", "400").start(1).await;
    let stream = TcpStream::connect(lb.http).await.unwrap();
    let mut client = Client::over(stream, Builder::new().initial_window_size(0)).await;
    // Of a backend's body, and of the balancer's own.
    for (path, own) in [("/size/100000", false), ("/hello", false), ("/hello", true)] {
        let mut head = request("GET", path);
        if own {
            head.headers_mut().insert("host", "other".parse().unwrap());
        }
        let (response, _) = client.begin(head, true).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        let ended = tokio::time::timeout(PATIENCE, body.data()).await.expect("it is reset");
        assert_eq!(ended.unwrap().unwrap_err().reason(), Some(Reason::CANCEL), "{path}");
    }
    assert_eq!(lb.metric("lb_streams_cut_total", "reason=\"write\"").await, 3.0);
    eventually("the backend is free", || backend.state.open.load(Ordering::SeqCst) <= 1).await;
}

/// CVE-2019-9511: the answer is whole and the balancer's to keep, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_an_answer_byte_by_byte_is_reset() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.write_timeout_ms", "400").start(1).await;
    // With a length, and without.
    for path in ["/size/8000", "/chunks/8000"] {
        let stream = TcpStream::connect(lb.http).await.unwrap();
        let mut client = Client::over(stream, Builder::new().initial_window_size(1)).await;
        let (response, _) = client.begin(request("GET", path), true).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        let dripping = async {
            loop {
                match body.data().await.expect("it is not the end") {
                    Ok(chunk) => body.flow_control().release_capacity(chunk.len()).unwrap(),
                    Err(error) => break error,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let error = tokio::time::timeout(PATIENCE, dripping).await.expect("it is reset");
        assert_eq!(error.reason(), Some(Reason::CANCEL), "{path} {error}");
    }
    assert_eq!(lb.metric("lb_streams_cut_total", "reason=\"write\"").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_as_large_as_the_answer_is_enough() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    for (path, size) in [("size", 1), ("size", 4_096), ("size", 4_097), ("size", 60_000), ("chunks", 4_097)] {
        let stream = TcpStream::connect(lb.http).await.unwrap();
        let mut client = Client::over(stream, Builder::new().initial_window_size(size)).await;
        let (response, _) = client.begin(request("GET", &format!("/{path}/{size}")), true).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut chunks = Vec::new();
        while let Some(chunk) = tokio::time::timeout(PATIENCE, body.data()).await.expect("no more is needed")
        {
            chunks.push(chunk.unwrap());
        }
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), size as usize);
    }
    lb.wait("all are whole", |metrics| sum(metrics, "lb_requests_in_flight", "") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_stops_in_mid_answer_resets_its_stream() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut client = Client::plain(&lb).await;
    let error = client.get("/cut/1000").await.unwrap_err();
    assert!(error.is_reset(), "{error}");
    assert_eq!(client.get("/hello").await.unwrap().1, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_cut() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("server.first_byte_timeout_ms", "300")
        .with("server.header_timeout_ms", "300")
        .with("server.keep_alive_timeout_ms", "600")
        .start(1)
        .await;
    let patience = Duration::from_secs(5);
    for (bytes, what) in [
        (&b""[..], "nothing"),
        (b"PR", "two letters"),
        (b"PRI * HT", "a part of the preface"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the preface"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "settings"),
    ] {
        let answer = raw(lb.http, bytes, patience).await;
        assert_eq!(status_of(&answer.unwrap_or_else(|| panic!("{what}: stays open"))), 0, "{what}");
    }
    // What only looks like it is a request.
    let answer =
        raw(lb.http, b"PROPFIND /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", patience).await;
    assert_eq!(status_of(&answer.unwrap()), 200);
    // An idle connection is told first.
    let mut client = Client::plain(&lb).await;
    client.get("/hello").await.unwrap();
    let ended = tokio::time::timeout(patience, client.driver).await.expect("it is closed").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    lb.wait("all are counted", |metrics| {
        let cut = |reason: &str| sum(metrics, "lb_connections_cut_total", &format!("reason=\"{reason}\""));
        (cut("first-byte"), cut("header"), cut("keep-alive")) == (1.0, 4.0, 1.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_ends_its_connection_only() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("http2.resets_max", "50").start(1).await;
    let mut good = Client::plain(&lb).await;
    assert_eq!(good.get("/hello").await.unwrap().1, "hello");
    let mut bad = Client::plain(&lb).await;
    let mut sent = 0;
    while sent < 10_000 {
        let Ok((response, mut stream)) = bad.begin(request("GET", "/slow/5000"), true).await else { break };
        stream.send_reset(Reason::CANCEL);
        drop(response);
        sent += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((50..5_000).contains(&sent), "{sent} were taken");
    tokio::time::timeout(PATIENCE, bad.driver).await.expect("it is closed").unwrap().ok();
    // h2 sees those first that come faster than streams are taken.
    lb.wait("it is counted", |metrics| {
        let cut = |reason: &str| sum(metrics, "lb_connections_cut_total", &format!("reason=\"{reason}\""));
        cut("resets") + cut("flood") == 1.0
    })
    .await;
    assert_eq!(good.get("/hello").await.unwrap().1, "hello");
    lb.wait("nothing is left of them", |metrics| sum(metrics, "lb_requests_in_flight", "") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_allowed_wait() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("http2.streams_max", "4").start(1).await;
    let mut client = Client::plain(&lb).await;
    // Until the balancer's settings are here, nothing is known of its limits.
    client.get("/hello").await.unwrap();
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(client.begin(request("GET", "/slow/300"), true).await.unwrap().0);
    }
    eventually("four are there", || backend.state.seen("/slow/300") == 4).await;
    assert_eq!(lb.metric("lb_requests_in_flight", "").await, 4.0);
    for response in all {
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_replaced_without_a_loss() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.requests_per_connection_max", "5").start(1).await;
    let mut client = Client::plain(&lb).await;
    let mut served = 0;
    while client.get("/hello").await.is_ok() {
        served += 1;
        assert!(served < 100);
    }
    assert!(served >= 5, "{served}");
    let ended = tokio::time::timeout(PATIENCE, client.driver).await.expect("it is closed").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_the_streams_in_flight() {
    let backend = Backend::start("app-1");
    let mut lb = Setup::new(&[&backend]).with("shutdown.lame_duck_ms", "200").start(1).await;
    let mut client = Client::plain(&lb).await;
    let slow = client.begin(request("GET", "/slow/1500"), true).await.unwrap().0;
    eventually("it is there", || backend.state.seen("/slow/1500") == 1).await;
    lb.signal(Signal::SIGTERM);
    assert_eq!(slow.await.unwrap().status(), 200);
    let ended = tokio::time::timeout(PATIENCE, client.driver).await.expect("it is closed").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert!(lb.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crosses_the_goodbye_is_not_reset() {
    let backend = Backend::start("app-1");
    let mut lb = Setup::new(&[&backend]).with("shutdown.lame_duck_ms", "10").start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.read_u8().await.unwrap();
    lb.signal(Signal::SIGTERM);
    let mut read = Vec::new();
    let asks = b"\0\0\x08\x06\0\0\0\0\0";
    let asked = loop {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{read:?}");
        if let Some(at) = read.windows(9).position(|frame| frame == asks).filter(|at| read.len() >= at + 17) {
            break read[at + 9..at + 17].to_vec();
        }
    };
    stream.write_all(&[b"\0\0\x08\x06\x01\0\0\0\0".as_slice(), &asked].concat()).await.unwrap();
    stream.read_to_end(&mut read).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"\0\0\x08\x06\0\0\0\0\0unheeded").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stream);
    assert!(lb.ended().await);
}

/// The client says that it will go while an answer is on its way, and reads it late.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_goodbye_first_gets_all_of_its_answer() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    // SETTINGS and WINDOW_UPDATE open a window of 16 MiB.
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x01\0\0\0".as_slice();
    let window = b"\0\0\x04\x08\0\0\0\0\0\x01\0\0\0";
    let head = b"\x82\x86\x41\x01a\x04\x0d/size/6000000".as_slice();
    let request = [&[0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1], head].concat();
    let goodbye = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings, window, &request, goodbye].concat();
    stream.write_all(&opening).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut buffer, mut read) = (vec![0; 64 * 1024], 0);
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("it goes on").unwrap() {
            0 => break,
            now => read += now,
        }
        // What a client says meanwhile, for example that it has room.
        stream.write_all(window).await.unwrap();
    }
    assert!(read > 6_000_000, "{read}");
}

/// A client that breaks the rules is owed nothing, and what it had sent before is not asked for.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_connection_ends_it_at_once() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    // A request, and in the same segment DATA of no stream.
    let head = b"\x82\x86\x41\x01a\x04\x06/never";
    let request = [&[0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1], head.as_slice()].concat();
    let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice();
    stream.write_all(&[opening, &request, b"\0\0\0\0\0\0\0\0\0"].concat()).await.unwrap();
    let mut goodbye = Vec::new();
    let _ = stream.read_to_end(&mut goodbye).await;
    assert!(goodbye.windows(5).any(|frame| frame == b"\x07\0\0\0\0"), "{goodbye:?}");
    lb.wait("it is gone", |metrics| sum(metrics, "lb_connections", "") == 0.0).await;
    assert_eq!((backend.state.seen("/never"), lb.metric("lb_requests_in_flight", "").await), (0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_take_no_memory_over_tls() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = Setup::new(&[&backend]).secure(&authority, &["site"]).start(1).await;
    let stream =
        authority.connect(lb.bound["https"], "fitness.example.com", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Client::over(stream, Builder::new().initial_window_size(1 << 20)).await;
    client.get("/size/1000000").await.unwrap();
    let before = lb.resident_kb();
    let (response, _) = client.begin(request("GET", &format!("/size/{LARGE}")), true).await.unwrap();
    let mut body = response.await.unwrap().into_body();
    let (mut read, mut peak) = (0, 0);
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        if read / (8 * MIB) != (read + chunk.len()) / (8 * MIB) {
            peak = peak.max(lb.resident_kb());
        }
        read += chunk.len();
    }
    assert_eq!(read, LARGE);
    let (response, mut upload) = client.begin(request("POST", "/count"), false).await.unwrap();
    let block = Bytes::from(vec![7; MIB]);
    for nth in 0..LARGE / MIB {
        let mut left = block.clone();
        while !left.is_empty() {
            upload.reserve_capacity(left.len());
            let room = std::future::poll_fn(|cx| upload.poll_capacity(cx)).await.unwrap().unwrap();
            upload.send_data(left.split_to(room.min(left.len())), false).unwrap();
        }
        if nth % 8 == 0 {
            peak = peak.max(lb.resident_kb());
        }
    }
    upload.send_data(Bytes::new(), true).unwrap();
    let counted = whole(response.await.unwrap().body_mut()).await.unwrap();
    assert_eq!(counted, LARGE.to_string().as_bytes());
    assert!(peak < before + 16 * 1024, "{before} kB before, {peak} kB at the peak");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleartext_can_be_switched_off() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("http2.cleartext", "false").start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is refused");
    // HTTP/2 would begin with a frame of settings.
    assert!(!answer.starts_with(&[0, 0]), "{answer:?}");
    assert_eq!(get(lb.http, "/hello").await.text(), "hello");
}
