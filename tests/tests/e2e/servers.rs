//! The servers that we did not write: they come up as configured, fail over, and go without a trace.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::Stack;
use tests::platform::Fault;
use tests::process::Identity;

use crate::runner::Ended;

pub(crate) async fn fail_over() -> Result<Ended> {
    let stack = Stack::native().servers_only().await?;
    let instances = stack.platform().instances().await?;
    let names: Vec<&str> = instances.iter().map(|it| it.name.as_str()).collect();
    ensure!(names == ["pg-1", "pg-2", "pg-3", "redis-session", "redis-cache", "etcd"], "{names:?}");
    let processes: Vec<Identity> = instances.iter().filter_map(|it| Identity::of(it.pid?)).collect();
    ensure!(processes.len() == names.len(), "{processes:?}");

    let first = stack.primary().await?;
    stack.instance(&first).fault(Fault::KillPostgres).await?;
    let moved = async || stack.primary().await.is_ok_and(|now| now != first);
    // How soon is what kill-primary measures. Should its own Patroni not let go of the lead, its lease of 20 s has to end first.
    stack.eventually("another primary", Duration::from_secs(60), moved).await?;
    stack.whole(Duration::from_secs(40)).await?;

    drop(stack);
    for process in processes {
        ensure!(!process.is_running(), "process {} is left", process.pid);
    }
    Ok(Ended::Passed)
}

pub(crate) async fn roles_and_quorum() -> Result<Ended> {
    let stack = Stack::native().servers_only().await?;
    let primary = stack.instance(stack.primary().await?).status().await?;
    let address = primary.address.context("an address")?;
    let password = stack.platform().password("postgres-app").await?;
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host(&address.to_string())
        .username("app")
        .password(&password)
        .database("fitness");
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect_with(&options).await?;
    let (standbys,): (String,) = sqlx::query_as("SELECT current_setting('synchronous_standby_names')")
        .fetch_one(&mut connection)
        .await?;
    ensure!(standbys.starts_with("ANY 1 ("), "{standbys}");
    let (owner, extensions): (String, i64) = sqlx::query_as(
        "SELECT pg_get_userbyid(datdba), (SELECT count(*) FROM pg_extension WHERE extname = 'vector')
         FROM pg_database WHERE datname = 'fitness'",
    )
    .fetch_one(&mut connection)
    .await?;
    ensure!((owner.as_str(), extensions) == ("app", 1), "owner {owner}, {extensions} extensions");
    Ok(Ended::Passed)
}
