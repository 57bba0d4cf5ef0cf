//! What must hold for every input, as functions over bytes: the targets of `fuzz/` call them with what libFuzzer makes
//! up, and the tests below with every seed that is committed. Each panics when its property does not hold.
//!
//! Nothing here is a part of the server; it is built for tests and with the feature `fuzzing` only.

use crate::answer::{Terms, Transport, UDP_BYTES_MIN, Verdict, answer};
use crate::exchange::{Exchange, Outcome, Rules};
use crate::fast::fast;
use crate::replay::{Recorder, Replay};
use crate::tsig::{Algorithm, Checked, Key, Keys, Signer};
use crate::wire::query::HEADER_BYTES;
use crate::wire::{Name, Query};
use crate::zone::{OrderPolicy, Zone, Zones};
use hickory_proto::op::Message;
use service_kit::Networks;
use std::sync::{Arc, LazyLock};

/// The largest answer over UDP in these runs.
const UDP_BYTES_MAX: u16 = 1_232;
/// With what wire-format targets are asked: something of everything.
const ZONE: &[u8] = include_bytes!("fuzzing.zone");

static CYCLIC: LazyLock<Zones> = LazyLock::new(|| served(OrderPolicy::Cyclic));
static RANDOM: LazyLock<Zones> = LazyLock::new(|| served(OrderPolicy::Random));

/// Seconds since 1970, for signatures.
const NOW_S: u64 = 1_800_000_000;
static SHARED: LazyLock<Keys> = LazyLock::new(|| {
    Keys::new([Key::new(key_name(), Algorithm::HmacSha256, b"a secret of some length".to_vec())])
});
static EXCHANGE: LazyLock<Exchange> = LazyLock::new(|| Exchange {
    keys: SHARED.clone(),
    transfers: Rules { clients: Networks::parse(&["127.0.0.0/8".into()]).expect("a network"), signed: false },
});

fn key_name() -> Name {
    Name::from_text(b"key.", None).expect("a name")
}

fn served(policy: OrderPolicy) -> Zones {
    zone(ZONE, policy).expect("the zone of the fuzz targets is right")
}

fn zone(text: &[u8], policy: OrderPolicy) -> Option<Zones> {
    let origin = Name::from_text(b"z.", None).expect("a name");
    let contents = crate::master::read_alone(text, &origin).ok()?;
    let (zone, _) = Zone::build(origin, contents.records, policy).ok()?;
    Some(Zones::new([Arc::new(zone)]))
}

/// One packet: nothing panics, no answer is over its limit, every answer can be read by somebody else, and both paths
/// answer alike. The first octet chooses the order of sets.
pub fn packet(data: &[u8]) {
    let Some((choice, packet)) = data.split_first() else { return };
    let zones: &Zones = if choice & 1 == 0 { &CYCLIC } else { &RANDOM };
    for transport in Transport::ALL {
        hold(zones, packet, transport);
    }
}

/// One message that may be signed and may ask for a whole zone: nothing panics, every answer and every message of a transfer is
/// whole, transfers end, and whoever signed well gets what it can check. The first octet says whether it is signed here.
pub fn exchange(data: &[u8]) {
    let Some((choice, message)) = data.split_first() else { return };
    let mut message = message.to_vec();
    let signer = (choice & 1 == 1 && message.len() >= HEADER_BYTES).then(|| {
        let mut signer = Signer::request(SHARED.get(&key_name()).expect("the only key").clone());
        signer.sign(&mut message, 0, NOW_S);
        signer
    });
    let is_signed = matches!(SHARED.check(&message, NOW_S), Checked::Signed { .. });
    for transport in Transport::ALL {
        let terms = Terms {
            now_ms: NOW_S * 1_000,
            client: Some([127, 0, 0, 1].into()),
            ..Terms::plain(transport, UDP_BYTES_MAX)
        };
        let mut out = Vec::new();
        let verdict = EXCHANGE.datagram(&message, &CYCLIC, terms, &mut |_| 0, &mut out);
        if let Verdict::Answered { .. } = verdict {
            assert!(is_whole(&out), "not as many records as it says: {}", out.escape_ascii());
            let is_accepted = signer.as_ref().is_none_or(|signer| signer.accepts(&out, NOW_S));
            assert!(
                is_accepted || !is_signed,
                "an answer that its client cannot check: {}",
                out.escape_ascii()
            );
        }
        if let Outcome::Transfer(mut transfer, mut signer) =
            EXCHANGE.message(&message, &CYCLIC, terms, &mut |_| 0, &mut Vec::new())
        {
            while !transfer.is_complete() {
                let mut out = Vec::new();
                transfer.message(&mut out).expect("every record of this zone fits a message");
                if let Some(signer) = &mut signer {
                    signer.sign(&mut out, 0, NOW_S);
                }
                assert!(
                    out.len() <= usize::from(u16::MAX) && is_whole(&out),
                    "a broken message of a transfer"
                );
            }
        }
    }
}

