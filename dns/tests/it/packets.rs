//! Any octets at all: no panic, no answer over the limit, and every answer can be read by somebody else.

use crate::support::{ask, query, with_edns, zones};
use dns::answer::{Transport, Verdict};
use dns::wire::{Name, Query};
use dns::zone::{OrderPolicy, Zones};
use hickory_proto::op::Message;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let mut text = String::from(
        "$TTL 9\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 192.0.2.1\n*.w CNAME big\nc NS n.c\nn.c A 192.0.2.1\n\
         l CNAME m\nm CNAME l\na.b.d A 192.0.2.1\n",
    );
    for at in 0..100 {
        text += &format!("big A 10.0.0.{at}\nbig TXT \"{at:0100}\"\nm{at} MX 1 big\n");
    }
    zones(&[("z.", &text)], OrderPolicy::Random)
});

/// Asks over both transports and checks what must hold for every packet.
fn hold(packet: &[u8]) -> Result<(), TestCaseError> {
    for transport in Transport::ALL {
        let (verdict, octets) = ask(&ZONES, packet, transport);
        let Verdict::Answered { rcode, truncated } = verdict else {
            prop_assert!(octets.is_empty());
            continue;
        };
        let asked = Query::parse(packet).ok().and_then(|query| query.edns);
        let limit = match transport {
            Transport::Tcp | Transport::Tls | Transport::Https => 65_535,
            Transport::Udp => asked.map_or(512, |edns| edns.payload_bytes.clamp(512, 1_232)).into(),
        };
        prop_assert!(octets.len() <= limit, "{} octets, limit {limit}", octets.len());
        prop_assert_eq!(&octets[..2], &packet[..2]);
        prop_assert_eq!(octets[2] & 0x80, 0x80);
        prop_assert_eq!(truncated, octets[2] & 0x02 != 0);
        let message = match Message::from_vec(&octets) {
            Ok(message) => message,
            Err(error) => return Err(TestCaseError::fail(format!("{error}: {}", octets.escape_ascii()))),
        };
        prop_assert_eq!(message.edns.is_some(), asked.is_some());
        prop_assert_eq!(octets[3] & 0x0F, rcode.low());
    }
    Ok(())
}

/// Names that hit something more often than not.
fn names() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        Just("z".to_string()),
        Just("w".to_string()),
        Just("*".to_string()),
        Just("c".to_string()),
        Just("l".to_string()),
        Just("BIG".to_string()),
        Just("m7".to_string()),
        Just("d".to_string()),
        "[a-z]{1,63}",
    ];
    vec(label, 0..5)
        .prop_map(|labels| labels.join(".") + ".z.")
        .prop_map(|name| name.trim_start_matches('.').to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn noise(packet in vec(any::<u8>(), 0..700)) {
        hold(&packet)?;
    }

    #[test]
    fn noise_behind_a_good_header(rest in vec(any::<u8>(), 0..300), additionals in 0u8..3) {
        let mut packet = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, additionals];
        packet.extend(rest);
        hold(&packet)?;
    }

    #[test]
    fn good_queries(name in names(), record_type in prop_oneof![Just(1u16), Just(2), Just(5), Just(6), Just(15), Just(16), Just(255), any::<u16>()], payload in any::<u16>(), edns in any::<bool>()) {
        prop_assume!(Name::from_text(name.as_bytes(), None).is_ok());
        let mut packet = query(&name, &format!("TYPE{record_type}"));
        if edns {
            packet = with_edns(packet, payload, 0, true);
        }
        prop_assert!(Query::parse(&packet).is_ok());
        hold(&packet)?;
    }

    #[test]
    fn good_queries_with_octets_changed(name in names(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        prop_assume!(Name::from_text(name.as_bytes(), None).is_ok());
        let mut packet = with_edns(query(&name, "A"), 1_232, 0, false);
        for (at, octet) in changes {
            let at = at.index(packet.len());
            packet[at] = octet;
        }
        hold(&packet)?;
    }

    #[test]
    fn any_text_is_a_zone_or_an_error(text in "[@a-z0-9 \t\n\"();\\\\$.*]{0,200}") {
        let origin = Name::root();
        if let Ok(contents) = dns::master::read_alone(text.as_bytes(), &origin) {
            let _ = dns::zone::Zone::build(origin, contents.records, OrderPolicy::Cyclic);
        }
    }

    #[test]
    fn any_octets_are_a_zone_or_an_error(text in vec(any::<u8>(), 0..300)) {
        let _ = dns::master::read_alone(&text, &Name::root());
    }

    #[test]
    fn a_zone_with_octets_changed(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut text = b"$TTL 1h\n@ IN SOA ns h ( 1 2 3 4 5 )\n@ NS ns\nns A 192.0.2.1\n* CNAME ns\nc NS n.c\nn.c A 192.0.2.1\nt TXT \"a\\\"b\" c\no TYPE65280 \\# 2 abcd\n".to_vec();
        for (at, octet) in changes {
            let at = at.index(text.len());
            text[at] = octet;
        }
        let origin = Name::from_text(b"z.", None).unwrap();
        if let Ok(contents) = dns::master::read_alone(&text, &origin) {
            let _ = dns::zone::Zone::build(origin, contents.records, OrderPolicy::Cyclic);
        }
    }

    #[test]
    fn records_of_all_types_with_octets_changed(at in any::<prop::sample::Index>(), changes in vec((any::<prop::sample::Index>(), "[ -~]"), 1..5)) {
        let all: Vec<&str> = crate::rdata::lines(crate::rdata::GOOD).collect();
        let mut text = format!("$TTL 1\n@ {}\n", at.get(&all)).into_bytes();
        for (at, letter) in changes {
            let at = at.index(text.len());
            text[at] = letter.as_bytes()[0];
        }
        // What is read has octets of the right shape, or reading would have refused it.
        if let Ok(contents) = dns::master::read_alone(&text, &Name::root()) {
            for record in contents.records {
                let mut octets = Vec::new();
                record.rdata.write(&mut dns::wire::Writer::new(&mut octets, 65_535)).unwrap();
            }
        }
    }

    #[test]
    fn octets_of_all_types_are_data_or_an_error(record_type in 0u16..300, octets in vec(any::<u8>(), 0..60)) {
        let _ = dns::zone::Rdata::from_wire(dns::wire::RecordType(record_type), &octets);
    }

    #[test]
    fn names_print_as_they_read(octets in vec(vec(any::<u8>(), 1..20), 0..8)) {
        let mut wire = Vec::new();
        for label in &octets {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        let name = Name::from_wire(&wire).unwrap();
        let again = Name::from_text(name.to_string().as_bytes(), None).unwrap();
        prop_assert_eq!(again.wire(), name.wire());
    }
}
