//! How good the built-in embedder is: recall@10 over the judged queries, kind by kind, beside a random ranking's.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;

use super::{Embedder, HashedNgrams, cosine, embed_exercise};
use crate::catalogue;

const JUDGED: &str = include_str!("../../catalogue/judged_queries.toml");
const HELD_OUT: &str = include_str!("../../catalogue/held_out_queries.toml");
const RESULTS: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    query: Vec<Query>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    text: String,
    kind: Kind,
    relevant: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Exact,
    Typo,
    Synonym,
}

const KINDS: [Kind; 3] = [Kind::Exact, Kind::Typo, Kind::Synonym];

fn queries(file: &str) -> Vec<Query> {
    toml::from_str::<File>(file).expect("the file of queries parses").query
}

fn of_kind(file: &str, kind: Kind) -> Vec<Query> {
    queries(file).into_iter().filter(|query| query.kind == kind).collect()
}

/// Hits among the first ten, out of as many as there could have been.
fn recall(ranking: &[&str], relevant: &[String]) -> f64 {
    let hits =
        ranking.iter().take(RESULTS).filter(|slug| relevant.iter().any(|wanted| wanted == *slug)).count();
    hits as f64 / relevant.len().min(RESULTS) as f64
}

/// The catalogue, nearest first; equal scores by slug, so that a run can be repeated.
fn ranking(
    embedder: &dyn Embedder,
    documents: &[(&'static str, Vec<f32>)],
    query: &str,
) -> Vec<&'static str> {
    let query = embedder.embed(query);
    let mut scored: Vec<(f32, &str)> =
        documents.iter().map(|(slug, vector)| (cosine(&query, vector), *slug)).collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(right.1)));
    scored.into_iter().map(|(_, slug)| slug).collect()
}

struct Figures {
    kind: Kind,
    queries: usize,
    recall: f64,
    /// What a ranking by chance reaches on average, from a hundred of them.
    random: f64,
    worst: Vec<(f64, String)>,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, queries, recall, random, worst } = self;
        write!(
            out,
            "recall@{RESULTS} {kind:?}: {recall:.3} over {queries} queries, at random {random:.3}; worst:"
        )?;
        worst.iter().take(8).try_for_each(|(recall, text)| write!(out, " {text:?} {recall:.2}"))
    }
}

fn measure(file: &str, kind: Kind) -> Figures {
    const RANDOM_RANKINGS: usize = 100;
    let embedder = HashedNgrams::new();
    let documents: Vec<_> = catalogue::all()
        .iter()
        .map(|exercise| (exercise.slug.as_str(), embed_exercise(&embedder, exercise)))
        .collect();
    let mut random_numbers = fastrand::Rng::with_seed(1);
    let mut shuffled: Vec<&str> = documents.iter().map(|(slug, _)| *slug).collect();
    let queries = of_kind(file, kind);
    let (mut random, mut worst) = (0.0, Vec::new());
    for Query { text, relevant, .. } in &queries {
        worst.push((recall(&ranking(&embedder, &documents, text), relevant), text.clone()));
        for _ in 0..RANDOM_RANKINGS {
            random_numbers.shuffle(&mut shuffled);
            random += recall(&shuffled, relevant) / RANDOM_RANKINGS as f64;
        }
    }
    worst.sort_by(|left, right| left.0.total_cmp(&right.0));
    let count = queries.len() as f64;
    let recall = worst.iter().map(|(recall, _)| recall).sum::<f64>() / count;
    Figures { kind, queries: queries.len(), recall, random: random / count, worst }
}

#[track_caller]
fn check(kind: Kind, recall_min: f64) {
    let figures = measure(JUDGED, kind);
    println!("{figures}");
    assert!(figures.recall >= recall_min, "below {recall_min}: {figures}");
    assert!(figures.random < figures.recall / 4.0, "chance does nearly as well: {figures}");
}

#[test]
fn exact_words_are_found() {
    check(Kind::Exact, 0.95);
}

#[test]
fn misspelt_words_are_found() {
    check(Kind::Typo, 0.85);
}

#[test]
fn other_words_for_the_same_are_found() {
    check(Kind::Synonym, 0.75);
}

/// No threshold of its own beyond being far better than chance: these queries are here to be looked at.
#[test]
fn held_out_queries_are_found_too() {
    for kind in KINDS {
        let figures = measure(HELD_OUT, kind);
        println!("held out: {figures}");
        assert!(figures.random < figures.recall / 4.0, "chance does nearly as well: {figures}");
    }
}

#[test]
fn at_least_25_of_each_kind_are_judged_and_each_only_once() {
    let all = queries(JUDGED);
    assert!(all.len() >= 75, "{} queries", all.len());
    assert_eq!(all.iter().map(|query| &query.text).collect::<HashSet<_>>().len(), all.len());
    for kind in KINDS {
        assert!(of_kind(JUDGED, kind).len() >= 25, "{kind:?}");
    }
}

#[test]
fn judgements_name_entries_and_none_twice() {
    let slugs: HashSet<&str> = catalogue::all().iter().map(|exercise| exercise.slug.as_str()).collect();
    for Query { text, relevant, .. } in queries(JUDGED).into_iter().chain(queries(HELD_OUT)) {
        assert!(!relevant.is_empty(), "{text}");
        assert_eq!(relevant.iter().collect::<HashSet<_>>().len(), relevant.len(), "{text}");
        for slug in &relevant {
            assert!(slugs.contains(slug.as_str()), "{text}: {slug}");
        }
    }
}

#[test]
fn queries_are_of_the_kind_they_claim() {
    let entries: HashMap<&str, HashSet<String>> =
        catalogue::all().iter().map(|exercise| (exercise.slug.as_str(), entry_words(exercise))).collect();
    let known = |word: &String| entries.values().any(|words| words.contains(word));
    for Query { text, kind, relevant } in queries(JUDGED).into_iter().chain(queries(HELD_OUT)) {
        let words: Vec<String> = super::words::words(&text).collect();
        let in_a_relevant_entry =
            |word: &String| relevant.iter().any(|slug| entries[slug.as_str()].contains(word));
        let claim_holds = match kind {
            Kind::Exact => words.iter().all(known),
            Kind::Typo => !words.iter().all(known),
            Kind::Synonym => !words.iter().all(in_a_relevant_entry),
        };
        assert!(claim_holds, "{text} is not {kind:?}");
    }
}

fn entry_words(exercise: &catalogue::Exercise) -> HashSet<String> {
    let catalogue::Exercise { name, level, equipment, muscles, instruction, .. } = exercise;
    super::words::words(&format!("{name} {level} {equipment} {} {instruction}", muscles.join(" "))).collect()
}
