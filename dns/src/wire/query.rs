//! Reads one query. Everything a peer can send ends as a [`Query`], as a header-only refusal, or as silence; which of
//! them is decided here and nowhere else.

use super::name::Name;
use super::options::Options;
use super::types::{Class, Opcode, Rcode, RecordType};

/// Header octets of every message (RFC 1035 section 4.1.1).
pub const HEADER_BYTES: usize = 12;

/// The parts of the header that an answer repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    pub opcode: Opcode,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
}

/// A query that can be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub header: Header,
    pub question: Question,
    pub edns: Option<Edns>,
}

/// The one question (RFC 9619: there is never more than one).
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// In the case it was asked in: answers repeat it bit by bit, since resolvers use case as a nonce.
    pub name: Name,
    pub record_type: RecordType,
    pub class: Class,
}

/// The client's OPT record (RFC 6891 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    pub payload_bytes: u16,
    pub version: u8,
    pub dnssec_ok: bool,
    pub options: Options,
}

/// A packet that is not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// No answer: whoever sent it could not use one, or the answer could start a loop.
    Ignore(Ignored),
    /// A header-only answer.
    Answer(Header, Rcode),
}

/// Why a packet gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// Shorter than a header: there is no id to answer to.
    Short,
    /// QR is set. Two servers that answer answers would never stop.
    Response,
}

impl Query {
    /// Reads a query and checks its form, its counts and its single OPT record.
    pub fn parse(packet: &[u8]) -> Result<Query, Rejected> {
        let header = Header::read(packet).map_err(Rejected::Ignore)?;
        if header.opcode != Opcode::QUERY {
            return Err(Rejected::Answer(header, Rcode::NotImp));
        }
        body(packet, header).ok_or(Rejected::Answer(header, Rcode::FormErr))
    }
}

impl Header {
    /// Reads the header of a query.
    pub fn read(packet: &[u8]) -> Result<Header, Ignored> {
        let Some(fixed) = packet.first_chunk::<HEADER_BYTES>() else { return Err(Ignored::Short) };
        if fixed[2] & 0x80 != 0 {
            return Err(Ignored::Response);
        }
        Ok(Header {
            id: u16::from_be_bytes([fixed[0], fixed[1]]),
            opcode: Opcode((fixed[2] >> 3) & 0x0F),
            recursion_desired: fixed[2] & 0x01 != 0,
            checking_disabled: fixed[3] & 0x10 != 0,
        })
    }
}

/// Everything behind the header; `None` is a format error.
fn body(packet: &[u8], header: Header) -> Option<Query> {
    let [questions, answers, authorities, additionals] =
        [4, 6, 8, 10].map(|at| u16_at(packet, at).unwrap_or(0));
    if questions != 1 {
        return None;
    }
    // There is no earlier name that a pointer in the question could mean.
    let (name, mut at) = Name::read_plain(packet, HEADER_BYTES).ok()?;
    let record_type = RecordType(u16_at(packet, at)?);
    let class = Class(u16_at(packet, at + 2)?);
    at += 4;
    // RFC 6891 section 6.1.1: the OPT record stands in the additional section and only once.
    for _ in 0..u32::from(answers) + u32::from(authorities) {
        let record = Raw::read(packet, at)?;
        if record.record_type == RecordType::OPT {
            return None;
        }
        at = record.end;
    }
    let mut edns = None;
    for _ in 0..additionals {
        let record = Raw::read(packet, at)?;
        if record.record_type == RecordType::OPT {
            let opt = record.edns(packet)?;
            if edns.replace(opt).is_some() {
                return None;
            }
        }
        at = record.end;
    }
    let whole = at == packet.len();
    whole.then_some(Query { header, question: Question { name, record_type, class }, edns })
}

/// A record of the query, unread except for its frame.
struct Raw {
    start: usize,
    record_type: RecordType,
    class: u16,
    ttl: u32,
    rdata: usize,
    end: usize,
}

impl Raw {
    fn read(packet: &[u8], start: usize) -> Option<Raw> {
        let fixed = Name::skip(packet, start).ok()?;
        let record_type = RecordType(u16_at(packet, fixed)?);
        let class = u16_at(packet, fixed + 2)?;
        let ttl = (u32::from(u16_at(packet, fixed + 4)?) << 16) | u32::from(u16_at(packet, fixed + 6)?);
        let rdata = fixed + 10;
        let end = rdata + usize::from(u16_at(packet, fixed + 8)?);
        (end <= packet.len()).then_some(Raw { start, record_type, class, ttl, rdata, end })
    }

