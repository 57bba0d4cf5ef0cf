//! The one owner of who is a backend and who is healthy, in every pool. Discovery, probes, failed requests, operators and
//! reloads tell it what they saw or want; it publishes a new snapshot when that changes anything.

mod command;
mod group;
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::Dependency;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::config::Config;
use crate::failure::Failure;
use crate::prober::Look;
use crate::snapshot::{Pool, Snapshot};
use crate::worker::Shared;
pub(crate) use command::{Command, Done, Order, Refused};
use group::Group;

/// The roster looks at what ends by itself no later than this.
const REVIEW_EVERY: Duration = Duration::from_secs(60);

/// For so long at most a new configuration waits for the first look at the backends of its new pools.
const HOLD_MAX: Duration = Duration::from_secs(1);

/// What the roster is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A good answer of one discovery: these and no others.
    Found { lookout: u64, addresses: BTreeSet<SocketAddr> },
    /// A probe's outcome.
    Looked { id: u64, look: Look },
    /// A request failed on a backend. `counts`: it says as much as a failed probe.
    Failed { id: u64, failure: Failure, counts: bool },
    /// Enough requests in a row had bad answers or none, the last one this.
    Suspected { id: u64, last: Misdeed },
    /// A new configuration. Backends that it keeps keep their health, counts and connections.
    Reload(Arc<Config>),
    /// An operator wants something.
    Admin(Order, oneshot::Sender<Result<Done, Refused>>),
}

/// What a backend did to a request.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Misdeed {
    #[error("status {}", .0.as_u16())]
    Status(http::StatusCode),
    #[error("{0}")]
    Failure(Failure),
}

/// Asks the roster for something and waits for its answer.
pub(crate) async fn ask(events: &mpsc::Sender<Event>, order: Order) -> Result<Done, Refused> {
    let (sender, answer) = oneshot::channel();
    events.send(Event::Admin(order, sender)).await.map_err(|_| Refused::Ending)?;
    // No deadline: the roster waits for nobody, and drops the sender when it ends.
    answer.await.unwrap_or(Err(Refused::Ending))
}

/// What no two of anything may share, in any pool and at any time: a late event must not be taken for another's.
#[derive(Debug, Default)]
struct Ids(u64);

impl Ids {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

struct Roster {
    config: Arc<Config>,
    /// In the order of `config.pools`.
    groups: Vec<Group>,
    ids: Ids,
    shared: Arc<Shared>,
    dependency: Dependency,
    /// Something was not published yet.
    changed: bool,
    /// A new configuration is not in force before then, unless its new pools have backends earlier.
    held_until: Option<Instant>,
}

/// Runs until it is dropped; it must outlive the workers, for draining needs health too.
pub(crate) async fn run(shared: Arc<Shared>, mut events: mpsc::Receiver<Event>, dependency: Dependency) {
    let config = Arc::clone(&shared.snapshot.load().config);
    let mut roster = Roster::new(&config, shared, dependency);
    loop {
        let due = roster.due(Instant::now());
        let answer = tokio::select! {
            event = events.recv() => match event {
                Some(event) => roster.handle(event, Instant::now()),
                None => return,
            },
            () = tokio::time::sleep_until(due.into()) => None,
        };
        roster.review(Instant::now());
        // After the snapshot, so that who asked sees what came of it.
        if let Some((answer, sender)) = answer {
            let _ = sender.send(answer);
        }
    }
}

type Answer = (Result<Done, Refused>, oneshot::Sender<Result<Done, Refused>>);

impl Roster {
    fn new(config: &Arc<Config>, shared: Arc<Shared>, dependency: Dependency) -> Self {
        let (config, ids) = (Arc::clone(config), Ids::default());
        let mut roster = Self {
            config: Arc::clone(&config),
            groups: Vec::new(),
            ids,
            shared,
            dependency,
            changed: false,
            held_until: None,
        };
        roster.reload(config);
        roster
    }

