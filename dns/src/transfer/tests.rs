use super::*;
use crate::wire::options::Options;
use crate::wire::query::{Edns, Header};
use crate::wire::{Class, Question};
use crate::zone::OrderPolicy;

/// A zone with an empty non-terminal, a delegation with glue, and `many` more addresses.
fn zone(many: usize) -> Arc<Zone> {
    let mut text = String::from(
        "$ORIGIN example.\n$TTL 60\n@ SOA ns host 7 1 1 1 1\n@ NS ns\nns A 192.0.2.1\na.b TXT \"deep\"\n\
         sub NS ns.sub\nns.sub A 192.0.2.9\nwww A 192.0.2.2\nwww A 192.0.2.3\n",
    );
    for n in 0..many {
        text.push_str(&format!("h{n} A 10.{}.{}.{}\n", n >> 16, (n >> 8) & 255, n & 255));
    }
    let origin = Name::from_text(b"example.", None).unwrap();
    let records = crate::master::read_alone(text.as_bytes(), &origin).unwrap().records;
    Arc::new(Zone::build(origin, records, OrderPolicy::Fixed).unwrap().0)
}

fn query(record_type: RecordType) -> Query {
    let name = Name::from_text(b"example.", None).unwrap();
    let opcode = crate::wire::Opcode::QUERY;
    let header = Header { id: 7, opcode, recursion_desired: false, checking_disabled: false };
    Query { header, question: Question { name, record_type, class: Class::IN }, edns: None }
}

/// Every message as an independent reader reads it: their answers as text.
fn read(mut transfer: Transfer) -> (usize, Vec<String>) {
    let (mut messages, mut records) = (0, Vec::new());
    while !transfer.is_complete() {
        let mut out = Vec::new();
        transfer.message(&mut out).unwrap();
        assert!(out.len() <= MESSAGE_BYTES - transfer.reserved);
        let message = hickory_proto::op::Message::from_vec(&out).unwrap();
        records.extend(message.answers.iter().map(|record| format!("{} {}", record.name, record.data)));
        messages += 1;
    }
    (messages, records)
}

#[test]
fn every_record_once_between_two_of_the_soa() {
    let (messages, records) = read(Transfer::new(zone(0), query(RecordType::AXFR), None, (1_232, 0)));
    assert_eq!(messages, 1);
    assert!(
        records.first() == records.last() && records[0].starts_with("example. ns.example. host.example. 7")
    );
    let mut inner = records[1..records.len() - 1].to_vec();
    inner.sort();
    let expected = [
        "a.b.example. deep",
        "example. ns.example.",
        "ns.example. 192.0.2.1",
        "ns.sub.example. 192.0.2.9",
        "sub.example. ns.sub.example.",
        "www.example. 192.0.2.2",
        "www.example. 192.0.2.3",
    ];
    assert_eq!(inner, expected);
}

#[test]
fn a_large_zone_takes_many_messages() {
    let (messages, mut records) =
        read(Transfer::new(zone(20_000), query(RecordType::AXFR), None, (1_232, 100)));
    assert!(messages > 10, "{messages}");
    assert_eq!(records.len(), 20_000 + 9);
    records.sort();
    records.dedup();
    assert_eq!(records.len(), 20_000 + 8, "only the SOA is there twice");
}

#[test]
fn changes_since_now_are_the_soa_alone() {
    let transfer = |serial| read(Transfer::new(zone(0), query(RecordType::IXFR), serial, (1_232, 0))).1.len();
    assert_eq!(transfer(Some(7)), 1);
    assert_eq!(transfer(Some(8)), 1);
    assert_eq!(transfer(Some(7 + (1 << 31))), 9);
    assert_eq!(transfer(Some(6)), 9);
    assert_eq!(transfer(None), 9);
}

#[test]
fn names_keep_the_case_they_have_in_the_zone() {
    let mut query = query(RecordType::AXFR);
    query.question.name = Name::from_text(b"EXAMPLE.", None).unwrap();
    let (_, records) = read(Transfer::new(zone(0), query, None, (1_232, 0)));
    assert!(records.iter().all(|record| !record.contains("EXAMPLE")), "{records:?}");
}

#[test]
fn the_first_message_alone_says_that_edns_is_spoken() {
    let mut query = query(RecordType::AXFR);
    query.edns =
        Some(Edns { payload_bytes: 4_096, version: 0, dnssec_ok: true, options: Options::default() });
    let mut transfer = Transfer::new(zone(20_000), query, None, (1_232, 100));
    let mut first = true;
    while !transfer.is_complete() {
        let mut out = Vec::new();
        transfer.message(&mut out).unwrap();
        assert!(out.len() <= MESSAGE_BYTES - 100);
        let edns = hickory_proto::op::Message::from_vec(&out).unwrap().edns;
        let told = edns.map(|edns| (edns.max_payload(), edns.flags().dnssec_ok));
        assert_eq!(told, first.then_some((1_232, true)));
        first = false;
    }
}

#[test]
fn the_serial_of_a_client() {
    let mut packet = b"\0\x07\0\0\0\x01\0\0\0\x01\0\0\x07example\0\0\xfb\0\x01".to_vec();
    packet.extend_from_slice(
        b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\xc0\x0c\0\0\0\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    );
    assert_eq!(client_serial(&packet), Some(0x0102));
    assert_eq!(client_serial(&packet[..30]), None);
    assert_eq!(client_serial(b""), None);
}
