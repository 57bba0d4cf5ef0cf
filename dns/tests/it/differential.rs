//! Thousands of questions about tricky zones, asked of BIND, NSD, Knot and ours, all live. Our answer has to be one of theirs:
//! code, AA, TC and the three sections as sets. Where it is not, `CONFORMANCE.md` says why, and nothing stands there in vain.

use crate::message::Answer;
use crate::peers::{Brand, Peer, Root};
use crate::rdata;
use crate::running::Plan;
use crate::support::{query, receive, with_edns};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const SEED: u64 = 8_482;
const QUERIES_MIN: usize = 5_000;
/// Trees of names in the generated zone.
const TREES: usize = 60;
const DEPTH_MAX: usize = 4;
const TYPES: [&str; 13] =
    ["A", "AAAA", "TXT", "CNAME", "NS", "SOA", "MX", "DNAME", "DS", "SRV", "ANY", "HTTPS", "TYPE1000"];
const LABELS: [&str; 5] = ["a", "b", "c", "*", "d"];

/// Origin and text.
type Zone = (String, String);
/// Name and type.
type Question = (String, String);

/// Every trap that has a name.
const TRICKY: &str = r#"
$TTL 100
@         SOA ns hostmaster 7 3600 900 86400 30
@         NS  ns
@         NS  ns.elsewhere.
@         MX  10 mail
@         MX  20 mail
ns        A   192.0.2.53
mail      A   192.0.2.25
mail      AAAA 2001:db8::25
www       CNAME host
host      A   192.0.2.1
host      TXT "a b" c
UPPER     A   192.0.2.2
d.c.ent   A   192.0.2.3
*.wild    A   192.0.2.4
*.wild    MX  5 mail
b.wild    TXT blocker
x.ent.wild A  192.0.2.5
*.*.deep  TXT two
*.b.*.deep TXT three
*.alias   CNAME host
*.sub.wild CNAME nowhere
*.loop    CNAME x.loop
c1        CNAME c2
c2        CNAME c3
c3        CNAME host
loop1     CNAME loop2
loop2     CNAME loop1
self      CNAME self
dangling  CNAME nothing
out       CNAME www.elsewhere.
into      CNAME www.other.
todata    CNAME txtonly
todeleg   CNAME a.child
txtonly   TXT x
child     NS  ns.child
child     NS  ns2.child
child     DS  1 8 2 2BB183AF5F22588179A53B0A98631FAD1A2921182BB183AF5F22588179A53B0A
ns.child  A   192.0.2.100
ns2.child AAAA 2001:db8::100
outside   NS  ns.elsewhere.
sibling   NS  ns.child
tree      DNAME other-tree
tree      A   192.0.2.6
b.other-tree A 192.0.2.7
*.w.other-tree TXT w
back.other-tree DNAME tree
away      DNAME elsewhere.
over      DNAME other.
intotree  CNAME b.tree
intochild DNAME child
long      DNAME aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b
_s._tcp   SRV 1 2 80 host
_s._tcp   SRV 1 2 80 ns.child
null      MX  0 .
svc       HTTPS 1 host alpn=h2
svc0      HTTPS 0 host
naptr     NAPTR 1 2 "s" "x" "" _s._tcp
"#;

const OTHER: &str =
    "$TTL 50\n@ SOA ns h 1 1 1 1 60\n@ NS ns\nns A 192.0.2.9\nwww A 192.0.2.10\nback CNAME host.tricky.\n";

/// Further names of the tricky zone to ask for.
const ASKED: &str = "deep.below.host x.ent y.ent.wild a.wild a.b.c.wild *.wild a.*.wild a.b.wild q.wild a.sub.wild x.y.deep x.b.y.deep
    q.x.b.y.deep any.alias a.b.alias y.loop a.b.child child a.outside x.sibling b.tree x.b.tree q.w.tree b.back.tree x.away www.over
    nothing.over x.intochild long x.long x.host x.www x.c1 x.svc missing";

/// A zone of random trees, and the names that are in it.
struct Forest {
    rng: Rng,
    text: String,
    names: Vec<String>,
}

impl Forest {
    fn grow() -> Forest {
        let text = "$TTL 300\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n".to_string();
        let mut forest = Forest { rng: Rng::with_seed(SEED), text, names: vec!["forest.".into()] };
        for tree in 0..TREES {
            forest.node(&format!("t{tree}.forest."), 0);
        }
        forest
    }

    fn record(&mut self, owner: &str, data: &str) {
        writeln!(self.text, "{owner} {data}").unwrap();
    }

