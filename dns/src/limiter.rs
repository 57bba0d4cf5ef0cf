//! Response rate limiting: a server that answers forged sources at full speed is a weapon against whoever is there. Equal
//! answers to one network are given so many times a second; of those over it every `slip`-th is sent cut, so that a real
//! client asks again over TCP, and the others are dropped.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Tokens are counted in thousandths, so that a rate below one a millisecond still fills.
const WHOLE: u64 = 1_000;
/// Bits of a slot: a tag of the key, tokens in thousandths, and milliseconds.
const TOKEN_BITS: u32 = 26;
const TIME_BITS: u32 = 24;

/// How often equal answers are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For one network and one answer.
    pub responses_per_second: u32,
    /// Of the answers over the limit, every so manieth is sent cut; 0 drops all, 1 cuts all.
    pub slip: u32,
    pub ipv4_prefix_bits: u8,
    pub ipv6_prefix_bits: u8,
    /// Accounts kept; two that meet in one place forget each other.
    pub table_entries: usize,
    /// Clients that are never limited.
    pub exempt: Vec<IpAddr>,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Send,
    /// Only header and question, with TC.
    Slip,
    Drop,
}

/// The accounts of all clients, shared by all workers without a lock.
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    slots: Box<[AtomicU64]>,
    over: AtomicU32,
}

impl Limiter {
    pub fn new(limits: Limits) -> Limiter {
        let count = limits.table_entries.max(1);
        let slots = std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Limiter { limits, slots, over: AtomicU32::new(0) }
    }

    /// Takes one answer from the account of the client's network. `answer` tells answers apart: equal ones share an account.
    pub fn decide(&self, client: IpAddr, answer: &impl Hash, now_ms: u64) -> Decision {
        let client = client.to_canonical();
        if self.limits.exempt.contains(&client) || self.take(self.key(client, answer), now_ms) {
            return Decision::Send;
        }
        let over = self.over.fetch_add(1, Ordering::Relaxed);
        match self.limits.slip {
            0 => Decision::Drop,
            slip if over.is_multiple_of(slip) => Decision::Slip,
            _ => Decision::Drop,
        }
    }

    fn key(&self, client: IpAddr, answer: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        match client {
            IpAddr::V4(address) => {
                let drop = 32u32.saturating_sub(self.limits.ipv4_prefix_bits.into());
                u32::from(address).checked_shr(drop).unwrap_or(0).hash(&mut hasher);
            }
            IpAddr::V6(address) => {
                let drop = 128u32.saturating_sub(self.limits.ipv6_prefix_bits.into());
                u128::from(address).checked_shr(drop).unwrap_or(0).hash(&mut hasher);
            }
        }
        answer.hash(&mut hasher);
        hasher.finish()
    }

    /// A token bucket in one word: a second's worth of tokens, refilled as time goes on.
    fn take(&self, key: u64, now_ms: u64) -> bool {
        let slot = &self.slots[usize::try_from(key % self.slots.len() as u64).unwrap_or(0)];
        let tag = key >> (TOKEN_BITS + TIME_BITS);
        let now = now_ms & ((1 << TIME_BITS) - 1);
        let rate = u64::from(self.limits.responses_per_second);
        let full = rate * WHOLE;
        let mut taken = false;
        let update = |word: u64| {
            let known = word >> (TOKEN_BITS + TIME_BITS) == tag && word != 0;
            let before = word & ((1 << TIME_BITS) - 1);
            let passed_ms = now.wrapping_sub(before) & ((1 << TIME_BITS) - 1);
            let tokens = (word >> TIME_BITS) & ((1 << TOKEN_BITS) - 1);
            // `rate` tokens a second are `rate` thousandths a millisecond. A clock that seems to go back is one worker
            // that is a little behind another.
            let passed_ms = if passed_ms > 1 << (TIME_BITS - 1) { 0 } else { passed_ms };
            let tokens = if known { (tokens + passed_ms * rate).min(full) } else { full };
            taken = tokens >= WHOLE;
            let left = if taken { tokens - WHOLE } else { tokens };
            Some((tag << (TOKEN_BITS + TIME_BITS)) | (left << TIME_BITS) | now)
        };
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        taken
    }
}

/// The most that [`Limits::responses_per_second`] may be: its thousandths fit a slot.
pub const RESPONSES_PER_SECOND_MAX: u32 = ((1u64 << TOKEN_BITS) / WHOLE - 1) as u32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each word is `client/answer@ms`; the letters say what becomes of it: 3 a second, every second one over slips.
    #[track_caller]
    fn check(events: &str, expected: &str) {
        let limiter = Limiter::new(Limits {
            responses_per_second: 3,
            slip: 2,
            ipv4_prefix_bits: 24,
            ipv6_prefix_bits: 56,
            table_entries: 1_024,
            exempt: vec!["192.0.9.9".parse().unwrap()],
        });
        let mut got = String::new();
        for event in events.split_whitespace() {
            let (client, rest) = event.split_once('/').unwrap();
            let (answer, ms) = rest.split_once('@').unwrap();
            let client = if client.contains(':') { client.into() } else { format!("192.0.{client}") };
            got.push(match limiter.decide(client.parse().unwrap(), &answer, ms.parse().unwrap()) {
                Decision::Send => '+',
                Decision::Slip => 's',
                Decision::Drop => '-',
            });
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn a_network_has_so_many_equal_answers_a_second() {
        check("2.1/a@1 2.2/a@1 2.3/a@2 2.4/a@2 2.5/a@2 2.6/a@2 2.7/a@2", "+++s-s-");
    }
    #[test]
    fn other_answers_and_other_networks_have_their_own() {
        check("2.1/a@1 2.1/a@1 2.1/a@1 2.1/b@1 3.1/a@1 2.1/a@1", "+++++s");
    }
    #[test]
    fn time_gives_back() {
        check(
            "2.1/a@1 2.1/a@1 2.1/a@1 2.1/a@300 2.1/a@335 2.1/a@336 2.1/a@5000 2.1/a@5000 2.1/a@5000 2.1/a@5000",
            "+++s+-+++s",
        );
    }
    #[test]
    fn the_clock_may_go_round() {
        check("2.1/a@16777215 2.1/a@16777215 2.1/a@16777215 2.1/a@16777215 2.1/a@16777800", "+++s+");
    }
    #[test]
    fn networks_of_ipv6() {
        check(
            "2001:db8:0:100::1/a@1 2001:db8:0:1ff::1/a@1 2001:db8:0:100::2/a@1 2001:db8:0:101::/a@1 2001:db8:0:200::1/a@1",
            "+++s+",
        );
    }
    #[test]
    fn some_are_never_limited() {
        check("9.9/a@1 9.9/a@1 9.9/a@1 9.9/a@1 9.9/a@1", "+++++");
        check("::ffff:192.0.9.9/a@1 9.9/a@1 9.9/a@1 9.9/a@1 9.9/a@1", "+++++");
    }
}
