//! Shared secrets, by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use sha2::{Sha256, Sha384, Sha512};

use crate::wire::Name;

/// What makes the MACs (RFC 8945 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl Algorithm {
    const ALL: [(Algorithm, &str); 3] = [
        (Algorithm::HmacSha256, "hmac-sha256"),
        (Algorithm::HmacSha384, "hmac-sha384"),
        (Algorithm::HmacSha512, "hmac-sha512"),
    ];

    /// By the name that configuration files of other servers use, too.
    pub fn from_text(text: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(algorithm, _)| algorithm)
    }

    fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(it, _)| *it == self).map_or("", |(_, name)| name)
    }

    /// The domain name by which messages call it.
    pub(super) fn name(self) -> Name {
        Name::from_text(self.as_str().as_bytes(), Some(&Name::root())).expect("a name of one label")
    }

    pub(super) fn is_named(self, name: &Name) -> bool {
        *name == self.name()
    }

    pub(super) fn mac_bytes(self) -> usize {
        match self {
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha384 => 48,
            Algorithm::HmacSha512 => 64,
        }
    }
}

/// A secret that two servers share.
pub struct Key {
    pub name: Name,
    pub algorithm: Algorithm,
    secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Key {
    pub fn new(name: Name, algorithm: Algorithm, secret: Vec<u8>) -> Key {
        Key { name, algorithm, secret }
    }

    /// The MAC of all parts in turn.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        match self.algorithm {
            Algorithm::HmacSha256 => {
                fed::<Hmac<Sha256>>(&self.secret, parts).finalize().into_bytes().to_vec()
            }
            Algorithm::HmacSha384 => {
                fed::<Hmac<Sha384>>(&self.secret, parts).finalize().into_bytes().to_vec()
            }
            Algorithm::HmacSha512 => {
                fed::<Hmac<Sha512>>(&self.secret, parts).finalize().into_bytes().to_vec()
            }
        }
    }

    /// Compares in a time that does not tell where the difference is.
    pub(super) fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::HmacSha256 => fed::<Hmac<Sha256>>(&self.secret, parts).verify_slice(mac).is_ok(),
            Algorithm::HmacSha384 => fed::<Hmac<Sha384>>(&self.secret, parts).verify_slice(mac).is_ok(),
            Algorithm::HmacSha512 => fed::<Hmac<Sha512>>(&self.secret, parts).verify_slice(mac).is_ok(),
        }
    }
}

fn fed<M: hmac::Mac + hmac::KeyInit>(secret: &[u8], parts: &[&[u8]]) -> M {
    let mut mac = <M as hmac::KeyInit>::new_from_slice(secret).expect("an HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// Every key that we know, by name.
#[derive(Debug, Clone, Default)]
pub struct Keys(HashMap<Box<[u8]>, Arc<Key>>);

impl Keys {
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Keys {
        Keys(keys.into_iter().map(|key| (key.name.key(), Arc::new(key))).collect())
    }

    pub fn get(&self, name: &Name) -> Option<&Arc<Key>> {
        self.0.get(&name.key())
    }
}
