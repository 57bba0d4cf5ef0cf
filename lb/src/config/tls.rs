//! `[tls]`: HTTPS towards clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use service_kit::Invalid;
use service_kit::tls::{Certificates, Files, RawCertificate, Unusable, files};

use super::values::ms;
use crate::tls::MinVersion;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    listen: Vec<String>,
    certificates: Vec<RawCertificate>,
    min_version: String,
    http2: bool,
    strict_sni: bool,
    handshake_timeout_ms: u64,
    watch_interval_ms: u64,
    redirect: bool,
    redirect_port: u64,
    hsts_max_age_s: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificates: Vec::new(),
            min_version: "1.2".into(),
            http2: true,
            strict_sni: false,
            handshake_timeout_ms: 10_000,
            watch_interval_ms: 10_000,
            redirect: false,
            redirect_port: 443,
            hsts_max_age_s: 0,
        }
    }
}

/// HTTPS towards clients.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) files: Vec<Files>,
    /// As the files were when the configuration was read.
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) min_version: MinVersion,
    pub(crate) http2: bool,
    /// Clients that ask for no name, or for one that no certificate has, are refused.
    pub(crate) strict_sni: bool,
    pub(crate) handshake_timeout: Duration,
    /// How often the files are looked at; nothing: only at SIGHUP.
    pub(crate) watch_interval: Option<Duration>,
    /// The port that plain requests are sent to.
    pub(crate) redirect_port: Option<u16>,
    /// The value of `Strict-Transport-Security` (RFC 6797).
    pub(crate) hsts: Option<HeaderValue>,
}

pub(super) fn parse(raw: &Raw) -> Result<Option<Tls>, Invalid> {
    if raw.listen.is_empty() {
        if raw.redirect {
            let reason = "plain requests would be sent to where nothing listens";
            return Err(Invalid::new(
                "tls.redirect",
                true,
                reason,
                "write tls.listen, or leave redirect off",
            ));
        }
        return Ok(None);
    }
    let address = |text: &String| {
        text.parse().map_err(|_| {
            Invalid::new("tls.listen", text, "not an address and port", "write for example 0.0.0.0:443")
        })
    };
    let min_version = match raw.min_version.as_str() {
        "1.2" => MinVersion::Tls12,
        "1.3" => MinVersion::Tls13,
        other => {
            let reason = "not a version that is spoken";
            return Err(Invalid::new("tls.min_version", other, reason, "write 1.2 or 1.3"));
        }
    };
    let port = u16::try_from(raw.redirect_port).ok().filter(|port| *port != 0).ok_or_else(|| {
        Invalid::new("tls.redirect_port", raw.redirect_port, "not a port", "write the port that clients see")
    })?;
    let files = files(&raw.certificates)?;
    let certificates = Certificates::load(&files, raw.strict_sni).map_err(Unusable::refused)?;
    Ok(Some(Tls {
        listen: raw.listen.iter().map(address).collect::<Result<_, _>>()?,
        files,
        certificates: Arc::new(certificates),
        min_version,
        http2: raw.http2,
        strict_sni: raw.strict_sni,
        handshake_timeout: ms("tls.handshake_timeout_ms", raw.handshake_timeout_ms)?,
        watch_interval: match raw.watch_interval_ms {
            0 => None,
            some => Some(ms("tls.watch_interval_ms", some)?),
        },
        redirect_port: raw.redirect.then_some(port),
        hsts: hsts(raw.hsts_max_age_s)?,
    }))
}

fn hsts(max_age_s: u64) -> Result<Option<HeaderValue>, Invalid> {
    match max_age_s {
        0 => Ok(None),
        // Two years is what browsers' lists ask for; ten is a mistake in the unit.
        1..=315_360_000 => Ok(HeaderValue::from_str(&format!("max-age={max_age_s}")).ok()),
        other => Err(Invalid::new(
            "tls.hsts_max_age_s",
            other,
            "out of range",
            "write 0 (off) to 315360000 seconds",
        )),
    }
}
