//! What gyms call the same thing: words and phrases, and the concepts they stand for.
//!
//! General vocabulary of the field (`lexicon.txt`), so that `butt` and `gluteus` mean what the catalogue calls
//! glutes. Two strengths: `same` words mean the concept, `near` words only hint at it. Both are matched by stem, and
//! the longest phrase counts most: `trap bar` says little about the trapezius.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::words::{stem, words};

/// How strongly a word stands for a concept.
const SAME: f32 = 1.0;
const NEAR: f32 = 0.6;

/// The longest phrase, in words.
pub(super) const PHRASE_WORDS_MAX: usize = 5;

pub(crate) const TEXT: &str = include_str!("lexicon.txt");

struct Group {
    concept: &'static str,
    /// Comma separated words and phrases.
    same: &'static str,
    near: &'static str,
}

fn groups() -> impl Iterator<Item = Group> {
    TEXT.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (concept, rest) = line.split_once(':')?;
        let (same, near) = rest.split_once('~').unwrap_or((rest, ""));
        Some(Group { concept, same, near })
    })
}

/// The concept a phrase stands for, and how strongly.
pub(super) type Meaning = (&'static str, f32);

/// The groups, turned round: from stems to meanings.
#[derive(Debug)]
pub(super) struct Lexicon {
    meanings: HashMap<String, Vec<Meaning>>,
    /// Every word that is spelt right for certain, phrases of two also written as one.
    vocabulary: BTreeSet<String>,
}

impl Lexicon {
    pub(super) fn new() -> Self {
        let mut lexicon = Self { meanings: HashMap::new(), vocabulary: BTreeSet::new() };
        for Group { concept, same, near } in groups() {
            for (list, strength) in [(same, SAME), (near, NEAR)] {
                for phrase in list.split(',').map(|phrase| words(phrase).collect::<Vec<_>>()) {
                    lexicon.add(&phrase, (concept, strength));
                }
            }
        }
        lexicon
    }

    fn add(&mut self, phrase: &[String], meaning: Meaning) {
        if phrase.is_empty() {
            return;
        }
        let stems: Vec<String> = phrase.iter().map(|word| stem(word)).collect();
        let mut keys = vec![stems.join(" ")];
        for word in phrase {
            self.vocabulary.insert(format!("{word}s"));
            self.vocabulary.insert(word.clone());
        }
        if let [first, second] = phrase {
            let joined = format!("{first}{second}");
            keys.push(stem(&joined));
            self.vocabulary.insert(joined);
        }
        for key in keys {
            let known = self.meanings.entry(key).or_default();
            if !known.iter().any(|(concept, _)| *concept == meaning.0) {
                known.push(meaning);
            }
        }
    }

    /// What was probably meant by a word that is not in the vocabulary: the nearest word of it with the same first
    /// letter, within one slip of the finger (two in long words).
    pub(super) fn respelt(&self, word: &str) -> Option<&str> {
        if self.vocabulary.contains(word) {
            return None;
        }
        let letters: Vec<char> = word.chars().collect();
        let slips_max = match letters.len() {
            0..4 => return None,
            4..8 => 1,
            _ => 2,
        };
        let first = letters[0];
        self.vocabulary
            .range(first.to_string()..)
            .take_while(|candidate| candidate.starts_with(first))
            .filter_map(|candidate| Some((slips(&letters, candidate, slips_max)?, candidate)))
            .filter(|(slips, _)| *slips > 0)
            .min_by_key(|(slips, candidate)| (*slips, Reverse(common_prefix(&letters, candidate))))
            .map(|(_, candidate)| candidate.as_str())
    }

    /// The longest phrase at the start of these stems, of at most so many words: how many stems it takes, and what it
    /// means.
    pub(super) fn longest(&self, stems: &[String], words_max: usize) -> Option<(usize, &[Meaning])> {
        (1..=stems.len().min(words_max).min(PHRASE_WORDS_MAX)).rev().find_map(|length| {
            let meanings = self.meanings.get(&stems[..length].join(" "))?;
            Some((length, meanings.as_slice()))
        })
    }

    /// Every group as it stands in the file, for the fingerprint that goes into the embedder's name.
    pub(super) fn text() -> &'static str {
        TEXT
    }
}

