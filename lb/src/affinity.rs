//! What a client's cookie, or its entry in the table, means for this request, and what it gets for the next one. No sockets,
//! no clock.
//!
//! ```text
//!                     +--------- up: goes there, kept -----------------------------+
//!                     |                                                            |
//!   claim ──► backend is draining: goes there, kept, never renewed ──► answered ──►| kept, or replaced
//!     │               |                                                            | by whoever answered
//!     │               +--------- down, restarted or gone: goes to anybody ---------+
//!     └ no claim, or a bad one: goes to anybody ───────────────────────────────────► given
//! ```
//! | The pinned backend is | This request goes | The client's cookie or entry |
//! |---|---|---|
//! | up | there | kept; a cookie is renewed past half its life |
//! | draining | there: sessions in its memory live as long as it does | kept, never renewed |
//! | down, in maintenance, ejected or excluded | to another | replaced |
//! | restarted (same name, new generation) | to anyone: what it remembered is lost | replaced |
//! | gone | to another | replaced |
//! | up, but full or slow for this request | to another, after a wait | kept |

use std::net::IpAddr;
use std::time::Instant;

use crate::config::{Sticky, StickyKind, TableKey};
use crate::cookies::Found;
use crate::snapshot::Entry;
use crate::state::State;
use crate::table::{Client, Home, Table};
use crate::ticket::{Bad, Memo, Pin, Ticket};

/// What the claim came to; also the metric label.
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
    /// A cookie that the table does not know: it expired, or another balancer or an earlier life of this one made it.
    Unknown,
    Refused(Bad),
}

impl Outcome {
    pub(crate) const ALL: [Self; 13] = [
        Self::Absent,
        Self::Kept,
        Self::KeptDraining,
        Self::Down,
        Self::Restarted,
        Self::Gone,
        Self::Duplicated,
        Self::Unknown,
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
            Self::Unknown => "unknown",
            Self::Refused(bad) => bad.kind(),
        }
    }
}

/// Where the claim leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// The index of the backend that must be tried first.
    pub(crate) prefer: Option<usize>,
    pub(crate) outcome: Outcome,
    claim: Claim,
}

/// What the client brought that we had made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Nothing,
    Ticket(Ticket),
    /// Of a client that the table may know; the address of one is always its own.
    Row(Client, Option<Home>),
}

/// Both clocks: seconds since 1970 for cookies, which others read too, and the steady one for the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) unix_s: u64,
    pub(crate) steady: Instant,
}

/// Whether looking counts as a use of the table's entry, and what the client's connection knows of its cookie already.
#[derive(Debug)]
pub(crate) enum Look<'a> {
    Use(&'a mut Memo),
    Peek,
}

impl Affinity {
    pub(crate) fn none(outcome: Outcome) -> Self {
        Self { prefer: None, outcome, claim: Claim::Nothing }
    }
}

/// Reads what the client brought: its cookie, or its address.
pub(crate) fn read(
    sticky: &Sticky,
    table: &Table,
    entries: &[Entry],
    (cookie, address): (&Found, IpAddr),
    now: Now,
    look: Look<'_>,
) -> Affinity {
    if let StickyKind::Table { key: TableKey::Address, .. } = sticky.kind {
        return follow_row(Client::from_address(address), sticky, table, entries, now, &look);
    }
    let value = match cookie {
        Found::Nothing => return Affinity::none(Outcome::Absent),
        Found::Several => return Affinity::none(Outcome::Duplicated),
        Found::One(value) => value,
    };
    match &sticky.kind {
        StickyKind::Sealed(sealer) => {
            let opened = match look {
                Look::Use(memo) => sealer.open_again(value, now.unix_s, memo),
                Look::Peek => sealer.open(value, now.unix_s),
            };
            opened.map_or_else(|bad| Affinity::none(Outcome::Refused(bad)), |ticket| follow(ticket, entries))
        }
        StickyKind::Table { .. } => match Client::from_cookie(value) {
            Some(client) => follow_row(client, sticky, table, entries, now, &look),
            None => Affinity::none(Outcome::Refused(Bad::Malformed)),
        },
    }
}

