//! Names that are steered, over real sockets: targets that live and die, orders that outlive the server, clients in
//! different networks, explanations.

use crate::running::{PATIENCE, Plan, Server, eventually, udp};
use crate::support::{query, receive};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

const TOKEN: &str = "0123456789abcdef0123";

/// Something that answers health checks at 127.0.0.`last`; dead once dropped.
struct Target {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
}

impl Target {
    fn start(last: u8, port: u16) -> Target {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).unwrap();
        let address = listener.local_addr().unwrap();
        let (status, stop) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicBool::new(false)));
        let (told, stopped) = (status.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let _ = stream.read(&mut [0; 1_024]);
                let status = told.load(Ordering::Relaxed);
                let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            }
        });
        Target { address, status, stop }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which then closes its listener.
        let _ = TcpStream::connect(self.address);
        eventually("the end of a target", || TcpStream::connect(self.address).is_err().then_some(()));
    }
}

const ZONE: &str = "$TTL 60\n@ SOA ns h 1 1 1 1 5\n@ NS ns\nns A 192.0.2.53\n\
    www A 127.0.0.41\nwww A 127.0.0.42\nalias CNAME www\n@ MX 1 www\n";

fn plan(port: u16) -> Plan {
    Plan::new()
        .zone("z", ZONE)
        .with("DNS_HEALTH__PORT", &port.to_string())
        .with("DNS_HEALTH__INTERVAL_MS", "50")
        .with("DNS_HEALTH__START_INTERVAL_MS", "20")
        // Machines are busy: a late answer is not what is tested here.
        .with("DNS_HEALTH__TIMEOUT_MS", "5000")
        .with("DNS_ADMIN__TOKEN", TOKEN)
        .with("DNS_STEERING__NAMES", r#"[{"name":"www.z","use":"www"}]"#)
}

fn simple(port: u16) -> Plan {
    plan(port).with("DNS_POOLS__WWW__FROM", "www.z")
}

fn two(port: u16) -> Plan {
    plan(port)
        .with("DNS_POOLS__DC1__MEMBERS", r#"[{"address":"127.0.0.41"}]"#)
        .with("DNS_POOLS__DC2__MEMBERS", r#"[{"address":"127.0.0.42"}]"#)
        .with("DNS_CHOICES__WWW__KIND", "failover")
        .with("DNS_CHOICES__WWW__OF", r#"["dc1","dc2"]"#)
}

/// Last numbers of the addresses in an answer, sorted, and their TTL.
fn drawn(message: &Message) -> String {
    let mut last: Vec<String> = Vec::new();
    let mut ttl = String::new();
    for record in &message.answers {
        if let RData::A(address) = &record.data {
            last.push(address.octets()[3].to_string());
            ttl = format!(" for {}", record.ttl);
        }
    }
    last.sort();
    match last.is_empty() {
        true => message.metadata.response_code.to_string(),
        false => last.join(" ") + &ttl,
    }
}

fn comes(server: &Server, name: &str, expected: &str) {
    let mut seen = String::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        seen = drawn(&server.udp(&query(name, "A")));
        if seen == expected {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{name} is {seen}, not {expected}; the log: {}", server.log());
}

fn texts(message: &Message) -> Vec<String> {
    let mut texts = Vec::new();
    for record in &message.answers {
        if let RData::TXT(text) = &record.data {
            texts.extend(text.txt_data.iter().map(|part| String::from_utf8_lossy(part).into_owned()));
        }
    }
    texts
}

/// An order at the admin listener; gives the status and the body.
fn order(server: &Server, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text[9..12].parse().unwrap(), text)
}

#[test]
fn an_address_leaves_when_it_dies_and_comes_back() {
    let one = Target::start(41, 0);
    let port = one.address.port();
    let second = Target::start(42, port);
    let server = simple(port).start();
    comes(&server, "www.z.", "41 42 for 60");
    drop(one);
    comes(&server, "www.z.", "42 for 30");
    comes(&server, "alias.z.", "42 for 30");
    let mx = server.udp(&query("z.", "MX"));
    assert_eq!(mx.additionals.len(), 1, "nobody is sent to a dead address: {mx}");
    assert_eq!(drawn(&server.connect().ask(&query("www.z.", "A"))), "42 for 30");
    let one = Target::start(41, port);
    comes(&server, "www.z.", "41 42 for 60");
    second.says(503);
    comes(&server, "www.z.", "41 for 30");
    assert!(server.log().contains("down: status 503, 2 times in a row"), "{}", server.log());
    let up = server.metric(&format!("dns_target_up{{target=\"http://127.0.0.42:{port}/\"}}"));
    assert_eq!(up, 0);
    drop(one);
}

#[test]
fn when_all_are_down_the_policy_says_what_is_answered() {
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.41:0").unwrap().local_addr().unwrap().port();
    for (policy, expected) in
        [("serve-all", "41 42 for 30"), ("empty", "No Error"), ("servfail", "Server Failure")]
    {
        let server = simple(port).with("DNS_POOLS__WWW__ALL_DOWN", policy).start();
        let failed = "dns_name_failed{name=\"www.z.\",type=\"A\"}";
        eventually("the failure", || (server.metric(failed) == 1).then_some(()));
        comes(&server, "www.z.", expected);
        let over_alias = server.udp(&query("alias.z.", "A"));
        assert_eq!(over_alias.metadata.response_code == ResponseCode::ServFail, policy == "servfail");
    }
}

#[test]
fn before_anybody_has_looked_everything_is_answered() {
    // Checks that never end: the kernel accepts, nobody answers.
    let listener = TcpListener::bind("127.0.0.41:0").unwrap();
    let server = simple(listener.local_addr().unwrap().port()).start();
    assert_eq!(drawn(&server.udp(&query("www.z.", "A"))), "41 42 for 60");
}

#[test]
fn health_survives_a_reload() {
    let second = Target::start(42, 0);
    let port = second.address.port();
    let server = simple(port).start();
    comes(&server, "www.z.", "42 for 30");
    std::fs::write(server.zone_path("z"), ZONE.replace("h 1 1", "h 2 1")).unwrap();
    server.signal("HUP");
    // Never back to what it was, not for a moment.
    eventually("the new serial", || {
        assert_eq!(drawn(&server.udp(&query("www.z.", "A"))), "42 for 30");
        (server.metric("dns_zone_serial{zone=\"z.\"}") == 2).then_some(())
    });
    assert_eq!(drawn(&server.udp(&query("www.z.", "A"))), "42 for 30");
    // A record that goes away goes away with its check.
    std::fs::write(server.zone_path("z"), ZONE.replace("www A 127.0.0.42\n", "")).unwrap();
    server.signal("HUP");
    comes(&server, "www.z.", "41 for 30");
    let pools = server.admin_page("/admin/pools").1;
    assert!(pools.contains("127.0.0.41") && !pools.contains("127.0.0.42"), "{pools}");
    let metrics = server.admin_page("/metrics").1;
    assert!(metrics.contains("127.0.0.41:") && !metrics.contains("127.0.0.42:"), "{metrics}");
}

#[test]
fn orders_are_obeyed_refused_and_kept() {
    let (one, folder) = (Target::start(41, 0), tempfile::tempdir().unwrap());
    let port = one.address.port();
    let second = Target::start(42, port);
    let file = folder.path().join("orders.json").display().to_string();
    let server = two(port).with("DNS_STEERING__ORDERS_FILE", &file).start();
    comes(&server, "www.z.", "41 for 60");
    let (status, body) = order(&server, "/admin/steering/dc1/force-down");
    assert!(status == 200 && body.contains(r#""kept":true"#), "{body}");
    comes(&server, "www.z.", "42 for 30");
    let (status, body) = order(&server, "/admin/steering/dc2/force-down");
    assert!(status == 409 && body.contains("last-healthy") && body.contains("www.z."), "{body}");
    assert_eq!(drawn(&server.udp(&query("www.z.", "A"))), "42 for 30");
    assert_eq!(order(&server, "/admin/steering/dc9/force-down").0, 404);
    assert_eq!(order(&server, "/admin/steering/dc1/explode").0, 404);
    drop(server);
    let server = two(port).with("DNS_STEERING__ORDERS_FILE", &file).start();
    comes(&server, "www.z.", "42 for 30");
    // Over TCP: with its times it may be longer than the 512 octets of UDP without EDNS.
    let why = texts(&server.connect().ask(&query("_why.www.z.", "TXT"))).join("\n");
    assert!(why.contains("dc1 forced down by admin 127.0.0.1"), "{why}");
    assert_eq!(order(&server, "/admin/steering/dc2/force-down?force=true").0, 200);
    comes(&server, "www.z.", "No Error");
    for subject in ["dc1", "dc2"] {
        assert_eq!(order(&server, &format!("/admin/steering/{subject}/auto")).0, 200);
    }
    comes(&server, "www.z.", "41 for 60");
    assert_eq!(order(&server, "/admin/steering/dc1/auto").0, 404);
    drop((one, second));
}

#[test]
fn a_broken_file_of_orders_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.json");
    std::fs::write(&file, "{").unwrap();
    let file = file.display().to_string();
    let (code, log) = simple(1).with("DNS_STEERING__ORDERS_FILE", &file).start_in_vain();
    assert_eq!(code, Some(1));
    assert!(log.contains("orders.json") && log.contains("remove it to start with no orders"), "{log}");
}

#[test]
fn networks_are_sent_where_they_belong() {
    let server = plan(1)
        .with("DNS_HEALTH__MODE", "off")
        .with("DNS_POOLS__DC1__MEMBERS", r#"[{"address":"127.0.0.41"}]"#)
        .with("DNS_POOLS__DC2__MEMBERS", r#"[{"address":"127.0.0.42"}]"#)
        .with("DNS_CHOICES__WWW__KIND", "networks")
        .with("DNS_CHOICES__WWW__NETWORKS", r#"[{"prefixes":["127.0.9.0/24"],"use":["dc2"]}]"#)
        .with("DNS_CHOICES__WWW__DEFAULT", r#"["dc1"]"#)
        .start();
    let from = |source: [u8; 4]| {
        let socket = UdpSocket::bind((Ipv4Addr::from(source), 0)).unwrap();
        socket.connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(&query("alias.z.", "A")).unwrap();
        let mut buffer = [0; 4_096];
        let bytes = receive(&socket, &mut buffer).unwrap();
        drawn(&crate::support::read(&buffer[..bytes]))
    };
    assert_eq!(from([127, 0, 0, 1]), "41 for 60");
    assert_eq!(from([127, 0, 9, 7]), "42 for 60");
    let explained = server.admin_page("/admin/explain?name=www.z&from=127.0.9.7").1;
    assert!(explained.contains("127.0.9.7 is in 127.0.9.0/24: dc2"), "{explained}");
}

#[test]
fn answers_are_explained_to_those_who_may_know() {
    let one = Target::start(41, 0);
    let server = simple(one.address.port()).start();
    comes(&server, "www.z.", "41 for 30");
    let lines = texts(&server.udp(&query("_why.www.z.", "TXT")));
    assert!(lines.contains(&"www.z. A is 127.0.0.41 for 30 s, by www".to_string()), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("127.0.0.42") && line.contains("connection refused")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.contains("may be held for")), "{lines:?}");
    assert_eq!(texts(&server.connect().ask(&query("_WHY.www.z.", "TXT"))).len(), lines.len());
    let other = server.udp(&query("_why.ns.z.", "TXT"));
    assert_eq!(other.metadata.response_code, ResponseCode::NXDomain);
    let explained = server.admin_page("/admin/explain?name=www.z&type=A").1;
    for part in [r#""summary":"www.z. A is 127.0.0.41"#, r#""state":"down""#, r#""may_be_held_s":"#] {
        assert!(explained.contains(part), "{part} in {explained}");
    }
    assert!(
        server.admin_page("/admin/explain?name=ns.z").1.contains("is not steered; the zone z., serial 1")
    );
    assert_eq!(server.admin_page("/admin/explain?name=a..b").0, 400);
    assert_eq!(server.admin_page("/admin/explain?nme=b").0, 400);
    let server = simple(one.address.port()).with("DNS_STEERING__EXPLAIN_FROM", r#"["10.0.0.0/8"]"#).start();
    let refused = udp(server.address, &query("_why.www.z.", "TXT"));
    assert_eq!(refused.metadata.response_code, ResponseCode::NXDomain);
}
