//! db-proxy against real Postgres 17: a primary and two streaming replicas, in the cached trixie root.

#![allow(unreachable_pub, reason = "the modules of one test binary")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

mod cluster;
mod failover;
mod hostile;
mod protocol;
mod proxy;
mod raw;
mod routing;