/// The text of a zone: it is read or refused, and what is read can be asked for each of its names.
pub fn zone_text(data: &[u8]) {
    let Some(zones) = zone(data, OrderPolicy::Cyclic) else { return };
    let origin = Name::from_text(b"z.", None).expect("a name");
    let known = crate::master::read_alone(data, &origin).map(|contents| contents.records).unwrap_or_default();
    for record in known.iter().take(64) {
        for record_type in [record.record_type.0, 1, 255] {
            let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            packet.extend_from_slice(record.owner.wire());
            packet.extend_from_slice(&record_type.to_be_bytes());
            packet.extend_from_slice(&[0, 1]);
            hold(&zones, &packet, Transport::Udp);
            hold(&zones, &packet, Transport::Tcp);
        }
    }
}

fn hold(zones: &Zones, packet: &[u8], transport: Transport) {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut recorder = Recorder::new(|bound| rng.usize(..bound));
    let terms = Terms::plain(transport, UDP_BYTES_MAX);
    let mut slow = Vec::new();
    let verdict = answer(packet, zones, terms, &mut recorder, &mut slow);
    check_answer(packet, transport, verdict, &slow);
    let mut quick = Vec::new();
    if transport == Transport::Udp
        && let Some(repeated) = fast(packet, zones, UDP_BYTES_MAX, &mut Replay::of(recorder), &mut quick)
    {
        assert_eq!((repeated, quick), (verdict, slow), "both paths answer alike");
    }
}

fn check_answer(packet: &[u8], transport: Transport, verdict: Verdict, octets: &[u8]) {
    let Verdict::Answered { rcode, truncated } = verdict else {
        assert!(octets.is_empty(), "who ignores a packet says nothing");
        return;
    };
    let asked = Query::parse(packet).ok().and_then(|query| query.edns);
    let most = match transport {
        Transport::Tcp | Transport::Tls | Transport::Https => u16::MAX,
        Transport::Udp => asked
            .as_ref()
            .map_or(UDP_BYTES_MIN, |edns| edns.payload_bytes.clamp(UDP_BYTES_MIN, UDP_BYTES_MAX)),
    };
    assert!(octets.len() <= usize::from(most), "{} octets of at most {most}", octets.len());
    assert_eq!((&octets[..2], octets[2] & 0x80), (&packet[..2], 0x80), "an answer has the query's id and QR");
    assert_eq!((truncated, octets[3] & 0x0F), (octets[2] & 0x02 != 0, rcode.low()));
    assert!(is_whole(octets), "not as many records as it says: {}", octets.escape_ascii());
    // What the other reader cannot read is data: it takes only text for a protocol's name, for one, which may be any octets
    // (RFC 9460 section 7.1.1).
    let Ok(message) = Message::from_vec(octets) else { return };
    assert_eq!(message.edns.is_some(), asked.is_some(), "OPT is for those who sent it");
}

/// Whether a message has the questions and records that its header counts, and nothing behind them.
fn is_whole(octets: &[u8]) -> bool {
    let u16_at = |at: usize| Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?));
    let walk = || {
        let mut at = HEADER_BYTES;
        for _ in 0..u16_at(4)? {
            at = Name::skip(octets, at).ok()? + 4;
        }
        let records: u32 = [6, 8, 10].into_iter().map(|count| u16_at(count).map_or(0, u32::from)).sum();
        for _ in 0..records {
            let fixed = Name::skip(octets, at).ok()?;
            at = fixed + 10 + usize::from(u16_at(fixed + 8)?);
        }
        Some(at == octets.len())
    };
    walk() == Some(true)
}

/// Inputs that were found, and those that fuzzing starts from: `fuzz/seeds/TARGET/*`.
#[cfg(test)]
mod tests {
    use std::path::Path;

    #[track_caller]
    fn replay(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
        let seeds: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!seeds.is_empty(), "{} is empty", folder.display());
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            let checked = std::panic::catch_unwind(|| check(&bytes));
            assert!(checked.is_ok(), "{} does not hold", seed.display());
        }
    }

    #[test]
    fn packets() {
        replay("dns_packet", super::packet);
    }

    #[test]
    fn exchanges() {
        replay("dns_exchange", super::exchange);
    }

    #[test]
    fn zone_texts() {
        replay("dns_zone_text", super::zone_text);
    }
}
