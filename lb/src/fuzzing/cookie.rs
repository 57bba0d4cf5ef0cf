//! The cookie: what was sealed opens and says the same, nothing else opens, and ours is taken out of the client's without
//! touching the others.

use http::header::{COOKIE, HeaderMap, HeaderValue};
use service_kit::KeyRing;

use crate::cookies::{self, Found};
use crate::table::Client;
use crate::ticket::{Bad, Memo, Pin, Sealer, Ticket};

const NAME: &str = "route";

/// The first byte chooses what the others are.
pub fn cookie(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => sealed(data),
        1 => made_up(data),
        _ => among_others(data),
    }
}

fn sealer(context: &str) -> Sealer {
    let key = |id: u8, state| {
        let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [id; 32]);
        format!("[[key]]\nid = {id}\nstate = \"{state}\"\nsecret = \"{secret}\"\n")
    };
    let ring = KeyRing::from_toml(&(key(1, "issue") + &key(2, "accept"))).expect("a ring of two keys");
    Sealer::new(ring, NAME, context)
}

/// A ticket made of the input comes back, then a place and a byte to change it by: every other value is refused.
fn sealed(data: &[u8]) {
    let Some((numbers, data)) = data.split_first_chunk::<40>() else { return };
    let Some((nonce, changes)) = data.split_first_chunk::<24>() else { return };
    let mut fields =
        numbers.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("8 bytes")));
    let mut next = || fields.next().expect("five fields");
    let ticket =
        Ticket { pin: Pin { instance: next(), generation: next() }, issued: next(), expires: next() };
    let (now, sealer) = (next(), sealer("default"));
    let value = sealer.seal(&ticket, *nonce).into_bytes();
    match sealer.open(&value, now) {
        Ok(opened) => assert_eq!(opened, ticket),
        Err(bad) => assert_eq!(bad, Bad::Expired, "{ticket:?} at {now}"),
    }
    // There is a time at which it opens, if it was ever good, again and again.
    let mut memo = Memo::default();
    let expected = if ticket.expires > ticket.issued { Ok(ticket) } else { Err(Bad::Expired) };
    for _ in 0..2 {
        assert_eq!(sealer.open_again(&value, ticket.issued, &mut memo), expected);
    }
    assert_eq!(self::sealer("another").open_again(&value, ticket.issued, &mut memo), Err(Bad::Forged));
    let mut changed = value.clone();
    for change in changes.chunks_exact(2) {
        changed[usize::from(change[0]) % value.len()] = change[1];
    }
    if changed != value {
        let opened = sealer.open_again(&changed, ticket.issued, &mut memo);
        assert!(matches!(opened, Err(Bad::Malformed | Bad::UnknownKey | Bad::Forged)), "{opened:?}");
    }
}

/// Whoever has no key makes no cookie, whatever it sends.
fn made_up(value: &[u8]) {
    assert!(sealer("default").open(value, 1_000).is_err());
    if let Some(client) = Client::from_cookie(value) {
        let written = client.to_cookie().expect("it has one");
        assert_eq!(written.as_bytes(), value, "two values are the same client");
    }
}

/// Every line of the input is a `Cookie` line.
fn among_others(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let lines = data.split(|byte| *byte == b'\n');
    for line in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(COOKIE, line);
    }
    let before = pairs(&headers);
    let is_ours = |pair: &Vec<u8>| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        pair.contains(&b'=') && name.trim_ascii_end() == NAME.as_bytes()
    };
    let ours = before.iter().filter(|pair| is_ours(pair)).count();
    assert_eq!(cookies::find(&headers, NAME).is_some(), ours > 0);
    let found = cookies::take(&mut headers, NAME);
    match (&found, ours) {
        (Found::Nothing, 0) | (Found::Several, 2..) => {}
        (Found::One(value), 1) => assert!(before.iter().any(|pair| is_ours(pair) && pair.ends_with(value))),
        _ => panic!("{ours} cookies of ours, and found {found:?}"),
    }
    let others: Vec<_> = before.into_iter().filter(|pair| !is_ours(pair)).collect();
    assert_eq!(pairs(&headers), others, "other cookies were changed");
    assert_eq!(cookies::take(&mut headers, NAME), Found::Nothing);
}

/// All cookies in all lines, without the blanks around them.
fn pairs(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(|pair| pair.trim_ascii().to_vec())
        .filter(|pair| !pair.is_empty())
        .collect()
}
