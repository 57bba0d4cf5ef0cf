//! Waiting for a condition with a deadline: what tests do instead of sleeping.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `condition` is true; fails with `what` after `deadline`.
pub async fn eventually(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> Result<Duration> {
    let started = Instant::now();
    loop {
        if condition().await {
            return Ok(started.elapsed());
        }
        if started.elapsed() > deadline {
            bail!("not within {deadline:?}: {what}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Like [`eventually`], for a step that may fail: returns its value, or its last error with `what`.
pub async fn attempt<T>(
    what: &str,
    deadline: Duration,
    mut step: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match step().await {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > deadline => {
                return Err(error.context(format!("not within {deadline:?}: {what}")));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
