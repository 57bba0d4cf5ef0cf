//! The text form of LOC records (RFC 1876 section 3):
//! `degrees [minutes [seconds]] N|S  degrees [minutes [seconds]] E|W  altitude [size [horizontal [vertical]]]`.

use super::SyntaxError;
use super::fields::{Fields, decimal};

/// The equator and the prime meridian, in thousandths of an arc second.
const MIDDLE: u32 = 1 << 31;
/// The reference spheroid lies 100 km below; altitudes are centimetres from there.
const ALTITUDE_BASE_CM: i64 = 10_000_000;

/// Reads a location to the end of the entry; gives its 16 octets.
pub fn read(fields: &mut Fields<'_, '_>) -> Result<Vec<u8>, SyntaxError> {
    let latitude = angle(fields, 90, *b"NS", "a latitude: degrees, minutes and seconds, then N or S")?;
    let longitude = angle(fields, 180, *b"EW", "a longitude: degrees, minutes and seconds, then E or W")?;
    let altitude = fields.read("an altitude from -100000.00 to 42849672.95 metres", |text| {
        let text = text.strip_suffix(b"m").unwrap_or(text);
        let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let centimetres = i64::try_from(fixed(text, 2)?).ok()?;
        let centimetres = if negative { -centimetres } else { centimetres };
        u32::try_from(ALTITUDE_BASE_CM.checked_add(centimetres)?).ok()
    })?;
    // A square metre, 10 km and 10 m, where nothing is said.
    let mut sizes = [0x12, 0x16, 0x13];
    for size in &mut sizes {
        if fields.peek().is_some() {
            *size = fields.read("a size from 0.00 to 90000000.00 metres", precision)?;
        }
    }
    let mut octets = vec![0];
    octets.extend(sizes);
    for number in [latitude, longitude, altitude] {
        octets.extend(number.to_be_bytes());
    }
    Ok(octets)
}

fn angle(
    fields: &mut Fields<'_, '_>,
    degrees_max: u64,
    [positive, negative]: [u8; 2],
    expected: &str,
) -> Result<u32, SyntaxError> {
    let place = fields.place();
    let direction = |text: &[u8]| match text {
        [letter] if letter.to_ascii_uppercase() == positive => Some(true),
        [letter] if letter.to_ascii_uppercase() == negative => Some(false),
        _ => None,
    };
    let degrees = fields.read(expected, |text| decimal::<u64>(text).filter(|it| *it <= degrees_max))?;
    let mut total = degrees * 3_600_000;
    let mut parts = [(60_000, 0), (1_000, 3)].into_iter();
    let is_positive = loop {
        let token = fields.take(expected)?;
        if let Some(is_positive) = direction(token.text) {
            break is_positive;
        }
        let part = parts.next().and_then(|(unit, digits)| {
            let scale = 10u64.pow(digits);
            fixed(token.text, digits).filter(|it| *it < 60 * scale).map(|it| it * unit / scale)
        });
        total += part.ok_or_else(|| SyntaxError::expected(token.place, expected, token.text))?;
    };
    let offset = u32::try_from(total).ok().filter(|_| total <= degrees_max * 3_600_000);
    let offset = offset.ok_or_else(|| SyntaxError::new(place, format_args!("expected {expected}")))?;
    Ok(if is_positive { MIDDLE + offset } else { MIDDLE - offset })
}

/// A number with at most `digits` decimal places, as an integer of the smallest of them.
fn fixed(text: &[u8], digits: u32) -> Option<u64> {
    let (whole, fraction) = match text.iter().position(|octet| *octet == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let missing = digits.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let fraction = if fraction.is_empty() { 0 } else { decimal::<u64>(fraction)? };
    decimal::<u64>(whole)?.checked_mul(10u64.pow(digits))?.checked_add(fraction * 10u64.pow(missing))
}

/// A size in metres as a digit and a power of ten of centimetres.
fn precision(text: &[u8]) -> Option<u8> {
    let mut centimetres = fixed(text.strip_suffix(b"m").unwrap_or(text), 2)?;
    let mut exponent = 0;
    while centimetres > 9 {
        centimetres /= 10;
        exponent += 1;
    }
    (exponent <= 9).then_some((centimetres as u8) << 4 | exponent)
}
