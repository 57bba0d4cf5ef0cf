//! Who holds how many TCP connections. A permit is a guard: no way out of a connection forgets to give it back.

use crate::config::TcpLimits;
use crate::metrics::Closed;
use service_kit::Prefix;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that are one client: every host has as many addresses of such a network as it likes.
const IPV6_CLIENT_BITS: u8 = 64;

/// The open connections by client.
#[derive(Debug)]
pub struct Clients {
    connections_max: usize,
    connections_per_client_max: usize,
    unlimited: Vec<IpAddr>,
    // Held for a few instructions, never across an await.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// The right to one connection.
#[derive(Debug)]
pub struct Permit {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    pub fn new(limits: &TcpLimits) -> Clients {
        Clients {
            connections_max: limits.connections_max,
            connections_per_client_max: limits.connections_per_client_max,
            unlimited: limits.unlimited_clients.iter().map(IpAddr::to_canonical).collect(),
            open: Mutex::default(),
        }
    }

    /// Admits one more connection of a client, or says which limit it meets.
    pub fn admit(clients: &Arc<Clients>, client: IpAddr) -> Result<Permit, Closed> {
        // On a socket for both families, one client is not two.
        let address = client.to_canonical();
        let client =
            if address.is_ipv6() { Prefix::new(address, IPV6_CLIENT_BITS).network() } else { address };
        let mut open = clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= clients.connections_max {
            return Err(Closed::TooMany);
        }
        let own = open.by_client.get(&client).copied().unwrap_or(0);
        if own >= clients.connections_per_client_max && !clients.unlimited.contains(&address) {
            return Err(Closed::TooManyOfClient);
        }
        open.total += 1;
        open.by_client.insert(client, own + 1);
        drop(open);
        Ok(Permit { clients: clients.clone(), client })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(own) = open.by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn clients(max: usize, per_client_max: usize, unlimited: Vec<IpAddr>) -> Arc<Clients> {
        Arc::new(Clients::new(&TcpLimits {
            connections_max: max,
            connections_per_client_max: per_client_max,
            unlimited_clients: unlimited,
            idle_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            query_bytes_max: 0,
        }))
    }

    /// Each letter is a client asking for a connection; upper case gives one back. Total at most 4, each at most 2, and
    /// `g` is not limited on its own.
    #[track_caller]
    fn check(events: &str, expected: &str) {
        let address = |letter: char| IpAddr::from([192, 0, 2, letter.to_ascii_lowercase() as u8]);
        let clients = clients(4, 2, vec![address('g')]);
        let mut held: Vec<Permit> = Vec::new();
        let mut got = String::new();
        for event in events.chars() {
            if event.is_ascii_uppercase() {
                let at = held.iter().position(|permit| permit.client == address(event)).unwrap();
                held.remove(at);
                continue;
            }
            got.push(match Clients::admit(&clients, address(event)) {
                Ok(permit) => {
                    held.push(permit);
                    '+'
                }
                Err(Closed::TooMany) => 'T',
                Err(_) => 'c',
            });
        }
        assert_eq!(got, expected);
        drop(held);
        let open = clients.open.lock().unwrap();
        assert_eq!((open.total, open.by_client.len()), (0, 0), "everything is given back");
    }

    #[test]
    fn each_client_has_its_limit() {
        check("aaabb", "++c++");
    }
    #[test]
    fn all_together_have_theirs() {
        check("aabbc", "++++T");
    }
    #[test]
    fn what_is_given_back_counts_again() {
        check("aaaAa", "++c+");
        check("aabbAc", "+++++");
    }
    #[test]
    fn some_are_bound_by_the_total_alone() {
        check("ggggg", "++++T");
    }

    /// Whether one that has a connection from the first address gets another one from the second.
    #[track_caller]
    fn check_same(first: &str, second: &str, same: bool) {
        let clients = clients(9, 1, Vec::new());
        let _held = Clients::admit(&clients, first.parse().unwrap()).unwrap();
        let second = Clients::admit(&clients, second.parse().unwrap());
        assert_eq!(second.err(), same.then_some(Closed::TooManyOfClient));
    }

    #[test]
    fn one_client_by_other_addresses() {
        check_same("192.0.2.1", "::ffff:192.0.2.1", true);
        check_same("192.0.2.1", "192.0.2.2", false);
        check_same("2001:db8::1", "2001:db8::ffff:0:0:2", true);
        check_same("2001:db8::1", "2001:db8:0:1::1", false);
    }
}
