//! Connections of one worker, by node, user and database.
//!
//! A connection belongs to the worker that opened it, so that client and server sockets are served by one thread. What is
//! global is the number of connections to a node: each holds a permit. A worker that starves says so, and the others then
//! close connections that rest instead of keeping them, which frees permits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout_at;
use tracing::debug;

use crate::backend::connection::{ConnectError, Connection, Login};
use crate::backend::server::{Origin, Server};
use crate::cluster::{NodeId, Snapshot};
use crate::server::Shared;

/// Time for DISCARD ALL before a connection is given up.
const DISCARD_LIMIT: Duration = Duration::from_secs(5);

/// Whose connections are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// To where.
    pub node: NodeId,
    /// As whom, and to which database.
    pub identity: Rc<Identity>,
}

/// As whom, and to which database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
}

/// ParameterStatus values of a log-in.
pub type Reported = Rc<BTreeMap<String, String>>;

/// Why no connection could be had.
#[derive(Debug, Error)]
pub enum CheckoutError {
    /// More clients wait than may.
    #[error("too many clients are waiting for a server")]
    Crowded,
    /// The deadline passed.
    #[error("no server became free in time")]
    Timeout,
    /// The node changed its role meanwhile: choose again.
    #[error("the node's role changed")]
    Severed,
    /// It could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

struct Resting {
    server: Server,
    since: Instant,
}

#[derive(Default)]
struct Pool {
    resting: Vec<Resting>,
    waiting: VecDeque<oneshot::Sender<Server>>,
}

/// The pools of one worker.
pub struct Pools {
    shared: Arc<Shared>,
    // Never held across an await.
    pools: RefCell<HashMap<PoolKey, Pool>>,
    reported: RefCell<HashMap<Rc<Identity>, Reported>>,
    now: Cell<Instant>,
}

impl std::fmt::Debug for Pools {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Pools({})", self.pools.borrow().len())
    }
}

impl Pools {
    /// No connection yet.
    pub fn new(shared: Arc<Shared>, now: Instant) -> Self {
        Self { shared, pools: RefCell::default(), reported: RefCell::default(), now: Cell::new(now) }
    }

    /// What a log-in to this database reported, once there was one.
    pub fn reported(&self, identity: &Rc<Identity>) -> Option<Reported> {
        self.reported.borrow().get(identity).cloned()
    }

    /// A connection that is ready for a client.
    pub async fn checkout(&self, key: &PoolKey, deadline: Instant) -> Result<Server, CheckoutError> {
        let generation = self.shared.snapshot.load().node(key.node).generation;
        let mut server = match self.take_resting(key, generation) {
            Some(server) => server,
            None => self.checkout_slowly(key, generation, deadline).await?,
        };
        server.activate(&self.shared.metrics.servers(key.node).active);
        Ok(server)
    }

