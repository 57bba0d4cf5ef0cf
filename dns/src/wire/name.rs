//! Domain names: stored uncompressed as they appear on the wire, compared without regard to ASCII case (RFC 4343),
//! printed with the escapes of master files. The case they were written in is kept.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest name on the wire, length octets and root included (RFC 1035 section 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// The longest label (RFC 1035 section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A fully qualified domain name.
#[derive(Clone)]
pub struct Name {
    /// Length-prefixed labels and the root's zero octet; never empty, never over [`NAME_BYTES_MAX`].
    wire: Box<[u8]>,
}

/// Why bytes or text are not a domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name runs past the end of the message")]
    Short,
    #[error("the label type is not one of RFC 1035")]
    LabelType,
    #[error("a compression pointer is not allowed here or does not point backwards")]
    Pointer,
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    #[error("the name is longer than 255 octets")]
    TooLong,
    #[error("a label is empty")]
    EmptyLabel,
    #[error("an escape is not \\DDD (000 to 255) or \\X")]
    Escape,
    #[error("the name is relative and there is no origin")]
    NoOrigin,
}

impl Name {
    /// The root of the name space.
    pub fn root() -> Name {
        Name { wire: Box::new([0]) }
    }

    /// Reads a whole, uncompressed name that fills `wire` exactly.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        let (name, end) = Name::read_plain(wire, 0)?;
        if end == wire.len() { Ok(name) } else { Err(NameError::TooLong) }
    }

    /// Reads an uncompressed name at `at`; returns it and the offset behind it. Pointers are errors.
    pub fn read_plain(bytes: &[u8], at: usize) -> Result<(Name, usize), NameError> {
        let mut end = at;
        loop {
            let length = usize::from(*bytes.get(end).ok_or(NameError::Short)?);
            match length {
                0 => break,
                1..=LABEL_BYTES_MAX => end += 1 + length,
                0xC0..=0xFF => return Err(NameError::Pointer),
                _ => return Err(NameError::LabelType),
            }
            if end - at >= NAME_BYTES_MAX {
                return Err(NameError::TooLong);
            }
        }
        let wire = bytes.get(at..=end).ok_or(NameError::Short)?;
        Ok((Name { wire: wire.into() }, end + 1))
    }

    /// Skips a possibly compressed name at `at`; returns the offset behind it. Where a pointer leads is not followed:
    /// nothing we read after the question needs the name itself, and not following cannot loop.
    pub fn skip(bytes: &[u8], at: usize) -> Result<usize, NameError> {
        let mut end = at;
        loop {
            let length = usize::from(*bytes.get(end).ok_or(NameError::Short)?);
            match length {
                0 => return Ok(end + 1),
                1..=LABEL_BYTES_MAX => end += 1 + length,
                0xC0..=0xFF => {
                    let low = usize::from(*bytes.get(end + 1).ok_or(NameError::Short)?);
                    let target = ((length & 0x3F) << 8) | low;
                    return if target < at { Ok(end + 2) } else { Err(NameError::Pointer) };
                }
                _ => return Err(NameError::LabelType),
            }
            if end - at >= NAME_BYTES_MAX {
                return Err(NameError::TooLong);
            }
        }
    }

    /// Reads the text form of master files: dots between labels, `\.` and `\DDD` escapes, `@` for the origin, and names
    /// without a final dot relative to `origin`.
    pub fn from_text(text: &[u8], origin: Option<&Name>) -> Result<Name, NameError> {
        match text {
            b"@" => return origin.cloned().ok_or(NameError::NoOrigin),
            b"." => return Ok(Name::root()),
            b"" => return Err(NameError::EmptyLabel),
            _ => {}
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label = Vec::with_capacity(LABEL_BYTES_MAX);
        let mut at = 0;
        let mut absolute = false;
        while at < text.len() {
            absolute = text[at] == b'.';
            if absolute {
                push_label(&mut wire, &mut label)?;
                at += 1;
            } else {
                let (octet, next) = unescape(text, at).ok_or(NameError::Escape)?;
                label.push(octet);
                at = next;
            }
        }
        if absolute {
            wire.push(0);
        } else {
            push_label(&mut wire, &mut label)?;
            wire.extend_from_slice(&origin.ok_or(NameError::NoOrigin)?.wire);
        }
        if wire.len() > NAME_BYTES_MAX { Err(NameError::TooLong) } else { Ok(Name { wire: wire.into() }) }
    }

    /// The name on the wire, uncompressed, with the root's zero octet.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels from the leftmost to the one below the root.
    pub fn labels(&self) -> Labels<'_> {
        Labels { rest: &self.wire }
    }

    /// How many labels stand before the root.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// This name without its `skip` leftmost labels; the root when there are not that many.
    pub fn suffix(&self, skip: usize) -> Name {
        let mut labels = self.labels();
        for _ in 0..skip {
            labels.next();
        }
        Name { wire: labels.rest.into() }
    }

    /// Whether this name is `other` or lies below it.
    pub fn is_within(&self, other: &Name) -> bool {
        let Some(cut) = self.wire.len().checked_sub(other.wire.len()) else { return false };
        let mut labels = self.labels();
        while self.wire.len() - labels.rest.len() < cut {
            labels.next();
        }
        labels.rest.eq_ignore_ascii_case(&other.wire)
    }

    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// This name with the end `from` replaced by `to`, as a DNAME asks for (RFC 6672 section 2.2). It must be within `from`;
    /// fails when the result would be too long.
    pub fn redirected(&self, from: &Name, to: &Name) -> Result<Name, NameError> {
        let kept = &self.wire[..self.wire.len().saturating_sub(from.wire.len())];
        let wire = [kept, to.wire()].concat();
        if wire.len() > NAME_BYTES_MAX { Err(NameError::TooLong) } else { Ok(Name { wire: wire.into() }) }
    }

    /// Whether the leftmost label is `*` (RFC 4592 section 2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.wire.starts_with(b"\x01*")
    }

    /// Lower-case wire form: the key of this name in maps.
    pub fn key(&self) -> Box<[u8]> {
        self.wire.to_ascii_lowercase().into()
    }
}

