//! The keys as they stand in the file, with their defaults. What they do is in the README and in `deploy/config/lb.toml`.

use serde::{Deserialize, Serialize};

/// The whole file, without the sections that every program has.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    pub(super) server: Server,
    pub(super) upstream: Upstream,
    pub(super) retry: Retry,
    pub(super) health: Health,
    pub(super) discovery: Discovery,
    pub(super) sticky: Sticky,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) connections_max_per_worker: u64,
    pub(super) requests_per_connection_max: u64,
    pub(super) headers_max: u64,
    pub(super) header_bytes_max: u64,
    pub(super) first_byte_timeout_ms: u64,
    pub(super) header_timeout_ms: u64,
    pub(super) keep_alive_timeout_ms: u64,
    pub(super) body_timeout_ms: u64,
    pub(super) write_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:80".into(),
            trusted_proxies: Vec::new(),
            connections_max_per_worker: 10_000,
            requests_per_connection_max: 100_000,
            headers_max: 100,
            header_bytes_max: 65_536,
            first_byte_timeout_ms: 10_000,
            header_timeout_ms: 10_000,
            keep_alive_timeout_ms: 60_000,
            body_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) connect_timeout_ms: u64,
    pub(super) try_timeout_ms: u64,
    pub(super) header_timeout_ms: u64,
    pub(super) body_timeout_ms: u64,
    pub(super) idle_max_per_backend: u64,
    pub(super) idle_timeout_ms: u64,
    pub(super) age_max_ms: u64,
    pub(super) inflight_max_per_backend: u64,
}

impl Default for Upstream {
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
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retry {
    pub(super) retries_max: u64,
    pub(super) total_timeout_ms: u64,
    pub(super) body_bytes_max: u64,
    pub(super) budget_percent: u64,
    pub(super) budget_floor_per_second: u64,
    pub(super) budget_burst: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries_max: 2,
            total_timeout_ms: 15_000,
            body_bytes_max: 65_536,
            budget_percent: 20,
            budget_floor_per_second: 10,
            budget_burst: 250,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Health {
    pub(super) path: String,
    pub(super) interval_ms: u64,
    pub(super) start_interval_ms: u64,
    pub(super) jitter_percent: u64,
    pub(super) timeout_ms: u64,
    pub(super) rise: u64,
    pub(super) fall: u64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: "/readyz".into(),
            interval_ms: 500,
            start_interval_ms: 200,
            jitter_percent: 20,
            timeout_ms: 400,
            rise: 2,
            fall: 2,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Discovery {
    pub(super) name: String,
    pub(super) port: u64,
    pub(super) resolver: String,
    pub(super) r#static: Vec<String>,
    pub(super) interval_ms: u64,
    pub(super) timeout_ms: u64,
    pub(super) leave_after_ms: u64,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            name: "app".into(),
            port: 3_000,
            resolver: String::new(),
            r#static: Vec::new(),
            interval_ms: 1_000,
            timeout_ms: 800,
            leave_after_ms: 60_000,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sticky {
    pub(super) mode: String,
    pub(super) cookie: String,
    pub(super) keys_file: String,
    pub(super) lifetime_s: u64,
}

impl Default for Sticky {
    fn default() -> Self {
        Self { mode: "off".into(), cookie: "route".into(), keys_file: String::new(), lifetime_s: 3_600 }
    }
}
