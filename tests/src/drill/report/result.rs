//! A drill's verdict about its claim, as JSON and in a few lines; it decides the exit code.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::counts::{Counts, in_words};

/// What a drill declares that its claim will turn out to be; some claims are refuted on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// The claim is true of this system.
    Holds,
    /// It is not.
    Refuted,
}

/// What the measurement says of the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is true of this system.
    Holds,
    /// It is not.
    Refuted,
    /// The machine or the moment did not allow to tell. Never when something was lost or failed.
    NotMeasurable,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Refuted => "refuted",
            Self::NotMeasurable => "not-measurable",
        }
    }
}

impl Expectation {
    fn is_met_by(self, verdict: Verdict) -> bool {
        matches!((self, verdict), (Self::Holds, Verdict::Holds) | (Self::Refuted, Verdict::Refuted))
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Refuted => "refuted",
        }
    }
}

/// Seconds from the fault; none where a drill has no such moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// Until the system noticed.
    pub detect: Option<f64>,
    /// Until another instance had taken over.
    pub failover: Option<f64>,
    /// Until the last failure was over.
    pub recover: Option<f64>,
}

/// The second run, with one named protection switched off: it must go wrong, or the drill proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// What was switched off.
    pub protection: String,
    /// Whether the drill noticed what went wrong then.
    pub caught: bool,
    /// That run's counts.
    pub counts: Counts,
}

/// What `stack drill run --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillResult {
    /// The drill's name.
    pub drill: String,
    /// The claim in the field that it tests.
    pub claim: String,
    /// What the drill declares.
    pub expected: Expectation,
    /// What was measured.
    pub verdict: Verdict,
    /// Why the verdict is what it is, with its figures.
    pub reason: String,
    /// Repeats the run.
    pub seed: u64,
    /// The run with all protections.
    pub counts: Counts,
    /// Its times.
    pub seconds: Seconds,
    /// The run without one of them.
    pub control: Control,
}

impl DrillResult {
    /// 0 the verdict is the declared one and the control was caught, 1 contrary, 2 control missed, 3 not measurable.
    /// A run that lost or failed something was measured, whatever it calls itself.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let Counts { lost, duplicated, resurrected, failed, .. } = self.counts;
        match self.verdict {
            Verdict::NotMeasurable if lost + duplicated + resurrected + failed > 0 => 1,
            Verdict::NotMeasurable => 3,
            verdict if !self.expected.is_met_by(verdict) => 1,
            _ if !self.control.caught => 2,
            _ => 0,
        }
    }

    pub(super) fn conclusion(&self) -> &'static str {
        match self.exit_code() {
            0 => "as expected, and the control was caught",
            1 => "CONTRARY to what the drill declares",
            2 => "as expected, but the CONTROL WAS MISSED: this run proves nothing",
            _ => "could not be measured here",
        }
    }
}

/// A few lines for people.
impl fmt::Display for DrillResult {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict.as_str();
        writeln!(out, "{}: {verdict} ({})", self.drill, self.conclusion())?;
        writeln!(out, "  claim    {}", self.claim)?;
        writeln!(out, "  because  {}", self.reason)?;
        writeln!(out, "  counts   {}", in_words(&self.counts))?;
        let Seconds { detect, failover, recover } = self.seconds;
        let seconds: Vec<String> = [("detect", detect), ("failover", failover), ("recover", recover)]
            .iter()
            .filter_map(|(word, seconds)| seconds.map(|seconds| format!("{word} {seconds:.1} s")))
            .collect();
        if !seconds.is_empty() {
            writeln!(out, "  times    {}", seconds.join(", "))?;
        }
        let caught = if self.control.caught { "caught" } else { "MISSED" };
        writeln!(
            out,
            "  control  without {}: {caught}; {}",
            self.control.protection,
            in_words(&self.control.counts)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::result;
    use super::*;

    /// Verdict, expectation, control caught, lost -> exit code.
    fn check(verdict: Verdict, expected: Expectation, caught: bool, lost: u64, code: u8) {
        let mut result = DrillResult { verdict, expected, ..result() };
        result.control.caught = caught;
        result.counts.lost = lost;
        assert_eq!(result.exit_code(), code, "{result}");
    }

    #[test]
    fn exit_codes() {
        check(Verdict::Holds, Expectation::Holds, true, 0, 0);
        check(Verdict::Refuted, Expectation::Refuted, true, 3, 0);
        check(Verdict::Refuted, Expectation::Holds, true, 0, 1);
        check(Verdict::Holds, Expectation::Refuted, true, 0, 1);
        check(Verdict::Holds, Expectation::Holds, false, 0, 2);
        check(Verdict::Refuted, Expectation::Holds, false, 0, 1);
        check(Verdict::NotMeasurable, Expectation::Holds, true, 0, 3);
        check(Verdict::NotMeasurable, Expectation::Holds, false, 0, 3);
    }

    #[test]
    fn a_loss_is_never_not_measurable() {
        check(Verdict::NotMeasurable, Expectation::Holds, true, 1, 1);
        let mut failing = DrillResult { verdict: Verdict::NotMeasurable, ..result() };
        failing.counts.failed = 1;
        assert_eq!(failing.exit_code(), 1);
    }

    #[test]
    fn json_is_what_the_design_says() {
        let expected = serde_json::json!({
            "drill": "kill-app", "claim": "C10: a shared store frees every app server",
            "expected": "holds", "verdict": "holds", "reason": "0 of 400 sessions were lost", "seed": 7,
            "counts": {"attempted": 400, "acknowledged": 400, "lost": 0, "duplicated": 0, "resurrected": 0, "stale": 0, "failed": 0},
            "seconds": {"detect": 0.4, "failover": null, "recover": 1.25},
            "control": {"protection": "the shared store (sessions = memory)", "caught": true,
                "counts": {"attempted": 400, "acknowledged": 400, "lost": 131, "duplicated": 0, "resurrected": 0, "stale": 0, "failed": 0}}
        });
        let json = serde_json::to_value(result()).unwrap();
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<DrillResult>(json).unwrap(), result());
        let not = serde_json::to_value(Verdict::NotMeasurable).unwrap();
        assert_eq!(not, "not-measurable");
    }

    #[test]
    fn the_summary_names_what_was_broken() {
        let text = result().to_string();
        assert!(text.starts_with("kill-app: holds (as expected, and the control was caught)\n"), "{text}");
        assert!(text.contains("without the shared store (sessions = memory): caught; 400 attempted, 400 acknowledged, 131 lost"), "{text}");
        assert!(
            text.contains("detect 0.4 s, recover 1.2 s") || text.contains("detect 0.4 s, recover 1.3 s"),
            "{text}"
        );
    }
}
