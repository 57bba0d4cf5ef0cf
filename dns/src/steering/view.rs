//! How everything stands at one moment: what checks say of each target, and what operators want. Immutable, and always
//! for one plan.

use super::plan::{ChoiceId, Plan, TargetId};
use service_kit::health::Verdict;
use std::net::IpAddr;

/// What an operator wants of a choice or an address, whatever checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Force {
    Down,
    Up,
}

/// What is known of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetState {
    pub verdict: Verdict,
    /// When the verdict became what it is.
    pub since_unix_ms: u64,
    /// What the last look found, in words; empty before the first one.
    pub last: String,
    /// What the last look that went wrong found, and when.
    pub last_error: Option<(String, u64)>,
    /// Looks so far.
    pub looks: u64,
}

impl TargetState {
    /// Nobody has looked yet.
    pub fn unknown(now_unix_ms: u64) -> TargetState {
        TargetState {
            verdict: Verdict::Unknown,
            since_unix_ms: now_unix_ms,
            last: String::new(),
            last_error: None,
            looks: 0,
        }
    }
}

/// The state of every target and the wishes of operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// By [`TargetId`].
    pub targets: Vec<TargetState>,
    /// By [`ChoiceId`].
    pub choices: Vec<Option<Force>>,
    /// By address, for all of its targets.
    pub addresses: Vec<(IpAddr, Force)>,
}

impl View {
    pub fn forced(&self, choice: ChoiceId) -> Option<Force> {
        self.choices.get(choice).copied().flatten()
    }

    pub fn target_force(&self, plan: &Plan, target: TargetId) -> Option<Force> {
        let address = plan.targets[target].address;
        self.addresses.iter().find(|(forced, _)| *forced == address).map(|(_, force)| *force)
    }

    /// Whether a target may be answered with. What nobody has looked at yet may: a server that starts knows nothing.
    pub fn is_usable(&self, plan: &Plan, target: TargetId) -> bool {
        self.is_usable_in(plan, target, false)
    }

    /// The same in a pool that an operator may have forced up; the word about the address itself weighs more.
    pub fn is_usable_in(&self, plan: &Plan, target: TargetId, forced_up: bool) -> bool {
        match self.target_force(plan, target) {
            Some(force) => force == Force::Up,
            None => forced_up || self.targets.get(target).is_none_or(|state| state.verdict != Verdict::Down),
        }
    }

    /// `up`, `down`, `unknown`, `forced-up` or `forced-down`.
    pub fn word(&self, plan: &Plan, target: TargetId) -> &'static str {
        match (self.target_force(plan, target), self.targets.get(target).map(|state| state.verdict)) {
            (Some(Force::Down), _) => "forced-down",
            (Some(Force::Up), _) => "forced-up",
            (None, Some(Verdict::Down)) => "down",
            (None, Some(Verdict::Unknown) | None) => "unknown",
            (None, Some(_)) => "up",
        }
    }
}
