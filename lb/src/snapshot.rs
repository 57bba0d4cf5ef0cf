//! What requests see: the configuration, and each pool's backends with their states. Immutable and replaced as a whole
//! when anything changes, so that a request has one view from its head to its last attempt.
//!
//! What changes inside is each backend's load and the pool's line and table, shared by all workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::StatusCode;

use crate::balance::Candidate;
use crate::balance::consistent_hash;
use crate::balance::load::Load;
use crate::balance::slow_start::{self, Ramp};
use crate::commons::Commons;
use crate::config::{self, Config};
use crate::ejection::{Row, Terms};
use crate::failure::Failure;
use crate::metrics::{BackendMetrics, Metrics, PoolMetrics};
use crate::queue;
use crate::roster::Misdeed;
use crate::state::State;
use crate::table::Home;
use crate::ticket::Pin;

/// One backend, for as long as it is known.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Never used twice in any pool, unlike addresses: idle connections are kept by it.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: BackendMetrics,
    /// Errors in a row, for ejection.
    pub(crate) row: Row,
    /// The last thing that went wrong in a check or a request.
    pub(crate) trouble: ArcSwapOption<Trouble>,
    pub(crate) load: Load,
    /// Where keys are hashed to.
    place: u64,
    commons: Arc<Commons>,
}

/// Something that went wrong.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) at: Instant,
    pub(crate) what: String,
}

impl Backend {
    pub(crate) fn new(id: u64, address: SocketAddr, metrics: BackendMetrics, commons: Arc<Commons>) -> Self {
        Self {
            id,
            address,
            metrics,
            row: Row::default(),
            trouble: ArcSwapOption::empty(),
            load: Load::new(Instant::now()),
            place: consistent_hash::place(address),
            commons,
        }
    }

    pub(crate) fn inflight(&self) -> usize {
        self.load.inflight()
    }

    /// Notes what a request came to; `Err` when the roster has to hear of it. Only a counter is touched, and only while
    /// something is wrong.
    pub(crate) fn judge(
        &self,
        came_to: Result<StatusCode, Failure>,
        terms: Option<&Terms>,
    ) -> Result<(), Misdeed> {
        let Some(terms) = terms else { return Ok(()) };
        let misdeed = match came_to {
            Ok(status) if !terms.statuses.has(status) => {
                self.row.broken();
                return Ok(());
            }
            Ok(status) => Misdeed::Status(status),
            Err(failure) => Misdeed::Failure(failure),
        };
        if self.row.longer(terms) { Err(misdeed) } else { Ok(()) }
    }

    /// Counts one request until the lease is dropped, unless `max` are in flight already.
    pub(crate) fn lease(self: &Arc<Self>, max: usize) -> Option<Lease> {
        self.load.enter(max).then(|| self.counted())
    }

    /// A lease for what is counted already.
    fn counted(self: &Arc<Self>) -> Lease {
        self.metrics.inflight.inc();
        Lease { backend: Arc::clone(self) }
    }
}

/// One request in flight at a backend.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) backend: Arc<Backend>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let backend = &self.backend;
        backend.metrics.inflight.dec();
        let load = &backend.load;
        // The limit was lowered meanwhile: there are fewer places.
        let surplus = load.inflight() > load.limit();
        let (queue, enter) = (&backend.commons.queue, || load.enter(load.limit()));
        queue::release(queue, backend.id, || backend.counted(), || load.leave(), enter, surplus);
    }
}

/// Weights go from 0 to here; HAProxy's do too.
pub(crate) const WEIGHT_MAX: u16 = 256;

/// How much of the traffic a backend gets, against the others' weights. At least 1: who is to get nothing new drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight(u16);

impl Weight {
    pub(crate) const DEFAULT: Self = Self(100);

    /// `None` for 0.
    pub(crate) fn new(weight: u16) -> Option<Self> {
        (weight > 0).then_some(Self(weight))
    }

    pub(crate) fn get(self) -> u16 {
        self.0
    }
}

/// A backend and what requests need to know of it at this moment.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) backend: Arc<Backend>,
    pub(crate) state: State,
    /// Since when it is in this state.
    pub(crate) since: Instant,
    pub(crate) weight: Weight,
    /// How many requests it may have in flight.
    pub(crate) limit: usize,
    /// It became up not long ago and gets less than its weight.
    pub(crate) ramp: Option<Ramp>,
    /// Who it is, once it said so in a health answer.
    pub(crate) pin: Option<Pin>,
    pub(crate) serves_in_panic: bool,
    pub(crate) about: Arc<About>,
}

