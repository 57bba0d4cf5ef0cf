//! One line of the access log. No sockets, no clock.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use time::OffsetDateTime;

use super::escape;
use crate::headers::X_REQUEST_ID;
use crate::record::Record;

/// What a line shows of a request besides its record: taken from its head once it has its id, before anything else is
/// changed. Clones of shared bytes.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    pub(crate) client: SocketAddr,
    method: Method,
    target: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
}

impl Words {
    pub(crate) fn new(
        client: SocketAddr,
        method: &Method,
        target: &Uri,
        version: Version,
        headers: &HeaderMap,
    ) -> Self {
        let header = |name: HeaderName| headers.get(name).cloned();
        Self {
            client,
            method: method.clone(),
            target: target.clone(),
            version,
            host: header(header::HOST),
            user_agent: header(header::USER_AGENT),
            request_id: header(X_REQUEST_ID),
        }
    }

    /// The same, by the id that the request goes on with.
    pub(crate) fn of_request(self, id: HeaderValue) -> Self {
        Self { request_id: Some(id), ..self }
    }

    fn host(&self) -> &[u8] {
        match (&self.host, self.target.authority()) {
            (Some(host), _) => host.as_bytes(),
            (None, Some(authority)) => authority.as_str().as_bytes(),
            (None, None) => b"",
        }
    }
}

/// The backend that served a request, or was asked last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: SocketAddr,
    pub(crate) inflight: usize,
}

/// One request that is over.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) words: &'a Words,
    pub(crate) record: &'a Record,
    /// The listener's name: HAProxy's frontend.
    pub(crate) listener: &'a str,
    pub(crate) pool: &'a str,
    pub(crate) server: Option<Server<'a>>,
    /// The wall clock at its end.
    pub(crate) now: SystemTime,
    pub(crate) total: Duration,
    /// Client connections open, and requests in flight.
    pub(crate) connections: i64,
    pub(crate) inflight: i64,
}

