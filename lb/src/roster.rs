//! The one owner of who is a backend and who is healthy. Discovery, probes and failed requests tell it what they saw; it
//! publishes a new snapshot when that changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use service_kit::Dependency;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::health::{Health, Outcome, State};
use crate::prober::{self, Look, Reins};
use crate::snapshot::{Backend, Entry, Snapshot};
use crate::ticket::Pin;
use crate::worker::Shared;

/// What the roster is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A good answer of discovery: these and no others.
    Found { addresses: BTreeSet<SocketAddr> },
    /// A probe's outcome.
    Looked { id: u64, look: Look },
    /// A request failed on a backend. `counts`: it says as much as a failed probe.
    Failed { id: u64, failure: Failure, counts: bool },
}

struct Member {
    backend: Arc<Backend>,
    health: Health,
    /// Since when it is missing from discovery.
    leaving: Option<Instant>,
    instance: Option<String>,
    generation: Option<u64>,
    reins: Arc<Reins>,
    prober: AbortHandle,
}

impl Member {
    /// One that left and still lives serves its own clients to the end.
    fn state(&self) -> State {
        match (self.health.state(), self.leaving) {
            (State::Up, Some(_)) => State::Draining,
            (state, _) => state,
        }
    }

    fn entry(&self) -> Entry {
        let pin = self.instance.as_ref().map(|instance| Pin::new(instance, self.generation.unwrap_or(0)));
        Entry { backend: Arc::clone(&self.backend), state: self.state(), pin }
    }

    fn name(&self) -> &str {
        self.instance.as_deref().unwrap_or("unnamed")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.prober.abort();
    }
}

struct Roster {
    members: BTreeMap<SocketAddr, Member>,
    next_id: u64,
    shared: Arc<Shared>,
    dependency: Dependency,
    panicking: bool,
}

/// Runs until it is dropped; it must outlive the workers, for draining needs health too.
pub(crate) async fn run(shared: Arc<Shared>, mut events: mpsc::Receiver<Event>, dependency: Dependency) {
    let mut roster = Roster { members: BTreeMap::new(), next_id: 0, shared, dependency, panicking: false };
    while let Some(event) = events.recv().await {
        let changed = match event {
            Event::Found { addresses } => roster.found(&addresses, Instant::now()),
            Event::Looked { id, look } => roster.looked(id, look),
            Event::Failed { id, failure, counts } => roster.failed(id, failure, counts),
        };
        if changed {
            roster.publish();
        }
    }
}

impl Roster {
    fn found(&mut self, addresses: &BTreeSet<SocketAddr>, now: Instant) -> bool {
        let leave_after = self.shared.config.load().discovery.leave_after;
        let mut changed = false;
        for address in addresses {
            changed |= match self.members.get_mut(address) {
                None => self.join(*address),
                Some(member) => member.leaving.take().is_some_and(|_| {
                    info!(backend = member.name(), %address, "backend is back in discovery");
                    self.shared.metrics.backend_state(&address.to_string(), member.health.state());
                    true
                }),
            };
        }
        let missing: Vec<SocketAddr> =
            self.members.keys().filter(|address| !addresses.contains(address)).copied().collect();
        for address in missing {
            let member = self.members.get_mut(&address).expect("it was just found among the members");
            let since = *member.leaving.get_or_insert_with(|| {
                changed = true;
                now
            });
            let alive = matches!(member.health.state(), State::Up | State::Draining);
            if !alive || now.saturating_duration_since(since) >= leave_after {
                self.remove(address, if alive { "its time to leave is over" } else { "it does not answer" });
                changed = true;
            } else if since == now {
                info!(backend = member.name(), %address, "backend draining: gone from discovery");
                self.shared.metrics.backend_state(&address.to_string(), State::Draining);
            }
        }
        changed
    }

