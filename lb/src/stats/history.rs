//! What happened lately: a point a second for the last minutes, and percentiles over the last minute. No clock: whoever
//! samples says when.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::histogram::{Counts, Histogram};

/// Points that a series keeps, one a second.
pub(crate) const POINTS: usize = 120;
/// How far "lately" goes back, in seconds.
pub(crate) const RECENT_S: u64 = 60;
/// Seconds between two snapshots of a histogram; a minute needs thirteen of them.
const SNAPSHOT_EVERY_S: u64 = 5;

/// Sums since the start, as they are at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) counts: Counts,
    /// Sticky cookies given out for it, and for how long each is good.
    pub(crate) cookies: u64,
    pub(crate) cookie_lifetime_s: u64,
}

/// The last seconds of one thing that serves requests.
#[derive(Debug, Clone, Default)]
struct Track {
    last: Option<Sums>,
    requests: VecDeque<u32>,
    errors: VecDeque<u32>,
    p95_ms: VecDeque<f32>,
    /// Oldest first.
    snapshots: VecDeque<(u64, Sums)>,
    requests_per_s_max: u32,
    /// Cookies given out until some moments of the last lifetime; oldest first.
    cookies: VecDeque<(u64, u64)>,
}

/// Moments within a cookie's lifetime that are kept.
const COOKIE_MARKS: u64 = 60;

/// Series for sparklines, oldest first, one point a second.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Series {
    pub(crate) requests: Vec<u32>,
    pub(crate) errors: Vec<u32>,
    /// 0 in seconds without a request.
    pub(crate) p95_ms: Vec<f32>,
}

/// Latency percentiles in ms; `None` without a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

impl Latency {
    pub(crate) fn of(counts: &Counts) -> Self {
        let round = |share| counts.percentile(share).map(|ms: f64| (ms * 1e3).round() / 1e3);
        Self { p50_ms: round(0.50), p95_ms: round(0.95), p99_ms: round(0.99) }
    }

    pub(crate) fn since_start(histogram: &Histogram) -> Self {
        Self::of(&histogram.counts())
    }
}

/// The last minute, or less after a start.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Recent {
    pub(crate) seconds: u64,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    #[serde(flatten)]
    pub(crate) latency: Latency,
    /// The last full second, and the most in any.
    pub(crate) requests_per_s: u32,
    pub(crate) requests_per_s_max: u32,
}

fn push<T>(points: &mut VecDeque<T>, point: T) {
    if points.len() == POINTS {
        points.pop_front();
    }
    points.push_back(point);
}

impl Track {
    fn sample(&mut self, now_s: u64, sums: Sums) {
        if let Some(last) = &self.last {
            let more = |new: u64, old: u64| u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX);
            let requests = more(sums.requests, last.requests);
            self.requests_per_s_max = self.requests_per_s_max.max(requests);
            push(&mut self.requests, requests);
            push(&mut self.errors, more(sums.errors, last.errors));
            let p95 = sums.counts.since(&last.counts).percentile(0.95).unwrap_or(0.0);
            #[allow(clippy::cast_possible_truncation, reason = "a point in a small picture")]
            push(&mut self.p95_ms, ((p95 * 1e3).round() / 1e3) as f32);
        }
        let due = self.snapshots.back().is_none_or(|(at, _)| now_s >= at + SNAPSHOT_EVERY_S);
        if due {
            self.snapshots.push_back((now_s, sums.clone()));
        }
        while self.snapshots.len() > 1 && self.snapshots[1].0 + RECENT_S <= now_s {
            self.snapshots.pop_front();
        }
        let lifetime_s = sums.cookie_lifetime_s;
        let apart = (lifetime_s / COOKIE_MARKS).max(1);
        if self.cookies.back().is_none_or(|(at, _)| now_s >= at + apart) {
            self.cookies.push_back((now_s, sums.cookies));
        }
        while self.cookies.len() > 1 && self.cookies[1].0 + lifetime_s <= now_s {
            self.cookies.pop_front();
        }
        self.last = Some(sums);
    }

    /// Cookies given out within one lifetime. A client that got two counts twice, and one that never comes back counts:
    /// an estimate from above.
    fn live_cookies(&self) -> u64 {
        match (&self.last, self.cookies.front()) {
            (Some(last), Some((_, before))) => last.cookies.saturating_sub(*before),
            _ => 0,
        }
    }

    fn recent(&self, now_s: u64) -> Recent {
        let (Some(last), Some((at, old))) = (&self.last, self.snapshots.front()) else {
            return Recent::default();
        };
        Recent {
            seconds: now_s.saturating_sub(*at).max(1),
            requests: last.requests.saturating_sub(old.requests),
            errors: last.errors.saturating_sub(old.errors),
            latency: Latency::of(&last.counts.since(&old.counts)),
            requests_per_s: self.requests.back().copied().unwrap_or(0),
            requests_per_s_max: self.requests_per_s_max,
        }
    }

    fn series(&self) -> Series {
        let list = |points: &VecDeque<u32>| points.iter().copied().collect();
        Series {
            requests: list(&self.requests),
            errors: list(&self.errors),
            p95_ms: self.p95_ms.iter().copied().collect(),
        }
    }
}

