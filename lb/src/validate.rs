//! Refuses requests that two programs could read in two ways, before any of it reaches a backend. No sockets.
//!
//! hyper already refuses broken framing: spaces around names, bad or differing lengths, unknown transfer codings, line
//! folding, control characters. It lets through what is checked here. What it hides from us ([`Facts`]) was seen in the
//! bytes. HTTP/2 has no lines and no transfer codings; its `:authority` takes the place of `Host` (RFC 9113, 8.3.1).

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, StatusCode, Version};

use crate::config::Limits;
use crate::fields::{number, tokens};
use crate::head::Facts;

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
    #[error("the request target has a fragment")]
    Fragment,
    #[error("the request target is too long")]
    TargetLength,
    #[error("a header name has an underscore")]
    Underscore,
    #[error("the request body is larger than allowed")]
    BodyLength,
    #[error("the transfer coding is not exactly chunked")]
    TransferCoding,
    #[error("a message has either a Content-Length or a Transfer-Encoding")]
    LengthAndCoding,
    #[error("a line ends with a line feed alone")]
    LineEnd,
    #[error("where this request begins cannot be told")]
    Unseen,
    #[error("this method is not served")]
    Method,
    #[error("a method is made of capital letters, digits, hyphens and underscores")]
    MethodForm,
}

impl Refusal {
    pub(crate) const ALL: [Self; 15] = [
        Self::HostCount,
        Self::HostSyntax,
        Self::HostMismatch,
        Self::Target,
        Self::TargetBytes,
        Self::Fragment,
        Self::TargetLength,
        Self::Underscore,
        Self::BodyLength,
        Self::TransferCoding,
        Self::LengthAndCoding,
        Self::LineEnd,
        Self::Unseen,
        Self::Method,
        Self::MethodForm,
    ];

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::HostCount => "host-count",
            Self::HostSyntax => "host-syntax",
            Self::HostMismatch => "host-mismatch",
            Self::Target => "target",
            Self::TargetBytes => "target-bytes",
            Self::Fragment => "fragment",
            Self::TargetLength => "target-length",
            Self::Underscore => "underscore",
            Self::BodyLength => "body-length",
            Self::TransferCoding => "transfer-coding",
            Self::LengthAndCoding => "length-and-coding",
            Self::LineEnd => "line-end",
            Self::Unseen => "unseen",
            Self::Method => "method",
            Self::MethodForm => "method-form",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TransferCoding | Self::MethodForm => StatusCode::NOT_IMPLEMENTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetLength => StatusCode::URI_TOO_LONG,
            Self::BodyLength => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a request head and returns the target in the form that backends get: a path with its query, or an asterisk.
/// Afterwards there is exactly one `Host`, whatever the version.
pub(crate) fn target(request: &mut Parts, facts: Facts, limits: &Limits) -> Result<PathAndQuery, Refusal> {
    bytes(facts)?;
    method(&request.method)?;
    if request.version == Version::HTTP_2 {
        authority_to_host(request)?;
    }
    let host = host(&request.headers)?;
    transfer_coding(&request.headers)?;
    if !limits.underscores_in_names && request.headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(Refusal::Underscore);
    }
    let path = path(&request.uri, &request.method)?;
    if path.as_str().len() > limits.target_bytes_max {
        return Err(Refusal::TargetLength);
    }
    match request.uri.authority() {
        Some(authority) if !same_host(authority, host, request.uri.scheme_str()) => {
            Err(Refusal::HostMismatch)
        }
        _ => Ok(path),
    }
}

fn bytes(facts: Facts) -> Result<(), Refusal> {
    match facts {
        Facts { unseen: true, .. } => Err(Refusal::Unseen),
        Facts { bare_line_feed: true, .. } => Err(Refusal::LineEnd),
        Facts { length_and_coding: true, .. } => Err(Refusal::LengthAndCoding),
        Facts { fragment: true, .. } => Err(Refusal::Fragment),
        _ => Ok(()),
    }
}

