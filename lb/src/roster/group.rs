//! The backends of one pool as the roster owns them: who is there, who looks at them, what was seen.
//!
//! Whatever happens is noted in a member first; then [`Group::review`] looks at all of them, as content and ejections
//! are matters of the whole pool, and says whether requests have to see something new.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{info, warn};

use super::Ids;
use super::command::{Command, Done, Order, Refused};
use super::member::{Member, Task};
use crate::commons::Commons;
use crate::config::{self, ContentCheck};
use crate::content;
use crate::discovery;
use crate::ejection;
use crate::health::Verdict;
use crate::metrics::PoolMetrics;
use crate::prober::{self, Look, Reins};
use crate::snapshot::{self, Backend};
use crate::state::State;
use crate::worker::Shared;

/// One pool.
pub(super) struct Group {
    pub(super) scope: Scope,
    members: BTreeMap<SocketAddr, Member>,
    /// Who tells it of addresses; another number with each change of what is asked.
    lookout: u64,
    discovery: Task,
    panicking: bool,
    /// Somebody came, went, or says something else than before.
    changed: bool,
    /// Not one answer of discovery yet: whoever is in the first has not come to a running balancer.
    fresh: bool,
    /// No request has seen it.
    unseen: bool,
}

/// What everything in a pool needs.
pub(super) struct Scope {
    pub(super) config: Arc<config::Pool>,
    pub(super) shared: Arc<Shared>,
    metrics: PoolMetrics,
    commons: Arc<Commons>,
}

impl Group {
    pub(super) fn start(config: Arc<config::Pool>, shared: Arc<Shared>, ids: &mut Ids) -> Self {
        let metrics = shared.metrics.pool(&config.name);
        let commons = Arc::new(Commons::new(Instant::now()));
        let (lookout, scope) = (ids.next(), Scope { config, shared, metrics, commons });
        let discovery = scope.discover(lookout);
        Self {
            scope,
            members: BTreeMap::new(),
            lookout,
            discovery,
            panicking: false,
            changed: true,
            fresh: true,
            unseen: true,
        }
    }

    /// Takes a new configuration; starts anew only what it changes.
    pub(super) fn reconfigure(&mut self, config: Arc<config::Pool>, ids: &mut Ids) {
        let before = std::mem::replace(&mut self.scope.config, config);
        if before.discovery != self.scope.config.discovery {
            self.lookout = ids.next();
            self.discovery = self.scope.discover(self.lookout);
        }
        if before.health.check != self.scope.config.health.check {
            for member in self.members.values_mut() {
                member.prober = self.scope.probe(&member.backend, &member.reins);
            }
        }
        self.changed = true;
    }

    /// The pool is gone from the configuration. Requests that have begun end where they are.
    pub(super) fn dissolve(mut self) {
        info!(pool = %self.scope.config.name, "pool removed: gone from the configuration");
        let addresses: Vec<SocketAddr> = self.members.keys().copied().collect();
        addresses.into_iter().for_each(|address| self.remove(address, "its pool is gone"));
    }

    /// It is new, and not all of its backends have been found and looked at.
    pub(super) fn is_awaited(&self) -> bool {
        let unknown = |member: &Member| member.verdict(&self.scope) == Verdict::Unknown;
        self.unseen && (self.fresh || self.members.values().any(unknown))
    }

    pub(super) fn lookout(&self) -> u64 {
        self.lookout
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.members.values().any(|member| member.backend.id == id)
    }

    pub(super) fn found(&mut self, addresses: &BTreeSet<SocketAddr>, ids: &mut Ids, now: Instant) {
        for address in addresses {
            match self.members.get_mut(address) {
                None => self.join(*address, ids.next(), now),
                Some(member) => {
                    if member.leaving.take().is_some() {
                        let (pool, name) = (&self.scope.config.name, member.name());
                        info!(%pool, backend = name, %address, "backend is back in discovery");
                    }
                }
            }
        }
        self.fresh = false;
        let leave_after = self.scope.config.discovery.leave_after;
        let missing =
            |address: &SocketAddr, member: &Member| !addresses.contains(address) && !member.is_added;
        let mut over = Vec::new();
        for (address, member) in self.members.iter_mut().filter(|(address, member)| missing(address, member))
        {
            let since = *member.leaving.get_or_insert(now);
            if now.saturating_duration_since(since) >= leave_after {
                over.push(*address);
            }
        }
        over.into_iter().for_each(|address| {
            self.remove(address, "gone from discovery, its time to leave is over");
        });
    }

