//! Lets the second path see the same turns and chance as the first, so that their answers can be compared octet for
//! octet and no set loses a turn to a comparison.

use crate::zone::{Cursor, Draw};
use std::collections::VecDeque;

/// Draws from another source and remembers what came.
#[derive(Debug)]
pub struct Recorder<D> {
    source: D,
    drawn: VecDeque<usize>,
}

impl<D: Draw> Recorder<D> {
    pub fn new(source: D) -> Recorder<D> {
        Recorder { source, drawn: VecDeque::new() }
    }

    fn remember(&mut self, drawn: usize) -> usize {
        self.drawn.push_back(drawn);
        drawn
    }
}

impl<D: Draw> Draw for Recorder<D> {
    fn below(&mut self, bound: usize) -> usize {
        let drawn = self.source.below(bound);
        self.remember(drawn)
    }

    fn turn(&mut self, cursor: &Cursor, len: usize) -> usize {
        let turn = self.source.turn(cursor, len);
        self.remember(turn)
    }
}

/// Gives again what was drawn; when more is asked for than was drawn, 0.
#[derive(Debug)]
pub struct Replay {
    drawn: VecDeque<usize>,
}

impl Replay {
    pub fn of<D>(recorder: Recorder<D>) -> Replay {
        Replay { drawn: recorder.drawn }
    }

    fn next_below(&mut self, bound: usize) -> usize {
        self.drawn.pop_front().unwrap_or(0).min(bound.saturating_sub(1))
    }
}

impl Draw for Replay {
    fn below(&mut self, bound: usize) -> usize {
        self.next_below(bound)
    }

    fn turn(&mut self, _: &Cursor, len: usize) -> usize {
        self.next_below(len)
    }
}
