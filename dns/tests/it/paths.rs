//! The fast path and the slow one give the same octets to the same query, with the same turns and chance.

use crate::support::{name, query, with_edns, zones};
use dns::answer::{Terms, Transport, Verdict, answer};
use dns::fast::fast;
use dns::replay::{Recorder, Replay};
use dns::wire::{Name, RecordType};
use dns::zone::{OrderPolicy, Zones};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// What happened to a query that both paths saw.
#[derive(Debug, PartialEq)]
enum Seen {
    SlowOnly,
    Alike(Vec<u8>),
}

/// Asks both; panics when the fast path answers otherwise than the slow one.
#[track_caller]
fn compare(zones: &Zones, packet: &[u8], udp_payload_bytes_max: u16) -> Seen {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut recorder = Recorder::new(|bound| rng.usize(..bound));
    let terms = Terms::plain(Transport::Udp, udp_payload_bytes_max);
    let mut slow = b"before".to_vec();
    let verdict = answer(packet, zones, terms, &mut recorder, &mut slow);
    let mut quick = b"before".to_vec();
    match fast(packet, zones, udp_payload_bytes_max, &mut Replay::of(recorder), &mut quick) {
        None => {
            assert_eq!(quick, b"before");
            Seen::SlowOnly
        }
        Some(repeated) => {
            let shown = packet.escape_ascii();
            assert_eq!(quick.escape_ascii().to_string(), slow.escape_ascii().to_string(), "{shown}");
            assert_eq!(repeated, verdict, "{shown}");
            Seen::Alike(quick)
        }
    }
}

const ZONE: &str = "$TTL 9\n@ SOA ns.z. host.a.z. 1 1 1 1 5\n@ NS ns\nns A 192.0.2.1\n\
    set A 192.0.2.1\nset A 192.0.2.2\nset A 192.0.2.3\nset AAAA 2001:db8::1\nset AAAA 2001:db8::2\n\
    set TXT \"one\" \"two\"\nset TXT three\nset CAA 0 issue \"ca.example\"\nset MX 1 set\nwww CNAME set\n\
    *.w A 192.0.2.9\n*.w A 192.0.2.8\na.b.w TXT here\n*.alias.w CNAME set\nchild NS n.child\nn.child A 192.0.2.1\n\
    below.child A 192.0.2.1\nchild DS 1 1 1 00\nb.d.e A 192.0.2.1\ns SRV 1 1 1 set\n";

fn zones_in(policy: OrderPolicy) -> Zones {
    let mut big =
        String::from("$TTL 300\n@ SOA elsewhere.y. mail.elsewhere.y. 1 1 1 1 999\n@ NS ns.elsewhere.y.\n");
    for count in [28, 29, 30, 31, 70, 76] {
        for at in 0..count {
            writeln!(big, "n{count} A 10.0.0.{at}").unwrap();
        }
    }
    let long = format!("{0}.{0}.{0}", "x".repeat(60));
    let deep = format!("$TTL 9\n@ SOA {long} {long} 1 1 1 1 5\n@ NS ns\nns A 192.0.2.1\n");
    let zone = ZONE.replace("child DS 1 1 1 00", "child TYPE43 \\# 5 0001010100");
    zones(&[("z.", &zone), ("sub.other.y.", &big), ("long.y.", &deep)], policy)
}

static CYCLIC: LazyLock<Zones> = LazyLock::new(|| zones_in(OrderPolicy::Cyclic));
static RANDOM: LazyLock<Zones> = LazyLock::new(|| zones_in(OrderPolicy::Random));

#[track_caller]
fn check(name: &str, record_type: &str, expected_fast: bool) {
    for packet in [query(name, record_type), with_edns(query(name, record_type), 1_232, 0, true)] {
        let seen = compare(&CYCLIC, &packet, 1_232);
        assert_eq!(seen != Seen::SlowOnly, expected_fast, "{name} {record_type}");
        compare(&RANDOM, &packet, 1_232);
    }
}

#[test]
fn what_is_common_is_fast() {
    for (name, record_type) in [
        ("set.z.", "A"),
        ("SeT.Z.", "AAAA"),
        ("set.z.", "TXT"),
        ("set.z.", "TYPE65"),
        ("z.", "A"),
        ("e.z.", "A"),
        ("a.b.w.z.", "A"),
        ("w.z.", "A"),
        ("x.w.z.", "A"),
        ("x.y.w.z.", "A"),
        ("x.w.z.", "AAAA"),
        ("*.w.z.", "A"),
        ("nothing.z.", "A"),
        ("x.nothing.z.", "TXT"),
        ("nothing.sub.other.y.", "A"),
        ("n28.sub.other.y.", "A"),
    ] {
        check(name, record_type, true);
    }
}

#[test]
fn what_is_not_is_left_to_the_slow_path() {
    for (name, record_type) in [
        (".", "A"),
        ("elsewhere.", "A"),
        ("www.z.", "A"),
        ("x.alias.w.z.", "A"),
        ("z.", "SOA"),
        ("z.", "NS"),
        ("set.z.", "MX"),
        ("set.z.", "CAA"),
        ("set.z.", "ANY"),
        ("s.z.", "SRV"),
        ("child.z.", "A"),
        ("child.z.", "DS"),
        ("below.child.z.", "A"),
        ("nothing.child.z.", "A"),
        ("_why.set.z.", "TXT"),
        ("set.z.", "AXFR"),
        // These share more than the origin with the names of the SOA record.
        ("x.ns.z.", "A"),
        ("ns.z.", "AAAA"),
        ("a.z.", "A"),
        // More labels than the writer could compress against.
        ("1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.z.", "A"),
    ] {
        check(name, record_type, false);
    }
}

