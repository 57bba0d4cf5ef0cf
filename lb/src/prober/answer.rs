//! What a health answer says. No sockets.
//!
//! Any program can be a backend: its status is enough. One that answers in JSON may say more, each of it or nothing:
//! `status` (`"draining"`: alive, but to get nobody new), `instance` and `generation` (who it is; cookies need it),
//! `weight` (0 to 256, 100 is usual, 0: nobody new) and `content` (a hash of what it serves).

use std::ops::RangeInclusive;

use http::StatusCode;
use serde::Deserialize;

use crate::health::Outcome;
use crate::snapshot::WEIGHT_MAX;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) outcome: Outcome,
    /// For people: "status 500", "connection refused".
    pub(crate) reason: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: Option<u64>,
    pub(crate) weight: Option<u16>,
    pub(crate) content: Option<String>,
}

impl Look {
    pub(crate) fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { outcome, reason, instance: None, generation: None, weight: None, content: None }
    }

    pub(super) fn bad(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Bad, reason)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: String,
    instance: String,
    generation: String,
    weight: Option<u64>,
    content: String,
}

/// A status tells enough; a body in the form of our own programs tells who it is and whether it is going away.
pub(super) fn judge(status: StatusCode, expected: &[RangeInclusive<u16>], body: &[u8]) -> Look {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let is_expected = expected.iter().any(|range| range.contains(&status.as_u16()));
    let outcome = match (answer.status.as_str(), is_expected) {
        ("draining", _) => Outcome::Draining,
        (_, true) => Outcome::Good,
        (_, false) => Outcome::Bad,
    };
    // It goes into log lines, so only plain names are believed.
    let plain = |text: &String| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let mut reason = format!("status {}", status.as_u16());
    if plain(&answer.status) {
        reason = format!("{reason} ({})", answer.status);
    }
    Look {
        instance: Some(answer.instance).filter(plain),
        generation: u64::from_str_radix(&answer.generation, 16).ok(),
        weight: answer
            .weight
            .and_then(|weight| u16::try_from(weight).ok())
            .filter(|weight| *weight <= WEIGHT_MAX),
        content: Some(answer.content).filter(plain),
        ..Look::new(outcome, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: &str) {
        check_expecting(&[200..=299], status, body, expected);
    }

    #[track_caller]
    fn check_expecting(statuses: &[RangeInclusive<u16>], status: u16, body: &str, expected: &str) {
        let look = judge(StatusCode::from_u16(status).unwrap(), statuses, body.as_bytes());
        let instance = look.instance.unwrap_or("-".into());
        let generation = look.generation.map_or("-".into(), |generation| format!("{generation:x}"));
        let got = format!("{:?} {instance} {generation} {}", look.outcome, look.reason);
        assert_eq!(got, expected);
    }

    #[test]
    fn the_status_is_enough() {
        check(200, "", "Good - - status 200");
        check(204, "ok", "Good - - status 204");
        check(404, "", "Bad - - status 404");
        check(302, "", "Bad - - status 302");
    }

    #[test]
    fn which_statuses_are_good_can_be_said() {
        check_expecting(&[200..=200, 401..=403], 403, "", "Good - - status 403");
        check_expecting(&[200..=200, 401..=403], 204, "", "Bad - - status 204");
        check_expecting(&[200..=200], 503, r#"{"status":"draining"}"#, "Draining - - status 503 (draining)");
    }

    #[test]
    fn our_own_programs_say_more() {
        check(
            200,
            r#"{"status":"ready","instance":"app-1","generation":"00000000000000ff","dependencies":[]}"#,
            "Good app-1 ff status 200 (ready)",
        );
        check(200, r#"{"status":"degraded","instance":"app-1"}"#, "Good app-1 - status 200 (degraded)");
        check(503, r#"{"status":"starting","instance":"app-1"}"#, "Bad app-1 - status 503 (starting)");
        check(
            503,
            r#"{"status":"draining","instance":"app-1","generation":"1"}"#,
            "Draining app-1 1 status 503 (draining)",
        );
    }

    #[test]
    fn odd_names_are_not_believed() {
        check(200, r#"{"status":"a b\n","instance":"x y","generation":"zz"}"#, "Good - - status 200");
        check(200, r#"{"status":1}"#, "Good - - status 200");
    }

    #[track_caller]
    fn check_more(body: &str, weight: Option<u16>, content: Option<&str>) {
        let look = judge(StatusCode::OK, &[200..=200], body.as_bytes());
        assert_eq!((look.weight, look.content.as_deref()), (weight, content), "{body}");
    }

    #[test]
    fn weight_and_content_are_taken_if_they_make_sense() {
        check_more(r#"{"weight":50,"content":"a1b2"}"#, Some(50), Some("a1b2"));
        check_more(r#"{"weight":0}"#, Some(0), None);
        check_more(r#"{"weight":256}"#, Some(256), None);
        check_more(r#"{"weight":257,"content":"a b"}"#, None, None);
        check_more(r#"{"status":"ready"}"#, None, None);
    }
}
