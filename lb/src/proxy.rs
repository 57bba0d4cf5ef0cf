//! One request's walk: checked, given its headers, tried on one backend after another, answered.

mod call;
mod choosing;
mod finish;
mod redirect;
mod sticking;

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tracing::debug;

use crate::affinity::Affinity;
use crate::balance::Algorithm;
use crate::body::{BackendBody, ResponseBody};
use crate::connection::{Client, Progress, Protocol};
use crate::failure::{Failure, problem_json};
use crate::head::Facts;
use crate::headers::{self, Identity, Lines, Scheme, Via};
use crate::limits::{self, Wait};
use crate::router::Route;
use crate::snapshot::{Pool, Snapshot};
use crate::tunnel::Tunnel;
use crate::upstream::Loan;
use crate::validate::{self, Refusal};
use crate::worker::Worker;
use call::{Call, Served};
use choosing::Choosing;
pub(crate) use finish::Finish;

/// Who answered, by its own word.
const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// Who was picked and why, by ours.
const X_LB_EXPLAIN: HeaderName = HeaderName::from_static("x-lb-explain");

/// Serves one request; every failure becomes an answer.
pub(crate) async fn serve(
    client: Rc<Client>,
    progress: Rc<Progress>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (worker, peer) = (&client.worker, client.address);
    let started = Instant::now();
    let nth = progress.begin(started);
    let snapshot = worker.shared.snapshot.load_full();
    let (head, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let identity = headers::identify(&head.headers);
    let facts = progress.facts();
    let finish = Finish::begin(&client, &progress, &snapshot, (&head, &identity), started);
    let walk = Walk {
        client: &client,
        worker,
        snapshot: &snapshot,
        facts,
        progress: &progress,
        identity: &identity,
        finish: &finish,
    };
    let mut response = match walk.forward(head, body).await {
        Ok(forwarded) => forwarded.into_response(finish, &progress),
        Err(problem) => {
            worker.shared.metrics.own_answer(problem.kind());
            debug!(%peer, request_id = ?identity.id, reason = problem.kind(), "answered without a backend");
            problem.into_response(&identity.id, has_body, finish)
        }
    };
    let last = worker.draining.is_cancelled() || nth >= snapshot.config.server.requests_per_connection_max;
    // A switch of protocols is the connection's last answer anyway. In HTTP/2 this field does not exist and is not sent.
    if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Why the balancer answers itself.
#[derive(Debug, Clone, Copy)]
enum Problem {
    Refused(Refusal),
    Failed(Failure),
    /// Its client asks too often.
    TooMany(Wait),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Wait> for Problem {
    fn from(wait: Wait) -> Self {
        Self::TooMany(wait)
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
            Self::TooMany(_) => "rate-limit",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Failed(failure) => failure.status(),
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn into_response(
        self,
        request_id: &HeaderValue,
        has_body: bool,
        finish: Finish,
    ) -> Response<ResponseBody> {
        let status = self.status();
        let detail = match self {
            Self::Refused(refusal) => refusal.to_string(),
            Self::Failed(failure) => failure.to_string(),
            Self::TooMany(_) => "more requests than one client may send".to_owned(),
        };
        let id = request_id.to_str().expect("ids are plain characters");
        let text = problem_json(status, self.kind(), &detail, id);
        finish.refused(&self, text.len());
        let mut response =
            Response::new(ResponseBody::Own { bytes: Some(Bytes::from(text)), _finish: finish });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // 405 and 501 may otherwise be kept by caches (RFC 9110, 15.1).
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(headers::X_REQUEST_ID, request_id.clone());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Self::TooMany(wait) = self {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.seconds()));
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
    client: &'a Client,
    worker: &'a Worker,
    snapshot: &'a Snapshot,
    facts: Facts,
    progress: &'a Rc<Progress>,
    identity: &'a Identity,
    finish: &'a Finish,
}

impl Walk<'_> {
    async fn forward(&self, mut head: Parts, body: Incoming) -> Result<Forwarded, Problem> {
        if self.client.protocol == Protocol::Http2 {
            headers::join_cookies(&mut head.headers);
        }
        let target = validate::target(&mut head, self.facts, &self.snapshot.config.limits)?;
        let config = &self.snapshot.config;
        let route = self.route(&head.headers, target.path());
        let body_bytes_max = self.admit(route, &head.headers, &body)?;
        let pool = &self.snapshot.pools[route.pool];
        self.finish.routed(pool);
        self.progress.answer_within(pool.config.upstream.body_timeout);
        let peer = self.client.address.ip();
        let metrics = &self.worker.shared.metrics;
        let affinity = sticking::read(self.snapshot, pool, &mut head.headers, self.client, metrics);
        let chunked = self.is_chunked(&head.headers, &body);
        let upgrade = self.wanted_upgrade(&head, &body);
        let (scheme, mut lines) = headers::to_backend(&mut head.headers, self.identity, &self.via());
        if let Some(port) = config.tls.as_ref().and_then(|tls| tls.redirect_port)
            && scheme == Scheme::Http
        {
            return Ok(self.redirect(&head.headers, &target, port, !body.is_end_stream()));
        }
        if let Some(upgrade) = &upgrade {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, upgrade.clone());
        }
        let key = match &pool.config.balance.algorithm {
            Algorithm::ConsistentHash { key, .. } => {
                lines.move_to(&mut head.headers);
                key.of(&head.headers, target.path(), peer)
            }
            _ => None,
        };
        // Nothing was waited for since.
        let (later, now) = (OnceCell::new(), self.finish.record().started);
        let choosing = Choosing::new(self.worker, pool, &later, (affinity.prefer, key), now);
        let outbound = Outbound {
            method: head.method,
            target,
            headers: head.headers,
            lines,
            upgrades: upgrade.is_some(),
            chunked,
        };
        if pool.config.sticky.is_some() {
            self.finish.record().affinity = Some(affinity.outcome.kind());
        }
        let mut call = Call::new(self.client, config, choosing, outbound, (self.progress, self.finish), now);
        call.take_body(body, body_bytes_max).await?;
        let served = call.run().await?;
        self.answer(served, pool, &affinity, &Wanted { scheme, upgrade })
    }

    /// Turns what a backend answered into what the client gets.
    fn answer(
        &self,
        served: Served<'_>,
        pool: &Pool,
        affinity: &Affinity,
        wanted: &Wanted,
    ) -> Result<Forwarded, Problem> {
        let (config, metrics) = (&self.snapshot.config, &self.worker.shared.metrics);
        let mut parts = served.answer.parts;
        parts.version = Version::HTTP_11;
        if parts.status.is_informational() {
            return self.switch(parts, wanted.upgrade.as_ref(), served.answer.switching, served.loan);
        }
        if parts.status == StatusCode::NO_CONTENT {
            // It has none (RFC 9110, 8.6), and in HTTP/2 one other than 0 is an error.
            parts.headers.remove(CONTENT_LENGTH);
        }
        let backend = &served.loan.lease.backend;
        backend.metrics.answered(parts.status);
        backend.metrics.latency.observe(self.finish.record().answered(parts.status, Instant::now()));
        self.worker.judge(pool, &served.entry.backend, Ok(parts.status));
        headers::to_client(&mut parts.headers, &self.identity.id);
        let by = (served.entry, served.overflowed);
        self.finish.record().cookie_set =
            sticking::write(pool, affinity, by, &mut parts.headers, wanted.scheme, metrics);
        if !config.expose.served_by {
            parts.headers.remove(X_SERVED_BY);
        }
        if config.expose.explain {
            let affinity = pool.config.sticky.as_ref().map(|_| affinity.outcome);
            let line = served.trace.header(&pool.config.name, affinity, served.entry);
            parts.headers.insert(X_LB_EXPLAIN, line);
        }
        if wanted.scheme == Scheme::Https
            && let Some(hsts) = config.tls.as_ref().and_then(|tls| tls.hsts.as_ref())
        {
            parts.headers.entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
        }
        // The rest of the upload will never be read.
        if served.upload.finished().is_none() {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let absent = self.absent_length(&parts);
        let body = Some(Rest { absent, loan: served.loan, upload: served.upload });
        Ok(Forwarded { parts, body })
    }

    /// Leaves the tunnel for the connection to go on with once this answer is written. Without a request to switch, or after
    /// a switch to something else, what follows is not an answer.
    fn switch(
        &self,
        mut parts: http::response::Parts,
        wanted: Option<&HeaderValue>,
        switching: Option<OnUpgrade>,
        loan: Loan,
    ) -> Result<Forwarded, Problem> {
        let wanted = wanted.filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS);
        let chosen = wanted.and_then(|wanted| headers::switched(&parts.headers, wanted));
        let (chosen, switching) = chosen.zip(switching).ok_or(Failure::BadResponse)?;
        loan.lease.backend.metrics.answered(parts.status);
        headers::to_client(&mut parts.headers, &self.identity.id);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, chosen);
        self.client.switch(Tunnel::new(switching, loan));
        Ok(Forwarded { parts, body: None })
    }

    fn via(&self) -> Via<'_> {
        let server = &self.snapshot.config.server;
        Via {
            client: self.client.address.ip(),
            client_value: &self.client.address_value,
            scheme: self.client.scheme,
            trusted: &server.trusted,
            forwarded: server.forwarded,
        }
    }

    /// Whether the body came without a length.
    fn is_chunked(&self, headers: &HeaderMap, body: &Incoming) -> bool {
        match self.client.protocol {
            Protocol::Http1 => headers.contains_key(TRANSFER_ENCODING),
            Protocol::Http2 => !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH),
        }
    }

    /// A request with a body is not switched: what follows it could be read as either.
    fn wanted_upgrade(&self, head: &Parts, body: &Incoming) -> Option<HeaderValue> {
        if !head.headers.contains_key(UPGRADE) || head.version != Version::HTTP_11 || !body.is_end_stream() {
            return None;
        }
        headers::wanted_upgrade(&head.headers)
    }

    /// What a 304 says of a body that it does not have (RFC 9110, 8.6): hyper writes it only for a body that has that length,
    /// and then writes none of it.
    fn absent_length(&self, parts: &http::response::Parts) -> Option<u64> {
        if parts.status != StatusCode::NOT_MODIFIED || self.client.protocol != Protocol::Http1 {
            return None;
        }
        parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    fn redirect(&self, headers: &HeaderMap, target: &PathAndQuery, port: u16, unread: bool) -> Forwarded {
        self.worker.shared.metrics.own_answer("redirect");
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let mut parts = Response::new(()).into_parts().0;
        parts.status = StatusCode::PERMANENT_REDIRECT;
        let location = redirect::location(host, target, port);
        parts.headers.insert(LOCATION, location);
        parts.headers.insert(headers::X_REQUEST_ID, self.identity.id.clone());
        if unread {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Forwarded { parts, body: None }
    }

    fn route(&self, headers: &HeaderMap, path: &str) -> &Route {
        // It was checked to be there, once and plain.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        self.snapshot.config.routes.route(host, path)
    }

    /// Refuses what a client may not take, before any backend hears of it; returns how long a body may be.
    fn admit(&self, route: &Route, headers: &HeaderMap, body: &Incoming) -> Result<u64, Problem> {
        let (limits, server) = (&self.snapshot.config.limits, &self.snapshot.config.server);
        if limits.rate.is_some() || route.limits.rate.is_some() {
            let client =
                limits::client(headers, self.client.address.ip(), (&server.trusted, server.forwarded));
            self.worker.shared.counts.request(client, route, limits, Instant::now())?;
        }
        let body_bytes_max = route.limits.body_bytes_max.unwrap_or(limits.body_bytes_max);
        if body.size_hint().lower() > body_bytes_max {
            return Err(Refusal::BodyLength.into());
        }
        Ok(body_bytes_max)
    }
}

/// What the client said that its answer depends on.
struct Wanted {
    scheme: Scheme,
    upgrade: Option<HeaderValue>,
}

/// A request as a backend gets it, without its body.
#[derive(Debug)]
struct Outbound {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    /// What is added to them.
    lines: Lines,
    /// It asks for a switch of protocols.
    upgrades: bool,
    /// The body came without a length.
    chunked: bool,
}

struct Forwarded {
    parts: http::response::Parts,
    body: Option<Rest>,
}

struct Rest {
    absent: Option<u64>,
    loan: Loan,
    upload: Rc<crate::body::Upload>,
}

impl Forwarded {
    fn into_response(self, finish: Finish, progress: &Rc<Progress>) -> Response<ResponseBody> {
        let body = match self.body {
            Some(Rest { absent, loan, upload }) => {
                ResponseBody::Backend(BackendBody::new(absent, loan, upload, Rc::clone(progress), finish))
            }
            None => {
                finish.bodiless(self.parts.status);
                ResponseBody::Own { bytes: None, _finish: finish }
            }
        };
        Response::from_parts(self.parts, body)
    }
}
