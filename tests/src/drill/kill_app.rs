//! kill-app: one app is killed under load, with sessions in the apps' memory and in the shared store, with and without
//! sticky balancers (C7, C8, C10).
//!
//! Given visitors with a plan and 200 requests/s on the site's name, when one of three apps is killed, then with a shared
//! store no plan is lost and no request of a client that retries fails. In memory, a third of the plans goes with the app
//! even when balancers are sticky; when they are not, most plans are out of reach at any time.

use std::time::Duration;

use anyhow::Result;

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Bar, Chart, Counts, Group, Run, Seconds, Story};
use super::{Settings, facts, on_the_name, visitors};
use crate::load::{self, ClientKind, Report};
use crate::stack::Stack;
use crate::topology::{Sessions, Sticky, Topology};

pub(super) const NAMED: Named = Named {
    name: "kill-app",
    claim: "with sessions in a shared store an app can die: no session is lost and no retried request fails (C7, C8, C10)",
    protection: "the shared session store (sessions in each app's memory, sticky balancers)",
};

const RATE_PER_S: f64 = 200.0;
const PLAIN_RATE_PER_S: f64 = 50.0;

/// One combination of settings, and what the kill cost.
struct Measured {
    sessions: Sessions,
    sticky: Sticky,
    plans: u64,
    lost: u64,
    retrying: Report,
    plain: Report,
    killed_at: Duration,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).start().await?;
    let mut measured = Vec::new();
    for (sessions, sticky) in [
        (Sessions::Redis, Sticky::Off),
        (Sessions::Memory, Sticky::On),
        (Sessions::Redis, Sticky::On),
        (Sessions::Memory, Sticky::Off),
    ] {
        stack.with(Topology { sessions, sticky, ..stack.platform().topology() }).await?;
        measured.push(measure(&stack, settings, sessions, sticky).await?);
        stack.heal().await?;
    }
    Ok(story(settings, &stack, &measured))
}

async fn measure(stack: &Stack, settings: Settings, sessions: Sessions, sticky: Sticky) -> Result<Measured> {
    let (plans, seconds) = if settings.short { (60, 4) } else { (300, 30) };
    let planners = visitors::planners(stack, plans).await?;
    let duration = Duration::from_secs(seconds);
    let retrying = load::start(on_the_name(stack, ClientKind::Retrying, RATE_PER_S, duration))?;
    let plain = load::start(on_the_name(stack, ClientKind::Plain, PLAIN_RATE_PER_S, duration))?;
    tokio::time::sleep(duration / 3).await;
    let killed_at = retrying.elapsed();
    let victim = 1 + u8::try_from(settings.seed % 3).unwrap_or(0);
    stack.app(victim).kill().await?;
    let (retrying, plain) = (retrying.finish().await, plain.finish().await);
    let lost = visitors::losses(&planners).await;
    Ok(Measured { sessions, sticky, plans: plans as u64, lost, retrying, plain, killed_at })
}

fn story(settings: Settings, stack: &Stack, measured: &[Measured]) -> Story {
    let find = |sessions, sticky| {
        measured
            .iter()
            .find(|it| it.sessions == sessions && it.sticky == sticky)
            .expect("all four were measured")
    };
    let main = find(Sessions::Redis, Sticky::Off);
    let control = find(Sessions::Memory, Sticky::On);
    let counts = counts(main);
    let judgement = Judgement::of(&[counts.lost == 0, counts.failed == 0], control.lost > 0);
    let evidence = Evidence {
        reason: format!(
            "shared store: {} of {} plans lost, {} of {} requests failed, slowest {:.0} ms; a client that never retries: {} of \
             {} failed; in memory, sticky: {} of {} plans lost; in memory, not sticky: {} of {}",
            main.lost,
            main.plans,
            counts.failed,
            counts.attempted,
            milliseconds(main.retrying.max_us),
            main.plain.failed + main.plain.truncated,
            main.plain.attempted,
            control.lost,
            control.plans,
            find(Sessions::Memory, Sticky::Off).lost,
            find(Sessions::Memory, Sticky::Off).plans,
        ),
        counts,
        seconds: Seconds { recover: recovered_after(main), ..Seconds::default() },
        control_counts: self::counts(control),
    };
    let mut facts = facts(stack, settings);
    facts.extend(measured.iter().map(table_row));
    Story {
        result: judgement.result(&NAMED, settings, evidence),
        hypothesis: "Visitors store a plan in their session; under load on the site's name one of three apps is killed; then \
                     every visitor asks for the plan."
            .into(),
        facts,
        charts: vec![chart(measured)],
        runs: measured.iter().flat_map(runs).collect(),
    }
}

fn counts(measured: &Measured) -> Counts {
    Counts { lost: measured.lost, ..Counts::from(&measured.retrying) }
}

/// Until the last request failed, for either client, after the kill.
fn recovered_after(measured: &Measured) -> Option<f64> {
    let killed_at = measured.killed_at.as_secs_f64();
    let last = [&measured.retrying, &measured.plain].iter().filter_map(|it| it.last_error_ms).max();
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    Some(last.map_or(0.0, |last| (last as f64 / 1000.0 - killed_at).max(0.0)))
}

fn label(measured: &Measured) -> String {
    format!("sessions {:?}, sticky {:?}", measured.sessions, measured.sticky).to_lowercase()
}

fn table_row(measured: &Measured) -> (String, String) {
    let failed = |it: &Report| format!("{} of {}", it.failed + it.truncated, it.attempted);
    let text = format!(
        "{} of {} plans lost; requests failed: retrying {}, plain {}; slowest {:.0} ms",
        measured.lost,
        measured.plans,
        failed(&measured.retrying),
        failed(&measured.plain),
        milliseconds(measured.retrying.max_us)
    );
    (label(measured), text)
}

fn chart(measured: &[Measured]) -> Chart {
    let group = |it: &Measured| Group {
        title: label(it),
        bars: vec![Bar::new("plans", 100.0 * it.lost as f64 / it.plans.max(1) as f64).marked()],
    };
    let groups = measured.iter().map(group).collect();
    Chart { title: "lost when one app of three dies".into(), unit: "%", reference: None, groups }
}

fn runs(measured: &Measured) -> Vec<Run> {
    let from_s = measured.killed_at.as_secs_f64();
    let band = |load: &Report| Band { from_s, to_s: load.seconds, label: "one app of three is dead".into() };
    [("retrying", &measured.retrying), ("plain", &measured.plain)]
        .map(|(kind, load)| Run {
            title: format!("{}: {kind} client", label(measured)),
            load: load.clone(),
            bands: vec![band(load)],
            events: Vec::new(),
        })
        .into()
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
