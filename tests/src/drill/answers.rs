//! Which app answered whom, when and how fast, and what follows from that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::load::{Check, Observed, Outcome};

/// One complete answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// When its request was due, from the load's start.
    pub(super) due: Duration,
    /// From then to the last byte.
    pub(super) latency: Duration,
    /// The load's visitor.
    pub(super) user: usize,
    /// The number that the drill gave the request.
    pub(super) tag: u64,
    /// The app, as its `x-served-by` says; empty when the balancer itself answered.
    pub(super) app: String,
    /// Whether it was a 2xx.
    pub(super) ok: bool,
}

/// Collects the answers of a load; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Vec<Answer>>>);

impl Answers {
    /// What a plan's observer calls.
    pub(super) fn note(&self, observed: &Observed<'_>) -> Check {
        if let Outcome::Complete(response) = observed.outcome {
            self.list().push(Answer {
                due: observed.due,
                latency: observed.latency,
                user: observed.user,
                tag: observed.request.tag,
                app: response.header("x-served-by").to_owned(),
                ok: response.status.is_success(),
            });
        }
        Check::Accept
    }

    /// All so far, which are forgotten here.
    pub(super) fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.list())
    }

    /// How many apps have answered so far.
    pub(super) fn apps(&self) -> usize {
        shares(self.list().iter()).0.len()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.0.lock().expect("observers do not panic")
    }
}

/// How many answers came from each app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shares(pub(super) BTreeMap<String, u64>);

/// Counts them; answers of the balancer's own are nobody's.
pub(super) fn shares<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Shares {
    let mut shares = Shares::default();
    for answer in answers.into_iter().filter(|it| !it.app.is_empty()) {
        *shares.0.entry(answer.app.clone()).or_default() += 1;
    }
    shares
}

impl Shares {
    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The part, from 0 to 1, that this app answered.
    pub(super) fn of(&self, app: &str) -> f64 {
        self.0.get(app).copied().unwrap_or(0) as f64 / self.total().max(1) as f64
    }

    /// The busiest app's part over its fair part among so many apps: 1 is even.
    pub(super) fn unevenness(&self, apps: u8) -> f64 {
        let most = self.0.values().max().copied().unwrap_or(0);
        most as f64 * f64::from(apps) / self.total().max(1) as f64
    }
}

/// The latency that this part (0 to 1) of the answers did not exceed; zero of nothing.
pub(super) fn percentile<'a>(answers: impl IntoIterator<Item = &'a Answer>, part: f64) -> Duration {
    let mut latencies: Vec<Duration> = answers.into_iter().map(|it| it.latency).collect();
    latencies.sort_unstable();
    let place = (latencies.len() as f64 * part).ceil() as usize;
    latencies.get(place.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Answers as `app milliseconds`: `app-1 3, app-2 40`.
    pub(in crate::drill) fn answers(text: &str) -> Vec<Answer> {
        let answer = |(n, part): (usize, &str)| {
            let (app, ms) = part.split_once(' ').unwrap();
            Answer {
                due: Duration::from_millis(n as u64),
                latency: Duration::from_millis(ms.parse().unwrap()),
                user: n,
                tag: 0,
                app: app.to_owned(),
                ok: true,
            }
        };
        text.split(", ").enumerate().map(answer).collect()
    }

    #[test]
    fn shares_are_parts_of_what_apps_answered() {
        let mut answers = answers("a 1, a 1, a 1, b 1");
        answers.push(Answer { app: String::new(), ..answers[0].clone() });
        let shares = shares(&answers);
        assert_eq!((shares.total(), shares.of("a"), shares.of("c")), (4, 0.75, 0.0));
        assert!((shares.unevenness(2) - 1.5).abs() < 1e-9 && (shares.unevenness(4) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_has_no_shares_and_no_latency() {
        assert_eq!((shares(&[]).of("a"), shares(&[]).unevenness(3)), (0.0, 0.0));
        assert_eq!(percentile(&[], 0.99), Duration::ZERO);
    }

    #[test]
    fn percentiles_are_those_of_a_real_answer() {
        let check = |text: &str, part: f64, ms: u64| {
            assert_eq!(percentile(&answers(text), part), Duration::from_millis(ms), "{text} {part}");
        };
        check("a 5", 0.5, 5);
        check("a 4, a 1, a 3, a 2", 0.5, 2);
        check("a 4, a 1, a 3, a 2", 0.99, 4);
        check("a 4, a 1, a 3, a 2", 0.0, 1);
    }
}
