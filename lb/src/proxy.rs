//! One request's walk: checked, given its headers, tried on one backend after another, answered.

mod call;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use tracing::debug;

use crate::affinity::{self, Affinity};
use crate::body::{BackendBody, ResponseBody};
use crate::config::{Config, Sticky};
use crate::connection::Progress;
use crate::cookies::{self, Found};
use crate::failure::{Failure, problem_json};
use crate::headers::{self, Scheme};
use crate::metrics::Histogram;
use crate::snapshot::Snapshot;
use crate::ticket::{self, Ticket};
use crate::validate::{self, Refusal};
use crate::worker::Worker;
use call::Call;

/// Serves one request; every failure becomes an answer.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    peer: SocketAddr,
    progress: Rc<Progress>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let started = Instant::now();
    let nth = progress.begin(started);
    let config = worker.shared.config.load_full();
    let metrics = &worker.shared.metrics;
    metrics.requests.inc();
    metrics.inflight.inc();
    let finish = Finish {
        started,
        latency: metrics.latency.clone(),
        inflight: metrics.inflight.clone(),
        progress: Rc::clone(&progress),
    };
    let (mut head, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let request_id = headers::identify(&mut head.headers);
    let walk = Walk { worker: &worker, config: &config, peer, progress: &progress, request_id: &request_id };
    let mut response = match walk.forward(head, body).await {
        Ok(forwarded) => forwarded.into_response(finish, &progress),
        Err(problem) => {
            metrics.own_answer(problem.kind());
            debug!(%peer, request_id, reason = problem.kind(), "answered without a backend");
            problem.into_response(&request_id, has_body, finish)
        }
    };
    if worker.draining.is_cancelled() || nth >= config.server.requests_per_connection_max {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Runs when a request and its answer are over, however they ended.
#[derive(Debug)]
pub(crate) struct Finish {
    started: Instant,
    latency: Histogram,
    inflight: Gauge,
    progress: Rc<Progress>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        let now = Instant::now();
        self.latency.observe(now.saturating_duration_since(self.started));
        self.inflight.dec();
        self.progress.finish(now);
    }
}

/// Why the balancer answers itself.
#[derive(Debug, Clone, Copy)]
enum Problem {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Problem {
    fn kind(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Failed(failure) => failure.kind(),
        }
    }

    fn into_response(self, request_id: &str, has_body: bool, finish: Finish) -> Response<ResponseBody> {
        let (status, detail) = match self {
            Self::Refused(refusal) => (refusal.status(), refusal.to_string()),
            Self::Failed(failure) => (failure.status(), failure.to_string()),
        };
        let text = problem_json(status, self.kind(), &detail, request_id);
        let mut response =
            Response::new(ResponseBody::Own { bytes: Some(Bytes::from(text)), _finish: finish });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // 405 and 501 may otherwise be kept by caches (RFC 9110, 15.1).
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            headers::X_REQUEST_ID,
            HeaderValue::from_str(request_id).expect("ids are plain characters"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        // What is left of a body that nobody read could be taken for the next request. And who sends a request that has
        // two readings gets no second one on this connection.
        if has_body || matches!(self, Self::Refused(_)) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What one request is forwarded with.
struct Walk<'a> {
    worker: &'a Worker,
    config: &'a Config,
    peer: SocketAddr,
    progress: &'a Rc<Progress>,
    request_id: &'a str,
}

impl Walk<'_> {
    async fn forward(&self, mut head: Parts, body: Incoming) -> Result<Forwarded, Problem> {
        let target = validate::target(&head)?;
        let snapshot = self.worker.shared.snapshot.load_full();
        let affinity = self.affinity(&mut head.headers, &snapshot);
        let chunked = head.headers.contains_key(http::header::TRANSFER_ENCODING);
        let scheme =
            headers::to_backend(&mut head.headers, self.peer, Scheme::Http, &self.config.server.trusted);
        let outbound =
            Outbound { method: head.method, uri: Uri::from(target), headers: head.headers, chunked };
        let mut call = Call::new(self.worker, self.config, &snapshot, outbound, affinity, self.progress);
        call.take_body(body).await?;
        let served = call.run().await?;
        let (mut parts, body) = served.response.into_parts();
        // Nobody was asked to switch protocols, so whatever follows is not an answer.
        if parts.status.is_informational() {
            return Err(Failure::BadResponse.into());
        }
        served.loan.lease.backend.metrics.answered(parts.status);
        parts.version = Version::HTTP_11;
        headers::to_client(&mut parts.headers, self.request_id);
        let pin = snapshot.entries[served.index].pin;
        if let Some(sticky) = &self.config.sticky
            && !headers::is_shared(&parts.headers)
            && let Some(ticket) = affinity::renew(&affinity, pin, served.overflowed, now_s(), sticky.lifetime)
        {
            parts.headers.append(SET_COOKIE, cookie(sticky, &ticket, scheme));
            self.worker.shared.metrics.cookies_issued.inc();
        }
        // The rest of the upload will never be read.
        if served.upload.finished().is_none() {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(Forwarded { parts, body, served: Rest { loan: served.loan, upload: served.upload } })
    }

    /// Reads the sticky cookie and takes it out of the request, whatever the mode: it is nobody else's business.
    fn affinity(&self, headers: &mut HeaderMap, snapshot: &Snapshot) -> Affinity {
        let Some(sticky) = &self.config.sticky else { return Affinity::none(affinity::Outcome::Absent) };
        let affinity = match cookies::take(headers, &sticky.cookie) {
            Found::Nothing => Affinity::none(affinity::Outcome::Absent),
            Found::Several => Affinity::none(affinity::Outcome::Duplicated),
            Found::One(value) => match sticky.sealer.open(&value, now_s()) {
                Ok(ticket) => affinity::follow(ticket, &snapshot.entries),
                Err(bad) => Affinity::none(affinity::Outcome::Refused(bad)),
            },
        };
        self.worker.shared.metrics.cookie(affinity.outcome);
        affinity
    }
}

/// A request as a backend gets it, without its body.
#[derive(Debug)]
struct Outbound {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// The body came without a length.
    chunked: bool,
}

struct Forwarded {
    parts: http::response::Parts,
    body: Incoming,
    served: Rest,
}

struct Rest {
    loan: crate::upstream::Loan,
    upload: Rc<crate::body::Upload>,
}

impl Forwarded {
    fn into_response(self, finish: Finish, progress: &Rc<Progress>) -> Response<ResponseBody> {
        let Rest { loan, upload } = self.served;
        let body = BackendBody::new(self.body, loan, upload, Rc::clone(progress), finish);
        Response::from_parts(self.parts, ResponseBody::Backend(body))
    }
}

fn cookie(sticky: &Sticky, ticket: &Ticket, scheme: Scheme) -> HeaderValue {
    let value = sticky.sealer.seal(ticket, ticket::nonce());
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let (name, seconds) = (&sticky.cookie, sticky.lifetime.as_secs());
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).expect("a cookie of letters and digits is a valid value")
}

fn now_s() -> u64 {
    // Before 1970 no cookie is valid, which is the safe side.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
