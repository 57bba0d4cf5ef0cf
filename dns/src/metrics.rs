//! What is counted. Counters that a query touches are found by index, not by label, so that counting is one addition.

use crate::answer::{Transport, Verdict};
use crate::steering::Steering;
use crate::steering::derive::{Offer, Offers};
use crate::steering::plan::{self, Target};
use crate::wire::{Ignored, Rcode};
use crate::zone::Zones;
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// A label set that is written once, when the counter behind it is made.
type Labels = Vec<(&'static str, String)>;

/// Every metric of the program.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// By transport, then by [`Rcode::index`].
    answers: [[Counter; Rcode::ALL.len()]; Transport::ALL.len()],
    truncated: [Counter; Transport::ALL.len()],
    by_path: [Counter; Path::ALL.len()],
    pub path_mismatch: Counter,
    dropped: [Counter; Drop::ALL.len()],
    /// By transport, then by reason.
    closed: [[Counter; Closed::ALL.len()]; Transport::ALL.len()],
    connections: [Gauge; Transport::ALL.len()],
    responses: [Counter; STATUSES.len()],
    pub query_log_written: Counter,
    pub query_log_dropped: Counter,
    pub reloads_ok: Counter,
    pub reloads_failed: Counter,
    zone_serial: Standing,
    targets_up: Standing,
    looks: Family<Labels, Counter>,
    names_failed: Standing,
    names_addresses: Standing,
    notified: [Counter; 2],
    transferred: [Counter; 2],
}

/// What requests of HTTP are answered with; all others are a mistake of ours.
const STATUSES: [u16; 8] = [200, 400, 404, 405, 408, 413, 415, 500];

/// Who answered a UDP query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// From octets laid out when the zone was loaded.
    Fast,
    /// Built for the query.
    Slow,
}

impl Path {
    const ALL: [(Path, &str); 2] = [(Path::Fast, "fast"), (Path::Slow, "slow")];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        Path::ALL[self as usize].1
    }
}

/// Why a packet got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// No room for a header.
    Short,
    /// A response, not a query.
    Response,
    /// Longer than we read.
    Oversized,
    /// From port 0: nobody can be there.
    Source,
    /// The system did not take the answer.
    Send,
    /// The system did not give a packet.
    Receive,
    /// The client's network has had this answer too often.
    Limited,
    /// It, or another of its batch, made the worker panic.
    Panic,
}

impl Drop {
    const ALL: [(Drop, &str); 8] = [
        (Drop::Short, "short"),
        (Drop::Response, "response"),
        (Drop::Oversized, "oversized"),
        (Drop::Source, "source"),
        (Drop::Send, "send"),
        (Drop::Receive, "receive"),
        (Drop::Limited, "rate-limit"),
        (Drop::Panic, "panic"),
    ];
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The client closed it.
    Client,
    /// No complete query in time.
    Idle,
    /// The client did not take its answers in time.
    SlowReader,
    /// What came was no query: too long, too short, or a response.
    Malformed,
    /// The connection broke.
    Broken,
    /// The program is stopping.
    Stopping,
    /// Not taken up: too many connections in all.
    TooMany,
    /// Not taken up: too many from this client.
    TooManyOfClient,
    /// No TLS, or not in time.
    Handshake,
}

impl Closed {
    const ALL: [(Closed, &str); 9] = [
        (Closed::Client, "client"),
        (Closed::Idle, "idle"),
        (Closed::SlowReader, "slow-reader"),
        (Closed::Malformed, "malformed"),
        (Closed::Broken, "broken"),
        (Closed::Stopping, "stopping"),
        (Closed::TooMany, "too-many"),
        (Closed::TooManyOfClient, "too-many-of-client"),
        (Closed::Handshake, "handshake"),
    ];
}

