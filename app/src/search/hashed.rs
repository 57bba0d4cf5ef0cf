//! The built-in embedder: words, concepts and character n-grams, each hashed to a few places of one vector.
//!
//! Why hashing: no vocabulary to ship, any word of any language has a place, and the numbers are the same everywhere.
//! What it cannot do: it knows no meaning beyond the lexicon's. Each line of a text is scaled to its own weight, the
//! first lines most, so that a name counts for more than a long instruction; a query is one line, where weights cancel
//! out.

use super::Embedder;
use super::lexicon::{Lexicon, PHRASE_WORDS_MAX};
use super::words::{is_filler, stem, words};

/// Goes up with every change to this file or to `words.rs` that moves any number.
const VERSION: u32 = 1;
/// 512 keep unrelated texts within about 0.05 of zero, and an index row at 2 KiB.
const DIMENSIONS: usize = 512;
/// What is considered of a text; ten times the longest instruction.
const TEXT_BYTES_MAX: usize = 4096;

/// Name, first muscle, second muscle, level, equipment, instruction, other muscles: see `document_text`.
const LINE_WEIGHTS: [f32; 7] = [1.0, 1.0, 0.75, 0.7, 0.7, 0.45, 0.35];
const LATER_LINES_WEIGHT: f32 = 0.3;

const WORD_WEIGHT: f32 = 1.0;
/// Shares of a word's weight: what says little, and what the phrase that it stands in says better.
const FILLER_SHARE: f32 = 0.1;
const PHRASE_SHARE: f32 = 0.4;
/// People mistype in search boxes; what is longer was proofread, and rare words in it are meant.
const RESPELT_WORDS_MAX: usize = 12;
const CONCEPT_WEIGHT: f32 = 1.6;
/// Two neighbours written as one: `hand stand`, `pushup`.
const PAIR_WEIGHT: f32 = 0.6;
/// All n-grams of a word together.
const NGRAMS_WEIGHT: f32 = 0.9;
const NGRAM_CHARS: [usize; 3] = [2, 3, 4];

/// Hashed words, concepts and character n-grams: deterministic, no model file, a fraction of a millisecond a text.
#[derive(Debug)]
pub struct HashedNgrams {
    lexicon: Lexicon,
    name: String,
}

impl HashedNgrams {
    /// Reads the lexicon, which takes a millisecond: make one and keep it.
    pub fn new() -> Self {
        let fingerprint = hash("lexicon", Lexicon::text()) as u32;
        Self {
            lexicon: Lexicon::new(),
            name: format!("hashed-ngrams-{VERSION}-{DIMENSIONS}-{fingerprint:08x}"),
        }
    }

    fn line(&self, line: &str, respell: bool) -> Vec<f32> {
        let mut sum = Sum::new();
        let mut words: Vec<String> = words(line).collect();
        let respell = respell && words.len() <= RESPELT_WORDS_MAX;
        for word in &mut words {
            let share = if is_filler(word) { FILLER_SHARE } else { 1.0 };
            match self.lexicon.respelt(word).filter(|_| respell && share == 1.0) {
                // Half and half: a word that only looks misspelt may be a right one that the lexicon does not know.
                Some(respelt) => {
                    sum.add("word", &stem(word), WORD_WEIGHT / 2.0);
                    add_ngrams(&mut sum, word, NGRAMS_WEIGHT / 2.0);
                    add_ngrams(&mut sum, respelt, NGRAMS_WEIGHT / 2.0);
                    *word = respelt.to_owned();
                }
                None => add_ngrams(&mut sum, word, NGRAMS_WEIGHT * share),
            }
        }
        self.add_words(&mut sum, &words);
        sum.normalised()
    }

    /// Whole words, and neighbours written as one.
    fn add_words(&self, sum: &mut Sum, words: &[String]) {
        let stems: Vec<String> = words.iter().map(|word| stem(word)).collect();
        for pair in words.windows(2).filter(|pair| !pair.iter().any(|word| is_filler(word))) {
            sum.add("word", &stem(&pair.concat()), PAIR_WEIGHT);
        }
        let mut start = 0;
        while start < stems.len() {
            let (length, _) = self.lexicon.longest(&stems[start..], PHRASE_WORDS_MAX).unwrap_or((1, &[]));
            let phrase_share = if length > 1 { PHRASE_SHARE } else { 1.0 };
            for (word, stem) in words.iter().zip(&stems).skip(start).take(length) {
                let filler_share = if is_filler(word) { FILLER_SHARE } else { 1.0 };
                sum.add("word", stem, WORD_WEIGHT * phrase_share * filler_share);
            }
            start += length;
        }
        self.add_concepts(sum, &stems, PHRASE_WORDS_MAX, CONCEPT_WEIGHT);
    }

