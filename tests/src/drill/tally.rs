//! What real programs do again and again in a host of their own: one word a time, counted.

use std::time::Duration;

use anyhow::Result;

use super::answers::Shares;
use crate::namespaces::Host;

/// Printed in place of a word when a program said nothing.
const NOTHING: &str = "nothing";
/// A program that is late in every try ends by itself before; this is for a machine that stands still.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often which word was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) shares: Shares,
    /// Times without a word.
    pub(super) failed: u64,
}

/// Runs a command so many times, one after the other, and counts the first words of what it prints, as `name` calls them.
pub(super) async fn tally(
    host: &Host,
    command: &str,
    times: u32,
    name: impl Fn(&str) -> String,
) -> Result<Tally> {
    let script = format!(
        "i=0\nwhile [ $i -lt {times} ]; do\n    \
         {{ {command} || true; }} | {{ word=; read -r word rest || true; echo \"${{word:-{NOTHING}}}\"; }}\n    \
         i=$((i + 1))\ndone"
    );
    Ok(count(&host.run(&script, DEADLINE).await?, name))
}

fn count(said: &str, name: impl Fn(&str) -> String) -> Tally {
    let mut tally = Tally::default();
    for word in said.lines() {
        if word == NOTHING {
            tally.failed += 1;
        } else {
            *tally.shares.0.entry(name(word)).or_default() += 1;
        }
    }
    tally
}

/// Two or more of them as one.
pub(super) fn sum<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> (u64, u64) {
    tallies.into_iter().fold((0, 0), |(said, failed), it| (said + it.shares.total(), failed + it.failed))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A tally as `4 a, 1 b`.
    pub(in crate::drill) fn of(text: &str) -> Tally {
        let words = text.split(", ").filter_map(|part| part.split_once(' '));
        let shares = words.map(|(times, word)| (word.to_owned(), times.parse().unwrap())).collect();
        Tally { shares: Shares(shares), failed: 0 }
    }

    #[test]
    fn words_are_counted_by_their_names() {
        let name = |word: &str| word.to_uppercase();
        assert_eq!(count("a\nb\na\n", name), of("2 A, 1 B"));
        assert_eq!(count("", name), Tally::default());
    }

    #[test]
    fn silence_is_a_failure() {
        assert_eq!(count("a\nnothing\n", str::to_owned), Tally { failed: 1, ..of("1 a") });
        assert_eq!(sum(&[Tally { failed: 1, ..of("2 a, 3 b") }, of("1 b")]), (6, 1));
    }
}
