//! Why a request brought no complete response.

use std::net::SocketAddr;

use http::StatusCode;

/// Why a request brought no complete response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection could not be opened.
    #[error("connecting to {address}: {reason}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// The system's words.
        reason: String,
    },
    /// The exchange broke before the response's head was complete.
    #[error("{address}: {source}")]
    Exchange {
        /// Where to.
        address: SocketAddr,
        /// hyper's words.
        source: hyper::Error,
    },
    /// The response's body ended early or was too long.
    #[error("{address}: body of a {status} response: {reason}")]
    Body {
        /// Where to.
        address: SocketAddr,
        /// The status that came before the body.
        status: StatusCode,
        /// What went wrong.
        reason: String,
    },
    /// The deadline passed.
    #[error("{address}: no complete response within {deadline_ms} ms")]
    Timeout {
        /// Where to.
        address: SocketAddr,
        /// The deadline.
        deadline_ms: u128,
    },
    /// The request could not be built.
    #[error("no such request: {0}")]
    Request(String),
}
