//! Nearest neighbours: which exercises are meant.

use futures_util::FutureExt as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::{Database, DbError, Repeat};
use crate::indexing::Document;

/// One exercise that was found, and how near it is: 1 is the same direction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) slug: String,
    pub(crate) score: f64,
}

/// The nearest first.
pub(crate) async fn nearest(db: &Database, query: &str, limit: usize) -> Result<Vec<Found>, DbError> {
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    db.read("nearest vectors", &(query, limit), |connection, &(query, limit)| {
        async move {
            let rows = sqlx::query("SELECT slug, score FROM search_exercises($1::text::vector, $2)")
                .bind(query)
                .bind(limit)
                .fetch_all(connection)
                .await?;
            rows.iter().map(|row| Ok(Found { slug: row.try_get(0)?, score: row.try_get(1)? })).collect()
        }
        .boxed()
    })
    .await
}

/// Replaces the vector of one exercise.
pub(crate) async fn put(
    db: &Database,
    slug: &str,
    embedder: &str,
    document: &Document,
) -> Result<(), DbError> {
    let arguments = (slug, embedder, document);
    db.transaction("put vector", Repeat::Safe, &arguments, |connection, &(slug, embedder, document)| {
        async move { put_many(connection, embedder, &[(slug, document)]).await }.boxed()
    })
    .await
}

/// Replaces the vectors of some exercises: `app migrate` does, many at once.
pub(crate) async fn put_many(
    connection: &mut PgConnection,
    embedder: &str,
    documents: &[(&str, &Document)],
) -> Result<(), sqlx::Error> {
    let slugs: Vec<&str> = documents.iter().map(|(slug, _)| *slug).collect();
    let digests: Vec<&[u8]> = documents.iter().map(|(_, document)| document.digest.as_slice()).collect();
    let vectors: Vec<&str> = documents.iter().map(|(_, document)| document.vector.as_str()).collect();
    sqlx::query(
        "INSERT INTO exercise_vectors (slug, embedder, text_digest, embedding) \
         SELECT slug, $1, digest, vector::vector FROM unnest($2::text[], $3::bytea[], $4::text[]) AS d (slug, digest, vector) \
         ON CONFLICT (slug) DO UPDATE SET embedder = excluded.embedder, text_digest = excluded.text_digest, \
         embedding = excluded.embedding",
    )
    .bind(embedder)
    .bind(slugs)
    .bind(digests)
    .bind(vectors)
    .execute(connection)
    .await
    .map(drop)
}

/// The text form that the database casts to a vector.
pub(crate) fn text(vector: &[f32]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(vector.len() * 10 + 2);
    text.push('[');
    for (index, number) in vector.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}{number}").expect("a String takes any text");
    }
    text.push(']');
    text
}
