//! What is answered to what: the semantics of RFC 1034, 2181, 2308, 4592, 6604, 6891, 8482 and 9471, on zones with every
//! trap we know of. Answers are read by hickory-proto, not by us.

use crate::support::{ask, query, read, with_edns, zones};
use dns::answer::{Transport, Verdict};
use dns::zone::{OrderPolicy, Zones};
use hickory_proto::op::Message;
use std::fmt::Write as _;

const ZONE: &str = r#"
$TTL 100
@         SOA ns hostmaster 7 3600 900 86400 30
@         NS  ns
@         NS  ns.elsewhere.
@         MX  10 mail
@         MX  20 mail
ns        A   192.0.2.53
mail      A   192.0.2.25
mail      AAAA 2001:db8::25
www       CNAME host
host      A   192.0.2.1
host      TXT "a b" c
UPPER     A   192.0.2.2
; Empty non-terminals: c.ent and ent exist because of d.c.ent.
d.c.ent   A   192.0.2.3
; Wildcards, and what blocks them.
*.wild    A   192.0.2.4
*.wild    MX  5 mail
b.wild    TXT blocker
x.ent.wild A  192.0.2.5
*.alias   CNAME host
*.sub.wild CNAME nowhere
; Chains.
c1        CNAME c2
c2        CNAME c3
c3        CNAME host
loop1     CNAME loop2
loop2     CNAME loop1
self      CNAME self
dangling  CNAME nothing
out       CNAME www.elsewhere.
into      CNAME www.other.
toown     CNAME ns.own
todata    CNAME txtonly
todeleg   CNAME a.child
txtonly   TXT x
; Delegations.
child     NS  ns.child
child     NS  ns2.child
child     DS  1 8 2 00ff
ns.child  A   192.0.2.100
ns2.child AAAA 2001:db8::100
outside   NS  ns.elsewhere.
sibling   NS  ns.child
; Redirections.
tree      DNAME other-tree
tree      A   192.0.2.6
b.other-tree A 192.0.2.7
*.wild.other-tree TXT w
toown.other-tree DNAME tree
away      DNAME elsewhere.
intotree  CNAME b.tree
loop      DNAME a.loop
long      DNAME aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b
_s._tcp   SRV 1 2 80 host
_s._tcp   SRV 1 2 80 ns.child
ptr       PTR host
caa       CAA 0 issue "ca.example.net"
odd       TYPE65280 \# 2 abcd
"#;

const OTHER: &str = "$TTL 50\n@ SOA ns h 1 1 1 1 60\n@ NS ns\nns A 192.0.2.9\nwww A 192.0.2.10\n";
const CHILD_OF_Z: &str = "$TTL 50\n@ SOA ns h 1 1 1 1 60\n@ NS ns\nns A 192.0.2.99\n";

fn all() -> Zones {
    zones(&[("z.", ZONE), ("other.", OTHER), ("own.z.", CHILD_OF_Z)], OrderPolicy::Fixed)
}

/// Code, flags, then the sections, each behind a letter; the TTL stands behind the owner.
fn show(message: &Message) -> String {
    let mut text = message.metadata.response_code.to_string();
    text = match text.as_str() {
        "No Error" => "NOERROR".into(),
        "Non-Existent Domain" => "NXDOMAIN".into(),
        "Query Refused" => "REFUSED".into(),
        "Form Error" => "FORMERR".into(),
        "Name should not exist" | "Name Exists when it should not" => "YXDOMAIN".into(),
        other => other.into(),
    };
    for (set, flag) in [(message.metadata.authoritative, " aa"), (message.metadata.truncation, " tc")] {
        if set {
            text += flag;
        }
    }
    for (letter, section) in
        [("an", &message.answers), ("ns", &message.authorities), ("ar", &message.additionals)]
    {
        for record in section {
            let mut data = record.data.to_string();
            // hickory-proto has no DNAME: it prints the octets.
            if record.record_type().to_string() == "DNAME" {
                let octets = data_encoding::BASE64.decode(data.as_bytes()).unwrap();
                data = dns::wire::Name::from_wire(&octets).unwrap().to_string();
            }
            write!(text, "\n{letter} {} {} {} {data}", record.name, record.ttl, record.record_type())
                .unwrap();
        }
    }
    text
}