    fn join(&mut self, address: SocketAddr, id: u64, now: Instant) {
        let (pool, name) = (&self.scope.config.name, address.to_string());
        let metrics = self.scope.shared.metrics.backend(pool, &name);
        self.scope.shared.metrics.backend_state(pool, &name, State::Unknown);
        let backend = Arc::new(Backend::new(id, address, metrics, Arc::clone(&self.scope.commons)));
        let reins = Arc::new(Reins::default());
        reins.urgent.store(true, Ordering::Relaxed);
        let prober = self.scope.probe(&backend, &reins);
        info!(%pool, %address, "backend found");
        self.members.insert(address, Member::new(backend, reins, prober, self.fresh, now));
        self.changed = true;
    }

    fn remove(&mut self, address: SocketAddr, why: &str) {
        if let Some(member) = self.members.remove(&address) {
            let pool = &self.scope.config.name;
            info!(%pool, backend = member.name(), %address, "backend removed: {why}");
            self.scope.shared.metrics.backend_gone(pool, &address.to_string());
            self.changed = true;
        }
    }

    pub(super) fn looked(&mut self, id: u64, look: Look, now: Instant) {
        if let Some(member) = self.members.values_mut().find(|member| member.backend.id == id) {
            self.changed |= member.looked(look, &self.scope, now);
        }
    }

    pub(super) fn failed(&mut self, id: u64, what: &str, counts: bool, now: Instant) {
        if let Some(member) = self.members.values_mut().find(|member| member.backend.id == id) {
            member.failed(what, counts, &self.scope, now);
        }
    }

    /// Requests had enough errors in a row there: it is ejected if the pool can spare it.
    pub(super) fn suspected(&mut self, id: u64, last: &str, now: Instant) {
        let Some(terms) = &self.scope.config.ejection else { return };
        let out = self.members.values().filter(|member| member.ejection.until().is_some()).count();
        let spare = ejection::can_spare(self.members.len(), out, terms.share_percent);
        let Some(member) = self.members.values_mut().find(|member| member.backend.id == id) else { return };
        member.trouble(format!("request: {last}"), now);
        // One that is out already or down gets the rest of what was on its way, and a draining one may refuse.
        if member.state() != State::Up {
            return;
        }
        let why = format!("{} errors in a row: {last}", terms.errors);
        if spare {
            member.eject(None, why, &self.scope, now);
        } else {
            self.scope.metrics.ejections_refused.inc();
            let (pool, name, address) = (&self.scope.config.name, member.name(), member.backend.address);
            info!(%pool, backend = name, %address, "backend stays: {why}, but too many are ejected");
        }
    }

    pub(super) fn order(&mut self, order: &Order, ids: &mut Ids, now: Instant) -> Result<Done, Refused> {
        order.command.check()?;
        let address = match order.command {
            Command::Add(address) => {
                if self.members.contains_key(&address) {
                    let pool = self.scope.config.name.to_string();
                    return Err(Refused::Present { pool, address });
                }
                self.join(address, ids.next(), now);
                address
            }
            _ => self.find(&order.backend)?,
        };
        let (pool, what) = (&self.scope.config.name, order.command.describe());
        let member = self.members.get_mut(&address).expect("it was just found or added");
        info!(%pool, backend = member.name(), %address, by = order.by, "operator: {what}");
        match order.command {
            Command::Remove if !member.is_added => return Err(Refused::Discovered { address }),
            Command::Remove => {
                self.remove(address, &format!("asked by {}", order.by));
                return Ok(Done { address, state: None });
            }
            Command::Add(_) => member.is_added = true,
            _ => {}
        }
        member.command(order.command, &order.by, &self.scope, now);
        self.changed = true;
        member.settle(&self.scope, now);
        Ok(Done { address, state: Some(member.state()) })
    }

