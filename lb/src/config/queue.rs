//! `[queue]`: where requests wait while every backend of a pool is at its limit.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::ms;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    len_max: u64,
    timeout_ms: u64,
    sticky_percent: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self { len_max: 1_000, timeout_ms: 1_000, sticky_percent: 50 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Over all workers. Zero: nobody waits.
    pub(crate) len_max: usize,
    pub(crate) timeout: Duration,
    /// How much of it a client waits for its own backend before any other is as good.
    pub(crate) sticky_timeout: Duration,
}

pub(super) fn parse(raw: &Raw) -> Result<Queue, Invalid> {
    let timeout = ms("queue.timeout_ms", raw.timeout_ms)?;
    let percent = match raw.sticky_percent {
        percent @ 0..=100 => u32::try_from(percent).expect("at most 100"),
        other => return Err(Invalid::new("queue.sticky_percent", other, "out of range", "write 0 to 100")),
    };
    Ok(Queue {
        len_max: usize::try_from(raw.len_max).unwrap_or(usize::MAX),
        timeout,
        sticky_timeout: timeout * percent / 100,
    })
}
