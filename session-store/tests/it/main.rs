//! The session store as its users see it: one contract over every backend, then what a real Redis can do to it, then
//! the program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;
mod model;
mod near;
mod outage;
mod program;
mod redis_server;
mod world;
