//! Reads the data of one record from the tokens behind its type.

use super::lexer::{Entry, Token};
use super::{Place, SyntaxError};
use crate::wire::name::unescape;
use crate::wire::{Name, NameError, RecordType};
use crate::zone::{Rdata, Soa};
use std::net::{Ipv4Addr, Ipv6Addr};

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

    /// The next token, whatever it is.
    pub fn take(&mut self, expected: &str) -> Result<Token<'t>, SyntaxError> {
        let token = self.peek().ok_or_else(|| {
            SyntaxError::new(self.end, format_args!("expected {expected}, found the end of the entry"))
        })?;
        self.skip();
        Ok(token)
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
        name(token, expected, origin)
    }

    fn number<N: std::str::FromStr>(&mut self, expected: &str) -> Result<N, SyntaxError> {
        let token = self.take(expected)?;
        decimal(token.text).ok_or_else(|| SyntaxError::expected(token.place, expected, token.text))
    }

    /// Seconds, plain or with units: `3600`, `1h30m`.
    pub fn seconds(&mut self, expected: &str) -> Result<u32, SyntaxError> {
        let token = self.take(expected)?;
        seconds(token.text).ok_or_else(|| SyntaxError::expected(token.place, expected, token.text))
    }

    fn parsed<T: std::str::FromStr>(&mut self, expected: &str) -> Result<T, SyntaxError> {
        let token = self.take(expected)?;
        let text = std::str::from_utf8(token.text).ok();
        let value = text.and_then(|text| text.parse().ok());
        value.ok_or_else(|| SyntaxError::expected(token.place, expected, token.text))
    }
}

/// Reads the data of a record of `record_type`; every field of the entry is used, or it is an error.
pub fn rdata(
    record_type: RecordType,
    fields: &mut Fields<'_, '_>,
    origin: &Name,
) -> Result<Rdata, SyntaxError> {
    let data = match fields.peek() {
        Some(Token { text: b"\\#", quoted: false, place }) => {
            fields.skip();
            let octets = generic(fields)?;
            Rdata::from_wire(record_type, &octets)
                .map_err(|expected| SyntaxError::new(place, format_args!("expected {expected}")))?
        }
        first => own_form(record_type, fields, origin, first)?,
    };
    fields.finish()?;
    Ok(data)
}

fn own_form(
    record_type: RecordType,
    fields: &mut Fields<'_, '_>,
    origin: &Name,
    first: Option<Token<'_>>,
) -> Result<Rdata, SyntaxError> {
    let plain = |octets: &[u8]| Rdata::Plain(octets.into());
    Ok(match record_type {
        RecordType::A => plain(&fields.parsed::<Ipv4Addr>("an IPv4 address")?.octets()),
        RecordType::AAAA => plain(&fields.parsed::<Ipv6Addr>("an IPv6 address")?.octets()),
        RecordType::NS => Rdata::Name(fields.name("the name of a server", origin)?),
        RecordType::CNAME => Rdata::Name(fields.name("the canonical name", origin)?),
        RecordType::PTR => Rdata::Name(fields.name("a name", origin)?),
        RecordType::MX => Rdata::Mx {
            preference: fields.number("a preference from 0 to 65535")?,
            exchange: fields.name("the name of a mail server", origin)?,
        },
        RecordType::SRV => Rdata::Srv {
            priority: fields.number("a priority from 0 to 65535")?,
            weight: fields.number("a weight from 0 to 65535")?,
            port: fields.number("a port from 0 to 65535")?,
            target: fields.name("the name of a host", origin)?,
        },
        RecordType::SOA => soa(fields, origin)?,
        RecordType::TXT => txt(fields)?,
        RecordType::CAA => caa(fields)?,
        other => {
            let place = first.map_or(fields.end, |token| token.place);
            let what = format_args!("expected \\# and octets in hexadecimal: {other} has no text form here");
            return Err(SyntaxError::new(place, what));
        }
    })
}

