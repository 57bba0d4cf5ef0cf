//! The other way to keep a client on its backend: this balancer remembers it. Lost when the balancer ends, and unknown to
//! every other balancer; that is what a sealed cookie is better at.
//!
//! A client is known by an opaque random cookie of ours, or by its address. Entries live for a time after their last use.
//! There are at most so many; then those used longest ago make room.
//!
//! Workers share it, so it has locks: [`SHARDS`] of them, each held for one look-up. Each shard has two halves, young and
//! old. What is used moves to the young half; when that is full, or half a lifetime has passed, it becomes the old one
//! and the old one is forgotten. So no use costs more than two look-ups, nothing has to be searched for what expired,
//! and the most recently used half of the entries is always there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ticket::Pin;

const SHARDS: usize = 16;
/// Characters of the cookie: 128 random bits.
const LENGTH: usize = 22;

/// By what a client is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Cookie(u128),
    Address(IpAddr),
}

impl Client {
    /// A new one, by a cookie that nobody can guess.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        Self::Cookie(u128::from_be_bytes(bytes))
    }

    /// Reads a cookie's value; `None` if we cannot have made it.
    pub(crate) fn from_cookie(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        if value.len() != LENGTH || URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()? != bytes.len() {
            return None;
        }
        Some(Self::Cookie(u128::from_be_bytes(bytes)))
    }

    /// The cookie's value; `None` for an address.
    pub(crate) fn to_cookie(self) -> Option<String> {
        match self {
            Self::Cookie(number) => Some(URL_SAFE_NO_PAD.encode(number.to_be_bytes())),
            Self::Address(_) => None,
        }
    }

    /// An IPv4 client is the same one on a socket of either family. The hosts of an IPv6 network share it: their
    /// temporary addresses change within a day (RFC 8981).
    pub(crate) fn from_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        })
    }
}

/// Where a client belongs: an entry of the roster, and who it was at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    /// The id of the backend, which is never used twice.
    pub(crate) backend: u64,
    /// The instance and its start, if it said so: one that restarted has forgotten its clients.
    pub(crate) pin: Option<Pin>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    home: Home,
    used: Instant,
}

#[derive(Debug)]
struct Shard {
    young: HashMap<Client, Row>,
    old: HashMap<Client, Row>,
    /// When the young half was begun.
    begun: Instant,
}

/// The table of one pool.
#[derive(Debug)]
pub(crate) struct Table {
    /// Short sections without an await: one look-up each.
    shards: [Mutex<Shard>; SHARDS],
}

/// What bounds a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) entries_max: usize,
    /// Since the last use.
    pub(crate) lifetime: Duration,
}

impl Table {
    pub(crate) fn new(now: Instant) -> Self {
        let shard = || Mutex::new(Shard { young: HashMap::new(), old: HashMap::new(), begun: now });
        Self { shards: std::array::from_fn(|_| shard()) }
    }

    /// Where a client belongs, without making it count as a use.
    pub(crate) fn peek(&self, client: Client, bounds: Bounds, now: Instant) -> Option<Home> {
        self.with(client, |shard| {
            let row = shard.young.get(&client).or_else(|| shard.old.get(&client))?;
            row.lives(bounds, now).then_some(row.home)
        })
    }

    /// Where a client belongs; it is used now.
    pub(crate) fn find(&self, client: Client, bounds: Bounds, now: Instant) -> Option<Home> {
        self.with(client, |shard| {
            shard.turn(bounds, now);
            if let Some(row) = shard.young.get_mut(&client) {
                let lives = row.lives(bounds, now);
                row.used = now;
                return lives.then_some(row.home);
            }
            let row = shard.old.remove(&client).filter(|row| row.lives(bounds, now))?;
            shard.young.insert(client, Row { used: now, ..row });
            Some(row.home)
        })
    }

    /// Remembers where a client belongs from now on.
    pub(crate) fn remember(&self, client: Client, home: Home, bounds: Bounds, now: Instant) {
        self.with(client, |shard| {
            shard.turn(bounds, now);
            shard.old.remove(&client);
            shard.young.insert(client, Row { home, used: now });
        });
    }