/// Finds the backend that a ticket names.
fn follow(ticket: Ticket, entries: &[Entry]) -> Affinity {
    let pins =
        || entries.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.pin?, entry.state)));
    let (prefer, outcome) = match pins().find(|(_, pin, _)| *pin == ticket.pin) {
        Some((index, _, state)) => stand(index, state),
        None if pins().any(|(_, pin, _)| pin.instance == ticket.pin.instance) => (None, Outcome::Restarted),
        None => (None, Outcome::Gone),
    };
    Affinity { prefer, outcome, claim: Claim::Ticket(ticket) }
}

/// Finds the backend that the table has for a client.
fn follow_row(
    client: Client,
    sticky: &Sticky,
    table: &Table,
    entries: &[Entry],
    now: Now,
    look: &Look<'_>,
) -> Affinity {
    let bounds = sticky.bounds();
    let home = match look {
        Look::Use(_) => table.find(client, bounds, now.steady),
        Look::Peek => table.peek(client, bounds, now.steady),
    };
    let Some(home) = home else {
        return match client {
            // An id that we do not know is never adopted: who knows who made it.
            Client::Cookie(_) => Affinity::none(Outcome::Unknown),
            Client::Address(_) => {
                Affinity { prefer: None, outcome: Outcome::Absent, claim: Claim::Row(client, None) }
            }
        };
    };
    let found = entries.iter().position(|entry| entry.backend.id == home.backend);
    let (prefer, outcome) = match found.map(|index| (index, &entries[index])) {
        // One that says who it is for the first time may well be who it was.
        Some((_, entry)) if home.pin.is_some() && entry.pin != home.pin => (None, Outcome::Restarted),
        Some((index, entry)) => stand(index, entry.state),
        None => (None, Outcome::Gone),
    };
    Affinity { prefer, outcome, claim: Claim::Row(client, Some(home)) }
}

fn stand(index: usize, state: State) -> (Option<usize>, Outcome) {
    match state {
        State::Up => (Some(index), Outcome::Kept),
        State::Draining => (Some(index), Outcome::KeptDraining),
        State::Unknown | State::Down | State::Maintenance | State::Ejected | State::Excluded => {
            (None, Outcome::Down)
        }
    }
}

/// What is to be done after an answer, so that the client comes back to who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Nothing,
    /// Give it this ticket.
    Ticket(Ticket),
    /// Note it in the table; with a cookie for a client that has none.
    Row {
        client: Client,
        home: Home,
        cookie: bool,
    },
}

/// Decides it. `served` answered; `overflowed`: the client's own backend is well but did not take this request.
pub(crate) fn renew(
    affinity: &Affinity,
    sticky: &Sticky,
    served: Home,
    overflowed: bool,
    now_s: u64,
) -> Renewal {
    match (&sticky.kind, affinity.claim) {
        (StickyKind::Sealed(_), claim) => {
            let ticket = if let Claim::Ticket(ticket) = claim { Some(ticket) } else { None };
            // A backend that never said who it is cannot be named.
            let Some(pin) = served.pin else { return Renewal::Nothing };
            if keeps(ticket, affinity.outcome, pin, overflowed, now_s) {
                Renewal::Nothing
            } else {
                Renewal::Ticket(Ticket::new(pin, now_s, sticky.lifetime))
            }
        }
        (StickyKind::Table { .. }, Claim::Row(_, Some(home))) if home == served || overflowed => {
            Renewal::Nothing
        }
        (StickyKind::Table { .. }, Claim::Row(client, _)) => {
            Renewal::Row { client, home: served, cookie: false }
        }
        (StickyKind::Table { .. }, Claim::Nothing | Claim::Ticket(_)) => {
            Renewal::Row { client: Client::random(), home: served, cookie: true }
        }
    }
}

fn keeps(ticket: Option<Ticket>, outcome: Outcome, served: Pin, overflowed: bool, now_s: u64) -> bool {
    match ticket {
        Some(ticket) if ticket.pin == served => outcome == Outcome::KeptDraining || !ticket.is_old(now_s),
        // The pinned backend is well but was full for a moment: the session stays where it is.
        Some(_) => overflowed,
        None => false,
    }
}

#[cfg(test)]
mod tests;
