//! `[upstream]`: towards backends.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::{count, ms};
use crate::proxy_protocol::Version;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    connect_timeout_ms: u64,
    try_timeout_ms: u64,
    header_timeout_ms: u64,
    body_timeout_ms: u64,
    idle_max_per_backend: u64,
    idle_timeout_ms: u64,
    age_max_ms: u64,
    inflight_max_per_backend: u64,
    send_proxy: String,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 250,
            try_timeout_ms: 1_500,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            idle_max_per_backend: 64,
            // Shorter than the 5 s after which common servers close: the one who closes first never races.
            idle_timeout_ms: 4_000,
            age_max_ms: 300_000,
            inflight_max_per_backend: 1_000,
            send_proxy: "off".into(),
        }
    }
}

/// Towards backends.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) connect_timeout: Duration,
    pub(crate) try_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) idle_max: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) age_max: Duration,
    pub(crate) inflight_max: usize,
    /// Connections begin with a PROXY header and are one client's only.
    pub(crate) send_proxy: Option<Version>,
}

pub(super) fn parse(raw: &Raw) -> Result<Upstream, Invalid> {
    Ok(Upstream {
        connect_timeout: ms("upstream.connect_timeout_ms", raw.connect_timeout_ms)?,
        try_timeout: ms("upstream.try_timeout_ms", raw.try_timeout_ms)?,
        header_timeout: ms("upstream.header_timeout_ms", raw.header_timeout_ms)?,
        body_timeout: ms("upstream.body_timeout_ms", raw.body_timeout_ms)?,
        idle_max: usize::try_from(raw.idle_max_per_backend).unwrap_or(usize::MAX),
        idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
        age_max: ms("upstream.age_max_ms", raw.age_max_ms)?,
        inflight_max: count("upstream.inflight_max_per_backend", raw.inflight_max_per_backend)?,
        send_proxy: match raw.send_proxy.as_str() {
            "off" => None,
            "v1" => Some(Version::V1),
            "v2" => Some(Version::V2),
            other => {
                let remedy = "write off, v1 or v2";
                return Err(Invalid::new("upstream.send_proxy", other, "unknown version", remedy));
            }
        },
    })
}
