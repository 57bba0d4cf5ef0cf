//! Who is primary. Probes look, `roles` decides, everyone else reads immutable snapshots.

pub mod probe;
pub mod roles;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Node;

/// Index of a node in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// What a node is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not heard of yet, or no more.
    Down,
    /// Takes writes.
    Primary,
    /// Takes reads.
    Replica,
    /// A replica too far behind, or on another timeline.
    Lagging,
    /// Would take writes that the cluster would lose: another node has a higher timeline, or the same one.
    Fenced,
}

impl Role {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Lagging => "lagging",
            Self::Fenced => "fenced",
        }
    }
}

/// One node in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeView {
    /// What it is good for.
    pub role: Role,
    /// Connections opened under another generation must be closed.
    pub generation: u64,
}

/// The cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Grows with every change.
    pub epoch: u64,
    /// In the order of the configuration.
    pub nodes: Vec<NodeView>,
}

impl Snapshot {
    /// Before anything was seen.
    pub fn empty(nodes: usize) -> Self {
        Self { epoch: 0, nodes: vec![NodeView { role: Role::Down, generation: 0 }; nodes] }
    }

    /// The primary, when there is one.
    pub fn primary(&self) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.role == Role::Primary).map(NodeId)
    }

    /// Nodes that take reads.
    pub fn replicas(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().enumerate().filter(|(_, node)| node.role == Role::Replica).map(|(at, _)| NodeId(at))
    }

    /// What is known of one node.
    pub fn node(&self, id: NodeId) -> NodeView {
        self.nodes[id.0]
    }
}

/// What all workers share about one node.
#[derive(Debug)]
pub struct NodeShared {
    /// Name and address.
    pub node: Node,
    /// Permits for connections.
    pub permits: std::sync::Arc<tokio::sync::Semaphore>,
    /// Connections serving a client now.
    in_use: AtomicUsize,
    /// Clients, on any worker, waiting for a permit.
    starving: AtomicUsize,
}

impl NodeShared {
    /// A node nobody is connected to.
    pub fn new(node: Node, servers_max: usize) -> Self {
        let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(servers_max));
        Self { node, permits, in_use: AtomicUsize::new(0), starving: AtomicUsize::new(0) }
    }

    /// Connections serving a client now.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Whether some client waits for a connection that another worker may be keeping idle.
    pub fn someone_starves(&self) -> bool {
        self.starving.load(Ordering::Relaxed) > 0
    }

    /// Counts one connection as used until the guard is dropped.
    pub fn use_one(self: &std::sync::Arc<Self>) -> Counted {
        Counted::new(self, |node| &node.in_use)
    }

    /// Counts one client as starving until the guard is dropped.
    pub fn starve(self: &std::sync::Arc<Self>) -> Counted {
        Counted::new(self, |node| &node.starving)
    }
}

/// One unit of a counter of a node, given back when dropped.
#[derive(Debug)]
pub struct Counted {
    node: std::sync::Arc<NodeShared>,
    counter: fn(&NodeShared) -> &AtomicUsize,
}

impl Counted {
    fn new(node: &std::sync::Arc<NodeShared>, counter: fn(&NodeShared) -> &AtomicUsize) -> Self {
        counter(node).fetch_add(1, Ordering::Relaxed);
        Self { node: std::sync::Arc::clone(node), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.node).fetch_sub(1, Ordering::Relaxed);
    }
}
