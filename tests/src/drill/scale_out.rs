//! scale-out: apps are added under load, and traffic is to follow (C2), with and without sticky balancers.
//!
//! Given 200 requests/s from visitors who keep their cookies, when three apps become six, then the new ones carry at least
//! two thirds of their fair half within five seconds of being asked for. Sticky balancers keep the visitors that they know
//! on the old apps: only newcomers reach the new ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;

use super::report::{Control, Counts, DrillResult, Event, Expectation, Run, Seconds, Story, Verdict};
use super::{Settings, facts, on_the_name};
use crate::load::{self, Check, ClientKind, Observed, Outcome, Report};
use crate::stack::Stack;
use crate::topology::{Sticky, Topology};

pub(super) const CLAIM: &str =
    "apps that are added get their share of the traffic within 5 s, without a restart (C2)";

const RATE_PER_S: f64 = 200.0;
const VISITORS: usize = 64;
const APPS_BEFORE: u8 = 3;
const APPS_AFTER: u8 = 6;
/// Half of the apps are new, so half of the requests is fair; two thirds of that half is asked for.
const SHARE_WANTED: f64 = 1.0 / 3.0;
/// What the claim allows for discovery and health checks.
const SETTLING: Duration = Duration::from_secs(5);

/// When a request was due, and which app answered it.
type Answers = Arc<Mutex<Vec<(Duration, String)>>>;

struct Measured {
    sticky: Sticky,
    load: Report,
    scaled_at: Duration,
    first_new_after: Option<Duration>,
    /// Of the requests due after the settling time, those that new apps answered.
    share: f64,
    by_app: BTreeMap<String, u64>,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(APPS_BEFORE).start().await?;
    let mut measured = Vec::new();
    for sticky in [Sticky::Off, Sticky::On] {
        let topology = Topology { sticky, apps: APPS_BEFORE, ..stack.platform().topology() };
        if stack.platform().topology() != topology {
            stack.platform().reconfigure(topology).await?;
            stack.ready().await?;
        }
        measured.push(measure(&stack, settings, sticky).await?);
        stack.scale_apps(APPS_BEFORE).await?;
    }
    Ok(story(settings, &stack, &measured[0], &measured[1]))
}

async fn measure(stack: &Stack, settings: Settings, sticky: Sticky) -> Result<Measured> {
    let duration = Duration::from_secs(if settings.short { 10 } else { 40 });
    let answers: Answers = Arc::default();
    let seen = answers.clone();
    let plan = on_the_name(stack, ClientKind::Retrying, RATE_PER_S, duration)
        .users(VISITORS, true)
        .observe(move |observed| note(&seen, observed));
    let load = load::start(plan)?;
    tokio::time::sleep(duration / 5).await;
    let scaled_at = load.elapsed();
    stack.scale_apps(APPS_AFTER).await?;
    let report = load.finish().await;
    let answers = std::mem::take(&mut *answers.lock().expect("observers do not panic"));
    Ok(evaluate(sticky, report, scaled_at, &answers))
}

fn note(answers: &Mutex<Vec<(Duration, String)>>, observed: &Observed<'_>) -> Check {
    if let Outcome::Complete(response) = observed.outcome {
        let served_by = response.header("x-served-by").to_owned();
        answers.lock().expect("observers do not panic").push((observed.due, served_by));
    }
    Check::Accept
}

/// New apps are those that answered nothing before the scaling began: names differ between platforms.
fn evaluate(sticky: Sticky, load: Report, scaled_at: Duration, answers: &[(Duration, String)]) -> Measured {
    let old: Vec<&str> =
        answers.iter().filter(|(due, _)| *due < scaled_at).map(|(_, app)| app.as_str()).collect();
    let is_new = |app: &str| !old.contains(&app);
    let settled: Vec<_> = answers.iter().filter(|(due, _)| *due >= scaled_at + SETTLING).collect();
    let by_new = settled.iter().filter(|(_, app)| is_new(app)).count();
    let mut by_app: BTreeMap<String, u64> = BTreeMap::new();
    for (_, app) in &settled {
        *by_app.entry(app.clone()).or_default() += 1;
    }
    let first_new = answers.iter().filter(|(_, app)| is_new(app)).map(|(due, _)| *due).min();
    #[expect(clippy::cast_precision_loss, reason = "a share of some thousands")]
    let share = by_new as f64 / settled.len().max(1) as f64;
    let first_new_after = first_new.map(|due| due.saturating_sub(scaled_at));
    Measured { sticky, load, scaled_at, first_new_after, share, by_app }
}

fn story(settings: Settings, stack: &Stack, main: &Measured, control: &Measured) -> Story {
    let counts = Counts::from(&main.load);
    let verdict =
        if main.share >= SHARE_WANTED && counts.failed == 0 { Verdict::Holds } else { Verdict::Refuted };
    let result = DrillResult {
        drill: "scale-out".into(),
        claim: CLAIM.into(),
        expected: Expectation::Holds,
        verdict,
        reason: format!(
            "from {APPS_BEFORE} to {APPS_AFTER} apps: {:.0} % of the requests went to the new ones 5 s later (fair: 50 %), {} of \
             {} failed; sticky: {:.0} %",
            100.0 * main.share,
            counts.failed,
            counts.attempted,
            100.0 * control.share
        ),
        seed: settings.seed,
        counts,
        seconds: Seconds {
            detect: main.first_new_after.map(|after| after.as_secs_f64()),
            ..Seconds::default()
        },
        control: Control {
            protection: "free choice of app (sticky balancers, the same visitors)".into(),
            caught: control.share < SHARE_WANTED,
            counts: Counts::from(&control.load),
        },
    };
    let mut facts = facts(stack, settings);
    facts.extend([main, control].map(|it| {
        (format!("answers by app, sticky {:?}", it.sticky).to_lowercase(), format!("{:?}", it.by_app))
    }));
    Story {
        result,
        hypothesis: "64 visitors with cookies load the site's name while three apps become six; which app answered is read \
                     from each answer."
            .into(),
        facts,
        runs: [main, control].map(run_of).into(),
    }
}

fn run_of(measured: &Measured) -> Run {
    let event = Event { at_s: measured.scaled_at.as_secs_f64(), label: "six apps asked for".into() };
    let title = format!("sticky {:?}", measured.sticky).to_lowercase();
    Run { title, load: measured.load.clone(), bands: Vec::new(), events: vec![event] }
}
