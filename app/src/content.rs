//! A hash of what this instance shows: the same in every instance that shows the same (claim C6). A balancer compares them.
//!
//! It is of texts, not of the program: two builds of the same catalogue, pages and style have the same one. What is in the
//! database is shared and no instance's own.

use sha2::{Digest as _, Sha256};

use crate::{catalogue, pages, search};

/// 16 hexadecimal digits. `notice` is what the configuration adds to every page.
pub(crate) fn hash(notice: &str) -> String {
    of(catalogue::FILES.iter().chain(&pages::TEMPLATES).chain([&search::LEXICON, &notice]).copied())
}

fn of<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        // With its length, so that no text can run into the next.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_and_its_place_matter() {
        let hash = |texts: &[&'static str]| of(texts.iter().copied());
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
        assert_ne!(hash(&["a", "b"]), hash(&["b", "a"]));
        assert_ne!(hash(&["a", "b"]), hash(&["ab", ""]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
    }

    #[test]
    fn it_is_what_a_health_answer_can_carry() {
        let hash = hash("");
        assert_ne!(hash, super::hash("closed on Monday"));
        assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    }
}
