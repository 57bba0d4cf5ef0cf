//! The secret in the visitor's cookie, and the id under which everything else knows the session.
//!
//! They are two types so that the secret cannot end up in a log, a key or a dump by accident: stores see only the
//! SHA-256 of it, and a digest cannot be presented as a cookie.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const TOKEN_BYTES: usize = 32;

/// The cookie's value: 256 random bits, written as 43 characters of base64url. Whoever has it is the visitor.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken([u8; TOKEN_BYTES]);

impl SessionToken {
    /// How many characters the written form has.
    pub const CHARS: usize = 43;

    /// A new token from the operating system's random numbers.
    ///
    /// # Panics
    /// When the operating system has no random numbers to give; nothing secret may be made then.
    pub fn generate() -> Self {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        Self(bytes)
    }

    /// Reads a cookie value. `None` for everything that `generate` cannot have written, including a second spelling
    /// of the same bytes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// The cookie's value. The only way to the secret.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The id that the store knows the session by.
    pub fn id(&self) -> SessionId {
        SessionId(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken([redacted])")
    }
}

/// The SHA-256 of a token: safe in keys, dumps and logs, because no cookie can be made from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// Reads the 64 hexadecimal digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (hex_digit(pair[0])? << 4) | hex_digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, accepted: bool) {
        let parsed = SessionToken::parse(text);
        assert_eq!(parsed.is_some(), accepted, "{text}");
        if let Some(token) = parsed {
            assert_eq!(token.expose(), text);
        }
    }

    #[test]
    fn forty_three_characters_of_base64url_are_a_token() {
        check("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", true);
    }

    #[test]
    fn other_lengths_are_refused() {
        check("", false);
        check(&"A".repeat(42), false);
        check(&"A".repeat(44), false);
    }

    #[test]
    fn other_alphabets_are_refused() {
        check(&format!("{}+", "A".repeat(42)), false);
        check(&format!("{}=", "A".repeat(42)), false);
        check(&format!("{}é", "A".repeat(41)), false);
    }

    #[test]
    fn a_second_spelling_of_the_same_bytes_is_refused() {
        // The last character carries four bits of data; its two lowest bits must be zero.
        check(&format!("{}A", "A".repeat(42)), true);
        check(&format!("{}B", "A".repeat(42)), false);
    }

    #[test]
    fn generated_tokens_differ_and_survive_the_cookie() {
        let (one, other) = (SessionToken::generate(), SessionToken::generate());
        assert_ne!(one, other);
        check(&one.expose(), true);
    }

    #[test]
    fn the_id_is_the_sha_256_of_the_bytes() {
        let token = SessionToken::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").unwrap();
        let written = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd";
        assert_eq!(token.id().to_string(), written);
        assert_eq!(SessionId::parse(written), Some(token.id()));
    }

    #[test]
    fn ids_have_one_spelling() {
        assert_eq!(SessionId::parse(&"a".repeat(63)), None);
        assert_eq!(SessionId::parse(&"A".repeat(64)), None);
        assert_eq!(SessionId::parse(&"g".repeat(64)), None);
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let token = SessionToken::generate();
        assert_eq!(format!("{token:?}"), "SessionToken([redacted])");
    }
}
