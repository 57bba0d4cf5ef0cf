//! What is changed in the headers on their way through. No sockets.
//!
//! Hop-by-hop fields end here in both directions (RFC 9110, 7.6.1). Who the client is, is said in `X-Forwarded-*`:
//! appended to what a trusted proxy wrote, replacing what anybody else wrote.

mod forwarded;
mod present;

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, HeaderMap, HeaderName, HeaderValue,
    SET_COOKIE, TE, UPGRADE,
};
pub(crate) use service_kit::trace::X_REQUEST_ID;
use service_kit::trace::{self, TRACEPARENT, TraceParent};

use present::{Field, Present};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Networks whose `X-Forwarded-*` are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<(IpAddr, u8)>);

impl Networks {
    /// Reads `address` or `address/bits` entries; the error is the entry that is neither.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, String> {
        let parse = |entry: &String| {
            let (address, bits) = match entry.split_once('/') {
                Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
                None => (entry.parse::<IpAddr>().ok()?, None),
            };
            let width = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(width);
            (bits <= width).then_some((address, bits))
        };
        entries
            .iter()
            .map(|entry| parse(entry).ok_or_else(|| entry.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(network, bits)| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(*bits);
                (network.to_bits() ^ address.to_bits()).checked_shr(shift).is_none_or(|rest| rest == 0)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(*bits);
                (network.to_bits() ^ address.to_bits()).checked_shr(shift).is_none_or(|rest| rest == 0)
            }
            _ => false,
        })
    }
}

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

/// Turns the client's headers into those for a backend; returns the scheme that the client used.
pub(crate) fn to_backend(headers: &mut HeaderMap, via: &Via<'_>) -> Scheme {
    let present = Present::of(headers);
    strip_hop_by_hop(headers, present);
    present.remove(headers, &[Field::Expect, Field::ProxyAuthorization, Field::Http2Settings]);
    let client = via.client.to_canonical();
    let old = [Field::ForwardedFor, Field::ForwardedProto, Field::ForwardedHost];
    if !via.trusted.contain(client) {
        present.remove(headers, &[Field::Forwarded, Field::RealIp]);
        present.remove(headers, &old);
    }
    match via.forwarded {
        Forwarded::Traditional => {
            // What it says is said in the other fields only, and would be taken for the newest word.
            present.remove(headers, &[Field::Forwarded]);
            traditional(headers, client, via.scheme)
        }
        Forwarded::Standard => {
            let scheme = standard(headers, client, via.scheme);
            present.remove(headers, &old);
            scheme
        }
        Forwarded::Both => {
            standard(headers, client, via.scheme);
            traditional(headers, client, via.scheme)
        }
    }
}

fn traditional(headers: &mut HeaderMap, client: IpAddr, scheme: Scheme) -> Scheme {
    let mut chain = String::with_capacity(40);
    for line in headers.get_all(&X_FORWARDED_FOR) {
        if let Ok(line) = line.to_str() {
            let _ = write!(chain, "{line}, ");
        }
    }
    push_address(&mut chain, client);
    headers.insert(
        X_FORWARDED_FOR,
        HeaderValue::from_str(&chain).expect("addresses and checked text are a valid value"),
    );
    let scheme = match headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => scheme,
    };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    scheme
}

/// Writes an address; an IPv4 one by hand, because formatting it costs as much as sending a request's head.
fn push_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        let _ = write!(text, "{address}");
        return;
    };
    for (at, byte) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if byte >= least {
                text.push(char::from(b'0' + byte / unit % 10));
            }
        }
    }
}

fn standard(headers: &mut HeaderMap, client: IpAddr, scheme: Scheme) -> Scheme {
    let lines: Vec<&str> = headers.get_all(FORWARDED).iter().filter_map(|line| line.to_str().ok()).collect();
    let mut chain = lines.join(", ");
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
    headers.insert(
        FORWARDED,
        HeaderValue::from_str(&chain).expect("addresses and checked text are a valid value"),
    );
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

/// Keeps or makes the request's id, and continues or begins its trace.
pub(crate) fn identify(headers: &mut HeaderMap) -> String {
    let id = trace::request_id(headers);
    headers.insert(X_REQUEST_ID, HeaderValue::from_str(&id).expect("ids are plain characters"));
    let span = TraceParent::continued(headers).to_bytes();
    headers.insert(TRACEPARENT, HeaderValue::from_bytes(&span).expect("a trace context is hexadecimal"));
    id
}

/// Turns a backend's headers into those for the client.
pub(crate) fn to_client(headers: &mut HeaderMap, request_id: &str) {
    let present = Present::of(headers);
    strip_hop_by_hop(headers, present);
    present.remove(headers, &[Field::ProxyAuthenticate, Field::Te]);
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(request_id).expect("ids are plain characters"));
    }
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
