//! What the pure part of a drill says of its figures; the rest of a result is the same for every drill.

use super::Settings;
use super::report::{Control, Counts, DrillResult, Expectation, Seconds, Verdict};

/// A verdict about the main run, and whether the control went wrong as it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) caught: bool,
}

impl Judgement {
    /// Each demand on the main run with whether it was met: all must be.
    pub(super) fn of(demands: &[bool], caught: bool) -> Self {
        let verdict = if demands.iter().all(|met| *met) { Verdict::Holds } else { Verdict::Refuted };
        Self { verdict, caught }
    }

    /// The machine or the moment did not allow to tell.
    pub(super) fn not_measurable() -> Self {
        Self { verdict: Verdict::NotMeasurable, caught: false }
    }

    /// The result, of a drill that declares that its claim holds.
    pub(super) fn result(self, drill: &Named, settings: Settings, evidence: Evidence) -> DrillResult {
        DrillResult {
            drill: drill.name.into(),
            claim: drill.claim.into(),
            expected: Expectation::Holds,
            verdict: self.verdict,
            reason: evidence.reason,
            seed: settings.seed,
            counts: evidence.counts,
            seconds: evidence.seconds,
            control: Control {
                protection: drill.protection.into(),
                caught: self.caught,
                counts: evidence.control_counts,
            },
        }
    }
}

/// What never changes about a drill.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) claim: &'static str,
    /// What the control run goes without.
    pub(super) protection: &'static str,
}

/// What one run of it has to show.
#[derive(Debug)]
pub(super) struct Evidence {
    /// Why the verdict is what it is, with its figures.
    pub(super) reason: String,
    pub(super) counts: Counts,
    pub(super) seconds: Seconds,
    pub(super) control_counts: Counts,
}
