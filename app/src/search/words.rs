//! Words out of texts, cut down to stems, so that `lunges` finds `Lunge`.
//!
//! The stemmer is far cruder than Porter's, on purpose: it only has to treat both sides alike, and the character n-grams
//! catch what it misses.

/// Longer words are noise; the rest of one is ignored.
const WORD_CHARS_MAX: usize = 32;

/// The words of a text: lower case, an apostrophe joins (`world's`), everything else that is no letter or digit parts.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric() && !matches!(character, '\'' | '’'))
        .map(|word| {
            let letters = word.chars().filter(|character| character.is_alphanumeric());
            letters.flat_map(char::to_lowercase).take(WORD_CHARS_MAX).collect::<String>()
        })
        .filter(|word| !word.is_empty())
}

/// Words that are in every sentence and tell nothing apart; sorted.
const FILLERS: [&str; 94] = [
    "a",
    "about",
    "above",
    "after",
    "again",
    "all",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "away",
    "be",
    "before",
    "best",
    "both",
    "but",
    "by",
    "can",
    "day",
    "do",
    "down",
    "each",
    "every",
    "exercise",
    "exercises",
    "for",
    "from",
    "get",
    "good",
    "great",
    "hold",
    "how",
    "i",
    "if",
    "im",
    "in",
    "into",
    "is",
    "it",
    "its",
    "just",
    "keep",
    "let",
    "me",
    "more",
    "move",
    "movement",
    "my",
    "not",
    "of",
    "off",
    "on",
    "one",
    "only",
    "or",
    "other",
    "out",
    "over",
    "own",
    "pose",
    "poses",
    "position",
    "routine",
    "slowly",
    "so",
    "some",
    "than",
    "that",
    "the",
    "them",
    "then",
    "there",
    "this",
    "to",
    "too",
    "train",
    "training",
    "two",
    "under",
    "until",
    "up",
    "use",
    "way",
    "what",
    "when",
    "which",
    "while",
    "with",
    "without",
    "workout",
    "you",
    "your",
];

pub(super) fn is_filler(word: &str) -> bool {
    FILLERS.binary_search(&word).is_ok()
}

/// The stem of a word: plural, `-ing` and `-ed` endings go where enough is left.
pub(super) fn stem(word: &str) -> String {
    if !word.is_ascii() {
        return word.to_owned();
    }
    match word {
        "calves" => return "calf".into(),
        "feet" => return "foot".into(),
        "hamstring" | "hamstrings" => return "hamstring".into(),
        "running" | "runner" | "ran" => return "run".into(),
        _ => {}
    }
    let word = singular(word);
    for ending in ["ing", "ed"] {
        if let Some(left) = word.strip_suffix(ending)
            && left.len() >= 3
            && left.bytes().any(|letter| b"aeiouy".contains(&letter))
        {
            return undoubled(left).to_owned();
        }
    }
    match word.strip_suffix('e') {
        Some(left) if left.len() >= 3 => left.to_owned(),
        _ => word,
    }
}

fn singular(word: &str) -> String {
    if word.len() < 3 || word.ends_with("ss") || word.ends_with("us") || word.ends_with("is") {
        return word.to_owned();
    }
    if let Some(left) = word.strip_suffix("ies") {
        return format!("{left}y");
    }
    for ending in ["ches", "shes", "sses", "xes"] {
        if word.ends_with(ending) {
            return word[..word.len() - 2].to_owned();
        }
    }
    word.strip_suffix('s').unwrap_or(word).to_owned()
}

/// `hopp` of `hopping` is `hop`, but `press` stays.
fn undoubled(left: &str) -> &str {
    let bytes = left.as_bytes();
    match bytes {
        [.., before, last] if before == last && !b"lsz".contains(last) => &left[..left.len() - 1],
        _ => left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_words(text: &str, expected: &[&str]) {
        assert_eq!(words(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn words_are_lower_case_and_bare() {
        check_words("World's Greatest Stretch!", &["worlds", "greatest", "stretch"]);
        check_words("90/90 push-up", &["90", "90", "push", "up"]);
        check_words("ÉLAN ’tis", &["élan", "tis"]);
        check_words(" -- ", &[]);
        check_words("' ’", &[]);
    }

    #[test]
    fn words_have_a_longest_length() {
        assert_eq!(words(&"x".repeat(5000)).next().map(|word| word.len()), Some(WORD_CHARS_MAX));
    }

    #[track_caller]
    fn check_stem(forms: &[&str], expected: &str) {
        for form in forms {
            assert_eq!(stem(form), expected, "{form}");
        }
    }

    #[test]
    fn forms_of_a_word_share_a_stem() {
        check_stem(&["lunge", "lunges", "lunging"], "lung");
        check_stem(&["press", "presses", "pressing", "pressed"], "press");
        check_stem(&["hop", "hops", "hopping", "hopped"], "hop");
        check_stem(&["stretch", "stretches", "stretching"], "stretch");
        check_stem(&["pull", "pulls", "pulling"], "pull");
        check_stem(&["triceps", "tricep"], "tricep");
        check_stem(&["calf", "calves"], "calf");
        check_stem(&["swing", "swings"], "swing");
    }

    #[test]
    fn short_and_foreign_words_stay() {
        check_stem(&["bus"], "bus");
        check_stem(&["up", "ups"], "up");
        check_stem(&["pelvis"], "pelvis");
        check_stem(&["élans"], "élans");
        check_stem(&["s"], "s");
    }

    #[test]
    fn fillers_are_sorted_for_the_binary_search() {
        assert!(FILLERS.is_sorted());
        assert!(is_filler("the"));
        assert!(!is_filler("squat"));
    }
}
