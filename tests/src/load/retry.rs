//! Whether a request goes to the next address after a try: pure, one table.

use http::StatusCode;

use super::outcome::{ErrorClass, Outcome};
use super::plan::ClientKind;

/// What to do after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This try's outcome is the request's.
    Done,
    /// Try the next address.
    NextAddress,
}

/// Whether a try that fails in the given way may be repeated elsewhere at all.
pub(super) fn may_repeat(kind: ClientKind, idempotent: bool, has_next: bool) -> bool {
    kind == ClientKind::Retrying && idempotent && has_next
}

/// Bytes of a body that arrived cannot be taken back: a truncated response is never repeated, as in browsers.
pub(super) fn decide(kind: ClientKind, idempotent: bool, has_next: bool, outcome: &Outcome) -> Next {
    if kind == ClientKind::Plain || !has_next {
        return Next::Done;
    }
    let again = match outcome {
        // Nothing was sent, so no method forbids it.
        Outcome::Failed { class: ErrorClass::Connect, .. } => true,
        Outcome::Failed { class: ErrorClass::Timeout | ErrorClass::Reset, .. } => idempotent,
        Outcome::Complete(response) => idempotent && is_gateway_fault(response.status),
        Outcome::Truncated { .. } | Outcome::Failed { .. } => false,
    };
    if again { Next::NextAddress } else { Next::Done }
}

/// 502, 503, 504: the balancer says that it could not reach a server; 500 is the application's own answer.
fn is_gateway_fault(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::Response;

    const IDEMPOTENT: bool = true;
    const HAS_NEXT: bool = true;

    fn outcome(word: &str) -> Outcome {
        let failed = |class| Outcome::Failed { class, reason: String::new() };
        match word {
            "connect" => failed(ErrorClass::Connect),
            "timeout" => failed(ErrorClass::Timeout),
            "reset" => failed(ErrorClass::Reset),
            "protocol" => failed(ErrorClass::Protocol),
            "truncated" => Outcome::Truncated { status: StatusCode::OK, reason: String::new() },
            status => Outcome::Complete(Response {
                status: status.parse().unwrap(),
                headers: http::HeaderMap::new(),
                body: bytes::Bytes::new(),
            }),
        }
    }

    /// The words after which the request is tried elsewhere, of all words.
    fn check(kind: ClientKind, idempotent: bool, has_next: bool, again: &str) {
        let all = "connect timeout reset protocol truncated 200 304 404 500 502 503 504";
        let repeated: Vec<&str> = all
            .split(' ')
            .filter(|word| decide(kind, idempotent, has_next, &outcome(word)) == Next::NextAddress)
            .collect();
        assert_eq!(repeated.join(" "), again);
    }

    #[test]
    fn an_idempotent_request_goes_elsewhere_after_what_a_gateway_or_network_did() {
        check(ClientKind::Retrying, IDEMPOTENT, HAS_NEXT, "connect timeout reset 502 503 504");
    }

    #[test]
    fn others_go_elsewhere_only_when_nothing_was_sent() {
        check(ClientKind::Retrying, !IDEMPOTENT, HAS_NEXT, "connect");
    }

    #[test]
    fn the_last_address_is_the_last_word() {
        check(ClientKind::Retrying, IDEMPOTENT, !HAS_NEXT, "");
    }

    #[test]
    fn a_plain_client_never_tries_again() {
        check(ClientKind::Plain, IDEMPOTENT, HAS_NEXT, "");
        assert!(!may_repeat(ClientKind::Plain, IDEMPOTENT, HAS_NEXT));
    }
}
