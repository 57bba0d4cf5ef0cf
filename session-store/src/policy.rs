//! How long sessions live and how large they may be.

use std::time::Duration;

/// The rules of one kind of session. Every server that shares a store should have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// A session without activity for this long is gone.
    pub idle_timeout: Duration,
    /// A session is gone this long after its creation, whatever its activity.
    pub absolute_timeout: Duration,
    /// How large a session may be.
    pub limits: Limits,
}

impl Default for Policy {
    /// 30 minutes idle, 12 hours in all: a visit and a working day.
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30 * 60),
            absolute_timeout: Duration::from_secs(12 * 60 * 60),
            limits: Limits::default(),
        }
    }
}

impl Policy {
    /// For those who only look: what the writers' policy left in the store is alive.
    pub(crate) fn unlimited() -> Self {
        Self { idle_timeout: Duration::MAX, absolute_timeout: Duration::MAX, limits: Limits::default() }
    }

    /// A later activity is recorded only this long after the last recorded one: a tenth of the idle time. It makes
    /// sessions end up to that much early, and spares a write on nearly every request.
    pub fn touch_interval_ms(&self) -> u64 {
        self.idle_ms() / 10
    }

    pub(crate) fn idle_ms(&self) -> u64 {
        millis(self.idle_timeout)
    }

    pub(crate) fn absolute_ms(&self) -> u64 {
        millis(self.absolute_timeout)
    }

    pub(crate) fn expiry_ms(&self, last_seen_ms: u64, absolute_expiry_ms: u64) -> u64 {
        last_seen_ms.saturating_add(self.idle_ms()).min(absolute_expiry_ms)
    }
}

/// Largest sizes of one session. Exceeding one is an error and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Fields in a session.
    pub fields_max: usize,
    /// Bytes of a field's name.
    pub name_bytes_max: usize,
    /// Bytes of a field's value.
    pub value_bytes_max: usize,
    /// Bytes of all names and values together.
    pub session_bytes_max: usize,
    /// Changes in one `apply`: what a store may be asked to do in one atomic step.
    pub changes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fields_max: 256,
            name_bytes_max: 128,
            value_bytes_max: 8 * 1024,
            session_bytes_max: 64 * 1024,
            changes_max: 512,
        }
    }
}

/// Capped at 10 years, so that sums with a clock never overflow and stay exact in Lua's numbers.
fn millis(duration: Duration) -> u64 {
    const LONGEST_MS: u64 = 10 * 366 * 24 * 60 * 60 * 1000;
    u64::try_from(duration.as_millis()).unwrap_or(LONGEST_MS).min(LONGEST_MS)
}
