//! cheap-machines: several small machines carry what one large one does, and one of them may be slow or dead (C2).
//!
//! Given one app with 0.2 CPU, when it is replaced by four with 0.05 each, then the balancers send work to the new ones
//! within five seconds, together they carry about as much, one that has only a quarter of its CPU left costs no more than
//! its part and a little, and one that is killed fails no request. The control kills the one large machine instead.
//!
//! The parts are a tenth of 2 and 0.5 CPUs, so that the limits decide and not what else uses this machine: Postgres and the
//! visitors are on it too.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::capacity::{Capacity, Probe, failed};
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Bar, Chart, Counts, Group, Run, Seconds, Story};
use super::{Settings, facts, on_the_name};
use crate::cpu_limit::CpuLimit;
use crate::eventually::attempt;
use crate::load::{self, ClientKind, Report};
use crate::stack::Stack;
use crate::topology::Override;

pub(super) const NAMED: Named = Named {
    name: "cheap-machines",
    claim: "four small machines carry what one large one does; the balancers find them, and one may be slow or die (C2)",
    protection: "the other machines (the one large machine is killed)",
};

const MACHINES: u8 = 4;
const LARGE: f64 = 0.2;
const SMALL: f64 = LARGE / MACHINES as f64;
const SLOW: f64 = SMALL / 4.0;
const CONNECTIONS: usize = 16;
/// Machines of different speed are for an algorithm that looks at them.
const BY_LOAD: &[Override] = &[Override::new("lb", "BALANCE__ALGORITHM", "least-requests")];
/// What the small ones have to carry together, of what the large one carried.
const TOGETHER: f64 = 0.7;
/// Of what they carried: three are whole and one has a quarter, that is 13 of 16 parts; two thirds of that are asked for.
const WITH_A_SLOW_ONE: f64 = 0.55;
/// Discovery every second, and the first good answer.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(5);
const RATE_PER_S: f64 = 200.0;

#[derive(Debug, Clone, Copy)]
struct Figures {
    large: Capacity,
    small: Capacity,
    slow: Capacity,
    /// From asking for them until every one had answered a visitor.
    followed_after: Duration,
    killed: Counts,
    control: Counts,
}

struct Measured {
    figures: Figures,
    killed: Report,
    killed_at: Duration,
    control: Report,
    control_at: Duration,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(1).lbs(1).overrides(BY_LOAD).start().await?;
    let limits = match (0..MACHINES).map(|_| CpuLimit::new()).collect::<Result<Vec<_>, _>>() {
        Ok(limits) => limits,
        Err(reason) => return Ok(unavailable(settings, &stack, reason.to_string())),
    };
    warm(&stack, settings, 4).await?;
    hold(&stack, 1, &limits[0], LARGE).await?;
    let large = capacity(&stack, settings, 1).await?;
    let (control, control_at) = kill(&stack, settings).await?;
    stack.heal().await?;

    let asked = Instant::now();
    stack.scale_apps(MACHINES).await?;
    everybody_answers(&stack).await?;
    let followed_after = asked.elapsed();
    warm(&stack, settings, 5).await?;
    for n in 1..=MACHINES {
        hold(&stack, n, &limits[usize::from(n) - 1], SMALL).await?;
    }
    let small = capacity(&stack, settings, 2).await?;
    limits[usize::from(MACHINES) - 1].set(Some(SLOW))?;
    let slow = capacity(&stack, settings, 3).await?;
    let (killed, killed_at) = kill(&stack, settings).await?;
    let figures = Figures {
        large,
        small,
        slow,
        followed_after,
        killed: Counts::from(&killed),
        control: Counts::from(&control),
    };
    Ok(story(settings, &stack, &Measured { figures, killed, killed_at, control, control_at }))
}

async fn hold(stack: &Stack, n: u8, limit: &CpuLimit, cpus: f64) -> Result<()> {
    limit.set(Some(cpus))?;
    limit.hold(stack.app(n).status().await?.pid.with_context(|| format!("app-{n} has a process"))?)
}

fn probe(stack: &Stack, settings: Settings) -> Probe {
    Probe {
        address: stack.endpoints().lbs[0],
        connections: CONNECTIONS,
        warm_up: Duration::from_millis(500),
        measured: Duration::from_secs(if settings.short { 3 } else { 20 }),
    }
}

/// Searches that no cache can answer.
fn uncached(run: u64) -> impl Fn(u64) -> String {
    move |n| format!("/api/exercises?q=strong+back+{run}+{n}&limit=100")
}

/// What the machines that run can do.
async fn capacity(stack: &Stack, settings: Settings, run: u64) -> Result<Capacity> {
    probe(stack, settings).run(uncached(run)).await
}

/// Before they get their limits.
async fn warm(stack: &Stack, settings: Settings, run: u64) -> Result<()> {
    Probe { measured: Duration::from_secs(1), ..probe(stack, settings) }.warm(uncached(run)).await
}

