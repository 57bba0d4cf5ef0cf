//! Sessions in one place, so that any app server can answer any request.
//!
//! A session is a small set of named fields under an id that only a digest of the visitor's cookie reveals. It is
//! read with [`Store::load`] and changed with [`Store::apply`], which takes a list of [`Change`]s and performs all of
//! them or none of them in one atomic step, inside the store. There is deliberately no "save the whole session":
//! two requests of one visitor that change different fields both keep what they wrote.
//!
//! Reading order: what a session is ([`token`], [`session`], [`policy`], [`error`]), the rules that every backend
//! obeys (`rules`), the backends ([`memory`], [`redis_store`], [`health`]), the handle over both ([`store`]); then the
//! program ([`config`], [`server`], [`commands`]).

pub mod error;
pub mod policy;
pub mod session;
pub mod token;

mod rules;

pub mod health;
pub mod memory;
pub mod redis_store;
pub mod store;

pub mod commands;
pub mod config;
pub mod server;

pub use error::StoreError;
pub use health::Health;
pub use memory::MemoryStore;
pub use policy::{Limits, Policy};
pub use redis_store::{NearCounts, RedisSettings, RedisStore};
pub use session::{Applied, Change, Expect, Session};
pub use store::Store;
pub use token::{SessionId, SessionToken};