impl Metrics {
    /// Makes all metrics and adds them to the registry.
    pub fn new(registry: &mut Registry) -> Metrics {
        let answers: Family<Labels, Counter> = Family::default();
        let truncated: Family<Labels, Counter> = Family::default();
        let by_path: Family<Labels, Counter> = Family::default();
        let dropped: Family<Labels, Counter> = Family::default();
        let closed: Family<Labels, Counter> = Family::default();
        let connections: Family<Labels, Gauge> = Family::default();
        let responses: Family<Labels, Counter> = Family::default();
        let reloads: Family<Labels, Counter> = Family::default();
        let transferred: Family<Labels, Counter> = Family::default();
        let notified: Family<Labels, Counter> = Family::default();
        let of = |family: &Family<Labels, Counter>, labels: Labels| family.get_or_create(&labels).clone();
        let both = |family: &Family<Labels, Counter>| {
            ["failed", "ok"].map(|outcome| of(family, vec![("outcome", outcome.to_string())]))
        };
        let transport = |transport: Transport| ("transport", transport.as_str().to_string());
        let metrics = Metrics {
            answers: Transport::ALL.map(|via| {
                Rcode::ALL
                    .map(|rcode| of(&answers, vec![transport(via), ("rcode", rcode.as_str().to_string())]))
            }),
            truncated: Transport::ALL.map(|via| of(&truncated, vec![transport(via)])),
            by_path: Path::ALL.map(|(_, path)| of(&by_path, vec![("path", path.to_string())])),
            path_mismatch: Counter::default(),
            dropped: Drop::ALL.map(|(_, reason)| of(&dropped, vec![("reason", reason.to_string())])),
            closed: Transport::ALL.map(|via| match via {
                // It has no connections.
                Transport::Udp => Default::default(),
                via => Closed::ALL
                    .map(|(_, reason)| of(&closed, vec![transport(via), ("reason", reason.to_string())])),
            }),
            connections: Transport::ALL.map(|via| match via {
                Transport::Udp => Gauge::default(),
                via => connections.get_or_create(&vec![transport(via)]).clone(),
            }),
            responses: STATUSES.map(|status| of(&responses, vec![("status", status.to_string())])),
            query_log_written: Counter::default(),
            query_log_dropped: Counter::default(),
            reloads_ok: of(&reloads, vec![("outcome", "ok".to_string())]),
            reloads_failed: of(&reloads, vec![("outcome", "failed".to_string())]),
            zone_serial: Standing::default(),
            targets_up: Standing::default(),
            looks: Family::default(),
            names_failed: Standing::default(),
            names_addresses: Standing::default(),
            notified: both(&notified),
            transferred: both(&transferred),
        };
        let registry = registry.sub_registry_with_prefix("dns");
        registry.register("answers", "Queries answered, by transport and response code", answers);
        registry.register("answers_truncated", "Answers that did not fit and were sent with TC", truncated);
        registry.register("udp_queries", "UDP queries, by the path that dealt with them", by_path);
        registry.register("packets_dropped", "Packets that got no answer, by reason", dropped);
        registry.register(
            "tcp_closed",
            "Connections that ended or were refused, by transport and reason",
            closed,
        );
        registry.register("tcp_connections", "Connections open now, by transport", connections);
        registry.register("https_responses", "Responses of DNS over HTTPS, by status", responses);
        registry.register("zone_loads", "Times the zones were read, the first included, by outcome", reloads);
        registry.register("transfers", "Zones taken by secondaries, by outcome", transferred);
        registry.register("notifications", "Secondaries told of a new serial, by outcome", notified);
        metrics.register(registry);
        metrics
    }

