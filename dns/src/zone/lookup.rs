//! Finds what a zone says about a name: the algorithm of RFC 1034 section 4.3.2 with the closest encloser of RFC 4592.
//! The walk goes down from the apex, so a delegation is met before anything below it.

use super::build::{APEX, Node, NodeId, Zone};
use super::rrset::Rrset;
use crate::wire::{Name, RecordType};

/// What a zone holds for a name and type.
#[derive(Debug)]
pub enum Found<'z> {
    /// The set asked for.
    Set(&'z Rrset),
    /// The name is an alias and something else was asked for.
    Alias(&'z Rrset),
    /// The name is below this delegation, or is it.
    Referral(&'z Node),
    /// The name is below this owner of a DNAME: the tree there is another's (RFC 6672).
    Redirect(&'z Node, &'z Rrset),
    /// The name exists (perhaps only because a longer one does) without this type.
    NoData,
    /// The name does not exist, and no wildcard covers it.
    NoName,
}

/// Where the walk from the apex ended.
enum Step<'z> {
    Exact(&'z Node),
    /// The longest existing ancestor: the closest encloser.
    Encloser(&'z Node),
    Cut(&'z Node),
    Redirect(&'z Node, &'z Rrset),
}

impl Zone {
    /// Looks up a name within this zone. [`RecordType::ANY`] finds one set (RFC 8482 section 4.1).
    pub fn find(&self, name: &Name, record_type: RecordType) -> Found<'_> {
        match self.walk(name, record_type) {
            Step::Cut(node) => Found::Referral(node),
            Step::Redirect(node, rrset) => Found::Redirect(node, rrset),
            Step::Exact(node) => at_node(node, record_type),
            Step::Encloser(node) => match node.children.get(b"*".as_slice()) {
                Some(&wildcard) => at_node(self.node_at(wildcard), record_type),
                None => Found::NoName,
            },
        }
    }

    /// The node of exactly this name, cuts and wildcards not regarded: how glue is found.
    pub fn node(&self, name: &Name) -> Option<&Node> {
        self.node_id(name).map(|id| self.node_at(id))
    }

    /// The place of exactly this name.
    pub(super) fn node_id(&self, name: &Name) -> Option<NodeId> {
        if !name.is_within(&self.origin) {
            return None;
        }
        let mut id = APEX;
        let mut key = LowerLabel::default();
        for label in self.labels_below(name).into_iter().rev() {
            id = *self.node_at(id).children.get(key.of(label))?;
        }
        Some(id)
    }

    /// The node of a name given in lower-case wire form, found in one step.
    pub fn at(&self, key: &[u8]) -> Option<&Node> {
        self.index.find(&self.nodes, key).map(|at| self.node_at(at))
    }

    /// The wildcard directly below an encloser.
    pub fn wildcard(&self, encloser: &Node) -> Option<&Node> {
        encloser.children.get(b"*".as_slice()).map(|at| self.node_at(*at))
    }

    /// The name above `name` whose DNAME takes its place.
    pub(super) fn redirect_above(&self, name: &Name) -> Option<&Node> {
        match self.walk(name, RecordType::A) {
            Step::Redirect(node, _) => Some(node),
            _ => None,
        }
    }

    /// The delegation that `name` lies at or below.
    pub(super) fn cut_above(&self, name: &Name) -> Option<&Node> {
        match self.walk(name, RecordType::A) {
            Step::Cut(node) => Some(node),
            _ => None,
        }
    }

    /// Whether a name lies at or below a delegation.
    pub fn is_below_cut(&self, name: &Name) -> bool {
        self.cut_above(name).is_some()
    }

    /// Whether an address is known for a host: its own, glue, or from a wildcard.
    pub(super) fn has_addresses(&self, name: &Name) -> bool {
        let types = [RecordType::A, RecordType::AAAA];
        let glue = |record_type| self.node(name).is_some_and(|node| node.rrset(record_type).is_some());
        types.into_iter().any(|wanted| glue(wanted) || matches!(self.find(name, wanted), Found::Set(_)))
    }

    fn walk(&self, name: &Name, record_type: RecordType) -> Step<'_> {
        let mut node = self.node_at(APEX);
        let mut key = LowerLabel::default();
        let labels = self.labels_below(name);
        for (depth, label) in labels.iter().enumerate().rev() {
            if let Some(rrset) = node.rrset(RecordType::DNAME) {
                return Step::Redirect(node, rrset);
            }
            match node.children.get(key.of(label)) {
                Some(&child) => node = self.node_at(child),
                None => return Step::Encloser(node),
            }
            // RFC 4035 section 3.1.4.1: DS stands on the parent's side of the cut.
            let parent_side = depth == 0 && record_type == RecordType::DS;
            if node.rrset(RecordType::NS).is_some() && !parent_side {
                return Step::Cut(node);
            }
        }
        Step::Exact(node)
    }

    /// The labels between `name`, which is within the zone, and the apex.
    fn labels_below<'n>(&self, name: &'n Name) -> Vec<&'n [u8]> {
        let mut labels: Vec<&[u8]> = name.labels().collect();
        labels.truncate(labels.len().saturating_sub(self.origin.label_count()));
        labels
    }
}

fn at_node(node: &Node, record_type: RecordType) -> Found<'_> {
    let set = match record_type {
        RecordType::ANY => node.rrsets.first(),
        wanted => node.rrset(wanted),
    };
    match set {
        Some(rrset) => Found::Set(rrset),
        None => node.rrset(RecordType::CNAME).map_or(Found::NoData, Found::Alias),
    }
}

/// A label in lower case without an allocation for each look-up.
struct LowerLabel([u8; 63]);

impl Default for LowerLabel {
    fn default() -> LowerLabel {
        LowerLabel([0; 63])
    }
}

impl LowerLabel {
    fn of(&mut self, label: &[u8]) -> &[u8] {
        let lower = &mut self.0[..label.len()];
        lower.copy_from_slice(label);
        lower.make_ascii_lowercase();
        lower
    }
}
