//! One message in, and what becomes of it: signatures are checked and given (RFC 8945), transfers begin (RFC 5936), and
//! everything else is for [`answer`](crate::answer::answer). All come through here but for the fast path of UDP.

use std::net::IpAddr;
use std::sync::Arc;

use service_kit::Networks;

use crate::answer::{Terms, Verdict, answer_within, header_only, refuse};
use crate::transfer::{Transfer, client_serial};
use crate::tsig::{Checked, Keys, Refusal, Signer, strip};
use crate::wire::query::{HEADER_BYTES, Header};
use crate::wire::{Class, Name, Query, Rcode, RecordType};
use crate::zone::{Draw, Zones};

/// Who may do what.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Secrets that are shared with others.
    pub keys: Keys,
    pub transfers: Rules,
}

/// Who may take whole zones.
#[derive(Debug, Default)]
pub struct Rules {
    pub clients: Networks,
    /// Only signed transfers.
    pub signed: bool,
}

/// What becomes of a message of a stream.
#[derive(Debug)]
pub enum Outcome {
    /// As of a datagram.
    Told(Verdict),
    /// Nothing is written yet; every message of it is to be signed.
    Transfer(Transfer, Option<Signer>),
}

impl Exchange {
    /// Answers a datagram, or a request of HTTP, by appending one message to `out`, or none.
    pub fn datagram(
        &self,
        packet: &[u8],
        zones: &Zones,
        terms: Terms<'_>,
        draw: &mut impl Draw,
        out: &mut Vec<u8>,
    ) -> Verdict {
        match self.message(packet, zones, terms, draw, out) {
            Outcome::Told(verdict) => verdict,
            // A whole zone does not fit; its SOA says that there is something to come for (RFC 1995 section 2).
            Outcome::Transfer(transfer, signer) => {
                let start = out.len();
                let rcode = match transfer.soa_alone().message(out) {
                    Ok(()) => Rcode::NoError,
                    Err(_) => return Verdict::Ignored(crate::wire::Ignored::Short),
                };
                if let Some(mut signer) = signer {
                    signer.sign(out, start, terms.now_ms / 1_000);
                }
                Verdict::Answered { rcode, truncated: false }
            }
        }
    }

    /// Answers a message of a stream, or begins a transfer.
    pub fn message(
        &self,
        packet: &[u8],
        zones: &Zones,
        terms: Terms<'_>,
        draw: &mut impl Draw,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let now_s = terms.now_ms / 1_000;
        match self.keys.check(packet, now_s) {
            Checked::Unsigned => self.plain(packet, None, (zones, terms), draw, out),
            Checked::Malformed => Outcome::Told(match Header::read(packet) {
                Ok(header) => header_only(header, Rcode::FormErr, out),
                Err(why) => Verdict::Ignored(why),
            }),
            Checked::Refused(refusal) => Outcome::Told(not_authentic(packet, refusal, terms, out)),
            Checked::Signed { signer, end } => {
                self.plain(&strip(packet, end), Some(signer), (zones, terms), draw, out)
            }
        }
    }

    fn plain(
        &self,
        packet: &[u8],
        mut signer: Option<Signer>,
        (zones, terms): (&Zones, Terms<'_>),
        draw: &mut impl Draw,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let start = out.len();
        let verdict = match self.asked(packet, signer.as_ref(), zones, terms) {
            Asked::Other => {
                let reserved = signer.as_ref().map_or(0, Signer::bytes);
                answer_within(packet, zones, terms, reserved, draw, out)
            }
            Asked::Refused(query, rcode) => refuse(&query, rcode, terms, out),
            Asked::Transfer(transfer) => return Outcome::Transfer(transfer, signer),
        };
        if let (Some(signer), Verdict::Answered { .. }) = (&mut signer, verdict) {
            signer.sign(out, start, terms.now_ms / 1_000);
        }
        Outcome::Told(verdict)
    }

    /// Whether this is a transfer, and one that is allowed.
    fn asked(&self, packet: &[u8], signer: Option<&Signer>, zones: &Zones, terms: Terms<'_>) -> Asked {
        let Some(record_type) = question_type(packet) else { return Asked::Other };
        let of_changes = record_type == RecordType::IXFR;
        // Where an answer is one message, only changes can be asked for (RFC 5936 section 4.2).
        if !of_changes && (record_type != RecordType::AXFR || !terms.transport.is_stream()) {
            return Asked::Other;
        }
        let Ok(query) = Query::parse(packet) else { return Asked::Other };
        // BADVERS is for all questions alike.
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return Asked::Other;
        }
        if query.question.class != Class::IN || !self.transfers.allow(terms.client, signer) {
            return Asked::Refused(query, Rcode::Refused);
        }
        let Some(zone) = zones.get(&query.question.name).map(Arc::clone) else {
            return Asked::Refused(query, Rcode::NotAuth);
        };
        let serial = client_serial(packet).filter(|_| of_changes);
        let signature_bytes = signer.map_or(0, Signer::bytes);
        Asked::Transfer(Transfer::new(zone, query, serial, (terms.udp_payload_bytes_max, signature_bytes)))
    }
}

enum Asked {
    /// Not a transfer, or not a query at all.
    Other,
    Refused(Query, Rcode),
    Transfer(Transfer),
}

impl Rules {
    fn allow(&self, client: Option<IpAddr>, signer: Option<&Signer>) -> bool {
        client.is_some_and(|client| self.clients.contain(client)) && (!self.signed || signer.is_some())
    }
}

/// The type that is asked for, without reading more of the message.
fn question_type(packet: &[u8]) -> Option<RecordType> {
    if packet.len() < HEADER_BYTES || packet[4..6] != [0, 1] {
        return None;
    }
    let at = Name::skip(packet, HEADER_BYTES).ok()?;
    Some(RecordType(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?)))
}

/// NOTAUTH with the reason in a TSIG record (RFC 8945 section 5.2).
fn not_authentic(packet: &[u8], refusal: Refusal, terms: Terms<'_>, out: &mut Vec<u8>) -> Verdict {
    let start = out.len();
    let verdict = match Query::parse(&strip(packet, refusal.end)) {
        Ok(query) => refuse(&query, Rcode::NotAuth, terms, out),
        Err(crate::wire::Rejected::Ignore(why)) => return Verdict::Ignored(why),
        Err(crate::wire::Rejected::Answer(header, _)) => header_only(header, Rcode::NotAuth, out),
    };
    refusal.write(out, start, terms.now_ms / 1_000);
    verdict
}

#[cfg(test)]
mod tests;