    /// Adds those that nobody else holds.
    fn register(&self, registry: &mut Registry) {
        let mismatch =
            "Queries of the sample that both paths answer whose answers differed; anything but 0 is a bug";
        registry.register("path_mismatch", mismatch, self.path_mismatch.clone());
        let lines = "Lines written to the query log";
        registry.register("query_log_lines", lines, self.query_log_written.clone());
        let dropped = "Lines that the query log had no room for, or that could not be written";
        registry.register("query_log_lines_dropped", dropped, self.query_log_dropped.clone());
        registry.register("zone_serial", "SOA serial in force, by zone", self.zone_serial.gauges.clone());
        let up = "Whether a target may be answered with (what nobody has looked at yet may), by check";
        registry.register("target_up", up, self.targets_up.gauges.clone());
        registry.register("target_looks", "Looks at targets, by check and outcome", self.looks.clone());
        let failed = "Whether too little of what a name is steered by is healthy, by name and type";
        registry.register("name_failed", failed, self.names_failed.gauges.clone());
        let addresses = "Addresses that a steered name may be answered with, by name and type";
        registry.register("name_addresses", addresses, self.names_addresses.gauges.clone());
    }

    /// Counts what became of one packet.
    pub fn verdict(&self, via: Transport, verdict: Verdict) {
        self.verdicts(via, verdict, 1);
    }

    /// Counts what became of several packets.
    pub fn verdicts(&self, via: Transport, verdict: Verdict, count: u64) {
        let counter = match verdict {
            Verdict::Answered { rcode, truncated } => {
                if truncated {
                    self.truncated[via as usize].inc_by(count);
                }
                &self.answers[via as usize][rcode.index()]
            }
            Verdict::Limited => &self.dropped[Drop::Limited as usize],
            Verdict::Ignored(Ignored::Short) => &self.dropped[Drop::Short as usize],
            Verdict::Ignored(Ignored::Response) => &self.dropped[Drop::Response as usize],
        };
        counter.inc_by(count);
    }

    /// Counts by which path UDP queries went.
    pub fn answered_by(&self, path: Path, count: u64) {
        self.by_path[path as usize].inc_by(count);
    }

    /// Counts a secondary that was told of a new serial, or could not be.
    pub fn notified(&self, acknowledged: bool) {
        self.notified[usize::from(acknowledged)].inc();
    }

    /// Counts a zone that a secondary took, or began to take.
    pub fn transferred(&self, completely: bool) {
        self.transferred[usize::from(completely)].inc();
    }

    pub fn drop(&self, reason: Drop) {
        self.dropped[reason as usize].inc();
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self, reason: Drop) -> u64 {
        self.dropped[reason as usize].get()
    }

    pub fn closed(&self, via: Transport, reason: Closed) {
        self.closed[via as usize][reason as usize].inc();
    }

    /// Counts a response of HTTP.
    pub fn responded(&self, status: StatusCode) {
        let at = STATUSES.iter().position(|known| *known == status.as_u16());
        self.responses[at.unwrap_or(STATUSES.len() - 1)].inc();
    }

    /// How many connections are open.
    pub fn connections(&self, via: Transport) -> &Gauge {
        &self.connections[via as usize]
    }

    /// Counts one look at a target.
    pub fn looked(&self, target: &Target, is_good: bool) {
        let outcome = if is_good { "good" } else { "bad" };
        self.looks.get_or_create(&looks_of(target, outcome)).inc();
    }

    /// Ends the counts of a target that is looked at no more: where targets come and go they would add up for ever.
    pub fn forget(&self, target: &Target) {
        for outcome in ["good", "bad"] {
            self.looks.remove(&looks_of(target, outcome));
        }
    }

    /// Tells how targets and steered names stand; those that are gone go.
    pub fn offers(&self, steering: &Steering, offers: &Offers) {
        let targets = steering.plan.targets.iter().enumerate();
        self.targets_up.tell(targets.map(|(id, target)| {
            (vec![("target", target.to_string())], steering.view.is_usable(&steering.plan, id).into())
        }));
        let labels = |(index, family): &(usize, plan::Family)| {
            let name = steering.plan.names[*index].name.to_string();
            vec![("name", name), ("type", family.record_type().to_string())]
        };
        self.names_failed.tell(offers.iter().map(|(of, offer)| (labels(of), offer.failed.into())));
        let count = |offer: &Offer| i64::try_from(offer.addresses.len()).unwrap_or(i64::MAX);
        self.names_addresses.tell(offers.iter().map(|(of, offer)| (labels(of), count(offer))));
    }

