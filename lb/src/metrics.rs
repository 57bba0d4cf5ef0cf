//! Every figure that the balancer gives out, in one place. Handles are looked up once, never in a request's path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::affinity;
use crate::failure::Failure;
use crate::health::State;
use crate::members::Miss;
use crate::validate::Refusal;

/// Upper bounds in seconds: a proxied request takes from 100 us to the longest deadline.
const BOUNDS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// A histogram without a lock: `observe` is two or three atomic additions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        self.0.counts[at].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    #[allow(clippy::cast_precision_loss, reason = "a sum beyond 2^53 us is 285 years")]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts: Vec<u64> = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let bounds = BOUNDS.iter().copied().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = self.0.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    backend: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    backend: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One backend's own figures.
#[derive(Debug, Clone, Default)]
pub(crate) struct BackendMetrics {
    answers: [Counter; CLASSES.len()],
    pub(crate) inflight: Gauge,
    pub(crate) connections_opened: Counter,
    pub(crate) attempts_failed: Counter,
    pub(crate) probes_failed: Counter,
}

impl BackendMetrics {
    pub(crate) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.inc();
        }
    }
}

/// Everything else, and the families that backends' figures come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    answers: Family<AnswerLabels, Counter>,
    backend_inflight: Family<BackendLabel, Gauge>,
    backend_connections: Family<BackendLabel, Counter>,
    backend_failures: Family<BackendLabel, Counter>,
    probe_failures: Family<BackendLabel, Counter>,
    transitions: Family<StateLabels, Counter>,
    states: Family<StateLabels, Gauge>,
    own_answers: Family<ReasonLabel, Counter>,
    retries: Family<ReasonLabel, Counter>,
    cookies: Family<OutcomeLabel, Counter>,
    misses: Family<ReasonLabel, Counter>,
    closes: Family<ReasonLabel, Counter>,
    pub(crate) requests: Counter,
    pub(crate) inflight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_accepted: Counter,
    pub(crate) budget_empty: Counter,
    pub(crate) panic_picks: Counter,
    pub(crate) cookies_issued: Counter,
    pub(crate) lookups: Counter,
    pub(crate) latency: Histogram,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("lb");
        let it = self.clone();
        registry.register("requests", "Requests that arrived", it.requests);
        registry.register("requests_in_flight", "Requests being served", it.inflight);
        registry.register(
            "request_seconds",
            "From the head of a request to the end of its answer",
            it.latency,
        );
        registry.register("answers", "Answers from backends by class of status", it.answers);
        registry.register("own_answers", "Answers that the balancer made itself, by reason", it.own_answers);
        registry.register("retries", "Attempts repeated, by what failed", it.retries);
        registry.register(
            "retries_refused_by_budget",
            "Retries that the budget did not pay for",
            it.budget_empty,
        );
        registry.register("panic_picks", "Requests sent although no backend was healthy", it.panic_picks);
        registry.register("cookies", "What sticky cookies came to", it.cookies);
        registry.register("cookies_issued", "Sticky cookies given out", it.cookies_issued);
        registry.register("connections", "Client connections open", it.connections);
        registry.register(
            "connections_accepted",
            "Client connections ever accepted",
            it.connections_accepted,
        );
        registry.register("connections_cut", "Client connections cut by a deadline, by which", it.closes);
        registry.register("backend_state", "1 for the state that a backend is in", it.states);
        registry.register("backend_transitions", "Changes of state, by the new one", it.transitions);
        registry.register("backend_requests_in_flight", "Requests in flight", it.backend_inflight);
        registry.register(
            "backend_connections_opened",
            "Connections opened for requests",
            it.backend_connections,
        );
        registry.register("backend_attempts_failed", "Attempts without an answer", it.backend_failures);
        registry.register("backend_probes_failed", "Health checks that failed", it.probe_failures);
        registry.register("discovery_lookups", "Questions to DNS", it.lookups);
        registry.register("discovery_failures", "Answers that kept the old backends, by reason", it.misses);
        self.show_zeros();
    }

    /// A reason that never happened is shown as 0, so that a rate over it exists from the start.
    fn show_zeros(&self) {
        for failure in Failure::ALL {
            drop(self.own_answers.get_or_create(&ReasonLabel { reason: failure.kind() }));
        }
        for refusal in Refusal::ALL {
            drop(self.own_answers.get_or_create(&ReasonLabel { reason: refusal.kind() }));
        }
        for outcome in affinity::Outcome::ALL {
            drop(self.cookies.get_or_create(&OutcomeLabel { outcome: outcome.kind() }));
        }
        for miss in Miss::ALL {
            drop(self.misses.get_or_create(&ReasonLabel { reason: miss.kind() }));
        }
    }

    pub(crate) fn backend(&self, name: &str) -> BackendMetrics {
        let label = BackendLabel { backend: name.to_owned() };
        let answers = CLASSES
            .map(|class| self.answers.get_or_create_owned(&AnswerLabels { backend: name.to_owned(), class }));
        BackendMetrics {
            answers,
            inflight: self.backend_inflight.get_or_create_owned(&label),
            connections_opened: self.backend_connections.get_or_create_owned(&label),
            attempts_failed: self.backend_failures.get_or_create_owned(&label),
            probes_failed: self.probe_failures.get_or_create_owned(&label),
        }
    }

    pub(crate) fn backend_state(&self, name: &str, state: State) {
        let label = |state: State| StateLabels { backend: name.to_owned(), state: state.as_str() };
        for other in State::ALL {
            self.states.get_or_create(&label(other)).set(i64::from(other == state));
        }
        self.transitions.get_or_create(&label(state)).inc();
    }

    /// Gauges of a backend that is gone would say for ever that it is there. Counters stay: their history is true.
    pub(crate) fn backend_gone(&self, name: &str) {
        for state in State::ALL {
            self.states.remove(&StateLabels { backend: name.to_owned(), state: state.as_str() });
        }
        self.backend_inflight.remove(&BackendLabel { backend: name.to_owned() });
    }

    pub(crate) fn own_answer(&self, reason: &'static str) {
        self.own_answers.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn retried(&self, failure: Failure) {
        self.retries.get_or_create(&ReasonLabel { reason: failure.kind() }).inc();
    }

    pub(crate) fn cookie(&self, outcome: affinity::Outcome) {
        self.cookies.get_or_create(&OutcomeLabel { outcome: outcome.kind() }).inc();
    }

    pub(crate) fn lookup_missed(&self, miss: Miss) {
        self.misses.get_or_create(&ReasonLabel { reason: miss.kind() }).inc();
    }

    pub(crate) fn connection_cut(&self, reason: &'static str) {
        self.closes.get_or_create(&ReasonLabel { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_prints_with_every_reason() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.backend("127.0.0.1:1").answered(http::StatusCode::NOT_FOUND);
        metrics.latency.observe(Duration::from_millis(3));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains(r#"lb_answers_total{backend="127.0.0.1:1",class="4xx"} 1"#), "{text}");
        assert!(text.contains(r#"lb_request_seconds_bucket{le="0.004"} 1"#), "{text}");
        assert!(text.contains(r#"lb_request_seconds_bucket{le="0.002"} 0"#), "{text}");
        assert!(text.contains(r#"lb_cookies_total{outcome="forged"} 0"#), "{text}");
    }
}
