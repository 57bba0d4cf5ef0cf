//! From an exercise to what the search database keeps of it.

use sha2::{Digest as _, Sha256};

use crate::catalogue;
use crate::db::exercises::Exercise;
use crate::db::vectors;
use crate::search::{Embedder, document_text};

/// One exercise as the search database has it.
#[derive(Debug)]
pub(crate) struct Document {
    /// Of the text that was embedded: the same text need not be embedded again.
    pub(crate) digest: [u8; 32],
    /// In the text form of a vector.
    pub(crate) vector: String,
}

impl Document {
    pub(crate) fn of(embedder: &dyn Embedder, exercise: &Exercise) -> Self {
        let text = text(exercise);
        Self { digest: Sha256::digest(&text).into(), vector: vectors::text(&embedder.embed(&text)) }
    }
}

/// What of an exercise is embedded.
pub(crate) fn text(exercise: &Exercise) -> String {
    document_text(&exercise.clone().into())
}

pub(crate) fn digest(exercise: &Exercise) -> [u8; 32] {
    Sha256::digest(text(exercise)).into()
}

impl From<Exercise> for catalogue::Exercise {
    fn from(exercise: Exercise) -> Self {
        let Exercise { slug, name, level, equipment, muscles, instruction, version: _ } = exercise;
        Self { slug, name, level, equipment, muscles, instruction }
    }
}

impl From<catalogue::Exercise> for Exercise {
    fn from(exercise: catalogue::Exercise) -> Self {
        let catalogue::Exercise { slug, name, level, equipment, muscles, instruction } = exercise;
        Self { slug, name, level, equipment, muscles, instruction, version: 1 }
    }
}
