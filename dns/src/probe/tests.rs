//! Looks at real listeners.

use super::*;
use crate::steering::plan::Check;
use service_kit::health::Thresholds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn target(address: std::net::SocketAddr, mode: Mode) -> Target {
    let ms = Duration::from_millis;
    let check = Check {
        mode,
        port: address.port(),
        interval: ms(20),
        start_interval: ms(20),
        jitter_percent: 0,
        timeout: Duration::from_secs(20),
        thresholds: Thresholds { rise: 1, fall: 1 },
    };
    Target { address: address.ip(), check: Arc::new(check) }
}

fn http(tls: Option<Tls>, host: &str) -> Mode {
    Mode::Http(Http { tls, path: "/readyz?deep".into(), host: host.into(), statuses: vec![200..=299] })
}

/// Answers every connection in the same way and tells what it was asked.
async fn serve(
    answer: &'static str,
    tls: Option<TlsAcceptor>,
) -> (std::net::SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, questions) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let length = match &tls {
                None => {
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let _ = stream.write_all(answer.as_bytes()).await;
                    length
                }
                Some(acceptor) => {
                    let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                    length
                }
            };
            let _ = asked.send(String::from_utf8_lossy(&request[..length]).to_lowercase()).await;
        }
    });
    (address, questions)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[track_caller]
fn check(look: &Look, outcome: Outcome, part: &str) {
    assert!(look.outcome == outcome && look.reason.contains(part), "{look:?}");
}

#[tokio::test]
async fn a_status_decides() {
    let (address, mut questions) = serve(OK, None).await;
    check(&look(&target(address, http(None, "www.example.com"))).await, Outcome::Good, "status 200");
    let asked = questions.recv().await.unwrap();
    assert!(asked.starts_with("get /readyz?deep http/1.1\r\n"), "{asked}");
    assert!(
        asked.contains("host: www.example.com\r\n") && asked.contains("user-agent: dns-health\r\n"),
        "{asked}"
    );
    look(&target(address, http(None, ""))).await;
    let asked = questions.recv().await.unwrap();
    assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
    // A whole page is no health answer, and its status is.
    let page = format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{}", "x".repeat(20_000));
    let (address, _questions) = serve(page.leak(), None).await;
    check(&look(&target(address, http(None, ""))).await, Outcome::Good, "status 200");
    let (address, _questions) = serve("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", None).await;
    check(&look(&target(address, http(None, ""))).await, Outcome::Bad, "status 503");
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp_and_nobody_there_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    check(&look(&target(address, Mode::Tcp)).await, Outcome::Good, "accepts connections");
    drop(listener);
    check(&look(&target(address, Mode::Tcp)).await, Outcome::Bad, "connection refused");
}

#[tokio::test]
async fn what_is_no_answer_is_bad() {
    let (address, _questions) = serve("nonsense\r\n\r\n", None).await;
    assert_eq!(look(&target(address, http(None, ""))).await.outcome, Outcome::Bad);
}

fn acceptor() -> (TlsAcceptor, String) {
    let key = rcgen::generate_simple_self_signed(["www.example.com".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
    (TlsAcceptor::from(Arc::new(config)), key.cert.pem())
}

#[tokio::test]
async fn https_with_and_without_an_authority() {
    let (acceptor, pem) = acceptor();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let (address, _questions) = serve(OK, Some(acceptor)).await;
    let unverified = http(Some(Tls::Unverified), "");
    check(&look(&target(address, unverified)).await, Outcome::Good, "status 200");
    let right = http(Some(Tls::Authority(file.clone())), "www.example.com:443");
    check(&look(&target(address, right)).await, Outcome::Good, "status 200");
    let other = http(Some(Tls::Authority(file)), "other.example.com");
    check(&look(&target(address, other)).await, Outcome::Bad, "TLS: ");
    let missing = http(Some(Tls::Authority(folder.path().join("no.pem"))), "www.example.com");
    check(&look(&target(address, missing)).await, Outcome::Bad, "ca_file");
    let (plain, _questions) = serve(OK, None).await;
    check(&look(&target(plain, http(Some(Tls::Unverified), ""))).await, Outcome::Bad, "TLS: ");
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_bad_and_looks_go_on() {
    // Accepts, by the kernel's backlog, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(listener.local_addr().unwrap(), http(None, ""));
    Arc::get_mut(&mut target.check).unwrap().timeout = Duration::from_millis(30);
    let (looked, mut looks) = mpsc::channel(4);
    let prober = tokio::spawn(run(target, Arc::default(), looked));
    for _ in 0..3 {
        let Looked { look, .. } = looks.recv().await.unwrap();
        check(&look, Outcome::Bad, "no answer in 30 ms");
    }
    prober.abort();
}
