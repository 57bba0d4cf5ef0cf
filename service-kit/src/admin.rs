//! The admin listener: `/livez /readyz /metrics /version` and `PUT /log-filter`, on a thread of its own so that it answers
//! when the data path is saturated.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use tower::ServiceExt as _;

use crate::telemetry::LogFilter;
use crate::{Metrics, Readiness, Tasks, net};

/// The admin listener's routes, which may grow after it started.
#[derive(Clone)]
pub(crate) struct Admin {
    extra: Arc<ArcSwap<Router>>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Admin")
    }
}

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

impl Admin {
    /// Binds and serves; the address is the one that was really bound.
    pub(crate) fn start(address: SocketAddr, facts: Facts) -> io::Result<(Self, SocketAddr)> {
        let listener = net::bind_tcp(address)?;
        let address = listener.local_addr()?;
        let admin = Self { extra: Arc::new(ArcSwap::from_pointee(Router::new())) };
        let routes = routes(facts, admin.extra.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async {
                let listener =
                    tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
                // Serves until the process ends: whoever waits for a drain wants to see it happen.
                let _ = axum::serve(listener, routes).await;
            });
        })?;
        Ok((admin, address))
    }

    pub(crate) fn merge(&self, routes: Router) {
        let all = Router::clone(&self.extra.load()).merge(routes);
        self.extra.store(Arc::new(all));
    }
}

fn routes(facts: Facts, extra: Arc<ArcSwap<Router>>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/log-filter", put(log_filter))
        .with_state(facts)
        .fallback(move |request: Request| {
            let router = Router::clone(&extra.load());
            async move { router.oneshot(request).await.unwrap_or_else(|never| match never {}) }
        })
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

async fn log_filter(State(facts): State<Facts>, headers: HeaderMap, body: Body) -> Response {
    // A page in somebody's browser can reach loopback too: browsers say so in these headers, tools do not send them.
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return (StatusCode::FORBIDDEN, "not from a web page\n").into_response();
    }
    let Ok(text) = axum::body::to_bytes(body, 1_024).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "a filter has at most 1024 bytes\n").into_response();
    };
    match std::str::from_utf8(&text)
        .map_err(|error| error.to_string())
        .and_then(|text| facts.log_filter.set(text.trim()))
    {
        Ok(()) => (StatusCode::OK, "changed\n").into_response(),
        Err(error) => {
            (StatusCode::BAD_REQUEST, format!("not a filter: {error}; write for example info,lb=debug\n"))
                .into_response()
        }
    }
}
