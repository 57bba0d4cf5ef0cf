//! Everything that is counted. Handles are resolved once, so that the data path only adds to atomics.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::classify::Class;
use crate::config::Node;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Executed {
    class: &'static str,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Servers {
    node: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeRole {
    node: String,
    role: &'static str,
}

/// Counters of statements of one class, by where they went.
#[derive(Debug, Clone)]
struct Routes {
    primary: Counter,
    replica: Counter,
    local: Counter,
}

/// Where a statement went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To the primary.
    Primary,
    /// To a replica.
    Replica,
    /// Nowhere: the proxy answered.
    Local,
}

/// Gauges of one node's connections.
#[derive(Debug, Clone)]
pub struct ServerGauges {
    /// Serving a client.
    pub active: Gauge,
    /// In a pool.
    pub idle: Gauge,
}

/// The program's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Connections of clients, logged in or not.
    pub clients: Gauge,
    /// Clients waiting for a server.
    pub waiting: Gauge,
    /// Seconds that clients waited, of those that had to.
    pub wait_seconds: Histogram,
    /// Connections to nodes that were opened.
    pub connects: Counter,
    /// Cancel requests that reached a node.
    pub cancels: Counter,
    /// Changes of a node's role.
    pub role_changes: Counter,
    /// Of the snapshot in use.
    pub epoch: Gauge,
    servers: Vec<ServerGauges>,
    node_role: Family<NodeRole, Gauge>,
    statements: Arc<[(Class, Routes)]>,
    replays: Family<Reason, Counter>,
    connect_failures: Family<Reason, Counter>,
    login_failures: Family<Reason, Counter>,
    errors: Family<Reason, Counter>,
}

const CLASSES: [Class; 6] = [
    Class::Read,
    Class::Write,
    Class::Begin { read_only: false },
    Class::End { commit: true },
    Class::Deallocate,
    Class::Nothing,
];

impl Metrics {
    /// Registers everything, so that each series is there from the start.
    pub fn new(registry: &mut Registry, nodes: &[Node]) -> Self {
        let statements = Family::<Executed, Counter>::default();
        let servers = Family::<Servers, Gauge>::default();
        let of = |class: Class, route| {
            statements.get_or_create(&Executed { class: class.as_str(), route }).clone()
        };
        let routes = |class| Routes {
            primary: of(class, "primary"),
            replica: of(class, "replica"),
            local: of(class, "local"),
        };
        let gauge =
            |node: &Node, state| servers.get_or_create(&Servers { node: node.name.clone(), state }).clone();
        let metrics = Self {
            clients: Gauge::default(),
            waiting: Gauge::default(),
            wait_seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
            connects: Counter::default(),
            cancels: Counter::default(),
            role_changes: Counter::default(),
            epoch: Gauge::default(),
            servers: nodes
                .iter()
                .map(|node| ServerGauges { active: gauge(node, "active"), idle: gauge(node, "idle") })
                .collect(),
            node_role: Family::default(),
            statements: CLASSES.iter().map(|&class| (class, routes(class))).collect(),
            replays: Family::default(),
            connect_failures: Family::default(),
            login_failures: Family::default(),
            errors: Family::default(),
        };
        metrics.register(registry);
        registry.register("db_proxy_statements", "Executed statements by class and route", statements);
        registry.register("db_proxy_servers", "Connections to nodes by node and state", servers);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("db_proxy_clients", "Connections of clients", self.clients.clone());
        registry.register("db_proxy_waiting", "Clients waiting for a server", self.waiting.clone());
        registry.register(
            "db_proxy_wait_seconds",
            "Waits for a server, of those that waited",
            self.wait_seconds.clone(),
        );
        registry.register("db_proxy_connects", "Connections opened to nodes", self.connects.clone());
        registry.register("db_proxy_cancels", "Cancel requests delivered to a node", self.cancels.clone());
        registry.register("db_proxy_role_changes", "Changes of a node's role", self.role_changes.clone());
        registry.register("db_proxy_epoch", "Epoch of the cluster's snapshot", self.epoch.clone());
        registry.register("db_proxy_node_role", "1 for the role that a node has", self.node_role.clone());
        registry.register("db_proxy_replays", "Batches sent again to another node", self.replays.clone());
        registry.register(
            "db_proxy_connect_failures",
            "Connections to nodes that failed",
            self.connect_failures.clone(),
        );
        registry.register(
            "db_proxy_login_failures",
            "Log-ins of clients that failed",
            self.login_failures.clone(),
        );
        registry.register(
            "db_proxy_errors",
            "Errors that the proxy itself reported to clients",
            self.errors.clone(),
        );
    }

    /// Counts one statement.
    pub fn statement(&self, class: Class, route: Route) {
        let same = |of: &Class| std::mem::discriminant(of) == std::mem::discriminant(&class);
        if let Some((_, routes)) = self.statements.iter().find(|(of, _)| same(of)) {
            match route {
                Route::Primary => routes.primary.inc(),
                Route::Replica => routes.replica.inc(),
                Route::Local => routes.local.inc(),
            };
        }
    }

    /// Gauges of one node.
    pub fn servers(&self, node: crate::cluster::NodeId) -> &ServerGauges {
        &self.servers[node.0]
    }

    /// Counts a batch that is sent again.
    pub fn replay(&self, reason: &'static str) {
        self.replays.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a failed connection to a node.
    pub fn connect_failure(&self, reason: &'static str) {
        self.connect_failures.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a failed log-in.
    pub fn login_failure(&self, reason: &'static str) {
        self.login_failures.get_or_create(&Reason { reason }).inc();
    }

    /// Counts an error told to a client, by SQLSTATE.
    pub fn error(&self, code: &'static str) {
        self.errors.get_or_create(&Reason { reason: code }).inc();
    }

    /// Notes a node's role.
    pub fn role(&self, node: &str, from: crate::cluster::Role, to: crate::cluster::Role) {
        let gauge = |role: crate::cluster::Role| {
            self.node_role.get_or_create(&NodeRole { node: node.to_owned(), role: role.as_str() }).clone()
        };
        gauge(from).set(0);
        gauge(to).set(1);
    }
}
