//! The verdict on figures. Pure.

use serde::Serialize;

use super::changes::Changes;
use super::reader::Reads;
use crate::bench::figures::median;

/// How much memory may have grown, in percent.
const GROWTH_PERCENT_MAX: f64 = 5.0;
/// Samples that a statement about memory needs: one for each tenth.
const SAMPLES_MIN: usize = 10;

/// What dnsperf counted while a subject had its turn.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// Questions.
    pub sent: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that were not, within 5 s.
    pub lost: u64,
    /// Answers of another code or length than all must have.
    pub wrong: u64,
    /// Packets that the kernel dropped because the subject's socket was full.
    pub dropped: u64,
    /// How long it took.
    pub seconds: f64,
    /// CPU time of the subject for an answered question, what it spends on changes included; of ours only.
    pub cpu_us_per_query: Option<f64>,
}

/// What is known of a subject.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Soaked {
    /// Turn by turn.
    pub slices: Vec<Slice>,
    /// Answers that were read in full.
    pub reads: Reads,
    /// Versions of the zone.
    pub reloads: Changes,
}

/// What is known of ours alone.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Own {
    /// Targets that were closed and opened.
    pub flips: Changes,
    /// Resident, of the process, each second under load.
    pub memory_bytes: Vec<u64>,
    /// `dns_path_mismatch_total`.
    pub path_mismatches: u64,
    /// `dns_zone_loads_total{outcome="failed"}`.
    pub failed_loads: u64,
}

/// One rule, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The rule.
    pub rule: String,
    /// The figures.
    pub found: String,
    /// Whether they keep it.
    pub holds: bool,
}

impl Soaked {
    /// One count over all turns.
    pub fn total(&self, count: fn(&Slice) -> u64) -> u64 {
        self.slices.iter().map(count).sum()
    }

    /// Of a million questions.
    pub fn lost_per_million(&self) -> f64 {
        exact(self.total(|it| it.lost)) / exact(self.total(|it| it.sent)).max(1.0) * 1e6
    }

    /// Median of a tenth of the turns, counted from 1.
    pub fn cpu_us_per_query(&self, number: usize) -> Option<f64> {
        median(tenth(&self.slices, number).iter().filter_map(|it| it.cpu_us_per_query).collect())
    }
}

impl Own {
    /// Medians of the second and of the last tenth: what a program takes at first is no growth.
    pub fn memory(&self) -> Option<(f64, f64)> {
        let of = |number| median(tenth(&self.memory_bytes, number).iter().map(|it| exact(*it)).collect());
        if self.memory_bytes.len() < SAMPLES_MIN { None } else { Some((of(2)?, of(10)?)) }
    }
}

/// All rules. `allowance_per_million` of its questions ours may lose beyond what the peer loses.
pub(super) fn verdicts(ours: &Soaked, nsd: &Soaked, own: &Own, allowance_per_million: u64) -> Vec<Verdict> {
    let all = |what: &str, changes: &Changes| Verdict {
        rule: format!("every {what} reflected"),
        found: format!(
            "{} of {}, the slowest after {} ms",
            changes.reflected, changes.made, changes.slowest_ms
        ),
        holds: changes.made > 0 && changes.reflected == changes.made,
    };
    let none =
        |rule: &str, count: u64, found: String| Verdict { rule: rule.to_owned(), found, holds: count == 0 };
    let wrong = ours.total(|it| it.wrong) + ours.reads.wrong;
    let examples = ours.reads.examples.iter().map(|it| format!("; {it}")).collect::<String>();
    let mismatches = own.path_mismatches;
    vec![
        lost(ours, nsd, allowance_per_million),
        growth(own),
        none("no wrong answer", wrong, format!("{wrong}{examples}")),
        none("both paths of ours give the same", mismatches, format!("{mismatches} mismatches")),
        none("no failed load", own.failed_loads, own.failed_loads.to_string()),
        all("reload", &ours.reloads),
        all("flip of health", &own.flips),
    ]
}

