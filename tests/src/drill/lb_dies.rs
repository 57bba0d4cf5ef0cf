//! lb-dies: one of two balancers is killed; the name server takes its address out of the answers (C22).
//!
//! Given two balancers under one name, when one is killed under load, then its address leaves the answers, and once the TTL
//! of the answers from before has passed no request of any client fails; clients that try a name's next address have no
//! failure at all. Without health checks, which is the control, the dead address stays in the answers, and clients that
//! take the first address go on failing.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Bar, Chart, Counts, Event, Group, Run, Seconds, Story};
use super::{Settings, facts, on_the_name};
use crate::dns_client::DnsClient;
use crate::eventually::attempt;
use crate::load::{self, Check, ClientKind, Plan, Report};
use crate::stack::Stack;
use crate::topology::{Override, SITE, Topology};

pub(super) const NAMED: Named = Named {
    name: "lb-dies",
    claim: "a balancer that dies leaves the DNS answers by itself: clients that retry lose nothing, the others until the TTL ends (C22)",
    protection: "the name server's health checks",
};

const UNCHECKED: &[Override] = &[Override::new("dns", "HEALTH__MODE", "off")];
const RETRYING_PER_S: f64 = 100.0;
const PLAIN_PER_S: f64 = 100.0;
/// How often the name server is asked what it answers.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Until both balancers are in the answers before anything is killed.
const JOIN_DEADLINE: Duration = Duration::from_secs(60);
/// For a request that was resolved just before the old answer ended.
const AIR: Duration = Duration::from_millis(500);

/// One run: when what happened, on the load's axis.
struct Measured {
    killed_at: Duration,
    /// When the dead address was first missing from an answer; none: it never was.
    withdrawn_at: Option<Duration>,
    /// Of the answers before the kill.
    ttl: Duration,
    /// When requests of clients that take the first address failed.
    plain_failures: Vec<Duration>,
    /// When each of them was due, successes too.
    plain_until: Duration,
    retrying: Report,
    plain: Report,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).start().await?;
    let (main_s, control_s) = if settings.short { (13, 7) } else { (45, 30) };
    let main = measure(&stack, settings, Duration::from_secs(main_s)).await?;
    stack.heal().await?;
    stack.with(Topology { overrides: UNCHECKED, ..stack.platform().topology() }).await?;
    let control = measure(&stack, settings, Duration::from_secs(control_s)).await?;
    Ok(story(settings, &stack, &main, &control))
}

/// The addresses that the name server gives for the site, in its order, and their TTL.
async fn answer(stack: &Stack) -> Result<(Vec<IpAddr>, Duration)> {
    let found = DnsClient::new(stack.endpoints().dns).addresses(SITE).await?;
    Ok((found.addresses, found.ttl))
}

