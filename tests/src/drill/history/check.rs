//! The checker: what was told against what is there in the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::thing::{MustBe, Thing};
use super::{History, Kind, Told, count};

/// What the checker found; lists hold ids in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Additions tried.
    pub attempted: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// Of these, clearly refused.
    pub failed: u64,
    /// Of these, without an answer.
    pub unknown: u64,
    /// Acknowledged and absent.
    pub lost: Vec<String>,
    /// Found more than once.
    pub duplicated: Vec<String>,
    /// Found and never tried, or clearly refused.
    pub unexpected: Vec<String>,
    /// No answer, and present: allowed.
    pub recovered: Vec<String>,
    /// Present although its removal was acknowledged.
    pub resurrected: Vec<String>,
    /// One entry for each read that missed what was acknowledged before it began.
    pub stale: Vec<String>,
}

impl Findings {
    /// Whether nothing that was promised was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let broken = [&self.lost, &self.duplicated, &self.unexpected, &self.resurrected, &self.stale];
        broken.iter().all(|list| list.is_empty())
    }
}

impl History {
    /// Compares what was told with what is there in the end: `found` names each thing as often as it is there.
    #[must_use]
    pub fn check<'a>(&self, found: impl IntoIterator<Item = &'a str>) -> Findings {
        let mut copies: BTreeMap<&str, u64> = BTreeMap::new();
        for id in found {
            *copies.entry(id).or_default() += 1;
        }
        let things = self.things();
        let mut findings = self.told();
        for (id, thing) in &things {
            match (thing.must_be(), copies.contains_key(id)) {
                (MustBe::There, false) => findings.lost.push((*id).into()),
                (MustBe::Gone, true) => findings.resurrected.push((*id).into()),
                (MustBe::Absent, true) => findings.unexpected.push((*id).into()),
                (MustBe::Either, true) if thing.acknowledged == 0 => findings.recovered.push((*id).into()),
                _ => {}
            }
        }
        for (id, count) in copies {
            if !things.contains_key(id) {
                findings.unexpected.push(id.into());
            }
            if count > 1 {
                findings.duplicated.push(id.into());
            }
        }
        findings.unexpected.sort();
        findings.stale = self.stale();
        findings
    }

    fn told(&self) -> Findings {
        let adds = |told: Option<Told>| {
            count(&self.0, |operation| {
                operation.kind == Kind::Add && told.is_none_or(|told| operation.told == told)
            })
        };
        Findings {
            attempted: adds(None),
            acknowledged: adds(Some(Told::Acknowledged)),
            failed: adds(Some(Told::Failed)),
            unknown: adds(Some(Told::Unknown)),
            ..Findings::default()
        }
    }

    fn things(&self) -> BTreeMap<&str, Thing> {
        let mut things: BTreeMap<&str, Thing> = BTreeMap::new();
        for operation in &self.0 {
            let thing = match operation.kind {
                Kind::Add | Kind::Remove => things.entry(&operation.id).or_default(),
                Kind::Seen | Kind::NotSeen => continue,
            };
            thing.note(operation);
        }
        things
    }
}
