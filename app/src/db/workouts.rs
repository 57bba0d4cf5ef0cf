//! The workout log.

use futures_util::FutureExt as _;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use time::OffsetDateTime;

use super::{Database, DbError, Repeat};

/// How many of the latest workouts are shown.
const LIST_MAX: i64 = 200;

/// A workout to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewWorkout {
    pub(crate) user_id: i64,
    pub(crate) slug: String,
    pub(crate) sets: i32,
    pub(crate) reps: i32,
    pub(crate) weight_grams: i32,
    pub(crate) performed_at: OffsetDateTime,
    pub(crate) key: Option<Key>,
}

/// What makes the repetition of a request recognisable.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    /// Of the request as the client wrote it: the same key with another one is a mistake.
    pub(crate) request_digest: [u8; 32],
}

/// A workout that was kept.
#[derive(Debug, Clone)]
pub(crate) struct Workout {
    pub(crate) id: i64,
    pub(crate) slug: String,
    pub(crate) sets: i32,
    pub(crate) reps: i32,
    pub(crate) weight_grams: i32,
    pub(crate) performed_at: OffsetDateTime,
}

/// What became of a new workout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    Created(i64),
    /// The same request was answered before.
    Known(i64),
    /// The key was used for another request.
    KeyReused,
}

/// Durable once it returns: the COMMIT was acknowledged.
pub(crate) async fn add(db: &Database, workout: &NewWorkout) -> Result<Added, DbError> {
    let repeat = if workout.key.is_some() { Repeat::Safe } else { Repeat::Never };
    db.transaction("add workout", repeat, workout, |connection, workout| add_in(connection, workout).boxed())
        .await
}

async fn add_in(connection: &mut PgConnection, workout: &NewWorkout) -> Result<Added, sqlx::Error> {
    let (key, digest) = match &workout.key {
        Some(key) => (Some(key.text.as_str()), Some(key.request_digest.as_slice())),
        None => (None, None),
    };
    // A concurrent request with the same key waits here until the other's end.
    let created: Option<i64> = sqlx::query_scalar(
        "INSERT INTO workouts (user_id, slug, sets, reps, weight_grams, performed_at, idempotency_key, request_digest) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (user_id, idempotency_key) DO NOTHING RETURNING id",
    )
    .bind(workout.user_id)
    .bind(&workout.slug)
    .bind(workout.sets)
    .bind(workout.reps)
    .bind(workout.weight_grams)
    .bind(workout.performed_at)
    .bind(key)
    .bind(digest)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(id) = created {
        return Ok(Added::Created(id));
    }
    let known =
        sqlx::query("SELECT id, request_digest FROM workouts WHERE user_id = $1 AND idempotency_key = $2")
            .bind(workout.user_id)
            .bind(key)
            .fetch_one(connection)
            .await?;
    Ok(match known.try_get::<Option<&[u8]>, _>(1)? == digest {
        true => Added::Known(known.try_get(0)?),
        false => Added::KeyReused,
    })
}

/// The latest first, from the primary: a user sees what they have just written.
pub(crate) async fn latest(db: &Database, user_id: i64) -> Result<Vec<Workout>, DbError> {
    db.transaction("latest workouts", Repeat::Safe, &user_id, |connection, &user_id| {
        latest_in(connection, user_id).boxed()
    })
    .await
}

async fn latest_in(connection: &mut PgConnection, user_id: i64) -> Result<Vec<Workout>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, slug, sets, reps, weight_grams, performed_at FROM workouts WHERE user_id = $1 \
         ORDER BY performed_at DESC, id DESC LIMIT $2",
    )
    .bind(user_id)
    .bind(LIST_MAX)
    .fetch_all(connection)
    .await?;
    let workout = |row: &PgRow| {
        Ok(Workout {
            id: row.try_get(0)?,
            slug: row.try_get(1)?,
            sets: row.try_get(2)?,
            reps: row.try_get(3)?,
            weight_grams: row.try_get(4)?,
            performed_at: row.try_get(5)?,
        })
    };
    rows.iter().map(workout).collect()
}
