//! Writes one message into a buffer, never past its limit, with names compressed against earlier ones.

use super::name::Name;

/// Suffixes remembered for compression. A bound keeps the cost of a large answer linear in its records: a table that
/// grew with the message would be searched in quadratic time.
pub const SUFFIXES_MAX: usize = 32;
/// Pointers hold fourteen bits (RFC 1035 section 4.1.4).
const POINTER_MAX: usize = 0x3FFF;

/// The message would grow over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A message under construction at the end of a buffer, which may already hold other bytes (a TCP length, an earlier
/// message).
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    bytes_max: usize,
    suffixes: [u16; SUFFIXES_MAX],
    suffix_count: usize,
    keeps_case: bool,
}

/// A place to return to when what follows turns out not to fit.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    bytes: usize,
    suffix_count: usize,
}

impl<'b> Writer<'b> {
    /// Starts a message at the end of `out` that will have at most `bytes_max` octets.
    pub fn new(out: &'b mut Vec<u8>, bytes_max: usize) -> Writer<'b> {
        let start = out.len();
        Writer { out, start, bytes_max, suffixes: [0; SUFFIXES_MAX], suffix_count: 0, keeps_case: false }
    }

    /// The same, with pointers to names of the same case only: for whoever stores what it is given (RFC 5936 section 3.4).
    #[must_use]
    pub fn keeping_case(self) -> Writer<'b> {
        Writer { keeps_case: true, ..self }
    }

    /// Octets written so far.
    pub fn bytes(&self) -> usize {
        self.out.len() - self.start
    }

    /// Changes the limit: room for an OPT record is held back while the sections are written.
    pub fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes(), suffix_count: self.suffix_count }
    }

    pub fn rewind(&mut self, mark: Mark) {
        self.out.truncate(self.start + mark.bytes);
        self.suffix_count = mark.suffix_count;
    }

    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.bytes() + bytes.len() > self.bytes_max {
            return Err(Full);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    pub fn put_u16(&mut self, value: u16) -> Result<(), Full> {
        self.put(&value.to_be_bytes())
    }

    pub fn put_u32(&mut self, value: u32) -> Result<(), Full> {
        self.put(&value.to_be_bytes())
    }

    /// Overwrites two octets written before.
    pub fn patch_u16(&mut self, at: usize, value: u16) {
        let at = self.start + at;
        self.out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Adds to two octets written before, such as the count of a section.
    pub fn add_u16(&mut self, at: usize, value: u16) {
        let here = self.start + at;
        let before = u16::from_be_bytes([self.out[here], self.out[here + 1]]);
        self.patch_u16(at, before.saturating_add(value));
    }

    /// Writes a name, its known suffix as a pointer. Case is compared away, so a pointer may give the name the case of
    /// the question; that is how owner names come to match it bit by bit.
    pub fn put_name(&mut self, name: &Name) -> Result<(), Full> {
        let mut rest = name.wire();
        while rest[0] != 0 {
            if let Some(offset) = self.find(rest) {
                return self.put_u16(0xC000 | offset);
            }
            let here = self.bytes();
            let (label, tail) = rest.split_at(1 + usize::from(rest[0]));
            self.put(label)?;
            self.remember(here);
            rest = tail;
        }
        self.put(&[0])
    }

    /// The octets that [`Writer::put_name`] would write.
    pub fn name_bytes(&self, name: &Name) -> usize {
        let mut rest = name.wire();
        while rest[0] != 0 {
            if self.find(rest).is_some() {
                return name.wire().len() - rest.len() + 2;
            }
            rest = &rest[1 + usize::from(rest[0])..];
        }
        name.wire().len()
    }

    /// The octets that still fit.
    pub fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes())
    }

    fn remember(&mut self, offset: usize) {
        if self.suffix_count < SUFFIXES_MAX && offset <= POINTER_MAX {
            self.suffixes[self.suffix_count] = offset as u16;
            self.suffix_count += 1;
        }
    }

    fn find(&self, suffix: &[u8]) -> Option<u16> {
        let message = &self.out[self.start..];
        self.suffixes[..self.suffix_count]
            .iter()
            .copied()
            .find(|&at| same_name(message, usize::from(at), suffix, self.keeps_case))
    }
}

/// Whether the name at `at` in a message that we wrote ourselves is `suffix`. Our pointers point backwards to labels,
/// so this ends.
fn same_name(message: &[u8], mut at: usize, mut suffix: &[u8], keeps_case: bool) -> bool {
    loop {
        let Some(&length) = message.get(at) else { return false };
        if length >= 0xC0 {
            let Some(&low) = message.get(at + 1) else { return false };
            at = (usize::from(length & 0x3F) << 8) | usize::from(low);
            continue;
        }
        if length != suffix[0] {
            return false;
        }
        if length == 0 {
            return true;
        }
        let end = 1 + usize::from(length);
        let Some(label) = message.get(at..at + end) else { return false };
        let is_same =
            if keeps_case { *label == suffix[..end] } else { label.eq_ignore_ascii_case(&suffix[..end]) };
        if !is_same {
            return false;
        }
        at += end;
        suffix = &suffix[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text.as_bytes(), None).unwrap()
    }

    #[track_caller]
    fn check(names: &[&str], expected: &[u8]) {
        let mut out = b"unrelated".to_vec();
        let mut writer = Writer::new(&mut out, 512);
        for text in names {
            let expected = writer.bytes() + writer.name_bytes(&name(text));
            writer.put_name(&name(text)).unwrap();
            assert_eq!(writer.bytes(), expected, "{text}");
        }
        assert_eq!(&out[9..], expected);
    }

    #[test]
    fn the_same_name_again_is_a_pointer() {
        check(&["a.b.", "a.b."], b"\x01a\x01b\0\xC0\x00");
    }
    #[test]
    fn a_shared_suffix_is_a_pointer() {
        check(&["a.b.", "c.b.", "c.b."], b"\x01a\x01b\0\x01c\xC0\x02\xC0\x05");
    }
    #[test]
    fn case_does_not_matter() {
        check(&["A.b.", "a.B."], b"\x01A\x01b\0\xC0\x00");
    }
    #[test]
    fn case_matters_to_whoever_stores_it() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, 512).keeping_case();
        ["A.b.", "a.b.", "A.b."].iter().for_each(|text| writer.put_name(&name(text)).unwrap());
        assert_eq!(out, b"\x01A\x01b\0\x01a\xC0\x02\xC0\x00");
    }
    #[test]
    fn the_root_is_never_a_pointer() {
        check(&[".", "."], b"\0\0");
    }
    #[test]
    fn a_prefix_is_no_suffix() {
        check(&["a.b.", "a."], b"\x01a\x01b\0\x01a\0");
    }

    #[test]
    fn the_limit_holds_and_rewinding_forgets_suffixes() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, 8);
        writer.put_name(&name("a.b.")).unwrap();
        let mark = writer.mark();
        assert_eq!(writer.put_name(&name("long.c.")), Err(Full));
        writer.rewind(mark);
        assert_eq!(writer.bytes(), 5);
        assert_eq!(writer.put_name(&name("c.")), Ok(()));
        assert_eq!(out, b"\x01a\x01b\0\x01c\0");
    }
}
