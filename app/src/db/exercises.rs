//! What is known of each exercise, apart from its vector.

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::{Database, DbError, Repeat};

/// One exercise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exercise {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) equipment: String,
    pub(crate) muscles: Vec<String>,
    pub(crate) instruction: String,
    /// Goes up with every change.
    pub(crate) version: i64,
}

/// What an editor asked for came to this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    Done(Exercise),
    /// Someone changed it first.
    OtherVersion,
    NotFound,
}

fn exercise(row: &PgRow) -> Result<Exercise, sqlx::Error> {
    Ok(Exercise {
        slug: row.try_get(0)?,
        name: row.try_get(1)?,
        level: row.try_get(2)?,
        equipment: row.try_get(3)?,
        muscles: row.try_get(4)?,
        instruction: row.try_get(5)?,
        version: row.try_get(6)?,
    })
}

pub(crate) async fn by_slug(db: &Database, slug: &str) -> Result<Option<Exercise>, DbError> {
    let slugs = [slug.to_owned()];
    Ok(by_slugs(db, &slugs).await?.pop())
}

/// Those that exist, in no order.
pub(crate) async fn by_slugs(db: &Database, slugs: &[String]) -> Result<Vec<Exercise>, DbError> {
    db.read("exercises by slug", &slugs, |connection, &slugs| {
        async move {
            let rows = sqlx::query(
                "SELECT slug, name, level, equipment, muscles, instruction, version FROM exercises WHERE slug = ANY($1)",
            )
            .bind(slugs)
            .fetch_all(connection)
            .await?;
            rows.iter().map(exercise).collect()
        }
        .boxed()
    })
    .await
}

/// Up to `count` exercises after a slug, in the order of slugs: for work that goes through all of them.
pub(crate) async fn after(
    connection: &mut PgConnection,
    slug: &str,
    count: i64,
) -> Result<Vec<Exercise>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT slug, name, level, equipment, muscles, instruction, version FROM exercises WHERE slug > $1 \
         ORDER BY slug LIMIT $2",
    )
    .bind(slug)
    .bind(count)
    .fetch_all(connection)
    .await?;
    rows.iter().map(exercise).collect()
}

/// Replaces an exercise if it still has one of `versions` (`None`: whatever it has).
pub(crate) async fn change(
    db: &Database,
    new: &Exercise,
    versions: Option<&[i64]>,
) -> Result<Changed, DbError> {
    db.transaction("change exercise", Repeat::Never, &(new, versions), |connection, &(new, versions)| {
        change_in(connection, new, versions).boxed()
    })
    .await
}

async fn change_in(
    connection: &mut PgConnection,
    new: &Exercise,
    versions: Option<&[i64]>,
) -> Result<Changed, sqlx::Error> {
    let changed: Option<i64> = sqlx::query_scalar(
        "UPDATE exercises SET name = $2, level = $3, equipment = $4, muscles = $5, instruction = $6, \
         version = version + 1, edited = true, updated_at = now() \
         WHERE slug = $1 AND ($7::bigint[] IS NULL OR version = ANY($7)) RETURNING version",
    )
    .bind(&new.slug)
    .bind(&new.name)
    .bind(&new.level)
    .bind(&new.equipment)
    .bind(&new.muscles)
    .bind(&new.instruction)
    .bind(versions)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(version) = changed {
        return Ok(Changed::Done(Exercise { version, ..new.clone() }));
    }
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM exercises WHERE slug = $1)")
        .bind(&new.slug)
        .fetch_one(connection)
        .await?;
    Ok(if exists { Changed::OtherVersion } else { Changed::NotFound })
}

/// Adds exercises and updates those that no editor touched; tells how many rows are new or different.
pub(crate) async fn load(connection: &mut PgConnection, exercises: &[Exercise]) -> Result<u64, sqlx::Error> {
    let rows = serde_json::to_string(exercises).expect("exercises serialise");
    let done = sqlx::query(
        "INSERT INTO exercises AS e (slug, name, level, equipment, muscles, instruction) \
         SELECT slug, name, level, equipment, ARRAY(SELECT jsonb_array_elements_text(muscles)), instruction \
         FROM jsonb_to_recordset($1::text::jsonb) AS r \
              (slug text, name text, level text, equipment text, muscles jsonb, instruction text) \
         ON CONFLICT (slug) DO UPDATE SET name = excluded.name, level = excluded.level, equipment = excluded.equipment, \
             muscles = excluded.muscles, instruction = excluded.instruction, version = e.version + 1, updated_at = now() \
         WHERE NOT e.edited AND (e.name, e.level, e.equipment, e.muscles, e.instruction) \
             IS DISTINCT FROM (excluded.name, excluded.level, excluded.equipment, excluded.muscles, excluded.instruction)",
    )
    .bind(rows)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
