//! What is changed in the headers on their way through. No sockets.
//!
//! Hop-by-hop fields end here in both directions (RFC 9110, 7.6.1). Who the client is, is said in `X-Forwarded-*`:
//! appended to what a trusted proxy wrote, replacing what anybody else wrote.

mod forwarded;
mod lines;
mod present;

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, HeaderMap, HeaderName, HeaderValue,
    SET_COOKIE, TE, UPGRADE,
};
pub(crate) use service_kit::Networks;
pub(crate) use service_kit::trace::X_REQUEST_ID;
use service_kit::trace::{self, TRACEPARENT, TraceParent};

pub(crate) use forwarded::named_clients;
pub(crate) use lines::Lines;
use present::{Field, Present};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How the client speaks to us, or to the trusted proxy before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        if self == Self::Http { "http" } else { "https" }
    }
}

/// In which fields backends are told of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    Traditional,
    /// `Forwarded` (RFC 7239).
    Standard,
    Both,
}

/// Who is at the client's end, and how backends are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Via<'a> {
    pub(crate) client: IpAddr,
    /// The same as [`address_value`] makes it, once for a connection.
    pub(crate) client_value: &'a HeaderValue,
    pub(crate) scheme: Scheme,
    pub(crate) trusted: &'a Networks,
    pub(crate) forwarded: Forwarded,
}

/// Fields that a `Connection` header cannot remove: a client could make the backend see another host, another client,
/// another session or another length.
fn is_protected(name: &HeaderName) -> bool {
    [HOST, COOKIE, SET_COOKIE, CONTENT_LENGTH, X_REQUEST_ID, TRACEPARENT, FORWARDED].contains(name)
        || name.as_str().starts_with("x-forwarded-")
}

/// Removes what belongs to one connection only. `TE: trailers` stays, for it is about the whole path.
fn strip_hop_by_hop(headers: &mut HeaderMap, present: Present) {
    if present.has(Field::Connection) {
        strip_named(headers);
    }
    let trailers = present.has(Field::Te) && lists(headers, &TE, b"trailers");
    present.remove(
        headers,
        &[
            Field::Connection,
            Field::KeepAlive,
            Field::ProxyConnection,
            Field::Te,
            Field::TransferEncoding,
            Field::Upgrade,
        ],
    );
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes the fields that `Connection` names.
fn strip_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| !is_protected(name) && *name != TE)
        .collect();
    for name in &named {
        headers.remove(name);
    }
}

/// Turns the client's headers into those for a backend; returns the scheme that the client used, and the lines to add.
pub(crate) fn to_backend(headers: &mut HeaderMap, identity: &Identity, via: &Via<'_>) -> (Scheme, Lines) {
    let present = Present::of(headers);
    strip_hop_by_hop(headers, present);
    present.remove(
        headers,
        &[
            Field::Expect,
            Field::ProxyAuthorization,
            Field::Http2Settings,
            Field::RequestId,
            Field::TraceParent,
        ],
    );
    let mut lines = Lines::new();
    lines.push(&X_REQUEST_ID, identity.id.as_bytes());
    lines.push(&TRACEPARENT, &identity.span);
    let client = via.client.to_canonical();
    let old = [Field::ForwardedFor, Field::ForwardedProto, Field::ForwardedHost];
    let trusted = via.trusted.contain(client);
    if !trusted {
        present.remove(headers, &[Field::Forwarded, Field::RealIp]);
        present.remove(headers, &old);
    }
    let kept = if trusted { present } else { Present::NONE };
    let scheme = match via.forwarded {
        Forwarded::Traditional => {
            // What it says is said in the other fields only, and would be taken for the newest word.
            present.remove(headers, &[Field::Forwarded]);
            traditional(headers, kept, via, &mut lines)
        }
        Forwarded::Standard => {
            let scheme = standard(headers, client, via.scheme, &mut lines);
            present.remove(headers, &old);
            scheme
        }
        Forwarded::Both => {
            standard(headers, client, via.scheme, &mut lines);
            traditional(headers, kept, via, &mut lines)
        }
    };
    (scheme, lines)
}

/// `kept`: the fields that are there of a proxy that is believed.
fn traditional(headers: &mut HeaderMap, kept: Present, via: &Via<'_>, lines: &mut Lines) -> Scheme {
    if kept.has(Field::ForwardedFor) {
        let earlier = headers.get_all(X_FORWARDED_FOR).iter().filter(|line| line.to_str().is_ok());
        let mut chain: Vec<&[u8]> = earlier.map(HeaderValue::as_bytes).collect();
        chain.push(via.client_value.as_bytes());
        lines.push(&X_FORWARDED_FOR, &chain.join(&b", "[..]));
    } else {
        lines.push(&X_FORWARDED_FOR, via.client_value.as_bytes());
    }
    let said = if kept.has(Field::ForwardedProto) { headers.get(X_FORWARDED_PROTO) } else { None };
    let scheme = match said.map(HeaderValue::as_bytes) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => via.scheme,
    };
    lines.push(&X_FORWARDED_PROTO, scheme.as_str().as_bytes());
    kept.remove(headers, &[Field::ForwardedFor, Field::ForwardedProto]);
    if !kept.has(Field::ForwardedHost)
        && let Some(host) = headers.get(HOST)
    {
        lines.push(&X_FORWARDED_HOST, host.as_bytes());
    }
    scheme
}