#[test]
fn what_does_not_fit_is_cut_by_the_slow_path() {
    let fits = |name: &str, payload: Option<u16>| {
        let plain = query(name, "A");
        let packet = payload.map_or(plain.clone(), |payload| with_edns(plain, payload, 0, false));
        compare(&CYCLIC, &packet, 1_232) != Seen::SlowOnly
    };
    // 12 and 21 octets before the records, 16 each, and 11 for OPT.
    assert!(fits("n29.sub.other.y.", None) && !fits("n30.sub.other.y.", None));
    assert!(fits("n29.sub.other.y.", Some(512)) && !fits("n30.sub.other.y.", Some(512)));
    assert!(fits("n29.sub.other.y.", Some(0)) && fits("n30.sub.other.y.", Some(528)));
    assert!(fits("n70.sub.other.y.", Some(65_535)) && !fits("n76.sub.other.y.", Some(65_535)));
}

#[test]
fn a_negative_answer_with_a_long_soa_is_measured_too() {
    let name = format!("{}.long.y.", "q".repeat(63));
    assert_ne!(compare(&CYCLIC, &query(&name, "A"), 1_232), Seen::SlowOnly);
}

#[test]
fn an_option_goes_the_slow_way() {
    let mut packet = with_edns(query("set.z.", "A"), 1_232, 0, false);
    let at = packet.len() - 1;
    packet[at] = 4;
    packet.extend_from_slice(&[0, 3, 0, 0]);
    assert_eq!(compare(&CYCLIC, &packet, 1_232), Seen::SlowOnly);
    let other_version = with_edns(query("set.z.", "A"), 1_232, 1, false);
    assert_eq!(compare(&CYCLIC, &other_version, 1_232), Seen::SlowOnly);
}

#[test]
fn the_fast_path_takes_turns_of_the_same_cursor() {
    let zones = zones_in(OrderPolicy::Cyclic);
    let packet = query("set.z.", "A");
    let terms = Terms::plain(Transport::Udp, 1_232);
    let mut draw = |_| unreachable!("a cyclic set needs no chance");
    let mut firsts = Vec::new();
    for turn in 0..6 {
        let mut out = Vec::new();
        let verdict = if turn % 2 == 0 {
            fast(&packet, &zones, 1_232, &mut draw, &mut out).unwrap()
        } else {
            answer(&packet, &zones, terms, &mut draw, &mut out)
        };
        assert!(matches!(verdict, Verdict::Answered { .. }));
        // The last octet of the first address.
        firsts.push(out[packet.len() + 15]);
    }
    assert_eq!(firsts, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_name_that_needs_more_than_the_question_is_not_fast() {
    let text = ZONE.replace("child DS 1 1 1 00\n", "");
    let contents = dns::master::read_alone(text.as_bytes(), &name("z.")).unwrap();
    let (mut zone, _) = dns::zone::Zone::build(name("z."), contents.records, OrderPolicy::Cyclic).unwrap();
    zone.slow_only(&name("set.z."));
    let zones = Zones::new([std::sync::Arc::new(zone)]);
    assert_eq!(compare(&zones, &query("set.z.", "A"), 1_232), Seen::SlowOnly);
    assert_ne!(compare(&zones, &query("ns.z.", "A"), 1_232), Seen::SlowOnly);
}

/// Labels that hit something more often than not, in any case.
fn labels() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "set", "SET", "www", "w", "*", "a", "b", "e", "d", "child", "below", "ns", "NS", "host", "sub",
        "other", "long", "_why", "alias", "n28", "n30",
    ];
    let label =
        prop_oneof![4 => proptest::sample::select(KNOWN).prop_map(String::from), 1 => "[a-zA-Z]{1,63}"];
    (vec(label, 0..5), proptest::sample::select(&["z.", "Z.", "sub.other.y.", "long.y.", "y.", "."][..]))
        .prop_map(|(labels, origin)| format!("{}.{origin}", labels.join(".")))
        .prop_map(|name| name.replace("..", ".").trim_start_matches('.').to_string())
        .prop_map(|name| if name.is_empty() { ".".to_string() } else { name })
}

fn types() -> impl Strategy<Value = u16> {
    prop_oneof![4 => proptest::sample::select(&[1_u16, 28, 16, 257, 5, 2, 6, 15, 43, 255][..]), 1 => any::<u16>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, ..ProptestConfig::default() })]

    #[test]
    fn queries(
        name in labels(), record_type in types(), edns in proptest::option::of((any::<u16>(), any::<bool>())),
        flags in any::<[u8; 2]>(), most in 512_u16..4_096, random in any::<bool>(),
    ) {
        prop_assume!(Name::from_text(name.as_bytes(), None).is_ok());
        let mut packet = query(&name, &RecordType(record_type).to_string());
        if let Some((payload, dnssec_ok)) = edns {
            packet = with_edns(packet, payload, 0, dnssec_ok);
        }
        packet[2] = flags[0] & 0x07;
        packet[3] = flags[1];
        compare(if random { &RANDOM } else { &CYCLIC }, &packet, most);
    }

    #[test]
    fn queries_with_octets_changed(
        name in labels(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        prop_assume!(Name::from_text(name.as_bytes(), None).is_ok());
        let mut packet = with_edns(query(&name, "A"), 1_232, 0, false);
        for (at, octet) in changes {
            let at = at.index(packet.len());
            packet[at] = octet;
        }
        compare(&CYCLIC, &packet, 1_232);
    }

    #[test]
    fn noise(packet in vec(any::<u8>(), 0..100)) {
        compare(&CYCLIC, &packet, 1_232);
    }
}
