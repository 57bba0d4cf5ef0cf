//! `[expose]`: what clients get to see of what is behind the balancer.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    served_by: bool,
    explain: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self { served_by: true, explain: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expose {
    /// Answers keep the backends' own `x-served-by`.
    pub(crate) served_by: bool,
    /// Answers say in `x-lb-explain` who was picked and why.
    pub(crate) explain: bool,
}

pub(super) fn parse(raw: &Raw) -> Expose {
    Expose { served_by: raw.served_by, explain: raw.explain }
}
