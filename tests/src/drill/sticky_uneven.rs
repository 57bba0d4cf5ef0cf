//! sticky-uneven: the price of stickiness is uneven load (C8, C2).
//!
//! Given visitors with a session in one of two apps' memory, when two more apps are added, then sticky balancers keep the old
//! visitors, and their sessions, on the old apps: only newcomers reach the new ones, and the busiest app carries well above
//! its fair part. Without stickiness, which is the control, the same load is even within seconds, and the sessions are out
//! of reach.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::answers::{Answer, Answers, Shares, shares};
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Event, Group, Reference, Run, Seconds, Story};
use super::{Settings, facts, on_the_name, visitors};
use crate::eventually::attempt;
use crate::load::{self, ClientKind, Report};
use crate::stack::Stack;
use crate::topology::{Sessions, Sticky, Topology};

pub(super) const NAMED: Named = Named {
    name: "sticky-uneven",
    claim: "sticky visitors stay on the old apps, so that the load stays uneven after scaling out (C8, C2)",
    protection: "stickiness (sessions in memory, any app answers: even, and out of reach)",
};

const APPS_BEFORE: u8 = 2;
const APPS_AFTER: u8 = 4;
/// Two requests of visitors who were there before for one of a newcomer.
const OLD_PER_S: f64 = 160.0;
const NEW_PER_S: f64 = 80.0;
const VISITORS: usize = 64;
/// The busiest app over its fair part: from here on uneven, and until here even.
const UNEVEN: f64 = 1.3;
const EVEN: f64 = 1.15;
/// Until each new app has answered somebody.
const JOIN_DEADLINE: Duration = Duration::from_secs(20);

/// Who carried what, once every app took part.
#[derive(Debug, Clone)]
struct Figures {
    old_visitors: Shares,
    newcomers: Shares,
    all: Shares,
    plans: u64,
    lost: u64,
    failed: u64,
}

struct Measured {
    sticky: Sticky,
    figures: Figures,
    old_load: Report,
    new_load: Report,
    scaled_at: Duration,
    joined_at: Duration,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let builder = Stack::on(settings.place).apps(APPS_BEFORE).sessions(Sessions::Memory);
    let stack = builder.sticky(Sticky::On).start().await?;
    let mut measured = Vec::new();
    for sticky in [Sticky::On, Sticky::Off] {
        stack.with(Topology { sticky, apps: APPS_BEFORE, ..stack.platform().topology() }).await?;
        measured.push(measure(&stack, settings, sticky).await?);
    }
    Ok(story(settings, &stack, &measured[0], &measured[1]))
}

async fn measure(stack: &Stack, settings: Settings, sticky: Sticky) -> Result<Measured> {
    let (plans, window_s) = if settings.short { (60, 4) } else { (300, 30) };
    let planners = visitors::planners(stack, plans).await?;
    let (old, new) = (Answers::default(), Answers::default());
    let (see_old, see_new) = (old.clone(), new.clone());
    let longest = JOIN_DEADLINE + Duration::from_secs(window_s);
    let plan = |rate| on_the_name(stack, ClientKind::Retrying, rate, longest);
    let old_load =
        load::start(plan(OLD_PER_S).users(VISITORS, true).observe(move |observed| see_old.note(observed)))?;
    // Everybody has a cookie before anything changes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let scaled_at = old_load.elapsed();
    stack.scale_apps(APPS_AFTER).await?;
    let new_load =
        load::start(plan(NEW_PER_S).users(1, false).observe(move |observed| see_new.note(observed)))?;
    let behind = old_load.elapsed().saturating_sub(new_load.elapsed());
    attempt("an answer of every app", JOIN_DEADLINE, async || {
        ensure!(new.apps() == usize::from(APPS_AFTER), "newcomers were answered by {} apps", new.apps());
        Ok(())
    })
    .await?;
    let joined_at = old_load.elapsed();
    tokio::time::sleep(Duration::from_secs(window_s)).await;
    old_load.stop();
    new_load.stop();
    let (old_load, new_load) = (old_load.finish().await, new_load.finish().await);
    let since = |answers: Vec<Answer>, from: Duration| -> Vec<Answer> {
        answers.into_iter().filter(|it| it.due >= from).collect()
    };
    let old = since(old.take(), joined_at);
    let new = since(new.take(), joined_at.saturating_sub(behind));
    let figures = Figures {
        old_visitors: shares(&old),
        newcomers: shares(&new),
        all: shares(old.iter().chain(&new)),
        plans: plans as u64,
        lost: visitors::losses(&planners).await,
        failed: Counts::from(&old_load).failed + Counts::from(&new_load).failed,
    };
    Ok(Measured { sticky, figures, old_load, new_load, scaled_at, joined_at })
}

