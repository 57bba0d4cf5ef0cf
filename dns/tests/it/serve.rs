//! The running program over real sockets: both transports, reloads, limits, and dig as a client that others wrote.

use crate::running::{PATIENCE, Plan, Server, Tcp, ZONE, eventually, framed, udp};
use crate::support::{query, with_edns};
use hickory_proto::op::{Message, ResponseCode};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;

fn first(message: &Message) -> String {
    message
        .answers
        .first()
        .map_or_else(|| message.metadata.response_code.to_string(), |record| record.data.to_string())
}

#[test]
fn both_transports_on_one_port() {
    let server = Server::start();
    let packet = query("www.z.", "A");
    let over_udp = server.udp(&packet);
    let over_tcp = server.connect().ask(&packet);
    for message in [over_udp, over_tcp] {
        assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::NoError, 4));
    }
    server.counts("dns_answers_total{transport=\"udp\",rcode=\"NOERROR\"}", |count| count == 1);
    server.counts("dns_answers_total{transport=\"tcp\",rcode=\"NOERROR\"}", |count| count == 1);
    assert_eq!(server.metric("dns_zone_serial{zone=\"z.\"}"), 1);
}

#[test]
fn workers_share_the_turns() {
    let server = Server::start();
    let packet = query("set.z.", "A");
    let mut firsts: HashMap<String, usize> = HashMap::new();
    // Every query comes from a port of its own, so both workers get some.
    for _ in 0..300 {
        *firsts.entry(first(&server.udp(&packet))).or_default() += 1;
    }
    assert_eq!(firsts.values().copied().collect::<Vec<_>>(), [100; 3], "{firsts:?}");
}

#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let server = Plan::new().zone("z", ZONE).with("DNS_SERVER__LISTEN", "[\"0.0.0.0:0\"]").start();
    let packet = query("set.z.", "A");
    for last in [1, 2, 77] {
        let address = SocketAddr::from(([127, 0, 0, last], server.address.port()));
        assert_eq!(udp(address, &packet).answers.len(), 3);
        assert_eq!(Tcp::connect(address).ask(&packet).answers.len(), 3);
    }
}

#[test]
fn ipv6_and_ipv4_through_one_socket() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        println!("SKIPPED ipv6_and_ipv4_through_one_socket: this machine has no IPv6");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI has to have IPv6");
        return;
    }
    let server = Plan::new().zone("z", ZONE).with("DNS_SERVER__LISTEN", "[\"[::]:0\"]").start();
    let packet = query("set.z.", "A");
    let port = server.address.port();
    for ip in ["::1", "127.0.0.1", "127.0.0.9"] {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        assert_eq!(udp(address, &packet).answers.len(), 3, "{ip}");
    }
}

#[test]
fn several_addresses() {
    let server =
        Plan::new().zone("z", ZONE).with("DNS_SERVER__LISTEN", "[\"127.0.0.1:0\", \"127.0.0.2:0\"]").start();
    let log = server.log();
    assert!(log.contains("127.0.0.2:"), "{log}");
    assert_eq!(server.udp(&query("set.z.", "A")).answers.len(), 3);
}

fn write_zone(server: &Server, origin: &str, text: &str) {
    std::fs::write(server.zone_path(origin), text).unwrap();
    server.signal("HUP");
}

#[track_caller]
fn eventually_answers(server: &Server, name: &str, expected: &str) {
    let packet = query(name, "A");
    eventually(expected, || (first(&server.udp(&packet)) == expected).then_some(()));
}

