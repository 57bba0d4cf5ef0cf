//! One backend as the roster owns it: what is known of it, and what that comes to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::command::Command;
use super::group::Scope;
use crate::balance::slow_start::Ramp;
use crate::config::{ContentCheck, Mode};
use crate::content::Difference;
use crate::ejection::Ejection;
use crate::health::{Health, Outcome, Verdict};
use crate::prober::{Look, Reins};
use crate::snapshot::{About, Asked, Backend, Entry, Trouble, Weight, Weights};
use crate::standing::{Cause, Facts, Standing, Wish, standing};
use crate::state::State;
use crate::ticket::Pin;

pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    pub(super) reins: Arc<Reins>,
    pub(super) prober: Task,
    /// Since when it is missing from discovery.
    pub(super) leaving: Option<Instant>,
    /// An operator added it: discovery need not know it.
    pub(super) is_added: bool,
    pub(super) ejection: Ejection,
    pub(super) difference: Difference,
    health: Health,
    /// What the last verdict of the checks was for.
    verdict_why: String,
    ejection_why: String,
    instance: Option<String>,
    generation: Option<u64>,
    content: Option<String>,
    weights: Weights,
    limit_asked: Option<usize>,
    wish: Wish,
    wish_why: String,
    asked: Option<Asked>,
    shown: Shown,
    downtime: Duration,
    downs: u32,
    /// It was out of service, or is new to a running balancer: it starts slowly.
    cold: bool,
}

/// What the last snapshot says; a new one is needed when this changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    standing: Standing,
    differs: bool,
    since: Instant,
}

