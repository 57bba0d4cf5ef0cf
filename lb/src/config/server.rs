//! `[server]`: towards clients.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::limits::Limits;
use super::values::{at_least_one, count, ms};
use crate::headers::{Forwarded, Networks};
use crate::limits::PaceTerms;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    listen: Listen,
    trusted_proxies: Vec<String>,
    forwarded: String,
    proxy_protocol: String,
    proxy_protocol_from: Vec<String>,
    connections_max_per_worker: u64,
    requests_per_connection_max: u64,
    headers_max: u64,
    header_bytes_max: u64,
    first_byte_timeout_ms: u64,
    header_timeout_ms: u64,
    keep_alive_timeout_ms: u64,
    body_timeout_ms: u64,
    write_timeout_ms: u64,
    linger_timeout_ms: u64,
    tunnel_timeout_ms: u64,
}

/// One address or a list of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Listen {
    One(String),
    Many(Vec<String>),
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: Listen::One("0.0.0.0:80".into()),
            trusted_proxies: Vec::new(),
            forwarded: "x-forwarded".into(),
            proxy_protocol: "off".into(),
            proxy_protocol_from: Vec::new(),
            connections_max_per_worker: 10_000,
            requests_per_connection_max: 100_000,
            headers_max: 100,
            header_bytes_max: 65_536,
            first_byte_timeout_ms: 10_000,
            header_timeout_ms: 10_000,
            keep_alive_timeout_ms: 60_000,
            body_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            linger_timeout_ms: 2_000,
            tunnel_timeout_ms: 3_600_000,
        }
    }
}

/// Towards clients.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// At least one.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) trusted: Networks,
    pub(crate) forwarded: Forwarded,
    pub(crate) proxy_protocol: ProxyProtocol,
    pub(crate) connections_max: usize,
    pub(crate) requests_per_connection_max: u64,
    pub(crate) headers_max: usize,
    pub(crate) header_bytes_max: usize,
    pub(crate) deadlines: ClientDeadlines,
    /// Silence both ways on a connection that has switched protocols.
    pub(crate) tunnel_timeout: Duration,
}

/// Who begins connections with a PROXY header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyProtocol {
    mode: ProxyMode,
    from: Networks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxyMode {
    Off,
    Accept,
    Require,
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    None,
    Perhaps,
    Required,
    /// One is required, and this address may not say who its clients are.
    Refused,
}

impl ProxyProtocol {
    pub(crate) fn of(&self, peer: IpAddr) -> ProxyHeader {
        match (self.mode, self.mode != ProxyMode::Off && self.from.contain(peer)) {
            (ProxyMode::Off, _) | (ProxyMode::Accept, false) => ProxyHeader::None,
            (ProxyMode::Accept, true) => ProxyHeader::Perhaps,
            (ProxyMode::Require, true) => ProxyHeader::Required,
            (ProxyMode::Require, false) => ProxyHeader::Refused,
        }
    }
}

/// How long a client may do nothing in each phase of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientDeadlines {
    pub(crate) first_byte: Duration,
    pub(crate) header: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) body: Duration,
    pub(crate) write: Duration,
    /// Silence after we have closed our side; whoever still sends has `body` altogether. Also what a client has after the stop
    /// that is connected and has not asked.
    pub(crate) linger: Duration,
    /// From a request's head to the end of its answer.
    pub(crate) total: Option<Duration>,
    pub(crate) upload: PaceTerms,
    pub(crate) download: PaceTerms,
}

pub(super) fn parse(raw: &Raw, limits: &Limits) -> Result<Server, Invalid> {
    Ok(Server {
        listen: listen(&raw.listen)?,
        trusted: networks("server.trusted_proxies", &raw.trusted_proxies)?,
        forwarded: match raw.forwarded.as_str() {
            "x-forwarded" => Forwarded::Traditional,
            "forwarded" => Forwarded::Standard,
            "both" => Forwarded::Both,
            other => {
                let remedy = "write x-forwarded, forwarded or both";
                return Err(Invalid::new("server.forwarded", other, "unknown choice", remedy));
            }
        },
        proxy_protocol: proxy_protocol(raw)?,
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
            linger: ms("server.linger_timeout_ms", raw.linger_timeout_ms)?,
            total: limits.request_timeout,
            upload: limits.upload,
            download: limits.download,
        },
        tunnel_timeout: ms("server.tunnel_timeout_ms", raw.tunnel_timeout_ms)?,
    })
}

fn networks(key: &str, raw: &[String]) -> Result<Networks, Invalid> {
    Networks::parse(raw).map_err(|entry| {
        Invalid::new(key, entry, "not an address or network", "write for example 10.0.0.0/8")
    })
}

fn proxy_protocol(raw: &Raw) -> Result<ProxyProtocol, Invalid> {
    let mode = match raw.proxy_protocol.as_str() {
        "off" => ProxyMode::Off,
        "accept" => ProxyMode::Accept,
        "require" => ProxyMode::Require,
        other => {
            let remedy = "write off, accept or require";
            return Err(Invalid::new("server.proxy_protocol", other, "unknown mode", remedy));
        }
    };
    if mode != ProxyMode::Off && raw.proxy_protocol_from.is_empty() {
        let reason = "nobody may send the PROXY header that is expected";
        let remedy = "write the networks of the proxies before this one, for example 10.0.0.0/8";
        return Err(Invalid::new("server.proxy_protocol_from", "nothing", reason, remedy));
    }
    Ok(ProxyProtocol { mode, from: networks("server.proxy_protocol_from", &raw.proxy_protocol_from)? })
}

fn listen(raw: &Listen) -> Result<Vec<SocketAddr>, Invalid> {
    const KEY: &str = "server.listen";
    let remedy = "write for example 0.0.0.0:80, or a list of such";
    let texts = match raw {
        // A variable is text; `[::]:80` begins like a list and is none.
        Listen::One(text) => serde_json::from_str(text).unwrap_or_else(|_| vec![text.clone()]),
        Listen::Many(texts) => texts.clone(),
    };
    if texts.is_empty() {
        return Err(Invalid::new(KEY, "nothing", "nowhere to listen", remedy));
    }
    let mut addresses = Vec::new();
    for text in &texts {
        let address: SocketAddr =
            text.parse().map_err(|_| Invalid::new(KEY, text, "not an address and port", remedy))?;
        if address.port() != 0 && addresses.contains(&address) {
            return Err(Invalid::new(KEY, text, "listed twice", "remove one"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}
