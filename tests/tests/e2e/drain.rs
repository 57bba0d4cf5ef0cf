//! SIGTERM is no fault: an instance that is told to stop finishes what it has, and nobody notices.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Stack;
use tests::platform::State;
use tests::stack::Handle;

use crate::faults::under_load;
use crate::runner::Ended;

/// Lame-duck time and drain deadline, and air.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn app(stack: &Stack) -> Result<Ended> {
    let victim = stack.app(3);
    let seen = under_load(stack, async || victim.terminate().await).await?;
    seen.nobody_who_retries_failed()?;
    // Behind the balancers nobody has to retry for it.
    ensure!(seen.plain.failed + seen.plain.truncated == 0, "plain client: {}", seen.plain);
    ended(stack, &victim).await
}

pub(crate) async fn balancer(stack: &Stack) -> Result<Ended> {
    let victim = stack.lb(2);
    under_load(stack, async || victim.terminate().await).await?.nobody_who_retries_failed()?;
    ended(stack, &victim).await
}

async fn ended(stack: &Stack, victim: &Handle<'_>) -> Result<Ended> {
    let dead = async || victim.status().await.is_ok_and(|it| it.state == State::Dead);
    stack.eventually("the drained instance has ended", STOP_DEADLINE, dead).await?;
    Ok(Ended::Passed)
}
