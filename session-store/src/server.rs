//! The program that runs beside a session store: it watches the store as an app would use it, and tells.
//!
//! It reads (a session that does not exist) at a steady pace, so the measured time is the one that requests pay, and it
//! counts the sessions at a bounded rate. It never writes.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use service_kit::{Context, Error};
use tokio::time::sleep;

use crate::config::Config;
use crate::error::StoreError;
use crate::health;
use crate::policy::Policy;
use crate::redis_store::RedisStore;
use crate::store::Store;
use crate::token::SessionToken;

/// Keys looked at in one step of the count: a fraction of a millisecond of Redis' one thread.
const PAGE_KEYS: u32 = 100;

/// The count starts again this long after it ended; a small store is not counted without pause.
const CENSUS_PAUSE: Duration = Duration::from_secs(5);

/// Starts the watching and runs until told to stop.
pub async fn start(cx: Context<Config>) -> Result<(), Error> {
    let store = RedisStore::start(&cx.settings.redis, Policy::unlimited())?;
    let metrics = Metrics::default();
    cx.metrics.register(|registry| metrics.register(registry));
    let dependency = cx.readiness.dependency("redis-session");
    let follow = health::follow(Store::Redis(store.clone()).health(), dependency);
    let watch = watch(store.clone(), metrics.clone(), cx.settings.read_interval);
    let count = count(store, metrics, cx.settings.scan_keys_per_second);
    let stopping = cx.shutdown.stopping();
    cx.tasks.spawn("watch", async move {
        tokio::select! {
            () = async { tokio::join!(follow, watch, count); } => {}
            () = stopping.cancelled() => {}
        }
    });
    cx.run().await
}

#[derive(Debug, Clone)]
struct Metrics {
    reachable: Gauge,
    read_seconds: Histogram,
    failures: Family<Failure, Counter>,
    sessions: Gauge<u64, AtomicU64>,
    tombstones: Gauge<u64, AtomicU64>,
    census_seconds: Gauge<f64, AtomicU64>,
    censuses: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 0.1 ms, a store on the same machine, to twice the default deadline.
        let bounds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5];
        Self {
            reachable: Gauge::default(),
            read_seconds: Histogram::new(bounds),
            failures: Family::default(),
            sessions: Gauge::default(),
            tombstones: Gauge::default(),
            census_seconds: Gauge::default(),
            censuses: Counter::default(),
        }
    }
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("session_store");
        registry.register("reachable", "Whether the last timed read was answered", self.reachable.clone());
        registry.register(
            "read_seconds",
            "Time of timed reads that were answered",
            self.read_seconds.clone(),
        );
        registry.register("failures", "Reads and count steps that failed, by kind", self.failures.clone());
        registry.register("sessions", "Live sessions at the last full count", self.sessions.clone());
        registry.register(
            "tombstones",
            "Ended sessions still remembered at the last full count",
            self.tombstones.clone(),
        );
        registry.register("census_seconds", "How long the last full count took", self.census_seconds.clone());
        registry.register("censuses", "Full counts so far", self.censuses.clone());
    }

    fn failed(&self, error: &StoreError) {
        self.failures.get_or_create(&Failure { kind: error.kind() }).inc();
    }
}

async fn watch(store: RedisStore, metrics: Metrics, read_interval: Duration) {
    loop {
        let started = Instant::now();
        match store.load(&SessionToken::generate().id()).await {
            Ok(_) => {
                metrics.reachable.set(1);
                metrics.read_seconds.observe(started.elapsed().as_secs_f64());
            }
            Err(error) => {
                metrics.reachable.set(0);
                metrics.failed(&error);
            }
        }
        sleep(read_interval).await;
    }
}

async fn count(store: RedisStore, metrics: Metrics, keys_per_second: u32) {
    let keys = PAGE_KEYS.min(keys_per_second);
    let pace = Duration::from_secs(1) * keys / keys_per_second;
    loop {
        let started = Instant::now();
        // A count that was interrupted would mix two stores' keys: it starts from the beginning.
        match census(&store, keys, pace).await {
            Ok((sessions, tombstones)) => {
                metrics.sessions.set(sessions);
                metrics.tombstones.set(tombstones);
                metrics.census_seconds.set(started.elapsed().as_secs_f64());
                metrics.censuses.inc();
            }
            Err(error) => metrics.failed(&error),
        }
        sleep(CENSUS_PAUSE).await;
    }
}

async fn census(store: &RedisStore, keys: u32, pace: Duration) -> Result<(u64, u64), StoreError> {
    let (mut cursor, mut sessions, mut tombstones) = (0, 0, 0);
    loop {
        let page = store.census_page(cursor, keys).await?;
        sessions += page.sessions;
        tombstones += page.tombstones;
        if page.next == 0 {
            return Ok((sessions, tombstones));
        }
        cursor = page.next;
        sleep(pace).await;
    }
}
