//! The three steps of a stop, as tokens that any task can wait for.
//!
//! signal → `draining` (readiness off, still serving for the lame-duck time) → `closing` (no new connections) and
//! `stopping` (finish) → `aborted` (the drain deadline is over). After a hand-over to a new process `closing` comes first:
//! the listening sockets are the other's from that moment.

use tokio_util::sync::CancellationToken;

/// Handles to the steps of a stop. Clones are the same stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    closing: CancellationToken,
    handed_over: CancellationToken,
    stopping: CancellationToken,
    aborted: CancellationToken,
}

impl Shutdown {
    /// The signal came: say "not ready", announce the end of keep-alive connections, but go on serving.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Accept no more connections; those that are there go on as before.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Finish what is in flight.
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

    /// Another process has our listening sockets.
    pub(crate) fn handed_over(&self) -> CancellationToken {
        self.handed_over.clone()
    }

    pub(crate) fn hand_over(&self) {
        self.handed_over.cancel();
        self.closing.cancel();
        self.draining.cancel();
    }

    pub(crate) fn stop(&self) {
        self.closing.cancel();
        self.stopping.cancel();
    }

    pub(crate) fn abort(&self) {
        self.drain();
        self.stop();
        self.aborted.cancel();
    }
}
