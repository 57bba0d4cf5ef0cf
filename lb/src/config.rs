//! The configuration: what files say ([`Raw`]) and what it means ([`Config`]). A file per section holds its keys, their
//! defaults and what they come to; here they are put together.

mod access_log;
mod balance;
mod discovery;
mod ejection;
mod expose;
mod handover;
mod health;
mod http2;
mod limits;
mod pool;
mod queue;
mod retry;
mod routes;
mod server;
mod sticky;
mod tls;
mod upstream;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use service_kit::{Handover, Invalid, Settings};

pub(crate) use balance::Balance;
pub(crate) use discovery::{Discovery, Source};
pub(crate) use expose::Expose;
pub(crate) use health::{Check, ContentCheck, Health, Http, Mode};
pub(crate) use http2::Http2;
pub(crate) use limits::Limits;
pub(crate) use pool::Pool;
pub(crate) use queue::Queue;
pub(crate) use retry::Retry;
pub(crate) use server::{ClientDeadlines, ProxyHeader, Server};
pub(crate) use sticky::{Sticky, StickyKind, TableKey};
pub(crate) use tls::Tls;
pub(crate) use upstream::Upstream;

use crate::access_log::AccessLog;
use crate::router::Router;

/// The whole file, without the sections that every program has. What the keys do is in the README and in
/// `deploy/config/lb.toml`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    server: server::Raw,
    tls: tls::Raw,
    http2: http2::Raw,
    limits: limits::Raw,
    retry: retry::Raw,
    handover: handover::Raw,
    expose: expose::Raw,
    access_log: access_log::Raw,
    routes: Vec<routes::Raw>,
    /// What further pools write; the next ones are the pool `default`, and what the others inherit.
    pools: BTreeMap<String, toml::Table>,
    balance: balance::Raw,
    upstream: upstream::Raw,
    queue: queue::Raw,
    health: health::Raw,
    ejection: ejection::Raw,
    discovery: discovery::Raw,
    sticky: sticky::Raw,
}

/// Everything the balancer works with. Replaced as a whole by a reload; requests that have begun keep the old one.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) server: Server,
    pub(crate) tls: Option<Tls>,
    pub(crate) http2: Http2,
    pub(crate) limits: Limits,
    pub(crate) retry: Retry,
    pub(crate) expose: Expose,
    /// Whether a successor may take over, and where it asks.
    pub(crate) handover: Option<Handover>,
    pub(crate) access_log: Option<AccessLog>,
    /// The pool `default` first.
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) routes: Router,
}

impl Config {
    /// Whether any backend is told who the client is before the first request.
    pub(crate) fn names_clients(&self) -> bool {
        self.pools.iter().any(|pool| pool.upstream.send_proxy.is_some())
    }
}

impl Settings for Config {
    type Raw = Raw;

    fn parse(raw: Raw) -> Result<Self, Invalid> {
        let limits = limits::parse(&raw.limits)?;
        let server = server::parse(&raw.server, &limits)?;
        let tls = tls::parse(&raw.tls)?;
        let http2 = http2::parse(&raw.http2)?;
        let retry = retry::parse(&raw.retry)?;
        let handover = handover::parse(&raw.handover)?;
        let expose = expose::parse(&raw.expose);
        let access_log = access_log::parse(&raw.access_log)?;
        let Raw { balance, upstream, queue, health, ejection, discovery, sticky, .. } = raw;
        let default = pool::Raw { balance, upstream, queue, health, ejection, discovery, sticky };
        let pools = pool::parse_all(&default, &raw.pools)?;
        let routes = routes::parse(&raw.routes, &pools)?;
        Ok(Self { server, limits, tls, http2, retry, expose, handover, access_log, pools, routes })
    }

    fn handover(&self) -> Option<&Handover> {
        self.handover.as_ref()
    }
}

#[cfg(test)]
mod tests;