    fn join(&mut self, address: SocketAddr) -> bool {
        let id = self.next_id;
        self.next_id += 1;
        let name = address.to_string();
        let metrics = self.shared.metrics.backend(&name);
        self.shared.metrics.backend_state(&name, State::Unknown);
        let reins = Arc::new(Reins::default());
        reins.urgent.store(true, Ordering::Relaxed);
        let prober = tokio::spawn(prober::run(id, address, Arc::clone(&reins), Arc::clone(&self.shared)));
        info!(%address, "backend found");
        let member = Member {
            backend: Arc::new(Backend::new(id, address, metrics)),
            health: Health::new(),
            leaving: None,
            instance: None,
            generation: None,
            reins,
            prober: prober.abort_handle(),
        };
        self.members.insert(address, member);
        true
    }

    fn remove(&mut self, address: SocketAddr, why: &str) {
        if let Some(member) = self.members.remove(&address) {
            info!(backend = member.name(), %address, "backend removed: gone from discovery, {why}");
            self.shared.metrics.backend_gone(&address.to_string());
        }
    }

    fn looked(&mut self, id: u64, look: Look) -> bool {
        let Some(member) = self.members.values_mut().find(|member| member.backend.id == id) else {
            return false;
        };
        let mut changed = false;
        if look.outcome == Outcome::Bad {
            member.backend.metrics.probes_failed.inc();
        }
        // A bad answer that says nothing of it does not make anybody forget who was there.
        if look.instance.is_some() {
            changed = member.instance != look.instance || member.generation != look.generation;
            member.instance = look.instance;
            member.generation = look.generation;
        }
        changed | self.observe(id, look.outcome, &look.reason, "failed checks")
    }

    fn failed(&mut self, id: u64, failure: Failure, counts: bool) -> bool {
        let Some(member) = self.members.values_mut().find(|member| member.backend.id == id) else {
            return false;
        };
        member.reins.urgent.store(true, Ordering::Relaxed);
        member.reins.nudge.notify_one();
        // What requests find of one that is down already is no news, and a draining one may refuse at any moment.
        let counts = counts && member.health.state() == State::Up;
        counts && self.observe(id, Outcome::Bad, &failure.to_string(), "failed requests or checks")
    }

    fn observe(&mut self, id: u64, outcome: Outcome, reason: &str, what: &str) -> bool {
        let thresholds = self.shared.config.load().health.thresholds;
        let Some(member) = self.members.values_mut().find(|member| member.backend.id == id) else {
            return false;
        };
        let transition = member.health.observe(outcome, thresholds);
        let urgent = member.health.state() == State::Unknown || member.health.streak() > 0;
        member.reins.urgent.store(urgent, Ordering::Relaxed);
        let Some(state) = transition else { return false };
        let (name, address) = (member.name().to_owned(), member.backend.address);
        match state {
            State::Down => {
                warn!(backend = name, %address, "backend {name} {address} down: {} {what}: {reason}", thresholds.fall);
            }
            _ => info!(backend = name, %address, "backend {name} {address} {}: {reason}", state.as_str()),
        }
        self.shared.metrics.backend_state(&address.to_string(), member.state());
        if state == State::Down && member.leaving.is_some() {
            self.remove(address, "it does not answer");
        }
        true
    }

    fn publish(&mut self) {
        let snapshot = Snapshot::new(self.members.values().map(Member::entry).collect());
        // Before the first verdict on anybody it is a start, not a panic.
        let panics = snapshot.panics() && snapshot.entries.iter().any(|entry| entry.state != State::Unknown);
        let (all, ready) = (snapshot.entries.len(), snapshot.ready.len());
        self.shared.snapshot.store(Arc::new(snapshot));
        if ready > 0 {
            self.dependency.reached();
        } else {
            self.dependency.lost(format!("none of {all} backends is healthy"));
        }
        if panics != self.panicking {
            self.panicking = panics;
            if panics {
                warn!(backends = all, "no backend is healthy: requests go to all that are not draining");
            } else {
                info!(healthy = ready, backends = all, "requests go to healthy backends only");
            }
        }
    }
}
