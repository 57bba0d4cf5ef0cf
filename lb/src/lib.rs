//! An HTTP/1.1 load balancer.
//!
//! Every worker is one thread with its own listener, runtime and upstream connections; nothing is locked between them.
//! They share immutable snapshots only: the configuration and the backends with their health. One task, the
//! [`roster`], owns what changes (who is a backend, who is healthy), is told of it by discovery, probes and failed
//! requests, and publishes the next snapshot.
//!
//! Read in this order: `config`, `server`, `worker`, `connection` (sockets and deadlines towards the client), `proxy`
//! (one request's walk), `upstream` and `body` (sockets towards the backends), `roster` with `discovery` and `prober`;
//! then the modules that only decide: `validate`, `headers`, `cookies`, `ticket`, `affinity`, `pick`, `retry`,
//! `health`, `members`, `failure`.

mod affinity;
mod body;
pub mod config;
mod connection;
mod cookies;
mod discovery;
mod failure;
mod headers;
mod health;
mod members;
mod metrics;
mod pick;
mod prober;
mod proxy;
mod retry;
mod roster;
pub mod server;
mod snapshot;
mod ticket;
mod upstream;
mod validate;
mod worker;

pub use config::Config;
pub use server::start;
