//! The sections that every program has: `[service]`, `[admin]`, `[log]`, `[shutdown]`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Top-level names that belong to the kit.
pub(super) const SECTIONS: [&str; 4] = ["service", "admin", "log", "shutdown"];

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    service: ServiceRaw,
    admin: AdminRaw,
    log: LogRaw,
    shutdown: ShutdownRaw,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ServiceRaw {
    /// Empty: the host's name, which in a container is its id.
    instance: String,
    /// 0: one worker a core.
    workers: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AdminRaw {
    /// Empty: 127.0.0.1 and the program's own port.
    listen: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LogRaw {
    format: String,
    filter: String,
}

impl Default for LogRaw {
    fn default() -> Self {
        Self { format: "pretty".into(), filter: "info".into() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ShutdownRaw {
    lame_duck_ms: u64,
    drain_deadline_ms: u64,
}

impl Default for ShutdownRaw {
    // 2 s: two rounds of a balancer's health check. 10 s: docker kills a container after 10 s by default; ours are given 15.
    fn default() -> Self {
        Self { lame_duck_ms: 2_000, drain_deadline_ms: 10_000 }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Pretty,
    Json,
}

/// The kit's own configuration, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Kit {
    pub(crate) instance: Option<String>,
    pub(crate) workers: usize,
    pub(crate) admin_listen: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
    pub(crate) lame_duck: Duration,
    pub(crate) drain_deadline: Duration,
}

impl Raw {
    pub(super) fn parse(self) -> Result<Kit, Invalid> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.service.workers > 1_024 {
            return Err(Invalid::new(
                "service.workers",
                self.service.workers,
                "more than 1024 workers",
                "write 0 for one a core",
            ));
        }
        let admin_listen = match self.admin.listen.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                Invalid::new(
                    "admin.listen",
                    text,
                    "not an address and port",
                    "write for example 127.0.0.1:9001",
                )
            })?),
        };
        let log_format = match self.log.format.as_str() {
            "pretty" => LogFormat::Pretty,
            "json" => LogFormat::Json,
            other => return Err(Invalid::new("log.format", other, "unknown format", "write pretty or json")),
        };
        Ok(Kit {
            instance: Some(self.service.instance).filter(|name| !name.is_empty()),
            workers: if self.service.workers == 0 { cores } else { self.service.workers },
            admin_listen,
            log_format,
            log_filter: self.log.filter,
            lame_duck: Duration::from_millis(self.shutdown.lame_duck_ms),
            drain_deadline: Duration::from_millis(self.shutdown.drain_deadline_ms),
        })
    }
}
