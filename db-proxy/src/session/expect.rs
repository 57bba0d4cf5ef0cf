//! What a server still owes: one queue of expected replies.
//!
//! Every message to a server that has a reply gets an entry, also those that the proxy slips in; every reply is matched
//! with the front. Replies that the proxy makes itself wait in the same queue, so that they cannot overtake a server's.
//! After an error in the extended protocol the server drops everything until a Sync, and so does the queue: also simple
//! queries, which then get no reply of their own.

use std::collections::VecDeque;
use std::rc::Rc;

use super::statements::Statement;
use crate::classify::Verdict;

/// For whom a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The client asked.
    Client,
    /// The proxy asked.
    Nobody,
}

/// One reply that is owed.
#[derive(Debug, Clone)]
pub(super) enum Expect {
    /// `1`
    Parse {
        /// For whom.
        to: To,
        /// What the server has then.
        statement: Option<Rc<Statement>>,
        /// What the client calls it: forgotten again if this fails.
        client_name: Option<Box<[u8]>>,
    },
    /// `1` from the proxy: the server has it already.
    ParseLocal {
        /// What the client calls it: forgotten again if an earlier message fails.
        client_name: Box<[u8]>,
    },
    /// `2`
    Bind {
        /// Of this statement.
        statement: Option<Rc<Statement>>,
    },
    /// `t`, then `T` or `n`
    DescribeStatement,
    /// `T` or `n`
    DescribePortal,
    /// Rows, then `C`, `I` or `s`; or a copy
    Execute {
        /// What runs.
        verdict: Option<Rc<Verdict>>,
    },
    /// `3`
    Close {
        /// For whom.
        to: To,
    },
    /// `3` from the proxy
    CloseLocal,
    /// `Z`
    Sync,
    /// Anything, then `Z`
    Query {
        /// For whom.
        to: To,
        /// Say this command's completion instead of "empty query".
        empty_as: Option<&'static str>,
        /// What runs.
        verdict: Option<Rc<Verdict>>,
    },
}

impl Expect {
    /// Whether a ReadyForQuery for the client comes with it.
    pub(super) fn ends_batch(&self) -> bool {
        matches!(self, Self::Sync | Self::Query { to: To::Client, .. })
    }
}

/// What to do with a message of the server.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Not for the client.
    pub(super) swallow: bool,
    /// The entry that it completes.
    pub(super) done: Option<Expect>,
    /// After an error: the entries that will get no reply, the failing one first.
    pub(super) failed: Vec<Expect>,
    /// Nothing of the kind was owed: the stream cannot be trusted any more.
    pub(super) unexpected: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    queue: VecDeque<Expect>,
    /// The server reads copy data: it ignores Sync and Flush until CopyDone or CopyFail.
    copy_in: bool,
}

impl Expectations {
    /// Nothing is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The server wants copy data.
    pub(super) fn is_copy_in(&self) -> bool {
        self.copy_in
    }

    /// The client ended its copy data.
    pub(super) fn copy_ended(&mut self) {
        self.copy_in = false;
    }

    /// Adds a reply at the end.
    pub(super) fn push(&mut self, expect: Expect) {
        self.queue.push_back(expect);
    }

    /// What is owed next.
    pub(super) fn front(&self) -> Option<&Expect> {
        self.queue.front()
    }

