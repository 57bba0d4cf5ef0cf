use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::config::parse_text;

use super::*;
use crate::commons::Commons;
use crate::config::Config;
use crate::metrics::PoolMetrics;
use crate::snapshot::About;
use crate::state::State;
use crate::table::{Client, Home};

/// A configuration whose pool `default` has backends as `name state inflight`, for example `a up 2, b down 0`.
fn snapshot(config: &str, backends: &str) -> Snapshot {
    let config = Arc::new(parse_text::<Config>("lb", config).unwrap());
    let entries: Vec<Entry> = backends
        .split(", ")
        .zip(1..)
        .map(|(text, id)| {
            let [name, state, inflight] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
            let state = State::ALL.into_iter().find(|known| known.as_str() == state).unwrap();
            let about = About { instance: Some(name.to_owned()), ..About::default() };
            let serves_in_panic = !matches!(state, State::Draining | State::Maintenance);
            let about = Arc::new(about);
            let entry = Entry { state, limit: 4, serves_in_panic, about, ..Entry::unknown(id) };
            for _ in 0..inflight.parse::<usize>().unwrap() {
                assert!(entry.backend.load.enter(4));
            }
            entry
        })
        .collect();
    let pools = config
        .pools
        .iter()
        .enumerate()
        .map(|(at, pool)| {
            let entries = if at == 0 { entries.clone() } else { Vec::new() };
            let commons = Arc::new(Commons::new(Instant::now()));
            Pool::new(Arc::clone(pool), PoolMetrics::default(), commons, entries)
        })
        .collect();
    Snapshot { config, pools }
}

fn ask(snapshot: &Snapshot, host: &str, path: &str, cookie: &str) -> Explanation {
    let mut headers = HeaderMap::new();
    if !cookie.is_empty() {
        headers.insert(http::header::COOKIE, cookie.parse().unwrap());
    }
    let query = Query { host, path, headers: &headers, client: IpAddr::from([192, 0, 2, 1]) };
    explain(snapshot, &query, Now { unix_s: 1_000, steady: Instant::now() })
}

#[track_caller]
fn check(config: &str, backends: &str, summary: &str) {
    let got = ask(&snapshot(config, backends), "example.com", "/", "").summary;
    assert!(got.ends_with(summary), "{got}");
}

#[test]
fn a_sentence_says_who_and_why() {
    check("", "a up 0, b up 0", "affinity: off. It goes to a with 50 % (round-robin).");
    check("", "a up 0, b down 0", "It goes to a (round-robin).");
    check("balance.algorithm = 'least-requests'", "a up 4, b up 0", "It goes to b (least-requests).");
    check("balance.algorithm = 'consistent-hash'", "a up 0", "It goes to a (consistent-hash).");
    check(
        "balance.algorithm = 'consistent-hash'\nbalance.hash_key = 'cookie:sid'",
        "a up 0",
        "It goes to a (least-requests (the request has no key)).",
    );
}

#[test]
fn and_why_not() {
    check(
        "",
        "a down 0, b draining 0",
        "It goes to a (round-robin). Too few are healthy; it is sent anyway.",
    );
    check("", "a maintenance 0", "No backend can be asked: 503 no-backend.");
    check("", "a up 4", "Every backend is at its limit: it waits for one.");
    check("queue.len_max = 0", "a up 4", "Every backend is at its limit: 503 overloaded.");
}

#[test]
fn candidates_have_scores_and_reasons() {
    let snapshot =
        snapshot("balance.algorithm = 'least-requests'", "a up 4, b up 2, c draining 0, d ejected 0, e up 0");
    let explanation = ask(&snapshot, "example.com", "/", "");
    let drawn: Vec<_> = explanation
        .candidates
        .iter()
        .map(|one| format!("{} {} {}", one.backend, one.group, one.barred.unwrap_or("may be picked")))
        .collect();
    assert_eq!(
        drawn,
        [
            "e ready may be picked",
            "b ready may be picked",
            "a ready it is at its limit",
            "c draining others come first",
            "d none its state bars it",
        ]
    );
    let [first, second, ..] = &explanation.candidates[..] else { panic!() };
    assert!(first.chance > 0.9 && second.chance > 0.0 && first.score < second.score, "{explanation:?}");
    assert_eq!((first.in_flight, first.in_flight_max, first.share_percent), (0, 4, 100.0));
}

#[test]
fn what_ewma_knows_is_shown() {
    let snapshot = snapshot("balance.algorithm = 'ewma'", "a up 0, b up 0");
    let Algorithm::Ewma(terms) = snapshot.config.pools[0].balance.algorithm else { panic!() };
    let now = Instant::now();
    use crate::balance::load::Outcome as Seen;
    for (entry, ms) in snapshot.pools[0].entries.iter().zip([200, 20]) {
        entry.backend.load.observe(Duration::from_millis(ms), Seen::Answered, terms, now);
    }
    let explanation = ask(&snapshot, "example.com", "/", "");
    let first = &explanation.candidates[0];
    assert_eq!(first.backend, "b");
    assert!(first.chance > 0.99, "{first:?}");
    assert!(first.latency_ms.is_some_and(|ms| (19.0..=20.0).contains(&ms)), "{first:?}");
    assert_eq!(first.failures, Some(0.0));
}

#[test]
fn a_client_of_the_table_is_followed_and_the_table_unchanged() {
    let snapshot = snapshot("sticky.mode = 'table'", "a up 0, b up 0");
    let (pool, client, now) = (&snapshot.pools[0], Client::random(), Instant::now());
    let bounds = pool.config.sticky.as_ref().unwrap().bounds();
    pool.commons.table.remember(client, Home { backend: 2, pin: None }, bounds, now);
    let cookie = format!("route={}", client.to_cookie().unwrap());
    let explanation = ask(&snapshot, "example.com", "/", &cookie);
    assert_eq!(explanation.affinity, "kept");
    let pick = explanation.pick.unwrap();
    assert_eq!((pick.backend.as_str(), pick.why, pick.chance), ("b", "sticky", 1.0));
    let unknown = format!("route={}", Client::random().to_cookie().unwrap());
    assert_eq!(ask(&snapshot, "example.com", "/", &unknown).affinity, "unknown");
    assert_eq!(pool.commons.table.len(), 1);
}

#[test]
fn routes_lead_to_their_pool() {
    let snapshot =
        snapshot("[pools.api.discovery]\nname = 'api'\n[[routes]]\npath = '/v1'\npool = 'api'", "a up 0");
    let explanation = ask(&snapshot, "example.com", "/v1/x", "");
    assert_eq!((explanation.pool.as_str(), explanation.pick.is_none()), ("api", true));
    assert!(explanation.summary.contains("leads to pool api"), "{}", explanation.summary);
    assert!(serde_json::to_string(&explanation).unwrap().contains("\"candidates\":[]"));
}

#[test]
fn a_served_requests_line_is_plain_whatever_the_backend_calls_itself() {
    let about = About { instance: Some("app 1\r\nx: y".to_owned()), ..About::default() };
    let entry = Entry { about: Arc::new(about), ..Entry::unknown(1) };
    let trace = Trace { why: Reason::Sticky, attempts: 2, waited: Some(Duration::from_millis(7)) };
    assert_eq!(
        trace.header("default", Some(Outcome::Kept), &entry),
        "pool=default; affinity=kept; backend=app1x:y; why=sticky; attempts=2; queue_ms=7"
    );
}
