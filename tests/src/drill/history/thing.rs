//! What a history says about one thing, and where it must be in the end.

use super::{Kind, Operation, Told};

/// What the history says about one thing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Thing {
    pub(super) acknowledged: u64,
    /// When the latest acknowledged addition began.
    added_us: Option<u64>,
    /// The latest time until which an addition may have happened; an unknown one is never over.
    last_add_end_us: Option<u64>,
    /// When the latest acknowledged removal began.
    removed_us: Option<u64>,
    /// The latest time until which a removal may have happened.
    last_remove_end_us: Option<u64>,
}

pub(super) enum MustBe {
    There,
    /// It was there and was removed.
    Gone,
    /// It never was.
    Absent,
    Either,
}

impl Thing {
    pub(super) fn note(&mut self, operation: &Operation) {
        let ended_us = match operation.told {
            Told::Failed => return,
            Told::Acknowledged => operation.ended_us,
            // The server may still do it long after the client gave up.
            Told::Unknown => u64::MAX,
        };
        match (operation.kind, operation.told) {
            (Kind::Add, told) => {
                self.last_add_end_us = self.last_add_end_us.max(Some(ended_us));
                if told == Told::Acknowledged {
                    self.acknowledged += 1;
                    self.added_us = self.added_us.max(Some(operation.began_us));
                }
            }
            (Kind::Remove, told) => {
                self.last_remove_end_us = self.last_remove_end_us.max(Some(ended_us));
                if told == Told::Acknowledged {
                    self.removed_us = self.removed_us.max(Some(operation.began_us));
                }
            }
            _ => {}
        }
    }

    /// Operations that overlap have no order: then both ends are right.
    pub(super) fn must_be(&self) -> MustBe {
        let Some(last_add_end_us) = self.last_add_end_us else { return MustBe::Absent };
        if self.removed_us.is_some_and(|removed_us| last_add_end_us <= removed_us) {
            return MustBe::Gone;
        }
        let added_last = self.added_us.is_some_and(|began_us| {
            self.last_remove_end_us.is_none_or(|last_remove_end_us| last_remove_end_us <= began_us)
        });
        if added_last { MustBe::There } else { MustBe::Either }
    }
}
