//! What the balancer asks. The same as on the admin listener, but on the way that requests take.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

use crate::state::Shared;

pub(crate) async fn readyz(State(app): State<Shared>) -> Response {
    let (status, body) = (app.ready)();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

pub(crate) async fn livez() -> &'static str {
    "alive\n"
}
