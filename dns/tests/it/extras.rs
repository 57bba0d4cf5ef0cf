//! What is said and done beside the records: identity, cookies (beside BIND, with one secret), client subnets, limits.

use crate::message::Answer;
use crate::peers::{Brand, Peer, Root, exchange};
use crate::running::{Plan, Server, Tcp, ZONE, eventually, framed};
use crate::support::{query, receive};
use data_encoding::HEXLOWER;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const CLIENT: &str = "0102030405060708";
const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
const NOERROR: u16 = 0;
const BADCOOKIE: u16 = 23;

/// A query for the SOA with one option in hexadecimal.
fn asking(code: u16, value: &str) -> Vec<u8> {
    let value = HEXLOWER.decode(value.as_bytes()).unwrap();
    let mut packet = query("z.", "SOA");
    packet[11] = 1;
    packet.extend([0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0]);
    packet.extend(u16::try_from(value.len() + 4).unwrap().to_be_bytes());
    packet.extend(code.to_be_bytes());
    packet.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    packet.extend(value);
    packet
}

fn ask(address: SocketAddr, packet: &[u8]) -> Answer {
    Answer::read(&exchange(address, packet))
}

fn option(answer: &Answer, code: u16) -> Option<String> {
    let options = &answer.edns.as_ref()?.options;
    options.iter().find(|(known, _)| *known == code).map(|(_, value)| HEXLOWER.encode(value))
}

/// A question in class CH.
fn chaos_query(name: &str) -> Vec<u8> {
    let mut packet = query(name, "TXT");
    *packet.last_mut().unwrap() = 3;
    packet
}

/// The code and the text that one is answered with.
fn chaos(server: &Server, name: &str) -> (u16, String) {
    let packet = chaos_query(name);
    let octets = exchange(server.address, &packet);
    let answer = Answer::read(&octets);
    let text = if answer.sections[0].is_empty() { &[][..] } else { &octets[packet.len() + 13..] };
    (answer.rcode, String::from_utf8(text.to_vec()).unwrap())
}

#[test]
fn the_server_says_who_it_is_where_it_is_told_to() {
    let silent = Server::start();
    assert_eq!(chaos(&silent, "version.bind."), (5, String::new()));
    assert_eq!(option(&ask(silent.address, &asking(3, "")), 3), None);
    let told = Plan::new()
        .zone("z", ZONE)
        .with("DNS_IDENTITY__NSID", "dns-7")
        .with("DNS_IDENTITY__VERSION", "ours")
        .with("DNS_IDENTITY__HOSTNAME", "host-7")
        .start();
    for (name, expected) in [
        ("version.bind.", (NOERROR, "ours")),
        ("VERSION.server.", (NOERROR, "ours")),
        ("hostname.bind.", (NOERROR, "host-7")),
        ("id.server.", (NOERROR, "host-7")),
        ("z.", (5, "")),
    ] {
        let (rcode, text) = chaos(&told, name);
        assert_eq!((rcode, text.as_str()), expected, "{name}");
    }
    assert_eq!(option(&ask(told.address, &asking(3, "")), 3), Some(HEXLOWER.encode(b"dns-7")));
}

#[test]
fn a_subnet_comes_back_with_scope_0() {
    let server = Server::start();
    let answer = ask(server.address, &asking(8, "00011800c00002"));
    assert_eq!(option(&answer, 8).as_deref(), Some("00011800c00002"));
    assert_eq!(ask(server.address, &asking(8, "00011800c0000201")).rcode, 1, "too many octets");
}

#[test]
fn connections_say_how_long_they_may_be_idle() {
    let server = Plan::new().zone("z", ZONE).with("DNS_TCP__IDLE_TIMEOUT_MS", "30000").start();
    let mut stream = Tcp::connect(server.address).stream;
    stream.write_all(&framed(&asking(11, ""))).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).unwrap();
    assert_eq!(option(&Answer::read(&octets), 11).as_deref(), Some("012c"), "300 tenths of a second");
    assert_eq!(option(&ask(server.address, &asking(11, "")), 11), None, "not over UDP");
}