fn lost(ours: &Soaked, nsd: &Soaked, allowance_per_million: u64) -> Verdict {
    let (own, peer, sent) = (ours.total(|it| it.lost), nsd.total(|it| it.lost), ours.total(|it| it.sent));
    let allowance = sent * allowance_per_million / 1_000_000;
    // Had it been asked as much: it may have had fewer turns.
    let scaled = exact(peer) * exact(sent) / exact(nsd.total(|it| it.sent)).max(1.0);
    let beyond = match allowance_per_million {
        0 => String::new(),
        count => format!(" and {count} per million"),
    };
    Verdict {
        rule: format!("lost at most NSD's at the same rate{beyond}"),
        found: format!(
            "ours {own} ({:.2} per million), NSD {peer} ({:.2} per million)",
            ours.lost_per_million(),
            nsd.lost_per_million()
        ),
        // Nothing lost of nothing sent is no success.
        holds: ours.total(|it| it.answered) > 0 && own <= rounded(scaled) + allowance,
    }
}

fn growth(own: &Own) -> Verdict {
    let rule = format!("memory growth under {GROWTH_PERCENT_MAX} %");
    let Some((before, after)) = own.memory() else {
        let found = format!("{} samples are too few", own.memory_bytes.len());
        return Verdict { rule, found, holds: false };
    };
    let percent = (after / before - 1.0) * 100.0;
    let found = format!(
        "{percent:+.1} %: {:.2} MB in the second tenth, {:.2} MB in the last",
        before / 1e6,
        after / 1e6
    );
    Verdict { rule, found, holds: percent < GROWTH_PERCENT_MAX }
}

/// One tenth of a list, counted from 1; one item where a tenth is less.
fn tenth<T>(values: &[T], number: usize) -> &[T] {
    let from = values.len() * (number - 1) / 10;
    let to = (values.len() * number / 10).max(from + 1).min(values.len());
    &values[from.min(to)..to]
}

