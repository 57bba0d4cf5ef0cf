//! Getting a server, getting another one, and what to say when there is none.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tracing::{debug, info, warn};

use super::batch::Batch;
use super::expect::{Expect, To};
use super::{End, Mode, Session};
use crate::backend::connection::ConnectError;
use crate::backend::server::Server;
use crate::classify::Class;
use crate::cluster::{NodeId, Role, Snapshot};
use crate::metrics::Route;
use crate::pool::{CheckoutError, PoolKey, until};
use crate::server::Shared;
use crate::wire::frame;
use crate::wire::message::{Status, to_client, to_server};
use crate::wire::report::{Report, Severity, sqlstate};

/// Between attempts to reach a node that does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Which server will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The primary.
    Primary,
    /// A replica, or the primary when there is none.
    Any,
}

impl Session {
    /// Gets a server for the batch ahead and opens it there; or tells the client why not.
    pub(super) async fn check_out(&mut self, batch: Batch) -> Result<(), End> {
        let wish = if batch.complete && batch.class.may_use_replica() { Wish::Any } else { Wish::Primary };
        match self.obtain(wish).await {
            Ok(server) => {
                self.receive(server);
                self.open_batch(batch);
                Ok(())
            }
            Err(report) if report.severity == Severity::Fatal => Err(End::Told(report)),
            Err(report) => {
                self.fail_batch(&report);
                Ok(())
            }
        }
    }

    /// Makes the server the client's: statements it should forget, parameters it should know.
    fn receive(&mut self, mut server: Server) {
        self.cancel.slot.attach(&server.node.node.address, &server.key);
        self.handle.server.set(Some((server.id, server.generation)));
        self.handle.severed.set(false);
        let mut out = Vec::new();
        for name in server.prepared.overflow(self.local.shared.config.statements_per_server_max) {
            to_server::close_statement(&mut out, &name);
            self.expects.push(Expect::Close { to: To::Nobody });
        }
        if !Rc::ptr_eq(&server.parameters, &self.parameters) {
            if let Some(sql) = server.parameters.sql_towards(&self.parameters) {
                to_server::query(&mut out, &sql);
                self.expects.push(Expect::Query { to: To::Nobody, empty_as: None, verdict: None });
                server.unnamed = None;
            }
            server.parameters = Rc::clone(&self.parameters);
        }
        self.to_server.extend_from_slice(&out);
        let is_primary = self.local.shared.snapshot.load().node(server.id).role == Role::Primary;
        self.route = if is_primary { Route::Primary } else { Route::Replica };
        self.status = Status::Idle;
        self.server = Some(server);
    }

