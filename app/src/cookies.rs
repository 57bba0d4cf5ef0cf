//! The two cookies: the session's, and the nonce that protects the forms of visitors without a session.
//!
//! Under TLS both carry the `__Host-` prefix, which browsers accept only with Secure, with Path=/ and without Domain, so
//! that no neighbour on a sibling domain can plant one (RFC 6265bis, section 4.1.3.2).

use http::{HeaderMap, HeaderValue, header};

/// Whether the client's side of the conversation is encrypted. The balancer ends TLS and says so; only it can reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let proto = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        match proto
            .and_then(|list| list.split(',').next())
            .is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
        {
            true => Self::Https,
            false => Self::Http,
        }
    }
}

/// One of our cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    Session,
    FormNonce,
}

impl Cookie {
    fn name(self, scheme: Scheme) -> &'static str {
        match (self, scheme) {
            (Self::Session, Scheme::Http) => "sid",
            (Self::Session, Scheme::Https) => "__Host-sid",
            (Self::FormNonce, Scheme::Http) => "form",
            (Self::FormNonce, Scheme::Https) => "__Host-form",
        }
    }

    /// The value the client sent, the first when it sent several.
    pub(crate) fn read(self, headers: &HeaderMap) -> Option<&str> {
        let name = self.name(Scheme::of(headers));
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// A `Set-Cookie` that lasts as long as the browser: how long a session lives is the store's decision.
    pub(crate) fn set(self, value: &str, scheme: Scheme) -> HeaderValue {
        self.write(value, "", scheme)
    }

    /// A `Set-Cookie` that removes it.
    pub(crate) fn clear(self, scheme: Scheme) -> HeaderValue {
        self.write("", "; Max-Age=0", scheme)
    }

    fn write(self, value: &str, lifetime: &str, scheme: Scheme) -> HeaderValue {
        let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
        let name = self.name(scheme);
        HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{lifetime}"))
            .expect("our cookie values are base64url")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &'static str, proto: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
        headers.insert("x-forwarded-proto", HeaderValue::from_static(proto));
        headers
    }

    #[track_caller]
    fn check(cookie: &'static str, proto: &'static str, expected: Option<&str>) {
        assert_eq!(Cookie::Session.read(&headers(cookie, proto)), expected);
    }

    #[test]
    fn the_name_depends_on_the_scheme() {
        check("route=x; sid=abc; form=y", "http", Some("abc"));
        check("sid=abc", "https", None);
        check("sid=abc; __Host-sid=def", "https", Some("def"));
        check("__Host-sid=def", "http", None);
        check("xsid=abc; sid", "http", None);
        check("sid=first; sid=second", "http", Some("first"));
    }

    #[test]
    fn attributes_follow_the_scheme() {
        assert_eq!(Cookie::Session.set("v", Scheme::Http), "sid=v; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(
            Cookie::Session.set("v", Scheme::Https),
            "__Host-sid=v; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(Cookie::FormNonce.clear(Scheme::Http), "form=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    }
}
