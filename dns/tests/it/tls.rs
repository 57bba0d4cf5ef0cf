//! DNS over TLS (RFC 7858), with BIND's and Knot's clients and our own.

use crate::authority::{Authority, NAME, Tls, ask, closed_by_server, nothing_open, receive};
use crate::message::Answer;
use crate::peers::Root;
use crate::running::{Server, ZONE, eventually, framed};
use crate::support::{query, with_edns};
use crate::transfers::SECRET;
use std::io::Write as _;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

const TCP_KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

fn server(authority: &Authority) -> Server {
    authority
        .plan()
        .zone("z", ZONE)
        .with("DNS_TCP__IDLE_TIMEOUT_MS", "2000")
        .with("DNS_TLS__HANDSHAKE_TIMEOUT_MS", "500")
        .start()
}

fn connect(authority: &Authority, server: &Server) -> Tls {
    authority.connect(server.bound("tls"), &["dot"]).unwrap()
}

/// A query with one option without a value.
fn with_option(name: &str, code: u16) -> Vec<u8> {
    let mut packet = with_edns(query(name, "A"), 1_232, 0, false);
    let at = packet.len() - 2;
    packet[at..].copy_from_slice(&4u16.to_be_bytes());
    packet.extend(code.to_be_bytes());
    packet.extend([0, 0]);
    packet
}

fn option(octets: &[u8], code: u16) -> Option<Vec<u8>> {
    let options = Answer::read(octets).edns?.options;
    options.into_iter().find(|(known, _)| *known == code).map(|(_, value)| value)
}

#[test]
fn many_queries_on_one_connection_answered_in_order() {
    let authority = Authority::new();
    let server = server(&authority);
    let mut stream = connect(&authority, &server);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"dot"[..]));
    let names = ["set.z.", "www.z.", "missing.z.", "z.", "elsewhere."];
    let packets = names.map(|name| query(name, "A"));
    let burst: Vec<u8> = packets.iter().flat_map(|packet| framed(packet)).collect();
    stream.write_all(&burst).unwrap();
    for (name, counts) in names.into_iter().zip([(0, 3), (0, 4), (3, 0), (0, 0), (5, 0)]) {
        let answer = Answer::read(&receive(&mut stream).unwrap());
        assert_eq!((answer.rcode, answer.sections[0].len()), counts, "{name}");
    }
    server.counts("dns_answers_total{transport=\"tls\",rcode=\"NOERROR\"}", |count| count == 3);
    assert_eq!(server.metric("dns_tcp_connections{transport=\"tls\"}"), 1);
    drop(stream);
    nothing_open(&server, "tls");
    server.counts("dns_tcp_closed_total{transport=\"tls\",reason=\"client\"}", |count| count == 1);
}

#[test]
fn who_asks_for_padding_gets_whole_blocks() {
    let authority = Authority::new();
    let server = server(&authority);
    let mut stream = connect(&authority, &server);
    for name in ["set.z.", "www.z.", "missing.z.", "a-much-longer-name-that-is-missing.z."] {
        let octets = ask(&mut stream, &with_option(name, PADDING)).unwrap();
        assert_eq!(octets.len(), 468, "{name}");
        let padding = option(&octets, PADDING).unwrap();
        assert!(padding.iter().all(|octet| *octet == 0));
    }
    let plain = ask(&mut stream, &with_edns(query("set.z.", "A"), 1_232, 0, false)).unwrap();
    assert!(plain.len() < 200 && option(&plain, PADDING).is_none());
    // Whoever sees the octets learns nothing new from their number.
    let mut tcp = server.connect();
    let answer = tcp.ask(&with_option("set.z.", PADDING));
    assert!(answer.to_vec().unwrap().len() < 200);
}

