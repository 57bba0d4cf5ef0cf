//! Connections to Postgres.

pub mod connection;
pub mod server;
