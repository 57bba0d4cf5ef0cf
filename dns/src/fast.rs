//! Answers common queries without building anything: the question is looked up as it stands on the wire, and the answer
//! is the question and octets that were laid out when the zone was loaded. Whatever is not common is left to
//! [`answer()`](crate::answer::answer()), and what is answered here is octet for octet what it would have answered; a test, a
//! fuzz target and a sample of the running server's queries compare the two.

use crate::answer::{OPT_BYTES, TYPE_AND_CLASS_BYTES, UDP_BYTES_MIN, Verdict};
use crate::wire::query::HEADER_BYTES;
use crate::wire::{Class, Rcode, RecordType};
use crate::zone::encoded::{Encoded, NEGATIVE_LABELS_MAX, Negative};
use crate::zone::{Draw, Rrset, Zones};

/// The longest name (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Names with more labels take the slow path.
const LABELS_MAX: usize = NEGATIVE_LABELS_MAX;
/// Names that begin so are not looked up in a zone: they ask why another name is answered as it is.
const EXPLANATION: &[u8] = b"\x04_why";

/// A query of the common form: one question in class IN and at most an OPT record without options.
struct Asked<'p> {
    packet: &'p [u8],
    name: LowerName,
    record_type: RecordType,
    /// What the client takes over UDP, and its DO bit.
    edns: Option<(u16, bool)>,
}

/// A name in lower-case wire form with the places of its labels.
struct LowerName {
    octets: [u8; NAME_BYTES_MAX],
    bytes: usize,
    starts: [u8; LABELS_MAX],
    labels: usize,
}

/// What stands behind the question.
enum Body<'z> {
    Records(&'z Rrset, &'z [u8], usize),
    Negative(Rcode, &'z Negative),
}

/// Appends the answer to a query that came over UDP, or leaves `out` alone and returns `None`: then the slow path has to
/// answer.
pub fn fast(
    packet: &[u8],
    zones: &Zones,
    udp_payload_bytes_max: u16,
    draw: &mut impl Draw,
    out: &mut Vec<u8>,
) -> Option<Verdict> {
    let asked = Asked::read(packet)?;
    let body = look_up(zones, &asked)?;
    write(&asked, &body, udp_payload_bytes_max.max(UDP_BYTES_MIN), draw, out)
}

impl<'p> Asked<'p> {
    fn read(packet: &'p [u8]) -> Option<Asked<'p>> {
        let header = packet.first_chunk::<HEADER_BYTES>()?;
        // A query of opcode 0 with RD at most; of the second octet's bits only CD is answered and AD does no harm.
        let plain = header[2] & 0xFE == 0 && header[3] & 0xCF == 0;
        let opt_count = match &header[4..] {
            [0, 1, 0, 0, 0, 0, 0, count @ (0 | 1)] if plain => *count,
            _ => return None,
        };
        let name = LowerName::read(&packet[HEADER_BYTES..])?;
        let rest = &packet[HEADER_BYTES + name.bytes..];
        let ([type_high, type_low, class_high, class_low], opt) = rest.split_first_chunk()?;
        if u16::from_be_bytes([*class_high, *class_low]) != Class::IN.0 {
            return None;
        }
        let edns = match (opt_count, opt) {
            (0, []) => None,
            // The root, type 41, the size, the extended code, version 0, the flags, no options.
            (1, [0, 0, 41, high, low, _, 0, flags, _, 0, 0]) => {
                Some((u16::from_be_bytes([*high, *low]), flags & 0x80 != 0))
            }
            _ => return None,
        };
        let record_type = RecordType(u16::from_be_bytes([*type_high, *type_low]));
        Some(Asked { packet, name, record_type, edns })
    }

    /// Header, question and what will follow them.
    fn question_bytes(&self) -> usize {
        HEADER_BYTES + self.name.bytes + TYPE_AND_CLASS_BYTES
    }
}

impl LowerName {
    /// Reads the name at the front; pointers, the root and names of many labels are not common.
    fn read(octets: &[u8]) -> Option<LowerName> {
        let mut name =
            LowerName { octets: [0; NAME_BYTES_MAX], bytes: 0, starts: [0; LABELS_MAX], labels: 0 };
        let mut at = 0;
        loop {
            let length = usize::from(*octets.get(at)?);
            match length {
                0 => break,
                1..=63 => {
                    *name.starts.get_mut(name.labels)? = u8::try_from(at).ok()?;
                    name.labels += 1;
                    at += 1 + length;
                }
                _ => return None,
            }
        }
        name.bytes = at + 1;
        if name.labels == 0 {
            return None;
        }
        let lower = name.octets.get_mut(..name.bytes)?;
        // Length octets are below the letters.
        lower.copy_from_slice(&octets[..name.bytes]);
        lower.make_ascii_lowercase();
        Some(name)
    }