fn soa(fields: &mut Fields<'_, '_>, origin: &Name) -> Result<Rdata, SyntaxError> {
    Ok(Rdata::Soa(Box::new(Soa {
        primary: fields.name("the name of the primary server", origin)?,
        mailbox: fields.name("the mailbox of the person in charge", origin)?,
        serial: fields.number("a serial from 0 to 4294967295")?,
        refresh: fields.seconds("the refresh time")?,
        retry: fields.seconds("the retry time")?,
        expire: fields.seconds("the expiry time")?,
        minimum: fields.seconds("the negative caching time")?,
    })))
}

fn txt(fields: &mut Fields<'_, '_>) -> Result<Rdata, SyntaxError> {
    let mut octets = Vec::new();
    let mut next = Some(fields.take("a string")?);
    while let Some(token) = next {
        let text = string(token)?;
        let Ok(length) = u8::try_from(text.len()) else {
            let what = format_args!("a string of {} octets; at most 255 fit: split it", text.len());
            return Err(SyntaxError::new(token.place, what));
        };
        octets.push(length);
        octets.extend_from_slice(&text);
        if octets.len() > usize::from(u16::MAX) {
            return Err(SyntaxError::new(token.place, "the record is longer than 65535 octets"));
        }
        next = fields.peek();
        fields.skip();
    }
    Ok(Rdata::Plain(octets.into()))
}

fn caa(fields: &mut Fields<'_, '_>) -> Result<Rdata, SyntaxError> {
    let flags: u8 = fields.number("flags from 0 to 255")?;
    let expected = "a tag of letters and digits";
    let tag = fields.take(expected)?;
    let length = u8::try_from(tag.text.len()).ok().filter(|length| *length > 0);
    let good = tag.text.iter().all(u8::is_ascii_alphanumeric);
    let length =
        length.filter(|_| good).ok_or_else(|| SyntaxError::expected(tag.place, expected, tag.text))?;
    let value = fields.take("a value")?;
    let text = string(value)?;
    let mut octets = vec![flags, length];
    octets.extend_from_slice(tag.text);
    octets.extend_from_slice(&text);
    if octets.len() > usize::from(u16::MAX) {
        return Err(SyntaxError::new(value.place, "the record is longer than 65535 octets"));
    }
    Ok(Rdata::Plain(octets.into()))
}

/// RFC 3597 section 5: a length, then that many octets in hexadecimal, in any number of words.
fn generic(fields: &mut Fields<'_, '_>) -> Result<Vec<u8>, SyntaxError> {
    let expected = "a length from 0 to 65535";
    let length_token = fields.take(expected)?;
    let length: u16 = decimal(length_token.text)
        .ok_or_else(|| SyntaxError::expected(length_token.place, expected, length_token.text))?;
    let mut octets = Vec::with_capacity(usize::from(length));
    while let Some(token) = fields.peek() {
        fields.skip();
        // Each word holds whole octets, as BIND wants it too; a lost digit is noticed where it was lost.
        for pair in token.text.chunks(2) {
            let octet = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2 && !p.starts_with('+'));
            let octet = octet
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| SyntaxError::expected(token.place, "octets in hexadecimal", token.text))?;
            octets.push(octet);
        }
        if octets.len() > usize::from(length) {
            break;
        }
    }
    if octets.len() == usize::from(length) {
        return Ok(octets);
    }
    let found =
        if octets.len() > usize::from(length) { "more".to_string() } else { octets.len().to_string() };
    Err(SyntaxError::new(length_token.place, format_args!("expected {length} octets, found {found}")))
}

/// A name, with the place of the token for its errors.
pub fn name(token: Token<'_>, expected: &str, origin: &Name) -> Result<Name, SyntaxError> {
    if token.quoted {
        return Err(SyntaxError::expected(
            token.place,
            format_args!("{expected} without quotes"),
            token.text,
        ));
    }
    Name::from_text(token.text, Some(origin)).map_err(|error: NameError| {
        let what = format_args!("expected {expected}, found {}: {error}", super::Quoted(token.text));
        SyntaxError::new(token.place, what)
    })
}

/// The octets of a string, escapes resolved.
fn string(token: Token<'_>) -> Result<Vec<u8>, SyntaxError> {
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

/// Digits only: `parse` alone would accept a sign.
fn decimal<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()))?;
    text.parse().ok()
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
