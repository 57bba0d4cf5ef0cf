//! Reads the data of one record: field by field as the type's shape says, from text to octets.

use super::fields::{Fields, decimal, parsed, string};
use super::lexer::Token;
use super::{SyntaxError, location, svcb};
use crate::wire::shape::{self, Field};
use crate::wire::{Name, RecordType};
use crate::zone::Rdata;
use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXLOWER_PERMISSIVE};
use std::net::{Ipv4Addr, Ipv6Addr};

/// DNSSEC algorithms by mnemonic (IANA registry "DNS Security Algorithm Numbers").
const ALGORITHMS: [(&str, u8); 16] = [
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("NSEC3DSA", 6),
    ("DSA-NSEC3-SHA1", 6),
    ("NSEC3RSASHA1", 7),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("PRIVATEDNS", 253),
];

/// Kinds of certificates by mnemonic (RFC 4398 section 2.1).
const CERTIFICATES: [(&str, u16); 10] = [
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// Reads the data of a record of `record_type`; every field of the entry is used, or it is an error.
pub fn rdata(
    record_type: RecordType,
    fields: &mut Fields<'_, '_>,
    origin: &Name,
) -> Result<Rdata, SyntaxError> {
    let place = fields.place();
    let octets = match (fields.peek(), shape::of(record_type)) {
        (Some(Token { text: b"\\#", quoted: false, .. }), _) => {
            fields.skip();
            generic(fields)?
        }
        (_, Some(shape)) => own_form(shape, fields, origin)?,
        (_, None) => {
            let what =
                format_args!("expected \\# and octets in hexadecimal: {record_type} has no text form here");
            return Err(SyntaxError::new(place, what));
        }
    };
    fields.finish()?;
    if octets.len() > usize::from(u16::MAX) {
        return Err(SyntaxError::new(place, "the record is longer than 65535 octets"));
    }
    Rdata::from_wire(record_type, &octets)
        .map_err(|expected| SyntaxError::new(place, format_args!("expected {expected}")))
}

fn own_form(shape: &[Field], fields: &mut Fields<'_, '_>, origin: &Name) -> Result<Vec<u8>, SyntaxError> {
    let mut out = Vec::new();
    for field in shape {
        read(*field, fields, origin, &mut out)?;
    }
    Ok(out)
}

fn read(
    field: Field,
    fields: &mut Fields<'_, '_>,
    origin: &Name,
    out: &mut Vec<u8>,
) -> Result<(), SyntaxError> {
    let expected = field.expected();
    match field {
        Field::Name(_) => out.extend(fields.name(expected, origin)?.wire()),
        Field::U8(_) => out.push(fields.read(expected, decimal)?),
        Field::U16(_) => out.extend(fields.read(expected, decimal::<u16>)?.to_be_bytes()),
        Field::U32(_) => out.extend(fields.read(expected, decimal::<u32>)?.to_be_bytes()),
        Field::Seconds(_) => out.extend(fields.seconds(expected)?.to_be_bytes()),
        Field::Ipv4 => out.extend(fields.read(expected, parsed::<Ipv4Addr>)?.octets()),
        Field::Ipv6 => out.extend(fields.read(expected, parsed::<Ipv6Addr>)?.octets()),
        Field::Algorithm => out.push(fields.read(expected, |text| named(text, &ALGORITHMS))?),
        Field::CertificateType => {
            out.extend(fields.read(expected, |text| named(text, &CERTIFICATES))?.to_be_bytes());
        }
        Field::TypeCovered => out.extend(fields.read(expected, RecordType::from_text)?.0.to_be_bytes()),
        Field::Time(_) => out.extend(fields.read(expected, time)?.to_be_bytes()),
        Field::Text(_) => counted(fields.take(expected)?, out)?,
        Field::Texts => fields.rest(expected)?.iter().try_for_each(|token| counted(*token, out))?,
        Field::Value(_) => out.extend(fields.string(expected)?),
        Field::Tag => {
            let tag = fields.read(expected, |text| {
                let good = !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric);
                good.then(|| text.to_vec())
            })?;
            out.push(u8::try_from(tag.len()).unwrap_or(0));
            out.extend(tag);
        }
        Field::Hex(_) => out.extend(joined(fields, expected, hex)?),
        Field::Base64(_) => out.extend(joined(fields, expected, base64)?),
        Field::Salt => out.extend(fields.read(expected, |text| prefixed(text, hex))?),
        Field::Hash => out.extend(fields.read(expected, |text| prefixed(text, base32))?),
        Field::Types => types(fields, out)?,
        Field::Pairs(bytes) => out.extend(fields.read(expected, |text| pairs(text, bytes))?),
        Field::Groups => out.extend(fields.read(expected, groups)?),
        Field::Location => out.extend(location::read(fields)?),
        Field::Prefixes => {
            while fields.peek().is_some() {
                out.extend(fields.read(expected, prefix)?);
            }
        }
        Field::Gateway => gateway(fields, origin, out)?,
        Field::HostIdentity => host_identity(fields, origin, out)?,
        Field::Parameters => svcb::read(fields, out)?,
    }
    Ok(())
}

