//! Hostile clients: what a listener must survive, and a runner that finds out whether it did.
//!
//! The runner fires every payload of a protocol at one listener while a good client goes on beside it. Afterwards the
//! process must be the same one, its descriptors and its memory must be back, and the good client must not have
//! noticed. Payloads are deterministic for a seed. Nothing here destroys data: no payload is a valid command that
//! changes anything, so it may be fired at a running stack.
//!
//! In reading order: `payload` (what is sent), `target` (to whom, within which bounds), `fire` (sending it), `holds` (what
//! the process holds), `attack` (the runner), `report` (what came out).

mod attack;
mod fire;
mod holds;
mod payload;
mod report;
mod target;
#[cfg(test)]
mod tests;

pub use attack::attack;
pub use holds::Holds;
pub use payload::{Action, Kind, Payload, Then, payloads};
pub use report::{HostileError, HostileReport};
pub use target::{Bounds, Target};
