//! What all that is known of a backend comes to. No sockets, no clock: one function over a table.
//!
//! Who is asked first, and what an answer of theirs comes to; the first that has something to say decides:
//!
//! | | Says | State | In a panic |
//! |---|---|---|---|
//! | operator | maintenance | maintenance | no |
//! | checks | down | down | unless it should drain |
//! | errors of requests, operator | out for a while | ejected | unless it should drain |
//! | checks, discovery, operator, weight 0 | should drain | draining | no |
//! | checks | nothing yet | unknown | yes |
//! | content | differs, and that excludes | excluded | yes |
//! | | | up | yes |
//!
//! A panic is when too few are healthy: then whatever may be wrong with a backend is better than nobody, but what
//! somebody wants stays as it is wanted.

use crate::health::Verdict;
use crate::state::State;

/// What an operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    #[default]
    Nothing,
    Drain,
    Maintenance,
}

/// What is known of one backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) verdict: Verdict,
    pub(crate) wish: Wish,
    /// Missing from discovery.
    pub(crate) leaving: bool,
    pub(crate) ejected: bool,
    /// Its content differs, and the pool excludes for that.
    pub(crate) excluded: bool,
    /// Its weight is 0.
    pub(crate) weightless: bool,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Checks,
    Operator,
    Discovery,
    Weight,
    Ejection,
    Content,
}

impl Cause {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Checks => "checks",
            Self::Operator => "operator",
            Self::Discovery => "discovery",
            Self::Weight => "weight",
            Self::Ejection => "ejection",
            Self::Content => "content",
        }
    }
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    pub(crate) cause: Cause,
    /// Whether it may serve when too few are healthy.
    pub(crate) serves_in_panic: bool,
}

