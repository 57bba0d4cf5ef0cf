use super::*;

fn headers(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(" | ").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn text(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines.join(" | ")
}

#[track_caller]
fn check_strip(before: &str, after: &str) {
    let mut map = headers(before);
    strip_hop_by_hop(&mut map);
    assert_eq!(text(&map), after);
}

#[test]
fn hop_by_hop_fields_end_here() {
    check_strip(
        "connection: keep-alive | keep-alive: timeout=5 | upgrade: h2c | proxy-connection: x | a: b",
        "a: b",
    );
    check_strip("transfer-encoding: chunked | te: gzip", "");
}

#[test]
fn a_connection_header_names_more_of_them() {
    check_strip("connection: close, X-Hop, other | x-hop: 1 | other: 2 | a: b", "a: b");
    check_strip("connection: x | connection: y | x: 1 | y: 2", "");
}

#[test]
fn a_connection_header_cannot_remove_what_matters() {
    check_strip(
        "connection: host, cookie, x-forwarded-for, content-length, x-request-id | host: a | cookie: c | x-forwarded-for: f | content-length: 1 | x-request-id: i",
        "content-length: 1 | cookie: c | host: a | x-forwarded-for: f | x-request-id: i",
    );
}

#[test]
fn the_wish_for_trailers_is_passed_on() {
    check_strip("te: gzip;q=1, trailers | connection: te", "te: trailers");
}

#[track_caller]
fn check_forwarded(before: &str, peer: &str, after: &str) {
    let mut map = headers(before);
    let trusted = Networks::parse(&["192.0.2.0/24".to_owned()]).unwrap();
    to_backend(&mut map, format!("{peer}:1234").parse().unwrap(), Scheme::Http, &trusted);
    assert_eq!(text(&map), after);
}

#[test]
fn strangers_do_not_say_who_they_are() {
    check_forwarded(
        "host: a | x-forwarded-for: 1.1.1.1 | x-forwarded-proto: https | x-forwarded-host: b | forwarded: for=x | x-real-ip: y",
        "198.51.100.7",
        "host: a | x-forwarded-for: 198.51.100.7 | x-forwarded-host: a | x-forwarded-proto: http",
    );
}

#[test]
fn trusted_proxies_do() {
    check_forwarded(
        "host: a | x-forwarded-for: 1.1.1.1 | x-forwarded-proto: https | x-forwarded-host: b",
        "192.0.2.9",
        "host: a | x-forwarded-for: 1.1.1.1, 192.0.2.9 | x-forwarded-host: b | x-forwarded-proto: https",
    );
    check_forwarded(
        "host: a | x-forwarded-proto: gopher",
        "192.0.2.9",
        "host: a | x-forwarded-for: 192.0.2.9 | x-forwarded-host: a | x-forwarded-proto: http",
    );
}

#[test]
fn expect_and_proxy_credentials_are_for_us_only() {
    check_forwarded(
        "expect: 100-continue | proxy-authorization: x",
        "198.51.100.7",
        "x-forwarded-for: 198.51.100.7 | x-forwarded-proto: http",
    );
}

#[test]
fn networks_are_matched_by_their_bits() {
    let networks = |text: &str| Networks::parse(&[text.to_owned()]);
    let has = |text: &str, address: &str| networks(text).unwrap().contain(address.parse().unwrap());
    assert!(has("192.0.2.0/25", "192.0.2.127"));
    assert!(!has("192.0.2.0/25", "192.0.2.128"));
    assert!(has("192.0.2.1", "192.0.2.1"));
    assert!(!has("192.0.2.1", "192.0.2.2"));
    assert!(has("0.0.0.0/0", "203.0.113.1"));
    assert!(!has("0.0.0.0/0", "2001:db8::1"));
    assert!(has("2001:db8::/32", "2001:db8:1::1"));
    assert!(has("192.0.2.0/24", "::ffff:192.0.2.1"));
    for wrong in ["192.0.2.0/33", "x", "192.0.2.0/", "2001:db8::/129"] {
        assert_eq!(networks(wrong), Err(wrong.to_owned()));
    }
}

#[test]
fn ids_are_kept_if_they_are_safe() {
    let mut map = headers("x-request-id: abcdefgh-1");
    assert_eq!(identify(&mut map), "abcdefgh-1");
    let mut map = headers("x-request-id: a b <script>");
    assert_eq!(identify(&mut map).len(), 32);
    assert_ne!(map["x-request-id"], "a b <script>");
}

#[test]
fn traces_are_continued_or_begun() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut map = headers(&format!("traceparent: {trace}"));
    identify(&mut map);
    let seen = map["traceparent"].to_str().unwrap().to_owned();
    assert_eq!((&seen[..36], &seen[52..]), (&trace[..36], "-01"));
    assert_ne!(seen, trace);
    let mut map = headers("traceparent: nonsense");
    identify(&mut map);
    assert!(TraceParent::parse(map["traceparent"].to_str().unwrap()).is_some());
}

#[test]
fn a_length_beside_a_transfer_coding_is_dropped() {
    let mut map = headers("transfer-encoding: chunked | content-length: 3 | trailer: x | connection: close");
    to_client(&mut map, "12345678");
    assert_eq!(text(&map), "trailer: x | x-request-id: 12345678");
}

#[test]
fn shared_answers_are_known_by_their_directives() {
    for (value, shared) in [
        ("public, max-age=60", true),
        ("max-age=1,Immutable", true),
        ("private", false),
        ("no-store, x=public", false),
        ("publicity", false),
    ] {
        assert_eq!(is_shared(&headers(&format!("cache-control: {value}"))), shared, "{value}");
    }
    assert!(!is_shared(&HeaderMap::new()));
}
