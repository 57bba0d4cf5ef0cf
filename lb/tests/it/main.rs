//! The balancer as a process, between real sockets: backends that live in the test and can stop, die and misbehave, and
//! clients that speak HTTP properly or not at all.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod backend;
mod client;
mod process;

mod discovering;
mod draining;
mod failing;
mod hostile;
mod proxying;
mod sticking;
mod streaming;