fn method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE | Method::PATCH => Ok(()),
        // Both make sense to a proxy only when it means to serve them: CONNECT opens tunnels, TRACE shows other
        // headers' secrets.
        Method::CONNECT | Method::TRACE => Err(Refusal::Method),
        _ => {
            // Methods differ by case (RFC 9110, 9.1), but some servers take `get` for GET, and rules about GET do not.
            let plain =
                |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
            if method.as_str().bytes().all(plain) { Ok(()) } else { Err(Refusal::MethodForm) }
        }
    }
}

/// A request without `:authority` may name its host in `Host` only; with both they must agree, which is checked later.
fn authority_to_host(request: &mut Parts) -> Result<(), Refusal> {
    let Some(authority) = request.uri.authority() else { return Ok(()) };
    if !request.headers.contains_key(HOST) {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::HostSyntax)?;
        request.headers.insert(HOST, host);
    }
    Ok(())
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

/// The number that all `Content-Length` lines say, whatever lists they are made of (RFC 9110, 8.6), and how often; nothing
/// without a line.
fn content_length(headers: &HeaderMap) -> Result<Option<(u64, usize)>, Ambiguous> {
    let mut said: Option<(u64, usize)> = None;
    for part in headers.get_all(CONTENT_LENGTH).iter().flat_map(|line| tokens(line.as_bytes())) {
        let length = number(part, 10).ok_or(Ambiguous)?;
        said = match said {
            Some((known, _)) if known != length => return Err(Ambiguous),
            Some((_, times)) => Some((length, times + 1)),
            None => Some((length, 1)),
        };
    }
    Ok(said)
}

