//! The training plan: the site's shopping cart, one field of the session for each exercise in it.
//!
//! One field each means that two tabs which add different exercises at the same time both keep theirs.

use serde::{Deserialize, Serialize};
use session_store::{Change, Session};

/// Exercises in one plan; more is not a plan.
pub(crate) const ITEMS_MAX: usize = 100;

const PREFIX: &str = "plan:";

/// One exercise of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    pub(crate) slug: String,
    pub(crate) sets: i32,
    pub(crate) reps: i32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    sets: i32,
    reps: i32,
}

impl Item {
    pub(crate) fn set(&self) -> Change {
        let stored = Stored { sets: self.sets, reps: self.reps };
        Change::set(field(&self.slug), serde_json::to_string(&stored).expect("numbers serialise"))
    }
}

pub(crate) fn remove(slug: &str) -> Change {
    Change::remove(field(slug))
}

pub(crate) fn contains(session: &Session, slug: &str) -> bool {
    session.get(&field(slug)).is_some()
}

/// The plan by slug. A field that does not parse was written by another version; it is not shown and not lost.
pub(crate) fn items(session: &Session) -> Vec<Item> {
    session
        .fields
        .iter()
        .filter_map(|(name, value)| {
            let slug = name.strip_prefix(PREFIX)?.to_owned();
            let Stored { sets, reps } = serde_json::from_str(value).ok()?;
            Some(Item { slug, sets, reps })
        })
        .collect()
}

/// How many exercises are in it, readable or not.
pub(crate) fn len(session: &Session) -> usize {
    session.fields.keys().filter(|name| name.starts_with(PREFIX)).count()
}

fn field(slug: &str) -> String {
    format!("{PREFIX}{slug}")
}

#[cfg(test)]
mod tests {
    use session_store::{Expect, MemoryStore, Policy, SessionToken};

    use super::*;

    #[test]
    fn items_come_back_as_they_were_stored() {
        let store = MemoryStore::new(Policy::default());
        let id = SessionToken::generate().id();
        let squat = Item { slug: "squat".into(), sets: 3, reps: 8 };
        let plank = Item { slug: "plank".into(), sets: 1, reps: 60 };
        let odd = [Change::set("plan:odd", "not json"), Change::set("email", "a@b.example")];
        store.apply(&id, Expect::Absent, &[squat.set(), plank.set()]).unwrap();
        let session = store.apply(&id, Expect::Present, &odd).unwrap().session().unwrap();
        assert_eq!(items(&session), [plank, squat]);
        assert_eq!(len(&session), 3);
        let session = store.apply(&id, Expect::Present, &[remove("squat")]).unwrap().session().unwrap();
        assert!(!contains(&session, "squat") && contains(&session, "plank"));
    }
}
