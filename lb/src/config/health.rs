//! `[health]`: how backends are looked at, and what follows.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::{at_least_one, ms, percent};
use crate::health::Thresholds;
use crate::proxy_protocol::Version;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    mode: String,
    path: String,
    host: String,
    statuses: Vec<String>,
    interval_ms: u64,
    start_interval_ms: u64,
    jitter_percent: u64,
    timeout_ms: u64,
    rise: u64,
    fall: u64,
    panic_percent: u64,
    content_check: String,
    content_grace_ms: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            mode: "http".into(),
            path: "/readyz".into(),
            host: String::new(),
            statuses: vec!["200-299".into()],
            interval_ms: 500,
            start_interval_ms: 200,
            jitter_percent: 20,
            timeout_ms: 400,
            rise: 2,
            fall: 2,
            panic_percent: 10,
            content_check: "flag".into(),
            content_grace_ms: 60_000,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Health {
    pub(crate) check: Check,
    pub(crate) thresholds: Thresholds,
    /// Fewer healthy than this share: all but those who drain or are in maintenance are used.
    pub(crate) panic_percent: usize,
    pub(crate) content: ContentCheck,
    /// For how long a backend's content may differ from the majority's.
    pub(crate) content_grace: Duration,
}

/// One look at a backend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Check {
    pub(crate) mode: Mode,
    pub(crate) interval: Duration,
    pub(crate) start_interval: Duration,
    pub(crate) jitter: f64,
    pub(crate) timeout: Duration,
    /// As `upstream.send_proxy` says.
    pub(crate) send_proxy: Option<Version>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nobody is looked at: everyone counts as healthy until requests fail.
    Off,
    /// A connection is enough.
    Tcp,
    Http(Http),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) path: PathAndQuery,
    /// `None`: the backend's address.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) statuses: Vec<RangeInclusive<u16>>,
}

/// What follows when a backend's content differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentCheck {
    Off,
    /// It is said, and nothing else.
    Flag,
    /// It gets no requests.
    Exclude,
}

pub(super) fn parse(raw: &Raw, send_proxy: Option<Version>) -> Result<Health, Invalid> {
    if raw.jitter_percent > 50 {
        return Err(Invalid::new(
            "health.jitter_percent",
            raw.jitter_percent,
            "out of range",
            "write 0 to 50",
        ));
    }
    let times = |key: &str, value: u64| {
        at_least_one(key, value).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    };
    let content = match raw.content_check.as_str() {
        "off" => ContentCheck::Off,
        "flag" => ContentCheck::Flag,
        "exclude" => ContentCheck::Exclude,
        other => {
            let remedy = "write off, flag or exclude";
            return Err(Invalid::new("health.content_check", other, "unknown", remedy));
        }
    };
    Ok(Health {
        check: Check {
            mode: mode(raw)?,
            interval: ms("health.interval_ms", raw.interval_ms)?,
            start_interval: ms("health.start_interval_ms", raw.start_interval_ms)?,
            jitter: f64::from(u32::try_from(raw.jitter_percent).expect("at most 50")) / 100.0,
            timeout: ms("health.timeout_ms", raw.timeout_ms)?,
            send_proxy,
        },
        thresholds: Thresholds {
            rise: times("health.rise", raw.rise)?,
            fall: times("health.fall", raw.fall)?,
        },
        panic_percent: percent("health.panic_percent", raw.panic_percent)?,
        content,
        content_grace: ms("health.content_grace_ms", raw.content_grace_ms)?,
    })
}

fn mode(raw: &Raw) -> Result<Mode, Invalid> {
    match raw.mode.as_str() {
        "off" => return Ok(Mode::Off),
        "tcp" => return Ok(Mode::Tcp),
        "http" => {}
        other => return Err(Invalid::new("health.mode", other, "unknown mode", "write http, tcp or off")),
    }
    let path =
        raw.path.parse::<PathAndQuery>().ok().filter(|path| path.as_str().starts_with('/')).ok_or_else(
            || Invalid::new("health.path", &raw.path, "not a path", "write for example /readyz"),
        )?;
    let host = match raw.host.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            let remedy = "write for example app.example.com, or nothing for the backend's address";
            Invalid::new("health.host", text, "not a host", remedy)
        })?),
    };
    let statuses: Option<Vec<_>> = raw.statuses.iter().map(|text| range(text)).collect();
    let statuses = statuses.filter(|ranges| !ranges.is_empty()).ok_or_else(|| {
        let remedy = r#"write for example ["200-299", "404"]"#;
        Invalid::new("health.statuses", raw.statuses.join(", "), "not a list of statuses", remedy)
    })?;
    Ok(Mode::Http(Http { path, host, statuses }))
}

/// `200`, `200-299`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!range.is_empty() && *range.start() >= 100 && *range.end() <= 599).then_some(range)
}
