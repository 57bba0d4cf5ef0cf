//! Binds, spawns, drains: the only module that knows of all the others.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use service_kit::lines::{self, Batch, Orders, Target};
use service_kit::{Context, Error, Reloads};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::access_log;
use crate::admin;
use crate::config::Config;
use crate::connection::Speaks;
use crate::limits::Counts;
use crate::metrics::Metrics;
use crate::roster::{self, Event};
use crate::snapshot::{Pool, Snapshot};
use crate::state::State;
use crate::stats::{Facts, Source};
use crate::tls;
use crate::worker::{self, Shared};

/// Events that may wait for the roster; probes wait beyond it, failed requests are not told of.
const EVENTS_MAX: usize = 1_024;
/// How long a process waits for pools without backends to get some, and one that takes over nothing for a first verdict on
/// every backend.
const FIRST_LOOKS_WAIT: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts the balancer and runs it to its end.
pub async fn start(mut cx: Context<Config>) -> Result<(), Error> {
    let listeners = bind(&mut cx)?;
    let metrics = Metrics::default();
    cx.metrics.register(|registry| metrics.register(registry));
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let config = Arc::new(cx.settings.clone());
    let snapshot = Snapshot::empty(Arc::clone(&config), &metrics);
    let (access_log, batches) =
        access_log::channel(metrics.access_log_dropped.clone(), &cx.identity.instance);
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(snapshot),
        newest: ArcSwap::new(config),
        counts: Counts::new(Instant::now()),
        tls: tls::Live::default(),
        metrics,
        events,
        access_log,
    });
    if let Some(tls) = &cx.settings.tls {
        shared
            .tls
            .replace(tls, &tls.certificates)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
    }

    // Health and discovery go on while workers drain: a backend may die in the meantime.
    let served = CancellationToken::new();
    let roster = roster::run(Arc::clone(&shared), inbox, cx.readiness.dependency("backends"));
    cx.tasks.spawn("roster", until(&served, roster));
    let looked = CancellationToken::new();
    let looks = first_looks(Arc::clone(&shared), looked.clone());
    if cx.takes_over() {
        let reached = cx.readiness.dependency("first-looks");
        cx.tasks.spawn(
            "first-looks",
            until(&served, async move {
                looks.await;
                reached.reached();
            }),
        );
    } else {
        // Without any backend it has to say so some time.
        let looks = async move { drop(tokio::time::timeout(FIRST_LOOKS_WAIT, looks).await) };
        cx.tasks.spawn("first-looks", until(&served, looks));
    }
    cx.tasks.spawn("certificates", until(&served, watch_certificates(Arc::clone(&shared))));
    let reloads = cx.reloads();
    let orders = log_accesses(&cx, &shared, batches, served.clone())?;
    cx.tasks.spawn("reload", until(&served, reload(reloads, Arc::clone(&shared), orders)));
    tell(&cx, &shared, &served);

    let left = Arc::new(AtomicUsize::new(listeners.len()));
    for (number, listeners) in listeners.into_iter().enumerate() {
        let (shared, shutdown, opened) = (Arc::clone(&shared), cx.shutdown.clone(), cx.opened());
        let (left, served, looked) = (Arc::clone(&left), served.clone(), looked.clone());
        cx.tasks.spawn_worker(format!("lb-worker-{number}"), move || async move {
            let opened = async move {
                opened.cancelled().await;
                // Whoever connects meanwhile waits in the kernel's queue, which is better than 503.
                looked.cancelled().await;
            };
            worker::run(number, listeners, shared, opened, shutdown).await;
            if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                served.cancel();
            }
        })?;
    }
    cx.run().await
}

fn until<F>(token: &CancellationToken, task: F) -> impl Future<Output = ()> + use<F>
where
    F: Future<Output = ()>,
{
    let token = token.clone();
    async move {
        tokio::select! {
            () = task => {}
            () = token.cancelled() => {}
        }
    }
}

