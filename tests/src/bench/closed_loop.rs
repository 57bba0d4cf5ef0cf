//! A closed-loop client on raw sockets: each connection sends its next request when the last answer was read in full. What
//! it measures is the subject's cost, not its latency under a given rate; that is what `stack load` is for.
//!
//! Origin and client share threads of their own, away from the thread that measures. Every answer must be 200 with the
//! expected length; the body of one in [`BODY_EVERY`] is compared.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::origin::{self, Page};
use crate::topology::SITE;

/// One answer in so many is compared byte for byte.
const BODY_EVERY: u64 = 1_000;
/// An answer that takes longer is a failure.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Longest answer head.
const HEAD_BYTES_MAX: usize = 8_192;

/// What is sent where.
#[derive(Debug, Clone)]
pub struct Load {
    /// The subject's listener.
    pub target: SocketAddr,
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// What is asked for.
    pub page: Page,
    /// Each request on a connection of its own.
    pub reconnects: bool,
    /// Each client first asks without a cookie and then sends the `route` cookie that it was given (or one that it made
    /// up, when the subject gives none because it only hashes what it gets).
    pub sticks: bool,
    /// The core that client and origin stay on.
    pub core: Option<usize>,
    /// Over TLS, if so.
    pub tls: Option<Tls>,
}

/// How clients speak TLS: one version and one cipher, so that all subjects do the same work.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tls")
    }
}

impl Tls {
    /// TLS 1.3 with AES-128-GCM; the site's certificate must be of this authority.
    pub fn trusting(authority: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).context("the authority's certificate")?)?;
        let mut provider = ring::default_provider();
        provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config).into()))
    }
}

/// One request on a connection of its own.
pub(super) async fn ask_once(target: SocketAddr, tls: Option<&Tls>) -> Result<()> {
    let page = Page::Small;
    let load =
        Load { target, connections: 1, page, reconnects: true, sticks: false, core: None, tls: tls.cloned() };
    Exchange::open(&load).await?.ask(&request(&load, ""), &page.body(), true).await
}

/// What was seen since the last look.
#[derive(Debug)]
pub struct Tally {
    /// Verified operations.
    pub operations: u64,
    /// Their latencies in microseconds.
    pub latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds in order");
        Self { operations: 0, latency }
    }
}

/// A load under way; ends when dropped.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    // Locked for an addition after each answer, and once a round by whoever looks.
    tally: Mutex<Tally>,
    wrong: Mutex<Option<String>>,
    stop: CancellationToken,
}

impl Shared {
    fn failed(&self, error: &anyhow::Error) {
        if !self.stop.is_cancelled() {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("{error:#}"));
        }
    }
}

/// Serves the origins without any client; the subject may probe them before the load begins.
pub fn start_origins(addresses: Vec<SocketAddr>, core: Option<usize>) -> Result<Running> {
    start_thread(core, move |shared| async move {
        if let Err(error) = origin::serve(addresses).await {
            shared.failed(&error);
        }
        shared.stop.cancelled().await;
    })
}

/// Starts the clients on a thread of their own.
pub fn start(load: Load) -> Result<Running> {
    start_thread(load.core, move |shared| clients(load, shared))
}

fn start_thread<F>(
    core: Option<usize>,
    work: impl FnOnce(Arc<Shared>) -> F + Send + 'static,
) -> Result<Running>
where
    F: Future<Output = ()> + 'static,
{
    let shared = Arc::new(Shared {
        tally: Mutex::new(Tally::new()),
        wrong: Mutex::new(None),
        stop: CancellationToken::new(),
    });
    let inside = Arc::clone(&shared);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("bench-load".into()).spawn(move || {
        if let Some(core) = core
            && let Err(error) = pin(core)
        {
            inside.failed(&error);
        }
        LocalSet::new().block_on(&runtime, work(inside));
    })?;
    Ok(Running { shared, thread: Some(thread) })
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("staying on core {core}"))
}

impl Running {
    /// What was done since the last call; the first wrong answer is an error.
    pub fn take(&self) -> Result<Tally> {
        if let Some(error) = self.shared.wrong.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            bail!("{error}");
        }
        let mut tally = self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut tally, Tally::new()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in it was shown already.
            let _ = thread.join();
        }
    }
}

async fn clients(load: Load, shared: Arc<Shared>) {
    let load = Arc::new(load);
    for number in 0..load.connections {
        let (load, shared) = (Arc::clone(&load), Arc::clone(&shared));
        tokio::task::spawn_local(async move {
            tokio::select! {
                ended = client(&load, &shared, number) => {
                    if let Err(error) = ended {
                        shared.failed(&error.context(format!("client {number}")));
                    }
                }
                () = shared.stop.cancelled() => {}
            }
        });
    }
    shared.stop.cancelled().await;
}

async fn client(load: &Load, shared: &Shared, number: usize) -> Result<()> {
    let expected = load.page.body();
    let mut exchange = Exchange::open(load).await?;
    let mut cookie = String::new();
    if load.sticks {
        exchange.ask(&request(load, ""), &expected, true).await?;
        let value = exchange.cookie().unwrap_or_else(|| format!("{number:032x}"));
        cookie = format!("Cookie: route={value}\r\n");
    }
    let request = request(load, &cookie);
    let mut count = 0;
    loop {
        let begun = Instant::now();
        if load.reconnects {
            exchange = Exchange::open(load).await?;
        }
        count += 1;
        exchange.ask(&request, &expected, count % BODY_EVERY == 1).await?;
        let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.operations += 1;
        tally.latency.saturating_record(us);
    }
}

