//! One thread: its listener, its client connections and its connections to the backends.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use service_kit::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::Config;
use crate::connection;
use crate::metrics::Metrics;
use crate::retry::Budget;
use crate::roster::Event;
use crate::snapshot::Snapshot;
use crate::upstream::Upstreams;

/// How often idle connections to backends are looked through.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// What all workers see: two snapshots that others replace, and two ways out.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Config>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) metrics: Metrics,
    pub(crate) events: mpsc::Sender<Event>,
}

/// What one worker owns.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) budget: RefCell<Budget>,
    /// Whose turn it is. Workers start at different places, so that few requests are spread too.
    pub(crate) turn: Cell<usize>,
    pub(crate) draining: CancellationToken,
    /// The worker's own, so that connections do not share a lock with other workers.
    pub(crate) stopping: CancellationToken,
}

/// Accepts and serves until the stop; ends when every connection has, or when time is up.
pub(crate) async fn run(
    number: usize,
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            error!(%error, worker = number, "cannot use the listener");
            return;
        }
    };
    let config = shared.config.load_full();
    let worker = Rc::new(Worker {
        budget: RefCell::new(Budget::new(config.retry.budget, Instant::now())),
        upstreams: Rc::default(),
        turn: Cell::new(number),
        draining: shutdown.draining(),
        stopping: CancellationToken::new(),
        shared,
    });
    let permits = Arc::new(Semaphore::new(config.server.connections_max));
    tokio::select! {
        () = accept(&listener, &worker, &permits) => {}
        () = prune(&worker) => {}
        () = shutdown.stopping().cancelled_owned() => {}
    }
    // Connections that the kernel has completed already would be reset by closing the listener.
    while let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
        match service_kit::net::accept(&listener).now_or_never() {
            Some((stream, peer)) => spawn(&worker, permit, stream, peer),
            None => break,
        }
    }
    drop(listener);
    worker.stopping.cancel();
    let all = u32::try_from(config.server.connections_max).unwrap_or(u32::MAX);
    tokio::select! {
        _ = permits.acquire_many(all) => {}
        () = prune(&worker) => {}
        () = shutdown.aborted().cancelled_owned() => {}
    }
}

/// A permit first: connections beyond the limit wait in the kernel's queue instead of costing descriptors.
async fn accept(listener: &TcpListener, worker: &Rc<Worker>, permits: &Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return };
        let (stream, peer) = service_kit::net::accept(listener).await;
        spawn(worker, permit, stream, peer);
    }
}

fn spawn(worker: &Rc<Worker>, permit: OwnedSemaphorePermit, stream: TcpStream, peer: SocketAddr) {
    let worker = Rc::clone(worker);
    worker.shared.metrics.connections_accepted.inc();
    worker.shared.metrics.connections.inc();
    tokio::task::spawn_local(async move {
        let connections = worker.shared.metrics.connections.clone();
        connection::serve(stream, peer, worker).await;
        connections.dec();
        drop(permit);
    });
}

async fn prune(worker: &Worker) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let config = worker.shared.config.load();
        worker.upstreams.prune(&worker.shared.snapshot.load(), &config.upstream, Instant::now());
    }
}
