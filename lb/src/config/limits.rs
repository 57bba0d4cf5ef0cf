//! `[limits]`: what one client, one request and one connection may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::ms;
use crate::headers::Networks;
use crate::limits::{PaceTerms, Rate};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    target_bytes_max: u64,
    underscores_in_names: bool,
    body_bytes_max: u64,
    request_timeout_ms: u64,
    upload_bytes_per_second_min: u64,
    download_bytes_per_second_min: u64,
    rate_grace_ms: u64,
    connections_per_address_max: u64,
    requests_per_second: u64,
    burst: u64,
    exempt: Vec<String>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            target_bytes_max: 16_384,
            underscores_in_names: true,
            body_bytes_max: 4_294_967_296,
            request_timeout_ms: 3_600_000,
            upload_bytes_per_second_min: 500,
            download_bytes_per_second_min: 500,
            rate_grace_ms: 20_000,
            connections_per_address_max: 1_000,
            requests_per_second: 0,
            burst: 100,
            exempt: vec!["127.0.0.0/8".into(), "::1".into()],
        }
    }
}

/// What a client may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) target_bytes_max: usize,
    pub(crate) underscores_in_names: bool,
    /// `u64::MAX`: none.
    pub(crate) body_bytes_max: u64,
    /// For a request and its whole answer.
    pub(super) request_timeout: Option<Duration>,
    pub(super) upload: PaceTerms,
    pub(super) download: PaceTerms,
    pub(crate) connections_per_address_max: Option<usize>,
    pub(crate) rate: Option<Rate>,
    /// Whose connections and requests are not counted.
    pub(crate) exempt: Networks,
}

pub(super) fn parse(raw: &Raw) -> Result<Limits, Invalid> {
    let exempt = Networks::parse(&raw.exempt).map_err(|entry| {
        Invalid::new("limits.exempt", entry, "not an address or network", "write for example 10.0.0.0/8")
    })?;
    let grace = ms("limits.rate_grace_ms", raw.rate_grace_ms)?;
    let pace = |bytes_per_second_min| PaceTerms { bytes_per_second_min, grace };
    Ok(Limits {
        target_bytes_max: match raw.target_bytes_max {
            // http's own limit is 65,534.
            256..=65_534 => usize::try_from(raw.target_bytes_max).expect("at most 65534"),
            other => {
                let remedy = "write 256 to 65534";
                return Err(Invalid::new("limits.target_bytes_max", other, "out of range", remedy));
            }
        },
        underscores_in_names: raw.underscores_in_names,
        body_bytes_max: if raw.body_bytes_max == 0 { u64::MAX } else { raw.body_bytes_max },
        request_timeout: match raw.request_timeout_ms {
            0 => None,
            given => Some(ms("limits.request_timeout_ms", given)?),
        },
        upload: pace(raw.upload_bytes_per_second_min),
        download: pace(raw.download_bytes_per_second_min),
        connections_per_address_max: usize::try_from(raw.connections_per_address_max)
            .ok()
            .filter(|max| *max > 0),
        rate: rate("limits", raw.requests_per_second, raw.burst)?,
        exempt,
    })
}

/// Tokens of one client; none a second: no bucket.
pub(super) fn rate(section: &str, per_second: u64, burst: u64) -> Result<Option<Rate>, Invalid> {
    if per_second == 0 {
        return Ok(None);
    }
    let invalid = |key: &str, value: u64| {
        let key = format!("{section}.{key}");
        Invalid::new(key, value, "out of range", "write 1 to 1000000")
    };
    if per_second > 1_000_000 {
        return Err(invalid("requests_per_second", per_second));
    }
    if !(1..=1_000_000).contains(&burst) {
        return Err(invalid("burst", burst));
    }
    Ok(Some(Rate::new(per_second, burst)))
}
