//! What happens around every handler. From the outside in, with the reason for each place:
//!
//! 1. [`record`]: names the request, opens its span, counts it, renders problems and adds the headers that every answer
//!    has. Outermost, so that nothing escapes it.
//! 2. [`shed`]: too many requests in flight are refused before any work. Health checks pass.
//! 3. [`hurry`]: the deadline of the whole request; also catches panics of handlers.
//! 4. [`same_site`]: refuses what another site made a browser send.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use prometheus_client::metrics::gauge::Gauge;
use service_kit::trace::{TraceParent, X_REQUEST_ID, request_id};
use tracing::{Instrument as _, error, info_span, warn};

use crate::csrf;
use crate::metrics;
use crate::pages;
use crate::problem::Problem;
use crate::state::Shared;

const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

pub(crate) async fn record(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    // The balancer's id if there is one, so that one request has one name everywhere.
    let id = request_id(request.headers());
    let trace = TraceParent::continued(request.headers());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let wants_page = wants_page(request.headers()) && !request.uri().path().starts_with("/api/");
    let span = info_span!("request", %method, %route, request_id = id, trace_id = format_args!("{:032x}", trace.trace_id));

    let in_flight = InFlight::enter(&app.metrics.requests_in_flight);
    let response = next.run(request).instrument(span.clone()).await;
    drop(in_flight);

    let took = started.elapsed();
    let mut response = {
        let _entered = span.entered();
        render(response, &id, wants_page)
    };
    let labels = metrics::Request { method: method_label(&method), route, code: response.status().as_u16() };
    app.metrics.observe(&labels, took);
    let headers = response.headers_mut();
    headers.insert(X_SERVED_BY, app.instance.clone());
    headers.insert(X_REQUEST_ID, HeaderValue::from_str(&id).expect("request ids are plain text"));
    harden(headers);
    response
}

/// The methods of RFC 9110 and RFC 5789; clients may make up others, but no labels.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("OTHER")
}

/// Counts a request out also when its client hung up and nobody waits for it any more.
struct InFlight<'a>(&'a Gauge);

impl<'a> InFlight<'a> {
    fn enter(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Browsers name text/html; programs that send `*/*` or nothing get JSON.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// Gives a problem its body, and logs its cause: the only place that does.
fn render(mut response: Response, id: &str, wants_page: bool) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let (status, kind, cause) = (problem.status, problem.kind, problem.cause.as_deref().unwrap_or("none"));
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        error!(%status, kind, cause, "request failed");
    } else if status.is_server_error() && problem.cause.is_some() {
        // Without a cause it was shed, which the metrics count: under a flood the log must not be one too.
        warn!(%status, kind, cause, "request refused");
    }
    let (mut parts, _) = response.into_parts();
    let (kind, body) = match wants_page {
        true => ("text/html; charset=utf-8", pages::problem(&problem, id).into_string()),
        false => ("application/problem+json", problem.json(id)),
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

fn harden(headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    // Answers depend on cookies, and some set them: no shared cache may keep one unless its handler says so.
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "same-origin");
    set(header::X_FRAME_OPTIONS, "DENY");
    let is_page =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let policy = match is_page {
        true => pages::CONTENT_SECURITY_POLICY.clone(),
        false => HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    };
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
}

pub(crate) async fn shed(State(app): State<Shared>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/livez" | "/readyz") {
        return next.run(request).await;
    }
    let Ok(_permit) = app.in_flight.try_acquire() else {
        app.metrics.shed.get_or_create(&("limit", "requests").into()).inc();
        return Problem::unavailable("busy", "too many requests at once; try again in a moment")
            .into_response();
    };
    next.run(request).await
}

pub(crate) async fn hurry(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let handling = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(app.limits.request_timeout, handling).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::internal("the handler panicked").into_response(),
        Err(_) => Problem::unavailable("too-slow", "this took too long; it may or may not have happened")
            .because("request timeout")
            .into_response(),
    }
}

pub(crate) async fn same_site(request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match csrf::foreign(request.headers()) {
        Some(reason) if !safe => Problem::new(StatusCode::FORBIDDEN, "cross-site", reason).into_response(),
        _ => next.run(request).await,
    }
}
