//! The health of every target over time. It outlives plans: a target that is in the next plan too keeps its state.

use super::plan::{Plan, Target};
use super::view::TargetState;
use service_kit::health::{Health, Outcome, Verdict};
use std::collections::HashMap;

/// A target that is not heard of for this many of its intervals is unknown: its prober must have died.
const SILENT_INTERVALS_MAX: u32 = 10;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub outcome: Outcome,
    /// For people: "status 500", "connection refused".
    pub reason: String,
}

/// The targets of one plan.
#[derive(Debug, Default)]
pub struct Table {
    entries: HashMap<Target, Entry>,
}

#[derive(Debug)]
struct Entry {
    health: Health,
    state: TargetState,
    heard_unix_ms: u64,
}

/// A verdict that is another one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub before: Verdict,
    pub now: Verdict,
    /// How many looks in a row said so.
    pub looks: u32,
    pub reason: String,
}

impl Table {
    /// Forgets targets that are not in the plan; those that are new are unknown. Returns them.
    pub fn follow(&mut self, plan: &Plan, now_unix_ms: u64) -> Vec<Target> {
        self.entries.retain(|target, _| plan.targets.contains(target));
        let new: Vec<Target> =
            plan.targets.iter().filter(|target| !self.entries.contains_key(*target)).cloned().collect();
        for target in &new {
            let entry = Entry {
                health: Health::new(),
                state: TargetState::unknown(now_unix_ms),
                heard_unix_ms: now_unix_ms,
            };
            self.entries.insert(target.clone(), entry);
        }
        new
    }

    /// Records one look; returns the change that it made.
    pub fn observe(&mut self, target: &Target, look: Look, now_unix_ms: u64) -> Option<Change> {
        // Forgotten meanwhile: its prober was still at it.
        let entry = self.entries.get_mut(target)?;
        entry.heard_unix_ms = now_unix_ms;
        entry.state.looks += 1;
        if look.outcome == Outcome::Bad {
            entry.state.last_error = Some((look.reason.clone(), now_unix_ms));
        }
        entry.state.last.clone_from(&look.reason);
        let thresholds = target.check.thresholds;
        let before = entry.health.verdict();
        let now = entry.health.observe(look.outcome, thresholds)?;
        entry.turn(now, now_unix_ms);
        let looks = match (before, now) {
            (_, Verdict::Down) => thresholds.fall,
            (Verdict::Down, Verdict::Up) => thresholds.rise,
            _ => 1,
        };
        Some(Change { before, now, looks, reason: look.reason })
    }

    /// Targets that nobody has heard of for too long become unknown; returns them.
    pub fn age(&mut self, now_unix_ms: u64) -> Vec<Target> {
        let mut aged = Vec::new();
        for (target, entry) in &mut self.entries {
            let limit = (target.check.interval + target.check.timeout) * SILENT_INTERVALS_MAX;
            let silent_ms = now_unix_ms.saturating_sub(entry.heard_unix_ms);
            let is_watched = target.check.mode != super::plan::Mode::Off;
            if is_watched
                && u128::from(silent_ms) > limit.as_millis()
                && entry.state.verdict != Verdict::Unknown
            {
                entry.health = Health::new();
                entry.turn(Verdict::Unknown, now_unix_ms);
                entry.state.last = format!("nothing was heard of its checks for {silent_ms} ms");
                aged.push(target.clone());
            }
        }
        aged
    }

    /// Whether it should be looked at more often.
    pub fn is_urgent(&self, target: &Target) -> bool {
        self.entries
            .get(target)
            .is_some_and(|entry| entry.health.verdict() == Verdict::Unknown || entry.health.streak() > 0)
    }

    /// The states in the order of the plan.
    pub fn states(&self, plan: &Plan) -> Vec<TargetState> {
        let state = |target: &Target| {
            let entry = self.entries.get(target);
            entry.map_or_else(|| TargetState::unknown(0), |entry| entry.state.clone())
        };
        plan.targets.iter().map(state).collect()
    }
}

impl Entry {
    fn turn(&mut self, verdict: Verdict, now_unix_ms: u64) {
        self.state.verdict = verdict;
        self.state.since_unix_ms = now_unix_ms;
    }
}
