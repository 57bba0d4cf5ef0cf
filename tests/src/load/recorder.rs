//! Counts outcomes. No sockets, no clock: every time comes in with the request.
//!
//! Memory is bounded: each second has a histogram only until its last request must have ended, then five numbers.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::outcome::ErrorClass;
use super::plan::Plan;
use super::report::{Progress, Report, SecondReport};

/// 60 s: far beyond any total deadline; three digits are within 0.1 %.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Words are kept for this many failures.
const EXAMPLES_MAX: usize = 8;

/// How a request counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Truncated,
    Failed(ErrorClass),
}

/// What is recorded of a finished request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) due: Duration,
    pub(super) lag: Duration,
    pub(super) latency: Duration,
    pub(super) verdict: Verdict,
    pub(super) address: Option<SocketAddr>,
    pub(super) tries: u32,
}

/// The counts of one plan.
#[derive(Debug)]
pub(super) struct Recorder {
    report: Report,
    late_after: Duration,
    seconds_open_max: usize,
    in_flight: u64,
    latencies: Histogram<u64>,
    open: VecDeque<Second>,
}

#[derive(Debug)]
struct Second {
    counts: SecondReport,
    latencies: Histogram<u32>,
}

impl Second {
    fn new(second: u64) -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("valid histogram bounds");
        Self { counts: SecondReport { second, ..SecondReport::default() }, latencies }
    }

    fn close(mut self) -> SecondReport {
        self.counts.p50_us = self.latencies.value_at_quantile(0.5);
        self.counts.p99_us = self.latencies.value_at_quantile(0.99);
        self.counts
    }
}

impl Recorder {
    pub(super) fn new(plan: &Plan, started_unix_ms: u64) -> Self {
        let report = Report {
            client: plan.kind,
            rate_per_s: plan.rate_per_s,
            arrival: plan.arrival,
            started_unix_ms,
            by_class: ErrorClass::ALL.iter().map(|class| (*class, 0)).collect(),
            ..Report::empty(plan.kind)
        };
        // A request of second n is over by n + total deadline; two more seconds for late wake-ups.
        let seconds_open_max = usize::try_from(plan.limits.total_deadline.as_secs()).unwrap_or(60) + 3;
        Self {
            report,
            late_after: plan.limits.late_after,
            seconds_open_max,
            in_flight: 0,
            latencies: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("valid histogram bounds"),
            open: VecDeque::new(),
        }
    }

    /// A request was really sent.
    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
        self.report.in_flight_max = self.report.in_flight_max.max(self.in_flight);
    }

    /// A request ended; `reason` is asked only when its words are kept.
    pub(super) fn record(&mut self, finished: &Finished, opened: u64, reason: impl FnOnce() -> String) {
        let latency_us = micros(finished.latency);
        self.report.connections_opened = opened;
        self.report.attempted += 1;
        self.report.max_lag_us = self.report.max_lag_us.max(micros(finished.lag));
        if finished.lag > self.late_after {
            self.report.late_sends += 1;
        }
        if finished.verdict != Verdict::Failed(ErrorClass::Saturated) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        if finished.tries > 1 {
            self.report.retried += 1;
        }
        match finished.verdict {
            Verdict::Ok => self.ok(finished, latency_us),
            Verdict::Truncated => {
                self.report.truncated += 1;
                self.example(finished, "truncated", reason);
            }
            Verdict::Failed(class) => {
                self.report.failed += 1;
                *self.report.by_class.entry(class).or_default() += 1;
                self.example(finished, class.as_str(), reason);
            }
        }
        self.in_second(finished, latency_us);
    }

    fn ok(&mut self, finished: &Finished, latency_us: u64) {
        self.report.ok += 1;
        self.latencies.saturating_record(latency_us);
        self.report.max_us = self.report.max_us.max(latency_us);
        if finished.tries > 1 {
            self.report.recovered += 1;
        }
        if let Some(address) = finished.address {
            *self.report.by_address.entry(address.to_string()).or_default() += 1;
        }
    }

    fn example(&mut self, finished: &Finished, class: &str, reason: impl FnOnce() -> String) {
        let at_ms = millis(finished.due);
        let first = self.report.first_error_ms.get_or_insert(at_ms);
        *first = at_ms.min(*first);
        self.report.last_error_ms = self.report.last_error_ms.max(Some(at_ms));
        if self.report.examples.len() < EXAMPLES_MAX {
            let address = finished.address.map_or_else(|| "nobody".into(), |address| address.to_string());
            self.report.examples.push(format!("{at_ms} ms, {address}, {class}: {}", reason()));
        }
    }

    fn in_second(&mut self, finished: &Finished, latency_us: u64) {
        let second = finished.due.as_secs();
        let next = self.report.per_second.len() as u64 + self.open.len() as u64;
        for new in next..=second {
            self.open.push_back(Second::new(new));
            if self.open.len() > self.seconds_open_max {
                self.report.per_second.extend(self.open.pop_front().map(Second::close));
            }
        }
        let index = second.checked_sub(self.report.per_second.len() as u64);
        let open = index.and_then(|index| self.open.get_mut(usize::try_from(index).ok()?));
        // A request that ended after its second was closed still counts there, without a place in its percentiles.
        let (counts, latencies) = match open {
            Some(open) => (&mut open.counts, Some(&mut open.latencies)),
            None => match self.report.per_second.get_mut(usize::try_from(second).unwrap_or(usize::MAX)) {
                Some(closed) => (closed, None),
                None => return,
            },
        };
        counts.requests += 1;
        match finished.verdict {
            Verdict::Ok => {
                counts.ok += 1;
                counts.max_us = counts.max_us.max(latency_us);
                if let Some(latencies) = latencies {
                    latencies.saturating_record(latency_us);
                }
            }
            Verdict::Truncated => {
                counts.errors += 1;
                counts.truncated += 1;
            }
            Verdict::Failed(_) => counts.errors += 1,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let Report { attempted, ok, failed, truncated, .. } = self.report;
        Progress { attempted, ok, failed, truncated, in_flight: self.in_flight }
    }

    /// The report; `sent_for` is how long requests fell due.
    pub(super) fn report(&self, sent_for: Duration) -> Report {
        let mut report = self.report.clone();
        report.seconds = sent_for.as_secs_f64();
        report.p50_us = self.latencies.value_at_quantile(0.5);
        report.p90_us = self.latencies.value_at_quantile(0.9);
        report.p99_us = self.latencies.value_at_quantile(0.99);
        report.p999_us = self.latencies.value_at_quantile(0.999);
        // A bucket's upper edge may lie above the largest value in it.
        for quantile in [&mut report.p50_us, &mut report.p90_us, &mut report.p99_us, &mut report.p999_us] {
            *quantile = (*quantile).min(report.max_us);
        }
        let open =
            self.open.iter().map(|open| Second { counts: open.counts, latencies: open.latencies.clone() });
        report.per_second.extend(open.map(Second::close));
        for second in &mut report.per_second {
            second.p50_us = second.p50_us.min(second.max_us);
            second.p99_us = second.p99_us.min(second.max_us);
        }
        report.by_class.entry(ErrorClass::Saturated).or_default();
        report
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reports show addresses in order.
pub(super) type ByAddress = BTreeMap<String, u64>;