/// A client's address as a field's value.
pub(crate) fn address_value(client: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&client.to_canonical().to_string()).expect("an address is plain text")
}

fn standard(headers: &mut HeaderMap, client: IpAddr, scheme: Scheme, lines: &mut Lines) -> Scheme {
    let earlier: Vec<&str> =
        headers.get_all(FORWARDED).iter().filter_map(|line| line.to_str().ok()).collect();
    let mut chain = earlier.join(", ");
    let earlier = match forwarded::first_scheme(&chain) {
        Ok(scheme) => scheme,
        Err(forwarded::Malformed) => {
            chain.clear();
            None
        }
    };
    if !chain.is_empty() {
        chain.push_str(", ");
    }
    chain.push_str(&forwarded::element(client, scheme, headers.get(HOST)));
    lines.push(&FORWARDED, chain.as_bytes());
    headers.remove(FORWARDED);
    earlier.unwrap_or(scheme)
}

/// Which protocols the client would rather speak, as a backend may be asked for them: with `Connection: upgrade` (RFC 9110,
/// 7.8), and never HTTP/2, which this side does not speak (RFC 9113, 3.1).
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !lists(headers, &CONNECTION, b"upgrade") {
        return None;
    }
    let mut wanted = String::new();
    for line in headers.get_all(UPGRADE) {
        for protocol in line.to_str().ok()?.split(',').map(str::trim) {
            let name = protocol.split('/').next().unwrap_or_default();
            if !name.is_empty()
                && !["h2c", "h2", "http", "tls"].iter().any(|no| name.eq_ignore_ascii_case(no))
            {
                let comma = if wanted.is_empty() { "" } else { ", " };
                let _ = write!(wanted, "{comma}{protocol}");
            }
        }
    }
    if wanted.is_empty() { None } else { HeaderValue::from_str(&wanted).ok() }
}

/// Whether a 101's headers switch to one of the wanted protocols and to nothing else; returns its name.
pub(crate) fn switched(headers: &HeaderMap, wanted: &HeaderValue) -> Option<HeaderValue> {
    let mut lines = headers.get_all(UPGRADE).iter();
    let (Some(chosen), None) = (lines.next(), lines.next()) else { return None };
    let chosen_text = chosen.to_str().ok()?.trim();
    let offered = wanted.to_str().ok()?.split(',').map(str::trim);
    let known = offered.into_iter().any(|protocol| protocol.eq_ignore_ascii_case(chosen_text));
    (known && lists(headers, &CONNECTION, b"upgrade")).then(|| chosen.clone())
}

fn lists(headers: &HeaderMap, name: &HeaderName, word: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(word))
}

/// Writes the length as the body has it: two equal lines and `005` were accepted, and others may read them differently.
pub(crate) fn canonical_length(headers: &mut HeaderMap, bytes: Option<u64>) {
    if let (Some(bytes), Entry::Occupied(mut length)) = (bytes, headers.entry(CONTENT_LENGTH)) {
        length.insert(HeaderValue::from(bytes));
    }
}

/// Makes one `Cookie` field of several, which HTTP/2 allows and HTTP/1.1 does not (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&lines.join(b"; ".as_slice()));
    headers.insert(COOKIE, joined.expect("values with a semicolon between them are a value"));
}

/// What a request is called in logs, and where it is in its trace.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: HeaderValue,
    span: [u8; 55],
}

/// Keeps or makes the request's id, and continues or begins its trace.
pub(crate) fn identify(headers: &HeaderMap) -> Identity {
    let given = headers.get(X_REQUEST_ID);
    let kept = given.filter(|id| id.to_str().is_ok_and(trace::is_request_id)).cloned();
    let made = || HeaderValue::from_bytes(&trace::new_request_id_bytes()).expect("digits are plain");
    Identity { id: kept.unwrap_or_else(made), span: TraceParent::continued(headers).to_bytes() }
}

/// Turns a backend's headers into those for the client.
pub(crate) fn to_client(headers: &mut HeaderMap, request_id: &HeaderValue) {
    let present = Present::of(headers);
    strip_hop_by_hop(headers, present);
    present.remove(headers, &[Field::ProxyAuthenticate, Field::Te]);
    headers.entry(X_REQUEST_ID).or_insert_with(|| request_id.clone());
}

/// Whether caches may give this answer to several people; a cookie in it would go to all of them.
pub(crate) fn is_shared(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).any(
        |directive| {
            let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"immutable")
        },
    )
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
