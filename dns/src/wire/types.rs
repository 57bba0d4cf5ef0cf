//! The numbers of DNS: record types, classes, opcodes and response codes, with their names in master files.

use std::fmt;

/// A record type (IANA registry "Resource Record (RR) TYPEs").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

impl RecordType {
    pub const A: RecordType = RecordType(1);
    pub const NS: RecordType = RecordType(2);
    pub const CNAME: RecordType = RecordType(5);
    pub const SOA: RecordType = RecordType(6);
    pub const PTR: RecordType = RecordType(12);
    pub const MX: RecordType = RecordType(15);
    pub const TXT: RecordType = RecordType(16);
    pub const AAAA: RecordType = RecordType(28);
    pub const AFSDB: RecordType = RecordType(18);
    pub const RT: RecordType = RecordType(21);
    pub const SRV: RecordType = RecordType(33);
    pub const NAPTR: RecordType = RecordType(35);
    pub const KX: RecordType = RecordType(36);
    pub const DNAME: RecordType = RecordType(39);
    pub const OPT: RecordType = RecordType(41);
    pub const DS: RecordType = RecordType(43);
    pub const RRSIG: RecordType = RecordType(46);
    pub const NSEC: RecordType = RecordType(47);
    pub const SVCB: RecordType = RecordType(64);
    pub const HTTPS: RecordType = RecordType(65);
    pub const TKEY: RecordType = RecordType(249);
    pub const TSIG: RecordType = RecordType(250);
    pub const IXFR: RecordType = RecordType(251);
    pub const AXFR: RecordType = RecordType(252);
    pub const ANY: RecordType = RecordType(255);

    /// Reads a mnemonic or the `TYPE65280` form of RFC 3597.
    pub fn from_text(text: &[u8]) -> Option<RecordType> {
        let known = NAMES.iter().find(|(_, name)| name.as_bytes().eq_ignore_ascii_case(text));
        known.map(|(number, _)| RecordType(*number)).or_else(|| numbered(text, b"TYPE").map(RecordType))
    }

    /// The name in zone files, where it has one.
    pub fn mnemonic(self) -> Option<&'static str> {
        let at = NAMES.binary_search_by_key(&self.0, |(number, _)| *number).ok()?;
        Some(NAMES[at].1)
    }

    /// Types that only occur in questions or in transport, and can never stand in a zone (RFC 6895 section 3.1).
    pub fn is_meta(self) -> bool {
        self.0 == 0 || self == RecordType::OPT || (128..=255).contains(&self.0)
    }

    /// A and AAAA: the sets whose order a client may act on.
    pub fn is_address(self) -> bool {
        self == RecordType::A || self == RecordType::AAAA
    }
}

/// Mnemonics we print and read.
const NAMES: [(u16, &str); 70] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (7, "MB"),
    (8, "MG"),
    (9, "MR"),
    (12, "PTR"),
    (13, "HINFO"),
    (14, "MINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (19, "X25"),
    (20, "ISDN"),
    (21, "RT"),
    (24, "SIG"),
    (25, "KEY"),
    (26, "PX"),
    (27, "GPOS"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (39, "DNAME"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (53, "SMIMEA"),
    (55, "HIP"),
    (56, "NINFO"),
    (57, "RKEY"),
    (58, "TALINK"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (62, "CSYNC"),
    (63, "ZONEMD"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (104, "NID"),
    (105, "L32"),
    (106, "L64"),
    (107, "LP"),
    (108, "EUI48"),
    (109, "EUI64"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
    (258, "AVC"),
    (262, "WALLET"),
    (32768, "TA"),
    (32769, "DLV"),
];

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(name) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A class. Only IN is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(pub u16);

impl Class {
    pub const IN: Class = Class(1);
    /// Chaosnet: where servers are asked about themselves (RFC 4892).
    pub const CH: Class = Class(3);

    /// Reads a mnemonic or the `CLASS32` form of RFC 3597.
    pub fn from_text(text: &[u8]) -> Option<Class> {
        let known: [(&[u8], u16); 4] = [(b"IN", 1), (b"CS", 2), (b"CH", 3), (b"HS", 4)];
        let known = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, number)| Class(*number)).or_else(|| numbered(text, b"CLASS").map(Class))
    }
}

/// The number behind `prefix`, as in `TYPE257`.
fn numbered(text: &[u8], prefix: &[u8]) -> Option<u16> {
    let (head, digits) = text.split_at_checked(prefix.len())?;
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    if plain && head.eq_ignore_ascii_case(prefix) { digits.parse().ok() } else { None }
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opcode(pub u8);

impl Opcode {
    pub const QUERY: Opcode = Opcode(0);
    pub const NOTIFY: Opcode = Opcode(4);
}

/// A response code; values above 15 need EDNS for their upper bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// The name that a DNAME gives is too long (RFC 6672 section 2.2).
    YxDomain = 6,
    /// Not the authority for this zone, or not who the signature says (RFC 8945 section 3).
    NotAuth = 9,
    BadVers = 16,
    BadCookie = 23,
}

impl Rcode {
    /// Every code we can answer with, in the order of [`Rcode::index`].
    pub const ALL: [Rcode; 10] = [
        Rcode::NoError,
        Rcode::FormErr,
        Rcode::ServFail,
        Rcode::NxDomain,
        Rcode::NotImp,
        Rcode::Refused,
        Rcode::YxDomain,
        Rcode::NotAuth,
        Rcode::BadVers,
        Rcode::BadCookie,
    ];

    /// Position in [`Rcode::ALL`].
    pub fn index(self) -> usize {
        match self {
            Rcode::NotAuth => 7,
            Rcode::BadVers => 8,
            Rcode::BadCookie => 9,
            other => other as usize,
        }
    }

    /// The name in metrics and logs, as dig prints it.
    pub fn as_str(self) -> &'static str {
        const NAMES: [&str; Rcode::ALL.len()] = [
            "NOERROR",
            "FORMERR",
            "SERVFAIL",
            "NXDOMAIN",
            "NOTIMP",
            "REFUSED",
            "YXDOMAIN",
            "NOTAUTH",
            "BADVERS",
            "BADCOOKIE",
        ];
        NAMES[self.index()]
    }

    /// The four bits in the header.
    pub fn low(self) -> u8 {
        (self as u16 & 0x0F) as u8
    }

    /// The eight bits in the OPT record.
    pub fn high(self) -> u8 {
        (self as u16 >> 4) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_and_print() {
        for (text, number, printed) in
            [("a", 1, "A"), ("AAAA", 28, "AAAA"), ("TYPE1", 1, "A"), ("type999", 999, "TYPE999")]
        {
            let read = RecordType::from_text(text.as_bytes()).unwrap();
            assert_eq!((read.0, read.to_string().as_str()), (number, printed));
        }
        for bad in ["", "TYPE", "TYPE65536", "TYPE+1", "TYPEX", "AA"] {
            assert_eq!(RecordType::from_text(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn mnemonics_stand_in_rising_order() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn classes_read() {
        assert_eq!(Class::from_text(b"in"), Some(Class::IN));
        assert_eq!(Class::from_text(b"CLASS3"), Some(Class(3)));
        assert_eq!(Class::from_text(b"CLASS"), None);
    }

    #[test]
    fn every_rcode_is_found_at_its_index() {
        for (at, rcode) in Rcode::ALL.into_iter().enumerate() {
            assert_eq!(rcode.index(), at);
        }
        assert_eq!((Rcode::BadVers.low(), Rcode::BadVers.high()), (0, 1));
    }
}
