//! The shapes of record data: for each type a row of fields. One table serves both ways in, text and octets, so a type that
//! can be written in a zone file is also checked when it comes as octets (RFC 3597).

use super::name::Name;
use super::types::RecordType;
use std::ops::Range;

/// One field of record data. The text says what to expect, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// A domain name, never compressed here.
    Name(&'static str),
    U8(&'static str),
    U16(&'static str),
    U32(&'static str),
    /// 32 bits; in text also with units, as in `1h30m`.
    Seconds(&'static str),
    Ipv4,
    Ipv6,
    /// The number of a DNSSEC algorithm, or its mnemonic.
    Algorithm,
    /// The number of a kind of certificate, or its mnemonic (RFC 4398 section 2.1).
    CertificateType,
    /// A record type as data (RFC 4034 section 3.1.1).
    TypeCovered,
    /// 32 bits of seconds since 1970, in text also as `YYYYMMDDHHmmSS` (RFC 4034 section 3.2).
    Time(&'static str),
    /// A string behind its length octet.
    Text(&'static str),
    /// One or more of those, to the end.
    Texts,
    /// A string without a length, to the end.
    Value(&'static str),
    /// Letters and digits behind a length octet (RFC 8659 section 4.1).
    Tag,
    /// Octets to the end; hexadecimal in text.
    Hex(&'static str),
    /// Octets to the end; base64 in text.
    Base64(&'static str),
    /// Octets behind a length octet; hexadecimal in text, `-` for none (RFC 5155 section 3.3).
    Salt,
    /// Octets behind a length octet; base32 in text (RFC 5155 section 3.3).
    Hash,
    /// A bitmap of types, to the end (RFC 4034 section 4.1.2).
    Types,
    /// This many octets, in text as hexadecimal pairs with `-` between (RFC 7043).
    Pairs(usize),
    /// 64 bits, in text as four groups of hexadecimal (RFC 6742).
    Groups,
    /// LOC as a whole (RFC 1876).
    Location,
    /// Address prefixes, to the end (RFC 3123).
    Prefixes,
    /// A gateway of the kind that an octet before says, with the algorithm between them (RFC 4025 section 2).
    Gateway,
    /// An identity with its key, both behind lengths that come first (RFC 8005 section 5).
    HostIdentity,
    /// Service parameters, to the end (RFC 9460 section 2.2).
    Parameters,
}

use Field::{
    Algorithm, Base64, CertificateType, Gateway, Groups, Hash, Hex, HostIdentity, Ipv4, Ipv6, Location,
    Pairs, Parameters, Prefixes, Salt, Seconds, Tag, Text, Texts, Time, TypeCovered, Types, U8, U16, U32,
    Value,
};

const PREFERENCE: Field = U16("a preference from 0 to 65535");
const HOST: Field = Field::Name("the name of a host");
const NAME: Field = Field::Name("a name");
const DELEGATION_SIGNER: &[Field] = &[
    U16("a key tag from 0 to 65535"),
    Algorithm,
    U8("a digest type from 0 to 255"),
    Hex("a digest in hexadecimal"),
];
const KEY: &[Field] = &[
    U16("flags from 0 to 65535"),
    U8("a protocol from 0 to 255"),
    Algorithm,
    Base64("a public key in base64"),
];
const CERTIFICATE_ASSOCIATION: &[Field] = &[
    U8("a certificate usage from 0 to 255"),
    U8("a selector from 0 to 255"),
    U8("a matching type from 0 to 255"),
    Hex("certificate data in hexadecimal"),
];
const SERVICE: &[Field] =
    &[U16("a priority from 0 to 65535"), Field::Name("the name of a target"), Parameters];

/// Types by their mnemonics, with the fields of their data. What is common stands first: the table is searched in this order.
const SHAPES: [(&[&str], &[Field]); 41] = [
    (&["A"], &[Ipv4]),
    (&["AAAA"], &[Ipv6]),
    (&["NS"], &[Field::Name("the name of a server")]),
    (&["CNAME"], &[Field::Name("the canonical name")]),
    (&["DNAME", "PTR", "MB", "MG", "MR"], &[NAME]),
    (
        &["SOA"],
        &[
            Field::Name("the name of the primary server"),
            Field::Name("the mailbox of the person in charge"),
            U32("a serial from 0 to 4294967295"),
            Seconds("the refresh time"),
            Seconds("the retry time"),
            Seconds("the expiry time"),
            Seconds("the negative caching time"),
        ],
    ),
    (&["MX"], &[PREFERENCE, Field::Name("the name of a mail server")]),
    (&["AFSDB"], &[U16("a subtype from 0 to 65535"), HOST]),
    (&["RT", "KX", "LP"], &[PREFERENCE, HOST]),
    (&["PX"], &[PREFERENCE, NAME, NAME]),
    (
        &["SRV"],
        &[
            U16("a priority from 0 to 65535"),
            U16("a weight from 0 to 65535"),
            U16("a port from 0 to 65535"),
            HOST,
        ],
    ),
    (
        &["NAPTR"],
        &[
            U16("an order from 0 to 65535"),
            PREFERENCE,
            Text("flags"),
            Text("services"),
            Text("a regular expression"),
            Field::Name("the name of a replacement"),
        ],
    ),
    (&["MINFO", "RP", "TALINK"], &[NAME, NAME]),
    (&["HINFO"], &[Text("the kind of processor"), Text("the operating system")]),
    (&["TXT", "SPF", "AVC", "NINFO", "ISDN", "WALLET"], &[Texts]),
    (&["X25"], &[Text("an address")]),
    (&["GPOS"], &[Text("a longitude"), Text("a latitude"), Text("an altitude")]),
    (&["LOC"], &[Location]),
    (
        &["CERT"],
        &[CertificateType, U16("a key tag from 0 to 65535"), Algorithm, Base64("a certificate in base64")],
    ),
    (&["DS", "CDS", "DLV", "TA"], DELEGATION_SIGNER),
    (&["KEY", "DNSKEY", "CDNSKEY", "RKEY"], KEY),
    (
        &["SSHFP"],
        &[
            U8("an algorithm from 0 to 255"),
            U8("a fingerprint type from 0 to 255"),
            Hex("a fingerprint in hexadecimal"),
        ],
    ),
    (&["IPSECKEY"], &[U8("a precedence from 0 to 255"), Gateway]),
    (
        &["RRSIG", "SIG"],
        &[
            TypeCovered,
            Algorithm,
            U8("a number of labels from 0 to 255"),
            Seconds("the original TTL"),
            Time("the time of expiration"),
            Time("the time of inception"),
            U16("a key tag from 0 to 65535"),
            Field::Name("the signer's name"),
            Base64("a signature in base64"),
        ],
    ),
    (&["NSEC"], &[Field::Name("the next name"), Types]),
    (
        &["NSEC3"],
        &[
            U8("a hash algorithm from 0 to 255"),
            U8("flags from 0 to 255"),
            U16("iterations from 0 to 65535"),
            Salt,
            Hash,
            Types,
        ],
    ),
    (
        &["NSEC3PARAM"],
        &[
            U8("a hash algorithm from 0 to 255"),
            U8("flags from 0 to 255"),
            U16("iterations from 0 to 65535"),
            Salt,
        ],
    ),
    (&["DHCID"], &[Base64("an identifier in base64")]),
    (&["TLSA", "SMIMEA"], CERTIFICATE_ASSOCIATION),
    (&["HIP"], &[HostIdentity]),
    (&["OPENPGPKEY"], &[Base64("a public key in base64")]),
    (&["CSYNC"], &[U32("a serial from 0 to 4294967295"), U16("flags from 0 to 65535"), Types]),
    (
        &["ZONEMD"],
        &[
            U32("a serial from 0 to 4294967295"),
            U8("a scheme from 0 to 255"),
            U8("a hash algorithm from 0 to 255"),
            Hex("a digest in hexadecimal"),
        ],
    ),
    (&["SVCB", "HTTPS"], SERVICE),
    (&["NID", "L64"], &[PREFERENCE, Groups]),
    (&["L32"], &[PREFERENCE, Ipv4]),
    (&["EUI48"], &[Pairs(6)]),
    (&["EUI64"], &[Pairs(8)]),
    (&["URI"], &[U16("a priority from 0 to 65535"), U16("a weight from 0 to 65535"), Value("a target")]),
    (&["CAA"], &[U8("flags from 0 to 255"), Tag, Value("a value")]),
    (&["APL"], &[Prefixes]),
];

/// The fields of a type's data; `None` for types without a text form of their own.
pub fn of(record_type: RecordType) -> Option<&'static [Field]> {
    let mnemonic = record_type.mnemonic()?;
    SHAPES.iter().find(|(types, _)| types.contains(&mnemonic)).map(|(_, fields)| *fields)
}

impl Field {
    /// What stands here, for a person.
    pub fn expected(self) -> &'static str {
        match self {
            Field::Name(what) | U8(what) | U16(what) | U32(what) | Seconds(what) | Time(what) => what,
            Text(what) | Value(what) | Hex(what) | Base64(what) => what,
            Ipv4 => "an IPv4 address",
            Ipv6 => "an IPv6 address",
            Algorithm => "an algorithm from 0 to 255 or its mnemonic",
            CertificateType => "a certificate type from 0 to 65535 or its mnemonic",
            TypeCovered => "a record type",
            Texts => "a string",
            Tag => "a tag of letters and digits",
            Salt => "a salt in hexadecimal, or '-'",
            Hash => "a hash in base32",
            Types => "record types",
            Pairs(_) => "octets in hexadecimal with '-' between",
            Groups => "four groups of hexadecimal with ':' between",
            Location => "a location: degrees N or S, degrees E or W, altitude",
            Prefixes => "address prefixes as [!]FAMILY:ADDRESS/PREFIX",
            Gateway => "a gateway type from 0 to 3",
            HostIdentity => "an algorithm, an identity in hexadecimal and a key in base64",
            Parameters => "service parameters as KEY=VALUE",
        }
    }
}

/// Whether octets have the shape of `fields`, and where their first name is. Every octet has to be used.
pub fn check(fields: &[Field], octets: &[u8]) -> Option<Option<Range<usize>>> {
    let mut at = 0;
    let mut name = None;
    for field in fields {
        let end = end(*field, octets, at)?;
        if let Field::Name(_) = field {
            name = name.or(Some(at..end));
        }
        at = end;
    }
    (at == octets.len()).then_some(name)
}

/// Where the field that starts at `at` ends.
fn end(field: Field, octets: &[u8], at: usize) -> Option<usize> {
    let rest = octets.get(at..)?;
    let fixed = |bytes: usize| (rest.len() >= bytes).then_some(at + bytes);
    let counted = || fixed(1 + usize::from(*rest.first()?));
    match field {
        Field::Name(_) => Some(Name::read_plain(octets, at).ok()?.1),
        U8(_) | Algorithm => fixed(1),
        U16(_) | CertificateType | TypeCovered => fixed(2),
        U32(_) | Seconds(_) | Time(_) | Ipv4 => fixed(4),
        Ipv6 => fixed(16),
        Groups => fixed(8),
        Pairs(bytes) => fixed(bytes),
        Location if rest.first() == Some(&0) => fixed(16),
        Location => None,
        Text(_) | Salt => counted(),
        Hash => counted().filter(|_| rest[0] > 0),
        Tag => {
            let end = counted()?;
            let tag = &octets[at + 1..end];
            (!tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric)).then_some(end)
        }
        Texts => all(rest, 1, |rest| Some(1 + usize::from(*rest.first()?))).then_some(octets.len()),
        Value(_) => Some(octets.len()),
        Hex(_) | Base64(_) => (!rest.is_empty()).then_some(octets.len()),
        Types => is_bitmap(rest).then_some(octets.len()),
        Prefixes => all(rest, 0, |rest| Some(4 + usize::from(rest.get(3)? & 0x7F))).then_some(octets.len()),
        Gateway => gateway(octets, at),
        HostIdentity => host_identity(octets, at),
        Parameters => are_parameters(rest).then_some(octets.len()),
    }
}

/// Whether octets are a row of at least `least` items, each as long as `length` says.
fn all(mut octets: &[u8], least: usize, length: impl Fn(&[u8]) -> Option<usize>) -> bool {
    let mut count = 0;
    while !octets.is_empty() {
        let Some(rest) = length(octets).and_then(|length| octets.get(length..)) else { return false };
        octets = rest;
        count += 1;
    }
    count >= least
}

/// Windows in rising order, each of 1 to 32 octets whose last is not zero.
fn is_bitmap(mut octets: &[u8]) -> bool {
    let mut before = None;
    while let [window, length, rest @ ..] = octets {
        let length = usize::from(*length);
        let good = (1..=32).contains(&length) && before.is_none_or(|before| before < *window);
        let Some((bits, tail)) = rest.split_at_checked(length).filter(|_| good) else { return false };
        if bits.last() == Some(&0) {
            return false;
        }
        before = Some(*window);
        octets = tail;
    }
    octets.is_empty()
}

/// Keys in rising order, each with its value behind a length (RFC 9460 section 2.2).
fn are_parameters(mut octets: &[u8]) -> bool {
    let mut before = None;
    while let [key_high, key_low, length_high, length_low, rest @ ..] = octets {
        let key = u16::from_be_bytes([*key_high, *key_low]);
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        if before.is_some_and(|before| before >= key) {
            return false;
        }
        let Some(tail) = rest.get(length..) else { return false };
        before = Some(key);
        octets = tail;
    }
    octets.is_empty()
}

fn gateway(octets: &[u8], at: usize) -> Option<usize> {
    let key = match octets.get(at)? {
        0 => at + 2,
        1 => at + 6,
        2 => at + 18,
        3 => Name::read_plain(octets, at + 2).ok()?.1,
        _ => return None,
    };
    (key <= octets.len()).then_some(octets.len())
}

fn host_identity(octets: &[u8], at: usize) -> Option<usize> {
    let identity = usize::from(*octets.get(at)?);
    let key = usize::from(u16::from_be_bytes([*octets.get(at + 2)?, *octets.get(at + 3)?]));
    let mut end = at + 4 + identity + key;
    if identity == 0 || key == 0 || end > octets.len() {
        return None;
    }
    while end < octets.len() {
        end = Name::read_plain(octets, end).ok()?.1;
    }
    Some(end)
}
