//! hybrid: a shared store for safety, stickiness on top of it for locality (C10).
//!
//! Given sessions in the shared store, apps that keep a copy of the sessions they saw last, and visitors who change their plan
//! now and then, when balancers are sticky, then nearly every load finds the latest copy in its app; and when an app is
//! killed, nobody loses anything, because the copy was never the session. The control takes the stickiness away: visitors
//! meet apps whose copies are old.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Bar, Chart, Counts, Group, Run, Seconds, Story};
use super::{Settings, facts, on_the_name, visitors};
use crate::load::{self, ClientKind, Mix, Report, RequestSpec};
use crate::stack::Stack;
use crate::topology::{Sticky, Topology};

pub(super) const NAMED: Named = Named {
    name: "hybrid",
    claim: "a shared store with stickiness on top has both: sessions near at hand, and none lost when an app dies (C10)",
    protection: "stickiness (the shared store alone)",
};

const APPS: u8 = 3;
const RATE_PER_S: f64 = 200.0;
const VISITORS: usize = 50;
/// One request in so many changes the visitor's plan, the others only look.
const CHANGE_EVERY: u64 = 4;
/// Sticky, at least this part of the loads finds the latest copy.
const NEAR: f64 = 0.9;
/// Without stickiness it is less by at least this.
const FARTHER: f64 = 0.2;
/// Loads that tell something.
const LOADS_MIN: u64 = 200;

/// What the apps counted, and what a death cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    hits: u64,
    misses: u64,
    plans: u64,
    lost: u64,
    failed: u64,
}

