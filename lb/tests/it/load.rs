//! Load at a fixed rate, every answer checked: half of the clients keep their connections, the others come with a new one
//! each time. Nobody tries twice: what fails is a request that somebody lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;

use crate::authority;
use crate::client::request;

/// Connections that are kept; each is used ten times a second.
const KEPT: usize = 20;
/// Requests a second of the kept ones, and as many on new connections.
const RATE_EACH: u32 = 200;
/// One load at a time, however many tests run: together they would only measure how busy the machine is.
static TURN: Semaphore = Semaphore::const_new(1);
/// For one request with its connection.
const DEADLINE: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kept: AtomicU64,
    pub(crate) new: AtomicU64,
    /// The first few failures in words.
    failures: std::sync::Mutex<Vec<String>>,
}

/// Load that runs until it is ended.
pub(crate) struct Load {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
    _turn: SemaphorePermit<'static>,
}

impl Load {
    /// Two thirds are `GET`, one third `POST` with a body that has to come back.
    pub(crate) async fn start(address: SocketAddr) -> Self {
        Self::start_to(Target { address, tls: None }).await
    }

    /// The same over TLS, to `fitness.example.com`.
    pub(crate) async fn start_over_tls(address: SocketAddr, client: ClientConfig) -> Self {
        Self::start_to(Target { address, tls: Some(Arc::new(client)) }).await
    }

    async fn start_to(target: Target) -> Self {
        let turn = TURN.acquire().await.unwrap();
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        let every = Duration::from_secs(1) / RATE_EACH;
        let pause = every * u32::try_from(KEPT).unwrap();
        for n in 0..KEPT {
            let (tally, stop, target) = (Arc::clone(&tally), Arc::clone(&stop), target.clone());
            clients.spawn(async move {
                let mut due = tokio::time::interval(pause);
                tokio::time::sleep(every * u32::try_from(n).unwrap()).await;
                let mut connection = None;
                for turn in n.. {
                    due.tick().await;
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    tally.note(&tally.kept, once(&target, &mut connection, turn).await);
                }
            });
        }
        let (counted, stopped) = (Arc::clone(&tally), Arc::clone(&stop));
        clients.spawn(async move {
            let mut due = tokio::time::interval(every);
            let mut in_flight = JoinSet::new();
            for turn in 0.. {
                due.tick().await;
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (tally, target) = (Arc::clone(&counted), target.clone());
                in_flight.spawn(async move {
                    tally.note(&tally.new, once(&target, &mut None, turn).await);
                });
                while in_flight.try_join_next().is_some() {}
            }
            in_flight.join_all().await;
        });
        Self { tally, stop, clients, _turn: turn }
    }

    /// Waits until so many more requests have succeeded on either kind of connection.
    pub(crate) async fn more(&self, requests: u64) {
        let seen = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (kept, new) = (seen(&self.tally.kept) + requests, seen(&self.tally.new) + requests);
        let waiting = async {
            while seen(&self.tally.kept) < kept || seen(&self.tally.new) < new {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(crate::process::PATIENCE, waiting).await;
        assert!(waited.is_ok(), "the load stands still: {:?}", self.tally);
    }

    /// How many failed so far.
    pub(crate) fn failed(&self) -> usize {
        self.tally.failures.lock().unwrap().len()
    }

    /// Ends it; gives back how many succeeded, and what failed.
    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let failures = std::mem::take(&mut *self.tally.failures.lock().unwrap());
        (self.tally.kept.load(Ordering::Relaxed) + self.tally.new.load(Ordering::Relaxed), failures)
    }

    /// Ends it and expects that nothing failed.
    pub(crate) async fn end_without_failure(self) {
        let (succeeded, failures) = self.end().await;
        eprintln!("  {succeeded} requests, {} failed", failures.len());
        assert!(failures.is_empty(), "{} failed of {succeeded}: {failures:#?}", failures.len());
        assert!(succeeded > 400, "only {succeeded} requests");
    }
}

impl Tally {
    fn note(&self, count: &AtomicU64, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
            Err(failure) => self.failures.lock().unwrap().push(failure),
        }
    }
}

/// Where to, and whether over TLS.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    async fn connect(&self) -> Result<Sender, String> {
        match &self.tls {
            None => {
                let stream = TcpStream::connect(self.address).await;
                speak(stream.map_err(|error| format!("connect: {error}"))?).await
            }
            Some(tls) => {
                let stream = authority::connect(tls, self.address, "fitness.example.com").await;
                speak(stream.map_err(|error| format!("connect over TLS: {error}"))?).await
            }
        }
    }
}

async fn speak<S>(stream: S) -> Result<Sender, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    tokio::spawn(connection);
    Ok(sender)
}

fn words(error: &dyn std::error::Error) -> String {
    let source = error.source().map_or_else(String::new, |it| format!(": {it}"));
    format!("{error}{source}")
}

type Sender = SendRequest<Full<Bytes>>;

async fn once(target: &Target, kept: &mut Option<Sender>, turn: usize) -> Result<(), String> {
    let outcome = tokio::time::timeout(DEADLINE, exchange(target, kept, turn)).await;
    let outcome = outcome.unwrap_or_else(|_| Err("no answer in time".into()));
    if outcome.is_err() {
        *kept = None;
    }
    outcome.map_err(|error| format!("request {turn}: {error}"))
}

async fn exchange(target: &Target, kept: &mut Option<Sender>, turn: usize) -> Result<(), String> {
    // A connection that the other side has ended, and said so, is no failure.
    if kept.as_ref().is_none_or(Sender::is_closed) {
        *kept = Some(target.connect().await?);
    }
    let sender = kept.as_mut().unwrap();
    sender.ready().await.map_err(|error| format!("not ready: {}", words(&error)))?;
    let (request, expected) = asked(turn);
    let (head, body) = sender.send_request(request).await.map_err(|error| words(&error))?.into_parts();
    let body = body.collect().await.map_err(|error| format!("cut: {}", words(&error)))?.to_bytes();
    let right = head.status == 200 && String::from_utf8_lossy(&body).ends_with(&expected);
    if right { Ok(()) } else { Err(format!("{} {body:?}", head.status)) }
}

fn asked(turn: usize) -> (Request<Full<Bytes>>, String) {
    if turn % 3 == 2 {
        let body = format!("body: number {turn}");
        return (request("POST /echo", &[], format!("number {turn}")), body);
    }
    (request("GET /", &[], ""), "hello".into())
}
