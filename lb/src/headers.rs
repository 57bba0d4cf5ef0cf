//! What is changed in the headers on their way through. No sockets.
//!
//! Hop-by-hop fields end here in both directions (RFC 9110, 7.6.1). Who the client is, is said in `X-Forwarded-*`:
//! appended to what a trusted proxy wrote, replacing what anybody else wrote.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};
use service_kit::trace::{TraceParent, is_request_id, new_request_id};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Names one request in every log that it passes.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
    fn value(self) -> HeaderValue {
        HeaderValue::from_static(if self == Self::Http { "http" } else { "https" })
    }
}

/// Fields that a `Connection` header cannot remove: a client could make the backend see another host, another client,
/// another session or another length.
fn is_protected(name: &HeaderName) -> bool {
    [HOST, COOKIE, SET_COOKIE, CONTENT_LENGTH, X_REQUEST_ID, TRACEPARENT, FORWARDED].contains(name)
        || name.as_str().starts_with("x-forwarded-")
}

/// Removes what belongs to one connection only. `TE: trailers` stays, for it is about the whole path.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
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
    let trailers = headers.get_all(TE).iter().any(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Turns the client's headers into those for a backend; returns the scheme that the client used.
pub(crate) fn to_backend(
    headers: &mut HeaderMap,
    peer: SocketAddr,
    scheme: Scheme,
    trusted: &Networks,
) -> Scheme {
    strip_hop_by_hop(headers);
    for name in [EXPECT, PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    let peer = peer.ip().to_canonical();
    let trusts = trusted.contain(peer);
    if !trusts {
        for name in [FORWARDED, X_REAL_IP, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            headers.remove(name);
        }
    }
    let mut chain = String::new();
    for line in headers.get_all(&X_FORWARDED_FOR) {
        if let Ok(line) = line.to_str() {
            let _ = write!(chain, "{line}, ");
        }
    }
    let _ = write!(chain, "{peer}");
    headers.insert(
        X_FORWARDED_FOR,
        HeaderValue::from_str(&chain).expect("addresses and checked text are a valid value"),
    );
    let scheme = match headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => scheme,
    };
    headers.insert(X_FORWARDED_PROTO, scheme.value());
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    scheme
}

/// Keeps or makes the request's id, and continues or begins its trace.
pub(crate) fn identify(headers: &mut HeaderMap) -> String {
    let kept =
        headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| is_request_id(text));
    let id = kept.map_or_else(new_request_id, str::to_owned);
    headers.insert(X_REQUEST_ID, HeaderValue::from_str(&id).expect("ids are plain characters"));
    let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(TraceParent::parse);
    let span = parent.map_or_else(TraceParent::new, TraceParent::child);
    headers.insert(
        TRACEPARENT,
        HeaderValue::from_str(&span.to_string()).expect("a trace context is hexadecimal"),
    );
    id
}

/// Turns a backend's headers into those for the client.
pub(crate) fn to_client(headers: &mut HeaderMap, request_id: &str) {
    // With a transfer coding the length was never valid (RFC 9112, 6.3), and without it we would frame by that length.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    headers.remove(PROXY_AUTHENTICATE);
    headers.remove(TE);
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
