//! What the balancer tells people and programs about itself: a page, JSON, and HAProxy's CSV.
//!
//! [`model`] is what is told, [`collect`] reads it off counters and snapshot when somebody asks, [`history`] remembers the
//! last minutes, sampled once a second; the rest are ways to write it down. Serving a request does nothing for it but
//! count.

mod collect;
mod csv;
pub(crate) mod history;
pub(crate) mod model;
mod routes;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::snapshot::Snapshot;
use crate::worker::Shared;
use history::History;
use model::Stats;
pub(crate) use routes::routes;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What does not change while the process lives.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) instance: String,
    pub(crate) workers: usize,
    pub(crate) started: Instant,
    pub(crate) started_at: SystemTime,
    pub(crate) draining: CancellationToken,
}

/// Everything that stats are made of. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    shared: Arc<Shared>,
    facts: Arc<Facts>,
    // Held while a sample is taken or read, never by requests.
    history: Arc<Mutex<History>>,
}

impl Source {
    pub(crate) fn new(shared: Arc<Shared>, facts: Facts) -> Self {
        Self { shared, facts: Arc::new(facts), history: Arc::default() }
    }

    /// Takes a sample a second, for ever.
    pub(crate) async fn run(self) {
        loop {
            let now_s = self.facts.started.elapsed().as_secs();
            let sums = collect::sums(&self.shared);
            self.history.lock().unwrap_or_else(PoisonError::into_inner).sample(now_s, sums);
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }

    /// What requests see now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Everything as it is now.
    pub(crate) fn read(&self) -> Stats {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        collect::stats(&self.shared, &self.facts, &history, Instant::now())
    }
}
