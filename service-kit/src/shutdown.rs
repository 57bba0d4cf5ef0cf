//! The three steps of a stop, as tokens that any task can wait for.
//!
//! signal → `draining` (readiness off, still serving for the lame-duck time) → `stopping` (no new work is accepted) →
//! `aborted` (the drain deadline is over).

use tokio_util::sync::CancellationToken;

/// Handles to the steps of a stop. Clones are the same stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
    aborted: CancellationToken,
}

impl Shutdown {
    /// The signal came: say "not ready", announce the end of keep-alive connections, but go on serving.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Stop accepting; finish what is in flight.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Too late: cut what is left.
    pub fn aborted(&self) -> CancellationToken {
        self.aborted.clone()
    }

    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    pub(crate) fn abort(&self) {
        self.drain();
        self.stop();
        self.aborted.cancel();
    }
}