#[test]
fn it_says_how_long_it_may_be_idle_and_ends_then() {
    let authority = Authority::new();
    let server = server(&authority);
    let mut stream = connect(&authority, &server);
    let octets = ask(&mut stream, &with_option("set.z.", TCP_KEEPALIVE)).unwrap();
    assert_eq!(option(&octets, TCP_KEEPALIVE), Some(20u16.to_be_bytes().to_vec()));
    assert!(receive(&mut stream).is_none(), "idle");
    nothing_open(&server, "tls");
    server.counts("dns_tcp_closed_total{transport=\"tls\",reason=\"idle\"}", |count| count == 1);
}

#[test]
fn real_clients_ask_over_tls() {
    let Some(root) = Root::find("tls::real_clients_ask_over_tls") else { return };
    let authority = Authority::new();
    let server = authority.plan().zone("z", ZONE).with("DNS_TRANSFER__CLIENTS", "[\"127.0.0.0/8\"]").start();
    let (folder, inside) = root.folder();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let ca = format!("+tls-ca={}/ca.pem", inside.display());
    let hostname = format!("+tls-hostname={NAME}");
    let port = server.bound("tls").port().to_string();
    let run = |program: &str, rest: &[&str]| {
        let common = ["@127.0.0.1", "-p", &port, "+tls", &ca, &hostname];
        let output = root.run(program, &[&common[..], rest].concat(), "");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let records =
        |text: &str| text.lines().filter(|line| !line.starts_with(';') && line.contains("IN\tA\t")).count();
    for program in ["dig", "kdig"] {
        let text = run(program, &["www.z", "A"]);
        assert!(text.contains("NOERROR") && records(&text) == 3, "{program}: {text}");
        let text = run(program, &["missing.z", "A"]);
        assert!(text.contains("NXDOMAIN"), "{program}: {text}");
        let text = run(program, &["z", "AXFR"]);
        assert!(records(&text) == 4 && text.contains("SOA"), "{program}: {text}");
    }
    let text = run("kdig", &["+padding", "set.z", "A"]);
    assert!(text.contains("468 B"), "{text}");
    server.counts("dns_transfers_total{outcome=\"ok\"}", |count| count == 2);
    // A client that believes another authority goes.
    std::fs::write(folder.path().join("ca.pem"), Authority::new().pem()).unwrap();
    let text = run("kdig", &["+retry=0", "www.z", "A"]);
    assert_eq!(records(&text), 0, "{text}");
}

#[test]
fn a_signature_is_part_of_the_padded_length() {
    let Some(root) = Root::find("tls::a_signature_is_part_of_the_padded_length") else { return };
    let authority = Authority::new();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), SECRET).unwrap();
    let keys = serde_json::json!([{"name": "moves", "secret_file": secret.path()}]);
    let server = authority.plan().zone("z", ZONE).with("DNS_TRANSFER__KEYS", &keys.to_string()).start();
    let port = server.bound("tls").port().to_string();
    let key = format!("hmac-sha256:moves:{SECRET}");
    let arguments = ["@127.0.0.1", "-p", &port, "+tls", "+padding", "-y", &key, "set.z", "A"];
    let text = String::from_utf8(root.run("kdig", &arguments, "").stdout).unwrap();
    assert!(text.contains("NOERROR") && text.contains("TSIG") && text.contains("468 B"), "{text}");
}

#[test]
fn a_new_certificate_is_served_after_a_signal_and_a_broken_one_is_not() {
    let authority = Authority::new();
    let server = server(&authority);
    let shown = |stream: &Tls| stream.conn.peer_certificates().unwrap()[0].to_vec();
    let mut open = connect(&authority, &server);
    let next = authority.issue();
    assert_ne!(shown(&connect(&authority, &server)), next);
    server.signal("HUP");
    eventually("the new certificate", || (shown(&connect(&authority, &server)) == next).then_some(()));
    assert!(ask(&mut open, &query("set.z.", "A")).is_some(), "open connections go on");
    std::fs::write(authority.path("key.pem"), "no key").unwrap();
    server.signal("HUP");
    eventually("a word about it", || server.log().contains("reload refused").then_some(()));
    assert!(server.log().contains("there is no private key in it"), "{}", server.log());
    assert_eq!(shown(&connect(&authority, &server)), next);
    let https = authority.connect(server.bound("https"), &["h2"]).unwrap();
    assert_eq!(shown(&https), next);
}

