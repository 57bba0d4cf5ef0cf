//! DNS over HTTPS (RFC 8484), with BIND's and Knot's clients, curl, and requests that no client should make.

use crate::authority::{Authority, NAME, Tls, closed_by_server, nothing_open};
use crate::message::Answer;
use crate::peers::Root;
use crate::running::{PATIENCE, Plan, Server, Tcp, eventually};
use crate::support::{query, with_edns};
use data_encoding::BASE64URL_NOPAD;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};

/// Each way an answer can look.
const ZONE: &str = "$TTL 60\n@ SOA ns h 1 1 1 1 5\n@ NS ns\nns A 192.0.2.53\nset 30 A 192.0.2.1\nset 30 A 192.0.2.2\n\
    set 30 A 192.0.2.3\nset AAAA 2001:db8::1\nwww CNAME set\n*.wild 20 TXT \"any\"\nsub NS ns.sub\nns.sub A 192.0.2.54\n\
    mail MX 10 set\nold DNAME new\na.new A 192.0.2.7\nhttp HTTPS 1 . alpn=h2\nodd TYPE65300 \\# 3 010203\nempty.under.it A 192.0.2.8\n";
const MESSAGE: &str = "content-type: application/dns-message\r\n";

fn plan(authority: &Authority) -> Plan {
    let big: String = (0..200).map(|at| format!("big TXT \"{at} {}\"\n", "x".repeat(200))).collect();
    authority.plan().zone("z", &format!("{ZONE}{big}"))
}

fn server(authority: &Authority) -> Server {
    let plan = plan(authority).with("DNS_TCP__IDLE_TIMEOUT_MS", "1500");
    plan.with("DNS_TLS__HANDSHAKE_TIMEOUT_MS", "500").with("DNS_HTTPS__REQUEST_TIMEOUT_MS", "500").start()
}

fn connect(authority: &Authority, server: &Server) -> Tls {
    authority.connect(server.bound("https"), &["http/1.1"]).unwrap()
}

struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Reads one response of HTTP/1.1 with a length.
fn receive(stream: &mut Tls) -> Response {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap_or_else(|error| panic!("{error}: {}", head.escape_ascii()));
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let mut response = Response { status: head[9..12].parse().unwrap(), head, body: Vec::new() };
    let length = response.header("content-length").unwrap().parse().unwrap();
    response.body.resize(length, 0);
    stream.read_exact(&mut response.body).unwrap();
    response
}

fn request(stream: &mut Tls, head: &str, body: &[u8]) -> Response {
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.flush().unwrap();
    receive(stream)
}

fn post(stream: &mut Tls, packet: &[u8]) -> Response {
    let length = packet.len();
    let head = format!("POST /dns-query HTTP/1.1\r\nhost: {NAME}\r\n{MESSAGE}content-length: {length}\r\n");
    request(stream, &head, packet)
}

fn get(stream: &mut Tls, packet: &[u8]) -> Response {
    let text = BASE64URL_NOPAD.encode(packet);
    request(stream, &format!("GET /dns-query?dns={text} HTTP/1.1\r\nhost: {NAME}\r\n"), &[])
}

fn tcp(stream: &mut Tcp, packet: &[u8]) -> Answer {
    stream.send(packet);
    Answer::read(&stream.receive_octets().unwrap())
}

