//! Whether a failed attempt may be repeated, and where. No sockets, no clock.
//!
//! Only before any byte of a response. A request of which a byte was written is repeated only if its method is
//! idempotent (RFC 9110, 9.2.2), and only if its body can be sent again. Retries are paid from a budget, so that a
//! failing site is not asked twice for everything.

use std::time::Instant;

use http::Method;

use crate::failure::Failure;

/// What is known of an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) failure: Failure,
    pub(crate) idempotent: bool,
    /// The request can be sent again in full: no body, a buffered one, or one of which nothing was taken.
    pub(crate) replayable: bool,
    /// A byte of the request may have reached the backend.
    pub(crate) written: bool,
    /// The connection had served a request before: it may have been dying already.
    pub(crate) reused: bool,
    /// Retries made so far.
    pub(crate) retries: u32,
    /// Another backend, not tried yet, could take it.
    pub(crate) others: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// On a backend that was not tried.
    Elsewhere,
    /// On the same backend, on a fresh connection: there is no other, and only the old connection is known to be bad.
    SameBackend,
    GiveUp,
}

/// Decides about one failed attempt.
pub(crate) fn decide(attempt: &Attempt, retries_max: u32) -> Decision {
    let safe = attempt.idempotent || !attempt.written;
    if !attempt.failure.blames_backend() || !attempt.replayable || !safe || attempt.retries >= retries_max {
        return Decision::GiveUp;
    }
    if attempt.others {
        return Decision::Elsewhere;
    }
    if attempt.reused && attempt.failure == Failure::Reset { Decision::SameBackend } else { Decision::GiveUp }
}

/// Methods that may be repeated without changing what they mean.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

/// What the budget is filled by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BudgetTerms {
    /// Tokens that each request pays in: 0.2 allows one retry for five requests.
    pub(crate) per_request: f64,
    /// Tokens that come in each second whatever the load, so that a quiet site may retry too.
    pub(crate) per_second: f64,
    /// The most that can be saved up.
    pub(crate) burst: f64,
}

/// A token bucket; each retry costs one token.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: f64,
    at: Instant,
}

impl Budget {
    /// A full one: the first failure after a start must not be the one that finds it empty.
    pub(crate) fn new(terms: BudgetTerms, now: Instant) -> Self {
        Self { tokens: terms.burst, at: now }
    }

    /// Counts a new request.
    pub(crate) fn deposit(&mut self, terms: BudgetTerms) {
        self.tokens = (self.tokens + terms.per_request).min(terms.burst);
    }

    /// Pays for one retry, if there is enough.
    pub(crate) fn withdraw(&mut self, terms: BudgetTerms, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + seconds * terms.per_second).min(terms.burst);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use Decision::{Elsewhere, GiveUp, SameBackend};

    /// Words: `get|post`, `refused|reset|slow|body`, then any of `written reused consumed alone third`.
    #[track_caller]
    fn check(words: &str, expected: Decision) {
        let has = |word: &str| words.split(' ').any(|other| other == word);
        let failure = match words.split(' ').nth(1).unwrap() {
            "refused" => Failure::ConnectRefused,
            "reset" => Failure::Reset,
            "slow" => Failure::HeaderTimeout,
            "body" => Failure::ClientBody,
            other => panic!("{other}"),
        };
        let attempt = Attempt {
            failure,
            idempotent: has("get"),
            replayable: !has("consumed"),
            written: has("written"),
            reused: has("reused"),
            retries: if has("third") { 2 } else { 0 },
            others: !has("alone"),
        };
        assert_eq!(decide(&attempt, 2), expected, "{words}");
    }

    #[test]
    fn idempotent_requests_go_elsewhere() {
        check("get refused", Elsewhere);
        check("get reset written", Elsewhere);
        check("get slow written", Elsewhere);
    }

    #[test]
    fn a_post_is_repeated_only_if_nothing_was_written() {
        check("post refused", Elsewhere);
        check("post reset reused", Elsewhere);
        check("post reset written", GiveUp);
        check("post reset written reused", GiveUp);
        check("post slow written", GiveUp);
    }

    #[test]
    fn a_consumed_body_cannot_be_sent_again() {
        check("get reset written consumed", GiveUp);
        check("post refused consumed", GiveUp);
    }

    #[test]
    fn with_one_backend_only_a_stale_connection_is_replayed() {
        check("get reset written reused alone", SameBackend);
        check("post reset reused alone", SameBackend);
        check("get reset written alone", GiveUp);
        check("get refused alone", GiveUp);
    }

    #[test]
    fn retries_end() {
        check("get refused third", GiveUp);
    }

    #[test]
    fn the_clients_own_fault_is_not_retried() {
        check("get body", GiveUp);
    }

    /// `r` a request, `t` a retry, `s` a second; the outcome of each retry is drawn.
    #[track_caller]
    fn check_budget(events: &str, expected: &str) {
        let terms = BudgetTerms { per_request: 0.5, per_second: 1.0, burst: 2.0 };
        let mut now = Instant::now();
        let mut budget = Budget::new(terms, now);
        let mut drawn = String::new();
        for event in events.chars() {
            match event {
                'r' => budget.deposit(terms),
                's' => now += Duration::from_secs(1),
                _ => drawn.push(if budget.withdraw(terms, now) { 'o' } else { 'x' }),
            }
        }
        assert_eq!(drawn, expected);
    }

    #[test]
    fn a_full_budget_lasts_for_its_burst() {
        check_budget("ttt", "oox");
    }

    #[test]
    fn requests_pay_in() {
        check_budget("tttrrtt", "ooxox");
    }

    #[test]
    fn seconds_pay_in_and_saving_ends_at_the_burst() {
        check_budget("ttstt", "ooox");
        check_budget("sssssttt", "oox");
    }
}
