//! Reads counters, snapshot and history into [`Stats`], when somebody asks.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Facts;
use super::history::{self, History, Latency};
use super::model::{Asked, Backend, Connections, Counts, Pool, Stats, Sums, Totals, Trouble};
use crate::config::StickyKind;
use crate::failure::Failure;
use crate::snapshot::{self, Entry, Snapshot};
use crate::state::State;
use crate::validate::Refusal;
use crate::worker::Shared;

/// The id under which history keeps all traffic; backends' own begin at 1.
const ALL: u64 = 0;

/// The status of an answer of the balancer's own.
pub(super) fn own_status(reason: &str) -> Option<u16> {
    let failure = Failure::ALL.iter().find(|it| it.kind() == reason).map(|it| it.status());
    let refusal = || Refusal::ALL.iter().find(|it| it.kind() == reason).map(|it| it.status());
    failure.or_else(refusal).map(|status| status.as_u16())
}

/// What history keeps, of everything there is.
pub(super) fn sums(shared: &Shared) -> Vec<(u64, history::Sums)> {
    let (snapshot, metrics) = (shared.snapshot.load(), &shared.metrics);
    let mut all = vec![(
        ALL,
        history::Sums {
            requests: metrics.requests.get(),
            errors: errors(shared, &snapshot),
            counts: metrics.latency.counts(),
            ..history::Sums::default()
        },
    )];
    for pool in &snapshot.pools {
        let cookie_lifetime_s = pool.config.sticky.as_ref().map_or(0, |sticky| sticky.lifetime.as_secs());
        all.extend(pool.entries.iter().map(|entry| {
            let metrics = &entry.backend.metrics;
            let sums = metrics.sums();
            let of_one = history::Sums {
                requests: sums.requests,
                errors: sums.errors(),
                counts: metrics.latency.counts(),
                cookies: sums.cookies_issued,
                cookie_lifetime_s,
            };
            (entry.backend.id, of_one)
        }));
    }
    all
}

/// Server errors that clients got.
fn errors(shared: &Shared, snapshot: &Snapshot) -> u64 {
    let own = shared.metrics.own_answers();
    let server_error = |reason: &str| own_status(reason).is_some_and(|status| status >= 500);
    let own: u64 = own.iter().filter(|(reason, _)| server_error(reason)).map(|(_, count)| count).sum();
    own + snapshot
        .pools
        .iter()
        .map(|pool| shared.metrics.pool_sums(&pool.config.name).answers[4])
        .sum::<u64>()
}

pub(super) fn stats(shared: &Shared, facts: &Facts, history: &History, now: Instant) -> Stats {
    let (snapshot, metrics) = (shared.snapshot.load(), &shared.metrics);
    let now_s = now.saturating_duration_since(facts.started).as_secs();
    let pools: Vec<Pool> = snapshot.pools.iter().map(|it| pool(it, shared, history, now, now_s)).collect();
    let unix_ms = |at: SystemTime| {
        at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    Stats {
        instance: facts.instance.clone(),
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        workers: facts.workers,
        status: if facts.draining.is_cancelled() { "draining" } else { "serving" },
        now_unix_ms: unix_ms(SystemTime::now()),
        started_unix_ms: unix_ms(facts.started_at),
        uptime_s: now_s,
        reloads: metrics.reloads.get(),
        drops: metrics.access_log_dropped.get(),
        totals: totals(shared, &snapshot, &pools),
        latency: Latency::since_start(&metrics.latency),
        recent: history.recent(ALL, now_s),
        history: history.series(ALL),
        connections: Connections {
            open: count(metrics.connections.get()),
            max: (snapshot.config.server.connections_max * facts.workers) as u64,
            accepted: metrics.connections_accepted.get(),
            cut: metrics.cuts(),
        },
        protocols: metrics.protocols(),
        pools,
    }
}

fn totals(shared: &Shared, snapshot: &Snapshot, pools: &[Pool]) -> Totals {
    let metrics = &shared.metrics;
    let mut sums = Sums::default();
    pools.iter().for_each(|pool| sums.add(&pool.sums));
    Totals {
        requests: metrics.requests.get(),
        errors: errors(shared, snapshot),
        in_flight: count(metrics.inflight.get()),
        queued: pools.iter().map(|pool| pool.queue).sum(),
        bytes_in: sums.bytes_in,
        bytes_out: sums.bytes_out,
        answers: ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(sums.answers).collect::<Counts>(),
        own_answers: metrics.own_answers(),
        retries: metrics.retries(),
        retries_refused_by_budget: metrics.budget_empty.get(),
        cookies: metrics.cookies(),
        cookies_issued: metrics.cookies_issued.get(),
    }
}

/// A gauge that a race may show below zero for a moment.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn pool(pool: &snapshot::Pool, shared: &Shared, history: &History, now: Instant, now_s: u64) -> Pool {
    let config = &pool.config;
    let pins = Pins::of(pool, now);
    Pool {
        name: config.name.to_string(),
        algorithm: config.balance.algorithm.as_str(),
        sticky: match config.sticky.as_ref().map(|sticky| &sticky.kind) {
            None => "off",
            Some(StickyKind::Sealed(_)) => "cookie",
            Some(StickyKind::Table { .. }) => "table",
        },
        panicking: pool.panics(),
        queue: pool.commons.queue.len() as u64,
        queue_max: config.queue.len_max as u64,
        sums: shared.metrics.pool_sums(&config.name),
        backends: pool.entries.iter().map(|entry| backend(entry, &pins, history, now, now_s)).collect(),
    }
}

