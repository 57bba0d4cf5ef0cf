//! Takes a backend whose answers are bad out for a while, however well it looks in checks. No sockets; `now` is a
//! parameter.
//!
//! ```text
//!           enough errors in a row, and the pool can spare it
//!   in --------------------------------------------------------> out
//!    ^                                                            |
//!    +------------------- k times `base`, at most `max` ----------+
//! ```
//! k counts ejections: one more with each, one less with each `base` of time in between without one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// When and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Errors in a row.
    pub(crate) errors: u32,
    /// Statuses from 500 that count as errors, as offsets from 500.
    pub(crate) statuses: Statuses,
    pub(crate) base: Duration,
    pub(crate) max: Duration,
    /// Of a pool, at most.
    pub(crate) share_percent: usize,
}

/// A set of statuses 500 to 599.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statuses(u128);

impl Statuses {
    /// `None` for what is not a server error.
    pub(crate) fn of(list: &[u64]) -> Option<Self> {
        list.iter().try_fold(Self::default(), |all, status| {
            let offset = status.checked_sub(500).filter(|offset| *offset < 100)?;
            Some(Self(all.0 | 1 << offset))
        })
    }

    pub(crate) fn has(self, status: http::StatusCode) -> bool {
        (500..600).contains(&status.as_u16()) && self.0 >> (status.as_u16() - 500) & 1 == 1
    }
}

/// How many errors in a row a backend has made, counted by all workers together.
#[derive(Debug, Default)]
pub(crate) struct Row(AtomicU32);

impl Row {
    /// A good answer. Costs a read unless there were errors.
    pub(crate) fn broken(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// One error more; whether that makes it time to ask for an ejection. Asked again every `errors` while they go on.
    pub(crate) fn longer(&self, terms: &Terms) -> bool {
        (self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)).is_multiple_of(terms.errors)
    }
}

/// One backend's record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ejection {
    until: Option<Instant>,
    /// Ejections that are not made good for.
    times: u32,
    ended: Option<Instant>,
}

impl Ejection {
    /// When it comes back, if it is out.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Out it goes; returns for how long.
    pub(crate) fn eject(&mut self, terms: &Terms, now: Instant) -> Duration {
        let good = self.ended.map_or(Duration::ZERO, |ended| now.saturating_duration_since(ended));
        let made_good = u32::try_from(good.as_millis() / terms.base.as_millis().max(1)).unwrap_or(u32::MAX);
        self.times = self.times.saturating_sub(made_good).saturating_add(1);
        let time = terms.base.saturating_mul(self.times).min(terms.max);
        self.eject_for(time, now);
        time
    }

    /// The same for a time that somebody has chosen; it is no error of the backend's.
    pub(crate) fn eject_for(&mut self, time: Duration, now: Instant) {
        self.until = Some(now + time);
        self.ended = self.until;
    }

    /// Ends it before its time.
    pub(crate) fn pardon(&mut self) {
        *self = Self::default();
    }

    /// Ends it if its time is up; returns whether it did.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        let over = self.until.is_some_and(|until| until <= now);
        if over {
            self.until = None;
        }
        over
    }
}

/// Whether a pool of `all` that has `out` ejected can spare one more: one may always go, the last one never.
pub(crate) fn can_spare(all: usize, out: usize, share_percent: usize) -> bool {
    let most = (all * share_percent / 100).max(1).min(all.saturating_sub(1));
    out < most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            errors: 3,
            statuses: Statuses::of(&[502, 503, 504]).unwrap(),
            base: Duration::from_secs(10),
            max: Duration::from_secs(35),
            share_percent: 50,
        }
    }

    /// `+` an error, `.` a good answer; draws `!` where an ejection is asked for.
    #[track_caller]
    fn check_row(answers: &str, expected: &str) {
        let row = Row::default();
        let drawn: String = answers
            .chars()
            .map(|answer| match answer {
                '+' if row.longer(&terms()) => '!',
                '+' => ' ',
                _ => {
                    row.broken();
                    ' '
                }
            })
            .collect();
        assert_eq!(drawn, expected);
    }

    #[test]
    fn only_errors_in_a_row_count() {
        check_row("++.++.+", "       ");
        check_row("+++", "  !");
        check_row("++.+++.", "     ! ");
        check_row("+++++++", "  !  ! ");
    }

    /// Ejected at each of these seconds; for how long each time.
    #[track_caller]
    fn check(at: &[u64], expected: &[u64]) {
        let (mut ejection, begin) = (Ejection::default(), Instant::now());
        let got: Vec<u64> = at
            .iter()
            .map(|second| {
                let now = begin + Duration::from_secs(*second);
                ejection.ends(now);
                assert_eq!(ejection.until(), None, "still out at {second}");
                ejection.eject(&terms(), now).as_secs()
            })
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn each_time_in_a_row_is_longer_up_to_the_most() {
        check(&[0, 10, 30, 60, 100], &[10, 20, 30, 35, 35]);
    }

    #[test]
    fn good_times_make_good() {
        // Back at 10 s, and one base time later nothing is held against it.
        check(&[0, 20], &[10, 10]);
        // Three in a row, then one base time, then two more.
        check(&[0, 10, 30, 70], &[10, 20, 30, 30]);
        check(&[0, 10, 30, 90], &[10, 20, 30, 10]);
        check(&[0, 1_000], &[10, 10]);
    }

    #[test]
    fn it_ends_once_and_when_its_time_is_up() {
        let (mut ejection, now) = (Ejection::default(), Instant::now());
        ejection.eject_for(Duration::from_secs(5), now);
        assert!(!ejection.ends(now + Duration::from_millis(4_999)));
        assert!(ejection.ends(now + Duration::from_secs(5)));
        assert!(!ejection.ends(now + Duration::from_secs(5)));
        ejection.eject_for(Duration::from_secs(5), now);
        ejection.pardon();
        assert_eq!(ejection.until(), None);
    }

    #[track_caller]
    fn check_share(all: usize, percent: usize, most: usize) {
        for out in 0..=all {
            assert_eq!(can_spare(all, out, percent), out < most, "{out} of {all} are out");
        }
    }

    #[test]
    fn a_pool_spares_its_share_one_at_least_and_never_the_last() {
        check_share(10, 50, 5);
        check_share(10, 10, 1);
        check_share(3, 10, 1);
        check_share(3, 100, 2);
        check_share(2, 50, 1);
        check_share(1, 100, 0);
        check_share(0, 100, 0);
        check_share(5, 0, 1);
    }

    #[test]
    fn only_server_errors_are_statuses_for_it() {
        let statuses = Statuses::of(&[500, 503, 599]).unwrap();
        let has = |status| statuses.has(http::StatusCode::from_u16(status).unwrap());
        assert_eq!([200, 500, 502, 503, 599].map(has), [false, true, false, true, true]);
        assert_eq!((Statuses::of(&[404]), Statuses::of(&[600])), (None, None));
    }
}
