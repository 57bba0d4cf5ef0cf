//! The cookies of one visitor of one site.

use std::collections::BTreeMap;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

/// Name and value of each cookie; attributes other than those that delete are not kept, since a test talks to one
/// site.
#[derive(Debug, Default, Clone)]
pub struct CookieJar(BTreeMap<String, String>);

impl CookieJar {
    /// Takes over what the response sets and deletes.
    pub fn store(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let mut parts = line.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            if parts.any(deletes) {
                self.0.remove(name.trim());
            } else {
                self.0.insert(name.trim().into(), value.trim().into());
            }
        }
    }

    /// The value of the Cookie header; none when the jar is empty.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        HeaderValue::from_str(&pairs.join("; ")).ok()
    }

    /// One cookie's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a cookie, as a test that forges one does.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.into(), value.into());
    }

    /// Forgets a cookie.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// RFC 6265 section 3.1: a cookie is deleted by a lifetime that is over; servers write one of these two.
fn deletes(attribute: &str) -> bool {
    let Some((name, value)) = attribute.split_once('=') else { return false };
    let value = value.trim();
    match name.trim().to_ascii_lowercase().as_str() {
        "max-age" => value.starts_with('-') || value == "0",
        "expires" => value.contains("1970"),
        _ => false,
    }
}
