//! One client's session.
//!
//! ```text
//!            first message          batch looked at, server checked out
//!   Boundary ───────────► look ahead ──────────────────────────────────► Open ── Sync or query sent ──► Boundary
//!      ▲                      │ no server to be had                        │
//!      └──── Sync ──── Discarding ◄────────────────────────────────────────┘ server lost in the middle
//! ```
//!
//! The server goes back to its pool when nothing is owed, the transaction is over, and no byte is in between. Everything a
//! client sees comes through one queue (`expect`). While nothing of a read's answer has been shown (`held`), a failing node
//! is only a reason to ask another one.

mod backend;
mod batch;
mod expect;
mod frontend;
mod io;
mod login;
pub mod parameters;
mod recover;
pub mod statements;
mod translate;

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::backend::server::Server;
use crate::cancel::Registration;
use crate::classify::{Effect, Verdict};
use crate::metrics::Route;
use crate::pool::{Identity, PoolKey, until};
use crate::wire::message::{Status, to_client};
use crate::wire::report::{Report, sqlstate};
use crate::wire::startup::{CancelKey, Startup};
use crate::worker::{Handle, Local};

use batch::Names;
use expect::Expectations;
use frontend::Next;
use login::{Door, LoginError, Visitor};
use parameters::Parameters;

/// Bytes on their way to one side, above which the other side is not read any more.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Longest time that a finished server waits for a cancel request under way.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Where the client is in its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Between batches.
    Boundary,
    /// In one that has a server.
    Open,
    /// In one that failed: everything up to its Sync is thrown away.
    Discarding,
}

/// Why a session is over.
#[derive(Debug)]
enum End {
    /// The client said goodbye or left.
    Left,
    /// With a last word.
    Told(Report),
    /// In the middle of a message: nothing sensible can be said.
    Cut(&'static str),
}

/// A message that is passed on in pieces.
#[derive(Debug, Clone, Copy, Default)]
struct Passing {
    bytes: usize,
    /// To be thrown away.
    away: bool,
}

/// What is needed to send batches again.
#[derive(Debug, Default)]
struct Replay {
    /// Batches whose end has not been seen, as the client sent them.
    bytes: Vec<u8>,
    /// Their lengths.
    lengths: std::collections::VecDeque<usize>,
    /// Everything that is owed can be asked again.
    possible: bool,
    /// Something of the first batch's answer has been shown.
    shown: bool,
    /// Times that the first batch was sent.
    attempts: u32,
    /// Nodes that failed it, as bits.
    avoid: u64,
    /// Bytes at the start of the inbox that were sent before.
    again: usize,
}

impl Replay {
    fn forget(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
        self.possible = false;
    }
}

struct Session {
    local: Rc<Local>,
    handle: Rc<Handle>,
    identity: Rc<Identity>,
    cancel: Registration,
    client: TcpStream,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Answers that are not shown yet.
    held: BytesMut,
    client_left: bool,
    mode: Mode,
    /// Bytes of the open batch that are recorded for a replay and still in the inbox.
    batch_left: usize,
    from_client: Passing,
    server: Option<Server>,
    route: Route,
    to_server: BytesMut,
    from_server: Passing,
    expects: Expectations,
    status: Status,
    names: Names,
    bound: Option<Rc<Verdict>>,
    parameters: Rc<Parameters>,
    startup: Rc<Parameters>,
    /// Of statements that succeeded and whose transaction is not over.
    effects: Vec<Effect>,
    batch_failed: bool,
    rolled_back: bool,
    replay: Replay,
    waits: Option<(io::Wait, Instant)>,
}

/// Serves one connection to its end.
pub async fn serve(local: &Rc<Local>, handle: &Rc<Handle>, stream: TcpStream) {
    let shared = &local.shared;
    let mut door = Door::new(stream);
    let config = &shared.config;
    if shared.clients.load(std::sync::atomic::Ordering::Relaxed) > config.clients_max {
        shared.metrics.error(sqlstate::TOO_MANY_CONNECTIONS);
        return door.refuse(&too_many_clients(config.clients_max)).await;
    }
    let logged_in = timeout(config.login_timeout, log_in(&mut door, local)).await;
    let startup = match logged_in {
        Ok(Ok(Some(startup))) => startup,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            shared.metrics.login_failure(error.kind());
            match error.report() {
                Some(report) => {
                    info!(kind = error.kind(), %error, "log-in refused");
                    let _ = timeout(Duration::from_secs(1), door.refuse(&report)).await;
                }
                None => debug!(%error, "log-in broken off"),
            }
            return;
        }
        Err(_) => return shared.metrics.login_failure("timeout"),
    };
    Box::pin(converse(local, handle, door, &startup)).await;
}

async fn log_in(door: &mut Door, local: &Rc<Local>) -> Result<Option<Startup>, LoginError> {
    match door.receive().await? {
        Visitor::Client(startup) => {
            door.authenticate(&startup, &local.shared).await?;
            Ok(Some(startup))
        }
        Visitor::Cancel(key) => {
            cancel(local, key).await;
            Ok(None)
        }
    }
}

async fn cancel(local: &Rc<Local>, key: CancelKey) {
    // In a task of its own, so that a deadline or a drain cannot drop it half-way and leave a server held back.
    let shared = std::sync::Arc::clone(&local.shared);
    let task = tokio::task::spawn_local(async move {
        if shared.cancels.cancel(key).await {
            shared.metrics.cancels.inc();
        }
    });
    let _ = task.await;
}

