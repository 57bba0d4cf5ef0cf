//! From the octets of a query to the octets of its answer. The same function serves all transports; it owns nothing, reads
//! no socket and no clock (but to explain itself), and any octets are an acceptable query.

use crate::cookie::Standing;
use crate::extras::{Extras, Outcome};
use crate::limiter::Decision;
use crate::resolve::{Asker, Part, Reply, Scratch, resolve};
use crate::roster::now_unix_ms;
use crate::steering::Client;
use crate::steering::why::why;
use crate::wire::options::put_padding;
use crate::wire::query::{Edns, HEADER_BYTES, Header};
use crate::wire::{Class, Full, Ignored, Query, Question, Rcode, RecordType, Rejected, Writer};
use crate::zone::{Draw, Order, Rrset, Zones};
use std::net::IpAddr;

/// What every client can take over UDP (RFC 1035 section 4.2.1).
pub const UDP_BYTES_MIN: u16 = 512;
/// A whole message behind its two-octet length.
pub const TCP_BYTES_MAX: usize = 65_535;
/// An OPT record without options.
pub(crate) const OPT_BYTES: usize = 11;
/// Type and class of the question.
pub(crate) const TYPE_AND_CLASS_BYTES: usize = 4;
/// An option without its value.
const OPTION_BYTES: usize = 4;
/// Padded answers have a multiple of so many octets (RFC 8467 section 4.1).
const PADDED_BYTES: usize = 468;

/// The ways a query arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    /// RFC 7858.
    Tls,
    /// RFC 8484.
    Https,
}

impl Transport {
    pub const ALL: [Transport; 4] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Https => "https",
        }
    }

    /// Whether messages are framed on a connection that is DNS's own, so that a query may have several in answer.
    pub fn is_stream(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }

    /// Whether whoever listens sees the lengths of messages alone.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Https)
    }
}

/// How answers are given.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'e> {
    pub transport: Transport,
    /// The most we send over UDP and the most we announce, whatever a client claims: longer datagrams are fragmented on
    /// the way, and fragments are lost or forged.
    pub udp_payload_bytes_max: u16,
    /// Where the query came from, for names whose answer depends on it.
    pub client: Option<IpAddr>,
    /// What is said and done beside the records; nothing where there is none.
    pub extras: Option<&'e Extras>,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

impl Terms<'_> {
    /// Answers of records alone, the same for every client.
    pub fn plain(transport: Transport, udp_payload_bytes_max: u16) -> Terms<'static> {
        Terms { transport, udp_payload_bytes_max, client: None, extras: None, now_ms: 0 }
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was written; nothing is to be sent.
    Ignored(Ignored),
    /// Nothing was written: this client's network has had this answer too often.
    Limited,
    /// One message was appended.
    Answered { rcode: Rcode, truncated: bool },
}

/// Answers a query like [`answer`], and leaves `reserved` octets of what its client can take for a signature.
pub fn answer_within(
    packet: &[u8],
    zones: &Zones,
    terms: Terms<'_>,
    reserved: usize,
    draw: &mut impl Draw,
    out: &mut Vec<u8>,
) -> Verdict {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Rejected::Ignore(why)) => return Verdict::Ignored(why),
        Err(Rejected::Answer(header, rcode)) => return header_only(header, rcode, out),
    };
    let scratch = Scratch::default();
    let Outcome { octets: mut options, standing } = extra_options(&query, terms, 0);
    let required = terms.transport == Transport::Udp && terms.extras.is_some_and(|it| it.cookies_required);
    let explained = why(zones, &query.question, terms.client, now_unix_ms, draw);
    let subnet = query.edns.and_then(|edns| edns.options.subnet).and_then(|subnet| subnet.network());
    let mut said_of_us = None;
    let reply = match query.edns {
        // RFC 6891 section 6.1.3: the version we do speak is in our OPT record.
        Some(edns) if edns.version != 0 => Reply::empty(Rcode::BadVers),
        // RFC 7873 section 5.2.3: the right cookie goes along.
        Some(_) if required && standing == Some(Standing::New) => Reply::empty(Rcode::BadCookie),
        _ => match (terms.extras.and_then(|extras| extras.identity.chaos(&query.question)), &explained) {
            (Some(text), _) => {
                said_of_us = Some(text);
                Reply::empty(Rcode::NoError)
            }
            (None, Some(rrset)) => Reply::of(&query.question.name, rrset),
            (None, None) => {
                // RFC 7871 section 7.2.1: where the client of a resolver is, if the resolver says so.
                let client =
                    subnet.or(terms.client).map(|address| Client { address: address.to_canonical() });
                resolve(zones, &query.question, &scratch, &mut Asker { client, draw })
            }
        },
    };
    if subnet.is_some() && reply.scope > 0 {
        options = extra_options(&query, terms, reply.scope).octets;
    }
    match limit(&reply, standing, terms) {
        Decision::Send => match said_of_us {
            Some(text) => chaos(&query, text, &options, (terms, reserved), out),
            None => write_message(&query, Some(&reply), &options, (terms, reserved), draw, out),
        },
        Decision::Slip => write_message(&query, None, &options, (terms, reserved), draw, out),
        Decision::Drop => Verdict::Limited,
    }
}