#[test]
fn reloads_are_atomic_and_a_broken_file_keeps_its_zone() {
    let other = "$TTL 60\n@ SOA ns h 5 1 1 1 5\n@ NS ns\nns A 192.0.2.1\n";
    let server = Plan::new().zone("z", ZONE).zone("other", other).start();
    eventually_answers(&server, "new.z.", "Non-Existent Domain");
    write_zone(&server, "z", &format!("{}new A 192.0.2.99\n", ZONE.replace("h 1 ", "h 2 ")));
    eventually_answers(&server, "new.z.", "192.0.2.99");
    assert_eq!(server.metric("dns_zone_serial{zone=\"z.\"}"), 2);

    // One broken, one changed: the change comes into force and the broken one stays as it was.
    std::fs::write(server.zone_path("other"), other.replace("192.0.2.1", "192.0.2.2")).unwrap();
    write_zone(&server, "z", &format!("{ZONE}new AAA 192.0.2.99\n"));
    eventually_answers(&server, "ns.other.", "192.0.2.2");
    eventually_answers(&server, "new.z.", "192.0.2.99");
    server.counts("dns_zone_loads_total{outcome=\"failed\"}", |count| count == 1);
    let log = server.log();
    assert!(log.contains("z.zone:9:5: expected a TTL, the class IN or a record type, found 'AAA'"), "{log}");

    write_zone(&server, "z", &ZONE.replace("h 1 ", "h 3 "));
    eventually_answers(&server, "new.z.", "Non-Existent Domain");
    std::fs::remove_file(server.zone_path("other")).unwrap();
    server.signal("HUP");
    eventually_answers(&server, "ns.other.", "Query Refused");
    eventually("the log", || server.log().contains("zone withdrawn").then_some(()));
    assert!(!server.admin_page("/metrics").1.contains("zone=\"other.\""));
}

#[test]
fn changed_files_are_read_without_a_signal() {
    let zone = format!("{ZONE}$INCLUDE more.inc\n");
    let plan = Plan::new().with("DNS_ZONES__WATCH_INTERVAL_MS", "20");
    plan.file("more.inc", "more A 192.0.2.71\n");
    let server = plan.zone("z", &zone).start();
    eventually_answers(&server, "more.z.", "192.0.2.71");
    let include = server.zone_path("z").with_file_name("more.inc");
    std::fs::write(&include, "more A 192.0.2.72\n").unwrap();
    eventually_answers(&server, "more.z.", "192.0.2.72");
    // A broken one keeps the zone, and is noticed when it is repaired.
    std::fs::write(&include, "more A 192.0.2\n").unwrap();
    eventually("the log", || server.log().contains("more.inc:1:8: expected an IPv4 address").then_some(()));
    eventually_answers(&server, "more.z.", "192.0.2.72");
    std::fs::write(&include, "more A 192.0.2.73\n").unwrap();
    eventually_answers(&server, "more.z.", "192.0.2.73");
    // New files and files that go.
    std::fs::write(server.zone_path("new"), ZONE).unwrap();
    eventually_answers(&server, "ns.new.", "192.0.2.53");
    std::fs::remove_file(server.zone_path("new")).unwrap();
    eventually_answers(&server, "ns.new.", "Query Refused");
    let loads = server.metric("dns_zone_loads_total{outcome=\"ok\"}");
    assert!(loads < 12, "{loads} loads: files that do not change are not read again");
}

#[test]
fn a_file_may_take_the_place_of_another_under_load() {
    let server = Server::start();
    let done = std::sync::atomic::AtomicBool::new(false);
    let (server, done) = (&server, &done);
    std::thread::scope(|scope| {
        let load = scope.spawn(move || {
            let packet = query("set.z.", "A");
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(server.udp(&packet).answers.len(), 3);
                asked += 1;
            }
            asked
        });
        for serial in 2..40 {
            write_zone(server, "z", &ZONE.replace("h 1 ", &format!("h {serial} ")));
            eventually("the serial", || {
                // A zone caught half written is broken; asking again is what its writer does.
                server.signal("HUP");
                (server.metric("dns_zone_serial{zone=\"z.\"}") == serial).then_some(())
            });
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(load.join().unwrap() > 0);
    });
}

#[test]
fn a_broken_zone_at_the_start_is_named() {
    let (code, log) = Plan::new().zone("z", ZONE).zone("bad", "$TTL 1\n@ SOA ns h 1 1 1 1\n").start_in_vain();
    assert_eq!(code, Some(1));
    assert!(
        log.contains("bad.zone:2:19: expected the negative caching time, found the end of the entry"),
        "{log}"
    );
}

#[test]
fn a_file_name_must_be_a_domain_name() {
    let (code, log) = Plan::new().zone("a..b", ZONE).start_in_vain();
    assert_eq!(code, Some(1));
    assert!(log.contains("the file's name must be ORIGIN.zone: a label is empty"), "{log}");
}

#[test]
fn without_zones_it_is_not_ready_until_there_is_one() {
    let server = Plan::new().start();
    assert_eq!(server.admin_page("/readyz").0, 503);
    assert_eq!(first(&server.udp(&query("set.z.", "A"))), "Query Refused");
    write_zone(&server, "z", ZONE);
    eventually("readiness", || (server.admin_page("/readyz").0 == 200).then_some(()));
    eventually_answers(&server, "ns.z.", "192.0.2.53");
}

