//! Message frames: one tag byte, four bytes of length that count themselves, the body.

use thiserror::Error;

/// Postgres itself refuses longer messages (`PQ_LARGE_MESSAGE_LIMIT`).
pub const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;
/// Tag and length.
pub const HEADER_BYTES: usize = 5;

/// What the first bytes of a message say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The message type.
    pub tag: u8,
    /// All bytes of the message, tag and length included.
    pub bytes: usize,
}

/// The length field cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a message of type {:?} says that it is {length} bytes long; 4 to {MESSAGE_BYTES_MAX} are possible", char::from(*tag))]
pub struct BadLength {
    tag: u8,
    length: u32,
}

/// Reads a header. `None`: fewer than five bytes are here.
pub fn peek(bytes: &[u8]) -> Result<Option<Frame>, BadLength> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [tag, a, b, c, d] = *header;
    let length = u32::from_be_bytes([a, b, c, d]);
    // Checked before anything is added to it or allocated for it.
    if length < 4 || length as usize > MESSAGE_BYTES_MAX {
        return Err(BadLength { tag, length });
    }
    Ok(Some(Frame { tag, bytes: length as usize + 1 }))
}

/// The text up to the first NUL, and what follows the NUL.
pub fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let got = match peek(bytes) {
            Ok(None) => "more".to_owned(),
            Ok(Some(frame)) => format!("{} {}", char::from(frame.tag), frame.bytes),
            Err(_) => "bad".to_owned(),
        };
        assert_eq!(got, expected, "{bytes:?}");
    }

    #[test]
    fn short_headers_wait() {
        check(b"", "more");
        check(b"Q\0\0\0", "more");
    }

    #[test]
    fn the_length_counts_itself_but_not_the_tag() {
        check(b"S\0\0\0\x04", "S 5");
        check(b"Q\0\0\0\x08rest", "Q 9");
    }

    #[test]
    fn impossible_lengths_are_refused_before_they_are_widened() {
        check(b"Q\0\0\0\x03", "bad");
        check(b"Q\xff\xff\xff\xff", "bad");
        check(b"Q\x40\0\0\0", "bad");
        check(b"Q\x3f\xff\xff\xff", "Q 1073741824");
    }

    #[test]
    fn texts_end_at_their_nul() {
        assert_eq!(split_text(b"ab\0cd"), Some((&b"ab"[..], &b"cd"[..])));
        assert_eq!(split_text(b"ab"), None);
    }
}
