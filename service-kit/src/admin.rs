//! The admin listener: `/livez /readyz /metrics /version`, `PUT /log-filter` and what the program adds, on a thread of its
//! own so that it answers when the data path is saturated. [`door`] says who may do what.

mod door;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::serve::IncomingStream;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::info;

use crate::telemetry::LogFilter;
use crate::{Metrics, Readiness, Tasks};
pub(crate) use door::{Door, Hosts};

/// What the kit's own routes tell.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) program: &'static str,
    pub(crate) version: &'static str,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
    pub(crate) log_filter: LogFilter,
}

/// Where a program's own routes go; they come later than the listener, which answers from the first moment.
#[derive(Clone, Default)]
pub(crate) struct Admin {
    routes: Arc<OnceLock<Router>>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Admin")
    }
}

impl Admin {
    /// Serves from `opened` until the process ends (whoever waits for a drain wants to see it happen), or until another
    /// process has the listener.
    pub(crate) fn start(
        listener: std::net::TcpListener,
        facts: Facts,
        door: Door,
        opened: CancellationToken,
        handed_over: CancellationToken,
    ) -> io::Result<Self> {
        let admin = Self::default();
        let routes = routes(facts, admin.clone(), door);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async {
                opened.cancelled().await;
                let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
                let service = routes.into_make_service_with_connect_info::<Ends>();
                let served = axum::serve(listener, service);
                let _ = served.with_graceful_shutdown(handed_over.cancelled_owned()).await;
            });
        })?;
        Ok(admin)
    }

    pub(crate) fn add(&self, routes: Router) {
        assert!(self.routes.set(routes).is_ok(), "admin routes are added once, at start");
    }

    async fn dispatch(self, request: Request) -> Response {
        match self.routes.get() {
            Some(routes) => routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn routes(facts: Facts, admin: Admin, door: Door) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/log-filter", put(log_filter))
        .with_state(facts)
        .fallback(move |request: Request| admin.clone().dispatch(request))
        .layer(middleware::from_fn_with_state(Arc::new(door), enter))
}

/// Both ends of a connection to the admin listener; `ConnectInfo` in the routes of programs too.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The address that the connection came to.
    pub local: Option<SocketAddr>,
    /// Who asks.
    pub peer: SocketAddr,
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { local: stream.io().local_addr().ok(), peer: *stream.remote_addr() }
    }
}

/// Around every route, the program's included.
async fn enter(
    State(door): State<Arc<Door>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    request: Request,
    next: Next,
) -> Response {
    let local = ends.local.map(|address| address.ip());
    let mut response = match door.admit(
        request.method(),
        request.version(),
        request.uri(),
        request.headers(),
        local,
    ) {
        Ok(()) => {
            let change = (!request.method().is_safe())
                .then(|| (request.method().clone(), request.uri().path().to_owned()));
            let response = next.run(request).await;
            if let Some((method, path)) = change {
                info!(%method, path, from = %ends.peer, status = response.status().as_u16(), "admin request");
            }
            response
        }
        Err(refusal) => {
            let mut response = problem(refusal.status(), refusal.kind(), &refusal.to_string());
            if refusal.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    };
    harden(&mut response);
    response
}

/// What a browser needs to be told about everything here; a route's own words win.
fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// An answer that says what is wrong (RFC 9457): `{"type","title","status","reason","detail"}`. `reason` is for programs,
/// `detail` for people.
pub fn problem(status: StatusCode, reason: &str, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "reason": reason,
        "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], format!("{body}\n")).into_response()
}

async fn livez(State(facts): State<Facts>) -> (StatusCode, String) {
    match facts.tasks.dead() {
        dead if dead.is_empty() => (StatusCode::OK, "alive\n".into()),
        dead => (StatusCode::INTERNAL_SERVER_ERROR, format!("ended by a panic: {}\n", dead.join(", "))),
    }
}

async fn readyz(State(facts): State<Facts>) -> Response {
    let report = facts.readiness.report();
    let status = StatusCode::from_u16(report.http_status).expect("200 or 503");
    (status, [(header::CONTENT_TYPE, "application/json")], report.body).into_response()
}

async fn metrics(State(facts): State<Facts>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], facts.metrics.text()).into_response()
}

async fn version(State(facts): State<Facts>) -> Response {
    let body = serde_json::json!({ "program": facts.program, "version": facts.version }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn log_filter(State(facts): State<Facts>, body: Body) -> Response {
    let Ok(text) = axum::body::to_bytes(body, 1_024).await else {
        let detail = "a filter has at most 1024 bytes";
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail);
    };
    match std::str::from_utf8(&text)
        .map_err(|error| error.to_string())
        .and_then(|text| facts.log_filter.set(text.trim()))
    {
        Ok(()) => (StatusCode::OK, "changed\n").into_response(),
        Err(error) => {
            let detail = format!("not a filter: {error}; write for example info,lb=debug");
            problem(StatusCode::BAD_REQUEST, "bad-filter", &detail)
        }
    }
}
