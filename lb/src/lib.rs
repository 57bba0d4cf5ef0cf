//! A load balancer for HTTP/1.1 and HTTP/2.
//!
//! Every worker is one thread with its own listener, runtime and upstream connections; nothing is locked between them.
//! They share one immutable snapshot only: the configuration and each pool's backends with their health. One task, the
//! [`roster`], owns what changes (who is a backend, who is healthy), is told of it by discovery, probes, failed requests
//! and reloads, and publishes the next snapshot.
//!
//! Read in this order: `config`, `server`, `worker`, `connection` with `tls` and `tunnel` (sockets and deadlines towards the client),
//! `proxy` (one request's walk), `upstream` and `body` (sockets towards the backends), `roster` with `discovery` and `prober`;
//! then the modules that only decide: `proxy_protocol`, `head`, `answer`, `validate`, `limits`, `router`, `headers`, `cookies`, `ticket`, `affinity`, `table`,
//! `balance`, `queue`, `explain`, `retry`, `ejection`, `content`, `standing`, `members`, `failure`.

mod access_log;
mod admin;
mod affinity;
mod alarms;
mod answer;
mod balance;
mod body;
mod commons;
pub mod config;
mod connection;
mod content;
mod cookies;
mod discovery;
mod ejection;
mod explain;
mod failure;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gather;
mod head;
mod headers;
mod histogram;
mod limits;
mod members;
mod metrics;
mod prober;
mod proxy;
mod proxy_protocol;
mod queue;
mod record;
mod retry;
mod roster;
mod router;
pub mod server;
mod snapshot;
mod standing;
mod state;
mod stats;
mod table;
mod ticket;
mod tls;
mod tunnel;
mod upstream;
mod validate;
mod worker;

pub(crate) use service_kit::health;

pub use config::Config;
pub use server::start;
