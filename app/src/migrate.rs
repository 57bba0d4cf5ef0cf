//! One-shot commands that work on the primary itself: `migrate` and `grant-editor`.
//!
//! `migrate` can be run any number of times, also beside a running app: it changes only what is different. It waits for
//! a primary, because it is started together with the databases.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use service_kit::{Backoff, Context, Error};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tracing::{info, warn};

use crate::cache;
use crate::catalogue;
use crate::config::Settings;
use crate::db::exercises::{self, Exercise};
use crate::db::vectors;
use crate::dsn::Dsn;
use crate::indexing::{self, Document};
use crate::search::{Embedder, HashedNgrams};
use crate::validate;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Rows a statement: large enough to be few statements, small enough for a server's memory.
const BATCH: usize = 500;
const GENERATOR_SEED: u64 = 1;

const DATA: [(i64, &str, &str); 1] = [(
    1,
    "people, exercises, workouts",
    include_str!("../migrations/data/0001_people_exercises_workouts.sql"),
)];
const SEARCH: [(i64, &str, &str); 1] =
    [(1, "vectors", include_str!("../migrations/search/0001_vectors.sql"))];

/// Brings both databases up to date and loads the catalogue.
pub async fn migrate(cx: Context<Settings>) -> Result<(), Error> {
    let settings = &cx.settings.migrate;
    let started = Instant::now();
    let mut data = primary(&settings.data, settings.wait).await?;
    let mut search = primary(&settings.search, settings.wait).await?;
    migrator(&DATA, "_migrations_data").run_direct(None, &mut data, false).await?;
    migrator(&SEARCH, "_migrations_search").run_direct(None, &mut search, false).await?;

    let embedder = HashedNgrams::new();
    let changed = load_catalogue(&mut data, settings.generated_exercises).await?;
    let fitted = fit_dimensions(&mut search, embedder.dimensions()).await?;
    let embedded = embed(&mut data, &mut search, &embedder).await?;
    let removed = remove_orphans(&mut data, &mut search).await?;
    index(&mut search).await?;
    if changed + embedded + removed > 0 || fitted {
        forget_answers(&cx.settings).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    info!(
        exercises_changed = changed,
        vectors_made = embedded,
        vectors_removed = removed,
        seconds,
        "migrated"
    );
    Ok(())
}

/// Makes registered users editors.
pub async fn grant_editor(cx: Context<Settings>) -> Result<(), Error> {
    if cx.arguments.is_empty() {
        return Err("say whom: app grant-editor EMAIL...".into());
    }
    let mut data = primary(&cx.settings.migrate.data, cx.settings.migrate.wait).await?;
    for (place, text) in (1..).zip(&cx.arguments) {
        let email = validate::email(text)?;
        let id: Option<i64> =
            sqlx::query_scalar("UPDATE users SET role = 'editor' WHERE email = $1 RETURNING id")
                .bind(&email)
                .fetch_optional(&mut data)
                .await?;
        // Logs hold no e-mail addresses.
        match id {
            Some(user_id) => info!(user_id, "is an editor now"),
            None => return Err(format!("nobody has registered address {place} of those given").into()),
        }
    }
    Ok(())
}

/// A connection to whichever host is the primary, as soon as one is.
async fn primary(dsn: &Dsn, wait: Duration) -> Result<PgConnection, Error> {
    let deadline = Instant::now() + wait;
    let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
    let mut told = String::new();
    loop {
        let mut reasons = Vec::new();
        for (index, host) in dsn.hosts.iter().enumerate() {
            match tokio::time::timeout(CONNECT_TIMEOUT, writable(dsn, index)).await {
                Ok(Ok(Some(connection))) => {
                    info!(%host, "found the primary");
                    return Ok(connection);
                }
                Ok(Ok(None)) => reasons.push(format!("{host} is a replica")),
                Ok(Err(error)) => reasons.push(format!("{host}: {error}")),
                Err(_) => {
                    reasons.push(format!("{host}: no answer within {} ms", CONNECT_TIMEOUT.as_millis()));
                }
            }
        }
        let reasons = reasons.join("; ");
        if Instant::now() >= deadline {
            return Err(format!("no primary at {dsn} within {} s: {reasons}", wait.as_secs()).into());
        }
        if reasons != told {
            info!(%dsn, reasons, "waiting for a primary");
            told = reasons;
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn writable(dsn: &Dsn, index: usize) -> Result<Option<PgConnection>, sqlx::Error> {
    let mut connection = dsn.options(index).connect().await?;
    // "Exists already, skipping" is what a second run is about: no news.
    sqlx::raw_sql("SET client_min_messages = warning").execute(&mut connection).await?;
    let replica: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?;
    Ok((!replica).then_some(connection))
}

/// Each database has a table of its own that says what was done, as both may be one.
fn migrator(steps: &[(i64, &'static str, &'static str)], table: &'static str) -> Migrator {
    let step = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(sql),
            false,
        )
    };
    let mut migrator = Migrator::with_migrations(steps.iter().map(step).collect());
    migrator.dangerous_set_table_name(table);
    migrator
}

async fn load_catalogue(data: &mut PgConnection, generated: usize) -> Result<u64, sqlx::Error> {
    let mut exercises = catalogue::all()
        .iter()
        .cloned()
        .chain(catalogue::generate(generated, GENERATOR_SEED))
        .map(Exercise::from);
    let mut changed = 0;
    loop {
        let batch: Vec<Exercise> = exercises.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(changed);
        }
        changed += exercises::load(data, &batch).await?;
    }
}

/// Vectors of another length cannot be compared with ours: they go, and the column becomes as long as the embedder's.
async fn fit_dimensions(search: &mut PgConnection, dimensions: usize) -> Result<bool, sqlx::Error> {
    let column: i32 = sqlx::query_scalar(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = 'exercise_vectors'::regclass AND attname = 'embedding'",
    )
    .fetch_one(&mut *search)
    .await?;
    if usize::try_from(column).ok() == Some(dimensions) {
        return Ok(false);
    }
    let sql = format!(
        "BEGIN; DROP INDEX IF EXISTS exercise_vectors_nearest; TRUNCATE exercise_vectors; \
         ALTER TABLE exercise_vectors ALTER COLUMN embedding TYPE vector({dimensions}); COMMIT"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(search).await?;
    info!(dimensions, "the vectors' column was fitted to the embedder");
    Ok(true)
}

/// After the vectors, because making the index at once is faster than growing it.
async fn index(search: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "CREATE INDEX IF NOT EXISTS exercise_vectors_nearest ON exercise_vectors \
         USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 128)",
    )
    .execute(&mut *search)
    .await?;
    sqlx::raw_sql("ANALYZE exercise_vectors").execute(search).await.map(drop)
}

/// Embeds every exercise whose text or embedder is another than that of its vector.
async fn embed(
    data: &mut PgConnection,
    search: &mut PgConnection,
    embedder: &dyn Embedder,
) -> Result<u64, sqlx::Error> {
    let mut known = HashMap::new();
    let rows = sqlx::query("SELECT slug, text_digest FROM exercise_vectors WHERE embedder = $1")
        .bind(embedder.name())
        .fetch_all(&mut *search)
        .await?;
    for row in &rows {
        known.insert(row.try_get::<String, _>(0)?, row.try_get::<Vec<u8>, _>(1)?);
    }
    let (mut made, mut last) = (0, String::new());
    loop {
        let batch = exercises::after(data, &last, BATCH as i64).await?;
        let Some(end) = batch.last() else { return Ok(made) };
        last.clone_from(&end.slug);
        let fresh = |exercise: &&Exercise| {
            known.get(&exercise.slug).is_none_or(|digest| *digest != indexing::digest(exercise))
        };
        let documents: Vec<_> = batch
            .iter()
            .filter(fresh)
            .map(|exercise| (exercise.slug.as_str(), Document::of(embedder, exercise)))
            .collect();
        let rows: Vec<_> = documents.iter().map(|(slug, document)| (*slug, document)).collect();
        vectors::put_many(search, embedder.name(), &rows).await?;
        made += documents.len() as u64;
    }
}

/// Vectors whose exercise is gone.
async fn remove_orphans(data: &mut PgConnection, search: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let vectors: Vec<String> =
        sqlx::query_scalar("SELECT slug FROM exercise_vectors").fetch_all(&mut *search).await?;
    let exercises: i64 = sqlx::query_scalar("SELECT count(*) FROM exercises").fetch_one(&mut *data).await?;
    if vectors.len() as i64 <= exercises {
        return Ok(0);
    }
    let orphans: Vec<String> = sqlx::query_scalar(
        "SELECT v.slug FROM unnest($1::text[]) AS v (slug) WHERE NOT EXISTS (SELECT FROM exercises e WHERE e.slug = v.slug)",
    )
    .bind(&vectors)
    .fetch_all(data)
    .await?;
    let done = sqlx::query("DELETE FROM exercise_vectors WHERE slug = ANY($1)")
        .bind(&orphans)
        .execute(search)
        .await?;
    Ok(done.rows_affected())
}

/// Answers in the cache may be of the old catalogue. Without the cache they end by themselves.
async fn forget_answers(settings: &Settings) {
    if let Some((url, password)) = &settings.cache.redis
        && let Err(error) = cache::invalidate_once(url, password).await
    {
        warn!(%error, "the cache cannot be reached: its answers of the old catalogue end by themselves");
    }
}
