//! BIND, NSD and Knot as secondaries of ours: they take a zone with signatures, hear of a new serial, and serve the same data.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::peers::{Brand, Peer, Root, exchange, free_address};
use crate::running::{Plan, Server, framed};
use crate::support::{query, read};

/// For a secondary to start, to transfer, and to notice.
const DEADLINE: Duration = Duration::from_secs(60);
const ORIGIN: &str = "moves.test.";
pub(crate) const SECRET: &str = "c2l4dGVlbiBvY3RldHMgb3IgbW9yZQ==";

/// A refresh time of a day: who has the new serial within a minute was told.
fn zone(serial: u32, more: &str) -> String {
    format!(
        "$TTL 60\n@ SOA ns host {serial} 86400 86400 864000 60\n@ NS ns\nns A 192.0.2.53\nwww A 192.0.2.1\nwww A 192.0.2.2\n\
         *.wild TXT \"any\"\nsub NS ns.sub\nns.sub A 192.0.2.54\nalias CNAME www\nmail MX 10 www\ndeep.er AAAA 2001:db8::1\n\
         other TYPE65300 \\# 3 010203\n{more}"
    )
}

/// What each of them calls a secondary that signs.
fn configuration(brand: Brand, address: SocketAddr, primary: SocketAddr, folder: &Path) -> String {
    let (ip, port, folder) = (address.ip(), address.port(), folder.display());
    let (from, at) = (primary.ip(), primary.port());
    match brand {
        Brand::Bind => format!(
            "options {{ directory \"{folder}\"; pid-file none; session-keyfile none; recursion no; listen-on port {port} {{ {ip}; }};\n\
             listen-on-v6 {{ none; }}; dnssec-validation no; notify no; empty-zones-enable no; minimal-responses yes; }};\n\
             controls {{ }};\nkey \"moves\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             zone \"{ORIGIN}\" {{ type secondary; file \"copy\"; primaries {{ {from} port {at} key moves; }}; }};\n"
        ),
        Brand::Nsd => format!(
            "server:\n ip-address: {ip}@{port}\n zonesdir: \"{folder}\"\n username: \"\"\n pidfile: \"\"\n xfrdir: \"{folder}\"\n \
             zonelistfile: \"{folder}/list\"\n xfrdfile: \"{folder}/xfrd\"\n rrl-ratelimit: 0\n minimal-responses: yes\n\
             remote-control:\n control-enable: no\nkey:\n name: \"moves\"\n algorithm: hmac-sha256\n secret: \"{SECRET}\"\n\
             zone:\n name: \"{ORIGIN}\"\n zonefile: \"copy\"\n allow-notify: {from} moves\n request-xfr: {from}@{at} moves\n"
        ),
        Brand::Knot => format!(
            "server:\n rundir: \"{folder}\"\n listen: {ip}@{port}\n udp-workers: 1\n tcp-workers: 1\n background-workers: 1\n\
             database:\n storage: \"{folder}/db\"\nlog:\n - target: stdout\n   any: info\n\
             key:\n - id: moves\n   algorithm: hmac-sha256\n   secret: {SECRET}\n\
             remote:\n - id: primary\n   address: {from}@{at}\n   key: moves\n\
             acl:\n - id: news\n   address: {from}\n   key: moves\n   action: notify\n\
             zone:\n - domain: \"{ORIGIN}\"\n   storage: \"{folder}\"\n   file: \"copy\"\n   master: primary\n   acl: news\n"
        ),
    }
}

/// Ours, with a key, whose file has to stay for reloads, and with these as its secondaries.
fn primary(secondaries: &[SocketAddr]) -> (Server, tempfile::NamedTempFile) {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), SECRET).unwrap();
    let keys = serde_json::json!([{"name": "moves", "secret_file": key.path()}]);
    let notify: Vec<String> = secondaries.iter().map(SocketAddr::to_string).collect();
    let server = Plan::new()
        .with("DNS_TRANSFER__KEYS", &keys.to_string())
        .with("DNS_TRANSFER__CLIENTS", r#"["127.0.0.1"]"#)
        .with("DNS_TRANSFER__NOTIFY", &serde_json::json!(notify).to_string())
        .with("DNS_TRANSFER__NOTIFY_KEY", "moves")
        .zone(ORIGIN.trim_end_matches('.'), &zone(1, ""))
        .start();
    (server, key)
}

fn serial(address: SocketAddr) -> Option<u32> {
    let message = read(&exchange(address, &query(ORIGIN, "SOA")));
    let text = message.answers.first()?.data.to_string();
    text.split_whitespace().nth(2)?.parse().ok()
}