/// Kills app-1 in mid-load.
async fn kill(stack: &Stack, settings: Settings) -> Result<(Report, Duration)> {
    let duration = Duration::from_secs(if settings.short { 3 } else { 20 });
    let load = load::start(on_the_name(stack, ClientKind::Retrying, RATE_PER_S, duration))?;
    tokio::time::sleep(duration / 3).await;
    let at = load.elapsed();
    stack.app(1).kill().await?;
    Ok((load.finish().await, at))
}

async fn everybody_answers(stack: &Stack) -> Result<()> {
    let (client, mut seen) = (stack.client(1), std::collections::BTreeSet::new());
    attempt("an answer of every machine", 4 * FOLLOW_DEADLINE, async || {
        seen.insert(client.get("/").await?.header("x-served-by").to_owned());
        ensure!(seen.len() >= usize::from(MACHINES), "only {seen:?} answered");
        Ok(())
    })
    .await
}

fn judge(it: &Figures) -> Judgement {
    let demands = [
        it.small.per_second >= TOGETHER * it.large.per_second,
        it.slow.per_second >= WITH_A_SLOW_ONE * it.small.per_second,
        it.followed_after <= FOLLOW_DEADLINE,
        it.killed.failed == 0,
        failed([&it.large, &it.small, &it.slow]) == 0,
    ];
    Judgement::of(&demands, it.control.failed > 0)
}

fn story(settings: Settings, stack: &Stack, measured: &Measured) -> Story {
    let Figures { large, small, slow, followed_after, killed, control } = measured.figures;
    let evidence = Evidence {
        reason: format!(
            "1 x {LARGE} CPU: {:.0} searches/s; {MACHINES} x {SMALL}: {:.0}/s, all in use {:.1} s after they were asked for; one of \
             them at {SLOW}: {:.0}/s; one of them killed: {} of {} requests failed; the large one killed: {} of {}",
            large.per_second,
            small.per_second,
            followed_after.as_secs_f64(),
            slow.per_second,
            killed.failed,
            killed.attempted,
            control.failed,
            control.attempted,
        ),
        counts: killed,
        seconds: Seconds { detect: Some(followed_after.as_secs_f64()), ..Seconds::default() },
        control_counts: control,
    };
    let bars = vec![
        Bar::new(format!("1 x {LARGE} CPU"), large.per_second),
        Bar::new(format!("{MACHINES} x {SMALL} CPU"), small.per_second),
        Bar::new(format!("the same, one at {SLOW} CPU"), slow.per_second).marked(),
    ];
    let chart = Chart {
        title: "searches past the cache".into(),
        unit: "/s",
        reference: None,
        groups: vec![Group { title: "answers a second".into(), bars }],
    };
    Story {
        result: judge(&measured.figures).result(&NAMED, settings, evidence),
        hypothesis: "One app in a control group is replaced by four with a quarter of its CPU each; then one of these gets a quarter \
                     of that; then one is killed under load."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart],
        runs: vec![
            run_of("one small machine of four killed", &measured.killed, measured.killed_at),
            run_of("control: the one large machine killed", &measured.control, measured.control_at),
        ],
    }
}

fn run_of(title: &str, load: &Report, killed_at: Duration) -> Run {
    let band = Band { from_s: killed_at.as_secs_f64(), to_s: load.seconds, label: "app-1 is dead".into() };
    Run { title: title.into(), load: load.clone(), bands: vec![band], events: Vec::new() }
}

fn unavailable(settings: Settings, stack: &Stack, reason: String) -> Story {
    let none = Counts::default();
    let evidence = Evidence { reason, counts: none, seconds: Seconds::default(), control_counts: none };
    Story {
        result: Judgement::not_measurable().result(&NAMED, settings, evidence),
        hypothesis: "One app in a control group is replaced by four with a quarter of its CPU each.".into(),
        facts: facts(stack, settings),
        charts: Vec::new(),
        runs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    fn good() -> Figures {
        let per_second = |per_second| Capacity { answered: 100, per_second, ..Capacity::default() };
        Figures {
            large: per_second(200.0),
            small: per_second(190.0),
            slow: per_second(150.0),
            followed_after: Duration::from_secs(2),
            killed: Counts { attempted: 600, acknowledged: 600, ..Counts::default() },
            control: Counts { attempted: 600, failed: 300, ..Counts::default() },
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Figures), verdict: Verdict, caught: bool) {
        let mut figures = good();
        change(&mut figures);
        assert_eq!(judge(&figures), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_many_small_ones_do_and_nobody_notices_a_death() {
        check(|_| {}, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_anything_is_not_as_claimed() {
        check(|it| it.small.per_second = 100.0, Verdict::Refuted, true);
        check(|it| it.slow.per_second = 50.0, Verdict::Refuted, true);
        check(|it| it.followed_after = Duration::from_secs(6), Verdict::Refuted, true);
        check(|it| it.killed.failed = 1, Verdict::Refuted, true);
        check(|it| it.slow.failed = 1, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_nobody_notices_the_large_ones_death() {
        check(|it| it.control.failed = 0, Verdict::Holds, false);
    }
}