    /// Waits for a server, through failovers, until the deadline.
    pub(super) async fn obtain(&mut self, wish: Wish) -> Result<Server, Report> {
        let local = Rc::clone(&self.local);
        let shared = &local.shared;
        let deadline = Instant::now() + shared.config.query_wait_timeout;
        let mut epochs = shared.epochs.clone();
        let mut told = false;
        loop {
            let snapshot = shared.snapshot.load_full();
            let Some(node) = choose(shared, &snapshot, wish, self.replay.avoid) else {
                if !std::mem::replace(&mut told, true) {
                    debug!(?wish, epoch = snapshot.epoch, "waiting for a node");
                }
                if self.replay.avoid != 0 {
                    self.replay.avoid = 0; // better one that failed than none
                    continue;
                }
                epochs.borrow_and_update();
                if shared.snapshot.load().epoch == snapshot.epoch
                    && until(deadline, epochs.changed()).await.is_none()
                {
                    return Err(nobody(wish, shared));
                }
                continue;
            };
            let key = PoolKey { node, identity: Rc::clone(&self.identity) };
            match local.pools.checkout(&key, deadline).await {
                Ok(server) => return Ok(server),
                Err(CheckoutError::Severed) => {}
                Err(CheckoutError::Connect(error)) if error.is_passing() && Instant::now() < deadline => {
                    if wish == Wish::Any {
                        self.replay.avoid |= 1 << node.0;
                    }
                    let snapshot = shared.snapshot.load();
                    if choose(shared, &snapshot, wish, self.replay.avoid).is_none_or(|next| next == node) {
                        drop(snapshot);
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
                Err(error) => return Err(refused(&error, shared, node)),
            }
        }
    }

    /// Whether everything that is owed can be asked of another node.
    pub(super) fn may_ask_again(&self) -> bool {
        let replay = &self.replay;
        replay.possible && !replay.shown && replay.attempts + 1 < self.local.shared.config.attempts_max
    }

    pub(super) fn avoid_node(&mut self) {
        if let Some(server) = &self.server {
            self.replay.avoid |= 1 << server.id.0;
        }
    }

    /// Gives the server up and puts everything that it owes back in front of the client's bytes.
    pub(super) fn ask_again(&mut self, reason: &'static str) {
        let node = self.server.as_ref().map(|server| server.node.node.name.clone()).unwrap_or_default();
        info!(node, reason, batches = self.replay.lengths.len(), "asking again");
        self.local.shared.metrics.replay(reason);
        self.drop_server();
        self.expects.clear();
        self.held.clear();
        self.effects.clear();
        // The rest of a batch that was being handed over is in the recorded bytes as a whole.
        let rest = self.inbox.split_off(self.batch_left.min(self.inbox.len()));
        let mut inbox = BytesMut::with_capacity(self.replay.bytes.len() + rest.len());
        inbox.extend_from_slice(&self.replay.bytes);
        inbox.extend_from_slice(&rest);
        self.inbox = inbox;
        self.replay.again = self.replay.bytes.len();
        self.replay.attempts += 1;
        self.replay.forget();
        self.batch_left = 0;
        self.from_client = super::Passing::default();
        (self.mode, self.status, self.batch_failed) = (Mode::Boundary, Status::Idle, false);
    }

    /// The server is gone: ask another one, or say honestly what is not known.
    pub(super) fn on_server_lost(&mut self, reason: &str) -> Result<(), End> {
        self.salvage()?;
        if self.server.is_none() {
            return Ok(()); // what it still had to say settled it
        }
        if self.may_ask_again() {
            self.avoid_node();
            self.ask_again("connection-lost");
            return Ok(());
        }
        let node = self.server.as_ref().map(|server| server.node.node.name.clone()).unwrap_or_default();
        if self.is_finished_with_server() {
            self.drop_server();
            return Ok(());
        }
        warn!(node, reason, "a server was lost with work in hand");
        let detail = format!("node {node}: {reason}");
        let in_message = self.from_server.bytes > 0 || self.from_client.bytes > 0;
        let in_transaction = self.status != Status::Idle || self.expects.is_copy_in();
        self.drop_server();
        if in_message {
            return Err(End::Cut("a server was lost in the middle of a message"));
        }
        if in_transaction {
            let report = Report::fatal(
                if self.ends_transaction() {
                    sqlstate::RESOLUTION_UNKNOWN
                } else {
                    sqlstate::CONNECTION_FAILURE
                },
                "the connection to the server was lost inside a transaction",
                detail,
                "run the transaction again; if it was committing, check first whether it did",
            );
            return Err(End::Told(report));
        }
        self.fail_owed(detail);
        Ok(())
    }

    /// Before a loss is final: what the server said last may explain it.
    fn salvage(&mut self) -> Result<(), End> {
        match &self.server {
            Some(server) if !server.inbox.is_empty() => self.advance_server(),
            _ => Ok(()),
        }
    }

    fn ends_transaction(&self) -> bool {
        self.expects.iter().any(|expect| match expect {
            Expect::Query { verdict: Some(verdict), .. } | Expect::Execute { verdict: Some(verdict) } => {
                verdict.class() == Class::End { commit: true }
            }
            _ => false,
        })
    }

    /// Every batch that is owed ends in an error.
    fn fail_owed(&mut self, detail: String) {
        let report = Report::error(
            sqlstate::RESOLUTION_UNKNOWN,
            "the connection to the server was lost while it worked: it is not known whether it finished",
            detail,
            "check whether the change is there before making it again",
        );
        let owed = self.expects.clear();
        self.outbox.extend_from_slice(&std::mem::take(&mut self.held));
        let mut out = Vec::new();
        for _ in owed.iter().filter(|expect| expect.ends_batch()) {
            self.local.shared.metrics.error(report.code);
            report.put(&mut out);
            to_client::ready(&mut out, Status::Idle);
        }
        self.effects.clear();
        self.replay = super::Replay::default();
        (self.status, self.batch_failed, self.batch_left) = (Status::Idle, false, 0);
        if self.mode == Mode::Open {
            self.local.shared.metrics.error(report.code);
            report.put(&mut out);
            self.mode = Mode::Discarding;
        }
        self.outbox.extend_from_slice(&out);
    }

    /// The batch ahead cannot be served.
    fn fail_batch(&mut self, report: &Report) {
        self.local.shared.metrics.error(report.code);
        let mut out = Vec::new();
        report.put(&mut out);
        self.replay = super::Replay::default();
        match frame::peek(&self.inbox) {
            Ok(Some(frame)) if matches!(frame.tag, b'Q' | b'F') => {
                to_client::ready(&mut out, Status::Idle);
                self.from_client = super::Passing { bytes: frame.bytes, away: true };
            }
            _ => self.mode = Mode::Discarding,
        }
        self.outbox.extend_from_slice(&out);
    }
}

/// The node to ask: of two replicas drawn at random the one with less to do.
fn choose(shared: &Shared, snapshot: &Snapshot, wish: Wish, avoid: u64) -> Option<NodeId> {
    if wish == Wish::Any && shared.config.split {
        let replicas: Vec<NodeId> = snapshot.replicas().filter(|node| avoid & (1 << node.0) == 0).collect();
        if !replicas.is_empty() {
            let draw = || replicas[fastrand::usize(..replicas.len())];
            let (one, other) = (draw(), draw());
            let load = |node: NodeId| shared.nodes[node.0].in_use();
            return Some(if load(other) < load(one) { other } else { one });
        }
        return snapshot.primary().filter(|node| avoid & (1 << node.0) == 0);
    }
    snapshot.primary()
}

fn nobody(wish: Wish, shared: &Shared) -> Report {
    let what = match wish {
        Wish::Primary => "there is no primary to run this on",
        Wish::Any => "there is no node to run this on",
    };
    let detail =
        format!("waited {} ms (pool.query_wait_timeout_ms)", shared.config.query_wait_timeout.as_millis());
    Report::error(
        sqlstate::CANNOT_CONNECT_NOW,
        what,
        detail,
        "look at the proxy's log for what became of the nodes",
    )
}

fn refused(error: &CheckoutError, shared: &Shared, node: NodeId) -> Report {
    let name = &shared.nodes[node.0].node.name;
    match error {
        CheckoutError::Crowded => Report::error(
            sqlstate::TOO_MANY_CONNECTIONS,
            "too many clients are waiting for a server",
            format!("pool.waiting_max of the proxy is {}", shared.config.waiting_max),
            "ask later, or raise pool.servers_per_node_max",
        ),
        CheckoutError::Timeout => Report::error(
            sqlstate::TOO_MANY_CONNECTIONS,
            "no server became free in time",
            format!(
                "node {name}: pool.query_wait_timeout_ms is {}",
                shared.config.query_wait_timeout.as_millis()
            ),
            "make transactions shorter, or raise pool.servers_per_node_max",
        ),
        CheckoutError::Connect(ConnectError::Refused(refusal)) => {
            let detail = format!("node {name} refused with {}", refusal.code);
            Report::fatal(
                sqlstate::CONNECTION_FAILURE,
                refusal.message.clone(),
                detail,
                "check the database's name and the user's rights",
            )
        }
        error => Report::fatal(
            sqlstate::CONNECTION_FAILURE,
            "no connection to the server could be made",
            format!("node {name}: {error}"),
            "look at the proxy's log and at the node",
        ),
    }
}
