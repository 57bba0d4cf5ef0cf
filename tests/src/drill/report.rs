//! A drill's result: one JSON object for machines, a few lines and one page with plots for people.
//!
//! The page is a single file without scripts, fonts or anything else from elsewhere: it can be attached to a ticket.
//!
//! In reading order: `counts` and `result` (the verdict), `chart` (a comparison), `story` (all that is shown), `page` and `plot`
//! (how).

mod chart;
mod counts;
mod page;
mod plot;
mod result;
#[cfg(test)]
mod sample;
mod story;

pub use chart::{Bar, Chart, Group, Reference};
pub use counts::Counts;
pub use result::{Control, DrillResult, Expectation, Seconds, Verdict};
pub use story::{Band, Event, Run, Story};
