//! The `route` cookie: which backend a client belongs to, sealed so that nobody can read, make or change one.
//!
//! ```text
//! base64url( version 1 | key id 1 | nonce 24 | sealed( instance 8 | generation 8 | issued 8 | expires 8 ) | tag 16 )
//! ```
//! The length never varies, so it tells nothing. It names an instance and its birth, never an address: addresses are
//! used again by others. Version, key id, cookie name and route are authenticated with it, so a cookie of one route is
//! worth nothing on another. XChaCha20-Poly1305: its 192-bit nonces may be random for any number of balancers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use service_kit::{Key, KeyRing};

const VERSION: u8 = 1;
const NONCE: usize = 24;
const PLAIN: usize = 32;
const WIRE: usize = 2 + NONCE + PLAIN + 16;
/// Characters of every cookie value.
pub(crate) const LENGTH: usize = (WIRE * 4).div_ceil(3);
/// Clocks of several balancers may differ by this much.
const SKEW_SECONDS: u64 = 60;

/// A backend as cookies know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pin {
    /// Hash of the instance's name, the same on every balancer.
    pub(crate) instance: u64,
    /// Random at each start of the instance.
    pub(crate) generation: u64,
}

impl Pin {
    pub(crate) fn new(instance: &str, generation: u64) -> Self {
        // FNV-1a: it only has to be the same everywhere; who could make collisions names backends, and runs the site.
        let hash = instance.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { instance: hash, generation }
    }
}

/// What a cookie says. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) pin: Pin,
    pub(crate) issued: u64,
    pub(crate) expires: u64,
}

impl Ticket {
    pub(crate) fn new(pin: Pin, now: u64, lifetime: Duration) -> Self {
        Self { pin, issued: now, expires: now + lifetime.as_secs() }
    }

    /// Past half its life: time for a new one.
    pub(crate) fn is_old(&self, now: u64) -> bool {
        now.saturating_sub(self.issued) > self.expires.saturating_sub(self.issued) / 2
    }

    /// It, if it is good at that time.
    fn at(self, now: u64) -> Result<Self, Bad> {
        let good = now < self.expires && self.issued <= now.saturating_add(SKEW_SECONDS);
        good.then_some(self).ok_or(Bad::Expired)
    }

    fn to_bytes(self) -> [u8; PLAIN] {
        let mut bytes = [0; PLAIN];
        let fields = [self.pin.instance, self.pin.generation, self.issued, self.expires];
        for (chunk, field) in bytes.chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != PLAIN {
            return None;
        }
        let mut fields =
            bytes.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("8 bytes")));
        let mut next = || fields.next().expect("four fields");
        Some(Self { pin: Pin { instance: next(), generation: next() }, issued: next(), expires: next() })
    }
}

/// Why a cookie is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bad {
    Size,
    Malformed,
    UnknownKey,
    Forged,
    Expired,
}

impl Bad {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Size => "wrong-size",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::Forged => "forged",
            Self::Expired => "expired",
        }
    }
}

/// The cookie that was opened last on a connection, and what it said. A client sends the same one until it is given another, and
/// comparing costs far less than opening.
#[derive(Debug, Default)]
pub(crate) struct Memo(Option<Box<Opened>>);

#[derive(Debug)]
struct Opened {
    /// Of the sealer that opened it: another may have no key for it.
    serial: u64,
    value: [u8; LENGTH],
    ticket: Ticket,
}

/// Seals and opens tickets of one cookie on one route.
#[derive(Debug)]
pub(crate) struct Sealer {
    ring: KeyRing,
    context: Vec<u8>,
    /// No two in this process have the same.
    serial: u64,
}

static SERIALS: AtomicU64 = AtomicU64::new(0);