    /// Tells the serials of a new snapshot; those of withdrawn zones go.
    pub fn zones(&self, zones: &Zones) {
        self.zone_serial.tell(
            zones.iter().map(|zone| (vec![("zone", zone.origin().to_string())], zone.soa().1.serial.into())),
        );
    }
}

/// How all of something stand. Nobody who reads while it is told anew misses one that stays.
#[derive(Debug, Clone, Default)]
struct Standing {
    gauges: Family<Labels, Gauge>,
    told: Arc<Mutex<BTreeSet<Labels>>>,
}

impl Standing {
    /// These and no others.
    fn tell(&self, all: impl Iterator<Item = (Labels, i64)>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *told);
        for (labels, value) in all {
            self.gauges.get_or_create(&labels).set(value);
            told.insert(labels);
        }
        for gone in before.difference(&told) {
            self.gauges.remove(gone);
        }
    }
}

fn looks_of(target: &Target, outcome: &str) -> Labels {
    vec![("target", target.to_string()), ("outcome", outcome.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::plan::{Check, Mode};
    use service_kit::health::Thresholds;
    use std::time::Duration;

    #[test]
    fn what_stays_is_never_missing_and_what_goes_is_gone() {
        let standing = Standing::default();
        let labels = |name: &str| vec![("zone", name.to_string())];
        standing.tell([("a.", 1), ("b.", 1)].map(|(name, value)| (labels(name), value)).into_iter());
        // Held by whoever reads the page.
        let kept = standing.gauges.get_or_create(&labels("a.")).clone();
        standing.tell([("c.", 3), ("a.", 2)].map(|(name, value)| (labels(name), value)).into_iter());
        assert_eq!(kept.get(), 2, "it is the same gauge");
        let mut registry = Registry::default();
        registry.register("serial", "", standing.gauges.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines: BTreeSet<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, BTreeSet::from(["serial{zone=\"a.\"} 2", "serial{zone=\"c.\"} 3"]));
    }

    #[test]
    fn reasons_are_found_at_their_index() {
        for (at, (reason, _)) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
        for (at, (path, _)) in Path::ALL.into_iter().enumerate() {
            assert_eq!(path as usize, at);
        }
        for (at, (reason, _)) in Closed::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }

    #[test]
    fn a_target_that_is_forgotten_leaves_no_counts() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let target = |last: u8| Target {
            address: [192, 0, 2, last].into(),
            check: Arc::new(Check {
                mode: Mode::Tcp,
                port: 443,
                interval: Duration::from_secs(1),
                start_interval: Duration::from_secs(1),
                jitter_percent: 0,
                timeout: Duration::from_secs(1),
                thresholds: Thresholds { rise: 1, fall: 1 },
            }),
        };
        for is_good in [true, false] {
            metrics.looked(&target(1), is_good);
            metrics.looked(&target(2), is_good);
        }
        metrics.forget(&target(1));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("192.0.2.1:") && text.matches("192.0.2.2:").count() == 2, "{text}");
    }

    #[test]
    fn every_answer_is_counted_once() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.verdict(Transport::Tcp, Verdict::Answered { rcode: Rcode::NxDomain, truncated: false });
        metrics.verdict(Transport::Udp, Verdict::Answered { rcode: Rcode::NoError, truncated: true });
        metrics.verdict(Transport::Udp, Verdict::Ignored(Ignored::Response));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "dns_answers_total{transport=\"tcp\",rcode=\"NXDOMAIN\"} 1",
            "dns_answers_total{transport=\"udp\",rcode=\"NOERROR\"} 1",
            "dns_answers_total{transport=\"udp\",rcode=\"NXDOMAIN\"} 0",
            "dns_answers_truncated_total{transport=\"udp\"} 1",
            "dns_packets_dropped_total{reason=\"response\"} 1",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} in {text}");
        }
    }
}
