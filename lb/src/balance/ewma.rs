//! Peak EWMA that sees failures: what a request would cost here is `(latency + failures x penalty) x (in flight + 1)`
//! for its share. The latency is that of the answer's head, a fading peak (see [`super::load`]).

use std::time::Instant;

use super::load::Load;
use super::{Candidate, Choice, EwmaTerms, count, least};

/// Added to one that asked for a pause: it comes after everybody else, and they keep their order among themselves.
const PAUSE_MS: f64 = 1e9;

pub(super) fn pick<C: Candidate>(
    choice: &Choice<'_, C>,
    tier: &[usize],
    random: &mut fastrand::Rng,
    terms: EwmaTerms,
) -> Option<usize> {
    least::least(choice, tier, random, |open| cost(open.candidate.load(), terms, choice.now))
}

/// Milliseconds that one more request seems to take here, before its share is counted.
pub(crate) fn cost(load: &Load, terms: EwmaTerms, now: Instant) -> f64 {
    let inflight = load.inflight();
    let penalty = terms.error_penalty.as_secs_f64() * 1e3;
    let latency = match load.latency_ms(terms, now) {
        Some(latency) => latency,
        // Nobody knows. The first request finds out, and those that come before its answer go elsewhere.
        None if inflight == 0 => 0.0,
        None => penalty,
    };
    let pause = if load.rests(now) { PAUSE_MS } else { 0.0 };
    (latency + load.failures(terms, now) * penalty) * (count(inflight) + 1.0) + pause
}