#[track_caller]
fn check(question: &str, expected: &[&str]) {
    let (name, record_type) = question.split_once(' ').unwrap();
    let packet = query(name, record_type);
    let (_, octets) = ask(&all(), &packet, Transport::Udp);
    let message = read(&octets);
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.recursion_desired && !message.metadata.recursion_available);
    assert_eq!(&octets[12..packet.len()], &packet[12..], "the question is repeated octet by octet");
    assert_eq!(show(&message), expected.join("\n"));
}

const SOA: &str = "ns z. 30 SOA ns.z. hostmaster.z. 7 3600 900 86400 30";

#[test]
fn an_address() {
    check("host.z. A", &["NOERROR aa", "an host.z. 100 A 192.0.2.1"]);
}
#[test]
fn text() {
    check("host.z. TXT", &["NOERROR aa", "an host.z. 100 TXT a bc"]);
}
#[test]
fn names_match_without_case_and_the_question_keeps_its_own() {
    check("HoSt.Z. A", &["NOERROR aa", "an HoSt.Z. 100 A 192.0.2.1"]);
    check("upper.z. A", &["NOERROR aa", "an upper.z. 100 A 192.0.2.2"]);
}
#[test]
fn no_data_has_the_soa_with_the_smaller_ttl() {
    check("host.z. AAAA", &["NOERROR aa", SOA]);
}
#[test]
fn no_name_has_it_too() {
    check("nothing.z. A", &["NXDOMAIN aa", SOA]);
    check("deep.below.host.z. A", &["NXDOMAIN aa", SOA]);
}
#[test]
fn the_soa_itself_keeps_its_ttl() {
    check("z. SOA", &["NOERROR aa", "an z. 100 SOA ns.z. hostmaster.z. 7 3600 900 86400 30"]);
}
#[test]
fn name_servers_come_with_the_addresses_we_have() {
    check(
        "z. NS",
        &["NOERROR aa", "an z. 100 NS ns.z.", "an z. 100 NS ns.elsewhere.", "ar ns.z. 100 A 192.0.2.53"],
    );
}
#[test]
fn two_mx_with_one_host_give_its_addresses_once() {
    check(
        "z. MX",
        &[
            "NOERROR aa",
            "an z. 100 MX 10 mail.z.",
            "an z. 100 MX 20 mail.z.",
            "ar mail.z. 100 A 192.0.2.25",
            "ar mail.z. 100 AAAA 2001:db8::25",
        ],
    );
}
#[test]
fn srv_gives_our_hosts_but_no_glue() {
    check(
        "_s._tcp.z. SRV",
        &[
            "NOERROR aa",
            "an _s._tcp.z. 100 SRV 1 2 80 host.z.",
            "an _s._tcp.z. 100 SRV 1 2 80 ns.child.z.",
            "ar host.z. 100 A 192.0.2.1",
        ],
    );
}
#[test]
fn other_types() {
    check("ptr.z. PTR", &["NOERROR aa", "an ptr.z. 100 PTR host.z."]);
    check("caa.z. CAA", &["NOERROR aa", "an caa.z. 100 CAA 0 issue \"ca.example.net\""]);
    let (_, octets) = ask(&all(), &query("odd.z.", "TYPE65280"), Transport::Udp);
    assert!(
        octets.ends_with(b"\xff\x00\x00\x01\x00\x00\x00\x64\x00\x02\xab\xcd"),
        "{}",
        octets.escape_ascii()
    );
}

#[test]
fn empty_non_terminals_exist() {
    check("c.ent.z. A", &["NOERROR aa", SOA]);
    check("ent.z. A", &["NOERROR aa", SOA]);
    check("x.ent.z. A", &["NXDOMAIN aa", SOA]);
}

