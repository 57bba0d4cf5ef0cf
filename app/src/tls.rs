//! HTTPS at the app itself: for a way from the balancer that is not trusted, and to measure what the balancer spares the apps by
//! ending TLS. One certificate and HTTP/1.1; names, tickets for all workers and reloads are the balancer's business.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Reads the certificate, those that signed it, and its key from one PEM file. The error says what is wrong with the file.
pub(crate) fn acceptor(file: &Path) -> Result<TlsAcceptor, String> {
    let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let unusable = |reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| unusable(&"there is no private key in it"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(content: &str, reason: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.pem");
        fs::write(&file, content).unwrap();
        let error = acceptor(&file).err().expect("no acceptor without a certificate and its key");
        assert!(error.contains("site.pem") && error.contains(reason), "{error}");
    }

    #[test]
    fn a_file_without_a_key_or_a_certificate_is_named() {
        refused("", "there is no private key in it");
        refused("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = acceptor(Path::new("/nowhere/site.pem")).err().unwrap();
        assert!(error.contains("/nowhere/site.pem"), "{error}");
    }
}
