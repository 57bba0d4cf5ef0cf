//! The admin listener: `/livez /readyz /metrics /version` and `PUT /log-filter`, on a thread of its own so that it answers
//! when the data path is saturated.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};

use crate::telemetry::LogFilter;
use crate::{Metrics, Readiness, Tasks, net};

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

/// Binds and serves; returns the address that was really bound.
pub(crate) fn start(address: SocketAddr, facts: Facts) -> io::Result<SocketAddr> {
    let listener = net::bind_tcp(address)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
            // Serves until the process ends: whoever waits for a drain wants to see it happen.
            let _ = axum::serve(listener, routes(facts)).await;
        });
    })?;
    Ok(address)
}

fn routes(facts: Facts) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/log-filter", put(log_filter))
        .with_state(facts)
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
