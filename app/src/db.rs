//! The way to a database: a small pool with deadlines, and the rule of what may be repeated.
//!
//! The pool connects to one name, the database proxy, which looks after primaries and replicas: plain statements that
//! only read go to a replica, everything between BEGIN and COMMIT goes to the primary.
//!
//! A connection can be lost at any moment. What only read is repeated once. What writes is repeated once unless COMMIT
//! was sent and never answered: then it may have happened, and only work that recognises its own repetition (a unique
//! idempotency key) may be sent again. Everybody else hears that the outcome is unknown.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, Postgres};
use sqlx::{Connection as _, Error as SqlError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{error::Elapsed, timeout};

use crate::config::PoolLimits;
use crate::dsn::Dsn;
use crate::metrics::Metrics;

pub(crate) mod exercises;
pub(crate) mod users;
pub(crate) mod vectors;
pub(crate) mod workouts;

/// An idle connection is given back to the proxy after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// No connection lives longer, so that the load spreads again after a proxy came back.
const LIFETIME_MAX: Duration = Duration::from_secs(600);

/// Work on a connection: a plain function of its arguments, because it may be called twice.
pub(crate) type Work<A, T> = for<'c> fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, SqlError>>;

/// Whether work whose COMMIT was sent and not answered may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It recognises its own repetition.
    Safe,
    /// It would happen twice.
    Never,
}

