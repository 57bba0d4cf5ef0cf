//! kill-primary: the Postgres primary's process is killed under writes, and every acknowledged workout is looked for
//! afterwards (C17).
//!
//! Given 100 workouts/s with idempotency keys and 100 reads/s, when the primary's Postgres is killed, then Patroni promotes
//! a replica that has everything acknowledged, the proxy follows, reads go on, and no workout is lost or there twice. The
//! second run switches the protection off: commits are acknowledged before anything is on a disk or at a replica.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::{HeaderName, HeaderValue};
use serde_json::json;

use super::history::{Findings, History, Kind, Told};
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Band, Counts, Event, Run, Seconds, Story};
use super::visitors::{self, Athlete};
use super::{Settings, facts, on_the_name};
use crate::eventually::attempt;
use crate::load::{self, Check, ClientKind, Mix, Observed, Outcome, Plan, Report, RequestSpec};
use crate::platform::Fault;
use crate::stack::Stack;

pub(super) const NAMED: Named = Named {
    name: "kill-primary",
    claim: "the primary can die: no acknowledged write is lost or doubled, writes come back by themselves, reads go on (C17)",
    protection: "quorum commit (synchronous_mode off, synchronous_commit off)",
};

const WRITES_PER_S: f64 = 100.0;
const READS_PER_S: f64 = 100.0;
/// The list that the app gives of one account has 200 entries; each account stays well below.
const WORKOUTS_PER_ACCOUNT: u64 = 150;
/// A write may wait for the new primary: that is what the proxy is for.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
const FAILOVER_DEADLINE: Duration = Duration::from_secs(60);

struct Measured {
    history: History,
    findings: Findings,
    writes: Report,
    reads: Report,
    killed_at: Duration,
    /// From the kill to another leader in Patroni's view.
    failover: Duration,
    /// From the kill to the first acknowledged write of the new primary.
    first_write: Option<Duration>,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).start().await?;
    let main = measure(&stack, settings, settings.seed).await?;
    stack.whole(FAILOVER_DEADLINE).await?;
    let unprotected = json!({
        "synchronous_mode": "off",
        "postgresql": { "parameters": { "synchronous_commit": "off" } },
    });
    stack.patch_cluster(&unprotected).await?;
    stack.whole(FAILOVER_DEADLINE).await?;
    without_quorum(&stack).await?;
    let control = measure(&stack, settings, settings.seed + 1).await?;
    Ok(story(settings, &stack, &main, &control))
}

/// Patroni takes its time to tell Postgres.
async fn without_quorum(stack: &Stack) -> Result<()> {
    attempt("no replica counts for the quorum any more", Duration::from_secs(30), async || {
        let members = stack.cluster().await?;
        anyhow::ensure!(
            members.iter().all(|it| it["role"] == "leader" || it["role"] == "replica"),
            "{members:?}"
        );
        Ok(())
    })
    .await
}

async fn measure(stack: &Stack, settings: Settings, seed: u64) -> Result<Measured> {
    let duration = Duration::from_secs(if settings.short { 10 } else { 60 });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
    let expected_writes = (WRITES_PER_S * duration.as_secs_f64()).ceil() as u64;
    let accounts = usize::try_from(expected_writes.div_ceil(WORKOUTS_PER_ACCOUNT))?;
    let athletes = visitors::athletes(stack, accounts, seed).await?;
    let slug = visitors::slugs(stack).await?.remove(0);
    let history: Arc<Mutex<History>> = Arc::default();
    let writes = load::start(writing(stack, duration, &athletes, &slug, seed, history.clone()))?;
    let reads = load::start(on_the_name(stack, ClientKind::Retrying, READS_PER_S, duration))?;
    tokio::time::sleep(duration / 3).await;

    let primary = stack.primary().await?;
    let (killed_at, kill) = (writes.elapsed(), Instant::now());
    stack.instance(&primary).fault(Fault::KillPostgres).await?;
    let moved = async || {
        let now = stack.primary().await?;
        anyhow::ensure!(now != primary, "{now} is the leader still");
        Ok(())
    };
    attempt("another leader", FAILOVER_DEADLINE, moved).await?;
    let failover = kill.elapsed();

    let (writes, reads) = (writes.finish().await, reads.finish().await);
    let history = std::mem::take(&mut *history.lock().expect("observers do not panic"));
    let findings = look_for_all(&athletes, &history).await?;
    let first_write = first_write(&history, killed_at);
    Ok(Measured { history, findings, writes, reads, killed_at, failover, first_write })
}

/// Every write is one workout whose weight in grams is its number: found again by anybody who reads the list.
fn writing(
    stack: &Stack,
    duration: Duration,
    athletes: &[Athlete],
    slug: &str,
    seed: u64,
    history: Arc<Mutex<History>>,
) -> Plan {
    let cookies: Vec<HeaderValue> = athletes.iter().map(|it| it.cookies.clone()).collect();
    let slug = slug.to_owned();
    let mix = Mix::generated(move |n| {
        #[expect(clippy::cast_precision_loss, reason = "below a million")]
        let weight_kg = (n + 1) as f64 / 1000.0;
        let workout = json!({
            "slug": slug, "sets": 3, "reps": 5, "weight_kg": weight_kg, "performed_at": "2026-01-02T03:04:05Z",
        });
        let key = HeaderValue::from_str(&format!("drill-{seed}-{n}")).expect("letters and digits");
        let cookie = cookies[usize::try_from(n).unwrap_or(0) % cookies.len()].clone();
        RequestSpec::post_json("/api/workouts", &workout)
            .header(HeaderName::from_static("idempotency-key"), key)
            .header(http::header::COOKIE, cookie)
            .idempotent()
            .tag(n + 1)
    });
    let mut plan = on_the_name(stack, ClientKind::Retrying, WRITES_PER_S, duration).mix(mix);
    plan.limits.total_deadline = WRITE_DEADLINE;
    plan.limits.try_deadline = WRITE_DEADLINE / 2;
    plan.observe(move |observed| note(&history, observed))
}

