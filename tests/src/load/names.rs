//! The addresses of the target, cached per visitor for as long as their TTL says.
//!
//! Every visitor has a cache of its own, as every resolver of a real population has: one shared cache would send the
//! whole load to the first address until the TTL ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::plan::Target;
use crate::dns_client::{DnsClient, DnsError};

/// One visitor's view of the target.
#[derive(Debug)]
pub(super) struct Names {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Fixed(Vec<SocketAddr>),
    Name {
        name: String,
        port: u16,
        dns: DnsClient,
        // Held while asking: requests of one visitor that fall due meanwhile wait for that one answer.
        cached: Mutex<Option<Cached>>,
    },
}

#[derive(Debug, Clone)]
struct Cached {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

impl Names {
    pub(super) fn new(target: &Target) -> Self {
        let source = match target {
            Target::Fixed(addresses) => Source::Fixed(addresses.clone()),
            Target::Name { name, port, resolvers } => Source::Name {
                name: name.clone(),
                port: *port,
                dns: DnsClient::with_servers(resolvers.clone()).tries(4, Duration::from_millis(500)),
                cached: Mutex::new(None),
            },
        };
        Self { source }
    }

    /// The addresses in the order in which they are to be tried. A failure is not cached: the next request asks
    /// again.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, DnsError> {
        let (name, port, dns, cached) = match &self.source {
            Source::Fixed(addresses) => return Ok(addresses.clone()),
            Source::Name { name, port, dns, cached } => (name, *port, dns, cached),
        };
        let mut cached = cached.lock().await;
        if let Some(known) = cached.as_ref().filter(|known| Instant::now() < known.until) {
            return Ok(known.addresses.clone());
        }
        let found = dns.addresses(name).await?;
        let addresses: Vec<SocketAddr> =
            found.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        *cached = Some(Cached { addresses: addresses.clone(), until: Instant::now() + found.ttl });
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns_client::fake::{reply, serve};
    use std::net::Ipv4Addr;
    use std::sync::atomic::Ordering;

    async fn queries_for_three_requests(ttl_s: u32) -> usize {
        let dns = serve(move |query, _| Some(reply(query, &[Ipv4Addr::LOCALHOST], ttl_s))).await;
        let target =
            Target::Name { name: "www.example.com".into(), port: 8080, resolvers: vec![dns.address] };
        let names = Names::new(&target);
        for _ in 0..3 {
            let found = names.addresses().await.unwrap();
            assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 8080))]);
        }
        dns.queries.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_ttl_is_honoured() {
        assert_eq!(queries_for_three_requests(3600).await, 1);
        assert_eq!(queries_for_three_requests(0).await, 3);
    }

    #[tokio::test]
    async fn requests_that_fall_due_together_ask_once() {
        let dns = serve(|query, _| Some(reply(query, &[Ipv4Addr::LOCALHOST], 60))).await;
        let target = Target::Name { name: "www.example.com".into(), port: 1, resolvers: vec![dns.address] };
        let names = Names::new(&target);
        let all = futures_util::future::join_all((0..20).map(|_| names.addresses())).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(dns.queries.load(Ordering::Relaxed), 1);
    }
}