    fn handle(&mut self, event: Event, now: Instant) -> Option<Answer> {
        match event {
            Event::Found { lookout, addresses } => {
                // The answer of a discovery that a reload has replaced meanwhile is nobody's.
                if let Some(group) = self.groups.iter_mut().find(|group| group.lookout() == lookout) {
                    group.found(&addresses, &mut self.ids, now);
                }
            }
            Event::Looked { id, look } => self.in_group_of(id, |group| group.looked(id, look, now)),
            Event::Failed { id, failure, counts } => {
                self.in_group_of(id, |group| group.failed(id, &failure.to_string(), counts, now));
            }
            Event::Suspected { id, last } => {
                self.in_group_of(id, |group| group.suspected(id, &last.to_string(), now));
            }
            Event::Reload(config) => {
                self.reload(config);
                self.shared.metrics.reloads.inc();
                // A request must not find a pool in which nobody is known yet; the last configuration is as good for it.
                self.held_until.get_or_insert(now + HOLD_MAX);
            }
            Event::Admin(order, sender) => return Some((self.order(&order, now), sender)),
        }
        None
    }

    /// A late event may be of a backend that is gone.
    fn in_group_of(&mut self, id: u64, then: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.iter_mut().find(|group| group.has(id)) {
            then(group);
        }
    }

    fn order(&mut self, order: &Order, now: Instant) -> Result<Done, Refused> {
        let done = match self.groups.iter_mut().find(|group| *group.scope.config.name == *order.pool) {
            Some(group) => group.order(order, &mut self.ids, now)?,
            None => {
                let known: Vec<&str> = self.config.pools.iter().map(|pool| &*pool.name).collect();
                return Err(Refused::NoPool { pool: order.pool.clone(), known: known.join(", ") });
            }
        };
        // Whoever asks sees what comes of it.
        self.held_until = self.held_until.map(|_| now);
        Ok(done)
    }

    /// Pools are the same as before if their names are.
    fn reload(&mut self, config: Arc<Config>) {
        let mut before: BTreeMap<Arc<str>, Group> =
            self.groups.drain(..).map(|group| (Arc::clone(&group.scope.config.name), group)).collect();
        for pool in &config.pools {
            let group = match before.remove(&pool.name) {
                Some(mut group) => {
                    group.reconfigure(Arc::clone(pool), &mut self.ids);
                    group
                }
                None => Group::start(Arc::clone(pool), Arc::clone(&self.shared), &mut self.ids),
            };
            self.groups.push(group);
        }
        before.into_values().for_each(Group::dissolve);
        for route in config.routes.routes() {
            info!(route = %route.name, pool = %config.pools[route.pool].name, "route");
        }
        self.config = config;
    }

    fn due(&self, now: Instant) -> Instant {
        let due = self.groups.iter().filter_map(|group| group.due(now)).chain(self.held_until).min();
        due.unwrap_or(now + REVIEW_EVERY).min(now + REVIEW_EVERY)
    }

    /// Every pool, even after the first that changed: each has to settle.
    fn review(&mut self, now: Instant) {
        self.changed |= self.groups.iter_mut().fold(false, |changed, group| group.review(now) | changed);
        if let Some(until) = self.held_until {
            if now < until && self.groups.iter().any(Group::is_awaited) {
                return;
            }
            self.held_until = None;
            info!("configuration replaced");
        }
        if std::mem::take(&mut self.changed) {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let pools: Vec<_> = self.groups.iter_mut().map(Group::snapshot).collect();
        let all: usize = pools.iter().map(|pool| pool.entries.len()).sum();
        let ready: usize = pools.iter().map(|pool| pool.ready.len()).sum();
        let snapshot = Arc::new(Snapshot { config: Arc::clone(&self.config), pools });
        self.shared.snapshot.store(Arc::clone(&snapshot));
        snapshot.pools.iter().for_each(Pool::announce);
        if ready > 0 {
            self.dependency.reached();
        } else {
            self.dependency.lost(format!("none of {all} backends is healthy"));
        }
    }
}

#[cfg(test)]
mod tests;
