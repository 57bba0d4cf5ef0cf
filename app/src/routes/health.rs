//! What the balancer asks. The same as on the admin listener, but on the way that requests take.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};

use crate::problem::Problem;
use crate::state::Shared;

/// For balancers only: what they forward for others carries X-Forwarded-For, and which dependencies there are and why one
/// is away is not the public's business.
pub(crate) async fn readyz(State(app): State<Shared>, headers: HeaderMap) -> Response {
    if headers.contains_key("x-forwarded-for") {
        return Problem::not_found("there is nothing at this address").into_response();
    }
    let (status, body) = (app.ready)();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

pub(crate) async fn livez() -> &'static str {
    "alive\n"
}
