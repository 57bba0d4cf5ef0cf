//! db-proxy: transaction pooling and read/write splitting for a Postgres primary with replicas.
//!
//! A client's batch is looked at with Postgres' own grammar: reads go to a replica, everything else to the primary. Roles are
//! learnt by probes over SQL and published as immutable snapshots; when the primary moves, writes wait for the new one.
//!
//! In reading order: `config`, `server` (binds, spawns, follows the cluster), `worker` (one thread), `session` (one client),
//! `pool` and `backend` (connections to nodes), `cluster` (who is primary), `cancel`; then what decides without sockets:
//! `classify`, `wire`, `scram`.

pub mod backend;
pub mod cancel;
pub mod classify;
pub mod cluster;
pub mod config;
pub mod metrics;
pub mod pool;
pub mod scram;
pub mod server;
pub mod session;
pub mod wire;
pub mod worker;

pub use server::start;
