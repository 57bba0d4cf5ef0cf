//! The catalogue: every exercise the site ships with, and a generator that scales it to any size for load.
//!
//! The entries are TOML files inside the binary, so that every instance has the same ones. Slugs are derived from
//! names: an address cannot disagree with its page.

use std::sync::LazyLock;

use serde::Deserialize;

/// One exercise, as shown and as searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exercise {
    /// Its name in addresses: a-z, 0-9 and single hyphens.
    pub slug: String,
    pub name: String,
    /// One of [`LEVELS`].
    pub level: String,
    /// What is needed; `none` where nothing is.
    pub equipment: String,
    /// The one that works hardest first.
    pub muscles: Vec<String>,
    pub instruction: String,
}

/// How much an exercise asks for, easiest first.
pub const LEVELS: [&str; 3] = ["beginner", "intermediate", "expert"];

/// Every entry, in the order of the files.
pub fn all() -> &'static [Exercise] {
    static ALL: LazyLock<Vec<Exercise>> = LazyLock::new(|| {
        FILES.iter().flat_map(|text| parse(text).expect("a test parses every file")).collect()
    });
    &ALL
}

pub(crate) const FILES: [&str; 17] = [
    include_str!("../catalogue/chest.toml"),
    include_str!("../catalogue/back.toml"),
    include_str!("../catalogue/shoulders.toml"),
    include_str!("../catalogue/arms.toml"),
    include_str!("../catalogue/quadriceps.toml"),
    include_str!("../catalogue/hamstrings_and_glutes.toml"),
    include_str!("../catalogue/calves_and_feet.toml"),
    include_str!("../catalogue/core.toml"),
    include_str!("../catalogue/kettlebell.toml"),
    include_str!("../catalogue/olympic_lifts.toml"),
    include_str!("../catalogue/gymnastics.toml"),
    include_str!("../catalogue/plyometrics.toml"),
    include_str!("../catalogue/cardio.toml"),
    include_str!("../catalogue/yoga.toml"),
    include_str!("../catalogue/mobility.toml"),
    include_str!("../catalogue/rehabilitation.toml"),
    include_str!("../catalogue/carries_and_strongman.toml"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    exercise: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    level: String,
    equipment: String,
    muscles: Vec<String>,
    instruction: String,
}

fn parse(text: &str) -> Result<Vec<Exercise>, toml::de::Error> {
    let file: File = toml::from_str(text)?;
    Ok(file.exercise.into_iter().map(Exercise::from).collect())
}

impl From<Entry> for Exercise {
    fn from(entry: Entry) -> Self {
        let Entry { name, level, equipment, muscles, instruction } = entry;
        Self { slug: slug(&name), name, level, equipment, muscles, instruction }
    }
}

/// The address of a name: `Farmer's Carry` is `farmers-carry`.
pub fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for character in name.to_lowercase().chars().filter(|&character| character != '\'') {
        match character {
            'a'..='z' | '0'..='9' => slug.push(character),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// How a variant is paced, and the sentence that tells so.
const PACES: [(&str, &str); 12] = [
    ("Slow", "Take four counts in each direction."),
    ("Paused", "Stay two counts in the hardest position."),
    ("Quick", "Move as fast as good form allows."),
    ("Long-Set", "Use half of your usual load and twice the repetitions."),
    ("Short-Set", "Do no more than five repetitions and rest well."),
    ("Ladder", "Add one repetition a set, then take them away again."),
    ("Every-Minute", "Begin a set at each full minute and rest for what is left of it."),
    ("Alternating", "Change sides or grip with every repetition."),
    ("Partner", "Work while someone else rests, and take turns."),
    ("Eyes-Closed", "Close your eyes as soon as you are steady."),
    ("Breathing", "Let each repetition last exactly one breath."),
    ("Countdown", "Start at ten repetitions and do one fewer each set."),
];

/// Where a variant is done, and the sentence that tells so.
const PLACES: [(&str, &str); 10] = [
    ("", ""),
    ("on Grass", "Grass gives way a little, so check the ground first."),
    ("on Sand", "Sand swallows force: expect to tire sooner."),
    ("Before Breakfast", "Drink a glass of water first."),
    ("After Work", "Walk for five minutes first, to leave the desk behind."),
    ("to Music", "Pick a tempo that you can keep to the end of the song."),
    ("with a Timer", "Work for forty seconds and rest for twenty."),
    ("in a Circuit", "Go on to another exercise instead of resting."),
    ("as a Warm-Up", "Stay far from your limit."),
    ("as a Finisher", "Do it last, when nothing else needs your strength."),
];

/// `count` variants of the catalogue's entries, for load: none has the name or the slug of an entry or of another
/// variant, however many there are, and the same seed gives the same ones. Lazy, because a million of them is a
/// gigabyte.
pub fn generate(count: usize, seed: u64) -> impl Iterator<Item = Exercise> + Send {
    let mut bases: Vec<&'static Exercise> = all().iter().collect();
    shuffle(&mut bases, seed);
    (0..count).map(move |index| variant(&bases, index))
}

/// Reads the index as a number of mixed base: entry, pace, place, and how often all of these were used up.
fn variant(bases: &[&Exercise], index: usize) -> Exercise {
    let base = bases[index % bases.len()];
    let rest = index / bases.len();
    let (pace, pace_advice) = PACES[rest % PACES.len()];
    let rest = rest / PACES.len();
    let (place, place_advice) = PLACES[rest % PLACES.len()];
    let round = rest / PLACES.len();

    let mut name = format!("{pace} {}", base.name);
    if !place.is_empty() {
        name.push(' ');
        name.push_str(place);
    }
    if round > 0 {
        name.push_str(&format!(", Version {}", round + 1));
    }
    let instruction = format!("{} {pace_advice} {place_advice}", base.instruction).trim_end().to_owned();
    Exercise { slug: slug(&name), name, instruction, ..base.clone() }
}

/// Fisher and Yates, on splitmix64: the order is part of what a seed promises, so it depends on no crate.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        items.swap(last, (mixed % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn has_more_than_three_hundred_entries_with_names_and_slugs_of_their_own() {
        assert!(all().len() >= 310, "{} entries", all().len());
        let names: HashSet<String> = all().iter().map(|exercise| exercise.name.to_lowercase()).collect();
        let slugs: HashSet<&str> = all().iter().map(|exercise| exercise.slug.as_str()).collect();
        assert_eq!(names.len(), all().len());
        assert_eq!(slugs.len(), all().len());
    }

    #[test]
    fn every_entry_is_complete() {
        for Exercise { slug, name, level, equipment, muscles, instruction } in all() {
            assert!(LEVELS.contains(&level.as_str()), "{name}: level {level}");
            assert!(!slug.is_empty() && !equipment.is_empty(), "{name}");
            assert!((1..=4).contains(&muscles.len()), "{name}: muscles {muscles:?}");
            assert!(
                muscles.iter().collect::<HashSet<_>>().len() == muscles.len(),
                "{name}: muscles {muscles:?}"
            );
            let sentences = instruction.split_inclusive(['.', '!', '?']).count();
            assert!(
                (2..=3).contains(&sentences) && instruction.ends_with('.'),
                "{name}: {sentences} sentences"
            );
        }
    }

    #[test]
    fn no_two_instructions_share_eight_consecutive_words() {
        const SHARED_WORDS_MAX: usize = 7;
        let mut owners: HashMap<Vec<String>, &str> = HashMap::new();
        for exercise in all() {
            for window in words(&exercise.instruction).windows(SHARED_WORDS_MAX + 1) {
                if let Some(owner) = owners.insert(window.to_vec(), &exercise.name) {
                    assert_eq!(owner, exercise.name, "both say: {}", window.join(" "));
                }
            }
        }
    }

    /// Case folded, punctuation gone: an apostrophe joins, everything else separates.
    fn words(text: &str) -> Vec<String> {
        text.to_lowercase()
            .replace('\'', "")
            .split(|character: char| !character.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn words_are_compared_without_case_and_punctuation() {
        assert_eq!(words("Don't, STOP -- half-way."), ["dont", "stop", "half", "way"]);
    }

    #[track_caller]
    fn check_slug(name: &str, expected: &str) {
        assert_eq!(slug(name), expected);
    }

    #[test]
    fn slugs_are_plain() {
        check_slug("Back Squat", "back-squat");
        check_slug("Farmer's Carry", "farmers-carry");
        check_slug("90/90 Hip Switch", "90-90-hip-switch");
        check_slug("  Ünlike -- this!  ", "nlike-this");
        check_slug("!", "");
    }

    #[test]
    fn variants_are_all_different_and_none_is_an_entry() {
        let rounds_over = all().len() * PACES.len() * PLACES.len() + 1000;
        let mut names: HashSet<String> = all().iter().map(|exercise| exercise.name.clone()).collect();
        let mut slugs: HashSet<String> = all().iter().map(|exercise| exercise.slug.clone()).collect();
        for exercise in generate(rounds_over, 7) {
            assert!(exercise.slug.len() <= 100, "{}", exercise.slug);
            assert!(names.insert(exercise.name.clone()), "{}", exercise.name);
            assert!(slugs.insert(exercise.slug.clone()), "{}", exercise.slug);
        }
        assert_eq!(names.len(), all().len() + rounds_over);
    }

    #[test]
    fn the_same_seed_gives_the_same_variants_and_another_seed_others() {
        let made = |seed| generate(50, seed).map(|exercise| exercise.slug).collect::<Vec<_>>();
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert_eq!(generate(0, 1).count(), 0);
    }
}