/// Starts the thread that writes the access log; it ends when all workers have and everything is written.
fn log_accesses(
    cx: &Context<Config>,
    shared: &Shared,
    batches: mpsc::Receiver<Batch>,
    served: CancellationToken,
) -> Result<Orders, Error> {
    let orders = Orders::new(log_target(&cx.settings));
    let metrics = &shared.metrics;
    let counts = (metrics.access_log_written.clone(), metrics.access_log_dropped.clone());
    let writer = lines::write("access log", orders.clone(), batches, counts, served);
    cx.tasks.spawn_worker("access-log", move || writer)?;
    Ok(orders)
}

fn log_target(config: &Config) -> Option<Target> {
    config.access_log.as_ref().map(|log| log.target.clone())
}

/// What the admin listener tells of the balancer besides what every program does.
fn tell(cx: &Context<Config>, shared: &Arc<Shared>, served: &CancellationToken) {
    let facts = Facts {
        instance: cx.identity.instance.clone(),
        workers: cx.workers,
        started: Instant::now(),
        started_at: SystemTime::now(),
        draining: cx.shutdown.draining(),
    };
    let source = Source::new(Arc::clone(shared), facts);
    cx.tasks.spawn("stats", until(served, source.clone().run()));
    cx.admin_routes(admin::routes(source, shared.events.clone()));
}

async fn watch_certificates(shared: Arc<Shared>) {
    tls::watch(&shared.tls, &shared.metrics, || shared.newest.load_full()).await;
}

/// For each worker its listeners, for every address at least one.
fn bind(cx: &mut Context<Config>) -> Result<Vec<Vec<(Speaks, TcpListener)>>, Error> {
    let mut workers: Vec<Vec<_>> = (0..cx.workers.max(1)).map(|_| Vec::new()).collect();
    let plain = cx.settings.server.listen.clone();
    let secure = cx.settings.tls.as_ref().map(|tls| tls.listen.clone()).unwrap_or_default();
    for (kind, speaks, addresses) in [("http", Speaks::Http, plain), ("https", Speaks::Https, secure)] {
        for (nth, address) in addresses.into_iter().enumerate() {
            let name = if nth == 0 { kind.to_owned() } else { format!("{kind}-{}", nth + 1) };
            let group = cx.listen(&name, address, workers.len())?;
            cx.bound(&name, group[0][0].local_addr()?);
            for (listeners, more) in workers.iter_mut().zip(group) {
                listeners.extend(more.into_iter().map(|listener| (speaks, listener)));
            }
        }
    }
    Ok(workers)
}

/// What a process waits for before it accepts or takes over: a first verdict on every backend. One that serves with the first
/// healthy backend alone would send it everything that belongs to all. Tells at its end, and when it is given up.
async fn first_looks(shared: Arc<Shared>, looked: CancellationToken) {
    let _told = looked.drop_guard();
    // A pool may have no backends and not get any: nobody waits for those for ever.
    let _ = tokio::time::timeout(FIRST_LOOKS_WAIT, async {
        while shared.snapshot.load().pools.iter().any(|pool| pool.entries.is_empty()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
    let unknown = |pool: &Pool| pool.entries.iter().any(|entry| entry.state == State::Unknown);
    while shared.snapshot.load().pools.iter().any(unknown) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Hands new configurations to the roster, which replaces the old one as a whole. Requests that have begun keep the old
/// one, and so do open connections for their deadlines; nothing is closed.
async fn reload(mut reloads: Reloads<Config>, shared: Arc<Shared>, log: Orders) {
    loop {
        let new = Arc::new(reloads.next().await);
        let old = shared.newest.swap(Arc::clone(&new));
        let listens = |config: &Config| config.tls.as_ref().map(|tls| tls.listen.clone());
        if listens(&new) != listens(&old) {
            warn!("tls.listen changes only with a restart");
        }
        if let Some(tls) = &new.tls
            && let Err(error) = shared.tls.replace(tls, &tls.certificates)
        {
            warn!(%error, "certificates kept: the new ones cannot be used");
        }
        if new.server.listen != old.server.listen || new.server.connections_max != old.server.connections_max
        {
            warn!("server.listen and server.connections_max_per_worker change only with a restart");
        }
        log.reopen(log_target(&new));
        if shared.events.send(Event::Reload(new)).await.is_err() {
            return;
        }
    }
}
