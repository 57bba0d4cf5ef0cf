//! How much a stack can do: so many connections that ask again as soon as they were answered. An open-loop load finds out
//! what visitors feel; what a machine can carry is found by never letting it wait for work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::Full;

use crate::http_client::{BODY_BYTES_MAX, Connection, Response, collect, open};
use crate::topology::SITE;

/// Beyond it an answer is a failure.
const DEADLINE: Duration = Duration::from_secs(5);
/// After a failure, so that a dead server is not asked a million times.
const PAUSE: Duration = Duration::from_millis(20);

/// What was carried in the time that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Capacity {
    /// Complete 2xx.
    pub(super) answered: u64,
    /// Of these, from the cache.
    pub(super) hits: u64,
    /// Everything else.
    pub(super) failed: u64,
    /// Complete 2xx a second.
    pub(super) per_second: f64,
}

/// How to find out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) address: SocketAddr,
    pub(super) connections: usize,
    /// Not counted: queues fill, and what was left over from before is done.
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    hits: AtomicU64,
    failed: AtomicU64,
}

impl Probe {
    /// The same load, of which nothing is counted. What an app does at first (connections to Postgres, statements to prepare,
    /// memory to ask for) it does once, and with a small part of a CPU for longer than a request may take.
    pub(super) async fn warm(self, path: impl Fn(u64) -> String + Send + Sync + 'static) -> Result<()> {
        self.run(path).await.map(drop)
    }

    /// Asks for `path(n)`, n from 0.
    pub(super) async fn run(self, path: impl Fn(u64) -> String + Send + Sync + 'static) -> Result<Capacity> {
        let (path, next, tally) = (Arc::new(path), Arc::new(AtomicU64::new(0)), Arc::new(Tally::default()));
        let from = Instant::now() + self.warm_up;
        let until = from + self.measured;
        let clients = (0..self.connections).map(|_| {
            let (path, next, tally) = (Arc::clone(&path), Arc::clone(&next), Arc::clone(&tally));
            tokio::spawn(async move {
                let mut connection = None;
                while Instant::now() < until {
                    let path = path(next.fetch_add(1, Ordering::Relaxed));
                    let outcome =
                        tokio::time::timeout(DEADLINE, ask(self.address, &mut connection, &path)).await;
                    let now = Instant::now();
                    let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("late")));
                    if (from..until).contains(&now) {
                        tally.note(outcome.as_ref().ok());
                    }
                    if outcome.is_err() {
                        connection = None;
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await?;
        }
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let answered = count(&tally.answered);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let per_second = answered as f64 / self.measured.as_secs_f64();
        Ok(Capacity { answered, hits: count(&tally.hits), failed: count(&tally.failed), per_second })
    }
}

impl Tally {
    fn note(&self, response: Option<&Response>) {
        let add = |it: &AtomicU64| it.fetch_add(1, Ordering::Relaxed);
        let Some(response) = response else {
            add(&self.failed);
            return;
        };
        add(&self.answered);
        if response.header("x-cache") == "hit" {
            add(&self.hits);
        }
    }
}

/// One request on a kept connection, or on a new one.
pub(super) async fn ask(address: SocketAddr, kept: &mut Option<Connection>, path: &str) -> Result<Response> {
    // A connection that the server has closed since is no failure of this request.
    if kept.as_ref().is_none_or(|it| it.sender.is_closed()) {
        *kept = Some(open(address).await?);
    }
    let connection = kept.as_mut().expect("just opened");
    connection.sender.ready().await?;
    let request = Request::get(path).header(HOST, SITE).body(Full::new(Bytes::new()))?;
    let (head, body) = connection.sender.send_request(request).await?.into_parts();
    let body = collect(body, BODY_BYTES_MAX)
        .await
        .map_err(|(_, reason)| anyhow::anyhow!("cut after {}: {reason}", head.status))?;
    ensure!(head.status.is_success(), "{}", head.status);
    Ok(Response { status: head.status, headers: head.headers, body })
}

/// Adds up what several probes counted.
pub(super) fn failed<'a>(all: impl IntoIterator<Item = &'a Capacity>) -> u64 {
    all.into_iter().map(|it| it.failed).sum()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::http_client::fake::serve;

    fn probe(address: SocketAddr) -> Probe {
        let (warm_up, measured) = (Duration::from_millis(20), Duration::from_millis(200));
        Probe { address, connections: 3, warm_up, measured }
    }

    #[tokio::test]
    async fn counts_answers_hits_and_failures_apart() {
        let server = serve(|request: Request<hyper::body::Incoming>| async move {
            let status = if request.uri().path() == "/bad" { 503 } else { 200 };
            let body = Full::new(Bytes::from_static(b"x"));
            http::Response::builder().status(status).header("x-cache", "hit").body(body).unwrap()
        })
        .await;
        let path = |n: u64| if n.is_multiple_of(4) { "/bad".to_owned() } else { format!("/good/{n}") };
        let seen = probe(server.address).run(path).await.unwrap();
        assert!(seen.answered > 0 && seen.failed > 0, "{seen:?}");
        assert_eq!(seen.hits, seen.answered);
        assert!((seen.per_second - seen.answered as f64 / 0.2).abs() < 1e-6);
        assert_eq!(failed([&seen, &seen]), 2 * seen.failed);
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure_and_no_spin() {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let seen = probe(nobody).run(|_| "/".to_owned()).await.unwrap();
        assert_eq!(seen.answered, 0);
        assert!((1..=60).contains(&seen.failed), "{seen:?}");
    }
}
