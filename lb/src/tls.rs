//! TLS towards clients (rustls): sessions that any worker resumes, and certificates that are replaced while connections go on.

mod watch;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use rustls::crypto::ring;
use rustls::server::{ProducesTickets, ServerConfig};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, SupportedProtocolVersion};
use service_kit::tls::{Certificates, Stamp, provider};

pub(crate) use watch::watch;

use crate::config::Tls;

/// What clients may offer inside of TLS, the better first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MinVersion {
    Tls12,
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        match self {
            Self::Tls12 => BOTH,
            Self::Tls13 => &BOTH[..1],
        }
    }
}

/// What new connections are served with; replaced as a whole. Empty without `[tls]`.
#[derive(Debug, Default)]
pub(crate) struct Live {
    now: ArcSwapOption<Current>,
    /// The keys of session tickets: made once, so that a reload loses nobody's session. rustls changes them every six hours.
    tickets: OnceLock<Arc<dyn ProducesTickets>>,
}

/// One set of certificates in use.
#[derive(Debug)]
struct Current {
    server: Arc<ServerConfig>,
    /// The files as they were when they were read.
    stamps: Vec<Stamp>,
}

impl Live {
    /// For the next connection.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.now.load().as_ref().map(|current| Arc::clone(&current.server))
    }

    /// Serves new connections with these certificates from now on.
    pub(crate) fn replace(&self, config: &Tls, certificates: &Arc<Certificates>) -> Result<(), Error> {
        let server = Arc::new(self.build(config, certificates)?);
        self.now.store(Some(Arc::new(Current { server, stamps: certificates.stamps() })));
        Ok(())
    }

    fn build(&self, config: &Tls, certificates: &Arc<Certificates>) -> Result<ServerConfig, Error> {
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(config.min_version.versions())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(certificates) as Arc<_>);
        let alpn = if config.http2 { &ALPN[..] } else { &ALPN[1..] };
        server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        server.ticketer = match self.tickets.get() {
            Some(tickets) => Arc::clone(tickets),
            None => {
                let fresh = ring::Ticketer::new()?;
                Arc::clone(self.tickets.get_or_init(|| fresh))
            }
        };
        Ok(server)
    }
}
