//! Everything starts at once, whatever comes last: nobody exits because a dependency is late.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Stack;
use tests::platform::State;
use tests::stack::Place;

use crate::runner::{Ended, place};

pub(crate) async fn database_last() -> Result<Ended> {
    if place() == Place::Docker {
        // Compose's own dependencies decide there; that everything retries is the same program.
        return Ok(Ended::Passed);
    }
    let stack = Stack::native().database_last(Duration::from_secs(3)).start().await?;
    for instance in stack.platform().instances().await? {
        ensure!(instance.state == State::Running, "{} is {:?}", instance.name, instance.state);
    }
    Ok(Ended::Passed)
}
