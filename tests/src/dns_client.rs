//! A small DNS client for tests and load: real queries over UDP, over TCP when the answer was cut.
//!
//! The system's resolver is avoided on purpose: it caches, reorders addresses by prefix (RFC 6724 rule 9) and hides
//! failures, and those are exactly the things that drills measure. This client keeps the server's order, sends each
//! try from a fresh port with a fresh id, and ignores datagrams that do not answer its question.
//!
//! In reading order: the client, `message` (questions and answers), `exchange` (sockets).

mod error;
mod exchange;
#[cfg(test)]
pub(crate) mod fake;
mod message;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::RecordType;
use tokio::time::{Instant, timeout_at};

use exchange::{over_tcp, over_udp};
use message::{addresses_in, is_servers_fault, query_of, question};

pub use error::DnsError;

/// Asks a list of servers in turn, as a stub resolver does.
#[derive(Debug, Clone)]
pub struct DnsClient {
    servers: Vec<SocketAddr>,
    try_deadline: Duration,
    tries: usize,
}

/// The addresses of a name in the server's order, and how long they may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// In the order in which the server gave them.
    pub addresses: Vec<IpAddr>,
    /// The smallest TTL on the way from the name to the addresses.
    pub ttl: Duration,
}

impl DnsClient {
    /// Asks `server` only; two tries of 500 ms.
    #[must_use]
    pub fn new(server: SocketAddr) -> Self {
        Self::with_servers(vec![server])
    }

    /// Asks the servers in turn, as resolv.conf has it.
    #[must_use]
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        let tries = servers.len().max(2);
        Self { servers, try_deadline: Duration::from_millis(500), tries }
    }

    /// Changes the deadline of one try and the number of tries over all servers.
    #[must_use]
    pub fn tries(mut self, tries: usize, try_deadline: Duration) -> Self {
        self.tries = tries.max(1);
        self.try_deadline = try_deadline;
        self
    }

    /// One question, any type; the whole answer whatever its code.
    pub async fn query(&self, name: &str, record_type: RecordType) -> Result<Message, DnsError> {
        let question = question(name, record_type)?;
        let mut last = DnsError::NoServer;
        if self.servers.is_empty() {
            return Err(last);
        }
        for attempt in 0..self.tries {
            let server = self.servers[attempt % self.servers.len()];
            match self.ask(server, name, &question).await {
                // Another server may know better than one that failed or refused.
                Ok(message) if attempt + 1 < self.tries && is_servers_fault(&message) => {
                    last = DnsError::Code { name: name.into(), code: message.metadata.response_code };
                }
                Ok(message) => return Ok(message),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The IPv4 addresses of a name, following the CNAMEs that came with the answer.
    pub async fn addresses(&self, name: &str) -> Result<Addresses, DnsError> {
        addresses_in(name, &self.query(name, RecordType::A).await?)
    }

    /// The IPv6 addresses of a name.
    pub async fn addresses_v6(&self, name: &str) -> Result<Addresses, DnsError> {
        addresses_in(name, &self.query(name, RecordType::AAAA).await?)
    }

    /// One question over TCP, whatever its size (zone transfers are not read to their end).
    pub async fn query_tcp(&self, name: &str, record_type: RecordType) -> Result<Message, DnsError> {
        let server = *self.servers.first().ok_or(DnsError::NoServer)?;
        let query = query_of(&question(name, record_type)?);
        let by = Instant::now() + self.try_deadline;
        timeout_at(by, over_tcp(server, &query)).await.unwrap_or_else(|_| Err(self.timeout(name)))
    }

    async fn ask(&self, server: SocketAddr, name: &str, question: &Query) -> Result<Message, DnsError> {
        let query = query_of(question);
        let by = Instant::now() + self.try_deadline;
        let late = || self.timeout(name);
        let answer = timeout_at(by, over_udp(server, &query)).await.unwrap_or_else(|_| Err(late()))?;
        if answer.metadata.truncation {
            return timeout_at(by, over_tcp(server, &query)).await.unwrap_or_else(|_| Err(late()));
        }
        Ok(answer)
    }

    fn timeout(&self, name: &str) -> DnsError {
        DnsError::Timeout { name: name.into(), servers: self.servers.clone(), tries: self.tries }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{reply, serve};
    use super::*;
    use hickory_proto::op::ResponseCode;
    use std::net::Ipv4Addr;
    use std::sync::atomic::Ordering;

    const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn quick(server: SocketAddr) -> DnsClient {
        DnsClient::new(server).tries(2, Duration::from_millis(200))
    }

    #[tokio::test]
    async fn keeps_the_order_and_the_ttl() {
        let dns = serve(|query, _| Some(reply(query, &[TWO, ONE], 7))).await;
        let found = quick(dns.address).addresses("www.example.com").await.unwrap();
        assert_eq!(found.addresses, [IpAddr::V4(TWO), IpAddr::V4(ONE)]);
        assert_eq!(found.ttl, Duration::from_secs(7));
    }

    #[tokio::test]
    async fn an_answer_that_was_cut_is_asked_for_again_over_tcp() {
        let dns = serve(|query, tcp| {
            let mut answer = reply(query, if tcp { &[ONE, TWO] } else { &[] }, 1);
            answer.metadata.truncation = !tcp;
            Some(answer)
        })
        .await;
        let found = quick(dns.address).addresses("www.example.com").await.unwrap();
        assert_eq!(found.addresses.len(), 2);
    }

    #[tokio::test]
    async fn answers_to_other_questions_are_ignored() {
        let dns = serve(|query, _| {
            let mut answer = reply(query, &[ONE], 1);
            answer.metadata.id = query.metadata.id.wrapping_add(1);
            Some(answer)
        })
        .await;
        let error = quick(dns.address).addresses("www.example.com").await.unwrap_err();
        assert!(matches!(error, DnsError::Timeout { tries: 2, .. }), "{error}");
        assert_eq!(dns.queries.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_fails() {
        let bad = serve(|query, _| {
            let mut answer = reply(query, &[], 1);
            answer.metadata.response_code = ResponseCode::ServFail;
            Some(answer)
        })
        .await;
        let good = serve(|query, _| Some(reply(query, &[ONE], 1))).await;
        let client = DnsClient::with_servers(vec![bad.address, good.address]);
        assert_eq!(client.addresses("www.example.com").await.unwrap().addresses, [IpAddr::V4(ONE)]);
    }

    #[tokio::test]
    async fn a_name_without_addresses_and_a_missing_name_are_told_apart() {
        let dns = serve(|query, _| {
            let mut answer = reply(query, &[], 1);
            if query.queries[0].name.to_ascii().starts_with("missing") {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            Some(answer)
        })
        .await;
        let client = quick(dns.address);
        let empty = client.addresses("empty.example.com").await.unwrap_err();
        assert_eq!(empty, DnsError::NoAddress("empty.example.com".into()));
        let missing = client.addresses("missing.example.com").await.unwrap_err();
        assert!(matches!(missing, DnsError::Code { code: ResponseCode::NXDomain, .. }), "{missing}");
    }

    #[tokio::test]
    async fn asks_over_tcp_when_told_to() {
        let dns = serve(|query, tcp| tcp.then(|| reply(query, &[ONE], 1))).await;
        let answer = quick(dns.address).query_tcp("www.example.com", RecordType::A).await.unwrap();
        assert_eq!(answer.answers.len(), 1);
        assert_eq!(dns.queries.load(Ordering::Relaxed), 0, "nothing went over UDP");
    }
}
