//! `[tls]` and `[https]`: DNS over TLS (RFC 7858) and over HTTPS (RFC 8484), with the same certificates.

use super::{list, within};
use serde::{Deserialize, Serialize};
use service_kit::Invalid;
use service_kit::tls::{Certificates, RawCertificate, Unusable, files};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const ADDRESSES: &str = "give ADDRESS:PORT, as in 192.0.2.1:853 or [2001:db8::1]:853";

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTls {
    listen: Vec<String>,
    certificates: Vec<RawCertificate>,
    handshake_timeout_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHttps {
    listen: Vec<String>,
    path: String,
    request_timeout_ms: u64,
    streams_max: u32,
}

impl Default for RawTls {
    fn default() -> RawTls {
        RawTls { listen: Vec::new(), certificates: Vec::new(), handshake_timeout_ms: 5_000 }
    }
}

impl Default for RawHttps {
    fn default() -> RawHttps {
        RawHttps {
            listen: Vec::new(),
            path: "/dns-query".into(),
            request_timeout_ms: 5_000,
            streams_max: 100,
        }
    }
}

/// How clients are served that nobody is to listen to.
#[derive(Debug, Clone)]
pub struct Encrypted {
    pub certificates: Arc<Certificates>,
    pub handshake_timeout: Duration,
    /// For DNS over TLS.
    pub tls_listen: Vec<SocketAddr>,
    pub https_listen: Vec<SocketAddr>,
    pub https: Arc<Https>,
}

/// How DNS over HTTPS is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Https {
    pub path: String,
    /// From a request's head to the end of its body.
    pub request_timeout: Duration,
    /// Requests at the same time on one connection.
    pub streams_max: u32,
}

/// `None` where neither is served.
pub(super) fn parse(tls: &RawTls, https: &RawHttps) -> Result<Option<Encrypted>, Invalid> {
    let handshake = within("tls.handshake_timeout_ms", tls.handshake_timeout_ms, 100, 60_000)?;
    let request = within("https.request_timeout_ms", https.request_timeout_ms, 100, 60_000)?;
    within("https.streams_max", https.streams_max.into(), 1, 10_000)?;
    if !https.path.starts_with('/') || https.path.contains(['?', '#', ' ']) {
        let reason = "not the path of a URL";
        return Err(Invalid::new("https.path", &https.path, reason, "write for example /dns-query"));
    }
    let tls_listen: Vec<SocketAddr> = list("tls.listen", &tls.listen, ADDRESSES)?;
    let https_listen: Vec<SocketAddr> = list("https.listen", &https.listen, ADDRESSES)?;
    if tls_listen.is_empty() && https_listen.is_empty() {
        return Ok(None);
    }
    let certificates = Certificates::load(&files(&tls.certificates)?, false).map_err(Unusable::refused)?;
    Ok(Some(Encrypted {
        certificates: Arc::new(certificates),
        handshake_timeout: Duration::from_millis(handshake),
        tls_listen,
        https_listen,
        https: Arc::new(Https {
            path: https.path.clone(),
            request_timeout: Duration::from_millis(request),
            streams_max: https.streams_max,
        }),
    }))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use service_kit::config::parse_text;

    #[track_caller]
    fn check_refused(text: &str, part: &str) {
        let error = parse_text::<Config>("dns", text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn off_unless_somebody_listens() {
        assert!(parse_text::<Config>("dns", "").unwrap().encrypted.is_none());
    }

    #[test]
    fn what_cannot_work_is_refused_by_key() {
        let listen = "listen = ['127.0.0.1:0']\n";
        check_refused(&format!("[tls]\n{listen}"), "tls.certificates: got nothing: TLS needs at least one");
        check_refused(&format!("[https]\n{listen}"), "tls.certificates: got nothing");
        let missing = "[[tls.certificates]]\nchain_file = '/nowhere.pem'\n";
        check_refused(&format!("[https]\n{listen}{missing}"), "tls.certificates: got /nowhere.pem: No such");
        check_refused("[tls]\nlisten = ['here']", "tls.listen: got here");
        check_refused("[https]\npath = 'dns-query'", "https.path: got dns-query");
        check_refused("[https]\nrequest_timeout_ms = 0", "https.request_timeout_ms: got 0");
        check_refused("[https]\nstreams_max = 0", "https.streams_max: got 0");
    }
}
