//! Transaction signatures (RFC 8945): who shares a secret with us proves it with every message, and so do we. Pure: messages
//! and seconds in, messages out.
//!
//! A signed query is checked here, its TSIG record is cut off, and what is left is answered like any other; [`Signer`] then
//! signs the answer, or each message of a transfer. Algorithms are those with full-length MACs of SHA-2; MD5 and SHA-1 are
//! broken or nearly, and truncated MACs save octets that nobody misses.

mod key;
mod record;
#[cfg(test)]
mod tests;

pub use key::{Algorithm, Key, Keys};
pub use record::{Malformed, Record};

use std::sync::Arc;

use crate::wire::query::HEADER_BYTES;

/// For how many seconds a signature is good, before and after its time (RFC 8945 section 10 advises 300).
const FUDGE_S: u16 = 300;

/// Why a signature is not accepted, as the error field of the TSIG record says it (RFC 8945 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TsigError {
    BadSig = 16,
    BadKey = 17,
    BadTime = 18,
}

impl TsigError {
    /// The label in metrics and logs.
    pub fn kind(self) -> &'static str {
        match self {
            TsigError::BadSig => "bad-signature",
            TsigError::BadKey => "unknown-key",
            TsigError::BadTime => "bad-time",
        }
    }
}

/// What the end of a message says about its sender.
#[derive(Debug)]
pub enum Checked {
    Unsigned,
    /// The record is where no TSIG record may be, or is no whole one: a format error.
    Malformed,
    /// By whom, and what to answer with. The message without the record ends at `end`.
    Signed {
        signer: Signer,
        end: usize,
    },
    /// Not by anybody we know, or not now.
    Refused(Refusal),
}

/// A signature that was not accepted, and what the answer must say of it.
#[derive(Debug)]
pub struct Refusal {
    pub error: TsigError,
    /// The octets of the message in front of the record.
    pub end: usize,
    /// The record of the answer.
    answer: Vec<u8>,
    /// Present when the key is right and only the time is not: then the answer is signed.
    signer: Option<(Signer, u64)>,
}

impl Keys {
    /// Checks the signature of a query that came at `now`, in seconds since 1970.
    pub fn check(&self, message: &[u8], now: u64) -> Checked {
        let record = match Record::find(message) {
            Ok(None) => return Checked::Unsigned,
            Err(Malformed) => return Checked::Malformed,
            Ok(Some(record)) => record,
        };
        let refused = |error, signer| {
            let answer = record.refusal(error, now);
            Checked::Refused(Refusal { error, end: record.start, answer, signer })
        };
        let Some(key) = self.get(&record.key).filter(|key| key.algorithm.is_named(&record.algorithm)) else {
            return refused(TsigError::BadKey, None);
        };
        let signed = without_record(message, &record);
        if !key.verify(&[&signed, &record.variables()], record.mac) {
            return refused(TsigError::BadSig, None);
        }
        let signer = Signer { key: key.clone(), prior: record.mac.to_vec(), messages: 0 };
        if record.time_signed.abs_diff(now) > u64::from(record.fudge) {
            return refused(TsigError::BadTime, Some((signer, record.time_signed)));
        }
        Checked::Signed { signer, end: record.start }
    }
}

/// The message as its sender signed it: without the record, and with the id that it had then.
fn without_record(message: &[u8], record: &Record<'_>) -> Vec<u8> {
    let mut signed = message[..record.start].to_vec();
    signed[..2].copy_from_slice(&record.original_id.to_be_bytes());
    add_additional(&mut signed, -1);
    signed
}

/// Cuts the TSIG record, which starts at `end`, off a query.
pub fn strip(message: &[u8], end: usize) -> Vec<u8> {
    let mut plain = message[..end].to_vec();
    add_additional(&mut plain, -1);
    plain
}

/// Changes the count of the additional section.
fn add_additional(message: &mut [u8], change: i16) {
    let count = u16::from_be_bytes([message[10], message[11]]).wrapping_add_signed(change);
    message[10..12].copy_from_slice(&count.to_be_bytes());
}

/// Signs what goes to one peer in answer to one message, or one request of ours.
#[derive(Debug, Clone)]
pub struct Signer {
    key: Arc<Key>,
    /// The MAC before: of the query, then of the message before (RFC 8945 section 5.3.1). Empty: a request.
    prior: Vec<u8>,
    messages: u32,
}

impl Signer {
    /// For a request of ours.
    pub fn request(key: Arc<Key>) -> Signer {
        Signer { key, prior: Vec::new(), messages: 0 }
    }

    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Octets that the record adds to a message.
    pub fn bytes(&self) -> usize {
        record::bytes(&self.key, 0)
    }

    /// Appends the record to the message that starts at `start` of `out`.
    pub fn sign(&mut self, out: &mut Vec<u8>, start: usize, now: u64) {
        let record = Record::fresh(&self.key, &out[start..], now, FUDGE_S);
        self.append(out, start, &record);
    }

    fn append(&mut self, out: &mut Vec<u8>, start: usize, record: &record::Draft) {
        let prior_length =
            u16::try_from(self.prior.len()).expect("a MAC has at most 64 octets").to_be_bytes();
        let prior: [&[u8]; 2] = if self.prior.is_empty() { [&[], &[]] } else { [&prior_length, &self.prior] };
        // Behind the first message of a transfer only the time is signed again (RFC 8945 section 5.3.1).
        let variables = if self.messages == 0 { record.variables() } else { record.timers() };
        let mac = self.key.mac(&[prior[0], prior[1], &out[start..], &variables]);
        record.write(&mac, out);
        add_additional(&mut out[start..], 1);
        self.prior = mac;
        self.messages += 1;
    }

    /// Checks the answer to the request that this signed.
    pub fn accepts(&self, answer: &[u8], now: u64) -> bool {
        let Ok(Some(record)) = Record::find(answer) else { return false };
        let Ok(length) = u16::try_from(self.prior.len()) else { return false };
        let signed = without_record(answer, &record);
        record.error == 0
            && record.key == self.key.name
            && self.key.algorithm.is_named(&record.algorithm)
            && record.time_signed.abs_diff(now) <= u64::from(record.fudge)
            && self
                .key
                .verify(&[&length.to_be_bytes(), &self.prior, &signed, &record.variables()], record.mac)
    }
}

impl Refusal {
    /// Appends the record to the answer that starts at `start` of `out`: unsigned, because there is nothing that both sides
    /// know, except when only the time was wrong.
    pub fn write(self, out: &mut Vec<u8>, start: usize, now: u64) {
        match self.signer {
            Some((mut signer, time)) => {
                let draft = Record::late(&signer.key, &out[start..], time, now, FUDGE_S);
                signer.append(out, start, &draft);
            }
            None => {
                out.extend_from_slice(&self.answer);
                add_additional(&mut out[start..], 1);
            }
        }
    }
}

/// The id of a message, which has a header.
fn id(message: &[u8]) -> u16 {
    debug_assert!(message.len() >= HEADER_BYTES);
    u16::from_be_bytes([message[0], message[1]])
}
