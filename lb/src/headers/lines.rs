//! Fields that are added to a request, as lines of its head: nobody reads them on the way, so no map has to take, hash and
//! give them back.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Enough for the usual ones.
const CAPACITY: usize = 320;

/// Whole lines with their ends. Whoever adds one has its value from a field, or made it of plain characters.
#[derive(Debug)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(CAPACITY))
    }

    pub(super) fn push(&mut self, name: &HeaderName, value: &[u8]) {
        debug_assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n')), "{name}: {value:?}");
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Moves them into a map, for those who want one.
    pub(crate) fn move_to(&mut self, headers: &mut HeaderMap) {
        for line in std::mem::take(&mut self.0).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = line.strip_suffix(b"\r").expect("lines end with both");
            let colon = line.iter().position(|byte| *byte == b':').expect("a name ends with a colon");
            let name = HeaderName::from_bytes(&line[..colon]).expect("it was one");
            let value = HeaderValue::from_bytes(&line[colon + 2..]).expect("it was one");
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_fields_once() {
        let mut lines = Lines::new();
        lines.push(&http::header::HOST, b"a:80");
        lines.push(&HeaderName::from_static("x-a"), b"b: c");
        assert_eq!(lines.as_bytes(), b"host: a:80\r\nx-a: b: c\r\n");
        let mut headers = HeaderMap::new();
        lines.move_to(&mut headers);
        lines.move_to(&mut headers);
        assert_eq!(
            (headers.len(), &headers["host"], &headers["x-a"]),
            (2, &"a:80".parse().unwrap(), &"b: c".parse().unwrap())
        );
    }
}