#[test]
fn one_connection_carries_many_queries() {
    let server = Server::start();
    let mut client = server.connect();
    let mut burst = Vec::new();
    for id in 0..2_000u16 {
        let mut packet = query("set.z.", "A");
        packet[..2].copy_from_slice(&id.to_be_bytes());
        burst.extend(framed(&packet));
    }
    let mut writer = client.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&burst).unwrap());
        for id in 0..2_000 {
            let message = client.receive().expect("an answer");
            assert_eq!((message.metadata.id, message.answers.len()), (id, 3));
        }
    });
}

#[test]
fn a_query_may_come_octet_by_octet() {
    let server = Server::start();
    let mut client = server.connect();
    client.stream.set_nodelay(true).unwrap();
    for octet in framed(&query("set.z.", "A")) {
        client.stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(client.receive().unwrap().answers.len(), 3);
}

#[test]
fn a_client_that_is_done_asking_still_gets_its_answers() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&query("set.z.", "A"));
    client.send(&query("www.z.", "A"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.receive().unwrap().answers.len(), 3);
    assert_eq!(client.receive().unwrap().answers.len(), 4);
    assert!(client.receive().is_none());
}

#[test]
fn idle_and_dribbling_clients_are_let_go() {
    let server = Plan::new().zone("z", ZONE).with("DNS_TCP__IDLE_TIMEOUT_MS", "300").start();
    let mut idle = server.connect();
    let mut asked = server.connect();
    asked.ask(&query("set.z.", "A"));
    let mut dribbling = server.connect();
    dribbling.stream.write_all(&[0, 28, 1]).unwrap();
    for mut client in [&mut idle, &mut asked, &mut dribbling].map(|client| client.stream.try_clone().unwrap())
    {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed");
    }
    server.counts("dns_tcp_closed_total{transport=\"tcp\",reason=\"idle\"}", |count| count == 3);
}

#[test]
fn a_client_that_does_not_take_its_answers_is_cut() {
    let mut zone = ZONE.to_string();
    for at in 0..200 {
        writeln!(zone, "big TXT \"{at:0250}\"").unwrap();
    }
    let server = Plan::new().zone("z", &zone).with("DNS_TCP__WRITE_TIMEOUT_MS", "300").start();
    let mut client = server.connect();
    let packet = framed(&query("big.z.", "TXT"));
    // 52 kB each: more than the sockets' buffers hold. The server stops reading before it stops the connection.
    let cut = "dns_tcp_closed_total{transport=\"tcp\",reason=\"slow-reader\"}";
    client.stream.set_nonblocking(true).unwrap();
    eventually("the cut", || {
        for _ in 0..100 {
            let _ = client.stream.write(&packet);
        }
        (server.metric(cut) == 1).then_some(())
    });
    assert_eq!(server.udp(&query("set.z.", "A")).answers.len(), 3);
}

#[test]
fn connections_are_limited_by_client_and_in_all() {
    let server = Plan::new()
        .zone("z", ZONE)
        .with("DNS_SERVER__LISTEN", "[\"0.0.0.0:0\"]")
        .with("DNS_TCP__CONNECTIONS_MAX", "6")
        .with("DNS_TCP__CONNECTIONS_PER_CLIENT_MAX", "2")
        .with("DNS_TCP__UNLIMITED_CLIENTS", "[\"127.0.0.9\"]")
        .start();
    let packet = query("set.z.", "A");
    let connect = |last: u8| {
        // Bound to the address it comes from; Linux routes all of 127/8 to itself.
        let socket = socket_from([127, 0, 0, last].into(), server.address.port());
        let mut client = Tcp { stream: socket };
        let _ = client.stream.write_all(&framed(&packet));
        client.receive().is_some().then_some(client)
    };
    let mut held: Vec<Option<Tcp>> = vec![connect(1), connect(1)];
    assert!(held.iter().all(Option::is_some));
    assert!(connect(1).is_none(), "a third of one client");
    held.extend([connect(9), connect(9), connect(9), connect(2)]);
    assert!(held.iter().all(Option::is_some));
    assert!(connect(3).is_none(), "a seventh in all");
    held.clear();
    eventually("room again", || connect(1));
    assert_eq!(server.metric("dns_tcp_closed_total{transport=\"tcp\",reason=\"too-many-of-client\"}"), 1);
    assert!(server.metric("dns_tcp_closed_total{transport=\"tcp\",reason=\"too-many\"}") >= 1);
}

