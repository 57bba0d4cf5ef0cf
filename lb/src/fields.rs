//! Reading what fields and framing say, byte by byte and without mercy. No sockets.

/// The parts of a list, without the blanks around them. An empty part is one, too.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits and nothing else; a sign, a blank or too large a number is none.
pub(crate) fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, radix: u32, expected: Option<u64>) {
        assert_eq!(number(text.as_bytes(), radix), expected, "{text}");
    }

    #[test]
    fn digits_and_nothing_else() {
        check("0", 10, Some(0));
        check("18446744073709551615", 10, Some(u64::MAX));
        check("fF", 16, Some(255));
        for text in ["", "+1", "-1", " 1", "1 ", "1_0", "f", "18446744073709551616"] {
            check(text, 10, None);
        }
    }

    #[test]
    fn an_empty_part_is_a_part() {
        assert_eq!(tokens(b"a ,,\tb").collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
    }
}
