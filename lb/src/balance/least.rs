//! The least of something: all are compared in a small pool, two drawn by weight in a large one.
//!
//! Counts are shared, so what a worker compares is fresh, and comparing all of them is better (3 backends at 80 % load:
//! 0 instead of 295 of 4,000 requests wait while another backend is idle, in the mean of the simulation's seeds). What
//! is against it grows with the pool: the cache lines of everybody's counts, and the herd. With 64 backends and 16
//! workers that look 1 ms before they are counted, comparing all sends everybody to the same idle ones (p99 66 ms, worse
//! than a plain draw), and the better of two drawn ones does not (48 ms).

use super::{Candidate, Choice, Open, count, random};

/// Up to so many are all compared.
pub(super) const SCAN_MAX: usize = 16;
/// How often a draw that hit two full ones is repeated before everybody is looked at.
const DRAWS: usize = 4;
/// How much luck weighs against one request in flight. None would give idle light backends more than their share (weights
/// 1, 2, 4 almost without load: 21 % instead of 14 % for the lightest, with this 18 %); more would keep requests waiting.
pub(super) const LUCK: f64 = 0.5;

/// The fewest requests in flight for its share.
pub(super) fn requests<C: Candidate>(
    choice: &Choice<'_, C>,
    tier: &[usize],
    random: &mut fastrand::Rng,
) -> Option<usize> {
    least(choice, tier, random, |open| count(open.candidate.load().inflight()))
}

/// The least `cost` for its share.
pub(super) fn least<'a, C: Candidate>(
    choice: &Choice<'a, C>,
    tier: &'a [usize],
    random: &mut fastrand::Rng,
    cost: impl Fn(&Open<'a, C>) -> f64,
) -> Option<usize> {
    if tier.len() > SCAN_MAX
        && let Some(index) = better_of_two(choice, tier, random, &cost)
    {
        return Some(index);
    }
    let mut best: Option<(usize, f64)> = None;
    for open in choice.open(tier) {
        // Among equals, the least of exponential draws falls to each in proportion to its share.
        let luck = -(1.0 - random.f64()).ln();
        let score = (cost(&open) + luck * LUCK) / f64::from(open.share);
        if best.is_none_or(|(_, least)| score < least) {
            best = Some((open.index, score));
        }
    }
    best.map(|(index, _)| index)
}

fn better_of_two<'a, C: Candidate>(
    choice: &Choice<'a, C>,
    tier: &'a [usize],
    random: &mut fastrand::Rng,
    cost: impl Fn(&Open<'a, C>) -> f64,
) -> Option<usize> {
    let score = |open: &Open<'a, C>| {
        let has_room = open.candidate.load().inflight() < open.candidate.limit();
        has_room.then(|| cost(open) / f64::from(open.share))
    };
    for _ in 0..DRAWS {
        let one = random::draw(choice.untried(tier), random)?;
        let two = random::draw(choice.untried(tier).filter(|open| open.index != one.index), random)?;
        match (score(&one), score(&two)) {
            (Some(a), Some(b)) if b < a => return Some(two.index),
            (Some(_), _) => return Some(one.index),
            (None, Some(_)) => return Some(two.index),
            (None, None) => {}
        }
    }
    None
}
