//! Asks who the backends are, every interval anew. Nothing is cached: Docker's DNS says 600 s for addresses that change
//! within one.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::{Discovery, Source};
use crate::members::{self, Answer, Miss};
use crate::metrics::PoolMetrics;
use crate::roster::Event;

/// Tells the roster who there is in one pool until it is aborted. `lookout` says whose answers these are.
pub(crate) async fn run(
    lookout: u64,
    pool: Arc<str>,
    settings: Discovery,
    metrics: PoolMetrics,
    events: mpsc::Sender<Event>,
) {
    let mut asker = Asker::default();
    loop {
        let found = match &settings.source {
            Source::Static(addresses) => Some(addresses.iter().copied().collect()),
            Source::Dns { name, port, .. } => {
                metrics.lookups.inc();
                let answer = asker.ask(&settings, name).await;
                if let Err(miss) = answer {
                    metrics.lookup_missed(miss);
                }
                asker.tell(&pool, name, answer.as_ref().err().copied());
                answer
                    .ok()
                    .map(|all| all.into_iter().map(|address| SocketAddr::new(address, *port)).collect())
            }
        };
        if let Some(addresses) = found
            && events.send(Event::Found { lookout, addresses }).await.is_err()
        {
            return;
        }
        tokio::time::sleep(settings.interval).await;
    }
}

/// Remembers what was known.
#[derive(Default)]
struct Asker {
    resolver: Option<TokioResolver>,
    known: BTreeSet<IpAddr>,
    /// The last trouble that was logged.
    miss: Option<Miss>,
}

impl Asker {
    async fn ask(&mut self, settings: &Discovery, name: &str) -> Result<BTreeSet<IpAddr>, Miss> {
        if self.resolver.is_none() {
            self.resolver = resolver(settings);
        }
        let resolver = self.resolver.as_ref().ok_or(Miss::Unreachable)?;
        resolver.clear_cache();
        let limit = settings.timeout;
        let (v4, v6) = tokio::join!(
            lookup(resolver, name, RecordType::A, limit),
            lookup(resolver, name, RecordType::AAAA, limit)
        );
        self.known = members::merge(&self.known, &v4, &v6)?;
        Ok(self.known.clone())
    }

    /// One line when trouble begins, changes or ends.
    fn tell(&mut self, pool: &str, name: &str, miss: Option<Miss>) {
        let kept = self.known.len();
        match (self.miss, miss) {
            (before, Some(now)) if before != Some(now) => {
                let reason = now.kind();
                warn!(pool, name, reason, kept, "discovery failed: {now}; keeping what is known");
            }
            (Some(_), None) => info!(pool, name, addresses = kept, "discovery works again"),
            _ => {}
        }
        self.miss = miss;
    }
}

fn resolver(settings: &Discovery) -> Option<TokioResolver> {
    let Source::Dns { resolver, .. } = &settings.source else { return None };
    let mut builder = match resolver {
        Some(address) => {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = address.port();
            }
            let server = NameServerConfig::new(address.ip(), true, connections);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => {
            TokioResolver::builder_tokio().map_err(|error| warn!(%error, "cannot read resolv.conf")).ok()?
        }
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.positive_max_ttl = Some(Duration::from_secs(1));
    options.negative_max_ttl = Some(Duration::ZERO);
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = settings.timeout / 2;
    options.attempts = 2;
    builder.build().map_err(|error| warn!(%error, "cannot make a resolver")).ok()
}

async fn lookup(resolver: &TokioResolver, name: &str, kind: RecordType, limit: Duration) -> Answer {
    match tokio::time::timeout(limit, resolver.lookup(name, kind)).await {
        Err(_) => Err(Miss::Timeout),
        Ok(Err(error)) => miss(&error),
        Ok(Ok(answer)) => Ok(answer
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            })
            .collect()),
    }
}

fn miss(error: &NetError) -> Answer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => Ok(Vec::new()),
            ResponseCode::NXDomain => Err(Miss::NoName),
            _ => Err(Miss::Server),
        },
        NetError::Dns(_) => Err(Miss::Server),
        NetError::Timeout => Err(Miss::Timeout),
        _ => Err(Miss::Unreachable),
    }
}
