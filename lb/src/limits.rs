//! What one client may take: connections, requests a second, bytes. No sockets, no clock.
//!
//! A client is an IPv4 address or a /64 of IPv6, which is the least that one subscriber gets (RFC 6177). What is counted is
//! shared by all workers, because the kernel gives a client's connections to any of them. Memory is bounded whatever
//! clients do: connections are counted only while they are open, and buckets live in a table of fixed size.

mod addresses;
mod bucket;
mod buckets;
mod pace;

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;

use crate::config::Limits;
use crate::headers::{Forwarded, Networks, named_clients};
use crate::router::Route;

use addresses::Addresses;
pub(crate) use addresses::Seat;
pub(crate) use bucket::{Rate, Wait};
use buckets::Buckets;
pub(crate) use pace::{Pace, PaceTerms};

/// Whose connections and requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(u64);

impl ClientKey {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Below any prefix of IPv6 that is ever given out.
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => {
                Self(u64::try_from(address.to_bits() >> 64).expect("the upper half of 128 bits"))
            }
        }
    }
}

/// What one route allows beside what holds for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RouteLimits {
    /// Of one client.
    pub(crate) rate: Option<Rate>,
    pub(crate) body_bytes_max: Option<u64>,
}

/// Who asks: the peer, or whom a trusted proxy names. Of the addresses in `X-Forwarded-For` the last one that is not a
/// trusted proxy counts: those before it are only claims of that one. Where proxies write `Forwarded` alone, that is read, and
/// the other field is whatever the client says.
pub(crate) fn client(
    headers: &HeaderMap,
    peer: IpAddr,
    (trusted, forwarded): (&Networks, Forwarded),
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contain(client) {
        return client;
    }
    let lines = |name: &str| headers.get_all(name).iter().rev().filter_map(|line| line.to_str().ok());
    let named: Vec<Option<IpAddr>> = match forwarded {
        Forwarded::Standard => lines("forwarded").flat_map(named_clients).collect(),
        Forwarded::Traditional | Forwarded::Both => lines("x-forwarded-for")
            .flat_map(|line| line.rsplit(',').map(|entry| entry.trim().parse().ok()))
            .collect(),
    };
    for address in named {
        let Some(address) = address else { break };
        client = address.to_canonical();
        if !trusted.contain(client) {
            break;
        }
    }
    client
}

/// The counts that all workers share.
#[derive(Debug)]
pub(crate) struct Counts {
    addresses: Arc<Addresses>,
    buckets: Buckets,
    started: Instant,
    /// Nobody outside can find addresses that share a place of the table.
    secret: RandomState,
}

impl Counts {
    pub(crate) fn new(now: Instant) -> Self {
        Self { addresses: Arc::default(), buckets: Buckets::new(), secret: RandomState::new(), started: now }
    }

    /// A place for one more connection of this address, or `None` where it has all that it may have.
    pub(crate) fn connection(&self, address: IpAddr, limits: &Limits) -> Option<Option<Seat>> {
        match limits.connections_per_address_max {
            Some(max) if !limits.exempt.contain(address) => self.addresses.enter(address, max).map(Some),
            _ => Some(None),
        }
    }

    /// One request of a client's on a route; `Err` says how long it should wait.
    pub(crate) fn request(
        &self,
        client: IpAddr,
        route: &Route,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Wait> {
        if limits.exempt.contain(client) {
            return Ok(());
        }
        let (key, now_us) = (ClientKey::of(client), now.saturating_duration_since(self.started).as_micros());
        let now_us = u64::try_from(now_us).unwrap_or(u64::MAX);
        for (name, rate) in [("", limits.rate), (&*route.name, route.limits.rate)] {
            if let Some(rate) = rate {
                self.buckets.take(self.secret.hash_one((key, name)), rate, now_us)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, same: bool) {
        let key = |text: &str| ClientKey::of(text.parse().unwrap());
        assert_eq!(key(one) == key(other), same, "{one} and {other}");
    }

    #[test]
    fn a_client_is_an_address_or_a_network() {
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("2001:db8::1", "2001:db8::2:0:0:1", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
    }

    #[test]
    fn clients_and_routes_have_buckets_of_their_own() {
        let text = "limits.requests_per_second = 1\nlimits.burst = 2\nlimits.exempt = ['192.0.2.9']\n\
            [[routes]]\npath = '/a'\npool = 'default'\nrequests_per_second = 1\n";
        let config = service_kit::config::parse_text::<crate::Config>("lb", text).unwrap();
        let now = Instant::now();
        let counts = Counts::new(now);
        let ask = |client: &str, path: &str| {
            let route = config.routes.route("example.com", path);
            counts.request(client.parse().unwrap(), route, &config.limits, now).is_ok()
        };
        assert!(ask("192.0.2.1", "/a"));
        assert!(!ask("192.0.2.1", "/a"), "the route's own");
        assert!(!ask("192.0.2.1", "/"), "all that it asked for counts, also what a route refused");
        assert!(ask("192.0.2.2", "/") && ask("192.0.2.2", "/a") && !ask("192.0.2.2", "/"));
        assert!((0..9).all(|_| ask("192.0.2.9", "/a")), "exempt");
    }

    #[test]
    fn who_asks_is_the_last_one_that_nobody_trusts() {
        let trusted = Networks::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        for (peer, line, expected) in [
            ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "203.0.113.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
            ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", line.parse().unwrap());
            let terms = (&trusted, Forwarded::Traditional);
            assert_eq!(client(&headers, peer.parse().unwrap(), terms).to_string(), expected, "{line}");
            // Where it means nothing it says nothing.
            let by_peer = client(&headers, peer.parse().unwrap(), (&trusted, Forwarded::Standard));
            assert_eq!(by_peer, peer.parse::<IpAddr>().unwrap().to_canonical(), "{line}");
        }
    }

    #[test]
    fn who_asks_may_be_named_by_the_standards_field() {
        let trusted = Networks::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        for (line, expected) in [
            ("for=198.51.100.7;proto=https", "198.51.100.7"),
            ("for=203.0.113.1, for=\"198.51.100.7:443\", for=10.0.0.2", "198.51.100.7"),
            ("for=\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("for=198.51.100.7, for=unknown", "10.0.0.1"),
            ("for=198.51.100.7, proto=http", "10.0.0.1"),
            ("for=\"198.51.100.7", "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("forwarded", line.parse().unwrap());
            let terms = (&trusted, Forwarded::Standard);
            assert_eq!(client(&headers, "10.0.0.1".parse().unwrap(), terms).to_string(), expected, "{line}");
        }
    }
}
