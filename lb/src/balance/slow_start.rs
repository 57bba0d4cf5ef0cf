//! A backend that came back has cold caches: its weight grows from a tenth to the whole while it starts.
//!
//! When the balancer itself starts, everybody is new to it and nobody is cold; then there is no ramp.

use std::time::{Duration, Instant};

use super::SHARE_ONE;

/// The smallest part, in percent.
const LEAST_PERCENT: u32 = 10;

/// The start of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ramp {
    /// When it became up.
    pub(crate) since: Instant,
    pub(crate) over: Duration,
}

/// The share of a backend of `weight`.
pub(crate) fn share(weight: u32, ramp: Option<Ramp>, now: Instant) -> u32 {
    let whole = weight * SHARE_ONE;
    let Some(Ramp { since, over }) = ramp else { return whole };
    let passed = now.saturating_duration_since(since);
    if passed >= over {
        return whole;
    }
    let least = whole * LEAST_PERCENT / 100;
    let grown = u128::from(whole) * passed.as_micros() / over.as_micros().max(1);
    u32::try_from(grown).unwrap_or(whole).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weight 1, ramp of 10 s; `since` seconds ago.
    #[track_caller]
    fn check(weight: u32, since_ms: Option<u64>, expected: u32) {
        let now = Instant::now() + Duration::from_secs(100);
        let ramp =
            since_ms.map(|ms| Ramp { since: now - Duration::from_millis(ms), over: Duration::from_secs(10) });
        assert_eq!(share(weight, ramp, now), expected);
    }

    #[test]
    fn it_grows_from_a_tenth_to_the_whole() {
        check(1, Some(0), 25);
        check(1, Some(5_000), 128);
        check(100, Some(5_000), 12_800);
        check(1, Some(10_000), 256);
        check(1, Some(90_000), 256);
    }

    #[test]
    fn without_a_start_there_is_no_ramp() {
        check(1, None, 256);
        check(0, None, 0);
        check(0, Some(5_000), 0);
    }

    #[test]
    fn no_time_is_no_ramp() {
        let now = Instant::now();
        assert_eq!(share(2, Some(Ramp { since: now, over: Duration::ZERO }), now), 512);
    }
}
