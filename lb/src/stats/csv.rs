//! The stats as HAProxy writes them at `/stats;csv`, so that exporters made for it work: its header line, one row a
//! frontend, backend and server (management guide, section 9.1).
//!
//! Columns that HAProxy has and we count nothing for are empty, as HAProxy leaves those that do not apply.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};

use super::history::Recent;
use super::model::{Backend, Pool, Stats, Sums};

/// The header line of HAProxy 3.0, to the letter: a test compares it with a running one.
pub(crate) const HEADER: &str = include_str!("csv_header.txt");

/// One row, by column.
type Row = HashMap<&'static str, String>;

/// The whole table.
pub(crate) fn csv(stats: &Stats) -> String {
    let header = HEADER.trim_end();
    let columns: Vec<&str> = header.trim_start_matches("# ").split(',').collect();
    let mut text = format!("{header}\n");
    let mut line = |row: &Row| {
        // The last column has no name: HAProxy ends each line with a comma.
        let cells: Vec<String> =
            columns.iter().map(|column| row.get(column).map_or_else(String::new, |it| quoted(it))).collect();
        let _ = writeln!(text, "{}", cells.join(","));
    };
    line(&frontend(stats));
    for (at, pool) in stats.pools.iter().enumerate() {
        for (number, backend) in pool.backends.iter().enumerate() {
            line(&server(pool, at, backend, number));
        }
        line(&whole(pool, at));
    }
    text
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn row(cells: impl IntoIterator<Item = (&'static str, String)>) -> Row {
    cells.into_iter().collect()
}

fn text(value: impl Display) -> String {
    format!("{value}")
}

fn answers(row: &mut Row, answers: [u64; 5]) {
    let names = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"];
    row.extend(names.into_iter().zip(answers.map(text)));
    row.insert("hrsp_other", "0".into());
}

/// What clients see: one row for all listeners.
fn frontend(stats: &Stats) -> Row {
    let (totals, connections) = (&stats.totals, &stats.connections);
    let mut row = row([
        ("pxname", "http".into()),
        ("svname", "FRONTEND".into()),
        ("scur", text(connections.open)),
        ("slim", text(connections.max)),
        ("stot", text(connections.accepted)),
        ("bin", text(totals.bytes_in)),
        ("bout", text(totals.bytes_out)),
        ("dreq", "0".into()),
        ("dresp", "0".into()),
        ("ereq", text(own(stats, 4))),
        ("status", if stats.status == "draining" { "STOP" } else { "OPEN" }.into()),
        ("pid", "1".into()),
        ("iid", "1".into()),
        ("sid", "0".into()),
        ("type", "0".into()),
        ("req_rate", text(stats.recent.requests_per_s)),
        ("req_rate_max", text(stats.recent.requests_per_s_max)),
        ("req_tot", text(totals.requests)),
        ("conn_tot", text(connections.accepted)),
        ("mode", "http".into()),
        ("intercepted", "0".into()),
        (
            "h1req",
            text(
                stats.protocols.get("HTTP/1.1").copied().unwrap_or(0)
                    + stats.protocols.get("HTTP/1.0").copied().unwrap_or(0),
            ),
        ),
        ("h2req", text(stats.protocols.get("HTTP/2").copied().unwrap_or(0))),
    ]);
    let mut all = std::array::from_fn(|class| totals.answers.values().nth(class).copied().unwrap_or(0));
    all[3] += own(stats, 4);
    all[4] += own(stats, 5);
    answers(&mut row, all);
    row
}

/// Answers of the balancer's own whose status begins with a digit.
fn own(stats: &Stats, class: u16) -> u64 {
    let of_class =
        |reason: &&str| super::collect::own_status(reason).is_some_and(|status| status / 100 == class);
    stats.totals.own_answers.iter().filter(|(reason, _)| of_class(reason)).map(|(_, count)| count).sum()
}

fn sums(row: &mut Row, sums: &Sums, recent: &Recent) {
    row.extend([
        ("bin", text(sums.bytes_in)),
        ("bout", text(sums.bytes_out)),
        ("stot", text(sums.requests)),
        ("lbtot", text(sums.requests)),
        ("req_tot", text(sums.requests)),
        ("econ", text(sums.failed)),
        ("eresp", "0".into()),
        ("dresp", "0".into()),
        ("connect", text(sums.connections_opened)),
        ("reuse", text(sums.requests.saturating_sub(sums.connections_opened))),
        ("rate", text(recent.requests_per_s)),
        ("rate_max", text(recent.requests_per_s_max)),
        ("pid", "1".into()),
        ("mode", "http".into()),
    ]);
    answers(row, sums.answers);
}

fn status(state: &str) -> &'static str {
    match state {
        "up" => "UP",
        "draining" => "DRAIN",
        "maintenance" => "MAINT",
        "unknown" => "no check",
        "excluded" => "NOLB",
        _ => "DOWN",
    }
}

/// One backend of ours: a server in HAProxy's words.
fn server(pool: &Pool, at: usize, backend: &Backend, number: usize) -> Row {
    let whole_ms = |ms: Option<f64>| ms.map_or_else(|| "0".into(), |ms| format!("{ms:.0}"));
    let mut row = row([
        ("pxname", pool.name.clone()),
        ("svname", backend.name.clone()),
        // Requests wait for any backend of their pool, never for one.
        ("qcur", "0".into()),
        ("scur", text(backend.in_flight)),
        ("slim", text(backend.limit)),
        ("status", status(backend.state).into()),
        ("weight", text(backend.weight)),
        ("uweight", text(backend.weight)),
        ("act", "1".into()),
        ("bck", "0".into()),
        ("chkfail", text(backend.sums.probes_failed)),
        ("chkdown", text(backend.times_down)),
        ("lastchg", text(backend.since_s)),
        ("downtime", text(backend.downtime_s)),
        ("iid", text(at + 2)),
        ("sid", text(number + 1)),
        ("type", "2".into()),
        ("check_desc", backend.why.clone()),
        ("addr", backend.address.clone()),
        ("rtime", whole_ms(backend.recent.latency.p50_ms)),
    ]);
    sums(&mut row, &backend.sums, &backend.recent);
    row
}

/// One pool of ours: a backend in HAProxy's words.
fn whole(pool: &Pool, at: usize) -> Row {
    let up = || pool.backends.iter().filter(|backend| backend.state == "up");
    let recent = Recent {
        requests_per_s: pool.backends.iter().map(|backend| backend.recent.requests_per_s).sum(),
        ..Recent::default()
    };
    let mut row = row([
        ("pxname", pool.name.clone()),
        ("svname", "BACKEND".into()),
        ("qcur", text(pool.queue)),
        ("qlimit", text(pool.queue_max)),
        ("scur", text(pool.backends.iter().map(|backend| backend.in_flight).sum::<u64>())),
        ("slim", text(pool.backends.iter().map(|backend| backend.limit).sum::<u64>())),
        ("status", if up().next().is_some() { "UP" } else { "DOWN" }.into()),
        ("weight", text(up().map(|backend| backend.weight).sum::<u64>())),
        ("act", text(up().count())),
        ("bck", "0".into()),
        ("chkdown", text(pool.backends.iter().map(|backend| backend.times_down).sum::<u64>())),
        ("lastchg", text(pool.backends.iter().map(|backend| backend.since_s).min().unwrap_or(0))),
        ("iid", text(at + 2)),
        ("sid", "0".into()),
        ("type", "1".into()),
        ("algo", pool.algorithm.into()),
    ]);
    sums(&mut row, &pool.sums, &recent);
    row.remove("rate_max");
    row
}
