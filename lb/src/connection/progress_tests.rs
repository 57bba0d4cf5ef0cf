//! Steps of a connection or stream, and the deadline that is nearest after them.

use super::*;
use crate::limits::PaceTerms;

const LIMITS: ClientDeadlines = ClientDeadlines {
    first_byte: Duration::from_secs(1),
    header: Duration::from_secs(2),
    keep_alive: Duration::from_secs(3),
    body: Duration::from_secs(4),
    write: Duration::from_secs(5),
    linger: Duration::from_secs(6),
    total: Some(Duration::from_secs(100)),
    upload: SLOW,
    download: SLOW,
};
const SLOW: PaceTerms = PaceTerms { bytes_per_second_min: 1, grace: Duration::from_secs(1_000) };

/// `r` bytes read, `b` request begins, `f` it is over, `c` our side is closed; `u` the upload, `a` the answer, `w` the writing and `l` the
/// flushing wait, in capitals no longer; `h` an answer is handed over, `H` more is asked for.
#[track_caller]
fn check_of(of: Of, steps: &str, name: Option<&str>) {
    let progress = Progress::new(of, Instant::now(), Duration::from_secs(6));
    for step in steps.chars() {
        match step {
            'r' => progress.has_read(b"x"),
            'b' => assert!(progress.begin(Instant::now()) > 0),
            'f' => progress.finish(Instant::now()),
            'u' | 'U' => progress.body(step == 'u'),
            'a' | 'A' => progress.answer(step == 'a'),
            'l' | 'L' => progress.has_flushed(step == 'l'),
            'h' => progress.handed_over(1),
            'H' => progress.asked_for(),
            'c' => progress.lingers(Instant::now()),
            _ => progress.has_written(step == 'w'),
        }
    }
    let due = progress.due(&LIMITS);
    assert_eq!(due.map(|(_, name)| name), name, "{steps}");
}

#[track_caller]
fn check(steps: &str, name: Option<&str>) {
    check_of(Of::Http1, steps, name);
}

#[test]
fn each_phase_has_its_deadline() {
    check("", Some("first-byte"));
    check("r", Some("header"));
    check("rb", Some("total"));
    check("rbf", Some("keep-alive"));
    check("rbfr", Some("header"));
}

#[test]
fn a_request_in_flight_is_cut_only_for_what_is_owed() {
    check("rbu", Some("request-body"));
    check("rbuU", Some("total"));
    check("rba", Some("answer-body"));
    check("rbaA", Some("total"));
    check("rbw", Some("write"));
    check("rbwW", Some("total"));
    check("rbuaw", Some("request-body"));
}

#[test]
fn reading_in_mid_request_is_not_a_new_head() {
    check("rbr", Some("total"));
}

#[test]
fn an_answer_that_is_over_owes_nothing() {
    check("rbuaf", Some("keep-alive"));
}

#[test]
fn an_answer_that_its_client_still_takes_is_not_idle() {
    check("rbwf", Some("write"));
    check("rbwfW", Some("keep-alive"));
    check_of(Of::Http2, "rbwf", Some("write"));
}

#[test]
fn a_closed_side_waits_for_the_other_whatever_was_owed() {
    check("rbuc", Some("linger"));
    check("rbwac", Some("linger"));
    check_of(Of::Http2, "rbcf", Some("linger"));
}

#[test]
fn who_sends_on_has_more_time_but_not_for_ever() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let limits = ClientDeadlines { linger: Duration::from_secs(2), ..LIMITS };
    let progress = Progress::http1(start, Duration::from_secs(6));
    progress.lingers(start);
    for (heard, due) in [(0, 2), (1, 3), (3, 4)] {
        progress.lingered(at(heard));
        assert_eq!(progress.due(&limits), Some((at(due), "linger")), "{heard}");
    }
}

