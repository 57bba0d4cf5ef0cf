//! What a drill did and was told: an append-only history of operations, and the pure checker that compares it with
//! what was found afterwards.
//!
//! ```text
//!                 found once    found again   not found
//! acknowledged    kept          duplicated    LOST
//! unknown         recovered     duplicated    -            (the answer was lost: both ends are right)
//! failed          unexpected    duplicated    -            (refused and done all the same)
//! never tried     unexpected    duplicated    -
//! ```
//!
//! Beside that, a read is *stale* when it does not show a write that was acknowledged before the read began, and a
//! removed thing is *resurrected* when it is found although its removal was acknowledged and nobody put it back.
//! `unknown` is for a timeout or a cut connection; to call those failed would hide duplicates, to call them
//! acknowledged would invent losses.
//!
//! In reading order: the history itself, `thing` (where one thing must be in the end), `stale` (reads), `check`.

mod check;
mod stale;
#[cfg(test)]
mod tests;
mod thing;

use std::io::{self, BufRead, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use check::Findings;

/// What an operation did to the thing with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Made it: a workout, a session, a plan's item.
    Add,
    /// Removed it: a log-out, an item taken off.
    Remove,
    /// Looked for it and saw it.
    Seen,
    /// Looked for it and did not see it.
    NotSeen,
}

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A complete 2xx.
    Acknowledged,
    /// A clear refusal: nothing must have happened.
    Failed,
    /// No complete answer: it may have happened.
    Unknown,
}

/// One operation; times are the client's, from the drill's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// What it was about: an operation id or a key.
    pub id: String,
    /// What it did.
    pub kind: Kind,
    /// What the client was told.
    pub told: Told,
    /// When it was sent.
    pub began_us: u64,
    /// When the answer was complete, or given up.
    pub ended_us: u64,
}

/// All operations in the order in which they ended; nothing is ever changed or taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(Vec<Operation>);

impl History {
    /// Appends an operation that has ended.
    pub fn record(&mut self, id: &str, kind: Kind, told: Told, began: Duration, ended: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (began_us, ended_us) = (micros(began), micros(ended));
        self.0.push(Operation { id: id.into(), kind, told, began_us, ended_us });
    }

    /// The operations.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.0
    }

    /// How many additions were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        count(&self.0, |operation| operation.kind == Kind::Add && operation.told == Told::Acknowledged)
    }

    /// Writes one JSON object a line, so that another checker can be asked too.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for operation in &self.0 {
            serde_json::to_writer(&mut out, operation)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads what `write` wrote.
    pub fn read(lines: impl BufRead) -> io::Result<Self> {
        let operation = |line: io::Result<String>| Ok(serde_json::from_str(&line?)?);
        lines.lines().map(operation).collect::<io::Result<_>>().map(Self)
    }
}

fn count(operations: &[Operation], which: impl Fn(&Operation) -> bool) -> u64 {
    operations.iter().filter(|operation| which(operation)).count() as u64
}