fn request(load: &Load, cookie: &str) -> Bytes {
    let close = if load.reconnects { "Connection: close\r\n" } else { "" };
    format!(
        "GET {} HTTP/1.1\r\nHost: bench.example.com\r\nUser-Agent: stack-bench\r\nAccept: */*\r\n{cookie}{close}\r\n",
        load.page.path()
    )
    .into()
}

/// One connection and what was read on it.
struct Exchange {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    head: usize,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Exchange {
    async fn open(load: &Load) -> Result<Self> {
        let connecting = tokio::time::timeout(ANSWER_DEADLINE, TcpStream::connect(load.target));
        let stream = connecting.await.context("connecting took too long")?.context("connecting")?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &load.tls {
            None => Box::new(stream),
            Some(Tls(connector)) => {
                let shaking = connector.connect(ServerName::try_from(SITE)?, stream);
                let shaken = tokio::time::timeout(ANSWER_DEADLINE, shaking).await;
                Box::new(shaken.context("the TLS handshake took too long")?.context("TLS handshake")?)
            }
        };
        Ok(Self { stream, buffer: vec![0; HEAD_BYTES_MAX], head: 0 })
    }

    /// Sends a request and reads its answer in full.
    async fn ask(&mut self, request: &[u8], expected: &[u8], compares: bool) -> Result<()> {
        self.stream.write_all(request).await.context("sending a request")?;
        self.stream.flush().await.context("sending a request")?;
        let mut filled = 0;
        self.head = loop {
            filled += self.read(filled).await?;
            if let Some(end) = head_end(&self.buffer[..filled]) {
                break end;
            }
        };
        let head = &self.buffer[..self.head];
        ensure!(head.starts_with(b"HTTP/1.1 200 "), "answer {}", String::from_utf8_lossy(head));
        let length = field(head, "content-length").and_then(|value| value.parse().ok());
        ensure!(
            length == Some(expected.len()),
            "{} bytes expected in answer {}",
            expected.len(),
            String::from_utf8_lossy(head)
        );
        let whole = self.head + expected.len();
        if self.buffer.len() < whole {
            self.buffer.resize(whole, 0);
        }
        while filled < whole {
            filled += self.read(filled).await?;
        }
        ensure!(filled == whole, "{} bytes after the answer", filled - whole);
        ensure!(!compares || self.buffer[self.head..whole] == *expected, "the body is not the origin's");
        Ok(())
    }

    async fn read(&mut self, filled: usize) -> Result<usize> {
        ensure!(filled < self.buffer.len(), "more bytes than an answer has");
        match self.stream.read(&mut self.buffer[filled..]).await.context("reading an answer")? {
            0 => bail!("the connection ended after {filled} bytes of an answer"),
            count => Ok(count),
        }
    }

    /// The value of the `route` cookie that the last answer set.
    fn cookie(&self) -> Option<String> {
        let line = field(&self.buffer[..self.head], "set-cookie")?;
        Some(line.strip_prefix("route=")?.split(';').next()?.to_owned())
    }
}

/// Where the empty line after a head ends.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// A header field's value; `name` in lower case.
fn field<'head>(head: &'head [u8], name: &str) -> Option<&'head str> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        key.eq_ignore_ascii_case(name.as_bytes()).then(|| std::str::from_utf8(value.trim_ascii()).ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::eventually::eventually;

    /// The origin is spoken to without anybody in between.
    fn load(page: Page, reconnects: bool) -> (Running, Load) {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = free.local_addr().unwrap();
        drop(free);
        let origins = start_origins(vec![target], None).unwrap();
        // They listen once their thread has come to it.
        let listens = || std::net::TcpStream::connect(target).is_ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !listens() {
            assert!(Instant::now() < deadline, "nobody listens at {target}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let load = Load { target, connections: 2, page, reconnects, sticks: true, core: None, tls: None };
        (origins, load)
    }

    async fn run(load: Load) -> Result<Tally> {
        let running = start(load)?;
        eventually("answers come", Duration::from_secs(10), async || {
            let enough = running.shared.tally.lock().unwrap().operations > 20;
            enough || running.shared.wrong.lock().unwrap().is_some()
        })
        .await?;
        running.take()
    }

    #[tokio::test]
    async fn answers_are_counted() {
        for (page, reconnects) in [(Page::Small, false), (Page::Small, true), (Page::Large, false)] {
            let (origins, load) = load(page, reconnects);
            let tally = run(load).await.unwrap();
            assert!(tally.operations > 20 && tally.latency.len() == tally.operations);
            origins.take().unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_of_another_length_is_an_error() {
        let (_origins, mut load) = load(Page::Small, false);
        let error = {
            let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            load.target = other.local_addr().unwrap();
            std::thread::spawn(move || {
                let (mut stream, _) = other.accept().unwrap();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
                std::io::Write::write_all(&mut stream, answer).unwrap();
                std::thread::sleep(Duration::from_secs(1));
            });
            run(Load { connections: 1, ..load }).await.unwrap_err()
        };
        assert!(error.to_string().contains("128 bytes expected"), "{error}");
    }

    #[track_caller]
    fn check(head: &str, name: &str, value: Option<&str>) {
        assert_eq!(field(head.as_bytes(), name), value);
    }

    #[test]
    fn fields() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: y\r\n\r\n";
        check(head, "content-length", Some("12"));
        check(head, "x", Some("y"));
        check(head, "content", None);
        assert_eq!(head_end(head.as_bytes()), Some(head.len()));
        assert_eq!(head_end(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
