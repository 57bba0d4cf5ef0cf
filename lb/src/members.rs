//! Who is a backend, by DNS. No sockets: answers are fed in.
//!
//! An address that is missing from a good answer is leaving. A name that does not exist, a failing server and silence
//! are not good answers: they keep what is known, because a DNS outage must not empty the pool.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Why DNS gave no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Miss {
    #[error("the name does not exist")]
    NoName,
    #[error("the name has no address")]
    Empty,
    #[error("the server refused or failed")]
    Server,
    #[error("no answer in time")]
    Timeout,
    #[error("the server cannot be reached")]
    Unreachable,
}

impl Miss {
    pub(crate) const ALL: [Self; 5] =
        [Self::NoName, Self::Empty, Self::Server, Self::Timeout, Self::Unreachable];

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::NoName => "nxdomain",
            Self::Empty => "empty",
            Self::Server => "server-failure",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The answer for one family. An empty list is a good answer: the name exists without such addresses.
pub(crate) type Answer = Result<Vec<IpAddr>, Miss>;

/// The addresses that the two answers name, keeping a family's old ones where its answer is not good.
pub(crate) fn merge(known: &BTreeSet<IpAddr>, v4: &Answer, v6: &Answer) -> Result<BTreeSet<IpAddr>, Miss> {
    let kept = |ipv4: bool| known.iter().copied().filter(move |address| address.is_ipv4() == ipv4);
    match (v4, v6) {
        (Ok(v4), Ok(v6)) if v4.is_empty() && v6.is_empty() => Err(Miss::Empty),
        (Ok(v4), Ok(v6)) => Ok(v4.iter().chain(v6).copied().collect()),
        (Ok(v4), Err(_)) if !v4.is_empty() => Ok(v4.iter().copied().chain(kept(false)).collect()),
        (Err(_), Ok(v6)) if !v6.is_empty() => Ok(v6.iter().copied().chain(kept(true)).collect()),
        (Err(miss), _) | (_, Err(miss)) => Err(*miss),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `4` and `6` are addresses by family and last digit: `41 42 61`. An answer may be `-` (empty) or `!` (failed).
    #[track_caller]
    fn check(known: &str, v4: &str, v6: &str, expected: &str) {
        let address = |word: &str| -> IpAddr {
            let (family, last) = word.split_at(1);
            let text = if family == "4" { format!("192.0.2.{last}") } else { format!("2001:db8::{last}") };
            text.parse().unwrap()
        };
        let list = |text: &str| text.split_whitespace().map(address).collect::<Vec<_>>();
        let answer = |text: &str| match text {
            "-" => Ok(vec![]),
            "!" => Err(Miss::Server),
            _ => Ok(list(text)),
        };
        let known: BTreeSet<IpAddr> = list(known).into_iter().collect();
        let got = merge(&known, &answer(v4), &answer(v6));
        let expected = if expected == "keep" { None } else { Some(list(expected).into_iter().collect()) };
        assert_eq!(got.ok(), expected);
    }

    #[test]
    fn a_good_answer_is_the_truth() {
        check("", "41 42", "-", "41 42");
        check("41 42", "42 43", "-", "42 43");
        check("", "41", "61", "41 61");
        check("41", "-", "61", "61");
    }

    #[test]
    fn no_address_at_all_is_not_believed() {
        check("41", "-", "-", "keep");
    }

    #[test]
    fn failures_keep_what_is_known() {
        check("41", "!", "!", "keep");
        check("41", "!", "-", "keep");
        check("41", "-", "!", "keep");
    }

    #[test]
    fn one_family_failing_keeps_only_that_familys_old_addresses() {
        check("41 61", "42", "!", "42 61");
        check("41 61", "!", "62", "41 62");
    }
}
