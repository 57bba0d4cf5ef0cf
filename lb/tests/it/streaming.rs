//! Bodies larger than memory should be, slow readers, early answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::backend::Backend;
use crate::client::{get, status_of};
use crate::process::{Setup, eventually};

const MIB: u64 = 1024 * 1024;
const LARGE: u64 = 256 * MIB;
const HUGE: u64 = 1024 * MIB;
/// More than any buffer on the way, far less than the body.
const GROWTH_MAX_KB: u64 = 16 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_download_takes_no_memory() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    assert_eq!(get(lb.http, "/size/1000000").await.body.len(), 1_000_000);
    let before = lb.resident_kb();
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    let head = format!("GET /size/{HUGE} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut buffer, mut read, mut peak) = (vec![0; 256 * 1024], 0, 0);
    loop {
        let now = stream.read(&mut buffer).await.unwrap() as u64;
        if now == 0 {
            break;
        }
        // A look at every 8 MiB or so is enough to see growth.
        if read / (8 * MIB) != (read + now) / (8 * MIB) {
            peak = peak.max(lb.resident_kb());
        }
        read += now;
    }
    assert!(read > HUGE && read < HUGE + 1_000, "{read}");
    assert!(peak < before + GROWTH_MAX_KB, "{before} kB before, {peak} kB at the peak");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_takes_no_memory() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    get(lb.http, "/size/1000000").await;
    let before = lb.resident_kb();
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    let head =
        format!("POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: {HUGE}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let block = vec![7; usize::try_from(MIB).unwrap()];
    let mut peak = 0;
    for nth in 0..HUGE / MIB {
        stream.write_all(&block).await.unwrap();
        if nth % 8 == 0 {
            peak = peak.max(lb.resident_kb());
        }
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{HUGE}")), "{answer}");
    assert!(peak < before + GROWTH_MAX_KB, "{before} kB before, {peak} kB at the peak");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_slows_the_backend_down_and_is_cut() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.write_timeout_ms", "1500").start(1).await;
    let before = lb.resident_kb();
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    stream.write_all(format!("GET /size/{LARGE} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
    lb.wait("the client is cut", |metrics| {
        crate::process::sum(metrics, "lb_connections_cut_total", "reason=\"write\"") == 1.0
    })
    .await;
    assert!(lb.resident_kb() < before + GROWTH_MAX_KB);
    // Only probes still come.
    eventually("the backend is free", || backend.state.open.load(Ordering::SeqCst) <= 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_upload_gets_through() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    let head = format!("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[1; 10_000]).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(read) = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap()
    {
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(status_of(&answer), 413, "{text}");
    assert!(text.contains("connection: close") && text.ends_with("too large"), "{text}");
    assert_eq!(get(lb.http, "/hello").await.text(), "hello");
}

/// Browsers look for an answer when all is sent. A reset in between would be all that they see.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_for_a_client_that_sends_everything_first() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("limits.body_bytes_max", "100000000").start(1).await;
    let block = vec![1; 1024 * 1024];
    // hyper closes differently where somebody has offered a switch of protocols.
    let offer = "connection: upgrade\r\nupgrade: h2c\r\n";
    for (path, offer) in [("/early", ""), ("/hello", ""), ("/early", offer), ("/hello", offer)] {
        for length in [64 * MIB, 128 * MIB] {
            let mut stream = TcpStream::connect(lb.http).await.unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{offer}content-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for nth in 0..length / MIB {
                stream.write_all(&block).await.unwrap_or_else(|error| panic!("{path} {nth} MiB: {error}"));
            }
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
            read.expect("it ends").unwrap();
            // Of the backend, or of the balancer before any.
            let status = if path == "/early" || length > 100_000_000 { 413 } else { 200 };
            assert_eq!(status_of(&answer), status, "{path} {length}");
        }
    }
}

/// A backend that answers at once with as many bytes as the path says, takes all that is sent to it, and closes in peace.
async fn eager(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut buffer, mut head) = (vec![0; 64 * 1024], Vec::new());
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = stream.read(&mut buffer).await?;
                head.extend_from_slice(&buffer[..read]);
            }
            let path = String::from_utf8_lossy(&head).split([' ', '/']).nth(2).unwrap().to_owned();
            let body = vec![0; path.parse().unwrap()];
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.shutdown().await?;
            while stream.read(&mut buffer).await? > 0 {}
            Ok::<_, std::io::Error>(())
        });
    }
}

/// Its last bytes wait in our buffers, or in the kernel's, when hyper is done with the connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_that_is_taken_late_is_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = [listener.local_addr().unwrap()];
    tokio::spawn(eager(listener));
    let lb = Setup::of(&backends).with("health.mode", "off").start(1).await;
    for offer in ["", "connection: upgrade\r\nupgrade: h2c\r\n"] {
        let mut clients = tokio::task::JoinSet::new();
        // Whatever a socket takes, for some of them it is a little less than there is.
        for length in (1..100).map(|nth| nth * 50_000) {
            let address = lb.http;
            clients.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let head =
                    format!("POST /{length} HTTP/1.1\r\nhost: a\r\n{offer}content-length: 1000000\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&[1; 10_000]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(800)).await;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                assert_eq!(answer.len() - head_length(&answer), length, "{offer:?}");
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    }
}

fn head_length(answer: &[u8]) -> usize {
    answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_is_cut() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("server.linger_timeout_ms", "400")
        .with("server.body_timeout_ms", "1200")
        .start(1)
        .await;
    let cuts = |count: f64| {
        lb.wait("it is cut", move |metrics| {
            crate::process::sum(metrics, "lb_connections_cut_total", "reason=\"linger\"") == count
        })
    };
    let head = format!("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
    let mut silent = TcpStream::connect(lb.http).await.unwrap();
    silent.write_all(head.as_bytes()).await.unwrap();
    cuts(1.0).await;
    let mut busy = TcpStream::connect(lb.http).await.unwrap();
    busy.write_all(head.as_bytes()).await.unwrap();
    while busy.write_all(b"more").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cuts(2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stops_is_cut() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("server.body_timeout_ms", "400").start(1).await;
    for line in ["POST /count", "PUT /count"] {
        let mut stream = TcpStream::connect(lb.http).await.unwrap();
        let head = format!("{line} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer))
            .await
            .expect("it is cut");
    }
    assert_eq!(lb.metric("lb_connections_cut_total", "reason=\"request-body\"").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stops_is_no_fault_of_its_backend() {
    let backend = Backend::start("app-1");
    let setup = Setup::new(&[&backend]).with("upstream.body_timeout_ms", "200");
    let lb = setup.with("server.body_timeout_ms", "900").start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    stream.write_all(b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
        .await
        .expect("it is cut");
    assert_eq!(lb.metric("lb_connections_cut_total", "reason=\"request-body\"").await, 1.0);
    assert_eq!(lb.metric("lb_backend_attempts_failed_total", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_not_a_slow_backend() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).with("upstream.header_timeout_ms", "400").start(1).await;
    let mut stream = TcpStream::connect(lb.http).await.unwrap();
    stream
        .write_all(b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\n10"), "{answer}");
}
