//! Where plain requests are sent that should come over TLS. No sockets.

use http::HeaderValue;
use http::uri::PathAndQuery;

/// The same host, path and query over TLS at `port`. `host` was checked to be a name, an address or a bracketed IPv6 address
/// with an optional port.
pub(super) fn location(host: &str, target: &PathAndQuery, port: u16) -> HeaderValue {
    let name = match host.rfind(':') {
        // A colon inside of brackets is the address's own.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = if target.as_str() == "*" { "/" } else { target.as_str() };
    HeaderValue::from_str(&format!("https://{name}{port}{path}"))
        .expect("a checked host and target are plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, target: &str, port: u16, expected: &str) {
        assert_eq!(location(host, &target.parse().unwrap(), port), expected);
    }

    #[test]
    fn host_path_and_query_stay() {
        check("a.example", "/b?c=d", 443, "https://a.example/b?c=d");
        check("a.example:8080", "/", 8443, "https://a.example:8443/");
        check("[::1]:8080", "/x", 443, "https://[::1]/x");
        check("[::1]", "/", 8443, "https://[::1]:8443/");
        check("a.example:", "/", 443, "https://a.example/");
        check("a.example", "*", 443, "https://a.example/");
    }
}