fn common_prefix(letters: &[char], candidate: &str) -> usize {
    letters.iter().zip(candidate.chars()).take_while(|(left, right)| **left == *right).count()
}

/// How many letters are missing, too many, wrong or swapped with their neighbour; `None` when more than `max`.
fn slips(word: &[char], candidate: &str, max: usize) -> Option<usize> {
    let candidate: Vec<char> = candidate.chars().collect();
    if word.len().abs_diff(candidate.len()) > max {
        return None;
    }
    // Optimal string alignment, three rows of it: the one before the last is for swaps.
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=candidate.len()).collect();
    for row in 1..=word.len() {
        let mut current = vec![row];
        for column in 1..=candidate.len() {
            let wrong = usize::from(word[row - 1] != candidate[column - 1]);
            let mut least = (above[column] + 1).min(current[column - 1] + 1).min(above[column - 1] + wrong);
            let swapped = row > 1
                && column > 1
                && word[row - 1] == candidate[column - 2]
                && word[row - 2] == candidate[column - 1];
            if swapped {
                least = least.min(before[column - 2] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().filter(|&slips| slips <= max)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(usize, &[&str])>) {
        let stems: Vec<String> = words(text).map(|word| stem(&word)).collect();
        let lexicon = Lexicon::new();
        let found = lexicon.longest(&stems, PHRASE_WORDS_MAX);
        let found = found.map(|(length, meanings)| {
            (length, meanings.iter().map(|(concept, _)| *concept).collect::<Vec<_>>())
        });
        assert_eq!(found, expected.map(|(length, concepts)| (length, concepts.to_vec())));
    }

    #[test]
    fn one_word_stands_for_its_concept() {
        check("pectoral", Some((1, &["chest"])));
        check("gluteus", Some((1, &["glutes"])));
    }

    #[test]
    fn the_longest_phrase_wins() {
        check("trap bar", Some((2, &["trap bar"])));
        check("traps burn", Some((1, &["traps"])));
    }

    #[test]
    fn unknown_words_stand_for_nothing() {
        check("zebra", None);
        check("", None);
    }

    #[track_caller]
    fn check_respelt(word: &str, expected: Option<&str>) {
        assert_eq!(Lexicon::new().respelt(word), expected);
    }

    #[test]
    fn slips_of_the_finger_are_forgiven() {
        check_respelt("shuolder", Some("shoulder"));
        check_respelt("quadriceep", Some("quadricep"));
        check_respelt("abdomnal", Some("abdominal"));
        check_respelt("yogs", Some("yoga"));
    }

    #[test]
    fn right_short_and_strange_words_are_left_alone() {
        check_respelt("shoulder", None);
        check_respelt("lut", None);
        check_respelt("zzzzzzz", None);
        check_respelt("", None);
        check_respelt("übung", None);
    }

    #[test]
    fn phrases_of_two_may_be_written_as_one() {
        check("hipthrust", Some((1, &["glutes", "hip thrust"])));
    }

    #[test]
    fn no_phrase_is_longer_than_what_is_looked_up() {
        for phrase in Lexicon::new().meanings.keys() {
            assert!(phrase.split(' ').count() <= PHRASE_WORDS_MAX, "{phrase}");
        }
    }

    #[test]
    fn concepts_are_told_apart() {
        let concepts: Vec<&str> = groups().map(|group| group.concept).collect();
        assert_eq!(concepts.iter().collect::<HashSet<_>>().len(), concepts.len());
    }

    #[test]
    fn every_line_is_a_comment_or_a_group() {
        let lines = TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(lines.count(), groups().count());
        for Group { concept, same, near } in groups() {
            assert!(!same.trim().is_empty(), "{concept} has no word of its own");
            assert!(!near.contains(['~', ':']) && !same.contains(':'), "{concept}");
        }
    }
}
