//! Looks at one target again and again: a fresh connection each time, so that a stopped process is found as surely as a
//! dead one.

use crate::steering::plan::{Http, Mode, Target, Tls};
use crate::steering::table::Look;
use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http_body_util::Empty;
use rustls::pki_types::ServerName;
use service_kit::health::Outcome;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

mod tls;

/// Between two looks, however urgent.
const GAP: Duration = Duration::from_millis(10);

/// One look at one target.
#[derive(Debug)]
pub struct Looked {
    pub target: Target,
    pub look: Look,
}

/// Looks until it is aborted. `urgent` says whether the target is new or under suspicion.
pub async fn run(target: Target, urgent: Arc<AtomicBool>, looked: mpsc::Sender<Looked>) {
    let check = target.check.clone();
    if check.mode == Mode::Off {
        return;
    }
    loop {
        let started = Instant::now();
        let look = tokio::time::timeout(check.timeout, look(&target))
            .await
            .unwrap_or_else(|_| bad(format!("no answer in {} ms", check.timeout.as_millis())));
        if looked.send(Looked { target: target.clone(), look }).await.is_err() {
            return;
        }
        // Its owner has heard of the outcome by then, so `urgent` is up to date.
        tokio::time::sleep(GAP).await;
        let interval = if urgent.load(Ordering::Relaxed) { check.start_interval } else { check.interval };
        let jitter = f64::from(check.jitter_percent) / 100.0;
        let wait = interval.mul_f64(1.0 + jitter * (fastrand::f64() * 2.0 - 1.0));
        tokio::time::sleep(wait.saturating_sub(started.elapsed())).await;
    }
}

fn bad(reason: impl Into<String>) -> Look {
    Look { outcome: Outcome::Bad, reason: reason.into() }
}

/// Connects anew and asks what the mode says. Has no deadline of its own.
async fn look(target: &Target) -> Look {
    let stream = match TcpStream::connect(target.socket()).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return bad("connection refused"),
        Err(error) => return bad(error.to_string()),
    };
    let asked = match &target.check.mode {
        Mode::Off | Mode::Tcp => {
            return Look { outcome: Outcome::Good, reason: "it accepts connections".into() };
        }
        Mode::Http(http) => ask(stream, target, http).await,
    };
    asked.unwrap_or_else(bad)
}

async fn ask(stream: TcpStream, target: &Target, http: &Http) -> Result<Look, String> {
    let host = if http.host.is_empty() { target.socket().to_string() } else { http.host.clone() };
    let request = Request::get(http.path.as_str())
        .header(HOST, &host)
        .header(USER_AGENT, "dns-health")
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (status, _) = match &http.tls {
        None => service_kit::probe::exchange(stream, request).await?,
        Some(terms) => {
            let name = server_name(target, http)?;
            let connector = TlsConnector::from(Arc::new(tls::client(terms)?));
            let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
            service_kit::probe::exchange(stream, request).await?
        }
    };
    let is_expected = http.statuses.iter().any(|range| range.contains(&status.as_u16()));
    let outcome = if is_expected { Outcome::Good } else { Outcome::Bad };
    Ok(Look { outcome, reason: format!("status {}", status.as_u16()) })
}

/// The name in the certificate: the host without its port, or the target's address.
fn server_name(target: &Target, http: &Http) -> Result<ServerName<'static>, String> {
    let host = http.host.rsplit_once(':').map_or(http.host.as_str(), |(host, _)| host);
    if host.is_empty() {
        return Ok(ServerName::IpAddress(target.address.into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name for a certificate"))
}

#[cfg(test)]
mod tests;
