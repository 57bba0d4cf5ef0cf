//! What makes a set of records a zone. Errors are what would be answered wrongly or could not be answered; everything
//! that is merely odd is a warning.

use super::build::{Line, Node, Record, Zone};
use super::lookup::Found;
use super::rdata::Rdata;
use super::rrset::Rrset;
use crate::wire::{Name, RecordType};

/// CNAMEs followed for one answer, and the longest chain that loads without a warning.
pub const CNAME_HOPS_MAX: usize = 16;
/// The octets of all records of a set: a TCP message holds 65,535, with a question, the SOA or glue, and OPT beside them.
const RRSET_BYTES_MAX: usize = 64_000;

/// No set of more records fits that: the smallest takes 13 octets. Refused while reading, since duplicates are looked for
/// one by one.
pub(super) const RECORDS_MAX: usize = RRSET_BYTES_MAX / 13;

/// Something wrong with a zone, and the line it was noticed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: Line,
    pub what: String,
}

impl Fault {
    fn new(line: Line, what: impl Into<String>) -> Fault {
        Fault { line, what: what.into() }
    }
}

pub(super) fn too_many(record: &Record) -> Fault {
    let Record { owner, record_type, line, .. } = record;
    Fault::new(*line, format!("{owner} {record_type}: more than {RECORDS_MAX} records do not fit a message"))
}

/// Checks that need the record alone.
pub(super) fn record(origin: &Name, record: &Record) -> Result<(), Fault> {
    let Record { owner, record_type, line, .. } = record;
    if !owner.is_within(origin) {
        return Err(Fault::new(*line, format!("{owner} is not within the zone {origin}")));
    }
    if record_type.is_meta() {
        return Err(Fault::new(*line, format!("{record_type} is no type for a zone")));
    }
    if *record_type == RecordType::SOA && owner != origin {
        return Err(Fault::new(*line, format!("SOA at {owner}; it stands only at the apex, {origin}")));
    }
    if *record_type == RecordType::NS && owner.is_wildcard() {
        return Err(Fault::new(
            *line,
            format!("NS at {owner}: a wildcard cannot delegate (RFC 4592 section 4.2)"),
        ));
    }
    Ok(())
}

/// Checks a record against those that its owner has already.
pub(super) fn company(node: &Node, record: &Record) -> Result<(), Fault> {
    // RFC 2181 section 10.1, with the exceptions of RFC 4034 section 2.5.
    let aside = |record_type: RecordType| matches!(record_type, RecordType::RRSIG | RecordType::NSEC);
    let owner = &record.owner;
    let others = || node.rrsets.iter().filter(|set| !aside(set.record_type));
    match record.record_type {
        RecordType::CNAME => {
            if let Some(other) = others().next() {
                let what = format!(
                    "CNAME at {owner}, which has {} already: a CNAME stands alone",
                    other.record_type
                );
                return Err(Fault::new(record.line, what));
            }
        }
        RecordType::SOA if node.rrset_unsorted(RecordType::SOA) => {
            return Err(Fault::new(record.line, "a second SOA; a zone has one"));
        }
        // RFC 6672 section 2.4.
        RecordType::DNAME if node.rrset_unsorted(RecordType::DNAME) => {
            return Err(Fault::new(record.line, format!("a second DNAME at {owner}; a name has one")));
        }
        other if !aside(other) && node.rrset_unsorted(RecordType::CNAME) => {
            let what = format!("{other} at {owner}, which has CNAME already: a CNAME stands alone");
            return Err(Fault::new(record.line, what));
        }
        _ => {}
    }
    Ok(())
}

impl Node {
    /// Whether there is a set of this type, while the sets are still in file order.
    fn rrset_unsorted(&self, record_type: RecordType) -> bool {
        self.rrsets.iter().any(|set| set.record_type == record_type)
    }
}

/// Checks that need the whole tree.
pub(super) fn zone(zone: &Zone, warnings: &mut Vec<Fault>) -> Result<(), Fault> {
    let apex = zone.apex();
    for required in [RecordType::SOA, RecordType::NS] {
        if apex.rrset(required).is_none() {
            return Err(Fault::new(
                Line::default(),
                format!("no {required} record at the apex, {}", zone.origin),
            ));
        }
    }
    for node in zone.all_nodes() {
        sizes(node)?;
        name_servers(zone, node, warnings)?;
        targets(zone, node, warnings);
        occluded(zone, node, warnings);
        chain(zone, node, warnings);
    }
    Ok(())
}

