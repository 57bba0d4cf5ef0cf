//! What hostile clients send: kinds of listeners, ways to misbehave, and the list for each kind.

mod any_tcp;
mod dns;
mod http;
mod postgres;
mod redis;

use serde::Serialize;

const MIB: usize = 1024 * 1024;

/// The protocol that a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A site or a balancer.
    Http,
    /// The kit's admin listener.
    AdminHttp,
    /// DNS with two bytes of length before each message.
    DnsTcp,
    /// DNS in datagrams.
    DnsUdp,
    /// PostgreSQL's frontend protocol.
    Postgres,
    /// RESP.
    Redis,
}

/// What a payload does after its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Reads a little of the answer and closes.
    Close,
    /// Closes with a reset, without reading.
    Reset,
    /// Says that it has no more to say, and waits for the end.
    HalfClose,
    /// Stays connected and silent, without reading, until all payloads were fired.
    Hold,
}

/// How a payload behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connects, sends all at once, then does as it says.
    Send(Vec<u8>, Then),
    /// Connects and sends byte by byte.
    Drip(Vec<u8>),
    /// Connects a hundred times and stays silent.
    Crowd,
    /// Sends datagrams.
    Datagrams(Vec<Vec<u8>>),
}

/// One hostile client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Names it in findings.
    pub name: String,
    /// What it does.
    pub action: Action,
}

impl Payload {
    fn new(name: &str, action: Action) -> Self {
        Self { name: name.into(), action }
    }

    fn send(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(name, Action::Send(bytes.into(), Then::Close))
    }
}

/// Every payload for a protocol; the same for the same seed.
#[must_use]
pub fn payloads(kind: Kind, seed: u64) -> Vec<Payload> {
    let own = match kind {
        Kind::Http => http::payloads(),
        Kind::AdminHttp => [http::payloads(), http::admin_payloads()].concat(),
        Kind::DnsTcp => dns::tcp_payloads(),
        Kind::DnsUdp => return dns::udp_payloads(seed),
        Kind::Postgres => postgres::payloads(),
        Kind::Redis => redis::payloads(),
    };
    [any_tcp::payloads(&valid(kind), seed), own].concat()
}

/// A message that a good client could send first; it changes nothing.
fn valid(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Http => b"GET / HTTP/1.1\r\nHost: fitness.example.com\r\n\r\n".to_vec(),
        Kind::AdminHttp => b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        Kind::DnsTcp => dns::framed(&dns::dns_query(1)),
        Kind::DnsUdp => dns::dns_query(1),
        Kind::Postgres => postgres::startup(0x0003_0000, b"user\0app\0database\0fitness\0\0"),
        Kind::Redis => b"*1\r\n$4\r\nPING\r\n".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const KINDS: [Kind; 6] =
        [Kind::Http, Kind::AdminHttp, Kind::DnsTcp, Kind::DnsUdp, Kind::Postgres, Kind::Redis];

    #[test]
    fn every_protocol_has_many_payloads_beside_cuts_and_changes() {
        for kind in KINDS {
            let all = payloads(kind, 1);
            let names: BTreeSet<&str> = all.iter().map(|payload| payload.name.as_str()).collect();
            assert_eq!(names.len(), all.len(), "{kind:?}: each name once");
            let apart = names.iter().filter(|name| !name.contains("at byte") && !name.contains("with byte"));
            assert!(apart.count() >= 35, "{kind:?}");
            let cuts = names.iter().filter(|name| name.contains("cut at byte")).count();
            assert_eq!(cuts, valid(kind).len(), "{kind:?}: cut at each byte");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_payloads() {
        for kind in KINDS {
            assert_eq!(payloads(kind, 5), payloads(kind, 5));
            assert_ne!(payloads(kind, 5), payloads(kind, 6));
        }
    }

    #[test]
    fn every_protocol_has_noise_of_a_mebibyte() {
        for kind in KINDS {
            let noise =
                payloads(kind, 1).into_iter().find(|payload| payload.name == "1 MiB of noise").unwrap();
            let length = match noise.action {
                Action::Send(bytes, _) => bytes.len(),
                Action::Datagrams(datagrams) => datagrams.iter().map(Vec::len).sum(),
                other => panic!("{other:?}"),
            };
            assert_eq!(length, MIB);
        }
    }

    #[test]
    fn valid_messages_are_valid() {
        let query = hickory_proto::op::Message::from_vec(&valid(Kind::DnsUdp)).unwrap();
        assert_eq!(query.queries[0].name.to_ascii(), "fitness.example.com.");
        let start = valid(Kind::Postgres);
        assert_eq!(start[..4], u32::try_from(start.len()).unwrap().to_be_bytes());
    }
}
