//! Binds, spawns, drains: the only module that knows of all the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use service_kit::{Context, Error, Reloads};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::worker::{self, Shared};
use crate::{discovery, roster};

/// Events that may wait for the roster; probes wait beyond it, failed requests are not told of.
const EVENTS_MAX: usize = 1_024;

/// Starts the balancer and runs it to its end.
pub async fn start(mut cx: Context<Config>) -> Result<(), Error> {
    let listen = cx.settings.server.listen;
    let listeners = service_kit::net::bind_tcp_group(listen, cx.workers)?;
    cx.bound("http", listeners[0].local_addr()?);

    let metrics = Metrics::default();
    cx.metrics.register(|registry| metrics.register(registry));
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let shared = Arc::new(Shared {
        config: ArcSwap::from_pointee(cx.settings.clone()),
        snapshot: ArcSwap::from_pointee(Snapshot::default()),
        metrics,
        events,
    });

    // Health and discovery go on while workers drain: a backend may die in the meantime.
    let served = CancellationToken::new();
    let roster = roster::run(Arc::clone(&shared), inbox, cx.readiness.dependency("backends"));
    cx.tasks.spawn("roster", until(&served, roster));
    cx.tasks.spawn("discovery", until(&served, discovery::run(Arc::clone(&shared))));
    let reloads = cx.reloads();
    cx.tasks.spawn("reload", until(&served, reload(reloads, Arc::clone(&shared))));

    let left = Arc::new(AtomicUsize::new(listeners.len()));
    for (number, listener) in listeners.into_iter().enumerate() {
        let (shared, shutdown) = (Arc::clone(&shared), cx.shutdown.clone());
        let (left, served) = (Arc::clone(&left), served.clone());
        cx.tasks.spawn_worker(format!("lb-worker-{number}"), move || async move {
            worker::run(number, listener, shared, shutdown).await;
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

/// Replaces the configuration as a whole. Requests that have begun keep the old one, and so do open connections for
/// their deadlines; nothing is closed.
async fn reload(mut reloads: Reloads<Config>, shared: Arc<Shared>) {
    loop {
        let new = reloads.next().await;
        let old = shared.config.load_full();
        if new.server.listen != old.server.listen || new.server.connections_max != old.server.connections_max
        {
            warn!("server.listen and server.connections_max_per_worker change only with a restart");
        }
        let sticky = new.sticky.is_some();
        shared.config.store(Arc::new(new));
        info!(sticky, "configuration replaced");
    }
}
