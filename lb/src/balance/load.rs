//! What all workers know together of how busy, how fast and how sound one backend is. Atomics only.
//!
//! Latency is a *peak* average: a slower answer counts at once and in full, a faster one as much as time has passed
//! since the last. Without new answers the estimate fades, so that a backend that nobody asks any more is asked again.
//! Failures are an average of their own, between 0 and 1: a backend that fails fast must not look fast.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::EwmaTerms;

/// Stamps count these; 32 bits of them are 19 hours, beyond which an estimate that nobody renewed looks younger than it is.
const TICK: Duration = Duration::from_micros(16);

/// How an attempt ended, as the balancer of load sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// No answer, or a server error. `rest`: what it said in `Retry-After`.
    Failed {
        rest: Option<Duration>,
    },
}

/// One backend's load; lives as long as the backend does.
#[derive(Debug)]
pub(crate) struct Load {
    inflight: AtomicUsize,
    /// What the last snapshot says that may be in flight; for those who end, and see no snapshot.
    limit: AtomicUsize,
    /// Milliseconds and when: see [`Decaying`].
    latency: Decaying,
    /// Share of failures and when.
    failures: Decaying,
    /// Ticks since `born` until which it asked to be left alone.
    rests_until: AtomicU64,
    born: Instant,
}

impl Load {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            inflight: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            latency: Decaying::default(),
            failures: Decaying::default(),
            rests_until: AtomicU64::new(0),
            born: now,
        }
    }

    pub(crate) fn inflight(&self) -> usize {
        self.inflight.load(Ordering::SeqCst)
    }

    /// Counts one more request, unless `max` are in flight already.
    pub(crate) fn enter(&self, max: usize) -> bool {
        // Never above the limit, not even for a moment: whoever looks then would wait for a place that is there.
        let one_more = |inflight| (inflight < max).then_some(inflight + 1);
        self.inflight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    pub(crate) fn leave(&self) {
        self.inflight.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Records how an attempt ended and how long its answer's head took.
    pub(crate) fn observe(&self, latency: Duration, outcome: Outcome, terms: EwmaTerms, now: Instant) {
        let at = self.ticks(now);
        let decay = terms.decay.as_secs_f64() / TICK.as_secs_f64();
        let failed = outcome != Outcome::Answered;
        self.failures.update(at, decay, if failed { 1.0 } else { 0.0 }, false);
        let ms = latency.as_secs_f64() * 1e3;
        // A failure teaches how slow a backend can be, never how fast.
        if !failed || ms > self.latency.read(at, decay).unwrap_or(0.0) {
            self.latency.update(at, decay, ms, true);
        }
        if let Outcome::Failed { rest: Some(rest) } = outcome {
            let rest = rest.min(terms.retry_after_max).as_micros() / TICK.as_micros();
            self.rests_until.fetch_max(at + u64::try_from(rest).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Milliseconds that an answer takes; `None` before the first.
    pub(crate) fn latency_ms(&self, terms: EwmaTerms, now: Instant) -> Option<f64> {
        self.latency.read(self.ticks(now), terms.decay.as_secs_f64() / TICK.as_secs_f64())
    }

    /// The share of failures, 0 to 1.
    pub(crate) fn failures(&self, terms: EwmaTerms, now: Instant) -> f64 {
        self.failures.read(self.ticks(now), terms.decay.as_secs_f64() / TICK.as_secs_f64()).unwrap_or(0.0)
    }

    /// It asked for a pause by `Retry-After`.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        let until = self.rests_until.load(Ordering::Relaxed);
        until > 0 && self.ticks(now) < until
    }

    fn ticks(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.born).as_micros() / TICK.as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// A fading average and its time in one word, so that both always belong together: the upper half is an `f32`, the
/// lower one the stamp. Zero: nothing was seen yet.
#[derive(Debug, Default)]
struct Decaying(AtomicU64);

impl Decaying {
    /// What is left of it at `now`.
    fn read(&self, now: u64, decay: f64) -> Option<f64> {
        let word = self.0.load(Ordering::Relaxed);
        (word != 0).then(|| f64::from(value(word)) * fade(word, now, decay))
    }

    fn update(&self, now: u64, decay: f64, sample: f64, peak: bool) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let new = if word == 0 {
                sample
            } else {
                let (old, kept) = (f64::from(value(word)), fade(word, now, decay));
                if peak && sample >= old * kept { sample } else { old * kept + sample * (1.0 - kept) }
            };
            match self.0.compare_exchange_weak(word, pack(new, now), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

fn value(word: u64) -> f32 {
    f32::from_bits(u32::try_from(word >> 32).expect("half a word"))
}

/// How much of a value is left; at least one tick passes between two observations, so that each counts.
fn fade(word: u64, now: u64, decay: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, reason = "stamps are compared modulo 2^32")]
    let passed = (now as u32).wrapping_sub(word as u32);
    (-f64::from(passed.max(1)) / decay).exp()
}

/// Never zero, which means that nothing was seen.
fn pack(value: f64, now: u64) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "an f32 is precise enough, and stamps wrap")]
    let (value, stamp) = (value as f32, now as u32);
    ((u64::from(value.to_bits()) << 32) | u64::from(stamp)).max(1)
}