impl Entry {
    pub(crate) fn home(&self) -> Home {
        Home { backend: self.backend.id, pin: self.pin }
    }

    /// For people: the instance's name, or the address of one that says none.
    pub(crate) fn name(&self) -> String {
        self.about.instance.clone().unwrap_or_else(|| self.backend.address.to_string())
    }
}

impl Candidate for Entry {
    fn id(&self) -> u64 {
        self.backend.id
    }

    fn place(&self) -> u64 {
        self.backend.place
    }

    fn share(&self, now: Instant) -> u32 {
        slow_start::share(u32::from(self.weight.get()), self.ramp, now)
    }

    fn limit(&self) -> usize {
        self.limit
    }

    fn load(&self) -> &Load {
        &self.backend.load
    }
}

/// The rest of what is known of a backend, for people.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    /// What its health answer calls it.
    pub(crate) instance: Option<String>,
    pub(crate) generation: Option<u64>,
    /// Who decided on the state: `checks`, `operator`, `discovery`, `weight`, `ejection`, `content`.
    pub(crate) cause: &'static str,
    /// Why, for people: `2 failed checks: connection refused`.
    pub(crate) why: String,
    /// An ejected one comes back then.
    pub(crate) until: Option<Instant>,
    /// The last command of an operator.
    pub(crate) asked: Option<Asked>,
    pub(crate) weights: Weights,
    /// The limit that an operator set.
    pub(crate) limit_asked: Option<usize>,
    /// Added by an operator, not found by discovery.
    pub(crate) is_added: bool,
    pub(crate) content: Option<String>,
    /// Its content differs from the majority's for longer than is forgiven.
    pub(crate) differs: bool,
    /// How long it has been down before now, without the time it is down this time.
    pub(crate) downtime: Duration,
    /// How often it went down.
    pub(crate) downs: u32,
}

/// What an operator asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) by: String,
    pub(crate) at: Instant,
}

/// Where a weight comes from; the operator's wins over the backend's own, that over the usual 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) reported: Option<u16>,
    pub(crate) asked: Option<u16>,
}

impl Weights {
    /// 0: nobody new.
    pub(crate) fn effective(self) -> u16 {
        self.asked.or(self.reported).unwrap_or(Weight::DEFAULT.0)
    }
}

#[cfg(test)]
impl Entry {
    /// One of whom nothing is known, for tests of what decides over entries.
    pub(crate) fn unknown(id: u64) -> Self {
        let now = Instant::now();
        let (address, commons) = (SocketAddr::from(([127, 0, 0, 1], 1)), Arc::new(Commons::new(now)));
        Self {
            backend: Arc::new(Backend::new(id, address, BackendMetrics::default(), commons)),
            state: State::Unknown,
            since: now,
            weight: Weight::DEFAULT,
            limit: 1_000,
            ramp: None,
            pin: None,
            serves_in_panic: true,
            about: Arc::default(),
        }
    }
}

/// Everyone of a pool, and who may be picked. Indices point into `entries`.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) config: Arc<config::Pool>,
    pub(crate) metrics: PoolMetrics,
    pub(crate) commons: Arc<Commons>,
    pub(crate) entries: Vec<Entry>,
    /// Healthy ones.
    pub(crate) ready: Vec<usize>,
    /// In a panic, when too few are healthy: all but those who drain or are in maintenance. Checks can be wrong, the few
    /// would break under the load of all, and an answer that may fail is better than one that surely does.
    pub(crate) floor: Vec<usize>,
    /// Used when there is nobody else.
    pub(crate) draining: Vec<usize>,
}

impl Pool {
    pub(crate) fn new(
        config: Arc<config::Pool>,
        metrics: PoolMetrics,
        commons: Arc<Commons>,
        entries: Vec<Entry>,
    ) -> Self {
        let with = |wanted: &dyn Fn(&Entry) -> bool| {
            (0..entries.len()).filter(|index| wanted(&entries[*index])).collect::<Vec<_>>()
        };
        let ready = with(&|entry| entry.state == State::Up);
        let draining = with(&|entry| entry.state == State::Draining);
        let mut floor = with(&|entry| entry.serves_in_panic);
        if ready.len() * 100 >= (floor.len() * config.health.panic_percent).max(1) {
            floor.clear();
        }
        Self { config, metrics, commons, entries, ready, floor, draining }
    }

