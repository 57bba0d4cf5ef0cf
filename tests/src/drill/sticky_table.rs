//! sticky-table: where a balancer keeps what it knows of its visitors decides what its death costs (C8).
//!
//! Given sessions in the apps' memory and visitors who came through the first of two balancers, when that balancer is killed
//! and its visitors go on through the other one, then a sealed cookie leads every one of them to his app, because any
//! balancer can read it. The control keeps the mapping in a table in the balancer: it dies with it, everybody is picked
//! anew, and who is sent elsewhere has lost the session.

use std::time::Duration;

use anyhow::Result;

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Bar, Chart, Counts, Group, Reference, Run, Seconds, Story};
use super::{Settings, facts, on_the_name, visitors};
use crate::load::{self, ClientKind, Report};
use crate::stack::Stack;
use crate::topology::{Sessions, Sticky, Topology};

pub(super) const NAMED: Named = Named {
    name: "sticky-table",
    claim: "a table in the balancer pins visitors until that balancer dies; a sealed cookie means the same to every balancer (C8)",
    protection: "the sealed cookie (a table in each balancer's memory)",
};

const APPS: u8 = 3;
const RATE_PER_S: f64 = 100.0;

/// Visitors of the balancer that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    visitors: u64,
    /// Sent away from their app while the balancer lived.
    moved_before: u64,
    /// Sent away from it by the other balancer.
    moved: u64,
    /// Whose plan was gone there.
    lost: u64,
    /// Sent to yet another app when they came again.
    restless: u64,
    failed: u64,
}

struct Measured {
    title: &'static str,
    figures: Figures,
    load: Report,
    killed_at: Duration,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack =
        Stack::on(settings.place).apps(APPS).sessions(Sessions::Memory).sticky(Sticky::On).start().await?;
    let mut measured = Vec::new();
    for (title, sticky) in [("sealed cookie", Sticky::On), ("table in the balancer", Sticky::Table)] {
        stack.with(Topology { sticky, ..stack.platform().topology() }).await?;
        measured.push(measure(&stack, settings, title).await?);
        stack.heal().await?;
    }
    Ok(story(settings, &stack, &measured[0], &measured[1]))
}

async fn measure(stack: &Stack, settings: Settings, title: &'static str) -> Result<Measured> {
    let (count, seconds) = if settings.short { (60, 5) } else { (300, 20) };
    let planners = visitors::planners_at(stack, count, |_| 1).await?;
    let mut figures =
        Figures { visitors: count as u64, moved_before: 0, moved: 0, lost: 0, restless: 0, failed: 0 };
    let load = on_the_name(stack, ClientKind::Retrying, RATE_PER_S, Duration::from_secs(seconds));
    let load = load::start(load)?;
    for planner in &planners {
        figures.moved_before += u64::from(planner.look().await.app != planner.app);
    }
    let killed_at = load.elapsed();
    stack.lb(1).kill().await?;
    for planner in &planners {
        let planner = planner.moved_to(stack, 2);
        let (first, again) = (planner.look().await, planner.look().await);
        figures.moved += u64::from(first.app != planner.app);
        figures.lost += u64::from(!first.plan);
        figures.restless += u64::from(first.app != again.app);
    }
    let load = load.finish().await;
    figures.failed = Counts::from(&load).failed;
    Ok(Measured { title, figures, load, killed_at })
}

fn judge(cookie: Figures, table: Figures) -> Judgement {
    let demands = [
        cookie.moved_before == 0,
        cookie.moved == 0,
        cookie.lost == 0,
        cookie.failed == 0,
        // The table works, too, as long as its balancer lives.
        table.moved_before == 0,
        table.restless == 0,
    ];
    Judgement::of(&demands, table.moved > 0 && table.lost == table.moved)
}

fn story(settings: Settings, stack: &Stack, cookie: &Measured, table: &Measured) -> Story {
    let counts = |it: &Measured| Counts { lost: it.figures.lost, ..Counts::from(&it.load) };
    let words = [cookie, table].map(|it| {
        let Figures { visitors, moved, lost, .. } = it.figures;
        format!(
            "{}: of {visitors} visitors {moved} were sent to another app and {lost} lost their plan",
            it.title
        )
    });
    let evidence = Evidence {
        reason: words.join("; "),
        counts: counts(cookie),
        seconds: Seconds::default(),
        control_counts: counts(table),
    };
    Story {
        result: judge(cookie.figures, table.figures).result(&NAMED, settings, evidence),
        hypothesis: "Visitors store a plan through the first of two balancers, with sessions in the apps' memory; that balancer is \
                     killed, and they go on through the other one with the cookies that they have."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart(&[cookie, table])],
        runs: [cookie, table].map(run_of).into(),
    }
}

fn chart(all: &[&Measured]) -> Chart {
    let group = |it: &&Measured| {
        let Figures { visitors, moved_before, moved, lost, .. } = it.figures;
        let percent = |count: u64| 100.0 * count as f64 / visitors.max(1) as f64;
        let bars = vec![
            Bar::new("sent elsewhere before the death", percent(moved_before)),
            Bar::new("sent elsewhere after it", percent(moved)),
            Bar::new("lost their plan", percent(lost)).marked(),
        ];
        Group { title: it.title.into(), bars }
    };
    let chance = 100.0 * f64::from(APPS - 1) / f64::from(APPS);
    Chart {
        title: "visitors of the balancer that was killed".into(),
        unit: "%",
        reference: Some(Reference { at: chance, label: "picked anew".into() }),
        groups: all.iter().map(group).collect(),
    }
}

fn run_of(measured: &Measured) -> Run {
    let from_s = measured.killed_at.as_secs_f64();
    let band = Band { from_s, to_s: measured.load.seconds, label: "one balancer of two is dead".into() };
    Run { title: measured.title.into(), load: measured.load.clone(), bands: vec![band], events: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    const COOKIE: Figures =
        Figures { visitors: 60, moved_before: 0, moved: 0, lost: 0, restless: 0, failed: 0 };
    const TABLE: Figures = Figures { moved: 41, lost: 41, ..COOKIE };

    #[track_caller]
    fn check(cookie: Figures, table: Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(cookie, table), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_the_cookie_leads_everybody_home() {
        check(COOKIE, TABLE, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_somebody_is_sent_elsewhere() {
        check(Figures { moved: 1, ..COOKIE }, TABLE, Verdict::Refuted, true);
        check(Figures { lost: 1, ..COOKIE }, TABLE, Verdict::Refuted, true);
        check(Figures { failed: 1, ..COOKIE }, TABLE, Verdict::Refuted, true);
        check(Figures { moved_before: 1, ..COOKIE }, TABLE, Verdict::Refuted, true);
    }

    #[test]
    fn refuted_when_a_living_table_pins_nobody() {
        check(COOKIE, Figures { moved_before: 1, ..TABLE }, Verdict::Refuted, true);
        check(COOKIE, Figures { restless: 1, ..TABLE }, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_the_table_survives() {
        check(COOKIE, Figures { moved: 0, lost: 0, ..TABLE }, Verdict::Holds, false);
        check(COOKIE, Figures { lost: 3, ..TABLE }, Verdict::Holds, false);
    }
}
