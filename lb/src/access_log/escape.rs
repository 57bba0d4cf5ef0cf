//! Text of strangers inside lines of ours: whatever it holds, it cannot end a line or a field.

use std::io::Write as _;

/// Adds `text` as the inside of a JSON string (RFC 8259, section 7). Control characters, DEL and the other characters that
/// some programs take for line breaks are escaped; bytes that are not UTF-8 become U+FFFD.
pub(super) fn json(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(character));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Adds `text` as HAProxy does (configuration manual, section 8.6): `#XX` for all but printable ASCII, and for `#` and `"`.
pub(super) fn haproxy(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        match byte {
            b'#' | b'"' => {
                let _ = write!(out, "#{byte:02X}");
            }
            b' '..=b'~' => out.push(*byte),
            _ => {
                let _ = write!(out, "#{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expected_json: &str, expected_haproxy: &str) {
        let mut out = Vec::new();
        json(&mut out, text);
        assert_eq!(String::from_utf8(out.clone()).unwrap(), expected_json);
        let parsed: String = serde_json::from_slice(&[b"\"", &out[..], b"\""].concat()).unwrap();
        assert_eq!(parsed, String::from_utf8_lossy(text), "a parser gets back what was there");
        out.clear();
        haproxy(&mut out, text);
        assert_eq!(String::from_utf8(out).unwrap(), expected_haproxy);
    }

    #[test]
    fn plain_text_stays() {
        check(b"/a?b=c&d=%20", "/a?b=c&d=%20", "/a?b=c&d=%20");
        check(b"", "", "");
    }

    #[test]
    fn nothing_ends_the_string() {
        check(
            br#"a","status":200,"b":""#,
            r#"a\",\"status\":200,\"b\":\""#,
            "a#22,#22status#22:200,#22b#22:#22",
        );
        check(br"a\", r"a\\", r"a\");
        check(b"a#0Ab", "a#0Ab", "a#230Ab");
    }

    #[test]
    fn nothing_ends_the_line() {
        check(b"a\r\nb", r"a\u000d\u000ab", "a#0D#0Ab");
        check(b"a\0\x1b[31m\x7f", r"a\u0000\u001b[31m\u007f", "a#00#1B[31m#7F");
        check(
            "a\u{85}b\u{2028}c\u{2029}".as_bytes(),
            r"a\u0085b\u2028c\u2029",
            "a#C2#85b#E2#80#A8c#E2#80#A9",
        );
    }

    #[test]
    fn other_scripts_stay_and_broken_ones_are_marked() {
        check("gr\u{fc}n".as_bytes(), "gr\u{fc}n", "gr#C3#BCn");
        check(b"a\xffb\xc3", r"a\ufffdb\ufffd", "a#FFb#C3");
    }

    #[test]
    fn no_byte_at_all_makes_a_line_break() {
        let all: Vec<u8> = (0..=255).collect();
        for escape in [json, haproxy] {
            let mut out = Vec::new();
            escape(&mut out, &all);
            assert!(!out.iter().any(|byte| *byte < b' ' || *byte == 0x7f), "{out:?}");
        }
    }
}
