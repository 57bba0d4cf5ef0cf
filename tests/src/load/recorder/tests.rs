use super::*;
use crate::load::ClientKind;

fn recorder() -> Recorder {
    let plan = Plan::fixed(ClientKind::Retrying, vec![SocketAddr::from(([127, 0, 0, 1], 80))], "example.com");
    Recorder::new(&plan, 0)
}

fn finished(due_ms: u64, latency_ms: u64, verdict: Verdict) -> Finished {
    Finished {
        due: Duration::from_millis(due_ms),
        lag: Duration::ZERO,
        latency: Duration::from_millis(latency_ms),
        verdict,
        address: Some(SocketAddr::from(([127, 0, 0, 1], 80))),
        tries: 1,
    }
}

fn record(recorder: &mut Recorder, finished: Finished) {
    recorder.sent();
    recorder.record(&finished, 1, || "why".into());
}

/// `letters`: one request each 100 ms; o ok, x failed, t truncated, s never sent.
fn check(letters: &str, counts: [u64; 4], seconds: &[(u64, u64)]) {
    let mut recorder = recorder();
    for (place, letter) in (0..).zip(letters.chars()) {
        let verdict = match letter {
            'o' => Verdict::Ok,
            't' => Verdict::Truncated,
            's' => Verdict::Failed(ErrorClass::Saturated),
            _ => Verdict::Failed(ErrorClass::Reset),
        };
        record(&mut recorder, finished(place * 100, 1, verdict));
    }
    let report = recorder.report(Duration::from_secs(1));
    assert_eq!([report.attempted, report.ok, report.failed, report.truncated], counts);
    let found: Vec<_> = report.per_second.iter().map(|second| (second.requests, second.errors)).collect();
    assert_eq!(found, seconds);
    report.verify().unwrap();
}

#[test]
fn each_request_counts_once() {
    check("oooxt", [5, 3, 1, 1], &[(5, 2)]);
    check("oooooooooox", [11, 10, 1, 0], &[(10, 0), (1, 1)]);
    check("sso", [3, 1, 2, 0], &[(3, 2)]);
    check("", [0, 0, 0, 0], &[]);
}

#[test]
fn percentiles_are_those_of_complete_answers() {
    let mut recorder = recorder();
    for ms in 1..=100 {
        record(&mut recorder, finished(ms, ms, Verdict::Ok));
    }
    record(&mut recorder, finished(200, 5_000, Verdict::Failed(ErrorClass::Timeout)));
    let report = recorder.report(Duration::from_secs(1));
    let within = |value: u64, ms: u64| value.abs_diff(ms * 1000) <= ms * 2;
    assert!(within(report.p50_us, 50) && within(report.p99_us, 99), "{report:?}");
    assert_eq!(report.max_us, 100_000);
}

#[test]
fn a_long_run_keeps_few_histograms_and_every_second() {
    let mut recorder = recorder();
    for second in 0..10_000 {
        record(&mut recorder, finished(second * 1000, 3, Verdict::Ok));
    }
    assert!(recorder.open.len() <= recorder.seconds_open_max);
    // One that ended much later than any deadline still counts in its second.
    record(&mut recorder, finished(5_000, 9, Verdict::Ok));
    let report = recorder.report(Duration::from_secs(10_000));
    assert_eq!(report.per_second.len(), 10_000);
    assert_eq!((report.per_second[5].requests, report.per_second[5].max_us), (2, 9_000));
    assert!(report.per_second.iter().all(|second| second.p50_us.abs_diff(3_000) <= 60));
    report.verify().unwrap();
}

#[test]
fn seconds_in_which_nothing_was_sent_are_there() {
    let mut recorder = recorder();
    record(&mut recorder, finished(0, 1, Verdict::Ok));
    record(&mut recorder, finished(3_000, 1, Verdict::Ok));
    let report = recorder.report(Duration::from_secs(4));
    let requests: Vec<_> = report.per_second.iter().map(|second| second.requests).collect();
    assert_eq!(requests, [1, 0, 0, 1]);
}

#[test]
fn late_sends_and_retries_are_told() {
    let mut recorder = recorder();
    let late = Finished { lag: Duration::from_millis(11), tries: 2, ..finished(0, 20, Verdict::Ok) };
    record(&mut recorder, late);
    let lost = Finished { tries: 2, ..finished(1, 20, Verdict::Failed(ErrorClass::Connect)) };
    record(&mut recorder, lost);
    let report = recorder.report(Duration::from_secs(1));
    assert_eq!((report.late_sends, report.max_lag_us), (1, 11_000));
    assert_eq!((report.retried, report.recovered), (2, 1));
    assert_eq!((report.first_error_ms, report.last_error_ms), (Some(1), Some(1)));
    assert_eq!(report.examples, ["1 ms, 127.0.0.1:80, connect: why"]);
}
