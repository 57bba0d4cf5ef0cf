//! A ring of 256-bit keys with ids, so that keys can be changed without losing what older keys sealed.
//!
//! A key goes through three states, each rolled out everywhere before the next: `accept` (everybody can read it),
//! `issue` (it seals new values), `retired` (no longer read, kept in the file for the record).

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Invalid;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Opens what it sealed; seals nothing new.
    Accept,
    /// Seals new values, and opens.
    Issue,
    /// Neither.
    Retired,
}

/// One key of a ring.
#[derive(Clone)]
pub struct Key {
    /// Travels beside what the key sealed.
    pub id: u8,
    /// The key itself.
    pub bytes: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({}, [redacted])", self.id)
    }
}

/// Exactly one issuing key and any number of accepted ones.
#[derive(Debug, Clone)]
pub struct KeyRing {
    issuing: Key,
    accepted: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: u8,
    state: KeyState,
    secret: String,
}

impl KeyRing {
    /// Reads a ring from a TOML file of `[[key]]` tables: `id`, `state`, `secret` (base64 of 32 bytes).
    pub fn load(path: &Path) -> Result<Self, Invalid> {
        let refuse = |reason: String| {
            Invalid::new("keys_file", path.display(), reason, "run `stack secrets DIR` to make a valid one")
        };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Self::from_toml(&text).map_err(refuse)
    }

    /// Parses a ring; the error says what is wrong without showing a key.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        // The parser's own message would quote the line, and with it the key.
        let file: File = toml::from_str(text).map_err(|_| {
            "not a key ring: expected [[key]] tables with id (0 to 255), state (issue, accept or retired) and secret".to_owned()
        })?;
        let mut issuing = None;
        let mut accepted: Vec<Key> = Vec::new();
        let mut seen = [false; 256];
        for Entry { id, state, secret } in file.key {
            if std::mem::replace(&mut seen[usize::from(id)], true) {
                return Err(format!("key {id} stands there twice"));
            }
            let bytes = STANDARD
                .decode(secret.trim())
                .ok()
                .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                .ok_or_else(|| format!("key {id}: the secret is not the base64 of 32 bytes"))?;
            match state {
                KeyState::Issue if issuing.is_some() => return Err("two keys are in state issue".into()),
                KeyState::Issue => issuing = Some(Key { id, bytes }),
                KeyState::Accept => accepted.push(Key { id, bytes }),
                KeyState::Retired => {}
            }
        }
        let issuing = issuing.ok_or("no key is in state issue")?;
        Ok(Self { issuing, accepted })
    }

    /// The key that seals new values.
    pub fn issuing(&self) -> &Key {
        &self.issuing
    }

    /// The key that can open a value sealed under `id`, unless it is unknown or retired.
    pub fn get(&self, id: u8) -> Option<&Key> {
        std::iter::once(&self.issuing).chain(&self.accepted).find(|key| key.id == id)
    }

    /// Every key that opens, the issuing one first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.issuing).chain(&self.accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn entry(id: u8, state: &str) -> String {
        format!("[[key]]\nid = {id}\nstate = '{state}'\nsecret = '{A}'\n")
    }

    #[track_caller]
    fn check(entries: &[String], expected: Result<&str, &str>) {
        let got = KeyRing::from_toml(&entries.concat())
            .map(|ring| ring.keys().map(|key| key.id.to_string()).collect::<Vec<_>>().join(" "));
        assert_eq!(got.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn the_issuing_key_comes_first_and_retired_ones_do_not_open() {
        check(&[entry(1, "accept"), entry(2, "issue"), entry(3, "retired")], Ok("2 1"));
    }

    #[test]
    fn one_key_issues() {
        check(&[entry(1, "accept")], Err("no key is in state issue"));
        check(&[entry(1, "issue"), entry(2, "issue")], Err("two keys are in state issue"));
        check(&[entry(1, "issue"), entry(1, "accept")], Err("key 1 stands there twice"));
    }

    #[test]
    fn keys_have_32_bytes_and_are_never_quoted() {
        check(
            &["[[key]]\nid = 1\nstate = 'issue'\nsecret = 'c2hvcnQ='\n".into()],
            Err("key 1: the secret is not the base64 of 32 bytes"),
        );
        let message =
            KeyRing::from_toml("[[key]]\nid = 1\nstate = 'issue'\nsecret = 'hunter2\n").unwrap_err();
        assert!(!message.contains("hunter2"));
    }
}
