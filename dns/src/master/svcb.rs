//! Service parameters of SVCB and HTTPS in text (RFC 9460 section 2.1 and appendix A): `KEY=VALUE`, `KEY="VALUE"` or `KEY`
//! in any order, written in the order of their numbers.

use super::fields::{Fields, decimal, string};
use super::lexer::Token;
use super::{Place, SyntaxError};
use data_encoding::BASE64;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The keys with names (IANA registry "Service Parameter Keys (SvcParamKeys)"), at their numbers.
const KEYS: [&str; 10] = [
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
    "tls-supported-groups",
];
const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const EXPECTED: &str = "service parameters as KEY=VALUE";

/// Reads all parameters that are left and appends their octets.
pub fn read(fields: &mut Fields<'_, '_>, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
    let mut all: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    let start = fields.place();
    while fields.peek().is_some() {
        let token = fields.take(EXPECTED)?;
        let (key, text) = parameter(token, fields)?;
        let refuse = |what: &str| SyntaxError::expected(token.place, what, token.text);
        let value = value(key, text.as_deref()).map_err(refuse)?;
        if all.insert(key, value).is_some() {
            return Err(SyntaxError::new(token.place, format_args!("{} is given twice", name_of(key))));
        }
    }
    consistent(&all, start)?;
    for (key, value) in all {
        let length = u16::try_from(value.len())
            .map_err(|_| SyntaxError::new(start, format_args!("{} is too long", name_of(key))))?;
        out.extend(key.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(value);
    }
    Ok(())
}

/// The key and the value's octets; the value may stand in quotes right behind the `=`.
fn parameter(token: Token<'_>, fields: &mut Fields<'_, '_>) -> Result<(u16, Option<Vec<u8>>), SyntaxError> {
    let equals = token.text.iter().position(|octet| *octet == b'=');
    let name = &token.text[..equals.unwrap_or(token.text.len())];
    let key = key(name)
        .filter(|_| !token.quoted)
        .ok_or_else(|| SyntaxError::expected(token.place, "the key of a service parameter", token.text))?;
    let Some(equals) = equals else { return Ok((key, None)) };
    let behind = u32::try_from(token.text.len()).map_or(u32::MAX, |bytes| token.place.column + bytes);
    let value = match fields.peek() {
        Some(quoted)
            if equals + 1 == token.text.len()
                && quoted.quoted
                && quoted.place == (Place { column: behind, ..token.place }) =>
        {
            fields.skip();
            quoted
        }
        _ => Token { text: &token.text[equals + 1..], ..token },
    };
    Ok((key, Some(string(value)?)))
}

fn key(name: &[u8]) -> Option<u16> {
    let known = KEYS.iter().position(|known| known.as_bytes() == name);
    let numbered = || {
        let digits = name.strip_prefix(b"key")?;
        let plain = digits == b"0" || !digits.starts_with(b"0");
        decimal::<u16>(digits).filter(|number| plain && *number < u16::MAX)
    };
    known.and_then(|at| u16::try_from(at).ok()).or_else(numbered)
}

fn name_of(key: u16) -> String {
    KEYS.get(usize::from(key)).map_or_else(|| format!("key{key}"), ToString::to_string)
}

/// The octets of a value; the error says what was expected.
fn value(key: u16, text: Option<&[u8]>) -> Result<Vec<u8>, &'static str> {
    let some = || text.filter(|text| !text.is_empty());
    match key {
        MANDATORY => some().and_then(keys).ok_or("mandatory= and different keys with ',' between"),
        ALPN => some().and_then(protocols).ok_or("alpn= and protocols with ',' between"),
        NO_DEFAULT_ALPN | 8 => {
            if some().is_none() {
                Ok(Vec::new())
            } else {
                Err("this key without a value")
            }
        }
        3 => {
            let port = some().and_then(decimal::<u16>);
            Ok(port.ok_or("port= and a number from 0 to 65535")?.to_be_bytes().into())
        }
        4 => {
            let octets = some().and_then(|text| list(text, |one: Ipv4Addr| one.octets().to_vec()));
            octets.ok_or("ipv4hint= and IPv4 addresses with ',' between")
        }
        5 => some().and_then(|text| BASE64.decode(text).ok()).ok_or("ech= and base64"),
        6 => {
            let octets = some().and_then(|text| list(text, |one: Ipv6Addr| one.octets().to_vec()));
            octets.ok_or("ipv6hint= and IPv6 addresses with ',' between")
        }
        // RFC 9461 section 5: a relative URI template with the variable `dns`.
        7 => {
            let good = some().filter(|text| {
                let text = String::from_utf8_lossy(text);
                text.starts_with('/') && text.contains("{?dns}")
            });
            good.map(<[u8]>::to_vec).ok_or("dohpath= and a path with {?dns}")
        }
        9 => {
            let octets = some().and_then(|text| list(text, |one: u16| one.to_be_bytes().to_vec()));
            octets.ok_or("tls-supported-groups= and numbers with ',' between")
        }
        _ => Ok(text.unwrap_or_default().to_vec()),
    }
}

fn list<T: std::str::FromStr>(text: &[u8], octets: impl Fn(T) -> Vec<u8>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let items: Option<Vec<Vec<u8>>> = text.split(',').map(|item| item.parse().ok().map(&octets)).collect();
    items.map(|items| items.concat())
}

fn keys(text: &[u8]) -> Option<Vec<u8>> {
    let mut all: Vec<u16> = text.split(|octet| *octet == b',').map(key).collect::<Option<_>>()?;
    all.sort_unstable();
    let different = all.windows(2).all(|pair| pair[0] != pair[1]) && !all.contains(&MANDATORY);
    different.then(|| all.iter().flat_map(|key| key.to_be_bytes()).collect())
}

/// Protocols behind their lengths. Within one, `\,` and `\\` stand for themselves (RFC 9460 appendix A.1).
fn protocols(text: &[u8]) -> Option<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut octets = text.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b',' => items.push(Vec::new()),
            b'\\' => items.last_mut()?.push(*octets.next().filter(|next| matches!(next, b',' | b'\\'))?),
            plain => items.last_mut()?.push(plain),
        }
    }
    let mut out = Vec::new();
    for item in items {
        out.push(u8::try_from(item.len()).ok().filter(|length| *length > 0)?);
        out.extend(item);
    }
    Some(out)
}

/// What must hold between parameters (RFC 9460 sections 7.1 and 8).
fn consistent(all: &BTreeMap<u16, Vec<u8>>, place: Place) -> Result<(), SyntaxError> {
    if all.contains_key(&NO_DEFAULT_ALPN) && !all.contains_key(&ALPN) {
        return Err(SyntaxError::new(place, "no-default-alpn is given without alpn"));
    }
    let mandatory = all.get(&MANDATORY).map_or(&[][..], Vec::as_slice);
    for pair in mandatory.chunks_exact(2) {
        let key = u16::from_be_bytes([pair[0], pair[1]]);
        if !all.contains_key(&key) {
            return Err(SyntaxError::new(place, format_args!("{} is mandatory but not given", name_of(key))));
        }
    }
    Ok(())
}
