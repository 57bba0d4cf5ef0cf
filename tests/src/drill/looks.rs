//! What a client behind a resolver sees of a name, look after look, and what follows from that.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dns_client::DnsClient;

/// From one look to the next.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For a resolver that asks elsewhere first.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// For a connection to a target; dead ones refuse at once.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// In the answer's order.
    Addresses(Vec<IpAddr>),
    /// The name is there and has no address.
    Empty,
    /// The server failed or refused, or there is no such name.
    Code(ResponseCode),
    /// Nothing in time.
    Silence,
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(list) if list.len() == 1 => out.write_str("one address"),
            Self::Addresses(list) => write!(out, "{} addresses", list.len()),
            Self::Empty => out.write_str("an empty answer"),
            Self::Code(code) => write!(out, "{code}"),
            Self::Silence => out.write_str("silence"),
        }
    }
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// When it began, on the drill's axis.
    pub(super) at: Duration,
    pub(super) seen: Seen,
    /// The first address that took a connection, when one was tried.
    pub(super) reached: Option<IpAddr>,
}

impl Look {
    pub(super) fn has(&self, address: IpAddr) -> bool {
        matches!(&self.seen, Seen::Addresses(list) if list.contains(&address))
    }
}

/// Asks one resolver for one name again and again until `until`; with a port, also tries the addresses in turn.
pub(super) async fn watch(
    resolver: SocketAddr,
    name: &str,
    port: Option<u16>,
    axis: Instant,
    until: Instant,
) -> Vec<Look> {
    let client = DnsClient::new(resolver).tries(1, ANSWER_DEADLINE);
    let mut looks = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let seen = look(&client, name).await;
        let reached = match (&seen, port) {
            (Seen::Addresses(list), Some(port)) => first_alive(list, port).await,
            _ => None,
        };
        looks.push(Look { at: begun.saturating_duration_since(axis), seen, reached });
        tokio::time::sleep(LOOK_EVERY.saturating_sub(begun.elapsed())).await;
    }
    looks
}

/// One question for IPv4 addresses.
pub(super) async fn look(client: &DnsClient, name: &str) -> Seen {
    let Ok(message) = client.query(name, RecordType::A).await else { return Seen::Silence };
    let code = message.metadata.response_code;
    let addresses = message.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::from(address.0)),
        _ => None,
    });
    match addresses.collect::<Vec<_>>() {
        _ if code != ResponseCode::NoError => Seen::Code(code),
        list if list.is_empty() => Seen::Empty,
        list => Seen::Addresses(list),
    }
}

async fn first_alive(addresses: &[IpAddr], port: u16) -> Option<IpAddr> {
    for address in addresses {
        if let Ok(Ok(_)) = timeout(CONNECT_DEADLINE, TcpStream::connect((*address, port))).await {
            return Some(*address);
        }
    }
    None
}

/// When this was seen last; none: never.
pub(super) fn last(looks: &[Look], mut is_it: impl FnMut(&Look) -> bool) -> Option<Duration> {
    looks.iter().rev().find(|look| is_it(look)).map(|look| look.at)
}

/// From when on every look was so; none: the last one was not, or there is none.
pub(super) fn settled(looks: &[Look], mut is_it: impl FnMut(&Look) -> bool) -> Option<Duration> {
    let so = looks.iter().rev().take_while(|look| is_it(look));
    so.last().map(|look| look.at)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A look each second: `+` reached something, `1` an address that did not answer, `-` an empty answer, `!` SERVFAIL.
    pub(in crate::drill) fn looks(text: &str) -> Vec<Look> {
        let one: IpAddr = IpAddr::from([127, 64, 0, 1]);
        let look = |(second, letter)| Look {
            at: Duration::from_secs(second),
            seen: match letter {
                '+' | '1' => Seen::Addresses(vec![one]),
                '-' => Seen::Empty,
                '!' => Seen::Code(ResponseCode::ServFail),
                _ => Seen::Silence,
            },
            reached: (letter == '+').then_some(one),
        };
        (0..).zip(text.chars()).map(look).collect()
    }

    #[test]
    fn the_last_and_the_first_of_the_rest() {
        let reached = |look: &Look| look.reached.is_some();
        let s = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(last(&looks("++-"), reached), s(1));
        assert_eq!(last(&looks("-"), reached), None);
        assert_eq!(settled(&looks("+-++"), reached), s(2));
        assert_eq!(settled(&looks("++-"), reached), None);
        assert_eq!(settled(&[], reached), None);
    }
}