#[test]
fn another_protocol_is_not_spoken() {
    let authority = Authority::new();
    let server = server(&authority);
    assert!(authority.connect(server.bound("tls"), &["h2"]).is_err());
    let mut silent = authority.connect(server.bound("tls"), &[]).unwrap();
    assert!(ask(&mut silent, &query("set.z.", "A")).is_some(), "who offers nothing speaks DNS");
}

#[test]
fn who_never_begins_tls_is_let_go_and_holds_up_nobody() {
    let authority = Authority::new();
    let server = server(&authority);
    let hanging: Vec<_> = ["tls", "https"]
        .into_iter()
        .flat_map(|name| (0..10).map(move |_| name))
        .map(|name| TcpStream::connect(server.bound(name)).unwrap())
        .collect();
    let mut half = TcpStream::connect(server.bound("tls")).unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC]).unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\nhost: z\r\n\r\n"[..], &framed(&query("set.z.", "A")), &[0xFF; 4_096]]
    {
        for name in ["tls", "https"] {
            let mut stream = TcpStream::connect(server.bound(name)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let _ = stream.write_all(garbage);
            closed_by_server(&stream, "garbage");
        }
        assert!(ask(&mut connect(&authority, &server), &query("set.z.", "A")).is_some());
    }
    for stream in hanging.iter().chain([&half]) {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        closed_by_server(stream, "silence");
    }
    nothing_open(&server, "tls");
    nothing_open(&server, "https");
    let counted =
        |via| server.metric(&format!("dns_tcp_closed_total{{transport=\"{via}\",reason=\"handshake\"}}"));
    assert_eq!((counted("tls"), counted("https")), (14, 13));
}

#[test]
fn noise_inside_of_tls_ends_the_connection() {
    let authority = Authority::new();
    let server = server(&authority);
    for octets in [&[0xFF; 2_000][..], &framed(&[0; 5]), b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = connect(&authority, &server);
        stream.write_all(octets).unwrap();
        closed_by_server(&mut stream, "noise");
    }
    // A query that never ends is idle.
    let mut stream = connect(&authority, &server);
    stream.write_all(&[0, 40, 1, 2]).unwrap();
    closed_by_server(&mut stream, "half a query");
    assert!(ask(&mut connect(&authority, &server), &query("set.z.", "A")).is_some());
}

#[test]
fn one_limit_counts_all_connections_of_a_client() {
    let authority = Authority::new();
    let server = authority.plan().zone("z", ZONE).with("DNS_TCP__CONNECTIONS_PER_CLIENT_MAX", "2").start();
    let mut held = connect(&authority, &server);
    let mut plain = server.connect();
    plain.ask(&query("set.z.", "A"));
    assert!(authority.connect(server.bound("tls"), &["dot"]).is_err());
    assert!(authority.connect(server.bound("https"), &["h2"]).is_err());
    let other: IpAddr = [127, 0, 0, 2].into();
    assert!(authority.connect_from(other, server.bound("tls"), &["dot"]).is_ok());
    assert!(ask(&mut held, &query("set.z.", "A")).is_some());
    for via in ["tls", "https"] {
        let refused = format!("dns_tcp_closed_total{{transport=\"{via}\",reason=\"too-many-of-client\"}}");
        assert_eq!(server.metric(&refused), 1);
    }
}

#[test]
fn open_connections_do_not_hold_up_the_end() {
    let authority = Authority::new();
    let mut server = server(&authority);
    let mut open = connect(&authority, &server);
    ask(&mut open, &query("set.z.", "A")).unwrap();
    let _silent = TcpStream::connect(server.bound("tls")).unwrap();
    let _http = authority.connect(server.bound("https"), &["h2"]).unwrap();
    server.signal("TERM");
    assert!(receive(&mut open).is_none());
    assert!(server.wait().success(), "{}", server.log());
}
