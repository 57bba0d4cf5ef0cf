//! A resource record set, with what is decided about it when its zone is loaded: the order and number of the records in
//! an answer, and their octets.

use super::encoded::Encoded;
use super::order::{Draw, Order};
use super::rdata::Rdata;
use crate::wire::{Name, RecordType};
use std::ops::Range;

/// All records of one name and type (RFC 2181 section 5).
#[derive(Debug, Clone)]
pub struct Rrset {
    pub record_type: RecordType,
    pub ttl: u32,
    /// Never empty, no two alike.
    pub records: Vec<Rdata>,
    pub order: Order,
    /// How many records an answer has; 0 for all.
    pub answers_max: u16,
    encoded: Encoded,
}

impl Rrset {
    /// A set in the order of its file, given whole, that only the slow path answers until it is sealed.
    pub fn new(record_type: RecordType, ttl: u32, records: Vec<Rdata>) -> Rrset {
        Rrset { record_type, ttl, records, order: Order::Fixed, answers_max: 0, encoded: Encoded::None }
    }

    /// Encodes the records for the fast path. Whoever changes a set afterwards has to seal it again; one that must not be
    /// answered by the fast path, because its answer depends on more than the question, is not sealed.
    pub fn seal(&mut self, owner: &Name) {
        self.encoded = Encoded::of(owner, self);
    }

    /// The records' octets, or that there are none and the slow path has to answer.
    pub fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    /// How many records an answer has.
    pub fn answer_count(&self) -> usize {
        match self.answers_max {
            0 => self.records.len(),
            most => self.records.len().min(usize::from(most)),
        }
    }

    /// Calls `take` with the runs of records that the next answer gives, in their order.
    pub fn runs(&self, draw: &mut impl Draw, take: impl FnMut(Range<usize>)) {
        self.order.runs(self.records.len(), self.answer_count(), draw, take);
    }
}
