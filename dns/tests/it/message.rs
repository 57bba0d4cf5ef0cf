//! A plain reader of messages, for comparing servers: names in lower case and whole, sections as sorted lines.

use data_encoding::HEXLOWER;
use dns::wire::{Name, RecordType};
use std::collections::BTreeSet;

/// What servers can be compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: u16,
    pub(crate) opcode: u8,
    pub(crate) rcode: u16,
    /// QR, AA, TC, RD, RA, Z, AD and CD, as dig names them.
    pub(crate) flags: Vec<&'static str>,
    pub(crate) questions: u16,
    /// The question as it came, in its own case.
    pub(crate) question: Vec<u8>,
    /// `owner ttl type data`; OPT is not among them.
    pub(crate) sections: [BTreeSet<String>; 3],
    /// A record stands twice in a section.
    pub(crate) repeats: bool,
    pub(crate) edns: Option<Edns>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) payload_bytes: u16,
    pub(crate) version: u8,
    pub(crate) flags: u16,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// A name with its pointers followed, in lower case, and the offset behind it.
fn name(octets: &[u8], mut at: usize) -> (Vec<u8>, usize) {
    let mut wire = Vec::new();
    let mut end = None;
    loop {
        let length = usize::from(octets[at]);
        if length >= 0xC0 {
            end = end.or(Some(at + 2));
            at = usize::from(u16_at(octets, at) & 0x3FFF);
            assert!(wire.len() < 256, "a loop of pointers");
            continue;
        }
        wire.extend(octets[at..=at + length].to_ascii_lowercase());
        at += 1 + length;
        if length == 0 {
            return (wire, end.unwrap_or(at));
        }
    }
}

fn text(wire: &[u8]) -> String {
    Name::from_wire(wire).unwrap().to_string()
}

/// Octets before the names, and how many names, of the types where servers may compress them.
fn names_in(record_type: u16) -> (usize, usize) {
    match record_type {
        2 | 5 | 7 | 8 | 9 | 12 | 39 => (0, 1),
        6 | 14 | 17 => (0, 2),
        15 | 18 | 21 | 36 => (2, 1),
        26 => (2, 2),
        33 => (6, 1),
        _ => (0, 0),
    }
}

/// The data with its names whole.
fn data(octets: &[u8], record_type: u16, start: usize, end: usize) -> Vec<u8> {
    let (before, count) = names_in(record_type);
    let mut out = octets[start..start + before].to_vec();
    let mut at = start + before;
    for _ in 0..count {
        let (wire, next) = name(octets, at);
        out.extend(wire);
        at = next;
    }
    out.extend(&octets[at..end]);
    out
}

impl Answer {
    pub(crate) fn read(octets: &[u8]) -> Answer {
        let flag = |byte: usize, mask: u8, name| (octets[byte] & mask != 0).then_some(name);
        let flags = [
            flag(2, 0x80, "qr"),
            flag(2, 0x04, "aa"),
            flag(2, 0x02, "tc"),
            flag(2, 0x01, "rd"),
            flag(3, 0x80, "ra"),
            flag(3, 0x40, "z"),
            flag(3, 0x20, "ad"),
            flag(3, 0x10, "cd"),
        ];
        let mut at = 12;
        for _ in 0..u16_at(octets, 4) {
            at = name(octets, at).1 + 4;
        }
        let mut answer = Answer {
            id: u16_at(octets, 0),
            opcode: (octets[2] >> 3) & 0x0F,
            rcode: u16::from(octets[3] & 0x0F),
            flags: flags.into_iter().flatten().collect(),
            questions: u16_at(octets, 4),
            question: octets[12..at].to_vec(),
            sections: Default::default(),
            repeats: false,
            edns: None,
        };
        for (section, count_at) in [6, 8, 10].into_iter().enumerate() {
            for _ in 0..u16_at(octets, count_at) {
                at = answer.record(octets, at, section);
            }
        }
        assert_eq!(at, octets.len(), "octets behind the message");
        answer
    }

    fn record(&mut self, octets: &[u8], at: usize, section: usize) -> usize {
        let (owner, fixed) = name(octets, at);
        let record_type = u16_at(octets, fixed);
        let ttl = (u32::from(u16_at(octets, fixed + 4)) << 16) | u32::from(u16_at(octets, fixed + 6));
        let start = fixed + 10;
        let end = start + usize::from(u16_at(octets, fixed + 8));
        if record_type == RecordType::OPT.0 {
            self.rcode |= ((ttl >> 24) as u16) << 4;
            let mut options = Vec::new();
            let mut at = start;
            while at < end {
                let value = at + 4;
                let next = value + usize::from(u16_at(octets, at + 2));
                options.push((u16_at(octets, at), octets[value..next].to_vec()));
                at = next;
            }
            let payload_bytes = u16_at(octets, fixed + 2);
            let old = self.edns.replace(Edns {
                payload_bytes,
                version: (ttl >> 16) as u8,
                flags: ttl as u16,
                options,
            });
            assert!(old.is_none(), "two OPT records");
        } else {
            let data = HEXLOWER.encode(&data(octets, record_type, start, end));
            let record = format!("{} {ttl} {} {data}", text(&owner), RecordType(record_type));
            self.repeats |= !self.sections[section].insert(record);
        }
        end
    }

    pub(crate) fn is(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Code, AA and TC, then the sections: what a resolver acts on.
    pub(crate) fn show(&self) -> String {
        let mut out = self.rcode.to_string();
        for flag in ["aa", "tc"].into_iter().filter(|flag| self.is(flag)) {
            out = out + " " + flag;
        }
        for (letter, section) in ["an", "ns", "ar"].into_iter().zip(&self.sections) {
            for record in section {
                out += &format!("\n    {letter} {record}");
            }
        }
        out
    }
}
