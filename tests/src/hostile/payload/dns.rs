//! Against name servers, over TCP and UDP.

use super::{Action, Kind, Payload, Then, valid};

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// `www.example.com A`, with this many questions announced.
pub(super) fn dns_query(questions: u16) -> Vec<u8> {
    let mut message = dns_head(0x0100, [questions, 0, 0, 0]);
    message.extend(b"\x07fitness\x07example\x03com\0\0\x01\0\x01");
    message
}

fn dns_head(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let words = [0x1234, flags, counts[0], counts[1], counts[2], counts[3]];
    words.iter().flat_map(|word: &u16| word.to_be_bytes()).collect()
}

/// Messages that are wrong inside; sent with a right length over TCP and alone over UDP.
fn dns_messages() -> Vec<(&'static str, Vec<u8>)> {
    let asks = |name: &[u8], rest: &[u8]| [&dns_head(0x0100, [1, 0, 0, 0]), name, rest].concat();
    let kind = |code: u16| asks(b"\x07fitness\x07example\x03com\0", &[code.to_be_bytes(), [0, 1]].concat());
    let flags = |flags: u16| [dns_head(flags, [1, 0, 0, 0]), dns_query(1)[12..].to_vec()].concat();
    let opt =
        |rest: &[u8]| [&dns_head(0x0100, [1, 0, 0, 1]), &dns_query(1)[12..], b"\0\0\x29", rest].concat();
    let long_label = [&[63][..], &[b'a'; 63]].concat();
    vec![
        ("no question", dns_head(0x0100, [0, 0, 0, 0])),
        ("65535 questions announced", dns_query(u16::MAX)),
        (
            "65535 of everything announced",
            [dns_head(0x0100, [u16::MAX; 4]), dns_query(1)[12..].to_vec()].concat(),
        ),
        ("two questions", [dns_query(2), dns_query(1)[12..].to_vec()].concat()),
        ("a pointer to itself", asks(b"\xc0\x0c", b"\0\x01\0\x01")),
        ("two pointers to each other", asks(b"\xc0\x0e\xc0\x0c", b"\0\x01\0\x01")),
        ("a pointer beyond the end", asks(b"\xff\xff", b"\0\x01\0\x01")),
        ("a label of an unknown type", asks(b"\x40abc\0", b"\0\x01\0\x01")),
        ("a label longer than the message", asks(b"\x3fabc", b"")),
        ("a name of 320 bytes", asks(&[long_label.repeat(5), vec![0]].concat(), b"\0\x01\0\x01")),
        ("a name of 127 labels", asks(&[b"\x01a".repeat(127), vec![0]].concat(), b"\0\x01\0\x01")),
        ("a name of odd bytes", asks(b"\x05\0\xff.\\\"\0", b"\0\x01\0\x01")),
        ("a question without a type", asks(b"\x03www\0", b"")),
        ("an answer instead of a query", flags(0x8180)),
        ("opcode 15", flags(0x7900)),
        ("an UPDATE", flags(0x2800)),
        ("a NOTIFY", flags(0x2000)),
        ("class CHAOS", asks(b"\x07version\x04bind\0", b"\0\x10\0\x03")),
        ("class 0", asks(b"\x03www\0", b"\0\x01\0\0")),
        ("type ANY", kind(255)),
        ("type AXFR", kind(252)),
        ("type IXFR", kind(251)),
        ("type OPT as a question", kind(41)),
        ("type 65535", kind(u16::MAX)),
        ("EDNS version 255", opt(b"\x04\xd0\0\xff\0\0\0\0")),
        ("EDNS with a payload of 0", opt(b"\0\0\0\0\0\0\0\0")),
        ("EDNS options longer than they are", opt(b"\x04\xd0\0\0\0\0\xff\xff\0\x0a\xff\xff")),
        ("an EDNS option cut short", opt(b"\x04\xd0\0\0\0\0\0\x03\0\x08\0")),
        (
            "EDNS twice",
            [
                &dns_head(0x0100, [1, 0, 0, 2]),
                &dns_query(1)[12..],
                &b"\0\0\x29\x04\xd0\0\0\0\0\0\0".repeat(2)[..],
            ]
            .concat(),
        ),
        (
            "a signature of nothing",
            [&dns_head(0x0100, [1, 0, 0, 1]), &dns_query(1)[12..], b"\0\0\xfa\0\xff\0\0\0\0\0\0"].concat(),
        ),
        ("rubbish after the question", [dns_query(1), vec![0xaa; 400]].concat()),
    ]
}

pub(super) fn tcp_payloads() -> Vec<Payload> {
    let hold = |name: &str, bytes: &[u8]| Payload::new(name, Action::Send(bytes.to_vec(), Then::Hold));
    let mut all = vec![
        Payload::send("length 0", b"\0\0"),
        Payload::send("length 1", b"\0\x01\xff"),
        Payload::send("length 0, a thousand times", b"\0\0".repeat(1000)),
        hold("length 65535 and ten bytes", b"\xff\xff0123456789"),
        hold("one byte of a length", b"\0"),
        Payload::send("a message of 65535 bytes", framed(&[dns_query(1), vec![0; 65_535 - 37]].concat())),
    ];
    all.extend(dns_messages().iter().map(|(name, message)| Payload::send(name, framed(message))));
    all
}

pub(super) fn udp_payloads(seed: u64) -> Vec<Payload> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut noise = |length: usize| -> Vec<u8> { (0..length).map(|_| random.u8(..)).collect() };
    let send = |name: &str, datagrams: Vec<Vec<u8>>| Payload::new(name, Action::Datagrams(datagrams));
    let query = valid(Kind::DnsUdp);
    let mut all = vec![
        send("an empty datagram", vec![vec![]]),
        send("one byte", vec![vec![0]]),
        send("a head alone", vec![query[..12].to_vec()]),
        send("the largest datagram of noise", vec![noise(65_507)]),
        send("1 MiB of noise", (0..1024).map(|_| noise(1024)).collect()),
        send("a thousand queries at once", vec![query.clone(); 1000]),
        send("the largest query", vec![[query.clone(), vec![0; 65_507 - query.len()]].concat()]),
    ];
    all.extend(dns_messages().into_iter().map(|(name, message)| send(name, vec![message])));
    for length in 0..query.len() {
        all.push(send(&format!("a valid query cut at byte {length}"), vec![query[..length].to_vec()]));
    }
    for place in 0..query.len() {
        let mut bytes = query.clone();
        bytes[place] ^= noise(1)[0] | 1;
        all.push(send(&format!("a valid query with byte {place} changed"), vec![bytes]));
    }
    all
}
