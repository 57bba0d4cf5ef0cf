//! What an attack found, and why one could not begin.

use std::fmt;
use std::io;

use serde::Serialize;

use super::holds::Holds;
use super::payload::Kind;

/// Why an attack could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum HostileError {
    /// No such process, or not ours to look into.
    #[error("process {pid}: {source}")]
    Process {
        /// The process.
        pid: i32,
        /// The system's words.
        source: io::Error,
    },
    /// The good client fails without any attack.
    #[error("the good client fails before the attack: {0}")]
    GoodClient(String),
}

/// What an attack found.
#[derive(Debug, Clone, Serialize)]
pub struct HostileReport {
    /// What was attacked.
    pub kind: Kind,
    /// Payloads fired.
    pub payloads: usize,
    /// Of these, without a connection.
    pub unconnected: usize,
    /// Checks by the good client during the attack.
    pub good_attempted: u64,
    /// Of these, failed.
    pub good_failed: u64,
    /// Before.
    pub before: Holds,
    /// After everything had time to settle; none when the process is gone.
    pub after: Option<Holds>,
    /// Everything that is wrong; empty when the listener survived.
    pub findings: Vec<String>,
}

impl HostileReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn survived(&self) -> bool {
        self.findings.is_empty()
    }

    /// # Panics
    /// When something is wrong, with all of it.
    pub fn assert_survived(&self) {
        assert!(self.survived(), "{self}");
    }
}

impl fmt::Display for HostileReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after.unwrap_or(Holds { descriptors: 0, memory_kib: 0 });
        write!(
            out,
            "{:?}: {} payloads ({} unconnected); good client {} checks, {} failed; descriptors {} -> {}, memory {} -> {} KiB",
            self.kind,
            self.payloads,
            self.unconnected,
            self.good_attempted,
            self.good_failed,
            self.before.descriptors,
            after.descriptors,
            self.before.memory_kib,
            after.memory_kib
        )?;
        self.findings.iter().try_for_each(|finding| write!(out, "\n  {finding}"))
    }
}
