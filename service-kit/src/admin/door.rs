//! Who may do what at the admin listener. No sockets.
//!
//! It has no accounts and usually listens on loopback, where a web page in somebody's browser can reach it too. So:
//!
//! | | Reads (GET, HEAD, OPTIONS) | Everything else |
//! |---|---|---|
//! | `Host` must be known: a name that an attacker's DNS points here ("DNS rebinding") is not | needed | needed |
//! | No `Origin` or `Sec-Fetch-Site`: browsers send them with what a page does, tools do not | | needed |
//! | `Authorization: Bearer` with the configured token | | needed |
//!
//! Known hosts are `localhost` and names below it, loopback addresses, the address that the connection came to, and
//! `[admin] hosts`.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use subtle::ConstantTimeEq as _;

use crate::Secret;

/// Names and addresses that this listener is called by, beyond those that every listener has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// The error is the entry that is no host.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_host = |text: &str| {
            text.parse::<IpAddr>().is_ok()
                || (!text.is_empty() && text.len() <= 253 && text.bytes().all(plain))
        };
        match entries.iter().find(|entry| !is_host(entry)) {
            Some(entry) => Err(entry.clone()),
            None => Ok(Self(entries.iter().map(|entry| normal(entry)).collect())),
        }
    }
}

/// The rules of one listener.
#[derive(Debug)]
pub(crate) struct Door {
    hosts: Hosts,
    token: Secret,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("exactly one Host header is needed")]
    HostCount,
    #[error("this listener does not go by that host; use its address or add the name to [admin] hosts")]
    HostUnknown,
    #[error("web pages may read here but change nothing")]
    WebPage,
    #[error(
        "changes need a token and none is configured; set [admin] token_file (PROGRAM_ADMIN__TOKEN_FILE) and restart"
    )]
    NoToken,
    #[error("changes need the token: send the header 'Authorization: Bearer TOKEN'")]
    TokenMissing,
    #[error("the token is not the configured one")]
    TokenWrong,
}

impl Refusal {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::HostCount => "host-count",
            Self::HostUnknown => "host-unknown",
            Self::WebPage => "web-page",
            Self::NoToken => "no-token-configured",
            Self::TokenMissing => "token-missing",
            Self::TokenWrong => "token-wrong",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::HostCount => StatusCode::BAD_REQUEST,
            Self::HostUnknown | Self::WebPage | Self::NoToken => StatusCode::FORBIDDEN,
            Self::TokenMissing | Self::TokenWrong => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Door {
    pub(crate) fn new(hosts: Hosts, token: Secret) -> Self {
        Self { hosts, token }
    }

    /// `local` is the address that the connection came to.
    pub(crate) fn admit(
        &self,
        method: &Method,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
        local: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        self.admit_host(version, uri, headers, local)?;
        if method.is_safe() {
            return Ok(());
        }
        if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
            return Err(Refusal::WebPage);
        }
        if self.token.is_empty() {
            return Err(Refusal::NoToken);
        }
        let given = bearer(headers).ok_or(Refusal::TokenMissing)?;
        // Unequal lengths are told apart at once; the length of our tokens is no secret.
        let same = given.as_bytes().ct_eq(self.token.expose().as_bytes());
        if bool::from(same) { Ok(()) } else { Err(Refusal::TokenWrong) }
    }

    fn admit_host(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
        local: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let mut lines = headers.get_all(HOST).iter();
        let line = match (lines.next(), lines.next()) {
            (Some(line), None) => Some(line.to_str().map_err(|_| Refusal::HostUnknown)?),
            // HTTP/1.0 knows no Host, and no browser speaks it.
            (None, _) if version == Version::HTTP_10 => None,
            _ => return Err(Refusal::HostCount),
        };
        // An absolute target names a host as well; it must be as good as the header.
        let target = uri.authority().map(http::uri::Authority::as_str);
        let known = |text: &str| self.knows(text, local);
        if line.into_iter().chain(target).all(known) { Ok(()) } else { Err(Refusal::HostUnknown) }
    }

    fn knows(&self, authority: &str, local: Option<IpAddr>) -> bool {
        let Some(host) = without_port(authority) else { return false };
        let address = host.parse::<IpAddr>().ok().or_else(|| {
            let inner = host.strip_prefix('[')?.strip_suffix(']')?;
            inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        });
        let host = match address {
            Some(address) => {
                let address = address.to_canonical();
                if address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address) {
                    return true;
                }
                address.to_string()
            }
            None => normal(host),
        };
        host == "localhost" || host.ends_with(".localhost") || self.hosts.0.contains(&host)
    }
}

fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The host of `host[:port]`; `None` if the port is no number.
fn without_port(authority: &str) -> Option<&str> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)
        }
        _ => Some(authority),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    /// A request as `METHOD target`, its headers one a line. The connection came to 192.0.2.7; `stats.example.org` is known.
    fn ask(token: &str, line: &str, lines: &str) -> Result<(), Refusal> {
        let hosts = Hosts::parse(&["Stats.example.org".into(), "198.51.100.1".into()]).unwrap();
        let door = Door::new(hosts, Secret::new(token));
        let (method, target) = line.split_once(' ').unwrap();
        let (target, version) = match target.strip_suffix(" 1.0") {
            Some(target) => (target, Version::HTTP_10),
            None => (target, Version::HTTP_11),
        };
        let mut headers = HeaderMap::new();
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let local = Some("::ffff:192.0.2.7".parse().unwrap());
        door.admit(&method.parse().unwrap(), version, &target.parse().unwrap(), &headers, local)
    }

    #[track_caller]
    fn check_host(host: &str, expected: Result<(), Refusal>) {
        assert_eq!(ask("", "GET /", &format!("host: {host}")), expected, "{host}");
    }

    #[test]
    fn known_hosts_are_loopback_the_bound_address_and_the_list() {
        for host in
            ["localhost", "LOCALHOST:9002", "lb.localhost", "127.0.0.1:80", "127.64.1.11:9002", "[::1]"]
        {
            check_host(host, Ok(()));
        }
        for host in
            ["192.0.2.7", "192.0.2.7:9002", "stats.example.org", "stats.EXAMPLE.org.:1", "198.51.100.1:5"]
        {
            check_host(host, Ok(()));
        }
    }

    #[test]
    fn a_name_that_dns_was_rebound_to_us_is_not_known() {
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.8", "notlocalhost"]
        {
            check_host(host, Err(Refusal::HostUnknown));
        }
        for host in
            ["user@localhost", "localhost:80:80", "localhost:x", "[::1", "", "127.0.0.1/", "0177.0.0.1"]
        {
            check_host(host, Err(Refusal::HostUnknown));
        }
    }

    #[test]
    fn one_host_and_no_other() {
        assert_eq!(ask("", "GET /", ""), Err(Refusal::HostCount));
        assert_eq!(ask("", "GET /", "host: localhost\nhost: localhost"), Err(Refusal::HostCount));
        assert_eq!(ask("", "GET / 1.0", ""), Ok(()));
        assert_eq!(ask("", "GET / 1.0", "host: evil.example"), Err(Refusal::HostUnknown));
        assert_eq!(ask("", "GET http://evil.example/", "host: localhost"), Err(Refusal::HostUnknown));
        assert_eq!(ask("", "GET http://localhost/", "host: localhost"), Ok(()));
    }

    #[track_caller]
    fn check_change(token: &str, headers: &str, expected: Result<(), Refusal>) {
        for method in ["PUT", "POST", "DELETE", "PATCH", "CHANGE"] {
            let headers = format!("host: localhost\n{headers}");
            assert_eq!(ask(token, &format!("{method} /x"), &headers), expected, "{method} {headers}");
        }
    }

    #[test]
    fn changes_need_the_token() {
        check_change(TOKEN, "authorization: Bearer 0123456789abcdef", Ok(()));
        check_change(TOKEN, "authorization: bearer 0123456789abcdef", Ok(()));
        check_change(TOKEN, "", Err(Refusal::TokenMissing));
        check_change(TOKEN, "authorization: Basic 0123456789abcdef", Err(Refusal::TokenMissing));
        check_change(TOKEN, "authorization: Bearer 0123456789abcdeF", Err(Refusal::TokenWrong));
        check_change(TOKEN, "authorization: Bearer 0123456789abcde", Err(Refusal::TokenWrong));
        check_change(TOKEN, "authorization: Bearer ", Err(Refusal::TokenWrong));
        let twice = "authorization: Bearer 0123456789abcdef\nauthorization: Bearer x";
        check_change(TOKEN, twice, Err(Refusal::TokenMissing));
    }

    #[test]
    fn without_a_token_nothing_can_be_changed() {
        check_change("", "", Err(Refusal::NoToken));
        check_change("", "authorization: Bearer ", Err(Refusal::NoToken));
        assert!(Refusal::NoToken.to_string().contains("[admin] token_file"));
    }

    #[test]
    fn web_pages_change_nothing_even_with_the_token() {
        let token = "authorization: Bearer 0123456789abcdef";
        check_change(TOKEN, &format!("{token}\norigin: http://localhost"), Err(Refusal::WebPage));
        check_change(TOKEN, &format!("{token}\norigin: null"), Err(Refusal::WebPage));
        check_change(TOKEN, &format!("{token}\nsec-fetch-site: same-origin"), Err(Refusal::WebPage));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let parse = |text: &str| Hosts::parse(&[text.to_owned()]).map(|hosts| hosts.0[0].clone());
        assert_eq!(parse("LB-1.example.org."), Ok("lb-1.example.org".into()));
        assert_eq!(parse("2001:DB8::1"), Ok("2001:db8::1".into()));
        for bad in ["", "*", "*.example.org", "lb-1:9002", "http://lb-1", "a b"] {
            assert_eq!(parse(bad), Err(bad.to_owned()));
        }
    }
}
