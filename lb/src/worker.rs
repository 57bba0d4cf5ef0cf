//! One thread: its listener, its client connections and its connections to the backends.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::select_all;
use http::StatusCode;
use service_kit::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::access_log::{self, Lines, Outlet};
use crate::alarms::Alarms;
use crate::balance::Pickers;
use crate::config::Config;
use crate::connection::{self, Speaks};
use crate::failure::Failure;
use crate::limits::Counts;
use crate::metrics::Metrics;
use crate::retry::Budget;
use crate::roster::Event;
use crate::snapshot::{Backend, Pool, Snapshot};
use crate::tls;
use crate::upstream::Upstreams;

/// How often idle connections to backends are looked through.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// What all workers see: the snapshot that the roster replaces, and two ways out.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// The configuration that was read last: in force, or about to be.
    pub(crate) newest: ArcSwap<Config>,
    pub(crate) tls: tls::Live,
    pub(crate) counts: Counts,
    pub(crate) metrics: Metrics,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) access_log: Outlet,
}

/// What one worker owns.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) alarms: Rc<Alarms>,
    pub(crate) budget: RefCell<Budget>,
    pub(crate) pickers: Pickers,
    /// Lines of the access log that were not handed over yet.
    pub(crate) log: Lines,
    /// This one and the next are the worker's own, so that it shares no lock with other workers.
    pub(crate) draining: CancellationToken,
    pub(crate) stopping: CancellationToken,
}

/// A listener, and what is spoken on it.
type Listener = (Speaks, TcpListener);

impl Worker {
    /// Notes for ejection what a request came to at a backend.
    pub(crate) fn judge(&self, pool: &Pool, backend: &Backend, came_to: Result<StatusCode, Failure>) {
        if let Err(last) = backend.judge(came_to, pool.config.ejection.as_ref()) {
            // A full queue knows already that something is wrong, and it is asked again if that goes on.
            let _ = self.shared.events.try_send(Event::Suspected { id: backend.id, last });
        }
    }
}

/// Accepts from `opened` until `closing`, and serves until the stop; ends when every connection has, or when time is up.
pub(crate) async fn run(
    number: usize,
    listeners: Vec<(Speaks, std::net::TcpListener)>,
    shared: Arc<Shared>,
    opened: impl Future<Output = ()>,
    shutdown: Shutdown,
) {
    let usable = |(speaks, listener)| TcpListener::from_std(listener).map(|listener| (speaks, listener));
    let listeners: Vec<_> = match listeners.into_iter().map(usable).collect() {
        Ok(listeners) => listeners,
        Err(error) => {
            error!(%error, worker = number, "cannot use the listeners");
            return;
        }
    };
    let config = Arc::clone(&shared.snapshot.load().config);
    let alarms = Rc::<Alarms>::default();
    let worker = Rc::new(Worker {
        budget: RefCell::new(Budget::new(config.retry.budget, Instant::now())),
        upstreams: Rc::new(Upstreams::new(Rc::clone(&alarms))),
        alarms: Rc::clone(&alarms),
        pickers: Pickers::default(),
        log: Lines::new(shared.access_log.clone()),
        draining: shutdown.draining().child_token(),
        stopping: CancellationToken::new(),
        shared,
    });
    let permits = Arc::new(Semaphore::new(config.server.connections_max));
    let accepting = async {
        opened.await;
        accept(&listeners, &worker, &permits).await;
    };
    tokio::select! {
        () = accepting => {}
        () = upkeep(&worker) => {}
        () = shutdown.closing().cancelled_owned() => {}
    }
    // Connections that the kernel has completed already would be reset by closing the listener; if a successor has it too,
    // it takes those that come later.
    while let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
        // Without a budget of tasks, which would say that nobody waits after some 128.
        match tokio::task::unconstrained(next(&listeners)).now_or_never() {
            Some((speaks, stream, peer)) => spawn(&worker, permit, speaks, stream, peer),
            None => break,
        }
    }
    drop(listeners);
    // After a hand-over those that are there go on for the lame-duck time; each answer says that it is the last.
    tokio::select! {
        () = shutdown.stopping().cancelled_owned() => {}
        () = upkeep(&worker) => {}
    }
    worker.stopping.cancel();
    let all = u32::try_from(config.server.connections_max).unwrap_or(u32::MAX);
    tokio::select! {
        _ = permits.acquire_many(all) => {}
        () = upkeep(&worker) => {}
        () = shutdown.aborted().cancelled_owned() => {}
    }
    worker.log.flush();
}

/// A permit first: connections beyond the limit wait in the kernel's queue instead of costing descriptors.
async fn accept(listeners: &[Listener], worker: &Rc<Worker>, permits: &Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return };
        let (speaks, stream, peer) = next(listeners).await;
        spawn(worker, permit, speaks, stream, peer);
    }
}

/// The next connection on any listener.
async fn next(listeners: &[Listener]) -> (Speaks, TcpStream, SocketAddr) {
    match listeners {
        [one] => accept_one(one).await,
        many => select_all(many.iter().map(|one| Box::pin(accept_one(one)))).await.0,
    }
}

async fn accept_one((speaks, listener): &Listener) -> (Speaks, TcpStream, SocketAddr) {
    let (stream, peer) = service_kit::net::accept(listener).await;
    (*speaks, stream, peer)
}

fn spawn(
    worker: &Rc<Worker>,
    permit: OwnedSemaphorePermit,
    speaks: Speaks,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let worker = Rc::clone(worker);
    worker.shared.metrics.connections_accepted.inc();
    worker.shared.metrics.connections.inc();
    tokio::task::spawn_local(async move {
        let connections = worker.shared.metrics.connections.clone();
        connection::serve(stream, peer, speaks, worker).await;
        connections.dec();
        drop(permit);
    });
}

/// Gives the lines of the access log away before they are old.
async fn hand_over(worker: &Worker) {
    loop {
        tokio::time::sleep(access_log::FLUSH_EVERY).await;
        worker.log.flush();
    }
}

/// What goes on as long as there are connections.
async fn upkeep(worker: &Worker) {
    tokio::join!(prune(worker), hand_over(worker), worker.alarms.run());
}

async fn prune(worker: &Worker) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let snapshot = worker.shared.snapshot.load();
        worker.upstreams.prune(&snapshot, Instant::now());
        worker.pickers.prune(&snapshot);
        for pool in &snapshot.pools {
            let entries = i64::try_from(pool.commons.table.len()).unwrap_or(i64::MAX);
            pool.metrics.table_entries.set(entries);
        }
    }
}
