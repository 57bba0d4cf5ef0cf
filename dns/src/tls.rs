//! TLS towards clients: the handshake with its deadline, and certificates that are replaced while connections go on.

use crate::metrics::Closed;
use arc_swap::ArcSwap;
use rustls::Error;
use rustls::crypto::ring;
use rustls::server::{ProducesTickets, ServerConfig};
use service_kit::tls::{Certificates, provider};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What clients may offer for messages behind their lengths (RFC 7858 section 3.1 needs none; this is what they do offer).
pub const DOT: &[&[u8]] = &[b"dot"];
/// What clients may offer for DNS over HTTPS, the better first.
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// What new connections of one protocol are served with.
#[derive(Debug)]
pub struct Secure {
    now: ArcSwap<ServerConfig>,
    protocols: &'static [&'static [u8]],
    /// The keys of session tickets: made once, so that a reload loses nobody's session.
    tickets: Arc<dyn ProducesTickets>,
    handshake_timeout: Duration,
}

impl Secure {
    pub fn new(
        certificates: &Arc<Certificates>,
        protocols: &'static [&'static [u8]],
        handshake_timeout: Duration,
    ) -> Result<Secure, Error> {
        let tickets = ring::Ticketer::new()?;
        let now = ArcSwap::from_pointee(build(certificates, protocols, &tickets)?);
        Ok(Secure { now, protocols, tickets, handshake_timeout })
    }

    /// Serves new connections with these from now on; those that are open keep what they have.
    pub fn replace(&self, certificates: &Arc<Certificates>) -> Result<(), Error> {
        self.now.store(Arc::new(build(certificates, self.protocols, &self.tickets)?));
        Ok(())
    }

    /// A client that has no handshake in time is let go, like one that speaks something else.
    pub async fn accept<S>(&self, stream: S) -> Result<Box<TlsStream<S>>, Closed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = TlsAcceptor::from(self.now.load_full()).accept(stream);
        match timeout(self.handshake_timeout, Box::pin(accepting)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(_)) | Err(_) => Err(Closed::Handshake),
        }
    }
}

fn build(
    certificates: &Arc<Certificates>,
    protocols: &[&[u8]],
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, Error> {
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificates) as Arc<_>);
    server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    server.ticketer = Arc::clone(tickets);
    Ok(server)
}