    /// By address or by the name it goes by.
    fn find(&self, backend: &str) -> Result<SocketAddr, Refused> {
        let pool = || self.scope.config.name.to_string();
        let none = || Refused::NoBackend { pool: pool(), backend: backend.to_owned() };
        if let Ok(address) = backend.parse::<SocketAddr>() {
            return self.members.contains_key(&address).then_some(address).ok_or_else(none);
        }
        let named: Vec<SocketAddr> =
            self.members.iter().filter(|(_, member)| member.name() == backend).map(|(at, _)| *at).collect();
        match named[..] {
            [] => Err(none()),
            [one] => Ok(one),
            _ => Err(Refused::Ambiguous { pool: pool(), backend: backend.to_owned(), count: named.len() }),
        }
    }

    /// What all that was noted comes to. Returns whether requests have to see something new.
    pub(super) fn review(&mut self, now: Instant) -> bool {
        let scope = &self.scope;
        if scope.config.health.content != ContentCheck::Off {
            let votes: Vec<&str> = self.members.values().filter_map(|member| member.vote(scope)).collect();
            let right = content::majority(&votes).map(str::to_owned);
            self.members.values_mut().for_each(|member| member.compare(right.as_deref(), now));
        }
        for member in self.members.values_mut() {
            self.changed |= member.settle(scope, now);
        }
        // It left, and it does not answer: there is nobody whose requests it could end.
        let gone: Vec<SocketAddr> = self
            .members
            .iter()
            .filter(|(_, member)| member.leaving.is_some())
            .filter(|(_, member)| matches!(member.verdict(scope), Verdict::Down | Verdict::Unknown))
            .map(|(address, _)| *address)
            .collect();
        gone.into_iter().for_each(|address| self.remove(address, "gone from discovery, it does not answer"));
        std::mem::take(&mut self.changed)
    }

    /// When something changes by itself.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let health = &self.scope.config.health;
        let grace = |member: &Member| match health.content {
            ContentCheck::Off => None,
            _ => member.difference.due(health.content_grace).filter(|due| *due > now),
        };
        self.members.values().flat_map(|member| [member.ejection.until(), grace(member)]).flatten().min()
    }

    /// What requests are to see of it from now on.
    pub(super) fn snapshot(&mut self) -> snapshot::Pool {
        self.unseen = false;
        let scope = &self.scope;
        let entries = self.members.values().map(|member| member.entry(scope)).collect();
        let (config, commons) = (Arc::clone(&scope.config), Arc::clone(&scope.commons));
        let pool = snapshot::Pool::new(config, scope.metrics.clone(), commons, entries);
        // Before the first verdict on anybody it is a start, not a panic.
        let panics = pool.panics() && pool.entries.iter().any(|entry| entry.state != State::Unknown);
        if panics != self.panicking {
            self.panicking = panics;
            scope.metrics.panics.set(i64::from(panics));
            let (name, backends, healthy) = (&scope.config.name, pool.entries.len(), pool.ready.len());
            if panics {
                warn!(
                    pool = %name, healthy, backends,
                    "too few backends are healthy: requests go to all that are not draining or in maintenance"
                );
            } else {
                info!(pool = %name, healthy, backends, "requests go to healthy backends only");
            }
        }
        pool
    }
}

impl Scope {
    fn discover(&self, lookout: u64) -> Task {
        let (settings, name) = (self.config.discovery.clone(), Arc::clone(&self.config.name));
        let events = self.shared.events.clone();
        let task = discovery::run(lookout, name, settings, self.metrics.clone(), events);
        Task(tokio::spawn(task).abort_handle())
    }

    fn probe(&self, backend: &Backend, reins: &Arc<Reins>) -> Task {
        let (check, events) = (self.config.health.check.clone(), self.shared.events.clone());
        let task = prober::run(backend.id, backend.address, check, Arc::clone(reins), events);
        Task(tokio::spawn(task).abort_handle())
    }
}
