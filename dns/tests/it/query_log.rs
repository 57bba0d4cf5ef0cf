//! The query log of the running program.

use crate::authority::{Authority, ask};
use crate::running::{Plan, Server, ZONE, eventually};
use crate::support::{query, with_edns};
use serde_json::{Value, json};
use std::path::Path;

fn logging(file: &Path) -> Plan {
    Plan::new()
        .zone("z", ZONE)
        .with("DNS_QUERY_LOG__FORMAT", "json")
        .with("DNS_QUERY_LOG__FILE", file.to_str().unwrap())
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The lines, once there are so many.
fn wait_for(file: &Path, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines"), || Some(lines(file)).filter(|lines| lines.len() >= count))
}

fn written(server: &Server) -> u64 {
    server.metric("dns_query_log_lines_total")
}

#[test]
fn every_query_has_its_line_whatever_way_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries");
    let authority = Authority::new();
    let plan = authority.plan().zone("z", ZONE).with("DNS_QUERY_LOG__FORMAT", "json");
    let mut server = plan.with("DNS_QUERY_LOG__FILE", file.to_str().unwrap()).start();
    // The first one is answered by both paths.
    server.udp(&query("z.", "SOA"));
    wait_for(&file, 1);
    let mut asked = vec![("udp", "z.", "SOA", "NOERROR", "slow")];
    server.udp(&query("Set.z.", "A"));
    asked.push(("udp", "Set.z.", "A", "NOERROR", "fast"));
    wait_for(&file, 2);
    server.udp(&with_edns(query("z.", "MX"), 1_232, 1, false));
    asked.push(("udp", "z.", "MX", "BADVERS", "slow"));
    wait_for(&file, 3);
    server.connect().ask(&query("missing.z.", "TXT"));
    asked.push(("tcp", "missing.z.", "TXT", "NXDOMAIN", "slow"));
    wait_for(&file, 4);
    let mut stream = authority.connect(server.bound("tls"), &["dot"]).unwrap();
    let last = ask(&mut stream, &query("elsewhere.", "A")).unwrap();
    asked.push(("tls", "elsewhere.", "A", "REFUSED", "slow"));
    let got = wait_for(&file, 5);
    // A response is no query.
    let mut response = query("set.z.", "A");
    response[2] |= 0x80;
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&response, server.address).unwrap();
    server.udp(&query("www.z.", "A"));
    wait_for(&file, 6);
    for (line, (transport, name, record_type, rcode, path)) in got.iter().zip(&asked) {
        // One in so many is answered by both paths, whichever comes first to its worker.
        let path = if line["path"] == "slow" { &"slow" } else { path };
        for (key, value) in [
            ("transport", transport),
            ("name", name),
            ("type", record_type),
            ("rcode", rcode),
            ("path", path),
            ("client", &"127.0.0.1"),
        ] {
            assert_eq!(&line[key], value, "{line}");
        }
        assert_eq!(line["truncated"], false);
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(got[4]["bytes"], last.len());
    assert_eq!((written(&server), server.metric("dns_query_log_lines_dropped_total")), (6, 0));
    // What was asked last is written before the end.
    for _ in 0..100 {
        server.udp(&query("set.z.", "A"));
    }
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    assert_eq!(lines(&file).len(), 106);
}

#[test]
fn a_steered_name_tells_its_choice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries");
    let server = logging(&file)
        .with("DNS_POOLS__SITE__MEMBERS", r#"[{"address":"192.0.2.9"}]"#)
        .with("DNS_POOLS__SITE__HEALTH__MODE", "off")
        .with("DNS_STEERING__NAMES", r#"[{"name":"set.z","use":"site"}]"#)
        .start();
    for (count, (name, record_type, choice)) in [
        ("Set.z.", "A", json!("site")),
        // The pool has no such address, and the zone answers.
        ("set.z.", "AAAA", json!(null)),
        ("set.z.", "TXT", json!(null)),
        ("ns.z.", "A", json!(null)),
    ]
    .into_iter()
    .enumerate()
    {
        server.udp(&query(name, record_type));
        assert_eq!(wait_for(&file, count + 1)[count]["choice"], choice, "{name} {record_type}");
    }
}

#[test]
fn a_signal_opens_the_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries");
    let server = logging(&file).start();
    server.udp(&query("set.z.", "A"));
    wait_for(&file, 1);
    let old = folder.path().join("queries.1");
    std::fs::rename(&file, &old).unwrap();
    server.signal("HUP");
    eventually("the new file", || file.exists().then_some(()));
    server.udp(&query("www.z.", "A"));
    assert_eq!(wait_for(&file, 1)[0]["name"], "www.z.");
    assert_eq!(lines(&old).len(), 1);
}

#[test]
fn clients_are_told_as_far_as_wanted_and_queries_by_share() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries");
    let plan = logging(&file).with("DNS_QUERY_LOG__SAMPLE", "0.5");
    let server = plan.with("DNS_QUERY_LOG__IPV4_PREFIX_BITS", "8").start();
    for _ in 0..400 {
        server.udp(&query("set.z.", "A"));
    }
    // Less likely than once in a million million runs it is not between.
    let got = wait_for(&file, 120);
    assert!(got.iter().all(|line| line["client"] == "127.0.0.0"), "{got:?}");
    eventually("all of them", || (written(&server) == lines(&file).len() as u64).then_some(()));
    assert!(written(&server) < 280, "{}", written(&server));
}

#[test]
fn what_cannot_be_written_is_counted_and_queries_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = logging(&folder.path().join("missing/queries")).start();
    for _ in 0..50 {
        assert_eq!(server.udp(&query("set.z.", "A")).answers.len(), 3);
    }
    eventually("all to be counted", || {
        (server.metric("dns_query_log_lines_dropped_total") == 50).then_some(())
    });
    assert!(server.log().contains("query log cannot be written"), "{}", server.log());
}

#[test]
fn off_it_writes_nothing() {
    let server = Server::start();
    server.udp(&query("set.z.", "A"));
    server.connect().ask(&query("set.z.", "A"));
    assert_eq!((written(&server), server.metric("dns_query_log_lines_dropped_total")), (0, 0));
    let standard = Plan::new().zone("z", ZONE).with("DNS_QUERY_LOG__FORMAT", "json").start();
    standard.udp(&query("set.z.", "A"));
    eventually("the line", || {
        let log = standard.log();
        let line = log.lines().find(|line| line.starts_with("{\"time\"") && line.contains("\"path\""))?;
        let line: Value = serde_json::from_str(line).unwrap();
        (line["bytes"] == json!(71)).then_some(())
    });
}