    fn take_resting(&self, key: &PoolKey, generation: u64) -> Option<Server> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(key)?;
        // The latest first: the longest unused ones then grow old and are closed.
        while let Some(Resting { server, .. }) = pool.resting.pop() {
            if server.generation == generation && server.is_quiet() {
                return Some(server);
            }
        }
        None
    }

    async fn checkout_slowly(
        &self,
        key: &PoolKey,
        generation: u64,
        deadline: Instant,
    ) -> Result<Server, CheckoutError> {
        let node = &self.shared.nodes[key.node.0];
        let permit = match Arc::clone(&node.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => match self.wait(key, deadline).await? {
                Granted::Server(server) if server.generation == generation => return Ok(*server),
                Granted::Server(_) => return Err(CheckoutError::Severed),
                Granted::Permit(permit) => permit,
            },
        };
        self.open(key, generation, permit).await
    }

    async fn wait(&self, key: &PoolKey, deadline: Instant) -> Result<Granted, CheckoutError> {
        let node = &self.shared.nodes[key.node.0];
        let metrics = &self.shared.metrics;
        // Not exact between workers; a limit against pile-ups need not be.
        if metrics.waiting.get() >= self.shared.config.waiting_max as i64 {
            return Err(CheckoutError::Crowded);
        }
        self.close_one_resting(key);
        let (sender, receiver) = oneshot::channel();
        self.pools.borrow_mut().entry(key.clone()).or_default().waiting.push_back(sender);
        let started = Instant::now();
        let _starving = node.starve();
        metrics.waiting.inc();
        let granted = tokio::select! {
            server = receiver => server.map(|server| Granted::Server(Box::new(server))).map_err(|_| CheckoutError::Severed),
            permit = Arc::clone(&node.permits).acquire_owned() => {
                permit.map(Granted::Permit).map_err(|_| CheckoutError::Severed)
            }
            () = tokio::time::sleep_until(deadline.into()) => Err(CheckoutError::Timeout),
        };
        metrics.waiting.dec();
        metrics.wait_seconds.observe(started.elapsed().as_secs_f64());
        granted
    }

    /// Another user's or database's connection that rests may have to make room.
    fn close_one_resting(&self, key: &PoolKey) {
        let mut pools = self.pools.borrow_mut();
        let other = pools.iter_mut().find(|(other, pool)| other.node == key.node && !pool.resting.is_empty());
        if let Some((_, pool)) = other {
            pool.resting.remove(0);
        }
    }

    async fn open(
        &self,
        key: &PoolKey,
        generation: u64,
        permit: OwnedSemaphorePermit,
    ) -> Result<Server, CheckoutError> {
        let config = &self.shared.config;
        let node = Arc::clone(&self.shared.nodes[key.node.0]);
        let Identity { user, database } = &*key.identity;
        let login = Login {
            user: user.clone(),
            password: config.credentials.users.get(user).cloned().unwrap_or_default(),
            database: database.clone(),
            application_name: "db-proxy",
        };
        let connection = Connection::open(&node.node.address, &login, config.connect_timeout)
            .await
            .inspect_err(|error| {
                self.shared.metrics.connect_failure(error.kind());
                debug!(node = %node.node.name, %error, "no connection");
            })?;
        self.shared.metrics.connects.inc();
        let origin = Origin { id: key.node, node, generation, permit };
        let (server, reported) = Server::new(connection, origin, Instant::now());
        self.reported.borrow_mut().insert(Rc::clone(&key.identity), Rc::new(reported));
        if self.shared.snapshot.load().node(key.node).generation != generation {
            return Err(CheckoutError::Severed);
        }
        Ok(server)
    }

    /// Takes a connection back, unless there is a reason to close it. Its session must be clean or `disturbed`.
    pub fn give_back(self: &Rc<Self>, key: PoolKey, server: Server) {
        if server.tainted || !server.inbox.is_empty() || self.is_outdated(&server) {
            return;
        }
        if server.disturbed {
            let pools = Rc::clone(self);
            tokio::task::spawn_local(async move {
                match server.discard_all(DISCARD_LIMIT).await {
                    Ok(server) => pools.give_back(key, server),
                    Err(error) => debug!(%error, "a connection could not be cleaned"),
                }
            });
            return;
        }
        self.keep(key, server);
    }

    fn keep(&self, key: PoolKey, mut server: Server) {
        let mut pools = self.pools.borrow_mut();
        server.rest(&self.shared.metrics.servers(server.id).idle);
        if let Some(pool) = pools.get_mut(&key) {
            while let Some(waiting) = pool.waiting.pop_front() {
                match waiting.send(server) {
                    Ok(()) => return,
                    Err(back) => server = back, // it has given up
                }
            }
        }
        let starved = server.node.someone_starves();
        if !starved {
            pools.entry(key).or_default().resting.push(Resting { server, since: self.now.get() });
        }
    }

    fn is_outdated(&self, server: &Server) -> bool {
        let current = self.shared.snapshot.load().node(server.id).generation;
        server.generation != current || server.opened + self.shared.config.server_lifetime < self.now.get()
    }

    /// Closes what is too old, and one connection for each node that starves another worker.
    pub fn tick(&self, now: Instant) {
        self.now.set(now);
        let config = &self.shared.config;
        let mut pools = self.pools.borrow_mut();
        for (key, pool) in pools.iter_mut() {
            pool.resting.retain(|resting| {
                resting.since + config.server_idle_timeout > now
                    && resting.server.opened + config.server_lifetime > now
            });
            pool.waiting.retain(|waiting| !waiting.is_closed());
            if self.shared.nodes[key.node.0].someone_starves() && !pool.resting.is_empty() {
                pool.resting.remove(0);
            }
        }
        pools.retain(|_, pool| !pool.resting.is_empty() || !pool.waiting.is_empty());
    }

    /// Closes connections that the new snapshot outdates, and sends those who wait for such nodes to choose again.
    pub fn on_snapshot(&self, snapshot: &Snapshot) {
        for (key, pool) in self.pools.borrow_mut().iter_mut() {
            let generation = snapshot.node(key.node).generation;
            pool.resting.retain(|resting| resting.server.generation == generation);
            if snapshot.node(key.node).role == crate::cluster::Role::Down {
                pool.waiting.clear();
            }
        }
    }

    /// Lets go of every connection that rests.
    pub fn close_resting(&self) {
        self.pools.borrow_mut().values_mut().for_each(|pool| pool.resting.clear());
    }
}

enum Granted {
    Server(Box<Server>),
    Permit(OwnedSemaphorePermit),
}

/// Waits for `future` until `deadline`.
pub async fn until<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    timeout_at(deadline.into(), future).await.ok()
}
