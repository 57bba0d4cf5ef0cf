//! What every request can reach: made once at start, shared by all.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use service_kit::KeyRing;
use session_store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::config::Server;
use crate::db::{Database, DbError};
use crate::metrics::Metrics;
use crate::password::Passwords;
use crate::problem::Problem;
use crate::searches::Searches;
use crate::session;

/// The kit's `/readyz`: status and JSON.
pub(crate) type Ready = Arc<dyn Fn() -> (u16, String) + Send + Sync>;

/// The parts of the app.
pub(crate) struct App {
    /// Goes out as `x-served-by`.
    pub(crate) instance: HeaderValue,
    /// At the foot of every page; empty: nothing.
    pub(crate) notice: String,
    pub(crate) limits: Server,
    /// One permit a request in flight.
    pub(crate) in_flight: Semaphore,
    pub(crate) sessions: Store,
    pub(crate) session_deadline: Duration,
    pub(crate) data: Arc<Database>,
    pub(crate) searches: Arc<Searches>,
    pub(crate) passwords: Passwords,
    pub(crate) signing_keys: KeyRing,
    pub(crate) ready: Ready,
    pub(crate) metrics: Metrics,
}

impl std::fmt::Debug for App {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("App").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// What handlers get.
pub(crate) type Shared = Arc<App>;

impl App {
    /// One call to the session store. The store has deadlines of its own; this one is the promise.
    pub(crate) async fn within_session_deadline<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Problem> {
        let late = || StoreError::Unavailable {
            reason: format!("no answer within {} ms", self.session_deadline.as_millis()),
        };
        let result = tokio::time::timeout(self.session_deadline, call).await.unwrap_or_else(|_| Err(late()));
        result.map_err(|error| {
            self.metrics.session_errors.get_or_create(&("kind", error.kind()).into()).inc();
            session::problem(&error)
        })
    }
}

impl From<&DbError> for Problem {
    fn from(error: &DbError) -> Self {
        match error {
            DbError::Busy { .. } => {
                Self::unavailable("database-busy", "the database is busy; try again in a moment")
            }
            DbError::Away { .. } => Self::unavailable(
                "database-away",
                "the database cannot be reached; nothing was changed, try again",
            ),
            DbError::OutcomeUnknown { .. } => Self::unavailable(
                "outcome-unknown",
                "the database was lost before it confirmed; it may or may not have happened. \
                 Look before you repeat it, or send an Idempotency-Key where one is taken",
            ),
            DbError::Refused { .. } => Self::internal(""),
        }
        .because(error.to_string())
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        Self::from(&error)
    }
}
