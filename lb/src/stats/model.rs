//! What is told. Its JSON is the document at `/stats.json`; fields may be added, never renamed.
//!
//! Counts are since the start of the process; `recent` is the last minute, `history` a point a second. Times are in the
//! unit that their names end in.

use std::collections::BTreeMap;

use serde::Serialize;

use super::history::{Latency, Recent, Series};

/// Counts by a word.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    pub(crate) instance: String,
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    pub(crate) workers: usize,
    /// `serving` or `draining`.
    pub(crate) status: &'static str,
    pub(crate) now_unix_ms: u64,
    pub(crate) started_unix_ms: u64,
    pub(crate) uptime_s: u64,
    pub(crate) reloads: u64,
    /// Lines of the access log that were dropped.
    pub(crate) drops: u64,
    pub(crate) totals: Totals,
    /// From the head of a request to the end of its answer.
    pub(crate) latency: Latency,
    pub(crate) recent: Recent,
    pub(crate) history: Series,
    pub(crate) connections: Connections,
    pub(crate) protocols: Counts,
    pub(crate) pools: Vec<Pool>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    /// Server errors that clients got, from backends and from the balancer.
    pub(crate) errors: u64,
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Answers of backends by class of status: `2xx` ...
    pub(crate) answers: Counts,
    /// Answers of the balancer's own, by reason.
    pub(crate) own_answers: Counts,
    pub(crate) retries: Counts,
    pub(crate) retries_refused_by_budget: u64,
    pub(crate) cookies: Counts,
    pub(crate) cookies_issued: u64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Connections {
    pub(crate) open: u64,
    pub(crate) max: u64,
    pub(crate) accepted: u64,
    /// Ended by a deadline of ours, by which.
    pub(crate) cut: Counts,
}

#[derive(Debug, Serialize)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) algorithm: &'static str,
    /// `off`, `cookie` or `table`.
    pub(crate) sticky: &'static str,
    pub(crate) panicking: bool,
    pub(crate) queue: u64,
    pub(crate) queue_max: u64,
    /// Sums over every backend that there ever was.
    pub(crate) sums: Sums,
    pub(crate) backends: Vec<Backend>,
}

/// What a backend, or all of a pool, did.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sums {
    /// Attempts: answered and failed ones.
    pub(crate) requests: u64,
    /// Attempts without an answer.
    pub(crate) failed: u64,
    /// By class of status, 1xx to 5xx.
    pub(crate) answers: [u64; 5],
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) connections_opened: u64,
    pub(crate) probes_failed: u64,
    pub(crate) cookies_issued: u64,
}

impl Sums {
    /// Attempts without an answer, and server errors.
    pub(crate) fn errors(&self) -> u64 {
        self.failed + self.answers[4]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        for (sum, more) in self.answers.iter_mut().zip(other.answers) {
            *sum += more;
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.connections_opened += other.connections_opened;
        self.probes_failed += other.probes_failed;
        self.cookies_issued += other.cookies_issued;
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Backend {
    pub(crate) id: u64,
    /// The instance's name, or its address while it has not said one.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) state: &'static str,
    /// Who decided on it: `checks`, `operator`, `discovery`, `weight`, `ejection` or `content`.
    pub(crate) cause: &'static str,
    /// What brought it into this state, for people.
    pub(crate) why: String,
    pub(crate) since_s: u64,
    /// An ejected one comes back in so many seconds.
    pub(crate) until_s: Option<u64>,
    /// The last order of an operator.
    pub(crate) asked: Option<Asked>,
    /// The last thing that went wrong in a check or a request.
    pub(crate) trouble: Option<Trouble>,
    /// Random at each start of the instance; hexadecimal.
    pub(crate) generation: Option<String>,
    /// The hash of its content, as its health answer says.
    pub(crate) content: Option<String>,
    /// Added by an operator, not found by discovery.
    pub(crate) is_added: bool,
    /// Its content differs from the majority's.
    pub(crate) content_differs: bool,
    pub(crate) downtime_s: u64,
    pub(crate) times_down: u64,
    pub(crate) weight: u64,
    pub(crate) limit: u64,
    /// The limit that an operator set.
    pub(crate) limit_asked: Option<u64>,
    pub(crate) in_flight: u64,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) sums: Sums,
    /// From being asked to the head of the answer.
    pub(crate) latency: Latency,
    pub(crate) recent: Recent,
    pub(crate) history: Series,
    /// Sessions that would come back to it; see `pinned_is`.
    pub(crate) pinned: Option<u64>,
    /// `estimate` (cookies given out within one lifetime), `exact` (entries of the table) or `off`.
    pub(crate) pinned_is: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) by: String,
    pub(crate) ago_s: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Trouble {
    pub(crate) what: String,
    pub(crate) ago_s: u64,
}
