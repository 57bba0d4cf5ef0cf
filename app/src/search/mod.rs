//! Search by meaning: texts become vectors, and near vectors are near meanings.
//!
//! The database ranks; this module only makes the vectors, so it has no sockets and no clock. An [`Embedder`] is
//! chosen at start. [`HashedNgrams`] is built in: it needs no model file, takes a fraction of a millisecond and gives
//! the same numbers on every machine, which an app of many identical instances needs.
//!
//! A real model takes its place by implementing [`Embedder`]: load the weights at start (they are read-only, so one copy
//! serves all workers), return its vectors scaled to length one, and put the model's name and the digest of its weights
//! into [`Embedder::name`]. `embed` is plain computation; a model slow enough to stall a worker belongs behind
//! `spawn_blocking` at the call. Nothing else changes: the name is stored beside every vector, so the next
//! migration embeds all documents again and fits the column to the new number of dimensions.

mod hashed;
mod lexicon;
mod words;

#[cfg(test)]
mod judged;

pub use hashed::HashedNgrams;
pub(crate) use lexicon::TEXT as LEXICON;

use crate::catalogue::Exercise;

/// Turns texts into vectors whose cosine says how near they are.
pub trait Embedder: Send + Sync {
    /// The length of every vector.
    fn dimensions(&self) -> usize;

    /// The vector of a text: of length one, or all zero where the text says nothing (no letter and no digit). A zero
    /// vector has no direction: callers must not rank by it.
    fn embed(&self, text: &str) -> Vec<f32>;

    /// Changes whenever any vector might: it is stored beside each one, and those of another name are made again.
    fn name(&self) -> &str;
}

/// The text of an exercise as embedders see it: one line a field, what matters most first.
pub fn document_text(exercise: &Exercise) -> String {
    let Exercise { name, level, equipment, muscles, instruction, .. } = exercise;
    let equipment = match equipment.as_str() {
        "none" => "no equipment",
        needed => needed,
    };
    let first = muscles.first().map_or("", String::as_str);
    let second = muscles.get(1).map_or("", String::as_str);
    let others = muscles.get(2..).unwrap_or_default().join(", ");
    [name, first, second, level, equipment, instruction, &others].join("\n")
}

/// The vector under which an exercise is found.
pub fn embed_exercise(embedder: &dyn Embedder, exercise: &Exercise) -> Vec<f32> {
    embedder.embed(&document_text(exercise))
}

/// How near two vectors of length one are: 1 is the same direction, 0 is unrelated.
pub fn cosine(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exercise(equipment: &str, muscles: &[&str]) -> Exercise {
        Exercise {
            slug: "example".into(),
            name: "Example".into(),
            level: "beginner".into(),
            equipment: equipment.into(),
            muscles: muscles.iter().map(|&muscle| muscle.into()).collect(),
            instruction: "Do it. Rest.".into(),
        }
    }

    #[test]
    fn a_document_has_a_line_a_field() {
        let text = document_text(&exercise("bench", &["chest", "triceps", "shoulders", "core"]));
        assert_eq!(text, "Example\nchest\ntriceps\nbeginner\nbench\nDo it. Rest.\nshoulders, core");
    }

    #[test]
    fn what_is_missing_leaves_its_line_empty() {
        assert_eq!(
            document_text(&exercise("none", &[])),
            "Example\n\n\nbeginner\nno equipment\nDo it. Rest.\n"
        );
    }

    #[test]
    fn an_exercise_is_nearest_to_itself() {
        let embedder = HashedNgrams::new();
        let exercise = exercise("none", &["core"]);
        let vector = embed_exercise(&embedder, &exercise);
        assert!((cosine(&vector, &embedder.embed(&document_text(&exercise))) - 1.0).abs() < 1e-5);
    }
}