#[test]
fn a_wildcard_answers_for_what_is_not_there() {
    check("a.wild.z. A", &["NOERROR aa", "an a.wild.z. 100 A 192.0.2.4"]);
    check("a.b.c.wild.z. A", &["NOERROR aa", "an a.b.c.wild.z. 100 A 192.0.2.4"]);
}
#[test]
fn a_wildcard_without_the_type_is_no_data() {
    check("a.wild.z. TXT", &["NOERROR aa", SOA]);
}
#[test]
fn a_wildcard_does_not_cover_its_parent() {
    check("wild.z. A", &["NOERROR aa", SOA]);
}
#[test]
fn an_existing_name_blocks_the_wildcard() {
    check("b.wild.z. A", &["NOERROR aa", SOA]);
    // RFC 4592 section 2.2.1: the closest encloser is b.wild, which has no wildcard.
    check("a.b.wild.z. A", &["NXDOMAIN aa", SOA]);
}
#[test]
fn an_empty_non_terminal_blocks_it_too() {
    check("ent.wild.z. A", &["NOERROR aa", SOA]);
    check("y.ent.wild.z. A", &["NXDOMAIN aa", SOA]);
}
#[test]
fn a_wildcard_can_be_asked_for_by_name() {
    check("*.wild.z. A", &["NOERROR aa", "an *.wild.z. 100 A 192.0.2.4"]);
    check("a.*.wild.z. A", &["NXDOMAIN aa", SOA]);
}
#[test]
fn a_wildcard_mx_brings_its_host() {
    check(
        "q.wild.z. MX",
        &[
            "NOERROR aa",
            "an q.wild.z. 100 MX 5 mail.z.",
            "ar mail.z. 100 A 192.0.2.25",
            "ar mail.z. 100 AAAA 2001:db8::25",
        ],
    );
}
#[test]
fn a_wildcard_alias_is_followed() {
    check(
        "any.alias.z. A",
        &["NOERROR aa", "an any.alias.z. 100 CNAME host.z.", "an host.z. 100 A 192.0.2.1"],
    );
    check("a.sub.wild.z. A", &["NXDOMAIN aa", "an a.sub.wild.z. 100 CNAME nowhere.z.", SOA]);
}

#[test]
fn an_alias_is_followed_to_its_end() {
    check("www.z. A", &["NOERROR aa", "an www.z. 100 CNAME host.z.", "an host.z. 100 A 192.0.2.1"]);
    check(
        "c1.z. A",
        &[
            "NOERROR aa",
            "an c1.z. 100 CNAME c2.z.",
            "an c2.z. 100 CNAME c3.z.",
            "an c3.z. 100 CNAME host.z.",
            "an host.z. 100 A 192.0.2.1",
        ],
    );
}
#[test]
fn an_alias_asked_for_is_not_followed() {
    check("www.z. CNAME", &["NOERROR aa", "an www.z. 100 CNAME host.z."]);
}
#[test]
fn an_alias_to_no_data_has_the_soa() {
    check("todata.z. A", &["NOERROR aa", "an todata.z. 100 CNAME txtonly.z.", SOA]);
}
#[test]
fn an_alias_to_nothing_says_so() {
    check("dangling.z. A", &["NXDOMAIN aa", "an dangling.z. 100 CNAME nothing.z.", SOA]);
}
#[test]
fn loops_end() {
    check("loop1.z. A", &["NOERROR aa", "an loop1.z. 100 CNAME loop2.z.", "an loop2.z. 100 CNAME loop1.z."]);
    check("self.z. A", &["NOERROR aa", "an self.z. 100 CNAME self.z."]);
}
#[test]
fn an_alias_out_of_our_zones_stands_alone() {
    check("out.z. A", &["NOERROR aa", "an out.z. 100 CNAME www.elsewhere."]);
}
#[test]
fn an_alias_into_another_zone_of_ours_stands_alone_too() {
    check("into.z. A", &["NOERROR aa", "an into.z. 100 CNAME www.other."]);
    check("toown.z. A", &["NOERROR aa", "an toown.z. 100 CNAME ns.own.z."]);
}
#[test]
fn an_alias_into_a_delegation_ends_in_a_referral() {
    check(
        "todeleg.z. A",
        &[
            "NOERROR aa",
            "an todeleg.z. 100 CNAME a.child.z.",
            "ns child.z. 100 NS ns.child.z.",
            "ns child.z. 100 NS ns2.child.z.",
            "ar ns.child.z. 100 A 192.0.2.100",
            "ar ns2.child.z. 100 AAAA 2001:db8::100",
        ],
    );
}

const REFERRAL: [&str; 5] = [
    "NOERROR",
    "ns child.z. 100 NS ns.child.z.",
    "ns child.z. 100 NS ns2.child.z.",
    "ar ns.child.z. 100 A 192.0.2.100",
    "ar ns2.child.z. 100 AAAA 2001:db8::100",
];

