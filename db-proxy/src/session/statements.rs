//! Prepared statements, once per text: clients have names for them, servers have them or not.

use std::collections::HashMap;
use std::rc::Rc;

use crate::classify::{Cache, Verdict};

/// A statement as some client prepared it.
#[derive(Debug)]
pub struct Statement {
    /// Never used twice on one worker.
    pub id: u64,
    /// Its name on every server.
    pub name: Box<str>,
    /// The SQL text.
    pub sql: Box<[u8]>,
    /// The tail of its Parse message: count and types of the parameters.
    pub types: Box<[u8]>,
    /// What it is.
    pub verdict: Rc<Verdict>,
}

/// The statements of one worker by text and parameter types, and the verdicts on all texts.
#[derive(Debug)]
pub struct Statements {
    verdicts: Cache,
    by_text: HashMap<Box<[u8]>, Rc<Statement>>,
    sweep_at: usize,
    last_id: u64,
}

/// With fewer entries than this, unused ones are not looked for.
const SWEEP_MIN: usize = 1024;

impl Statements {
    /// No statement yet.
    pub fn new(verdicts: Cache) -> Self {
        Self { verdicts, by_text: HashMap::new(), sweep_at: SWEEP_MIN, last_id: 0 }
    }

    /// The verdict on a text.
    pub fn verdict(&mut self, sql: &[u8]) -> Rc<Verdict> {
        self.verdicts.verdict(sql)
    }

    /// The statement for a named Parse, the same for every client that sends the same.
    pub fn named(&mut self, sql: &[u8], types: &[u8]) -> Rc<Statement> {
        let key = [sql, b"\0", types].concat();
        if let Some(statement) = self.by_text.get(key.as_slice()) {
            return Rc::clone(statement);
        }
        if self.by_text.len() >= self.sweep_at {
            self.by_text.retain(|_, statement| Rc::strong_count(statement) > 1);
            // Sweeping again only after the rest has doubled keeps the cost constant per statement.
            self.sweep_at = (self.by_text.len() * 2).max(SWEEP_MIN);
        }
        let statement = self.unnamed(sql, types);
        self.by_text.insert(key.into(), Rc::clone(&statement));
        statement
    }

    /// The statement for an unnamed Parse: not shared, as its texts are often different each time.
    pub fn unnamed(&mut self, sql: &[u8], types: &[u8]) -> Rc<Statement> {
        self.last_id += 1;
        Rc::new(Statement {
            id: self.last_id,
            name: format!("dbp_{}", self.last_id).into(),
            sql: sql.into(),
            types: types.into(),
            verdict: self.verdicts.verdict(sql),
        })
    }
}

/// Which statements one server has prepared.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Time of the last use, in uses.
    held: HashMap<u64, Held>,
    uses: u64,
}

#[derive(Debug)]
struct Held {
    name: Box<str>,
    used: u64,
}

impl Prepared {
    /// Notes a use; `false`: the server does not have it and must be told.
    pub fn touch(&mut self, statement: &Statement) -> bool {
        self.uses += 1;
        let uses = self.uses;
        match self.held.get_mut(&statement.id) {
            Some(held) => {
                held.used = uses;
                true
            }
            None => {
                self.held.insert(statement.id, Held { name: statement.name.clone(), used: uses });
                false
            }
        }
    }

    /// The server does not have it after all.
    pub fn forget(&mut self, id: u64) -> bool {
        self.held.remove(&id).is_some()
    }

    /// The server has none any more.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// Takes the names of the least used beyond `keep`. Called between clients only, so that no pipeline loses one.
    pub fn overflow(&mut self, keep: usize) -> Vec<Box<str>> {
        let over = self.held.len().saturating_sub(keep);
        if over == 0 {
            return Vec::new();
        }
        let mut by_use: Vec<(u64, u64)> = self.held.iter().map(|(id, held)| (held.used, *id)).collect();
        by_use.select_nth_unstable(over - 1);
        by_use[..over].iter().filter_map(|(_, id)| self.held.remove(id)).map(|held| held.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Classifier, ReadFunctions};

    fn statements() -> Statements {
        Statements::new(Cache::new(Classifier::new(ReadFunctions::default(), 1000), 100_000))
    }

    #[test]
    fn the_same_text_and_types_are_one_statement() {
        let mut all = statements();
        let one = all.named(b"SELECT $1", b"\0\0");
        assert_eq!(all.named(b"SELECT $1", b"\0\0").id, one.id);
        assert_ne!(all.named(b"SELECT $1", b"\0\x01\0\0\0\x17").id, one.id);
        assert_ne!(all.unnamed(b"SELECT $1", b"\0\0").id, one.id);
    }

    #[test]
    fn statements_that_no_client_has_are_swept() {
        let mut all = statements();
        let kept = all.named(b"SELECT 0", b"");
        for n in 1..5000 {
            all.named(format!("SELECT {n}").as_bytes(), b"");
        }
        assert!(all.by_text.len() <= SWEEP_MIN + 1);
        assert_eq!(all.named(b"SELECT 0", b"").id, kept.id);
    }

    #[test]
    fn the_least_used_are_given_up() {
        let (mut all, mut prepared) = (statements(), Prepared::default());
        let [a, b, c] = ["a", "b", "c"].map(|sql| all.named(sql.as_bytes(), b""));
        for statement in [&a, &b, &c] {
            assert!(!prepared.touch(statement));
        }
        assert!(prepared.touch(&a));
        assert_eq!(prepared.overflow(3), Vec::<Box<str>>::new());
        assert_eq!(prepared.overflow(2), std::slice::from_ref(&b.name));
        assert!(prepared.forget(c.id) && !prepared.forget(c.id));
        assert!(!prepared.touch(&c));
    }
}
