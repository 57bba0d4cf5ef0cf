//! Builders of zones and queries, and a reader of answers that is not ours.

use dns::answer::{Terms, Transport, Verdict, answer};
use dns::wire::{Name, RecordType};
use dns::zone::{Fault, OrderPolicy, Orders, Zone, Zones};
use hickory_proto::op::Message;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::Arc;

/// Zones from pairs of origin and text.
pub(crate) fn zones(files: &[(&str, &str)], policy: OrderPolicy) -> Zones {
    zones_with(files, &Orders::all(policy)).0
}

/// The same with orders of single sets, and what the operator is told.
pub(crate) fn zones_with(files: &[(&str, &str)], orders: &Orders) -> (Zones, Vec<Fault>) {
    let mut told = Vec::new();
    let mut build = |(origin, text): &(&str, &str)| {
        let origin = name(origin);
        let contents = dns::master::read_alone(text.as_bytes(), &origin)
            .unwrap_or_else(|error| panic!("{origin}: {error}"));
        let (zone, warnings) =
            Zone::build_with(origin, contents.records, orders).unwrap_or_else(|fault| panic!("{fault:?}"));
        told.extend(warnings);
        Arc::new(zone)
    };
    let zones: Vec<_> = files.iter().map(&mut build).collect();
    (Zones::new(zones), told)
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_text(text.as_bytes(), Some(&Name::root())).unwrap()
}

/// The octets of a plain query.
pub(crate) fn query(text: &str, record_type: &str) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(name(text).wire());
    packet.extend_from_slice(&RecordType::from_text(record_type.as_bytes()).unwrap().0.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

/// The same query with an OPT record.
pub(crate) fn with_edns(mut packet: Vec<u8>, payload_bytes: u16, version: u8, dnssec_ok: bool) -> Vec<u8> {
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41]);
    packet.extend_from_slice(&payload_bytes.to_be_bytes());
    packet.extend_from_slice(&[0, version, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    packet
}

/// The answer's octets; none when there is none.
pub(crate) fn ask(zones: &Zones, packet: &[u8], transport: Transport) -> (Verdict, Vec<u8>) {
    let mut out = Vec::new();
    let terms = Terms::plain(transport, 1_232);
    let mut rng = fastrand::Rng::with_seed(7);
    let verdict = answer(packet, zones, terms, &mut |bound| rng.usize(..bound), &mut out);
    (verdict, out)
}

pub(crate) fn read(octets: &[u8]) -> Message {
    Message::from_vec(octets).unwrap_or_else(|error| panic!("{error} in {}", octets.escape_ascii()))
}

/// Waits for a datagram, signals or no signals: a call with a timeout is ended by any that this process handles, such as a child's end.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}
