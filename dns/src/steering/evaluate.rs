//! From a question to addresses: one walk down the tree of choices. Answers, snapshots and explanations all come from
//! [`decide`], so an explanation cannot say anything else than what was done. No sockets, no clock.

use super::plan::{AllDown, ChoiceId, Family, Kind, NetworkMap, Plan, Pool, TargetId};
use super::view::{Force, View};
use std::net::IpAddr;

/// Who asks, as far as a network map cares: the address of the client that a resolver tells of (RFC 7871), or else the
/// address that the question came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub answer: Answer,
    /// Nothing that was chosen from is healthy enough.
    pub failed: bool,
    /// Something below the choice is down: whoever asks should ask again soon.
    pub impaired: bool,
    /// How many bits of the client's address the decision rests on.
    pub scope: u8,
}

/// What to answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// In the order of the plan, or of the draw where weights count; none: there is no such data.
    Targets(Vec<TargetId>),
    ServFail,
}

/// One step of a decision, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub choice: ChoiceId,
    pub says: String,
}

/// Where steps are noted; answering notes none, and then none is even worded.
#[derive(Debug, Default)]
pub struct Notes(Option<Vec<Step>>);

impl Notes {
    /// Forgets everything.
    pub fn off() -> Notes {
        Notes(None)
    }

    /// Keeps every step.
    pub fn on() -> Notes {
        Notes(Some(Vec::new()))
    }

    /// The steps in the order in which they were taken.
    pub fn steps(self) -> Vec<Step> {
        self.0.unwrap_or_default()
    }

    fn note(&mut self, choice: ChoiceId, says: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.0 {
            steps.push(Step { choice, says: says() });
        }
    }
}

/// Decides for one question. `random(n)` gives a uniform number below `n`.
pub fn decide(
    plan: &Plan,
    view: &View,
    choice: ChoiceId,
    (family, client): (Family, Option<Client>),
    random: &mut impl FnMut(u64) -> u64,
    notes: &mut Notes,
) -> Decision {
    let mut walk = Walk { plan, view, family, client, random, notes, scope: 0 };
    let Chosen { answer, failed } = walk.choose(choice);
    let impaired = plan.below(choice).into_iter().any(|target| !view.is_usable(plan, target));
    let impaired = impaired || walk.forced_down_below(choice);
    Decision { answer, failed, impaired, scope: walk.scope }
}

/// Whether a choice has anything healthy of a family to give, whoever asks: what an operator must not take away by mistake.
pub fn is_sound(plan: &Plan, view: &View, choice: ChoiceId, family: Family) -> bool {
    if view.forced(choice) == Some(Force::Down) {
        return false;
    }
    let any = |choices: &[ChoiceId]| choices.iter().any(|child| is_sound(plan, view, *child, family));
    match &plan.choices[choice].kind {
        Kind::Pool(pool) => {
            let (_, judged) = members(plan, pool, family);
            let forced_up = view.forced(choice) == Some(Force::Up);
            let up = judged.iter().filter(|id| view.is_usable_in(plan, **id, forced_up)).count();
            is_enough(up, judged.len(), pool)
        }
        Kind::Failover(order) => any(order),
        Kind::Weighted(weights) => any(&weights.iter().map(|(child, _)| *child).collect::<Vec<_>>()),
        Kind::Networks(map) => {
            let default = any(&map.default);
            default || (!map.entries.is_empty() && map.entries.iter().all(|(_, choices)| any(choices)))
        }
    }
}

/// The members of one family, and those by which the pool is judged for it: all, where it has none of this one. A data
/// centre without IPv6 has not failed for IPv6.
fn members(plan: &Plan, pool: &Pool, family: Family) -> (Vec<TargetId>, Vec<TargetId>) {
    let all: Vec<TargetId> = pool.members.iter().map(|member| member.target).collect();
    let ours: Vec<TargetId> = all.iter().copied().filter(|id| plan.family(*id) == family).collect();
    let judged = if ours.is_empty() { all } else { ours.clone() };
    (ours, judged)
}

fn is_enough(up: usize, of: usize, pool: &Pool) -> bool {
    up > 0 && up * 100 >= usize::from(pool.up_percent_min) * of
}

struct Chosen {
    answer: Answer,
    failed: bool,
}

