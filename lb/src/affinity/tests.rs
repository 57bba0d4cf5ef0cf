use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use service_kit::KeyRing;

use super::*;
use crate::ticket::{self, Memo, Sealer};

const LIFETIME: Duration = Duration::from_secs(100);

fn sealed() -> Sticky {
    let secret = STANDARD.encode([7; 32]);
    let ring =
        KeyRing::from_toml(&format!("[[key]]\nid = 1\nstate = 'issue'\nsecret = '{secret}'\n")).unwrap();
    let kind = StickyKind::Sealed(Arc::new(Sealer::new(ring, "route", "default")));
    Sticky { cookie: "route".into(), lifetime: LIFETIME, kind }
}

fn table(key: TableKey) -> Sticky {
    let kind = StickyKind::Table { key, entries_max: 1_000 };
    Sticky { cookie: "route".into(), lifetime: LIFETIME, kind }
}

/// Backends as `name state`: `a up, b draining`; a name's `'` is its second generation, `?` one that says no name.
fn entries(text: &str) -> Vec<Entry> {
    text.split(", ")
        .map(|entry| {
            let (name, state) = entry.split_once(' ').unwrap();
            let state = State::ALL.into_iter().find(|known| known.as_str() == state).unwrap();
            Entry { state, pin: pin(name), ..Entry::unknown(id(name)) }
        })
        .collect()
}

/// The roster's number of the same backend, whatever its generation.
fn id(name: &str) -> u64 {
    u64::from(name.as_bytes()[0])
}

fn pin(name: &str) -> Option<Pin> {
    let stem = name.trim_end_matches('\'');
    (!name.ends_with('?')).then(|| Pin::new(stem, if stem.len() == name.len() { 1 } else { 2 }))
}

fn home(name: &str) -> Home {
    Home { backend: id(name), pin: pin(name) }
}

fn at(seconds: u64) -> Now {
    Now { unix_s: 1_000 + seconds, steady: Instant::now() }
}

/// A client that was given `pinned` at second 0, whoever remembers it, comes back to `backends`.
#[track_caller]
fn check(backends: &str, pinned: &str, outcome: Outcome, prefer: Option<usize>) {
    let address = IpAddr::from([192, 0, 2, 1]);
    for sticky in [sealed(), table(TableKey::Cookie), table(TableKey::Address)] {
        let table = Table::new(Instant::now());
        let cookie = given(&sticky, &table, pinned, address);
        let entries = entries(backends);
        let (mut one, mut same) = (Memo::default(), Memo::default());
        read(&sticky, &table, &entries, (&cookie, address), at(1), Look::Use(&mut same));
        for look in [Look::Peek, Look::Use(&mut one), Look::Use(&mut same)] {
            let affinity = read(&sticky, &table, &entries, (&cookie, address), at(1), look);
            assert_eq!((affinity.outcome, affinity.prefer), (outcome, prefer), "{sticky:?}");
        }
    }
}

/// Gives a client its claim; returns the cookie that it brings from then on.
fn given(sticky: &Sticky, table: &Table, pinned: &str, address: IpAddr) -> Found {
    let none = read(sticky, table, &[], (&Found::Nothing, address), at(0), Look::Use(&mut Memo::default()));
    assert_eq!(none.outcome, Outcome::Absent);
    let value = match (renew(&none, sticky, home(pinned), false, at(0).unix_s), &sticky.kind) {
        (Renewal::Ticket(ticket), StickyKind::Sealed(sealer)) => sealer.seal(&ticket, ticket::nonce()),
        (Renewal::Row { client, home, cookie }, _) => {
            table.remember(client, home, sticky.bounds(), at(0).steady);
            assert_eq!(cookie, client.to_cookie().is_some());
            client.to_cookie().unwrap_or_default()
        }
        other => panic!("{other:?}"),
    };
    Found::One(value.into_bytes())
}

#[test]
fn every_state_has_its_answer() {
    check("a up, b up", "b", Outcome::Kept, Some(1));
    check("a up, b draining", "b", Outcome::KeptDraining, Some(1));
    for away in ["down", "unknown", "maintenance", "ejected", "excluded"] {
        check(&format!("a up, b {away}"), "b", Outcome::Down, None);
    }
    check("a up, b' up", "b", Outcome::Restarted, None);
    check("a up, c up", "b", Outcome::Gone, None);
}

