//! Everything that serves is replaced by a new process under load, one after the other, and nobody notices.
//!
//! Natively not even a client that never tries twice; in containers a balancer's address is away for a moment, which a client
//! with a second address does not mind.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Stack;
use tests::load::{self, ClientKind, Mix, Plan, Report, RequestSpec};
use tests::platform::Fault;
use tests::stack::Place;
use tests::topology::SITE;

use crate::runner::{Ended, place};

const RATE_PER_S: f64 = 200.0;
/// Longer than any replacement takes; the load is stopped when all are done.
const LOAD_MAX: Duration = Duration::from_secs(240);
/// After the last step, so that what it broke is seen.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Reads, and one request in four stores something and may not be sent twice.
fn mix() -> Mix {
    let item = serde_json::json!({"slug": "back-squat", "sets": 3, "reps": 8});
    let store = RequestSpec::post_json("/api/plan", &item);
    Mix::Weighted(vec![
        (1, RequestSpec::get("/")),
        (2, RequestSpec::get("/api/exercises?q=squat&limit=5")),
        (1, store),
    ])
}

async fn under_load(
    stack: &Stack,
    kind: ClientKind,
    steps: impl AsyncFnOnce() -> Result<()>,
) -> Result<Report> {
    let endpoints = stack.endpoints();
    let plan = Plan::by_name(kind, SITE, endpoints.site_port, vec![endpoints.dns]);
    let load = load::start(plan.rate(RATE_PER_S, LOAD_MAX).mix(mix()))?;
    tokio::time::sleep(AFTERWARDS).await;
    let outcome = steps().await;
    tokio::time::sleep(AFTERWARDS).await;
    load.stop();
    let report = load.finish().await;
    outcome?;
    Ok(report)
}

fn nobody_noticed(report: &Report) -> Result<()> {
    println!(
        "  {} requests in {:.1} s, {} failed, {} tried elsewhere, slowest {} ms",
        report.attempted,
        report.seconds,
        report.failed + report.truncated,
        report.retried,
        report.max_us / 1000
    );
    ensure!(report.failed + report.truncated == 0, "{report}");
    Ok(())
}

/// A container's address is away while it is made again; a process hands its sockets over.
fn client() -> ClientKind {
    if place() == Place::Native { ClientKind::Plain } else { ClientKind::Retrying }
}

pub(crate) async fn balancers(stack: &Stack) -> Result<Ended> {
    let report = under_load(stack, client(), async || {
        for name in ["lb-1", "lb-2"] {
            stack.replace(name).await?;
        }
        Ok(())
    })
    .await?;
    nobody_noticed(&report)?;
    Ok(Ended::Passed)
}

pub(crate) async fn apps(stack: &Stack) -> Result<Ended> {
    let report = under_load(stack, ClientKind::Plain, async || {
        for name in ["app-1", "app-2", "app-3"] {
            stack.replace(name).await?;
        }
        Ok(())
    })
    .await?;
    nobody_noticed(&report)?;
    Ok(Ended::Passed)
}

/// The same client does see balancers that are killed and started again: both, for it stays with one as long as it
/// remembers the name, and each for a while, for a start takes only milliseconds.
pub(crate) async fn control(stack: &Stack) -> Result<Ended> {
    let report = under_load(stack, ClientKind::Plain, async || {
        for n in [1, 2] {
            let victim = stack.lb(n);
            victim.fault(Fault::Kill).await?;
            tokio::time::sleep(AFTERWARDS).await;
            victim.restart().await?;
        }
        Ok(())
    })
    .await?;
    ensure!(report.failed + report.truncated > 0, "nobody noticed a killed balancer: {report}");
    Ok(Ended::Passed)
}
