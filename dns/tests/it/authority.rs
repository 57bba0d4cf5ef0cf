//! A certificate authority of the tests' own, clients that believe it, and servers with its certificates.

use crate::running::{PATIENCE, Plan, Server, framed};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

/// The name in every certificate, beside 127.0.0.1.
pub(crate) const NAME: &str = "dns.test";

pub(crate) struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    /// With one certificate issued.
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Not the leaves' own name, or some take those for self-signed.
        params.distinguished_name.push(DnType::CommonName, "the tests' authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { folder: tempfile::tempdir().unwrap(), issuer };
        authority.issue();
        authority
    }

    /// What clients need to believe it.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate and key over those before; gives the certificate.
    pub(crate) fn issue(&self) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let names = vec![NAME.to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(self.path("chain.pem"), leaf.pem()).unwrap();
        leaf.der().to_vec()
    }

    /// Both listeners, on free ports.
    pub(crate) fn plan(&self) -> Plan {
        let (chain, key) = (self.path("chain.pem"), self.path("key.pem"));
        let certificates = serde_json::json!([{ "chain_file": chain, "key_file": key }]);
        Plan::new()
            .with("DNS_TLS__LISTEN", "[\"127.0.0.1:0\"]")
            .with("DNS_HTTPS__LISTEN", "[\"127.0.0.1:0\"]")
            .with("DNS_TLS__CERTIFICATES", &certificates.to_string())
    }

    pub(crate) fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A connection whose handshake is done.
    pub(crate) fn connect(&self, address: SocketAddr, alpn: &[&str]) -> std::io::Result<Tls> {
        self.connect_from([127, 0, 0, 1].into(), address, alpn)
    }

    pub(crate) fn connect_from(
        &self,
        source: IpAddr,
        address: SocketAddr,
        alpn: &[&str],
    ) -> std::io::Result<Tls> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(NAME).unwrap();
        let session = ClientConnection::new(self.client(alpn), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

/// Asks over an open connection of DNS over TLS; `None` when the server has closed.
pub(crate) fn ask(stream: &mut Tls, packet: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(&framed(packet)).ok()?;
    stream.flush().ok()?;
    receive(stream)
}

pub(crate) fn receive(stream: &mut Tls) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).ok()?;
    Some(octets)
}

/// Waits until the server has closed, whatever it says before.
pub(crate) fn closed_by_server(mut stream: impl std::io::Read, what: &str) -> Vec<u8> {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if [ConnectionReset, ConnectionAborted, UnexpectedEof].contains(&error.kind()) => {}
        Err(error) => panic!("{what}: not closed: {error}"),
    }
    rest
}

/// Waits until nothing is open on this transport.
pub(crate) fn nothing_open(server: &Server, transport: &str) {
    let open = format!("dns_tcp_connections{{transport=\"{transport}\"}}");
    crate::running::eventually(&open, || (server.metric(&open) == 0).then_some(()));
}
