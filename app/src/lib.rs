//! The site `fitness.example.com`: exercise search, a training plan that behaves like a shopping cart, a workout log.
//!
//! The app keeps nothing that matters: sessions are in the session store, data in the database, answers in the cache, so
//! that any instance can answer any request and any of them can die. A request walks from [`server`] through
//! [`middleware`] and [`routes`] to the modules that know one thing each.
//!
//! Reading order: how it starts ([`config`], [`server`], [`tls`], [`migrate`](mod@migrate)); what surrounds a request
//! ([`middleware`], [`extract`], [`problem`], [`routes`], [`pages`]); who asks ([`session`], [`cookies`], [`csrf`],
//! [`password`]); what is asked for ([`plan`], [`searches`], [`cache`], [`db`]); and the pure parts
//! ([`validate`], [`catalogue`], [`content`], [`search`]).

mod cache;
pub mod catalogue;
mod config;
mod content;
mod cookies;
mod csrf;
mod db;
mod dsn;
mod extract;
mod indexing;
mod metrics;
mod middleware;
mod migrate;
mod pages;
mod password;
mod plan;
mod problem;
mod routes;
pub mod search;
mod searches;
mod server;
mod session;
mod state;
mod tls;
mod validate;

pub use config::Settings;
pub use migrate::{grant_editor, migrate};
pub use server::start;
