//! The configuration: what files say ([`Raw`]) and what it means ([`Config`]).

mod raw;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use service_kit::{Invalid, KeyRing, Settings};

pub use raw::Raw;

use crate::headers::Networks;
use crate::health::Thresholds;
use crate::retry::BudgetTerms;
use crate::ticket::Sealer;

/// Only one route until there are pools; it is part of what a sticky cookie authenticates.
const ROUTE: &str = "default";

/// Everything the balancer works with. Replaced as a whole by a reload; requests that have begun keep the old one.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) server: Server,
    pub(crate) upstream: Upstream,
    pub(crate) retry: Retry,
    pub(crate) health: HealthCheck,
    pub(crate) discovery: Discovery,
    pub(crate) sticky: Option<Sticky>,
}

/// Towards clients.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) trusted: Networks,
    pub(crate) connections_max: usize,
    pub(crate) requests_per_connection_max: u64,
    pub(crate) headers_max: usize,
    pub(crate) header_bytes_max: usize,
    pub(crate) deadlines: ClientDeadlines,
}

/// How long a client may do nothing in each phase of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientDeadlines {
    pub(crate) first_byte: Duration,
    pub(crate) header: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) body: Duration,
    pub(crate) write: Duration,
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
}

#[derive(Debug, Clone)]
pub(crate) struct Retry {
    pub(crate) retries_max: u32,
    pub(crate) total_timeout: Duration,
    pub(crate) body_bytes_max: usize,
    pub(crate) budget: BudgetTerms,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HealthCheck {
    pub(crate) path: PathAndQuery,
    pub(crate) interval: Duration,
    pub(crate) start_interval: Duration,
    pub(crate) jitter: f64,
    pub(crate) timeout: Duration,
    pub(crate) thresholds: Thresholds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) source: Source,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// How long a backend that left DNS may go on serving those who are pinned to it.
    pub(crate) leave_after: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Static(Vec<SocketAddr>),
    /// `resolver` empty: what the system's resolv.conf says.
    Dns {
        name: String,
        port: u16,
        resolver: Option<SocketAddr>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Sticky {
    pub(crate) cookie: String,
    pub(crate) lifetime: Duration,
    pub(crate) sealer: Arc<Sealer>,
}

impl Settings for Config {
    type Raw = Raw;

    fn parse(raw: Raw) -> Result<Self, Invalid> {
        Ok(Self {
            server: server(&raw.server)?,
            upstream: upstream(&raw.upstream)?,
            retry: retry(&raw.retry)?,
            health: health(&raw.health)?,
            discovery: discovery(raw.discovery)?,
            sticky: sticky(&raw.sticky)?,
        })
    }
}

fn server(raw: &raw::Server) -> Result<Server, Invalid> {
    let listen = raw.listen.parse().map_err(|_| {
        Invalid::new("server.listen", &raw.listen, "not an address and port", "write for example 0.0.0.0:80")
    })?;
    let trusted = Networks::parse(&raw.trusted_proxies).map_err(|entry| {
        Invalid::new(
            "server.trusted_proxies",
            entry,
            "not an address or network",
            "write for example 10.0.0.0/8",
        )
    })?;
    Ok(Server {
        listen,
        trusted,
        connections_max: count("server.connections_max_per_worker", raw.connections_max_per_worker)?,
        requests_per_connection_max: at_least_one(
            "server.requests_per_connection_max",
            raw.requests_per_connection_max,
        )?,
        headers_max: count("server.headers_max", raw.headers_max)?,
        // hyper's buffer cannot be smaller than one read.
        header_bytes_max: match raw.header_bytes_max {
            8_192..=1_048_576 => usize::try_from(raw.header_bytes_max).expect("at most 1 MiB"),
            other => {
                return Err(Invalid::new(
                    "server.header_bytes_max",
                    other,
                    "out of range",
                    "write 8192 to 1048576",
                ));
            }
        },
        deadlines: ClientDeadlines {
            first_byte: ms("server.first_byte_timeout_ms", raw.first_byte_timeout_ms)?,
            header: ms("server.header_timeout_ms", raw.header_timeout_ms)?,
            keep_alive: ms("server.keep_alive_timeout_ms", raw.keep_alive_timeout_ms)?,
            body: ms("server.body_timeout_ms", raw.body_timeout_ms)?,
            write: ms("server.write_timeout_ms", raw.write_timeout_ms)?,
        },
    })
}

fn upstream(raw: &raw::Upstream) -> Result<Upstream, Invalid> {
    Ok(Upstream {
        connect_timeout: ms("upstream.connect_timeout_ms", raw.connect_timeout_ms)?,
        try_timeout: ms("upstream.try_timeout_ms", raw.try_timeout_ms)?,
        header_timeout: ms("upstream.header_timeout_ms", raw.header_timeout_ms)?,
        body_timeout: ms("upstream.body_timeout_ms", raw.body_timeout_ms)?,
        idle_max: usize::try_from(raw.idle_max_per_backend).unwrap_or(usize::MAX),
        idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
        age_max: ms("upstream.age_max_ms", raw.age_max_ms)?,
        inflight_max: count("upstream.inflight_max_per_backend", raw.inflight_max_per_backend)?,
    })
}

fn retry(raw: &raw::Retry) -> Result<Retry, Invalid> {
    let percent = raw.budget_percent;
    if percent > 100 {
        return Err(Invalid::new(
            "retry.budget_percent",
            percent,
            "more retries than requests",
            "write 0 to 100",
        ));
    }
    let number = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    Ok(Retry {
        retries_max: u32::try_from(raw.retries_max).unwrap_or(u32::MAX),
        total_timeout: ms("retry.total_timeout_ms", raw.total_timeout_ms)?,
        body_bytes_max: usize::try_from(raw.body_bytes_max).unwrap_or(usize::MAX),
        budget: BudgetTerms {
            per_request: number(percent) / 100.0,
            per_second: number(raw.budget_floor_per_second),
            burst: number(raw.budget_burst),
        },
    })
}

fn health(raw: &raw::Health) -> Result<HealthCheck, Invalid> {
    let path =
        raw.path.parse::<PathAndQuery>().ok().filter(|path| path.as_str().starts_with('/')).ok_or_else(
            || Invalid::new("health.path", &raw.path, "not a path", "write for example /readyz"),
        )?;
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
    Ok(HealthCheck {
        path,
        interval: ms("health.interval_ms", raw.interval_ms)?,
        start_interval: ms("health.start_interval_ms", raw.start_interval_ms)?,
        jitter: f64::from(u32::try_from(raw.jitter_percent).expect("at most 50")) / 100.0,
        timeout: ms("health.timeout_ms", raw.timeout_ms)?,
        thresholds: Thresholds {
            rise: times("health.rise", raw.rise)?,
            fall: times("health.fall", raw.fall)?,
        },
    })
}

fn discovery(raw: raw::Discovery) -> Result<Discovery, Invalid> {
    let source = if raw.r#static.is_empty() {
        let port = u16::try_from(raw.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| {
            Invalid::new("discovery.port", raw.port, "not a port", "write the port of the backends")
        })?;
        if raw.name.is_empty() {
            let remedy = "write a name that DNS resolves to the backends, or list them in discovery.static";
            return Err(Invalid::new("discovery.name", "nothing", "no way to find backends", remedy));
        }
        let resolver = match raw.resolver.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                let remedy = "write for example 127.0.0.1:53, or nothing for the system's";
                Invalid::new("discovery.resolver", text, "not an address and port", remedy)
            })?),
        };
        Source::Dns { name: raw.name, port, resolver }
    } else {
        let address = |text: &String| {
            text.parse().map_err(|_| {
                Invalid::new(
                    "discovery.static",
                    text,
                    "not an address and port",
                    "write for example 127.0.0.1:3000",
                )
            })
        };
        Source::Static(raw.r#static.iter().map(address).collect::<Result<_, _>>()?)
    };
    Ok(Discovery {
        source,
        interval: ms("discovery.interval_ms", raw.interval_ms)?,
        timeout: ms("discovery.timeout_ms", raw.timeout_ms)?,
        leave_after: Duration::from_millis(raw.leave_after_ms),
    })
}