#[test]
fn a_delegation_is_a_referral_with_glue_and_without_aa() {
    check("child.z. A", &REFERRAL);
    check("a.b.child.z. A", &REFERRAL);
    check("child.z. NS", &REFERRAL);
    check("child.z. SOA", &REFERRAL);
    check("child.z. ANY", &REFERRAL);
}
#[test]
fn glue_is_not_an_answer() {
    check("ns.child.z. A", &REFERRAL);
}
#[test]
fn servers_out_of_zone_need_no_glue() {
    check("outside.z. A", &["NOERROR", "ns outside.z. 100 NS ns.elsewhere."]);
}
#[test]
fn servers_in_a_sibling_get_their_glue() {
    for question in ["sibling.z. A", "sibling.z. ANY"] {
        check(question, &["NOERROR", "ns sibling.z. 100 NS ns.child.z.", "ar ns.child.z. 100 A 192.0.2.100"]);
    }
}
#[test]
fn ds_is_the_parents_to_answer() {
    let (_, octets) = ask(&all(), &query("child.z.", "DS"), Transport::Udp);
    let head = &octets[..12];
    assert_eq!((head[2] & 0x04, head[3] & 0x0F, head[7]), (0x04, 0, 1), "AA, NOERROR, one answer");
    check("outside.z. DS", &["NOERROR aa", SOA]);
    // own.z. has a zone here, and its parent too: the parent says that nothing is signed.
    check("own.z. DS", &["NXDOMAIN aa", SOA]);
    check("other. DS", &["NOERROR aa", "ns other. 50 SOA ns.other. h.other. 1 1 1 1 60"]);
}
#[test]
fn the_longest_origin_answers() {
    check("ns.own.z. A", &["NOERROR aa", "an ns.own.z. 50 A 192.0.2.99"]);
}

#[test]
fn a_dname_gives_the_names_below_it_those_of_another_tree() {
    let dname = "an tree.z. 100 DNAME other-tree.z.";
    check(
        "b.tree.z. A",
        &[
            "NOERROR aa",
            dname,
            "an b.tree.z. 100 CNAME b.other-tree.z.",
            "an b.other-tree.z. 100 A 192.0.2.7",
        ],
    );
    check("x.b.tree.z. A", &["NXDOMAIN aa", dname, "an x.b.tree.z. 100 CNAME x.b.other-tree.z.", SOA]);
    check(
        "q.wild.tree.z. TXT",
        &[
            "NOERROR aa",
            dname,
            "an q.wild.tree.z. 100 CNAME q.wild.other-tree.z.",
            "an q.wild.other-tree.z. 100 TXT w",
        ],
    );
    check("b.tree.z. CNAME", &["NOERROR aa", dname, "an b.tree.z. 100 CNAME b.other-tree.z."]);
}
#[test]
fn its_owner_is_not_below_it() {
    check("tree.z. A", &["NOERROR aa", "an tree.z. 100 A 192.0.2.6"]);
    check("tree.z. DNAME", &["NOERROR aa", "an tree.z. 100 DNAME other-tree.z."]);
    check("tree.z. MX", &["NOERROR aa", SOA]);
}
#[test]
fn chains_go_through_dnames() {
    check(
        "intotree.z. A",
        &[
            "NOERROR aa",
            "an intotree.z. 100 CNAME b.tree.z.",
            "an tree.z. 100 DNAME other-tree.z.",
            "an b.tree.z. 100 CNAME b.other-tree.z.",
            "an b.other-tree.z. 100 A 192.0.2.7",
        ],
    );
    // The DNAME that is passed twice is there once.
    check(
        "b.toown.tree.z. A",
        &[
            "NOERROR aa",
            "an tree.z. 100 DNAME other-tree.z.",
            "an b.toown.tree.z. 100 CNAME b.toown.other-tree.z.",
            "an toown.other-tree.z. 100 DNAME tree.z.",
            "an b.toown.other-tree.z. 100 CNAME b.tree.z.",
            "an b.tree.z. 100 CNAME b.other-tree.z.",
            "an b.other-tree.z. 100 A 192.0.2.7",
        ],
    );
    check(
        "x.away.z. A",
        &["NOERROR aa", "an away.z. 100 DNAME elsewhere.", "an x.away.z. 100 CNAME x.elsewhere."],
    );
}
#[test]
fn a_dname_into_itself_ends() {
    let (_, octets) = ask(&all(), &query("x.loop.z.", "A"), Transport::Tcp);
    let message = read(&octets);
    assert_eq!(message.answers.len(), 18, "the DNAME, and a CNAME for each of 17 hops");
}
#[test]
fn a_name_that_gets_too_long_says_so() {
    let label = "x".repeat(60);
    check(
        &format!("{label}.{label}.{label}.long.z. A"),
        &["YXDOMAIN aa", &format!("an long.z. 100 DNAME {0}.{0}.b.z.", "a".repeat(63))],
    );
}

