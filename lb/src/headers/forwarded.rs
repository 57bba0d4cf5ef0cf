//! `Forwarded` (RFC 7239): the standard's one field for what `X-Forwarded-For`, `-Proto` and `-Host` say. No sockets.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::HeaderValue;

use super::Scheme;

/// One element: who the client is, how it spoke and to which host. Nothing of `by`: our own addresses are nobody's business.
pub(super) fn element(client: IpAddr, scheme: Scheme, host: Option<&HeaderValue>) -> String {
    let mut text = String::with_capacity(96);
    // An IPv6 address has colons and brackets, so it is quoted (section 6).
    let _ = match client {
        IpAddr::V4(ip) => write!(text, "for={ip}"),
        IpAddr::V6(ip) => write!(text, "for=\"[{ip}]\""),
    };
    let _ = write!(text, ";proto={}", scheme.as_str());
    // The host was checked to be a name with an optional port, so nothing in it needs a backslash.
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        let _ = write!(text, ";host=\"{host}\"");
    }
    text
}

/// The scheme of a field's first element, that of the client's own connection: nothing if it has none, an error if the field
/// is not well-formed. An unfinished quote would swallow the element that is appended to it.
pub(super) fn first_scheme(field: &str) -> Result<Option<Scheme>, Malformed> {
    let mut scheme = None;
    pairs(field, |element, name, value| {
        if element == 0 && name.eq_ignore_ascii_case("proto") {
            scheme = scheme.or(match value {
                value if value.eq_ignore_ascii_case("https") => Some(Scheme::Https),
                value if value.eq_ignore_ascii_case("http") => Some(Scheme::Http),
                _ => None,
            });
        }
    })?;
    Ok(scheme)
}

/// Whom the elements of a field name by `for`, the last one first; nothing for one that names no address, and for a field that is
/// not well-formed as a whole.
pub(crate) fn named_clients(field: &str) -> Vec<Option<IpAddr>> {
    let mut named = Vec::new();
    let read = pairs(field, |element, name, value| {
        named.resize(element + 1, None);
        if name.eq_ignore_ascii_case("for") {
            named[element] = address(value);
        }
    });
    if read.is_err() {
        return vec![None];
    }
    named.reverse();
    named
}

/// The address of a node (section 6), whose port is its own business.
fn address(node: &str) -> Option<IpAddr> {
    match node.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok().map(IpAddr::V6),
        None => node.split(':').next()?.parse().ok().map(IpAddr::V4),
    }
}

/// Goes through the elements' pairs: which element, a name and its value.
fn pairs(field: &str, mut see: impl FnMut(usize, &str, &str)) -> Result<(), Malformed> {
    let mut element = 0;
    let mut rest = field;
    loop {
        let (name, value, after) = pair(rest)?;
        see(element, name, value);
        let after = after.trim_start_matches([' ', '\t']);
        match after.as_bytes().first() {
            None => return Ok(()),
            Some(b';') => {}
            Some(b',') => element += 1,
            Some(_) => return Err(Malformed),
        }
        rest = &after[1..];
    }
}

/// A field that does not follow the grammar of section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// `name=value` at the beginning of `text`, with what follows. A quoted value is returned without its quotes and with its
/// backslashes: no scheme has any.
fn pair(text: &str) -> Result<(&str, &str, &str), Malformed> {
    let text = text.trim_start_matches([' ', '\t']);
    let (name, rest) = text.split_once('=').ok_or(Malformed)?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Malformed);
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut escaped = false;
        for (at, byte) in quoted.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return Ok((name, &quoted[..at], &quoted[at + 1..])),
                _ => {}
            }
        }
        return Err(Malformed);
    }
    let end = rest.bytes().position(|byte| !is_token(byte)).unwrap_or(rest.len());
    if end == 0 { Err(Malformed) } else { Ok((name, &rest[..end], &rest[end..])) }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &str, expected: Result<Option<Scheme>, Malformed>) {
        assert_eq!(first_scheme(field), expected, "{field}");
    }

    #[test]
    fn the_clients_own_scheme_is_the_first_one() {
        check("for=192.0.2.1;proto=https", Ok(Some(Scheme::Https)));
        check("proto=http ; for=a, for=b;proto=https", Ok(Some(Scheme::Http)));
        check("For=\"[2001:db8::1]:80\";Proto=\"HTTPS\"", Ok(Some(Scheme::Https)));
        check("for=a, proto=https", Ok(None));
        check("for=a;proto=gopher", Ok(None));
        check("for=\"a,;proto=https\"", Ok(None));
    }

    #[test]
    fn what_could_swallow_the_next_element_is_malformed() {
        for field in [
            "for=\"a",
            "for=\"a\\\"",
            "for",
            "=a",
            "for=",
            "for=a b",
            "for=a;",
            "for=a,,for=b",
            "for=[::1]",
            "",
        ] {
            check(field, Err(Malformed));
        }
    }

    #[test]
    fn an_element_is_quoted_where_it_must_be() {
        let host = HeaderValue::from_static("a.example:8080");
        let four = element("192.0.2.1".parse().unwrap(), Scheme::Https, Some(&host));
        assert_eq!(four, "for=192.0.2.1;proto=https;host=\"a.example:8080\"");
        let six = element("2001:db8::1".parse().unwrap(), Scheme::Http, None);
        assert_eq!(six, "for=\"[2001:db8::1]\";proto=http");
        assert_eq!(first_scheme(&format!("{four}, {six}")), Ok(Some(Scheme::Https)));
    }
}