#[expect(clippy::cast_precision_loss, reason = "counts of a soak are far below 2^53")]
pub(super) fn exact(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates and counts")]
pub(super) fn rounded(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soaked(lost: &[u64]) -> Soaked {
        let slice =
            |lost: &u64| Slice { sent: 100_000, answered: 100_000 - lost, lost: *lost, ..Slice::default() };
        let reloads = Changes { made: 3, reflected: 3, slowest_ms: 40 };
        Soaked { slices: lost.iter().map(slice).collect(), reloads, ..Soaked::default() }
    }

    fn own(megabytes: &[u64]) -> Own {
        let flips = Changes { made: 2, reflected: 2, slowest_ms: 900 };
        let memory_bytes = megabytes.iter().map(|it| it * 1_000_000).collect();
        Own { flips, memory_bytes, ..Own::default() }
    }

    /// Ten samples of the same.
    fn steady() -> Own {
        own(&[20; 10])
    }

    /// The rules that are broken, with what was found.
    #[track_caller]
    fn check(ours: &Soaked, nsd: &Soaked, own: &Own, allowance: u64, broken: &[&str]) {
        let verdicts = verdicts(ours, nsd, own, allowance);
        let found: Vec<String> = verdicts
            .into_iter()
            .filter(|it| !it.holds)
            .map(|it| format!("{}: {}", it.rule, it.found))
            .collect();
        assert_eq!(found, broken);
    }

    #[test]
    fn as_much_may_be_lost_as_the_peer_loses() {
        check(&soaked(&[0, 0]), &soaked(&[0, 0]), &steady(), 0, &[]);
        check(&soaked(&[0, 7]), &soaked(&[5, 2]), &steady(), 0, &[]);
        check(&soaked(&[0, 7]), &soaked(&[9, 9]), &steady(), 0, &[]);
        check(
            &soaked(&[1, 7]),
            &soaked(&[5, 2]),
            &steady(),
            0,
            &["lost at most NSD's at the same rate: ours 8 (40.00 per million), NSD 7 (35.00 per million)"],
        );
    }

    #[test]
    fn a_peer_with_fewer_turns_is_scaled() {
        check(&soaked(&[2, 2, 2, 2]), &soaked(&[2]), &steady(), 0, &[]);
        check(
            &soaked(&[3, 2, 2, 2]),
            &soaked(&[2]),
            &steady(),
            0,
            &["lost at most NSD's at the same rate: ours 9 (22.50 per million), NSD 2 (20.00 per million)"],
        );
    }

    #[test]
    fn an_allowance_is_of_what_was_sent_and_is_said() {
        check(&soaked(&[10, 10]), &soaked(&[0, 0]), &steady(), 100, &[]);
        check(
            &soaked(&[10, 11]),
            &soaked(&[0, 0]),
            &steady(),
            100,
            &[
                "lost at most NSD's at the same rate and 100 per million: ours 21 (105.00 per million), NSD 0 (0.00 per million)",
            ],
        );
    }

    #[test]
    fn nothing_sent_is_no_success() {
        check(
            &soaked(&[]),
            &soaked(&[]),
            &steady(),
            0,
            &["lost at most NSD's at the same rate: ours 0 (0.00 per million), NSD 0 (0.00 per million)"],
        );
    }

    #[track_caller]
    fn check_memory(megabytes: &[u64], broken: &[&str]) {
        check(&soaked(&[0]), &soaked(&[0]), &own(megabytes), 0, broken);
    }

    #[test]
    fn memory_is_compared_from_the_second_tenth_to_the_last() {
        check_memory(&[10, 100, 0, 0, 0, 0, 0, 0, 0, 104], &[]);
        check_memory(&[90, 100, 0, 0, 0, 0, 0, 0, 0, 60], &[]);
        let rule = "memory growth under 5 %";
        check_memory(
            &[10, 100, 0, 0, 0, 0, 0, 0, 0, 105],
            &[&format!("{rule}: +5.0 %: 100.00 MB in the second tenth, 105.00 MB in the last")],
        );
        // One sample of a tenth may be anything.
        let mut twice = [100; 30];
        twice[28] = 900;
        check_memory(&twice, &[]);
        check_memory(&[100; 9], &[&format!("{rule}: 9 samples are too few")]);
    }

    #[test]
    fn changes_have_to_be_seen() {
        let mut ours = soaked(&[0]);
        ours.reloads.reflected = 2;
        check(
            &ours,
            &soaked(&[0]),
            &steady(),
            0,
            &["every reload reflected: 2 of 3, the slowest after 40 ms"],
        );
        let mut none = steady();
        none.flips = Changes::default();
        check(
            &soaked(&[0]),
            &soaked(&[0]),
            &none,
            0,
            &["every flip of health reflected: 0 of 0, the slowest after 0 ms"],
        );
    }

    #[test]
    fn answers_have_to_be_right_however_they_were_read() {
        let mut ours = soaked(&[0]);
        ours.slices[0].wrong = 2;
        ours.reads.wrong = 1;
        ours.reads.examples = vec!["n001: version 3".to_owned()];
        check(&ours, &soaked(&[0]), &steady(), 0, &["no wrong answer: 3; n001: version 3"]);
        let bug = Own { path_mismatches: 1, failed_loads: 2, ..steady() };
        let broken = ["both paths of ours give the same: 1 mismatches", "no failed load: 2"];
        check(&soaked(&[0]), &soaked(&[0]), &bug, 0, &broken);
        // The peer's are told, and judge nobody.
        check(&soaked(&[0]), &ours, &steady(), 0, &[]);
    }

    #[test]
    fn tenths() {
        let numbers: Vec<usize> = (0..100).collect();
        assert_eq!((tenth(&numbers, 1), tenth(&numbers, 10)), (&numbers[..10], &numbers[90..]));
        assert_eq!((tenth(&numbers[..3], 1), tenth(&numbers[..3], 10)), (&[0][..], &[2][..]));
        assert_eq!(tenth(&numbers[..0], 2), &[] as &[usize]);
    }
}