fn sticky(raw: &raw::Sticky) -> Result<Option<Sticky>, Invalid> {
    match raw.mode.as_str() {
        "off" => return Ok(None),
        "cookie" => {}
        other => return Err(Invalid::new("sticky.mode", other, "unknown mode", "write off or cookie")),
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if raw.cookie.is_empty() || !raw.cookie.bytes().all(plain) {
        return Err(Invalid::new(
            "sticky.cookie",
            &raw.cookie,
            "not a cookie name",
            "write letters and digits",
        ));
    }
    if raw.keys_file.is_empty() {
        let remedy = "write the path of the key ring (sticky.keys.toml), the same on every balancer";
        return Err(Invalid::new(
            "sticky.keys_file",
            "nothing",
            "cookies cannot be sealed without keys",
            remedy,
        ));
    }
    let ring = KeyRing::load(&PathBuf::from(&raw.keys_file))
        .map_err(|invalid| Invalid::new("sticky.keys_file", &raw.keys_file, invalid.to_string(), ""))?;
    // A ticket is renewed past half its life; below some seconds every answer would carry a cookie.
    if !(10..=31_536_000).contains(&raw.lifetime_s) {
        return Err(Invalid::new(
            "sticky.lifetime_s",
            raw.lifetime_s,
            "out of range",
            "write 10 to 31536000",
        ));
    }
    Ok(Some(Sticky {
        cookie: raw.cookie.clone(),
        lifetime: Duration::from_secs(raw.lifetime_s),
        sealer: Arc::new(Sealer::new(ring, &raw.cookie, ROUTE)),
    }))
}

fn ms(key: &str, value: u64) -> Result<Duration, Invalid> {
    // A day: beyond it a deadline is a mistake in the unit, and clock arithmetic would have to care.
    if (1..=86_400_000).contains(&value) {
        Ok(Duration::from_millis(value))
    } else {
        Err(Invalid::new(key, value, "out of range", "write 1 to 86400000 milliseconds"))
    }
}

fn at_least_one(key: &str, value: u64) -> Result<u64, Invalid> {
    if value == 0 {
        Err(Invalid::new(key, 0, "nothing could ever pass", "write at least 1"))
    } else {
        Ok(value)
    }
}

fn count(key: &str, value: u64) -> Result<usize, Invalid> {
    at_least_one(key, value).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
