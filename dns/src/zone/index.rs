//! Finds a name of a zone in one step: a hash table from whole names to nodes. The tree of labels answers the same
//! question label by label; this table is what a zone of a million names is asked through.

use super::build::{Node, NodeId};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// The names of one zone. Knows positions only, so it stays right in a copy of the zone whose sets were replaced.
#[derive(Default)]
pub(super) struct Index {
    positions: HashTable<u32>,
    // Seeded anew in each process: whoever may write zones cannot know which names fall together.
    state: RandomState,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Index of {} names", self.positions.len())
    }
}

impl Index {
    pub(super) fn of(nodes: &[Node]) -> Index {
        let state = RandomState::default();
        let hash = |at: &u32| state.hash_one(&*nodes[*at as usize].name.key());
        let mut positions = HashTable::with_capacity(nodes.len());
        for at in 0..u32::try_from(nodes.len()).expect("a zone file of 4 GiB has fewer names") {
            positions.insert_unique(hash(&at), at, hash);
        }
        Index { positions, state }
    }

    /// The node of a name in lower-case wire form.
    pub(super) fn find(&self, nodes: &[Node], key: &[u8]) -> Option<NodeId> {
        let same = |at: &u32| nodes[*at as usize].name.wire().eq_ignore_ascii_case(key);
        self.positions.find(self.state.hash_one(key), same).map(|at| *at as NodeId)
    }
}
