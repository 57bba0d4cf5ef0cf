//! One draw by weight.

use super::{Candidate, Open};

/// Draws one of `open`; `None` if it is empty.
pub(super) fn draw<'a, C: Candidate + 'a>(
    open: impl Iterator<Item = Open<'a, C>> + Clone,
    random: &mut fastrand::Rng,
) -> Option<Open<'a, C>> {
    let total: u64 = open.clone().map(|open| u64::from(open.share)).sum();
    if total == 0 {
        return None;
    }
    let mut left = random.u64(0..total);
    let mut last = None;
    for open in open {
        let share = u64::from(open.share);
        if left < share {
            return Some(open);
        }
        left -= share;
        last = Some(open);
    }
    // Somebody filled up between the two walks.
    last
}
