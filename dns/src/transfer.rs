//! Zone transfer out (AXFR, RFC 5936): a whole zone as a sequence of messages, each made when the one before was taken, so
//! that a transfer holds one message and a reference to its zone, however large that is.
//!
//! An incremental transfer (IXFR, RFC 1995) is answered by the same sequence, which its rules allow, or by the SOA alone when
//! the client has that serial already, or a later one.

use std::sync::Arc;

use crate::answer::{OPT_BYTES, begin, plain_opt, record};
use crate::resolve::Part;
use crate::wire::query::HEADER_BYTES;
use crate::wire::{Full, Name, Query, Rcode, RecordType, Writer};
use crate::zone::{Node, Zone};

/// Octets of a message: compression pointers reach no further (RFC 1035 section 4.1.4), and a secondary can work on one
/// while the next is on its way.
const MESSAGE_BYTES: usize = 16_384;
/// For a record that is larger than that.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The SOA, first and last of all records (RFC 5936 section 2.2).
    FirstSoa,
    /// The record at this index of this set of this node.
    Record(usize, usize, usize),
    LastSoa,
    End,
}

/// A transfer under way.
#[derive(Debug)]
pub struct Transfer {
    zone: Arc<Zone>,
    query: Query,
    place: Place,
    /// Whether a message was made.
    begun: bool,
    /// What we accept over UDP, for OPT.
    udp_payload_bytes_max: u16,
    /// Octets of each message to leave for a signature.
    reserved: usize,
}

impl Transfer {
    /// The whole zone, or its SOA alone for a client that asks for changes since the serial that we have, or since a later
    /// one (RFC 1995 section 2, by the arithmetic of RFC 1982).
    pub fn new(
        zone: Arc<Zone>,
        query: Query,
        client_serial: Option<u32>,
        (udp_payload_bytes_max, reserved): (u16, usize),
    ) -> Transfer {
        let serial = zone.soa().1.serial;
        let current = query.question.record_type == RecordType::IXFR
            && client_serial.is_some_and(|known| known.wrapping_sub(serial) < 1 << 31);
        let place = if current { Place::LastSoa } else { Place::FirstSoa };
        Transfer { zone, query, place, begun: false, udp_payload_bytes_max, reserved }
    }

    /// The same with nothing but the SOA.
    #[must_use]
    pub fn soa_alone(self) -> Transfer {
        Transfer { place: Place::LastSoa, ..self }
    }

    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// Whether every record was written.
    pub fn is_complete(&self) -> bool {
        self.place == Place::End
    }

    /// Appends the next message.
    ///
    /// # Errors
    /// When a record does not fit any message; the transfer cannot go on.
    pub fn message(&mut self, out: &mut Vec<u8>) -> Result<(), Full> {
        let start = out.len();
        for bytes_max in [MESSAGE_BYTES, MESSAGE_BYTES_MAX] {
            if self.records(out, bytes_max - self.reserved)? > 0 {
                return Ok(());
            }
            out.truncate(start);
        }
        Err(Full)
    }

    /// Writes as many records as fit; how many did.
    fn records(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<u16, Full> {
        // In the first message OPT tells that EDNS is spoken here (RFC 5936 section 2.2.5).
        let edns = self.query.edns.filter(|_| !self.begun);
        let held_back = if edns.is_some() { OPT_BYTES } else { 0 };
        let mut writer = Writer::new(out, bytes_max - held_back).keeping_case();
        begin(&mut writer, &self.query, Rcode::NoError, true, false)?;
        let mut count = 0;
        while let Some((node, set, at)) = self.next() {
            let rrset = &node.rrsets[set];
            let part = Part { owner: &node.name, rrset, ttl: rrset.ttl, selected: None };
            let mark = writer.mark();
            if record(&mut writer, &part, at).is_err() || count == u16::MAX {
                writer.rewind(mark);
                break;
            }
            count += 1;
            self.advance();
        }
        writer.patch_u16(6, count);
        if let Some(edns) = edns {
            writer.limit(bytes_max);
            plain_opt(&mut writer, Rcode::NoError, edns.dnssec_ok, self.udp_payload_bytes_max, &[])?;
        }
        self.begun |= count > 0;
        Ok(count)
    }

    /// The record at this place.
    fn next(&self) -> Option<(&Node, usize, usize)> {
        match self.place {
            Place::FirstSoa | Place::LastSoa => {
                let apex = self.zone.apex();
                let soa = apex.rrsets.iter().position(|set| set.record_type == RecordType::SOA)?;
                Some((apex, soa, 0))
            }
            Place::Record(node, set, at) => Some((&self.zone.nodes()[node], set, at)),
            Place::End => None,
        }
    }

    fn advance(&mut self) {
        self.place = match self.place {
            Place::FirstSoa => self.settle(0, 0, 0),
            Place::Record(node, set, at) => self.settle(node, set, at + 1),
            Place::LastSoa | Place::End => Place::End,
        };
    }

    /// The first place from this one on with a record that is not the SOA.
    fn settle(&self, mut node: usize, mut set: usize, mut at: usize) -> Place {
        let nodes = self.zone.nodes();
        while let Some(here) = nodes.get(node) {
            match here.rrsets.get(set) {
                None => (node, set, at) = (node + 1, 0, 0),
                Some(rrset) if rrset.record_type == RecordType::SOA || at >= rrset.records.len() => {
                    (set, at) = (set + 1, 0);
                }
                Some(_) => return Place::Record(node, set, at),
            }
        }
        Place::LastSoa
    }
}

/// The serial in the authority section of a query for changes (RFC 1995 section 3).
pub fn client_serial(packet: &[u8]) -> Option<u32> {
    let u16_at = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    if u16_at(4)? != 1 || u16_at(6)? != 0 || u16_at(8)? == 0 {
        return None;
    }
    let question = Name::skip(packet, HEADER_BYTES).ok()? + 4;
    let fixed = Name::skip(packet, question).ok()?;
    if RecordType(u16_at(fixed)?) != RecordType::SOA {
        return None;
    }
    let mailbox = Name::skip(packet, fixed + 10).ok()?;
    let numbers = Name::skip(packet, mailbox).ok()?;
    Some(u32::from_be_bytes(packet.get(numbers..numbers + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
