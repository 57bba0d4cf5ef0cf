use super::*;
use crate::wire::Name;

const NOW: u64 = 1_700_000_000;

fn key(algorithm: Algorithm) -> Key {
    Key::new(Name::from_text(b"Transfer.example.", None).unwrap(), algorithm, b"not so secret".to_vec())
}

/// A query for the SOA of `example.`.
fn query() -> Vec<u8> {
    b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\0\0\x06\0\x01".to_vec()
}

fn signed(key: Key, now: u64) -> (Vec<u8>, Signer) {
    let mut message = query();
    let mut signer = Signer::request(Arc::new(key));
    let room = signer.bytes();
    signer.sign(&mut message, 0, now);
    assert_eq!(message.len(), query().len() + room);
    (message, signer)
}

fn refused(checked: Checked) -> Option<TsigError> {
    if let Checked::Refused(refusal) = checked { Some(refusal.error) } else { None }
}

#[test]
fn what_is_signed_is_accepted_and_so_is_its_answer() {
    for algorithm in [Algorithm::HmacSha256, Algorithm::HmacSha384, Algorithm::HmacSha512] {
        let keys = Keys::new([key(algorithm)]);
        let (message, client) = signed(key(algorithm), NOW);
        let Checked::Signed { signer: mut server, end } = keys.check(&message, NOW + 300) else {
            panic!("refused")
        };
        assert_eq!(strip(&message, end), query());
        let mut answer = query();
        answer[2] |= 0x80;
        server.sign(&mut answer, 0, NOW);
        assert!(client.accepts(&answer, NOW));
        assert!(!client.accepts(&answer, NOW + 301));
        let other = signed(key(algorithm), NOW + 1).1;
        assert!(!other.accepts(&answer, NOW), "an answer belongs to its query");
    }
}

#[test]
fn any_octet_that_changes_is_noticed() {
    let keys = Keys::new([key(Algorithm::HmacSha256)]);
    let (message, _) = signed(key(Algorithm::HmacSha256), NOW);
    for at in 0..message.len() {
        let mut forged = message.clone();
        forged[at] ^= 1;
        let checked = keys.check(&forged, NOW);
        // The id in front may change on the way (RFC 8945 section 5.3.1); case in names does not count.
        let free = at < 2 || forged.eq_ignore_ascii_case(&message);
        assert_eq!(matches!(checked, Checked::Signed { .. }), free, "octet {at}: {checked:?}");
    }
    for length in 0..message.len() {
        assert!(!matches!(keys.check(&message[..length], NOW), Checked::Signed { .. }));
    }
}

#[test]
fn unknown_keys_and_wrong_times_are_told_apart() {
    let (message, _) = signed(key(Algorithm::HmacSha256), NOW);
    assert_eq!(refused(Keys::default().check(&message, NOW)), Some(TsigError::BadKey));
    let other = Keys::new([key(Algorithm::HmacSha512)]);
    assert_eq!(refused(other.check(&message, NOW)), Some(TsigError::BadKey));
    let keys = Keys::new([key(Algorithm::HmacSha256)]);
    assert_eq!(refused(keys.check(&message, NOW + 301)), Some(TsigError::BadTime));
    assert_eq!(refused(keys.check(&message, NOW - 301)), Some(TsigError::BadTime));
    assert!(matches!(keys.check(&query(), NOW), Checked::Unsigned));
}

#[test]
fn a_refusal_says_why_and_is_signed_only_when_the_key_is_right() {
    let (message, _) = signed(key(Algorithm::HmacSha256), NOW);
    let answer = |keys: Keys, now: u64| {
        let Checked::Refused(refusal) = keys.check(&message, now) else { panic!("not refused") };
        let mut out = query();
        refusal.write(&mut out, 0, now);
        out
    };
    let unsigned = answer(Keys::default(), NOW);
    let record = Record::find(&unsigned).unwrap().unwrap();
    assert_eq!((record.error, record.mac.len()), (17, 0));
    let late = answer(Keys::new([key(Algorithm::HmacSha256)]), NOW + 1_000);
    let record = Record::find(&late).unwrap().unwrap();
    assert_eq!((record.error, record.mac.len(), record.time_signed), (18, 32, NOW));
    assert_eq!(record.other, &(NOW + 1_000).to_be_bytes()[2..]);
}

#[test]
fn every_message_of_a_transfer_hangs_on_the_one_before() {
    let keys = Keys::new([key(Algorithm::HmacSha256)]);
    let (message, _) = signed(key(Algorithm::HmacSha256), NOW);
    let Checked::Signed { mut signer, .. } = keys.check(&message, NOW) else { panic!("refused") };
    let mut macs = Vec::new();
    for _ in 0..3 {
        let mut out = query();
        signer.sign(&mut out, 0, NOW);
        macs.push(Record::find(&out).unwrap().unwrap().mac.to_vec());
    }
    assert!(macs[0] != macs[1] && macs[1] != macs[2], "the same octets, signed in turn");
}

#[test]
fn a_record_in_the_wrong_place_is_a_format_error() {
    let keys = Keys::new([key(Algorithm::HmacSha256)]);
    let (mut message, _) = signed(key(Algorithm::HmacSha256), NOW);
    // An OPT record behind it.
    message.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    message[11] += 1;
    assert!(matches!(keys.check(&message, NOW), Checked::Malformed));
}