struct Walk<'a, R> {
    plan: &'a Plan,
    view: &'a View,
    family: Family,
    client: Option<Client>,
    random: &'a mut R,
    notes: &'a mut Notes,
    scope: u8,
}

impl<R: FnMut(u64) -> u64> Walk<'_, R> {
    fn choose(&mut self, choice: ChoiceId) -> Chosen {
        let plan = self.plan;
        if self.view.forced(choice) == Some(Force::Down) {
            self.notes.note(choice, || "forced down by an operator".into());
            return self.out(choice);
        }
        match &plan.choices[choice].kind {
            Kind::Pool(pool) => self.pool(choice, pool),
            Kind::Failover(order) => {
                self.notes.note(choice, || format!("the first of {}", self.plan.names_of(order)));
                self.first(choice, order)
            }
            Kind::Weighted(weights) => self.weighted(choice, weights),
            Kind::Networks(map) => self.networks(choice, map),
        }
    }

    /// Taken out by an operator as a whole: nobody of it, but what it falls back to is still there.
    fn out(&mut self, choice: ChoiceId) -> Chosen {
        match &self.plan.choices[choice].kind {
            Kind::Pool(pool) => self.fail(choice, pool, Vec::new()),
            _ => Chosen { answer: Answer::Targets(Vec::new()), failed: true },
        }
    }

    fn pool(&mut self, choice: ChoiceId, pool: &Pool) -> Chosen {
        let (plan, view) = (self.plan, self.view);
        let forced_up = view.forced(choice) == Some(Force::Up);
        let (ours, judged) = members(plan, pool, self.family);
        let usable = |targets: &[TargetId]| -> Vec<TargetId> {
            targets.iter().copied().filter(|id| view.is_usable_in(plan, *id, forced_up)).collect()
        };
        let up = usable(&judged);
        let enough = is_enough(up.len(), judged.len(), pool);
        self.notes.note(choice, || {
            let by = if forced_up { ", forced up by an operator" } else { "" };
            let wanted = match pool.up_percent_min {
                0 => "at least one must be".into(),
                percent => format!("at least {percent} % must be"),
            };
            format!("{} of {} up{by}; {wanted}", up.len(), judged.len())
        });
        if !enough {
            let allowed = ours.into_iter().filter(|id| view.target_force(plan, *id) != Some(Force::Down));
            return self.fail(choice, pool, allowed.collect());
        }
        let serving = usable(&ours);
        let targets = self.draw(choice, pool, serving);
        Chosen { answer: Answer::Targets(targets), failed: false }
    }

    fn fail(&mut self, choice: ChoiceId, pool: &Pool, allowed: Vec<TargetId>) -> Chosen {
        let policy = pool.all_down.as_str();
        self.notes.note(choice, || format!("too few are up: {policy}"));
        let answer = match pool.all_down {
            AllDown::ServeAll => Answer::Targets(self.draw(choice, pool, allowed)),
            AllDown::Empty => Answer::Targets(Vec::new()),
            AllDown::ServFail => Answer::ServFail,
            AllDown::Fallback(other) => self.choose(other).answer,
        };
        Chosen { answer, failed: true }
    }

    /// As many as one answer may have, drawn by weight without putting back.
    fn draw(&mut self, choice: ChoiceId, pool: &Pool, mut from: Vec<TargetId>) -> Vec<TargetId> {
        let weight = |target: TargetId| {
            let member = pool.members.iter().find(|member| member.target == target);
            u64::from(member.map_or(0, |member| member.weight))
        };
        let even = pool.members.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let most = if pool.answers_max == 0 { from.len() } else { pool.answers_max };
        if even && most >= from.len() {
            return from;
        }
        let many = from.len();
        let mut drawn = Vec::with_capacity(most);
        while drawn.len() < most {
            let total: u64 = from.iter().map(|id| weight(*id)).sum();
            if total == 0 {
                break;
            }
            let mut turn = (self.random)(total);
            let at = from.iter().position(|id| match turn.checked_sub(weight(*id)) {
                Some(left) => {
                    turn = left;
                    false
                }
                None => true,
            });
            drawn.push(from.remove(at.expect("the turn is below the total")));
        }
        self.notes.note(choice, || format!("{} of {many} drawn by weight", drawn.len()));
        drawn
    }

    /// The first that has not failed; when all have, the first that has anything to say.
    fn first(&mut self, choice: ChoiceId, order: &[ChoiceId]) -> Chosen {
        let mut last_resort: Option<(ChoiceId, Chosen)> = None;
        for child in order {
            let chosen = self.choose(*child);
            if !chosen.failed {
                self.notes.note(choice, || format!("takes {}", self.plan.choices[*child].name));
                return chosen;
            }
            let says_nothing = |chosen: &Chosen| chosen.answer == Answer::Targets(Vec::new());
            if last_resort.as_ref().is_none_or(|(_, kept)| says_nothing(kept)) {
                last_resort = Some((*child, chosen));
            }
        }
        match last_resort {
            Some((child, chosen)) => {
                let name = &self.plan.choices[child].name;
                self.notes.note(choice, || format!("all have failed: what {name} says is all there is"));
                chosen
            }
            None => Chosen { answer: Answer::Targets(Vec::new()), failed: true },
        }
    }

    fn weighted(&mut self, choice: ChoiceId, weights: &[(ChoiceId, u32)]) -> Chosen {
        let mut healthy: Vec<(ChoiceId, u64, Chosen)> = Vec::new();
        for (child, weight) in weights.iter().filter(|(_, weight)| *weight > 0) {
            let chosen = self.choose(*child);
            if !chosen.failed {
                healthy.push((*child, u64::from(*weight), chosen));
            }
        }
        let total: u64 = healthy.iter().map(|(_, weight, _)| weight).sum();
        if total == 0 {
            let order: Vec<ChoiceId> = weights.iter().map(|(child, _)| *child).collect();
            return self.first(choice, &order);
        }
        let mut turn = (self.random)(total);
        for (child, weight, chosen) in healthy {
            match turn.checked_sub(weight) {
                Some(left) => turn = left,
                None => {
                    let name = &self.plan.choices[child].name;
                    self.notes.note(choice, || format!("takes {name}, with weight {weight} of {total}"));
                    return chosen;
                }
            }
        }
        unreachable!("the turn is below the total")
    }

    fn networks(&mut self, choice: ChoiceId, map: &NetworkMap) -> Chosen {
        let Some(Client { address }) = self.client else {
            self.notes.note(choice, || "the client is not known: default".into());
            return self.first(choice, &map.default);
        };
        let (entry, scope) = look_up(map, address);
        self.scope = self.scope.max(scope);
        let mut order: Vec<ChoiceId> = Vec::new();
        match entry {
            Some((network, choices)) => {
                self.notes
                    .note(choice, || format!("{address} is in {network}: {}", self.plan.names_of(choices)));
                order.extend(choices);
            }
            None => self.notes.note(choice, || {
                format!("{address} is in no network of the map: {}", self.plan.names_of(&map.default))
            }),
        }
        order.extend(map.default.iter().filter(|child| !order.contains(child)).copied().collect::<Vec<_>>());
        self.first(choice, &order)
    }

    fn forced_down_below(&self, choice: ChoiceId) -> bool {
        self.view.forced(choice) == Some(Force::Down)
            || self.plan.choices[choice]
                .kind
                .children()
                .into_iter()
                .any(|child| self.forced_down_below(child))
    }
}

/// The longest network that the address is in, and how many bits of the address it takes to know that (RFC 7871 section
/// 7.2.1): one more than are shared with any longer network that the address is not in.
fn look_up(map: &NetworkMap, address: IpAddr) -> (Option<(service_kit::Prefix, &Vec<ChoiceId>)>, u8) {
    let mut found: Option<(service_kit::Prefix, &Vec<ChoiceId>)> = None;
    let mut scope = 0;
    for (network, choices) in &map.entries {
        let Some(shared) = network.shared_bits(address) else { continue };
        if shared < network.bits() {
            scope = scope.max(shared + 1);
        } else if found.is_none_or(|(best, _)| best.bits() < network.bits()) {
            found = Some((*network, choices));
        }
    }
    (found, scope.max(found.map_or(0, |(network, _)| network.bits())))
}

impl Plan {
    fn family(&self, target: TargetId) -> Family {
        Family::of(self.targets[target].address)
    }

    fn names_of(&self, choices: &[ChoiceId]) -> String {
        choices.iter().map(|choice| &*self.choices[*choice].name).collect::<Vec<_>>().join(", ")
    }
}
