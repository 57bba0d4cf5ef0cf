//! Every figure that the balancer gives out, in one place. Handles are looked up once, never in a request's path.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::affinity;
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::members::Miss;
use crate::state::State;
use crate::stats::model::{Counts, Sums};
use crate::validate::Refusal;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MissLabels {
    pool: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    pool: String,
    backend: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    pool: String,
    backend: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    pool: String,
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

/// What a TLS handshake came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Full,
    /// With the keys of an earlier one.
    Resumed,
    Failed,
}

impl Handshake {
    const ALL: [Self; 3] = [Self::Full, Self::Resumed, Self::Failed];

    fn kind(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
        }
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One backend's own figures.
#[derive(Debug, Clone, Default)]
pub(crate) struct BackendMetrics {
    answers: [Counter; CLASSES.len()],
    pub(crate) inflight: Gauge,
    pub(crate) connections_opened: Counter,
    pub(crate) attempts_failed: Counter,
    pub(crate) probes: Counter,
    pub(crate) probes_failed: Counter,
    pub(crate) ejections: Counter,
    pub(crate) content_differs: Gauge,
    pub(crate) cookies_issued: Counter,
    /// Bytes of bodies, from clients and to them.
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    /// From being asked to the head of the answer.
    pub(crate) latency: Histogram,
}

impl BackendMetrics {
    pub(crate) fn sums(&self) -> Sums {
        let answers = std::array::from_fn(|class| self.answers[class].get());
        let failed = self.attempts_failed.get();
        Sums {
            requests: answers.iter().sum::<u64>() + failed,
            failed,
            answers,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            connections_opened: self.connections_opened.get(),
            probes_failed: self.probes_failed.get(),
            cookies_issued: self.cookies_issued.get(),
        }
    }

    pub(crate) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.inc();
        }
    }
}

/// One pool's own figures.
#[derive(Debug, Clone, Default)]
pub(crate) struct PoolMetrics {
    /// 1 while it is in a panic.
    pub(crate) panics: Gauge,
    pub(crate) panic_picks: Counter,
    pub(crate) ejections_refused: Counter,
    pub(crate) lookups: Counter,
    misses: [Counter; Miss::ALL.len()],
    pub(crate) queue_len: Gauge,
    pub(crate) queue_wait: Histogram,
    pub(crate) table_entries: Gauge,
}

impl PoolMetrics {
    pub(crate) fn lookup_missed(&self, miss: Miss) {
        let at = Miss::ALL.iter().position(|known| *known == miss).expect("every miss is listed");
        self.misses[at].inc();
    }
}