#[test]
fn any_gets_one_set() {
    check("host.z. ANY", &["NOERROR aa", "an host.z. 100 A 192.0.2.1"]);
    check("www.z. ANY", &["NOERROR aa", "an www.z. 100 CNAME host.z."]);
    check("z. ANY", &["NOERROR aa", "an z. 100 NS ns.z.", "an z. 100 NS ns.elsewhere."]);
    check("c.ent.z. ANY", &["NOERROR aa", SOA]);
    check("nothing.z. ANY", &["NXDOMAIN aa", SOA]);
}

#[test]
fn out_of_zone_is_refused() {
    check("example.org. A", &["REFUSED"]);
    check(". NS", &["REFUSED"]);
    check("xz. A", &["REFUSED"]);
}
#[test]
fn transfers_are_refused() {
    check("z. AXFR", &["REFUSED"]);
    check("z. IXFR", &["REFUSED"]);
}
#[test]
fn parts_of_messages_are_no_questions() {
    check("z. TYPE41", &["FORMERR"]);
    check("z. TYPE250", &["FORMERR"]);
}
#[test]
fn types_nobody_knows_are_no_data() {
    check("host.z. TYPE1000", &["NOERROR aa", SOA]);
}

/// Changes a query's octets, then looks at the raw header: code, opcode, AA, TC, and whether there is an OPT record.
#[track_caller]
fn check_raw(change: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let mut packet = query("host.z.", "A");
    change(&mut packet);
    let (verdict, octets) = ask(&all(), &packet, Transport::Udp);
    let got = match verdict {
        Verdict::Limited => "limited".into(),
        Verdict::Ignored(why) => {
            assert!(octets.is_empty());
            format!("{why:?}")
        }
        Verdict::Answered { rcode, .. } => {
            let message = read(&octets);
            let edns = message.edns.as_ref().map_or(String::new(), |edns| {
                format!(" edns{} {} do={}", edns.version(), edns.max_payload(), edns.flags().dnssec_ok)
            });
            let opcode = (octets[2] >> 3) & 0x0F;
            format!("{} op{opcode} an{}{edns}", rcode.as_str(), message.answers.len())
        }
    };
    assert_eq!(got, expected);
}

#[test]
fn opt_only_when_asked() {
    check_raw(|_| {}, "NOERROR op0 an1");
    check_raw(
        |packet| *packet = with_edns(packet.clone(), 4096, 0, false),
        "NOERROR op0 an1 edns0 1232 do=false",
    );
    check_raw(
        |packet| *packet = with_edns(packet.clone(), 4096, 0, true),
        "NOERROR op0 an1 edns0 1232 do=true",
    );
}
#[test]
fn an_unknown_edns_version_is_told_ours() {
    check_raw(
        |packet| *packet = with_edns(packet.clone(), 4096, 1, false),
        "BADVERS op0 an0 edns0 1232 do=false",
    );
}
#[test]
fn classes() {
    let class = |class: u8| move |packet: &mut Vec<u8>| *packet.last_mut().unwrap() = class;
    check_raw(class(3), "REFUSED op0 an0");
    check_raw(class(255), "REFUSED op0 an0");
    check_raw(class(0), "REFUSED op0 an0");
}
#[test]
fn opcodes() {
    for opcode in 1..16 {
        check_raw(|packet| packet[2] = opcode << 3, &format!("NOTIMP op{opcode} an0"));
    }
}
#[test]
fn questions_other_than_one() {
    check_raw(|packet| packet[5] = 0, "FORMERR op0 an0");
    check_raw(|packet| packet[5] = 2, "FORMERR op0 an0");
    check_raw(|packet| packet.truncate(20), "FORMERR op0 an0");
    check_raw(|packet| packet.push(0), "FORMERR op0 an0");
}
#[test]
fn silence() {
    check_raw(|packet| packet.truncate(11), "Short");
    check_raw(|packet| packet.clear(), "Short");
    check_raw(|packet| packet[2] |= 0x80, "Response");
}
#[test]
fn checking_disabled_is_copied_and_the_other_bits_are_not() {
    let mut packet = query("host.z.", "A");
    packet[2] |= 0x06;
    packet[3] = 0xFF;
    let (_, octets) = ask(&all(), &packet, Transport::Udp);
    assert_eq!((octets[2], octets[3]), (0x85, 0x10));
}