#[test]
fn only_who_is_in_mid_message_may_be_sent_more() {
    for (bytes, more) in [
        ("", false),
        ("GET / HTTP/1.1\r\n", true),
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab", true),
        ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", false),
        ("GET / HTTP/1.1\r\n\r\nGET", true),
    ] {
        let progress = Progress::http1(Instant::now(), Duration::from_secs(6));
        progress.has_read(bytes.as_bytes());
        progress.facts();
        assert_eq!(progress.may_be_sent_more(), more, "{bytes:?}");
    }
    let progress = Progress::http2(Instant::now(), Duration::from_secs(6));
    assert!(!progress.may_be_sent_more());
    progress.says_goodbye();
    assert!(progress.may_be_sent_more());
}

#[test]
fn an_end_in_peace_is_told_from_an_error() {
    let goodbye = |error: u8| [&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0][..], &[error]].concat();
    for (of, bytes, peaceful) in [
        (Of::Http2, goodbye(0), true),
        (Of::Http2, [b"data", &goodbye(0)[..]].concat(), true),
        (Of::Http2, goodbye(1), false),
        (Of::Http2, goodbye(0)[1..].to_vec(), false),
        (Of::Http2, [&goodbye(0)[..], b"more"].concat(), false),
        (Of::Http1, goodbye(0), false),
    ] {
        let progress = Progress::new(of, Instant::now(), Duration::from_secs(6));
        progress.has_ended_with(&bytes);
        assert_eq!(progress.goodbye.get(), peaceful, "{of:?} {bytes:?}");
    }
}

#[test]
fn who_still_takes_an_answer_is_not_asking() {
    for (bytes, draining, asks) in [
        ("GET / HTTP/1.1\r\n\r\nGET", false, true),
        ("GET / HTTP/1.1\r\n\r\nGET", true, false),
        ("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nab", false, false),
    ] {
        let start = Instant::now();
        let progress = Progress::http1(start, Duration::from_secs(6));
        progress.has_read(bytes.as_bytes());
        progress.begin(start);
        progress.facts();
        progress.finish(start);
        if draining {
            progress.has_written(true);
        }
        assert_eq!(progress.is_asking(), asks, "{bytes:?} {draining}");
        progress.hurry(start);
        let due = progress.due(&LIMITS).unwrap().1;
        assert_eq!(
            due,
            if asks {
                "header"
            } else if draining {
                "write"
            } else {
                "keep-alive"
            }
        );
    }
}

#[test]
fn at_the_stop_who_asks_has_a_little_time() {
    let start = Instant::now();
    for (bytes, answered, asks, seconds, name) in [
        ("", false, true, 1, "first-byte"),
        ("GET", false, true, 2, "header"),
        ("GET / HTTP/1.1\r\n\r\n", true, false, 3, "keep-alive"),
        ("GET / HTTP/1.1\r\n\r\nGET", true, true, 2, "header"),
    ] {
        let progress = Progress::http1(start, Duration::from_secs(6));
        if !bytes.is_empty() {
            progress.has_read(bytes.as_bytes());
        }
        if answered {
            progress.begin(start);
            progress.facts();
            progress.finish(start);
        }
        assert_eq!(progress.is_asking(), asks, "{bytes:?}");
        let stop = start + Duration::from_secs(60);
        if asks {
            progress.hurry(stop);
        }
        let (due, which) = progress.due(&LIMITS).unwrap();
        assert_eq!(which, name, "{bytes:?}");
        // What was read is told by the clock.
        let from = if bytes == "GET" || !asks { start } else { stop };
        assert!(due >= from + Duration::from_secs(seconds), "{bytes:?}");
        assert!(due < from + Duration::from_secs(seconds + 30), "{bytes:?}");
    }
}

#[test]
fn what_is_not_flushed_is_not_taken() {
    check("rbl", Some("write"));
    check("rblL", Some("total"));
    check("rbwL", Some("total"));
    check("rbL", Some("total"));
}

#[test]
fn pings_keep_no_connection_open() {
    check_of(Of::Http2, "r", Some("header"));
    check_of(Of::Http2, "rbfr", Some("keep-alive"));
}

#[test]
fn a_stream_whose_window_is_full_has_a_deadline() {
    check_of(Of::Stream, "bh", Some("write"));
    check_of(Of::Stream, "bhHa", Some("answer-body"));
    check_of(Of::Stream, "bhHaAh", Some("write"));
    check_of(Of::Stream, "bhf", Some("total"));
    check("rbh", Some("total"));
}
