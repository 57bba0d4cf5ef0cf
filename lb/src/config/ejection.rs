//! `[ejection]`: when a backend whose answers are bad is left alone for a while.

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::{ms, percent};
use crate::ejection::{Statuses, Terms};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    errors: u64,
    statuses: Vec<u64>,
    base_ms: u64,
    time_max_ms: u64,
    share_max_percent: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            errors: 5,
            // Not 503: it is mostly said of something that all backends share, and then leaving one alone helps nobody.
            statuses: vec![502, 504],
            base_ms: 5_000,
            time_max_ms: 60_000,
            share_max_percent: 50,
        }
    }
}

/// `None`: never.
pub(super) fn parse(raw: &Raw) -> Result<Option<Terms>, Invalid> {
    if raw.errors == 0 {
        return Ok(None);
    }
    let (base, max) = (ms("ejection.base_ms", raw.base_ms)?, ms("ejection.time_max_ms", raw.time_max_ms)?);
    if max < base {
        let reason = "shorter than ejection.base_ms";
        return Err(Invalid::new("ejection.time_max_ms", raw.time_max_ms, reason, "write a longer time"));
    }
    let statuses = Statuses::of(&raw.statuses).ok_or_else(|| {
        let text = raw.statuses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Invalid::new("ejection.statuses", text, "not statuses of server errors", "write some of 500 to 599")
    })?;
    Ok(Some(Terms {
        errors: u32::try_from(raw.errors).unwrap_or(u32::MAX),
        statuses,
        base,
        max,
        share_percent: percent("ejection.share_max_percent", raw.share_max_percent)?,
    }))
}
