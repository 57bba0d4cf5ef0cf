//! Which addresses a name answers with, when that depends on more than its zone: on health, on weights, on where the
//! client is, on what operators want.
//!
//! ```text
//! configuration + zones ──► plan ─┐
//! checks ──► health table ──► view ┴─► decide ──► snapshot of the zones, answers, explanations
//! ```
//! A [`plan`] is a tree of choices over targets; a [`view`] says how each target stands; [`evaluate`] walks the tree.
//! What is the same for every client goes into the zones ahead of the questions ([`derive`]); the rest is decided for
//! each question. Nothing here has a socket or a clock.

pub mod build;
pub mod derive;
pub mod evaluate;
pub mod explain;
pub mod history;
pub mod orders;
pub mod plan;
pub mod selector;
pub mod table;
pub mod view;
pub mod why;

pub use evaluate::{Answer, Client, Decision, Notes, decide};
pub use plan::{Family, Plan};
pub use selector::{Selected, Selector};
pub use view::{Force, View};

use service_kit::Networks;
use std::sync::Arc;

/// Everything that is known at one moment; what an answer and its explanation both come from.
#[derive(Debug, Default)]
pub struct Steering {
    pub plan: Arc<Plan>,
    pub view: View,
    pub history: history::History,
    pub orders: Vec<orders::Order>,
    /// Whether orders outlive the program.
    pub orders_are_kept: bool,
    /// Who may ask `_why.<name>`.
    pub explain_from: Networks,
}

#[cfg(test)]
mod tests;
