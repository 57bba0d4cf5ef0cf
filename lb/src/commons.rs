//! What all workers share of one pool besides the snapshot: it lives as long as the pool, through every change of it.

use std::time::Instant;

use crate::queue::Queue;
use crate::snapshot::Lease;
use crate::table::Table;

/// One pool's.
#[derive(Debug)]
pub(crate) struct Commons {
    /// Requests that wait for a place at a backend.
    pub(crate) queue: Queue<Lease>,
    /// Where clients belong, if `sticky.mode` is `table`.
    pub(crate) table: Table,
}

impl Commons {
    pub(crate) fn new(now: Instant) -> Self {
        Self { queue: Queue::default(), table: Table::new(now) }
    }
}