    /// The concepts that phrases stand for; then, less, those of the phrases inside: a hamstring curl is still about
    /// hamstrings.
    fn add_concepts(&self, sum: &mut Sum, stems: &[String], words_max: usize, weight: f32) {
        let mut rest = stems;
        while !rest.is_empty() {
            let (length, meanings) = self.lexicon.longest(rest, words_max).unwrap_or((1, &[]));
            for (concept, strength) in meanings {
                sum.add("concept", concept, weight * strength);
            }
            if length > 1 {
                self.add_concepts(sum, &rest[..length], length - 1, weight * PHRASE_SHARE);
            }
            rest = &rest[length..];
        }
    }
}

impl Default for HashedNgrams {
    fn default() -> Self {
        Self::new()
    }
}

impl Embedder for HashedNgrams {
    fn dimensions(&self) -> usize {
        DIMENSIONS
    }

    fn embed(&self, text: &str) -> Vec<f32> {
        let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        let respell = !text.contains('\n');
        let mut sum = Sum::new();
        for (index, line) in text.split('\n').enumerate() {
            let weight = LINE_WEIGHTS.get(index).copied().unwrap_or(LATER_LINES_WEIGHT);
            for (total, number) in sum.0.iter_mut().zip(self.line(line, respell)) {
                *total += weight * number;
            }
        }
        sum.normalised()
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Every n-gram of the word with its ends marked, and its letters in order: the first survive a missing or a wrong
/// letter, the second two that changed places.
fn add_ngrams(sum: &mut Sum, word: &str, weight: f32) {
    let marked: Vec<char> = std::iter::once('<').chain(word.chars()).chain(std::iter::once('>')).collect();
    let mut ngrams: Vec<String> = NGRAM_CHARS
        .iter()
        .flat_map(|&length| marked.windows(length))
        .map(|ngram| ngram.iter().collect())
        .collect();
    let mut sorted: Vec<char> = word.chars().collect();
    sorted.sort_unstable();
    let sorted: String = sorted.into_iter().collect();
    // Features are independent, so their squares add up.
    let each = weight / (ngrams.len() as f32 + 1.0).sqrt();
    for ngram in ngrams.drain(..) {
        sum.add("ngram", &ngram, each);
    }
    sum.add("letters", &sorted, each * 2.0);
}

/// A vector in the making.
struct Sum(Vec<f32>);

impl Sum {
    fn new() -> Self {
        Self(vec![0.0; DIMENSIONS])
    }

    /// Two places a feature, with signs: two features that meet in one place still differ in the other.
    fn add(&mut self, kind: &str, feature: &str, weight: f32) {
        let hash = hash(kind, feature);
        for half in [hash as u32, (hash >> 32) as u32] {
            let sign = if half >> 31 == 0 { 1.0 } else { -1.0 };
            self.0[half as usize % DIMENSIONS] += sign * weight * std::f32::consts::FRAC_1_SQRT_2;
        }
    }

    fn normalised(mut self) -> Vec<f32> {
        let length = self.0.iter().map(|number| number * number).sum::<f32>().sqrt();
        // Below, all features cancelled out or there were none.
        if length < 1e-6 {
            return vec![0.0; DIMENSIONS];
        }
        self.0.iter_mut().for_each(|number| *number /= length);
        self.0
    }
}

/// FNV-1a with the finaliser of splitmix64: the standard library's hashers may change with its version.
fn hash(kind: &str, feature: &str) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in kind.bytes().chain([0]).chain(feature.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::search::cosine;

    static EMBEDDER: LazyLock<HashedNgrams> = LazyLock::new(HashedNgrams::new);

    fn length(vector: &[f32]) -> f32 {
        cosine(vector, vector).sqrt()
    }

    #[track_caller]
    fn check_nearer(query: &str, near: &str, far: &str) {
        let [query, near, far] = [query, near, far].map(|text| EMBEDDER.embed(text));
        let (near, far) = (cosine(&query, &near), cosine(&query, &far));
        assert!(near > far + 0.1, "near {near}, far {far}");
    }

    #[test]
    fn the_same_word_is_nearer_than_another() {
        check_nearer("squat", "front squat", "bench press");
    }

    #[test]
    fn forms_and_spellings_are_near() {
        check_nearer("lunges", "lunge", "plank");
        check_nearer("pushups", "push-up", "sit-up");
        check_nearer("qsuat", "squat", "curl");
        check_nearer("dumbel", "dumbbell", "barbell");
    }

    #[test]
    fn words_for_one_concept_are_near() {
        check_nearer("pecs", "chest", "hamstrings");
        check_nearer("gluteus", "glutes", "triceps");
    }

    #[test]
    fn earlier_lines_weigh_more() {
        check_nearer("squat", "squat\nbench press", "bench press\n\n\n\n\n\nsquat");
    }

    #[test]
    fn what_says_nothing_is_zero() {
        for text in ["", " ", "\n\n", "?!", "--- ***", "\u{0}"] {
            assert_eq!(length(&EMBEDDER.embed(text)), 0.0, "{text:?}");
        }
    }

    #[test]
    fn fillers_alone_still_have_a_direction() {
        assert!((length(&EMBEDDER.embed("the")) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn nothing_is_read_beyond_the_limit() {
        let embedder = HashedNgrams::new();
        let long = "ab cd ".repeat(1 << 18);
        assert!(long.len() > 1 << 20);
        assert_eq!(embedder.embed(&long), embedder.embed(&long[..TEXT_BYTES_MAX]));
        assert_eq!(embedder.embed(&"ü".repeat(1 << 20)).len(), DIMENSIONS);
        assert_eq!(embedder.embed(&"x\n".repeat(1 << 19)).len(), DIMENSIONS);
    }

    #[test]
    fn the_name_tells_algorithm_dimensions_and_lexicon() {
        let embedder = HashedNgrams::new();
        assert!(
            embedder.name().starts_with(&format!("hashed-ngrams-{VERSION}-{DIMENSIONS}-")),
            "{}",
            embedder.name()
        );
        assert_eq!(embedder.name(), HashedNgrams::default().name());
    }

    #[test]
    fn two_embedders_agree() {
        for text in ["front squat", "sqaut", "Name\nchest\ntriceps"] {
            assert_eq!(HashedNgrams::new().embed(text), EMBEDDER.embed(text));
        }
    }

    /// Vectors in databases outlive a release. When this fails, `VERSION` has to go up, and then this number changes.
    #[test]
    fn no_number_moves_without_a_new_version() {
        let vector =
            HashedNgrams::new().embed("violet umbrellas\nzebras quickly crossing the Zürich–Genève line");
        let bits: String = vector.iter().map(|number| format!("{:x}.", number.to_bits())).collect();
        assert_eq!((VERSION, hash("pin", &bits)), (1, 17_485_094_757_793_838_350));
    }

    /// A thousand texts of any characters, seeded: letters, signs, marks, controls and line ends of all of Unicode, and
    /// plain ones, which is what people type.
    fn any_texts() -> impl Iterator<Item = String> {
        (0..1000).map(|seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let length = random.usize(0..200);
            (0..length)
                .map(|_| match random.u8(0..10) {
                    0..3 => random.char('\0'..=char::MAX),
                    3 => *random
                        .choice(&['\n', ' ', '\'', '’', '-', '\u{301}', '\u{200D}', 'İ', 'ß', 'ﬁ'])
                        .unwrap(),
                    4 => ' ',
                    _ => random.lowercase(),
                })
                .collect()
        })
    }

    #[test]
    fn any_text_has_a_vector_of_length_one_or_zero_and_always_the_same() {
        for text in any_texts() {
            let vector = EMBEDDER.embed(&text);
            assert_eq!(vector.len(), EMBEDDER.dimensions());
            assert!(vector.iter().all(|number| number.is_finite()), "{text:?}");
            let length = length(&vector);
            assert!(length == 0.0 || (length - 1.0).abs() < 1e-3, "length {length}: {text:?}");
            assert_eq!(vector, EMBEDDER.embed(&text), "{text:?}");
        }
    }

    #[test]
    fn a_text_is_zero_only_where_it_has_no_letter_and_no_digit() {
        for text in any_texts() {
            let says_something = text.chars().any(char::is_alphanumeric);
            assert_eq!(length(&EMBEDDER.embed(&text)) > 0.0, says_something, "{text:?}");
        }
    }
}
