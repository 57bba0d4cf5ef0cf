//! The tests that RFC 8906 section 8 has for name servers, each by its section, against the running program.

use crate::message::Answer;
use crate::peers::exchange;
use crate::running::{Plan, Server, Tcp, framed};
use crate::support::query;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

const SOA: u16 = 6;
/// An option that nobody has (RFC 8906 section 8.2.3), NSID, cookie, EXPIRE and client subnet.
const UNKNOWN: &[u8] = &[0, 100, 0, 0];
const NSID: &[u8] = &[0, 3, 0, 0];
const COOKIE: &[u8] = &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
const EXPIRE: &[u8] = &[0, 9, 0, 0];
const SUBNET: &[u8] = &[0, 8, 0, 4, 0, 1, 0, 0];

/// A query for the zone's SOA, as `dig +norec` sends it.
fn soa() -> Vec<u8> {
    let mut packet = query("z.", &format!("TYPE{SOA}"));
    packet[2] = 0;
    packet
}

fn with_opt(mut packet: Vec<u8>, version: u8, flags: u16, options: &[&[u8]]) -> Vec<u8> {
    let options = options.concat();
    packet[11] = 1;
    packet.extend([0, 0, 41, 0x10, 0, 0, version]);
    packet.extend(flags.to_be_bytes());
    packet.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
    packet.extend(options);
    packet
}

/// Status, flags, whether the SOA is there, and OPT: all that the RFC asks to look at.
fn summary(answer: &Answer) -> String {
    let mut text = format!("{} {}", answer.rcode, answer.flags.join(" "));
    if answer.sections[0].iter().any(|record| record.starts_with("z. 60 SOA")) {
        text += " soa";
    }
    if let Some(edns) = &answer.edns {
        write!(text, " edns{}", edns.version).unwrap();
        if edns.flags != 0 {
            write!(text, " {:#x}", edns.flags).unwrap();
        }
        for (code, _) in &edns.options {
            write!(text, " option{code}").unwrap();
        }
    }
    text
}

#[test]
fn every_case_of_rfc_8906_section_8() {
    let zone = crate::running::ZONE.to_string() + &many_texts();
    let server = Plan::new().zone("z", &zone).start();
    let mut unknown_type = soa();
    let at = unknown_type.len() - 4;
    unknown_type[at..at + 2].copy_from_slice(&1000u16.to_be_bytes());
    let header = |byte: usize, bits: u8| {
        let mut packet = soa();
        packet[byte] |= bits;
        packet
    };
    let opcode = [0x12, 0x34, 15 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let plain = "0 qr aa soa edns0";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("8.1.1 a known type", soa(), "0 qr aa soa"),
        ("8.1.2 an unknown type", unknown_type, "0 qr aa"),
        ("8.1.3.1 CD is set", header(3, 0x10), "0 qr aa cd soa"),
        ("8.1.3.2 AD is set", header(3, 0x20), "0 qr aa soa"),
        ("8.1.3.3 the reserved bit is set", header(3, 0x40), "0 qr aa soa"),
        ("8.1.3.4 recursion is desired", header(2, 0x01), "0 qr aa rd soa"),
        ("8.1.4 an unknown opcode", opcode.to_vec(), "4 qr"),
        ("8.2.1 minimal EDNS", with_opt(soa(), 0, 0, &[]), plain),
        ("8.2.2 an unknown version", with_opt(soa(), 1, 0, &[]), "16 qr edns0"),
        ("8.2.3 an unknown option", with_opt(soa(), 0, 0, &[UNKNOWN]), plain),
        ("8.2.4 an unknown flag", with_opt(soa(), 0, 0x40, &[]), plain),
        ("8.2.5 an unknown version with an unknown flag", with_opt(soa(), 1, 0x40, &[]), "16 qr edns0"),
        ("8.2.6 an unknown version with an unknown option", with_opt(soa(), 1, 0, &[UNKNOWN]), "16 qr edns0"),
        ("8.2.8 DNSSEC is asked for", with_opt(soa(), 0, 0x8000, &[]), "0 qr aa soa edns0 0x8000"),
        ("8.2.9 an unknown version with DO", with_opt(soa(), 1, 0x8000, &[]), "16 qr edns0 0x8000"),
        ("8.2.10 many options", with_opt(soa(), 0, 0, &[NSID, COOKIE, EXPIRE, SUBNET]), MANY),
    ];
    let mut wrong = String::new();
    for (case, packet, expected) in cases {
        for (via, octets) in [("udp", exchange(server.address, &packet)), ("tcp", over_tcp(&server, &packet))]
        {
            let got = summary(&Answer::read(&octets));
            if got != expected {
                writeln!(wrong, "{case}, {via}: expected {expected}, got {got}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    truncation(&server);
}

/// What comes back for 8.2.10: the options that we know.
const MANY: &str = "0 qr aa soa edns0 option10 option8";

fn many_texts() -> String {
    (0..40).fold(String::new(), |text, at| text + &format!("many TXT \"{at:060}\"\n"))
}

/// 8.2.7: what does not fit is marked, with OPT, and whole over TCP (8.1.5).
fn truncation(server: &Server) {
    let packet = with_opt(query("many.z.", "TXT"), 0, 0, &[]);
    let cut = Answer::read(&exchange(server.address, &packet));
    assert!(cut.is("tc") && cut.edns.is_some(), "{cut:?}");
    let whole = Answer::read(&over_tcp(server, &packet));
    assert!(!whole.is("tc") && whole.sections[0].len() == 40, "{whole:?}");
}

fn over_tcp(server: &Server, packet: &[u8]) -> Vec<u8> {
    let mut stream = Tcp::connect(server.address).stream;
    stream.write_all(&framed(packet)).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).unwrap();
    octets
}
