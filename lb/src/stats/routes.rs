//! The stats on the admin listener. Everything the page needs comes from here: nothing from elsewhere is loaded, and its
//! policy says so.

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;

use super::Source;
use super::csv::csv;

/// Scripts and styles from files of this listener only; nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn routes(source: Source) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/stats") }))
        .route("/stats", get(page))
        .route("/stats/page.css", get(|| file("text/css; charset=utf-8", include_str!("page/page.css"))))
        .route("/stats/page.js", get(|| file("text/javascript; charset=utf-8", include_str!("page/page.js"))))
        .route("/stats/icon.svg", get(|| file("image/svg+xml", include_str!("page/icon.svg"))))
        .route("/stats.json", get(json))
        .route("/stats.csv", get(table))
        .route("/stats;csv", get(table))
        .with_state(source)
}

async fn page() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
    (headers, include_str!("page/index.html"))
}

/// Asked for again after a minute: a page of the version before must not meet the JSON of this one for long.
async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=60")], text)
}

async fn json(State(source): State<Source>) -> impl IntoResponse {
    let body = serde_json::to_string(&source.read()).expect("plain structs serialise");
    ([(CONTENT_TYPE, "application/json")], body)
}

async fn table(State(source): State<Source>) -> impl IntoResponse {
    // As HAProxy sends it.
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], csv(&source.read()))
}