fn wait_for_serial(peer: &Peer, wanted: u32, server: &Server) {
    let deadline = Instant::now() + DEADLINE;
    while serial(peer.address) != Some(wanted) {
        let said = || format!("{} has not {wanted}: {}\n{}", peer.name, peer.log(), server.log());
        assert!(Instant::now() < deadline, "{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The answer section as a set, with its code.
fn answers(address: SocketAddr, name: &str, record_type: &str) -> (String, BTreeSet<String>) {
    let message = read(&exchange(address, &query(name, record_type)));
    let records =
        message.answers.iter().map(|record| format!("{} {} {}", record.name, record.ttl, record.data));
    (message.metadata.response_code.to_string(), records.collect())
}

#[test]
fn three_secondaries_take_the_zone_and_hear_of_the_next() {
    let Some(root) = Root::find("transfers::three_secondaries_take_the_zone_and_hear_of_the_next") else {
        return;
    };
    let addresses = Brand::ALL.map(|_| free_address());
    let (server, _key) = primary(&addresses);
    let mut peers: Vec<Peer> = Brand::ALL
        .into_iter()
        .zip(addresses)
        .map(|(brand, address)| {
            Peer::configured(&root, brand, address, &[], |folder| {
                configuration(brand, address, server.address, folder)
            })
        })
        .collect();
    for peer in &mut peers {
        peer.wait_for(ORIGIN);
        wait_for_serial(peer, 1, &server);
    }
    std::fs::write(server.zone_path(ORIGIN.trim_end_matches('.')), zone(2, "new A 192.0.2.77\n")).unwrap();
    server.signal("HUP");
    for peer in &peers {
        wait_for_serial(peer, 2, &server);
        for (name, record_type) in [
            ("new", "A"),
            ("www", "A"),
            ("a.wild", "TXT"),
            ("alias", "A"),
            ("mail", "MX"),
            ("deep.er", "AAAA"),
            ("er", "A"),
            ("x.sub", "A"),
            ("other", "TYPE65300"),
            ("missing", "A"),
        ] {
            let name = format!("{name}.{ORIGIN}");
            let (theirs, ours) =
                (answers(peer.address, &name, record_type), answers(server.address, &name, record_type));
            assert_eq!(theirs, ours, "{} {name} {record_type}", peer.name);
        }
    }
    server.counts("dns_transfers_total{outcome=\"ok\"}", |count| count >= 6);
    server.counts("dns_notifications_total{outcome=\"ok\"}", |count| count >= 3);
}

fn dig(server: &Server, arguments: &[&str]) -> String {
    let port = server.address.port().to_string();
    let output =
        Command::new("dig").args(["@127.0.0.1", "-p", &port, "+tries=1"]).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn only_who_has_the_key_takes_a_zone() {
    let (server, _key) = primary(&[]);
    let key = format!("hmac-sha256:moves:{SECRET}");
    let records = |text: &str| text.lines().filter(|line| line.contains("\tIN\t")).count();
    let whole = dig(&server, &["AXFR", ORIGIN, "-y", &key]);
    assert!(records(&whole) == 13 && !whole.contains("Couldn't verify"), "{whole}");
    let unsigned = dig(&server, &["AXFR", ORIGIN]);
    assert!(records(&unsigned) == 0 && unsigned.contains("Transfer failed"), "{unsigned}");
    let unknown = dig(&server, &["SOA", ORIGIN, "-y", &format!("hmac-sha256:other:{SECRET}")]);
    assert!(unknown.contains("NOTAUTH") && unknown.contains("BADKEY"), "{unknown}");
    let wrong = dig(&server, &["SOA", ORIGIN, "-y", "hmac-sha256:moves:AAAAAAAAAAAAAAAAAAAAAA=="]);
    assert!(wrong.contains("NOTAUTH") && wrong.contains("BADSIG"), "{wrong}");
    let signed = dig(&server, &["www.moves.test", "A", "-y", &key]);
    assert!(signed.contains("NOERROR") && !signed.contains("Couldn't verify"), "{signed}");
    let current = dig(&server, &["IXFR=1", ORIGIN, "-y", &key]);
    assert_eq!(records(&current), 1, "{current}");
    let elsewhere = dig(&server, &["AXFR", "elsewhere.test", "-y", &key]);
    assert!(elsewhere.contains("Transfer failed"), "{elsewhere}");
}

/// What follows a request for a whole zone on its connection does not wait for the zone's end.
#[test]
fn questions_overtake_a_transfer() {
    let many = "$TTL 60\n@ SOA ns host 7 60 60 60 60\n@ NS ns\nns A 192.0.2.53\n$GENERATE 1-9000 h$ TXT \"a text of some length, so that there are many messages\"\n";
    let server = Plan::new().with("DNS_TRANSFER__CLIENTS", r#"["127.0.0.0/8"]"#).zone("z", many).start();
    let mut client = server.connect();
    let asked = |id: u16, name, record_type| {
        let mut packet = query(name, record_type);
        packet[..2].copy_from_slice(&id.to_be_bytes());
        packet
    };
    let at_once: Vec<u8> =
        [asked(1, "z.", "AXFR"), asked(2, "ns.z.", "A"), asked(3, "z.", "AXFR"), asked(4, "h7.z.", "TXT")]
            .iter()
            .flat_map(|packet| framed(packet))
            .collect();
    client.stream.write_all(&at_once).unwrap();
    let (mut order, mut records) = (Vec::new(), [0, 0]);
    while records != [9_004, 9_004] {
        let message = client.receive().expect("the rest of both zones");
        order.push(message.metadata.id);
        match message.metadata.id {
            1 => records[0] += message.answers.len(),
            3 => records[1] += message.answers.len(),
            _ => assert_eq!(message.answers.len(), 1),
        }
    }
    assert_eq!(order[..2], [2, 4]);
    assert!(order[2..].is_sorted() && order.len() > 60, "each zone as a whole: {order:?}");
    // One whose client has nothing more to ask goes out to its end, and asking goes on meanwhile.
    client.send(&asked(5, "z.", "AXFR"));
    assert_eq!(client.receive().map(|first| first.metadata.id), Some(5));
    client.send(&asked(6, "ns.z.", "A"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    let (mut left, mut answered) = (0, false);
    while let Some(message) = client.receive() {
        left += usize::from(message.metadata.id == 5);
        answered |= message.metadata.id == 6;
    }
    assert!(answered && left > 25, "{left} messages");
    server.counts("dns_transfers_total{outcome=\"ok\"}", |count| count == 3);
}