fn sizes(node: &Node) -> Result<(), Fault> {
    for rrset in &node.rrsets {
        let bytes: usize = rrset.records.iter().map(|rdata| 12 + rdata.bytes()).sum();
        if bytes > RRSET_BYTES_MAX {
            let what = format!(
                "{} {}: the set takes {bytes} octets, at most {RRSET_BYTES_MAX} fit a message",
                node.name, rrset.record_type
            );
            return Err(Fault::new(node.line, what));
        }
    }
    Ok(())
}

/// A delegation whose servers stand below it cannot be followed without their addresses, and an apex whose own servers
/// have none cannot be reached.
fn name_servers(zone: &Zone, node: &Node, warnings: &mut Vec<Fault>) -> Result<(), Fault> {
    let Some(servers) = node.rrset(RecordType::NS) else { return Ok(()) };
    let is_apex = node.name == zone.origin;
    for server in servers.records.iter().filter_map(|rdata| rdata.target(RecordType::NS)) {
        if !server.is_within(&zone.origin) || zone.has_addresses(server) {
            continue;
        }
        let fault = Fault::new(
            node.line,
            format!("{} NS {server}: no A or AAAA record for it in the zone", node.name),
        );
        let below_cut = zone.cut_above(server);
        let own = match below_cut {
            Some(cut) => std::ptr::eq(cut, node),
            None => is_apex,
        };
        if own {
            return Err(fault);
        }
        warnings.push(fault);
    }
    Ok(())
}

/// RFC 2181 section 10.3: the targets of NS and MX are not aliases.
fn targets(zone: &Zone, node: &Node, warnings: &mut Vec<Fault>) {
    for rrset in &node.rrsets {
        for target in rrset.records.iter().filter_map(|rdata| rdata.target(rrset.record_type)) {
            let alias =
                target.is_within(&zone.origin) && matches!(zone.find(target, RecordType::A), Found::Alias(_));
            if alias {
                let what =
                    format!("{} {} {target}: the target is an alias (CNAME)", node.name, rrset.record_type);
                warnings.push(Fault::new(node.line, what));
            }
        }
    }
}

/// Records below a delegation are never answered, except addresses as glue; those below a DNAME not at all.
fn occluded(zone: &Zone, node: &Node, warnings: &mut Vec<Fault>) {
    if let Some(above) = zone.redirect_above(&node.name) {
        for Rrset { record_type, .. } in &node.rrsets {
            let what = format!("{} {record_type}: never answered, {} has a DNAME", node.name, above.name);
            warnings.push(Fault::new(node.line, what));
        }
    }
    if node.name.is_wildcard() && node.rrset(RecordType::DNAME).is_some() {
        let what = format!("{} DNAME: answered only by name (RFC 4592 section 4.4)", node.name);
        warnings.push(Fault::new(node.line, what));
    }
    let Some(cut) = zone.cut_above(&node.name) else { return };
    let is_cut = std::ptr::eq(cut, node);
    for rrset in &node.rrsets {
        let kept = match rrset.record_type {
            RecordType::NS | RecordType::DS | RecordType::NSEC | RecordType::RRSIG => is_cut,
            other => other.is_address(),
        };
        if !kept {
            let what =
                format!("{} {}: never answered, {} is delegated", node.name, rrset.record_type, cut.name);
            warnings.push(Fault::new(node.line, what));
        }
    }
}

fn chain(zone: &Zone, node: &Node, warnings: &mut Vec<Fault>) {
    let Some(mut alias) = node.rrset(RecordType::CNAME) else { return };
    for _ in 0..CNAME_HOPS_MAX {
        let Some(Rdata::Name(target)) = alias.records.first() else { return };
        if !target.is_within(&zone.origin) {
            return;
        }
        match zone.find(target, RecordType::A) {
            Found::Alias(next) => alias = next,
            _ => return,
        }
    }
    let what = format!("{} CNAME: a loop, or a chain of more than {CNAME_HOPS_MAX}", node.name);
    warnings.push(Fault::new(node.line, what));
}