fn socket_from(source: std::net::IpAddr, port: u16) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn stopping_closes_idle_connections_and_ends_with_zero() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.ask(&query("set.z.", "A"));
    server.signal("TERM");
    assert!(client.receive().is_none());
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log();
    assert!(log.contains("stopped") && !log.contains("did not end"), "{log}");
}

/// Runs dig against a server; `None`, loudly, where there is no dig.
fn dig(server: &Server, words: &str) -> Option<String> {
    let port = server.address.port().to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=2", "+time=5"])
        .args(words.split(' '))
        .output();
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            println!("SKIPPED dig {words}: {error}");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI has to have dig");
            None
        }
    }
}

#[test]
fn dig_sees_the_set_go_round() {
    let server = Server::start();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let Some(text) = dig(&server, "set.z A +short") else { return };
        seen.push(text.lines().map(|line| line.rsplit('.').next().unwrap().to_string()).collect::<String>());
    }
    assert_eq!(seen, ["123", "231", "312", "123"]);
}

#[test]
fn dig_over_tcp() {
    let server = Server::start();
    let Some(text) = dig(&server, "www.z A +tcp") else { return };
    assert!(
        text.contains("status: NOERROR") && text.contains("ANSWER: 4") && text.contains("(TCP)"),
        "{text}"
    );
}

#[test]
fn dig_gets_a_cut_answer_and_then_the_whole() {
    let mut zone = ZONE.to_string();
    for at in 0..200 {
        writeln!(zone, "big A 10.0.0.{at}").unwrap();
    }
    let server = Plan::new().zone("z", &zone).start();
    let Some(cut) = dig(&server, "big.z A +ignore") else { return };
    assert!(cut.contains("flags: qr aa tc rd;") && cut.contains("ANSWER: 0"), "{cut}");
    let Some(whole) = dig(&server, "big.z A") else { return };
    assert!(whole.contains("ANSWER: 200") && whole.contains("(TCP)"), "{whole}");
    server.counts("dns_answers_truncated_total{transport=\"udp\"}", |count| count == 2);
}

#[test]
fn dig_is_told_what_does_not_exist() {
    let server = Server::start();
    let Some(text) = dig(&server, "nothing.z A") else { return };
    assert!(text.contains("status: NXDOMAIN") && text.contains("AUTHORITY: 1"), "{text}");
    assert!(text.contains("z.\t\t\t5\tIN\tSOA\tns.z. h.z. 1 1 1 1 5"), "{text}");
}

#[test]
fn dig_with_odd_edns() {
    let server = Server::start();
    let Some(text) = dig(&server, "set.z A +edns=1 +noednsneg") else { return };
    assert!(text.contains("status: BADVERS") && text.contains("version: 0"), "{text}");
    let Some(text) = dig(&server, "set.z A +ednsopt=65001:abcd +nsid +cookie") else { return };
    assert!(text.contains("status: NOERROR") && text.contains("ANSWER: 3"), "{text}");
}

#[test]
fn the_shipped_zone_is_served() {
    let text = include_str!("../../../deploy/config/zones/fitness.example.com.zone");
    let server = Plan::new().zone("fitness.example.com", text).start();
    assert!(!server.log().contains("WARN"), "{}", server.log());
    let packet = with_edns(query("www.fitness.example.com.", "A"), 1_232, 0, false);
    let message = server.udp(&packet);
    let shown: Vec<_> =
        message.answers.iter().map(|record| format!("{} {}", record.ttl, record.data)).collect();
    assert_eq!(shown, ["300 fitness.example.com.", "5 198.18.10.11", "5 198.18.10.12"]);
    assert_eq!(first(&server.udp(&query("lb-2.fitness.example.com.", "A"))), "198.18.10.12");
    assert_eq!(first(&server.udp(&query("app.fitness.example.com.", "A"))), "Non-Existent Domain");
    assert_eq!(first(&server.udp(&query("ns1.fitness.example.com.", "A"))), "198.18.10.2");
}