#[test]
fn the_table_needs_no_names_and_notices_them_when_they_come() {
    let (sticky, table) = (table(TableKey::Cookie), Table::new(Instant::now()));
    let address = IpAddr::from([192, 0, 2, 1]);
    let cookie = given(&sticky, &table, "b?", address);
    for (backends, outcome) in [("a up, b? up", Outcome::Kept), ("a up, b up", Outcome::Kept)] {
        let affinity = read(
            &sticky,
            &table,
            &entries(backends),
            (&cookie, address),
            at(1),
            Look::Use(&mut Memo::default()),
        );
        assert_eq!(affinity.outcome, outcome, "{backends}");
    }
    // A sealed cookie can only name whoever has a name.
    let nobody = Affinity::none(Outcome::Absent);
    assert_eq!(renew(&nobody, &sealed(), home("b?"), false, 0), Renewal::Nothing);
}

/// What cookies of others, and none, come to.
#[track_caller]
fn check_cookie(sticky: &Sticky, cookie: &Found, outcome: Outcome) {
    let (table, entries) = (Table::new(Instant::now()), entries("a up"));
    let address = IpAddr::from([192, 0, 2, 1]);
    let affinity = read(sticky, &table, &entries, (cookie, address), at(1), Look::Use(&mut Memo::default()));
    assert_eq!((affinity.outcome, affinity.prefer), (outcome, None));
    // It is an ordinary new client, and nothing that it brought is adopted.
    match renew(&affinity, sticky, home("a"), false, at(1).unix_s) {
        Renewal::Ticket(_) => {}
        Renewal::Row { client, cookie: true, .. } => {
            let value = client.to_cookie().unwrap().into_bytes();
            assert_ne!(Found::One(value), *cookie);
        }
        Renewal::Row { client, cookie: false, .. } => assert_eq!(client, Client::from_address(address)),
        Renewal::Nothing => panic!("a new client is given something"),
    }
}

#[test]
fn bad_cookies_are_no_cookies() {
    let one = |text: &str| Found::One(text.as_bytes().to_vec());
    let foreign = Client::random().to_cookie().unwrap();
    check_cookie(&sealed(), &Found::Nothing, Outcome::Absent);
    check_cookie(&sealed(), &Found::Several, Outcome::Duplicated);
    check_cookie(&sealed(), &one("x"), Outcome::Refused(Bad::Size));
    check_cookie(&sealed(), &one(&foreign), Outcome::Refused(Bad::Size));
    check_cookie(&table(TableKey::Cookie), &Found::Nothing, Outcome::Absent);
    check_cookie(&table(TableKey::Cookie), &Found::Several, Outcome::Duplicated);
    check_cookie(&table(TableKey::Cookie), &one("x"), Outcome::Refused(Bad::Malformed));
    check_cookie(&table(TableKey::Cookie), &one(&foreign), Outcome::Unknown);
    check_cookie(&table(TableKey::Address), &one(&foreign), Outcome::Absent);
}

/// A client of `pinned` (since second 0) is served by `served` at `now`; whether it is given something new.
#[track_caller]
fn check_renew(backends: &str, pinned: &str, served: &str, overflowed: bool, now: u64, renewed: bool) {
    let affinity = follow(Ticket::new(pin(pinned).unwrap(), 0, LIFETIME), &entries(backends));
    let got = renew(&affinity, &sealed(), home(served), overflowed, now);
    let expected = if renewed {
        Renewal::Ticket(Ticket::new(pin(served).unwrap(), now, LIFETIME))
    } else {
        Renewal::Nothing
    };
    assert_eq!(got, expected);
    // The table has no age: what is used lives.
    let (sticky, table) = (table(TableKey::Cookie), Table::new(Instant::now()));
    let address = IpAddr::from([192, 0, 2, 1]);
    let cookie = given(&sticky, &table, pinned, address);
    let affinity =
        read(&sticky, &table, &entries(backends), (&cookie, address), at(1), Look::Use(&mut Memo::default()));
    match renew(&affinity, &sticky, home(served), overflowed, now) {
        Renewal::Nothing => assert!(pinned == served || overflowed),
        Renewal::Row { client, home, cookie: false } => {
            assert!(pinned != served && !overflowed);
            assert_eq!(
                (client.to_cookie().map(String::into_bytes).map(Found::One), home),
                (Some(cookie), self::home(served))
            );
        }
        other => panic!("{other:?}"),
    }
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
    check_renew("a up, b' up", "b", "b'", false, 1, true);
}

#[test]
fn a_moment_of_overload_moves_nobody_for_good() {
    check_renew("a up, b up", "b", "a", true, 1, false);
}
