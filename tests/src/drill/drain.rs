//! drain: an app can be taken out under load without anybody noticing (C2, C8).
//!
//! Given sessions in the apps' memory, sticky balancers and visitors who post without ever repeating a request, when one app of
//! three is asked to stop and says so in its health answer, then its visitors keep their app and their session for as long
//! as it lives, newcomers go elsewhere, and no request fails, not even one that nobody may repeat. The control hangs and
//! kills the same app instead.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Bar, Chart, Counts, Group, Run, Seconds, Story};
use super::{Settings, facts, on_the_name, visitors};
use crate::eventually::attempt;
use crate::load::{self, ClientKind, Mix, Plan, Report, RequestSpec};
use crate::platform::State;
use crate::stack::{Handle, Stack};
use crate::topology::{Override, Sessions, Sticky};

pub(super) const NAMED: Named = Named {
    name: "drain",
    claim: "an app that drains loses nobody: its visitors stay to its end, newcomers go elsewhere, no request fails (C2, C8)",
    protection: "the drain (the app hangs for a moment and is killed)",
};

const RATE_PER_S: f64 = 150.0;
/// How long the app goes on serving after it was asked to stop.
const LAME_DUCK: &[Override] = &[Override::new("app", "SHUTDOWN__LAME_DUCK_MS", "5000")];
/// Both balancers hear of it within this.
const HEARD_DEADLINE: Duration = Duration::from_secs(4);
const ENDED_DEADLINE: Duration = Duration::from_secs(30);
/// What hangs gathers requests, which its death then takes along.
const HANG: Duration = Duration::from_millis(250);
const NEWCOMERS: usize = 30;

/// What became of visitors and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    /// Visitors whose session is in the app.
    of_victim: u64,
    /// Of these, found at that app with their plan while it drained.
    stayed: u64,
    /// Who came while it drained, and was sent there all the same.
    newcomers_there: u64,
    failed: u64,
}

struct Measured {
    figures: Figures,
    load: Report,
    begun_at: Duration,
    heard_after: Option<Duration>,
    ended_at: Duration,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let builder = Stack::on(settings.place).sessions(Sessions::Memory).sticky(Sticky::On);
    let stack = builder.overrides(LAME_DUCK).start().await?;
    let drained = drained(&stack, settings).await?;
    stack.heal().await?;
    stack.ready().await?;
    let killed = killed(&stack, settings).await?;
    stack.heal().await?;
    Ok(story(settings, &stack, &drained, &killed))
}

/// Newcomers who store something: each makes a session, and none of it may be sent twice.
fn posts(stack: &Stack, slug: &str, settings: Settings) -> Plan {
    let duration = Duration::from_secs(if settings.short { 9 } else { 30 });
    let item = RequestSpec::post_json("/api/plan", &json!({"slug": slug, "sets": 3, "reps": 8}));
    on_the_name(stack, ClientKind::Plain, RATE_PER_S, duration).mix(Mix::one(item))
}

fn victim(stack: &Stack, settings: Settings) -> Handle<'_> {
    stack.app(1 + u8::try_from(settings.seed % 3).unwrap_or(0))
}

async fn drained(stack: &Stack, settings: Settings) -> Result<Measured> {
    let planners = visitors::planners(stack, if settings.short { 45 } else { 150 }).await?;
    let slug = visitors::slugs(stack).await?.remove(0);
    let load = load::start(posts(stack, &slug, settings))?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (victim, begun_at) = (victim(stack, settings), load.elapsed());
    victim.terminate().await?;
    attempt("both balancers know that it drains", HEARD_DEADLINE, async || {
        for lb in ["lb-1", "lb-2"] {
            let draining = stack.scrape(lb, "lb_backend_state", "state=\"draining\"").await?;
            ensure!(draining >= 1.0, "{lb} does not know");
        }
        Ok(())
    })
    .await?;
    let heard_after = load.elapsed().saturating_sub(begun_at);
    let his: Vec<_> = planners.iter().filter(|it| it.app == victim.name()).collect();
    let mut stayed = 0;
    for planner in &his {
        let found = planner.look().await;
        stayed += u64::from(found.plan && found.app == victim.name());
    }
    let newcomers = visitors::planners(stack, NEWCOMERS).await?;
    let newcomers_there = newcomers.iter().filter(|it| it.app == victim.name()).count() as u64;
    attempt("it ends by itself", ENDED_DEADLINE, async || {
        ensure!(victim.status().await?.state == State::Dead, "it still runs");
        Ok(())
    })
    .await?;
    let ended_at = load.elapsed();
    let load = load.finish().await;
    let failed = Counts::from(&load).failed;
    let figures = Figures { of_victim: his.len() as u64, stayed, newcomers_there, failed };
    Ok(Measured { figures, load, begun_at, heard_after: Some(heard_after), ended_at })
}