/// Makes sure that the answer of a backend has one reading, and says whether another may follow it on the connection:
/// `false` where two programs may disagree on its end (RFC 9112, 6.3).
pub(crate) fn answer(headers: &mut HeaderMap) -> Result<bool, Ambiguous> {
    if !headers.contains_key(TRANSFER_ENCODING) {
        // Also where there is no body, and the length is only told: the client would be told nonsense.
        if let Some((length, 2..)) = content_length(headers)? {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        return Ok(true);
    }
    // Any other coding would stay in the body while the line that names it ends here.
    transfer_coding(headers).map_err(|_| Ambiguous)?;
    // With a transfer coding the length was never valid, and without it we would frame by that length.
    Ok(headers.remove(CONTENT_LENGTH).is_none())
}

/// An answer that could be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

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
        return format!("/{}", path.as_str()).parse().map_err(|_| Refusal::Target);
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
        check_version(Version::HTTP_11, text, expected);
    }

    /// The same in HTTP/2: nothing is there that the text does not say, and what passes has one `Host`.
    #[track_caller]
    fn check_h2(text: &str, expected: Result<&str, Refusal>) {
        check_version(Version::HTTP_2, text, expected);
    }

    #[track_caller]
    fn check_version(version: Version, text: &str, expected: Result<&str, Refusal>) {
        let mut lines = text.split(" | ");
        let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
        let mut request = Request::builder().version(version).method(method).uri(uri);
        if version == Version::HTTP_11 && !text.contains("Host:") {
            request = request.header(HOST, "a");
        }
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let got = target(&mut parts, Facts::default(), &limits(""));
        assert_eq!(got.as_ref().map(PathAndQuery::as_str).map_err(|refusal| *refusal), expected, "{text}");
        assert!(got.is_err() || parts.headers.get_all(HOST).iter().count() == 1, "{text}");
    }

    #[test]
    fn http_2_says_the_host_in_its_authority() {
        check_h2("GET https://a/x?y", Ok("/x?y"));
        check_h2("GET https://a/x | Host: a", Ok("/x"));
        check_h2("GET https://a:443/x | Host: A", Ok("/x"));
        check_h2("GET /x | Host: a", Ok("/x"));
        check_h2("GET /x", Err(Refusal::HostCount));
        check_h2("GET https://a/x | Host: b", Err(Refusal::HostMismatch));
        check_h2("GET https://a/x | Host: a | Host: a", Err(Refusal::HostCount));
        check_h2("GET https://u@a/x", Err(Refusal::HostSyntax));
        check_h2("CONNECT a:443", Err(Refusal::Method));
    }

    #[test]
    fn what_the_bytes_said_is_refused() {
        let clean = Facts::default();
        for (facts, refusal) in [
            (Facts { fragment: true, ..clean }, Refusal::Fragment),
            (Facts { length_and_coding: true, ..clean }, Refusal::LengthAndCoding),
            (Facts { bare_line_feed: true, ..clean }, Refusal::LineEnd),
            (Facts::UNSEEN, Refusal::Unseen),
        ] {
            let (mut parts, ()) = Request::get("/").header(HOST, "a").body(()).unwrap().into_parts();
            assert_eq!(target(&mut parts, facts, &limits("")).unwrap_err(), refusal);
        }
    }

    #[test]
    fn methods_are_written_in_capitals() {
        for method in ["GET", "MKCOL", "M-SEARCH", "VERSION-CONTROL", "X_1"] {
            check(&format!("{method} /"), Ok("/"));
        }
        for method in ["get", "Get", "x!", "G#T", "POST~"] {
            check(&format!("{method} /"), Err(Refusal::MethodForm));
        }
    }

    /// Header lines of an answer; whether another answer may follow, or `None` if it is refused; what is left.
    #[track_caller]
    fn check_answer(lines: &[&str], expected: Option<bool>, left: &str) {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        assert_eq!(answer(&mut headers).ok(), expected, "{lines:?}");
        let lengths: Vec<_> =
            headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(lengths.join(" "), left, "{lines:?}");
    }

    #[test]
    fn an_answer_has_one_framing() {
        check_answer(&[], Some(true), "");
        check_answer(&["content-length: 5"], Some(true), "5");
        check_answer(&["content-length: 5", "content-length: 5"], Some(true), "5");
        check_answer(&["content-length: 2, 2"], Some(true), "2");
        check_answer(&["content-length: 5", "content-length: 6"], None, "5 6");
        for length in ["", "+2", "2,", "2, 3", "abc", "99999999999999999999"] {
            check_answer(&[&format!("content-length: {length}")], None, length);
        }
        check_answer(&["transfer-encoding: chunked"], Some(true), "");
        check_answer(&["transfer-encoding: chunked", "content-length: 5"], Some(false), "");
        check_answer(&["transfer-encoding: gzip, chunked"], None, "");
        check_answer(&["transfer-encoding: gzip"], None, "");
    }

    fn limits(text: &str) -> Limits {
        service_kit::config::parse_text::<crate::Config>("lb", text).unwrap().limits
    }

    #[test]
    fn limits_of_a_head() {
        let limits = limits("limits.target_bytes_max = 256\nlimits.underscores_in_names = false");
        let refusal = |request: http::request::Builder| {
            let (mut parts, ()) = request.header(HOST, "a").body(()).unwrap().into_parts();
            target(&mut parts, Facts::default(), &limits).err()
        };
        assert_eq!(refusal(Request::get(format!("/{}", "x".repeat(255)))), None);
        assert_eq!(refusal(Request::get(format!("/{}", "x".repeat(256)))), Some(Refusal::TargetLength));
        assert_eq!(refusal(Request::get("/").header("x-y", "z")), None);
        assert_eq!(refusal(Request::get("/").header("x_y", "z")), Some(Refusal::Underscore));
    }

    #[test]
    fn ordinary_targets_pass() {
        check("GET /", Ok("/"));
        check("GET /a/b?c=d&e=%20", Ok("/a/b?c=d&e=%20"));
        check("GET http://a/x?y", Ok("/x?y"));
        check("GET http://a", Ok("/"));
        check("GET http://a?q", Ok("/?q"));
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
        check("GET / | NoHost: 1", Err(Refusal::HostCount));
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