    /// A name somewhere: in a tree, existing or not, or in another zone.
    fn target(&mut self) -> String {
        match self.rng.u8(..10) {
            0 => "www.elsewhere.".into(),
            1 => "www.other.".into(),
            2 => "host.tricky.".into(),
            _ => {
                let labels = self.rng.usize(1..DEPTH_MAX);
                let labels: Vec<&str> = (0..labels).map(|_| LABELS[self.rng.usize(..LABELS.len())]).collect();
                let labels = labels.join(".").replace('*', "x");
                format!("{labels}.t{}.forest.", self.rng.usize(..TREES))
            }
        }
    }

    /// Fills a name and what is below it, so that every server accepts it: nothing hidden, no alias with company.
    fn node(&mut self, name: &str, depth: usize) {
        self.names.push(name.to_string());
        let wildcard = name.starts_with('*');
        let octet = self.rng.u8(1..250);
        match self.rng.u8(..12) {
            0 | 1 => {
                self.record(name, &format!("A 192.0.2.{octet}"));
                self.record(name, "TXT \"some text\"");
            }
            2 => self.record(name, &format!("AAAA 2001:db8::{octet:x}")),
            3 => {
                let target = self.target();
                self.record(name, &format!("MX 10 {target}"));
            }
            4 | 5 => {
                let target = self.target();
                self.record(name, &format!("CNAME {target}"));
            }
            6 if depth > 0 && !wildcard => {
                let target = self.target();
                self.record(name, &format!("DNAME {target}"));
                if octet.is_multiple_of(2) {
                    self.record(name, "TXT \"beside\"");
                }
                return;
            }
            7 if depth > 0 && !wildcard => {
                self.record(name, &format!("NS ns.{name}"));
                self.record(&format!("ns.{name}"), &format!("A 192.0.2.{octet}"));
                if octet.is_multiple_of(3) {
                    self.record(name, "NS ns.elsewhere.");
                }
                return;
            }
            8 => self.record(name, "TXT alone"),
            9 => {
                let target = self.target();
                self.record(name, &format!("SRV 1 2 80 {target}"));
            }
            _ => {}
        }
        if depth < DEPTH_MAX {
            for label in LABELS {
                if self.rng.u8(..10) < 4 {
                    self.node(&format!("{label}.{name}"), depth + 1);
                }
            }
        }
    }
}

/// Zones, and questions as names with types.
fn material() -> (Vec<Zone>, Vec<Question>) {
    let mut forest = Forest::grow();
    let mut names: BTreeSet<String> =
        ASKED.split_whitespace().map(|name| format!("{name}.tricky.")).collect();
    for line in TRICKY.lines().skip(2) {
        let owner = line.split_whitespace().next().unwrap_or("@");
        let name = if owner == "@" { "tricky.".into() } else { format!("{owner}.tricky.") };
        names.extend([format!("x.{name}"), format!("x.y.{name}"), name]);
    }
    names.extend(
        ["other.", "www.other.", "x.other.", "back.other.", ".", "nobody.example."].map(String::from),
    );
    for name in &forest.names {
        names.extend([name.clone(), format!("x.{name}"), format!("*.{name}"), format!("x.a.{name}")]);
    }
    let mut questions = Vec::new();
    for name in names {
        for record_type in TYPES {
            // All of what is hand-made, a part of the rest.
            if !name.ends_with("forest.") || forest.rng.u8(..10) < 6 {
                questions.push((name.clone(), record_type.to_string()));
            }
        }
    }
    let mut types = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n".to_string();
    for (at, record) in rdata::lines(rdata::GOOD).enumerate() {
        let record_type = record.split_whitespace().next().unwrap();
        if record_type == "SOA" {
            continue;
        }
        writeln!(types, "r{at}.types. {record}").unwrap();
        questions.push((format!("r{at}.types."), record_type.to_string()));
    }
    let zones = [("tricky.", TRICKY), ("other.", OTHER), ("forest.", &forest.text), ("types.", &types)];
    (zones.map(|(origin, text)| (origin.into(), text.to_string())).into(), questions)
}

/// Asks everything of one server, in order.
fn ask_all(address: SocketAddr, packets: &[Vec<u8>]) -> Vec<Answer> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [0; 65_535];
    let mut one = |packet: &Vec<u8>| {
        for _ in 0..15 {
            socket.send(packet).unwrap();
            while let Ok(bytes) = receive(&socket, &mut buffer) {
                if buffer[..2] == packet[..2] {
                    return Answer::read(&buffer[..bytes]);
                }
            }
        }
        panic!("{address} does not answer {}", packet.escape_ascii());
    };
    packets.iter().map(&mut one).collect()
}

