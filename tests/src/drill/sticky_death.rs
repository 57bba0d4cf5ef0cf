//! sticky-death: what sticky cookies are worth when the server behind them dies (C7, C8).
//!
//! Given sessions in each app's memory, balancers that keep a visitor on one app by a sealed cookie, and visitors who stored
//! a plan, when one of three apps is killed under load, then until the kill every plan was there; after it exactly the plans
//! of the dead app are lost and nobody else's. With the shared store behind the same cookies none is. The control takes the
//! cookies away: plans are out of reach before anything died.

use std::time::Duration;

use anyhow::Result;

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Bar, Chart, Counts, Group, Run, Seconds, Story};
use super::{Settings, facts, on_the_name, visitors};
use crate::load::{self, ClientKind, Report};
use crate::stack::Stack;
use crate::topology::{Sessions, Sticky, Topology};

pub(super) const NAMED: Named = Named {
    name: "sticky-death",
    claim: "sticky cookies keep sessions that live in an app's memory until the app dies: then its own are lost, and only those (C8)",
    protection: "stickiness (sessions in memory, any app answers)",
};

const RATE_PER_S: f64 = 100.0;

/// Plans in one combination of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plans {
    /// Stored by the app that was killed.
    of_victim: u64,
    /// Stored by the others.
    of_others: u64,
    /// Out of reach while every app still lived.
    lost_before: u64,
    /// Of the victim's, lost after the kill.
    lost_of_victim: u64,
    /// Of the others', lost after the kill.
    lost_of_others: u64,
}

struct Measured {
    title: &'static str,
    plans: Plans,
    load: Report,
    killed_at: Duration,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).sessions(Sessions::Memory).sticky(Sticky::On).start().await?;
    let mut measured = Vec::new();
    for (title, sessions, sticky) in [
        ("in memory, sticky", Sessions::Memory, Sticky::On),
        ("in memory, not sticky", Sessions::Memory, Sticky::Off),
        ("shared store, sticky", Sessions::Redis, Sticky::On),
    ] {
        stack.with(Topology { sessions, sticky, ..stack.platform().topology() }).await?;
        measured.push(measure(&stack, settings, title).await?);
        stack.heal().await?;
    }
    Ok(story(settings, &stack, &measured[0], &measured[1], &measured[2]))
}

async fn measure(stack: &Stack, settings: Settings, title: &'static str) -> Result<Measured> {
    let (plans, seconds) = if settings.short { (60, 4) } else { (300, 20) };
    let planners = visitors::planners(stack, plans).await?;
    let duration = Duration::from_secs(seconds);
    let load = load::start(on_the_name(stack, ClientKind::Retrying, RATE_PER_S, duration))?;
    let lost_before = visitors::losses(&planners).await;
    tokio::time::sleep((duration / 3).saturating_sub(load.elapsed())).await;
    let killed_at = load.elapsed();
    let victim = 1 + u8::try_from(settings.seed % 3).unwrap_or(0);
    let victim = stack.app(victim);
    victim.kill().await?;
    let load = load.finish().await;
    let (his, others): (Vec<_>, Vec<_>) = planners.iter().partition(|it| it.app == victim.name());
    let plans = Plans {
        of_victim: his.len() as u64,
        of_others: others.len() as u64,
        lost_before,
        lost_of_victim: visitors::losses(his).await,
        lost_of_others: visitors::losses(others).await,
    };
    Ok(Measured { title, plans, load, killed_at })
}

fn judge(memory: Plans, not_sticky: Plans, shared: Plans, failed: u64) -> Judgement {
    if memory.of_victim == 0 || memory.of_others == 0 {
        return Judgement::not_measurable();
    }
    let demands = [
        memory.lost_before == 0,
        memory.lost_of_victim == memory.of_victim,
        memory.lost_of_others == 0,
        shared.lost_of_victim + shared.lost_of_others == 0,
        failed == 0,
    ];
    Judgement::of(&demands, not_sticky.lost_before > 0)
}