fn too_many_clients(limit: usize) -> Report {
    let detail = format!("server.clients_max of the proxy is {limit}");
    Report::fatal(
        sqlstate::TOO_MANY_CONNECTIONS,
        "sorry, too many clients already",
        detail,
        "close unused connections or raise server.clients_max",
    )
}

async fn converse(local: &Rc<Local>, handle: &Rc<Handle>, door: Door, startup: &Startup) {
    let Ok(cancel) = local.shared.cancels.register() else { return };
    let parameters = Rc::new(Parameters::from_startup(&startup.parameters));
    let mut session = Session {
        local: Rc::clone(local),
        handle: Rc::clone(handle),
        identity: Rc::new(Identity { user: startup.user.clone(), database: startup.database.clone() }),
        cancel,
        client: door.stream,
        inbox: door.inbox,
        outbox: BytesMut::new(),
        held: BytesMut::new(),
        client_left: false,
        mode: Mode::Boundary,
        batch_left: 0,
        from_client: Passing::default(),
        server: None,
        route: Route::Local,
        to_server: BytesMut::new(),
        from_server: Passing::default(),
        expects: Expectations::default(),
        status: Status::Idle,
        names: Names::default(),
        bound: None,
        startup: Rc::clone(&parameters),
        parameters,
        effects: Vec::new(),
        batch_failed: false,
        rolled_back: false,
        replay: Replay::default(),
        waits: None,
    };
    let end = match session.greet(startup).await {
        Ok(()) => session.run().await,
        Err(end) => end,
    };
    session.part(end).await;
}

impl Session {
    /// What follows AuthenticationOk: parameters, the cancel key, and the first ReadyForQuery.
    async fn greet(&mut self, startup: &Startup) -> Result<(), End> {
        let reported = match self.local.pools.reported(&self.identity) {
            Some(reported) => reported,
            None => {
                // The first client of a database finds out what its servers say; this also shows that it exists.
                let server = self.obtain(recover::Wish::Any).await.map_err(End::Told)?;
                self.local.pools.give_back(self.pool_key(&server), server);
                self.local.pools.reported(&self.identity).unwrap_or_default()
            }
        };
        let mut out = Vec::new();
        for (name, value) in reported.iter() {
            let value = match name.as_str() {
                "session_authorization" => &startup.user,
                // The proxy leads to a primary whatever this connection reached.
                "in_hot_standby" | "default_transaction_read_only" => "off",
                _ => startup.parameters.get(&name.to_ascii_lowercase()).unwrap_or(value),
            };
            to_client::parameter_status(&mut out, name, value);
        }
        to_client::backend_key(&mut out, self.cancel.key);
        to_client::ready(&mut out, Status::Idle);
        self.outbox.extend_from_slice(&out);
        Ok(())
    }

    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        self.advance_server()?;
        if self.is_finished_with_server() {
            self.release().await;
        }
        match self.advance_client()? {
            Next::Checkout(batch) => return self.check_out(batch).await,
            Next::Wait => {}
        }
        if self.is_at_rest() {
            if self.client_left {
                return Err(End::Left);
            }
            if self.handle.stopping.get() && self.inbox.is_empty() && self.outbox.is_empty() {
                let hint = "connect again";
                let report = Report::fatal(sqlstate::SHUTDOWN, "the proxy is shutting down", "", hint);
                return Err(End::Told(report));
            }
        } else if self.client_left && self.waits_for_client() {
            return Err(End::Left); // its transaction or copy ends with the server's connection
        }
        self.wait().await
    }

    /// Nothing is owed to the client and nothing is open.
    fn is_at_rest(&self) -> bool {
        self.server.is_none() && self.mode == Mode::Boundary && self.from_client.bytes == 0
    }

    /// Nothing more can happen unless the client says something.
    fn waits_for_client(&self) -> bool {
        self.expects.is_empty()
            || self.expects.is_copy_in()
            || self.from_client.bytes > 0
            || self.mode == Mode::Open
    }

    /// The conditions under which a server may serve another client.
    fn is_finished_with_server(&self) -> bool {
        self.expects.is_empty()
            && self.status == Status::Idle
            && self.mode == Mode::Boundary
            && self.to_server.is_empty()
            && self.from_client.bytes == 0
            && self.from_server.bytes == 0
            && self.server.as_ref().is_some_and(|server| server.inbox.is_empty())
    }

    async fn release(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        if !self.cancel.slot.detach() {
            let done = until(Instant::now() + CANCEL_LIMIT, self.cancel.slot.requests_done()).await;
            server.tainted |= done.is_none();
        }
        self.handle.server.set(None);
        self.replay.forget();
        server.parameters = Rc::clone(&self.parameters);
        self.local.pools.give_back(self.pool_key(&server), server);
    }

    /// Closes the server's connection, whatever it does.
    fn drop_server(&mut self) {
        self.cancel.slot.detach();
        self.handle.server.set(None);
        self.server = None;
        self.to_server.clear();
        self.from_server = Passing::default();
    }

    fn pool_key(&self, server: &Server) -> PoolKey {
        PoolKey { node: server.id, identity: Rc::clone(&self.identity) }
    }

    async fn part(mut self, end: End) {
        self.drop_server();
        match end {
            End::Left => {}
            End::Cut(reason) => info!(reason, "client cut off"),
            End::Told(report) => {
                self.local.shared.metrics.error(report.code);
                info!(code = report.code, message = %report.message, detail = %report.detail, "session ended");
                let mut out = Vec::new();
                report.put(&mut out);
                self.outbox.extend_from_slice(&out);
            }
        }
        let last_words = async {
            self.client.write_all(&self.outbox).await?;
            self.client.shutdown().await
        };
        let _ = timeout(Duration::from_secs(2), last_words).await;
    }
}
