//! In which order the records of a set are given, and how many of them. Both are decided once, when a zone is loaded: a
//! rule that is matched for each query costs more than the answer.

use crate::steering::Selector;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an operator may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderPolicy {
    Cyclic,
    Random,
    Fixed,
    Weighted,
}

/// How one set is ordered in an answer.
#[derive(Debug, Clone)]
pub enum Order {
    /// As in the zone file.
    Fixed,
    /// Each answer starts one record later than the one before.
    Cyclic(Box<Cursor>),
    /// Every permutation is as likely as any other.
    Random,
    /// A record comes first in proportion to its weight; those behind it by the weights that are left.
    Weighted(Weights),
    /// Some of the records, chosen for each question before anything is ordered. Never sealed: the slow path answers.
    Selected(Arc<Selector>),
}

/// Where an order takes its turns and its chance from. Any function that gives a uniform number below its argument is one
/// that takes a cyclic set's real turns.
pub trait Draw {
    /// A uniform number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize;

    /// The index of the record that comes first in the next answer of a cyclic set of `len` records.
    fn turn(&mut self, cursor: &Cursor, len: usize) -> usize {
        cursor.next(len)
    }
}

impl<F: FnMut(usize) -> usize> Draw for F {
    fn below(&mut self, bound: usize) -> usize {
        self(bound)
    }
}

impl Order {
    /// Calls `take` with the runs of records that an answer gives, in their order: `count` of `len` records.
    pub fn runs(&self, len: usize, count: usize, draw: &mut impl Draw, mut take: impl FnMut(Range<usize>)) {
        match self {
            Order::Fixed | Order::Selected(_) => take(0..count),
            Order::Cyclic(cursor) => {
                let first = draw.turn(cursor, len);
                let before_the_end = count.min(len - first);
                take(first..first + before_the_end);
                take(0..count - before_the_end);
            }
            Order::Random => {
                with_indices(len, |indices| {
                    for at in 0..count {
                        // The last one has no choice left, and costs no draw.
                        let rest = len - at;
                        indices.swap(at, at + if rest > 1 { draw.below(rest) } else { 0 });
                        take(single(indices[at]));
                    }
                });
            }
            Order::Weighted(weights) if count == 1 => take(single(weights.draw(draw))),
            Order::Weighted(weights) => weights.draw_many(count, draw, |at| take(single(at))),
        }
    }
}

/// Calls `work` with the numbers below `len`, without an allocation for any set that fits a datagram.
fn with_indices(len: usize, work: impl FnOnce(&mut [u16])) {
    const ON_STACK: usize = 128;
    if len <= ON_STACK {
        let mut indices: [u16; ON_STACK] = std::array::from_fn(|at| at as u16);
        work(&mut indices[..len]);
    } else {
        let mut indices: Vec<u16> = (0..len).map(|at| u16::try_from(at).unwrap_or(u16::MAX)).collect();
        work(&mut indices);
    }
}

fn single(at: impl Into<usize>) -> Range<usize> {
    let at = at.into();
    at..at + 1
}

/// The weights of a set's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Of each record the sum of its weight and all before it; the last is above 0.
    sums: Box<[u32]>,
}

impl Weights {
    /// `None` when all weights are 0 or their sum is over 32 bits: nothing could be drawn.
    pub fn new(weights: &[u32]) -> Option<Weights> {
        let mut sum = 0_u32;
        let sums: Option<Box<[u32]>> = weights
            .iter()
            .map(|weight| {
                sum = sum.checked_add(*weight)?;
                Some(sum)
            })
            .collect();
        sums.filter(|_| sum > 0).map(|sums| Weights { sums })
    }

    fn total(&self) -> u32 {
        self.sums.last().copied().unwrap_or(0)
    }

    fn draw(&self, draw: &mut impl Draw) -> usize {
        let drawn = draw.below(self.total() as usize);
        self.sums.partition_point(|sum| (*sum as usize) <= drawn)
    }

    /// Without putting back: each further record by the weights that are left, those of weight 0 last and in their order.
    fn draw_many(&self, count: usize, draw: &mut impl Draw, mut take: impl FnMut(usize)) {
        let mut left: Vec<(usize, u32)> = Vec::with_capacity(self.sums.len());
        let mut before = 0;
        for (at, sum) in self.sums.iter().enumerate() {
            left.push((at, sum - before));
            before = *sum;
        }
        let mut total = self.total();
        for _ in 0..count.min(left.len()) {
            let mut drawn = if total > 0 { draw.below(total as usize) as u32 } else { 0 };
            let chosen = left.iter().position(|(_, weight)| {
                let here = total == 0 || drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                here
            });
            let (at, weight) = left.remove(chosen.unwrap_or(0));
            total -= weight;
            take(at);
        }
    }
}

/// Counts the answers given from a cyclic set, over all workers, so that shares are exact.
#[derive(Debug, Default)]
pub struct Cursor {
    turns: AtomicU64,
}

impl Clone for Cursor {
    fn clone(&self) -> Cursor {
        Cursor { turns: AtomicU64::new(self.turns.load(Ordering::Relaxed)) }
    }
}

impl Cursor {
    /// The index of the record that comes first in the next answer of `len` records.
    pub fn next(&self, len: usize) -> usize {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        (turn % len as u64) as usize
    }

    /// Goes on where the cursor of the same set in an older snapshot stands. Were every reload to start anew, a zone
    /// reloaded as often as it is asked would always give the same record first.
    pub fn continue_from(&self, older: &Cursor) {
        self.turns.store(older.turns.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
