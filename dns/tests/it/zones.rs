//! What the loader refuses, and what it merely points out.

use crate::support::name;
use dns::zone::{OrderPolicy, Zone};

/// Builds `z.` from a good apex on lines 1 to 4 and `more` from line 5 on; returns errors and warnings, one a line.
fn build(text: &str) -> String {
    let origin = name("z.");
    let contents = match dns::master::read_alone(text.as_bytes(), &origin) {
        Ok(contents) => contents,
        Err(error) => return error.to_string(),
    };
    match Zone::build(origin, contents.records, OrderPolicy::Cyclic) {
        Err(fault) => format!("{}: {}", fault.line, fault.what),
        Ok((_, warnings)) => {
            let line = |fault: &dns::zone::Fault| format!("warning {}: {}", fault.line, fault.what);
            warnings.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

#[track_caller]
fn check(more: &str, expected: &str) {
    assert_eq!(build(&format!("$TTL 9\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 192.0.2.1\n{more}")), expected);
}

#[track_caller]
fn check_whole(text: &str, expected: &str) {
    assert_eq!(build(text), expected);
}

#[test]
fn a_good_zone_has_nothing_to_say() {
    check("", "");
}
#[test]
fn an_apex_needs_soa_and_ns() {
    check_whole("$TTL 9\n@ NS ns.elsewhere.", "0: no SOA record at the apex, z.");
    check_whole("$TTL 9\n@ SOA ns h 1 1 1 1 1", "0: no NS record at the apex, z.");
    check_whole("", "0: no SOA record at the apex, z.");
}
#[test]
fn one_soa_at_the_apex() {
    check("@ SOA ns h 2 1 1 1 1", "5: a second SOA; a zone has one");
    check("a SOA ns h 2 1 1 1 1", "5: SOA at a.z.; it stands only at the apex, z.");
}
#[test]
fn names_are_in_the_zone() {
    check("a.y. A 192.0.2.1", "5: a.y. is not within the zone z.");
    check("$ORIGIN y.\na A 192.0.2.1", "6: a.y. is not within the zone z.");
}
#[test]
fn an_alias_stands_alone() {
    check("a CNAME b\na A 192.0.2.1", "6: A at a.z., which has CNAME already: a CNAME stands alone");
    check("a A 192.0.2.1\na CNAME b", "6: CNAME at a.z., which has A already: a CNAME stands alone");
    check("a CNAME b\na CNAME c", "6: CNAME at a.z., which has CNAME already: a CNAME stands alone");
    check("@ CNAME b.elsewhere.", "5: CNAME at z., which has SOA already: a CNAME stands alone");
    check("a CNAME ns\na NSEC a A NSEC", "");
}
#[test]
fn ttls_of_a_set_are_made_equal() {
    check(
        "a 5 A 192.0.2.1\na 7 A 192.0.2.2",
        "warning 6: a.z. A: TTL 7 differs from 5 earlier in the set; serving 5",
    );
}
#[test]
fn duplicates_are_dropped() {
    check("a A 192.0.2.1\nA A 192.0.2.1", "warning 6: A.z. A: this record was given before; ignored");
    check("a CAA 0 issue x\na CAA 0 issue y", "");
}
#[test]
fn a_delegation_needs_glue() {
    check("c NS n.c", "5: c.z. NS n.c.z.: no A or AAAA record for it in the zone");
    check("c NS n.c\nn.c A 192.0.2.1", "");
    check("c NS n.c\nn.c AAAA 2001:db8::1", "");
    check("c NS ns.elsewhere.", "");
    check("c NS missing", "warning 5: c.z. NS missing.z.: no A or AAAA record for it in the zone");
}
#[test]
fn the_apex_servers_need_addresses() {
    check_whole(
        "$TTL 9\n@ SOA ns h 1 1 1 1 1\n@ NS ns",
        "2: z. NS ns.z.: no A or AAAA record for it in the zone",
    );
    check_whole("$TTL 9\n@ SOA ns h 1 1 1 1 1\n@ NS ns\n* A 192.0.2.1", "");
}
#[test]
fn targets_are_no_aliases() {
    check("m MX 1 a\na CNAME ns", "warning 5: m.z. MX a.z.: the target is an alias (CNAME)");
}
#[test]
fn occluded_records_are_pointed_out() {
    check("c NS ns.elsewhere.\na.c TXT x", "warning 6: a.c.z. TXT: never answered, c.z. is delegated");
    check("c NS ns.elsewhere.\nc TXT x", "warning 5: c.z. TXT: never answered, c.z. is delegated");
    check("c NS ns.elsewhere.\nc DS 1 8 2 00ff\na.c A 192.0.2.1", "");
}
#[test]
fn alias_loops_are_pointed_out() {
    check("a CNAME a", "warning 5: a.z. CNAME: a loop, or a chain of more than 16");
}
#[test]
fn a_dname_stands_above_nothing() {
    check("a DNAME b", "");
    check("@ DNAME b.elsewhere.", "warning 4: ns.z. A: never answered, z. has a DNAME");
    check("a DNAME b\na DNAME c", "6: a second DNAME at a.z.; a name has one");
    check("a DNAME b\na CNAME c", "6: CNAME at a.z., which has DNAME already: a CNAME stands alone");
    check("a DNAME b\nx.a A 192.0.2.1", "warning 6: x.a.z. A: never answered, a.z. has a DNAME");
    check("a NS ns.elsewhere.\na DNAME b", "warning 5: a.z. DNAME: never answered, a.z. is delegated");
    check("*.a DNAME b", "warning 5: *.a.z. DNAME: answered only by name (RFC 4592 section 4.4)");
}
#[test]
fn what_cannot_stand_in_a_zone() {
    check("a TYPE255 \\# 0", "5: ANY is no type for a zone");
    check("a TYPE41 \\# 0", "5: OPT is no type for a zone");
    check("*.a NS ns", "5: NS at *.a.z.: a wildcard cannot delegate (RFC 4592 section 4.2)");
}
#[test]
fn a_set_must_fit_a_message() {
    use std::fmt::Write as _;
    let mut more = String::new();
    for at in 0..300 {
        writeln!(more, "a TXT \"{at:0250}\"").unwrap();
    }
    check(&more, "5: a.z. TXT: the set takes 78900 octets, at most 64000 fit a message");
    more.clear();
    for at in 0..5_000 {
        writeln!(more, "a A 10.0.{}.{}", at / 250, at % 250).unwrap();
    }
    check(&more, "4928: a.z. A: more than 4923 records do not fit a message");
}
