use super::*;
use crate::answer::Transport;
use crate::master;
use crate::tsig::{Algorithm, Key};
use crate::zone::{OrderPolicy, Zone};

const NOW_S: u64 = 1_800_000_000;
/// OPT of 512 octets; its version is the seventh octet.
const OPT: [u8; 11] = [0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0];

/// As long as a name can be (RFC 1035 section 2.3.4).
fn longest_name() -> Name {
    let labels = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)];
    Name::from_text(format!("{}.", labels.join(".")).as_bytes(), None).unwrap()
}

fn zones() -> Zones {
    let origin = Name::from_text(b"z.", None).unwrap();
    let text = b"$TTL 60\n@ SOA ns h 1 1 1 1 5\n@ NS ns\nns A 192.0.2.53\n";
    let records = master::read_alone(text, &origin).unwrap().records;
    Zones::new([Arc::new(Zone::build(origin, records, OrderPolicy::Fixed).unwrap().0)])
}

fn exchange(keys: impl IntoIterator<Item = Key>) -> Exchange {
    let clients = Networks::parse(&["127.0.0.0/8".into()]).unwrap();
    Exchange { keys: Keys::new(keys), transfers: Rules { clients, signed: false } }
}

fn terms(client: [u8; 4]) -> Terms<'static> {
    Terms { now_ms: NOW_S * 1_000, client: Some(client.into()), ..Terms::plain(Transport::Tcp, 1_232) }
}

fn question(name: &Name, record_type: RecordType, opt: [u8; 11]) -> Vec<u8> {
    let mut packet = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(name.wire());
    packet.extend_from_slice(&record_type.0.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(&opt);
    packet
}

#[test]
fn the_longest_signature_leaves_room_for_the_longest_question() {
    let key = || Key::new(longest_name(), Algorithm::HmacSha512, b"not so secret".to_vec());
    let mut packet = question(&longest_name(), RecordType::A, OPT);
    let mut signer = Signer::request(Arc::new(key()));
    signer.sign(&mut packet, 0, NOW_S);
    for transport in Transport::ALL {
        let terms = Terms { transport, ..terms([127, 0, 0, 1]) };
        let mut out = Vec::new();
        let verdict = exchange([key()]).datagram(&packet, &zones(), terms, &mut |_| 0, &mut out);
        assert_eq!(verdict, Verdict::Answered { rcode: Rcode::Refused, truncated: false });
        assert!(signer.accepts(&out, NOW_S) && out.len() <= 1_232, "{} octets", out.len());
    }
}

/// The code that a question for the zone `z.` is answered with, and whether EDNS is in the answer.
#[track_caller]
fn check(record_type: RecordType, opt: [u8; 11], client: [u8; 4], expected: Rcode) {
    let packet = question(&Name::from_text(b"z.", None).unwrap(), record_type, opt);
    let mut out = Vec::new();
    let outcome = exchange([]).message(&packet, &zones(), terms(client), &mut |_| 0, &mut out);
    let rcode = match outcome {
        Outcome::Told(Verdict::Answered { rcode, .. }) => rcode,
        Outcome::Told(other) => panic!("{other:?}"),
        Outcome::Transfer(mut transfer, _) => {
            transfer.message(&mut out).unwrap();
            Rcode::NoError
        }
    };
    assert_eq!(rcode, expected);
    assert!(hickory_proto::op::Message::from_vec(&out).unwrap().edns.is_some(), "{}", out.escape_ascii());
}

#[test]
fn whoever_speaks_edns_is_answered_with_it() {
    let mut later = OPT;
    later[6] = 1;
    for record_type in [RecordType::SOA, RecordType::AXFR, RecordType::IXFR] {
        check(record_type, OPT, [127, 0, 0, 1], Rcode::NoError);
        check(record_type, later, [127, 0, 0, 1], Rcode::BadVers);
    }
    check(RecordType::AXFR, OPT, [192, 0, 2, 1], Rcode::Refused);
}