/// Ends with its owner.
pub(super) struct Task(pub(super) AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Member {
    /// `at_start`: it is no news to the balancer but the balancer to it.
    pub(super) fn new(
        backend: Arc<Backend>,
        reins: Arc<Reins>,
        prober: Task,
        at_start: bool,
        now: Instant,
    ) -> Self {
        let standing = Standing { state: State::Unknown, cause: Cause::Checks, serves_in_panic: true };
        Self {
            backend,
            reins,
            prober,
            leaving: None,
            is_added: false,
            ejection: Ejection::default(),
            difference: Difference::default(),
            health: Health::new(),
            verdict_why: "not checked yet".to_owned(),
            ejection_why: String::new(),
            instance: None,
            generation: None,
            content: None,
            weights: Weights::default(),
            limit_asked: None,
            wish: Wish::Nothing,
            wish_why: String::new(),
            asked: None,
            shown: Shown { standing, differs: false, since: now },
            downtime: Duration::ZERO,
            downs: 0,
            cold: !at_start,
        }
    }

    pub(super) fn state(&self) -> State {
        self.shown.standing.state
    }

    pub(super) fn name(&self) -> &str {
        self.instance.as_deref().unwrap_or("unnamed")
    }

    /// Without checks everybody counts as well.
    pub(super) fn verdict(&self, scope: &Scope) -> Verdict {
        if scope.config.health.check.mode == Mode::Off { Verdict::Up } else { self.health.verdict() }
    }

    /// The content of one that has a say in what is right: alive and not on its way out.
    pub(super) fn vote(&self, scope: &Scope) -> Option<&str> {
        let votes =
            self.verdict(scope) == Verdict::Up && self.wish == Wish::Nothing && self.leaving.is_none();
        self.content.as_deref().filter(|_| votes)
    }

    pub(super) fn compare(&mut self, right: Option<&str>, now: Instant) {
        self.difference.note(self.content.as_deref(), right, now);
    }

    /// A check's outcome. Whether entries have to say something else now, apart from the state.
    pub(super) fn looked(&mut self, look: Look, scope: &Scope, now: Instant) -> bool {
        self.backend.metrics.probes.inc();
        if look.outcome == Outcome::Bad {
            self.backend.metrics.probes_failed.inc();
            self.trouble(format!("check: {}", look.reason), now);
        }
        self.observe(look.outcome, &look.reason, "failed checks", scope);
        // A bad answer that says nothing of it does not make anybody forget who was there.
        if look.instance.is_none() && look.outcome == Outcome::Bad {
            return false;
        }
        // Another process than before: what the old one did is not held against it.
        if look.generation.is_some() && self.generation.is_some() && look.generation != self.generation {
            self.ejection.pardon();
        }
        let told = (look.instance, look.generation, look.content, look.weight);
        let own = (&mut self.instance, &mut self.generation, &mut self.content, &mut self.weights.reported);
        let changed = (&*own.0, &*own.1, &*own.2, &*own.3) != (&told.0, &told.1, &told.2, &told.3);
        (*own.0, *own.1, *own.2, *own.3) = told;
        changed
    }

    /// A request failed there. `counts`: it says as much as a failed check.
    pub(super) fn failed(&mut self, what: &str, counts: bool, scope: &Scope, now: Instant) {
        self.trouble(format!("request: {what}"), now);
        self.reins.urgent.store(true, Ordering::Relaxed);
        self.reins.nudge.notify_one();
        // What requests find of one that is down already is no news, and a draining one may refuse at any moment.
        if counts && self.health.verdict() == Verdict::Up {
            self.observe(Outcome::Bad, what, "failed requests or checks", scope);
        }
    }

    fn observe(&mut self, outcome: Outcome, reason: &str, what: &str, scope: &Scope) {
        let thresholds = scope.config.health.thresholds;
        let verdict = self.health.observe(outcome, thresholds);
        let urgent = self.health.verdict() == Verdict::Unknown || self.health.streak() > 0;
        self.reins.urgent.store(urgent, Ordering::Relaxed);
        match verdict {
            Some(Verdict::Down) => self.verdict_why = format!("{} {what}: {reason}", thresholds.fall),
            Some(_) => reason.clone_into(&mut self.verdict_why),
            None => {}
        }
    }

    pub(super) fn trouble(&self, what: String, now: Instant) {
        self.backend.trouble.store(Some(Arc::new(Trouble { at: now, what })));
    }

    /// Out of service for a while.
    pub(super) fn eject(&mut self, time: Option<Duration>, why: String, scope: &Scope, now: Instant) {
        match (time, &scope.config.ejection) {
            (Some(time), _) => self.ejection.eject_for(time, now),
            (None, Some(terms)) => {
                self.ejection.eject(terms, now);
            }
            (None, None) => return,
        }
        self.ejection_why = why;
        self.backend.metrics.ejections.inc();
    }

    /// Carries out what concerns this backend alone.
    pub(super) fn command(&mut self, command: Command, by: &str, scope: &Scope, now: Instant) {
        match command {
            Command::Drain => self.wish = Wish::Drain,
            Command::Undrain if self.wish == Wish::Drain => self.wish = Wish::Nothing,
            Command::Maintenance => self.wish = Wish::Maintenance,
            Command::Ready => {
                self.wish = Wish::Nothing;
                self.ejection.pardon();
            }
            Command::Weight(weight) => self.weights.asked = Some(weight),
            Command::Limit(limit) => self.limit_asked = Some(limit),
            Command::Reset => (self.weights.asked, self.limit_asked) = (None, None),
            Command::Eject(time) => self.eject(Some(time), format!("asked by {by}"), scope, now),
            Command::Undrain | Command::Add(_) | Command::Remove => {}
        }
        let what = command.describe();
        if matches!(command, Command::Drain | Command::Maintenance) {
            self.wish_why = format!("{what} asked by {by}");
        }
        self.asked = Some(Asked { what, by: by.to_owned(), at: now });
    }

    /// What all that is known comes to. Returns whether that is something else than before.
    pub(super) fn settle(&mut self, scope: &Scope, now: Instant) -> bool {
        self.ejection.ends(now);
        let health = &scope.config.health;
        let differs =
            health.content != ContentCheck::Off && self.difference.is_flagged(health.content_grace, now);
        let standing = standing(Facts {
            verdict: self.verdict(scope),
            wish: self.wish,
            leaving: self.leaving.is_some(),
            ejected: self.ejection.until().is_some(),
            excluded: differs && health.content == ContentCheck::Exclude,
            weightless: self.weights.effective() == 0,
        });
        let before = self.shown;
        let since = if standing.state == before.standing.state { before.since } else { now };
        self.shown = Shown { standing, differs, since };
        if differs != before.differs {
            self.tell_content(scope, differs);
        }
        if standing.state != before.standing.state {
            self.entered(before, scope, now);
        }
        self.shown != before
    }

    fn entered(&mut self, before: Shown, scope: &Scope, now: Instant) {
        if before.standing.state == State::Down {
            self.downtime += now.saturating_duration_since(before.since);
        }
        self.downs += u32::from(self.state() == State::Down);
        // One that drained kept its clients, and its caches.
        self.cold = match (before.standing.state, self.state()) {
            (State::Draining, State::Up) => false,
            (_, State::Up | State::Draining | State::Unknown) => self.cold,
            (_, State::Down | State::Maintenance | State::Ejected | State::Excluded) => true,
        };
        self.backend.row.broken();
        let (pool, address) = (&scope.config.name, self.backend.address);
        let (state, name, why) = (self.state(), self.name(), self.why(scope));
        scope.shared.metrics.backend_state(pool, &address.to_string(), state);
        let text = state.as_str();
        if matches!(state, State::Down | State::Ejected | State::Excluded) {
            warn!(%pool, backend = name, %address, "backend {name} {address} {text}: {why}");
        } else {
            info!(%pool, backend = name, %address, "backend {name} {address} {text}: {why}");
        }
    }

    fn tell_content(&self, scope: &Scope, differs: bool) {
        let (pool, address, name) = (&scope.config.name, self.backend.address, self.name());
        let content = self.content.as_deref().unwrap_or("nothing");
        self.backend.metrics.content_differs.set(i64::from(differs));
        if differs {
            warn!(%pool, backend = name, %address, content, "content of {name} {address} differs from the majority's");
        } else {
            info!(%pool, backend = name, %address, content, "content of {name} {address} is as the others'");
        }
    }

    fn why(&self, scope: &Scope) -> String {
        match self.shown.standing.cause {
            Cause::Checks if scope.config.health.check.mode == Mode::Off => "checks are off".into(),
            Cause::Checks => self.verdict_why.clone(),
            Cause::Operator => self.wish_why.clone(),
            Cause::Discovery => "gone from discovery".into(),
            Cause::Weight if self.weights.asked.is_some() => "an operator gave it weight 0".into(),
            Cause::Weight => "it says weight 0".into(),
            Cause::Ejection => self.ejection_why.clone(),
            Cause::Content => "its content differs from the majority's".into(),
        }
    }

    /// What requests and people are to see of it.
    pub(super) fn entry(&self, scope: &Scope) -> Entry {
        let Shown { standing, differs, since } = self.shown;
        let about = About {
            instance: self.instance.clone(),
            generation: self.generation,
            cause: standing.cause.as_str(),
            why: self.why(scope),
            until: self.ejection.until(),
            asked: self.asked.clone(),
            weights: self.weights,
            limit_asked: self.limit_asked,
            is_added: self.is_added,
            content: self.content.clone(),
            differs,
            downtime: self.downtime,
            downs: self.downs,
        };
        let over = scope.config.balance.slow_start;
        let ramps = self.cold && standing.state == State::Up && !over.is_zero();
        Entry {
            backend: Arc::clone(&self.backend),
            state: standing.state,
            since,
            weight: Weight::new(self.weights.effective()).unwrap_or(Weight::DEFAULT),
            limit: self.limit_asked.unwrap_or(scope.config.upstream.inflight_max),
            ramp: ramps.then_some(Ramp { since, over }),
            pin: self.instance.as_ref().map(|name| Pin::new(name, self.generation.unwrap_or(0))),
            serves_in_panic: standing.serves_in_panic,
            about: Arc::new(about),
        }
    }
}
