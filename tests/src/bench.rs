//! Benches: one of our programs beside its peers, in interleaved rounds, on one machine and under one load.
//!
//! The figure is CPU time per verified operation: unlike throughput it is steady on a machine that does other things too.
//! Every answer is checked for status and length and one in a thousand for its body; a wrong one fails the bench. Ours runs
//! its shipped configuration with addresses overridden; the peers run the fastest one that their documentation knows,
//! which is in `tests/bench`. System calls are counted in a round of their own, because counting them costs time.
//!
//! `rounds` knows nothing of HTTP and `lb` nothing of medians: another program's bench brings its cases, its subjects and
//! a load, and uses the rest.

pub mod closed_loop;
pub mod dns;
pub mod figures;
pub mod lb;
pub mod machine;
pub mod meter;
pub mod origin;
pub mod rounds;

pub use figures::{Figures, Report};
pub use rounds::Options;
