//! Interleaving: every round measures every subject of every case once, so that what else the machine does meets all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::figures::{Figures, Round};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only cases of these names; empty: all.
    pub cases: Vec<String>,
    /// Only subjects of these names; empty: all.
    pub subjects: Vec<String>,
    /// Rounds, besides the one that counts system calls.
    pub rounds: usize,
    /// How long each measurement of a round lasts.
    pub duration: Duration,
}

/// What a measurement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// CPU time and latency.
    Time,
    /// System calls.
    Syscalls,
}

/// A case with those who take part in it.
#[derive(Debug, Clone)]
pub struct Case<K> {
    /// As it is called in results.
    pub name: String,
    /// What it is about.
    pub kind: K,
    /// Who takes part.
    pub subjects: Vec<&'static str>,
    /// Whether its system calls are counted.
    pub counts_syscalls: bool,
}

/// The cases and subjects that were asked for; a name that is none is an error.
pub fn select<K>(mut all: Vec<Case<K>>, options: &Options) -> Result<Vec<Case<K>>> {
    let chosen = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let known: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
    known_ones("case", &known, &options.cases)?;
    let known: Vec<&str> = all.iter().flat_map(|case| case.subjects.iter().copied()).collect();
    known_ones("subject", &known, &options.subjects)?;
    all.retain(|case| chosen(&options.cases, &case.name));
    for case in &mut all {
        case.subjects.retain(|subject| chosen(&options.subjects, subject));
    }
    Ok(all)
}

fn known_ones(what: &str, known: &[&str], wanted: &[String]) -> Result<()> {
    for name in wanted {
        let mut there = known.to_vec();
        there.sort_unstable();
        there.dedup();
        ensure!(known.contains(&name.as_str()), "no {what} {name}; there are: {}", there.join(" "));
    }
    Ok(())
}

/// Runs all rounds. Who goes first changes with the round. Progress goes to standard error.
pub async fn interleave<K>(
    cases: &[Case<K>],
    rounds: usize,
    mut measure: impl AsyncFnMut(&Case<K>, &'static str, Purpose) -> Result<Figures>,
) -> Result<Vec<Round>> {
    let mut results = Vec::new();
    // Round 0 comes last: it is no timed one.
    for round in (1..=rounds).chain([0]) {
        let purpose = if round == 0 { Purpose::Syscalls } else { Purpose::Time };
        for case in cases.iter().filter(|case| round != 0 || case.counts_syscalls) {
            for step in 0..case.subjects.len() {
                let subject = case.subjects[(round + step) % case.subjects.len()];
                let figures = measure(case, subject, purpose)
                    .await
                    .with_context(|| format!("round {round}, case {}, subject {subject}", case.name))?;
                eprintln!("round {round}  {:<22} {subject:<8} {}", case.name, brief(&figures));
                results.push(Round { round, case: case.name.clone(), subject, figures });
            }
        }
    }
    Ok(results)
}

fn brief(figures: &Figures) -> String {
    let shown = |name: &str, value: Option<f64>| value.map(|value| format!("{value:.2} {name}"));
    [
        shown("us CPU", figures.cpu_us_per_op),
        shown("system calls", figures.syscalls_per_op),
        shown("operations/s", figures.ops_per_s),
        shown("% on the busiest worker", figures.busiest_worker_percent),
        shown("bytes a connection", figures.bytes_per_connection),
        shown("lost", figures.lost.filter(|lost| *lost > 0.0)),
        shown("MB", figures.memory_bytes.map(|bytes| bytes / 1e6)),
        shown("s to load", figures.load_s),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, counts_syscalls: bool) -> Case<()> {
        Case { name: name.to_owned(), kind: (), subjects: vec!["a", "b"], counts_syscalls }
    }

    #[tokio::test]
    async fn every_round_has_every_case_and_subject_and_turns_change() {
        let mut order = Vec::new();
        let cases = [case("x", true), case("y", false)];
        let measure = async |case: &Case<()>, subject, purpose| {
            order.push(format!("{}{subject}{}", case.name, u8::from(purpose == Purpose::Time)));
            Ok(Figures::default())
        };
        let results = interleave(&cases, 2, measure).await.unwrap();
        assert_eq!(order, ["xb1", "xa1", "yb1", "ya1", "xa1", "xb1", "ya1", "yb1", "xa0", "xb0"]);
        assert_eq!(results.len(), 10);
    }

    fn options(cases: &[&str], subjects: &[&str]) -> Options {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Options { cases: owned(cases), subjects: owned(subjects), rounds: 1, duration: Duration::ZERO }
    }

    #[test]
    fn cases_and_subjects_are_chosen_and_unknown_ones_named_beside_the_known() {
        let all = || vec![case("x", true), case("y", true)];
        let chosen = select(all(), &options(&["y"], &["b"])).unwrap();
        assert_eq!(
            (chosen.len(), chosen[0].name.as_str(), chosen[0].subjects.as_slice()),
            (1, "y", &["b"][..])
        );
        assert_eq!(select(all(), &options(&[], &[])).unwrap().len(), 2);
        let error = select(all(), &options(&["z"], &[])).unwrap_err();
        assert_eq!(error.to_string(), "no case z; there are: x y");
        let error = select(all(), &options(&[], &["c"])).unwrap_err();
        assert_eq!(error.to_string(), "no subject c; there are: a b");
    }
}