pub(crate) fn standing(facts: Facts) -> Standing {
    let drains = match facts {
        Facts { wish: Wish::Drain, .. } => Some(Cause::Operator),
        Facts { leaving: true, .. } => Some(Cause::Discovery),
        Facts { verdict: Verdict::Draining, .. } => Some(Cause::Checks),
        Facts { weightless: true, .. } => Some(Cause::Weight),
        _ => None,
    };
    let (state, cause) = match (facts, drains) {
        (Facts { wish: Wish::Maintenance, .. }, _) => (State::Maintenance, Cause::Operator),
        (Facts { verdict: Verdict::Down, .. }, _) => (State::Down, Cause::Checks),
        (Facts { ejected: true, .. }, _) => (State::Ejected, Cause::Ejection),
        (_, Some(cause)) => (State::Draining, cause),
        (Facts { verdict: Verdict::Unknown, .. }, _) => (State::Unknown, Cause::Checks),
        (Facts { excluded: true, .. }, _) => (State::Excluded, Cause::Content),
        _ => (State::Up, Cause::Checks),
    };
    Standing { state, cause, serves_in_panic: state != State::Maintenance && drains.is_none() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERDICTS: [Verdict; 4] = [Verdict::Unknown, Verdict::Up, Verdict::Draining, Verdict::Down];
    const WISHES: [Wish; 3] = [Wish::Nothing, Wish::Drain, Wish::Maintenance];

    /// What checks say (`up`, `down`, `says-draining`, `unknown`), then any of `drain maintenance leaving ejected differs
    /// weight0`; what that comes to, with `!` if it serves in a panic.
    #[track_caller]
    fn check(words: &str, expected: &str) {
        let has = |word| words.split(' ').any(|known| known == word);
        let facts = Facts {
            verdict: match words.split(' ').next().unwrap() {
                "up" => Verdict::Up,
                "down" => Verdict::Down,
                "says-draining" => Verdict::Draining,
                _ => Verdict::Unknown,
            },
            wish: match (has("maintenance"), has("drain")) {
                (true, _) => Wish::Maintenance,
                (_, true) => Wish::Drain,
                _ => Wish::Nothing,
            },
            leaving: has("leaving"),
            ejected: has("ejected"),
            excluded: has("differs"),
            weightless: has("weight0"),
        };
        let Standing { state, cause, serves_in_panic } = standing(facts);
        let panic = if serves_in_panic { "!" } else { "" };
        assert_eq!(format!("{} by {}{panic}", state.as_str(), cause.as_str()), expected, "{words}");
    }

    #[test]
    fn checks_alone() {
        check("unknown", "unknown by checks!");
        check("up", "up by checks!");
        check("down", "down by checks!");
        check("says-draining", "draining by checks");
    }

    #[test]
    fn an_operator_takes_out_whatever_the_rest_says() {
        check("up maintenance", "maintenance by operator");
        check("down maintenance", "maintenance by operator");
        check("up maintenance ejected leaving differs", "maintenance by operator");
    }

    #[test]
    fn draining_has_many_causes_and_one_meaning() {
        check("up drain", "draining by operator");
        check("up leaving", "draining by discovery");
        check("up weight0", "draining by weight");
        check("unknown drain", "draining by operator");
        check("says-draining leaving drain", "draining by operator");
        check("says-draining leaving", "draining by discovery");
    }

    #[test]
    fn a_dead_one_is_down_but_who_should_drain_is_not_woken_by_a_panic() {
        check("down drain", "down by checks");
        check("down leaving", "down by checks");
        check("down ejected", "down by checks!");
    }

    #[test]
    fn bad_answers_put_it_out_even_for_those_it_has() {
        check("up ejected", "ejected by ejection!");
        check("up drain ejected", "ejected by ejection");
        check("says-draining ejected", "ejected by ejection");
    }

    #[test]
    fn other_content_excludes_only_who_would_serve() {
        check("up differs", "excluded by content!");
        check("down differs", "down by checks!");
        check("up drain differs", "draining by operator");
        check("unknown differs", "unknown by checks!");
    }

    /// Every combination there is.
    fn all() -> impl Iterator<Item = Facts> {
        VERDICTS.into_iter().flat_map(|verdict| {
            WISHES.into_iter().flat_map(move |wish| {
                (0..16).map(move |bits| Facts {
                    verdict,
                    wish,
                    leaving: bits & 1 != 0,
                    ejected: bits & 2 != 0,
                    excluded: bits & 4 != 0,
                    weightless: bits & 8 != 0,
                })
            })
        })
    }

    #[test]
    fn what_holds_for_every_combination() {
        for facts in all() {
            let Standing { state, cause, serves_in_panic } = standing(facts);
            let plain = !facts.leaving && !facts.ejected && !facts.excluded && !facts.weightless;
            // New requests only where everybody agrees.
            let agreed = plain && facts.verdict == Verdict::Up && facts.wish == Wish::Nothing;
            assert_eq!(state == State::Up, agreed, "{facts:?}");
            // What an operator wants is never undone by anybody.
            assert_eq!(state == State::Maintenance, facts.wish == Wish::Maintenance, "{facts:?}");
            assert!(!(serves_in_panic && facts.wish != Wish::Nothing), "{facts:?}");
            // Nobody pinned is sent to one that does not answer.
            let alive = facts.verdict != Verdict::Down;
            assert!(alive || !matches!(state, State::Draining | State::Up), "{facts:?}");
            // Draining and maintenance never wake up in a panic.
            let wanted = matches!(state, State::Draining | State::Maintenance);
            assert!(!(wanted && serves_in_panic), "{facts:?}");
            // A cause is one that is there.
            let there = match cause {
                Cause::Checks => true,
                Cause::Operator => facts.wish != Wish::Nothing,
                Cause::Discovery => facts.leaving,
                Cause::Weight => facts.weightless,
                Cause::Ejection => facts.ejected,
                Cause::Content => facts.excluded,
            };
            assert!(there, "{facts:?}");
        }
    }
}
