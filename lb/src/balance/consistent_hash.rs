//! Rendezvous hashing with bounded load: every backend draws a number from the key, weighted by its share, and the
//! highest has it. Whoever is busier than its share allows passes the key on to the next highest.
//!
//! Why not a ring or Maglev's table: there is nothing to build, to keep or to agree on. Every balancer that knows the same
//! addresses sends a key to the same backend, at once after a change; a backend that joins takes exactly its share of
//! the keys and nobody else's move; the keys of one that leaves spread over all the others. It costs one hash a
//! backend, which is less than a cache miss for pools of up to some dozens.
//!
//! Keys are hashed to addresses, not to instances: a restarted one has lost what it had cached anyway.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use super::{Candidate, Choice, Why};
use crate::cookies;

/// What of a request is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Cookie(String),
    Header(http::HeaderName),
    Path,
    ClientAddress,
}

impl Key {
    /// The hash of a request's key; `None` if it has none.
    pub(crate) fn of(&self, headers: &HeaderMap, path: &str, client: IpAddr) -> Option<u64> {
        match self {
            Self::Cookie(name) => cookies::find(headers, name).map(hash),
            Self::Header(name) => headers.get(name).map(|value| hash(value.as_bytes())),
            Self::Path => Some(hash(path.as_bytes())),
            Self::ClientAddress => Some(match client.to_canonical() {
                IpAddr::V4(ip) => hash(&ip.octets()),
                IpAddr::V6(ip) => hash(&ip.octets()),
            }),
        }
    }
}

/// Hashes a key: the same on every balancer, of any build.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a and a final mix. Who chooses keys that meet at one backend is held back by the bound.
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// The place of a backend.
pub(crate) fn place(address: SocketAddr) -> u64 {
    let mut bytes = [0; 18];
    match address.ip() {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes[..16].copy_from_slice(&ip.octets()),
    }
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    hash(&bytes)
}

/// The owner of `key`, or whoever comes next and has room within `bound` times its share of all requests in flight.
pub(super) fn pick<C: Candidate>(
    choice: &Choice<'_, C>,
    tier: &[usize],
    key: u64,
    bound: f64,
) -> (Option<usize>, Why) {
    let (mut inflight, mut shares) = (1.0, 0.0);
    for open in choice.untried(tier) {
        inflight += super::count(open.candidate.load().inflight());
        shares += f64::from(open.share);
    }
    let mut owner: Option<(usize, f64)> = None;
    let mut best: Option<(usize, f64)> = None;
    for open in choice.untried(tier) {
        let draw = draw(key, open.candidate.place(), open.share);
        if owner.is_none_or(|(_, most)| draw > most) {
            owner = Some((open.index, draw));
        }
        let load = open.candidate.load().inflight();
        let most = (bound * inflight * f64::from(open.share) / shares).ceil();
        let has_room = super::count(load) + 1.0 <= most && load < open.candidate.limit();
        if has_room && best.is_none_or(|(_, most)| draw > most) {
            best = Some((open.index, draw));
        }
    }
    let index = best.or(owner).map(|(index, _)| index);
    let why = if index == owner.map(|(index, _)| index) { Why::Hash } else { Why::HashBound };
    (index, why)
}

/// Higher for heavier ones, so that each has the highest in proportion to its share: the exponential race.
pub(super) fn draw(key: u64, place: u64, share: u32) -> f64 {
    let bits = mix(key ^ place) >> 11;
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
    let uniform = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(share) / -uniform.ln()
}

/// The finaliser of splitmix64: every bit of the input moves half of the output.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