async fn killed(stack: &Stack, settings: Settings) -> Result<Measured> {
    let slug = visitors::slugs(stack).await?.remove(0);
    let mut plan = posts(stack, &slug, settings);
    plan.duration /= 2;
    let load = load::start(plan)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (victim, begun_at) = (victim(stack, settings), load.elapsed());
    victim.stop().await?;
    tokio::time::sleep(HANG).await;
    victim.kill().await?;
    let ended_at = load.elapsed();
    let load = load.finish().await;
    let failed = Counts::from(&load).failed;
    let figures = Figures { of_victim: 0, stayed: 0, newcomers_there: 0, failed };
    Ok(Measured { figures, load, begun_at, heard_after: None, ended_at })
}

fn judge(drained: Figures, killed: Figures) -> Judgement {
    if drained.of_victim == 0 {
        return Judgement::not_measurable();
    }
    let demands = [drained.stayed == drained.of_victim, drained.newcomers_there == 0, drained.failed == 0];
    Judgement::of(&demands, killed.failed > 0)
}

fn story(settings: Settings, stack: &Stack, drained: &Measured, killed: &Measured) -> Story {
    let Figures { of_victim, stayed, newcomers_there, failed } = drained.figures;
    let evidence = Evidence {
        reason: format!(
            "drained: {stayed} of its {of_victim} visitors stayed, {newcomers_there} of {NEWCOMERS} newcomers were sent there, \
             {failed} of {} posts failed; killed: {} of {}",
            drained.load.attempted, killed.figures.failed, killed.load.attempted
        ),
        counts: Counts::from(&drained.load),
        seconds: Seconds {
            detect: drained.heard_after.map(|after| after.as_secs_f64()),
            ..Seconds::default()
        },
        control_counts: Counts::from(&killed.load),
    };
    let bar = |title: &str, it: &Measured| Group {
        title: title.into(),
        bars: vec![Bar::new("posts that failed", it.figures.failed as f64).marked()],
    };
    let chart = Chart {
        title: "posts that nobody may repeat".into(),
        unit: "",
        reference: None,
        groups: vec![bar("drained", drained), bar("killed", killed)],
    };
    let run = |title: &str, it: &Measured, label: &str| Run {
        title: title.into(),
        load: it.load.clone(),
        bands: vec![Band {
            from_s: it.begun_at.as_secs_f64(),
            to_s: it.ended_at.as_secs_f64(),
            label: label.into(),
        }],
        events: Vec::new(),
    };
    Story {
        result: judge(drained.figures, killed.figures).result(&NAMED, settings, evidence),
        hypothesis: "Newcomers store plans, each with one POST that is never repeated; one app of three is asked to stop. Visitors who \
                     have their session in it and newcomers are looked at while it drains."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart],
        runs: vec![run("drained", drained, "drains"), run("control: killed", killed, "hangs")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    const DRAINED: Figures = Figures { of_victim: 15, stayed: 15, newcomers_there: 0, failed: 0 };
    const KILLED: Figures = Figures { of_victim: 0, stayed: 0, newcomers_there: 0, failed: 9 };

    #[track_caller]
    fn check(drained: Figures, killed: Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(drained, killed), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_nobody_notices() {
        check(DRAINED, KILLED, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_somebody_does() {
        check(Figures { stayed: 14, ..DRAINED }, KILLED, Verdict::Refuted, true);
        check(Figures { newcomers_there: 1, ..DRAINED }, KILLED, Verdict::Refuted, true);
        check(Figures { failed: 1, ..DRAINED }, KILLED, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_the_kill_fails_nothing() {
        check(DRAINED, Figures { failed: 0, ..KILLED }, Verdict::Holds, false);
    }

    #[test]
    fn not_measurable_when_nobody_was_there() {
        check(Figures { of_victim: 0, stayed: 0, ..DRAINED }, KILLED, Verdict::NotMeasurable, false);
    }
}
