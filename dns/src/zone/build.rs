//! Builds a zone from its records: gathers them into sets, hangs the sets into a tree of labels, and hands the tree to
//! the checks.

use super::check::{self, Fault};
use super::index::Index;
use super::order::{Order, OrderPolicy};
use super::orders::Orders;
use super::rdata::{Rdata, Soa};
use super::rrset::Rrset;
use crate::wire::{Name, RecordType};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One record as a master file gives it.
#[derive(Debug, Clone)]
pub struct Record {
    pub owner: Name,
    pub ttl: u32,
    pub record_type: RecordType,
    pub rdata: Rdata,
    /// Where it stands.
    pub line: Line,
}

/// A line of a zone's text. Prints as the number alone: who knows the files puts the right one in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// 0 is the zone's own file; included ones count from 1.
    pub file: u16,
    /// From 1; 0 where the zone as a whole is meant.
    pub number: u32,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

/// A zone, complete and checked.
#[derive(Debug)]
pub struct Zone {
    pub(super) origin: Name,
    /// The apex first; names without records (RFC 4592 section 2.2.2) are nodes like all others. Shared with the snapshots
    /// that differ in a few sets only.
    pub(super) nodes: Arc<Vec<Node>>,
    /// What such a snapshot has in place of some nodes.
    pub(super) replaced: HashMap<NodeId, Node>,
    pub(super) index: Arc<Index>,
}

/// The index of a node in its zone.
pub(super) type NodeId = usize;
pub(super) const APEX: NodeId = 0;

/// A name of the zone.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: Name,
    /// Sorted by type.
    pub rrsets: Vec<Rrset>,
    /// By lower-case label.
    pub(super) children: Arc<HashMap<Box<[u8]>, NodeId>>,
    /// The line of the first record here; for the checks' messages.
    pub(super) line: Line,
    /// What depends on more than the question stands here, so only the slow path answers.
    pub slow_only: bool,
    /// Neither this name nor one between it and the apex is a delegation or renames what is below it.
    pub(super) plain: bool,
}

impl Node {
    fn new(name: Name) -> Node {
        Node {
            name,
            rrsets: Vec::new(),
            children: Arc::default(),
            line: Line::default(),
            slow_only: false,
            plain: true,
        }
    }

    /// Whether records that are found here are answers: nothing between here and the apex delegates or renames.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether the fast path may answer from here.
    pub fn is_fast(&self) -> bool {
        self.plain && !self.slow_only
    }

    /// The set of one type.
    pub fn rrset(&self, record_type: RecordType) -> Option<&Rrset> {
        let at = self.rrsets.binary_search_by_key(&record_type, |rrset| rrset.record_type).ok()?;
        self.rrsets.get(at)
    }
}

impl Zone {
    /// Builds and checks a zone. The warnings are for the operator; the zone is served with them.
    pub fn build(
        origin: Name,
        records: Vec<Record>,
        policy: OrderPolicy,
    ) -> Result<(Zone, Vec<Fault>), Fault> {
        Zone::build_with(origin, records, &Orders::all(policy))
    }

    /// The same with an order for each set.
    pub fn build_with(
        origin: Name,
        records: Vec<Record>,
        orders: &Orders,
    ) -> Result<(Zone, Vec<Fault>), Fault> {
        let mut warnings = Vec::new();
        let mut nodes = Nodes { nodes: vec![Node::new(origin.clone())], origin };
        for record in records {
            check::record(&nodes.origin, &record)?;
            let node = nodes.node_for(&record.owner);
            nodes.nodes[node].add(record, &mut warnings)?;
        }
        for node in &mut nodes.nodes {
            node.finish(orders, &mut warnings)?;
        }
        nodes.mark_below_cuts();
        let Nodes { origin, nodes } = nodes;
        let index = Arc::new(Index::of(&nodes));
        let zone = Zone { origin, nodes: Arc::new(nodes), replaced: HashMap::new(), index };
        check::zone(&zone, &mut warnings)?;
        let has = |owner: &Name, record_type| {
            zone.at(&owner.key()).is_some_and(|node| node.rrset(record_type).is_some())
        };
        warnings.extend(orders.missing(&zone.origin, has));
        Ok((zone, warnings))
    }

    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The apex, where SOA and NS stand.
    pub fn apex(&self) -> &Node {
        self.node_at(APEX)
    }

    /// The node in force at a place.
    pub(super) fn node_at(&self, id: NodeId) -> &Node {
        match self.replaced.is_empty() {
            true => &self.nodes[id],
            false => self.replaced.get(&id).unwrap_or(&self.nodes[id]),
        }
    }

