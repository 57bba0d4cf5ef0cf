//! Against HTTP listeners, and against the routes of the admin listener.

use super::{Action, MIB, Payload, Then};

pub(super) fn payloads() -> Vec<Payload> {
    let with =
        |line: &str| format!("GET / HTTP/1.1\r\nHost: fitness.example.com\r\n{line}\r\n\r\n").into_bytes();
    let post = |line: &str, body: &str| {
        format!("POST /api/login HTTP/1.1\r\nHost: fitness.example.com\r\nContent-Type: application/json\r\n{line}\r\n\r\n{body}")
            .into_bytes()
    };
    let long = "a".repeat(64 * 1024);
    let many: String = (0..10_000).map(|number| format!("x-{number}: 1\r\n")).collect();
    let hold = |name: &str, bytes: Vec<u8>| Payload::new(name, Action::Send(bytes, Then::Hold));
    vec![
        Payload::send("a path of 64 KiB", format!("GET /{long} HTTP/1.1\r\nHost: example.com\r\n\r\n")),
        Payload::send("a method of 64 KiB", format!("{long} / HTTP/1.1\r\nHost: example.com\r\n\r\n")),
        Payload::send("a header of 64 KiB", with(&format!("x-long: {long}"))),
        Payload::send("a header name of 64 KiB", with(&format!("{long}: x"))),
        Payload::send("a header of 1 MiB", with(&format!("x-long: {}", "a".repeat(MIB)))),
        Payload::send("ten thousand headers", with(many.trim_end())),
        Payload::send("cookies of 64 KiB", with(&format!("Cookie: sid={long}; route={long}"))),
        Payload::send("no Host", "GET / HTTP/1.1\r\n\r\n"),
        Payload::send("two Hosts", with("Host: other.example.com")),
        Payload::send("a length of -1", post("Content-Length: -1", "x")),
        Payload::send("a length beyond 64 bits", post("Content-Length: 99999999999999999999999", "x")),
        hold("a huge length", post("Content-Length: 9223372036854775807", "x")),
        Payload::send("two lengths", post("Content-Length: 1\r\nContent-Length: 2", "xy")),
        Payload::send(
            "length and chunks",
            post("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET"),
        ),
        Payload::send("an unknown coding", post("Transfer-Encoding: zip, identity", "x")),
        Payload::send("a chunk of negative size", post("Transfer-Encoding: chunked", "-1\r\nx\r\n")),
        Payload::send("a chunk beyond 64 bits", post("Transfer-Encoding: chunked", "fffffffffffffffff\r\nx")),
        hold("a chunk that never ends", post("Transfer-Encoding: chunked", "ffff\r\nx")),
        Payload::send(
            "a chunk extension of 64 KiB",
            post("Transfer-Encoding: chunked", &format!("1;{long}\r\nx\r\n")),
        ),
        hold("a body that stops", post("Content-Length: 100", "{\"email\":")),
        Payload::send("a body of 1 MiB", post(&format!("Content-Length: {MIB}"), &"x".repeat(MIB))),
        Payload::send("100-continue without a body", post("Content-Length: 5\r\nExpect: 100-continue", "")),
        Payload::send("JSON nested 10,000 deep", post("Content-Length: 10000", &"[".repeat(10_000))),
        Payload::send("a NUL in a header", with("x: a\0b")),
        Payload::send("a header without a colon", with("nonsense")),
        Payload::send("a folded header", with("x: a\r\n b")),
        Payload::send("bare line feeds", "GET / HTTP/1.1\nHost: example.com\n\n"),
        Payload::send("HTTP/0.9", "GET /\r\n"),
        Payload::send("HTTP/9.9", "GET / HTTP/9.9\r\nHost: example.com\r\n\r\n"),
        Payload::send(
            "a path with bad escapes",
            "GET /%zz%00%ff/../../etc/passwd HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ),
        Payload::send("CONNECT", "CONNECT example.com:99999 HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        Payload::send(
            "an upgrade to h2c",
            with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: !"),
        ),
        Payload::send(
            "a hop-by-hop list of everything",
            with("Connection: host, cookie, content-length, close"),
        ),
        Payload::new(
            "headers byte by byte",
            Action::Drip(
                b"GET / HTTP/1.1\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                    .to_vec(),
            ),
        ),
    ]
}

pub(super) fn admin_payloads() -> Vec<Payload> {
    let put = |length: usize, body: &[u8]| {
        let head = format!("PUT /log-filter HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    vec![
        Payload::send("a log filter of 1 MiB", put(MIB, &vec![b','; MIB])),
        Payload::send("a log filter that is no text", put(4, b"\xff\xfe\0\x80")),
        Payload::send("a log filter that is none", put(9, b"=[=]=info")),
        Payload::send(
            "metrics a hundred times",
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100),
        ),
    ]
}
