//! The tokens of one entry, taken one by one as what the grammar wants there.

use super::lexer::{Entry, Token};
use super::{Place, Quoted, SyntaxError};
use crate::wire::name::unescape;
use crate::wire::{Name, NameError};
use std::str::FromStr;

/// The largest TTL (RFC 2181 section 8).
pub const TTL_MAX_S: u32 = i32::MAX as u32;

/// The tokens of an entry that are not read yet.
#[derive(Debug)]
pub struct Fields<'e, 't> {
    tokens: &'e [Token<'t>],
    end: Place,
}

impl<'e, 't> Fields<'e, 't> {
    pub fn new(entry: &'e Entry<'t>) -> Fields<'e, 't> {
        Fields { tokens: &entry.tokens, end: entry.end }
    }

    pub fn peek(&self) -> Option<Token<'t>> {
        self.tokens.first().copied()
    }

    pub fn skip(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }

    /// Where the next token is or would be.
    pub fn place(&self) -> Place {
        self.peek().map_or(self.end, |token| token.place)
    }

    /// The next token, whatever it is.
    pub fn take(&mut self, expected: &str) -> Result<Token<'t>, SyntaxError> {
        let token = self.peek().ok_or_else(|| {
            SyntaxError::new(self.end, format_args!("expected {expected}, found the end of the entry"))
        })?;
        self.skip();
        Ok(token)
    }

    /// All tokens that are left, at least one.
    pub fn rest(&mut self, expected: &str) -> Result<&'e [Token<'t>], SyntaxError> {
        if self.tokens.is_empty() {
            self.take(expected)?;
        }
        Ok(std::mem::take(&mut self.tokens))
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), SyntaxError> {
        match self.peek() {
            Some(token) => Err(SyntaxError::expected(token.place, "the end of the entry", token.text)),
            None => Ok(()),
        }
    }

    pub fn name(&mut self, expected: &str, origin: &Name) -> Result<Name, SyntaxError> {
        let token = self.take(expected)?;
        if token.quoted {
            let expected = format_args!("{expected} without quotes");
            return Err(SyntaxError::expected(token.place, expected, token.text));
        }
        Name::from_text(token.text, Some(origin)).map_err(|error: NameError| {
            let what = format_args!("expected {expected}, found {}: {error}", Quoted(token.text));
            SyntaxError::new(token.place, what)
        })
    }

    /// What `read` makes of the next token.
    pub fn read<T>(
        &mut self,
        expected: &str,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, SyntaxError> {
        let token = self.take(expected)?;
        read(token.text).ok_or_else(|| SyntaxError::expected(token.place, expected, token.text))
    }

    /// Seconds, plain or with units: `3600`, `1h30m`.
    pub fn seconds(&mut self, expected: &str) -> Result<u32, SyntaxError> {
        self.read(expected, seconds)
    }

    pub fn string(&mut self, expected: &str) -> Result<Vec<u8>, SyntaxError> {
        string(self.take(expected)?)
    }
}

/// The octets of a string, escapes resolved.
pub fn string(token: Token<'_>) -> Result<Vec<u8>, SyntaxError> {
    let mut octets = Vec::with_capacity(token.text.len());
    let mut at = 0;
    while at < token.text.len() {
        let Some((octet, next)) = unescape(token.text, at) else {
            let expected = "\\DDD (000 to 255) or \\X in a string";
            return Err(SyntaxError::expected(token.place, expected, &token.text[at..]));
        };
        octets.push(octet);
        at = next;
    }
    Ok(octets)
}

/// A value in the form that Rust's own parser reads.
pub fn parsed<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Digits only: `parse` alone would accept a sign.
pub fn decimal<N: FromStr>(text: &[u8]) -> Option<N> {
    if text.iter().all(u8::is_ascii_digit) { parsed(text) } else { None }
}

/// Seconds, plain or as a row of numbers with units (w, d, h, m, s in either case).
pub fn seconds(text: &[u8]) -> Option<u32> {
    if let Some(plain) = decimal::<u32>(text) {
        return Some(plain).filter(|seconds| *seconds <= TTL_MAX_S);
    }
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for octet in text {
        match octet {
            b'0'..=b'9' => {
                let digit = u64::from(octet - b'0');
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            }
            unit => {
                let unit = match unit.to_ascii_lowercase() {
                    b'w' => 604_800,
                    b'd' => 86_400,
                    b'h' => 3_600,
                    b'm' => 60,
                    b's' => 1,
                    _ => return None,
                };
                total = total.checked_add(number.take()?.checked_mul(unit)?)?;
            }
        }
    }
    let whole = number.is_none() && !text.is_empty();
    u32::try_from(total).ok().filter(|seconds| whole && *seconds <= TTL_MAX_S)
}
