//! How fast a client sends or takes bytes, counted only while it is the one that is waited for. A client that moves one
//! byte just before each deadline would otherwise hold a connection, and a backend's attention, for days.

use std::cell::Cell;
use std::time::Duration;

/// The least that a client must move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaceTerms {
    /// 0: anything will do.
    pub(crate) bytes_per_second_min: u64,
    /// So long it may be as slow as it likes.
    pub(crate) grace: Duration,
}

/// One direction of one request.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    bytes: Cell<u64>,
    waited: Cell<Duration>,
}

impl Pace {
    pub(crate) fn restart(&self) {
        self.bytes.set(0);
        self.waited.set(Duration::ZERO);
    }

    pub(crate) fn moved(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waited.set(self.waited.get().saturating_add(time));
    }

    /// Whether it is too slow; `waiting` is for how long the wait that still goes on has lasted.
    pub(crate) fn is_slow(&self, terms: PaceTerms, waiting: Duration) -> bool {
        let waited = self.waited.get().saturating_add(waiting);
        let owed = u128::from(terms.bytes_per_second_min) * waited.as_millis() / 1_000;
        waited > terms.grace && u128::from(self.bytes.get()) < owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At least 100 bytes a second after 10 s: so many seconds waited, so many bytes moved.
    #[track_caller]
    fn check(waited_s: u64, waiting_s: u64, bytes: usize, slow: bool) {
        let terms = PaceTerms { bytes_per_second_min: 100, grace: Duration::from_secs(10) };
        let pace = Pace::default();
        pace.waited(Duration::from_secs(waited_s));
        pace.moved(bytes);
        assert_eq!(pace.is_slow(terms, Duration::from_secs(waiting_s)), slow);
        pace.restart();
        assert!(!pace.is_slow(terms, Duration::ZERO));
    }

    #[test]
    fn slow_is_below_the_rate_after_the_grace() {
        check(0, 0, 0, false);
        check(10, 0, 0, false);
        check(11, 0, 0, true);
        check(5, 6, 1_000, true);
        check(5, 6, 1_100, false);
        check(100, 0, 9_999, true);
        check(100, 0, 10_000, false);
    }

    #[test]
    fn without_a_rate_nothing_is_slow() {
        let terms = PaceTerms { bytes_per_second_min: 0, grace: Duration::ZERO };
        assert!(!Pace::default().is_slow(terms, Duration::from_secs(1_000_000)));
    }
}