    /// Entries in it, those included that have expired and are not forgotten yet.
    pub(crate) fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(count).sum()
    }

    /// How many clients belong to each backend, by its id. Looks at every entry: for people, not for requests.
    pub(crate) fn by_backend(&self, bounds: Bounds, now: Instant) -> HashMap<u64, u64> {
        let mut counts = HashMap::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for row in shard.young.values().chain(shard.old.values()).filter(|row| row.lives(bounds, now)) {
                *counts.entry(row.home.backend).or_default() += 1;
            }
        }
        counts
    }

    fn with<T>(&self, client: Client, act: impl FnOnce(&mut Shard) -> T) -> T {
        let shard = &self.shards[shard_of(client)];
        act(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn turn(&mut self, bounds: Bounds, now: Instant) {
        let half = (bounds.entries_max / SHARDS / 2).max(1);
        let aged = now.saturating_duration_since(self.begun) >= bounds.lifetime;
        if self.young.len() >= half || aged {
            self.old = std::mem::take(&mut self.young);
            self.begun = now;
        }
    }
}

impl Row {
    fn lives(&self, bounds: Bounds, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < bounds.lifetime
    }
}

fn shard_of(client: Client) -> usize {
    let word = match client {
        #[allow(clippy::cast_possible_truncation, reason = "the low bits of a random number are random")]
        Client::Cookie(number) => number as u64,
        Client::Address(IpAddr::V4(ip)) => crate::balance::consistent_hash::hash(&ip.octets()),
        Client::Address(IpAddr::V6(ip)) => crate::balance::consistent_hash::hash(&ip.octets()),
    };
    usize::try_from(word % SHARDS as u64).expect("less than the number of shards")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { entries_max: 3_200, lifetime: Duration::from_secs(100) };

    fn home(backend: u64) -> Home {
        Home { backend, pin: None }
    }

    /// Events `at:client=backend` (remember) and `at:client` (find), in seconds; what each find came to is drawn.
    #[track_caller]
    fn check(events: &str, expected: &str) {
        let begun = Instant::now();
        let table = Table::new(begun);
        let mut drawn = String::new();
        for event in events.split_whitespace() {
            let (at, rest) = event.split_once(':').unwrap();
            let now = begun + Duration::from_secs(at.parse().unwrap());
            let (client, backend) = rest.split_once('=').unwrap_or((rest, ""));
            let client = Client::Cookie(client.parse().unwrap());
            if backend.is_empty() {
                let peeked = table.peek(client, BOUNDS, now);
                assert_eq!(table.find(client, BOUNDS, now), peeked, "{event}");
                drawn += &peeked.map_or("-".to_owned(), |home| home.backend.to_string());
            } else {
                table.remember(client, home(backend.parse().unwrap()), BOUNDS, now);
            }
        }
        assert_eq!(drawn, expected);
    }

    #[test]
    fn a_client_is_found_again_and_can_move() {
        check("0:1 0:1=5 1:1 2:1=6 3:1", "-56");
        check("0:1=5 0:17=6 1:1 1:17 1:2", "56-");
    }

    #[test]
    fn entries_expire_after_their_last_use() {
        check("0:1=5 99:1 198:1 299:1", "55-");
        check("0:1=5 100:1", "-");
        check("0:1=5 99:1 150:2=6 180:1 240:1", "555");
        check("0:1=5 400:1 401:1", "--");
    }

    #[test]
    fn it_is_bounded_and_the_most_recently_used_stay() {
        let begun = Instant::now();
        let table = Table::new(begun);
        for number in 0..100_000 {
            table.remember(Client::Cookie(number), home(1), BOUNDS, begun);
            assert!(number % 1_000 != 0 || table.len() <= BOUNDS.entries_max + SHARDS);
        }
        for number in 100_000 - BOUNDS.entries_max as u128 / 2..100_000 {
            assert!(table.find(Client::Cookie(number), BOUNDS, begun).is_some(), "{number}");
        }
        assert!(table.find(Client::Cookie(0), BOUNDS, begun).is_none());
    }

    #[test]
    fn one_in_use_survives_any_number_of_others() {
        let begun = Instant::now();
        let table = Table::new(begun);
        table.remember(Client::Cookie(7), home(3), BOUNDS, begun);
        for number in 100..50_000 {
            table.remember(Client::Cookie(number), home(1), BOUNDS, begun);
            if number % 500 == 0 {
                assert_eq!(table.find(Client::Cookie(7), BOUNDS, begun), Some(home(3)), "after {number}");
            }
        }
    }

    #[test]
    fn cookies_are_read_back_and_noise_is_not() {
        let client = Client::random();
        let cookie = client.to_cookie().unwrap();
        assert_eq!((cookie.len(), Client::from_cookie(cookie.as_bytes())), (LENGTH, Some(client)));
        assert_ne!(client, Client::random());
        for noise in ["", "x", "!!!!!!!!!!!!!!!!!!!!!!", &cookie[1..], &format!("{cookie}A")] {
            assert_eq!(Client::from_cookie(noise.as_bytes()), None, "{noise}");
        }
    }

    #[test]
    fn addresses_are_taken_as_their_owners_have_them() {
        let of = |text: &str| Client::from_address(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("192.0.2.1").to_cookie(), None);
    }
}