async fn measure(stack: &Stack, settings: Settings, duration: Duration) -> Result<Measured> {
    let victim = 1 + u8::try_from(settings.seed % 2).unwrap_or(0);
    let dead = stack.lb(victim).status().await?.address;
    let both = async || {
        let (addresses, ttl) = answer(stack).await?;
        ensure!(addresses.len() == 2, "only {addresses:?} are in the answer");
        Ok(ttl)
    };
    attempt("both balancers in the answers", JOIN_DEADLINE, async || both().await.map(drop)).await?;
    let failures = Arc::new(Mutex::new(Vec::new()));
    let seen = failures.clone();
    let plain_plan: Plan = on_the_name(stack, ClientKind::Plain, PLAIN_PER_S, duration).observe(move |one| {
        if !one.outcome.is_ok() {
            seen.lock().expect("observers do not panic").push(one.due);
        }
        Check::Accept
    });
    let retrying = load::start(on_the_name(stack, ClientKind::Retrying, RETRYING_PER_S, duration))?;
    let plain = load::start(plain_plan)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ttl = both().await?;
    stack.lb(victim).kill().await?;
    let (killed_at, end) = (plain.elapsed(), Instant::now() + duration.saturating_sub(plain.elapsed()));
    let mut withdrawn_at = None;
    while Instant::now() < end {
        // A busy machine may lose one question.
        if let Ok((addresses, _)) = answer(stack).await {
            let is_there = dead.is_some_and(|dead| addresses.contains(&dead));
            withdrawn_at = match (is_there, withdrawn_at) {
                (true, _) => None,
                (false, None) => Some(plain.elapsed()),
                (false, since) => since,
            };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (retrying, plain) = (retrying.finish().await, plain.finish().await);
    let plain_failures = std::mem::take(&mut *failures.lock().expect("observers do not panic"));
    Ok(Measured { killed_at, withdrawn_at, ttl, plain_failures, plain_until: duration, retrying, plain })
}

impl Measured {
    /// When every answer from before the withdrawal has ended.
    fn forgotten_at(&self) -> Option<Duration> {
        self.withdrawn_at.map(|at| at + self.ttl + AIR)
    }

    fn failures_from(&self, from: Duration) -> usize {
        self.plain_failures.iter().filter(|due| **due >= from).count()
    }
}

fn judge(main: &Measured, control: &Measured) -> Judgement {
    // Without some time after the old answers have ended there is nothing to see in it.
    let clean = main.forgotten_at().filter(|at| *at + Duration::from_secs(1) <= main.plain_until);
    let demands =
        [clean.is_some_and(|at| main.failures_from(at) == 0), Counts::from(&main.retrying).failed == 0];
    let late = control.plain_until.saturating_sub(Duration::from_secs(2));
    Judgement::of(&demands, control.withdrawn_at.is_none() && control.failures_from(late) > 0)
}

fn story(settings: Settings, stack: &Stack, main: &Measured, control: &Measured) -> Story {
    let after_kill = |at: Option<Duration>| at.map(|at| at.saturating_sub(main.killed_at).as_secs_f64());
    let withdrawn_s = after_kill(main.withdrawn_at);
    let last_s = after_kill(main.plain_failures.iter().max().copied());
    let evidence = Evidence {
        reason: format!(
            "withdrawn from the answers {} s after the kill (TTL {} s); retrying clients: {} of {} failed; first address only: {} of {} \
             failed, the last {} s after the kill; without checks: never withdrawn, {} of {} of those failed, {} in the last two seconds",
            withdrawn_s.map_or("never".into(), |s| format!("{s:.1}")),
            main.ttl.as_secs(),
            Counts::from(&main.retrying).failed,
            main.retrying.attempted,
            Counts::from(&main.plain).failed,
            main.plain.attempted,
            last_s.map_or("-".into(), |s| format!("{s:.1}")),
            Counts::from(&control.plain).failed,
            control.plain.attempted,
            control.failures_from(control.plain_until.saturating_sub(Duration::from_secs(2))),
        ),
        counts: Counts::from(&main.retrying),
        seconds: Seconds { detect: withdrawn_s, failover: withdrawn_s, recover: last_s },
        control_counts: Counts::from(&control.plain),
    };
    Story {
        result: judge(main, control).result(&NAMED, settings, evidence),
        hypothesis: "Under load on the site's name one of two balancers is killed. Half of the clients try the name's next address when \
                     one fails, as browsers do; the others take the first one only. All honour the TTL."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart(main, control)],
        runs: [("checked", main), ("control: not checked", control)]
            .into_iter()
            .flat_map(|(title, it)| runs(title, it))
            .collect(),
    }
}

fn chart(main: &Measured, control: &Measured) -> Chart {
    let percent = |load: &Report| 100.0 * Counts::from(load).failed as f64 / load.attempted.max(1) as f64;
    let group = |title: &str, it: &Measured| Group {
        title: title.into(),
        bars: vec![
            Bar::new("tries the next address", percent(&it.retrying)),
            Bar::new("first address only", percent(&it.plain)).marked(),
        ],
    };
    let groups = vec![group("checked", main), group("not checked", control)];
    Chart { title: "failed requests, one of two balancers dead".into(), unit: "%", reference: None, groups }
}

fn runs(title: &str, measured: &Measured) -> Vec<Run> {
    let from_s = measured.killed_at.as_secs_f64();
    let withdrawn = measured
        .withdrawn_at
        .map(|at| Event { at_s: at.as_secs_f64(), label: "withdrawn from the answers".into() });
    [("next address", &measured.retrying), ("first address only", &measured.plain)]
        .map(|(kind, load)| Run {
            title: format!("{title}, {kind}"),
            load: load.clone(),
            bands: vec![Band { from_s, to_s: load.seconds, label: "one balancer of two is dead".into() }],
            events: withdrawn.clone().into_iter().collect(),
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    /// Killed at 2 s, TTL 5 s, over after 13 s: when it was withdrawn and when requests failed, in seconds.
    fn measured(withdrawn: Option<u64>, plain: &[u64], retrying_failed: u64) -> Measured {
        let seconds = Duration::from_secs;
        Measured {
            killed_at: seconds(2),
            withdrawn_at: withdrawn.map(seconds),
            ttl: seconds(5),
            plain_failures: plain.iter().copied().map(seconds).collect(),
            plain_until: seconds(13),
            retrying: Report { failed: retrying_failed, ..Report::empty(ClientKind::Retrying) },
            plain: Report::empty(ClientKind::Plain),
        }
    }

    #[track_caller]
    fn check(main: &Measured, control: &Measured, verdict: Verdict, caught: bool) {
        assert_eq!(judge(main, control), Judgement { verdict, caught });
    }

    fn control() -> Measured {
        measured(None, &[3, 12], 0)
    }

    #[test]
    fn holds_when_failures_end_with_the_ttl() {
        check(&measured(Some(4), &[3, 9], 0), &control(), Verdict::Holds, true);
    }

    #[test]
    fn refuted_by_a_later_failure_by_a_lost_retry_and_by_no_withdrawal() {
        check(&measured(Some(4), &[3, 10], 0), &control(), Verdict::Refuted, true);
        check(&measured(Some(4), &[3], 1), &control(), Verdict::Refuted, true);
        check(&measured(None, &[3, 12], 0), &control(), Verdict::Refuted, true);
        check(&measured(Some(8), &[3], 0), &control(), Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_the_dead_address_goes_or_nothing_fails_late() {
        let main = measured(Some(4), &[3], 0);
        check(&main, &measured(Some(5), &[12], 0), Verdict::Holds, false);
        check(&main, &measured(None, &[3], 0), Verdict::Holds, false);
    }
}
