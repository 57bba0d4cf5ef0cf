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
        notice: String::new(),
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
async fn readiness_is_for_balancers_not_for_their_clients() {
    let app = app(8, Duration::from_secs(5));
    let forwarded = Request::get("/readyz").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(ask(&app, forwarded, "").await.0.status(), StatusCode::NOT_FOUND);
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

#[tokio::test]
async fn json_bodies_are_objects() {
    let app = app(8, Duration::from_secs(5));
    for body in [r#"["front-squat", 3, 8]"#, "null", "7"] {
        let add = Request::post("/api/plan").header("content-type", "application/json");
        let (response, text) = ask(&app, add, body).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert!(text.contains("must be an object"), "{text}");
    }
    let add = Request::post("/api/plan").header("content-type", "application/json");
    assert_eq!(ask(&app, add, "[").await.0.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn logging_out_by_json_takes_no_form() {
    let app = app(8, Duration::from_secs(5));
    for (kind, status) in
        [("application/x-www-form-urlencoded", 415), ("text/plain", 415), ("application/json", 204)]
    {
        let request = Request::post("/api/logout").header("content-type", kind);
        assert_eq!(ask(&app, request, "{}").await.0.status(), status, "{kind}");
    }
    assert_eq!(ask(&app, Request::post("/api/logout"), "").await.0.status(), StatusCode::NO_CONTENT);
}

/// A page's form token and the cookie that it needs.
async fn form(app: &Shared, path: &str) -> (String, String) {
    let (response, page) = ask(app, Request::get(path), "").await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let token =
        page.split_once("name=\"form_token\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
    (token, cookie)
}

#[tokio::test]
async fn forms_are_read_to_their_end() {
    let app = app(8, Duration::from_secs(5));
    let (token, cookie) = form(&app, "/register").await;
    // As programs write it; browsers escape these.
    for tail in ["%23", "#", "<\"^`{", " "] {
        let request = Request::post("/register")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", &cookie);
        let body = format!("email=a@b.example&password={tail}1234567&form_token={token}");
        // Long enough only when nothing is cut off: then the database is asked, and is away.
        assert_eq!(ask(&app, request, &body).await.0.status(), StatusCode::SERVICE_UNAVAILABLE, "{tail}");
    }
}

#[tokio::test]
async fn clients_cannot_make_labels() {
    let app = app(8, Duration::from_secs(5));
    for method in ["MADE", "UP"] {
        let request = Request::builder().method(method).uri(format!("/{method}"));
        ask(&app, request, "").await;
    }
    let counted = crate::metrics::Request { method: "OTHER", route: "none".to_owned(), code: 404 };
    assert_eq!(app.metrics.requests.get_or_create(&counted).get(), 2);
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let app = app(8, Duration::from_secs(5));
    let request = Request::post("/plan").header("content-type", "application/x-www-form-urlencoded");
    let (_, body) = ask(&app, request, "slug=plank").await;
    assert!(body.contains("the form does not fit: missing field `sets`"), "{body}");
    let (_, body) = ask(&app, Request::get("/api/exercises?q=a&limit=x"), "").await;
    assert!(body.contains("the query string does not fit: limit: invalid digit"), "{body}");
}
