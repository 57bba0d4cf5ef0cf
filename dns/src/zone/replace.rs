//! Snapshots of a zone that differ in a few sets: what is steered by health changes often, and the rest of a large zone
//! is not copied for it.

use super::build::{Node, Zone};
use super::order::Order;
use super::rrset::Rrset;
use crate::wire::{Name, RecordType};

/// A set that a name has from now on; `None`: it has none of that type.
pub type SetChange = (Name, RecordType, Option<Rrset>);

impl Zone {
    /// This zone with other sets at some names: `None` takes a set away. Names that are not in the zone are passed over.
    #[must_use]
    pub fn with_sets(&self, sets: Vec<SetChange>) -> Zone {
        let mut changed = Zone {
            origin: self.origin.clone(),
            nodes: self.nodes.clone(),
            replaced: self.replaced.clone(),
            index: self.index.clone(),
        };
        for (name, record_type, mut set) in sets {
            let Some(id) = self.node_id(&name) else { continue };
            let node = changed.replaced.entry(id).or_insert_with(|| self.node_at(id).clone());
            // What is chosen for each question cannot be laid out ahead.
            if let Some(set) = &mut set
                && !matches!(set.order, Order::Selected(_))
            {
                set.seal(&node.name);
            }
            match (node.rrsets.binary_search_by_key(&record_type, |rrset| rrset.record_type), set) {
                (Ok(at), Some(set)) => node.rrsets[at] = set,
                (Err(at), Some(set)) => node.rrsets.insert(at, set),
                (Ok(at), None) => drop(node.rrsets.remove(at)),
                (Err(_), None) => {}
            }
        }
        changed
    }

    /// Says that a name's answers depend on more than the question: then the fast path leaves them alone. Says whether
    /// there is such a name.
    pub fn slow_only(&mut self, name: &Name) -> bool {
        let Some(id) = self.node_id(name) else { return false };
        let node = Node { slow_only: true, ..self.node_at(id).clone() };
        self.replaced.insert(id, node);
        true
    }

    /// Takes over the cyclic order of the sets that differ from the zone's own, from the snapshot that was served before.
    pub fn continue_replaced_from(&self, older: &Zone) {
        self.replaced.values().for_each(|node| node.continue_from(older));
    }
}