fn story(
    settings: Settings,
    stack: &Stack,
    memory: &Measured,
    not_sticky: &Measured,
    shared: &Measured,
) -> Story {
    let all = [memory, not_sticky, shared];
    let counts = |it: &Measured| Counts {
        lost: it.plans.lost_of_victim + it.plans.lost_of_others,
        ..Counts::from(&it.load)
    };
    let judgement = judge(memory.plans, not_sticky.plans, shared.plans, counts(memory).failed);
    let evidence = Evidence {
        reason: format!(
            "sticky, in memory: before the kill {} of {} plans were out of reach; after it {} of the dead app's {} and {} of \
             the others' {}; behind the shared store {}; not sticky, in memory: {} of {} before anything died",
            memory.plans.lost_before,
            memory.plans.of_victim + memory.plans.of_others,
            memory.plans.lost_of_victim,
            memory.plans.of_victim,
            memory.plans.lost_of_others,
            memory.plans.of_others,
            counts(shared).lost,
            not_sticky.plans.lost_before,
            not_sticky.plans.of_victim + not_sticky.plans.of_others,
        ),
        counts: counts(memory),
        seconds: Seconds::default(),
        control_counts: counts(not_sticky),
    };
    Story {
        result: judgement.result(&NAMED, settings, evidence),
        hypothesis: "Visitors store a plan each and ask for it; then one of three apps is killed under load, and every visitor asks \
                     again, by the balancer and the cookies that they have."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart(&all)],
        runs: all.map(run_of).into(),
    }
}

fn chart(all: &[&Measured]) -> Chart {
    let percent = |lost: u64, of: u64| 100.0 * lost as f64 / of.max(1) as f64;
    let group = |it: &&Measured| {
        let plans = it.plans;
        let bars = vec![
            Bar::new("all, before the kill", percent(plans.lost_before, plans.of_victim + plans.of_others)),
            Bar::new("the dead app's, after it", percent(plans.lost_of_victim, plans.of_victim)).marked(),
            Bar::new("the other apps', after it", percent(plans.lost_of_others, plans.of_others)),
        ];
        Group { title: it.title.into(), bars }
    };
    let groups = all.iter().map(group).collect();
    Chart { title: "plans that were not found".into(), unit: "%", reference: None, groups }
}

fn run_of(measured: &Measured) -> Run {
    let from_s = measured.killed_at.as_secs_f64();
    let band = Band { from_s, to_s: measured.load.seconds, label: "one app of three is dead".into() };
    Run { title: measured.title.into(), load: measured.load.clone(), bands: vec![band], events: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    const MEMORY: Plans =
        Plans { of_victim: 20, of_others: 40, lost_before: 0, lost_of_victim: 20, lost_of_others: 0 };
    const NOT_STICKY: Plans = Plans { lost_before: 40, lost_of_victim: 20, lost_of_others: 30, ..MEMORY };
    const SHARED: Plans = Plans { lost_of_victim: 0, ..MEMORY };

    #[track_caller]
    fn check(memory: Plans, not_sticky: Plans, shared: Plans, failed: u64, verdict: Verdict, caught: bool) {
        assert_eq!(judge(memory, not_sticky, shared, failed), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_exactly_the_dead_apps_plans_are_lost() {
        check(MEMORY, NOT_STICKY, SHARED, 0, Verdict::Holds, true);
    }

    #[test]
    fn refuted_by_any_other_loss() {
        check(Plans { lost_before: 1, ..MEMORY }, NOT_STICKY, SHARED, 0, Verdict::Refuted, true);
        check(Plans { lost_of_others: 1, ..MEMORY }, NOT_STICKY, SHARED, 0, Verdict::Refuted, true);
        check(Plans { lost_of_victim: 19, ..MEMORY }, NOT_STICKY, SHARED, 0, Verdict::Refuted, true);
        check(MEMORY, NOT_STICKY, Plans { lost_of_victim: 1, ..SHARED }, 0, Verdict::Refuted, true);
        check(MEMORY, NOT_STICKY, SHARED, 1, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_nothing_was_out_of_reach() {
        check(MEMORY, Plans { lost_before: 0, ..NOT_STICKY }, SHARED, 0, Verdict::Holds, false);
    }

    #[test]
    fn not_measurable_when_nobody_was_on_the_victim() {
        let nobody = Plans { of_victim: 0, lost_of_victim: 0, ..MEMORY };
        check(nobody, NOT_STICKY, SHARED, 0, Verdict::NotMeasurable, false);
    }
}
