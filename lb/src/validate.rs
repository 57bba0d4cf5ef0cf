//! Refuses requests that two programs could read in two ways, before any of it reaches a backend. No sockets.
//!
//! hyper already refuses broken framing: spaces around names, bad or differing lengths, unknown transfer codings, line
//! folding, control characters. It lets through what is checked here. It has dropped `Content-Length` beside
//! `Transfer-Encoding` and a fragment before we see the request, so neither can be refused, and neither is forwarded.

use http::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, StatusCode};

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("exactly one Host header is required")]
    HostCount,
    #[error("the Host header is not a host name with an optional port")]
    HostSyntax,
    #[error("the request target and the Host header name different hosts")]
    HostMismatch,
    #[error("the request target is not a path, an http URL or an asterisk with OPTIONS")]
    Target,
    #[error("the request target has bytes that must be percent-encoded")]
    TargetBytes,
    #[error("the transfer coding is not exactly chunked")]
    TransferCoding,
    #[error("this method is not served")]
    Method,
}

impl Refusal {
    pub(crate) const ALL: [Self; 7] = [
        Self::HostCount,
        Self::HostSyntax,
        Self::HostMismatch,
        Self::Target,
        Self::TargetBytes,
        Self::TransferCoding,
        Self::Method,
    ];

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::HostCount => "host-count",
            Self::HostSyntax => "host-syntax",
            Self::HostMismatch => "host-mismatch",
            Self::Target => "target",
            Self::TargetBytes => "target-bytes",
            Self::TransferCoding => "transfer-coding",
            Self::Method => "method",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a request head and returns the target in the form that backends get: a path with its query, or an asterisk.
pub(crate) fn target(request: &Parts) -> Result<PathAndQuery, Refusal> {
    // Both make sense to a proxy only when it means to serve them: CONNECT opens tunnels, TRACE shows other headers' secrets.
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    let host = host(&request.headers)?;
    transfer_coding(&request.headers)?;
    let path = path(&request.uri, &request.method)?;
    match request.uri.authority() {
        Some(authority) if !same_host(authority, host, request.uri.scheme_str()) => {
            Err(Refusal::HostMismatch)
        }
        _ => Ok(path),
    }
}

fn host(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut lines = headers.get_all(HOST).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(Refusal::HostCount) };
    let text = line.to_str().map_err(|_| Refusal::HostSyntax)?;
    if is_host(text) { Ok(text) } else { Err(Refusal::HostSyntax) }
}

/// A registered name, an IPv4 address or a bracketed IPv6 address, then perhaps a port (RFC 9110, 7.2). Stricter than
/// the grammar: no percent-encoding and no sub-delimiters, which no real name has.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inner, after)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", after),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_is_right = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    port_is_right && !name.is_empty() && name.len() <= 255 && name.bytes().all(plain)
}

fn transfer_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(line), None) if line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::TransferCoding),
    }
}

fn path(uri: &Uri, method: &Method) -> Result<PathAndQuery, Refusal> {
    let with_scheme = uri.scheme().is_some();
    if with_scheme && !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Refusal::Target);
    }
    // An authority alone is the form of CONNECT; a user name before a host hides which host is meant.
    if uri.authority().is_some_and(|authority| !with_scheme || authority.as_str().contains('@')) {
        return Err(Refusal::Target);
    }
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if path.as_str() == "*" {
        return if *method == Method::OPTIONS { Ok(path) } else { Err(Refusal::Target) };
    }
    if !path.as_str().bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
        return Err(Refusal::TargetBytes);
    }
    if !path.as_str().starts_with('/') {
        // `http://host?query` has an empty path.
        return format!("/{path}").parse().map_err(|_| Refusal::Target);
    }
    Ok(path)
}

fn same_host(authority: &Authority, host: &str, scheme: Option<&str>) -> bool {
    let default = if scheme == Some("https") { ":443" } else { ":80" };
    let bare = |text: &str| {
        let text = text.strip_suffix(default).unwrap_or(text);
        text.strip_suffix(':').unwrap_or(text).to_ascii_lowercase()
    };
    bare(authority.as_str()) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    /// `METHOD target | Header: value | ...`; `Host: a` is there unless the text has a `Host`.
    #[track_caller]
    fn check(text: &str, expected: Result<&str, Refusal>) {
        let mut lines = text.split(" | ");
        let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        if !text.contains("Host:") {
            request = request.header(HOST, "a");
        }
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let got = target(&parts);
        assert_eq!(got.as_ref().map(PathAndQuery::as_str).map_err(|refusal| *refusal), expected, "{text}");
    }

    #[test]
    fn ordinary_targets_pass() {
        check("GET /", Ok("/"));
        check("GET /a/b?c=d&e=%20", Ok("/a/b?c=d&e=%20"));
        check("GET http://a/x?y", Ok("/x?y"));
        check("GET http://a", Ok("/"));
        check("GET http://A:80/x", Ok("/x"));
        check("OPTIONS *", Ok("*"));
        check("PURGE /x", Ok("/x"));
    }

    #[test]
    fn odd_targets_do_not() {
        check("GET *", Err(Refusal::Target));
        check("GET a", Err(Refusal::Target));
        check("GET ftp://a/x", Err(Refusal::Target));
        check("GET http://user@a/x", Err(Refusal::Target));
        check("GET http://user:word@a/x", Err(Refusal::Target));
        check("GET /é", Err(Refusal::TargetBytes));
        check("GET http://b/x", Err(Refusal::HostMismatch));
        check("GET http://a:81/x", Err(Refusal::HostMismatch));
    }

    #[test]
    fn tunnels_and_echoes_are_refused() {
        check("CONNECT a:443", Err(Refusal::Method));
        check("TRACE /", Err(Refusal::Method));
    }

    #[test]
    fn one_host_and_a_plain_one() {
        for host in ["fitness.example.com", "a:8080", "192.0.2.1", "[2001:db8::1]:80", "a_b-c.d", "a:"] {
            check(&format!("GET / | Host: {host}"), Ok("/"));
        }
        for host in [
            "a b", "a/c", "a?x", "a#x", "u@a", "a:b", "a:99999", "[::1", "[::g]", ":80", "a,b", "a%2e",
            "a:1:2",
        ] {
            check(&format!("GET / | Host: {host}"), Err(Refusal::HostSyntax));
        }
        check("GET / | Host: a | Host: a", Err(Refusal::HostCount));
        let (parts, ()) = Request::get("/").body(()).unwrap().into_parts();
        assert_eq!(target(&parts).unwrap_err(), Refusal::HostCount);
    }

    #[test]
    fn the_only_transfer_coding_is_chunked() {
        check("POST / | Transfer-Encoding: chunked", Ok("/"));
        check("POST / | Transfer-Encoding: Chunked", Ok("/"));
        for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", ""] {
            check(&format!("POST / | Transfer-Encoding: {coding}"), Err(Refusal::TransferCoding));
        }
        check(
            "POST / | Transfer-Encoding: chunked | Transfer-Encoding: chunked",
            Err(Refusal::TransferCoding),
        );
    }
}
