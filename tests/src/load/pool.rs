//! Kept-alive connections, per address. The newest is used first, so that surplus ones grow old and are dropped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::http_client::Connection;

/// Connections that wait for a request.
#[derive(Debug)]
pub(super) struct Pool {
    per_address_max: usize,
    idle_timeout: Duration,
    // Locked only to push and pop, never across an await.
    idle: Mutex<HashMap<SocketAddr, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(per_address_max: usize, idle_timeout: Duration) -> Self {
        Self { per_address_max, idle_timeout, idle: Mutex::default() }
    }

    /// A connection that looks alive, if there is one. The peer may still close it at any moment.
    pub(super) fn take(&self, address: SocketAddr, now: Instant) -> Option<Connection> {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = all.get_mut(&address)?;
        // The oldest are in front; dropping one closes it.
        let fresh = list
            .iter()
            .position(|idle| now.duration_since(idle.since) < self.idle_timeout)
            .unwrap_or(list.len());
        list.drain(..fresh);
        while let Some(idle) = list.pop() {
            if !idle.connection.sender.is_closed() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Takes a connection back whose response was read to its end.
    pub(super) fn give_back(&self, address: SocketAddr, connection: Connection, now: Instant) {
        if connection.sender.is_closed() {
            return;
        }
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = all.entry(address).or_default();
        if list.len() < self.per_address_max {
            list.push(Idle { connection, since: now });
        }
    }
}