fn judge(sticky: &Figures, free: &Figures) -> Judgement {
    let demands = [sticky.all.unevenness(APPS_AFTER) >= UNEVEN, sticky.lost == 0, sticky.failed == 0];
    Judgement::of(&demands, free.all.unevenness(APPS_AFTER) <= EVEN && free.lost > 0)
}

fn story(settings: Settings, stack: &Stack, sticky: &Measured, free: &Measured) -> Story {
    let times = |it: &Measured| it.figures.all.unevenness(APPS_AFTER);
    let counts = |it: &Measured| Counts {
        attempted: it.old_load.attempted + it.new_load.attempted,
        acknowledged: it.old_load.ok + it.new_load.ok,
        lost: it.figures.lost,
        failed: it.figures.failed,
        ..Counts::default()
    };
    let evidence = Evidence {
        reason: format!(
            "after {APPS_BEFORE} apps became {APPS_AFTER}, the busiest carries {:.2} times its fair part with stickiness and \
             {:.2} times without; the plans in the apps' memory: {} of {} lost with it, {} of {} without",
            times(sticky),
            times(free),
            sticky.figures.lost,
            sticky.figures.plans,
            free.figures.lost,
            free.figures.plans,
        ),
        counts: counts(sticky),
        seconds: Seconds {
            detect: Some(sticky.joined_at.saturating_sub(sticky.scaled_at).as_secs_f64()),
            ..Seconds::default()
        },
        control_counts: counts(free),
    };
    Story {
        result: judge(&sticky.figures, &free.figures).result(&NAMED, settings, evidence),
        hypothesis: "Visitors with cookies load two apps; two more are added, and newcomers without cookies arrive. Once every app \
                     takes part, who answers whom is counted, and those who stored a plan before look for it."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart(sticky), chart(free)],
        runs: [sticky, free].map(run_of).into(),
    }
}

fn word(sticky: Sticky) -> &'static str {
    if sticky == Sticky::Off { "not sticky" } else { "sticky" }
}

fn chart(measured: &Measured) -> Chart {
    let figures = &measured.figures;
    let group = |title: &str, shares: &Shares| Group {
        title: title.into(),
        bars: figures.all.0.keys().map(|app| Bar::new(app, 100.0 * shares.of(app))).collect(),
    };
    Chart {
        title: format!("{}: share of the requests once all apps take part", word(measured.sticky)),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(APPS_AFTER), label: "fair".into() }),
        groups: vec![
            group("of visitors from before", &figures.old_visitors),
            group("of newcomers", &figures.newcomers),
            group("of all", &figures.all),
        ],
    }
}

fn run_of(measured: &Measured) -> Run {
    let event = |at: Duration, label: &str| Event { at_s: at.as_secs_f64(), label: label.into() };
    let events = vec![
        event(measured.scaled_at, "two more apps asked for"),
        event(measured.joined_at, "all take part"),
    ];
    let title = format!("{}: visitors from before", word(measured.sticky));
    Run { title, load: measured.old_load.clone(), bands: Vec::new(), events }
}

#[cfg(test)]
mod tests {
    use super::super::answers::tests::answers;
    use super::*;
    use crate::drill::report::Verdict;

    /// `all` as answers, and how many plans were lost and requests failed.
    fn figures((all, lost, failed): (&str, u64, u64)) -> Figures {
        let all = shares(&answers(all));
        Figures { old_visitors: all.clone(), newcomers: all.clone(), all, plans: 9, lost, failed }
    }

    const UNEVEN: &str = "a 1, a 1, b 1, b 1, c 1, d 1";
    const EVEN: &str = "a 1, b 1, c 1, d 1";

    #[track_caller]
    fn check(sticky: (&str, u64, u64), free: (&str, u64, u64), verdict: Verdict, caught: bool) {
        assert_eq!(judge(&figures(sticky), &figures(free)), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_sticky_is_uneven_and_keeps_every_plan() {
        check((UNEVEN, 0, 0), (EVEN, 7, 0), Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_sticky_is_even_or_loses_something() {
        check((EVEN, 0, 0), (EVEN, 7, 0), Verdict::Refuted, true);
        check((UNEVEN, 1, 0), (EVEN, 7, 0), Verdict::Refuted, true);
        check((UNEVEN, 0, 1), (EVEN, 7, 0), Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_it_is_uneven_too_or_loses_nothing() {
        check((UNEVEN, 0, 0), (UNEVEN, 7, 0), Verdict::Holds, false);
        check((UNEVEN, 0, 0), (EVEN, 0, 0), Verdict::Holds, false);
    }
}