fn note(history: &Mutex<History>, observed: &Observed<'_>) -> Check {
    let told = match observed.outcome {
        Outcome::Complete(response) if response.status.is_success() => Told::Acknowledged,
        // The app says so when nothing was done; anything a server in between says proves nothing.
        Outcome::Complete(response) if response.status.is_client_error() => Told::Failed,
        _ => Told::Unknown,
    };
    let ended = observed.due + observed.latency;
    let id = observed.request.tag.to_string();
    history.lock().expect("observers do not panic").record(&id, Kind::Add, told, observed.due, ended);
    Check::Accept
}

/// Reads every account's list, through the whole stack, and compares one by one.
async fn look_for_all(athletes: &[Athlete], history: &History) -> Result<Findings> {
    let mut found = Vec::new();
    for athlete in athletes {
        let weights =
            attempt("the list of workouts", FAILOVER_DEADLINE, async || athlete.weights_grams().await);
        found.extend(weights.await.context("reading back")?.into_iter().map(|grams| grams.to_string()));
    }
    Ok(history.check(found.iter().map(String::as_str)))
}

/// From the kill to the end of the longest silence after it. Not simply the first acknowledgement after the kill: what was
/// on its way, or was sent while the kill was on its way, may still be answered by the old primary.
fn first_write(history: &History, killed_at: Duration) -> Option<Duration> {
    let acknowledged = history.operations().iter().filter(|it| it.told == Told::Acknowledged);
    let mut ends_us: Vec<u64> = acknowledged.map(|it| it.ended_us).collect();
    ends_us.sort_unstable();
    let back_us = end_of_longest_silence(&ends_us, u64::try_from(killed_at.as_micros()).ok()?)?;
    Some(Duration::from_micros(back_us).saturating_sub(killed_at))
}

fn end_of_longest_silence(ends_us: &[u64], killed_us: u64) -> Option<u64> {
    let silences = ends_us.windows(2).filter(|pair| pair[1] > killed_us);
    silences.max_by_key(|pair| pair[1] - pair[0]).map(|pair| pair[1])
}

fn story(settings: Settings, stack: &Stack, main: &Measured, control: &Measured) -> Story {
    let counts = Counts::from(&main.findings);
    let reads_failed = main.reads.failed + main.reads.truncated;
    let clean = main.findings.is_clean() && reads_failed == 0 && main.first_write.is_some();
    let seconds = |duration: Option<Duration>| duration.map(|it| it.as_secs_f64());
    let judgement = Judgement::of(&[clean], !control.findings.lost.is_empty());
    let evidence = Evidence {
        reason: format!(
            "{} acknowledged: {} lost, {} doubled, {} unexpected; {} writes without an answer; reads: {} of {} failed; first \
             write acknowledged {:.1} s after the kill; asynchronous: {} of {} lost",
            counts.acknowledged,
            counts.lost,
            counts.duplicated,
            main.findings.unexpected.len(),
            main.findings.unknown + main.findings.failed,
            reads_failed,
            main.reads.attempted,
            seconds(main.first_write).unwrap_or(f64::NAN),
            control.findings.lost.len(),
            control.findings.acknowledged,
        ),
        counts,
        seconds: Seconds {
            detect: None,
            failover: Some(main.failover.as_secs_f64()),
            recover: seconds(main.first_write),
        },
        control_counts: Counts::from(&control.findings),
    };
    let mut facts = facts(stack, settings);
    facts.push(("operations in the history".into(), main.history.operations().len().to_string()));
    let runs = [
        ("writes", main, &main.writes),
        ("reads", main, &main.reads),
        ("control: writes", control, &control.writes),
    ];
    Story {
        result: judgement.result(&NAMED, settings, evidence),
        hypothesis: "Accounts log workouts with idempotency keys through the whole stack; the primary's Postgres process is killed; \
                     then every account's list is read and compared with what was acknowledged."
            .into(),
        facts,
        charts: Vec::new(),
        runs: runs.map(|(title, measured, load)| run_of(title, measured, load)).into(),
    }
}

fn run_of(title: &str, measured: &Measured, load: &Report) -> Run {
    let from_s = measured.killed_at.as_secs_f64();
    let leader = Event { at_s: from_s + measured.failover.as_secs_f64(), label: "another leader".into() };
    let writer = measured.first_write.map(|after| (from_s + after.as_secs_f64(), "first write"));
    let to_s = writer.map_or(load.seconds, |(at_s, _)| at_s);
    let mut events = vec![leader];
    events.extend(writer.map(|(at_s, label)| Event { at_s, label: label.into() }));
    let bands = vec![Band { from_s, to_s, label: "no writer".into() }];
    Run { title: title.into(), load: load.clone(), bands, events }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stragglers_of_the_old_primary_are_not_the_new_one() {
        assert_eq!(end_of_longest_silence(&[10, 20, 31, 33, 90, 95, 101], 30), Some(90));
    }

    #[test]
    fn a_pause_before_the_kill_does_not_count() {
        assert_eq!(end_of_longest_silence(&[0, 70, 80, 101], 80), Some(101));
    }

    #[test]
    fn no_write_after_the_kill_is_no_recovery() {
        assert_eq!(end_of_longest_silence(&[1, 2, 3], 3), None);
    }
}
