//! A pooled connection and what is known of its state.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{ConnectError, Connection, ServerKey};
use crate::cluster::{Counted, NodeId, NodeShared};
use crate::session::parameters::Parameters;
use crate::session::statements::{Prepared, Statement};

/// Counts one connection in a gauge while it lives.
#[derive(Debug)]
struct Gauged(Gauge);

impl Gauged {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One connection to one node, of one user to one database. Dropping it closes it and gives its permit back.
#[derive(Debug)]
pub struct Server {
    /// The socket.
    pub stream: TcpStream,
    /// Received and not looked at.
    pub inbox: BytesMut,
    /// Cancels what runs here.
    pub key: ServerKey,
    /// Where it leads.
    pub id: NodeId,
    /// The same, shared.
    pub node: Arc<NodeShared>,
    /// Of the node when this was opened.
    pub generation: u64,
    /// Statements it has.
    pub prepared: Prepared,
    /// Statements whose plans must be made again: closed before the next Parse.
    pub stale: Vec<Rc<Statement>>,
    /// Its unnamed statement, where it is known.
    pub unnamed: Option<Rc<Statement>>,
    /// Parameters it was told.
    pub parameters: Rc<Parameters>,
    /// Something is left in its session that only DISCARD ALL removes.
    pub disturbed: bool,
    /// Its stream cannot be trusted; it will not go back.
    pub tainted: bool,
    /// When it was opened.
    pub opened: Instant,
    counted: Option<(Counted, Gauged)>,
    idle: Option<Gauged>,
    _permit: OwnedSemaphorePermit,
}

/// Where a connection leads and under which permit.
#[derive(Debug)]
pub struct Origin {
    /// Where it leads.
    pub id: NodeId,
    /// The same, shared.
    pub node: Arc<NodeShared>,
    /// Of the node, read before connecting.
    pub generation: u64,
    /// One of the node's.
    pub permit: OwnedSemaphorePermit,
}

impl Server {
    /// Wraps a fresh connection; the second value is what its log-in reported.
    pub fn new(connection: Connection, origin: Origin, now: Instant) -> (Self, BTreeMap<String, String>) {
        let Connection { stream, inbox, key, parameters } = connection;
        let server = Self {
            stream,
            inbox,
            key,
            id: origin.id,
            node: origin.node,
            generation: origin.generation,
            prepared: Prepared::default(),
            stale: Vec::new(),
            unnamed: None,
            parameters: Rc::new(Parameters::default()),
            disturbed: false,
            tainted: false,
            opened: now,
            counted: None,
            idle: None,
            _permit: origin.permit,
        };
        (server, parameters)
    }

    /// A client has it now.
    pub fn activate(&mut self, gauge: &Gauge) {
        self.idle = None;
        self.counted = Some((self.node.use_one(), Gauged::new(gauge)));
    }

    /// Nobody has it now.
    pub fn rest(&mut self, gauge: &Gauge) {
        self.counted = None;
        self.idle = Some(Gauged::new(gauge));
    }

    /// Whether nothing arrived while it rested: an end of stream or a farewell would. No system call when all is quiet.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0; 1];
        self.inbox.is_empty()
            && matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Removes everything that a client left in the session.
    pub async fn discard_all(self, limit: std::time::Duration) -> Result<Self, ConnectError> {
        let mut server = self;
        let mut connection = Connection {
            stream: server.stream,
            inbox: std::mem::take(&mut server.inbox),
            key: server.key,
            parameters: BTreeMap::new(),
        };
        let asked = tokio::time::timeout(limit, connection.ask("DISCARD ALL")).await;
        asked.unwrap_or(Err(ConnectError::Timeout(limit)))?;
        server.stream = connection.stream;
        server.inbox = connection.inbox;
        server.key = connection.key;
        server.prepared.clear();
        server.stale.clear();
        server.unnamed = None;
        server.parameters = Rc::new(Parameters::default());
        server.disturbed = false;
        Ok(server)
    }
}