/// A number, or the mnemonic of one.
fn named<N: Copy + std::str::FromStr>(text: &[u8], names: &[(&str, N)]) -> Option<N> {
    let known = names.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(text));
    known.map(|(_, number)| *number).or_else(|| decimal(text))
}

/// A string behind its length.
fn counted(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
    let text = string(token)?;
    let Ok(length) = u8::try_from(text.len()) else {
        let what = format_args!("a string of {} octets; at most 255 fit: split it", text.len());
        return Err(SyntaxError::new(token.place, what));
    };
    out.push(length);
    out.extend(text);
    Ok(())
}

/// All words that are left, as one.
fn joined(
    fields: &mut Fields<'_, '_>,
    expected: &str,
    decode: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, SyntaxError> {
    let tokens = fields.rest(expected)?;
    let text: Vec<u8> = tokens.iter().flat_map(|token| token.text).copied().collect();
    let place = tokens[0].place;
    decode(&text)
        .filter(|octets| !octets.is_empty())
        .ok_or_else(|| SyntaxError::expected(place, expected, &text))
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text).ok()
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

fn base32(text: &[u8]) -> Option<Vec<u8>> {
    BASE32HEX_NOPAD.decode(&text.to_ascii_uppercase()).ok().filter(|octets| !octets.is_empty())
}

/// Octets behind their length; `-` is none.
fn prefixed(text: &[u8], decode: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let octets = if text == b"-" { Vec::new() } else { decode(text)? };
    let mut all = vec![u8::try_from(octets.len()).ok()?];
    all.extend(octets);
    Some(all)
}

/// Seconds since 1970, modulo 2^32, or a date.
fn time(text: &[u8]) -> Option<u32> {
    if text.len() != 14 {
        return decimal(text);
    }
    let number = |range: std::ops::Range<usize>| decimal::<i64>(&text[range]);
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(8..10)?, number(10..12)?, number(12..14)?);
    let good = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !good || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 in the proleptic Gregorian calendar, with the year begun in March so that leap days end it.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some((seconds & 0xFFFF_FFFF) as u32)
}

/// A bitmap of types in windows (RFC 4034 section 4.1.2).
fn types(fields: &mut Fields<'_, '_>, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
    let mut all = Vec::new();
    while fields.peek().is_some() {
        all.push(fields.read(Field::Types.expected(), RecordType::from_text)?.0);
    }
    all.sort_unstable();
    for of_window in all.chunk_by(|one, other| one >> 8 == other >> 8) {
        let mut bits = [0u8; 32];
        let mut bytes = 0;
        for number in of_window {
            let at = usize::from(number & 0xFF);
            bits[at / 8] |= 0x80 >> (at % 8);
            bytes = at / 8 + 1;
        }
        out.push((of_window[0] >> 8) as u8);
        out.push(bytes as u8);
        out.extend(&bits[..bytes]);
    }
    Ok(())
}

/// Pairs of hexadecimal digits with `-` between.
fn pairs(text: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let pairs: Vec<&[u8]> = text.split(|octet| *octet == b'-').collect();
    let good = pairs.len() == bytes && pairs.iter().all(|pair| pair.len() == 2);
    if good { hex(&pairs.concat()) } else { None }
}