impl Sealer {
    pub(crate) fn new(ring: KeyRing, cookie: &str, route: &str) -> Self {
        let mut context = Vec::with_capacity(cookie.len() + route.len() + 1);
        context.extend_from_slice(cookie.as_bytes());
        context.push(0);
        context.extend_from_slice(route.as_bytes());
        Self { ring, context, serial: SERIALS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Makes a cookie value. `nonce` must be random and used once.
    pub(crate) fn seal(&self, ticket: &Ticket, nonce: [u8; NONCE]) -> String {
        let key = self.ring.issuing();
        let aad = self.aad(key.id);
        let payload = Payload { msg: &ticket.to_bytes(), aad: &aad };
        let sealed =
            cipher(key).encrypt(&XNonce::from(nonce), payload).expect("32 bytes can always be sealed");
        let mut wire = Vec::with_capacity(WIRE);
        wire.extend_from_slice(&[VERSION, key.id]);
        wire.extend_from_slice(&nonce);
        wire.extend_from_slice(&sealed);
        URL_SAFE_NO_PAD.encode(wire)
    }

    /// Opens a cookie value at `now`.
    pub(crate) fn open(&self, value: &[u8], now: u64) -> Result<Ticket, Bad> {
        self.unseal(value)?.at(now)
    }

    /// The same for one that may be the memo's, which is only compared.
    pub(crate) fn open_again(&self, value: &[u8], now: u64, memo: &mut Memo) -> Result<Ticket, Bad> {
        let is_known = |known: &Opened| known.serial == self.serial && is_same(&known.value, value);
        if let Some(known) = memo.0.as_deref().filter(|known| is_known(known)) {
            return known.ticket.at(now);
        }
        let ticket = self.unseal(value)?;
        let value = value.try_into().expect("what was opened has the length of all");
        memo.0 = Some(Box::new(Opened { serial: self.serial, value, ticket }));
        ticket.at(now)
    }

    fn unseal(&self, value: &[u8]) -> Result<Ticket, Bad> {
        if value.len() != LENGTH {
            return Err(Bad::Size);
        }
        let mut wire = [0; WIRE];
        let read = URL_SAFE_NO_PAD.decode_slice(value, &mut wire).map_err(|_| Bad::Malformed)?;
        if read != WIRE || wire[0] != VERSION {
            return Err(Bad::Malformed);
        }
        let key = self.ring.get(wire[1]).ok_or(Bad::UnknownKey)?;
        let nonce: [u8; NONCE] = wire[2..2 + NONCE].try_into().expect("the slice has the nonce's length");
        let payload = Payload { msg: &wire[2 + NONCE..], aad: &self.aad(key.id) };
        let plain = cipher(key).decrypt(&XNonce::from(nonce), payload).map_err(|_| Bad::Forged)?;
        Ticket::from_bytes(&plain).ok_or(Bad::Malformed)
    }

    fn aad(&self, key: u8) -> Vec<u8> {
        let mut aad = vec![VERSION, key];
        aad.extend_from_slice(&self.context);
        aad
    }
}

/// Takes as long wherever they differ: behind a proxy one connection carries the cookies of many.
fn is_same(known: &[u8; LENGTH], value: &[u8]) -> bool {
    known.len() == value.len() && known.iter().zip(value).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&key.bytes.into())
}

/// A fresh random nonce.
pub(crate) fn nonce() -> [u8; NONCE] {
    let mut bytes = [0; NONCE];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn sealer(keys: &[(u8, &str)], route: &str) -> Sealer {
        let text: String = keys
            .iter()
            .map(|(id, state)| {
                let secret = STANDARD.encode([*id; 32]);
                format!("[[key]]\nid = {id}\nstate = '{state}'\nsecret = '{secret}'\n")
            })
            .collect();
        Sealer::new(KeyRing::from_toml(&text).unwrap(), "route", route)
    }

    fn ticket() -> Ticket {
        Ticket::new(Pin::new("app-1", 7), 1_000, Duration::from_secs(100))
    }

    #[track_caller]
    fn check(opener: &Sealer, value: &str, now: u64, expected: Result<(), Bad>) {
        assert_eq!(opener.open(value.as_bytes(), now).map(|opened| assert_eq!(opened, ticket())), expected);
    }

    #[test]
    fn every_balancer_with_the_ring_opens_it_until_it_expires() {
        let cookie = sealer(&[(1, "issue")], "default").seal(&ticket(), nonce());
        let other = sealer(&[(1, "issue")], "default");
        check(&other, &cookie, 1_000, Ok(()));
        check(&other, &cookie, 1_099, Ok(()));
        check(&other, &cookie, 1_100, Err(Bad::Expired));
        check(&other, &cookie, 900, Err(Bad::Expired));
    }

    #[test]
    fn the_length_is_fixed_and_two_are_never_the_same() {
        let sealer = sealer(&[(1, "issue")], "default");
        let (one, two) = (sealer.seal(&ticket(), nonce()), sealer.seal(&ticket(), nonce()));
        assert_eq!((one.len(), two.len()), (LENGTH, LENGTH));
        assert_ne!(one, two);
    }

    #[test]
    fn one_changed_character_is_noticed_anywhere() {
        let sealer = sealer(&[(1, "issue")], "default");
        let cookie = sealer.seal(&ticket(), nonce());
        for at in 0..cookie.len() {
            let mut bytes = cookie.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(sealer.open(&bytes, 1_000).is_err(), "character {at}");
        }
    }

    #[test]
    fn noise_is_refused() {
        let sealer = sealer(&[(1, "issue")], "default");
        check(&sealer, "", 1_000, Err(Bad::Size));
        check(&sealer, &"A".repeat(LENGTH + 1), 1_000, Err(Bad::Size));
        check(&sealer, &"!".repeat(LENGTH), 1_000, Err(Bad::Malformed));
        check(&sealer, &"A".repeat(LENGTH), 1_000, Err(Bad::Malformed));
    }

    #[test]
    fn another_route_or_another_key_does_not_open_it() {
        let cookie = sealer(&[(1, "issue")], "default").seal(&ticket(), nonce());
        check(&sealer(&[(1, "issue")], "other"), &cookie, 1_000, Err(Bad::Forged));
        check(&sealer(&[(2, "issue")], "default"), &cookie, 1_000, Err(Bad::UnknownKey));
        check(&sealer(&[(2, "issue"), (1, "retired")], "default"), &cookie, 1_000, Err(Bad::UnknownKey));
    }

    #[test]
    fn keys_rotate_in_three_steps_without_losing_anyone() {
        let old = sealer(&[(1, "issue")], "default");
        let step_one = sealer(&[(1, "issue"), (2, "accept")], "default");
        let step_two = sealer(&[(1, "accept"), (2, "issue")], "default");
        let by_old = old.seal(&ticket(), nonce());
        let by_new = step_two.seal(&ticket(), nonce());
        check(&step_one, &by_old, 1_000, Ok(()));
        check(&step_one, &by_new, 1_000, Ok(()));
        check(&step_two, &by_old, 1_000, Ok(()));
        check(&sealer(&[(1, "retired"), (2, "issue")], "default"), &by_new, 1_000, Ok(()));
    }

    #[test]
    fn what_was_opened_before_is_judged_anew() {
        let keyed = sealer(&[(1, "issue")], "default");
        let cookie = keyed.seal(&ticket(), nonce()).into_bytes();
        let mut memo = Memo::default();
        let mut open = |sealer: &Sealer, value: &[u8], now| sealer.open_again(value, now, &mut memo);
        assert_eq!(open(&keyed, &cookie, 1_000), Ok(ticket()));
        assert_eq!(open(&keyed, &cookie, 1_050), Ok(ticket()));
        assert_eq!(open(&keyed, &cookie, 1_100), Err(Bad::Expired));
        assert_eq!(open(&keyed, &cookie[1..], 1_000), Err(Bad::Size));
        // The key is retired, or the route is another.
        let retired = sealer(&[(1, "retired"), (2, "issue")], "default");
        assert_eq!(open(&retired, &cookie, 1_000), Err(Bad::UnknownKey));
        assert_eq!(open(&sealer(&[(1, "issue")], "other"), &cookie, 1_000), Err(Bad::Forged));
        // Another client's on the same connection.
        let other = Ticket { pin: Pin::new("app-2", 8), ..ticket() };
        let others = keyed.seal(&other, nonce()).into_bytes();
        assert_eq!(open(&keyed, &others, 1_000), Ok(other));
        assert_eq!(open(&keyed, &cookie, 1_000), Ok(ticket()));
        for at in 0..cookie.len() {
            let mut bytes = cookie.clone();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(open(&keyed, &bytes, 1_000).is_err(), "character {at}");
            assert_eq!(open(&keyed, &cookie, 1_000), Ok(ticket()));
        }
    }

    #[test]
    fn a_ticket_is_old_past_half_its_life() {
        assert!(!ticket().is_old(1_050));
        assert!(ticket().is_old(1_051));
    }
}