/// The query with random case, as resolvers send it.
fn packet(at: usize, (name, record_type): &Question, rng: &mut Rng) -> Vec<u8> {
    let mixed: String =
        name.chars().map(|letter| if rng.bool() { letter.to_ascii_uppercase() } else { letter }).collect();
    let mut packet = with_edns(query(&mixed, record_type), 1_232, 0, false);
    packet[..2].copy_from_slice(&(at as u16).to_be_bytes());
    packet[2] = 0;
    packet
}

#[test]
fn our_answers_are_those_of_others() {
    let Some(root) = Root::find("our_answers_are_those_of_others") else { return };
    let (zones, questions) = material();
    assert!(questions.len() >= QUERIES_MIN, "{} questions", questions.len());
    // The types are there to be read like BIND reads them: the others do not know them all.
    let of = |brand| if brand == Brand::Bind { &zones[..] } else { &zones[..3] };
    let peers = Brand::ALL.map(|brand| Peer::start(&root, brand, of(brand)));
    let plan =
        zones.iter().fold(Plan::new(), |plan, (origin, text)| plan.zone(origin.trim_end_matches('.'), text));
    let server = plan.with("DNS_ANSWERS__ORDER", "fixed").start();
    let mut rng = Rng::with_seed(SEED);
    let packets: Vec<Vec<u8>> =
        questions.iter().enumerate().map(|(at, question)| packet(at, question, &mut rng)).collect();
    let (ours, theirs) = std::thread::scope(|scope| {
        let packets = &packets;
        let theirs = peers.each_ref().map(|peer| scope.spawn(|| ask_all(peer.address, packets)));
        (ask_all(server.address, packets), theirs.map(|asking| asking.join().unwrap()))
    });
    let mut differences = Differences::default();
    for (at, question) in questions.iter().enumerate() {
        let own = &ours[at];
        assert_eq!(
            own.question[..],
            packets[at][12..12 + own.question.len()],
            "the question in its own case"
        );
        assert!(!own.repeats, "{question:?} has a record twice");
        let others: Vec<(&str, &Answer)> =
            peers.iter().zip(&theirs).map(|(peer, answers)| (peer.name, &answers[at])).collect();
        differences.judge(question, own, &others);
    }
    differences.compare_with(include_str!("../../CONFORMANCE.md"), questions.len());
}

/// What is not as one of the others has it, by the reason for it.
#[derive(Default)]
struct Differences {
    by_reason: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
    same_as: BTreeMap<String, usize>,
}

impl Differences {
    fn judge(&mut self, question: &Question, ours: &Answer, theirs: &[(&str, &Answer)]) {
        let shown = ours.show();
        let mut same = false;
        for (name, _) in theirs.iter().filter(|(_, answer)| answer.show() == shown) {
            *self.same_as.entry((*name).to_string()).or_default() += 1;
            same = true;
        }
        if same {
            return;
        }
        match reason(question, ours, theirs) {
            Some(reason) => *self.by_reason.entry(reason).or_default() += 1,
            None => {
                let mut text = format!("{} {}\n  ours: {shown}", question.0, question.1);
                for (name, answer) in theirs {
                    write!(text, "\n  {name}: {}", answer.show()).unwrap();
                }
                self.unexplained.push(text);
            }
        }
    }

    /// The document names each reason in a heading, and no other.
    fn compare_with(&self, document: &str, questions: usize) {
        println!("{questions} questions; same as {:?}; by reason {:?}", self.same_as, self.by_reason);
        let some: Vec<&str> = self.unexplained.iter().take(40).map(String::as_str).collect();
        assert!(some.is_empty(), "{} without a reason:\n{}", self.unexplained.len(), some.join("\n"));
        let documented: Vec<&str> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let seen: Vec<&str> = self.by_reason.keys().copied().collect();
        let documented: BTreeSet<&str> = documented.into_iter().collect();
        assert_eq!(documented, seen.into_iter().collect(), "CONFORMANCE.md, and what was seen");
    }
}

/// Why our answer is like nobody else's: the heading in `CONFORMANCE.md`.
fn reason((_, record_type): &Question, ours: &Answer, theirs: &[(&str, &Answer)]) -> Option<&'static str> {
    let [answers, authority, additional] = &ours.sections;
    let mut near = theirs.iter().map(|(_, answer)| &answer.sections);
    match record_type.as_str() {
        "ANY" if !answers.is_empty() => {
            let one_set = near.any(|sections| sections[0] == *answers);
            (one_set && authority.is_empty() && additional.is_empty()).then_some("any-one-set")
        }
        "NSEC3" if answers.len() == 1 => Some("nsec3-is-data"),
        "SRV" | "MX" => {
            let more = near.any(|sections| {
                sections[..2] == ours.sections[..2]
                    && additional.iter().all(|record| sections[2].contains(record))
            });
            more.then_some("no-glue-beside-answers")
        }
        _ => None,
    }
}