    /// Every node in force.
    pub(super) fn all_nodes(&self) -> impl Iterator<Item = &Node> {
        (0..self.nodes.len()).map(|id| self.node_at(id))
    }

    /// The set with the start of authority, and its contents.
    pub fn soa(&self) -> (&Rrset, &Soa) {
        let rrset = self.apex().rrset(RecordType::SOA).expect("check::zone refuses a zone without SOA");
        match rrset.records.first() {
            Some(Rdata::Soa(soa)) => (rrset, soa),
            _ => unreachable!("SOA records are only ever read as Rdata::Soa"),
        }
    }

    /// How many records there are.
    pub fn record_count(&self) -> usize {
        self.all_nodes().flat_map(|node| &node.rrsets).map(|rrset| rrset.records.len()).sum()
    }

    /// Every name of the zone, the apex first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Takes over the cyclic order from the version of this zone that was served before.
    pub fn continue_from(&self, older: &Zone) {
        self.all_nodes().for_each(|node| node.continue_from(older));
    }
}

/// The nodes of a zone while it is built.
struct Nodes {
    origin: Name,
    nodes: Vec<Node>,
}

impl Nodes {
    /// Tells the names at and below delegations and DNAME records (RFC 6672) apart from those whose records are their
    /// answers.
    fn mark_below_cuts(&mut self) {
        let mut open = vec![(APEX, true)];
        while let Some((at, above)) = open.pop() {
            let node = &mut self.nodes[at];
            let cut = (at != APEX && node.rrset(RecordType::NS).is_some())
                || node.rrset(RecordType::DNAME).is_some();
            node.plain = above && !cut;
            let plain = node.plain;
            open.extend(node.children.values().map(|child| (*child, plain)));
        }
    }

    /// The node of `name`, which is within the zone, made with all names between it and the apex where missing.
    fn node_for(&mut self, name: &Name) -> NodeId {
        let labels: Vec<&[u8]> = name.labels().collect();
        let below = labels.len() - self.origin.label_count();
        let mut at = APEX;
        for depth in (0..below).rev() {
            let key: Box<[u8]> = labels[depth].to_ascii_lowercase().into();
            at = match self.nodes[at].children.get(&key) {
                Some(&child) => child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::new(name.suffix(depth)));
                    Arc::make_mut(&mut self.nodes[at].children).insert(key, child);
                    child
                }
            };
        }
        at
    }
}

impl Node {
    /// Puts the sets into the order in which they are searched and decides how each is given.
    fn finish(&mut self, orders: &Orders, warnings: &mut Vec<Fault>) -> Result<(), Fault> {
        self.rrsets.sort_unstable_by_key(|rrset| rrset.record_type);
        self.rrsets.shrink_to_fit();
        for rrset in &mut self.rrsets {
            rrset.records.shrink_to_fit();
            orders.apply(&self.name, rrset, warnings, self.line)?;
            rrset.seal(&self.name);
        }
        Ok(())
    }

    /// Takes over the cyclic order of the same sets in an older version.
    pub(super) fn continue_from(&self, older: &Zone) {
        for rrset in &self.rrsets {
            if let Order::Cyclic(cursor) = &rrset.order
                && let Some(before) =
                    older.at(&self.name.key()).and_then(|node| node.rrset(rrset.record_type))
                && let Order::Cyclic(before) = &before.order
            {
                cursor.continue_from(before);
            }
        }
    }

    fn add(&mut self, record: Record, warnings: &mut Vec<Fault>) -> Result<(), Fault> {
        if self.rrsets.is_empty() {
            // The case of the first record wins over that of a longer name read earlier.
            self.name = record.owner.clone();
            self.line = record.line;
        }
        check::company(self, &record)?;
        let Some(rrset) = self.rrsets.iter_mut().find(|set| set.record_type == record.record_type) else {
            self.rrsets.push(Rrset::new(record.record_type, record.ttl, vec![record.rdata]));
            return Ok(());
        };
        let set = format!("{} {}", record.owner, record.record_type);
        if rrset.ttl != record.ttl {
            let ttl = rrset.ttl.min(record.ttl);
            let what = format!(
                "{set}: TTL {} differs from {} earlier in the set; serving {ttl}",
                record.ttl, rrset.ttl
            );
            warnings.push(Fault { line: record.line, what });
            rrset.ttl = ttl;
        }
        if rrset.records.len() >= check::RECORDS_MAX {
            return Err(check::too_many(&record));
        }
        if rrset.records.contains(&record.rdata) {
            warnings.push(Fault {
                line: record.line,
                what: format!("{set}: this record was given before; ignored"),
            });
        } else {
            rrset.records.push(record.rdata);
        }
        Ok(())
    }
}
