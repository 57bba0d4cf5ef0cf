//! What a load found, as machines read it and as a person does.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::outcome::ErrorClass;
use super::plan::ClientKind;
use super::recorder::ByAddress;
use super::schedule::Arrival;

/// Counts while a load runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Requests that have ended.
    pub attempted: u64,
    /// Complete 2xx.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    /// With a body that was cut.
    pub truncated: u64,
    /// Sent and not ended.
    pub in_flight: u64,
}

/// One second of due times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SecondReport {
    /// From the start, 0 the first.
    pub second: u64,
    /// Requests that fell due in it.
    pub requests: u64,
    /// Of these, complete 2xx.
    pub ok: u64,
    /// Of these, failed or truncated.
    pub errors: u64,
    /// Of the errors, truncated.
    pub truncated: u64,
    /// Median latency of the complete ones.
    pub p50_us: u64,
    /// 99th percentile of the complete ones.
    pub p99_us: u64,
    /// Slowest of the complete ones.
    pub max_us: u64,
}

/// What a load found. Latencies are those of complete 2xx answers, from their due times; a failed request has none,
/// it has a class. `attempted = ok + failed + truncated`, and `failed` is the sum of `by_class`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The kind of client.
    pub client: ClientKind,
    /// The rate asked for.
    pub rate_per_s: f64,
    /// The spacing.
    pub arrival: Arrival,
    /// When the first request was due.
    pub started_unix_ms: u64,
    /// How long requests fell due.
    pub seconds: f64,
    /// Requests that fell due, the unsent included.
    pub attempted: u64,
    /// Complete 2xx within the deadline.
    pub ok: u64,
    /// Neither complete nor truncated.
    pub failed: u64,
    /// A head came, the body was cut.
    pub truncated: u64,
    /// The failed ones by reason.
    pub by_class: BTreeMap<ErrorClass, u64>,
    /// Requests tried at a second address.
    pub retried: u64,
    /// Of these, complete 2xx in the end.
    pub recovered: u64,
    /// Median latency.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Slowest.
    pub max_us: u64,
    /// Due time of the earliest request that failed or was truncated, from the start.
    pub first_error_ms: Option<u64>,
    /// Due time of the latest one.
    pub last_error_ms: Option<u64>,
    /// Requests sent late by this client: its own fault, and part of their latency.
    pub late_sends: u64,
    /// The latest of them.
    pub max_lag_us: u64,
    /// Most requests in flight at once.
    pub in_flight_max: u64,
    /// TCP connects tried.
    pub connections_opened: u64,
    /// Complete 2xx by address.
    pub by_address: ByAddress,
    /// The first few failures in words.
    pub examples: Vec<String>,
    /// Every second from the first.
    pub per_second: Vec<SecondReport>,
}

impl Report {
    pub(crate) fn empty(client: ClientKind) -> Self {
        Self {
            client,
            rate_per_s: 0.0,
            arrival: Arrival::Even,
            started_unix_ms: 0,
            seconds: 0.0,
            attempted: 0,
            ok: 0,
            failed: 0,
            truncated: 0,
            by_class: BTreeMap::new(),
            retried: 0,
            recovered: 0,
            p50_us: 0,
            p90_us: 0,
            p99_us: 0,
            p999_us: 0,
            max_us: 0,
            first_error_ms: None,
            last_error_ms: None,
            late_sends: 0,
            max_lag_us: 0,
            in_flight_max: 0,
            connections_opened: 0,
            by_address: BTreeMap::new(),
            examples: Vec::new(),
            per_second: Vec::new(),
        }
    }

    /// How many failed for this reason.
    #[must_use]
    pub fn of_class(&self, class: ErrorClass) -> u64 {
        self.by_class.get(&class).copied().unwrap_or(0)
    }

    /// Whether the generator kept to its plan: nothing unsent, at most one send in a hundred late. A report that
    /// fails this measures the generator's machine.
    #[must_use]
    pub fn generator_kept_up(&self) -> bool {
        self.of_class(ErrorClass::Saturated) == 0 && self.late_sends * 100 <= self.attempted
    }

    /// Whether the counts add up; a report that does not is a mistake of ours.
    pub fn verify(&self) -> Result<(), String> {
        let sums = [
            ("ok + failed + truncated", self.ok + self.failed + self.truncated, self.attempted),
            ("by_class", self.by_class.values().sum(), self.failed),
            (
                "requests per second",
                self.per_second.iter().map(|second| second.requests).sum(),
                self.attempted,
            ),
            (
                "errors per second",
                self.per_second.iter().map(|second| second.errors).sum(),
                self.failed + self.truncated,
            ),
        ];
        match sums.iter().find(|(_, sum, whole)| sum != whole) {
            Some((what, sum, whole)) => Err(format!("{what}: {sum}, not {whole}")),
            None => Ok(()),
        }
    }
}

/// A few lines for people.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = match self.client {
            ClientKind::Retrying => "retrying client",
            ClientKind::Plain => "plain client",
        };
        writeln!(
            out,
            "{client}: {} requests in {:.1} s ({} ok, {} failed, {} truncated; {} retried, {} of them recovered)",
            self.attempted, self.seconds, self.ok, self.failed, self.truncated, self.retried, self.recovered
        )?;
        let ms = |us: u64| us as f64 / 1000.0;
        writeln!(
            out,
            "  latency from due time, ms: p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )?;
        let classes: Vec<String> = self
            .by_class
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(class, count)| format!("{} {count}", class.as_str()))
            .collect();
        if !classes.is_empty() {
            writeln!(out, "  failed by reason: {}", classes.join(", "))?;
        }
        for example in &self.examples {
            writeln!(out, "    {example}")?;
        }
        if !self.generator_kept_up() {
            writeln!(
                out,
                "  THE GENERATOR WAS SATURATED: {} late sends (latest by {:.1} ms), {} never sent",
                self.late_sends,
                ms(self.max_lag_us),
                self.of_class(ErrorClass::Saturated)
            )?;
        }
        Ok(())
    }
}
