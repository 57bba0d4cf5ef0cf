//! `[balance]`: who of a pool takes a request.

use std::time::Duration;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::ms;
use crate::balance::consistent_hash::Key;
use crate::balance::{Algorithm, EwmaTerms};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    algorithm: String,
    hash_key: String,
    hash_bound_percent: u64,
    ewma_decay_ms: u64,
    error_penalty_ms: u64,
    retry_after_max_ms: u64,
    slow_start_ms: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            algorithm: "round-robin".into(),
            hash_key: "path".into(),
            hash_bound_percent: 125,
            ewma_decay_ms: 10_000,
            error_penalty_ms: 1_000,
            retry_after_max_ms: 10_000,
            slow_start_ms: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Balance {
    pub(crate) algorithm: Algorithm,
    /// Zero: whoever comes back gets its whole share at once.
    pub(crate) slow_start: Duration,
}

pub(super) fn parse(raw: &Raw) -> Result<Balance, Invalid> {
    // Everything is checked, whatever the algorithm: changing only that must not bring up old mistakes.
    let key = key(&raw.hash_key)?;
    let bound = match raw.hash_bound_percent {
        percent @ 101..=10_000 => f64::from(u32::try_from(percent).expect("at most 10000")) / 100.0,
        other => {
            let remedy = "write 101 to 10000; 125 lets a backend have a quarter more than its share";
            return Err(Invalid::new("balance.hash_bound_percent", other, "out of range", remedy));
        }
    };
    let terms = EwmaTerms {
        decay: ms("balance.ewma_decay_ms", raw.ewma_decay_ms)?,
        error_penalty: ms("balance.error_penalty_ms", raw.error_penalty_ms)?,
        retry_after_max: ms_or_none("balance.retry_after_max_ms", raw.retry_after_max_ms)?,
    };
    let algorithm = match raw.algorithm.as_str() {
        "round-robin" => Algorithm::RoundRobin,
        "random" => Algorithm::Random,
        "least-requests" => Algorithm::LeastRequests,
        "ewma" => Algorithm::Ewma(terms),
        "consistent-hash" => Algorithm::ConsistentHash { key, bound },
        other => {
            let remedy = "write round-robin, random, least-requests, ewma or consistent-hash";
            return Err(Invalid::new("balance.algorithm", other, "unknown algorithm", remedy));
        }
    };
    Ok(Balance { algorithm, slow_start: ms_or_none("balance.slow_start_ms", raw.slow_start_ms)? })
}

fn key(text: &str) -> Result<Key, Invalid> {
    let invalid = |reason: &str| {
        let remedy = "write cookie:NAME, header:NAME, path or client-address";
        Invalid::new("balance.hash_key", text, reason, remedy)
    };
    match text.split_once(':') {
        None if text == "path" => Ok(Key::Path),
        None if text == "client-address" => Ok(Key::ClientAddress),
        Some(("cookie", name)) if super::sticky::is_cookie_name(name) => Ok(Key::Cookie(name.to_owned())),
        Some(("cookie", _)) => Err(invalid("not the name of a cookie")),
        Some(("header", name)) => {
            HeaderName::try_from(name).map(Key::Header).map_err(|_| invalid("not the name of a header"))
        }
        _ => Err(invalid("unknown key")),
    }
}

fn ms_or_none(key: &str, value: u64) -> Result<Duration, Invalid> {
    if value == 0 { Ok(Duration::ZERO) } else { ms(key, value) }
}
