//! What a statement is, for routing and for the state of a session.
//!
//! Postgres' own grammar reads it (libpg_query), and the whole tree is walked: a lock or a write may hide in any corner of
//! a SELECT. Whatever is unknown counts as a write. A read that turns out to be a write on the replica is caught later
//! (see `session`), except for functions that run there with another meaning: those are why functions go by name.

mod cache;
mod functions;
mod tree;

pub use cache::{Cache, Verdict};
pub use functions::ReadFunctions;

/// Where a statement may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Only comments and spaces.
    Nothing,
    /// Changes nothing and takes no locks: any node.
    Read,
    /// Everything else, also what is not understood: the primary.
    Write,
    /// Opens a transaction; one that promises to only read may run on a replica.
    Begin {
        /// `READ ONLY`, and not serializable, which replicas refuse.
        read_only: bool,
    },
    /// Ends a transaction.
    End {
        /// As opposed to ROLLBACK.
        commit: bool,
    },
    /// DEALLOCATE alone: statement names are the proxy's business.
    Deallocate,
}

impl Class {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Read => "read",
            Self::Write => "write",
            Self::Begin { .. } => "begin",
            Self::End { .. } => "end",
            Self::Deallocate => "deallocate",
        }
    }

    /// Whether a replica may run it outside of a transaction.
    pub fn may_use_replica(self) -> bool {
        matches!(self, Self::Nothing | Self::Read | Self::Begin { read_only: true })
    }
}

/// What a statement does to its session, beyond its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// `SET name`, with the statement's own text.
    Set {
        /// Of the parameter, in lower case.
        name: String,
        /// To be said again on another server.
        sql: String,
    },
    /// `RESET name`, `SET name TO DEFAULT`.
    Reset {
        /// Of the parameter, in lower case.
        name: String,
    },
    /// `RESET ALL`
    ResetAll,
    /// `DISCARD ALL`
    DiscardAll,
    /// `DEALLOCATE name`, or all of them.
    Deallocate {
        /// `None`: ALL.
        name: Option<String>,
    },
    /// `ROLLBACK TO SAVEPOINT`: undoes SETs made since, in a way that is not tracked.
    RollbackTo,
    /// Leaves something in the session that no other client may see: LISTEN, temporary tables, cursors WITH HOLD,
    /// PREPARE, session-level advisory locks, set_config.
    Disturbs,
}

/// The outcome of classification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// Where it may run.
    pub class: Class,
    /// What it leaves behind, in order.
    pub effects: Vec<Effect>,
}

/// Classifies SQL texts. Pure; costs one to ten microseconds for usual statements.
#[derive(Debug, Clone, Default)]
pub struct Classifier {
    read_functions: ReadFunctions,
    bytes_max: usize,
}

impl Classifier {
    /// `bytes_max`: longer texts are writes without a look.
    pub fn new(read_functions: ReadFunctions, bytes_max: usize) -> Self {
        Self { read_functions, bytes_max }
    }

    /// Says what `sql` is.
    pub fn classify(&self, sql: &[u8]) -> Classified {
        let unknown = Classified { class: Class::Write, effects: Vec::new() };
        if sql.len() > self.bytes_max {
            return unknown;
        }
        let Ok(sql) = str::from_utf8(sql) else { return unknown };
        // The wrapper panics where the C library raises an error inside a walk.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tree::classify(sql, &self.read_functions)
        }));
        outcome.ok().flatten().unwrap_or(unknown)
    }
}

#[cfg(test)]
mod tests;
