//! The site without sockets and servers: sessions in memory, databases that are not there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Request, StatusCode};
use session_store::{MemoryStore, Policy, Store};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::site;
use crate::cache::Cache;
use crate::config::{PoolLimits, Security, Server};
use crate::db::Database;
use crate::dsn::Dsn;
use crate::metrics::Metrics;
use crate::password::Passwords;
use crate::search::HashedNgrams;
use crate::searches::Searches;
use crate::server::random_ring;
use crate::state::{App, Shared};

fn app(requests_max: usize, request_timeout: Duration) -> Shared {
    let metrics = Metrics::new();
    let limits = PoolLimits {
        connections_max: 1,
        connect_timeout: Duration::from_millis(200),
        acquire_timeout: Duration::from_millis(200),
        query_timeout: Duration::from_millis(200),
    };
    // Port 1 of the loopback: nobody is there.
    let dsn = Dsn::parse("postgres://app@127.0.0.1:1/none", &service_kit::Secret::default()).unwrap();
    let data = Arc::new(Database::new(&dsn, limits, metrics.clone()));
    let searches = Searches {
        data: data.clone(),
        search: data.clone(),
        embedder: Arc::new(HashedNgrams::new()),
        cache: Cache::new(Duration::from_millis(50), metrics.clone()),
        ttl: Duration::from_secs(1),
        stale: Duration::from_secs(1),
        metrics: metrics.clone(),
        flights: Mutex::default(),
    };
    let security = Security {
        signing_keys: None,
        password_hashes_at_once: 1,
        password_waiters_max: 1,
        password_wait: Duration::from_millis(50),
    };
    Arc::new(App {
        instance: HeaderValue::from_static("app-1"),
        limits: Server {
            listen: ([127, 0, 0, 1], 0).into(),
            connections_max: 1,
            requests_max,
            request_timeout,
            header_timeout: Duration::from_secs(1),
            header_bytes_max: 8192,
            body_bytes_max: 1024,
        },
        in_flight: Semaphore::new(requests_max),
        sessions: Store::Memory(MemoryStore::new(Policy::default())),
        session_deadline: Duration::from_millis(200),
        data,
        searches: Arc::new(searches),
        passwords: Passwords::new(&security, metrics.clone()),
        signing_keys: random_ring(),
        ready: Arc::new(|| (503, "{\"status\":\"starting\"}".to_owned())),
        metrics,
    })
}

async fn ask(app: &Shared, request: http::request::Builder, body: &str) -> (Response, String) {
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = site(app.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (Response::from_parts(parts, Body::empty()), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_plan_needs_no_database() {
    let app = app(8, Duration::from_secs(5));
    let add = Request::post("/api/plan").header("content-type", "application/json; charset=utf-8");
    let (response, body) = ask(&app, add, r#"{"slug":"front-squat","sets":3,"reps":8}"#).await;
    assert_eq!(
        (response.status(), body.as_str()),
        (StatusCode::OK, r#"{"items":[{"slug":"front-squat","sets":3,"reps":8}]}"#)
    );
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (_, body) = ask(&app, Request::get("/api/plan").header("cookie", cookie), "").await;
    assert!(body.contains("front-squat"), "{body}");
    let (_, body) = ask(&app, Request::get("/api/plan"), "").await;
    assert_eq!(body, r#"{"items":[]}"#);
}

#[tokio::test]
async fn every_answer_says_who_gave_it() {
    let app = app(8, Duration::from_secs(5));
    for path in ["/", "/livez", "/readyz", "/nothing", "/api/exercises?q=squat", "/api/me"] {
        let (response, _) = ask(&app, Request::get(path), "").await;
        assert_eq!(response.headers()["x-served-by"], "app-1", "{path}");
        assert!(response.headers().contains_key("x-request-id"), "{path}");
        assert!(!response.headers().contains_key("set-cookie"), "{path}");
    }
}

#[tokio::test]
async fn too_many_at_once_are_shed_but_health_checks_pass() {
    let app = app(0, Duration::from_secs(5));
    let (response, body) = ask(&app, Request::get("/"), "").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(body.contains("urn:problem:busy"), "{body}");
    assert_eq!(ask(&app, Request::get("/livez"), "").await.0.status(), StatusCode::OK);
    assert_eq!(ask(&app, Request::get("/readyz"), "").await.1, "{\"status\":\"starting\"}");
}

#[tokio::test]
async fn a_slow_request_ends() {
    // Shorter than the database's own deadlines, which nothing answers within.
    let app = app(8, Duration::from_millis(1));
    let (response, body) = ask(&app, Request::get("/api/exercises/front-squat"), "").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("urn:problem:too-slow"), "{body}");
}

#[tokio::test]
async fn a_database_that_is_away_is_said_so() {
    let app = app(8, Duration::from_secs(5));
    let (response, body) = ask(&app, Request::get("/api/exercises?q=squat"), "").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    assert!(body.contains("urn:problem:database-away"), "{body}");
    assert!(!body.contains("127.0.0.1"), "addresses stay inside: {body}");
}

#[tokio::test]
async fn browsers_get_pages_and_programs_get_problems() {
    let app = app(8, Duration::from_secs(5));
    let (page, _) = ask(&app, Request::get("/nothing").header("accept", "text/html"), "").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("style-src 'sha256-"), "{policy}");
    let (api, _) = ask(&app, Request::get("/api/nothing").header("accept", "text/html"), "").await;
    assert_eq!(api.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let app = app(8, Duration::from_secs(5));
    let add = Request::post("/api/plan").header("content-type", "application/json");
    let (response, _) = ask(&app, add, &" ".repeat(1025)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
