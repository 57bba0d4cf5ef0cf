//! `[retry]`: how often and at whose cost a request may be sent again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::ms;
use crate::retry::BudgetTerms;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    retries_max: u64,
    total_timeout_ms: u64,
    body_bytes_max: u64,
    budget_percent: u64,
    budget_floor_per_second: u64,
    budget_burst: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            retries_max: 2,
            total_timeout_ms: 15_000,
            body_bytes_max: 65_536,
            budget_percent: 20,
            budget_floor_per_second: 10,
            budget_burst: 250,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Retry {
    pub(crate) retries_max: u32,
    pub(crate) total_timeout: Duration,
    pub(crate) body_bytes_max: usize,
    pub(crate) budget: BudgetTerms,
}

pub(super) fn parse(raw: &Raw) -> Result<Retry, Invalid> {
    let percent = raw.budget_percent;
    if percent > 100 {
        return Err(Invalid::new(
            "retry.budget_percent",
            percent,
            "more retries than requests",
            "write 0 to 100",
        ));
    }
    let number = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    Ok(Retry {
        retries_max: u32::try_from(raw.retries_max).unwrap_or(u32::MAX),
        total_timeout: ms("retry.total_timeout_ms", raw.total_timeout_ms)?,
        body_bytes_max: usize::try_from(raw.body_bytes_max).unwrap_or(usize::MAX),
        budget: BudgetTerms {
            per_request: number(percent) / 100.0,
            per_second: number(raw.budget_floor_per_second),
            burst: number(raw.budget_burst),
        },
    })
}
