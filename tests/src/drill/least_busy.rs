//! least-busy: who is slow gets less work, if the balancer looks (C4).
//!
//! Given three apps of which one takes at least ten times as long as the others, when the same load is balanced by the fewest
//! requests in flight and by expected latency (peak EWMA), then the slow app's part shrinks far below its third, and by
//! latency so far that the 99th percentile is no longer its. Round robin, which is the control, keeps giving it a third, and
//! its latency is everybody's 99th percentile.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::answers::{Answer, Answers, Shares, percentile, shares};
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Group, Reference, Run, Seconds, Story};
use super::{Settings, facts};
use crate::chaos_proxy::ChaosProxy;
use crate::eventually::attempt;
use crate::load::{self, Arrival, ClientKind, Plan, Report};
use crate::stack::Stack;
use crate::topology::{Override, SITE, Topology};

pub(super) const NAMED: Named = Named {
    name: "least-busy",
    claim: "balancing by load or latency takes work away from a slow app; round robin does not (C4)",
    protection: "looking at the load (round robin)",
};

const APPS: u8 = 3;
const SLOW: &str = "app-3";
const RATE_PER_S: f64 = 200.0;
/// The slow app's answers are late by nine medians of the others, and by no less than this, so that a busy machine's own
/// hiccups do not look like it.
const DELAY_MIN: Duration = Duration::from_millis(60);
/// Until every app gets requests.
const JOIN_DEADLINE: Duration = Duration::from_secs(20);
/// A part of the requests within a fifth of the fair one is still fair; less than half of it is not.
const FAIR: std::ops::RangeInclusive<f64> = 0.8 / APPS as f64..=1.2 / APPS as f64;
const RELIEVED: f64 = 0.5 / APPS as f64;

/// Behind a link of the drill's own, which makes it slow.
const BEHIND_A_LINK: Override = Override::new(SLOW, "SERVER__LISTEN", "{net}.23:3001");
const ROUND_ROBIN: &[Override] = &[BEHIND_A_LINK, Override::new("lb", "BALANCE__ALGORITHM", "round-robin")];
const LEAST_REQUESTS: &[Override] =
    &[BEHIND_A_LINK, Override::new("lb", "BALANCE__ALGORITHM", "least-requests")];
const EWMA: &[Override] = &[BEHIND_A_LINK, Override::new("lb", "BALANCE__ALGORITHM", "ewma")];

/// What an algorithm made of the same load.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    /// The slow app's part, from 0 to 1.
    slow_part: f64,
    p50: Duration,
    p90: Duration,
    p99: Duration,
    failed: u64,
}

struct Measured {
    algorithm: &'static str,
    figures: Figures,
    shares: Shares,
    load: Report,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(APPS).lbs(1).overrides(ROUND_ROBIN).start().await?;
    let behind = stack.address(SLOW, 3001).await?;
    let link = ChaosProxy::start_on(stack.address(SLOW, 3000).await?, behind)
        .await
        .context("the slow app's link")?;
    let delay = slow_down(&stack, &link).await?;
    let mut measured = Vec::new();
    for (algorithm, overrides) in
        [("round robin", ROUND_ROBIN), ("least requests", LEAST_REQUESTS), ("peak EWMA", EWMA)]
    {
        stack.with(Topology { overrides, ..stack.platform().topology() }).await?;
        everybody_is_up(&stack).await?;
        measured.push(measure(&stack, settings, algorithm).await?);
    }
    Ok(story(settings, &stack, delay, &measured[0], &measured[1], &measured[2]))
}

/// Looks how fast the apps are and makes one ten times slower; says by how much it is late.
async fn slow_down(stack: &Stack, link: &ChaosProxy) -> Result<Duration> {
    everybody_is_up(stack).await?;
    let usual = load::run(plan(stack, Duration::from_secs(2))).await?;
    let delay = Duration::from_micros(usual.p50_us * 9).max(DELAY_MIN);
    link.delay(delay / 2, Duration::ZERO);
    Ok(delay)
}

fn plan(stack: &Stack, duration: Duration) -> Plan {
    let lbs = stack.endpoints().lbs;
    Plan::fixed(ClientKind::Plain, lbs, SITE)
        .rate(RATE_PER_S, duration)
        .arrival(Arrival::Poisson { seed: 1 })
        .mix(super::reads())
}

/// By the balancer's own word: with an eye on latency, a visitor who asks again and again may not meet the slow app for a minute.
async fn everybody_is_up(stack: &Stack) -> Result<()> {
    attempt("every app is up", JOIN_DEADLINE, async || {
        let up = stack.scrape("lb-1", "lb_backend_state", "state=\"up\"").await?;
        ensure!(up >= f64::from(APPS), "{up} of {APPS} are");
        Ok(())
    })
    .await
}

async fn measure(stack: &Stack, settings: Settings, algorithm: &'static str) -> Result<Measured> {
    let duration = Duration::from_secs(if settings.short { 5 } else { 30 });
    let answers = Answers::default();
    let seen = answers.clone();
    let load = load::run(plan(stack, duration).observe(move |observed| seen.note(observed))).await?;
    let answers = answers.take();
    let figures = figures(&answers, Counts::from(&load).failed);
    Ok(Measured { algorithm, figures, shares: shares(&answers), load })
}

fn figures(answers: &[Answer], failed: u64) -> Figures {
    Figures {
        slow_part: shares(answers).of(SLOW),
        p50: percentile(answers, 0.5),
        p90: percentile(answers, 0.9),
        p99: percentile(answers, 0.99),
        failed,
    }
}

