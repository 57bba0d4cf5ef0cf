//! What requests see of the backends: an immutable list with everyone's state, replaced as a whole when anything changes.
//!
//! The only thing that changes inside is each backend's count of requests in flight, shared by all workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::health::State;
use crate::metrics::BackendMetrics;
use crate::ticket::Pin;

/// One backend, for as long as it is known.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Never used twice, unlike addresses: idle connections are kept by it.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: BackendMetrics,
    inflight: AtomicUsize,
}

impl Backend {
    pub(crate) fn new(id: u64, address: SocketAddr, metrics: BackendMetrics) -> Self {
        Self { id, address, metrics, inflight: AtomicUsize::new(0) }
    }

    pub(crate) fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Counts one request until the lease is dropped, unless `max` are in flight already.
    pub(crate) fn lease(self: &Arc<Self>, max: usize) -> Option<Lease> {
        if self.inflight.fetch_add(1, Ordering::Relaxed) >= max {
            self.inflight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.metrics.inflight.inc();
        Some(Lease { backend: Arc::clone(self) })
    }
}

/// One request in flight at a backend.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) backend: Arc<Backend>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.inflight.fetch_sub(1, Ordering::Relaxed);
        self.backend.metrics.inflight.dec();
    }
}

/// A backend and what is known of it at this moment.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) backend: Arc<Backend>,
    pub(crate) state: State,
    /// Who it is, once it said so in a health answer.
    pub(crate) pin: Option<Pin>,
}

/// Everyone, and who may be picked. Indices point into `entries`.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) entries: Vec<Entry>,
    /// Healthy ones.
    pub(crate) ready: Vec<usize>,
    /// Used when nobody is healthy: probes can be wrong, and an answer that may fail is better than one that surely does.
    pub(crate) floor: Vec<usize>,
    /// Used when there is nobody else.
    pub(crate) draining: Vec<usize>,
}

impl Snapshot {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let with = |wanted: &[State]| {
            (0..entries.len()).filter(|index| wanted.contains(&entries[*index].state)).collect::<Vec<_>>()
        };
        let ready = with(&[State::Up]);
        let floor = if ready.is_empty() { with(&[State::Unknown, State::Down]) } else { Vec::new() };
        let draining = with(&[State::Draining]);
        Self { entries, ready, floor, draining }
    }

    /// Nobody is healthy and requests are sent anyway.
    pub(crate) fn panics(&self) -> bool {
        self.ready.is_empty() && !self.entries.is_empty()
    }

    /// The groups in the order in which they are tried.
    pub(crate) fn tiers(&self) -> [&[usize]; 3] {
        [&self.ready, &self.floor, &self.draining]
    }
}
