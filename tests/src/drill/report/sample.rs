//! A report as tests need one.

use super::{
    Band, Bar, Chart, Control, Counts, DrillResult, Event, Expectation, Group, Reference, Run, Seconds,
    Story, Verdict,
};
use crate::load::{Report, SecondReport};

pub(super) fn result() -> DrillResult {
    DrillResult {
        drill: "kill-app".into(),
        claim: "C10: a shared store frees every app server".into(),
        expected: Expectation::Holds,
        verdict: Verdict::Holds,
        reason: "0 of 400 sessions were lost".into(),
        seed: 7,
        counts: Counts { attempted: 400, acknowledged: 400, ..Counts::default() },
        seconds: Seconds { detect: Some(0.4), failover: None, recover: Some(1.25) },
        control: Control {
            protection: "the shared store (sessions = memory)".into(),
            caught: true,
            counts: Counts { attempted: 400, acknowledged: 400, lost: 131, ..Counts::default() },
        },
    }
}

/// A load of 30 s at 200/s; `errors` gives errors and p99 (us) of a second.
pub(super) fn load(fault: impl Fn(u64) -> (u64, u64)) -> Report {
    let seconds = (0..30).map(|second| {
        let (errors, p99_us) = fault(second);
        let p99_us = p99_us + 4_000 + second % 7 * 300;
        SecondReport {
            second,
            requests: 200,
            ok: 200 - errors,
            errors,
            truncated: 0,
            p50_us: 1_700 + second % 3 * 90,
            p99_us,
            max_us: p99_us * 2,
        }
    });
    let per_second: Vec<SecondReport> = seconds.collect();
    let failed: u64 = per_second.iter().map(|second| second.errors).sum();
    let json = serde_json::json!({
        "client": "plain", "rate_per_s": 200.0, "arrival": {"spacing": "even"}, "started_unix_ms": 0, "seconds": 30.0,
        "attempted": 6000, "ok": 6000 - failed, "failed": failed, "truncated": 0, "by_class": {"connect": failed},
        "retried": 0, "recovered": 0, "p50_us": 1790, "p90_us": 3000, "p99_us": 6100, "p999_us": 890_000, "max_us": 1_900_000,
        "first_error_ms": null, "last_error_ms": null, "late_sends": 0, "max_lag_us": 900, "in_flight_max": 40,
        "connections_opened": 12, "by_address": {}, "examples": [], "per_second": per_second,
    });
    let report: Report = serde_json::from_value(json).unwrap();
    report.verify().unwrap();
    report
}

pub(super) fn chart() -> Chart {
    let group = |title: &str, shares: [f64; 3]| {
        let bars = ["app-1", "app-2", "app-3 <slow>"].into_iter().zip(shares);
        let mut bars: Vec<Bar> = bars.map(|(label, value)| Bar::new(label, value)).collect();
        bars[2].marked = true;
        Group { title: title.into(), bars }
    };
    Chart {
        title: "share of the requests".into(),
        unit: "%",
        reference: Some(Reference { at: 33.3, label: "fair".into() }),
        groups: vec![group("round robin", [33.4, 33.3, 33.3]), group("ewma", [49.5, 50.2, 0.3])],
    }
}

pub(super) fn story() -> Story {
    let event = |at_s, label: &str| Event { at_s, label: label.into() };
    let bands = vec![Band { from_s: 10.0, to_s: 16.5, label: "app-2 is dead <kill -9>".into() }];
    let events = vec![
        event(10.0, "kill -9 app-2"),
        event(10.4, "lb-1: app-2 down"),
        event(10.6, "lb-2: app-2 down"),
        event(16.5, "app-2 ready"),
        event(29.0, "last check of every session"),
    ];
    let hit = |second| match second {
        10 => (64, 900_000),
        11 => (9, 120_000),
        _ => (0, 0),
    };
    let outage = |second| if (10..17).contains(&second) { (200 - second % 2 * 10, 0) } else { (0, 0) };
    let run =
        |title: &str, load| Run { title: title.into(), load, bands: bands.clone(), events: events.clone() };
    Story {
        result: result(),
        hypothesis: "Given steady load, when one app is killed, then no request that may be repeated fails."
            .into(),
        facts: vec![("topology".into(), "native, 2 lbs, 3 apps".into())],
        charts: vec![chart()],
        runs: vec![run("Retrying client", load(hit)), run("Control: sessions in memory", load(outage))],
    }
}
