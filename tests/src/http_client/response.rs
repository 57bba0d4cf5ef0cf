//! Complete responses, and what makes one incomplete.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

/// 16 MiB: larger than any page of the site; a body beyond it is an error, not a memory problem.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A complete response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

impl Response {
    /// A header as text; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text, with replacement characters where it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// What a body that was not read to its end failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// The connection ended before the length, or the last chunk, that was announced.
    Cut,
    /// It was longer than the caller's limit.
    TooLong,
}

/// Reads a body to its announced end; hyper checks content-length and chunks.
pub(crate) async fn collect(body: Incoming, bytes_max: usize) -> Result<Bytes, (BodyFault, String)> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err((BodyFault::TooLong, format!("longer than {bytes_max} bytes")))
        }
        Err(error) => Err((BodyFault::Cut, error.to_string())),
    }
}
