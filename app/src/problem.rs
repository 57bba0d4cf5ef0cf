//! What goes wrong for a client: one type, rendered in one place.
//!
//! Handlers return a [`Problem`]; the outermost middleware writes it as `application/problem+json` (RFC 9457) with the
//! request id, or as a page when a browser asked for one. `detail` is for clients to read and never holds text of a
//! server's error: causes are logged, once, by the middleware.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// One refusal or failure, as the client sees it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// A short fixed word: the metric label, and the last part of the problem's `type`.
    pub(crate) kind: &'static str,
    /// What is wrong with this request, and what to do.
    pub(crate) detail: String,
    /// Seconds to wait before the next attempt.
    pub(crate) retry_after: Option<u32>,
    /// The cause, for the log only.
    pub(crate) cause: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None, cause: None }
    }

    /// 400: the request cannot be read.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 422: the request was read, and asks for something that cannot be.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(crate) fn not_logged_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not-logged-in", "log in first")
    }

    /// 503 with Retry-After: something that we need is away or busy.
    pub(crate) fn unavailable(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail) }
    }

    /// 500: our mistake.
    pub(crate) fn internal(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here; it was logged")
            .because(cause)
    }

    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What people call the status.
    pub(crate) fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// The body of RFC 9457, section 3.
    pub(crate) fn json(&self, request_id: &str) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            request_id: &'a str,
        }
        let body = Body {
            r#type: format!("urn:problem:{}", self.kind),
            title: self.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            request_id,
        };
        serde_json::to_string(&body).expect("strings and numbers serialise")
    }
}

/// A response without a body that carries the problem to the middleware.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_says_what_and_for_which_request() {
        let problem = Problem::invalid("sets: 0 is not from 1 to 100").because("secret cause");
        let body: serde_json::Value = serde_json::from_str(&problem.json("abc")).unwrap();
        assert_eq!(body["type"], "urn:problem:invalid");
        assert_eq!(body["status"], 422);
        assert_eq!(body["title"], "Unprocessable Entity");
        assert_eq!(body["request_id"], "abc");
        assert!(!body.to_string().contains("secret cause"));
    }
}