    /// Too few are healthy and requests are sent anyway.
    pub(crate) fn panics(&self) -> bool {
        !self.floor.is_empty() || (self.ready.is_empty() && !self.entries.is_empty())
    }

    /// Tells those who see no snapshot what this one says: who ends a request, whether its place is there for another (not
    /// at a backend where nobody goes); who waits, that there may be places now.
    pub(crate) fn announce(&self) {
        let [first, last] = self.tiers();
        for (index, entry) in self.entries.iter().enumerate() {
            let serves = first.contains(&index) || last.contains(&index);
            entry.backend.load.set_limit(if serves { entry.limit } else { 0 });
        }
        if self.commons.queue.len() > 0 {
            let room = |index: &usize| {
                let entry = &self.entries[*index];
                entry.limit.saturating_sub(entry.backend.inflight())
            };
            self.commons.queue.look(self.tiers()[0].iter().map(room).sum());
        }
    }

    /// The groups in the order in which they are tried.
    pub(crate) fn tiers(&self) -> [&[usize]; 2] {
        [if self.floor.is_empty() { &self.ready } else { &self.floor }, &self.draining]
    }
}

/// All that a request needs to know, of one moment: it is loaded once per request and never changes.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) config: Arc<Config>,
    /// In the order of `config.pools`.
    pub(crate) pools: Vec<Pool>,
}

impl Snapshot {
    /// Before anybody is known.
    pub(crate) fn empty(config: Arc<Config>, metrics: &Metrics) -> Self {
        let pool = |pool: &Arc<config::Pool>| {
            let commons = Arc::new(Commons::new(Instant::now()));
            Pool::new(Arc::clone(pool), metrics.pool(&pool.name), commons, Vec::new())
        };
        let pools = config.pools.iter().map(pool).collect();
        Self { config, pools }
    }

    /// The pool that a backend is in, if it still is.
    pub(crate) fn pool_of(&self, backend: u64) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.entries.iter().any(|entry| entry.backend.id == backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter is a backend: `u`p, `d`own, d`r`aining, `m`aintenance, `e`jected, `?` unknown. Draws who is tried first,
    /// by place, and `!` for a panic.
    #[track_caller]
    fn check(panic_percent: u64, states: &str, expected: &str) {
        let text = format!("health.panic_percent = {panic_percent}");
        let config = service_kit::config::parse_text::<Config>("lb", &text).unwrap();
        let entry = |(id, letter): (usize, char)| {
            let state = match letter {
                'u' => State::Up,
                'd' => State::Down,
                'r' => State::Draining,
                'm' => State::Maintenance,
                'e' => State::Ejected,
                _ => State::Unknown,
            };
            let serves_in_panic = !matches!(state, State::Draining | State::Maintenance);
            Entry { state, serves_in_panic, ..Entry::unknown(id as u64) }
        };
        let entries = states.chars().enumerate().map(entry).collect();
        let commons = Arc::new(Commons::new(Instant::now()));
        let pool = Pool::new(Arc::clone(&config.pools[0]), PoolMetrics::default(), commons, entries);
        let first: String = pool.tiers()[0].iter().map(ToString::to_string).collect();
        assert_eq!(first + if pool.panics() { "!" } else { "" }, expected, "{states} at {panic_percent} %");
    }

    #[test]
    fn healthy_ones_serve() {
        check(10, "uu", "01");
        check(10, "udr", "0");
        check(10, "u", "0");
    }

    #[test]
    fn when_nobody_is_healthy_all_but_draining_and_maintenance_do() {
        check(0, "d?emr", "012!");
        check(10, "dd", "01!");
        check(10, "??", "01!");
        check(10, "rm", "!");
        check(10, "", "");
    }

    #[test]
    fn too_few_are_like_nobody() {
        check(50, "uudd", "01");
        check(50, "uddd", "0123!");
        check(51, "uudd", "0123!");
        check(100, "ud", "01!");
        check(10, "uddddddddd", "0");
        check(10, "udddddddddd", "012345678910!");
    }

    #[test]
    fn the_share_is_of_those_who_should_serve() {
        check(50, "urrrr", "0");
        check(50, "ummdd", "034!");
    }

    #[test]
    fn without_a_share_one_is_enough() {
        check(0, "uddddddddddddd", "0");
    }
}