    /// Everything that is owed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Expect> {
        self.queue.iter()
    }

    /// Forgets all: the server is gone.
    pub(super) fn clear(&mut self) -> Vec<Expect> {
        self.copy_in = false;
        self.queue.drain(..).collect()
    }

    /// Takes the front if it is a reply of the proxy itself, whose turn it is now.
    pub(super) fn pop_local(&mut self) -> Option<Expect> {
        match self.queue.front()? {
            Expect::ParseLocal { .. } | Expect::CloseLocal => self.queue.pop_front(),
            _ => None,
        }
    }

    /// Matches a message of the server with the front of the queue.
    pub(super) fn on_message(&mut self, tag: u8) -> Outcome {
        use Expect as E;
        let swallow = matches!(
            self.queue.front(),
            Some(
                E::Query { to: To::Nobody, .. }
                    | E::Parse { to: To::Nobody, .. }
                    | E::Close { to: To::Nobody }
            )
        );
        let done = match (tag, self.queue.front()) {
            // May come at any time.
            (b'N' | b'A' | b'S', _) => return Outcome { swallow, ..Outcome::default() },
            (b'E', Some(_)) => return self.on_error(),
            (b'1', Some(E::Parse { .. }))
            | (b'2', Some(E::Bind { .. }))
            | (b'3', Some(E::Close { .. }))
            | (b'T' | b'n', Some(E::DescribePortal))
            | (b'C' | b'I' | b's', Some(E::Execute { .. }))
            | (b'Z', Some(E::Sync | E::Query { .. })) => self.queue.pop_front(),
            (b't', Some(E::DescribeStatement)) => {
                self.queue[0] = E::DescribePortal;
                None
            }
            (b'G', Some(E::Execute { .. })) => {
                self.copy_in = true;
                // The server will meet these while it looks for copy data, and ignore them.
                while matches!(self.queue.get(1), Some(E::Sync)) {
                    self.queue.remove(1);
                }
                None
            }
            (b'G', Some(E::Query { .. })) => {
                self.copy_in = true;
                None
            }
            (b'D' | b'H' | b'd' | b'c', Some(E::Execute { .. })) => None,
            (b'T' | b'D' | b'C' | b'I' | b'H' | b'd' | b'c' | b'V', Some(E::Query { .. })) => None,
            _ => return Outcome { unexpected: true, ..Outcome::default() },
        };
        if matches!(tag, b'C' | b'Z') {
            self.copy_in = false;
        }
        Outcome { swallow, done, ..Outcome::default() }
    }

    fn on_error(&mut self) -> Outcome {
        self.copy_in = false;
        // A failing query still ends with its own ReadyForQuery; so does a Sync, whose commit may fail.
        let keep = match self.queue.front() {
            Some(Expect::Query { .. } | Expect::Sync) => 0,
            _ => self
                .queue
                .iter()
                .position(|expect| matches!(expect, Expect::Sync))
                .unwrap_or(self.queue.len()),
        };
        let swallow = matches!(
            self.queue.front(),
            Some(Expect::Query { to: To::Nobody, .. } | Expect::Close { to: To::Nobody })
        );
        Outcome { swallow, failed: self.queue.drain(..keep).collect(), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(letter: char) -> Expect {
        match letter {
            'P' => Expect::Parse { to: To::Client, statement: None, client_name: None },
            'p' => Expect::Parse { to: To::Nobody, statement: None, client_name: None },
            'l' => Expect::ParseLocal { client_name: Box::default() },
            'B' => Expect::Bind { statement: None },
            'D' => Expect::DescribeStatement,
            'd' => Expect::DescribePortal,
            'E' => Expect::Execute { verdict: None },
            'C' => Expect::Close { to: To::Client },
            'c' => Expect::Close { to: To::Nobody },
            'S' => Expect::Sync,
            'Q' => Expect::Query { to: To::Client, empty_as: None, verdict: None },
            'q' => Expect::Query { to: To::Nobody, empty_as: None, verdict: None },
            other => panic!("no entry {other}"),
        }
    }

    /// `sent`: entries as letters; `replies`: the server's tags. The result: for each reply the tag if it is forwarded, `_`
    /// if it is swallowed, `!` if it was not expected; replies of the proxy as `(1)`; at the end how many entries are left.
    #[track_caller]
    fn check(sent: &str, replies: &str, expected: &str) {
        let mut expectations = Expectations::default();
        sent.chars().for_each(|letter| expectations.push(entry(letter)));
        let mut got = String::new();
        for tag in replies.bytes() {
            while expectations.pop_local().is_some() {
                got.push_str("(1)");
            }
            let outcome = expectations.on_message(tag);
            got.push(match (outcome.unexpected, outcome.swallow) {
                (true, _) => '!',
                (false, true) => '_',
                (false, false) => char::from(tag),
            });
        }
        assert_eq!(format!("{got} {}", expectations.queue.len()), expected, "{sent} with {replies}");
    }

    #[test]
    fn simple_queries() {
        check("Q", "TDDCZ", "TDDCZ 0");
        check("Q", "CTDCZ", "CTDCZ 0");
        check("Q", "EZ", "EZ 0");
        check("Q", "IZ", "IZ 0");
        check("QQ", "CZ", "CZ 1");
    }

    #[test]
    fn extended_queries() {
        check("PBdES", "12TDDCZ", "12TDDCZ 0");
        check("PDS", "1tTZ", "1tTZ 0");
        check("PDS", "1tnZ", "1tnZ 0");
        check("BES", "2sZ", "2sZ 0");
        check("CS", "3Z", "3Z 0");
        check("BESBES", "2CZ2CZ", "2CZ2CZ 0");
    }

    #[test]
    fn what_the_proxy_slips_in_is_swallowed() {
        check("qpBES", "CZ12CZ", "___2CZ 0");
        check("cqBES", "3SCZ2CZ", "____2CZ 0");
        check("lBES", "2CZ", "(1)2CZ 0");
        check("BlES", "2CZ", "2(1)CZ 0");
    }

    #[test]
    fn after_an_error_all_is_skipped_until_sync() {
        check("PBES", "EZ", "EZ 0");
        check("PBESBES", "EZ2CZ", "EZ2CZ 0");
        check("PBEQS", "EZ", "EZ 0"); // the query between gets no reply
        check("BlES", "EZ", "EZ 0"); // nor does the proxy's own
        check("pBES", "EZ", "EZ 0"); // a failed repeat is the client's failure
        check("PB", "E", "E 0");
        check("BES", "2DCEZ", "2DCEZ 0"); // the commit fails
    }

    #[test]
    fn copies() {
        check("Q", "HddcCZ", "HddcCZ 0");
        check("Q", "GCZ", "GCZ 0");
        check("Q", "GEZ", "GEZ 0");
        check("BESS", "2GCZ", "2GC! 0"); // a Sync after CopyDone would have to be pushed again
        check("BES", "2GC", "2GC 0");
    }

    #[test]
    fn notices_and_parameters_come_at_any_time() {
        check("PBES", "N1S2NCZ", "N1S2NCZ 0");
        check("", "NS", "NS 0");
    }

    #[test]
    fn replies_that_nobody_asked_for() {
        check("", "Z", "! 0");
        check("S", "C", "! 1");
        check("P", "2", "! 1");
        check("", "E", "! 0");
    }
}
