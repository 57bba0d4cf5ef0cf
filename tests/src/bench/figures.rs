//! What rounds measured, and what follows: medians and spread, as a table for people and as JSON for machines.

use std::fmt;

use serde::Serialize;

use super::machine::Machine;

/// What one round measured, or the medians of many. What a kind of round does not measure is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// User and system time of the subject's processes, in microseconds, over verified operations.
    pub cpu_us_per_op: Option<f64>,
    /// System calls of the subject's processes over verified operations.
    pub syscalls_per_op: Option<f64>,
    /// Verified operations a second.
    pub ops_per_s: Option<f64>,
    /// Latency as the client saw it, in microseconds: the median.
    pub p50_us: Option<f64>,
    /// 99 of 100 were faster.
    pub p99_us: Option<f64>,
    /// 999 of 1000 were faster.
    pub p999_us: Option<f64>,
    /// Share in percent that the busiest of several workers had of their CPU time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busiest_worker_percent: Option<f64>,
    /// Questions without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<f64>,
    /// From the start of a program until it answers out of all its data, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_s: Option<f64>,
    /// Memory that each idle connection adds, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<f64>,
    /// Memory of the subject's processes with those connections, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<f64>,
}

/// One round of one case with one subject.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Counted from 1; 0 is the round in which system calls are counted.
    pub round: usize,
    /// The case.
    pub case: String,
    /// The program measured.
    pub subject: &'static str,
    /// What came out.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The medians of one case with one subject.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The case.
    pub case: String,
    /// The program measured.
    pub subject: &'static str,
    /// Medians over the rounds.
    #[serde(flatten)]
    pub figures: Figures,
    /// How far the rounds lie apart: largest less smallest CPU time (or memory) over the median.
    pub spread: Option<f64>,
}

/// A whole bench.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its name.
    pub bench: &'static str,
    /// What it ran on.
    pub machine: Machine,
    /// The commit of the repository, with a `+` when files differ from it.
    pub commit: String,
    /// Every round.
    pub rounds: Vec<Round>,
    /// One for each case and subject, in the order of the rounds.
    pub cases: Vec<Summary>,
}

impl Report {
    /// Computes the medians.
    pub fn new(bench: &'static str, machine: Machine, commit: String, rounds: Vec<Round>) -> Self {
        let mut keys: Vec<(&str, &'static str)> = Vec::new();
        for round in &rounds {
            if !keys.contains(&(&round.case, round.subject)) {
                keys.push((&round.case, round.subject));
            }
        }
        keys.sort_by_key(|(case, _)| rounds.iter().position(|round| round.case == *case));
        let cases = keys
            .into_iter()
            .map(|(case, subject)| {
                let same = |round: &&Round| round.case == case && round.subject == subject;
                let figures: Vec<&Figures> = rounds.iter().filter(same).map(|round| &round.figures).collect();
                Summary {
                    case: case.to_owned(),
                    subject,
                    figures: medians(&figures),
                    spread: spread(&figures, |it| it.cpu_us_per_op)
                        .or_else(|| spread(&figures, |it| it.memory_bytes)),
                }
            })
            .collect();
        Self { bench, machine, commit, rounds, cases }
    }
}

fn medians(rounds: &[&Figures]) -> Figures {
    let of = |field: fn(&Figures) -> Option<f64>| median(rounds.iter().filter_map(|it| field(it)).collect());
    Figures {
        cpu_us_per_op: of(|it| it.cpu_us_per_op),
        syscalls_per_op: of(|it| it.syscalls_per_op),
        ops_per_s: of(|it| it.ops_per_s),
        p50_us: of(|it| it.p50_us),
        p99_us: of(|it| it.p99_us),
        p999_us: of(|it| it.p999_us),
        busiest_worker_percent: of(|it| it.busiest_worker_percent),
        lost: of(|it| it.lost),
        load_s: of(|it| it.load_s),
        bytes_per_connection: of(|it| it.bytes_per_connection),
        memory_bytes: of(|it| it.memory_bytes),
    }
}

/// The middle value; the mean of both when there are two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

fn spread(rounds: &[&Figures], field: fn(&Figures) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = rounds.iter().filter_map(|it| field(it)).collect();
    let middle = median(values.clone())?;
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let smallest = values.iter().copied().fold(f64::MAX, f64::min);
    Some((largest - smallest) / middle)
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "bench {} at {} on {}", self.bench, self.commit, self.machine)?;
        writeln!(
            out,
            "{:<22} {:<8} {:>8} {:>7} {:>9} {:>8} {:>8} {:>8} {:>7} {:>8} {:>9} {:>7} {:>8}",
            "case",
            "subject",
            "cpu us",
            "calls",
            "ops/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "spread",
            "busiest",
            "B/conn",
            "MB",
            "load s"
        )?;
        for summary in &self.cases {
            let it = &summary.figures;
            writeln!(
                out,
                "{:<22} {:<8} {:>8} {:>7} {:>9} {:>8} {:>8} {:>8} {:>7} {:>8} {:>9} {:>7} {:>8}",
                summary.case,
                summary.subject,
                shown(it.cpu_us_per_op, 1, ""),
                shown(it.syscalls_per_op, 2, ""),
                shown(it.ops_per_s, 0, ""),
                shown(it.p50_us, 0, ""),
                shown(it.p99_us, 0, ""),
                shown(it.p999_us, 0, ""),
                shown(summary.spread.map(|share| share * 100.0), 0, " %"),
                shown(it.busiest_worker_percent, 0, " %"),
                shown(it.bytes_per_connection, 0, ""),
                shown(it.memory_bytes.map(|bytes| bytes / 1e6), 0, ""),
                shown(it.load_s, 1, ""),
            )?;
        }
        Ok(())
    }
}