#[test]
fn cookies_are_taken_by_us_and_by_bind_alike() {
    let Some(root) = Root::find("cookies_are_taken_by_us_and_by_bind_alike") else { return };
    let zones = [("z.".to_string(), ZONE.to_string())];
    let more = format!("require-server-cookie yes; cookie-algorithm siphash24; cookie-secret \"{SECRET}\";");
    let bind = Peer::start_with(&root, Brand::Bind, &zones, &more);
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    // BIND's secret stands second: it is taken, but ours are made with another, that BIND does not have.
    let other = "00".repeat(16);
    for (text, ours_at_bind) in
        [(format!("{SECRET}\n"), NOERROR), (format!("{other}\n{SECRET}\n"), BADCOOKIE)]
    {
        std::fs::write(&secrets, text).unwrap();
        let ours = Plan::new()
            .zone("z", ZONE)
            .with("DNS_COOKIES__REQUIRED", "true")
            .with("DNS_COOKIES__SECRETS_FILE", secrets.to_str().unwrap())
            .start();
        let given = |address| {
            let answer = ask(address, &asking(10, CLIENT));
            assert_eq!((answer.rcode, answer.sections[0].len()), (BADCOOKIE, 0));
            option(&answer, 10).unwrap()
        };
        let (of_ours, of_bind) = (given(ours.address), given(bind.address));
        assert_eq!(ask(ours.address, &asking(10, &of_ours)).rcode, NOERROR);
        assert_eq!(ask(ours.address, &asking(10, &of_bind)).rcode, NOERROR, "BIND's cookie at ours");
        assert_eq!(ask(bind.address, &asking(10, &of_ours)).rcode, ours_at_bind, "our cookie at BIND");
        // Who knows no cookies is answered as ever.
        assert_eq!(ask(ours.address, &query("z.", "SOA")).rcode, NOERROR);
    }
}

/// What becomes of each of `count` equal queries in a row: `+` answered, `t` cut, `-` none.
fn flood(server: &Server, packet: &[u8], count: u8) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut all = vec!['-'; usize::from(count)];
    for id in 0..count {
        let mut packet = packet.to_vec();
        packet[1] = id;
        socket.send(&packet).unwrap();
    }
    let mut buffer = [0; 4_096];
    while let Ok(bytes) = receive(&socket, &mut buffer) {
        let answer = Answer::read(&buffer[..bytes]);
        all[usize::from(buffer[1])] = if answer.is("tc") { 't' } else { '+' };
    }
    all.into_iter().collect()
}

#[test]
fn equal_answers_are_limited_over_udp() {
    let server = Plan::new()
        .zone("z", &format!("{ZONE}*.w A 192.0.2.9\n"))
        .with("DNS_RATE_LIMIT__RESPONSES_PER_SECOND", "1")
        .with("DNS_RATE_LIMIT__SLIP", "2")
        .with("DNS_IDENTITY__VERSION", "ours")
        .start();
    let got = flood(&server, &query("nothing.z.", "A"), 40);
    let count = |letter| got.chars().filter(|one| *one == letter).count();
    assert!(got.starts_with('+') && count('t') > 5 && count('-') > 5, "{got}");
    server.counts("dns_packets_dropped_total{reason=\"rate-limit\"}", |count| count > 5);
    // What we say of ourselves is an answer as any other.
    let got = flood(&server, &chaos_query("version.bind."), 20);
    assert!(got.starts_with('+') && got.contains('-') && got.contains('t'), "{got}");
    // Another answer has an account of its own, and TCP has none.
    let other = flood(&server, &query("set.z.", "A"), 1);
    assert_eq!(other, "+");
    for _ in 0..5 {
        let answer = server.connect().ask(&query("nothing.z.", "A"));
        assert_eq!(answer.metadata.response_code.to_string(), "Non-Existent Domain");
    }
    // A cookie of ours proves the address. The account fills again, so that the cookie itself can be had.
    let cookie = eventually("a cookie", || {
        let answer = ask(server.address, &asking(10, CLIENT));
        if answer.is("tc") { None } else { option(&answer, 10) }
    });
    assert_eq!(flood(&server, &asking(10, &cookie), 20), "+".repeat(20));
}
