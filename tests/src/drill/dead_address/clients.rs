//! Four kinds of clients in a host of their own, and what each had to bear.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};

use super::super::report::Counts;
use super::{DNS, PORT};
use crate::load::{self, Check, ClientKind, Limits, Observed, Plan};
use crate::namespaces::Host;

/// RFC 8305's "connection attempt delay".
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Of a client that has no other address.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Curl gives every address but the last half of what is left of it, and a connect that took nearly so long went on to another.
const CURL_CONNECT_S: u32 = 4;
const CURL_WENT_ON_S: f64 = 0.9 * 0.5 * CURL_CONNECT_S as f64;
/// What a client with a kept connection asks on it.
pub(super) const KEPT_REQUESTS: u32 = 10;
const PER_S: f64 = 10.0;
/// For curls one after the other, a third of which wait.
const DEADLINE: Duration = Duration::from_secs(120);

/// How a client deals with a name's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One look-up a visitor; the next address after 250 ms.
    Browser,
    /// One look-up and one request a process; the next address after half of its connect deadline.
    Curl,
    /// The same with many requests on the connection.
    Kept,
    /// One look-up, the first address for ever, whatever happens.
    Pinned,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Browser, Self::Curl, Self::Kept, Self::Pinned];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Curl => "curl",
            Self::Kept => "kept",
            Self::Pinned => "pinned",
        }
    }
}

/// What became of one kind's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    pub(super) attempted: u64,
    pub(super) failed: u64,
    /// Requests that had to go on to the name's next address; of curl's those that waited for it.
    pub(super) went_on: u64,
    /// Of the successful ones.
    pub(super) slowest: Duration,
}

impl Cost {
    pub(super) fn part_failed(&self) -> f64 {
        self.failed as f64 / self.attempted.max(1) as f64
    }

    pub(super) fn part_went_on(&self) -> f64 {
        self.went_on as f64 / self.attempted.max(1) as f64
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempted, failed, went_on, slowest } = self;
        write!(out, "{failed} of {attempted} failed, {went_on} went on (slowest {} ms)", slowest.as_millis())
    }
}

/// Visitors with one request each.
pub(super) async fn browsers(host: &Host, name: String, visitors: u32) -> Result<Cost> {
    let requests = visitors * 3;
    let plan = by_name(ClientKind::Retrying, &name, requests, requests);
    let limits = Limits { connect_deadline: ATTEMPT_DELAY, tries_max: 3, ..Limits::default() };
    load(host, Plan { limits, ..plan }).await
}

/// Visitors who come again and again.
pub(super) async fn pinned(host: &Host, name: String, visitors: u32) -> Result<Cost> {
    let plan = by_name(ClientKind::Plain, &name, visitors, visitors * 4);
    let limits = Limits { connect_deadline: CONNECT_DEADLINE, ..Limits::default() };
    load(host, Plan { limits, ..plan }).await
}

fn by_name(kind: ClientKind, name: &str, visitors: u32, requests: u32) -> Plan {
    let users = usize::try_from(visitors).unwrap_or(usize::MAX);
    Plan::by_name(kind, name, PORT, vec![DNS])
        .rate(PER_S, Duration::from_secs_f64(f64::from(requests) / PER_S))
        .users(users, false)
}

async fn load(host: &Host, plan: Plan) -> Result<Cost> {
    let seen = Arc::new(Mutex::new(Cost::default()));
    let cost = Arc::clone(&seen);
    let plan = plan.observe(move |observed: &Observed<'_>| {
        let mut cost = seen.lock().expect("observers do not panic");
        cost.went_on += u64::from(observed.tries > 1);
        if observed.outcome.is_ok() {
            cost.slowest = cost.slowest.max(observed.latency);
        }
        Check::Accept
    });
    let load = host.within(|| async move { Ok(load::run(plan).await?) }).await?;
    let Counts { attempted, failed, .. } = Counts::from(&load);
    let cost = *cost.lock().expect("observers do not panic");
    Ok(Cost { attempted, failed, ..cost })
}

/// One process a visitor, one after the other, with so many requests on its connection.
pub(super) async fn curls(host: &Host, name: String, visitors: u32, requests: u32) -> Result<Cost> {
    let script = format!(
        "i=0\nwhile [ $i -lt {visitors} ]; do\n    \
         curl -s -o /dev/null --connect-timeout {CURL_CONNECT_S} --max-time 10 \
         -w '%{{http_code}} %{{time_namelookup}} %{{time_connect}} %{{time_total}}\\n' \
         'http://{name}:{PORT}/[1-{requests}]' || true\n    i=$((i + 1))\ndone"
    );
    told(&host.run(&script, DEADLINE).await?)
}

/// What curl says of each request: status, and seconds until the name was known, the connection there, and all over. On a
/// connection that was there before, the second of these is 0.
fn told(lines: &str) -> Result<Cost> {
    let mut cost = Cost::default();
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let seconds: Option<Vec<f64>> = words.iter().skip(1).map(|word| word.parse().ok()).collect();
        let Some([looked_up_s, connected_s, total_s]) = seconds.as_deref() else {
            bail!("curl said: {line}");
        };
        cost.attempted += 1;
        cost.failed += u64::from(words[0] != "200");
        cost.went_on += u64::from(connected_s - looked_up_s >= CURL_WENT_ON_S);
        if words[0] == "200" {
            cost.slowest = cost.slowest.max(Duration::from_secs_f64(*total_s));
        }
    }
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_says_is_counted() {
        let cost = told("200 0.001 0.002 0.003\n000 0.001 0.000 4.001\n200 0.001 2.001 2.002\n").unwrap();
        let expected = Cost { attempted: 3, failed: 1, went_on: 1, slowest: Duration::from_secs_f64(2.002) };
        assert_eq!(cost, expected);
        assert_eq!(cost.to_string(), "1 of 3 failed, 1 went on (slowest 2002 ms)");
        assert_eq!(told("").unwrap(), Cost::default());
        assert!(told("curl: out of memory\n").is_err());
        assert!(told("200 0.001\n").is_err());
    }
}