    /// This record as OPT: at the root, with whole options.
    fn edns(&self, packet: &[u8]) -> Option<Edns> {
        if packet.get(self.start) != Some(&0) {
            return None;
        }
        let version = ((self.ttl >> 16) & 0xFF) as u8;
        let options = packet.get(self.rdata..self.end)?;
        // What options of another version look like is not known; theirs are only counted as octets.
        let options = if version == 0 { Options::read(options)? } else { Options::default() };
        Some(Edns { payload_bytes: self.class, version, dnssec_ok: self.ttl & 0x8000 != 0, options })
    }
}

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    let octets = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([octets[0], octets[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hex with spaces to bytes.
    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[track_caller]
    fn check(hex: &str, expected: &str) {
        let got = match Query::parse(&bytes(hex)) {
            Ok(query) => {
                let edns = query.edns.map_or(String::new(), |edns| {
                    format!(" edns{} {} do={}", edns.version, edns.payload_bytes, edns.dnssec_ok)
                });
                let question = query.question;
                format!("{} {} {}{edns}", question.name, question.record_type, question.class.0)
            }
            Err(Rejected::Answer(_, rcode)) => rcode.as_str().into(),
            Err(Rejected::Ignore(why)) => format!("{why:?}"),
        };
        assert_eq!(got, expected);
    }

    const QUESTION: &str = "0161 00 0001 0001";

    #[test]
    fn a_plain_query() {
        check(&format!("1234 0100 0001 0000 0000 0000 {QUESTION}"), "a. A 1");
    }
    #[test]
    fn with_edns() {
        check(
            &format!("1234 0100 0001 0000 0000 0001 {QUESTION} 00 0029 04d0 00008000 0000"),
            "a. A 1 edns0 1232 do=true",
        );
    }
    #[test]
    fn with_an_unknown_option() {
        check(
            &format!("1234 0100 0001 0000 0000 0001 {QUESTION} 00 0029 1000 00010000 0006 ff01 0002 abcd"),
            "a. A 1 edns1 4096 do=false",
        );
    }
    #[test]
    fn an_option_that_overruns_its_record() {
        check(
            &format!("1234 0100 0001 0000 0000 0001 {QUESTION} 00 0029 1000 00000000 0006 ff01 0003 abcd"),
            "FORMERR",
        );
    }
    #[test]
    fn two_opt_records() {
        let opt = "00 0029 04d0 00000000 0000";
        check(&format!("1234 0100 0001 0000 0000 0002 {QUESTION} {opt} {opt}"), "FORMERR");
    }
    #[test]
    fn opt_in_the_answer_section() {
        check(&format!("1234 0100 0001 0001 0000 0000 {QUESTION} 00 0029 04d0 00000000 0000"), "FORMERR");
    }
    #[test]
    fn opt_below_the_root() {
        check(
            &format!("1234 0100 0001 0000 0000 0001 {QUESTION} 0161 00 0029 04d0 00000000 0000"),
            "FORMERR",
        );
    }
    #[test]
    fn no_question_or_two() {
        check("1234 0100 0000 0000 0000 0000", "FORMERR");
        check(&format!("1234 0100 0002 0000 0000 0000 {QUESTION} {QUESTION}"), "FORMERR");
    }
    #[test]
    fn a_pointer_in_the_question() {
        check("1234 0100 0001 0000 0000 0000 c00c 0001 0001", "FORMERR");
    }
    #[test]
    fn trailing_octets() {
        check(&format!("1234 0100 0001 0000 0000 0000 {QUESTION} 00"), "FORMERR");
    }
    #[test]
    fn cut_short_anywhere_after_the_header() {
        let whole = bytes(&format!("1234 0100 0001 0000 0000 0001 {QUESTION} 00 0029 04d0 00008000 0000"));
        for length in 0..whole.len() {
            let expected = if length < HEADER_BYTES {
                Rejected::Ignore(Ignored::Short)
            } else {
                Rejected::Answer(Header::read(&whole).unwrap(), Rcode::FormErr)
            };
            assert_eq!(Query::parse(&whole[..length]), Err(expected), "{length} octets");
        }
    }
    #[test]
    fn answers_are_never_answered() {
        check(&format!("1234 8100 0001 0000 0000 0000 {QUESTION}"), "Response");
    }
    #[test]
    fn other_opcodes() {
        check("1234 2800 0001 0000 0000 0000", "NOTIMP");
        check("1234 7800 0000 0000 0000 0000", "NOTIMP");
    }
    #[test]
    fn reserved_bits_do_no_harm() {
        check(&format!("1234 0170 0001 0000 0000 0000 {QUESTION}"), "a. A 1");
    }
}
