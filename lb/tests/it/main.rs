//! The balancer as a process, between real sockets: backends that live in the test and can stop, die and misbehave, and
//! clients that speak HTTP properly or not at all.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod authority;
mod backend;
mod browser;
mod client;
mod load;
mod peers;
mod process;
mod steady;
mod tools;

mod balancing;
mod budget;
mod discovering;
mod draining;
mod failing;
mod generators;
mod handing_over;
mod health;
mod hostile;
mod http2;
mod introducing;
mod limiting;
mod matrix;
mod operating;
mod pools;
mod proxying;
mod queueing;
mod rolling;
mod secure;
mod sticking;
mod streaming;
mod upgrading;
mod watching;
