//! The zone that all subjects serve, and the questions of each case.

use std::fmt::Write as _;

/// Names of the large zone.
const NAMES: u32 = 1_000_000;
/// How many different names are asked for where names vary.
const QUESTIONS: u32 = 100_000;
/// The origin.
pub(crate) const ORIGIN: &str = "bench.example";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A set of so many addresses.
    Addresses(u8),
    /// Names that are not there, each another.
    NoName,
    /// Names that a wildcard covers, each another.
    Wildcard,
    /// Names with one address each, in no order, in a zone of a million.
    Million,
}

/// What the right answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The code as dnsperf prints it.
    pub(crate) rcode: &'static str,
    pub(crate) answers: usize,
}

impl Content {
    pub(crate) fn expected(self) -> Expected {
        match self {
            Self::Addresses(count) => Expected { rcode: "NOERROR", answers: count.into() },
            Self::NoName => Expected { rcode: "NXDOMAIN", answers: 0 },
            Self::Wildcard => Expected { rcode: "NOERROR", answers: 4 },
            Self::Million => Expected { rcode: "NOERROR", answers: 1 },
        }
    }

    /// Whether answers are over 512 octets, so that the questions need EDNS.
    pub(crate) fn is_large(self) -> bool {
        matches!(self, Self::Addresses(29..))
    }

    /// The name of the question with this number; all of a case have one length, and so have their answers.
    pub(crate) fn name(self, number: u32) -> String {
        match self {
            Self::Addresses(count) => format!("a{count:02}.{ORIGIN}"),
            Self::NoName => format!("no{number:06}.{ORIGIN}"),
            Self::Wildcard => format!("x{number:06}.w.{ORIGIN}"),
            Self::Million => format!("n{number:06}.{ORIGIN}"),
        }
    }

    /// Octets of an answer with addresses: header, question, a record of 16 octets for each, and OPT where it was asked for.
    pub(crate) fn answer_bytes(self) -> Option<u64> {
        let records = self.expected().answers;
        let opt = if self.is_large() { 11 } else { 0 };
        let bytes = 12 + self.name(0).len() + 2 + 4 + 16 * records + opt;
        (records > 0).then_some(bytes as u64)
    }

    /// How many questions there are, and which is the one at a place: a step through all names that shares no factor with
    /// their number, so that neighbours in the file are never asked for one after the other.
    fn question(self, at: u32) -> u32 {
        match self {
            Self::Million => {
                u32::try_from(u64::from(at) * 618_033 % u64::from(NAMES)).expect("below a million")
            }
            _ => at,
        }
    }

    /// dnsperf's data file.
    pub(crate) fn questions(self) -> String {
        let count = if matches!(self, Self::Addresses(_)) { 1 } else { QUESTIONS };
        let mut text = String::new();
        for at in 0..count {
            writeln!(text, "{} A", self.name(self.question(at))).expect("a string has room");
        }
        text
    }

    /// The zone file.
    pub(crate) fn zone(self) -> String {
        let mut text = format!(
            "$ORIGIN {ORIGIN}.\n$TTL 300\n@ IN SOA ns1 hostmaster 1 3600 900 604800 60\n@ IN NS ns1\nns1 IN A 192.0.2.53\n"
        );
        let mut add = |name: &str, count: u32| {
            for at in 1..=count {
                writeln!(text, "{name} IN A 192.0.2.{at}").expect("a string has room");
            }
        };
        for count in [1, 4, 32] {
            add(&format!("a{count:02}"), count);
        }
        add("*.w", 4);
        if self == Self::Million {
            for at in 0..NAMES {
                let [_, b, c, d] = at.to_be_bytes();
                writeln!(text, "n{at:06} IN A 10.{b}.{c}.{d}").expect("a string has room");
            }
        }
        text
    }

    /// A name of the file's last lines: who answers it has read all.
    pub(crate) fn last_name(self) -> String {
        match self {
            Self::Million => self.name(NAMES - 1),
            other => other.name(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_a_case_have_one_length_and_vary() {
        for content in [Content::Addresses(4), Content::NoName, Content::Wildcard, Content::Million] {
            let text = content.questions();
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{content:?}");
            let different: std::collections::BTreeSet<&&str> = lines.iter().collect();
            assert_eq!(different.len(), lines.len(), "{content:?}");
        }
    }
}
