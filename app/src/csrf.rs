//! Requests that another site makes a visitor's browser send, and how they are refused.
//!
//! Two independent nets. Every request that changes something is refused when the browser says that it comes from
//! elsewhere (`Sec-Fetch-Site`, `Origin`); programs such as curl say nothing and pass, because they carry nobody's
//! cookies by accident. Forms carry a token besides: an HMAC of the session, or, since a session exists only once
//! something is stored in it, of a random nonce in a cookie of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, header};
use service_kit::{Key, KeyRing};
use session_store::SessionId;
use sha2::Sha256;

/// What a form's token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    Session(SessionId),
    /// The value of the nonce cookie.
    Nonce(String),
}

/// The token for a form: the key's id and the MAC.
pub(crate) fn token(ring: &KeyRing, binding: &Binding) -> String {
    let key = ring.issuing();
    format!("{}.{}", key.id, URL_SAFE_NO_PAD.encode(mac(key, binding).finalize().into_bytes()))
}

/// Whether `token` is one that [`token`] made for this binding, under any key still accepted.
pub(crate) fn verify(ring: &KeyRing, binding: &Binding, token: &str) -> bool {
    let parsed = token
        .split_once('.')
        .and_then(|(id, tag)| Some((ring.get(id.parse().ok()?)?, URL_SAFE_NO_PAD.decode(tag).ok()?)));
    parsed.is_some_and(|(key, tag)| mac(key, binding).verify_slice(&tag).is_ok())
}

/// A value for the nonce cookie: 128 random bits.
pub(crate) fn new_nonce() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether a nonce cookie can be one of ours; anything else is replaced.
pub(crate) fn is_nonce(text: &str) -> bool {
    text.len() == 22 && URL_SAFE_NO_PAD.decode(text).is_ok()
}

// The purpose stands first, so that no MAC made for one thing is valid for another.
fn mac(key: &Key, binding: &Binding) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.bytes).expect("an HMAC takes keys of any length");
    match binding {
        Binding::Session(id) => {
            mac.update(b"form of session\0");
            mac.update(id.as_bytes());
        }
        Binding::Nonce(nonce) => {
            mac.update(b"form of nonce\0");
            mac.update(nonce.as_bytes());
        }
    }
    mac
}

/// Why a request that changes something must be refused, if its browser says that another site made it.
pub(crate) fn foreign(headers: &HeaderMap) -> Option<&'static str> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    // same-site is refused too: a sibling domain is somebody else's program.
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return Some("Sec-Fetch-Site says that another site sent this");
    }
    let origin = text(header::ORIGIN)?;
    let host = text(header::HOST).unwrap_or_default();
    let ours = origin
        .strip_prefix("http://")
        .map(|authority| (authority, ":80"))
        .or_else(|| origin.strip_prefix("https://").map(|authority| (authority, ":443")))
        .is_some_and(|(authority, port)| same_authority(authority, host, port));
    (!ours).then_some("Origin is not this site")
}

/// The balancer passes Host unchanged, so it is what the visitor's browser has in its address line.
fn same_authority(origin: &str, host: &str, default_port: &str) -> bool {
    let bare = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    !host.is_empty() && bare(origin) == bare(host)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use session_store::SessionToken;

    use super::*;

    fn ring(text: &str) -> KeyRing {
        let entry = |line: &str| {
            let (id, state) = line.split_once(' ').unwrap();
            let secret = base64::engine::general_purpose::STANDARD.encode([id.parse().unwrap(); 32]);
            format!("[[key]]\nid = {id}\nstate = '{state}'\nsecret = '{secret}'\n")
        };
        KeyRing::from_toml(&text.split(", ").map(entry).collect::<String>()).unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_binding_only() {
        let ring = ring("1 issue");
        let (one, two) = (SessionToken::generate().id(), SessionToken::generate().id());
        let made = token(&ring, &Binding::Session(one));
        assert!(verify(&ring, &Binding::Session(one), &made));
        assert!(!verify(&ring, &Binding::Session(two), &made));
        assert!(!verify(&ring, &Binding::Nonce(one.to_string()), &made));
        for bad in ["", ".", "1.", "2.AAAA", "256.AAAA", "1.%%%", &made[..made.len() - 1]] {
            assert!(!verify(&ring, &Binding::Session(one), bad), "{bad}");
        }
    }

    #[test]
    fn keys_can_be_changed_without_breaking_open_forms() {
        let binding = Binding::Nonce(new_nonce());
        let old = token(&ring("1 issue"), &binding);
        assert!(verify(&ring("1 accept, 2 issue"), &binding, &old));
        assert!(!verify(&ring("1 retired, 2 issue"), &binding, &old));
    }

    #[test]
    fn nonces_are_recognised() {
        assert!(is_nonce(&new_nonce()));
        assert!(!is_nonce("") && !is_nonce(&"!".repeat(22)) && !is_nonce(&"A".repeat(23)));
    }

    #[track_caller]
    fn check(lines: &str, allowed: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines.split(" | ").filter_map(|line| line.split_once(": ")) {
            headers.insert(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        assert_eq!(foreign(&headers).is_none(), allowed, "{lines}");
    }

    #[test]
    fn silence_passes() {
        check("host: fitness.example.com", true);
    }

    #[test]
    fn browsers_say_where_a_request_comes_from() {
        check("host: a.example | sec-fetch-site: same-origin", true);
        check("host: a.example | sec-fetch-site: none", true);
        check("host: a.example | sec-fetch-site: cross-site", false);
        check("host: a.example | sec-fetch-site: same-site", false);
        check("host: a.example | sec-fetch-site: same-origin | origin: https://b.example", false);
    }

    #[test]
    fn the_origin_must_be_the_host() {
        check("host: a.example | origin: https://a.example", true);
        check("host: a.example | origin: http://A.example:80", true);
        check("host: a.example:8080 | origin: http://a.example:8080", true);
        check("host: a.example:8080 | origin: http://a.example:8081", false);
        check("host: a.example | origin: https://a.example.evil.example", false);
        check("host: a.example | origin: null", false);
        check("host: a.example | origin: file://", false);
        check("origin: https://a.example", false);
    }
}
