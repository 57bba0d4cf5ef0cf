//! What a soak found, for people and for machines.

use std::fmt;

use serde::Serialize;

use super::judge::{Own, Slice, Soaked, Verdict};
use crate::bench::machine::Machine;

/// A whole soak.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub soak: &'static str,
    /// What it ran on.
    pub machine: Machine,
    /// The commit of the repository, with a `+` when files differ from it.
    pub commit: String,
    /// How it was loaded.
    pub load: Load,
    /// Ours and NSD, each turn by turn.
    pub ours: Soaked,
    /// The peer.
    pub nsd: Soaked,
    /// What only ours has.
    pub own: Own,
    /// Every rule.
    pub verdicts: Vec<Verdict>,
    /// Whether all of them hold.
    pub passed: bool,
}

/// The load, as it was found out and as it was put on.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Load {
    /// Time of ours under load.
    pub seconds: f64,
    /// Turns of ours.
    pub slices: usize,
    /// Turns of NSD, which are as long.
    pub nsd_slices: usize,
    /// Questions a second, without a limit.
    pub ours_capacity_per_s: f64,
    /// The same of NSD.
    pub nsd_capacity_per_s: f64,
    /// Of the smaller one.
    pub share: f64,
    /// Questions a second in the soak.
    pub rate_per_s: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = &self.load;
        writeln!(out, "soak {} at {} on {}", self.soak, self.commit, self.machine)?;
        writeln!(
            out,
            "{} questions/s ({:.0} % of the smaller capacity: ours {:.0}, NSD {:.0}), {:.0} s in {} turns, NSD {} such turns",
            load.rate_per_s,
            load.share * 100.0,
            load.ours_capacity_per_s,
            load.nsd_capacity_per_s,
            load.seconds,
            load.slices,
            load.nsd_slices
        )?;
        writeln!(out, "{:<34} {:>14} {:>14}", "", "ours", "NSD")?;
        let mut row = |what: &str, of: &dyn Fn(&Soaked) -> String| {
            writeln!(out, "{what:<34} {:>14} {:>14}", of(&self.ours), of(&self.nsd))
        };
        let total = |count: fn(&Slice) -> u64| move |it: &Soaked| it.total(count).to_string();
        row("sent", &total(|it| it.sent))?;
        row("answered", &total(|it| it.answered))?;
        row("lost", &total(|it| it.lost))?;
        row("lost per million", &|it| format!("{:.2}", it.lost_per_million()))?;
        row("of these dropped at a full socket", &total(|it| it.dropped))?;
        row("of another code or length", &total(|it| it.wrong))?;
        row("read in full, right", &|it| it.reads.right.to_string())?;
        row("read in full, wrong", &|it| it.reads.wrong.to_string())?;
        row("reloads reflected", &|it| format!("{} of {}", it.reloads.reflected, it.reloads.made))?;
        row("slowest reload, ms", &|it| it.reloads.slowest_ms.to_string())?;
        row("CPU us/query, first tenth", &|it| shown(it.cpu_us_per_query(1)))?;
        row("CPU us/query, last tenth", &|it| shown(it.cpu_us_per_query(10)))?;
        for Verdict { rule, found, holds } in &self.verdicts {
            writeln!(out, "{} {rule}: {found}", if *holds { "ok    " } else { "BROKEN" })?;
        }
        write!(out, "verdict: {}", if self.passed { "holds" } else { "refuted" })
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}
