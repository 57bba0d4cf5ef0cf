//! The keys of what is said and done beside the records.

use super::{list, size, within};
use crate::cookie::Ring;
use crate::extras::{Extras, Identity};
use crate::limiter::{Limiter, Limits, RESPONSES_PER_SECOND_MAX};
use serde::{Deserialize, Serialize};
use service_kit::Invalid;
use std::path::PathBuf;
use std::time::Duration;

/// Octets of a text about ourselves: what fits a small answer beside the longest question.
const TEXT_BYTES_MAX: usize = 64;

/// What [`Extras`] are made from.
#[derive(Debug, Clone)]
pub struct ExtrasPlan {
    pub identity: Identity,
    /// `None` where there are no cookies; a ring of none is one that is made at start.
    pub cookies: Option<Option<Ring>>,
    pub cookies_required: bool,
    pub limits: Option<Limits>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawIdentity {
    pub nsid: String,
    pub version: String,
    pub hostname: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawCookies {
    pub enabled: bool,
    pub required: bool,
    pub secrets_file: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRateLimit {
    pub responses_per_second: u32,
    pub slip: u32,
    pub ipv4_prefix_bits: u8,
    pub ipv6_prefix_bits: u8,
    pub table_entries: usize,
    pub exempt: Vec<String>,
}

impl Default for RawCookies {
    fn default() -> RawCookies {
        RawCookies { enabled: true, required: false, secrets_file: PathBuf::new() }
    }
}

impl Default for RawRateLimit {
    fn default() -> RawRateLimit {
        RawRateLimit {
            responses_per_second: 0,
            slip: 2,
            ipv4_prefix_bits: 24,
            ipv6_prefix_bits: 56,
            table_entries: 1 << 16,
            exempt: Vec::new(),
        }
    }
}

pub(super) fn plan(
    identity: RawIdentity,
    cookies: &RawCookies,
    rate_limit: &RawRateLimit,
) -> Result<ExtrasPlan, Invalid> {
    let texts = [
        ("identity.nsid", &identity.nsid),
        ("identity.version", &identity.version),
        ("identity.hostname", &identity.hostname),
    ];
    for (key, text) in texts {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("longer than {TEXT_BYTES_MAX} octets");
            return Err(Invalid::new(key, text, what, "choose a shorter text"));
        }
    }
    let RawIdentity { nsid, version, hostname } = identity;
    Ok(ExtrasPlan {
        identity: Identity { nsid, version, hostname },
        cookies: if cookies.enabled { Some(ring(cookies)?) } else { None },
        cookies_required: cookies.required,
        limits: limits(rate_limit)?,
    })
}

fn ring(raw: &RawCookies) -> Result<Option<Ring>, Invalid> {
    if raw.secrets_file.as_os_str().is_empty() {
        return Ok(None);
    }
    let remedy = "write one secret a line, 32 hexadecimal digits each, the one to use first";
    let refuse =
        |reason: String| Invalid::new("cookies.secrets_file", raw.secrets_file.display(), reason, remedy);
    Ring::load(&raw.secrets_file).map(Some).map_err(refuse)
}

fn limits(raw: &RawRateLimit) -> Result<Option<Limits>, Invalid> {
    let bits = |key: &str, bits: u8, max| within(key, u64::from(bits), 1, max).map(|_| bits);
    let most = u64::from(RESPONSES_PER_SECOND_MAX);
    within("rate_limit.responses_per_second", u64::from(raw.responses_per_second), 0, most)?;
    within("rate_limit.slip", u64::from(raw.slip), 0, 100)?;
    let limits = Limits {
        responses_per_second: raw.responses_per_second,
        slip: raw.slip,
        ipv4_prefix_bits: bits("rate_limit.ipv4_prefix_bits", raw.ipv4_prefix_bits, 32)?,
        ipv6_prefix_bits: bits("rate_limit.ipv6_prefix_bits", raw.ipv6_prefix_bits, 128)?,
        table_entries: size("rate_limit.table_entries", raw.table_entries, 1_024, 1 << 26)?,
        exempt: list("rate_limit.exempt", &raw.exempt, "give IP addresses")?,
    };
    Ok((limits.responses_per_second > 0).then_some(limits))
}

impl ExtrasPlan {
    /// Makes them. Where no secrets are given, one is drawn that no other server has.
    pub fn make(self, tcp_idle_timeout: Duration) -> std::io::Result<Extras> {
        let cookies = match self.cookies {
            None => None,
            Some(Some(ring)) => Some(ring),
            Some(None) => {
                let mut secret = [0; 16];
                getrandom::fill(&mut secret).map_err(std::io::Error::other)?;
                Some(Ring::random(secret))
            }
        };
        let tenths = u16::try_from(tcp_idle_timeout.as_millis() / 100).unwrap_or(u16::MAX);
        Ok(Extras {
            identity: self.identity,
            cookies,
            cookies_required: self.cookies_required,
            limiter: self.limits.map(Limiter::new),
            tcp_idle_tenths: tenths,
        })
    }
}