/// Four groups of one to four hexadecimal digits with `:` between.
fn groups(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(8);
    for group in text.split(|octet| *octet == b':') {
        let group = std::str::from_utf8(group).ok().filter(|group| (1..=4).contains(&group.len()))?;
        let digits = group.bytes().all(|digit| digit.is_ascii_hexdigit());
        octets.extend(u16::from_str_radix(group, 16).ok().filter(|_| digits)?.to_be_bytes());
    }
    (octets.len() == 8).then_some(octets)
}

/// `[!]FAMILY:ADDRESS/PREFIX`, trailing zeros of the address left out (RFC 3123 section 4).
fn prefix(text: &[u8]) -> Option<Vec<u8>> {
    let (negation, text) = text.strip_prefix(b"!").map_or((0, text), |rest| (0x80, rest));
    let text = std::str::from_utf8(text).ok()?;
    let (family, rest) = text.split_once(':')?;
    let (address, length) = rest.split_once('/')?;
    let length: u8 = decimal(length.as_bytes())?;
    let (family, bits, mut address) = match family {
        "1" => (1u16, 32, address.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
        "2" => (2, 128, address.parse::<Ipv6Addr>().ok()?.octets().to_vec()),
        _ => return None,
    };
    while address.last() == Some(&0) {
        address.pop();
    }
    let mut octets = family.to_be_bytes().to_vec();
    octets.extend([length, negation | address.len() as u8]);
    octets.extend(address);
    (length <= bits).then_some(octets)
}

/// Kind, algorithm, gateway and perhaps a key (RFC 4025 section 3.1).
fn gateway(fields: &mut Fields<'_, '_>, origin: &Name, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
    let kind: u8 = fields.read(Field::Gateway.expected(), |text| decimal(text).filter(|kind| *kind <= 3))?;
    let algorithm: u8 = fields.read("an algorithm from 0 to 255", decimal)?;
    out.extend([kind, algorithm]);
    match kind {
        0 => fields.read("'.' for no gateway", |text| (text == b".").then_some(()))?,
        1 => read(Field::Ipv4, fields, origin, out)?,
        2 => read(Field::Ipv6, fields, origin, out)?,
        _ => read(Field::Name("the name of a gateway"), fields, origin, out)?,
    }
    match fields.peek() {
        None => Ok(()),
        Some(_) => read(Field::Base64("a public key in base64"), fields, origin, out),
    }
}

/// Algorithm, identity, key, then names of servers (RFC 8005 section 6).
fn host_identity(fields: &mut Fields<'_, '_>, origin: &Name, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
    let algorithm: u8 = fields.read("an algorithm from 0 to 255", decimal)?;
    let identity = fields.read("an identity in hexadecimal", |text| {
        hex(text).filter(|octets| (1..=255).contains(&octets.len()))
    })?;
    let key = fields.read("a public key in base64", |text| {
        base64(text).filter(|octets| (1..=65_535).contains(&octets.len()))
    })?;
    out.extend([identity.len() as u8, algorithm]);
    out.extend((key.len() as u16).to_be_bytes());
    out.extend(identity);
    out.extend(key);
    while fields.peek().is_some() {
        read(Field::Name("the name of a rendezvous server"), fields, origin, out)?;
    }
    Ok(())
}

/// RFC 3597 section 5: a length, then that many octets in hexadecimal, in any number of words.
fn generic(fields: &mut Fields<'_, '_>) -> Result<Vec<u8>, SyntaxError> {
    let place = fields.place();
    let length: u16 = fields.read("a length from 0 to 65535", decimal)?;
    let length = usize::from(length);
    let mut octets = Vec::with_capacity(length);
    // Each word holds whole octets, as BIND wants it too; a lost digit is noticed where it was lost.
    while fields.peek().is_some() && octets.len() <= length {
        octets.extend(fields.read("octets in hexadecimal", hex)?);
    }
    let found = match octets.len() {
        found if found == length => return Ok(octets),
        found if found > length => "more".to_string(),
        found => found.to_string(),
    };
    Err(SyntaxError::new(place, format_args!("expected {length} octets, found {found}")))
}
