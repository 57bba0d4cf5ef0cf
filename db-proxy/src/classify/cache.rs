//! Verdicts by SQL text, bounded by bytes.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{Class, Classified, Classifier, Effect};

/// A verdict that may still learn. Shared by the cache and by the prepared statements of one worker.
#[derive(Debug)]
pub struct Verdict {
    class: Cell<Class>,
    /// What the statement leaves in its session.
    pub effects: Box<[Effect]>,
}

impl Verdict {
    fn new(classified: Classified) -> Rc<Self> {
        Rc::new(Self { class: Cell::new(classified.class), effects: classified.effects.into() })
    }

    /// Where the statement may run.
    pub fn class(&self) -> Class {
        self.class.get()
    }

    /// A replica refused it: from now on it is a write.
    pub fn learn_write(&self) {
        if self.class.get() == Class::Read {
            self.class.set(Class::Write);
        }
    }
}

/// Bytes that an entry costs beside its text.
const ENTRY_BYTES: usize = 96;

/// Two generations: a text that is not asked for while the young one fills is forgotten with the old one. Constant work a
/// look-up, no list to keep in order.
#[derive(Debug)]
pub struct Cache {
    classifier: Classifier,
    young: HashMap<Box<[u8]>, Rc<Verdict>>,
    old: HashMap<Box<[u8]>, Rc<Verdict>>,
    young_bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// `bytes_max` bounds the texts of both generations together.
    pub fn new(classifier: Classifier, bytes_max: usize) -> Self {
        Self { classifier, young: HashMap::new(), old: HashMap::new(), young_bytes: 0, bytes_max }
    }

    /// The verdict on `sql`.
    pub fn verdict(&mut self, sql: &[u8]) -> Rc<Verdict> {
        if let Some(verdict) = self.young.get(sql) {
            return Rc::clone(verdict);
        }
        let (text, verdict) = match self.old.remove_entry(sql) {
            Some(entry) => entry,
            None => (sql.into(), Verdict::new(self.classifier.classify(sql))),
        };
        let bytes = sql.len() + ENTRY_BYTES;
        // One text may not push out everything else.
        if bytes <= self.bytes_max / 8 {
            if self.young_bytes + bytes > self.bytes_max / 2 {
                self.old = std::mem::take(&mut self.young);
                self.young_bytes = 0;
            }
            self.young_bytes += bytes;
            self.young.insert(text, Rc::clone(&verdict));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::ReadFunctions;

    fn cache(bytes_max: usize) -> Cache {
        Cache::new(Classifier::new(ReadFunctions::default(), 10_000), bytes_max)
    }

    #[test]
    fn what_was_learnt_stays_while_the_text_is_used() {
        let mut cache = cache(4000);
        cache.verdict(b"SELECT 1").learn_write();
        for n in 0..1000 {
            cache.verdict(format!("SELECT {n} + 1").as_bytes());
            assert_eq!(cache.verdict(b"SELECT 1").class(), Class::Write);
        }
        assert!(cache.young_bytes <= 2000);
        assert!(cache.old.len() + cache.young.len() <= 40);
    }

    #[test]
    fn a_long_text_is_judged_but_not_kept() {
        let mut cache = cache(1000);
        let long = format!("SELECT '{}'", "x".repeat(500));
        assert_eq!(cache.verdict(long.as_bytes()).class(), Class::Read);
        assert!(cache.young.is_empty());
    }
}
