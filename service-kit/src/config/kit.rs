//! The sections that every program has: `[service]`, `[admin]`, `[log]`, `[shutdown]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Invalid;
use crate::admin::{Door, Hosts};
use crate::{Secret, secret};

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

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ServiceRaw {
    /// Empty: the host's name, which in a container is its id.
    instance: String,
    /// 0: one worker a core.
    workers: usize,
    /// How much of the traffic a balancer is asked to send here: 0 to 256, 0 for nobody new.
    weight: u64,
    /// The version of what is served besides what the program is made of, for instance of a mounted folder.
    content: String,
}

impl Default for ServiceRaw {
    fn default() -> Self {
        Self { instance: String::new(), workers: 0, weight: 100, content: String::new() }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AdminRaw {
    /// Empty: 127.0.0.1 and the program's own port.
    listen: String,
    /// Names and addresses, beyond loopback and the bound one, that requests may carry in `Host`.
    hosts: Vec<String>,
    /// What changes must carry as `Authorization: Bearer`; empty: nothing can be changed.
    token: Secret,
    /// The file whose first line is the token.
    token_file: String,
}

impl AdminRaw {
    fn parse_listen(&self) -> Result<Option<SocketAddr>, Invalid> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        self.listen.parse().map(Some).map_err(|_| {
            Invalid::new(
                "admin.listen",
                &self.listen,
                "not an address and port",
                "write for example 127.0.0.1:9001",
            )
        })
    }

    fn parse_hosts(&self) -> Result<Hosts, Invalid> {
        Hosts::parse(&self.hosts).map_err(|entry| {
            Invalid::new(
                "admin.hosts",
                entry,
                "not a host name or address",
                "write names or addresses without a port; there are no wildcards",
            )
        })
    }
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
    pub(crate) weight: u16,
    pub(crate) content: String,
    pub(crate) admin_listen: Option<SocketAddr>,
    admin_hosts: Hosts,
    admin_token: Secret,
    admin_token_file: PathBuf,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
    pub(crate) lame_duck: Duration,
    pub(crate) drain_deadline: Duration,
}

/// Shorter tokens could be found by trying.
const TOKEN_CHARACTERS_MIN: usize = 16;

impl Kit {
    /// The rules of the admin listener.
    pub(crate) fn door(&self) -> Result<Door, Invalid> {
        Ok(Door::new(self.admin_hosts.clone(), self.admin_token()?))
    }

    /// Reads the token; empty when none is configured. Only who serves needs it: a probe of the same configuration may
    /// run as somebody who must not read it.
    pub(super) fn admin_token(&self) -> Result<Secret, Invalid> {
        let token = secret::resolve("admin.token", &self.admin_token, &self.admin_token_file)?;
        let text = token.expose();
        let fits = text.len() >= TOKEN_CHARACTERS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !text.is_empty() && !fits {
            return Err(Invalid::new(
                "admin.token",
                "[redacted]",
                "not at least 16 visible ASCII characters without spaces",
                "let 'stack secrets DIR' make one, or write the output of 'openssl rand -hex 24' into the file",
            ));
        }
        Ok(token)
    }
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
        let weight =
            u16::try_from(self.service.weight).ok().filter(|weight| *weight <= 256).ok_or_else(|| {
                Invalid::new("service.weight", self.service.weight, "out of range", "write 0 to 256")
            })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let content = self.service.content;
        if content.len() > 32 || !content.bytes().all(plain) {
            let remedy = "write up to 32 letters, digits, hyphens, underscores and dots";
            return Err(Invalid::new("service.content", content, "not a plain name", remedy));
        }
        let log_format = match self.log.format.as_str() {
            "pretty" => LogFormat::Pretty,
            "json" => LogFormat::Json,
            other => return Err(Invalid::new("log.format", other, "unknown format", "write pretty or json")),
        };
        Ok(Kit {
            instance: Some(self.service.instance).filter(|name| !name.is_empty()),
            workers: if self.service.workers == 0 { cores } else { self.service.workers },
            weight,
            content,
            admin_listen: self.admin.parse_listen()?,
            admin_hosts: self.admin.parse_hosts()?,
            admin_token: self.admin.token,
            admin_token_file: self.admin.token_file.into(),
            log_format,
            log_filter: self.log.filter,
            lame_duck: Duration::from_millis(self.shutdown.lame_duck_ms),
            drain_deadline: Duration::from_millis(self.shutdown.drain_deadline_ms),
        })
    }
}
