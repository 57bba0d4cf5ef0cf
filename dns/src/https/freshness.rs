//! How long a cache of HTTP may keep an answer (RFC 8484 section 5.1).

use crate::wire::query::HEADER_BYTES;
use crate::wire::{Name, Rcode};

/// Seconds: the least TTL of the answers and of the authority section, where a negative answer has its SOA, be it behind an
/// alias, and a referral its servers. What failed is not kept.
pub(super) fn max_age_s(message: &[u8]) -> u32 {
    least_ttl_s(message).unwrap_or(0)
}

fn least_ttl_s(message: &[u8]) -> Option<u32> {
    let rcode = message.get(3)? & 0x0F;
    if rcode != Rcode::NoError.low() && rcode != Rcode::NxDomain.low() {
        return None;
    }
    let mut at = HEADER_BYTES;
    for _ in 0..u16_at(message, 4)? {
        at = Name::skip(message, at).ok()? + 4;
    }
    let mut least = None;
    for _ in 0..u32::from(u16_at(message, 6)?) + u32::from(u16_at(message, 8)?) {
        let fixed = Name::skip(message, at).ok()?;
        let ttl = u32::from_be_bytes(message.get(fixed + 4..fixed + 8)?.try_into().ok()?);
        least = Some(least.map_or(ttl, |least: u32| least.min(ttl)));
        at = fixed + 10 + usize::from(u16_at(message, fixed + 8)?);
    }
    least
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with a question for the root, and records with these TTLs in its three sections.
    #[track_caller]
    fn check(rcode: u8, sections: [&[u32]; 3], expected: u32) {
        let mut message = vec![0, 0, 0x84, rcode, 0, 1];
        for section in sections {
            message.extend(u16::try_from(section.len()).unwrap().to_be_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        for ttl in sections.concat() {
            message.extend([0, 0, 1, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 2, 7, 7]);
        }
        assert_eq!(max_age_s(&message), expected);
        for cut in 0..HEADER_BYTES + 5 {
            assert_eq!(max_age_s(&message[..cut]), 0, "{cut} octets");
        }
    }

    #[test]
    fn the_least_of_the_answers() {
        check(0, [&[60, 30, 90], &[], &[1]], 30);
        check(0, [&[0, 30], &[], &[]], 0);
    }
    #[test]
    fn or_of_what_says_that_there_is_no_more() {
        check(0, [&[60], &[5], &[1]], 5);
        check(3, [&[], &[5], &[1]], 5);
        check(0, [&[], &[600, 300], &[1]], 300);
        check(0, [&[], &[], &[1]], 0);
    }
    #[test]
    fn what_failed_is_not_kept() {
        check(2, [&[60], &[60], &[]], 0);
        check(5, [&[], &[], &[]], 0);
    }
}