/// The options that the answer has.
fn extra_options(query: &Query, terms: Terms<'_>, scope_bits: u8) -> Outcome {
    match (terms.extras, query.edns) {
        (Some(extras), Some(edns)) if edns.version == 0 => {
            let now_s = (terms.now_ms / 1_000) as u32;
            extras.answer(&edns.options, (terms.client, terms.transport), scope_bits, now_s)
        }
        _ => Outcome::default(),
    }
}

/// Whether an answer over UDP is given. Clients that proved their address are not limited (RFC 7873 section 5.2.4). Equal
/// answers are those that begin with the same set: all names of a wildcard, of a delegation, or missing in a zone.
fn limit(reply: &Reply<'_>, standing: Option<Standing>, terms: Terms<'_>) -> Decision {
    let limiter = terms.extras.and_then(|extras| extras.limiter.as_ref());
    let (Some(limiter), Some(client), Transport::Udp) = (limiter, terms.client, terms.transport) else {
        return Decision::Send;
    };
    if standing == Some(Standing::Proved) {
        return Decision::Send;
    }
    let first = reply.answers.first().or(reply.authority.first());
    let set = first.map(|part| std::ptr::from_ref(part.rrset).addr());
    limiter.decide(client, &(reply.rcode, set), terms.now_ms)
}

