//! Certificates with their keys: read from files, chosen by the name that a client asks for.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::provider;

/// Where one certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// PEM: the certificate, then those that signed it.
    pub chain: PathBuf,
    /// PEM; may be the same file.
    pub key: PathBuf,
}

/// Why a certificate cannot be used: which file, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}; {remedy}", file.display())]
pub struct Unusable {
    pub file: PathBuf,
    pub reason: String,
    pub remedy: &'static str,
}

/// A file as it was: a change of any of these is a change of the file, also of one that a link now points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), length: metadata.len(), inode: metadata.ino() })
    }
}

/// Everything that can be presented.
#[derive(Debug)]
pub struct Certificates {
    /// By name in lower case, wildcards as they stand (`*.example.com`). Several for one name are of different algorithms.
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For a client that asks for no name, or for one that nobody has; nothing if such clients are refused.
    fallback: Option<Arc<CertifiedKey>>,
    stamps: Vec<Stamp>,
}

impl Certificates {
    /// Reads them all. The first one is also for clients that ask for a name that none has, unless `strict`.
    pub fn load(files: &[Files], strict: bool) -> Result<Self, Unusable> {
        let mut stamps = Vec::new();
        let mut names: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        let mut owners: HashMap<String, &Path> = HashMap::new();
        let mut fallback = None;
        for (nth, one) in files.iter().enumerate() {
            // Before they are read: a change in between is seen as one.
            stamps.extend([&one.chain, &one.key].into_iter().filter_map(|path| Stamp::of(path)));
            let key = Arc::new(load(one)?);
            let own = dns_names(&key, &one.chain)?;
            if own.is_empty() && (nth > 0 || strict) {
                return Err(Unusable {
                    file: one.chain.clone(),
                    reason:
                        "it has no DNS name among its subject alternative names, so no client would get it"
                            .to_owned(),
                    remedy: "use a certificate with names, or put it first and leave strict_sni off",
                });
            }
            for name in own {
                let known = names.entry(name.clone()).or_default();
                if known.iter().any(|other| other.key.algorithm() == key.key.algorithm()) {
                    let (first, algorithm) = (owners[&name].display(), key.key.algorithm());
                    return Err(Unusable {
                        file: one.chain.clone(),
                        reason: format!(
                            "{name} has a certificate already, of the same kind ({algorithm:?}), in {first}"
                        ),
                        remedy: "remove one of the two",
                    });
                }
                known.push(Arc::clone(&key));
                owners.entry(name).or_insert(&one.chain);
            }
            fallback = fallback.or(Some(key));
        }
        Ok(Self { names, fallback: fallback.filter(|_| !strict), stamps })
    }

    pub fn stamps(&self) -> Vec<Stamp> {
        self.stamps.clone()
    }

    /// The exact name before a wildcard for its parent (RFC 9525, 6.3), before the fallback.
    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let wanted = name.map(str::to_ascii_lowercase);
        let wanted = wanted.as_deref();
        let exact = wanted.and_then(|name| self.names.get(name));
        let wildcard = || {
            let (_, parent) = wanted?.split_once('.')?;
            self.names.get(&format!("*.{parent}"))
        };
        match exact.or_else(wildcard) {
            Some(keys) => {
                let speaks = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
                keys.iter().find(speaks).or(keys.first()).cloned()
            }
            None => self.fallback.clone(),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes())
    }
}

fn load(files: &Files) -> Result<CertifiedKey, Unusable> {
    let unusable = |file: &Path, reason: String, remedy| Unusable { file: file.to_owned(), reason, remedy };
    let read = |file: &Path| {
        fs::read(file).map_err(|error| {
            unusable(file, error.to_string(), "check the path and that this user may read it")
        })
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&files.chain)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&files.chain, error.to_string(), "write certificates as PEM"))?;
    if chain.is_empty() {
        let reason = "there is no certificate in it".to_owned();
        return Err(unusable(
            &files.chain,
            reason,
            "write the certificate as PEM, then those that signed it",
        ));
    }
    let text = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let sealed = text.windows(9).any(|window| window == b"ENCRYPTED");
        let reason = if sealed { "its private key is encrypted" } else { "there is no private key in it" };
        unusable(&files.key, reason.to_owned(), "write the key as PEM, without a passphrase")
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let reason = format!("its private key is not that of {}", files.chain.display());
            unusable(&files.key, reason, "give the key that belongs to the first certificate of the chain")
        }
        other => unusable(&files.chain, other.to_string(), "make the certificate and its key again"),
    })
}

fn dns_names(key: &CertifiedKey, file: &Path) -> Result<Vec<String>, Unusable> {
    let first = key.cert.first().expect("a chain that was loaded has a certificate");
    let certificate = EndEntityCert::try_from(first).map_err(|error| Unusable {
        file: file.to_owned(),
        reason: format!("not a certificate: {error}"),
        remedy: "make it again",
    })?;
    let mut names: Vec<String> = certificate.valid_dns_names().map(str::to_ascii_lowercase).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
