//! The harness: starts the programs and servers of a whole stack, natively or in containers, puts load and faults on it,
//! and says what happened. Black box: it knows binaries, files and wire protocols, and imports no service.
//!
//! Reading order: what a stack is made of, what it runs on, the stack as tests use it, its clients, the command.

// What and where.
pub mod layout;
pub mod lease;
pub mod secrets;
pub mod topology;

// Running it.
pub mod cpu_limit;
pub mod docker;
pub mod eventually;
pub mod namespaces;
pub mod native;
pub mod platform;
pub mod ports;
pub mod process;
mod resolvers;
pub mod servers_root;

// Using it.
pub mod journey;
pub mod stack;

// Clients and faults.
pub mod chaos_proxy;
pub mod dns_client;
pub mod hostile;
pub mod http_client;
pub mod load;

// Experiments.
pub mod bench;
pub mod conformance;
pub mod drill;
pub mod soak;

// The command.
pub mod cli;

pub use stack::Stack;
pub use topology::{Sessions, Sticky};