    /// The name without its `skip` leftmost labels.
    fn suffix(&self, skip: usize) -> &[u8] {
        let start = if skip < self.labels { usize::from(self.starts[skip]) } else { self.bytes - 1 };
        &self.octets[start..self.bytes]
    }

    /// The label at this place from the left, without its length.
    fn label(&self, at: usize) -> &[u8] {
        let suffix = self.suffix(at);
        &suffix[1..=usize::from(suffix[0])]
    }
}

fn look_up<'z>(zones: &'z Zones, asked: &Asked<'_>) -> Option<Body<'z>> {
    let (name, record_type) = (&asked.name, asked.record_type);
    // DS is the parent's to answer; the others are no types of records.
    if record_type == RecordType::DS || record_type.is_meta() || name.octets.starts_with(EXPLANATION) {
        return None;
    }
    let shortest = name.labels.saturating_sub(zones.labels_max());
    let (depth, zone) =
        (shortest..=name.labels).find_map(|depth| Some((depth, zones.by_key(name.suffix(depth))?)))?;
    let (code, node) = match zone.at(name.suffix(0)) {
        Some(node) => (Rcode::NoError, Some(node)),
        None => {
            let encloser = (1..=depth).find_map(|skip| zone.at(name.suffix(skip)))?;
            if !encloser.is_plain() {
                return None;
            }
            match zone.wildcard(encloser) {
                Some(wildcard) => (Rcode::NoError, Some(wildcard)),
                None => (Rcode::NxDomain, None),
            }
        }
    };
    if let Some(node) = node {
        if !node.is_fast() {
            return None;
        }
        if let Some(rrset) = node.rrset(record_type) {
            return match rrset.encoded() {
                Encoded::Records { octets, size } => Some(Body::Records(rrset, octets, usize::from(*size))),
                _ => None,
            };
        }
        if node.rrset(RecordType::CNAME).is_some() {
            return None;
        }
    }
    match zone.soa().0.encoded() {
        Encoded::Negative(negative) if depth == 0 || negative.suits(name.label(depth - 1)) => {
            Some(Body::Negative(code, negative))
        }
        _ => None,
    }
}

fn write(
    asked: &Asked<'_>,
    body: &Body<'_>,
    udp_payload_bytes_max: u16,
    draw: &mut impl Draw,
    out: &mut Vec<u8>,
) -> Option<Verdict> {
    let (rcode, answers, body_bytes) = match body {
        Body::Records(rrset, octets, 0) => (Rcode::NoError, rrset.records.len(), octets.len()),
        Body::Records(rrset, _, size) => {
            let count = rrset.answer_count();
            (Rcode::NoError, count, count * size)
        }
        Body::Negative(rcode, negative) => (*rcode, 0, negative.bytes()),
    };
    let opt_bytes = if asked.edns.is_some() { OPT_BYTES } else { 0 };
    let most =
        asked.edns.map_or(UDP_BYTES_MIN, |(payload, _)| payload.clamp(UDP_BYTES_MIN, udp_payload_bytes_max));
    if asked.question_bytes() + body_bytes + opt_bytes > usize::from(most) {
        return None;
    }
    let [answers_high, answers_low] = u16::try_from(answers).ok()?.to_be_bytes();
    let authority = u8::from(matches!(body, Body::Negative(..)));
    let packet = asked.packet;
    // QR and AA; the client's RD and CD.
    let flags = [0x84 | packet[2] & 0x01, packet[3] & 0x10 | rcode.low()];
    out.extend_from_slice(&[
        packet[0],
        packet[1],
        flags[0],
        flags[1],
        0,
        1,
        answers_high,
        answers_low,
        0,
        authority,
        0,
        packet[11],
    ]);
    out.extend_from_slice(&packet[HEADER_BYTES..asked.question_bytes()]);
    match body {
        Body::Records(_, octets, 0) => out.extend_from_slice(octets),
        Body::Records(rrset, octets, size) => {
            rrset.runs(draw, |run| out.extend_from_slice(&octets[run.start * size..run.end * size]));
        }
        Body::Negative(_, negative) => negative.write(asked.name.bytes, out),
    }
    if let Some((_, dnssec_ok)) = asked.edns {
        let [high, low] = udp_payload_bytes_max.to_be_bytes();
        out.extend_from_slice(&[0, 0, 41, high, low, 0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    }
    Some(Verdict::Answered { rcode, truncated: false })
}
