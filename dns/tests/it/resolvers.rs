//! Real resolvers resolve names through us: unbound with random letter case and minimised questions, BIND with minimised
//! questions, dnsmasq as a forwarder.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use hickory_proto::op::Message;

use crate::peers::{Peer, Root, free_address};
use crate::running::{Plan, Server, Tcp, eventually, udp};
use crate::support::query;

/// Not below `test.`, which unbound answers by itself.
const ORIGIN: &str = "z.example.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brand {
    Unbound,
    Bind,
    Dnsmasq,
}

impl Brand {
    const ALL: [Brand; 3] = [Brand::Unbound, Brand::Bind, Brand::Dnsmasq];

    fn name(self) -> &'static str {
        match self {
            Brand::Unbound => "unbound",
            Brand::Bind => "bind",
            Brand::Dnsmasq => "dnsmasq",
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Brand::Unbound => &["unbound", "-d", "-p", "-c"],
            Brand::Bind => &["named", "-g", "-n", "1", "-c"],
            // Its option's value is optional and has to be joined to it. As root it would change its group, and with that forget
            // that it is to end with us.
            Brand::Dnsmasq => &[
                "sh",
                "-c",
                "exec setpriv --reuid www-data --regid www-data --clear-groups --pdeathsig KILL \
                 dnsmasq --keep-in-foreground --conf-file=\"$0\"",
            ],
        }
    }

    /// The zone's own NS record says port 53 of an address that nobody has: all three are told where to ask instead.
    fn configuration(self, address: SocketAddr, server: SocketAddr, folder: &Path) -> String {
        let (ip, port, folder) = (address.ip(), address.port(), folder.display());
        let (to, at) = (server.ip(), server.port());
        match self {
            Brand::Unbound => format!(
                "server:\n interface: {ip}@{port}\n chroot: \"\"\n username: \"\"\n directory: \"{folder}\"\n use-syslog: no\n \
                 verbosity: 2\n do-not-query-localhost: no\n module-config: \"iterator\"\n root-hints: \"{folder}/hints\"\n \
                 use-caps-for-id: yes\n qname-minimisation: yes\n qname-minimisation-strict: yes\nremote-control:\n \
                 control-enable: no\nstub-zone:\n name: \"{ORIGIN}\"\n stub-prime: no\n stub-addr: {to}@{at}\n"
            ),
            // `port` is where it asks, too.
            Brand::Bind => format!(
                "options {{ directory \"{folder}\"; pid-file none; session-keyfile none; recursion yes; port {at};\n\
                 listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; dnssec-validation no; empty-zones-enable no;\n\
                 qname-minimization strict; }};\ncontrols {{ }};\nzone \".\" {{ type hint; file \"hints\"; }};\n\
                 zone \"{ORIGIN}\" {{ type static-stub; server-addresses {{ {to}; }}; }};\n"
            ),
            Brand::Dnsmasq => format!(
                "port={port}\nlisten-address={ip}\nbind-interfaces\nno-resolv\nno-hosts\npid-file=\nlog-facility=-\n\
                 server=/{ORIGIN}/{to}#{at}\n"
            ),
        }
    }

    fn start(self, root: &Root, server: SocketAddr) -> Peer {
        let address = free_address();
        // A root that is nowhere, so that no question leaves the machine.
        let hints = ("hints".to_owned(), ". 3600 NS nowhere.\nnowhere. 3600 A 127.0.0.1\n".to_owned());
        let mut peer = Peer::run(root, self.name(), self.command(), address, &[hints], |folder| {
            self.configuration(address, server, folder)
        });
        peer.wait_for(ORIGIN);
        peer
    }
}

fn zone() -> String {
    let mut text = String::from(
        "$TTL 60\n@ SOA ns host 1 86400 86400 864000 60\n@ NS ns\nns A 192.0.2.53\n\
         set A 192.0.2.1\nset A 192.0.2.2\nset A 192.0.2.3\nset AAAA 2001:db8::1\nset AAAA 2001:db8::2\n\
         alias CNAME hop\nhop CNAME a.long.way\na.long.way CNAME set\n*.wild A 192.0.2.9\n*.wild TXT \"any\"\n\
         *.card CNAME set\nold DNAME long\nway.long A 192.0.2.8\ntext TXT \"one\" \"two\"\nmail MX 10 set\nCaSe A 192.0.2.7\nlarge TXT",
    );
    for _ in 0..12 {
        write!(text, " \"{}\"", "x".repeat(250)).unwrap();
    }
    text + "\n"
}

