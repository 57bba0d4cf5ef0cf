//! One instance is killed under 200 requests/s on the site's name: nobody who retries notices.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Stack;
use tests::load::{self, ClientKind, Mix, Plan, Report, RequestSpec};
use tests::stack::Handle;
use tests::topology::SITE;

use crate::runner::Ended;

/// The rate of the promise.
const RATE_PER_S: f64 = 200.0;
const DURATION: Duration = Duration::from_secs(6);

/// What load client and plain client saw while `fault` was done at a third of the time.
pub(crate) struct Seen {
    pub(crate) retrying: Report,
    pub(crate) plain: Report,
}

impl Seen {
    pub(crate) fn nobody_who_retries_failed(&self) -> Result<()> {
        let it = &self.retrying;
        ensure!(it.failed + it.truncated == 0, "retrying client: {it}\nplain client: {}", self.plain);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let sent = it.attempted as f64;
        ensure!(sent >= RATE_PER_S * DURATION.as_secs_f64() * 0.99, "the load was not sent: {it}");
        println!(
            "  retrying: slowest {} ms, {} retried; plain: {} failed",
            it.max_us / 1000,
            it.retried,
            self.plain.failed
        );
        Ok(())
    }
}

pub(crate) async fn under_load(stack: &Stack, fault: impl AsyncFnOnce() -> Result<()>) -> Result<Seen> {
    let endpoints = stack.endpoints();
    let mix = Mix::Weighted(vec![
        (1, RequestSpec::get("/")),
        (2, RequestSpec::get("/api/exercises?q=squat&limit=5")),
        (1, RequestSpec::get("/exercises/goblet-squat")),
    ]);
    let plan = |kind, rate| {
        Plan::by_name(kind, SITE, endpoints.site_port, vec![endpoints.dns])
            .rate(rate, DURATION)
            .mix(mix.clone())
    };
    let retrying = load::start(plan(ClientKind::Retrying, RATE_PER_S))?;
    let plain = load::start(plan(ClientKind::Plain, RATE_PER_S / 4.0))?;
    tokio::time::sleep(DURATION / 3).await;
    fault().await?;
    Ok(Seen { retrying: retrying.finish().await, plain: plain.finish().await })
}

async fn killed(stack: &Stack, victim: Handle<'_>) -> Result<Ended> {
    under_load(stack, async || victim.kill().await).await?.nobody_who_retries_failed()?;
    Ok(Ended::Passed)
}

pub(crate) async fn app(stack: &Stack) -> Result<Ended> {
    killed(stack, stack.app(2)).await
}

pub(crate) async fn balancer(stack: &Stack) -> Result<Ended> {
    killed(stack, stack.lb(1)).await
}

pub(crate) async fn replica(stack: &Stack) -> Result<Ended> {
    let replica = stack.replica().await?;
    killed(stack, stack.instance(replica)).await
}
