//! What a program needs to speak TLS to its clients (rustls): certificates with their keys, chosen by the name that a client
//! asks for, and the keys of the configuration that say where they are.
//!
//! Deliberately without client certificates, OCSP stapling and a list of ciphers: rustls has only good ones.

mod certificates;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, ring};
use serde::{Deserialize, Serialize};

use crate::Invalid;
pub use certificates::{Certificates, Files, Stamp, Unusable};

/// The one implementation of cryptography that all of TLS uses.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// One `[[tls.certificates]]` as it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawCertificate {
    chain_file: String,
    key_file: String,
}

/// Where the certificates of `tls.certificates` are, at least one; a key that has no file of its own is in the chain's.
pub fn files(raw: &[RawCertificate]) -> Result<Vec<Files>, Invalid> {
    if raw.is_empty() {
        let remedy = "write [[tls.certificates]] with chain_file and key_file";
        return Err(Invalid::new(
            "tls.certificates",
            "nothing",
            "TLS needs at least one certificate",
            remedy,
        ));
    }
    let one = |(nth, raw): (usize, &RawCertificate)| {
        if raw.chain_file.is_empty() {
            let key = format!("tls.certificates[{nth}].chain_file");
            let remedy = "write the path of a PEM file; key_file may be left out if the key is in it too";
            return Err(Invalid::new(key, "nothing", "no certificate without a file", remedy));
        }
        let chain = PathBuf::from(&raw.chain_file);
        let key = if raw.key_file.is_empty() { chain.clone() } else { PathBuf::from(&raw.key_file) };
        Ok(Files { chain, key })
    };
    raw.iter().enumerate().map(one).collect()
}

impl Unusable {
    /// As a wrong value of `tls.certificates`.
    pub fn refused(self) -> Invalid {
        Invalid::new("tls.certificates", self.file.display(), self.reason, self.remedy)
    }
}
