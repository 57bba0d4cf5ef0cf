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
    let present = Present::of(&map);
    strip_hop_by_hop(&mut map, present);
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
    forward(&mut map, peer, &trusted, Forwarded::Traditional);
    assert_eq!(text(&map), after);
}

/// What a backend gets, without the id and the trace.
fn forward(map: &mut HeaderMap, peer: &str, trusted: &Networks, forwarded: Forwarded) -> Scheme {
    let client = peer.parse().unwrap();
    let client_value = &address_value(client);
    let via = Via { client, client_value, scheme: Scheme::Http, trusted, forwarded };
    let identity = identify(map);
    let (scheme, mut lines) = to_backend(map, &identity, &via);
    lines.move_to(map);
    assert_eq!(map.remove(X_REQUEST_ID), Some(identity.id));
    assert!(map.remove(TRACEPARENT).is_some() && !map.contains_key(TRACEPARENT));
    scheme
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
fn a_mapped_address_is_written_as_what_it_is() {
    for (address, expected) in
        [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1")]
    {
        assert_eq!(address_value(address.parse().unwrap()), expected);
    }
}

#[test]
fn ids_are_kept_if_they_are_safe() {
    let map = headers("x-request-id: abcdefgh-1");
    assert_eq!(identify(&map).id, "abcdefgh-1");
    let made = identify(&headers("x-request-id: a b <script>")).id;
    assert!(made.len() == 32 && made.as_bytes().iter().all(u8::is_ascii_hexdigit));
}

#[test]
fn traces_are_continued_or_begun() {
    let span = |text: &str| String::from_utf8(identify(&headers(text)).span.to_vec()).unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let seen = span(&format!("traceparent: {trace}"));
    assert_eq!((&seen[..36], &seen[52..]), (&trace[..36], "-01"));
    assert_ne!(seen, trace);
    assert!(TraceParent::parse(&span("traceparent: nonsense")).is_some());
}

#[test]
fn the_framing_of_one_connection_ends_here() {
    let mut map = headers("transfer-encoding: chunked | trailer: x | connection: close");
    to_client(&mut map, &HeaderValue::from_static("12345678"));
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

#[track_caller]
fn check_standard(forwarded: Forwarded, before: &str, peer: &str, scheme: Scheme, after: &str) {
    let mut map = headers(before);
    let trusted = Networks::parse(&["192.0.2.0/24".to_owned()]).unwrap();
    let seen = forward(&mut map, peer, &trusted, forwarded);
    assert_eq!((text(&map).as_str(), seen), (after, scheme));
}

#[test]
fn the_standard_field_replaces_the_traditional_ones() {
    check_standard(
        Forwarded::Standard,
        "host: a | x-forwarded-for: 1.1.1.1 | forwarded: for=x",
        "198.51.100.7",
        Scheme::Http,
        "forwarded: for=198.51.100.7;proto=http;host=\"a\" | host: a",
    );
    check_standard(
        Forwarded::Standard,
        "host: a | x-forwarded-proto: https | forwarded: for=1.1.1.1;proto=https",
        "192.0.2.9",
        Scheme::Https,
        "forwarded: for=1.1.1.1;proto=https, for=192.0.2.9;proto=http;host=\"a\" | host: a",
    );
    // An open quote would swallow what is appended.
    check_standard(
        Forwarded::Standard,
        "forwarded: for=\"1.1.1.1",
        "192.0.2.9",
        Scheme::Http,
        "forwarded: for=192.0.2.9;proto=http",
    );
}

#[test]
fn both_can_be_sent_and_only_what_is_kept_up_to_date_is_passed_on() {
    check_standard(
        Forwarded::Both,
        "host: a",
        "2001:db8::7",
        Scheme::Http,
        "forwarded: for=\"[2001:db8::7]\";proto=http;host=\"a\" | host: a | x-forwarded-for: 2001:db8::7 | x-forwarded-host: a | x-forwarded-proto: http",
    );
    check_standard(
        Forwarded::Traditional,
        "forwarded: for=1.1.1.1;proto=https",
        "192.0.2.9",
        Scheme::Http,
        "x-forwarded-for: 192.0.2.9 | x-forwarded-proto: http",
    );
}

#[track_caller]
fn check_upgrade(before: &str, expected: Option<&str>) {
    let wanted = wanted_upgrade(&headers(before));
    assert_eq!(wanted.as_ref().map(|value| value.to_str().unwrap()), expected, "{before}");
}

#[test]
fn an_upgrade_is_asked_for_as_the_standard_says() {
    check_upgrade("connection: Upgrade | upgrade: websocket", Some("websocket"));
    check_upgrade("connection: keep-alive, upgrade | upgrade: a/1, b", Some("a/1, b"));
    check_upgrade("connection: upgrade | upgrade: a | upgrade: b", Some("a, b"));
    check_upgrade("upgrade: websocket", None);
    check_upgrade("connection: upgrade", None);
    check_upgrade("connection: upgrade | upgrade: ,", None);
}

#[test]
fn nobody_is_asked_for_what_this_side_does_not_speak() {
    check_upgrade("connection: upgrade, http2-settings | upgrade: h2c | http2-settings: x", None);
    check_upgrade("connection: upgrade | upgrade: H2C, websocket", Some("websocket"));
    check_upgrade("connection: upgrade | upgrade: HTTP/3.0, TLS/1.3", None);
    check_forwarded(
        "http2-settings: x",
        "198.51.100.7",
        "x-forwarded-for: 198.51.100.7 | x-forwarded-proto: http",
    );
}

#[track_caller]
fn check_switched(answer: &str, wanted: &'static str, expected: bool) {
    let wanted = HeaderValue::from_static(wanted);
    assert_eq!(switched(&headers(answer), &wanted).is_some(), expected, "{answer} for {wanted:?}");
}

#[test]
fn only_a_switch_to_what_was_asked_for_is_one() {
    check_switched("connection: upgrade | upgrade: WebSocket", "websocket", true);
    check_switched("connection: upgrade | upgrade: b", "a, b", true);
    check_switched("connection: upgrade | upgrade: c", "a, b", false);
    check_switched("connection: upgrade | upgrade: a | upgrade: b", "a, b", false);
    check_switched("upgrade: a", "a", false);
    check_switched("connection: upgrade", "a", false);
}

#[track_caller]
fn check_cookies(before: &str, after: &str) {
    let mut map = headers(before);
    join_cookies(&mut map);
    assert_eq!(text(&map), after);
}

#[test]
fn cookies_of_http2_become_one_field() {
    check_cookies("x: y", "x: y");
    check_cookies("cookie: a=1; b=2", "cookie: a=1; b=2");
    check_cookies("cookie: a=1 | cookie: b=2 | cookie: c=3", "cookie: a=1; b=2; c=3");
}
