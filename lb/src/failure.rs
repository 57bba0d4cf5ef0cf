//! Why a request got no answer from a backend, and what its client is told.

use http::StatusCode;

/// One way to fail. `kind` is at once the metric label, the log field and the `reason` that the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing listens there.
    #[error("connection refused")]
    ConnectRefused,
    /// No answer to the connection attempt in time.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// Any other error of connecting (no route, no descriptors ...).
    #[error("connecting failed")]
    ConnectError,
    /// The connection ended before the first byte of an answer.
    #[error("connection closed before an answer")]
    Reset,
    /// No response head in time.
    #[error("no answer in time")]
    HeaderTimeout,
    /// What came back is not HTTP/1.1, or is a switch of protocols that nobody asked for.
    #[error("the answer is not valid HTTP")]
    BadResponse,
    /// The client's own request body was broken or ended early.
    #[error("the request body is broken")]
    ClientBody,
    /// The client sent more than one request may have.
    #[error("the request body is larger than allowed")]
    BodyLength,
    /// Every backend has as many requests in flight as it may have.
    #[error("all backends are at their limit")]
    Overloaded,
    /// They have, and as many requests wait as may.
    #[error("all backends are at their limit and the queue is full")]
    QueueFull,
    /// They have, and none got free in time.
    #[error("no backend had room in time")]
    QueueTimeout,
    /// There is no backend at all.
    #[error("no backend is known")]
    NoBackend,
}

impl Failure {
    pub(crate) const ALL: [Self; 12] = [
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectError,
        Self::Reset,
        Self::HeaderTimeout,
        Self::BadResponse,
        Self::ClientBody,
        Self::BodyLength,
        Self::Overloaded,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::NoBackend,
    ];

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::ConnectError => "connect-error",
            Self::Reset => "reset",
            Self::HeaderTimeout => "header-timeout",
            Self::BadResponse => "bad-response",
            Self::ClientBody => "client-body",
            Self::BodyLength => "body-length",
            Self::Overloaded => "overloaded",
            Self::QueueFull => "queue-full",
            Self::QueueTimeout => "queue-timeout",
            Self::NoBackend => "no-backend",
        }
    }

    /// 503 where trying again soon can help, 502 where a backend misbehaved, 504 where it was too slow.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::ConnectRefused | Self::ConnectTimeout | Self::ConnectError => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Overloaded | Self::QueueFull | Self::QueueTimeout | Self::NoBackend => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Reset | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::HeaderTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientBody => StatusCode::BAD_REQUEST,
            Self::BodyLength => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// Whether it says something bad about the backend that was tried.
    pub(crate) fn blames_backend(self) -> bool {
        !matches!(
            self,
            Self::ClientBody
                | Self::BodyLength
                | Self::Overloaded
                | Self::QueueFull
                | Self::QueueTimeout
                | Self::NoBackend
        )
    }
}

/// The body of every answer that the balancer makes itself (RFC 9457). Every value is ours or was checked to be plain
/// characters, so nothing needs escaping.
pub(crate) fn problem_json(status: StatusCode, reason: &str, detail: &str, request_id: &str) -> String {
    let title = status.canonical_reason().unwrap_or("Error");
    let status = status.as_u16();
    format!(
        r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"{detail}","reason":"{reason}","request_id":"{request_id}"}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinct() {
        let mut kinds: Vec<_> = Failure::ALL.iter().map(|failure| failure.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), Failure::ALL.len());
    }

    #[test]
    fn a_problem_is_json() {
        for failure in Failure::ALL {
            let text = problem_json(failure.status(), failure.kind(), &failure.to_string(), "id-12345");
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["reason"], failure.kind());
            assert_eq!(json["status"], failure.status().as_u16());
            assert_eq!(json["request_id"], "id-12345");
        }
    }
}
