//! What happened to a drill's operations, in numbers.

use serde::{Deserialize, Serialize};

use crate::drill::history::Findings;
use crate::load::Report;

/// What happened to the drill's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Operations tried.
    pub attempted: u64,
    /// Answered with success.
    pub acknowledged: u64,
    /// Acknowledged and absent afterwards.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// Removed, acknowledged, and there again.
    pub resurrected: u64,
    /// Reads that missed what was acknowledged before.
    pub stale: u64,
    /// Requests without success.
    pub failed: u64,
}

impl Counts {
    pub(super) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("attempted", self.attempted),
            ("acknowledged", self.acknowledged),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("resurrected", self.resurrected),
            ("stale", self.stale),
            ("failed", self.failed),
        ]
    }
}

/// Truncated answers count as failed here: they were no success.
impl From<&Report> for Counts {
    fn from(load: &Report) -> Self {
        Self {
            attempted: load.attempted,
            acknowledged: load.ok,
            failed: load.failed + load.truncated,
            ..Self::default()
        }
    }
}

/// Operations without an answer count as failed; that they may be present all the same is in the history.
impl From<&Findings> for Counts {
    fn from(findings: &Findings) -> Self {
        Self {
            attempted: findings.attempted,
            acknowledged: findings.acknowledged,
            lost: findings.lost.len() as u64,
            duplicated: findings.duplicated.len() as u64,
            resurrected: findings.resurrected.len() as u64,
            stale: findings.stale.len() as u64,
            failed: findings.failed + findings.unknown,
        }
    }
}

/// The first two always, the others when there is something.
pub(super) fn in_words(counts: &Counts) -> String {
    let words = counts.named().into_iter().enumerate();
    let shown = words.filter(|(place, (_, count))| *place < 2 || *count > 0);
    shown.map(|(_, (word, count))| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::drill::history::{History, Kind, Told};
    use std::time::Duration;

    #[test]
    fn counts_come_from_histories_and_loads() {
        let mut history = History::default();
        for (id, told) in [("a", Told::Acknowledged), ("b", Told::Unknown), ("c", Told::Failed)] {
            history.record(id, Kind::Add, told, Duration::ZERO, Duration::from_millis(1));
        }
        let counts = Counts::from(&history.check(["b", "b"]));
        let expected =
            Counts { attempted: 3, acknowledged: 1, lost: 1, duplicated: 1, failed: 2, ..Counts::default() };
        assert_eq!(counts, expected);
        let load = sample::load(|_| (0, 0));
        assert_eq!(Counts::from(&load).acknowledged, load.ok);
    }
}