impl Entry<'_> {
    /// A whole answer that is not a server error.
    pub(crate) fn ended_well(&self) -> bool {
        self.record.termination().is_complete() && self.record.status.is_some_and(|it| !it.is_server_error())
    }

    fn arrived(&self) -> OffsetDateTime {
        OffsetDateTime::from(self.now - self.total)
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// Adds a JSON object and a line feed. Times are milliseconds with three places; what was not reached is null.
pub(super) fn json(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let (record, words) = (entry.record, entry.words);
    let at = entry.arrived();
    let (date, clock) = (at.date(), at.time());
    let _ = write!(
        out,
        r#"{{"time":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z","client":"{}","listener":""#,
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.microsecond(),
        words.client,
    );
    escape::json(out, entry.listener.as_bytes());
    for (key, value) in [
        (r#"","pool":""#, entry.pool.as_bytes()),
        (r#"","backend":""#, entry.server.map_or(&b""[..], |server| server.name.as_bytes())),
        (r#"","method":""#, words.method.as_str().as_bytes()),
        (r#"","host":""#, words.host()),
        (r#"","target":""#, words.target.path_and_query().map_or(&b"*"[..], |it| it.as_str().as_bytes())),
        (r#"","user_agent":""#, words.user_agent.as_ref().map_or(&b""[..], HeaderValue::as_bytes)),
        (r#"","request_id":""#, words.request_id.as_ref().map_or(&b""[..], HeaderValue::as_bytes)),
    ] {
        out.extend_from_slice(key.as_bytes());
        escape::json(out, value);
    }
    let _ = write!(out, r#"","version":"{}","address":"#, version(words.version));
    let _ = match entry.server {
        Some(server) => write!(out, "\"{}\"", server.address),
        None => write!(out, "null"),
    };
    let _ = write!(out, r#","status":{}"#, record.status.map_or(0, |status| status.as_u16()));
    let _ = write!(out, r#","bytes_in":{},"bytes_out":{}"#, record.bytes_in, record.bytes_out);
    for (key, value) in [
        ("queue_ms", record.queue),
        ("connect_ms", record.connect),
        ("header_ms", record.header),
        ("total_ms", Some(entry.total)),
    ] {
        let _ = match value {
            Some(took) => write!(out, r#","{key}":{:.3}"#, took.as_secs_f64() * 1e3),
            None => write!(out, r#","{key}":null"#),
        };
    }
    let ended = record.termination();
    let _ = writeln!(
        out,
        r#","attempts":{},"cookie":"{}","termination":"{ended}","reason":"{}"}}"#,
        record.attempts,
        record.affinity.unwrap_or("off"),
        ended.reason,
    );
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Adds a line of HAProxy's HTTP log (configuration manual, section 8.2.3) as syslog would put it into a file: tools such
/// as `halog` expect its prefix. Bytes are those of bodies; dates are UTC.
pub(super) fn haproxy(out: &mut Vec<u8>, entry: &Entry<'_>, instance: &str) {
    let (record, words) = (entry.record, entry.words);
    let at = entry.arrived();
    let (date, clock) = (at.date(), at.time());
    let month = MONTHS[usize::from(u8::from(date.month())) - 1];
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    let _ = write!(out, "{month} {:2} {hour:02}:{minute:02}:{second:02} ", date.day());
    // One field for syslog, whatever somebody called the instance.
    out.extend(instance.bytes().map(|byte| if byte.is_ascii_graphic() { byte } else { b'_' }));
    let _ = write!(
        out,
        " lb[{}]: {}:{} [{:02}/{month}/{:04}:{hour:02}:{minute:02}:{second:02}.{:03}] {} {}/{} ",
        std::process::id(),
        words.client.ip().to_canonical(),
        words.client.port(),
        date.day(),
        date.year(),
        clock.millisecond(),
        entry.listener,
        if entry.pool.is_empty() { entry.listener } else { entry.pool },
        entry.server.map_or("<NOSRV>", |server| server.name),
    );
    let ms = |took: Option<Duration>| took.map_or(-1, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX));
    // A request that never had to wait waited for 0 ms; one that got nowhere has -1, as HAProxy writes it.
    let queue =
        if record.attempts > 0 { ms(Some(record.queue.unwrap_or_default())) } else { ms(record.queue) };
    let (connect, header) = (ms(record.connect), ms(record.header));
    let _ = write!(out, "0/{queue}/{connect}/{header}/{} ", ms(Some(entry.total)));
    let _ = match record.status {
        Some(status) => write!(out, "{}", status.as_u16()),
        None => write!(out, "-1"),
    };
    let server_inflight = entry.server.map_or(0, |server| server.inflight);
    let (client_cookie, server_cookie) = cookie_letters(record);
    let _ = write!(
        out,
        " {} - - {}{client_cookie}{server_cookie} {}/{}/{}/{server_inflight}/{} 0/0 \"",
        record.bytes_out,
        record.termination(),
        entry.connections,
        entry.connections,
        entry.inflight,
        record.retries(),
    );
    escape::haproxy(out, words.method.as_str().as_bytes());
    out.push(b' ');
    escape::haproxy(out, words.target.path_and_query().map_or(&b"*"[..], |it| it.as_str().as_bytes()));
    let _ = writeln!(out, " {}\"", version(words.version));
}

/// HAProxy's third and fourth letters: what the client's cookie was, and whether the answer got one.
fn cookie_letters(record: &Record) -> (char, char) {
    let client = match record.affinity {
        None => '-',
        Some("absent") => 'N',
        Some("kept" | "kept-draining") => 'V',
        Some("down" | "restarted" | "gone") => 'D',
        Some("expired") => 'E',
        Some(_) => 'I',
    };
    let server = match (record.affinity, record.cookie_set) {
        (None, _) => '-',
        (Some(_), true) => 'I',
        (Some(_), false) => 'N',
    };
    (client, server)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use http::StatusCode;

    use super::*;
    use crate::record::{Cause, Phase, Termination};

    pub(in crate::access_log) fn words(target: &str) -> Words {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("www.example.org"));
        headers.insert(header::USER_AGENT, HeaderValue::from_bytes(b"x\"\xff\\").unwrap());
        let client = "192.0.2.1:4000".parse().unwrap();
        Words::new(client, &Method::GET, &target.parse().unwrap(), Version::HTTP_11, &headers)
    }

    /// `a` attempt, `h` sent, `d` head, `.` complete, `!` broken off; a millisecond each.
    pub(in crate::access_log) fn entry<'a>(words: &'a Words, steps: &str) -> Entry<'a> {
        let started = Instant::now();
        let mut record = Record::new(started);
        for (at, step) in steps.chars().enumerate() {
            let now = started + Duration::from_millis(at as u64 + 1);
            match step {
                'a' => record.attempt(now),
                'h' => record.enter(Phase::Header, now),
                'd' => {
                    record.status = Some(StatusCode::OK);
                    record.enter(Phase::Data, now);
                }
                '.' => record.enter(Phase::Done, now),
                _ => record.end(Termination::new(Cause::Server, record.phase, "reset")),
            }
        }
        (record.bytes_in, record.bytes_out) = (3, 1_234);
        let served = record.attempts > 0;
        let server = Server { name: "app-1", address: "127.0.0.1:3000".parse().unwrap(), inflight: 2 };
        Entry {
            words,
            record: Box::leak(Box::new(record)),
            listener: "http",
            pool: "default",
            server: served.then_some(server),
            // 2026-11-22 15:40:07.529 UTC.
            now: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_362_007_529),
            total: Duration::from_micros(5_250),
            connections: 7,
            inflight: 4,
        }
    }

    #[track_caller]
    fn check_haproxy(target: &str, steps: &str, expected: &str) {
        let (words, mut out) = (words(target), Vec::new());
        haproxy(&mut out, &entry(&words, steps), "lb 1");
        let expected = format!(
            "Nov 22 15:40:07 lb_1 lb[{}]: 192.0.2.1:4000 [22/Nov/2026:15:40:07.523] {expected}\n",
            std::process::id()
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn haproxys_lines() {
        check_haproxy(
            "/a?b=%22",
            "ahd.",
            r#"http default/app-1 0/0/1/1/5 200 1234 - - ---- 7/7/4/2/0 0/0 "GET /a?b=%22 HTTP/1.1""#,
        );
        check_haproxy(
            "/",
            "ahahd!",
            r#"http default/app-1 0/0/2/2/5 200 1234 - - SD-- 7/7/4/2/1 0/0 "GET / HTTP/1.1""#,
        );
        check_haproxy(
            "/",
            "",
            r#"http default/<NOSRV> 0/-1/-1/-1/5 -1 1234 - - CR-- 7/7/4/0/0 0/0 "GET / HTTP/1.1""#,
        );
    }

    #[test]
    fn json_lines_are_one_object_each_whatever_the_client_sent() {
        let (words, mut out) = (words("/a?b=c"), Vec::new());
        json(&mut out, &entry(&words, "ahd."));
        json(&mut out, &entry(&words, ""));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
        let lines: Vec<serde_json::Value> =
            out.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let [whole, left] = &lines[..] else { panic!("{}", String::from_utf8_lossy(&out)) };
        for (key, value) in [
            ("time", serde_json::json!("2026-11-22T15:40:07.523750Z")),
            ("client", "192.0.2.1:4000".into()),
            ("pool", "default".into()),
            ("backend", "app-1".into()),
            ("address", "127.0.0.1:3000".into()),
            ("host", "www.example.org".into()),
            ("target", "/a?b=c".into()),
            ("user_agent", "x\"\u{fffd}\\".into()),
            ("status", 200.into()),
            ("bytes_in", 3.into()),
            ("bytes_out", 1_234.into()),
            ("queue_ms", serde_json::Value::Null),
            ("header_ms", 1.0.into()),
            ("total_ms", 5.25.into()),
            ("attempts", 1.into()),
            ("cookie", "off".into()),
            ("termination", "--".into()),
            ("reason", "complete".into()),
        ] {
            assert_eq!(whole[key], value, "{key}");
        }
        assert_eq!((&left["status"], &left["address"]), (&0.into(), &serde_json::Value::Null));
        assert_eq!((&left["termination"], &left["reason"]), (&"CR".into(), &"client-left".into()));
    }

    #[test]
    fn cookies_have_haproxys_letters() {
        for (affinity, set, letters) in [
            (None, false, "--"),
            (Some("absent"), true, "NI"),
            (Some("kept"), false, "VN"),
            (Some("kept-draining"), false, "VN"),
            (Some("down"), true, "DI"),
            (Some("expired"), true, "EI"),
            (Some("forged"), true, "II"),
        ] {
            let mut record = Record::new(Instant::now());
            (record.affinity, record.cookie_set) = (affinity, set);
            let (client, server) = cookie_letters(&record);
            assert_eq!(format!("{client}{server}"), letters, "{affinity:?}");
        }
    }
}
