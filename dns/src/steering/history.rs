//! What steered names answered with before: who asked then may still go by it until the TTL of that answer has passed.

use super::derive::Offer;
use super::plan::Family;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Changes remembered for each name and family.
const CHANGES_MAX: usize = 16;

/// A change of what a name answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub at_unix_ms: u64,
    pub before: Offer,
    pub after: Vec<IpAddr>,
    /// When the last answer from before the change has passed away in every cache that honours its TTL. Answers from
    /// before earlier changes count too: the largest TTL is what one has to wait for.
    pub held_until_unix_ms: u64,
}

/// The offers in force and the last changes, by place in the plan's names. A plan that was changed starts anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    offers: HashMap<(usize, Family), Offer>,
    changes: HashMap<(usize, Family), VecDeque<Change>>,
}

impl History {
    /// Takes down what is offered from now on.
    pub fn record(&mut self, offers: HashMap<(usize, Family), Offer>, now_unix_ms: u64) {
        for (key, offer) in &offers {
            let Some(before) = self.offers.get(key).filter(|before| **before != *offer) else { continue };
            let changes = self.changes.entry(*key).or_default();
            let earlier = changes.back().map_or(0, |change| change.held_until_unix_ms);
            let held_until_unix_ms = (now_unix_ms + u64::from(before.ttl) * 1_000).max(earlier);
            let after = offer.addresses.clone();
            if changes.len() == CHANGES_MAX {
                changes.pop_front();
            }
            changes.push_back(Change {
                at_unix_ms: now_unix_ms,
                before: before.clone(),
                after,
                held_until_unix_ms,
            });
        }
        self.offers = offers;
    }

    /// What a name offers now.
    pub fn offer(&self, name: usize, family: Family) -> Option<&Offer> {
        self.offers.get(&(name, family))
    }

    /// The latest first.
    pub fn changes(&self, name: usize, family: Family) -> impl Iterator<Item = &Change> {
        self.changes.get(&(name, family)).into_iter().flatten().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step is a time in seconds, a TTL and the last numbers of the addresses that are offered from then on; drawn:
    /// until when each change's old answer may be held.
    #[track_caller]
    fn check(steps: &[(u64, u32, &[u8])], expected: &[u64]) {
        let mut history = History::default();
        for (at, ttl, last) in steps {
            let addresses = last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect();
            let offer = Offer { addresses, ttl: *ttl, zone_ttl: 60, failed: false };
            history.record(HashMap::from([((0, Family::V4), offer)]), at * 1_000);
        }
        let held: Vec<u64> =
            history.changes(0, Family::V4).map(|change| change.held_until_unix_ms / 1_000).collect();
        assert_eq!(held, expected);
    }

    #[test]
    fn the_first_offer_is_no_change() {
        check(&[(10, 30, &[1, 2])], &[]);
        check(&[(10, 30, &[1, 2]), (20, 30, &[1, 2])], &[]);
    }

    #[test]
    fn an_old_answer_may_be_held_for_its_ttl() {
        check(&[(10, 30, &[1, 2]), (20, 15, &[1])], &[50]);
    }

    #[test]
    fn the_largest_ttl_handed_out_counts_the_latest_change_first() {
        check(&[(10, 60, &[1, 2]), (20, 5, &[1]), (22, 60, &[1, 2])], &[80, 80]);
        check(&[(10, 5, &[1, 2]), (20, 5, &[1]), (60, 5, &[1, 2])], &[65, 25]);
    }
}