fn many_addresses(count: usize) -> String {
    let mut text = "$TTL 100\n@ SOA ns h 1 1 1 1 30\n@ NS ns\nns A 192.0.2.1\n".to_string();
    for at in 0..count {
        writeln!(text, "big A 10.0.{}.{}", at / 256, at % 256).unwrap();
    }
    text
}

/// An answer of `count` addresses against a client's limit.
#[track_caller]
fn check_size(count: usize, payload_bytes: Option<u16>, transport: Transport, expected: &str) {
    let zones = zones(&[("z.", &many_addresses(count))], OrderPolicy::Cyclic);
    let mut packet = query("big.z.", "A");
    if let Some(payload_bytes) = payload_bytes {
        packet = with_edns(packet, payload_bytes, 0, false);
    }
    let (_, octets) = ask(&zones, &packet, transport);
    let message = read(&octets);
    let limit = match (transport, payload_bytes) {
        (Transport::Tcp | Transport::Tls | Transport::Https, _) => 65_535,
        (Transport::Udp, asked) => usize::from(asked.unwrap_or(512).clamp(512, 1_232)),
    };
    assert!(octets.len() <= limit, "{} octets", octets.len());
    let cut = if message.metadata.truncation { " tc" } else { "" };
    assert_eq!(format!("{}{cut}", message.answers.len()), expected);
    assert_eq!(message.edns.is_some(), payload_bytes.is_some());
}

#[test]
fn what_does_not_fit_is_cut_to_nothing() {
    // Header 12, question 11, then 16 octets a record: 30 fit 512, and 75 fit 1232 with OPT.
    check_size(30, None, Transport::Udp, "30");
    check_size(31, None, Transport::Udp, "0 tc");
    check_size(30, Some(100), Transport::Udp, "0 tc");
    check_size(29, Some(100), Transport::Udp, "29");
    check_size(74, Some(65_535), Transport::Udp, "74");
    check_size(76, Some(65_535), Transport::Udp, "0 tc");
    check_size(76, None, Transport::Tcp, "76");
    check_size(4_000, Some(512), Transport::Tcp, "4000");
}

#[test]
fn glue_that_is_needed_and_does_not_fit_sets_tc() {
    let mut text = "$TTL 100\n@ SOA ns h 1 1 1 1 30\n@ NS ns\nns A 192.0.2.1\n".to_string();
    for at in 0..13 {
        writeln!(text, "child NS n{at}.child\nn{at}.child A 192.0.2.{at}\nn{at}.child AAAA 2001:db8::{at}")
            .unwrap();
    }
    let zones = zones(&[("z.", &text)], OrderPolicy::Cyclic);
    let packet = query("www.child.z.", "A");
    let (_, cut) = ask(&zones, &packet, Transport::Udp);
    let cut = read(&cut);
    assert!(cut.metadata.truncation && !cut.metadata.authoritative);
    let (_, whole) = ask(&zones, &with_edns(packet, 1_232, 0, false), Transport::Udp);
    let whole = read(&whole);
    assert_eq!(
        (whole.metadata.truncation, whole.authorities.len(), whole.additionals.len()),
        (false, 13, 26)
    );
}

#[test]
fn additional_data_that_is_not_needed_is_left_out_without_tc() {
    let mut text = "$TTL 100\n@ SOA ns h 1 1 1 1 30\n@ NS ns\nns A 192.0.2.1\n".to_string();
    for at in 0..20 {
        writeln!(text, "m MX {at} h{at}\nh{at} AAAA 2001:db8::{at:x}").unwrap();
    }
    let zones = zones(&[("z.", &text)], OrderPolicy::Cyclic);
    let (_, octets) = ask(&zones, &query("m.z.", "MX"), Transport::Udp);
    let message = read(&octets);
    assert_eq!((message.metadata.truncation, message.answers.len()), (false, 20));
    assert!(
        !message.additionals.is_empty() && message.additionals.len() < 20,
        "{}",
        message.additionals.len()
    );
}
