//! People.

use futures_util::FutureExt as _;
use sqlx::Row as _;

use super::{Database, DbError, Repeat};

/// One person, as log-in needs to know them.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) email: String,
    pub(crate) password_hash: String,
}

/// Whether a registration made a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    Created,
    /// Someone has this e-mail address already.
    Taken,
}

pub(crate) async fn register(db: &Database, email: &str, password_hash: &str) -> Result<Registered, DbError> {
    let done = db
        .transaction(
            "register",
            Repeat::Never,
            &(email, password_hash),
            |connection, &(email, password_hash)| {
                sqlx::query(
                    "INSERT INTO users (email, password_hash) VALUES ($1, $2) ON CONFLICT (email) DO NOTHING",
                )
                .bind(email)
                .bind(password_hash)
                .execute(connection)
                .boxed()
            },
        )
        .await?;
    Ok(if done.rows_affected() == 1 { Registered::Created } else { Registered::Taken })
}

/// Read from the primary: who has just registered or changed the password can log in at once.
pub(crate) async fn by_email(db: &Database, email: &str) -> Result<Option<User>, DbError> {
    db.transaction("user by email", Repeat::Safe, &email, |connection, &email| {
        async move {
            sqlx::query("SELECT id, email, password_hash FROM users WHERE email = $1")
                .bind(email)
                .fetch_optional(connection)
                .await?
                .map(|row| {
                    Ok(User { id: row.try_get(0)?, email: row.try_get(1)?, password_hash: row.try_get(2)? })
                })
                .transpose()
        }
        .boxed()
    })
    .await
}

/// Replaces one hash by another; `false` when it was changed by someone else meanwhile.
pub(crate) async fn change_password(
    db: &Database,
    id: i64,
    old_hash: &str,
    new_hash: &str,
) -> Result<bool, DbError> {
    let done = db
        .transaction(
            "change password",
            Repeat::Never,
            &(id, old_hash, new_hash),
            |connection, &(id, old, new)| {
                sqlx::query("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2")
                    .bind(id)
                    .bind(old)
                    .bind(new)
                    .execute(connection)
                    .boxed()
            },
        )
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Read from the primary each time it matters, so that a role taken away is gone at once.
pub(crate) async fn is_editor(db: &Database, id: i64) -> Result<bool, DbError> {
    db.transaction("is editor", Repeat::Safe, &id, |connection, &id| {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM users WHERE id = $1 AND role = 'editor')")
            .bind(id)
            .fetch_one(connection)
            .boxed()
    })
    .await
}