fn judge(delay: Duration, round_robin: Figures, least_requests: Figures, ewma: Figures) -> Judgement {
    let demands = [
        least_requests.slow_part <= RELIEVED,
        least_requests.p90 < delay,
        ewma.slow_part <= RELIEVED,
        ewma.p99 < delay,
        [round_robin, least_requests, ewma].iter().all(|it| it.failed == 0),
    ];
    Judgement::of(&demands, FAIR.contains(&round_robin.slow_part) && round_robin.p99 >= delay)
}

fn story(
    settings: Settings,
    stack: &Stack,
    delay: Duration,
    round_robin: &Measured,
    least_requests: &Measured,
    ewma: &Measured,
) -> Story {
    let all = [least_requests, ewma, round_robin];
    let words = all.map(|it| {
        let Figures { slow_part, p50, p90, p99, .. } = it.figures;
        let [p50, p90, p99] = [p50, p90, p99].map(|it| it.as_secs_f64() * 1000.0);
        let part = 100.0 * slow_part;
        format!("{}: {part:.1} % to the slow app, p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1} ms", it.algorithm)
    });
    let counts = |all: &[&Measured]| {
        let mut sum = Counts::default();
        for counts in all.iter().map(|it| Counts::from(&it.load)) {
            sum.attempted += counts.attempted;
            sum.acknowledged += counts.acknowledged;
            sum.failed += counts.failed;
        }
        sum
    };
    let evidence = Evidence {
        reason: format!(
            "one app of three answers {:.0} ms later; {}",
            delay.as_secs_f64() * 1000.0,
            words.join("; ")
        ),
        counts: counts(&[least_requests, ewma]),
        seconds: Seconds::default(),
        control_counts: counts(&[round_robin]),
    };
    let mut facts = facts(stack, settings);
    facts.push(("the slow app is late by".into(), format!("{:.1} ms", delay.as_secs_f64() * 1000.0)));
    let judgement = judge(delay, round_robin.figures, least_requests.figures, ewma.figures);
    Story {
        result: judgement.result(&NAMED, settings, evidence),
        hypothesis: "The link to one of three apps is made so slow that its answers take ten times as long; the same load, arriving \
                     at random, is balanced in three ways."
            .into(),
        facts,
        charts: vec![shares_chart(&all), latency_chart(&all)],
        runs: all.map(run_of).into(),
    }
}

fn shares_chart(all: &[&Measured]) -> Chart {
    let bar = |shares: &Shares, app: &String| Bar {
        label: if app == SLOW { format!("{app}, slow") } else { app.clone() },
        value: 100.0 * shares.of(app),
        marked: app == SLOW,
    };
    let group = |it: &&Measured| Group {
        title: it.algorithm.into(),
        bars: it.shares.0.keys().map(|app| bar(&it.shares, app)).collect(),
    };
    Chart {
        title: "share of the requests".into(),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(APPS), label: "fair".into() }),
        groups: all.iter().map(group).collect(),
    }
}

fn latency_chart(all: &[&Measured]) -> Chart {
    let group = |it: &&Measured| {
        let Figures { p50, p90, p99, .. } = it.figures;
        let bars = [("median", p50), ("90th percentile", p90), ("99th percentile", p99)];
        Group {
            title: it.algorithm.into(),
            bars: bars.map(|(label, value)| Bar::new(label, value.as_secs_f64() * 1000.0)).into(),
        }
    };
    let groups = all.iter().map(group).collect();
    Chart { title: "latency from due time".into(), unit: "ms", reference: None, groups }
}

fn run_of(measured: &Measured) -> Run {
    let (title, load) = (measured.algorithm.into(), measured.load.clone());
    Run { title, load, bands: Vec::new(), events: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::super::answers::tests::answers;
    use super::*;
    use crate::drill::report::Verdict;

    const DELAY: Duration = Duration::from_millis(60);

    /// Figures in percent and milliseconds.
    fn figures(slow_percent: f64, p90: u64, p99: u64) -> Figures {
        let ms = Duration::from_millis;
        Figures { slow_part: slow_percent / 100.0, p50: ms(3), p90: ms(p90), p99: ms(p99), failed: 0 }
    }

    #[track_caller]
    fn check(round_robin: Figures, least_requests: Figures, ewma: Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(DELAY, round_robin, least_requests, ewma), Judgement { verdict, caught });
    }

    fn good() -> [Figures; 3] {
        [figures(33.0, 64, 70), figures(6.0, 5, 66), figures(0.2, 5, 9)]
    }

    #[test]
    fn holds_when_both_relieve_the_slow_app() {
        let [round_robin, least_requests, ewma] = good();
        check(round_robin, least_requests, ewma, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_one_does_not_or_something_failed() {
        let [round_robin, least_requests, ewma] = good();
        check(round_robin, figures(20.0, 5, 66), ewma, Verdict::Refuted, true);
        check(round_robin, figures(15.0, 63, 66), ewma, Verdict::Refuted, true);
        check(round_robin, least_requests, figures(0.2, 5, 61), Verdict::Refuted, true);
        check(round_robin, least_requests, figures(20.0, 5, 9), Verdict::Refuted, true);
        check(round_robin, least_requests, Figures { failed: 1, ..ewma }, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_round_robin_is_not_fair_or_not_slow() {
        let [_, least_requests, ewma] = good();
        check(figures(10.0, 64, 70), least_requests, ewma, Verdict::Holds, false);
        check(figures(33.0, 5, 9), least_requests, ewma, Verdict::Holds, false);
    }

    #[test]
    fn figures_come_from_answers() {
        let figures = super::figures(&answers("app-1 2, app-2 3, app-3 70, app-1 4"), 0);
        assert_eq!((figures.slow_part, figures.p50.as_millis(), figures.p99.as_millis()), (0.25, 3, 70));
    }
}
