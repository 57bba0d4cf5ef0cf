//! The TSIG record on the wire (RFC 8945 section 4.2).

use super::key::Key;
use super::{TsigError, id};
use crate::wire::query::HEADER_BYTES;
use crate::wire::{Name, RecordType};

/// Class and TTL of every TSIG record: ANY and 0.
const CLASS_AND_TTL: [u8; 6] = [0, 255, 0, 0, 0, 0];

/// A message that is cut short or has a TSIG record in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A TSIG record as it was read, at the end of its message.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'m> {
    /// Where it starts.
    pub start: usize,
    pub key: Name,
    pub algorithm: Name,
    /// Seconds since 1970.
    pub time_signed: u64,
    pub fudge: u16,
    pub mac: &'m [u8],
    pub original_id: u16,
    pub error: u16,
    pub other: &'m [u8],
}

/// A record to be written: everything but the MAC.
#[derive(Debug)]
pub(super) struct Draft {
    /// Canonical: lower case (RFC 8945 section 4.3.3).
    key: Box<[u8]>,
    algorithm: Name,
    time_signed: u64,
    fudge: u16,
    original_id: u16,
    error: u16,
    other: Vec<u8>,
}

impl<'m> Record<'m> {
    /// The TSIG record of a message; nothing when it has none.
    pub fn find(message: &'m [u8]) -> Result<Option<Record<'m>>, Malformed> {
        let count = |at: usize| u16_at(message, at).ok_or(Malformed);
        if count(10)? == 0 {
            return Ok(None);
        }
        let mut at = HEADER_BYTES;
        for _ in 0..count(4)? {
            at = Name::skip(message, at).map_err(|_| Malformed)? + 4;
        }
        let records = u32::from(count(6)?) + u32::from(count(8)?) + u32::from(count(10)?);
        for left in (0..records).rev() {
            let fixed = Name::skip(message, at).map_err(|_| Malformed)?;
            let record_type = u16_at(message, fixed).ok_or(Malformed)?;
            let rdata = fixed + 10;
            let end = rdata + usize::from(u16_at(message, fixed + 8).ok_or(Malformed)?);
            if end > message.len() {
                return Err(Malformed);
            }
            if RecordType(record_type) == RecordType::TSIG {
                // Only the last record of all may be one (RFC 8945 section 5.1).
                let last =
                    left == 0 && end == message.len() && message[fixed + 2..fixed + 8] == CLASS_AND_TTL;
                let read = last.then(|| Record::read(message, at, rdata, end)).flatten();
                return read.map(Some).ok_or(Malformed);
            }
            at = end;
        }
        Ok(None)
    }

    fn read(message: &'m [u8], start: usize, rdata: usize, end: usize) -> Option<Record<'m>> {
        // Neither name may be compressed (RFC 8945 section 4.2), so nothing points out of the record.
        let (key, _) = Name::read_plain(message, start).ok()?;
        let (algorithm, at) = Name::read_plain(message, rdata).ok()?;
        let time = message.get(at..at + 6)?;
        let time_signed = time.iter().fold(0, |sum, octet| (sum << 8) | u64::from(*octet));
        let fudge = u16_at(message, at + 6)?;
        let (mac, at) = counted(message, at + 8)?;
        let (original_id, error) = (u16_at(message, at)?, u16_at(message, at + 2)?);
        let (other, at) = counted(message, at + 4)?;
        (at == end).then_some(Record {
            start,
            key,
            algorithm,
            time_signed,
            fudge,
            mac,
            original_id,
            error,
            other,
        })
    }

    /// What is signed beside the message.
    pub(super) fn variables(&self) -> Vec<u8> {
        self.draft().variables()
    }

    fn draft(&self) -> Draft {
        Draft {
            key: self.key.key(),
            algorithm: self.algorithm.clone(),
            time_signed: self.time_signed,
            fudge: self.fudge,
            original_id: self.original_id,
            error: self.error,
            other: self.other.to_vec(),
        }
    }

    /// The record that says why this one is not accepted, without a MAC (RFC 8945 section 5.3.2).
    pub(super) fn refusal(&self, error: TsigError, now: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Draft { time_signed: now, error: error as u16, other: Vec::new(), ..self.draft() }
            .write(&[], &mut out);
        out
    }

    /// The record for a message of ours.
    pub(super) fn fresh(key: &Key, message: &[u8], now: u64, fudge: u16) -> Draft {
        Draft {
            key: key.name.key(),
            algorithm: key.algorithm.name(),
            time_signed: now,
            fudge,
            original_id: id(message),
            error: 0,
            other: Vec::new(),
        }
    }

    /// The record for the answer to what was signed at `time`, which our clock does not believe: it says what ours shows.
    pub(super) fn late(key: &Key, message: &[u8], time: u64, now: u64, fudge: u16) -> Draft {
        let draft = Record::fresh(key, message, time, fudge);
        Draft { error: TsigError::BadTime as u16, other: time48(now).to_vec(), ..draft }
    }
}

impl Draft {
    /// What is signed beside the message (RFC 8945 section 4.3.3).
    pub(super) fn variables(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(self.key.len() + self.algorithm.wire().len() + 18 + self.other.len());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&CLASS_AND_TTL);
        out.extend_from_slice(&self.algorithm.key());
        out.extend_from_slice(&self.timers());
        out.extend_from_slice(&self.error.to_be_bytes());
        out.extend_from_slice(&length(&self.other));
        out.extend_from_slice(&self.other);
        out
    }

    /// What is signed beside a later message of a transfer.
    pub(super) fn timers(&self) -> Vec<u8> {
        [&time48(self.time_signed)[..], &self.fudge.to_be_bytes()].concat()
    }

    /// Appends the record.
    pub(super) fn write(&self, mac: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&RecordType::TSIG.0.to_be_bytes());
        out.extend_from_slice(&CLASS_AND_TTL);
        let algorithm = self.algorithm.wire();
        let rdata = algorithm.len() + 16 + mac.len() + self.other.len();
        out.extend_from_slice(&u16::try_from(rdata).expect("names and MACs are short").to_be_bytes());
        out.extend_from_slice(algorithm);
        out.extend_from_slice(&self.timers());
        out.extend_from_slice(&length(mac));
        out.extend_from_slice(mac);
        out.extend_from_slice(&self.original_id.to_be_bytes());
        out.extend_from_slice(&self.error.to_be_bytes());
        out.extend_from_slice(&length(&self.other));
        out.extend_from_slice(&self.other);
    }
}

/// Octets of a record signed with this key.
pub(super) fn bytes(key: &Key, other: usize) -> usize {
    key.name.wire().len() + 10 + key.algorithm.name().wire().len() + 16 + key.algorithm.mac_bytes() + other
}

fn time48(seconds: u64) -> [u8; 6] {
    let [_, _, octets @ ..] = seconds.to_be_bytes();
    octets
}

fn length(octets: &[u8]) -> [u8; 2] {
    u16::try_from(octets.len()).expect("MACs and times are short").to_be_bytes()
}

/// Octets behind their length, and where they end.
fn counted(message: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let start = at + 2;
    let end = start + usize::from(u16_at(message, at)?);
    Some((message.get(start..end)?, end))
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    let octets = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([octets[0], octets[1]]))
}
