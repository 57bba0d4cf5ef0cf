//! Looks at one backend again and again: a fresh connection each time, so that a stopped process is found as surely as
//! a dead one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::config::HealthCheck;
use crate::health::Outcome;
use crate::roster::Event;
use crate::worker::Shared;

/// Longest health answer that is read.
const ANSWER_BYTES_MAX: usize = 16_384;
/// Between two looks, however many requests fail meanwhile.
const GAP: Duration = Duration::from_millis(25);

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) outcome: Outcome,
    /// For people: "status 500", "connection refused".
    pub(crate) reason: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: Option<u64>,
}

impl Look {
    fn bad(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Bad, reason: reason.into(), instance: None, generation: None }
    }
}

/// How the roster drives a prober.
#[derive(Debug, Default)]
pub(crate) struct Reins {
    /// Look now.
    pub(crate) nudge: Notify,
    /// Look more often: the backend is new or under suspicion.
    pub(crate) urgent: AtomicBool,
}

/// Probes until it is aborted.
pub(crate) async fn run(id: u64, address: SocketAddr, reins: Arc<Reins>, shared: Arc<Shared>) {
    loop {
        let check = shared.config.load().health.clone();
        let started = Instant::now();
        let look = tokio::time::timeout(check.timeout, look(address, &check))
            .await
            .unwrap_or_else(|_| Look::bad(format!("no answer in {} ms", check.timeout.as_millis())));
        if shared.events.send(Event::Looked { id, look }).await.is_err() {
            return;
        }
        tokio::time::sleep(GAP).await;
        // The roster has heard of the outcome by now, so `urgent` is up to date.
        let interval =
            if reins.urgent.load(Ordering::Relaxed) { check.start_interval } else { check.interval };
        let jitter = 1.0 + check.jitter * (fastrand::f64() * 2.0 - 1.0);
        let left = interval.mul_f64(jitter).saturating_sub(started.elapsed());
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = reins.nudge.notified() => {}
        }
    }
}

async fn look(address: SocketAddr, check: &HealthCheck) -> Look {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Look::bad("connection refused");
        }
        Err(error) => return Look::bad(error.to_string()),
    };
    let request = Request::get(check.path.as_str())
        .header(HOST, address.to_string())
        .header(USER_AGENT, "lb-health")
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a checked path and plain values make a request");
    let (mut sender, connection) = match handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return Look::bad(error.to_string()),
    };
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("status {status}, then {error}"))?;
        Ok::<_, String>(judge(status, &body.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    // The connection is driven here rather than in a task: when time is up both go.
    let answered = tokio::select! {
        biased;
        answered = exchange.as_mut() => answered,
        _ = connection => exchange.await,
    };
    answered.unwrap_or_else(Look::bad)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: String,
    instance: String,
    generation: String,
}

/// A status tells enough; a body in the form of our own programs tells who it is and whether it is going away.
fn judge(status: StatusCode, body: &[u8]) -> Look {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let outcome = match (answer.status.as_str(), status.is_success()) {
        ("draining", _) => Outcome::Draining,
        (_, true) => Outcome::Good,
        (_, false) => Outcome::Bad,
    };
    // It goes into a log line, so only plain names are believed.
    let plain = |text: &String| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let mut reason = format!("status {}", status.as_u16());
    if plain(&answer.status) {
        reason = format!("{reason} ({})", answer.status);
    }
    Look {
        outcome,
        reason,
        instance: Some(answer.instance).filter(plain),
        generation: u64::from_str_radix(&answer.generation, 16).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: &str) {
        let look = judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let instance = look.instance.unwrap_or("-".into());
        let generation = look.generation.map_or("-".into(), |generation| format!("{generation:x}"));
        let got = format!("{:?} {instance} {generation} {}", look.outcome, look.reason);
        assert_eq!(got, expected);
    }

    #[test]
    fn the_status_is_enough() {
        check(200, "", "Good - - status 200");
        check(204, "ok", "Good - - status 204");
        check(404, "", "Bad - - status 404");
        check(302, "", "Bad - - status 302");
    }

    #[test]
    fn our_own_programs_say_more() {
        check(
            200,
            r#"{"status":"ready","instance":"app-1","generation":"00000000000000ff","dependencies":[]}"#,
            "Good app-1 ff status 200 (ready)",
        );
        check(200, r#"{"status":"degraded","instance":"app-1"}"#, "Good app-1 - status 200 (degraded)");
        check(503, r#"{"status":"starting","instance":"app-1"}"#, "Bad app-1 - status 503 (starting)");
        check(
            503,
            r#"{"status":"draining","instance":"app-1","generation":"1"}"#,
            "Draining app-1 1 status 503 (draining)",
        );
    }

    #[test]
    fn odd_names_are_not_believed() {
        check(200, r#"{"status":"a b\n","instance":"x y","generation":"zz"}"#, "Good - - status 200");
        check(200, r#"{"status":1}"#, "Good - - status 200");
    }
}
