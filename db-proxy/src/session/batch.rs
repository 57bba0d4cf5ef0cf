//! Looking ahead: a batch is what ends in one ReadyForQuery, a simple query or everything up to a Sync. It is the unit of
//! routing outside of transactions, since all of it runs in one implicit transaction.

use std::collections::HashMap;
use std::rc::Rc;

use super::statements::{Statement, Statements};
use crate::classify::{Class, Verdict};
use crate::wire::frame::{self, BadLength, HEADER_BYTES};

/// What a client calls its statements.
#[derive(Debug, Default)]
pub(super) struct Names {
    named: HashMap<Box<[u8]>, Rc<Statement>>,
    /// Of the texts of the named ones.
    bytes: usize,
    /// Without one.
    pub(super) unnamed: Option<Rc<Statement>>,
}

impl Names {
    /// The statement of this name; the empty one is the unnamed statement's.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Rc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// Names a statement.
    pub(super) fn insert(&mut self, name: &[u8], statement: Rc<Statement>) {
        self.bytes += statement.sql.len();
        if let Some(before) = self.named.insert(name.into(), statement) {
            self.bytes -= before.sql.len();
        }
    }

    /// Forgets a name; `false`: there was none.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        if name.is_empty() {
            return self.unnamed.take().is_some();
        }
        let before = self.named.remove(name);
        self.bytes -= before.as_ref().map_or(0, |statement| statement.sql.len());
        before.is_some()
    }

    /// Forgets all names.
    pub(super) fn clear(&mut self) {
        self.named.clear();
        self.bytes = 0;
    }

    /// How many there are, and how many bytes their texts have.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.named.len(), self.bytes)
    }
}

/// What lies ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    /// How many bytes of it were seen.
    pub(super) bytes: usize,
    /// All of it was seen.
    pub(super) complete: bool,
    /// Of everything in it together.
    pub(super) class: Class,
    /// It needs no server.
    pub(super) local: bool,
    /// It closes statements, which cannot be done twice.
    pub(super) closes: bool,
}

impl Batch {
    /// Whether it can be sent again after a failure that showed the client nothing.
    pub(super) fn is_repeatable(&self) -> bool {
        self.complete
            && !self.closes
            && matches!(self.class, Class::Read | Class::Nothing | Class::Begin { .. })
    }
}

/// Looks at the messages in `inbox`. `None`: more bytes are needed to tell. `judge` sees every verdict in the batch.
pub(super) fn look_ahead(
    inbox: &[u8],
    bytes_max: usize,
    names: &Names,
    statements: &mut Statements,
    mut judge: impl FnMut(&Rc<Verdict>),
) -> Result<Option<Batch>, BadLength> {
    let mut batch = Batch { bytes: 0, complete: false, class: Class::Nothing, local: true, closes: false };
    let mut parsed_here: Vec<(&[u8], Rc<Verdict>)> = Vec::new();
    while let Some(frame) = frame::peek(&inbox[batch.bytes..])? {
        let Some(message) = inbox.get(batch.bytes..batch.bytes + frame.bytes) else {
            batch.local = false;
            // What cannot fit is not worth waiting for.
            if batch.bytes + frame.bytes > bytes_max {
                return Ok(Some(batch));
            }
            break;
        };
        let first = batch.bytes == 0;
        let body = &message[HEADER_BYTES..];
        batch.bytes += frame.bytes;
        batch.local &= matches!(frame.tag, b'S' | b'C' | b'Q');
        let mut add = |batch: &mut Batch, verdict: Rc<Verdict>| {
            batch.class = together(batch.class, verdict.class());
            judge(&verdict);
            verdict
        };
        match frame.tag {
            b'Q' => {
                let sql = frame::split_text(body).map_or(body, |(sql, _)| sql);
                add(&mut batch, statements.verdict(sql));
                batch.complete = true;
                batch.local = first && matches!(batch.class, Class::Nothing | Class::Deallocate);
                if !first {
                    batch.class = Class::Write; // protocols mixed: legal, and too rare to be clever about
                }
                return Ok(Some(batch));
            }
            b'P' => {
                let texts =
                    frame::split_text(body).and_then(|(name, rest)| Some((name, frame::split_text(rest)?.0)));
                let (name, sql) = texts.unwrap_or_default();
                let verdict = add(&mut batch, statements.verdict(sql));
                parsed_here.push((name, verdict));
            }
            b'B' => {
                let name = frame::split_text(body).and_then(|(_, rest)| Some(frame::split_text(rest)?.0));
                let here = parsed_here.iter().rev().find(|(parsed, _)| Some(*parsed) == name);
                let known = here.map(|(_, verdict)| Rc::clone(verdict));
                let known = known.or_else(|| Some(Rc::clone(&names.get(name?)?.verdict)));
                match known {
                    Some(verdict) => drop(add(&mut batch, verdict)),
                    None => batch.class = Class::Write,
                }
            }
            b'C' => batch.closes |= body.first() == Some(&b'S'),
            b'D' | b'E' => {}
            b'S' => {
                batch.complete = true;
                return Ok(Some(batch));
            }
            // A client that flushes reads before it goes on: nobody knows what comes then. The rest is not understood.
            _ => return Ok(Some(Batch { class: Class::Write, complete: frame.tag == b'F', ..batch })),
        }
    }
    Ok((inbox.len() >= bytes_max).then_some(batch))
}

