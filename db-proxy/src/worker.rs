//! One thread: accepts clients, keeps their sessions and its own connections to the nodes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use service_kit::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Instrument as _, error, info_span};

use crate::classify::{Cache, Classifier, ReadFunctions};
use crate::cluster::NodeId;
use crate::pool::Pools;
use crate::server::Shared;
use crate::session;
use crate::session::statements::Statements;

/// How exact deadlines of sessions are.
const TICK: Duration = Duration::from_millis(100);

/// How the worker reaches into a session: one coarse clock for all, instead of a timer for each wait.
#[derive(Debug)]
pub struct Handle {
    /// When the present wait ends.
    pub deadline: Cell<Option<Instant>>,
    /// It did.
    pub expired: Cell<bool>,
    /// The server in use and its generation.
    pub server: Cell<Option<(NodeId, u64)>>,
    /// That server must not be used any more.
    pub severed: Cell<bool>,
    /// No new work shall begin.
    pub stopping: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Handle {
    /// Remembers whom to wake.
    pub fn sleep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// What the sessions of one worker share.
#[derive(Debug)]
pub struct Local {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Connections to the nodes.
    pub pools: Rc<Pools>,
    /// Statements and verdicts.
    pub statements: RefCell<Statements>,
    /// The time, at most a tick old.
    pub now: Cell<Instant>,
    handles: RefCell<HashMap<u64, Rc<Handle>>>,
    last_client: Cell<u64>,
    stopping: Cell<bool>,
}

/// A worker that has not started.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    shutdown: Shutdown,
}

impl Worker {
    /// One of several.
    pub fn new(shared: Arc<Shared>, shutdown: Shutdown) -> Self {
        Self { shared, shutdown }
    }

    /// Serves until the stop is over.
    pub async fn run(self, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return error!(%error, "a worker cannot use its listener"),
        };
        let local = Rc::new(Local::new(self.shared));
        let (stopping, aborted) = (self.shutdown.stopping(), self.shutdown.aborted());
        let mut epochs = local.shared.epochs.clone();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                (stream, peer) = service_kit::net::accept(&listener), if !local.stopping.get() => {
                    let span = info_span!("client", %peer);
                    drop(tokio::task::spawn_local(Rc::clone(&local).serve(stream).instrument(span)));
                }
                _ = ticks.tick() => local.tick(Instant::now()),
                changed = epochs.changed() => {
                    if changed.is_err() { break }
                    local.on_snapshot();
                }
                () = stopping.cancelled(), if !local.stopping.get() => local.stop(),
                () = aborted.cancelled() => break,
            }
            if local.stopping.get() && local.handles.borrow().is_empty() {
                break;
            }
        }
    }
}

impl Local {
    fn new(shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        let classifier = Classifier::new(
            ReadFunctions::new(config.read_functions.iter().cloned()),
            config.classify_bytes_max,
        );
        let verdicts = Cache::new(classifier, config.verdict_cache_bytes_max);
        let now = Instant::now();
        Self {
            pools: Rc::new(Pools::new(Arc::clone(&shared), now)),
            statements: RefCell::new(Statements::new(verdicts)),
            now: Cell::new(now),
            handles: RefCell::default(),
            last_client: Cell::new(0),
            stopping: Cell::new(false),
            shared,
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream) {
        let guest = Guest::enter(&self);
        session::serve(&self, &guest.handle, stream).await;
    }

    fn tick(&self, now: Instant) {
        self.now.set(now);
        self.pools.tick(now);
        for handle in self.handles.borrow().values() {
            if handle.deadline.get().is_some_and(|deadline| deadline <= now) {
                handle.deadline.set(None);
                handle.expired.set(true);
                handle.wake();
            }
        }
    }

    fn on_snapshot(&self) {
        let snapshot = self.shared.snapshot.load();
        self.pools.on_snapshot(&snapshot);
        for handle in self.handles.borrow().values() {
            if handle
                .server
                .get()
                .is_some_and(|(node, generation)| snapshot.node(node).generation != generation)
            {
                handle.severed.set(true);
                handle.wake();
            }
        }
    }

    fn stop(&self) {
        self.stopping.set(true);
        self.pools.close_resting();
        for handle in self.handles.borrow().values() {
            handle.stopping.set(true);
            handle.wake();
        }
    }
}

/// A client's registration with its worker; ends with it.
struct Guest {
    local: Rc<Local>,
    id: u64,
    handle: Rc<Handle>,
}

impl Guest {
    fn enter(local: &Rc<Local>) -> Self {
        let id = local.last_client.get() + 1;
        local.last_client.set(id);
        let handle = Rc::new(Handle {
            deadline: Cell::new(None),
            expired: Cell::new(false),
            server: Cell::new(None),
            severed: Cell::new(false),
            stopping: Cell::new(local.stopping.get()),
            waker: RefCell::new(None),
        });
        local.handles.borrow_mut().insert(id, Rc::clone(&handle));
        local.shared.clients.fetch_add(1, Ordering::Relaxed);
        local.shared.metrics.clients.inc();
        Self { local: Rc::clone(local), id, handle }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.local.handles.borrow_mut().remove(&self.id);
        self.local.shared.clients.fetch_sub(1, Ordering::Relaxed);
        self.local.shared.metrics.clients.dec();
    }
}
