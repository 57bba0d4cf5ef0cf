//! A resource record set and the order its records are given in. The order is decided once, when a zone is loaded: a
//! rule that is matched for each query costs more than the answer.

use super::rdata::Rdata;
use crate::wire::RecordType;
use std::sync::atomic::{AtomicU64, Ordering};

/// All records of one name and type (RFC 2181 section 5).
#[derive(Debug)]
pub struct Rrset {
    pub record_type: RecordType,
    pub ttl: u32,
    /// Never empty, no two alike.
    pub records: Vec<Rdata>,
    pub order: Order,
}

/// The operator's choice for address sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderPolicy {
    Cyclic,
    Random,
    Fixed,
}

/// How one set is ordered in an answer.
#[derive(Debug)]
pub enum Order {
    /// As in the zone file.
    Fixed,
    /// Each answer starts one record later than the one before.
    Cyclic(Box<Cursor>),
    /// Every permutation is as likely as any other.
    Random,
}

impl Order {
    /// The order of a set of `len` records: only address sets of two and more have anything to rotate.
    pub fn decide(policy: OrderPolicy, record_type: RecordType, len: usize) -> Order {
        match policy {
            _ if len < 2 || !record_type.is_address() => Order::Fixed,
            OrderPolicy::Fixed => Order::Fixed,
            OrderPolicy::Cyclic => Order::Cyclic(Box::default()),
            OrderPolicy::Random => Order::Random,
        }
    }
}

/// Counts the answers given from a cyclic set, over all workers, so that shares are exact.
#[derive(Debug, Default)]
pub struct Cursor {
    turns: AtomicU64,
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