/// Appends `label` with its length to `wire` and empties it.
fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    let length = match label.len() {
        0 => return Err(NameError::EmptyLabel),
        1..=LABEL_BYTES_MAX => u8::try_from(label.len()).map_err(|_| NameError::LabelTooLong)?,
        _ => return Err(NameError::LabelTooLong),
    };
    wire.push(length);
    wire.append(label);
    // Text is bounded only by the file, so the check stands here too.
    if wire.len() >= NAME_BYTES_MAX { Err(NameError::TooLong) } else { Ok(()) }
}

/// One octet of master-file text at `at`, `\DDD` and `\X` resolved, and the offset behind it.
pub fn unescape(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let octet = *text.get(at)?;
    if octet != b'\\' {
        return Some((octet, at + 1));
    }
    let next = *text.get(at + 1)?;
    if !next.is_ascii_digit() {
        return Some((next, at + 2));
    }
    let digits = text.get(at + 1..at + 4)?;
    let value = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|c| c.is_ascii_digit()))?;
    Some((value.parse::<u8>().ok()?, at + 4))
}

/// The labels of a name, leftmost first.
#[derive(Debug, Clone)]
pub struct Labels<'n> {
    rest: &'n [u8],
}

impl<'n> Iterator for Labels<'n> {
    type Item = &'n [u8];

    fn next(&mut self) -> Option<&'n [u8]> {
        let length = usize::from(*self.rest.first()?);
        if length == 0 {
            return None;
        }
        let (label, rest) = self.rest[1..].split_at(length);
        self.rest = rest;
        Some(label)
    }
}

