//! What every program of scaleout does the same way, once.
//!
//! A program is `Service::new(name, version, start).main()`: the kit reads the command line and the configuration, sets up
//! logs, metrics, the admin listener, readiness and signals, and calls `start` with a [`Context`]. `start` binds, spawns and
//! ends with [`Context::run`], which announces the addresses, waits for the signal and drains in three named steps.
//!
//! The kit knows nothing of DNS, HTTP routing, sessions or Postgres.

pub mod admin;
mod backoff;
pub mod config;
mod context;
mod handover;
pub mod health;
mod identity;
mod keyring;
pub mod lines;
mod metrics;
pub mod net;
mod networks;
mod notify;
pub mod probe;
mod readiness;
mod ready_file;
mod reload;
pub mod secret;
mod service;
mod shutdown;
mod tasks;
mod telemetry;
pub mod tls;
pub mod trace;

pub use backoff::Backoff;
pub use config::{Invalid, Settings};
pub use context::Context;
pub use handover::Terms as Handover;
pub use identity::Identity;
pub use keyring::{Key, KeyRing, KeyState};
pub use metrics::Metrics;
pub use networks::{Networks, Prefix};
pub use readiness::{Dependency, Readiness, Report};
pub use reload::Reloads;
pub use secret::Secret;
pub use service::Service;
pub use shutdown::Shutdown;
pub use tasks::Tasks;

/// What `start` may fail with: it is printed with its sources, and the program exits with 1.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