/// What two things in one batch are together.
fn together(one: Class, other: Class) -> Class {
    match (one, other) {
        (Class::Nothing, class) | (class, Class::Nothing) => class,
        (one, other) if one == other => one,
        _ => Class::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Cache, Classifier, ReadFunctions};

    /// `messages`: words like `Q:sql`, `P:name:sql`, `B::name`, `C:Sname`, others by their letter; `_` is a space.
    fn bytes(messages: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in messages.split_whitespace() {
            let word = word.replace('_', " ");
            let (tag, rest) = word.split_at(1);
            let body = match rest.strip_prefix(':') {
                Some(rest) => rest.replace(':', "\0") + "\0\0\0",
                None => String::new(),
            };
            bytes.extend(tag.as_bytes());
            bytes.extend((body.len() as u32 + 4).to_be_bytes());
            bytes.extend(body.as_bytes());
        }
        bytes
    }

    #[track_caller]
    fn check(messages: &str, expected: &str) {
        let mut statements =
            Statements::new(Cache::new(Classifier::new(ReadFunctions::default(), 1000), 100_000));
        let mut names = Names::default();
        names.insert(b"reads", statements.named(b"SELECT 1", b""));
        names.insert(b"writes", statements.named(b"DELETE FROM t", b""));
        let inbox = bytes(messages);
        let got = match look_ahead(&inbox, 200, &names, &mut statements, |_| {}) {
            Ok(None) => "more".to_owned(),
            Err(_) => "bad".to_owned(),
            Ok(Some(batch)) => {
                let flag = |on, name| if on { name } else { "" };
                let flags = [
                    flag(!batch.complete, " part"),
                    flag(batch.local, " local"),
                    flag(batch.is_repeatable(), " repeatable"),
                ];
                format!("{}{}", batch.class.as_str(), flags.concat())
            }
        };
        assert_eq!(got, expected, "{messages}");
    }

    #[test]
    fn simple_queries() {
        check("Q:SELECT_1", "read repeatable");
        check("Q:DELETE_FROM_t", "write");
        check("Q:BEGIN", "begin repeatable");
        check("Q:", "nothing local repeatable");
        check("Q:DEALLOCATE_x", "deallocate local");
    }

    #[test]
    fn extended_batches() {
        check("P:a:SELECT_1 D:Sa S", "read repeatable");
        check("B::reads E: S", "read repeatable");
        check("B::writes E: S", "write");
        check("B::unknown E: S", "write");
        check("P::SELECT_1 B:: E: P::DELETE_FROM_t B:: E: S", "write");
        check("P::SELECT_1 B:: E: P::BEGIN B:: E: S", "write");
        check("P:a:SELECT_1 B::a E: Q:SELECT_1", "write");
        check("S", "nothing local repeatable");
        check("C:Sx S", "nothing local");
        check("B::reads E: C:Sx S", "read");
    }

    #[test]
    fn a_flush_leaves_the_rest_open() {
        check("P:a:SELECT_1 D:Sa H", "write part");
        check("F:x", "write");
    }

    #[test]
    fn waits_for_the_end_within_reason() {
        check("", "more");
        check("P:a:SELECT_1", "more");
        check(&format!("P:a:SELECT_1 B::a:{}", "x".repeat(300)), "read part");
        assert!(look_ahead(b"Q\xff\xff\xff\xff", 200, &Names::default(), &mut empty(), |_| {}).is_err());
        assert_eq!(
            look_ahead(b"Q\0\0\x01\0SELECT", 200, &Names::default(), &mut empty(), |_| {})
                .unwrap()
                .unwrap()
                .bytes,
            0
        );
    }

    fn empty() -> Statements {
        Statements::new(Cache::new(Classifier::new(ReadFunctions::default(), 1000), 100_000))
    }
}