/// One text about the server itself, in class CH (RFC 4892).
fn chaos(query: &Query, text: &str, options: &[u8], terms: (Terms<'_>, usize), out: &mut Vec<u8>) -> Verdict {
    let mut writer = Writer::new(out, usize::from(UDP_BYTES_MIN));
    let fits = "512 octets hold one of our few names, a short text and OPT";
    begin(&mut writer, query, Rcode::NoError, true, false).expect(fits);
    let length = u8::try_from(text.len()).expect("texts about ourselves are short");
    let data = [&[0xC0, 12, 0, 16, 0, 3, 0, 0, 0, 0, 0, length + 1, length], text.as_bytes()].concat();
    writer.put(&data).expect(fits);
    writer.patch_u16(6, 1);
    if let Some(edns) = query.edns {
        opt(&mut writer, Rcode::NoError, &edns, options, terms).expect(fits);
    }
    Verdict::Answered { rcode: Rcode::NoError, truncated: false }
}

/// Answers one packet by appending a message to `out`. `draw` gives chance and turns to
/// the sets whose order needs them.
pub fn answer(
    packet: &[u8],
    zones: &Zones,
    terms: Terms<'_>,
    draw: &mut impl Draw,
    out: &mut Vec<u8>,
) -> Verdict {
    answer_within(packet, zones, terms, 0, draw, out)
}

/// A code without records.
pub(crate) fn refuse(query: &Query, rcode: Rcode, terms: Terms<'_>, out: &mut Vec<u8>) -> Verdict {
    let mut writer = Writer::new(out, usize::from(UDP_BYTES_MIN));
    let fits = "512 octets hold a header, any question and OPT";
    begin(&mut writer, query, rcode, false, false).expect(fits);
    if let Some(edns) = query.edns {
        plain_opt(&mut writer, rcode, edns.dnssec_ok, terms.udp_payload_bytes_max, &[]).expect(fits);
    }
    Verdict::Answered { rcode, truncated: false }
}

/// An answer to a packet whose question we could not or would not read.
pub(crate) fn header_only(header: Header, rcode: Rcode, out: &mut Vec<u8>) -> Verdict {
    out.extend_from_slice(&header_octets(header, rcode, false, false));
    Verdict::Answered { rcode, truncated: false }
}

/// Writes a reply, or in place of one only that there is more to be had over TCP.
fn write_message(
    query: &Query,
    reply: Option<&Reply<'_>>,
    options: &[u8],
    (terms, reserved): (Terms<'_>, usize),
    draw: &mut impl Draw,
    out: &mut Vec<u8>,
) -> Verdict {
    let bytes_max = match terms.transport {
        Transport::Tcp | Transport::Tls | Transport::Https => TCP_BYTES_MAX,
        Transport::Udp => {
            let asked = query.edns.map_or(UDP_BYTES_MIN, |edns| edns.payload_bytes);
            let most = terms.udp_payload_bytes_max.max(UDP_BYTES_MIN);
            usize::from(asked.clamp(UDP_BYTES_MIN, most))
        }
    };
    let held_back = match &query.edns {
        Some(edns) if is_padded(edns, terms) => OPT_BYTES + options.len() + OPTION_BYTES,
        Some(_) => OPT_BYTES + options.len(),
        None => 0,
    };
    // A long signature must not leave less than an answer without records, so a client that claims 512 octets may get more.
    let least = HEADER_BYTES + query.question.name.wire().len() + TYPE_AND_CLASS_BYTES + held_back;
    let bytes_max = (bytes_max - reserved).max(least);
    let mut writer = Writer::new(out, bytes_max - held_back);
    let mut rcode = reply.map_or(Rcode::NoError, |reply| reply.rcode);
    let aa = reply.is_some_and(|reply| reply.authoritative);
    begin(&mut writer, query, rcode, aa, false).expect("512 octets hold a header, any question and OPT");
    let after_question = writer.mark();
    let mut truncated = false;
    match reply.map_or(Err(Full), |reply| sections(&mut writer, reply, draw)) {
        Ok([answers, authority, additional]) => {
            writer.patch_u16(6, answers);
            writer.patch_u16(8, authority);
            writer.patch_u16(10, additional);
        }
        // RFC 2181 section 9: a cut answer is not used, so it carries nothing that costs an amplifier's victim.
        Err(Full) => {
            writer.rewind(after_question);
            truncated = terms.transport == Transport::Udp;
            if !truncated {
                rcode = Rcode::ServFail;
            }
            let octets = header_octets(query.header, rcode, aa && truncated, truncated);
            writer.patch_u16(2, u16::from_be_bytes([octets[2], octets[3]]));
        }
    }
    if let Some(edns) = query.edns {
        writer.limit(bytes_max);
        opt(&mut writer, rcode, &edns, options, (terms, reserved)).expect("room was held back");
    }
    Verdict::Answered { rcode, truncated }
}

/// Header and question, the counts of the sections still zero.
pub(crate) fn begin(
    writer: &mut Writer<'_>,
    query: &Query,
    rcode: Rcode,
    authoritative: bool,
    truncated: bool,
) -> Result<(), Full> {
    writer.put(&header_octets(query.header, rcode, authoritative, truncated))?;
    writer.patch_u16(4, 1);
    let Question { name, record_type, class } = &query.question;
    writer.put_name(name)?;
    writer.put_u16(record_type.0)?;
    writer.put_u16(class.0)
}

/// The header with all counts zero. RA, Z and AD are never set: we do not recurse and we do not validate.
fn header_octets(header: Header, rcode: Rcode, authoritative: bool, truncated: bool) -> [u8; 12] {
    let [id_high, id_low] = header.id.to_be_bytes();
    let bit = |set: bool, mask: u8| if set { mask } else { 0 };
    let high = 0x80
        | (header.opcode.0 << 3)
        | bit(authoritative, 0x04)
        | bit(truncated, 0x02)
        | bit(header.recursion_desired, 0x01);
    let low = bit(header.checking_disabled, 0x10) | rcode.low();
    [id_high, id_low, high, low, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Writes the three sections and returns their counts. Additional data that does not fit is left out set by set, unless
/// the answer is of no use without it.
fn sections(writer: &mut Writer<'_>, reply: &Reply<'_>, draw: &mut impl Draw) -> Result<[u16; 3], Full> {
    let mut counts = [0; 3];
    for part in &reply.answers {
        counts[0] += ordered_set(writer, part, draw)?;
    }
    for part in &reply.authority {
        counts[1] += set(writer, part, 0)?;
    }
    // What cannot be left out goes first.
    let (required, optional): (Vec<_>, Vec<_>) = reply.additional.iter().partition(|extra| extra.required);
    for extra in required {
        counts[2] += set(writer, &extra.part, 0)?;
    }
    for extra in optional {
        let mark = writer.mark();
        match set(writer, &extra.part, 0) {
            Ok(count) => counts[2] += count,
            Err(Full) => writer.rewind(mark),
        }
    }
    Ok(counts)
}

fn ordered_set(writer: &mut Writer<'_>, part: &Part<'_>, draw: &mut impl Draw) -> Result<u16, Full> {
    if let Some(selected) = &part.selected {
        return records(writer, part, selected.iter().copied());
    }
    let Rrset { order, .. } = part.rrset;
    // An answer that will be cut must not take a turn, or the records whose turn falls on it would never come first.
    if matches!(order, Order::Cyclic(_)) && !fits(writer, part) {
        return Err(Full);
    }
    let mut written = Ok(0);
    part.rrset.runs(draw, |run| {
        for at in run {
            if let Ok(count) = written {
                written = record(writer, part, at).map(|()| count + 1);
            }
        }
    });
    written
}

/// Whether a set of addresses, all of one size, fits what is left.
fn fits(writer: &Writer<'_>, part: &Part<'_>) -> bool {
    let Rrset { records, .. } = part.rrset;
    let data = records.first().map_or(0, |rdata| rdata.bytes());
    let count = part.rrset.answer_count();
    // From the second record on, the owner is a pointer.
    let owners = writer.name_bytes(part.owner) + 2 * (count - 1);
    owners + count * (10 + data) <= writer.room()
}

/// Every record of the set, from the one at `first` on and around.
fn set(writer: &mut Writer<'_>, part: &Part<'_>, first: usize) -> Result<u16, Full> {
    let count = part.rrset.records.len();
    records(writer, part, (first..count).chain(0..first))
}

/// The records at these places of the set.
fn records(
    writer: &mut Writer<'_>,
    part: &Part<'_>,
    places: impl Iterator<Item = usize>,
) -> Result<u16, Full> {
    let mut count = 0;
    for at in places {
        record(writer, part, at)?;
        count += 1;
    }
    Ok(count)
}

pub(crate) fn record(writer: &mut Writer<'_>, part: &Part<'_>, at: usize) -> Result<(), Full> {
    writer.put_name(part.owner)?;
    writer.put_u16(part.rrset.record_type.0)?;
    writer.put_u16(Class::IN.0)?;
    writer.put_u32(part.ttl)?;
    let length_at = writer.bytes();
    writer.put_u16(0)?;
    part.rrset.records[at].write(writer)?;
    let length = writer.bytes() - length_at - 2;
    writer.patch_u16(length_at, u16::try_from(length).map_err(|_| Full)?);
    Ok(())
}

/// Our OPT record with options, and with padding where that is wanted.
fn opt(
    writer: &mut Writer<'_>,
    rcode: Rcode,
    edns: &Edns,
    options: &[u8],
    (terms, reserved): (Terms<'_>, usize),
) -> Result<(), Full> {
    let mut padded = Vec::new();
    let mut options = options;
    if is_padded(edns, terms) {
        let record = OPT_BYTES + options.len() + OPTION_BYTES;
        // A signature comes behind it and has a length, too.
        let before = writer.bytes() + record + reserved;
        let padding = (before.next_multiple_of(PADDED_BYTES) - before).min(writer.room() - record);
        padded.extend_from_slice(options);
        put_padding(&mut padded, padding);
        options = &padded;
    }
    plain_opt(writer, rcode, edns.dnssec_ok, terms.udp_payload_bytes_max, options)
}

/// Our OPT record (RFC 6891 section 6.1.2): what we accept, the upper bits of the code, the client's DO bit, and options.
pub(crate) fn plain_opt(
    writer: &mut Writer<'_>,
    rcode: Rcode,
    dnssec_ok: bool,
    udp_payload_bytes_max: u16,
    options: &[u8],
) -> Result<(), Full> {
    writer.put(&[0])?;
    writer.put_u16(RecordType::OPT.0)?;
    writer.put_u16(udp_payload_bytes_max.max(UDP_BYTES_MIN))?;
    writer.put(&[rcode.high(), 0, if dnssec_ok { 0x80 } else { 0 }, 0])?;
    writer.put_u16(u16::try_from(options.len()).map_err(|_| Full)?)?;
    writer.put(options)?;
    writer.add_u16(10, 1);
    Ok(())
}

/// Whether the length of the answer is to tell nothing of its content: for clients that ask for it, where nobody sees the
/// content either (RFC 7830 section 4).
fn is_padded(edns: &Edns, terms: Terms<'_>) -> bool {
    edns.version == 0 && edns.options.padding && terms.transport.is_encrypted()
}
