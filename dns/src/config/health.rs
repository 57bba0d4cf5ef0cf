//! `[health]`: how targets are looked at. Pools write what differs.

use super::within;
use crate::steering::plan::{Check, Http, Mode, Tls};
use serde::{Deserialize, Serialize};
use service_kit::Invalid;
use service_kit::health::Thresholds;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    mode: String,
    port: u64,
    path: String,
    host: String,
    statuses: Vec<String>,
    ca_file: PathBuf,
    interval_ms: u64,
    start_interval_ms: u64,
    jitter_percent: u64,
    timeout_ms: u64,
    rise: u64,
    fall: u64,
}

impl Default for Raw {
    fn default() -> Raw {
        Raw {
            mode: "http".into(),
            port: 80,
            path: "/".into(),
            host: String::new(),
            statuses: vec!["200-399".into()],
            ca_file: PathBuf::new(),
            interval_ms: 1_000,
            start_interval_ms: 250,
            jitter_percent: 20,
            timeout_ms: 800,
            rise: 2,
            fall: 2,
        }
    }
}

pub(super) fn parse(raw: &Raw) -> Result<Check, Invalid> {
    let ms = |key: &str, value| within(key, value, 10, 86_400_000).map(Duration::from_millis);
    let times = |key: &str, value| {
        within(key, value, 1, 1_000).map(|value| u32::try_from(value).expect("at most 1000"))
    };
    let jitter_percent = within("health.jitter_percent", raw.jitter_percent, 0, 50)?;
    let port = within("health.port", raw.port, 1, 65_535)?;
    Ok(Check {
        mode: mode(raw)?,
        port: super::narrow(port),
        interval: ms("health.interval_ms", raw.interval_ms)?,
        start_interval: ms("health.start_interval_ms", raw.start_interval_ms)?,
        jitter_percent: u8::try_from(jitter_percent).expect("at most 50"),
        timeout: ms("health.timeout_ms", raw.timeout_ms)?,
        thresholds: Thresholds {
            rise: times("health.rise", raw.rise)?,
            fall: times("health.fall", raw.fall)?,
        },
    })
}

fn mode(raw: &Raw) -> Result<Mode, Invalid> {
    let tls = match (raw.mode.as_str(), raw.ca_file.as_os_str().is_empty()) {
        ("off", _) => return Ok(Mode::Off),
        ("tcp", _) => return Ok(Mode::Tcp),
        ("http", _) => None,
        ("https", true) => Some(Tls::Unverified),
        ("https", false) => Some(Tls::Authority(raw.ca_file.clone())),
        (other, _) => {
            return Err(Invalid::new("health.mode", other, "unknown mode", "write http, https, tcp or off"));
        }
    };
    let is_path = raw.path.starts_with('/') && raw.path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_path {
        return Err(Invalid::new("health.path", &raw.path, "not a path", "write for example /readyz"));
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    if !raw.host.bytes().all(is_host) {
        let remedy = "write for example www.example.com, or nothing for the target's address";
        return Err(Invalid::new("health.host", &raw.host, "not a host", remedy));
    }
    let statuses: Option<Vec<_>> = raw.statuses.iter().map(|text| range(text)).collect();
    let statuses = statuses.filter(|ranges| !ranges.is_empty()).ok_or_else(|| {
        let remedy = r#"write for example ["200-299", "404"]"#;
        Invalid::new("health.statuses", raw.statuses.join(", "), "not a list of statuses", remedy)
    })?;
    Ok(Mode::Http(Http { tls, path: raw.path.clone(), host: raw.host.clone(), statuses }))
}

/// `200`, `200-299`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!range.is_empty() && *range.start() >= 100 && *range.end() <= 599).then_some(range)
}