/// The tracks of everything, by an id of the caller's.
#[derive(Debug, Default)]
pub(crate) struct History {
    tracks: BTreeMap<u64, Track>,
}

impl History {
    /// Takes a sample of everything there is; what is not there any more is forgotten.
    pub(crate) fn sample(&mut self, now_s: u64, all: impl IntoIterator<Item = (u64, Sums)>) {
        let mut old = std::mem::take(&mut self.tracks);
        for (id, sums) in all {
            let mut track = old.remove(&id).unwrap_or_default();
            track.sample(now_s, sums);
            self.tracks.insert(id, track);
        }
    }

    pub(crate) fn recent(&self, id: u64, now_s: u64) -> Recent {
        self.tracks.get(&id).map_or_else(Recent::default, |track| track.recent(now_s))
    }

    pub(crate) fn live_cookies(&self, id: u64) -> u64 {
        self.tracks.get(&id).map_or(0, Track::live_cookies)
    }

    pub(crate) fn series(&self, id: u64) -> Series {
        self.tracks.get(&id).map_or_else(Series::default, Track::series)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One backend, `per_second[n]` requests of `ms` in second n, a tenth of them errors; sampled at the end of each.
    fn history(per_second: &[u64], ms: u64) -> (History, u64) {
        let (mut history, histogram, mut requests) = (History::default(), Histogram::default(), 0);
        history.sample(0, [(1, Sums::default())]);
        for (at, count) in per_second.iter().enumerate() {
            (0..*count).for_each(|_| histogram.observe(Duration::from_millis(ms)));
            requests += count;
            let counts = histogram.counts();
            let sums =
                Sums { requests, errors: requests / 10, counts, cookies: requests, cookie_lifetime_s: 100 };
            history.sample(at as u64 + 1, [(1, sums)]);
        }
        (history, per_second.len() as u64)
    }

    #[test]
    fn a_point_is_what_came_in_its_second() {
        let (history, _) = history(&[10, 0, 20], 8);
        let series = history.series(1);
        assert_eq!((series.requests, series.errors), (vec![10, 0, 20], vec![1, 0, 2]));
        assert!((series.p95_ms[0] - 8.0).abs() < 1.0 && series.p95_ms[1] == 0.0, "{:?}", series.p95_ms);
    }

    #[test]
    fn lately_is_a_minute_and_no_longer() {
        let mut per_second = vec![100; 30];
        per_second.extend([1; 80]);
        let (history, now) = history(&per_second, 8);
        let recent = history.recent(1, now);
        assert!((60..=65).contains(&recent.seconds), "{recent:?}");
        assert_eq!(recent.requests, recent.seconds);
        assert_eq!((recent.requests_per_s, recent.requests_per_s_max), (1, 100));
    }

    #[test]
    fn a_cookie_lives_for_its_lifetime() {
        let (history_all, _) = history(&[2; 50], 1);
        assert_eq!(history_all.live_cookies(1), 100);
        let mut per_second = vec![50; 10];
        per_second.extend([1; 110]);
        let (history, _) = history(&per_second, 1);
        assert!((100..=105).contains(&history.live_cookies(1)), "{}", history.live_cookies(1));
    }

    #[test]
    fn series_are_bounded_and_the_forgotten_forgotten() {
        let (mut history, now) = history(&[3; POINTS + 50], 1);
        assert_eq!(history.series(1).requests.len(), POINTS);
        history.sample(now + 1, []);
        assert!(history.series(1).requests.is_empty());
        assert_eq!(history.recent(1, now + 1).requests, 0);
    }
}