/// Why there is no answer from a database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    /// Every connection is in use, and none came free in time.
    #[error("{what}: no free connection within {waited_ms} ms")]
    Busy { what: &'static str, waited_ms: u128 },
    /// It cannot be reached, or went away, and nothing was changed.
    #[error("{what}: {reason}")]
    Away { what: &'static str, reason: String },
    /// It went away between COMMIT and its acknowledgement.
    #[error("{what}: connection lost during COMMIT: {reason}")]
    OutcomeUnknown { what: &'static str, reason: String },
    /// It answered with an error.
    #[error("{what}: {source}")]
    Refused { what: &'static str, source: SqlError },
}

impl DbError {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Away { .. } => "away",
            Self::OutcomeUnknown { .. } => "outcome-unknown",
            Self::Refused { .. } => "refused",
        }
    }
}

/// One attempt's failure.
#[derive(Debug)]
struct Failure {
    error: FailureKind,
    /// COMMIT was on its way.
    committing: bool,
}

#[derive(Debug)]
enum FailureKind {
    Busy(Duration),
    Deadline(Duration),
    Sql(SqlError),
}

/// Connections to one database. Reads and transactions have connections of their own: while no primary exists the proxy
/// holds transactions, and those must not take the connections that reads from the replicas need.
#[derive(Debug)]
pub(crate) struct Database {
    reads: Lane,
    transactions: Lane,
    limits: PoolLimits,
    metrics: Metrics,
}

/// The connections of one kind of work.
#[derive(Debug)]
struct Lane {
    pool: PgPool,
    // One permit a connection, taken before the pool is asked: so waiting for a free connection and waiting for a new
    // one to be made have deadlines of their own.
    slots: Semaphore,
    lost_at: Arc<Mutex<Option<Instant>>>,
}

impl Lane {
    fn new(dsn: &Dsn, limits: PoolLimits) -> Self {
        let lost_at = Arc::new(Mutex::new(None));
        let seen = lost_at.clone();
        let pool = PgPoolOptions::new()
            .max_connections(limits.connections_max)
            .acquire_timeout(limits.connect_timeout)
            .idle_timeout(IDLE_TIMEOUT)
            .max_lifetime(LIFETIME_MAX)
            .test_before_acquire(false)
            // When one connection broke, those made before it are broken too, most likely: the second attempt must not meet another.
            .before_acquire(move |_, meta| {
                let lost_at: Option<Instant> = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                let made_after = lost_at.is_none_or(|lost_at| meta.age < lost_at.elapsed());
                Box::pin(async move { Ok(made_after) })
            })
            .connect_lazy_with(dsn.options(0));
        let slots = Semaphore::new(limits.connections_max as usize);
        Self { pool, slots, lost_at }
    }

    /// When a connection of this lane last broke is what decides which idle ones are trusted.
    fn broke(&self) {
        *self.lost_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Database {
    /// Connects when first used, so that the app starts without it.
    pub(crate) fn new(dsn: &Dsn, limits: PoolLimits, metrics: Metrics) -> Self {
        Self { reads: Lane::new(dsn, limits), transactions: Lane::new(dsn, limits), limits, metrics }
    }

    /// Work that only reads and may read a replica. Repeated once.
    pub(crate) async fn read<A: Sync, T>(
        &self,
        what: &'static str,
        arguments: &A,
        work: Work<A, T>,
    ) -> Result<T, DbError> {
        match self.read_once(arguments, work).await {
            Err(failure) if failure.is_passing() => {
                self.metrics.database_repeats.get_or_create(&("what", what).into()).inc();
                self.read_once(arguments, work).await
            }
            result => result,
        }
        .map_err(|failure| self.explain(what, failure))
    }

    /// One transaction on the primary, from BEGIN to the acknowledged COMMIT.
    pub(crate) async fn transaction<A: Sync, T>(
        &self,
        what: &'static str,
        repeat: Repeat,
        arguments: &A,
        work: Work<A, T>,
    ) -> Result<T, DbError> {
        match self.transaction_once(arguments, work).await {
            Err(failure) if failure.is_passing() && (repeat == Repeat::Safe || !failure.committing) => {
                self.metrics.database_repeats.get_or_create(&("what", what).into()).inc();
                self.transaction_once(arguments, work).await
            }
            result => result,
        }
        .map_err(|failure| self.explain(what, failure))
    }

    async fn read_once<A: Sync, T>(&self, arguments: &A, work: Work<A, T>) -> Result<T, Failure> {
        let (mut connection, _slot) = self.checkout(&self.reads).await?;
        let result = timeout(self.limits.query_timeout, work(&mut connection, arguments)).await;
        self.settle(&self.reads, &mut connection, result, false)
    }

    async fn transaction_once<A: Sync, T>(&self, arguments: &A, work: Work<A, T>) -> Result<T, Failure> {
        let (mut connection, _slot) = self.checkout(&self.transactions).await?;
        let mut committing = false;
        let steps = async {
            let mut transaction = connection.begin().await?;
            let value = work(&mut transaction, arguments).await?;
            committing = true;
            transaction.commit().await?;
            Ok(value)
        };
        let result = timeout(self.limits.query_timeout, steps).await;
        self.settle(&self.transactions, &mut connection, result, committing)
    }

    async fn checkout<'lane>(
        &self,
        lane: &'lane Lane,
    ) -> Result<(PoolConnection<Postgres>, SemaphorePermit<'lane>), Failure> {
        let before_commit = |error| Failure { error, committing: false };
        let waiting = timeout(self.limits.acquire_timeout, lane.slots.acquire());
        let slot = waiting
            .await
            .map_err(|_| before_commit(FailureKind::Busy(self.limits.acquire_timeout)))?
            .expect("the semaphore is never closed");
        let connection = lane.pool.acquire().await.map_err(|error| before_commit(FailureKind::Sql(error)))?;
        Ok((connection, slot))
    }

    /// What became of an attempt. A connection in an unknown state never goes back to the pool.
    fn settle<T>(
        &self,
        lane: &Lane,
        connection: &mut PoolConnection<Postgres>,
        result: Result<Result<T, SqlError>, Elapsed>,
        committing: bool,
    ) -> Result<T, Failure> {
        let error = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => FailureKind::Sql(error),
            Err(_) => FailureKind::Deadline(self.limits.query_timeout),
        };
        let failure = Failure { error, committing };
        if failure.breaks_connection() {
            connection.close_on_drop();
            if matches!(failure.error, FailureKind::Sql(_)) {
                lane.broke();
            }
        }
        Err(failure)
    }

    fn explain(&self, what: &'static str, failure: Failure) -> DbError {
        let lost = failure.breaks_connection() || failure.is_passing();
        let Failure { error, committing } = failure;
        let reason = match &error {
            FailureKind::Busy(_) => String::new(),
            FailureKind::Deadline(limit) => format!("no answer within {} ms", limit.as_millis()),
            FailureKind::Sql(SqlError::PoolTimedOut) => {
                format!("cannot connect within {} ms", self.limits.connect_timeout.as_millis())
            }
            FailureKind::Sql(error) => error.to_string(),
        };
        let explained = match error {
            FailureKind::Busy(waited) => DbError::Busy { what, waited_ms: waited.as_millis() },
            _ if lost && committing => DbError::OutcomeUnknown { what, reason },
            FailureKind::Sql(source) if !lost => DbError::Refused { what, source },
            _ => DbError::Away { what, reason },
        };
        self.metrics.database_errors.get_or_create(&("kind", explained.kind()).into()).inc();
        explained
    }
}

impl Failure {
    /// Whether another attempt may well succeed. Deadlines are not repeated: the request has waited long enough.
    fn is_passing(&self) -> bool {
        match &self.error {
            FailureKind::Busy(_) | FailureKind::Deadline(_) => false,
            FailureKind::Sql(error) => {
                is_lost(error) || matches!(code(error).as_deref(), Some("40001" | "40P01" | "25006"))
            }
        }
    }

    fn breaks_connection(&self) -> bool {
        match &self.error {
            FailureKind::Busy(_) => false,
            FailureKind::Deadline(_) => true,
            FailureKind::Sql(error) => is_lost(error) || code(error).as_deref() == Some("25006"),
        }
    }
}

fn code(error: &SqlError) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the connection, not the statement, is what failed. Classes of SQLSTATE: 08 connection exception, 57P01 to
/// 57P05 the server ends the connection, 53300 and 53400 it has no room.
fn is_lost(error: &SqlError) -> bool {
    match error {
        SqlError::Io(_)
        | SqlError::Tls(_)
        | SqlError::Protocol(_)
        | SqlError::PoolTimedOut
        | SqlError::PoolClosed
        | SqlError::WorkerCrashed
        | SqlError::BeginFailed => true,
        SqlError::Database(_) => code(error).is_some_and(|code| {
            code.starts_with("08") || code.starts_with("57P0") || matches!(code.as_str(), "53300" | "53400")
        }),
        _ => false,
    }
}
