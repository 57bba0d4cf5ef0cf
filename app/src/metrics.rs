//! What the app counts. Each number is counted where the decision is taken.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One label with a value from a fixed list in our own source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Label(&'static str, &'static str);

impl From<(&'static str, &'static str)> for Label {
    fn from((name, value): (&'static str, &'static str)) -> Self {
        Self(name, value)
    }
}

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [(self.0, self.1)].encode(encoder)
    }
}

/// A request by the route it matched, not by its path, so that clients cannot make labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) code: u16,
}

/// Clones share the numbers.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) requests: Family<Request, Counter>,
    pub(crate) request_seconds: Histogram,
    pub(crate) requests_in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) shed: Family<Label, Counter>,
    pub(crate) cache_answers: Family<Label, Counter>,
    pub(crate) cache_errors: Family<Label, Counter>,
    pub(crate) searches_joined: Counter,
    pub(crate) session_errors: Family<Label, Counter>,
    pub(crate) database_errors: Family<Label, Counter>,
    pub(crate) database_repeats: Family<Label, Counter>,
    pub(crate) password_wait_seconds: Histogram,
    pub(crate) logins: Family<Label, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: seconds(),
            requests_in_flight: Gauge::default(),
            connections: Gauge::default(),
            shed: Family::default(),
            cache_answers: Family::default(),
            cache_errors: Family::default(),
            searches_joined: Counter::default(),
            session_errors: Family::default(),
            database_errors: Family::default(),
            database_repeats: Family::default(),
            password_wait_seconds: seconds(),
            logins: Family::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, family: &Family<Label, Counter>| {
            registry.register(name, help, family.clone());
        };
        add("app_shed", "Requests refused to protect the rest, by which limit", &self.shed);
        add("app_search_answers", "Searches by where the answer came from", &self.cache_answers);
        add("app_cache_errors", "Failed calls to the cache, by step", &self.cache_errors);
        add("app_session_errors", "Failed calls to the session store, by kind", &self.session_errors);
        add("app_database_errors", "Database work that failed, by kind", &self.database_errors);
        add(
            "app_database_repeats",
            "Database work sent again after a lost connection",
            &self.database_repeats,
        );
        add("app_logins", "Log-ins by outcome", &self.logins);
        registry.register("app_requests", "Answered requests", self.requests.clone());
        registry.register(
            "app_request_seconds",
            "From a request's headers to its answer's",
            self.request_seconds.clone(),
        );
        registry.register(
            "app_requests_in_flight",
            "Requests being worked on",
            self.requests_in_flight.clone(),
        );
        registry.register("app_connections", "Open connections", self.connections.clone());
        registry.register(
            "app_searches_joined",
            "Searches that waited for another one's answer",
            self.searches_joined.clone(),
        );
        registry.register(
            "app_password_wait_seconds",
            "Waiting for a turn to hash",
            self.password_wait_seconds.clone(),
        );
    }

    pub(crate) fn observe(&self, request: &Request, took: Duration) {
        self.requests.get_or_create(request).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }
}

fn seconds() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}
