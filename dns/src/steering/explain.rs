//! Why a name answers what it answers, for people and for programs that watch. Made by the very function that answers
//! are made by.

use super::evaluate::{Answer, Client, Notes, Step};
use super::plan::{Family, Plan, Steered, TargetId};
use super::{Force, Steering, decide};
use crate::wire::Name;
use serde::Serialize;
use std::net::IpAddr;

/// One answer, explained.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    pub name: String,
    #[serde(rename = "type")]
    pub record_type: String,
    /// The client that was explained for; the one that asked unless another was given.
    pub from: Option<IpAddr>,
    /// The whole in a sentence.
    pub summary: String,
    /// The choice that the name is steered by.
    pub choice: String,
    pub rcode: &'static str,
    pub addresses: Vec<IpAddr>,
    pub ttl_s: u32,
    /// Nothing healthy was there to choose from.
    pub failed: bool,
    /// How many bits of the client's address it rests on.
    pub scope_bits: u8,
    /// What was decided on the way, in order.
    pub steps: Vec<Decided>,
    pub targets: Vec<TargetReport>,
    pub orders: Vec<Ordered>,
    /// What it answered with before, the latest first, and for how long somebody may still go by that.
    pub changes: Vec<Changed>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Decided {
    pub choice: String,
    pub kind: &'static str,
    pub says: String,
}

/// How one target stands.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    pub address: IpAddr,
    /// What is looked at: `http://192.0.2.1:80/readyz`.
    pub check: String,
    /// `up`, `down`, `unknown`, `forced-up` or `forced-down`.
    pub state: &'static str,
    /// For how long checks have said the same.
    pub for_s: u64,
    pub looks: u64,
    pub last: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_s_ago: Option<u64>,
}

/// An order in force that touches the name.
#[derive(Debug, Clone, Serialize)]
pub struct Ordered {
    pub subject: String,
    pub force: Force,
    pub by: String,
    pub for_s: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    pub s_ago: u64,
    pub before: Vec<IpAddr>,
    pub after: Vec<IpAddr>,
    /// Seconds until no cache that honours TTLs has the old answer any more; 0: nobody has.
    pub may_be_held_s: u64,
}

impl Steering {
    /// Explains what this client would be answered now. `None`: nothing steers this name for this family.
    pub fn explain(
        &self,
        name: &Name,
        (family, client): (Family, Option<Client>),
        now_unix_ms: u64,
        random: &mut impl FnMut(u64) -> u64,
    ) -> Option<Explanation> {
        let index = self.plan.name(name)?;
        let steered = &self.plan.names[index];
        let zone_ttl = self.history.offer(index, family)?.zone_ttl;
        let mut notes = Notes::on();
        let plan = &*self.plan;
        let decision = decide(plan, &self.view, steered.choice, (family, client), random, &mut notes);
        let (rcode, addresses) = match &decision.answer {
            Answer::Targets(targets) => ("NOERROR", self.addresses(targets)),
            Answer::ServFail => ("SERVFAIL", Vec::new()),
        };
        let below = plan.below(steered.choice);
        let mut explanation = Explanation {
            name: steered.name.to_string(),
            record_type: family.record_type().to_string(),
            from: client.map(|client| client.address),
            summary: String::new(),
            choice: plan.choices[steered.choice].name.to_string(),
            rcode,
            addresses,
            ttl_s: Steering::ttl(steered, zone_ttl, &decision),
            failed: decision.failed,
            scope_bits: decision.scope,
            steps: notes.steps().into_iter().map(|step| decided(plan, step)).collect(),
            targets: below.into_iter().map(|id| self.target_report(id, now_unix_ms)).collect(),
            orders: self.orders_below(steered, now_unix_ms),
            changes: self.changes(index, family, now_unix_ms),
        };
        explanation.summary = explanation.sentence();
        Some(explanation)
    }