/// Everything else, and the families that backends' figures come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    answers: Family<AnswerLabels, Counter>,
    backend_inflight: Family<BackendLabels, Gauge>,
    backend_connections: Family<BackendLabels, Counter>,
    backend_failures: Family<BackendLabels, Counter>,
    probes: Family<BackendLabels, Counter>,
    probe_failures: Family<BackendLabels, Counter>,
    ejections: Family<BackendLabels, Counter>,
    content_differs: Family<BackendLabels, Gauge>,
    backend_cookies: Family<BackendLabels, Counter>,
    backend_bytes_in: Family<BackendLabels, Counter>,
    backend_bytes_out: Family<BackendLabels, Counter>,
    backend_seconds: Family<BackendLabels, Histogram>,
    /// Every backend that there ever was, by pool and name, for sums that never decrease. Locked when one joins and when
    /// somebody reads stats.
    known: Arc<Mutex<BTreeMap<(String, String), BackendMetrics>>>,
    transitions: Family<StateLabels, Counter>,
    states: Family<StateLabels, Gauge>,
    own_answers: Family<ReasonLabel, Counter>,
    retries: Family<ReasonLabel, Counter>,
    cookies: Family<OutcomeLabel, Counter>,
    lookups: Family<PoolLabel, Counter>,
    misses: Family<MissLabels, Counter>,
    panics: Family<PoolLabel, Gauge>,
    panic_picks: Family<PoolLabel, Counter>,
    ejections_refused: Family<PoolLabel, Counter>,
    queue_len: Family<PoolLabel, Gauge>,
    queue_wait: Family<PoolLabel, Histogram>,
    table_entries: Family<PoolLabel, Gauge>,
    closes: Family<ReasonLabel, Counter>,
    stream_cuts: Family<ReasonLabel, Counter>,
    handshakes: Family<OutcomeLabel, Counter>,
    certificate_loads: Family<OutcomeLabel, Counter>,
    pub(crate) requests: Counter,
    pub(crate) inflight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) tunnels: Gauge,
    pub(crate) tunnels_opened: Counter,
    pub(crate) connections_accepted: Counter,
    pub(crate) budget_empty: Counter,
    pub(crate) cookies_issued: Counter,
    pub(crate) latency: Histogram,
    http_10: Counter,
    http_2: Counter,
    pub(crate) reloads: Counter,
    pub(crate) access_log_written: Counter,
    pub(crate) access_log_dropped: Counter,
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
        registry.register("pool_panics", "1 while too few backends are healthy", it.panics);
        registry.register("panic_picks", "Requests sent while too few backends were healthy", it.panic_picks);
        registry.register("queue_requests", "Requests that wait for a backend with room", it.queue_len);
        registry.register(
            "queue_seconds",
            "How long requests waited for room, in vain or not",
            it.queue_wait,
        );
        self.register_own(registry);
        registry.register("cookies", "What sticky cookies came to", it.cookies);
        registry.register("table_entries", "Clients that the sticky table remembers", it.table_entries);
        registry.register("cookies_issued", "Sticky cookies given out", it.cookies_issued);
        self.register_connections(registry);
        registry.register("backend_state", "1 for the state that a backend is in", it.states);
        registry.register("backend_transitions", "Changes of state, by the new one", it.transitions);
        registry.register("backend_requests_in_flight", "Requests in flight", it.backend_inflight);
        registry.register(
            "backend_connections_opened",
            "Connections opened for requests",
            it.backend_connections,
        );
        registry.register("backend_attempts_failed", "Attempts without an answer", it.backend_failures);
        registry.register("backend_probes", "Health checks done", it.probes);
        registry.register("backend_probes_failed", "Health checks that failed", it.probe_failures);
        registry.register("backend_ejections", "How often it was ejected", it.ejections);
        registry.register(
            "backend_content_differs",
            "1 while its content differs from the majority's for longer than the grace time",
            it.content_differs,
        );
        registry.register(
            "ejections_refused",
            "Ejections that the pool could not spare",
            it.ejections_refused,
        );
        registry.register("discovery_lookups", "Questions to DNS", it.lookups);
        registry.register("discovery_failures", "Answers that kept the old backends, by reason", it.misses);
        self.show_zeros();
    }

    fn register_connections(&self, registry: &mut Registry) {
        let it = self.clone();
        registry.register("connections", "Client connections open", it.connections);
        registry.register(
            "connections_accepted",
            "Client connections ever accepted",
            it.connections_accepted,
        );
        registry.register("connections_cut", "Client connections cut by a deadline, by which", it.closes);
        registry.register(
            "streams_cut",
            "HTTP/2 streams reset by a deadline, by which; their connections go on",
            it.stream_cuts,
        );
        registry.register("tls_handshakes", "TLS handshakes by outcome", it.handshakes);
        registry.register(
            "tls_certificates_loaded",
            "Times that changed files of certificates were read, by outcome",
            it.certificate_loads,
        );
        registry.register("tunnels", "Connections open that have switched protocols", it.tunnels);
        registry.register("tunnels_opened", "Connections that ever switched protocols", it.tunnels_opened);
    }

    /// What backends did in bytes and cookies, and what the balancer does besides serving.
    fn register_own(&self, registry: &mut Registry) {
        let it = self.clone();
        registry.register("requests_http_10", "Requests that came as HTTP/1.0", it.http_10);
        registry.register("requests_http_2", "Requests that came as HTTP/2", it.http_2);
        registry.register("reloads", "Configurations taken since the start", it.reloads);
        registry.register("access_log_lines", "Lines written to the access log", it.access_log_written);
        registry.register(
            "access_log_lines_dropped",
            "Lines that the access log's writer could not take or write",
            it.access_log_dropped,
        );
        registry.register("backend_cookies_issued", "Sticky cookies given out for it", it.backend_cookies);
        registry.register("backend_bytes_in", "Bytes of request bodies sent to it", it.backend_bytes_in);
        registry.register("backend_bytes_out", "Bytes of its answers' bodies", it.backend_bytes_out);
        registry.register(
            "backend_seconds",
            "From being asked to the head of the answer",
            it.backend_seconds,
        );
    }

    /// A reason that never happened is shown as 0, so that a rate over it exists from the start.
    fn show_zeros(&self) {
        for failure in Failure::ALL {
            drop(self.own_answers.get_or_create(&ReasonLabel { reason: failure.kind() }));
        }
        for refusal in Refusal::ALL {
            drop(self.own_answers.get_or_create(&ReasonLabel { reason: refusal.kind() }));
        }
        for outcome in Handshake::ALL {
            drop(self.handshakes.get_or_create(&OutcomeLabel { outcome: outcome.kind() }));
        }
        for outcome in affinity::Outcome::ALL {
            drop(self.cookies.get_or_create(&OutcomeLabel { outcome: outcome.kind() }));
        }
    }

    pub(crate) fn pool(&self, pool: &str) -> PoolMetrics {
        let label = PoolLabel { pool: pool.to_owned() };
        let missed = |miss: Miss| MissLabels { pool: pool.to_owned(), reason: miss.kind() };
        PoolMetrics {
            panics: self.panics.get_or_create_owned(&label),
            panic_picks: self.panic_picks.get_or_create_owned(&label),
            ejections_refused: self.ejections_refused.get_or_create_owned(&label),
            lookups: self.lookups.get_or_create_owned(&label),
            queue_len: self.queue_len.get_or_create_owned(&label),
            queue_wait: self.queue_wait.get_or_create_owned(&label),
            table_entries: self.table_entries.get_or_create_owned(&label),
            misses: Miss::ALL.map(|miss| self.misses.get_or_create_owned(&missed(miss))),
        }
    }

    pub(crate) fn backend(&self, pool: &str, name: &str) -> BackendMetrics {
        let label = BackendLabels { pool: pool.to_owned(), backend: name.to_owned() };
        let answer = |class| AnswerLabels { pool: pool.to_owned(), backend: name.to_owned(), class };
        let backend = BackendMetrics {
            answers: CLASSES.map(|class| self.answers.get_or_create_owned(&answer(class))),
            inflight: self.backend_inflight.get_or_create_owned(&label),
            connections_opened: self.backend_connections.get_or_create_owned(&label),
            attempts_failed: self.backend_failures.get_or_create_owned(&label),
            probes: self.probes.get_or_create_owned(&label),
            ejections: self.ejections.get_or_create_owned(&label),
            content_differs: self.content_differs.get_or_create_owned(&label),
            probes_failed: self.probe_failures.get_or_create_owned(&label),
            cookies_issued: self.backend_cookies.get_or_create_owned(&label),
            bytes_in: self.backend_bytes_in.get_or_create_owned(&label),
            bytes_out: self.backend_bytes_out.get_or_create_owned(&label),
            latency: self.backend_seconds.get_or_create_owned(&label),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((pool.to_owned(), name.to_owned()), backend.clone());
        backend
    }

    /// What all backends did that a pool ever had.
    pub(crate) fn pool_sums(&self, pool: &str) -> Sums {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = Sums::default();
        known.iter().filter(|((of, _), _)| of == pool).for_each(|(_, backend)| sums.add(&backend.sums()));
        sums
    }

    pub(crate) fn version(&self, version: http::Version) {
        match version {
            http::Version::HTTP_10 => drop(self.http_10.inc()),
            http::Version::HTTP_2 => drop(self.http_2.inc()),
            _ => {}
        }
    }

    /// Requests by the protocol that they came in.
    pub(crate) fn protocols(&self) -> Counts {
        let (http_10, http_2) = (self.http_10.get(), self.http_2.get());
        let http_11 = self.requests.get().saturating_sub(http_10 + http_2);
        Counts::from([("HTTP/1.0", http_10), ("HTTP/1.1", http_11), ("HTTP/2", http_2)])
    }

    pub(crate) fn own_answers(&self) -> Counts {
        let kinds = Failure::ALL.iter().map(|it| it.kind()).chain(Refusal::ALL.iter().map(|it| it.kind()));
        reasons(&self.own_answers, kinds)
    }

    pub(crate) fn retries(&self) -> Counts {
        reasons(&self.retries, Failure::ALL.iter().map(|it| it.kind()))
    }

    pub(crate) fn cookies(&self) -> Counts {
        let kinds = affinity::Outcome::ALL.iter().map(|it| it.kind());
        kinds.map(|outcome| (outcome, self.cookies.get_or_create(&OutcomeLabel { outcome }).get())).collect()
    }

    pub(crate) fn cuts(&self) -> Counts {
        reasons(&self.closes, crate::connection::CUTS.into_iter())
    }

    pub(crate) fn backend_state(&self, pool: &str, name: &str, state: State) {
        for other in State::ALL {
            self.states.get_or_create(&state_labels(pool, name, other)).set(i64::from(other == state));
        }
        self.transitions.get_or_create(&state_labels(pool, name, state)).inc();
    }

    /// Gauges of a backend that is gone would say for ever that it is there. Counters stay: their history is true.
    pub(crate) fn backend_gone(&self, pool: &str, name: &str) {
        for state in State::ALL {
            self.states.remove(&state_labels(pool, name, state));
        }
        let label = BackendLabels { pool: pool.to_owned(), backend: name.to_owned() };
        self.backend_inflight.remove(&label);
        self.content_differs.remove(&label);
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

    pub(crate) fn stream_cut(&self, reason: &'static str) {
        self.stream_cuts.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn handshake(&self, outcome: Handshake) {
        self.handshakes.get_or_create(&OutcomeLabel { outcome: outcome.kind() }).inc();
    }

    pub(crate) fn certificates_loaded(&self, good: bool) {
        let outcome = if good { "taken" } else { "refused" };
        self.certificate_loads.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn connection_cut(&self, reason: &'static str) {
        self.closes.get_or_create(&ReasonLabel { reason }).inc();
    }
}

/// Counts of the kinds that happened or are shown anyway; asking makes none.
fn reasons(family: &Family<ReasonLabel, Counter>, kinds: impl Iterator<Item = &'static str>) -> Counts {
    kinds.map(|reason| (reason, family.get(&ReasonLabel { reason }).map_or(0, |it| it.get()))).collect()
}

fn state_labels(pool: &str, backend: &str, state: State) -> StateLabels {
    StateLabels { pool: pool.to_owned(), backend: backend.to_owned(), state: state.as_str() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_prints_with_every_reason() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.backend("default", "127.0.0.1:1").answered(http::StatusCode::NOT_FOUND);
        metrics.latency.observe(std::time::Duration::from_millis(3));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"lb_answers_total{pool="default",backend="127.0.0.1:1",class="4xx"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"lb_request_seconds_bucket{le="0.004"} 1"#), "{text}");
        assert!(text.contains(r#"lb_request_seconds_bucket{le="0.002"} 0"#), "{text}");
        assert!(text.contains(r#"lb_cookies_total{outcome="forged"} 0"#), "{text}");
    }
}
