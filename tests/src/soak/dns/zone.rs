//! The zone by version: the serial is the version, and so are the addresses of most names, so that an answer says which
//! version it is of. Questions are for names of one length with four addresses each, whatever the version and whatever is
//! down, so that all answers have one length too.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::bench::dns::zone::ORIGIN;

/// Names whose addresses are others in each version.
const CHANGING: u32 = 1_000;
/// Names that ours steers.
const STEERED: u32 = 16;
/// Addresses of each name.
pub(super) const ADDRESSES: u8 = 4;

/// A name whose addresses change with each version.
pub(super) fn changing(number: u32) -> String {
    format!("n{:03}.{ORIGIN}", number % CHANGING)
}

/// A name that ours answers by what is up.
pub(super) fn steered(number: u32) -> String {
    format!("s{:03}.{ORIGIN}", number % STEERED)
}

/// All of them.
pub(super) fn all_steered() -> impl Iterator<Item = String> {
    (0..STEERED).map(steered)
}

/// Where the zone says which addresses a pool has; one of them is another in each version, so that ours begins to look at
/// something new and forgets something old with each reload.
pub(super) fn pool() -> String {
    format!("pool.{ORIGIN}")
}

/// A name that ours answers out of that pool.
pub(super) fn moving() -> String {
    format!("move.{ORIGIN}")
}

/// A name that is not there.
pub(super) fn missing(number: u32) -> String {
    format!("x{number:03}.{ORIGIN}")
}

/// An address of a changing name.
pub(super) fn address(version: u32, number: u8) -> Ipv4Addr {
    let [_, _, high, low] = version.to_be_bytes();
    Ipv4Addr::new(10, high, low, number)
}

/// The pool's address that nobody has, in a part of loopback that no stack leases.
pub(super) fn nobody(version: u32) -> Ipv4Addr {
    let [_, _, high, low] = version.to_be_bytes();
    Ipv4Addr::new(127, 200, high, low)
}

/// The zone file of a version. `first` are the addresses of the steered names, `steady` those that the pool always has.
pub(super) fn text(version: u32, first: &[Ipv4Addr], steady: &[Ipv4Addr]) -> String {
    let mut text = format!(
        "$ORIGIN {ORIGIN}.\n$TTL 300\n@ IN SOA ns1 hostmaster {version} 3600 900 604800 60\n@ IN NS ns1\nns1 IN A 192.0.2.53\n"
    );
    let mut add =
        |name: &str, address: Ipv4Addr| writeln!(text, "{name} IN A {address}").expect("a string has room");
    for number in 0..STEERED {
        first.iter().for_each(|it| add(&format!("s{number:03}"), *it));
    }
    for name in ["pool", "move"] {
        steady.iter().for_each(|it| add(name, *it));
        add(name, nobody(version));
    }
    for number in 0..CHANGING {
        (1..=ADDRESSES).for_each(|it| add(&format!("n{number:03}"), address(version, it)));
    }
    text
}

/// dnsperf's data file: changing and steered names in turn.
pub(super) fn questions() -> String {
    let mut text = String::new();
    for number in 0..CHANGING {
        writeln!(text, "{} A\n{} A", changing(number), steered(number)).expect("a string has room");
    }
    text
}

/// Octets of each answer to them: header, question, and 16 for each record.
pub(super) fn answer_bytes() -> u64 {
    let bytes = 12 + changing(0).len() + 2 + 4 + 16 * usize::from(ADDRESSES);
    bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_have_one_length_and_their_names_are_in_every_version() {
        let questions = questions();
        for version in [1, 300] {
            let text = text(version, &[Ipv4Addr::LOCALHOST], &[Ipv4Addr::LOCALHOST]);
            for line in questions.lines() {
                let name = line.split('.').next().expect("a name");
                assert_eq!(line.len(), format!("n000.{ORIGIN} A").len());
                assert!(text.contains(&format!("\n{name} IN A ")), "{line}");
            }
        }
    }

    #[test]
    fn versions_differ_in_serial_and_records() {
        assert_ne!(text(255, &[], &[]), text(256, &[], &[]));
        assert_eq!(address(258, 4), Ipv4Addr::new(10, 1, 2, 4));
        assert!(text(258, &[], &[]).contains("hostmaster 258 ") && text(258, &[], &[]).contains("10.1.2.4"));
    }
}