#[test]
fn every_answer_is_that_of_tcp() {
    let authority = Authority::new();
    let server = plan(&authority).start();
    let names = [
        "set.z.",
        "SeT.z.",
        "www.z.",
        "x.wild.z.",
        "a.b.wild.z.",
        "x.sub.z.",
        "sub.z.",
        "mail.z.",
        "a.old.z.",
        "http.z.",
        "odd.z.",
        "it.z.",
        "under.it.z.",
        "missing.z.",
        "z.",
        "elsewhere.",
        "big.z.",
    ];
    let types =
        ["A", "AAAA", "TXT", "MX", "NS", "SOA", "CNAME", "ANY", "HTTPS", "TYPE65300", "DS", "AXFR", "IXFR"];
    let mut compared = 0;
    for name in names {
        let mut stream = connect(&authority, &server);
        let mut beside = server.connect();
        for record_type in types {
            // A transfer is for streams; here it is refused as over UDP.
            let allowed = !["AXFR", "IXFR"].contains(&record_type);
            let plain = query(name, record_type);
            let mut checking = plain.clone();
            checking[3] |= 0x10;
            let packets = [
                plain.clone(),
                with_edns(plain.clone(), 512, 0, true),
                with_edns(plain.clone(), 4_096, 0, false),
                with_edns(plain, 1_232, 1, false),
                checking,
            ];
            for packet in &packets {
                let (posted, got) = (post(&mut stream, packet), get(&mut stream, packet));
                let expected = tcp(&mut beside, packet);
                for response in [posted, got] {
                    assert_eq!(response.status, 200);
                    assert_eq!(response.header("content-type"), Some("application/dns-message"));
                    let answer = Answer::read(&response.body);
                    if allowed {
                        assert_eq!(answer, expected, "{name} {record_type}");
                    }
                    assert!(allowed || answer.rcode != 0, "{name} {record_type} {answer:?}");
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, names.len() * types.len() * 5);
    server.counts("dns_https_responses_total{status=\"200\"}", |count| count == 2 * compared as u64);
}

#[test]
fn caches_are_told_the_least_ttl() {
    let authority = Authority::new();
    let server = server(&authority);
    let mut stream = connect(&authority, &server);
    for (name, record_type, expected) in [
        ("set.z.", "A", "max-age=30"),
        ("www.z.", "A", "max-age=30"),
        ("mail.z.", "MX", "max-age=60"),
        ("x.wild.z.", "TXT", "max-age=20"),
        ("missing.z.", "A", "max-age=5"),
        ("www.z.", "TXT", "max-age=5"),
        ("x.sub.z.", "A", "max-age=60"),
        ("elsewhere.", "A", "max-age=0"),
    ] {
        let response = post(&mut stream, &query(name, record_type));
        assert_eq!(response.header("cache-control"), Some(expected), "{name} {record_type}");
    }
}

#[test]
fn what_is_no_query_has_a_status() {
    let authority = Authority::new();
    let server = server(&authority);
    let packet = query("set.z.", "A");
    let text = BASE64URL_NOPAD.encode(&packet);
    let mut response = packet.clone();
    response[2] |= 0x80;
    let length = |body: &[u8]| format!("content-length: {}\r\n", body.len());
    let post = |more: &str| format!("POST /dns-query HTTP/1.1\r\nhost: {NAME}\r\n{more}");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: {NAME}\r\n");
    let message = |body: &[u8]| post(&format!("{MESSAGE}{}", length(body)));
    let chunked = post(&format!("{MESSAGE}transfer-encoding: chunked\r\n"));
    let chunks = [b"1388\r\n".to_vec(), vec![0; 5_000], b"\r\n0\r\n\r\n".to_vec()].concat();
    let cases: Vec<(&str, u16, String, Vec<u8>)> = vec![
        ("another path", 404, get(&format!("/?dns={text}")), vec![]),
        ("no message", 400, get("/dns-query"), vec![]),
        ("no base64url", 400, get("/dns-query?dns=a+b/"), vec![]),
        ("padded", 400, get("/dns-query?dns=AA=="), vec![]),
        ("too short", 400, get("/dns-query?dns=AAAA"), vec![]),
        ("too long", 413, get(&format!("/dns-query?dns={}", "A".repeat(6_000))), vec![]),
        (
            "a method",
            405,
            format!("PUT /dns-query HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: 0\r\n"),
            vec![],
        ),
        ("no type", 415, post(&length(&packet)), packet.clone()),
        (
            "another type",
            415,
            post(&format!("content-type: text/plain\r\n{}", length(&packet))),
            packet.clone(),
        ),
        ("an empty body", 400, message(&[]), vec![]),
        ("a response", 400, message(&response), response.clone()),
        ("too long a body", 413, message(&[0; 5_000]), vec![]),
        ("too long in chunks", 413, chunked, chunks),
        ("good", 200, message(&packet), packet.clone()),
        ("trailing octets", 200, message(&[&packet[..], &[7]].concat()), [&packet[..], &[7]].concat()),
    ];
    for (what, status, head, body) in cases {
        let mut stream = connect(&authority, &server);
        let response = request(&mut stream, &head, &body);
        assert_eq!(response.status, status, "{what}: {}", response.head);
        if status == 405 {
            assert_eq!(response.header("allow"), Some("get, post"));
        }
        if status != 200 {
            assert!(response.header("content-type").unwrap().starts_with("text/plain"), "{what}");
        }
    }
    for status in [400, 404, 405, 413, 415] {
        server.counts(&format!("dns_https_responses_total{{status=\"{status}\"}}"), |count| count > 0);
    }
}

/// What a program of the root says of our port for DNS over HTTPS.
fn client(root: &Root, program: &str, server: &Server, ca: &str, rest: &[&str]) -> String {
    let port = server.bound("https").port().to_string();
    let (ca, hostname) = (format!("+tls-ca={ca}"), format!("+tls-hostname={NAME}"));
    let common = ["@127.0.0.1", "-p", &port, &ca, &hostname];
    let output = root.run(program, &[&common[..], rest].concat(), "");
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn real_clients_ask_over_https() {
    let Some(root) = Root::find("https::real_clients_ask_over_https") else { return };
    let authority = Authority::new();
    let server = plan(&authority).start();
    let (folder, inside) = root.folder();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let ca = format!("{}/ca.pem", inside.display());
    let of_type = |text: &str, record_type: &str| {
        let wanted = format!("IN\t{record_type}\t");
        text.lines().filter(|line| !line.starts_with(';') && line.contains(&wanted)).count()
    };
    let records = |text: &str| of_type(text, "A");
    for (program, ways) in [("dig", ["+https", "+https-get"]), ("kdig", ["+https=/dns-query", "+https-get"])]
    {
        for way in ways {
            let both = if way == "+https-get" && program == "kdig" { vec!["+https", way] } else { vec![way] };
            let ask = |rest: &[&str]| client(&root, program, &server, &ca, &[&both[..], rest].concat());
            let text = ask(&["www.z", "A"]);
            assert!(text.contains("NOERROR") && records(&text) == 3, "{program} {way}: {text}");
            assert!(ask(&["missing.z", "A"]).contains("NXDOMAIN"), "{program} {way}");
            let text = ask(&["big.z", "TXT"]);
            assert_eq!(of_type(&text, "TXT"), 200, "{program} {way}");
        }
        let text = client(&root, program, &server, &ca, &["+https=/elsewhere", "+retry=0", "www.z", "A"]);
        assert!(records(&text) == 0, "{text}");
    }
    let text = client(&root, "kdig", &server, &ca, &["+https", "+padding", "set.z", "A"]);
    assert!(text.contains("468 B"), "{text}");
    assert_eq!(server.metric("dns_packets_dropped_total{reason=\"response\"}"), 0);
}

#[test]
fn curl_finds_a_host_by_us() {
    let Some(root) = Root::find("https::curl_finds_a_host_by_us") else { return };
    let authority = Authority::new();
    let site = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = site.local_addr().unwrap().port();
    let server = authority
        .plan()
        .zone("z", "$TTL 60\n@ SOA ns h 1 1 1 1 5\n@ NS ns\nns A 192.0.2.53\nsite A 127.0.0.1\n")
        .start();
    let (folder, inside) = root.folder();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.path().join("query"), query("site.z.", "A")).unwrap();
    let (at, ca) = (inside.display(), format!("{}/ca.pem", inside.display()));
    let url = format!("https://127.0.0.1:{}/dns-query", server.bound("https").port());
    let page = std::thread::spawn(move || {
        let (mut stream, _) = site.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = [0; 4_096];
        let bytes = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
        String::from_utf8_lossy(&head[..bytes]).into_owned()
    });
    let wanted = format!("http://site.z:{port}/");
    let arguments =
        ["-sS", "-4", "--max-time", "20", "--noproxy", "*", "--cacert", &ca, "--doh-url", &url, &wanted];
    let output = root.run("curl", &arguments, "");
    assert_eq!(output.stdout, b"hello", "{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    assert!(page.join().unwrap().contains(&format!("Host: site.z:{port}")));
    let body = format!("@{at}/query");
    for (version, shown) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let out = inside.join("answer");
        let out = out.to_str().unwrap();
        let arguments = [
            "-sS",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--cacert",
            &ca,
            version,
            "-o",
            out,
            "-w",
            "%{http_version} %{response_code}",
            "-H",
            "content-type: application/dns-message",
            "--data-binary",
            &body,
            &url,
        ];
        let output = root.run("curl", &arguments, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), shown, "{said}");
        let answer = Answer::read(&std::fs::read(folder.path().join("answer")).unwrap());
        assert_eq!((answer.rcode, answer.sections[0].len()), (0, 1));
    }
}

#[test]
fn answers_depend_on_who_connects() {
    let authority = Authority::new();
    let server = authority
        .plan()
        .zone("z", "$TTL 60\n@ SOA ns h 1 1 1 1 5\n@ NS ns\nns A 192.0.2.53\nsite A 192.0.2.9\n")
        .with("DNS_HEALTH__MODE", "off")
        .with("DNS_POOLS__NEAR__MEMBERS", r#"[{"address":"192.0.2.1"}]"#)
        .with("DNS_POOLS__FAR__MEMBERS", r#"[{"address":"192.0.2.2"}]"#)
        .with("DNS_CHOICES__SITE__KIND", "networks")
        .with("DNS_CHOICES__SITE__NETWORKS", r#"[{"prefixes":["127.0.0.2"],"use":["near"]}]"#)
        .with("DNS_CHOICES__SITE__DEFAULT", r#"["far"]"#)
        .with("DNS_STEERING__NAMES", r#"[{"name":"site.z","use":"site"}]"#)
        .start();
    for (last, expected) in [(1, "192.0.2.2"), (2, "192.0.2.1")] {
        let source: IpAddr = [127, 0, 0, last].into();
        let mut stream = authority.connect_from(source, server.bound("https"), &["http/1.1"]).unwrap();
        let response = post(&mut stream, &query("site.z.", "A"));
        let message = crate::support::read(&response.body);
        assert_eq!(message.answers[0].data.to_string(), expected);
    }
}

#[test]
fn late_and_idle_clients_are_let_go_and_hold_up_nobody() {
    let authority = Authority::new();
    let server = server(&authority);
    let packet = query("set.z.", "A");
    let mut slow = connect(&authority, &server);
    let head = format!("POST /dns-query HTTP/1.1\r\nhost: {NAME}\r\n{MESSAGE}content-length: 40\r\n\r\n");
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(&packet[..10]).unwrap();
    let mut half = connect(&authority, &server);
    half.write_all(b"GET /dns-query?dns=AAAA HTTP/1.1\r\nhost: ").unwrap();
    let silent = connect(&authority, &server);
    let preface = authority.connect(server.bound("https"), &["h2"]).unwrap();
    for _ in 0..20 {
        assert_eq!(post(&mut connect(&authority, &server), &packet).status, 200);
    }
    assert_eq!(receive(&mut slow).status, 408);
    closed_by_server(half, "half a head");
    closed_by_server(silent, "silence");
    closed_by_server(preface, "no preface");
    let mut noise = authority.connect(server.bound("https"), &["h2"]).unwrap();
    noise.write_all(&[0xFF; 4_096]).unwrap();
    closed_by_server(noise, "noise");
    drop(slow);
    nothing_open(&server, "https");
    server.counts("dns_tcp_closed_total{transport=\"https\",reason=\"idle\"}", |count| count >= 3);
}

#[test]
fn a_stream_that_hangs_does_not_hold_up_those_beside_it() {
    let authority = Authority::new();
    let server = server(&authority);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.bound("https")).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
        let connector = tokio_rustls::TlsConnector::from(authority.client(&["h2"]));
        let stream = connector.connect(name, stream).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = || {
            let request = http::Request::post(format!("https://{NAME}/dns-query"));
            request.header("content-type", "application/dns-message").body(()).unwrap()
        };
        let mut hanging = Vec::new();
        for _ in 0..50 {
            client = client.ready().await.unwrap();
            hanging.push(client.send_request(request(), false).unwrap());
        }
        for _ in 0..50 {
            client = client.ready().await.unwrap();
            let (answer, mut body) = client.send_request(request(), false).unwrap();
            body.send_data(query("set.z.", "A").into(), true).unwrap();
            let mut answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            let octets = answer.body_mut().data().await.unwrap().unwrap();
            assert_eq!(Answer::read(&octets).sections[0].len(), 3);
        }
        for (answer, _body) in hanging {
            assert_eq!(answer.await.unwrap().status(), 408);
        }
        drop(client);
        driven.await.unwrap().unwrap();
    });
    nothing_open(&server, "https");
}

#[test]
fn a_client_that_takes_no_answers_ends() {
    let authority = Authority::new();
    let server = server(&authority);
    let mut stream = connect(&authority, &server);
    let text = BASE64URL_NOPAD.encode(&query("big.z.", "TXT"));
    let request = format!("GET /dns-query?dns={text} HTTP/1.1\r\nhost: {NAME}\r\n\r\n");
    stream.sock.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    // 43 kB an answer: what the kernels hold is full long before.
    while stream.write_all(request.as_bytes()).is_ok() {}
    let open: TcpStream = stream.sock.try_clone().unwrap();
    nothing_open(&server, "https");
    drop(open);
    eventually("a server as it was", || {
        (post(&mut connect(&authority, &server), &query("set.z.", "A")).status == 200).then_some(())
    });
}