/// How a pool's pinned sessions are counted.
enum Pins {
    Off,
    /// Cookies given out within one lifetime.
    Estimate,
    /// Entries of the table.
    Exact(HashMap<u64, u64>),
}

impl Pins {
    fn of(pool: &snapshot::Pool, now: Instant) -> Self {
        match &pool.config.sticky {
            None => Self::Off,
            Some(sticky) => match sticky.kind {
                StickyKind::Sealed(_) => Self::Estimate,
                StickyKind::Table { .. } => Self::Exact(pool.commons.table.by_backend(sticky.bounds(), now)),
            },
        }
    }

    fn at(&self, id: u64, history: &History) -> (Option<u64>, &'static str) {
        match self {
            Self::Off => (None, "off"),
            Self::Estimate => (Some(history.live_cookies(id)), "estimate"),
            Self::Exact(counts) => (Some(counts.get(&id).copied().unwrap_or(0)), "exact"),
        }
    }
}

fn backend(entry: &Entry, pins: &Pins, history: &History, now: Instant, now_s: u64) -> Backend {
    let (backend, id) = (&entry.backend, entry.backend.id);
    let (sums, about) = (backend.metrics.sums(), &entry.about);
    let here = now.saturating_duration_since(entry.since);
    let down_now = if entry.state == State::Down { here } else { Duration::ZERO };
    let (pinned, pinned_is) = pins.at(id, history);
    Backend {
        id,
        name: entry.name(),
        address: backend.address.to_string(),
        state: entry.state.as_str(),
        cause: about.cause,
        why: about.why.clone(),
        until_s: about.until.map(|until| until.saturating_duration_since(now).as_secs()),
        asked: about.asked.as_ref().map(|asked| Asked {
            what: asked.what.clone(),
            by: asked.by.clone(),
            ago_s: now.saturating_duration_since(asked.at).as_secs(),
        }),
        trouble: backend.trouble.load().as_ref().map(|trouble| Trouble {
            what: trouble.what.clone(),
            ago_s: now.saturating_duration_since(trouble.at).as_secs(),
        }),
        generation: about.generation.map(|generation| format!("{generation:016x}")),
        content: about.content.clone(),
        is_added: about.is_added,
        content_differs: about.differs,
        downtime_s: (about.downtime + down_now).as_secs(),
        times_down: u64::from(about.downs),
        since_s: here.as_secs(),
        weight: u64::from(about.weights.effective()),
        limit: entry.limit as u64,
        limit_asked: about.limit_asked.map(|limit| limit as u64),
        in_flight: backend.inflight() as u64,
        requests: sums.requests,
        errors: sums.errors(),
        sums,
        latency: Latency::since_start(&backend.metrics.latency),
        recent: history.recent(id, now_s),
        history: history.series(id),
        pinned,
        pinned_is,
    }
}
