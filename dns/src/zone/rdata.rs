//! The data of one record, kept so that it can be written at once: plain octets, except where a name may be compressed
//! (the types of RFC 1035, by RFC 3597 section 4) or leads to more records.

use crate::wire::{Full, Name, NameError, RecordType, Writer};

/// Record data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rdata {
    /// Any type whose octets are sent as they are.
    Plain(Box<[u8]>),
    /// NS, CNAME and PTR.
    Name(Name),
    Mx {
        preference: u16,
        exchange: Name,
    },
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: Name,
    },
    Soa(Box<Soa>),
}

/// The start of authority (RFC 1035 section 3.3.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    pub primary: Name,
    pub mailbox: Name,
    pub serial: u32,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    /// How long a negative answer may be kept (RFC 2308 section 4).
    pub minimum: u32,
}

impl Rdata {
    /// Reads uncompressed octets, as RFC 3597's `\#` gives them, and checks those of the types known here.
    pub fn from_wire(record_type: RecordType, octets: &[u8]) -> Result<Rdata, &'static str> {
        let plain = || Ok(Rdata::Plain(octets.into()));
        match record_type {
            RecordType::A if octets.len() != 4 => Err("A data of 4 octets"),
            RecordType::AAAA if octets.len() != 16 => Err("AAAA data of 16 octets"),
            RecordType::NS | RecordType::CNAME | RecordType::PTR => {
                Name::from_wire(octets).map(Rdata::Name).map_err(|_| "one uncompressed name")
            }
            RecordType::MX => mx(octets).ok_or("MX data: a preference and a name"),
            RecordType::SRV => srv(octets).ok_or("SRV data: three numbers and a name"),
            RecordType::SOA => soa(octets).map_err(|_| "SOA data: two names and five numbers"),
            RecordType::TXT if !is_strings(octets) => Err("TXT data: one or more length-prefixed strings"),
            RecordType::CAA if !is_caa(octets) => Err("CAA data: flags, a tag and a value"),
            _ => plain(),
        }
    }

    /// Octets on the wire without compression, the length field not counted.
    pub fn bytes(&self) -> usize {
        match self {
            Rdata::Plain(octets) => octets.len(),
            Rdata::Name(name) => name.wire().len(),
            Rdata::Mx { exchange, .. } => 2 + exchange.wire().len(),
            Rdata::Srv { target, .. } => 6 + target.wire().len(),
            Rdata::Soa(soa) => 20 + soa.primary.wire().len() + soa.mailbox.wire().len(),
        }
    }

    /// The host whose addresses a client will want next.
    pub fn target(&self, record_type: RecordType) -> Option<&Name> {
        match self {
            Rdata::Name(name) if record_type == RecordType::NS => Some(name),
            Rdata::Mx { exchange, .. } => Some(exchange),
            Rdata::Srv { target, .. } => Some(target),
            _ => None,
        }
    }

    /// Writes the data without its length field.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        match self {
            Rdata::Plain(octets) => writer.put(octets),
            Rdata::Name(name) => writer.put_name(name),
            Rdata::Mx { preference, exchange } => {
                writer.put_u16(*preference)?;
                writer.put_name(exchange)
            }
            // RFC 2782: the target is not compressed.
            Rdata::Srv { priority, weight, port, target } => {
                writer.put_u16(*priority)?;
                writer.put_u16(*weight)?;
                writer.put_u16(*port)?;
                writer.put(target.wire())
            }
            Rdata::Soa(soa) => {
                writer.put_name(&soa.primary)?;
                writer.put_name(&soa.mailbox)?;
                for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    writer.put_u32(number)?;
                }
                Ok(())
            }
        }
    }
}

fn mx(octets: &[u8]) -> Option<Rdata> {
    let (preference, name) = octets.split_first_chunk::<2>()?;
    Some(Rdata::Mx { preference: u16::from_be_bytes(*preference), exchange: Name::from_wire(name).ok()? })
}

fn srv(octets: &[u8]) -> Option<Rdata> {
    let (numbers, name) = octets.split_first_chunk::<6>()?;
    let number = |at: usize| u16::from_be_bytes([numbers[at], numbers[at + 1]]);
    Some(Rdata::Srv {
        priority: number(0),
        weight: number(2),
        port: number(4),
        target: Name::from_wire(name).ok()?,
    })
}

fn soa(octets: &[u8]) -> Result<Rdata, NameError> {
    let (primary, at) = Name::read_plain(octets, 0)?;
    let (mailbox, at) = Name::read_plain(octets, at)?;
    let numbers: &[u8; 20] = octets[at..].try_into().map_err(|_| NameError::Short)?;
    let number =
        |at: usize| u32::from_be_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
    Ok(Rdata::Soa(Box::new(Soa {
        primary,
        mailbox,
        serial: number(0),
        refresh: number(4),
        retry: number(8),
        expire: number(12),
        minimum: number(16),
    })))
}

fn is_strings(mut octets: &[u8]) -> bool {
    if octets.is_empty() {
        return false;
    }
    while let Some((&length, rest)) = octets.split_first() {
        match rest.get(usize::from(length)..) {
            Some(rest) => octets = rest,
            None => return false,
        }
    }
    true
}

fn is_caa(octets: &[u8]) -> bool {
    match octets {
        [_, length, rest @ ..] => {
            let tag = rest.get(..usize::from(*length)).unwrap_or_default();
            !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric)
        }
        _ => false,
    }
}