    /// How one target stands.
    pub fn target_report(&self, target: TargetId, now_unix_ms: u64) -> TargetReport {
        let state = &self.view.targets[target];
        let ago = |then: u64| now_unix_ms.saturating_sub(then) / 1_000;
        TargetReport {
            address: self.plan.targets[target].address,
            check: self.plan.targets[target].to_string(),
            state: self.view.word(&self.plan, target),
            for_s: ago(state.since_unix_ms),
            looks: state.looks,
            last: state.last.clone(),
            last_error: state.last_error.as_ref().map(|(error, _)| error.clone()),
            last_error_s_ago: state.last_error.as_ref().map(|(_, then)| ago(*then)),
        }
    }

    /// Every order in force.
    pub fn orders_report(&self, now_unix_ms: u64) -> Vec<Ordered> {
        let report = |order: &super::orders::Order| Ordered {
            subject: order.subject.clone(),
            force: order.force,
            by: order.by.clone(),
            for_s: now_unix_ms.saturating_sub(order.since_unix_ms) / 1_000,
        };
        self.orders.iter().map(report).collect()
    }

    fn orders_below(&self, steered: &Steered, now_unix_ms: u64) -> Vec<Ordered> {
        let below = self.plan.below(steered.choice);
        let choices = self.plan.choices_below(steered.choice);
        let touches = |ordered: &Ordered| match self.plan.choice(&ordered.subject) {
            Some(choice) => choices.contains(&choice),
            None => {
                let address = ordered.subject.parse::<IpAddr>().ok();
                below.iter().any(|id| Some(self.plan.targets[*id].address) == address)
            }
        };
        self.orders_report(now_unix_ms).into_iter().filter(touches).collect()
    }

    fn changes(&self, index: usize, family: Family, now_unix_ms: u64) -> Vec<Changed> {
        let report = |change: &super::history::Change| Changed {
            s_ago: now_unix_ms.saturating_sub(change.at_unix_ms) / 1_000,
            before: change.before.addresses.clone(),
            after: change.after.clone(),
            may_be_held_s: change.held_until_unix_ms.saturating_sub(now_unix_ms).div_ceil(1_000),
        };
        self.history.changes(index, family).map(report).collect()
    }
}

fn decided(plan: &Plan, step: Step) -> Decided {
    let choice = &plan.choices[step.choice];
    Decided { choice: choice.name.to_string(), kind: choice.kind.as_str(), says: step.says }
}

impl Explanation {
    fn sentence(&self) -> String {
        let Explanation { name, record_type, choice, ttl_s, .. } = self;
        let addresses = self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let gets = match (self.rcode, addresses.is_empty()) {
            ("SERVFAIL", _) => "is answered with SERVFAIL".to_string(),
            (_, true) => "has no such data".to_string(),
            (_, false) => format!("is {addresses} for {ttl_s} s"),
        };
        let failed = if self.failed { "; too few of it are healthy" } else { "" };
        format!("{name} {record_type} {gets}, by {choice}{failed}")
    }

    /// The same in lines, each short enough for a string of a TXT record.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.summary.clone()];
        lines.extend(self.steps.iter().map(|step| format!("{} {}: {}", step.kind, step.choice, step.says)));
        lines.extend(self.targets.iter().map(|target| {
            let TargetReport { check, state, for_s, last, .. } = target;
            let last = if last.is_empty() { "not looked at yet" } else { last };
            format!("{check} {state} for {for_s} s: {last}")
        }));
        lines.extend(self.orders.iter().map(|order| {
            let force = if order.force == Force::Down { "down" } else { "up" };
            format!("{} forced {force} by {} for {} s", order.subject, order.by, order.for_s)
        }));
        lines.extend(self.changes.iter().filter(|change| change.may_be_held_s > 0).map(|change| {
            let before = change.before.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            format!("until {} s ago: {before}; may be held for {} s more", change.s_ago, change.may_be_held_s)
        }));
        lines.iter_mut().for_each(shorten);
        lines
    }
}

/// To the 255 octets that a string of a TXT record has (RFC 1035 section 3.3).
fn shorten(line: &mut String) {
    let mut end = line.len().min(255);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
}
