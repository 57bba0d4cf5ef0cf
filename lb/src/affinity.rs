//! What a client's cookie means for this request, and whether it gets a new one. No sockets, no clock.
//!
//! | The pinned backend is | This request goes | The client's cookie |
//! |---|---|---|
//! | up | there | kept; renewed past half its life |
//! | draining | there: sessions in its memory live as long as it does | kept, never renewed |
//! | down | to another | replaced |
//! | restarted (same name, new generation) | to anyone: what it remembered is lost | replaced |
//! | gone | to another | replaced |

use std::time::Duration;

use crate::health::State;
use crate::snapshot::Entry;
use crate::ticket::{Bad, Pin, Ticket};

/// What the cookie came to; also the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Absent,
    Kept,
    KeptDraining,
    Down,
    Restarted,
    Gone,
    /// Two cookies of our name.
    Duplicated,
    Refused(Bad),
}

impl Outcome {
    pub(crate) const ALL: [Self; 12] = [
        Self::Absent,
        Self::Kept,
        Self::KeptDraining,
        Self::Down,
        Self::Restarted,
        Self::Gone,
        Self::Duplicated,
        Self::Refused(Bad::Size),
        Self::Refused(Bad::Malformed),
        Self::Refused(Bad::UnknownKey),
        Self::Refused(Bad::Forged),
        Self::Refused(Bad::Expired),
    ];

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Kept => "kept",
            Self::KeptDraining => "kept-draining",
            Self::Down => "down",
            Self::Restarted => "restarted",
            Self::Gone => "gone",
            Self::Duplicated => "duplicated",
            Self::Refused(bad) => bad.kind(),
        }
    }
}

/// Where the cookie leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// The index of the backend that must be tried first.
    pub(crate) prefer: Option<usize>,
    pub(crate) outcome: Outcome,
    ticket: Option<Ticket>,
}

impl Affinity {
    pub(crate) fn none(outcome: Outcome) -> Self {
        Self { prefer: None, outcome, ticket: None }
    }
}

/// Finds the backend that a ticket names.
pub(crate) fn follow(ticket: Ticket, entries: &[Entry]) -> Affinity {
    let pins =
        || entries.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.pin?, entry.state)));
    let (prefer, outcome) = match pins().find(|(_, pin, _)| *pin == ticket.pin) {
        Some((index, _, State::Up)) => (Some(index), Outcome::Kept),
        Some((index, _, State::Draining)) => (Some(index), Outcome::KeptDraining),
        Some((_, _, State::Down | State::Unknown)) => (None, Outcome::Down),
        None if pins().any(|(_, pin, _)| pin.instance == ticket.pin.instance) => (None, Outcome::Restarted),
        None => (None, Outcome::Gone),
    };
    Affinity { prefer, outcome, ticket: Some(ticket) }
}

/// The new ticket for a client that was served by `served`, if it needs one.
pub(crate) fn renew(
    affinity: &Affinity,
    served: Option<Pin>,
    overflowed: bool,
    now: u64,
    lifetime: Duration,
) -> Option<Ticket> {
    // A backend that never said who it is cannot be named.
    let served = served?;
    let keep = match affinity.ticket {
        Some(ticket) if ticket.pin == served => {
            affinity.outcome == Outcome::KeptDraining || !ticket.is_old(now)
        }
        // The pinned backend is well but was full for a moment: the session stays where it is.
        Some(_) => overflowed,
        None => false,
    };
    (!keep).then(|| Ticket::new(served, now, lifetime))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::BackendMetrics;
    use crate::snapshot::Backend;

    const LIFETIME: Duration = Duration::from_secs(100);

    /// Backends as `name state`: `a up, b draining`; the ticket is for `pinned` (generation 1, or 2 if it ends in `'`).
    fn entries(text: &str) -> Vec<Entry> {
        text.split(", ")
            .map(|entry| {
                let (name, state) = entry.split_once(' ').unwrap();
                let state = State::ALL.into_iter().find(|known| known.as_str() == state).unwrap();
                let backend = Backend::new(0, "127.0.0.1:1".parse().unwrap(), BackendMetrics::default());
                Entry { backend: Arc::new(backend), state, pin: Some(pin(name)) }
            })
            .collect()
    }

    fn pin(name: &str) -> Pin {
        let stem = name.trim_end_matches('\'');
        Pin::new(stem, if stem.len() == name.len() { 1 } else { 2 })
    }

    #[track_caller]
    fn check(backends: &str, pinned: &str, outcome: Outcome, prefer: Option<usize>) {
        let affinity = follow(Ticket::new(pin(pinned), 0, LIFETIME), &entries(backends));
        assert_eq!((affinity.outcome, affinity.prefer), (outcome, prefer));
    }

    #[test]
    fn every_state_has_its_answer() {
        check("a up, b up", "b", Outcome::Kept, Some(1));
        check("a up, b draining", "b", Outcome::KeptDraining, Some(1));
        check("a up, b down", "b", Outcome::Down, None);
        check("a up, b' up", "b", Outcome::Restarted, None);
        check("a up, c up", "b", Outcome::Gone, None);
    }

    /// `served` answered at `now`; whether the client gets a new cookie.
    #[track_caller]
    fn check_renew(backends: &str, pinned: &str, served: &str, overflowed: bool, now: u64, renewed: bool) {
        let affinity = follow(Ticket::new(pin(pinned), 0, LIFETIME), &entries(backends));
        let got = renew(&affinity, Some(pin(served)), overflowed, now, LIFETIME);
        assert_eq!(got, renewed.then(|| Ticket::new(pin(served), now, LIFETIME)));
    }

    #[test]
    fn a_young_cookie_is_kept_and_an_old_one_renewed() {
        check_renew("a up, b up", "b", "b", false, 50, false);
        check_renew("a up, b up", "b", "b", false, 51, true);
    }

    #[test]
    fn a_draining_backend_is_not_given_a_longer_claim() {
        check_renew("a up, b draining", "b", "b", false, 99, false);
    }

    #[test]
    fn whoever_served_instead_gets_the_client() {
        check_renew("a up, b down", "b", "a", false, 1, true);
        check_renew("a up, b up", "b", "a", false, 1, true);
    }

    #[test]
    fn a_moment_of_overload_moves_nobody_for_good() {
        check_renew("a up, b up", "b", "a", true, 1, false);
    }

    #[test]
    fn without_a_cookie_the_first_answer_brings_one() {
        let affinity = Affinity::none(Outcome::Absent);
        assert!(renew(&affinity, Some(pin("a")), false, 1, LIFETIME).is_some());
        assert!(renew(&affinity, None, false, 1, LIFETIME).is_none());
    }
}
