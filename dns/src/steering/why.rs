//! `_why.<name>` TXT: the explanation of what a steered name answers, asked for like everything else. For the networks
//! that may know; to all others the name does not exist.

use super::{Client, Family};
use crate::wire::{Class, Question, RecordType};
use crate::zone::{Draw, Rdata, Rrset, Zones};
use std::net::IpAddr;

/// The label before the name.
const LABEL: &[u8] = b"_why";

/// The set to answer with, a record a line; `None`: it is a question like any other.
pub fn why(
    zones: &Zones,
    question: &Question,
    from: Option<IpAddr>,
    now_unix_ms: impl FnOnce() -> u64,
    draw: &mut impl Draw,
) -> Option<Rrset> {
    let label = question.name.labels().next()?;
    let asked = question.record_type == RecordType::TXT && question.class == Class::IN;
    if !asked || !label.eq_ignore_ascii_case(LABEL) {
        return None;
    }
    let steering = zones.steering();
    let from = from.filter(|from| steering.explain_from.contain(*from))?;
    let name = question.name.suffix(1);
    let now_unix_ms = now_unix_ms();
    let mut random = |bound: u64| draw.below(usize::try_from(bound).unwrap_or(usize::MAX)) as u64;
    let client = Some(Client { address: from });
    let lines: Vec<String> = Family::ALL
        .into_iter()
        .filter_map(|family| steering.explain(&name, (family, client), now_unix_ms, &mut random))
        .flat_map(|explanation| explanation.lines())
        .collect();
    let mut records: Vec<Rdata> = Vec::new();
    for line in lines {
        let record = string(&line);
        // What both families say is said once.
        if !records.contains(&record) {
            records.push(record);
        }
    }
    (!records.is_empty()).then(|| Rrset::new(RecordType::TXT, 0, records))
}

fn string(line: &str) -> Rdata {
    let length = u8::try_from(line.len()).expect("lines are cut to 255 octets");
    Rdata::Plain([&[length], line.as_bytes()].concat().into())
}
