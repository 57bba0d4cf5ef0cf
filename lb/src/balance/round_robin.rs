//! Smooth weighted round robin: everybody gains its share with each pick, the richest is taken and pays for all.
//! Shares are exact over time and heavy ones are interleaved: weights 5, 1, 1 give `a a b a c a a`.
//!
//! Each worker turns by itself and gives newcomers a start of its own, so that several workers and several balancers
//! do not begin with the same backend. A retry is drawn by weight and leaves the line alone: the shares of requests stay
//! exact when some fail, and those that a sick backend fails do not all fall to its neighbour in the line.

use super::{Candidate, Choice, random};

/// Everybody's savings, in the order of the pool.
#[derive(Debug, Default)]
pub(super) struct Turns {
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    id: u64,
    saved: i64,
}

impl Turns {
    pub(super) fn pick<C: Candidate>(
        &mut self,
        choice: &Choice<'_, C>,
        tier: &[usize],
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        if !choice.tried.is_empty() {
            return random::draw(choice.open(tier), random).map(|open| open.index);
        }
        self.align(choice, random);
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        // One at its limit neither gains nor pays: what it saved would come as a burst when it has room again.
        for open in choice.open(tier) {
            let share = i64::from(open.share);
            let saved = &mut self.slots[open.index].saved;
            *saved += share;
            total += share;
            if best.is_none_or(|(_, most)| *saved > most) {
                best = Some((open.index, *saved));
            }
        }
        let (index, _) = best?;
        self.slots[index].saved -= total;
        Some(index)
    }

    /// Follows a pool that changed: those who stay keep what they saved.
    fn align<C: Candidate>(&mut self, choice: &Choice<'_, C>, random: &mut fastrand::Rng) {
        let same = self.slots.len() == choice.entries.len()
            && self.slots.iter().zip(choice.entries).all(|(slot, entry)| slot.id == entry.id());
        if same {
            return;
        }
        let old = std::mem::take(&mut self.slots);
        self.slots.extend(choice.entries.iter().map(|entry| {
            let id = entry.id();
            let known = old.iter().find(|slot| slot.id == id).map(|slot| slot.saved);
            let start = || random.i64(0..=i64::from(entry.share(choice.now)));
            Slot { id, saved: known.unwrap_or_else(start) }
        }));
    }
}