impl Figures {
    fn near(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

struct Measured {
    title: &'static str,
    figures: Figures,
    load: Report,
    /// While one app is dead.
    after: Report,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(APPS).sticky(Sticky::On).start().await?;
    let mut measured = Vec::new();
    for (title, sticky) in [("sticky", Sticky::On), ("not sticky", Sticky::Off)] {
        stack.with(Topology { sticky, ..stack.platform().topology() }).await?;
        measured.push(measure(&stack, settings, title).await?);
        stack.heal().await?;
    }
    Ok(story(settings, &stack, &measured[0], &measured[1]))
}

async fn measure(stack: &Stack, settings: Settings, title: &'static str) -> Result<Measured> {
    let (plans, seconds) = if settings.short { (40, 5) } else { (200, 30) };
    let planners = visitors::planners(stack, plans).await?;
    let slugs = visitors::slugs(stack).await?;
    let before = near_counts(stack).await?;
    let mix = Mix::generated(move |n| match n / VISITORS as u64 {
        round if round.is_multiple_of(CHANGE_EVERY) => {
            let slug = &slugs[usize::try_from(n).unwrap_or(0) % slugs.len()];
            RequestSpec::post_json("/api/plan", &json!({"slug": slug, "sets": 1 + round % 9, "reps": 8}))
        }
        _ => RequestSpec::get("/api/plan"),
    });
    let duration = Duration::from_secs(seconds);
    let plan = on_the_name(stack, ClientKind::Retrying, RATE_PER_S, duration).users(VISITORS, true);
    let load = load::run(plan.mix(mix)).await?;
    let counted = near_counts(stack).await?;

    let after =
        on_the_name(stack, ClientKind::Retrying, RATE_PER_S, Duration::from_secs(seconds.div_ceil(3)));
    let after = load::start(after)?;
    stack.app(1 + u8::try_from(settings.seed % u64::from(APPS)).unwrap_or(0)).kill().await?;
    let lost = visitors::losses(&planners).await;
    let after = after.finish().await;
    let figures = Figures {
        hits: counted.0 - before.0,
        misses: counted.1 - before.1,
        plans: plans as u64,
        lost,
        failed: Counts::from(&load).failed + Counts::from(&after).failed,
    };
    Ok(Measured { title, figures, load, after })
}

/// Loads that found the latest copy in their app, and those that did not, over all apps.
async fn near_counts(stack: &Stack) -> Result<(u64, u64)> {
    let (mut hits, mut misses) = (0.0, 0.0);
    for app in (1..=APPS).map(|n| format!("app-{n}")) {
        hits += stack.scrape(&app, "app_session_near_hits_total", "").await?;
        misses += stack.scrape(&app, "app_session_near_misses_total", "").await?;
    }
    Ok((hits as u64, misses as u64))
}

fn judge(sticky: Figures, free: Figures) -> Judgement {
    if [sticky, free].iter().any(|it| it.hits + it.misses < LOADS_MIN) {
        return Judgement::not_measurable();
    }
    let demands = [sticky.near() >= NEAR, sticky.lost == 0, sticky.failed == 0];
    Judgement::of(&demands, free.near() + FARTHER <= sticky.near())
}

fn story(settings: Settings, stack: &Stack, sticky: &Measured, free: &Measured) -> Story {
    let counts = |it: &Measured| Counts {
        attempted: it.load.attempted + it.after.attempted,
        acknowledged: it.load.ok + it.after.ok,
        lost: it.figures.lost,
        failed: it.figures.failed,
        ..Counts::default()
    };
    let words = [sticky, free].map(|it| {
        let Figures { hits, misses, plans, lost, .. } = it.figures;
        let percent = 100.0 * it.figures.near();
        let of = hits + misses;
        format!(
            "{}: {percent:.1} % of {of} loads were near, {lost} of {plans} plans lost with an app",
            it.title
        )
    });
    let evidence = Evidence {
        reason: words.join("; "),
        counts: counts(sticky),
        seconds: Seconds::default(),
        control_counts: counts(free),
    };
    let group = |it: &Measured| Group {
        title: it.title.into(),
        bars: vec![
            Bar::new("loads that found the latest copy", 100.0 * it.figures.near()),
            Bar::new(
                "plans lost with the app",
                100.0 * it.figures.lost as f64 / it.figures.plans.max(1) as f64,
            )
            .marked(),
        ],
    };
    let groups = vec![group(sticky), group(free)];
    Story {
        result: judge(sticky.figures, free.figures).result(&NAMED, settings, evidence),
        hypothesis: "Visitors change their plan once and look at it three times, over and over; how many loads found the latest copy in \
                     the app is read from the apps' counters. Then one app of three is killed, and plans are looked for."
            .into(),
        facts: facts(stack, settings),
        charts: vec![Chart { title: "locality and loss".into(), unit: "%", reference: None, groups }],
        runs: [sticky, free].iter().flat_map(|it| runs(it)).collect(),
    }
}

fn runs(measured: &Measured) -> [Run; 2] {
    let band = Band { from_s: 0.0, to_s: measured.after.seconds, label: "one app of three is dead".into() };
    let run = |what: &str, load: &Report, bands| Run {
        title: format!("{}: {what}", measured.title),
        load: load.clone(),
        bands,
        events: Vec::new(),
    };
    [
        run("plans changed and looked at", &measured.load, Vec::new()),
        run("pages and searches, an app killed", &measured.after, vec![band]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    fn figures(hits: u64, misses: u64, lost: u64, failed: u64) -> Figures {
        Figures { hits, misses, plans: 40, lost, failed }
    }

    #[track_caller]
    fn check(sticky: Figures, free: Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(sticky, free), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_near_and_nothing_is_lost() {
        check(figures(990, 10, 0, 0), figures(500, 500, 0, 0), Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_far_or_lossy() {
        check(figures(890, 110, 0, 0), figures(500, 500, 0, 0), Verdict::Refuted, true);
        check(figures(990, 10, 1, 0), figures(500, 500, 0, 0), Verdict::Refuted, true);
        check(figures(990, 10, 0, 1), figures(500, 500, 0, 0), Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_it_is_near_too() {
        check(figures(990, 10, 0, 0), figures(900, 100, 0, 0), Verdict::Holds, false);
    }

    #[test]
    fn few_loads_tell_nothing() {
        check(figures(100, 0, 0, 0), figures(500, 500, 0, 0), Verdict::NotMeasurable, false);
    }
}