// Length octets are at most 63 and letters start at 65, so folding the whole wire form folds the labels only.
impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in &self.wire {
            state.write_u8(octet.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", octet as char)?;
                    }
                    0x21..=0x7E => write!(f, "{}", octet as char)?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expected: &str) {
        let origin = Name::from_text(b"example.com.", None).unwrap();
        let got = match Name::from_text(text.as_bytes(), Some(&origin)) {
            Ok(name) => {
                let again = Name::from_text(name.to_string().as_bytes(), None).unwrap();
                assert_eq!(again, name, "what is printed reads back");
                assert_eq!(Name::from_wire(name.wire()).unwrap(), name);
                name.to_string()
            }
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn relative_names_take_the_origin() {
        check_text("www", "www.example.com.");
    }
    #[test]
    fn at_is_the_origin() {
        check_text("@", "example.com.");
    }
    #[test]
    fn a_final_dot_makes_it_absolute() {
        check_text("www.example.org.", "www.example.org.");
    }
    #[test]
    fn a_dot_alone_is_the_root() {
        check_text(".", ".");
    }
    #[test]
    fn case_is_kept() {
        check_text("WwW.Example.ORG.", "WwW.Example.ORG.");
    }
    #[test]
    fn an_escaped_dot_stays_in_its_label() {
        check_text("john\\.doe", "john\\.doe.example.com.");
    }
    #[test]
    fn decimal_escapes() {
        check_text("a\\000b\\255.", "a\\000b\\255.");
    }
    #[test]
    fn an_escaped_final_dot_is_not_absolute() {
        check_text("a\\.", "a\\..example.com.");
    }
    #[test]
    fn bad_escapes() {
        check_text("a\\256.", "Escape");
        check_text("a\\25", "Escape");
        check_text("a\\", "Escape");
    }
    #[test]
    fn empty_labels() {
        check_text("a..b", "EmptyLabel");
        check_text(".a", "EmptyLabel");
        check_text("", "EmptyLabel");
    }
    #[test]
    fn limits() {
        let label = "a".repeat(63);
        check_text(&format!("{label}."), &format!("{label}."));
        check_text(&format!("{label}a."), "LabelTooLong");
        let longest = format!("{label}.{label}.{label}.{}.", "a".repeat(61));
        check_text(&longest, &longest);
        check_text(&format!("{label}.{label}.{label}.{}.", "a".repeat(62)), "TooLong");
    }
    #[test]
    fn without_an_origin() {
        assert_eq!(Name::from_text(b"www", None), Err(NameError::NoOrigin));
        assert_eq!(Name::from_text(b"@", None), Err(NameError::NoOrigin));
    }

    #[track_caller]
    fn check_within(name: &str, zone: &str, expected: bool) {
        let name = Name::from_text(name.as_bytes(), None).unwrap();
        let zone = Name::from_text(zone.as_bytes(), None).unwrap();
        assert_eq!(name.is_within(&zone), expected);
    }

    #[test]
    fn within() {
        check_within("a.b.c.", "b.c.", true);
        check_within("B.C.", "b.c.", true);
        check_within("xb.c.", "b.c.", false);
        check_within("c.", "b.c.", false);
        check_within("a.", ".", true);
        // The octets of a label may look like a shorter name: only label boundaries count.
        check_within("a\\001b\\001c.", "c.", false);
    }

    #[test]
    fn names_are_equal_without_case() {
        let lower = Name::from_text(b"a.example.", None).unwrap();
        let upper = Name::from_text(b"A.EXAMPLE.", None).unwrap();
        assert_eq!(lower, upper);
        assert_eq!(lower.key(), upper.key());
    }

    #[test]
    fn pointers_only_backwards() {
        assert_eq!(Name::skip(b"\x01a\xC0\x00", 0), Err(NameError::Pointer));
        assert_eq!(Name::skip(b"\0\0\x01a\xC0\x00", 2), Ok(6));
        assert_eq!(Name::skip(b"\xC0", 0), Err(NameError::Short));
        assert_eq!(Name::skip(b"\x40a", 0), Err(NameError::LabelType));
        assert_eq!(Name::read_plain(b"\x01a\xC0\x00", 0), Err(NameError::Pointer));
    }
}
