//! The data of one record, kept so that it can be written at once: plain octets, except where a name may be compressed
//! (the types of RFC 1035, by RFC 3597 section 4) or leads to more records.

use crate::wire::shape;
use crate::wire::{Full, Name, NameError, RecordType, Writer};

/// Record data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rdata {
    /// Any type whose octets are sent as they are.
    Plain(Box<[u8]>),
    /// NS, CNAME and PTR: one name, which may be compressed.
    Name(Name),
    Mx {
        preference: u16,
        exchange: Name,
    },
    /// Octets with a name that matters among them, which is never compressed: the target of SRV, SVCB, DNAME and others.
    Around {
        before: Box<[u8]>,
        name: Name,
        after: Box<[u8]>,
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
    /// Reads uncompressed octets and checks that they have the shape of their type. The error says what was expected.
    pub fn from_wire(record_type: RecordType, octets: &[u8]) -> Result<Rdata, String> {
        let Some(fields) = shape::of(record_type) else { return Ok(Rdata::Plain(octets.into())) };
        let wrong = || {
            let fields: Vec<&str> = fields.iter().map(|field| field.expected()).collect();
            format!("{record_type} data: {}", fields.join(", "))
        };
        let name = shape::check(fields, octets).ok_or_else(wrong)?;
        Ok(match (record_type, name) {
            (RecordType::SOA, _) => soa(octets).map_err(|_| wrong())?,
            (_, Some(at)) if leads_on(record_type) => {
                let name = Name::from_wire(&octets[at.clone()]).map_err(|_| wrong())?;
                match record_type {
                    RecordType::NS | RecordType::CNAME | RecordType::PTR => Rdata::Name(name),
                    RecordType::MX => {
                        let preference = u16::from_be_bytes([octets[0], octets[1]]);
                        Rdata::Mx { preference, exchange: name }
                    }
                    _ => Rdata::Around {
                        before: octets[..at.start].into(),
                        name,
                        after: octets[at.end..].into(),
                    },
                }
            }
            _ => Rdata::Plain(octets.into()),
        })
    }

    /// Octets on the wire without compression, the length field not counted.
    pub fn bytes(&self) -> usize {
        match self {
            Rdata::Plain(octets) => octets.len(),
            Rdata::Name(name) => name.wire().len(),
            Rdata::Mx { exchange, .. } => 2 + exchange.wire().len(),
            Rdata::Around { before, name, after } => before.len() + name.wire().len() + after.len(),
            Rdata::Soa(soa) => 20 + soa.primary.wire().len() + soa.mailbox.wire().len(),
        }
    }

    /// The host whose addresses a client will want next. The root means that there is none (RFC 2782, RFC 7505).
    pub fn target(&self, record_type: RecordType) -> Option<&Name> {
        let name = match self {
            Rdata::Name(name) if record_type == RecordType::NS => Some(name),
            Rdata::Mx { exchange, .. } => Some(exchange),
            Rdata::Around { name, .. } if record_type != RecordType::DNAME => Some(name),
            _ => None,
        };
        name.filter(|name| !name.is_root())
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
            Rdata::Around { before, name, after } => {
                writer.put(before)?;
                writer.put(name.wire())?;
                writer.put(after)
            }
            Rdata::Soa(soa) => soa.write(writer),
        }
    }
}

/// Whether the first name in the data is one that an answer goes on with.
fn leads_on(record_type: RecordType) -> bool {
    let compressed = [RecordType::NS, RecordType::CNAME, RecordType::PTR, RecordType::MX];
    let plain = [
        RecordType::DNAME,
        RecordType::SRV,
        RecordType::AFSDB,
        RecordType::RT,
        RecordType::KX,
        RecordType::NAPTR,
        RecordType::SVCB,
        RecordType::HTTPS,
    ];
    compressed.contains(&record_type) || plain.contains(&record_type)
}

impl Soa {
    /// Writes the data without its length field.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.put_name(&self.primary)?;
        writer.put_name(&self.mailbox)?;
        for number in [self.serial, self.refresh, self.retry, self.expire, self.minimum] {
            writer.put_u32(number)?;
        }
        Ok(())
    }
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
