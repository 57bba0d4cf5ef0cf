//! Sets as octets that only need to be copied: made once, when a set is sealed. Owners are pointers to the question,
//! which always stands at offset 12, so an answer's records are the same octets whatever the case or the wildcard that
//! the name was found by. What cannot be laid out ahead stays with the slow path.

use super::rdata::{Rdata, Soa};
use super::rrset::Rrset;
use crate::wire::writer::SUFFIXES_MAX;
use crate::wire::{Class, Name, RecordType, Writer};

/// A pointer to the name in the question.
const QUESTION: [u8; 2] = [0xC0, 0x0C];
/// Where the question starts.
const QUESTION_AT: usize = 12;
/// Sets over this size never fit a datagram of the largest size that can be configured.
const OCTETS_MAX: usize = 4_096;

/// What is kept ready of one set.
#[derive(Debug, Clone, Default)]
pub enum Encoded {
    /// Nothing: the slow path answers.
    #[default]
    None,
    /// Whole records, each of `size` octets, or of different sizes when that is 0; then they are given in one piece.
    Records { octets: Box<[u8]>, size: u16 },
    /// The SOA record of a negative answer.
    Negative(Box<Negative>),
}

impl Encoded {
    /// Lays out a set.
    pub(super) fn of(owner: &Name, rrset: &Rrset) -> Encoded {
        match rrset.record_type {
            RecordType::A | RecordType::AAAA => records(rrset, true),
            RecordType::TXT => records(rrset, false),
            RecordType::SOA => match rrset.records.first() {
                Some(Rdata::Soa(soa)) => {
                    let negative = Negative::of(owner, soa, rrset.ttl);
                    negative.map_or(Encoded::None, |it| Encoded::Negative(Box::new(it)))
                }
                _ => Encoded::None,
            },
            _ => Encoded::None,
        }
    }
}

fn records(rrset: &Rrset, one_size: bool) -> Encoded {
    let mut octets = Vec::new();
    let mut size = 0;
    for rdata in &rrset.records {
        let Rdata::Plain(data) = rdata else { return Encoded::None };
        let Ok(length) = u16::try_from(data.len()) else { return Encoded::None };
        let before = octets.len();
        octets.extend_from_slice(&QUESTION);
        octets.extend_from_slice(&rrset.record_type.0.to_be_bytes());
        octets.extend_from_slice(&Class::IN.0.to_be_bytes());
        octets.extend_from_slice(&rrset.ttl.to_be_bytes());
        octets.extend_from_slice(&length.to_be_bytes());
        octets.extend_from_slice(data);
        size = octets.len() - before;
        if octets.len() > OCTETS_MAX {
            return Encoded::None;
        }
    }
    let in_one_piece = rrset.answer_count() == rrset.records.len();
    match u16::try_from(size) {
        Ok(size) if one_size => Encoded::Records { octets: octets.into(), size },
        Ok(_) if in_one_piece => Encoded::Records { octets: octets.into(), size: 0 },
        _ => Encoded::None,
    }
}

/// The SOA record as it stands in a negative answer (RFC 2308 section 3), laid out for a question that is the zone's
/// origin. In an answer to a longer question everything stands that much later, and so all pointers lead that much
/// further.
#[derive(Debug, Clone)]
pub struct Negative {
    octets: Box<[u8]>,
    /// Where pointers stand: of the owner and of the two names in the data.
    pointers: Vec<u16>,
    origin_bytes: usize,
    /// The labels left of the origin in the two names of the data. A question with the same label there shares more than
    /// the origin with them, and only the slow path compresses that.
    neighbours: [Box<[u8]>; 2],
}

/// Labels of the three names of a SOA record, and of a question that is answered with it. Together they are what the
/// writer remembers for compression; beyond that it compresses less.
pub const NEGATIVE_LABELS_MAX: usize = SUFFIXES_MAX / 2;

impl Negative {
    fn of(owner: &Name, soa: &Soa, ttl: u32) -> Option<Negative> {
        let names = [owner, &soa.primary, &soa.mailbox];
        if names.iter().map(|name| name.label_count()).sum::<usize>() > NEGATIVE_LABELS_MAX {
            return None;
        }
        let mut message = Vec::new();
        let mut writer = Writer::new(&mut message, OCTETS_MAX);
        writer.put(&[0; QUESTION_AT]).ok()?;
        writer.put_name(owner).ok()?;
        writer.put(&[0; 4]).ok()?;
        let owner_at = writer.bytes();
        writer.put_name(owner).ok()?;
        writer.put_u16(RecordType::SOA.0).ok()?;
        writer.put_u16(Class::IN.0).ok()?;
        writer.put_u32(ttl.min(soa.minimum)).ok()?;
        let length_at = writer.bytes();
        writer.put_u16(0).ok()?;
        soa.write(&mut writer).ok()?;
        let length = writer.bytes() - length_at - 2;
        writer.patch_u16(length_at, u16::try_from(length).ok()?);
        let (primary_pointer, mailbox_at) = end_of_name(&message, length_at + 2);
        let found = [end_of_name(&message, owner_at).0, primary_pointer, end_of_name(&message, mailbox_at).0];
        let relative = |at: usize| u16::try_from(at - owner_at).ok();
        Some(Negative {
            octets: message[owner_at..].into(),
            pointers: found.into_iter().flatten().filter_map(relative).collect(),
            origin_bytes: owner.wire().len(),
            neighbours: [&soa.primary, &soa.mailbox].map(|name| label_left_of(owner, name)),
        })
    }

    /// Octets of the record.
    pub fn bytes(&self) -> usize {
        self.octets.len()
    }

    /// Whether the record can be given to a question of `name_bytes` octets with `label` left of the origin.
    pub fn suits(&self, label: &[u8]) -> bool {
        !self.neighbours.iter().any(|it| !it.is_empty() && it.eq_ignore_ascii_case(label))
    }

    /// Appends the record to an answer whose question has a name of `name_bytes` octets.
    pub fn write(&self, name_bytes: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.octets);
        let later = name_bytes.wrapping_sub(self.origin_bytes) as u16;
        for pointer in &self.pointers {
            let at = start + usize::from(*pointer);
            let moved = u16::from_be_bytes([out[at], out[at + 1]]).wrapping_add(later);
            out[at..at + 2].copy_from_slice(&moved.to_be_bytes());
        }
    }
}

/// Where the pointer at the end of the name at `at` stands, if it ends with one, and where the name ends.
fn end_of_name(message: &[u8], mut at: usize) -> (Option<usize>, usize) {
    loop {
        match message.get(at) {
            Some(0) | None => return (None, at + 1),
            Some(0xC0..) => return (Some(at), at + 2),
            Some(length) => at += 1 + usize::from(*length),
        }
    }
}

/// The label of `name` that stands directly left of `origin`; empty when the name does not lie below it.
fn label_left_of(origin: &Name, name: &Name) -> Box<[u8]> {
    let below = name.label_count().checked_sub(origin.label_count() + 1).filter(|_| name.is_within(origin));
    below.and_then(|at| name.labels().nth(at)).unwrap_or_default().into()
}
