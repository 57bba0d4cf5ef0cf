//! Tests of the server as a library and as a running program.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails, and print how it says more"
)]

mod answers;
mod authority;
mod check_zone;
mod choice;
mod differential;
mod extras;
mod hostile;
mod https;
mod message;
mod packets;
mod paths;
mod peers;
mod query_log;
mod rdata;
mod resolvers;
mod rfc8906;
mod rotation;
mod running;
mod serve;
mod steering;
mod support;
mod tls;
mod transfers;
mod zones;