/// Code, and the answer section without TTLs, order and the case of letters, as resolvers may change all three.
fn said(message: &Message) -> (String, BTreeSet<String>) {
    let records = message.answers.iter().map(|record| {
        format!("{} {} {}", record.name, record.record_type(), record.data).to_ascii_lowercase()
    });
    (message.metadata.response_code.to_string(), records.collect())
}

impl Brand {
    /// What of an answer has to be the same: dnsmasq leaves links out of a chain of aliases that it remembers in parts.
    fn comparable(self, (code, mut records): (String, BTreeSet<String>)) -> (String, BTreeSet<String>) {
        if self == Brand::Dnsmasq {
            records.retain(|record| !record.contains(" cname "));
        }
        (code, records)
    }
}

/// Name, type, code and number of records.
const QUESTIONS: [(&str, &str, &str, usize); 18] = [
    ("set", "A", "No Error", 3),
    ("set", "AAAA", "No Error", 2),
    ("set", "TXT", "No Error", 0),
    ("alias", "A", "No Error", 6),
    ("alias", "AAAA", "No Error", 5),
    ("a.long.way", "A", "No Error", 4),
    ("long.way", "A", "No Error", 0),
    ("b.c.wild", "A", "No Error", 1),
    ("d.wild", "TXT", "No Error", 1),
    ("e.wild", "AAAA", "No Error", 0),
    ("f.card", "A", "No Error", 4),
    ("way.old", "A", "No Error", 3),
    ("text", "TXT", "No Error", 1),
    ("mail", "MX", "No Error", 1),
    ("cAsE", "A", "No Error", 1),
    ("missing", "A", "Non-Existent Domain", 0),
    ("deep.under.missing", "A", "Non-Existent Domain", 0),
    ("large", "TXT", "No Error", 1),
];

/// As stubs do: over TCP when the answer was cut.
fn ask(resolver: SocketAddr, question: &[u8]) -> Message {
    let answer = udp(resolver, question);
    if answer.metadata.truncation { Tcp::connect(resolver).ask(question) } else { answer }
}

fn tcp_answers(server: &Server) -> u64 {
    server.metric("dns_answers_total{transport=\"tcp\",rcode=\"NOERROR\"}")
}

#[test]
fn three_resolvers_get_what_the_zone_says() {
    let Some(root) = Root::find("resolvers::three_resolvers_get_what_the_zone_says") else { return };
    let server = Plan::new().zone(ORIGIN.trim_end_matches('.'), &zone()).start();
    for brand in Brand::ALL {
        let resolver = brand.start(&root, server.address);
        let before = tcp_answers(&server);
        for (name, record_type, code, count) in QUESTIONS {
            let question = query(&format!("{name}.{ORIGIN}"), record_type);
            // Straight first: what the zone says is not taken from whom it is compared with.
            let ours = said(&Tcp::connect(server.address).ask(&question));
            assert_eq!((ours.0.as_str(), ours.1.len()), (code, count), "{name} {record_type}");
            // A resolver that was not answered in time on a busy machine fails once and knows better later.
            let theirs = eventually(&format!("{} {name} {record_type}", brand.name()), || {
                let theirs = said(&ask(resolver.address, &question));
                (theirs.0 != "Server Failure").then_some(theirs)
            });
            let [theirs, ours] = [theirs, ours].map(|it| brand.comparable(it));
            assert_eq!(theirs, ours, "{} {name} {record_type}: {}", brand.name(), resolver.log());
        }
        // Ours were asked over TCP straight, one for each question that has an answer.
        let straight = QUESTIONS.iter().filter(|(_, _, code, _)| *code == "No Error").count() as u64;
        let by_resolver = tcp_answers(&server) - before - straight;
        assert!(by_resolver >= 1, "{} fetched 3,000 octets without TCP", brand.name());
        let log = resolver.whole_log();
        assert!(!log.contains("0x20") && !log.contains("apsforid"), "letters came back changed: {log}");
        println!("{}: {} questions as the zone says, {by_resolver} over TCP", brand.name(), QUESTIONS.len());
    }
}
