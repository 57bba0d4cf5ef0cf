//! What can go wrong with a session, seen from the caller.

use thiserror::Error;

/// Why a store could not do what it was asked. Nothing was changed, except that after [`StoreError::Unavailable`]
/// from `apply` the step may or may not have happened: the answer was lost, perhaps not the question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time. Answer 503 with Retry-After and carry on.
    #[error("session store unavailable: {reason}")]
    Unavailable {
        /// What was seen last, for logs; never shown to visitors.
        reason: String,
    },
    /// The result would be larger than a limit allows.
    #[error("session limit {limit} exceeded: {got}, at most {max}")]
    Limit {
        /// The name of the limit as in [`crate::Limits`].
        limit: &'static str,
        /// The limit's value.
        max: usize,
        /// What the change asked for.
        got: usize,
    },
    /// The list of changes makes no sense: a mistake of the caller.
    #[error("invalid session change: {reason}")]
    Invalid {
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The memory store holds as many sessions as it may.
    #[error("session store full: {max} sessions")]
    Full {
        /// `sessions_max` of the memory store.
        max: usize,
    },
    /// What is stored is not a session of this program's making.
    #[error("stored session is damaged: {reason}")]
    Damaged {
        /// What did not parse.
        reason: String,
    },
}

impl StoreError {
    /// A short fixed word for metric labels and log fields.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Limit { .. } => "limit",
            Self::Invalid { .. } => "invalid",
            Self::Full { .. } => "full",
            Self::Damaged { .. } => "damaged",
        }
    }

    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into() }
    }

    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged { reason: reason.into() }
    }
}
