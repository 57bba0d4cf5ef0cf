//! Cookies for the `route` of a certain app, all but one of them forged.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::eventually::attempt;
use crate::stack::Stack;

pub(super) const GENUINE: &str = "genuine (has to be followed)";
pub(super) const PLAIN: &str = "the app's name, typed in";
const ADDRESS: &str = "its address, as other balancers encode it";
const ALTERED: &str = "genuine with one bit changed";
const MADE_UP: &str = "right format, made up";
const OTHER_KEY: &str = "of a balancer with other keys";
const OTHER_POOL: &str = "genuine, of another pool's cookie";
const EXPIRED: &str = "genuine, expired";
const DOUBLED: &str = "genuine, sent twice";
const OVERSIZED: &str = "genuine, with a long tail";

/// All of them, in the order of the report.
pub(super) const KINDS: [&str; 10] =
    [GENUINE, PLAIN, ADDRESS, ALTERED, MADE_UP, OTHER_KEY, OTHER_POOL, EXPIRED, DOUBLED, OVERSIZED];

/// The cookie of the pool under attack, and that of another pool: each has a name of its own, which is sealed in.
const COOKIE: &str = "route";
pub(super) const OTHER_COOKIE: &str = "route-other";

/// How many of a kind that has more than one; every kind is tried equally often.
const VARIANTS: usize = 64;

/// A Cookie header of one kind.
#[derive(Debug, Clone)]
pub(super) struct Forgery {
    pub(super) kind: &'static str,
    pub(super) cookie: String,
}

/// Makes all of them, the same number of each kind. Those that expire have to be given their time.
pub(super) async fn forgeries(stack: &Stack, victim: &str, seed: u64) -> Result<Vec<Forgery>> {
    let genuine = cookie_for(stack, 1, victim, COOKIE).await?;
    let other_key = cookie_for(stack, 2, victim, COOKIE).await?;
    let expired = cookie_for(stack, 3, victim, COOKIE).await?;
    let other_pool = cookie_for(stack, 4, victim, OTHER_COOKIE).await?;
    let address = stack.address(victim, 3000).await?;
    let mut dice = fastrand::Rng::with_seed(seed);
    let bytes = URL_SAFE_NO_PAD.decode(&genuine).context("a cookie is base64url")?;
    let mut all = Vec::with_capacity(VARIANTS * KINDS.len());
    for n in 0..VARIANTS {
        let mut add = |kind, value: &str| all.push(Forgery { kind, cookie: format!("{COOKIE}={value}") });
        add(GENUINE, &genuine);
        add(PLAIN, victim);
        add(ADDRESS, &if n % 2 == 0 { STANDARD.encode(address.to_string()) } else { address.to_string() });
        add(ALTERED, &URL_SAFE_NO_PAD.encode(altered(&bytes, &mut dice)));
        add(MADE_UP, &URL_SAFE_NO_PAD.encode(made_up(&bytes, &mut dice)));
        add(OTHER_KEY, &other_key);
        add(OTHER_POOL, &other_pool);
        add(EXPIRED, &expired);
        add(DOUBLED, &format!("{genuine}; {COOKIE}={genuine}"));
        add(OVERSIZED, &format!("{genuine}{}", "A".repeat(dice.usize(1..2000))));
    }
    Ok(all)
}

/// A cookie that this balancer (from 1) gave to a visitor whom it sent to `app`.
async fn cookie_for(stack: &Stack, lb: usize, app: &str, name: &str) -> Result<String> {
    attempt("a visitor who is sent to the app", Duration::from_secs(10), async || {
        let client = stack.client(lb);
        let response = client.get("/").await?;
        anyhow::ensure!(response.header("x-served-by") == app, "another app answered");
        client.cookies(|jar| jar.get(name).map(str::to_owned)).context("an answer without a cookie")
    })
    .await
}

/// One bit somewhere: in the version, the key's id, the nonce, the sealed text or its tag.
fn altered(bytes: &[u8], dice: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = dice.usize(..bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Version and key id as they are, the rest invented.
fn made_up(bytes: &[u8], dice: &mut fastrand::Rng) -> Vec<u8> {
    let (head, tail) = bytes.split_at(bytes.len().min(2));
    head.iter().copied().chain(tail.iter().map(|_| dice.u8(..))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_cookie_differs_by_one_bit() {
        let (bytes, mut dice) = ([0_u8; 74], fastrand::Rng::with_seed(3));
        for _ in 0..500 {
            let ones: u32 = altered(&bytes, &mut dice).iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(ones, 1);
        }
    }

    #[test]
    fn a_made_up_cookie_keeps_only_its_head() {
        let bytes: Vec<u8> = (0..74).collect();
        let made_up = made_up(&bytes, &mut fastrand::Rng::with_seed(3));
        assert_eq!((made_up.len(), &made_up[..2]), (74, &bytes[..2]));
        assert!(made_up[2..].iter().zip(&bytes[2..]).filter(|(a, b)| a == b).count() < 10);
    }
}
