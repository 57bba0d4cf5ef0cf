//! scale-out: apps are added under load, and traffic is to follow (C2), with and without sticky balancers.
//!
//! Given 200 requests/s from visitors who keep their cookies, when three apps become six, then the new ones carry at least
//! two thirds of their fair half five seconds after they were started. (How long it takes to start a process or a container is
//! the platform's, and reported.) Sticky balancers keep the visitors that they know
//! on the old apps: only newcomers reach the new ones.

use std::time::Duration;

use anyhow::Result;

use super::answers::{Answer, Answers, Shares, shares};
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Event, Group, Reference, Run, Seconds, Story};
use super::{Settings, facts, on_the_name};
use crate::load::{self, ClientKind, Report};
use crate::stack::Stack;
use crate::topology::{Sticky, Topology};

pub(super) const NAMED: Named = Named {
    name: "scale-out",
    claim: "apps that are added get their share of the traffic within 5 s of their start, without a restart (C2)",
    protection: "free choice of app (sticky balancers, the same visitors)",
};

const RATE_PER_S: f64 = 200.0;
const VISITORS: usize = 64;
const APPS_BEFORE: u8 = 3;
const APPS_AFTER: u8 = 6;
/// Half of the apps are new, so half of the requests is fair; two thirds of that half is asked for.
const SHARE_WANTED: f64 = 1.0 / 3.0;
/// Before they are asked for.
const BEFORE: Duration = Duration::from_secs(2);
/// Longer than any platform takes; the load is stopped when everything was seen.
const LOAD_MAX: Duration = Duration::from_secs(120);
/// What the claim allows for discovery and health checks.
const SETTLING: Duration = Duration::from_secs(5);

struct Measured {
    sticky: Sticky,
    load: Report,
    asked_at: Duration,
    /// The platform had started all of them.
    scaled_at: Duration,
    first_new_after: Option<Duration>,
    /// Of the requests due after the settling time, those that new apps answered.
    share: f64,
    by_app: Shares,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(APPS_BEFORE).start().await?;
    let mut measured = Vec::new();
    for sticky in [Sticky::Off, Sticky::On] {
        stack.with(Topology { sticky, apps: APPS_BEFORE, ..stack.platform().topology() }).await?;
        measured.push(measure(&stack, settings, sticky).await?);
        stack.scale_apps(APPS_BEFORE).await?;
    }
    Ok(story(settings, &stack, &measured[0], &measured[1]))
}

async fn measure(stack: &Stack, settings: Settings, sticky: Sticky) -> Result<Measured> {
    let observed = Duration::from_secs(if settings.short { 3 } else { 25 });
    let answers = Answers::default();
    let seen = answers.clone();
    let plan = on_the_name(stack, ClientKind::Retrying, RATE_PER_S, LOAD_MAX)
        .users(VISITORS, true)
        .observe(move |observed| seen.note(observed));
    let load = load::start(plan)?;
    tokio::time::sleep(BEFORE).await;
    let asked_at = load.elapsed();
    let scaled = stack.scale_apps(APPS_AFTER).await;
    let scaled_at = load.elapsed();
    tokio::time::sleep(SETTLING + observed).await;
    load.stop();
    let report = load.finish().await;
    scaled?;
    Ok(evaluate(sticky, report, (asked_at, scaled_at), &answers.take()))
}

/// New apps are those that answered nothing before the scaling began: names differ between platforms.
fn evaluate(
    sticky: Sticky,
    load: Report,
    (asked_at, scaled_at): (Duration, Duration),
    answers: &[Answer],
) -> Measured {
    let old = shares(answers.iter().filter(|it| it.due < asked_at));
    let is_new = |app: &str| !old.0.contains_key(app);
    let settled = shares(answers.iter().filter(|it| it.due >= scaled_at + SETTLING));
    let share = settled.0.keys().filter(|app| is_new(app)).map(|app| settled.of(app)).sum();
    let first_new = answers.iter().filter(|it| !it.app.is_empty() && is_new(&it.app)).map(|it| it.due).min();
    let first_new_after = first_new.map(|due| due.saturating_sub(asked_at));
    Measured { sticky, load, asked_at, scaled_at, first_new_after, share, by_app: settled }
}

fn story(settings: Settings, stack: &Stack, main: &Measured, control: &Measured) -> Story {
    let counts = Counts::from(&main.load);
    let judgement =
        Judgement::of(&[main.share >= SHARE_WANTED, counts.failed == 0], control.share < SHARE_WANTED);
    let evidence = Evidence {
        reason: format!(
            "from {APPS_BEFORE} to {APPS_AFTER} apps: {:.0} % of the requests went to the new ones 5 s after they were started, which \
             took {:.1} s (fair: 50 %), {} of {} failed; sticky: {:.0} %",
            100.0 * main.share,
            (main.scaled_at - main.asked_at).as_secs_f64(),
            counts.failed,
            counts.attempted,
            100.0 * control.share
        ),
        counts,
        seconds: Seconds {
            detect: main.first_new_after.map(|after| after.as_secs_f64()),
            ..Seconds::default()
        },
        control_counts: Counts::from(&control.load),
    };
    Story {
        result: judgement.result(&NAMED, settings, evidence),
        hypothesis: "64 visitors with cookies load the site's name while three apps become six; which app answered is read \
                     from each answer."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart(&[main, control])],
        runs: [main, control].map(run_of).into(),
    }
}

fn chart(measured: &[&Measured]) -> Chart {
    let bars = |it: &Shares| it.0.keys().map(|app| Bar::new(app, 100.0 * it.of(app))).collect();
    let title = |sticky: Sticky| format!("sticky {sticky:?}").to_lowercase();
    Chart {
        title: "share of the requests, 5 s after six apps were there".into(),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(APPS_AFTER), label: "fair".into() }),
        groups: measured.iter().map(|it| Group { title: title(it.sticky), bars: bars(&it.by_app) }).collect(),
    }
}

fn run_of(measured: &Measured) -> Run {
    let events = [(measured.asked_at, "six apps asked for"), (measured.scaled_at, "all started")];
    let events = events.map(|(at, label)| Event { at_s: at.as_secs_f64(), label: label.into() }).into();
    let title = format!("sticky {:?}", measured.sticky).to_lowercase();
    Run { title, load: measured.load.clone(), bands: Vec::new(), events }
}
