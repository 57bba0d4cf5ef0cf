//! The app as a black box, against a real Postgres with pgvector and a real Redis.

mod accounts;
mod chaos;
mod hostile;
mod outages;
mod searches;
mod servers;
mod site;
mod workouts;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;

use crate::servers::Server;
use crate::site::{Site, environment};

/// Servers that tests share while any of them runs; nobody may stop these.
struct Shared {
    postgres: Server,
    redis: Server,
}

/// A migrated database of its own on the shared Postgres, and sessions in the shared Redis.
struct Stage {
    shared: Arc<Shared>,
    environment: BTreeMap<String, String>,
    database: String,
}

impl Stage {
    /// `None` where there are no servers to test against.
    fn set() -> Result<Option<Self>> {
        if servers::root().is_none() {
            return Ok(None);
        }
        let shared = shared()?;
        let database = migrated(&shared.postgres)?;
        let mut environment = environment(shared.postgres.port, &database);
        environment.extend(redis_sessions(shared.redis.port));
        Ok(Some(Self { shared, environment, database }))
    }

    fn psql(&self, sql: &str) -> String {
        self.shared.postgres.psql(&self.database, sql).expect("the statement is right")
    }

    async fn site(&self) -> Result<Site> {
        Site::start(&self.environment)?.ready().await
    }
}

fn shared() -> Result<Arc<Shared>> {
    static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
    let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = slot.upgrade() {
        return Ok(shared);
    }
    let shared = Arc::new(Shared { postgres: Server::postgres()?, redis: Server::redis()? });
    *slot = Arc::downgrade(&shared);
    Ok(shared)
}

/// Makes a database as the cluster's bootstrap does, and runs `app migrate` on it.
fn migrated(postgres: &Server) -> Result<String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let database = format!("fitness_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    postgres.psql("postgres", &format!("CREATE DATABASE {database} OWNER app"))?;
    postgres.psql(&database, "CREATE EXTENSION vector")?;
    site::run(&["migrate"], &environment(postgres.port, &database))?;
    Ok(database)
}

fn redis_sessions(port: u16) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("APP_SESSIONS__BACKEND".into(), "redis".into()),
        ("APP_SESSIONS__REDIS_URL".into(), format!("redis://127.0.0.1:{port}")),
    ])
}
