//! Copies of sessions in this process, none of which is ever believed by itself.
//!
//! Each write of fields puts a new random revision beside them. A load that has a copy asks only for the session's times
//! and its revision, in the round trip that it needs anyway: is it the copy's, then the copy's fields are the session's,
//! and neither do they travel nor are they parsed. Whatever happened to the session meanwhile, by whomever, shows.
//!
//! Random and not counted, because a Redis that restarts can forget its last second of writes: a count would come by
//! again, with other fields.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;

use crate::token::SessionId;

/// Characters of a revision: 64 bits in hexadecimal digits.
const REVISION_BYTES: usize = 8;

/// How often copies were of use. Clones share the numbers.
#[derive(Debug, Clone, Default)]
pub struct NearCounts {
    /// Loads whose copy was the session's latest.
    pub hits: Counter,
    /// Loads without a copy, or with an old one.
    pub misses: Counter,
}

/// The fields of a session at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) revision: String,
    pub(super) fields: BTreeMap<String, String>,
}

/// At most so many copies; the oldest goes first.
#[derive(Debug)]
pub(super) struct Near {
    sessions_max: usize,
    pub(super) counts: NearCounts,
    // Locked only around looking up and inserting, never across an await.
    copies: Mutex<Copies>,
}

#[derive(Debug, Default)]
struct Copies {
    by_id: HashMap<SessionId, Copied>,
    /// Every id of `by_id` once, by age.
    ages: VecDeque<SessionId>,
}

impl Near {
    pub(super) fn new(sessions_max: usize) -> Self {
        Self { sessions_max, counts: NearCounts::default(), copies: Mutex::default() }
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<Copied> {
        self.copies().by_id.get(id).cloned()
    }

    /// Keeps a copy, in place of an older one.
    pub(super) fn keep(&self, id: SessionId, copy: Copied) {
        if self.sessions_max == 0 {
            return;
        }
        let mut copies = self.copies();
        if copies.by_id.insert(id, copy).is_none() {
            copies.ages.push_back(id);
        }
        while copies.by_id.len() > self.sessions_max
            && let Some(oldest) = copies.ages.pop_front()
        {
            copies.by_id.remove(&oldest);
        }
    }

    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new revision, which no other write has.
pub(super) fn new_revision() -> String {
    let mut bytes = [0; REVISION_BYTES];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SessionToken;

    fn copy(revision: &str) -> Copied {
        Copied { revision: revision.into(), fields: BTreeMap::new() }
    }

    #[test]
    fn the_oldest_copy_goes_first() {
        let near = Near::new(2);
        let ids = [(); 3].map(|()| SessionToken::generate().id());
        for id in ids {
            near.keep(id, copy("1"));
            // A newer copy of the same session takes no further place.
            near.keep(id, copy("2"));
        }
        assert_eq!(
            ids.map(|id| near.get(&id).map(|it| it.revision)),
            [None, Some("2".into()), Some("2".into())]
        );
    }

    #[test]
    fn none_is_kept_where_none_may_be() {
        let (near, id) = (Near::new(0), SessionToken::generate().id());
        near.keep(id, copy("1"));
        assert_eq!(near.get(&id), None);
    }

    #[test]
    fn revisions_differ() {
        assert_ne!(new_revision(), new_revision());
    }
}