fn shown(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], middle: Option<f64>, apart: Option<f64>) {
        let rounds: Vec<Figures> = values
            .iter()
            .map(|value| Figures { cpu_us_per_op: Some(*value), ..Figures::default() })
            .collect();
        let rounds: Vec<&Figures> = rounds.iter().collect();
        assert_eq!(medians(&rounds).cpu_us_per_op, middle);
        assert_eq!(spread(&rounds, |it| it.cpu_us_per_op), apart);
    }

    #[test]
    fn medians_and_spread() {
        check(&[], None, None);
        check(&[4.0], Some(4.0), Some(0.0));
        check(&[30.0, 10.0, 20.0], Some(20.0), Some(1.0));
        check(&[1.0, 3.0], Some(2.0), Some(1.0));
    }

    #[test]
    fn rounds_are_summed_up_by_case_and_subject_and_keep_their_order() {
        let round = |round, case: &str, subject, cpu, calls| Round {
            round,
            case: case.to_owned(),
            subject,
            figures: Figures { cpu_us_per_op: cpu, syscalls_per_op: calls, ..Figures::default() },
        };
        let machine = Machine { cores: 2, cpu: "c".into(), kernel: "k".into() };
        let rounds = vec![
            round(1, "b", "ours", Some(1.0), None),
            round(1, "a", "ours", Some(5.0), None),
            round(1, "b", "nginx", Some(9.0), None),
            round(2, "b", "ours", Some(3.0), None),
            round(0, "b", "ours", None, Some(4.0)),
        ];
        let report = Report::new("lb", machine, "1".into(), rounds);
        let json = serde_json::to_value(&report).unwrap();
        let row = |at: usize| {
            let it = &json["cases"][at];
            format!("{} {} {} {}", it["case"], it["subject"], it["cpu_us_per_op"], it["syscalls_per_op"])
        };
        assert_eq!(row(0), r#""b" "ours" 2.0 4.0"#);
        assert_eq!(row(1), r#""b" "nginx" 9.0 null"#);
        assert_eq!(row(2), r#""a" "ours" 5.0 null"#);
        assert_eq!(json["rounds"].as_array().map(Vec::len), Some(5));
    }
}
